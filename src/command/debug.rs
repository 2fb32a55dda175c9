//! DEBUG, as far as it is about data: what test suites use to look below the surface.
//!
//! Redis checks the number of arguments of each subcommand together with its name, so the rows allow
//! any number and the handlers complain.

use std::time::Duration;

use super::databases::all_done;
use super::digest::Digest;
use super::help::help;
use super::object::{KEY_AT_TWO, encoding, refcount};
use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, EveryShard, Part, Request, Run};
use crate::config::parse_memory;
use crate::datatypes::list::List;
use crate::datatypes::list::NodeView;
use crate::datatypes::listpack::Element;
use crate::datatypes::number::{parse_i64, strtod};
use crate::keyspace::{Entry, Key, NewExpiry, StrRef, ValueRef};
use crate::resp::Reply;

const FLAGS: Flags = ADMIN.with(NOSCRIPT).with(LOADING).with(STALE);
const KEYS_FROM_TWO: &[KeySpec] = &[KeySpec::all(2, 1, Access::ReadOnly, &[])];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "debug", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::Container },
    Command { name: "debug|digest", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(DIGEST) },
    Command { name: "debug|digest-value", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: KEYS_FROM_TWO, categories: &["@dangerous"], run: Run::Data(digest_value) },
    Command { name: "debug|help", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::Data(debug_help) },
    Command { name: "debug|object", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: KEY_AT_TWO, categories: &["@dangerous"], run: Run::Data(debug_object) },
    Command { name: "debug|populate", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(POPULATE) },
    Command { name: "debug|protocol", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::Data(protocol) },
    Command { name: "debug|quicklist-packed-threshold", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(PACKED_THRESHOLD) },
    Command { name: "debug|sleep", arity: Arity::AtLeast(2), flags: FLAGS, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(SLEEP) },
];

const DIGEST: EveryShard = EveryShard { part: digest_part, merge: digest_merge, exclusive: false };
const POPULATE: EveryShard = EveryShard { part: populate, merge: all_done, exclusive: false };
const PACKED_THRESHOLD: EveryShard =
    EveryShard { part: packed_threshold, merge: all_done, exclusive: false };
const SLEEP: EveryShard = EveryShard { part: sleep, merge: all_done, exclusive: false };

fn check_count(request: &Request<'_>, right: bool) -> CommandResult {
    if right {
        return Ok(());
    }
    let word = String::from_utf8_lossy(request.arg(1));
    Err(CommandError::owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP."
    )))
}

// ---- looking ----

/// DEBUG OBJECT key
fn debug_object(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_count(request, request.len() == 3)?;
    let db = &ctx.keyspace[ctx.db];
    let entry = db.peek(&request.key(2)).ok_or(CommandError::NoSuchKey)?;
    let mut line = format!(
        "Value at:{entry:p} refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        refcount(entry, ctx.config),
        encoding(entry),
        serialized_bytes(entry),
        entry.clock(),
        ctx.keyspace.access().idle_seconds(entry.clock()),
    );
    if let ValueRef::List(list) = entry.value() {
        line.push_str(&nodes_line(list, ctx.config.list_max_listpack_size.into()));
    }
    reply.simple(&line);
    Ok(())
}

/// About how many bytes the value takes in a snapshot: what it contains, and a byte of length for each
/// element. Compression and long lengths are left out, so it is an estimate.
fn serialized_bytes(entry: &Entry) -> usize {
    const SCORE_BYTES: usize = 8;
    let sum = |elements: &mut dyn Iterator<Item = Element<'_>>| -> usize {
        1 + elements.map(|element| element.len() + 1).sum::<usize>()
    };
    match entry.value() {
        ValueRef::Str(StrRef::Int(number)) => match number {
            -128..=127 => 2,
            -32768..=32767 => 3,
            -2_147_483_648..=2_147_483_647 => 5,
            _ => 1 + StrRef::Int(number).len(),
        },
        ValueRef::Str(text) => 1 + text.len(),
        ValueRef::List(list) => 1 + node_bytes(list),
        ValueRef::Set(set) => sum(&mut set.iter()),
        ValueRef::Hash(hash) => sum(&mut hash.iter().flat_map(|(field, value)| [field, value])),
        ValueRef::ZSet(zset) => {
            sum(&mut zset.iter_all().map(|(member, _)| member)) + zset.len() * SCORE_BYTES
        }
    }
}

fn node_bytes(list: &List) -> usize {
    let bytes = list.nodes().map(|node| match node {
        NodeView::Packed(listpack) => listpack.byte_len(),
        NodeView::Plain(text) => text.len(),
    });
    bytes.sum()
}

