//! Whole strings: GET, SET and their kin. Parts of strings are in `substrings.rs`, numbers in
//! `counters.rs`, bits in `bits.rs`.
//!
//! GET and plain SET are one look-up each; everything else here may take its time.

use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run, removal};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Key, NewExpiry, StrRef};
use crate::resp::Reply;

const KEY_SET: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadWrite, &["ACCESS", "UPDATE", "VARIABLE_FLAGS"])];
const KEY_SETNX: &[KeySpec] = &[KeySpec::one(1, Access::OverWrite, &["INSERT"])];
const KEYS_ODD_INSERT: &[KeySpec] = &[KeySpec::all(1, 2, Access::OverWrite, &["INSERT"])];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "get", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::String, keys: KEY_READ, categories: &[], run: Run::Data(get) },
    Command { name: "set", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEY_SET, categories: &[], run: Run::Data(set) },
    Command { name: "setnx", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_SETNX, categories: &[], run: Run::Data(setnx) },
    Command { name: "setex", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEY_OVERWRITE, categories: &[], run: Run::Data(setex) },
    Command { name: "psetex", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEY_OVERWRITE, categories: &[], run: Run::Data(psetex) },
    Command { name: "getset", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(getset) },
    Command { name: "getdel", arity: Arity::Exactly(2), flags: WRITE.with(FAST), group: Group::String, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(getdel) },
    Command { name: "getex", arity: Arity::AtLeast(2), flags: WRITE.with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(getex) },
    Command { name: "mget", arity: Arity::AtLeast(2), flags: READONLY.with(FAST), group: Group::String, keys: KEYS_READ, categories: &[], run: Run::Data(mget) },
    Command { name: "mset", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEYS_ODD, categories: &[], run: Run::Data(mset) },
    Command { name: "msetnx", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEYS_ODD_INSERT, categories: &[], run: Run::Data(msetnx) },
];

/// GET key
fn get(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply_string(ctx, &request.key(1), reply).map(|_| ())
}

/// Replies with the string at `key`, or null; tells whether there is one.
#[inline]
fn reply_string(ctx: &mut Ctx<'_>, key: &Key<'_>, reply: &mut Reply<'_>) -> CommandResult<bool> {
    let text = ctx.keyspace[ctx.db].read_str(key)?;
    match text {
        Some(StrRef::Bytes(bytes)) => reply.bulk(bytes),
        Some(StrRef::Int(number)) => reply.bulk_int(number),
        None => reply.null(),
    }
    Ok(text.is_some())
}

/// SET key value \[NX | XX\] \[GET\] \[EX s | PX ms | EXAT s | PXAT ms | KEEPTTL\]
fn set(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    if request.len() == 3 {
        put(ctx, &key, request.arg(2), NewExpiry::None);
        reply.ok();
        return Ok(());
    }
    let options = Options::parse(request, 3, For::Set)?;
    let expiry = match options.lifetime {
        Lifetime::Until(form, text) => NewExpiry::At(form.deadline(text, ctx.now_ms(), "set")?),
        Lifetime::Keep => NewExpiry::Keep,
        Lifetime::Unsaid | Lifetime::Persist => NewExpiry::None,
    };
    if options.get {
        reply_string(ctx, &key, reply)?;
    }
    let meets = options.condition.is_met(ctx, &key);
    if meets {
        put(ctx, &key, request.arg(2), expiry);
        record_set(ctx, request, &options, expiry);
    }
    match (options.get, meets) {
        (true, _) => {} // the old value is the reply
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    Ok(())
}

/// Records a SET that has stored: without what depends on the time or on what was there.
fn record_set(ctx: &mut Ctx<'_>, request: &Request<'_>, options: &Options<'_>, expiry: NewExpiry) {
    match (options.lifetime, expiry) {
        (Lifetime::Until(TimeForm::PxAt, _), _) => {}
        (_, NewExpiry::At(at)) => record_set_until(ctx, request.arg(1), request.arg(2), at),
        _ if options.get && ctx.journal.is_on() => {
            let is_get = |at: usize| at > 2 && request.is_word(at, "get");
            let kept = (0..request.len()).filter(|at| !is_get(*at)).map(|at| request.arg(at));
            ctx.instead(&kept.collect::<Vec<_>>());
        }
        _ => {}
    }
}

fn record_set_until(ctx: &mut Ctx<'_>, key: &[u8], value: &[u8], at: i64) {
    if ctx.journal.is_on() {
        let mut digits = itoa::Buffer::new();
        ctx.instead(&[b"SET", key, value, b"PXAT", digits.format(at).as_bytes()]);
    }
}

/// Puts `value` at `key` and says so.
fn put(ctx: &mut Ctx<'_>, key: &Key<'_>, value: &[u8], expiry: NewExpiry) {
    ctx.keyspace[ctx.db].set_str(key, value, expiry);
    ctx.changed(key, Class::String, "set");
    if matches!(expiry, NewExpiry::At(_)) {
        ctx.notify(key, Class::Generic, "expire");
    }
}

/// SETNX key value
fn setnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let meets = Condition::Missing.is_met(ctx, &key);
    if meets {
        put(ctx, &key, request.arg(2), NewExpiry::None);
    }
    reply.integer(i64::from(meets));
    Ok(())
}

