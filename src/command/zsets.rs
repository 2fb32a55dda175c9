//! Sorted sets: the rows of the family, and the commands about single members.
//!
//! Ranges are in `zsets_range.rs`, unions and their kin in `zsets_algebra.rs`.

use super::collection::{
    ScanOptions, bulk_element, integer, random_count, scan_cursor, scan_reply, update_or_create,
};
use super::random::{Draws, REPEATED_DRAWS_MAX, draws_pay_off, pick};
use super::spec::*;
use super::zsets_algebra::*;
use super::zsets_range::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::config::Config;
use crate::datatypes::listpack::Element;
use crate::datatypes::number::{format_f64_17g, parse_f64};
use crate::datatypes::zset::{AddMode, Added, Comparison, Order, Presence, ZSet, ZSetLimits};
use crate::keyspace::{Collection, Key, NewExpiry};
use crate::resp::Reply;
use std::collections::HashSet;

/// A destination that is overwritten, then one key that is read.
const KEY_TO_KEY: &[KeySpec] = &[
    KeySpec::one(1, Access::OverWrite, &["UPDATE"]),
    KeySpec::one(2, Access::ReadOnly, &["ACCESS"]),
];
/// A destination that is overwritten, then a number of keys that are read.
const KEYS_TO_KEY: &[KeySpec] = &[
    KeySpec::one(1, Access::OverWrite, &["UPDATE"]),
    KeySpec::counted(2, Access::ReadOnly, &["ACCESS"]),
];
/// A number of keys that are read.
const KEYS_COUNTED: &[KeySpec] = &[KeySpec::counted(1, Access::ReadOnly, &["ACCESS"])];
/// A number of keys, the first of which with content loses some.
const KEYS_POPPED: &[KeySpec] = &[KeySpec::counted(1, Access::ReadWrite, &["ACCESS", "DELETE"])];

const WRITE_FAST: Flags = WRITE.with(FAST);
const WRITE_GROWS: Flags = WRITE.with(DENYOOM);
const READ_FAST: Flags = READONLY.with(FAST);
const STORE_MANY: Flags = WRITE_GROWS.with(MOVABLEKEYS);
const READ_MANY: Flags = READONLY.with(MOVABLEKEYS);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "zadd", arity: Arity::AtLeast(4), flags: WRITE_GROWS.with(FAST), group: Group::SortedSet, keys: KEY_UPDATE, categories: &[], run: Run::Data(zadd) },
    Command { name: "zincrby", arity: Arity::Exactly(4), flags: WRITE_GROWS.with(FAST), group: Group::SortedSet, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(zincrby) },
    Command { name: "zrem", arity: Arity::AtLeast(3), flags: WRITE_FAST, group: Group::SortedSet, keys: KEY_DELETE, categories: &[], run: Run::Data(zrem) },
    Command { name: "zcard", arity: Arity::Exactly(2), flags: READ_FAST, group: Group::SortedSet, keys: KEY_LOOK, categories: &[], run: Run::Data(zcard) },
    Command { name: "zscore", arity: Arity::Exactly(3), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zscore) },
    Command { name: "zmscore", arity: Arity::AtLeast(3), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zmscore) },
    Command { name: "zrank", arity: Arity::Exactly(3), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrank) },
    Command { name: "zrevrank", arity: Arity::Exactly(3), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrevrank) },
    Command { name: "zpopmin", arity: Arity::AtLeast(2), flags: WRITE_FAST, group: Group::SortedSet, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(zpopmin) },
    Command { name: "zpopmax", arity: Arity::AtLeast(2), flags: WRITE_FAST, group: Group::SortedSet, keys: KEY_ACCESS_DELETE, categories: &[], run: Run::Data(zpopmax) },
    Command { name: "zmpop", arity: Arity::AtLeast(4), flags: WRITE.with(MOVABLEKEYS), group: Group::SortedSet, keys: KEYS_POPPED, categories: &[], run: Run::Data(zmpop) },
    Command { name: "zrandmember", arity: Arity::AtLeast(2), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrandmember) },
    Command { name: "zscan", arity: Arity::AtLeast(3), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zscan) },
    Command { name: "zcount", arity: Arity::Exactly(4), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zcount) },
    Command { name: "zlexcount", arity: Arity::Exactly(4), flags: READ_FAST, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zlexcount) },
    Command { name: "zrange", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrange) },
    Command { name: "zrangestore", arity: Arity::AtLeast(5), flags: WRITE_GROWS, group: Group::SortedSet, keys: KEY_TO_KEY, categories: &[], run: Run::Data(zrangestore) },
    Command { name: "zrevrange", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrevrange) },
    Command { name: "zrangebyscore", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrangebyscore) },
    Command { name: "zrevrangebyscore", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrevrangebyscore) },
    Command { name: "zrangebylex", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrangebylex) },
    Command { name: "zrevrangebylex", arity: Arity::AtLeast(4), flags: READONLY, group: Group::SortedSet, keys: KEY_READ, categories: &[], run: Run::Data(zrevrangebylex) },
    Command { name: "zremrangebyrank", arity: Arity::Exactly(4), flags: WRITE, group: Group::SortedSet, keys: KEY_DELETE, categories: &[], run: Run::Data(zremrangebyrank) },
    Command { name: "zremrangebyscore", arity: Arity::Exactly(4), flags: WRITE, group: Group::SortedSet, keys: KEY_DELETE, categories: &[], run: Run::Data(zremrangebyscore) },
    Command { name: "zremrangebylex", arity: Arity::Exactly(4), flags: WRITE, group: Group::SortedSet, keys: KEY_DELETE, categories: &[], run: Run::Data(zremrangebylex) },
    Command { name: "zunion", arity: Arity::AtLeast(3), flags: READ_MANY, group: Group::SortedSet, keys: KEYS_COUNTED, categories: &[], run: Run::Data(zunion) },
    Command { name: "zunionstore", arity: Arity::AtLeast(4), flags: STORE_MANY, group: Group::SortedSet, keys: KEYS_TO_KEY, categories: &[], run: Run::Data(zunionstore) },
    Command { name: "zinter", arity: Arity::AtLeast(3), flags: READ_MANY, group: Group::SortedSet, keys: KEYS_COUNTED, categories: &[], run: Run::Data(zinter) },
    Command { name: "zinterstore", arity: Arity::AtLeast(4), flags: STORE_MANY, group: Group::SortedSet, keys: KEYS_TO_KEY, categories: &[], run: Run::Data(zinterstore) },
    Command { name: "zintercard", arity: Arity::AtLeast(3), flags: READ_MANY, group: Group::SortedSet, keys: KEYS_COUNTED, categories: &[], run: Run::Data(zintercard) },
    Command { name: "zdiff", arity: Arity::AtLeast(3), flags: READ_MANY, group: Group::SortedSet, keys: KEYS_COUNTED, categories: &[], run: Run::Data(zdiff) },
    Command { name: "zdiffstore", arity: Arity::AtLeast(4), flags: STORE_MANY, group: Group::SortedSet, keys: KEYS_TO_KEY, categories: &[], run: Run::Data(zdiffstore) },
];

