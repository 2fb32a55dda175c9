//! Hashes: HSET, HGET and their kin.

use super::collection::{
    ScanOptions, bulk_element, integer, random_count, scan_cursor, scan_reply, update_or_create,
};
use super::random::{Draws, REPEATED_DRAWS_MAX, draw_distinct, draws_pay_off, pick};
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::hash::{Entry, Hash, HashLimits};
use crate::datatypes::listpack::Element;
use crate::datatypes::long_double::LongDouble;
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;

const NOT_INTEGER: CommandError = CommandError::text("ERR hash value is not an integer");
const NOT_FLOAT: CommandError = CommandError::text("ERR hash value is not a float");
const OVERFLOW: CommandError = CommandError::text("ERR increment or decrement would overflow");
const INFINITE: CommandError = CommandError::text("ERR value is NaN or Infinity");
const INFINITE_SUM: CommandError =
    CommandError::text("ERR increment would produce NaN or Infinity");
const OUT_OF_RANGE: CommandError = CommandError::text("ERR value is out of range");

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "hset", arity: Arity::AtLeast(4), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Hash, keys: KEY_UPDATE, categories: &[], run: Run::Data(hset) },
    Command { name: "hsetnx", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Hash, keys: KEY_INSERT, categories: &[], run: Run::Data(hsetnx) },
    Command { name: "hmset", arity: Arity::AtLeast(4), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Hash, keys: KEY_UPDATE, categories: &[], run: Run::Data(hmset) },
    Command { name: "hget", arity: Arity::Exactly(3), flags: READONLY.with(FAST), group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hget) },
    Command { name: "hmget", arity: Arity::AtLeast(3), flags: READONLY.with(FAST), group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hmget) },
    Command { name: "hdel", arity: Arity::AtLeast(3), flags: WRITE.with(FAST), group: Group::Hash, keys: KEY_DELETE, categories: &[], run: Run::Data(hdel) },
    Command { name: "hlen", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::Hash, keys: KEY_LOOK, categories: &[], run: Run::Data(hlen) },
    Command { name: "hstrlen", arity: Arity::Exactly(3), flags: READONLY.with(FAST), group: Group::Hash, keys: KEY_LOOK, categories: &[], run: Run::Data(hstrlen) },
    Command { name: "hexists", arity: Arity::Exactly(3), flags: READONLY.with(FAST), group: Group::Hash, keys: KEY_LOOK, categories: &[], run: Run::Data(hexists) },
    Command { name: "hkeys", arity: Arity::Exactly(2), flags: READONLY, group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hkeys) },
    Command { name: "hvals", arity: Arity::Exactly(2), flags: READONLY, group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hvals) },
    Command { name: "hgetall", arity: Arity::Exactly(2), flags: READONLY, group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hgetall) },
    Command { name: "hincrby", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Hash, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(hincrby) },
    Command { name: "hincrbyfloat", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM).with(FAST), group: Group::Hash, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(hincrbyfloat) },
    Command { name: "hrandfield", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hrandfield) },
    Command { name: "hscan", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Hash, keys: KEY_READ, categories: &[], run: Run::Data(hscan) },
];

fn limits(ctx: &Ctx<'_>) -> HashLimits {
    HashLimits {
        listpack_entries_max: ctx.config.hash_max_listpack_entries,
        listpack_value_bytes_max: ctx.config.hash_max_listpack_value,
    }
}

/// The hash at the first argument, as a command reads it.
fn read<'c>(ctx: &'c mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Option<&'c Hash>> {
    Ok(ctx.keyspace[ctx.db].read_as::<Hash>(&request.key(1))?)
}

// ---- writing ----

/// HSET key field value [field value …]
fn hset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let created = set_fields(ctx, request, "hset")?;
    reply.integer(created as i64);
    Ok(())
}

/// HMSET key field value [field value …]
fn hmset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    set_fields(ctx, request, "hmset")?;
    reply.ok();
    Ok(())
}

/// Sets all pairs of the arguments and counts the new fields.
fn set_fields(ctx: &mut Ctx<'_>, request: &Request<'_>, name: &str) -> CommandResult<usize> {
    let pairs = request.rest(2).chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(CommandError::WrongArity(name.to_owned()));
    }
    let (key, limits, written) = (request.key(1), limits(ctx), pairs.len());
    let created = update_or_create(&mut ctx.keyspace[ctx.db], &key, |hash: &mut Hash| {
        pairs.filter(|pair| hash.set(pair[0], pair[1], limits)).count()
    })?;
    ctx.changed(&key, Class::Hash, "hset");
    ctx.changes.dirty += written as u64 - 1;
    Ok(created)
}

/// HSETNX key field value
fn hsetnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (key, field, value) = (request.key(1), request.arg(2), request.arg(3));
    let limits = limits(ctx);
    // The field is looked for first: a value too long for a listpack must not convert in vain.
    let is_new = update_or_create(&mut ctx.keyspace[ctx.db], &key, |hash: &mut Hash| {
        !hash.contains(field) && hash.set(field, value, limits)
    })?;
    if is_new {
        ctx.changed(&key, Class::Hash, "hset");
    }
    reply.integer(i64::from(is_new));
    Ok(())
}

