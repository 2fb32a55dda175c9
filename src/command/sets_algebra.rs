//! Intersection, union and difference of sets, read or stored.
//!
//! The result of a read is written to the reply as it is found, without a set in between; where one
//! is needed (union, store) it is built as Redis builds it, member by member from an empty intset,
//! so that its encoding is the same.

use super::collection::{bulk_element, integer};
use super::sets::limits;
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::listpack::Element;
use crate::datatypes::set::{Set, SetLimits};
use crate::keyspace::{Collection, Database, Key, NewExpiry};
use crate::resp::Reply;

const NUMKEYS_TOO_SMALL: CommandError = CommandError::text("ERR numkeys should be greater than 0");
const NUMKEYS_TOO_BIG: CommandError =
    CommandError::text("ERR Number of keys can't be greater than number of args");
const NEGATIVE_LIMIT: CommandError = CommandError::text("ERR LIMIT can't be negative");

/// Where SINTERCARD has its keys.
const KEYS_COUNTED: &[KeySpec] = &[KeySpec::counted(1, Access::ReadOnly, &["ACCESS"])];
/// A destination that is overwritten, and the sources.
const KEYS_STORE: &[KeySpec] = &[
    KeySpec::one(1, Access::OverWrite, &["UPDATE"]),
    KeySpec::all(2, 1, Access::ReadOnly, &["ACCESS"]),
];
/// As [`KEYS_STORE`]; Redis 7.0 declares the destination of SINTERSTORE so.
const KEYS_INTER_STORE: &[KeySpec] = &[
    KeySpec::one(1, Access::ReadWrite, &["UPDATE"]),
    KeySpec::all(2, 1, Access::ReadOnly, &["ACCESS"]),
];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "sinter", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Set, keys: KEYS_READ, categories: &[], run: Run::Data(sinter) },
    Command { name: "sintercard", arity: Arity::AtLeast(3), flags: READONLY.with(MOVABLEKEYS), group: Group::Set, keys: KEYS_COUNTED, categories: &[], run: Run::Data(sintercard) },
    Command { name: "sinterstore", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::Set, keys: KEYS_INTER_STORE, categories: &[], run: Run::Data(sinterstore) },
    Command { name: "sunion", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Set, keys: KEYS_READ, categories: &[], run: Run::Data(sunion) },
    Command { name: "sunionstore", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::Set, keys: KEYS_STORE, categories: &[], run: Run::Data(sunionstore) },
    Command { name: "sdiff", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Set, keys: KEYS_READ, categories: &[], run: Run::Data(sdiff) },
    Command { name: "sdiffstore", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::Set, keys: KEYS_STORE, categories: &[], run: Run::Data(sdiffstore) },
];

// ---- commands ----

/// SINTER key [key …]
fn sinter(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let sources = read_sources(&mut ctx.keyspace[ctx.db], request.rest(1))?;
    write_found(reply, |visit| intersect(&sources, usize::MAX, visit));
    Ok(())
}

/// SINTERCARD numkeys key [key …] [LIMIT limit]
fn sintercard(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let count = integer(request.arg(1)).ok().filter(|count| *count > 0);
    let count = count.ok_or(NUMKEYS_TOO_SMALL)? as usize;
    let keys = request.rest(2).get(..count).ok_or(NUMKEYS_TOO_BIG)?;
    let limit = limit_option(request, 2 + count)?;
    let sources = read_sources(&mut ctx.keyspace[ctx.db], keys)?;
    let mut found = 0;
    intersect(&sources, limit, &mut |_| found += 1);
    reply.integer(found);
    Ok(())
}

/// The last of the LIMIT options from argument `from` on; 0 and none mean no limit.
fn limit_option(request: &Request<'_>, from: usize) -> CommandResult<usize> {
    let mut limit = 0;
    for option in request.rest(from).chunks(2) {
        let [word, value] = option else { return Err(CommandError::Syntax) };
        if !word.eq_ignore_ascii_case(b"limit") {
            return Err(CommandError::Syntax);
        }
        let value = integer(value).ok().and_then(|value| usize::try_from(value).ok());
        limit = value.ok_or(NEGATIVE_LIMIT)?;
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}

/// SINTERSTORE destination key [key …]
fn sinterstore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    store(ctx, request, reply, "sinterstore", |sources, limits| {
        collect(limits, |visit| intersect(sources, usize::MAX, visit))
    })
}

/// SUNION key [key …]
fn sunion(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let limits = limits(ctx);
    let sources = read_sources(&mut ctx.keyspace[ctx.db], request.rest(1))?;
    let union = unite(&sources, limits);
    reply.set(union.len());
    union.iter().for_each(|member| bulk_element(reply, member));
    Ok(())
}

/// SUNIONSTORE destination key [key …]
fn sunionstore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    store(ctx, request, reply, "sunionstore", unite)
}

/// SDIFF key [key …]
fn sdiff(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let limits = limits(ctx);
    let sources = read_sources(&mut ctx.keyspace[ctx.db], request.rest(1))?;
    write_found(reply, |visit| subtract(&sources, limits, visit));
    Ok(())
}

/// SDIFFSTORE destination key [key …]
fn sdiffstore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    store(ctx, request, reply, "sdiffstore", |sources, limits| {
        collect(limits, |visit| subtract(sources, limits, visit))
    })
}

// ---- sources and results ----

/// The sets at `keys`. All are looked at before any is used: one of a wrong type is an error even
/// where the result is known without it.
fn read_sources<'d>(db: &'d mut Database, keys: &[&[u8]]) -> CommandResult<Vec<Option<&'d Set>>> {
    let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::new(key)).collect();
    for key in &keys {
        db.read_as::<Set>(key)?;
    }
    let db = &*db;
    keys.iter().map(|key| Ok(db.peek_as::<Set>(key)?)).collect()
}