/// What DEBUG OBJECT adds for a list. Nodes are never compressed here.
fn nodes_line(list: &List, listpack_size: i64) -> String {
    let nodes = list.nodes().len();
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{listpack_size} ql_compressed:0 \
         ql_uncompressed_size:{}",
        list.len() as f64 / nodes.max(1) as f64,
        node_bytes(list),
    )
}

/// DEBUG DIGEST
fn digest_part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    check_count(request, request.len() == 2)?;
    let databases = ctx.keyspace.databases().iter();
    let digests: Vec<Option<Digest>> =
        databases.map(|db| (!db.is_empty()).then(|| Digest::of_database(db))).collect();
    Ok(Part::Other(Box::new(digests)))
}

fn digest_merge(
    ctx: &mut Ctx<'_>,
    _: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let mut databases: Vec<Option<Digest>> = vec![None; ctx.keyspace.database_count()];
    for part in parts {
        let Part::Other(part) = part else { continue };
        let part = part.downcast::<Vec<Option<Digest>>>().expect("the parts are this command's");
        for (all, one) in databases.iter_mut().zip(*part) {
            if let Some(one) = one {
                all.get_or_insert_default().merge(&one);
            }
        }
    }
    let mut digest = Digest::default();
    for (number, keys) in databases.iter().enumerate() {
        if let Some(keys) = keys {
            digest.append_database(number);
            digest.merge(keys);
        }
    }
    reply.simple(&digest.to_hex());
    Ok(())
}

/// DEBUG DIGEST-VALUE key [key …]
fn digest_value(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let db = &ctx.keyspace[ctx.db];
    reply.array(request.len() - 2);
    for at in 2..request.len() {
        let digest = db.peek(&request.key(at)).map(Digest::of_value).unwrap_or_default();
        reply.simple(&digest.to_hex());
    }
    Ok(())
}

// ---- doing ----

/// DEBUG SLEEP seconds. All shards sleep: the server stands still, as a test of it expects.
fn sleep(_: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    check_count(request, request.len() == 3)?;
    let seconds = strtod(request.arg(2)).value;
    std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    Ok(Part::Done)
}