/// Up to where sorted sets stay listpacks.
pub(super) fn limits(config: &Config) -> ZSetLimits {
    ZSetLimits {
        entries_max: config.zset_max_listpack_entries,
        value_bytes_max: config.zset_max_listpack_value,
    }
}

/// Notes that `members` members of `key` changed: Redis counts each of them as a change.
pub(super) fn members_changed(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    event: &'static str,
    members: usize,
) {
    ctx.changed(key, Class::ZSet, event);
    ctx.changes.dirty += (members as u64).saturating_sub(1);
}

/// Puts `zset` at `key` as the result of a …STORE command; an empty one deletes the key. Replies
/// with its length.
pub(super) fn store(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    zset: ZSet,
    event: &'static str,
    reply: &mut Reply<'_>,
) {
    reply.integer(zset.len() as i64);
    if !zset.is_empty() {
        ctx.keyspace[ctx.db].set(key, zset.into_value(), NewExpiry::None);
        ctx.changed(key, Class::ZSet, event);
    } else if ctx.keyspace[ctx.db].remove(key) {
        ctx.changed(key, Class::Generic, "del");
    }
}

/// Writes a member, with its score if asked: a pair of its own in RESP3, flat in RESP2.
pub(super) fn member_reply(
    reply: &mut Reply<'_>,
    member: Element<'_>,
    score: f64,
    with_scores: bool,
) {
    if !with_scores {
        return bulk_element(reply, member);
    }
    if reply.resp3() {
        reply.array(2);
    }
    bulk_element(reply, member);
    reply.double(score);
}

/// Writes the header of an array of members, with their scores if asked.
pub(super) fn members_header(reply: &mut Reply<'_>, count: usize, with_scores: bool) {
    let flat = with_scores && !reply.resp3();
    reply.array(if flat { count * 2 } else { count });
}

// ---- adding ----

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member …]
fn zadd(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    add(ctx, request, reply, false)
}