/// SETEX key seconds value
fn setex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_with_time(ctx, request, reply, TimeForm::Ex, "setex")
}

/// PSETEX key milliseconds value
fn psetex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_with_time(ctx, request, reply, TimeForm::Px, "psetex")
}

fn set_with_time(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    form: TimeForm,
    name: &str,
) -> CommandResult {
    let at = form.deadline(request.arg(2), ctx.now_ms(), name)?;
    put(ctx, &request.key(1), request.arg(3), NewExpiry::At(at));
    record_set_until(ctx, request.arg(1), request.arg(3), at);
    reply.ok();
    Ok(())
}

/// GETSET key value
fn getset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    reply_string(ctx, &key, reply)?;
    put(ctx, &key, request.arg(2), NewExpiry::None);
    ctx.instead(&[b"SET", key.bytes, request.arg(2)]);
    Ok(())
}

/// GETDEL key
fn getdel(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    if reply_string(ctx, &key, reply)? {
        remove(ctx, &key);
        ctx.instead(&[removal(ctx.config.lazyfree_lazy_user_del), key.bytes]);
    }
    Ok(())
}

fn remove(ctx: &mut Ctx<'_>, key: &Key<'_>) {
    if ctx.keyspace[ctx.db].remove(key) {
        ctx.changed(key, Class::Generic, "del");
    }
}

/// GETEX key \[EX s | PX ms | EXAT s | PXAT ms | PERSIST\]
fn getex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let options = Options::parse(request, 2, For::Getex)?;
    if !reply_string(ctx, &key, reply)? {
        return Ok(());
    }
    match options.lifetime {
        Lifetime::Until(form, text) => {
            let at = form.deadline(text, ctx.now_ms(), "getex")?;
            if ctx.ends_key(at) {
                remove(ctx, &key);
                ctx.instead(&[removal(ctx.config.lazyfree_lazy_expire), key.bytes]);
            } else {
                ctx.keyspace[ctx.db].set_expiry(&key, Some(at));
                ctx.changed(&key, Class::Generic, "expire");
                let mut digits = itoa::Buffer::new();
                ctx.instead(&[b"PEXPIREAT", key.bytes, digits.format(at).as_bytes()]);
            }
        }
        Lifetime::Persist => {
            let db = &mut ctx.keyspace[ctx.db];
            if db.peek(&key).is_some_and(|entry| entry.expiry().is_some()) {
                db.set_expiry(&key, None);
                ctx.changed(&key, Class::Generic, "persist");
                ctx.instead(&[b"PERSIST", key.bytes]);
            }
        }
        Lifetime::Unsaid | Lifetime::Keep => {}
    }
    Ok(())
}

/// MGET key \[key …\]; what is no string is null, not an error.
fn mget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.array(request.len() - 1);
    for at in 1..request.len() {
        if reply_string(ctx, &request.key(at), reply).is_err() {
            reply.null();
        }
    }
    Ok(())
}

/// MSET key value \[key value …\]
fn mset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_pairs(request, "mset")?;
    put_pairs(ctx, request);
    reply.ok();
    Ok(())
}

/// MSETNX key value \[key value …\]: all or none.
fn msetnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_pairs(request, "msetnx")?;
    let mut keys = (1..request.len()).step_by(2).map(|at| request.key(at));
    let none = !keys.any(|key| ctx.keyspace[ctx.db].contains(&key));
    if none {
        put_pairs(ctx, request);
    }
    reply.integer(i64::from(none));
    Ok(())
}

fn check_pairs(request: &Request<'_>, name: &str) -> CommandResult {
    if request.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(name.to_owned()));
    }
    Ok(())
}

