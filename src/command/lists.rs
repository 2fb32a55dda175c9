//! Lists: LPUSH, LRANGE and their kin, those that wait (BLPOP) excepted.
//!
//! A list that loses its last element goes as a whole: it is not emptied first, so that a large
//! one is freed in slices by the keyspace and not here.

use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::list::{End, List, NodeLimits, Side};
use crate::datatypes::listpack::{Element, Needle};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Key, Value};
use crate::resp::Reply;

const KEY_LOSES: KeySpec = KeySpec::one(1, Access::ReadWrite, &["ACCESS", "DELETE"]);
const KEY_GAINS: KeySpec = KeySpec::one(2, Access::ReadWrite, &["INSERT"]);
pub(super) const SOURCE_DESTINATION: &[KeySpec] = &[KEY_LOSES, KEY_GAINS];
const KEYS_COUNTED: &[KeySpec] = &[KeySpec::counted(1, Access::ReadWrite, &["ACCESS", "DELETE"])];

const GROWS: Flags = WRITE.with(DENYOOM);
const GROWS_FAST: Flags = GROWS.with(FAST);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "lpush", arity: Arity::AtLeast(3), flags: GROWS_FAST, group: Group::List, keys: KEY_INSERT, categories: &[], run: Run::Data(lpush) },
    Command { name: "rpush", arity: Arity::AtLeast(3), flags: GROWS_FAST, group: Group::List, keys: KEY_INSERT, categories: &[], run: Run::Data(rpush) },
    Command { name: "lpushx", arity: Arity::AtLeast(3), flags: GROWS_FAST, group: Group::List, keys: KEY_INSERT, categories: &[], run: Run::Data(lpushx) },
    Command { name: "rpushx", arity: Arity::AtLeast(3), flags: GROWS_FAST, group: Group::List, keys: KEY_INSERT, categories: &[], run: Run::Data(rpushx) },
    Command { name: "lpop", arity: Arity::AtLeast(2), flags: WRITE.with(FAST), group: Group::List, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(lpop) },
    Command { name: "rpop", arity: Arity::AtLeast(2), flags: WRITE.with(FAST), group: Group::List, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(rpop) },
    Command { name: "lmpop", arity: Arity::AtLeast(4), flags: WRITE.with(MOVABLEKEYS), group: Group::List, keys: KEYS_COUNTED, categories: &[], run: Run::Data(lmpop) },
    Command { name: "llen", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::List, keys: KEY_LOOK, categories: &[], run: Run::Data(llen) },
    Command { name: "lindex", arity: Arity::Exactly(3), flags: READONLY, group: Group::List, keys: KEY_READ, categories: &[], run: Run::Data(lindex) },
    Command { name: "lrange", arity: Arity::Exactly(4), flags: READONLY, group: Group::List, keys: KEY_READ, categories: &[], run: Run::Data(lrange) },
    Command { name: "lpos", arity: Arity::AtLeast(3), flags: READONLY, group: Group::List, keys: KEY_READ, categories: &[], run: Run::Data(lpos) },
    Command { name: "lset", arity: Arity::Exactly(4), flags: GROWS, group: Group::List, keys: KEY_UPDATE, categories: &[], run: Run::Data(lset) },
    Command { name: "linsert", arity: Arity::Exactly(5), flags: GROWS, group: Group::List, keys: KEY_INSERT, categories: &[], run: Run::Data(linsert) },
    Command { name: "lrem", arity: Arity::Exactly(4), flags: WRITE, group: Group::List, keys: KEY_DELETE, categories: &[], run: Run::Data(lrem) },
    Command { name: "ltrim", arity: Arity::Exactly(4), flags: WRITE, group: Group::List, keys: KEY_DELETE, categories: &[], run: Run::Data(ltrim) },
    Command { name: "lmove", arity: Arity::Exactly(5), flags: GROWS, group: Group::List, keys: SOURCE_DESTINATION, categories: &[], run: Run::Data(lmove) },
    Command { name: "rpoplpush", arity: Arity::Exactly(3), flags: GROWS, group: Group::List, keys: SOURCE_DESTINATION, categories: &[], run: Run::Data(rpoplpush) },
];

