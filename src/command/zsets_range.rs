//! Ranges of sorted sets: ZRANGE with all its names, ZRANGESTORE, ZCOUNT, ZREMRANGEBY….
//!
//! A command is first turned into a [`Query`], which the sorted set answers with ranks; the rest
//! is the same for all: write the members with these ranks, store them, count them or remove them.

use super::collection::integer;
use super::zsets::{limits, member_reply, members_header, members_removed, store};
use super::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::zset::{LexRange, Order, ScoreRange, ZSet};
use crate::resp::Reply;
use std::ops::Range;

/// What a range is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// The two ends of a range, read.
enum Span<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Span<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> CommandResult<Self> {
        match by {
            By::Rank => Ok(Self::Ranks(integer(min)?, integer(max)?)),
            By::Score => ScoreRange::parse(min, max)
                .map(Self::Scores)
                .ok_or(CommandError::text("ERR min or max is not a float")),
            By::Lex => LexRange::parse(min, max)
                .map(Self::Lex)
                .ok_or(CommandError::text("ERR min or max not valid string range item")),
        }
    }

    /// The ranks that the range comes to; ranks given in descending order count from the top.
    fn ranks(&self, zset: &ZSet, order: Order) -> Range<usize> {
        match self {
            Self::Scores(range) => zset.ranks_by_score(range),
            Self::Lex(range) => zset.ranks_by_lex(range),
            Self::Ranks(start, stop) => {
                let ranks = clamp_ranks(*start, *stop, zset.len());
                match order {
                    Order::Ascending => ranks,
                    Order::Descending => zset.len() - ranks.end..zset.len() - ranks.start,
                }
            }
        }
    }
}

/// The ranks from `start` to `stop`, both included and negative ones counted from the end.
fn clamp_ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_start = |rank: i64| if rank < 0 { rank + len } else { rank };
    let (start, stop) = (from_start(start).max(0), from_start(stop).min(len - 1));
    if start > stop { 0..0 } else { start as usize..stop as usize + 1 }
}

/// A ZRANGE of any name.
struct Query<'a> {
    span: Span<'a>,
    order: Order,
    with_scores: bool,
    offset: i64,
    /// Most members; negative for all.
    limit: i64,
}

/// What the name of a command says already. A command that leaves something open has options for it.
#[derive(Clone, Copy)]
struct Name {
    by: Option<By>,
    order: Option<Order>,
    /// ZRANGESTORE, where the key, and all that follows, is one place further.
    stores: bool,
}

impl<'a> Query<'a> {
    fn parse(request: &Request<'a>, name: Name) -> CommandResult<Self> {
        let first = if name.stores { 3 } else { 2 };
        let (mut by, mut order) = (name.by, name.order);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut at = first + 2;
        while at < request.len() {
            match () {
                () if !name.stores && request.is_word(at, "withscores") => with_scores = true,
                () if request.is_word(at, "limit") && at + 2 < request.len() => {
                    offset = integer(request.arg(at + 1))?;
                    limit = integer(request.arg(at + 2))?;
                    at += 2;
                }
                () if order.is_none() && request.is_word(at, "rev") => {
                    order = Some(Order::Descending);
                }
                () if by.is_none() && request.is_word(at, "bylex") => by = Some(By::Lex),
                () if by.is_none() && request.is_word(at, "byscore") => by = Some(By::Score),
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        let (by, order) = (by.unwrap_or(By::Rank), order.unwrap_or(Order::Ascending));
        // A limit of -1 is the same as none, so Redis lets it pass.
        if limit != -1 && by == By::Rank {
            return Err(CommandError::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (mut min, mut max) = (request.arg(first), request.arg(first + 1));
        if order == Order::Descending && by != By::Rank {
            std::mem::swap(&mut min, &mut max);
        }
        Ok(Self { span: Span::parse(by, min, max)?, order, with_scores, offset, limit })
    }

    /// The ranks of the members asked for, LIMIT applied.
    fn ranks(&self, zset: &ZSet) -> Range<usize> {
        let ranks = self.span.ranks(zset, self.order);
        if matches!(self.span, Span::Ranks(..)) {
            return ranks; // there, LIMIT is either an error or without effect
        }
        // A negative offset skips everything in Redis, and so does one beyond the end.
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX).min(ranks.len());
        let left = ranks.len() - skip;
        let count = usize::try_from(self.limit).unwrap_or(usize::MAX).min(left);
        match self.order {
            Order::Ascending => ranks.start + skip..ranks.start + skip + count,
            Order::Descending => ranks.end - skip - count..ranks.end - skip,
        }
    }
}

fn range(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    by: Option<By>,
    order: Option<Order>,
) -> CommandResult {
    let query = Query::parse(request, Name { by, order, stores: false })?;
    let Some(zset) = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))? else {
        reply.array(0);
        return Ok(());
    };
    let members = zset.iter(query.ranks(zset), query.order);
    members_header(reply, members.len(), query.with_scores);
    for (member, score) in members {
        member_reply(reply, member, score, query.with_scores);
    }
    Ok(())
}

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
pub(super) fn zrange(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, None, None)
}