/// ZINCRBY key increment member
fn zincrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    add(ctx, request, reply, true)
}

fn add(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    increment: bool,
) -> CommandResult {
    let AddOptions { mode, count_changed, pairs } = AddOptions::parse(request, increment)?;
    // All scores are checked before the first member is touched; reading them again below costs
    // less than a place to keep them.
    if pairs.chunks_exact(2).any(|pair| parse_f64(pair[0]).is_none()) {
        return Err(CommandError::NotFloat);
    }
    let (key, limits) = (request.key(1), limits(ctx.config));
    let (mut added, mut updated, mut last) = (0, 0, Added::Refused);
    update_or_create::<ZSet, _>(&mut ctx.keyspace[ctx.db], &key, |zset| {
        for pair in pairs.chunks_exact(2) {
            let Some(score) = parse_f64(pair[0]) else { continue };
            last = zset.add(pair[1], score, mode, limits);
            match last {
                Added::New(_) => added += 1,
                Added::Updated(_) => updated += 1,
                Added::Unchanged(_) | Added::Refused | Added::NotANumber => {}
            }
        }
    })?;
    // Only an increment can fail so, and there is but one.
    if last == Added::NotANumber {
        return Err(CommandError::text("ERR resulting score is not a number (NaN)"));
    }
    if added + updated > 0 {
        let event = if mode.increment { "zincr" } else { "zadd" };
        members_changed(ctx, &key, event, added + updated);
    }
    match last {
        _ if !mode.increment => {
            reply.integer((added + if count_changed { updated } else { 0 }) as i64);
        }
        Added::New(score) | Added::Updated(score) | Added::Unchanged(score) => reply.double(score),
        Added::Refused | Added::NotANumber => reply.null(),
    }
    Ok(())
}

struct AddOptions<'a> {
    mode: AddMode,
    /// CH: updated members count, too.
    count_changed: bool,
    /// Scores and members in turns.
    pairs: &'a [&'a [u8]],
}

impl<'a> AddOptions<'a> {
    fn parse(request: &Request<'a>, increment: bool) -> CommandResult<Self> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        let (mut count_changed, mut increment) = (false, increment);
        let mut at = 2;
        loop {
            match () {
                () if request.is_word(at, "nx") => nx = true,
                () if request.is_word(at, "xx") => xx = true,
                () if request.is_word(at, "gt") => gt = true,
                () if request.is_word(at, "lt") => lt = true,
                () if request.is_word(at, "ch") => count_changed = true,
                () if request.is_word(at, "incr") => increment = true,
                () => break,
            }
            at += 1;
        }
        let pairs = request.rest(at);
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        if nx && xx {
            return Err(CommandError::text(
                "ERR XX and NX options at the same time are not compatible",
            ));
        }
        if (nx && (gt || lt)) || (gt && lt) {
            return Err(CommandError::text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if increment && pairs.len() > 2 {
            return Err(CommandError::text(
                "ERR INCR option supports a single increment-element pair",
            ));
        }
        let presence = match (nx, xx) {
            (true, _) => Presence::Missing,
            (_, true) => Presence::Present,
            _ => Presence::Any,
        };
        let comparison = match (gt, lt) {
            (true, _) => Comparison::Greater,
            (_, true) => Comparison::Less,
            _ => Comparison::Always,
        };
        Ok(Self { mode: AddMode { presence, comparison, increment }, count_changed, pairs })
    }
}

// ---- removing ----

/// ZREM key member [member …]
fn zrem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let key = request.key(1);
    let mut removed = 0;
    if let Some(zset) = ctx.keyspace[ctx.db].get_mut::<ZSet>(&key)? {
        let members = request.rest(2).iter();
        removed = members.filter(|member| zset.remove(member).is_some()).count();
        let emptied = zset.is_empty();
        members_removed(ctx, &key, "zrem", removed, emptied);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// Notes the removal of members, and deletes the key if it has none left.
pub(super) fn members_removed(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    event: &'static str,
    removed: usize,
    emptied: bool,
) {
    if removed == 0 {
        return;
    }
    members_changed(ctx, key, event, removed);
    if emptied {
        ctx.keyspace[ctx.db].remove(key);
        ctx.notify(key, Class::Generic, "del");
    }
}

/// ZPOPMIN key [count]
fn zpopmin(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    pop_command(ctx, request, reply, Order::Ascending)
}

/// ZPOPMAX key [count]
fn zpopmax(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    pop_command(ctx, request, reply, Order::Descending)
}

fn pop_command(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    order: Order,
) -> CommandResult {
    if request.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = match request.get(2) {
        None => 1,
        Some(text) => integer(text)
            .ok()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(CommandError::OutOfRangePositive)?,
    };
    let nested = reply.resp3() && request.len() == 3;
    let header = |reply: &mut Reply<'_>, count| reply.array(if nested { count } else { count * 2 });
    if pop(ctx, &request.key(1), order, count, nested, header, reply)?.is_none() {
        reply.array(0);
    }
    Ok(())
}

/// ZMPOP numkeys key [key …] MIN | MAX [COUNT count]
fn zmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let pops = Pops::parse(request, 1)?;
    for at in pops.keys.clone() {
        if members_popped(ctx, &request.key(at), &pops, reply)? {
            return Ok(());
        }
    }
    reply.null_array();
    Ok(())
}

/// Answers with the key and the members that are popped from it; false if there is no such key.
pub(super) fn members_popped(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    pops: &Pops,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let header = |reply: &mut Reply<'_>, count| {
        reply.array(2);
        reply.bulk(key.bytes);
        reply.array(count);
    };
    let popped = pop(ctx, key, pops.order, pops.count, true, header, reply)?;
    if let Some(count) = popped {
        let mut digits = itoa::Buffer::new();
        ctx.instead(&[pop_word(pops.order), key.bytes, digits.format(count).as_bytes()]);
    }
    Ok(popped.is_some())
}

/// The command that pops the first members in this order.
pub(super) fn pop_word(order: Order) -> &'static [u8] {
    match order {
        Order::Ascending => b"ZPOPMIN",
        Order::Descending => b"ZPOPMAX",
    }
}

