//! Stream commands on one shard, with a clock that the test moves.

use crate::command::testing::TestShard;
use crate::keyspace::Expired;

/// A shard whose stream `x` has the entries 1-1 to 1-4 and the group `g` from the beginning on.
fn shard() -> TestShard {
    let mut shard = TestShard::new();
    for seq in 1..=4 {
        shard.run(&format!("XADD x 1-{seq} f {seq}"));
    }
    assert_eq!(shard.run("XGROUP CREATE x g 0"), "+OK\r\n");
    shard
}

fn pass(shard: &mut TestShard, ms: i64) {
    let now_ms = shard.keyspace.now_ms();
    shard.keyspace.set_now(now_ms + ms);
}

/// Number of changes that the commands make.
fn changes(shard: &mut TestShard, commands: &[&str]) -> u64 {
    let before = shard.changes.dirty;
    for command in commands {
        let reply = shard.run(command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
    shard.changes.dirty - before
}

#[test]
fn an_automatic_id_is_the_time_and_never_goes_back() {
    let mut shard = TestShard::new();
    assert_eq!(shard.run("XADD x * f v"), "$15\r\n1700000000000-0\r\n");
    assert_eq!(shard.run("XADD x * f v"), "$15\r\n1700000000000-1\r\n");
    pass(&mut shard, 5);
    assert_eq!(shard.run("XADD x * f v"), "$15\r\n1700000000005-0\r\n");
    pass(&mut shard, -5);
    assert_eq!(shard.run("XADD x * f v"), "$15\r\n1700000000005-1\r\n");
}

#[test]
fn limit_means_nothing_where_a_file_or_a_master_decides() {
    let mut shard = shard();
    let refused = "-ERR syntax error, LIMIT cannot be used without the special ~ option\r\n";
    let commands = [
        ("XADD x MAXLEN = 3 LIMIT 1 2-1 f v", "$3\r\n2-1\r\n"),
        ("XTRIM x MAXLEN = 2 LIMIT 1", ":1\r\n"),
        ("XADD x LIMIT 0 2-2 f v", "$3\r\n2-2\r\n"),
    ];
    for (command, _) in commands {
        assert_eq!(shard.run(command), refused, "{command}");
    }
    shard.keyspace.set_expired(Expired::Kept);
    for (command, reply) in commands {
        assert_eq!(shard.run(command), reply, "{command}");
    }
    assert_eq!(shard.run("XLEN x"), ":3\r\n");
}

#[test]
fn idle_times_are_counted_from_the_last_delivery() {
    let mut shard = shard();
    shard.run("XREADGROUP GROUP g me COUNT 2 STREAMS x >");
    pass(&mut shard, 100);
    shard.run("XREADGROUP GROUP g me COUNT 1 STREAMS x >");
    let idle = |ms: i64| format!("*4\r\n$3\r\n1-1\r\n$2\r\nme\r\n:{ms}\r\n:1\r\n");
    assert_eq!(shard.run("XPENDING x g - + 1"), format!("*1\r\n{}", idle(100)));
    assert_eq!(shard.run("XPENDING x g IDLE 100 - + 1"), format!("*1\r\n{}", idle(100)));
    assert_eq!(shard.run("XPENDING x g IDLE 101 - + 1"), "*0\r\n");
    // The third is younger than the first two.
    assert_eq!(shard.run("XAUTOCLAIM x g you 101 0 JUSTID"), "*3\r\n$3\r\n0-0\r\n*0\r\n*0\r\n");
    assert_eq!(
        shard.run("XAUTOCLAIM x g you 100 0 COUNT 1 JUSTID"),
        "*3\r\n$3\r\n1-2\r\n*1\r\n$3\r\n1-1\r\n*0\r\n"
    );
    pass(&mut shard, 7);
    assert_eq!(
        shard.run("XINFO CONSUMERS x g"),
        "*2\r\n*6\r\n$4\r\nname\r\n$2\r\nme\r\n$7\r\npending\r\n:2\r\n$4\r\nidle\r\n:7\r\n\
         *6\r\n$4\r\nname\r\n$3\r\nyou\r\n$7\r\npending\r\n:1\r\n$4\r\nidle\r\n:7\r\n"
    );
    // A clock that goes back makes nobody idle for less than no time.
    pass(&mut shard, -50);
    assert!(shard.run("XPENDING x g - + 1").ends_with("$3\r\nyou\r\n:0\r\n:1\r\n"));
}

#[test]
fn a_claim_sets_time_and_count_of_the_delivery() {
    for (options, idle_ms, deliveries) in [
        ("", 0, 2),
        ("JUSTID", 0, 1),
        ("IDLE 30", 30, 2),
        ("IDLE -30", 0, 2),
        ("TIME 1699999999000", 1050, 2),
        ("TIME 1800000000000", 0, 2),
        ("TIME -5", 0, 2),
        ("RETRYCOUNT 9", 0, 9),
        ("RETRYCOUNT 0 JUSTID", 0, 0),
        ("RETRYCOUNT -9", 0, 2),
    ] {
        let mut shard = shard();
        shard.run("XREADGROUP GROUP g me COUNT 1 STREAMS x >");
        pass(&mut shard, 50);
        let claimed = shard.run(format!("XCLAIM x g you 0 1-1 {options}").trim_end());
        assert!(claimed.starts_with("*1\r\n"), "{options}: {claimed}");
        assert_eq!(
            shard.run("XPENDING x g - + 1"),
            format!("*1\r\n*4\r\n$3\r\n1-1\r\n$3\r\nyou\r\n:{idle_ms}\r\n:{deliveries}\r\n"),
            "{options}"
        );
    }
}

#[test]
fn a_claim_by_force_takes_what_was_never_delivered() {
    let mut shard = shard();
    assert_eq!(shard.run("XCLAIM x g me 0 1-2 9-9 JUSTID"), "*0\r\n");
    assert_eq!(shard.run("XCLAIM x g me 1000 1-2 9-9 FORCE JUSTID"), "*1\r\n$3\r\n1-2\r\n");
    assert_eq!(
        shard.run("XPENDING x g"),
        "*4\r\n:1\r\n$3\r\n1-2\r\n$3\r\n1-2\r\n*1\r\n*2\r\n$2\r\nme\r\n$1\r\n1\r\n"
    );
    // What was removed meanwhile is forgotten on the way.
    shard.run("XDEL x 1-2");
    assert_eq!(shard.run("XCLAIM x g you 0 1-2"), "*0\r\n");
    assert!(shard.run("XPENDING x g").starts_with("*4\r\n:0\r\n"));
    assert!(shard.run("XINFO GROUPS x").contains("consumers\r\n:1\r\n"), "you took nothing");
}

#[test]
fn each_entry_and_each_change_of_a_group_counts_as_a_change() {
    let mut shard = shard();
    for (commands, expected) in [
        (&["XADD x MAXLEN 3 2-1 f v"][..], 1),
        (&["XADD x NOMKSTREAM 2-2 f v", "XADD y NOMKSTREAM * f v"], 1),
        (&["XREADGROUP GROUP g me COUNT 2 STREAMS x >"], 2), // a new consumer, and a delivery
        (&["XREADGROUP GROUP g me COUNT 1 STREAMS x >", "XREADGROUP GROUP g me STREAMS x 0"], 2),
        (&["XREADGROUP GROUP g me STREAMS x >", "XREADGROUP GROUP g me STREAMS x >"], 1),
        (&["XACK x g 1-3 1-3 9-9"], 1),
        (&["XCLAIM x g you 0 1-4 2-1", "XCLAIM x g you 100 1-4 2-1"], 3),
        (&["XCLAIM x g you 0 9-9 LASTID 5-5"], 1),
        (&["XDEL x 1-4 2-1 9-9"], 2),
        (&["XAUTOCLAIM x g me 0 0"], 3), // two are gone, one is taken
        (&["XGROUP CREATECONSUMER x g they", "XGROUP CREATECONSUMER x g they"], 1),
        (&["XGROUP DELCONSUMER x g they", "XGROUP DELCONSUMER x g they"], 1),
        (&["XGROUP SETID x g 0", "XGROUP DESTROY x g", "XGROUP DESTROY x g"], 2),
        (&["XGROUP CREATE z g $ MKSTREAM", "XSETID z 5-5"], 2),
        (&["XTRIM x MAXLEN 0", "XTRIM x MAXLEN 0", "XTRIM nothing MAXLEN 0"], 2),
        (&["XRANGE x - +", "XREAD STREAMS x z 0 0", "XINFO STREAM z"], 0),
    ] {
        assert_eq!(changes(&mut shard, commands), expected, "{commands:?}");
    }
}

#[test]
fn a_read_with_a_mistake_serves_nothing() {
    let mut shard = shard();
    shard.run("SET s v");
    for mistake in [
        "XREADGROUP GROUP g me STREAMS x nothing > >",
        "XREADGROUP GROUP g me STREAMS x s > >",
        "XREADGROUP GROUP g me STREAMS x x > nonsense",
        "XREADGROUP GROUP g me STREAMS x x > $",
        "XREADGROUP GROUP g me BLOCK -1 STREAMS x >",
    ] {
        assert!(shard.run(mistake).starts_with('-'), "{mistake}");
    }
    assert!(shard.run("XINFO GROUPS x").contains("consumers\r\n:0\r\n"));
    assert!(shard.run("XPENDING x g").starts_with("*4\r\n:0\r\n"));
}

#[test]
fn a_read_that_finds_nothing_changes_nothing() {
    let mut shard = shard();
    shard.run("XGROUP SETID x g $");
    let before = shard.changes.dirty;
    assert_eq!(shard.run("XREADGROUP GROUP g me BLOCK 0 STREAMS x >"), "*-1\r\n");
    assert_eq!(shard.run("XREAD BLOCK 0 STREAMS x nothing $ 0"), "*-1\r\n");
    assert_eq!(shard.changes.dirty, before);
    assert!(shard.run("XINFO GROUPS x").contains("consumers\r\n:0\r\n"));
    // The history of a consumer is an answer even if it is empty, and makes the consumer known.
    assert_eq!(shard.run("XREADGROUP GROUP g me STREAMS x 0"), "*1\r\n*2\r\n$1\r\nx\r\n*0\r\n");
    assert!(shard.run("XINFO GROUPS x").contains("consumers\r\n:1\r\n"));
}

#[test]
fn an_empty_stream_stays_until_it_is_deleted() {
    let mut shard = shard();
    assert_eq!(shard.run("XDEL x 1-1 1-2 1-3 1-4"), ":4\r\n");
    assert_eq!(shard.run("EXISTS x"), ":1\r\n");
    assert_eq!(shard.run("COPY x y"), ":1\r\n");
    assert!(shard.run("XADD y 1-4 f v").starts_with("-ERR The ID specified in XADD is equal"));
    assert_eq!(shard.run("XGROUP CREATE y g 0"), shard.run("XGROUP CREATE x g 0"));
    assert!(shard.run("XINFO STREAM x").contains("entries-added\r\n:4\r\n"));
    assert_eq!(shard.run("DEL x"), ":1\r\n");
    assert_eq!(shard.run("TYPE x"), "+none\r\n");
}

#[test]
fn an_approximate_trim_takes_whole_nodes_up_to_its_limit() {
    let mut shard = TestShard::new();
    shard.config.stream_node_max_entries = 10;
    for number in 1..=100 {
        shard.run(&format!("XADD x {number} f v"));
    }
    for (trim, removed) in [
        ("MAXLEN ~ 95", 0),
        ("MAXLEN ~ 85", 10),
        ("MAXLEN ~ 0 LIMIT 9", 0),
        ("MAXLEN ~ 0 LIMIT 29", 20),
        ("MINID ~ 45", 10),
        ("MINID ~ 51 LIMIT 0", 10),
        ("MAXLEN = 45", 5),
        ("MINID 59", 3),
        ("MAXLEN ~ 0 LIMIT 0", 42),
    ] {
        assert_eq!(shard.run(&format!("XTRIM x {trim}")), format!(":{removed}\r\n"), "{trim}");
    }
    // Without LIMIT, a hundred full nodes are the most; without a node limit, 10000 entries.
    shard.config.stream_node_max_entries = 1;
    (101..=250).for_each(|number| drop(shard.run(&format!("XADD x {number} f v"))));
    assert_eq!(shard.run("XTRIM x MAXLEN ~ 0"), ":100\r\n");
    shard.config.stream_node_max_entries = 0;
    assert_eq!(shard.run("XTRIM x MAXLEN ~ 0"), ":50\r\n");
}

#[test]
fn an_entry_is_recorded_with_its_id_and_an_approximate_trim_as_what_it_came_to() {
    let mut shard = TestShard::new();
    shard.config.stream_node_max_entries = 2;
    shard.check_effects(&[
        ("XADD s 1 f v", "XADD s 1 f v"),
        ("XADD s 1-* f v", "XADD s 1-1 f v"),
        ("xadd s nomkstream * f v", "xadd s nomkstream 1700000000000-0 f v"),
        ("XADD s MAXLEN 9 * f v", "XADD s MAXLEN 9 1700000000000-1 f v"),
        ("XADD s MAXLEN ~ 3 LIMIT 10 * f v", "XADD s MAXLEN = 3 1700000000000-2 f v"),
        ("XADD s LIMIT 10 MINID ~ 5 * f v", "XADD s MINID = 1700000000000-0 1700000000000-3 f v"),
        ("XTRIM s MAXLEN ~ 3", ""),
        ("XTRIM s MAXLEN ~ 2 LIMIT 2", "XTRIM s MAXLEN = 2"),
        ("XTRIM s MINID 1800000000000", "XTRIM s MINID 1800000000000"),
        ("XADD s MAXLEN ~ 0 1900000000000 f v", "XADD s MAXLEN = 0 1900000000000 f v"),
        ("XADD none NOMKSTREAM * f v", ""),
    ]);
}

#[test]
fn what_a_group_delivers_is_recorded_entry_by_entry() {
    let mut shard = shard();
    const TAIL: &str = "FORCE JUSTID LASTID";
    let claim = |consumer, id, count, last| {
        format!("XCLAIM x g {consumer} 0 {id} TIME 1700000000000 RETRYCOUNT {count} {TAIL} {last}")
    };
    shard.run("XGROUP SETID x g 0");
    for (command, effects) in [
        ("XREADGROUP GROUP g me COUNT 1 STREAMS x >", claim("me", "1-1", 1, "1-1")),
        ("XREADGROUP GROUP g me STREAMS x 0", String::new()),
        (
            "XREADGROUP GROUP g you COUNT 2 NOACK STREAMS x >",
            "MULTI; XGROUP CREATECONSUMER x g you; XGROUP SETID x g 1-3 ENTRIESREAD 3; EXEC".into(),
        ),
        ("XREADGROUP GROUP g they STREAMS x 0", "XGROUP CREATECONSUMER x g they".into()),
        ("XCLAIM x g you 0 1-1", claim("you", "1-1", 3, "1-3")),
        ("XCLAIM x g you 60000 1-1", String::new()),
        ("XCLAIM x g you 60000 1-1 LASTID 1-3", String::new()),
        ("XAUTOCLAIM x g me 0 0 JUSTID", claim("me", "1-1", 3, "1-3")),
        ("XDEL x 1-1", "XDEL x 1-1".into()),
        ("XCLAIM x g you 0 1-1", claim("me", "1-1", 3, "1-3")),
        ("XCLAIM x g you 0 1-1", String::new()),
        ("XCLAIM x g you 0 1-1 LASTID 1-9", "XGROUP SETID x g 1-9 ENTRIESREAD 3".into()),
    ] {
        assert_eq!(shard.effects(command), effects, "{command}");
    }
}