const RANK_IS_ZERO: CommandError = CommandError::text(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
     or use negative to start from the end of the list",
);
const COUNT_IS_NEGATIVE: CommandError = CommandError::text("ERR COUNT can't be negative");
const MAXLEN_IS_NEGATIVE: CommandError = CommandError::text("ERR MAXLEN can't be negative");
const NO_KEYS_COUNTED: CommandError = CommandError::text("ERR numkeys should be greater than 0");
const NOTHING_COUNTED: CommandError = CommandError::text("ERR count should be greater than 0");

// ---- pushing ----

/// LPUSH key element [element …]
fn lpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let len = push(ctx, &request.key(1), End::Head, request.rest(2))?;
    reply.integer(len as i64);
    Ok(())
}

/// RPUSH key element [element …]
fn rpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let len = push(ctx, &request.key(1), End::Tail, request.rest(2))?;
    reply.integer(len as i64);
    Ok(())
}

/// LPUSHX key element [element …]
fn lpushx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    push_if_exists(ctx, request, reply, End::Head)
}

/// RPUSHX key element [element …]
fn rpushx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    push_if_exists(ctx, request, reply, End::Tail)
}

fn push_if_exists(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> CommandResult {
    let key = request.key(1);
    let len = match ctx.keyspace[ctx.db].get_mut::<List>(&key)? {
        Some(_) => push(ctx, &key, end, request.rest(2))?,
        None => 0,
    };
    reply.integer(len as i64);
    Ok(())
}

/// Adds elements to the list at `key`, which is made if it is not there; the new length.
fn push(ctx: &mut Ctx<'_>, key: &Key<'_>, end: End, elements: &[&[u8]]) -> CommandResult<usize> {
    let plain_bytes_min = ctx.keyspace.switches.list_plain_bytes_min;
    let db = &mut ctx.keyspace[ctx.db];
    let len = match db.get_mut::<List>(key)? {
        Some(list) => {
            elements.iter().for_each(|element| list.push(end, element));
            list.len()
        }
        None => {
            let mut limits = NodeLimits::new(i64::from(ctx.config.list_max_listpack_size));
            if let Some(bytes) = plain_bytes_min {
                limits = limits.with_plain_bytes_min(bytes);
            }
            let mut list = List::new(limits);
            elements.iter().for_each(|element| list.push(end, element));
            let len = list.len();
            db.insert(key, Value::List(Box::new(list)), None);
            len
        }
    };
    ctx.changed(key, Class::List, push_event(end));
    Ok(len)
}

// ---- popping ----

/// LPOP key [count]
fn lpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    pop(ctx, request, reply, End::Head)
}

/// RPOP key [count]
fn rpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    pop(ctx, request, reply, End::Tail)
}

fn pop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>, end: End) -> CommandResult {
    let count = match request.len() {
        2 => None,
        3 => Some(positive(request.arg(2)).ok_or(CommandError::OutOfRangePositive)?),
        _ => return Err(CommandError::WrongArity(pop_event(end).to_owned())),
    };
    let key = request.key(1);
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(&key)? else {
        match count {
            None => reply.null(),
            Some(_) => reply.null_array(),
        }
        return Ok(());
    };
    match count {
        None => list.peek(end).into_iter().for_each(|element| bulk(reply, element)),
        Some(0) => {
            reply.array(0);
            return Ok(());
        }
        Some(count) => array(reply, list.walk(end), count),
    }
    let emptied = take(list, end, count.unwrap_or(1));
    note_taken(ctx, &key, end, emptied);
    Ok(())
}

/// LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count]
fn lmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let pops = Pops::parse(request, 1)?;
    for at in pops.keys.clone() {
        if pop_several(ctx, &request.key(at), &pops, reply)? {
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}

/// The arguments of LMPOP, and those of BLMPOP behind its timeout.
pub(super) struct Pops {
    /// Where the keys are.
    pub(super) keys: std::ops::Range<usize>,
    end: End,
    count: usize,
}

impl Pops {
    /// Reads them from the number of keys on, which is argument `numkeys_at`.
    pub(super) fn parse(request: &Request<'_>, numkeys_at: usize) -> CommandResult<Self> {
        let keys = greater_than_zero(request.arg(numkeys_at)).ok_or(NO_KEYS_COUNTED)?;
        let first = numkeys_at + 1;
        let end_at = keys.checked_add(first).ok_or(CommandError::Syntax)?;
        let end = end_of(request.get(end_at).ok_or(CommandError::Syntax)?)?;
        let count = match request.len() - end_at {
            1 => 1,
            3 if request.is_word(end_at + 1, "count") => {
                greater_than_zero(request.arg(end_at + 2)).ok_or(NOTHING_COUNTED)?
            }
            // The count is read, and complained of, before whatever follows it is looked at.
            more if more > 3 && request.is_word(end_at + 1, "count") => {
                greater_than_zero(request.arg(end_at + 2)).ok_or(NOTHING_COUNTED)?;
                return Err(CommandError::Syntax);
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(Self { keys: first..end_at, end, count })
    }
}

/// Answers with the key and the elements that are popped from it; false if there is no such list.
pub(super) fn pop_several(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    pops: &Pops,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(key)? else { return Ok(false) };
    reply.array(2);
    reply.bulk(key.bytes);
    array(reply, list.walk(pops.end), pops.count);
    let count = pops.count.min(list.len());
    let emptied = take(list, pops.end, pops.count);
    note_taken(ctx, key, pops.end, emptied);
    let mut digits = itoa::Buffer::new();
    ctx.instead(&[pop_word(pops.end), key.bytes, digits.format(count).as_bytes()]);
    Ok(true)
}

/// Removes `count` elements at `end`, or says that all would go: then the whole key has to.
pub(super) fn take(list: &mut List, end: End, count: usize) -> bool {
    if count >= list.len() {
        return true;
    }
    match (count, end) {
        (1, _) => drop(list.pop(end)),
        (_, End::Head) => drop(list.remove_range(0, count)),
        (_, End::Tail) => drop(list.remove_range(list.len() - count, count)),
    }
    false
}

pub(super) fn note_taken(ctx: &mut Ctx<'_>, key: &Key<'_>, end: End, emptied: bool) {
    ctx.changed(key, Class::List, pop_event(end));
    if emptied {
        remove_key(ctx, key);
    }
}

fn remove_key(ctx: &mut Ctx<'_>, key: &Key<'_>) {
    ctx.keyspace[ctx.db].remove(key);
    ctx.notify(key, Class::Generic, "del");
}

// ---- reading ----

/// LLEN key
fn llen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let list = ctx.keyspace[ctx.db].read_as::<List>(&request.key(1))?;
    reply.integer(list.map_or(0, List::len) as i64);
    Ok(())
}

/// LINDEX key index
fn lindex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let Some(list) = ctx.keyspace[ctx.db].read_as::<List>(&request.key(1))? else {
        reply.null();
        return Ok(());
    };
    match list.get(integer(request.arg(2))?) {
        Some(element) => bulk(reply, element),
        None => reply.null(),
    }
    Ok(())
}

/// LRANGE key start stop
fn lrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (start, stop) = (integer(request.arg(2))?, integer(request.arg(3))?);
    match ctx.keyspace[ctx.db].read_as::<List>(&request.key(1))? {
        Some(list) => {
            let (start, count) = clip(start, stop, list.len());
            array(reply, list.range(start, count), count);
        }
        None => reply.array(0),
    }
    Ok(())
}

/// What LPOS looks for besides the element.
struct LposOptions {
    end: End,
    /// The number of the first match to tell of, from 1.
    rank: u64,
    /// How many matches to tell of, 0 for all; without it one, and not as an array.
    count: Option<usize>,
    /// How many elements to compare, 0 for all.
    max_len: usize,
}

