//! Parts of strings: APPEND, GETRANGE, SETRANGE, STRLEN, and what two strings have in common, LCS.

use super::byte_range::clamp_ordered;
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::lcs;
use crate::datatypes::number::parse_i64;
use crate::keyspace::{NewExpiry, StrRef, Value, WrongType};
use crate::resp::Reply;

const KEYS_TWO: &[KeySpec] = &[KeySpec {
    access: Access::ReadOnly,
    flags: &["ACCESS"],
    begin: Begin::Index(1),
    find: Find::Range { last: 1, step: 1 },
}];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "append", arity: Arity::Exactly(3), flags: WRITE.with(DENYOOM).with(FAST), group: Group::String, keys: KEY_INSERT, categories: &[], run: Run::Data(append) },
    Command { name: "strlen", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::String, keys: KEY_LOOK, categories: &[], run: Run::Data(strlen) },
    Command { name: "setrange", arity: Arity::Exactly(4), flags: WRITE.with(DENYOOM), group: Group::String, keys: KEY_UPDATE, categories: &[], run: Run::Data(setrange) },
    Command { name: "getrange", arity: Arity::Exactly(4), flags: READONLY, group: Group::String, keys: KEY_READ, categories: &[], run: Run::Data(getrange) },
    Command { name: "substr", arity: Arity::Exactly(4), flags: READONLY, group: Group::String, keys: KEY_READ, categories: &[], run: Run::Data(getrange) },
    Command { name: "lcs", arity: Arity::AtLeast(3), flags: READONLY, group: Group::String, keys: KEYS_TWO, categories: &[], run: Run::Data(lcs) },
];

/// APPEND key value
fn append(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let value = request.arg(2);
    let length_max = ctx.config.proto_max_bulk_len;
    let db = &mut ctx.keyspace[ctx.db];
    // Looked at first: a string that may not grow must not become "raw" by the attempt.
    if let Some(old) = db.peek_str(&key)? {
        check_length(old.len(), value.len(), length_max)?;
    }
    let length = match db.str_mut(&key)? {
        Some(bytes) => {
            bytes.extend_from_slice(value);
            bytes.len()
        }
        None => {
            db.set_str(&key, value, NewExpiry::None);
            value.len()
        }
    };
    ctx.changed(&key, Class::String, "append");
    reply.integer(length as i64);
    Ok(())
}

/// An error if `length + more` is above proto-max-bulk-len.
fn check_length(length: usize, more: usize, length_max: u64) -> CommandResult {
    let total = length.checked_add(more).filter(|total| *total as u64 <= length_max);
    total
        .map(|_| ())
        .ok_or(CommandError::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
}

/// STRLEN key
fn strlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let text = ctx.keyspace[ctx.db].read_str(&request.key(1))?;
    reply.integer(text.map_or(0, |text| text.len() as i64));
    Ok(())
}

/// SETRANGE key offset value
fn setrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let offset = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    let offset =
        usize::try_from(offset).map_err(|_| CommandError::text("ERR offset is out of range"))?;
    let value = request.arg(3);
    let length_max = ctx.config.proto_max_bulk_len;
    let db = &mut ctx.keyspace[ctx.db];

    db.expire_if_due(&key); // As a write does, also one that changes nothing.
    let old = db.peek_str(&key)?;
    if value.is_empty() {
        reply.integer(old.map_or(0, |old| old.len() as i64));
        return Ok(());
    }
    check_length(offset, value.len(), length_max)?;
    let end = offset + value.len();
    let length = match db.str_mut(&key)? {
        Some(bytes) => {
            bytes.resize(bytes.len().max(end), 0);
            bytes[offset..end].copy_from_slice(value);
            bytes.len()
        }
        None => {
            let mut bytes = vec![0; end];
            bytes[offset..].copy_from_slice(value);
            db.insert(&key, Value::ModifiedStr(bytes), None);
            end
        }
    };
    ctx.changed(&key, Class::String, "setrange");
    reply.integer(length as i64);
    Ok(())
}

/// GETRANGE key start end, and its old name SUBSTR
fn getrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let start = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    let end = parse_i64(request.arg(3)).ok_or(CommandError::NotInteger)?;
    let text = ctx.keyspace[ctx.db].read_str(&request.key(1))?.unwrap_or(StrRef::Bytes(b""));
    let mut digits = itoa::Buffer::new();
    let bytes = text.as_bytes(&mut digits);
    reply.bulk(clamp_ordered(start, end, bytes.len()).map_or(&[], |range| &bytes[range]));
    Ok(())
}