/// HDEL key field [field …]
fn hdel(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let (removed, is_empty) = match db.get_mut::<Hash>(&key)? {
        Some(hash) => {
            let removed = request.rest(2).iter().filter(|field| hash.remove(field)).count();
            (removed, hash.is_empty())
        }
        None => (0, false),
    };
    if is_empty {
        db.remove(&key);
    }
    if removed > 0 {
        ctx.changed(&key, Class::Hash, "hdel");
        ctx.changes.dirty += removed as u64 - 1;
    }
    if is_empty {
        ctx.notify(&key, Class::Generic, "del");
    }
    reply.integer(removed as i64);
    Ok(())
}

/// HINCRBY key field increment
fn hincrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (key, field) = (request.key(1), request.arg(2));
    let increment = integer(request.arg(3))?;
    let limits = limits(ctx);
    let sum = update_or_create(&mut ctx.keyspace[ctx.db], &key, |hash: &mut Hash| {
        let value = match hash.get(field) {
            None => 0,
            Some(Element::Int(value)) => value,
            Some(Element::Bytes(text)) => parse_i64(text).ok_or(NOT_INTEGER)?,
        };
        let sum = value.checked_add(increment).ok_or(OVERFLOW)?;
        hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), limits);
        CommandResult::Ok(sum)
    })??;
    ctx.changed(&key, Class::Hash, "hincrby");
    reply.integer(sum);
    Ok(())
}

/// HINCRBYFLOAT key field increment
fn hincrbyfloat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (key, field) = (request.key(1), request.arg(2));
    let increment = LongDouble::parse(request.arg(3)).ok_or(CommandError::NotFloat)?;
    if increment.is_infinite() {
        return Err(INFINITE);
    }
    let limits = limits(ctx);
    let sum = update_or_create(&mut ctx.keyspace[ctx.db], &key, |hash: &mut Hash| {
        let text = hash.get(field).map_or_else(|| b"0".to_vec(), |value| value.to_vec());
        let value = LongDouble::parse(&text).ok_or(NOT_FLOAT)?;
        let mut sum = Vec::new();
        value.checked_add(increment).ok_or(INFINITE_SUM)?.format(&mut sum);
        hash.set(field, &sum, limits);
        CommandResult::Ok(sum)
    })??;
    ctx.changed(&key, Class::Hash, "hincrbyfloat");
    // Replicas may compute with other floating point numbers.
    ctx.instead(&[b"HSET", key.bytes, field, &sum]);
    reply.bulk(&sum);
    Ok(())
}

// ---- reading ----

fn value_or_null(reply: &mut Reply<'_>, value: Option<Element<'_>>) {
    match value {
        Some(value) => bulk_element(reply, value),
        None => reply.null(),
    }
}

/// HGET key field
fn hget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let hash = read(ctx, request)?;
    value_or_null(reply, hash.and_then(|hash| hash.get(request.arg(2))));
    Ok(())
}

/// HMGET key field [field …]
fn hmget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (hash, fields) = (read(ctx, request)?, request.rest(2));
    reply.array(fields.len());
    for field in fields {
        value_or_null(reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

/// HLEN key
fn hlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.integer(read(ctx, request)?.map_or(0, Hash::len) as i64);
    Ok(())
}

/// HSTRLEN key field
fn hstrlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let value = read(ctx, request)?.and_then(|hash| hash.get(request.arg(2)));
    reply.integer(value.map_or(0, |value| value.len()) as i64);
    Ok(())
}

/// HEXISTS key field
fn hexists(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let exists = read(ctx, request)?.is_some_and(|hash| hash.contains(request.arg(2)));
    reply.integer(i64::from(exists));
    Ok(())
}

/// HKEYS key
fn hkeys(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let hash = read(ctx, request)?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| bulk_element(reply, field));
    Ok(())
}

/// HVALS key
fn hvals(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let hash = read(ctx, request)?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| bulk_element(reply, value));
    Ok(())
}

/// HGETALL key
fn hgetall(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let hash = read(ctx, request)?;
    reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        bulk_element(reply, field);
        bulk_element(reply, value);
    }
    Ok(())
}

