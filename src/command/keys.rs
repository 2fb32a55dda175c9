//! Keys of any type: DEL, EXPIRE, SCAN and their kin.

use super::spec::*;
use super::{Class, Command, CommandResult, Ctx, Request, Run};
use crate::resp::Reply;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "del", arity: Arity::AtLeast(2), flags: WRITE, group: Group::Generic, keys: KEYS_REMOVE, categories: &[], run: Run::Data(del) },
];

/// DEL key [key …]
fn del(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let mut deleted = 0;
    for at in 1..request.len() {
        let key = request.key(at);
        if ctx.keyspace[ctx.db].remove(&key) {
            ctx.changed(&key, Class::Generic, "del");
            deleted += 1;
        }
    }
    reply.integer(deleted);
    Ok(())
}