/// The arguments of ZMPOP, and those of BZMPOP behind its timeout.
pub(super) struct Pops {
    /// Where the keys are.
    pub(super) keys: std::ops::Range<usize>,
    order: Order,
    count: usize,
}

impl Pops {
    /// Reads them from the number of keys on, which is argument `numkeys_at`.
    pub(super) fn parse(request: &Request<'_>, numkeys_at: usize) -> CommandResult<Self> {
        let positive = |at: usize, error: &'static str| {
            let number = request.get(at).and_then(|text| integer(text).ok());
            let number = number.filter(|&number| number > 0);
            let number = number.and_then(|number| usize::try_from(number).ok());
            number.ok_or(CommandError::text(error))
        };
        let numkeys = positive(numkeys_at, "ERR numkeys should be greater than 0")?;
        let order_at = numkeys.saturating_add(numkeys_at + 1);
        let order = match () {
            () if request.is_word(order_at, "min") => Order::Ascending,
            () if request.is_word(order_at, "max") => Order::Descending,
            () => return Err(CommandError::Syntax),
        };
        let count = match request.rest(order_at + 1).len() {
            0 => 1,
            1 => return Err(CommandError::Syntax),
            _ if !request.is_word(order_at + 1, "count") => return Err(CommandError::Syntax),
            more => {
                let count = positive(order_at + 2, "ERR count should be greater than 0")?;
                if more > 2 {
                    return Err(CommandError::Syntax);
                }
                count
            }
        };
        Ok(Self { keys: numkeys_at + 1..order_at, order, count })
    }
}

/// Pops up to `count` members of `key` and replies with them, after what `header` writes. Says how many;
/// `None`, and no reply, if there is no such key.
pub(super) fn pop(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    order: Order,
    count: usize,
    nested: bool,
    header: impl FnOnce(&mut Reply<'_>, usize),
    reply: &mut Reply<'_>,
) -> CommandResult<Option<usize>> {
    let Some(zset) = ctx.keyspace[ctx.db].get_mut::<ZSet>(key)? else { return Ok(None) };
    let count = count.min(zset.len());
    header(reply, count);
    for _ in 0..count {
        zset.pop(order, |member, score| {
            if nested {
                reply.array(2);
            }
            bulk_element(reply, member);
            reply.double(score);
        });
    }
    let emptied = zset.is_empty();
    let event = if order == Order::Ascending { "zpopmin" } else { "zpopmax" };
    members_removed(ctx, key, event, count, emptied);
    Ok(Some(count))
}

// ---- looking ----

/// ZCARD key
fn zcard(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let zset = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))?;
    reply.integer(zset.map_or(0, |zset| zset.len() as i64));
    Ok(())
}

/// ZSCORE key member
fn zscore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let zset = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))?;
    match zset.and_then(|zset| zset.score(request.arg(2))) {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
    Ok(())
}

