//! Lists that are waited for: BLPOP, BRPOP, BLMOVE, BRPOPLPUSH, BLMPOP.

use super::blocking::seconds;
use super::lists::*;
use super::spec::*;
use super::{Attempt, Awaits, Blocking, Command, CommandResult, Ctx, Request, Run};
use crate::datatypes::list::{End, List};
use crate::keyspace::{Key, TypeName};
use crate::resp::Reply;

const KEYS_BEFORE_TIMEOUT: &[KeySpec] = &[KeySpec {
    access: Access::ReadWrite,
    flags: &["ACCESS", "DELETE"],
    begin: Begin::Index(1),
    find: Find::Range { last: -2, step: 1 },
}];
const KEYS_COUNTED: &[KeySpec] = &[KeySpec::counted(2, Access::ReadWrite, &["ACCESS", "DELETE"])];
const POPS: Flags = WRITE.with(NOSCRIPT).with(BLOCKING);
const MOVES: Flags = POPS.with(DENYOOM);
const POPS_MANY: Flags = WRITE.with(BLOCKING).with(MOVABLEKEYS);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "blpop", arity: Arity::AtLeast(3), flags: POPS, group: Group::List, keys: KEYS_BEFORE_TIMEOUT, categories: &[], run: Run::Blocking(BLPOP) },
    Command { name: "brpop", arity: Arity::AtLeast(3), flags: POPS, group: Group::List, keys: KEYS_BEFORE_TIMEOUT, categories: &[], run: Run::Blocking(BRPOP) },
    Command { name: "blmove", arity: Arity::Exactly(6), flags: MOVES, group: Group::List, keys: SOURCE_DESTINATION, categories: &[], run: Run::Blocking(BLMOVE) },
    Command { name: "brpoplpush", arity: Arity::Exactly(4), flags: MOVES, group: Group::List, keys: SOURCE_DESTINATION, categories: &[], run: Run::Blocking(BRPOPLPUSH) },
    Command { name: "blmpop", arity: Arity::AtLeast(5), flags: POPS_MANY, group: Group::List, keys: KEYS_COUNTED, categories: &[], run: Run::Blocking(BLMPOP) },
];

const POP: Blocking = Blocking {
    attempt: blpop,
    serve: |ctx, _, key, reply| pop_one(ctx, key, End::Head, reply),
    wants: |found| found == Some(TypeName::List),
    nothing: |_, reply| reply.null_array(),
    timed_out: |_, reply| reply.null_array(),
    awaits: Awaits::Keys,
    keep: None,
};
const BLPOP: Blocking = POP;
const BRPOP: Blocking = Blocking {
    attempt: brpop,
    serve: |ctx, _, key, reply| pop_one(ctx, key, End::Tail, reply),
    ..POP
};
const BLMOVE: Blocking = Blocking {
    attempt: blmove,
    serve: |ctx, request, _, reply| {
        let (from, to) = (end_of(request.arg(3))?, end_of(request.arg(4))?);
        // Redis keeps how it waits, not in which words.
        let words = [request.arg(1), request.arg(2), end_word(from), end_word(to)];
        let moved = move_element(ctx, request, reply, from, to)?;
        record_move(ctx, moved, b"LMOVE", &words);
        Ok(moved)
    },
    nothing: |_, reply| reply.null(),
    ..POP
};
const BRPOPLPUSH: Blocking = Blocking {
    attempt: brpoplpush,
    serve: |ctx, request, _, reply| pop_and_push(ctx, request, reply),
    nothing: |_, reply| reply.null(),
    ..POP
};
const BLMPOP: Blocking = Blocking { attempt: blmpop, serve: serve_blmpop, ..POP };

/// Answers with the key and its element at `end`; false if there is no such list.
fn pop_one(
    ctx: &mut Ctx<'_>,
    key: &Key<'_>,
    end: End,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let Some(list) = ctx.keyspace[ctx.db].get_mut::<List>(key)? else { return Ok(false) };
    reply.array(2);
    reply.bulk(key.bytes);
    list.peek(end).into_iter().for_each(|element| bulk(reply, element));
    let emptied = take(list, end, 1);
    note_taken(ctx, key, end, emptied);
    ctx.instead(&[pop_word(end), key.bytes]);
    Ok(true)
}

/// BLPOP key [key …] timeout
fn blpop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    pop_first(ctx, request, End::Head, reply)
}

/// BRPOP key [key …] timeout
fn brpop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    pop_first(ctx, request, End::Tail, reply)
}

fn pop_first(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    end: End,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let last = request.len() - 1;
    let until = seconds(ctx, request.arg(last))?;
    for at in 1..last {
        if pop_one(ctx, &request.key(at), end, reply)? {
            return Ok(Attempt::Done);
        }
    }
    Ok(Attempt::Wait(until))
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout
fn blmove(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let (from, to) = (end_of(request.arg(3))?, end_of(request.arg(4))?);
    let until = seconds(ctx, request.arg(5))?;
    let moved = move_element(ctx, request, reply, from, to)?;
    record_move(ctx, moved, b"LMOVE", &request.args()[1..5]);
    done_or_wait(moved, until)
}

/// BRPOPLPUSH source destination timeout
fn brpoplpush(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let until = seconds(ctx, request.arg(3))?;
    done_or_wait(pop_and_push(ctx, request, reply)?, until)
}

/// RPOPLPUSH, as BRPOPLPUSH does it; false if there is no source.
fn pop_and_push(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let moved = move_element(ctx, request, reply, End::Tail, End::Head)?;
    record_move(ctx, moved, b"RPOPLPUSH", &request.args()[1..3]);
    Ok(moved)
}

/// Records a move as the command that does not wait.
fn record_move(ctx: &mut Ctx<'_>, moved: bool, verb: &[u8], words: &[&[u8]]) {
    if moved && ctx.journal.is_on() {
        ctx.instead(&[&[verb], words].concat());
    }
}

fn end_word(end: End) -> &'static [u8] {
    match end {
        End::Head => b"left",
        End::Tail => b"right",
    }
}

/// BLMPOP timeout numkeys key [key …] LEFT|RIGHT [COUNT count]
fn blmpop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let pops = Pops::parse(request, 2)?;
    let until = seconds(ctx, request.arg(1))?;
    for at in pops.keys.clone() {
        if pop_several(ctx, &request.key(at), &pops, reply)? {
            return Ok(Attempt::Done);
        }
    }
    Ok(Attempt::Wait(until))
}

fn serve_blmpop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    key: &Key<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    pop_several(ctx, key, &Pops::parse(request, 2)?, reply)
}

fn done_or_wait(done: bool, until: Option<i64>) -> CommandResult<Attempt> {
    Ok(if done { Attempt::Done } else { Attempt::Wait(until) })
}
