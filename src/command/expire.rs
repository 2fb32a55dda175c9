//! When a key goes: EXPIRE and TTL with their kin.
//!
//! All times are kept as unix time in milliseconds; seconds and spans exist only on the wire.

use super::collection::integer;
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run, removal};
use crate::keyspace::Entry;
use crate::resp::Reply;

const WRITE_FAST: Flags = WRITE.with(FAST);
const READ_FAST: Flags = READONLY.with(FAST);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "expire", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::Generic, keys: KEY_UPDATE, categories: &[], run: Run::Data(expire) },
    Command { name: "pexpire", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::Generic, keys: KEY_UPDATE, categories: &[], run: Run::Data(pexpire) },
    Command { name: "expireat", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::Generic, keys: KEY_UPDATE, categories: &[], run: Run::Data(expireat) },
    Command { name: "pexpireat", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::Generic, keys: KEY_UPDATE, categories: &[], run: Run::Data(pexpireat) },
    Command { name: "ttl", arity: Arity::Exactly(2), flags: READ_FAST, group: Group::Generic, keys: KEY_READ, categories: &[], run: Run::Data(ttl) },
    Command { name: "pttl", arity: Arity::Exactly(2), flags: READ_FAST, group: Group::Generic, keys: KEY_READ, categories: &[], run: Run::Data(pttl) },
    Command { name: "expiretime", arity: Arity::Exactly(2), flags: READ_FAST, group: Group::Generic, keys: KEY_READ, categories: &[], run: Run::Data(expiretime) },
    Command { name: "pexpiretime", arity: Arity::Exactly(2), flags: READ_FAST, group: Group::Generic, keys: KEY_READ, categories: &[], run: Run::Data(pexpiretime) },
    Command { name: "persist", arity: Arity::Exactly(2), flags: WRITE_FAST, group: Group::Generic, keys: KEY_UPDATE, categories: &[], run: Run::Data(persist) },
];

/// How a command counts time.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// From where a command counts time.
#[derive(Clone, Copy)]
enum Origin {
    Now,
    Epoch,
}

// ---- setting ----

/// EXPIRE key seconds [NX|XX|GT|LT]
fn expire(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_expiry(ctx, request, reply, ("expire", Unit::Seconds, Origin::Now))
}

/// PEXPIRE key milliseconds [NX|XX|GT|LT]
fn pexpire(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_expiry(ctx, request, reply, ("pexpire", Unit::Milliseconds, Origin::Now))
}

/// EXPIREAT key unix-time-seconds [NX|XX|GT|LT]
fn expireat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_expiry(ctx, request, reply, ("expireat", Unit::Seconds, Origin::Epoch))
}

/// PEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT]
fn pexpireat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_expiry(ctx, request, reply, ("pexpireat", Unit::Milliseconds, Origin::Epoch))
}

fn set_expiry(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    (name, unit, origin): (&str, Unit, Origin),
) -> CommandResult {
    // Redis complains of the options before it looks at the number.
    let conditions = Conditions::parse(request.rest(3))?;
    let at = expiry_ms(integer(request.arg(2))?, unit, origin, ctx.now_ms()).ok_or_else(|| {
        CommandError::owned(format!("ERR invalid expire time in '{name}' command"))
    })?;
    let (is_over, key) = (ctx.ends_key(at), request.key(1));
    let db = &mut ctx.keyspace[ctx.db];
    let current = db.entry_mut(&key).map(|entry| entry.expiry());
    if !current.is_some_and(|current| conditions.allow(current, at)) {
        reply.integer(0);
        return Ok(());
    }
    if is_over {
        db.remove(&key);
        ctx.changed(&key, Class::Generic, "del");
        ctx.instead(&[removal(ctx.config.lazyfree_lazy_expire), key.bytes]);
    } else {
        db.set_expiry(&key, Some(at));
        ctx.changed(&key, Class::Generic, "expire");
        if name != "pexpireat" && ctx.journal.is_on() {
            let mut digits = itoa::Buffer::new();
            let time: [&[u8]; 3] = [b"PEXPIREAT", key.bytes, digits.format(at).as_bytes()];
            ctx.instead(&[&time, request.rest(3)].concat());
        }
    }
    reply.integer(1);
    Ok(())
}

/// The unix time in ms that `time` means, or `None` if it is out of range.
fn expiry_ms(time: i64, unit: Unit, origin: Origin, now_ms: i64) -> Option<i64> {
    let ms = match unit {
        Unit::Seconds => time.checked_mul(1000)?,
        Unit::Milliseconds => time,
    };
    match origin {
        Origin::Now => ms.checked_add(now_ms),
        Origin::Epoch => Some(ms),
    }
}

