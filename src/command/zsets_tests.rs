//! Replies are checked against the real server by the behaviour tests; here is what those cannot
//! see: what a command leaves behind in the keyspace, and counts as a change.

use crate::command::testing::TestShard;
use crate::datatypes::zset::ZSet;
use crate::keyspace::Key;

fn shard(commands: &[&str]) -> TestShard {
    let mut shard = TestShard::new();
    for command in commands {
        let reply = shard.run(command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
    shard
}

/// The words of a flat reply of bulk strings and numbers.
fn words(reply: &str) -> Vec<&str> {
    let content = |line: &&str| !line.is_empty() && !line.starts_with(['*', '$']);
    reply.split("\r\n").filter(content).collect()
}

/// Changes are counted as Redis 7.0.15 counts them in `rdb_changes_since_last_save`.
#[test]
fn every_changed_member_counts_as_a_change() {
    let mut shard = TestShard::new();
    for (command, dirty) in [
        ("ZADD z 1 a 2 b 3 c 4 d", 4),
        ("ZADD z 1 a", 4),
        ("ZADD z 1 a 7 d", 5),
        ("ZADD z CH 1 a 8 d 9 e", 7),
        ("ZADD z INCR 1 a", 8),
        ("ZINCRBY z 0 a", 8),
        ("ZADD none XX 1 a", 8),
        ("ZPOPMIN z 2", 10),
        ("ZREM z nothing", 10),
        ("ZREM z c d", 12),
        ("ZUNIONSTORE copy 1 z", 13),
        ("ZUNIONSTORE copy 1 nothing", 14),
        ("ZUNIONSTORE copy 1 nothing", 14),
        ("ZREMRANGEBYRANK z 5 6", 14),
        ("ZREMRANGEBYSCORE z -inf +inf", 15),
        ("ZPOPMAX z", 15),
    ] {
        shard.run(command);
        assert_eq!(shard.changes.dirty, dirty, "{command}");
    }
}

#[test]
fn a_sorted_set_that_gets_empty_is_no_more() {
    for command in [
        "ZREM z a b",
        "ZPOPMIN z 2",
        "ZPOPMAX z 9",
        "ZMPOP 1 z MIN COUNT 2",
        "ZREMRANGEBYRANK z 0 -1",
        "ZREMRANGEBYSCORE z 1 2",
        "ZREMRANGEBYLEX z - +",
        "ZINTERSTORE z 2 z nothing",
        "ZRANGESTORE z z 5 6",
        "ZDIFFSTORE z 2 z z",
    ] {
        let mut shard = shard(&["ZADD z 1 a 2 b"]);
        shard.run(command);
        assert_eq!(shard.keyspace[0].len(), 0, "{command}");
    }
}

#[test]
fn a_refused_addition_leaves_no_empty_key() {
    let mut shard = TestShard::new();
    for (command, reply) in [
        ("ZADD z XX 1 a", ":0\r\n"),
        ("ZADD z XX INCR 1 a", "$-1\r\n"),
        ("ZADD z 1 a x b", "-ERR value is not a valid float\r\n"),
        (
            "ZADD z NX GT 1 a",
            "-ERR GT, LT, and/or NX options at the same time are not compatible\r\n",
        ),
    ] {
        assert_eq!(shard.run(command), reply, "{command}");
        assert_eq!(shard.keyspace[0].len(), 0, "{command}");
    }
}

#[test]
fn a_stored_result_replaces_any_value_and_its_expiry() {
    let mut shard = shard(&["ZADD z 1 a 2 b 3 c", "ZADD old 1 x"]);
    let key = Key::new(b"old");
    shard.keyspace[0].set_expiry(&key, Some(1_800_000_000_000));
    assert_eq!(shard.run("ZRANGESTORE old z 1 -1"), ":2\r\n");
    assert_eq!(words(&shard.run("ZRANGE old 0 -1 WITHSCORES")), ["b", "2", "c", "3"]);
    assert_eq!(shard.keyspace[0].expiring(), 0);
}

#[test]
fn the_encoding_follows_the_settings() {
    let mut shard = TestShard::new();
    shard.config.zset_max_listpack_entries = 2;
    for (command, encoding) in [
        ("ZADD z 1 a 2 b", "listpack"),
        ("ZADD z 3 c", "skiplist"),
        ("ZREM z c b", "skiplist"),
        ("ZUNIONSTORE z 1 z", "listpack"),
    ] {
        shard.run(command);
        let zset = shard.keyspace[0].peek_as::<ZSet>(&Key::new(b"z")).ok().flatten();
        assert_eq!(zset.map(ZSet::encoding), Some(encoding), "{command}");
    }
}

#[test]
fn zrandmember_picks_different_members_or_repeats_them() {
    for members in [20_usize, 1000] {
        let mut shard = TestShard::new();
        for number in 0..members {
            shard.run(&format!("ZADD z {number} m{number}"));
        }
        for count in [1, 5, members / 2, members - 1, members, members * 2] {
            let reply = shard.run(&format!("ZRANDMEMBER z {count} WITHSCORES"));
            let picked = words(&reply);
            let distinct: std::collections::HashSet<&str> =
                picked.chunks(2).map(|pair| pair[0]).collect();
            assert_eq!(distinct.len(), count.min(members), "{count} of {members}");
            assert!(picked.chunks(2).all(|pair| pair[0][1..] == *pair[1]), "{reply}");
        }
        let reply = shard.run(&format!("ZRANDMEMBER z -{}", members * 2));
        assert_eq!(words(&reply).len(), members * 2);
    }
}

#[test]
fn zscan_walks_a_skiplist_in_steps() {
    let mut shard = TestShard::new();
    for number in 0..1000 {
        shard.run(&format!("ZADD z {number} m{number}"));
    }
    let (mut cursor, mut seen, mut steps) = ("0".to_owned(), 0, 0);
    loop {
        let reply = shard.run(&format!("ZSCAN z {cursor} COUNT 50 MATCH m*5"));
        let reply = words(&reply);
        cursor = reply[0].to_owned();
        seen += reply[1..].len() / 2;
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 100);
    assert!(steps >= 15, "{steps} steps");
}

#[test]
fn what_pops_is_recorded_with_the_key_and_the_number_that_it_found() {
    let mut shard = TestShard::new();
    shard.check_effects(&[
        ("ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f"),
        ("ZMPOP 2 none z MIN", "ZPOPMIN z 1"),
        ("bzmpop 0 2 none z max count 2", "ZPOPMAX z 2"),
        ("BZPOPMIN none z 0", "ZPOPMIN z"),
        ("BZPOPMAX z 0", "ZPOPMAX z"),
        ("zpopmin z 9", "zpopmin z 9"),
        ("ZMPOP 1 z MIN", ""),
        ("BZPOPMIN z 0", ""),
    ]);
}
