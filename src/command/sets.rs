//! Sets: SADD, SPOP and their kin. What works on several sets at once is in `sets_algebra.rs`.

use super::collection::{
    ScanOptions, bulk_element, integer, random_count, scan_cursor, scan_reply, update_or_create,
};
use super::random::{Draws, REPEATED_DRAWS_MAX, draw_distinct, draws_pay_off, pick};
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::listpack::Element;
use crate::datatypes::set::{Set, SetLimits};
use crate::keyspace::{Collection, Key, NewExpiry};
use crate::resp::Reply;

const OUT_OF_RANGE: CommandError = CommandError::text("ERR value is out of range");

/// SPOP with a count moves what remains to a new set when that is less than this part of what goes
/// (Redis 7.0 `t_set.c`, SPOP_MOVE_STRATEGY_MUL). It shows: the new set may be an intset again.
const POP_MOVE_SHARE: usize = 5;

/// Where SMOVE has its keys.
const KEYS_MOVE: &[KeySpec] = &[
    KeySpec::one(1, Access::ReadWrite, &["ACCESS", "DELETE"]),
    KeySpec::one(2, Access::ReadWrite, &["INSERT"]),
];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "sadd", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Set, keys: KEY_INSERT, categories: &[], run: Run::Data(sadd) },
    Command { name: "srem", arity: Arity::AtLeast(3), flags: WRITE.with(FAST), group: Group::Set, keys: KEY_DELETE, categories: &[], run: Run::Data(srem) },
    Command { name: "smove", arity: Arity::Exactly(4), flags: WRITE.with(FAST), group: Group::Set, keys: KEYS_MOVE, categories: &[], run: Run::Data(smove) },
    Command { name: "sismember", arity: Arity::Exactly(3), flags: READONLY.with(FAST), group: Group::Set, keys: KEY_LOOK, categories: &[], run: Run::Data(sismember) },
    Command { name: "smismember", arity: Arity::AtLeast(3), flags: READONLY.with(FAST), group: Group::Set, keys: KEY_READ, categories: &[], run: Run::Data(smismember) },
    Command { name: "scard", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::Set, keys: KEY_LOOK, categories: &[], run: Run::Data(scard) },
    Command { name: "smembers", arity: Arity::Exactly(2), flags: READONLY, group: Group::Set, keys: KEY_READ, categories: &[], run: Run::Data(smembers) },
    Command { name: "spop", arity: Arity::AtLeast(2), flags: WRITE.with(FAST), group: Group::Set, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(spop) },
    Command { name: "srandmember", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Set, keys: KEY_READ, categories: &[], run: Run::Data(srandmember) },
    Command { name: "sscan", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Set, keys: KEY_READ, categories: &[], run: Run::Data(sscan) },
];

pub(super) fn limits(ctx: &Ctx<'_>) -> SetLimits {
    SetLimits { intset_entries_max: ctx.config.set_max_intset_entries }
}

/// The set at the first argument, as a command reads it.
fn read<'c>(ctx: &'c mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Option<&'c Set>> {
    Ok(ctx.keyspace[ctx.db].read_as::<Set>(&request.key(1))?)
}

// ---- members ----

/// SADD key member [member …]
fn sadd(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (key, limits) = (request.key(1), limits(ctx));
    let added = update_or_create(&mut ctx.keyspace[ctx.db], &key, |set: &mut Set| {
        request.rest(2).iter().filter(|member| set.insert(member, limits)).count()
    })?;
    if added > 0 {
        ctx.changed(&key, Class::Set, "sadd");
        ctx.changes.dirty += added as u64 - 1;
    }
    reply.integer(added as i64);
    Ok(())
}