/// ZREVRANGE key start stop [WITHSCORES]
pub(super) fn zrevrange(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, Some(By::Rank), Some(Order::Descending))
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
pub(super) fn zrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, Some(By::Score), Some(Order::Ascending))
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
pub(super) fn zrevrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, Some(By::Score), Some(Order::Descending))
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
pub(super) fn zrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, Some(By::Lex), Some(Order::Ascending))
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
pub(super) fn zrevrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    range(ctx, request, reply, Some(By::Lex), Some(Order::Descending))
}

/// ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]
pub(super) fn zrangestore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let query = Query::parse(request, Name { by: None, order: None, stores: true })?;
    let limits = limits(ctx.config);
    let mut result = ZSet::default();
    if let Some(source) = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(2))? {
        let members = source.iter(query.ranks(source), query.order);
        // Redis knows the length beforehand only if the range is of ranks.
        let known = if matches!(query.span, Span::Ranks(..)) { members.len() } else { 0 };
        result = ZSet::for_members(known, 0, limits);
        let mut digits = itoa::Buffer::new();
        for (member, score) in members {
            result.insert(member.as_bytes(&mut digits), score, limits);
        }
    }
    store(ctx, &request.key(1), result, "zrangestore", reply);
    Ok(())
}

fn count(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>, by: By) -> CommandResult {
    let span = Span::parse(by, request.arg(2), request.arg(3))?;
    let zset = ctx.keyspace[ctx.db].read_as::<ZSet>(&request.key(1))?;
    reply.integer(zset.map_or(0, |zset| span.ranks(zset, Order::Ascending).len() as i64));
    Ok(())
}

/// ZCOUNT key min max
pub(super) fn zcount(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    count(ctx, request, reply, By::Score)
}

/// ZLEXCOUNT key min max
pub(super) fn zlexcount(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    count(ctx, request, reply, By::Lex)
}

fn remove_range(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    by: By,
    event: &'static str,
) -> CommandResult {
    let span = Span::parse(by, request.arg(2), request.arg(3))?;
    let key = request.key(1);
    let mut removed = 0;
    if let Some(zset) = ctx.keyspace[ctx.db].get_mut::<ZSet>(&key)? {
        removed = zset.remove_ranks(span.ranks(zset, Order::Ascending));
        let emptied = zset.is_empty();
        members_removed(ctx, &key, event, removed, emptied);
    }
    reply.integer(removed as i64);
    Ok(())
}

/// ZREMRANGEBYRANK key start stop
pub(super) fn zremrangebyrank(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    remove_range(ctx, request, reply, By::Rank, "zremrangebyrank")
}

/// ZREMRANGEBYSCORE key min max
pub(super) fn zremrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    remove_range(ctx, request, reply, By::Score, "zremrangebyscore")
}

/// ZREMRANGEBYLEX key min max
pub(super) fn zremrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    remove_range(ctx, request, reply, By::Lex, "zremrangebylex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_either_end_and_stay_inside() {
        for (start, stop, expected) in [
            (0, -1, 0..5),
            (1, 3, 1..4),
            (-2, -1, 3..5),
            (-100, 1, 0..2),
            (3, 100, 3..5),
            (4, 3, 0..0),
            (5, 9, 0..0),
            (-1, -100, 0..0),
            (i64::MIN, i64::MAX, 0..5),
            (i64::MAX, i64::MIN, 0..0),
        ] {
            assert_eq!(clamp_ranks(start, stop, 5), expected, "{start} {stop}");
        }
        assert_eq!(clamp_ranks(0, -1, 0), 0..0);
    }
}
