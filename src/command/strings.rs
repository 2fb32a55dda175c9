//! Strings: GET, SET and their kin.

use super::spec::*;
use super::{Command, CommandResult, Ctx, Request, Run};
use crate::resp::Reply;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "get", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::String, keys: KEY_READ, categories: &[], run: Run::Data(get) },
];

/// GET key
fn get(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    match ctx.keyspace[ctx.db].read_str(&request.key(1))? {
        Some(text) => reply.bulk(text.as_bytes(&mut itoa::Buffer::new())),
        None => reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn get_answers_null_for_what_is_not_there() {
        let mut shard = TestShard::new();
        assert_eq!(shard.run("GET nothing"), "$-1\r\n");
        assert_eq!(shard.run("GET"), "-ERR wrong number of arguments for 'get' command\r\n");
    }
}