/// ZMSCORE key member [member …]
fn zmscore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let zset = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))?;
    reply.array(request.rest(2).len());
    for member in request.rest(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply.double(score),
            None => reply.null(),
        }
    }
    Ok(())
}

/// ZRANK key member
fn zrank(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    rank(ctx, request, reply, Order::Ascending)
}

/// ZREVRANK key member
fn zrevrank(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    rank(ctx, request, reply, Order::Descending)
}

fn rank(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    order: Order,
) -> CommandResult {
    let zset = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))?;
    let rank = zset.and_then(|zset| {
        let rank = zset.rank(request.arg(2))?;
        Some(if order == Order::Ascending { rank } else { zset.len() - 1 - rank })
    });
    match rank {
        Some(rank) => reply.integer(rank as i64),
        None => reply.null(),
    }
    Ok(())
}

/// ZRANDMEMBER key [count [WITHSCORES]]
fn zrandmember(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let mut draws = Draws::new(ctx.keyspace.draw());
    let db = &mut ctx.keyspace[ctx.db];
    let Some(count) = request.get(2) else {
        match db.read_as::<ZSet>(&request.key(1))? {
            Some(zset) => random_member(zset, &mut draws)
                .into_iter()
                .for_each(|(member, _)| bulk_element(reply, member)),
            None => reply.null(),
        }
        return Ok(());
    };
    let count = random_count(count)?;
    let with_scores = request.is_word(3, "withscores");
    if request.len() > 4 || (request.len() == 4 && !with_scores) {
        return Err(CommandError::Syntax);
    }
    let repeats = count < 0;
    let count = count.unsigned_abs();
    // The length of the reply must fit a number: Redis asks the same of both protocols.
    let countable = !with_scores || count <= i64::MAX as u64 / 2;
    if !countable || (repeats && count > REPEATED_DRAWS_MAX) {
        return Err(CommandError::text("ERR value is out of range"));
    }
    let Some(zset) = db.read_as::<ZSet>(&request.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    if repeats {
        members_header(reply, count as usize, with_scores);
        for _ in 0..count {
            let Some((member, score)) = random_member(zset, &mut draws) else { break };
            member_reply(reply, member, score, with_scores);
        }
        return Ok(());
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(zset.len());
    let members = random_members(zset, count, &mut draws);
    members_header(reply, members.len(), with_scores);
    for (member, score) in members {
        member_reply(reply, member, score, with_scores);
    }
    Ok(())
}

/// A rank below `len`, each with the same probability.
fn random_rank(len: usize, draws: &mut Draws) -> usize {
    ((u128::from(draws.draw()) * len as u128) >> 64) as usize
}

fn random_member<'z>(zset: &'z ZSet, draws: &mut Draws) -> Option<(Element<'z>, f64)> {
    zset.get(random_rank(zset.len(), draws))
}

/// `count` different members, at most as many as there are.
fn random_members<'z>(zset: &'z ZSet, count: usize, draws: &mut Draws) -> Vec<(Element<'z>, f64)> {
    let len = zset.len();
    if !draws_pay_off(count, len) {
        // All of them come from the highest rank down in Redis, so they do here.
        return pick(zset.iter(0..len, Order::Descending), len, count, draws);
    }
    // Floyd's selection: each step adds one rank, and all selections are equally likely.
    let mut ranks = HashSet::with_capacity(count);
    for highest in len - count..len {
        let rank = random_rank(highest + 1, draws);
        if !ranks.insert(rank) {
            ranks.insert(highest);
        }
    }
    ranks.into_iter().filter_map(|rank| zset.get(rank)).collect()
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
fn zscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let cursor = scan_cursor(request.arg(2))?;
    let Some(zset) = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))? else {
        scan_reply(reply, |_| (0, 0));
        return Ok(());
    };
    let options = ScanOptions::parse(request, 3)?;
    scan_reply(reply, |reply| {
        let mut written = 0;
        if let Some(listpack) = zset.as_listpack() {
            // As Redis does, the scores are shown as they are stored: 1e17 in digits.
            let mut elements = listpack.iter();
            while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
                if options.matches(member) {
                    bulk_element(reply, member);
                    bulk_element(reply, score);
                    written += 2;
                }
            }
            return (0, written);
        }
        let mut text = Vec::new();
        let next = zset.scan(cursor, options.count, |member, score| {
            if options.matches(member) {
                bulk_element(reply, member);
                text.clear();
                format_f64_17g(score, &mut text);
                reply.bulk(&text);
                written += 2;
            }
        });
        (next, written)
    });
    Ok(())
}

#[cfg(test)]
#[path = "zsets_tests.rs"]
mod tests;