/// SREM key member [member …]
fn srem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let removed = match ctx.keyspace[ctx.db].get_mut::<Set>(&key)? {
        Some(set) => request.rest(2).iter().filter(|member| set.remove(member)).count(),
        None => 0,
    };
    if removed > 0 {
        ctx.changed(&key, Class::Set, "srem");
        ctx.changes.dirty += removed as u64 - 1;
        remove_if_empty(ctx, &key);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// After members of the set at `key` went: without members there is no key.
fn remove_if_empty(ctx: &mut Ctx<'_>, key: &Key<'_>) {
    let db = &mut ctx.keyspace[ctx.db];
    if matches!(db.peek_as::<Set>(key), Ok(Some(set)) if set.is_empty()) {
        db.remove(key);
        ctx.notify(key, Class::Generic, "del");
    }
}

/// SMOVE source destination member
fn smove(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (source, destination, member) = (request.key(1), request.key(2), request.arg(3));
    let limits = limits(ctx);
    let db = &mut ctx.keyspace[ctx.db];
    let Some(set) = db.get_mut::<Set>(&source)? else {
        reply.integer(0);
        return Ok(());
    };
    let is_member = set.contains(member);
    db.get_mut::<Set>(&destination)?;
    if is_member && source.bytes != destination.bytes {
        if let Some(set) = db.get_mut::<Set>(&source)? {
            set.remove(member);
        }
        let is_new =
            update_or_create(db, &destination, |set: &mut Set| set.insert(member, limits))?;
        ctx.changed(&source, Class::Set, "srem");
        remove_if_empty(ctx, &source);
        if is_new {
            ctx.changed(&destination, Class::Set, "sadd");
        }
    }
    reply.integer(i64::from(is_member));
    Ok(())
}

/// SISMEMBER key member
fn sismember(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let is_member = read(ctx, request)?.is_some_and(|set| set.contains(request.arg(2)));
    reply.integer(i64::from(is_member));
    Ok(())
}

/// SMISMEMBER key member [member …]
fn smismember(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (set, members) = (read(ctx, request)?, request.rest(2));
    reply.array(members.len());
    for member in members {
        reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

/// SCARD key
fn scard(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.integer(read(ctx, request)?.map_or(0, Set::len) as i64);
    Ok(())
}

/// SMEMBERS key
fn smembers(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let set = read(ctx, request)?;
    reply.set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| bulk_element(reply, member));
    Ok(())
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
fn sscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let cursor = scan_cursor(request.arg(2))?;
    let Some(set) = read(ctx, request)? else {
        scan_reply(reply, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(request, 3)?;
    scan_reply(reply, |reply| {
        let mut written = 0;
        let next = set.scan(cursor, options.count, |member| {
            if options.matches(member) {
                bulk_element(reply, member);
                written += 1;
            }
        });
        (next, written)
    });
    Ok(())
}

// ---- random members ----

/// SPOP key [count]
fn spop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    match request.len() {
        2 => pop_one(ctx, request, reply),
        3 => pop_several(ctx, request, reply),
        _ => Err(CommandError::Syntax),
    }
}

fn pop_one(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (key, mut draws) = (request.key(1), Draws::new(ctx.keyspace.draw()));
    let set = ctx.keyspace[ctx.db].get_mut::<Set>(&key)?;
    let Some(member) = set.and_then(|set| set.pop_random(|| draws.draw())) else {
        reply.null();
        return Ok(());
    };
    bulk_element(reply, member.as_element());
    let mut digits = itoa::Buffer::new();
    ctx.instead(&[b"SREM", key.bytes, member.as_element().as_bytes(&mut digits)]);
    ctx.changed(&key, Class::Set, "spop");
    remove_if_empty(ctx, &key);
    Ok(())
}

fn pop_several(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let count = integer(request.arg(2)).ok().and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or(CommandError::OutOfRangePositive)?;
    let (key, limits) = (request.key(1), limits(ctx));
    let mut draws = Draws::new(ctx.keyspace.draw());
    let db = &mut ctx.keyspace[ctx.db];
    let Some(set) = db.get_mut::<Set>(&key)?.filter(|_| count > 0) else {
        reply.set(0);
        return Ok(());
    };
    let popped = count.min(set.len());
    let remaining = set.len() - popped;
    reply.set(popped);
    let mut take = |member: Element<'_>| {
        bulk_element(reply, member);
        if remaining > 0 {
            let mut digits = itoa::Buffer::new();
            let word = member.as_bytes(&mut digits);
            ctx.journal.instead(ctx.db, &[b"SREM", key.bytes, word]);
        }
    };
    if remaining == 0 {
        set.iter().for_each(&mut take);
        db.remove(&key);
        ctx.journal.instead(ctx.db, &[b"DEL", key.bytes]);
    } else if remaining.saturating_mul(POP_MOVE_SHARE) > count {
        for member in (0..count).filter_map(|_| set.pop_random(|| draws.draw())) {
            take(member.as_element());
        }
    } else {
        let mut rest = Set::default();
        for member in (0..remaining).filter_map(|_| set.pop_random(|| draws.draw())) {
            rest.insert_element(member.as_element(), limits);
        }
        set.iter().for_each(&mut take);
        // Not `*set = rest`: the keyspace frees what was there in slices.
        db.set(&key, rest.into_value(), NewExpiry::Keep);
    }
    ctx.changed(&key, Class::Set, "spop");
    ctx.changes.dirty += popped as u64 - 1;
    if remaining == 0 {
        ctx.notify(&key, Class::Generic, "del");
    }
    Ok(())
}

/// SRANDMEMBER key [count]
fn srandmember(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let mut draws = Draws::new(ctx.keyspace.draw());
    if request.len() == 2 {
        match read(ctx, request)?.and_then(|set| set.random(|| draws.draw())) {
            Some(member) => bulk_element(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    if request.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = random_count(request.arg(2))?;
    let Some(set) = read(ctx, request)? else {
        reply.array(0);
        return Ok(());
    };
    if count >= 0 {
        let members = distinct_members(set, count as usize, &mut draws);
        reply.array(members.len());
        members.into_iter().for_each(|member| bulk_element(reply, member));
        return Ok(());
    }
    if count.unsigned_abs() > REPEATED_DRAWS_MAX {
        return Err(OUT_OF_RANGE);
    }
    reply.array(count.unsigned_abs() as usize);
    for _ in 0..count.unsigned_abs() {
        if let Some(member) = set.random(|| draws.draw()) {
            bulk_element(reply, member);
        }
    }
    Ok(())
}

fn distinct_members<'s>(set: &'s Set, count: usize, draws: &mut Draws) -> Vec<Element<'s>> {
    let len = set.len();
    if set.as_intset().is_some() || !draws_pay_off(count, len) {
        return pick(set.iter(), len, count, draws);
    }
    draw_distinct(count, || match set.random(|| draws.draw())? {
        member @ Element::Bytes(text) => Some((text, member)),
        // Members of a table are bytes.
        Element::Int(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn members_come_and_go_and_the_last_one_takes_the_key() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("SADD s 3 1 2 1", ":3\r\n"),
            ("SMEMBERS s", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
            ("SMOVE s t 2", ":1\r\n"),
            ("SMOVE s t 2", ":0\r\n"),
            ("SMISMEMBER t 2 3", "*2\r\n:1\r\n:0\r\n"),
            ("SREM s 1 3 9", ":2\r\n"),
            ("SCARD s", ":0\r\n"),
            ("SPOP t", "$1\r\n2\r\n"),
            ("SPOP t", "$-1\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.keyspace[0].len(), 0);
    }

    #[test]
    fn dirty_counts_what_redis_counts() {
        let mut shard = TestShard::new();
        shard.check_changes(&[
            ("SADD s a b c d e f", 6),
            ("SADD s a", 0),
            ("SREM s a b none", 2),
            ("SMOVE s t c", 2),
            ("SMOVE s s d", 0),
            ("SPOP s 2", 2),
            ("SPOP s 5", 1),
            ("SPOP t", 1),
            ("SPOP t", 0),
        ]);
    }

    #[test]
    fn a_count_that_repeats_is_bounded() {
        let mut shard = TestShard::new();
        shard.run("SADD s a");
        assert_eq!(shard.run("SRANDMEMBER s -20000000"), "-ERR value is out of range\r\n");
        assert!(shard.run("SRANDMEMBER s -1000").starts_with("*1000\r\n"));
    }

    #[test]
    fn spop_of_most_members_keeps_the_expiry() {
        let mut shard = TestShard::new();
        let words: Vec<String> = (0..600).map(|number| number.to_string()).collect();
        shard.run(&format!("SADD s {}", words.join(" ")));
        let key = crate::keyspace::Key::new(b"s");
        let later = shard.keyspace.now_ms() + 1000;
        shard.keyspace[0].set_expiry(&key, Some(later));
        assert!(shard.run("SPOP s 590").starts_with("*590\r\n"));
        let entry = shard.keyspace[0].peek(&key).expect("ten members are left");
        assert_eq!(entry.expiry(), Some(later));
    }

    #[test]
    fn popped_members_are_recorded_by_name() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("SADD s a", "SADD s a"),
            ("SPOP s", "SREM s a"),
            ("SPOP s", ""),
            ("SADD s 7", "SADD s 7"),
            ("SPOP s 1", "DEL s"),
            ("SPOP s 1", ""),
            ("SADD s 7 8", "SADD s 7 8"),
            ("SPOP s 0", ""),
            ("SPOP s 5", "DEL s"),
        ]);
        for pops in [2, 9] {
            shard.run("SADD s a b c d e f g h i j");
            let effects = shard.effects(&format!("SPOP s {pops}"));
            let members = effects.strip_prefix("MULTI; SREM s ").unwrap().strip_suffix("; EXEC");
            let members: Vec<&str> = members.unwrap().split("; SREM s ").collect();
            assert_eq!(members.len(), pops, "{effects}");
            for member in members {
                assert_eq!(shard.run(&format!("SISMEMBER s {member}")), ":0\r\n", "{effects}");
            }
            assert_eq!(shard.run("SCARD s"), format!(":{}\r\n", 10 - pops));
        }
    }
}
