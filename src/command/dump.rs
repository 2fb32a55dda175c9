//! One value as bytes and back: DUMP and RESTORE.
//!
//! The payload is that of Redis 7.0 ([`crate::persistence::rdb::payload`]), so values travel between this server
//! and Redis in both directions. Whatever SANITIZE-DUMP-PAYLOAD says, a payload is checked in depth: the
//! decoder builds values of checked parts only, and knows no other way.

use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{AccessClock, Key};
use crate::persistence::rdb::write_file::Usage;
use crate::persistence::rdb::{Compression, Limits, payload};
use crate::resp::Reply;

const RESTORES: Flags = WRITE.with(DENYOOM);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "dump", arity: Arity::Exactly(2), flags: READONLY, group: Group::Generic, keys: KEY_READ, categories: &[], run: Run::Data(dump) },
    Command { name: "restore", arity: Arity::AtLeast(4), flags: RESTORES, group: Group::Generic, keys: KEY_OVERWRITE, categories: &["@dangerous"], run: Run::Data(restore) },
    Command { name: "restore-asking", arity: Arity::AtLeast(4), flags: RESTORES.with(ASKING), group: Group::Generic, keys: KEY_OVERWRITE, categories: &["@dangerous"], run: Run::Data(restore) },
];

const BUSY_KEY: CommandError = CommandError::text("BUSYKEY Target key name already exists.");
const NEGATIVE_TTL: CommandError = CommandError::text("ERR Invalid TTL value, must be >= 0");
const NEGATIVE_IDLE: CommandError = CommandError::text("ERR Invalid IDLETIME value, must be >= 0");
const BAD_FREQUENCY: CommandError =
    CommandError::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
const BAD_FRAME: CommandError =
    CommandError::text("ERR DUMP payload version or checksum are wrong");
const BAD_DATA: CommandError = CommandError::text("ERR Bad data format");

/// DUMP key
fn dump(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let compression = Compression::of_setting(ctx.config.rdbcompression);
    match ctx.keyspace[ctx.db].read(&request.key(1)) {
        Some(value) => {
            let mut bytes = Vec::new();
            payload::dump(&value, compression, &mut bytes);
            reply.bulk(&bytes);
        }
        None => reply.null(),
    }
    Ok(())
}

/// What RESTORE is asked for after its payload.
#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    /// The time to live is a unix time.
    absolute: bool,
    usage: Option<Usage>,
}