/// LCS key1 key2 \[LEN\] \[IDX\] \[MINMATCHLEN length\] \[WITHMATCHLEN\]
fn lcs(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let keys = [request.key(1), request.key(2)];
    let db = &mut ctx.keyspace[ctx.db];
    let not_strings =
        |_: WrongType| CommandError::text("ERR The specified keys must contain string values");
    for key in &keys {
        db.read_str(key).map_err(not_strings)?;
    }
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [a_digits, b_digits] = &mut digits;
    let a = db.peek_str(&keys[0]).map_err(not_strings)?.unwrap_or(StrRef::Bytes(b""));
    let b = db.peek_str(&keys[1]).map_err(not_strings)?.unwrap_or(StrRef::Bytes(b""));
    let (a, b) = (a.as_bytes(a_digits), b.as_bytes(b_digits));

    let options = LcsOptions::parse(request)?;
    check_table(a, b, ctx.config.proto_max_bulk_len)?;
    if options.indexes {
        reply_matches(&lcs::Table::new(a, b), &options, reply);
    } else if options.length {
        reply.integer(lcs::length(a, b) as i64);
    } else {
        reply.bulk(&lcs::Table::new(a, b).subsequence());
    }
    Ok(())
}

/// An error if the comparison takes more memory than one argument may have.
fn check_table(a: &[u8], b: &[u8], bytes_max: u64) -> CommandResult {
    // One below the largest number that a cell of the table holds (Redis 7.0 `t_string.c`).
    const LENGTH_LIMIT: usize = u32::MAX as usize - 1;
    if a.len() >= LENGTH_LIMIT || b.len() >= LENGTH_LIMIT {
        return Err(CommandError::text("ERR String too long for LCS"));
    }
    match lcs::Table::bytes(a.len(), b.len()) {
        Some(bytes) if bytes as u64 <= bytes_max => Ok(()),
        _ => Err(CommandError::text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        )),
    }
}

#[derive(Default)]
struct LcsOptions {
    length: bool,
    indexes: bool,
    with_match_length: bool,
    match_length_min: i64,
}

impl LcsOptions {
    fn parse(request: &Request<'_>) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut words = request.rest(3).iter();
        while let Some(word) = words.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"idx" => options.indexes = true,
                b"len" => options.length = true,
                b"withmatchlen" => options.with_match_length = true,
                b"minmatchlen" => {
                    let length = words.next().ok_or(CommandError::Syntax)?;
                    options.match_length_min = parse_i64(length).ok_or(CommandError::NotInteger)?;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        if options.indexes && options.length {
            return Err(CommandError::text(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

fn reply_matches(table: &lcs::Table<'_>, options: &LcsOptions, reply: &mut Reply<'_>) {
    let mut matches = table.matches();
    matches.retain(|run| run.a.clone().count() as i64 >= options.match_length_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for run in &matches {
        reply.array(if options.with_match_length { 3 } else { 2 });
        for range in [&run.a, &run.b] {
            reply.array(2);
            reply.integer(*range.start() as i64);
            reply.integer(*range.end() as i64);
        }
        if options.with_match_length {
            reply.integer(run.a.clone().count() as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(table.length() as i64);
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn ranges_are_read_and_written() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("SETRANGE k 2 ab", ":4\r\n"),
            ("GETRANGE k 0 -1", "$4\r\n\0\0ab\r\n"),
            ("SETRANGE k 0 xy", ":4\r\n"),
            ("APPEND k c", ":5\r\n"),
            ("SUBSTR k -3 100", "$3\r\nabc\r\n"),
            ("GETRANGE k -1 -2", "$0\r\n\r\n"),
            ("GETRANGE nothing 0 -1", "$0\r\n\r\n"),
            ("STRLEN k", ":5\r\n"),
            ("STRLEN nothing", ":0\r\n"),
            ("APPEND n 12", ":2\r\n"),
            ("INCR n", ":13\r\n"),
            ("GETRANGE n 1 1", "$1\r\n3\r\n"),
            ("SETRANGE k -1 x", "-ERR offset is out of range\r\n"),
            (
                "SETRANGE k 536870912 x",
                "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n",
            ),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        let nothing = shard.run_args(&[b"SETRANGE", b"new", b"536870912", b""]);
        assert_eq!(nothing, b":0\r\n");
        assert_eq!(shard.run("GET new"), "$-1\r\n");
    }

    #[test]
    fn lcs_answers_text_length_or_matches() {
        let mut shard = TestShard::new();
        shard.run("MSET a ohmytext b mynewtext");
        assert_eq!(shard.run("LCS a b"), "$6\r\nmytext\r\n");
        assert_eq!(shard.run("LCS a b LEN"), ":6\r\n");
        assert_eq!(shard.run("LCS a nothing"), "$0\r\n\r\n");
        assert_eq!(
            shard.run("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN"),
            "*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n\
             $3\r\nlen\r\n:6\r\n"
        );
        assert_eq!(
            shard.run("LCS a b IDX LEN"),
            "-ERR If you want both the length and indexes, please just use IDX.\r\n"
        );
    }

    #[test]
    fn a_comparison_that_takes_too_much_memory_is_refused() {
        let mut shard = TestShard::new();
        let long = vec![b'a'; 12_000];
        shard.run_args(&[b"SET", b"a", &long]);
        assert_eq!(
            shard.run("LCS a a LEN"),
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n"
        );
    }
}
