//! Sorted sets that are waited for: BZPOPMIN, BZPOPMAX, BZMPOP.

use super::blocking::seconds;
use super::spec::*;
use super::zsets::{Pops, members_popped, pop, pop_word};
use super::{Attempt, Awaits, Blocking, Command, CommandResult, Ctx, Request, Run};
use crate::datatypes::zset::Order;
use crate::keyspace::{Key, TypeName};
use crate::resp::Reply;

const KEYS_BEFORE_TIMEOUT: &[KeySpec] = &[KeySpec {
    access: Access::ReadWrite,
    flags: &["ACCESS", "DELETE"],
    begin: Begin::Index(1),
    find: Find::Range { last: -2, step: 1 },
}];
const KEYS_COUNTED: &[KeySpec] = &[KeySpec::counted(2, Access::ReadWrite, &["ACCESS", "DELETE"])];
const POPS: Flags = WRITE.with(NOSCRIPT).with(BLOCKING).with(FAST);
const POPS_MANY: Flags = WRITE.with(BLOCKING).with(MOVABLEKEYS);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "bzpopmin", arity: Arity::AtLeast(3), flags: POPS, group: Group::SortedSet, keys: KEYS_BEFORE_TIMEOUT, categories: &[], run: Run::Blocking(BZPOPMIN) },
    Command { name: "bzpopmax", arity: Arity::AtLeast(3), flags: POPS, group: Group::SortedSet, keys: KEYS_BEFORE_TIMEOUT, categories: &[], run: Run::Blocking(BZPOPMAX) },
    Command { name: "bzmpop", arity: Arity::AtLeast(5), flags: POPS_MANY, group: Group::SortedSet, keys: KEYS_COUNTED, categories: &[], run: Run::Blocking(BZMPOP) },
];

const BZPOPMIN: Blocking = Blocking {
    attempt: bzpopmin,
    serve: |ctx, _, key, reply| pop_one(ctx, key, Order::Ascending, reply),
    wants: |found| found == Some(TypeName::ZSet),
    nothing: |_, reply| reply.null_array(),
    timed_out: |_, reply| reply.null_array(),
    awaits: Awaits::Keys,
    keep: None,
};
const BZPOPMAX: Blocking = Blocking {
    attempt: bzpopmax,
    serve: |ctx, _, key, reply| pop_one(ctx, key, Order::Descending, reply),
    ..BZPOPMIN
};
const BZMPOP: Blocking = Blocking {
    attempt: bzmpop,
    serve: |ctx, request, key, reply| {
        let pops = Pops::parse(request, 2)?;
        members_popped(ctx, key, &pops, reply)
    },
    ..BZPOPMIN
};

/// Answers with the key, its first member by `order` and that one's score; false if there is none.
fn pop_one(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    order: Order,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let header = |reply: &mut Reply<'_>, _| {
        reply.array(3);
        reply.bulk(key.bytes);
    };
    let popped = pop(ctx, key, order, 1, false, header, reply)?.is_some();
    if popped {
        ctx.instead(&[pop_word(order), key.bytes]);
    }
    Ok(popped)
}

/// BZPOPMIN key [key …] timeout
fn bzpopmin(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    pop_first(ctx, request, Order::Ascending, reply)
}

/// BZPOPMAX key [key …] timeout
fn bzpopmax(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    pop_first(ctx, request, Order::Descending, reply)
}

fn pop_first(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    order: Order,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let last = request.len() - 1;
    let until = seconds(ctx, request.arg(last))?;
    for at in 1..last {
        if pop_one(ctx, &request.key(at), order, reply)? {
            return Ok(Attempt::Done);
        }
    }
    Ok(Attempt::Wait(until))
}

/// BZMPOP timeout numkeys key [key …] MIN | MAX [COUNT count]
fn bzmpop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let pops = Pops::parse(request, 2)?;
    let until = seconds(ctx, request.arg(1))?;
    for at in pops.keys.clone() {
        if members_popped(ctx, &request.key(at), &pops, reply)? {
            return Ok(Attempt::Done);
        }
    }
    Ok(Attempt::Wait(until))
}
