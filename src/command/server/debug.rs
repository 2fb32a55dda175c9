//! DEBUG: switches and views for tests. Every shard does its part, whatever the subcommand.
//!
//! Crashing on request (SEGFAULT, PANIC, OOM, …) is left out: a store is not the place for it.

use std::time::Duration;

use super::digest::{self, Digest};
use crate::command::help::help;
use crate::command::{CommandError, CommandResult, Ctx, Part, Request, object};
use crate::config::values::Permission;
use crate::datatypes::number::{parse_f64, parse_i64};
use crate::keyspace::{Entry, Key, NewExpiry, ValueRef};
use crate::resp::Reply;

const HELP: [&str; 29] = [
    "DIGEST",
    "    Show one digest of all keys and values.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Show a digest of each value.",
    "ERROR <string>",
    "    Answer with the error <string>.",
    "LOADAOF",
    "    Drop the data and load the append-only files.",
    "LOG <message>",
    "    Write <message> to the log.",
    "OBJECT <key>",
    "    Show how a value is kept.",
    "PAUSE-CRON <0|1>",
    "    Accepted; there is no periodic job to pause.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> strings <prefix>:<number>, of <size> bytes if given.",
    "PROTOCOL <type>",
    "    Answer with a sample of a reply type: string, integer, double, bignum, null,",
    "    array, set, map, attrib, push, verbatim, true, false.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Keep elements of <size> bytes and more outside the nodes of new lists; 0 for 1gb.",
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "    Save the data, drop it and load it again, or only some of that.",
    "REPLYBUFFER PEAK-RESET-TIME|RESIZING <value>",
    "    Accepted; reply buffers are not resized by a timer.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Whether expired keys are removed also when nobody looks at them.",
    "SLEEP <seconds>",
    "    Stop every shard for <seconds>.",
];

/// Whether DEBUG may be used by a client that is, or is not, on this host. The session asks this, since
/// it knows the client; scripts and transactions inherit its answer.
pub fn is_allowed(permission: Permission, local: bool) -> CommandResult {
    let allowed = match permission {
        Permission::Yes => true,
        Permission::Local => local,
        Permission::No => false,
    };
    if allowed { Ok(()) } else { Err(NOT_ALLOWED) }
}

const NOT_ALLOWED: CommandError = CommandError::text(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can \
     run it from a local connection, otherwise you need to set this option in the configuration \
     file, and then restart the server.",
);

/// What a DEBUG command asks for.
enum Wanted<'a> {
    Digest,
    DigestValue(&'a [&'a [u8]]),
    Error(&'a [u8]),
    Help,
    Log(&'a [u8]),
    Object(&'a [u8]),
    Populate {
        count: u64,
        prefix: &'a [u8],
        size: Option<usize>,
    },
    Protocol(&'a [u8]),
    PackedThreshold(Option<u32>),
    ActiveExpire(bool),
    Sleep(Duration),
    /// Accepted without an effect; the help says why.
    Nothing,
}

fn wanted<'a>(request: &Request<'a>) -> CommandResult<Wanted<'a>> {
    let word = request.arg(1).to_ascii_lowercase();
    Ok(match (word.as_slice(), request.rest(2)) {
        (b"digest", []) => Wanted::Digest,
        (b"digest-value", keys @ [_, ..]) => Wanted::DigestValue(keys),
        (b"error", [text]) => Wanted::Error(text),
        (b"help", []) => Wanted::Help,
        (b"log", [text]) => Wanted::Log(text),
        (b"object", [key]) => Wanted::Object(key),
        (b"populate", words @ ([_] | [_, _] | [_, _, _])) => populate(words)?,
        (b"protocol", [kind]) => Wanted::Protocol(kind),
        (b"quicklist-packed-threshold", [size]) => Wanted::PackedThreshold(threshold(size)?),
        (b"set-active-expire", [on]) => Wanted::ActiveExpire(*on != b"0"),
        (b"sleep", [seconds]) => {
            // What is no time is no sleep, as in Redis.
            let seconds = parse_f64(seconds).unwrap_or(0.0);
            Wanted::Sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default())
        }
        (b"pause-cron", [_]) | (b"replybuffer", [_, _]) => Wanted::Nothing,
        _ => {
            let word = String::from_utf8_lossy(request.arg(1));
            return Err(CommandError::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP."
            )));
        }
    })
}