fn put_pairs(ctx: &mut Ctx<'_>, request: &Request<'_>) {
    for at in (1..request.len()).step_by(2) {
        put(ctx, &request.key(at), request.arg(at + 1), NewExpiry::None);
    }
}

/// Which command's options are read: each has one that the other has not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Set,
    Getex,
}

/// When SET stores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Missing,
    Present,
}

impl Condition {
    fn is_met(self, ctx: &mut Ctx<'_>, key: &Key<'_>) -> bool {
        match self {
            Condition::Always => true,
            Condition::Missing => !ctx.keyspace[ctx.db].contains(key),
            Condition::Present => ctx.keyspace[ctx.db].contains(key),
        }
    }
}

/// How long the key is to live.
#[derive(Clone, Copy)]
enum Lifetime<'a> {
    Unsaid,
    Keep,
    Persist,
    Until(TimeForm, &'a [u8]),
}

/// How a time is spelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeForm {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl TimeForm {
    fn named(word: &[u8]) -> Option<Self> {
        let forms =
            [("ex", Self::Ex), ("px", Self::Px), ("exat", Self::ExAt), ("pxat", Self::PxAt)];
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        forms.into_iter().find(|(name, _)| is(name)).map(|(_, form)| form)
    }

    /// The unix time in ms that `text` means in this form.
    fn deadline(self, text: &[u8], now_ms: i64, command: &str) -> CommandResult<i64> {
        let time = parse_i64(text).ok_or(CommandError::NotInteger)?;
        let milliseconds = match self {
            Self::Ex | Self::ExAt => time.checked_mul(1000),
            Self::Px | Self::PxAt => Some(time),
        };
        let at = match self {
            Self::Ex | Self::Px => milliseconds.and_then(|time| time.checked_add(now_ms)),
            Self::ExAt | Self::PxAt => milliseconds,
        };
        at.filter(|_| time > 0).ok_or_else(|| {
            CommandError::owned(format!("ERR invalid expire time in '{command}' command"))
        })
    }
}

/// The options of SET and GETEX.
struct Options<'a> {
    condition: Condition,
    get: bool,
    lifetime: Lifetime<'a>,
}

impl<'a> Options<'a> {
    /// Reads the options from argument `from` on. An option may be repeated; ones that contradict
    /// each other are a syntax error.
    fn parse(request: &Request<'a>, from: usize, command: For) -> CommandResult<Self> {
        let mut options =
            Self { condition: Condition::Always, get: false, lifetime: Lifetime::Unsaid };
        let mut words = request.rest(from).iter();
        while let Some(word) = words.next() {
            if let Some(form) = TimeForm::named(word) {
                let time = words.next().ok_or(CommandError::Syntax)?;
                options.set_time(form, time)?;
            } else {
                options.set_flag(word, command)?;
            }
        }
        Ok(options)
    }

    fn set_time(&mut self, form: TimeForm, time: &'a [u8]) -> CommandResult {
        match self.lifetime {
            Lifetime::Unsaid => {}
            Lifetime::Until(before, _) if before == form => {}
            _ => return Err(CommandError::Syntax),
        }
        self.lifetime = Lifetime::Until(form, time);
        Ok(())
    }

