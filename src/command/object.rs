//! What is known about one value: OBJECT. DEBUG OBJECT tells the same and more.

use super::help::help;
use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::config::Config;
use crate::config::values::MaxmemoryPolicy;
use crate::keyspace::{Entry, StrRef, ValueRef};
use crate::resp::Reply;

/// The second argument is a key of which only metadata is read.
const KEY_AT_TWO: &[KeySpec] = &[KeySpec::one(2, Access::ReadOnly, &[])];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "object", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Generic, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "object|encoding", arity: Arity::Exactly(3), flags: READONLY, group: Group::Generic, keys: KEY_AT_TWO, categories: &[], run: Run::Data(object_encoding) },
    Command { name: "object|freq", arity: Arity::Exactly(3), flags: READONLY, group: Group::Generic, keys: KEY_AT_TWO, categories: &[], run: Run::Data(object_freq) },
    Command { name: "object|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Generic, keys: NO_KEYS, categories: &[], run: Run::Data(object_help) },
    Command { name: "object|idletime", arity: Arity::Exactly(3), flags: READONLY, group: Group::Generic, keys: KEY_AT_TWO, categories: &[], run: Run::Data(object_idletime) },
    Command { name: "object|refcount", arity: Arity::Exactly(3), flags: READONLY, group: Group::Generic, keys: KEY_AT_TWO, categories: &[], run: Run::Data(object_refcount) },
];

const HELP: [&str; 8] = [
    "ENCODING <key>",
    "    Tell in which form the value is kept.",
    "FREQ <key>",
    "    Tell how often the key was used, on a logarithmic scale. Needs an LFU policy.",
    "IDLETIME <key>",
    "    Tell for how many seconds nobody has used the key.",
    "REFCOUNT <key>",
    "    Tell how many references there are to the value.",
];

/// Longest string that Redis keeps in one piece with its header, and calls "embstr" (Redis 7.0
/// `object.c`, OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
const EMBSTR_BYTES_MAX: usize = 44;
/// Integers below this are one object in Redis, however many keys hold them (Redis 7.0 `server.h`,
/// OBJ_SHARED_INTEGERS).
const SHARED_INTEGERS: i64 = 10_000;
/// What Redis says of an object that is never freed (Redis 7.0 `server.h`, OBJ_SHARED_REFCOUNT).
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