impl LposOptions {
    fn parse(request: &Request<'_>) -> CommandResult<Self> {
        let (mut rank, mut count, mut max_len) = (1, None, 0);
        let mut at = 3;
        while let Some(value) = request.get(at + 1) {
            if request.is_word(at, "rank") {
                rank = integer(value)?;
                if rank == 0 {
                    return Err(RANK_IS_ZERO);
                }
            } else if request.is_word(at, "count") {
                count = Some(positive(value).ok_or(COUNT_IS_NEGATIVE)?);
            } else if request.is_word(at, "maxlen") {
                max_len = positive(value).ok_or(MAXLEN_IS_NEGATIVE)?;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        if at < request.len() {
            return Err(CommandError::Syntax);
        }
        // The lowest rank has no positive counterpart; Redis 7.0 then begins with the first match, and its
        // count of those behind it wraps around and never reaches the wanted one.
        let from_tail = || rank.checked_neg().unwrap_or(1).unsigned_abs();
        let count = count.map(|wanted| if rank == i64::MIN { 0 } else { wanted });
        let (end, rank) =
            if rank < 0 { (End::Tail, from_tail()) } else { (End::Head, rank.unsigned_abs()) };
        Ok(Self { end, rank, count, max_len })
    }
}

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
fn lpos(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let LposOptions { end, rank, count, max_len } = LposOptions::parse(request)?;
    let needle = Needle::new(request.arg(2));
    let list = ctx.keyspace[ctx.db].read_as::<List>(&request.key(1))?;
    let unless_zero = |limit: usize| if limit == 0 { usize::MAX } else { limit };
    let mut matches = list.into_iter().flat_map(|list| {
        let walk = list.walk(end).take(unless_zero(max_len)).enumerate();
        walk.filter(|(_, element)| needle.matches(*element))
            .skip(usize::try_from(rank - 1).unwrap_or(usize::MAX))
            .map(|(steps, _)| match end {
                End::Head => steps,
                End::Tail => list.len() - 1 - steps,
            })
    });
    match (count, matches.next()) {
        (None, Some(first)) => reply.integer(first as i64),
        (None, None) => reply.null(),
        (Some(_), None) => reply.array(0),
        (Some(count), Some(first)) => {
            let array = reply.deferred();
            let mut told = 0;
            for index in std::iter::once(first).chain(matches).take(unless_zero(count)) {
                reply.integer(index as i64);
                told += 1;
            }
            reply.set_array_len(array, told);
        }
    }
    Ok(())
}

// ---- changing ----

/// LSET key index element
fn lset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let list = ctx.keyspace[ctx.db].get_mut::<List>(&key)?.ok_or(CommandError::NoSuchKey)?;
    if !list.set(integer(request.arg(2))?, request.arg(3)) {
        return Err(CommandError::IndexOutOfRange);
    }
    ctx.changed(&key, Class::List, "lset");
    reply.ok();
    Ok(())
}

/// LINSERT key BEFORE|AFTER pivot element
fn linsert(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let side = if request.is_word(2, "before") {
        Side::Before
    } else if request.is_word(2, "after") {
        Side::After
    } else {
        return Err(CommandError::Syntax);
    };
    let key = request.key(1);
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(&key)? else {
        reply.integer(0);
        return Ok(());
    };
    if !list.insert(request.arg(3), side, request.arg(4)) {
        reply.integer(-1);
        return Ok(());
    }
    reply.integer(list.len() as i64);
    ctx.changed(&key, Class::List, "linsert");
    Ok(())
}

/// LREM key count element
fn lrem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let count = integer(request.arg(2))?;
    let key = request.key(1);
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(&key)? else {
        reply.integer(0);
        return Ok(());
    };
    let removed = list.remove_matching(request.arg(3), count);
    let emptied = list.is_empty();
    reply.integer(removed as i64);
    if removed > 0 {
        ctx.changed(&key, Class::List, "lrem");
    }
    if emptied {
        remove_key(ctx, &key);
    }
    Ok(())
}

/// LTRIM key start stop
fn ltrim(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (start, stop) = (integer(request.arg(2))?, integer(request.arg(3))?);
    let key = request.key(1);
    reply.ok();
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(&key)? else { return Ok(()) };
    let (start, count) = clip(start, stop, list.len());
    let removed = list.len() - count;
    if count > 0 {
        list.remove_range(start + count, usize::MAX);
        list.remove_range(0, start);
    }
    // To who watches or listens Redis makes a change of this even if the range is the whole list, but
    // it counts the elements that went.
    let dirty = ctx.changes.dirty;
    ctx.changed(&key, Class::List, "ltrim");
    ctx.changes.dirty = dirty + removed as u64;
    if count == 0 {
        remove_key(ctx, &key);
    }
    Ok(())
}