impl RestoreOptions {
    fn parse(request: &Request<'_>) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut at = 4;
        while at < request.len() {
            let number = request.get(at + 1);
            let of_idle = matches!(options.usage, Some(Usage::Idle(_)));
            let of_frequency = matches!(options.usage, Some(Usage::Frequency(_)));
            at += 1;
            match (request.arg(at - 1), number) {
                (word, _) if word.eq_ignore_ascii_case(b"replace") => options.replace = true,
                (word, _) if word.eq_ignore_ascii_case(b"absttl") => options.absolute = true,
                (word, Some(text)) if word.eq_ignore_ascii_case(b"idletime") && !of_frequency => {
                    let seconds = parse_i64(text).ok_or(CommandError::NotInteger)?;
                    let seconds = u64::try_from(seconds).map_err(|_| NEGATIVE_IDLE)?;
                    options.usage = Some(Usage::Idle(seconds));
                    at += 1;
                }
                (word, Some(text)) if word.eq_ignore_ascii_case(b"freq") && !of_idle => {
                    let count = parse_i64(text).ok_or(CommandError::NotInteger)?;
                    let count = u8::try_from(count).map_err(|_| BAD_FREQUENCY)?;
                    options.usage = Some(Usage::Frequency(count));
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }
}

/// RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
fn restore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let options = RestoreOptions::parse(request)?;
    let key = request.key(1);
    if !options.replace && ctx.keyspace[ctx.db].contains(&key) {
        return Err(BUSY_KEY);
    }
    let ttl = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    if ttl < 0 {
        return Err(NEGATIVE_TTL);
    }
    let (body, version) = payload::open(request.arg(3)).ok_or(BAD_FRAME)?;
    let value = payload::restore(body, version, limits(ctx)).map_err(|_| BAD_DATA)?;
    // From here on nothing can fail: the key is as it was until now.
    let deleted = options.replace && ctx.keyspace[ctx.db].remove(&key);
    let expiry = expiry_of(ttl, options.absolute, ctx.now_ms());
    reply.ok();
    if expiry.is_some_and(|at| ctx.ends_key(at)) {
        if deleted {
            ctx.changed(&key, Class::Generic, "del");
            ctx.instead(&[b"DEL", key.bytes]);
        }
        return Ok(());
    }
    ctx.keyspace[ctx.db].insert(&key, value, expiry);
    note_usage(ctx, &key, options.usage);
    ctx.changed(&key, Class::Generic, "restore");
    if let (Some(at), false) = (expiry, options.absolute) {
        record_with_time(ctx, request, at);
    }
    Ok(())
}

/// Records a RESTORE with a time to live as one with a point in time.
fn record_with_time(ctx: &mut Ctx<'_>, request: &Request<'_>, at: i64) {
    if ctx.journal.is_on() {
        let mut digits = itoa::Buffer::new();
        let mut words = request.args().to_vec();
        words[2] = digits.format(at).as_bytes();
        words.push(b"ABSTTL");
        ctx.instead(&words);
    }
}

fn limits(ctx: &Ctx<'_>) -> Limits {
    let limits = Limits::new(ctx.config);
    match ctx.keyspace.switches.list_plain_bytes_min {
        Some(bytes) => Limits { list: limits.list.with_plain_bytes_min(bytes), ..limits },
        None => limits,
    }
}

/// When a key with this time to live expires, unix ms. A sum beyond the last millisecond is in the past,
/// as in Redis.
fn expiry_of(ttl: i64, absolute: bool, now_ms: i64) -> Option<i64> {
    match (ttl, absolute) {
        (0, _) => None,
        (_, true) => Some(ttl),
        (_, false) => Some(ttl.wrapping_add(now_ms)),
    }
}

/// Takes over how the key was used, as far as the present policy has a use for it.
fn note_usage(ctx: &mut Ctx<'_>, key: &Key<'_>, usage: Option<Usage>) {
    let access: &AccessClock = ctx.keyspace.access();
    let clock = match usage {
        Some(Usage::Idle(seconds)) => access.of_idle_seconds(seconds),
        Some(Usage::Frequency(count)) => access.of_frequency(count),
        None => None,
    };
    if let (Some(clock), Some(entry)) = (clock, ctx.keyspace[ctx.db].peek(key)) {
        entry.set_clock(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    fn payload(shard: &mut TestShard, key: &str) -> Vec<u8> {
        let reply = shard.run_args(&[b"DUMP", key.as_bytes()]);
        let start = reply.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
        reply[start..reply.len() - 2].to_vec()
    }

    fn restore(shard: &mut TestShard, words: &str, payload: &[u8]) -> String {
        let mut args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        args.insert(3.min(args.len()), payload);
        String::from_utf8(shard.run_args(&args)).unwrap()
    }

    #[test]
    fn a_key_is_restored_with_its_expiry_and_its_usage() {
        let mut shard = TestShard::new();
        shard.run("SET k value");
        let bytes = payload(&mut shard, "k");
        for (words, reply) in [
            ("RESTORE k 0", "-BUSYKEY Target key name already exists.\r\n"),
            ("RESTORE a 0", "+OK\r\n"),
            ("RESTORE b 5000 IDLETIME 1000", "+OK\r\n"),
            ("RESTORE c 1700000009000 ABSTTL", "+OK\r\n"),
            ("RESTORE k 7000 replace absttl", "+OK\r\n"),
        ] {
            assert_eq!(restore(&mut shard, words, &bytes), reply, "{words}");
        }
        for (command, reply) in [
            ("GET a", "$5\r\nvalue\r\n"),
            ("PTTL a", ":-1\r\n"),
            ("OBJECT IDLETIME b", ":1000\r\n"),
            ("PTTL b", ":5000\r\n"),
            ("PTTL c", ":9000\r\n"),
            ("EXISTS k", ":0\r\n"), // its time was over
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.changes.dirty, 5);
    }

    #[test]
    fn a_frequency_is_taken_over_where_frequencies_count() {
        let mut shard = TestShard::new();
        shard.run("SET k value");
        let bytes = payload(&mut shard, "k");
        shard.keyspace.set_access_policy(true, 10, 1);
        for (words, frequency) in [("RESTORE f 0 FREQ 77", 77), ("RESTORE i 0 IDLETIME 9", 5)] {
            assert_eq!(restore(&mut shard, words, &bytes), "+OK\r\n");
            let key = words.split(' ').nth(1).unwrap();
            let clock = shard.keyspace[0].peek(&Key::new(key.as_bytes())).unwrap().clock();
            assert_eq!(shard.keyspace.access().frequency(clock), frequency, "{words}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_redis_and_changes_nothing() {
        let mut shard = TestShard::new();
        shard.run("SET k value");
        let good = payload(&mut shard, "k");
        let mut damaged = good.clone();
        damaged[2] ^= 1;
        let mut newer = good[..good.len() - 10].to_vec();
        newer.extend_from_slice(&11_u16.to_le_bytes());
        let sum = crate::persistence::rdb::crc64::crc64(&newer);
        newer.extend_from_slice(&sum.to_le_bytes());
        let mut empty_list = vec![18, 0];
        payload::seal(0, &mut empty_list);
        let bad_frame = "-ERR DUMP payload version or checksum are wrong\r\n";
        let not_integer = "-ERR value is not an integer or out of range\r\n";
        let bad_frequency = "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n";
        for (words, bytes, reply) in [
            ("RESTORE k x", &good, "-BUSYKEY Target key name already exists.\r\n"),
            ("RESTORE n x", &damaged, not_integer),
            ("RESTORE n -1", &damaged, "-ERR Invalid TTL value, must be >= 0\r\n"),
            ("RESTORE n 0 NOPE", &good, "-ERR syntax error\r\n"),
            ("RESTORE n 0 FREQ", &good, "-ERR syntax error\r\n"),
            ("RESTORE n 0 FREQ 256", &good, bad_frequency),
            ("RESTORE n 0 FREQ -1", &good, bad_frequency),
            ("RESTORE n 0 FREQ x", &good, not_integer),
            ("RESTORE n 0 IDLETIME -1", &good, "-ERR Invalid IDLETIME value, must be >= 0\r\n"),
            ("RESTORE n 0 IDLETIME 1 FREQ 1", &good, "-ERR syntax error\r\n"),
            ("RESTORE n 0 FREQ 1 IDLETIME 1", &good, "-ERR syntax error\r\n"),
            ("RESTORE k 0 REPLACE", &damaged, bad_frame),
            ("RESTORE k 0 REPLACE", &newer, bad_frame),
            ("RESTORE k 0 REPLACE", &Vec::new(), bad_frame),
            ("RESTORE k 0 REPLACE", &empty_list, "-ERR Bad data format\r\n"),
        ] {
            assert_eq!(restore(&mut shard, words, bytes), reply, "{words}");
        }
        assert_eq!(shard.run("GET k"), "$5\r\nvalue\r\n");
        assert_eq!(shard.run("DUMP nothing"), "$-1\r\n");
        assert_eq!(shard.changes.dirty, 1);
    }

    #[test]
    fn a_time_to_live_is_recorded_as_a_point_in_time() {
        let mut shard = TestShard::new();
        shard.run("RPUSH l a");
        let bytes = payload(&mut shard, "l");
        let mut effects = |ttl: &[u8], options: &[&[u8]]| {
            let words: [&[u8]; 4] = [b"RESTORE", b"k", ttl, &bytes];
            shard.journal.set_readers(crate::journal::Audience::ALL);
            shard.run_args(&[&words, options].concat());
            shard.journal.take_parcel(crate::journal::Stamp::default()).bytes
        };
        let recorded = |ttl: &[u8], options: &[&[u8]]| {
            let words: [&[u8]; 4] = [b"RESTORE", b"k", ttl, &bytes];
            let mut out = Vec::new();
            crate::journal::recorder::write_effect(&mut out, &[&words, options].concat());
            out
        };
        assert_eq!(effects(b"0", &[]), recorded(b"0", &[]));
        assert_eq!(effects(b"5000", &[]), b"", "it is there");
        assert_eq!(
            effects(b"5000", &[b"REPLACE"]),
            recorded(b"1700000005000", &[b"REPLACE", b"ABSTTL"])
        );
        let absolute: [&[u8]; 2] = [b"absttl", b"REPLACE"];
        assert_eq!(effects(b"33177117420000", &absolute), recorded(b"33177117420000", &absolute));
        assert_eq!(effects(b"1", &absolute), b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
        assert_eq!(effects(b"1", &absolute), b"", "it was not there any more");
    }
}
