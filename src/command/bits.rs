//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Integers inside strings
//! are in `bitfield.rs`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::byte_range::{clamp, clamp_ordered};
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::bits::{self, Operation};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Database, Key, NewExpiry, StrRef, Value};
use crate::resp::Reply;

const KEYS_BITOP: &[KeySpec] = &[
    KeySpec::one(2, Access::OverWrite, &["UPDATE"]),
    KeySpec::all(3, 1, Access::ReadOnly, &["ACCESS"]),
];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "setbit", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM), group: Group::Bitmap, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(setbit) },
    Command { name: "getbit", arity: Arity::Exactly(3), flags: READONLY.with(FAST), group: Group::Bitmap, keys: KEY_READ, categories: &[], run: Run::Data(getbit) },
    Command { name: "bitcount", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Bitmap, keys: KEY_READ, categories: &[], run: Run::Data(bitcount) },
    Command { name: "bitpos", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Bitmap, keys: KEY_READ, categories: &[], run: Run::Data(bitpos) },
    Command { name: "bitop", arity: Arity::AtLeast(4), flags: WRITE.with(DENYOOM), group: Group::Bitmap, keys: KEYS_BITOP, categories: &[], run: Run::Data(bitop) },
];

/// SETBIT key offset value
fn setbit(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let offset = parse_offset(request.arg(2), None, ctx.config.proto_max_bulk_len)?;
    let on = match parse_i64(request.arg(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(CommandError::text("ERR bit is not an integer or out of range")),
    };
    let db = &mut ctx.keyspace[ctx.db];
    let (was, changed) = edit(db, &key, offset, |bytes, grown| {
        let was = bits::set_bit(bytes, offset, on);
        (was, grown || was != on)
    })?;
    if changed {
        ctx.changed(&key, Class::String, "setbit");
    }
    reply.integer(i64::from(was));
    Ok(())
}

/// The bit offset that `text` says. `#5` is the sixth field of `field_bits` bits, where a command
/// has fields.
pub(super) fn parse_offset(
    text: &[u8],
    field_bits: Option<usize>,
    bytes_max: u64,
) -> CommandResult<usize> {
    let offset = match (text.strip_prefix(b"#"), field_bits) {
        (Some(number), Some(bits)) => {
            parse_i64(number).and_then(|number| number.checked_mul(bits as i64))
        }
        _ => parse_i64(text),
    };
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    offset
        .filter(|offset| offset / 8 < bytes_max)
        .map(|offset| offset as usize)
        .ok_or(CommandError::text("ERR bit offset is not an integer or out of range"))
}

/// Calls `change` with the string at `key`, made long enough to hold `last_bit`; it is also told
/// whether the string had to grow or to be made for that.
pub(super) fn edit<R>(
    db: &mut Database,
    key: &Key<'_>,
    last_bit: usize,
    change: impl FnOnce(&mut [u8], bool) -> R,
) -> CommandResult<R> {
    let length = last_bit / 8 + 1;
    match db.str_mut(key)? {
        Some(bytes) => {
            let grown = bytes.len() < length;
            if grown {
                bytes.resize(length, 0);
            }
            Ok(change(bytes, grown))
        }
        None => {
            let mut bytes = vec![0; length];
            let result = change(&mut bytes, true);
            db.insert(key, Value::ModifiedStr(bytes), None);
            Ok(result)
        }
    }
}

/// GETBIT key offset
fn getbit(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let offset = parse_offset(request.arg(2), None, ctx.config.proto_max_bulk_len)?;
    let text = ctx.keyspace[ctx.db].read_str(&request.key(1))?.unwrap_or(StrRef::Bytes(b""));
    let on = bits::get_bit(text.as_bytes(&mut itoa::Buffer::new()), offset);
    reply.integer(i64::from(on));
    Ok(())
}

/// BITCOUNT key \[start end \[BYTE | BIT\]\]. Redis looks at the key before the arguments: of a key
/// that is not there, anything counts 0.
fn bitcount(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let mut digits = itoa::Buffer::new();
    let text = match ctx.keyspace[ctx.db].read_str(&request.key(1))? {
        Some(text) => text.as_bytes(&mut digits),
        None => {
            reply.integer(0);
            return Ok(());
        }
    };
    let count = match request.len() {
        2 => bits::count(text),
        4 | 5 => {
            let start = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
            let end = parse_i64(request.arg(3)).ok_or(CommandError::NotInteger)?;
            // Two indexes from the end in the wrong order count 0 whatever the unit says.
            let reversed = start < 0 && end < 0 && start > end;
            let unit = if reversed { Unit::Byte } else { Unit::parse(request.get(4))? };
            let range = clamp_ordered(start, end, unit.length(text));
            range.map_or(0, |range| bits::count_range(text, unit.bits(range)))
        }
        _ => return Err(CommandError::Syntax),
    };
    reply.integer(count as i64);
    Ok(())
}

/// What the indexes of a range count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(word: Option<&[u8]>) -> CommandResult<Self> {
        match word {
            None => Ok(Self::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(Self::Byte),
            Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(Self::Bit),
            Some(_) => Err(CommandError::Syntax),
        }
    }

    fn length(self, text: &[u8]) -> usize {
        match self {
            Self::Byte => text.len(),
            Self::Bit => text.len() * 8,
        }
    }

    /// The bits that a range of this unit covers.
    fn bits(self, range: RangeInclusive<usize>) -> RangeInclusive<usize> {
        match self {
            Self::Byte => range.start() * 8..=range.end() * 8 + 7,
            Self::Bit => range,
        }
    }
}