fn populate<'a>(words: &[&'a [u8]]) -> CommandResult<Wanted<'a>> {
    let positive = |word: &&[u8]| parse_i64(word).and_then(|number| u64::try_from(number).ok());
    let number = |word: &&[u8]| positive(word).ok_or(CommandError::OutOfRangePositive);
    let count = words.first().map_or(Ok(0), number)?;
    let prefix = words.get(1).copied().unwrap_or(b"key");
    let size = words.get(2).map(number).transpose()?.map(|size| size as usize);
    Ok(Wanted::Populate { count, prefix, size: size.filter(|size| *size > 0) })
}

fn threshold(word: &[u8]) -> CommandResult<Option<u32>> {
    const TEXT: &str = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
    let bytes = crate::config::parse_memory(word).ok_or(CommandError::text(TEXT))?;
    match u32::try_from(bytes) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(CommandError::text(TEXT)),
    }
}

/// A digest of each value that this shard has, with its place among the asked keys.
type ValueDigests = Vec<(usize, Digest)>;

/// One shard's half of DEBUG.
pub fn part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    match wanted(request)? {
        Wanted::Digest => return Ok(Part::Other(Box::new(digest::share(ctx.keyspace)))),
        Wanted::DigestValue(keys) => return Ok(Part::Other(Box::new(value_digests(ctx, keys)))),
        Wanted::Object(key) => return Ok(Part::Other(Box::new(object(ctx, key)))),
        Wanted::Populate { count, prefix, size } => fill(ctx, count, prefix, size),
        Wanted::PackedThreshold(bytes) => ctx.keyspace.switches.list_plain_bytes_min = bytes,
        Wanted::ActiveExpire(on) => ctx.keyspace.switches.active_expiry = on,
        Wanted::Sleep(time) => std::thread::sleep(time),
        Wanted::Error(_) | Wanted::Help | Wanted::Log(_) | Wanted::Protocol(_) => {}
        Wanted::Nothing => {}
    }
    Ok(Part::Done)
}

fn is_here(ctx: &Ctx<'_>, key: &Key<'_>) -> bool {
    ctx.shards.owner(key.slot) == ctx.shard
}

fn value_digests(ctx: &Ctx<'_>, keys: &[&[u8]]) -> ValueDigests {
    let keys = keys.iter().map(|key| Key::new(key)).enumerate();
    keys.filter(|(_, key)| is_here(ctx, key))
        .map(|(at, key)| (at, digest::of_value(ctx.keyspace[ctx.db].peek(&key))))
        .collect()
}

fn fill(ctx: &mut Ctx<'_>, count: u64, prefix: &[u8], size: Option<usize>) {
    for number in 0..count {
        let name = [prefix, format!(":{number}").as_bytes()].concat();
        let key = Key::new(&name);
        if !is_here(ctx, &key) || ctx.keyspace[ctx.db].contains(&key) {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        value.resize(size.unwrap_or(value.len()), 0);
        ctx.keyspace[ctx.db].set_str(&key, &value, NewExpiry::None);
    }
}

/// The line of DEBUG OBJECT, on the shard that has the key.
fn object(ctx: &Ctx<'_>, key: &[u8]) -> Option<String> {
    let entry = ctx.keyspace[ctx.db].peek(&Key::new(key))?;
    let clock = entry.clock();
    let mut line = format!(
        "Value at:{entry:p} refcount:{} encoding:{} serializedlength:{} lru:{clock} lru_seconds_idle:{}",
        object::refcount(entry, ctx.config),
        object::encoding(entry),
        content_bytes(entry),
        ctx.keyspace.access().idle_seconds(clock)
    );
    if let ValueRef::List(list) = entry.value() {
        let nodes = list.nodes().len();
        line.push_str(&format!(
            " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:0 ql_uncompressed_size:{}",
            list.len() as f64 / nodes.max(1) as f64,
            ctx.config.list_max_listpack_size,
            content_bytes(entry)
        ));
    }
    Some(line)
}

/// Bytes of all elements: close to what a snapshot takes, without writing one.
fn content_bytes(entry: &Entry) -> usize {
    let text = |element: crate::datatypes::listpack::Element<'_>| {
        element.as_bytes(&mut itoa::Buffer::new()).len() + 1
    };
    match entry.value() {
        ValueRef::Str(value) => value.len() + 1,
        ValueRef::List(list) => list.iter().map(text).sum(),
        ValueRef::Set(set) => set.iter().map(text).sum(),
        ValueRef::Hash(hash) => hash.iter().map(|(field, value)| text(field) + text(value)).sum(),
        ValueRef::ZSet(zset) => zset.iter_all().map(|(member, _)| text(member) + 8).sum(),
        ValueRef::Stream(stream) => stream.nodes().map(|(_, pack)| 16 + pack.byte_len()).sum(),
    }
}