/// DEBUG POPULATE count [prefix] [size]. Each shard makes the keys that it owns. As in Redis, that is
/// neither an event nor a change that counts.
fn populate(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    check_count(request, (3..=5).contains(&request.len()))?;
    let positive = |at: usize| {
        let number = parse_i64(request.arg(at)).and_then(|number| usize::try_from(number).ok());
        number.ok_or(CommandError::OutOfRangePositive)
    };
    let count = positive(2)?;
    let prefix = request.get(3).unwrap_or(b"key");
    let size = if request.len() == 5 { positive(4)? } else { 0 };
    if size > ctx.config.proto_max_bulk_len as usize {
        return Err(CommandError::OutOfRangePositive);
    }
    for number in 0..count {
        let name = [prefix, format!(":{number}").as_bytes()].concat();
        let key = Key::new(&name);
        if ctx.shards.owner(key.slot) != ctx.shard || ctx.keyspace[ctx.db].contains(&key) {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        ctx.keyspace[ctx.db].set_str(&key, &value, NewExpiry::None);
    }
    Ok(Part::Done)
}

/// DEBUG QUICKLIST-PACKED-THRESHOLD size. Holds for lists that are made from now on.
fn packed_threshold(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    /// Redis 7.0 `quicklist.c`, quicklistisSetPackedThreshold: 4 GiB less 1 MiB.
    const BYTES_MAX: u64 = (1 << 32) - (1 << 20);
    check_count(request, request.len() == 3)?;
    let bytes = parse_memory(request.arg(2)).filter(|bytes| *bytes <= BYTES_MAX);
    let bytes = bytes.ok_or(CommandError::text(
        "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
    ))?;
    ctx.keyspace.list_plain_bytes_min = match bytes {
        0 => u32::MAX,
        bytes => bytes as u32,
    };
    Ok(Part::Done)
}

/// DEBUG PROTOCOL type
fn protocol(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_count(request, request.len() == 3)?;
    let three = |reply: &mut Reply<'_>| (0..3).for_each(|number| reply.integer(number));
    match request.arg(2).to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text(b"3.141"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            three(reply);
        }
        b"set" => {
            reply.set(3);
            three(reply);
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if reply.attribute(1) {
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !reply.resp3() {
                return Err(CommandError::text("ERR RESP2 is not supported by this command"));
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim(*b"txt", b"This is a verbatim\nstring"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(CommandError::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

/// DEBUG HELP
fn debug_help(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_count(request, request.len() == 2)?;
    help(
        reply,
        "DEBUG",
        &[
            "DIGEST",
            "    Show a digest of all keys and values, to compare two servers.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Show a digest of each of these values.",
            "OBJECT <key>",
            "    Show how the value is kept.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Make that many keys, <prefix>:0 and so on, with values of <size> bytes.",
            "PROTOCOL <type>",
            "    Answer with a value of this type of the protocol.",
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "    Let elements from this size on have a list node of their own; 0 for the default.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Reclaim expired keys in the background, or only when they are looked at.",
            "SLEEP <seconds>",
            "    Let the whole server stand still.",
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;
    use std::time::Instant;

    fn filled() -> TestShard {
        let mut shard = TestShard::new();
        for command in [
            "SET s hello",
            "SET n 123",
            "SET t x PXAT 33177117420000",
            "RPUSH l a 1 -5 c",
            "SADD i 1 2 3",
            "SADD st a b",
            "HSET h f v g 5",
            "ZADD z 1 a 2.5 b -inf c 0.1 d",
        ] {
            shard.run(command);
        }
        shard
    }

    #[test]
    fn digests_are_those_of_redis() {
        // The digests are what Redis 7.0.15 answers for the same data.
        let mut shard = filled();
        for (key, digest) in [
            ("s", "36b23a1456b2dce2c3ed252c456761301dba8060"),
            ("n", "89f7f51b707418f666d5b45e053bd5bbbf82ac2b"),
            ("t", "0745672cb1bf060476eedeb8a28f5ffe1ff5a2be"),
            ("l", "95e3c5345a019441cad60e9777d8b95d27b31406"),
            ("i", "2a462a3f51a1db89738ebbeef0c47ce1bbc85246"),
            ("st", "dd99329063ca0f1f28df2ac68d94b82fd95501c6"),
            ("h", "a517316c9277e5f73e03ee50bbc7e094b6d7135d"),
            ("z", "e2b86b0e11c99954160d20bd7b671cf3281f9b24"),
            ("none", "0000000000000000000000000000000000000000"),
        ] {
            let reply = shard.run(&format!("DEBUG DIGEST-VALUE {key}"));
            assert_eq!(reply, format!("*1\r\n+{digest}\r\n"), "{key}");
        }
        shard.db = 3;
        shard.run("SET q r");
        assert_eq!(shard.run("DEBUG DIGEST"), "+994453cc2d62ce182cf919d6ca4ea4d64596260a\r\n");
        shard.run("FLUSHALL");
        assert_eq!(shard.run("DEBUG DIGEST"), format!("+{}\r\n", "0".repeat(40)));
    }

    #[test]
    fn debug_object_describes_a_value() {
        let mut shard = filled();
        for (key, rest) in [
            ("s", "refcount:1 encoding:embstr serializedlength:6 lru:"),
            ("n", "refcount:2147483647 encoding:int serializedlength:2 lru:"),
            ("h", "refcount:1 encoding:listpack serializedlength:9 lru:"),
            ("l", "refcount:1 encoding:quicklist serializedlength:"),
        ] {
            let reply = shard.run(&format!("DEBUG OBJECT {key}"));
            assert!(reply.starts_with("+Value at:0x"), "{reply}");
            assert!(reply.contains(rest), "{reply}");
            assert!(reply.contains(" lru_seconds_idle:0"), "{reply}");
        }
        let list = shard.run("DEBUG OBJECT l");
        let nodes = " ql_nodes:1 ql_avg_node:4.00 ql_listpack_max:-2 ql_compressed:0 ql_uncompr";
        assert!(list.contains(nodes), "{list}");
        assert_eq!(shard.run("DEBUG OBJECT nothing"), "-ERR no such key\r\n");
    }

    #[test]
    fn the_wrong_number_of_arguments_is_told_in_the_words_of_debug() {
        let mut shard = TestShard::new();
        for (command, word) in [
            ("DEBUG object", "object"),
            ("DEBUG OBJECT k fast", "OBJECT"),
            ("DEBUG sleep", "sleep"),
            ("DEBUG SLEEP 0 0", "SLEEP"),
            ("DEBUG DIGEST x", "DIGEST"),
            ("DEBUG POPULATE", "POPULATE"),
            ("DEBUG POPULATE 1 k 2 3", "POPULATE"),
            ("DEBUG PROTOCOL", "PROTOCOL"),
            ("DEBUG HELP me", "HELP"),
        ] {
            let error = format!(
                "-ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP.\r\n"
            );
            assert_eq!(shard.run(command), error, "{command}");
        }
        assert_eq!(shard.run("DEBUG DIGEST-VALUE"), "*0\r\n");
        assert!(shard.run("DEBUG HELP").contains("+DEBUG <subcommand> "));
    }

    #[test]
    fn populate_adds_what_is_missing() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("DEBUG POPULATE 3", "+OK\r\n"),
            ("GET key:2", "$7\r\nvalue:2\r\n"),
            ("DEBUG POPULATE 1 p 4", "+OK\r\n"),
            ("GET p:0", "$4\r\nvalu\r\n"),
            ("DEBUG POPULATE 2 p 9", "+OK\r\n"),
            ("GET p:0", "$4\r\nvalu\r\n"),
            ("GET p:1", "$9\r\nvalue:1\0\0\r\n"),
            ("DBSIZE", ":5\r\n"),
            ("DEBUG POPULATE -1", "-ERR value is out of range, must be positive\r\n"),
            ("DEBUG POPULATE x", "-ERR value is out of range, must be positive\r\n"),
            ("DEBUG POPULATE 1 p -1", "-ERR value is out of range, must be positive\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn the_packed_threshold_holds_for_new_lists() {
        let mut shard = TestShard::new();
        let refused = "-ERR argument must be a memory value bigger than 1 and smaller than 4gb\r\n";
        for (command, reply) in [
            ("DEBUG QUICKLIST-PACKED-THRESHOLD x", refused),
            ("DEBUG QUICKLIST-PACKED-THRESHOLD 4gb", refused),
            ("DEBUG QUICKLIST-PACKED-THRESHOLD 2b", "+OK\r\n"),
            ("RPUSH l aa b ccc", ":3\r\n"),
            ("DEBUG QUICKLIST-PACKED-THRESHOLD 0", "+OK\r\n"),
            ("RPUSH m aa b ccc", ":3\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert!(shard.run("DEBUG OBJECT l").contains("ql_nodes:3 "));
        assert!(shard.run("DEBUG OBJECT m").contains("ql_nodes:1 "));
    }

    #[test]
    fn sleep_takes_its_time_and_no_number_means_none() {
        let mut shard = TestShard::new();
        let start = Instant::now();
        for command in ["DEBUG SLEEP 0", "DEBUG SLEEP x", "DEBUG SLEEP -1", "DEBUG SLEEP nan"] {
            assert_eq!(shard.run(command), "+OK\r\n", "{command}");
        }
        assert_eq!(shard.run("DEBUG SLEEP 0.02"), "+OK\r\n");
        assert!(start.elapsed().as_millis() >= 20);
    }

    #[test]
    fn protocol_shows_each_type_in_both_protocols() {
        let mut shard = TestShard::new();
        let attribute = "$39\r\nSome real reply following the attribute\r\n";
        for (kind, resp2, resp3) in [
            ("string", "$11\r\nHello World\r\n", "$11\r\nHello World\r\n"),
            ("INTEGER", ":12345\r\n", ":12345\r\n"),
            ("double", "$5\r\n3.141\r\n", ",3.141\r\n"),
            ("null", "$-1\r\n", "_\r\n"),
            ("array", "*3\r\n:0\r\n:1\r\n:2\r\n", "*3\r\n:0\r\n:1\r\n:2\r\n"),
            ("set", "*3\r\n:0\r\n:1\r\n:2\r\n", "~3\r\n:0\r\n:1\r\n:2\r\n"),
            (
                "map",
                "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n",
                "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
            ),
            (
                "attrib",
                attribute,
                &format!(
                    "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n{attribute}"
                ),
            ),
            (
                "push",
                "-ERR RESP2 is not supported by this command\r\n",
                ">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n\
                 $40\r\nSome real reply following the push reply\r\n",
            ),
            (
                "verbatim",
                "$25\r\nThis is a verbatim\nstring\r\n",
                "=29\r\ntxt:This is a verbatim\nstring\r\n",
            ),
            ("true", ":1\r\n", "#t\r\n"),
            ("false", ":0\r\n", "#f\r\n"),
        ] {
            for (is_3, expected) in [(false, resp2), (true, resp3)] {
                shard.resp3 = is_3;
                assert_eq!(shard.run(&format!("DEBUG PROTOCOL {kind}")), expected, "{kind}");
            }
        }
        assert!(shard.run("DEBUG PROTOCOL bignum").starts_with("(1234567999"));
        assert!(shard.run("DEBUG PROTOCOL x").starts_with("-ERR Wrong protocol type name."));
    }
}