/// When a new expiry may take the place of what is there.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// NX: only if there is none.
    only_new: bool,
    /// XX: only if there is one.
    only_old: bool,
    /// GT: only if it is later.
    only_later: bool,
    /// LT: only if it is earlier.
    only_earlier: bool,
}

impl Conditions {
    fn parse(words: &[&[u8]]) -> CommandResult<Self> {
        let mut found = Self::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => found.only_new = true,
                b"xx" => found.only_old = true,
                b"gt" => found.only_later = true,
                b"lt" => found.only_earlier = true,
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(CommandError::owned(format!("ERR Unsupported option {word}")));
                }
            }
        }
        if found.only_new && (found.only_old || found.only_later || found.only_earlier) {
            return Err(CommandError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if found.only_later && found.only_earlier {
            return Err(CommandError::text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(found)
    }

    /// Whether `new` may take the place of `current`; no expiry counts as one that never comes.
    fn allow(self, current: Option<i64>, new: i64) -> bool {
        (!self.only_new || current.is_none())
            && (!self.only_old || current.is_some())
            && (!self.only_later || current.is_some_and(|current| new > current))
            && (!self.only_earlier || current.is_none_or(|current| new < current))
    }
}

/// PERSIST key
fn persist(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let expires = db.entry_mut(&key).is_some_and(|entry| entry.expiry().is_some());
    if expires {
        db.set_expiry(&key, None);
        ctx.changed(&key, Class::Generic, "persist");
    }
    reply.integer(i64::from(expires));
    Ok(())
}

// ---- reading ----

/// TTL key
fn ttl(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    show_expiry(ctx, request, reply, Unit::Seconds, Origin::Now)
}

/// PTTL key
fn pttl(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    show_expiry(ctx, request, reply, Unit::Milliseconds, Origin::Now)
}

/// EXPIRETIME key
fn expiretime(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    show_expiry(ctx, request, reply, Unit::Seconds, Origin::Epoch)
}

/// PEXPIRETIME key
fn pexpiretime(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    show_expiry(ctx, request, reply, Unit::Milliseconds, Origin::Epoch)
}

fn show_expiry(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    unit: Unit,
    origin: Origin,
) -> CommandResult {
    const NO_SUCH_KEY: i64 = -2;
    const NO_EXPIRY: i64 = -1;
    let now = ctx.now_ms();
    let expiry = ctx.keyspace[ctx.db].look_at(&request.key(1)).map(Entry::expiry);
    reply.integer(match expiry {
        None => NO_SUCH_KEY,
        Some(None) => NO_EXPIRY,
        Some(Some(at)) => {
            let ms = match origin {
                Origin::Now => at.saturating_sub(now).max(0),
                Origin::Epoch => at,
            };
            match unit {
                Unit::Milliseconds => ms,
                Unit::Seconds => rounded_seconds(ms),
            }
        }
    });
    Ok(())
}

/// Half a second counts as one. The last half second before the end of time does not overflow.
fn rounded_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Expired, Key};

    use crate::command::testing::TestShard;

    /// "Now" on a test shard, in seconds.
    const NOW: i64 = 1_700_000_000;

    #[test]
    fn what_a_master_says_too_late_does_not_delete_its_keys() {
        let mut shard = TestShard::new();
        shard.run("SET k v");
        shard.keyspace.set_expired(Expired::Kept);
        for command in ["PEXPIREAT k 1", "GETEX k PXAT 1", "EXPIRE k -1"] {
            shard.run(command);
            assert_eq!(shard.run("DBSIZE"), ":1\r\n", "{command}");
        }
        assert_eq!(shard.run("PEXPIRETIME k"), format!(":{}000\r\n", NOW - 1));
        // Whoever does not obey a master finds it gone.
        shard.keyspace.set_expired(Expired::Gone);
        assert_eq!(shard.run("GET k"), "$-1\r\n");
    }

    #[test]
    fn expiries_are_told_in_every_unit() {
        let mut shard = TestShard::new();
        let later = format!("PEXPIREAT k {}400", NOW + 1000);
        for (command, reply) in [
            ("TTL k", ":-2\r\n"),
            ("PEXPIRETIME k", ":-2\r\n"),
            ("EXPIRE k 10", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("PTTL k", ":-1\r\n"),
            ("EXPIRETIME k", ":-1\r\n"),
            ("EXPIRE k 10", ":1\r\n"),
            ("TTL k", ":10\r\n"),
            ("PTTL k", ":10000\r\n"),
            ("PEXPIRE k 1500", ":1\r\n"),
            ("TTL k", ":2\r\n"),
            ("PEXPIRE k 1499", ":1\r\n"),
            ("TTL k", ":1\r\n"),
            (&later, ":1\r\n"),
            ("EXPIRETIME k", ":1700001000\r\n"),
            ("PEXPIRETIME k", ":1700001000400\r\n"),
            ("EXPIREAT k 1700000001", ":1\r\n"),
            ("PTTL k", ":1000\r\n"),
            ("PERSIST k", ":1\r\n"),
            ("PERSIST k", ":0\r\n"),
            ("PERSIST nothing", ":0\r\n"),
            ("TTL k", ":-1\r\n"),
            ("PEXPIREAT k 9223372036854775807", ":1\r\n"),
            ("EXPIRETIME k", ":9223372036854776\r\n"), // as Redis 7.0.15 answers
            ("PEXPIRETIME k", ":9223372036854775807\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn a_time_out_of_range_and_bad_options_are_refused() {
        let mut shard = TestShard::new();
        shard.run("SET k v");
        let nx = "ERR NX and XX, GT or LT options at the same time are not compatible";
        for (command, error) in [
            ("EXPIRE k 9223372036854775807", "ERR invalid expire time in 'expire' command"),
            ("EXPIRE k 9223372036854776", "ERR invalid expire time in 'expire' command"),
            ("EXPIRE k -9223372036854776", "ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k 9223372036854776", "ERR invalid expire time in 'expireat' command"),
            ("EXPIRE k x", "ERR value is not an integer or out of range"),
            ("PEXPIREAT k 1.5", "ERR value is not an integer or out of range"),
            ("EXPIRE k x QQ", "ERR Unsupported option QQ"),
            ("EXPIRE k 10 NX xx", nx),
            ("EXPIRE k x NX gt lt", nx),
            ("EXPIRE k 10 lt NX", nx),
            ("EXPIRE k 10 GT LT", "ERR GT and LT options at the same time are not compatible"),
        ] {
            assert_eq!(shard.run(command), format!("-{error}\r\n"), "{command}");
        }
        assert_eq!(shard.run("TTL k"), ":-1\r\n");
        assert_eq!(shard.changes.dirty, 1);
    }

    #[test]
    fn conditions_compare_with_the_expiry_that_is_there() {
        for (current, option, new, expected) in [
            (None, "NX", 5, true),
            (Some(9), "NX", 5, false),
            (None, "XX", 5, false),
            (Some(9), "XX", 5, true),
            (None, "GT", 5, false),
            (Some(4), "GT", 5, true),
            (Some(5), "GT", 5, false),
            (None, "LT", 5, true),
            (Some(6), "LT", 5, true),
            (Some(5), "LT", 5, false),
            (None, "XX LT", 5, false),
            (Some(6), "XX LT", 5, true),
            (None, "", 5, true),
        ] {
            let words: Vec<&[u8]> = option.split_whitespace().map(str::as_bytes).collect();
            let conditions = Conditions::parse(&words).unwrap();
            assert_eq!(conditions.allow(current, new), expected, "{current:?} {option} {new}");
        }
    }

    #[test]
    fn a_time_that_is_over_deletes_the_key() {
        let mut shard = TestShard::new();
        for command in [
            "EXPIRE k 0",
            "EXPIRE k -1",
            "PEXPIRE k -9223372036854775808",
            "EXPIREAT k 1",
            "PEXPIREAT k -5",
            "PEXPIREAT k 1700000000000",
        ] {
            shard.run("SET k v");
            assert_eq!(shard.run(command), ":1\r\n", "{command}");
            assert!(shard.keyspace[0].peek(&Key::new(b"k")).is_none(), "{command}");
            assert!(shard.keyspace[0].is_empty(), "{command}");
        }
        assert_eq!(shard.changes.dirty, 12);
    }

    #[test]
    fn an_expiry_is_recorded_as_a_point_in_time() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("SET k v", "SET k v"),
            ("expire k 10", "PEXPIREAT k 1700000010000"),
            ("PEXPIRE k 20000 xx GT", "PEXPIREAT k 1700000020000 xx GT"),
            ("EXPIREAT k 33177117420", "PEXPIREAT k 33177117420000"),
            ("pexpireat k 33177117420001 GT", "pexpireat k 33177117420001 GT"),
            ("EXPIRE k 10 NX", ""),
            ("EXPIRE none 10", ""),
            ("PERSIST k", "PERSIST k"),
            ("PERSIST k", ""),
            ("PEXPIREAT k 1", "DEL k"),
        ]);
        shard.config.lazyfree_lazy_expire = true;
        shard.check_effects(&[("SET k v", "SET k v"), ("EXPIRE k 0", "UNLINK k")]);
    }
}