/// The reply of DEBUG from the parts of all shards.
pub fn merge(
    _: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    match wanted(request)? {
        Wanted::Digest => reply.simple(&digest::whole(unpack(parts)).to_hex()),
        Wanted::DigestValue(keys) => {
            let mut found: ValueDigests = unpack::<ValueDigests>(parts).flatten().collect();
            found.sort_by_key(|(at, _)| *at);
            reply.array(keys.len());
            found.iter().for_each(|(_, digest)| reply.simple(&digest.to_hex()));
        }
        Wanted::Object(_) => {
            let line = unpack::<Option<String>>(parts).flatten().next();
            reply.simple(&line.ok_or(CommandError::NoSuchKey)?);
        }
        Wanted::Protocol(kind) => write_sample(kind, reply)?,
        Wanted::Error(text) => {
            return Err(CommandError::owned(String::from_utf8_lossy(text).into_owned()));
        }
        Wanted::Log(text) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(text));
            reply.ok();
        }
        Wanted::Help => help(reply, "DEBUG", &HELP),
        Wanted::Populate { .. }
        | Wanted::PackedThreshold(_)
        | Wanted::ActiveExpire(_)
        | Wanted::Sleep(_)
        | Wanted::Nothing => reply.ok(),
    }
    Ok(())
}

/// The parts of all shards, which are all of this type.
fn unpack<T: 'static>(parts: Vec<Part>) -> impl Iterator<Item = T> {
    parts.into_iter().filter_map(|part| match part {
        Part::Other(any) => any.downcast::<T>().ok().map(|part| *part),
        _ => None,
    })
}