/// OBJECT ENCODING key
fn object_encoding(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    match ctx.keyspace[ctx.db].inspect(&request.key(2)) {
        Some(entry) => reply.bulk(encoding(entry).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// Redis's name for how a value is kept. Strings are kept in other ways here; the name is the one that
/// Redis's way would have.
pub(super) fn encoding(entry: &Entry) -> &'static str {
    match entry.value() {
        ValueRef::Str(StrRef::Int(_)) => "int",
        ValueRef::Str(StrRef::Bytes(bytes)) => {
            let embedded = bytes.len() <= EMBSTR_BYTES_MAX && !entry.is_shown_raw();
            if embedded { "embstr" } else { "raw" }
        }
        ValueRef::List(_) => "quicklist",
        ValueRef::Set(set) => set.encoding(),
        ValueRef::Hash(hash) => hash.encoding(),
        ValueRef::ZSet(zset) => zset.encoding(),
        ValueRef::Stream(_) => "stream",
    }
}

/// OBJECT FREQ key
fn object_freq(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let Some(clock) = clock_of(ctx, request) else {
        reply.null();
        return Ok(());
    };
    if !ctx.config.maxmemory_policy.is_lfu() {
        return Err(CommandError::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
             that when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    reply.integer(i64::from(ctx.keyspace.access().frequency(clock)));
    Ok(())
}

/// OBJECT IDLETIME key
fn object_idletime(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let Some(clock) = clock_of(ctx, request) else {
        reply.null();
        return Ok(());
    };
    if ctx.config.maxmemory_policy.is_lfu() {
        return Err(CommandError::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    reply.integer(i64::from(ctx.keyspace.access().idle_seconds(clock)));
    Ok(())
}

fn clock_of(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Option<u32> {
    ctx.keyspace[ctx.db].inspect(&request.key(2)).map(Entry::clock)
}

/// OBJECT REFCOUNT key
fn object_refcount(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    match ctx.keyspace[ctx.db].inspect(&request.key(2)) {
        Some(entry) => reply.integer(refcount(entry, ctx.config)),
        None => reply.null(),
    }
    Ok(())
}

/// How many references Redis would count. Nothing is shared here, but tests and tools look for the
/// small integers that Redis shares, unless the eviction policy needs an access clock for each.
pub(super) fn refcount(entry: &Entry, config: &Config) -> i64 {
    use MaxmemoryPolicy::*;
    let clocks_needed = config.maxmemory > 0
        && match config.maxmemory_policy {
            VolatileLru | AllkeysLru | VolatileLfu | AllkeysLfu => true,
            VolatileRandom | VolatileTtl | AllkeysRandom | Noeviction => false,
        };
    match entry.value() {
        ValueRef::Str(StrRef::Int(0..SHARED_INTEGERS)) if !clocks_needed => SHARED_REFCOUNT,
        _ => 1,
    }
}

/// OBJECT HELP
fn object_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "OBJECT", &HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    #[test]
    fn object_encoding_tells_redis_s_names() {
        let mut shard = TestShard::new();
        let (short, long) =
            (format!("SET k {}", "x".repeat(44)), format!("SET k {}", "x".repeat(45)));
        for (command, encoding) in [
            ("SET k 123", "int"),
            ("SET k -9223372036854775808", "int"),
            ("SET k 9223372036854775808", "embstr"),
            ("SET k 0123", "embstr"),
            (&short, "embstr"),
            (&long, "raw"),
            ("SET k text", "embstr"),
            ("APPEND k er", "raw"),
            ("PEXPIRE k 10000", "raw"),
            ("RPUSH l a", "quicklist"),
            ("SADD i 1", "intset"),
            ("SADD set a", "hashtable"),
            ("HSET h f v", "listpack"),
            ("ZADD z 1 a", "listpack"),
        ] {
            shard.run(command);
            let key = command.split(' ').nth(1).unwrap();
            let reply = format!("${}\r\n{encoding}\r\n", encoding.len());
            assert_eq!(shard.run(&format!("OBJECT ENCODING {key}")), reply, "{command}");
        }
    }

    #[test]
    fn object_answers_null_for_what_is_not_there() {
        let mut shard = TestShard::new();
        shard.resp3 = true;
        for word in ["ENCODING", "FREQ", "IDLETIME", "REFCOUNT"] {
            assert_eq!(shard.run(&format!("OBJECT {word} nothing")), "_\r\n", "{word}");
        }
    }

    #[test]
    fn the_policy_decides_between_frequency_and_idle_time() {
        let mut shard = TestShard::new();
        shard.run("SET k v");
        assert_eq!(shard.run("OBJECT IDLETIME k"), ":0\r\n");
        assert!(shard.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not"));
        shard.config.maxmemory_policy = MaxmemoryPolicy::AllkeysLfu;
        shard.keyspace.set_access_policy(true, 10, 1);
        shard.run("SET j v");
        assert_eq!(shard.run("OBJECT FREQ j"), ":5\r\n");
        assert!(shard.run("OBJECT IDLETIME j").starts_with("-ERR An LFU maxmemory policy is sel"));
    }

    #[test]
    fn small_integers_count_as_shared_unless_an_access_clock_is_needed() {
        let mut shard = TestShard::new();
        shard.run("MSET a 9999 b 10000 c -1 d x");
        let shared = format!(":{SHARED_REFCOUNT}\r\n");
        for (key, reply) in [("a", &*shared), ("b", ":1\r\n"), ("c", ":1\r\n"), ("d", ":1\r\n")] {
            assert_eq!(shard.run(&format!("OBJECT REFCOUNT {key}")), reply, "{key}");
        }
        shard.config.maxmemory_policy = MaxmemoryPolicy::AllkeysLru;
        assert_eq!(shard.run("OBJECT REFCOUNT a"), shared);
        shard.config.maxmemory = 1 << 30;
        assert_eq!(shard.run("OBJECT REFCOUNT a"), ":1\r\n");
    }

    #[test]
    fn object_help_has_the_frame_of_redis() {
        let help = TestShard::new().run("OBJECT HELP");
        let lines: Vec<&str> = help.split_terminator("\r\n").collect();
        assert_eq!(lines[0], format!("*{}", lines.len() - 1));
        assert!(lines[1].starts_with("+OBJECT <subcommand> "), "{help}");
        assert_eq!(lines[lines.len() - 2], "+HELP");
    }
}