// ---- moving ----

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
fn lmove(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let (from, to) = (end_of(request.arg(3))?, end_of(request.arg(4))?);
    moved_or_null(ctx, request, reply, from, to)
}

/// RPOPLPUSH source destination
fn rpoplpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    moved_or_null(ctx, request, reply, End::Tail, End::Head)
}

fn moved_or_null(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    from: End,
    to: End,
) -> CommandResult {
    if !move_element(ctx, request, reply, from, to)? {
        reply.null();
    }
    Ok(())
}

/// Moves an element from argument 1 to argument 2 and answers with it; false if there is no source.
pub(super) fn move_element(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    from: End,
    to: End,
) -> CommandResult<bool> {
    let (source, destination) = (request.key(1), request.key(2));
    let db = &mut ctx.keyspace[ctx.db];
    let list = db.get_mut::<List>(&source)?;
    let Some(element) = list.and_then(|list| list.peek(from)).map(|element| element.to_vec())
    else {
        return Ok(false);
    };
    // The destination is looked at before the source is touched, and may be the source itself.
    db.get_mut::<List>(&destination)?;
    let one_key = source.bytes == destination.bytes;
    if one_key && let Some(list) = db.get_mut::<List>(&source)? {
        list.pop(from);
    }
    push(ctx, &destination, to, &[&element])?;
    let emptied = match ctx.keyspace[ctx.db].get_mut::<List>(&source)? {
        Some(list) if !one_key => take(list, from, 1),
        _ => false,
    };
    note_taken(ctx, &source, from, emptied);
    reply.bulk(&element);
    Ok(true)
}

// ---- arguments and replies ----

fn push_event(end: End) -> &'static str {
    match end {
        End::Head => "lpush",
        End::Tail => "rpush",
    }
}

/// The command that pops at this end.
pub(super) fn pop_word(end: End) -> &'static [u8] {
    match end {
        End::Head => b"LPOP",
        End::Tail => b"RPOP",
    }
}

fn pop_event(end: End) -> &'static str {
    match end {
        End::Head => "lpop",
        End::Tail => "rpop",
    }
}

pub(super) fn end_of(word: &[u8]) -> CommandResult<End> {
    if word.eq_ignore_ascii_case(b"left") {
        Ok(End::Head)
    } else if word.eq_ignore_ascii_case(b"right") {
        Ok(End::Tail)
    } else {
        Err(CommandError::Syntax)
    }
}

fn integer(text: &[u8]) -> CommandResult<i64> {
    parse_i64(text).ok_or(CommandError::NotInteger)
}

/// A number that may be 0; what is none at all is refused in the same words as a negative one.
fn positive(text: &[u8]) -> Option<usize> {
    parse_i64(text).and_then(|value| usize::try_from(value).ok())
}

fn greater_than_zero(text: &[u8]) -> Option<usize> {
    positive(text).filter(|value| *value > 0)
}

/// The elements `start..=stop` of a list of `len`, as the first one and how many. Negative indexes
/// count from the tail.
fn clip(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_head = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from_head(start).max(0), from_head(stop).min(len - 1));
    if start > stop { (0, 0) } else { (start as usize, (stop - start + 1) as usize) }
}

