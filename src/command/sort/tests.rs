use super::*;
use crate::command::testing::TestShard;

/// The elements of an array reply, nulls as "-".
fn elements(reply: &str) -> String {
    let mut lines = reply.split("\r\n");
    assert!(lines.next().is_some_and(|line| line.starts_with('*')), "{reply}");
    let mut found = Vec::new();
    while let Some(head) = lines.next().filter(|line| !line.is_empty()) {
        found.push(if head == "$-1" { "-" } else { lines.next().unwrap_or_default() });
    }
    found.join(" ")
}

fn shard(commands: &[&str]) -> TestShard {
    let mut shard = TestShard::new();
    commands.iter().for_each(|command| drop(shard.run(command)));
    shard
}

#[test]
fn elements_come_in_the_order_asked_for() {
    let mut shard = shard(&[
        "RPUSH l 3 1 10 2.5 -7",
        "RPUSH w b a C aa",
        "SADD s 5 4 6",
        "ZADD z 3 30 1 10 2 20",
    ]);
    for (command, expected) in [
        ("SORT l", "-7 1 2.5 3 10"),
        ("SORT l DESC", "10 3 2.5 1 -7"),
        ("SORT l ALPHA", "-7 1 10 2.5 3"),
        ("SORT_RO l LIMIT 1 2", "1 2.5"),
        ("SORT l LIMIT -5 2", "-7 1"),
        ("SORT l LIMIT 3 -1", "3 10"),
        ("SORT l LIMIT 9 2", ""),
        ("SORT l LIMIT 0 0", ""),
        ("SORT w ALPHA", "C a aa b"),
        ("SORT w ALPHA DESC", "b aa a C"),
        ("SORT s", "4 5 6"),
        ("SORT z", "10 20 30"),
        ("SORT z DESC LIMIT 0 1", "30"),
        ("SORT nothing", ""),
        ("SORT l BY nosort", "3 1 10 2.5 -7"),
        ("SORT l BY nosort DESC", "-7 2.5 10 1 3"),
        ("SORT l BY nosort LIMIT 1 2", "1 10"),
        ("SORT l BY nosort DESC LIMIT 1 2", "2.5 10"),
        ("SORT z BY nosort", "10 20 30"),
        ("SORT z BY nosort DESC", "30 20 10"),
        ("SORT z BY nosort LIMIT 1 1", "20"),
        ("SORT z BY nosort DESC LIMIT 0 2", "30 20"),
    ] {
        assert_eq!(elements(&shard.run(command)), expected, "{command}");
    }
}

#[test]
fn patterns_lead_to_strings_and_to_fields_of_hashes() {
    let mut shard = shard(&[
        "RPUSH l 1 2 3",
        "MSET w1 30 w2 20 w3 10 n1 one n2 two",
        "HSET h1 f 2 t b",
        "HSET h2 f 1 t c",
        "HSET h3 f 3 t a",
    ]);
    for (command, expected) in [
        ("SORT l BY w*", "3 2 1"),
        ("SORT l BY w* DESC", "1 2 3"),
        ("SORT l BY h*->f", "2 1 3"),
        ("SORT l BY h*->t ALPHA", "3 1 2"),
        ("SORT l BY n* ALPHA", "3 1 2"), // what has no weight comes first
        ("SORT l BY nothing*", "1 2 3"),
        ("SORT l GET n*", "one two -"),
        ("SORT l GET # GET n* GET h*->t", "1 one b 2 two c 3 - a"),
        ("SORT l BY w* LIMIT 0 2 GET #", "3 2"),
        ("SORT l GET w", "- - -"),
        ("SORT l GET h*", "- - -"),
        ("SORT l GET w*->f", "- - -"),
        ("SORT l GET h*->", "- - -"),
        ("SORT l BY w* BY nosort", "1 2 3"),
    ] {
        assert_eq!(elements(&shard.run(command)), expected, "{command}");
    }
}

#[test]
fn a_pattern_is_cut_at_its_star_and_at_its_arrow() {
    let key = |before, after, field| Pattern::Key { before, after, field };
    for (text, expected) in [
        (&b"#"[..], Pattern::Element),
        (b"#x", Pattern::Nothing),
        (b"", Pattern::Nothing),
        (b"*", key(b"", b"", None)),
        (b"a*b*c", key(b"a", b"b*c", None)),
        (b"a*b->c", key(b"a", b"b", Some(b"c"))),
        (b"a->b*c", key(b"a->b", b"c", None)),
        (b"a*->", key(b"a", b"->", None)),
        (b"a*->b->c", key(b"a", b"", Some(b"b->c"))),
        (b"a\0*", Pattern::Nothing),
    ] {
        assert_eq!(Pattern::new(text), expected, "{}", text.escape_ascii());
    }
}