/// What receives the members of a result.
type Visit<'v, 's> = &'v mut dyn FnMut(Element<'s>);

/// Writes what `find` finds as a set.
fn write_found<'s>(reply: &mut Reply<'_>, find: impl FnOnce(Visit<'_, 's>)) {
    let set = reply.deferred();
    let mut found = 0;
    find(&mut |member| {
        bulk_element(reply, member);
        found += 1;
    });
    reply.set_set_len(set, found);
}

/// A set of what `find` finds.
fn collect<'s>(limits: SetLimits, find: impl FnOnce(Visit<'_, 's>)) -> Set {
    let mut set = Set::default();
    find(&mut |member| {
        set.insert_element(member, limits);
    });
    set
}

/// Puts what `combine` makes of the sources at the destination, or deletes the destination if that
/// is nothing.
fn store(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    event: &'static str,
    combine: impl FnOnce(&[Option<&Set>], SetLimits) -> Set,
) -> CommandResult {
    let (destination, limits) = (request.key(1), limits(ctx));
    let db = &mut ctx.keyspace[ctx.db];
    let result = combine(&read_sources(db, request.rest(2))?, limits);
    let len = result.len();
    if len > 0 {
        db.set(&destination, result.into_value(), NewExpiry::None);
        ctx.changed(&destination, Class::Set, event);
    } else if db.remove(&destination) {
        ctx.changed(&destination, Class::Generic, "del");
    }
    reply.integer(len as i64);
    Ok(())
}

// ---- algebra ----

/// Visits the members that all sources have, `limit` at most. A missing source is an empty one.
fn intersect<'s>(sources: &[Option<&'s Set>], limit: usize, visit: Visit<'_, 's>) {
    let Some(mut sets) = sources.iter().copied().collect::<Option<Vec<_>>>() else { return };
    // The smallest has the fewest candidates, and the next ones rule out most of them.
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    smallest
        .iter()
        .filter(|member| others.iter().all(|set| set.contains_element(*member)))
        .take(limit)
        .for_each(visit);
}

/// The members that any source has.
fn unite(sources: &[Option<&Set>], limits: SetLimits) -> Set {
    let members = sources.iter().flatten().flat_map(|set| set.iter());
    collect(limits, |visit| members.for_each(visit))
}

/// Visits the members that the first source alone has. Either each member of the first is looked
/// for in the others, or the members of the others are taken out of a copy of the first: whichever
/// touches less (Redis 7.0 `t_set.c`, sunionDiffGenericCommand, weighs them so too).
fn subtract<'s>(sources: &[Option<&'s Set>], limits: SetLimits, visit: Visit<'_, 's>) {
    let Some((Some(first), others)) = sources.split_first() else { return };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    let all_members = first.len() + others.iter().map(|set| set.len()).sum::<usize>();
    if first.len() * (others.len() + 1) / 2 <= all_members {
        // The biggest is the most likely to know a member.
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let is_alone = |member: &Element<'_>| !others.iter().any(|s| s.contains_element(*member));
        return first.iter().filter(is_alone).for_each(visit);
    }
    let mut known = Set::default();
    for member in others.iter().flat_map(|set| set.iter()) {
        if first.contains_element(member) {
            known.insert_element(member, limits);
        }
    }
    first.iter().filter(|member| !known.contains_element(*member)).for_each(visit);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SetLimits = SetLimits { intset_entries_max: 8 };

    fn found<'s>(find: impl FnOnce(Visit<'_, 's>)) -> Vec<Vec<u8>> {
        let mut members = Vec::new();
        find(&mut |member| members.push(member.to_vec()));
        members.sort();
        members
    }

    fn set_of(numbers: &[u8], words: bool) -> Set {
        collect(LIMITS, |visit| {
            numbers.iter().for_each(|number| visit(Element::Int(i64::from(*number))));
            if words {
                visit(Element::Bytes(b"word"));
            }
        })
    }

    proptest! {
        /// Sizes are drawn apart, so that both ways to subtract are taken.
        #[test]
        fn algebra_is_that_of_plain_sets(
            content in prop::collection::vec(
                prop::option::of((prop::collection::vec(0..24u8, 0..20), any::<bool>())), 1..12),
            limit in 1..6usize,
        ) {
            let sets: Vec<Option<Set>> =
                content.iter().map(|c| c.as_ref().map(|(n, words)| set_of(n, *words))).collect();
            let sources: Vec<Option<&Set>> = sets.iter().map(Option::as_ref).collect();
            let has = |source: &Option<&Set>, text: &[u8]| source.is_some_and(|set| set.contains(text));
            let mut universe: Vec<Vec<u8>> = (0..24).map(|n: u8| n.to_string().into_bytes()).collect();
            universe.push(b"word".to_vec());
            universe.sort();
            let expect = |keep: &dyn Fn(&[u8]) -> bool| -> Vec<Vec<u8>> {
                universe.iter().filter(|text| keep(text)).cloned().collect()
            };
            let inter = expect(&|text| sources.iter().all(|source| has(source, text)));
            prop_assert_eq!(found(|visit| intersect(&sources, usize::MAX, visit)), inter.clone());
            let limited = found(|visit| intersect(&sources, limit, visit));
            prop_assert_eq!(limited.len(), limit.min(inter.len()));
            let union = unite(&sources, LIMITS);
            prop_assert_eq!(
                found(|visit| union.iter().for_each(visit)),
                expect(&|text| sources.iter().any(|source| has(source, text)))
            );
            prop_assert_eq!(
                found(|visit| subtract(&sources, LIMITS, visit)),
                expect(&|text| has(&sources[0], text) && !sources[1..].iter().any(|s| has(s, text)))
            );
        }
    }
}
