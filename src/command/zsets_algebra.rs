//! ZUNION, ZINTER, ZDIFF, their STORE forms and ZINTERCARD.
//!
//! Their inputs may also be plain sets, whose members count as having the score 1. A result is a
//! vector of members borrowed from the inputs, which is then replied or stored; nothing is copied
//! on the way.

use super::collection::integer;
use super::zsets::{limits, member_reply, members_header, store};
use super::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::hashing::hash_bytes;
use crate::datatypes::listpack::Element;
use crate::datatypes::number::parse_f64;
use crate::datatypes::set::Set;
use crate::datatypes::zset::{ZSet, compare};
use crate::keyspace::{Database, Entry, ValueRef};
use crate::resp::Reply;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

/// The score of a member of a plain set (Redis 7.0 `t_zset.c`, zuiNext).
const SET_MEMBER_SCORE: f64 = 1.0;

/// Members with their scores.
type Scored<'a> = Vec<(Element<'a>, f64)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Reply,
    Store,
    Count,
}

/// How the scores of a member in several inputs become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn apply(self, score: f64, other: f64) -> f64 {
        match self {
            // Infinities of opposite sign make 0, by Redis's convention.
            Self::Sum => zero_if_nan(score + other),
            Self::Min => {
                if other < score {
                    other
                } else {
                    score
                }
            }
            Self::Max => {
                if other > score {
                    other
                } else {
                    score
                }
            }
        }
    }
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input of an operation.
#[derive(Clone, Copy)]
enum Source<'a> {
    ZSet(&'a ZSet),
    Set(&'a Set),
    Missing,
}

impl<'a> Source<'a> {
    /// The value of an entry, or `None` if it is of another type.
    fn of(entry: Option<&'a Entry>) -> Option<Self> {
        match entry.map(Entry::value) {
            None => Some(Self::Missing),
            Some(ValueRef::ZSet(zset)) => Some(Self::ZSet(zset)),
            Some(ValueRef::Set(set)) => Some(Self::Set(set)),
            Some(
                ValueRef::Str(_) | ValueRef::List(_) | ValueRef::Hash(_) | ValueRef::Stream(_),
            ) => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::ZSet(zset) => zset.len(),
            Self::Set(set) => set.len(),
            Self::Missing => 0,
        }
    }

    fn score(self, member: Element<'_>) -> Option<f64> {
        match self {
            Self::ZSet(zset) => zset.score(member.as_bytes(&mut itoa::Buffer::new())),
            Self::Set(set) => set.contains_element(member).then_some(SET_MEMBER_SCORE),
            Self::Missing => None,
        }
    }

    /// Visits the members until `visit` answers false.
    fn for_each(self, mut visit: impl FnMut(Element<'a>, f64) -> bool) {
        match self {
            Self::ZSet(zset) => {
                let _ = zset.iter_all().all(|(member, score)| visit(member, score));
            }
            Self::Set(set) => {
                let _ = set.iter().all(|member| visit(member, SET_MEMBER_SCORE));
            }
            Self::Missing => {}
        }
    }
}

/// The arguments of a command of this file.
struct Arguments {
    /// Where the input keys are.
    keys: std::ops::Range<usize>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Where ZINTERCARD may stop counting; 0 for never.
    limit: usize,
}

/// How many keys the request names, from argument `at` on. Redis looks the keys up before it reads
/// the options, so a wrong type is told before a wrong option.
fn input_keys(
    request: &Request<'_>,
    at: usize,
    name: &str,
) -> CommandResult<std::ops::Range<usize>> {
    let numkeys = integer(request.arg(at))?;
    if numkeys < 1 {
        return Err(CommandError::owned(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        )));
    }
    match usize::try_from(numkeys) {
        Ok(numkeys) if numkeys <= request.rest(at + 1).len() => Ok(at + 1..at + 1 + numkeys),
        _ => Err(CommandError::Syntax),
    }
}

impl Arguments {
    fn parse(
        request: &Request<'_>,
        keys: std::ops::Range<usize>,
        operation: Operation,
        outcome: Outcome,
    ) -> CommandResult<Self> {
        let mut arguments = Self {
            weights: vec![1.0; keys.len()],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
            keys,
        };
        let scores_count = operation != Operation::Diff && outcome != Outcome::Count;
        let mut at = arguments.keys.end;
        while at < request.len() {
            let following = request.len() - at - 1;
            match () {
                () if scores_count
                    && following >= arguments.keys.len()
                    && request.is_word(at, "weights") =>
                {
                    for weight in &mut arguments.weights {
                        at += 1;
                        *weight = parse_f64(request.arg(at))
                            .ok_or(CommandError::text("ERR weight value is not a float"))?;
                    }
                }
                () if scores_count && following >= 1 && request.is_word(at, "aggregate") => {
                    at += 1;
                    arguments.aggregate = match () {
                        () if request.is_word(at, "sum") => Aggregate::Sum,
                        () if request.is_word(at, "min") => Aggregate::Min,
                        () if request.is_word(at, "max") => Aggregate::Max,
                        () => return Err(CommandError::Syntax),
                    };
                }
                () if outcome == Outcome::Reply && request.is_word(at, "withscores") => {
                    arguments.with_scores = true;
                }
                () if outcome == Outcome::Count
                    && following >= 1
                    && request.is_word(at, "limit") =>
                {
                    at += 1;
                    arguments.limit = integer(request.arg(at))
                        .ok()
                        .and_then(|limit| usize::try_from(limit).ok())
                        .ok_or(CommandError::text("ERR LIMIT can't be negative"))?;
                }
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        Ok(arguments)
    }

    /// The inputs with their weights; smaller ones first, where the order is free (Redis does so,
    /// and it decides how rounding errors add up).
    fn sources<'a>(
        &self,
        db: &'a Database,
        request: &Request<'_>,
        operation: Operation,
    ) -> CommandResult<Vec<(Source<'a>, f64)>> {
        let sources = self.keys.clone().map(|at| Source::of(db.peek(&request.key(at))));
        let sources: Option<Vec<_>> = sources.collect();
        let sources = sources.ok_or(CommandError::WrongType)?;
        let mut weighted: Vec<_> = sources.into_iter().zip(self.weights.iter().copied()).collect();
        if operation != Operation::Diff {
            weighted.sort_by_key(|(source, _)| source.len());
        }
        Ok(weighted)
    }
}

/// Members of the union of `sources`, in no order.
fn union<'a>(sources: &[(Source<'a>, f64)], aggregate: Aggregate) -> Scored<'a> {
    let hash = |member: Element<'_>| hash_bytes(member.as_bytes(&mut itoa::Buffer::new()));
    let mut found: HashTable<(Element<'a>, f64)> = HashTable::new();
    for &(source, weight) in sources {
        source.for_each(|member, score| {
            let score = zero_if_nan(weight * score);
            let mut digits = itoa::Buffer::new();
            let text = member.as_bytes(&mut digits);
            let place =
                found.entry(hash_bytes(text), |other| other.0.equals(text), |other| hash(other.0));
            match place {
                Place::Occupied(mut other) => {
                    other.get_mut().1 = aggregate.apply(other.get().1, score);
                }
                Place::Vacant(place) => {
                    place.insert((member, score));
                }
            }
            true
        });
    }
    found.into_iter().collect()
}