pub(super) fn bulk(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Int(value) => reply.bulk_int(value),
        Element::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// Up to `count` elements as an array.
fn array<'l>(
    reply: &mut Reply<'_>,
    elements: impl ExactSizeIterator<Item = Element<'l>>,
    count: usize,
) {
    let elements = elements.take(count);
    reply.array(elements.len());
    elements.for_each(|element| bulk(reply, element));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;
    use crate::keyspace::NewExpiry;

    #[test]
    fn a_range_is_clipped_to_the_list() {
        for (start, stop, len, clipped) in [
            (0, -1, 5, (0, 5)),
            (1, 3, 5, (1, 3)),
            (-3, -2, 5, (2, 2)),
            (-100, 0, 5, (0, 1)),
            (4, 100, 5, (4, 1)),
            (5, 100, 5, (0, 0)),
            (3, 2, 5, (0, 0)),
            (0, -6, 5, (0, 0)),
            (i64::MIN, i64::MAX, 5, (0, 5)),
            (i64::MAX, i64::MIN, 5, (0, 0)),
        ] {
            assert_eq!(clip(start, stop, len), clipped, "{start} {stop} of {len}");
        }
    }

    #[test]
    fn a_list_is_made_by_the_first_push_and_goes_with_the_last_element() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("RPUSH l a b c", ":3\r\n"),
            ("LPUSH l 1", ":4\r\n"),
            ("LRANGE l 0 -1", "*4\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
            ("LMOVE l m RIGHT LEFT", "$1\r\nc\r\n"),
            ("RPOPLPUSH l l", "$1\r\nb\r\n"),
            ("LMPOP 2 none l LEFT COUNT 2", "*2\r\n$1\r\nl\r\n*2\r\n$1\r\nb\r\n$1\r\n1\r\n"),
            ("LPOP l 9", "*1\r\n$1\r\na\r\n"),
            ("LPOP l", "$-1\r\n"),
            ("LREM m 0 c", ":1\r\n"),
            ("LLEN m", ":0\r\n"),
            ("RPUSH n x y", ":2\r\n"),
            ("LTRIM n 1 0", "+OK\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert!(shard.keyspace[0].is_empty());
    }

    #[test]
    fn a_refused_command_changes_nothing() {
        let mut shard = TestShard::new();
        shard.keyspace[0].set_str(&Key::new(b"s"), b"x", NewExpiry::None);
        shard.run("RPUSH l a");
        let changes = shard.changes.dirty;
        for command in [
            "LPUSH s a",
            "LMOVE l s LEFT LEFT",
            "RPOPLPUSH s l",
            "LSET l 1 x",
            "LPOP l -1",
            "LPOP l 1 1",
            "LINSERT l beside a x",
            "LMPOP 1 l LEFT COUNT 0",
            "LMPOP 9223372036854775807 l LEFT",
        ] {
            assert!(shard.run(command).starts_with('-'), "{command}");
        }
        assert_eq!(shard.changes.dirty, changes);
        assert_eq!(shard.run("LRANGE l 0 -1"), "*1\r\n$1\r\na\r\n");
    }

    #[test]
    fn the_configuration_sets_the_size_of_the_nodes_of_a_new_list() {
        let mut shard = TestShard::new();
        shard.config.list_max_listpack_size = 2;
        shard.run("RPUSH l a b c d e");
        let list = shard.keyspace[0].read_as::<List>(&Key::new(b"l")).unwrap().unwrap();
        assert_eq!(list.nodes().len(), 3);
    }

    #[test]
    fn what_pops_or_moves_is_recorded_with_the_key_and_the_number_that_it_found() {
        let mut shard = TestShard::new();
        shard.check_effects(&[
            ("RPUSH l a b c d e f g h i", "RPUSH l a b c d e f g h i"),
            ("LMPOP 2 none l LEFT", "LPOP l 1"),
            ("BLMPOP 0 2 none l RIGHT COUNT 2", "RPOP l 2"),
            ("BLPOP none l 0", "LPOP l"),
            ("BRPOP l 0", "RPOP l"),
            ("blmove l m left right 0", "LMOVE l m left right"),
            ("BRPOPLPUSH l m 0", "RPOPLPUSH l m"),
            ("lmove l m left RIGHT", "lmove l m left RIGHT"),
            ("LMPOP 1 l LEFT COUNT 100", "LPOP l 1"),
            ("BLPOP l 0", ""),
            ("BLMOVE l m LEFT LEFT 0", ""),
            ("LTRIM m 0 -1", ""),
            ("LTRIM m 1 1", "LTRIM m 1 1"),
        ]);
        shard.run("RPUSH m a b");
        shard.check_changes(&[("LTRIM m 0 -1", 0), ("LTRIM m 1 1", 2)]);
    }
}