/// BITPOS key bit \[start \[end \[BYTE | BIT\]\]\]
fn bitpos(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let on = match parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::text("ERR The bit argument must be 1 or 0.")),
    };
    let mut digits = itoa::Buffer::new();
    let text = match ctx.keyspace[ctx.db].read_str(&request.key(1))? {
        Some(text) => text.as_bytes(&mut digits),
        None => {
            // A string that is not there is zeros without end.
            reply.integer(if on { -1 } else { 0 });
            return Ok(());
        }
    };
    reply.integer(position(text, request, on)?);
    Ok(())
}

/// The offset of the first bit that is `on` in the range that the request names, or -1.
fn position(text: &[u8], request: &Request<'_>, on: bool) -> CommandResult<i64> {
    if request.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let index = |at: usize| parse_i64(request.arg(at)).ok_or(CommandError::NotInteger);
    let start = if request.len() > 3 { index(3)? } else { 0 };
    let unit = Unit::parse(request.get(5))?; // before the end, so that its error comes first
    let end = if request.len() > 4 { index(4)? } else { -1 };
    let Some(range) = clamp(start, end, unit.length(text)) else { return Ok(-1) };
    Ok(match bits::find(text, unit.bits(range), on) {
        Some(offset) => offset as i64,
        // Without an end, the string goes on in zeros: the first one is just behind it.
        None if !on && request.len() <= 4 => text.len() as i64 * 8,
        None => -1,
    })
}

/// BITOP AND | OR | XOR | NOT destination key \[key …\]
fn bitop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let operation = match request.arg(1).to_ascii_lowercase().as_slice() {
        b"and" => Operation::And,
        b"or" => Operation::Or,
        b"xor" => Operation::Xor,
        b"not" => Operation::Not,
        _ => return Err(CommandError::Syntax),
    };
    if operation == Operation::Not && request.len() != 4 {
        return Err(CommandError::text("ERR BITOP NOT must be called with a single source key."));
    }
    let db = &mut ctx.keyspace[ctx.db];
    for at in 3..request.len() {
        db.read_str(&request.key(at))?;
    }
    let sources = (3..request.len())
        .map(|at| Ok(db.peek_str(&request.key(at))?.map_or(Cow::Borrowed(&b""[..]), bytes_of)))
        .collect::<CommandResult<Vec<_>>>()?;
    let slices: Vec<&[u8]> = sources.iter().map(Cow::as_ref).collect();
    let result = bits::combine(operation, &slices);

    let destination = request.key(2);
    reply.integer(result.len() as i64);
    if !result.is_empty() {
        db.set(&destination, Value::ModifiedStr(result), NewExpiry::None);
        ctx.changed(&destination, Class::String, "set");
    } else if db.remove(&destination) {
        ctx.changed(&destination, Class::Generic, "del");
    }
    Ok(())
}

fn bytes_of(text: StrRef<'_>) -> Cow<'_, [u8]> {
    match text {
        StrRef::Bytes(bytes) => Cow::Borrowed(bytes),
        StrRef::Int(_) => Cow::Owned(text.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn bits_are_set_read_counted_and_found() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("SETBIT k 7 1", ":0\r\n"),
            ("SETBIT k 7 0", ":1\r\n"),
            ("SETBIT k 20 1", ":0\r\n"),
            ("STRLEN k", ":3\r\n"),
            ("GETBIT k 20", ":1\r\n"),
            ("GETBIT k 4294967295", ":0\r\n"),
            ("BITCOUNT k", ":1\r\n"),
            ("BITCOUNT k 2 2", ":1\r\n"),
            ("BITCOUNT k 0 19 BIT", ":0\r\n"),
            ("BITCOUNT k -1 -2 FOO", ":0\r\n"),
            ("BITCOUNT k 0", "-ERR syntax error\r\n"),
            ("BITCOUNT nothing x", ":0\r\n"),
            ("BITPOS k 1", ":20\r\n"),
            ("BITPOS k 0 2 2", ":16\r\n"),
            ("BITPOS k 0 20 20 BIT", ":-1\r\n"),
            ("BITPOS k 1 0 x FOO", "-ERR syntax error\r\n"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0.\r\n"),
            ("BITPOS nothing 0", ":0\r\n"),
            ("SETBIT k 4294967296 1", "-ERR bit offset is not an integer or out of range\r\n"),
            ("SETBIT k #1 1", "-ERR bit offset is not an integer or out of range\r\n"),
            ("SETBIT k 1 2", "-ERR bit is not an integer or out of range\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        shard.run_args(&[b"SET", b"ones", b"\xff\xff"]);
        assert_eq!(shard.run("BITPOS ones 0"), ":16\r\n");
        assert_eq!(shard.run("BITPOS ones 0 0 -1"), ":-1\r\n");
    }

    #[test]
    fn bitop_combines_and_an_empty_result_deletes() {
        let mut shard = TestShard::new();
        shard.run("MSET a abc b 12 n 34");
        for (command, reply) in [
            ("BITOP OR d a b", ":3\r\n"),
            ("GET d", "$3\r\nqrc\r\n"),
            ("BITOP AND d n", ":2\r\n"),
            ("GET d", "$2\r\n34\r\n"),
            ("BITOP XOR d nothing", ":0\r\n"),
            ("GET d", "$-1\r\n"),
            ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key.\r\n"),
            ("BITOP NAND d a b", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }

    #[test]
    fn only_a_bit_that_changes_or_a_string_that_grows_is_a_change() {
        let mut shard = TestShard::new();
        shard.check_changes(&[
            ("SETBIT k 3 0", 1),
            ("SETBIT k 3 0", 0),
            ("SETBIT k 3 1", 1),
            ("SETBIT k 9 0", 1),
        ]);
    }
}
