//! Strings that are numbers: INCR and its kin.
//!
//! An integer is kept as one and changed in place. INCRBYFLOAT computes in the 80-bit format of
//! x86, as Redis does, because its digits are part of the reply.

use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::long_double::LongDouble;
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Entry, StrRef, Value, ValueRef};
use crate::resp::Reply;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "incr", arity: Arity::Exactly(2), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(incr) },
    Command { name: "decr", arity: Arity::Exactly(2), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(decr) },
    Command { name: "incrby", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(incrby) },
    Command { name: "decrby", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(decrby) },
    Command { name: "incrbyfloat", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(incrbyfloat) },
];

/// INCR key
fn incr(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    add(ctx, request, reply, 1)
}

/// DECR key
fn decr(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    add(ctx, request, reply, -1)
}

/// INCRBY key increment
fn incrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let increment = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    add(ctx, request, reply, increment)
}

/// DECRBY key decrement
fn decrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let decrement = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    let increment =
        decrement.checked_neg().ok_or(CommandError::text("ERR decrement would overflow"))?;
    add(ctx, request, reply, increment)
}

fn add(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    increment: i64,
) -> CommandResult {
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let sum = match db.entry_mut(&key) {
        Some(entry) => {
            let sum = integer_in(entry)?
                .checked_add(increment)
                .ok_or(CommandError::text("ERR increment or decrement would overflow"))?;
            entry.replace_int(sum);
            sum
        }
        None => {
            db.insert(&key, Value::Int(increment), None);
            increment
        }
    };
    ctx.changed(&key, Class::String, "incrby");
    reply.integer(sum);
    Ok(())
}

fn integer_in(entry: &Entry) -> CommandResult<i64> {
    match entry.value() {
        ValueRef::Str(StrRef::Int(number)) => Ok(number),
        ValueRef::Str(StrRef::Bytes(text)) => parse_i64(text).ok_or(CommandError::NotInteger),
        _ => Err(CommandError::WrongType),
    }
}

/// INCRBYFLOAT key increment
fn incrbyfloat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let mut text = Vec::new();
    match db.entry_mut(&key) {
        Some(entry) => {
            let ValueRef::Str(old) = entry.value() else { return Err(CommandError::WrongType) };
            append_sum(old.as_bytes(&mut itoa::Buffer::new()), request.arg(2), &mut text)?;
            entry.replace_string(&text);
        }
        None => {
            append_sum(b"0", request.arg(2), &mut text)?;
            // Text even where it looks like an integer: OBJECT ENCODING says embstr, as in Redis.
            db.insert(&key, Value::Str(text.clone()), None);
        }
    }
    ctx.changed(&key, Class::String, "incrbyfloat");
    // Replicas may compute with other floating point numbers.
    ctx.instead(&[b"SET", key.bytes, &text, b"KEEPTTL"]);
    reply.bulk(&text);
    Ok(())
}

fn append_sum(old: &[u8], increment: &[u8], text: &mut Vec<u8>) -> CommandResult {
    let old = LongDouble::parse(old).ok_or(CommandError::NotFloat)?;
    let increment = LongDouble::parse(increment).ok_or(CommandError::NotFloat)?;
    let sum = old
        .checked_add(increment)
        .ok_or(CommandError::text("ERR increment would produce NaN or Infinity"))?;
    sum.format(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn integers_are_added_up_to_their_limits() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("INCR k", ":1\r\n"),
            ("DECRBY k 5", ":-4\r\n"),
            ("DECR k", ":-5\r\n"),
            ("INCRBY k 9223372036854775807", ":9223372036854775802\r\n"),
            ("INCRBY k 6", "-ERR increment or decrement would overflow\r\n"),
            ("DECRBY k -9223372036854775808", "-ERR decrement would overflow\r\n"),
            ("INCRBY k x", "-ERR value is not an integer or out of range\r\n"),
            ("SET k 07", "+OK\r\n"),
            ("INCR k", "-ERR value is not an integer or out of range\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn floats_are_added_in_long_double() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("INCRBYFLOAT f 3.0", "$1\r\n3\r\n"),
            ("INCRBYFLOAT f 1.1e0", "$3\r\n4.1\r\n"),
            ("INCRBYFLOAT f -4.1", "$1\r\n0\r\n"),
            ("INCR f", ":1\r\n"),
            ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n"),
            ("INCRBYFLOAT f x", "-ERR value is not a valid float\r\n"),
            ("SET f x", "+OK\r\n"),
            ("INCRBYFLOAT f 1", "-ERR value is not a valid float\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn a_sum_of_floats_is_recorded_as_its_digits() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("incrby n 5", "incrby n 5"),
            ("incrbyfloat n 0.5", "SET n 5.5 KEEPTTL"),
            ("INCRBYFLOAT n 0", "SET n 5.5 KEEPTTL"),
            ("INCRBYFLOAT n x", ""),
            ("INCR n", ""),
        ]);
    }
}