#[test]
fn results_are_stored_as_a_list() {
    let mut shard = shard(&["RPUSH l 3 1 2", "SET w1 x", "SADD s b a", "SET d old"]);
    let before = shard.changes.dirty;
    for (command, reply) in [
        ("SORT l STORE d", ":3\r\n"),
        ("LRANGE d 0 -1", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
        ("SORT l GET w* GET # LIMIT 0 2 STORE d", ":4\r\n"),
        ("LRANGE d 0 -1", "*4\r\n$1\r\nx\r\n$1\r\n1\r\n$0\r\n\r\n$1\r\n2\r\n"),
        ("SORT s BY nosort STORE d", ":2\r\n"),
        ("LRANGE d 0 -1", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("SORT nothing STORE d", ":0\r\n"),
        ("EXISTS d", ":0\r\n"),
        ("SORT l STORE l", ":3\r\n"),
        ("LRANGE l 0 -1", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
    ] {
        assert_eq!(shard.run(command), reply, "{command}");
    }
    assert_eq!(shard.changes.dirty - before, 3 + 4 + 2 + 1 + 3);
}

#[test]
fn a_stored_sort_looks_behind_zero_bytes_and_a_shown_one_does_not() {
    let mut shard = TestShard::new();
    shard.run_args(&[b"RPUSH", b"l", b"a\0b", b"a\0a"]);
    let shown = shard.run_args(&[b"SORT", b"l", b"ALPHA"]);
    assert_eq!(shown, b"*2\r\n$3\r\na\0b\r\n$3\r\na\0a\r\n");
    shard.run("SORT l ALPHA STORE d");
    let stored = shard.run_args(&[b"LRANGE", b"d", b"0", b"-1"]);
    assert_eq!(stored, b"*2\r\n$3\r\na\0a\r\n$3\r\na\0b\r\n");
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_redis() {
    let mut shard = shard(&["RPUSH l 1 x", "RPUSH n 1 2", "SET s v", "HSET h f v"]);
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let no_weight = "-ERR One or more scores can't be converted into double\r\n";
    let (syntax, integer) =
        ("-ERR syntax error\r\n", "-ERR value is not an integer or out of range\r\n");
    for (command, reply) in [
        ("SORT s", wrong_type),
        ("SORT h", wrong_type),
        ("SORT s LIMIT x 1", integer),
        ("SORT l LIMIT 1", syntax),
        ("SORT l NOPE", syntax),
        ("SORT l BY", syntax),
        ("SORT l STORE", syntax),
        ("SORT_RO n STORE d", syntax),
        ("SORT l", no_weight),
        ("SORT l LIMIT 0 1", no_weight),
        ("SORT l STORE d", no_weight),
    ] {
        assert_eq!(shard.run(command), reply, "{command}");
    }
    shard.config.cluster_enabled = true;
    for (command, reply) in [
        ("SORT n BY w*", "-ERR BY option of SORT denied in Cluster mode.\r\n"),
        ("SORT n GET #", "-ERR GET option of SORT denied in Cluster mode.\r\n"),
        ("SORT n BY nosort", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
    ] {
        assert_eq!(shard.run(command), reply, "{command}");
    }
}

#[test]
fn a_weight_is_what_c_reads_as_one() {
    for (text, weight) in [
        (&b""[..], Some(0.0)),
        (b" 12", Some(12.0)),
        (b"12 ", None),
        (b" ", None),
        (b"0x10", Some(16.0)),
        (b"inf", Some(f64::INFINITY)),
        (b"nan", None),
        (b"1e999", None),
        (b"5\0rest", Some(5.0)),
        (b"1x", None),
    ] {
        assert_eq!(number(text).ok(), weight, "{}", text.escape_ascii());
    }
}

#[test]
fn the_destination_is_behind_the_last_store_that_is_an_option() {
    for (words, place) in [
        ("sort k", None),
        ("sort k store", None),
        ("sort k store d", Some(3)),
        ("sort k limit 0 1 STORE d", Some(6)),
        ("sort k by store store d get store", Some(5)),
        ("sort k store a store b", Some(5)),
        ("sort k limit store", None),
        ("sort k get", None),
    ] {
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        assert_eq!(destination_in(&args), place, "{words}");
    }
}