/// DEBUG PROTOCOL: one sample of each type of reply, for the tests of client libraries.
fn write_sample(kind: &[u8], reply: &mut Reply<'_>) -> CommandResult {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text(b"3.141"),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            (0..3).for_each(|number| {
                reply.integer(number);
                reply.boolean(number == 1);
            });
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
        b"push" if !reply.resp3() => {
            return Err(CommandError::text("ERR RESP2 is not supported by this command"));
        }
        b"push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        b"verbatim" => reply.verbatim(*b"txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => {
            return Err(CommandError::text(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    #[test]
    fn debug_is_for_those_whom_the_directive_allows() {
        for (permission, local, allowed) in [
            (Permission::Yes, false, true),
            (Permission::Local, true, true),
            (Permission::Local, false, false),
            (Permission::No, true, false),
        ] {
            assert_eq!(is_allowed(permission, local).is_ok(), allowed);
        }
        assert!(NOT_ALLOWED.to_string().starts_with("ERR DEBUG command not allowed. If the"));
    }

    #[test]
    fn digests_are_those_of_redis() {
        // Computed by redis-server 7.0.15 from the same commands.
        let mut shard = TestShard::new();
        assert_eq!(shard.run("debug digest"), format!("+{}\r\n", "0".repeat(40)));
        for command in [
            "set s hello",
            "set n 123",
            "rpush l a b 3",
            "sadd st x y 7",
            "hset h f v g 12",
            "zadd z 1 a 2.5 b",
            "set e x pxat 33177117420000",
        ] {
            assert!(!shard.run(command).starts_with('-'), "{command}");
        }
        shard.db = 3;
        shard.run("set other db");
        shard.db = 0;
        assert_eq!(
            shard.run("debug digest-value s n l st h z e nothing"),
            "*8\r\n+36b23a1456b2dce2c3ed252c456761301dba8060\r\n\
             +89f7f51b707418f666d5b45e053bd5bbbf82ac2b\r\n\
             +09eb1fc9381ee92790d59930ab462945f8cd948b\r\n\
             +a6afcc473373536adb071da403abcb70a693d104\r\n\
             +8530acc75d5274eb0fc0da86f28ed5533274a6d4\r\n\
             +c45c5b051acd64070e5ed1a949939d5145f806c5\r\n\
             +0745672cb1bf060476eedeb8a28f5ffe1ff5a2be\r\n\
             +0000000000000000000000000000000000000000\r\n"
        );
        assert_eq!(shard.run("debug digest"), "+51059cec5d6d28e1eb6db6662efb479db064e826\r\n");
    }

    #[test]
    fn populate_makes_keys_and_leaves_those_that_exist() {
        let mut shard = TestShard::new();
        shard.run("set key:1 mine");
        assert_eq!(shard.run("debug populate 3"), "+OK\r\n");
        assert_eq!(shard.run("debug populate 2 foo 9"), "+OK\r\n");
        for (key, value) in [
            ("key:0", "value:0"),
            ("key:1", "mine"),
            ("key:2", "value:2"),
            ("foo:1", "value:1\0\0"),
        ] {
            assert_eq!(
                shard.run(&format!("get {key}")),
                format!("${}\r\n{value}\r\n", value.len())
            );
        }
        assert_eq!(
            shard.run("debug populate x"),
            "-ERR value is out of range, must be positive\r\n"
        );
    }

    #[test]
    fn object_shows_encoding_and_nodes() {
        let mut shard = TestShard::new();
        shard.run("set n 1");
        shard.run("rpush l a b c");
        shard.run(&format!("set long {}", "x".repeat(45)));
        let shared = " refcount:2147483647 encoding:int serializedlength:2 lru:";
        assert!(shard.run("debug object n").contains(shared));
        assert!(shard.run("debug object long").contains(" refcount:1 encoding:raw "));
        let list = shard.run("debug object l");
        assert!(list.contains(" encoding:quicklist ") && list.contains(" ql_nodes:1 "), "{list}");
        assert_eq!(shard.run("debug object nothing"), "-ERR no such key\r\n");
    }

    #[test]
    fn switches_switch_and_mistakes_have_the_words_of_redis() {
        let mut shard = TestShard::new();
        for (words, expected) in [
            ("set-active-expire 0", "+OK\r\n"),
            ("quicklist-packed-threshold 100b", "+OK\r\n"),
            ("sleep 0", "+OK\r\n"),
            ("sleep -1", "+OK\r\n"),
            ("error WRONG_thing", "-WRONG_thing\r\n"),
            (
                "quicklist-packed-threshold 5gb",
                "-ERR argument must be a memory value bigger than 1 and smaller than 4gb\r\n",
            ),
            (
                "foo",
                "-ERR unknown subcommand or wrong number of arguments for 'foo'. Try DEBUG HELP.\r\n",
            ),
            ("protocol push", "-ERR RESP2 is not supported by this command\r\n"),
            ("protocol map", "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n"),
            ("protocol double", "$5\r\n3.141\r\n"),
        ] {
            assert_eq!(shard.run(&format!("debug {words}")), expected, "{words}");
        }
        assert!(!shard.keyspace.switches.active_expiry);
        assert_eq!(shard.keyspace.switches.list_plain_bytes_min, Some(100));
        shard.run("debug quicklist-packed-threshold 0");
        assert_eq!(shard.keyspace.switches.list_plain_bytes_min, None);
        assert!(shard.run("debug help").starts_with("*32\r\n"));
    }
}