    fn set_flag(&mut self, word: &[u8], command: For) -> CommandResult {
        match (word.to_ascii_lowercase().as_slice(), command, self.condition, self.lifetime) {
            (b"nx", For::Set, Condition::Always | Condition::Missing, _) => {
                self.condition = Condition::Missing;
            }
            (b"xx", For::Set, Condition::Always | Condition::Present, _) => {
                self.condition = Condition::Present;
            }
            (b"get", For::Set, _, _) => self.get = true,
            (b"keepttl", For::Set, _, Lifetime::Unsaid | Lifetime::Keep) => {
                self.lifetime = Lifetime::Keep;
            }
            (b"persist", For::Getex, _, Lifetime::Unsaid | Lifetime::Persist) => {
                self.lifetime = Lifetime::Persist;
            }
            _ => return Err(CommandError::Syntax),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn get_answers_null_for_what_is_not_there() {
        let mut shard = TestShard::new();
        assert_eq!(shard.run("GET nothing"), "$-1\r\n");
        assert_eq!(shard.run("GET"), "-ERR wrong number of arguments for 'get' command\r\n");
    }

    #[test]
    fn set_stores_by_its_options() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("SET k 1 XX", "$-1\r\n"),
            ("SET k 1 NX GET", "$-1\r\n"),
            ("SET k 2 NX GET", "$1\r\n1\r\n"),
            ("SET k 2 NX", "$-1\r\n"),
            ("GET k", "$1\r\n1\r\n"),
            ("SET k a XX EX 10 EX 20", "+OK\r\n"),
            ("SET k b KEEPTTL GET", "$1\r\na\r\n"),
            ("SET k c EX 1 PX 1", "-ERR syntax error\r\n"),
            ("SET k c NX XX", "-ERR syntax error\r\n"),
            ("SET k c PERSIST", "-ERR syntax error\r\n"),
            ("SET k c EX", "-ERR syntax error\r\n"),
            ("SET k c EX 0", "-ERR invalid expire time in 'set' command\r\n"),
            ("SETEX k 9223372036854775807 c", "-ERR invalid expire time in 'setex' command\r\n"),
            ("PSETEX k 9223372036854775807 c", "-ERR invalid expire time in 'psetex' command\r\n"),
            ("SET k c EX x", "-ERR value is not an integer or out of range\r\n"),
            ("MSETNX z 1 k 2", ":0\r\n"),
            ("MSET z 1 k", "-ERR wrong number of arguments for 'mset' command\r\n"),
            ("MGET z k", "*2\r\n$-1\r\n$1\r\nb\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn expiry_comes_and_goes_with_set_and_getex() {
        let mut shard = TestShard::new();
        let now = shard.keyspace.now_ms();
        let expiry = |shard: &TestShard| {
            let key = crate::keyspace::Key::new(b"k");
            shard.keyspace[0].peek(&key).map(|entry| entry.expiry())
        };
        for (command, expected) in [
            ("SET k v EX 10", Some(Some(now + 10_000))),
            ("SET k v KEEPTTL", Some(Some(now + 10_000))),
            ("SET k v", Some(None)),
            ("GETEX k PX 5", Some(Some(now + 5))),
            ("GETEX k", Some(Some(now + 5))),
            ("GETEX k PERSIST", Some(None)),
            ("GETEX k EXAT 33177117420", Some(Some(33_177_117_420_000))),
            ("GETSET k v", Some(None)),
            ("PSETEX k 7 v", Some(Some(now + 7))),
            ("GETEX k PXAT 1", None),
            ("SET k v PXAT 1", None),
        ] {
            shard.run(command);
            assert_eq!(expiry(&shard), expected, "{command}");
        }
    }

    #[test]
    fn a_command_that_changes_nothing_says_nothing() {
        let mut shard = TestShard::new();
        shard.check_changes(&[
            ("SET k v", 1),
            ("SET k v NX", 0),
            ("SETNX k v", 0),
            ("GETDEL nothing", 0),
            ("GETEX k", 0),
            ("GETEX k PERSIST", 0),
            ("GETEX k EX 10", 1),
            ("GETEX k PERSIST", 1),
            ("MSET a 1 b 2", 2),
            ("MSETNX a 1 c 2", 0),
            ("GETDEL k", 1),
        ]);
    }

    #[test]
    fn what_depends_on_the_time_is_recorded_without_it() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("set k v nx", "set k v nx"),
            ("SET k v XX EX 10", "SET k v PXAT 1700000010000"),
            ("SET k v PXAT 33177117420000 GET", "SET k v PXAT 33177117420000 GET"),
            ("SET k get GET KEEPTTL get", "SET k get KEEPTTL"),
            ("SET k v NX GET", ""),
            ("SETEX k 10 v", "SET k v PXAT 1700000010000"),
            ("PSETEX k 10 v", "SET k v PXAT 1700000000010"),
            ("getset k w", "SET k w"),
            ("GETEX k", ""),
            ("GETEX k PX 5", "PEXPIREAT k 1700000000005"),
            ("GETEX k PERSIST", "PERSIST k"),
            ("GETEX k PERSIST", ""),
            ("GETEX k PXAT 1", "DEL k"),
            ("GETDEL k", ""),
            ("SET k v", "SET k v"),
            ("GETDEL k", "DEL k"),
        ]);
        shard.config.lazyfree_lazy_user_del = true;
        shard.check_effects(&[("SETNX k v", "SETNX k v"), ("GETDEL k", "UNLINK k")]);
        shard.config.lazyfree_lazy_expire = true;
        shard.check_effects(&[("SETNX k v", "SETNX k v"), ("GETEX k EXAT 1", "UNLINK k")]);
    }
}