/// HSCAN key cursor [MATCH pattern] [COUNT count]
fn hscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let cursor = scan_cursor(request.arg(2))?;
    let Some(hash) = read(ctx, request)? else {
        scan_reply(reply, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(request, 3)?;
    scan_reply(reply, |reply| {
        let mut written = 0;
        let next = hash.scan(cursor, options.count, |(field, value)| {
            if options.matches(field) {
                bulk_element(reply, field);
                bulk_element(reply, value);
                written += 2;
            }
        });
        (next, written)
    });
    Ok(())
}

// ---- random fields ----

/// HRANDFIELD key [count [WITHVALUES]]
fn hrandfield(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let mut draws = Draws::new(ctx.keyspace.draw());
    if request.len() == 2 {
        let field = read(ctx, request)?.and_then(|hash| hash.random(|| draws.draw()));
        value_or_null(reply, field.map(|(field, _)| field));
        return Ok(());
    }
    let count = random_count(request.arg(2))?;
    let with_values = request.is_word(3, "withvalues");
    if request.len() > 4 || (request.len() == 4 && !with_values) {
        return Err(CommandError::Syntax);
    }
    // In RESP2 the reply has two elements per field, which must not overflow.
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(OUT_OF_RANGE);
    }
    let Some(hash) = read(ctx, request)? else {
        reply.array(0);
        return Ok(());
    };
    if count >= 0 {
        let entries = distinct_entries(hash, count as usize, &mut draws);
        open_entries(reply, entries.len(), with_values);
        entries.into_iter().for_each(|entry| write_entry(reply, entry, with_values));
        return Ok(());
    }
    if count.unsigned_abs() > REPEATED_DRAWS_MAX {
        return Err(OUT_OF_RANGE);
    }
    let count = count.unsigned_abs() as usize;
    open_entries(reply, count, with_values);
    for _ in 0..count {
        if let Some(entry) = hash.random(|| draws.draw()) {
            write_entry(reply, entry, with_values);
        }
    }
    Ok(())
}

fn distinct_entries<'h>(hash: &'h Hash, count: usize, draws: &mut Draws) -> Vec<Entry<'h>> {
    let len = hash.len();
    if hash.as_listpack().is_some() || !draws_pay_off(count, len) {
        return pick(hash.iter(), len, count, draws);
    }
    draw_distinct(count, || match hash.random(|| draws.draw())? {
        entry @ (Element::Bytes(field), _) => Some((field, entry)),
        // Fields of a table are bytes.
        (Element::Int(_), _) => None,
    })
}

/// Opens a reply of so many fields: in RESP3 a field with its value is an array of its own.
fn open_entries(reply: &mut Reply<'_>, count: usize, with_values: bool) {
    reply.array(if with_values && !reply.resp3() { count * 2 } else { count });
}

fn write_entry(reply: &mut Reply<'_>, (field, value): Entry<'_>, with_values: bool) {
    if with_values && reply.resp3() {
        reply.array(2);
    }
    bulk_element(reply, field);
    if with_values {
        bulk_element(reply, value);
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn fields_come_and_go_and_the_last_one_takes_the_key() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("HSET h f v g w", ":2\r\n"),
            ("HSET h f x", ":0\r\n"),
            ("HSET h f", "-ERR wrong number of arguments for 'hset' command\r\n"),
            ("HMSET h f x g", "-ERR wrong number of arguments for 'hmset' command\r\n"),
            ("HGET h f", "$1\r\nx\r\n"),
            ("HINCRBY h n 5", ":5\r\n"),
            ("HINCRBYFLOAT h n 0.5", "$3\r\n5.5\r\n"),
            ("HINCRBY h n 1", "-ERR hash value is not an integer\r\n"),
            ("HINCRBY none n x", "-ERR value is not an integer or out of range\r\n"),
            ("HLEN h", ":3\r\n"),
            ("HDEL h f g n none", ":3\r\n"),
            ("HLEN h", ":0\r\n"),
            ("HSETNX h f v", ":1\r\n"),
            ("HSETNX h f w", ":0\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.keyspace[0].len(), 1);
    }

    #[test]
    fn an_error_on_a_missing_key_leaves_no_empty_hash_behind() {
        let mut shard = TestShard::new();
        shard.run("HINCRBY none n x");
        shard.run("HINCRBYFLOAT none n inf");
        shard.run("HSET none f");
        assert_eq!((shard.keyspace[0].len(), shard.changes.dirty), (0, 0));
    }

    #[test]
    fn dirty_counts_what_redis_counts() {
        let mut shard = TestShard::new();
        shard.check_changes(&[
            ("HSET h a 1 b 2 a 3", 3),
            ("HSETNX h a 1", 0),
            ("HDEL h a b none", 2),
            ("HDEL h a", 0),
            ("HINCRBY h n 1", 1),
        ]);
    }

    #[test]
    fn a_count_that_repeats_is_bounded() {
        let mut shard = TestShard::new();
        shard.run("HSET h f v");
        assert_eq!(shard.run("HRANDFIELD h -20000000"), "-ERR value is out of range\r\n");
        assert!(shard.run("HRANDFIELD h -1000").starts_with("*1000\r\n"));
    }

    #[test]
    fn a_sum_of_floats_is_recorded_as_its_digits() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("HINCRBY h f 5", "HINCRBY h f 5"),
            ("hincrbyfloat h f 0.5", "HSET h f 5.5"),
            ("HINCRBYFLOAT h f x", ""),
        ]);
    }
}
