//! BITFIELD: integers of any width at any bit of a string, read and changed several at a time.
//!
//! All arguments are read before the first field is touched, so an error changes nothing.

use super::bits::{edit, parse_offset};
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::bitfield::{FieldType, Overflow};
use crate::datatypes::number::parse_i64;
use crate::keyspace::StrRef;
use crate::resp::Reply;

const KEY_BITFIELD: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadWrite, &["ACCESS", "UPDATE", "VARIABLE_FLAGS"])];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "bitfield", arity: Arity::AtLeast(2), flags: WRITE.with(DENYOOM), group: Group::Bitmap, keys: KEY_BITFIELD, categories: &[], run: Run::Data(bitfield) },
    Command { name: "bitfield_ro", arity: Arity::AtLeast(2), flags: READONLY.with(FAST), group: Group::Bitmap, keys: KEY_READ, categories: &[], run: Run::Data(bitfield_ro) },
];

/// What is done with a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    IncrBy(i64),
}

/// One operation of a BITFIELD.
struct Step {
    action: Action,
    field: FieldType,
    offset: usize,
    overflow: Overflow,
}

/// BITFIELD key \[GET type offset | \[OVERFLOW …\] SET type offset value | INCRBY type offset n …\]
fn bitfield(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let steps = parse(request, ctx.config.proto_max_bulk_len)?;
    let writes = steps.iter().filter(|step| step.action != Action::Get);
    let Some(last_bit) = writes.map(|step| step.offset + step.field.bits() - 1).max() else {
        return read_all(ctx, request, &steps, reply);
    };
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let changed = edit(db, &key, last_bit, |bytes, grown| {
        reply.array(steps.len());
        let changed = steps.iter().map(|step| step.run(bytes, grown, reply));
        changed.filter(|changed| *changed).count() as u64
    })?;
    if changed > 0 {
        ctx.changed(&key, Class::String, "setbit");
        ctx.changes.dirty += changed - 1; // one event, but every field counts
    }
    Ok(())
}

/// BITFIELD_RO key \[GET type offset …\]
fn bitfield_ro(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let steps = parse(request, ctx.config.proto_max_bulk_len)?;
    if steps.iter().any(|step| step.action != Action::Get) {
        return Err(CommandError::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_all(ctx, request, &steps, reply)
}

fn read_all(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    steps: &[Step],
    reply: &mut Reply<'_>,
) -> CommandResult {
    let text = ctx.keyspace[ctx.db].read_str(&request.key(1))?.unwrap_or(StrRef::Bytes(b""));
    let mut digits = itoa::Buffer::new();
    let bytes = text.as_bytes(&mut digits);
    reply.array(steps.len());
    steps.iter().for_each(|step| reply.integer(step.field.get(bytes, step.offset)));
    Ok(())
}

impl Step {
    /// Does its work, replies, and tells whether the string counts as changed by it.
    fn run(&self, bytes: &mut [u8], grown: bool, reply: &mut Reply<'_>) -> bool {
        let old = self.field.get(bytes, self.offset);
        let new = match self.action {
            Action::Get => {
                reply.integer(old);
                return false;
            }
            Action::Set(value) => self.field.fit_argument(value, self.overflow),
            Action::IncrBy(increment) => self.field.add(old, increment, self.overflow),
        };
        let Some(new) = new else {
            reply.null();
            return false;
        };
        self.field.set(bytes, self.offset, new);
        reply.integer(if matches!(self.action, Action::Set(_)) { old } else { new });
        grown || old != new
    }
}

fn parse(request: &Request<'_>, bytes_max: u64) -> CommandResult<Vec<Step>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut words = request.rest(2);
    while let [name, rest @ ..] = words {
        let (field, offset, write, rest) = match (name.to_ascii_lowercase().as_slice(), rest) {
            (b"overflow", [how, rest @ ..]) => {
                overflow = parse_overflow(how)?;
                words = rest;
                continue;
            }
            (b"get", [field, offset, rest @ ..]) => (field, offset, None, rest),
            (b"set", [field, offset, value, rest @ ..]) => {
                (field, offset, Some((Action::Set as fn(i64) -> Action, value)), rest)
            }
            (b"incrby", [field, offset, increment, rest @ ..]) => {
                (field, offset, Some((Action::IncrBy as fn(i64) -> Action, increment)), rest)
            }
            _ => return Err(CommandError::Syntax),
        };
        let field = parse_type(field)?;
        let offset = parse_offset(offset, Some(field.bits()), bytes_max)?;
        let action = match write {
            Some((action, number)) => action(parse_i64(number).ok_or(CommandError::NotInteger)?),
            None => Action::Get,
        };
        steps.push(Step { action, field, offset, overflow });
        words = rest;
    }
    Ok(steps)
}

fn parse_overflow(word: &[u8]) -> CommandResult<Overflow> {
    match word.to_ascii_lowercase().as_slice() {
        b"wrap" => Ok(Overflow::Wrap),
        b"sat" => Ok(Overflow::Saturate),
        b"fail" => Ok(Overflow::Fail),
        _ => Err(CommandError::text("ERR Invalid OVERFLOW type specified")),
    }
}

fn parse_type(word: &[u8]) -> CommandResult<FieldType> {
    let (signed, bits) = match word {
        [b'i', bits @ ..] => (true, parse_i64(bits)),
        [b'u', bits @ ..] => (false, parse_i64(bits)),
        _ => (false, None),
    };
    bits.and_then(|bits| FieldType::new(signed, bits)).ok_or(CommandError::text(
        "ERR Invalid bitfield type. Use something like i16 u8. \
         Note that u64 is not supported but i64 is.",
    ))
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn fields_are_read_set_and_incremented() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("BITFIELD k", "*0\r\n"),
            ("BITFIELD k GET u8 0", "*1\r\n:0\r\n"),
            ("BITFIELD k SET u8 #1 200 GET i8 8", "*2\r\n:0\r\n:-56\r\n"),
            ("STRLEN k", ":2\r\n"),
            ("BITFIELD k INCRBY u8 8 100", "*1\r\n:44\r\n"),
            ("BITFIELD k OVERFLOW sat INCRBY u8 8 300", "*1\r\n:255\r\n"),
            ("BITFIELD k OVERFLOW fail INCRBY u8 8 1 GET u8 8", "*2\r\n$-1\r\n:255\r\n"),
            ("BITFIELD_RO k GET u16 0", "*1\r\n:255\r\n"),
            ("BITFIELD k SET u8 0", "-ERR syntax error\r\n"),
            ("BITFIELD k OVERFLOW x", "-ERR Invalid OVERFLOW type specified\r\n"),
            ("BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
            ("BITFIELD k SET u8 0 x", "-ERR value is not an integer or out of range\r\n"),
            ("BITFIELD k GET u8 #-1", "-ERR bit offset is not an integer or out of range\r\n"),
            (
                "BITFIELD k GET u64 0",
                "-ERR Invalid bitfield type. Use something like i16 u8. \
                 Note that u64 is not supported but i64 is.\r\n",
            ),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn every_changed_field_counts_and_a_failed_one_does_not() {
        let mut shard = TestShard::new();
        shard.check_changes(&[
            ("BITFIELD k GET u8 0", 0),
            ("BITFIELD k SET u8 0 0 SET u8 8 0", 2), // the string grew
            ("BITFIELD k SET u8 0 0 SET u8 8 1", 1),
            ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 300", 0),
        ]);
    }
}