/// Calls `visit` with the members of the intersection until it answers false.
fn inter<'a>(
    sources: &[(Source<'a>, f64)],
    aggregate: Aggregate,
    mut visit: impl FnMut(Element<'a>, f64) -> bool,
) {
    let Some((&(smallest, weight), others)) = sources.split_first() else { return };
    smallest.for_each(|member, score| {
        let mut total = zero_if_nan(weight * score);
        for &(other, weight) in others {
            let Some(score) = other.score(member) else { return true };
            total = aggregate.apply(total, score * weight);
        }
        visit(member, total)
    });
}

/// Members of the first of `sources` that are in none of the others, in no order.
fn diff<'a>(sources: &[(Source<'a>, f64)]) -> Scored<'a> {
    let mut result = Vec::new();
    let Some((&(first, _), others)) = sources.split_first() else { return result };
    first.for_each(|member, score| {
        if others.iter().all(|(other, _)| other.score(member).is_none()) {
            result.push((member, score));
        }
        true
    });
    result
}

fn sort(members: &mut Scored<'_>) {
    let (mut left_digits, mut right_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    members.sort_unstable_by(|left, right| {
        let left_text = left.0.as_bytes(&mut left_digits);
        compare((left.1, left_text), (right.1, right.0.as_bytes(&mut right_digits)))
    });
}

fn run(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    operation: Operation,
    outcome: Outcome,
    name: &'static str,
) -> CommandResult {
    let keys = input_keys(request, if outcome == Outcome::Store { 2 } else { 1 }, name)?;
    let db = &mut ctx.keyspace[ctx.db];
    for at in keys.clone() {
        Source::of(db.read_entry(&request.key(at))).ok_or(CommandError::WrongType)?;
    }
    let arguments = Arguments::parse(request, keys, operation, outcome)?;
    let sources = arguments.sources(db, request, operation)?;

    if outcome == Outcome::Count {
        let mut count = 0;
        inter(&sources, arguments.aggregate, |_, _| {
            count += 1;
            count != arguments.limit
        });
        reply.integer(count as i64);
        return Ok(());
    }
    let mut members = match operation {
        Operation::Union => union(&sources, arguments.aggregate),
        Operation::Diff => diff(&sources),
        Operation::Inter => {
            let mut members = Vec::new();
            inter(&sources, arguments.aggregate, |member, score| {
                members.push((member, score));
                true
            });
            members
        }
    };
    sort(&mut members);

    if outcome == Outcome::Reply {
        members_header(reply, members.len(), arguments.with_scores);
        for (member, score) in members {
            member_reply(reply, member, score, arguments.with_scores);
        }
        return Ok(());
    }
    let limits = limits(ctx.config);
    let longest_bytes = members.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
    let mut result = ZSet::for_members(members.len(), longest_bytes, limits);
    let mut digits = itoa::Buffer::new();
    for (member, score) in members {
        result.insert(member.as_bytes(&mut digits), score, limits);
    }
    store(ctx, &request.key(1), result, name, reply);
    Ok(())
}

/// ZUNION numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]
pub(super) fn zunion(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Union, Outcome::Reply, "zunion")
}

/// ZUNIONSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX]
pub(super) fn zunionstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Union, Outcome::Store, "zunionstore")
}

/// ZINTER numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]
pub(super) fn zinter(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Inter, Outcome::Reply, "zinter")
}

/// ZINTERSTORE destination numkeys key [key …] [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX]
pub(super) fn zinterstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Inter, Outcome::Store, "zinterstore")
}

/// ZINTERCARD numkeys key [key …] [LIMIT limit]
pub(super) fn zintercard(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Inter, Outcome::Count, "zintercard")
}

/// ZDIFF numkeys key [key …] [WITHSCORES]
pub(super) fn zdiff(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Diff, Outcome::Reply, "zdiff")
}

/// ZDIFFSTORE destination numkeys key [key …]
pub(super) fn zdiffstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    run(ctx, request, reply, Operation::Diff, Outcome::Store, "zdiffstore")
}
