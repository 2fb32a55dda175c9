//! Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.
//!
//! Emptying a database costs each shard one exchange of pointers, whatever its size; what the keys
//! held is freed in slices later. SYNC and ASYNC therefore mean the same.

use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, EveryShard, Part, Request, Run};
use crate::config::Config;
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "dbsize", arity: Arity::Exactly(1), flags: READONLY.with(FAST), group: Group::Generic, keys: NO_KEYS, categories: &[], run: Run::EveryShard(DBSIZE) },
    Command { name: "flushdb", arity: Arity::AtLeast(1), flags: WRITE, group: Group::Generic, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(FLUSHDB) },
    Command { name: "flushall", arity: Arity::AtLeast(1), flags: WRITE, group: Group::Generic, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(FLUSHALL) },
    Command { name: "swapdb", arity: Arity::Exactly(3), flags: WRITE.with(FAST), group: Group::Generic, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(SWAPDB) },
];

const DBSIZE: EveryShard = EveryShard { part: dbsize, merge: total, exclusive: true };
const FLUSHDB: EveryShard = EveryShard { part: flushdb, merge: all_done, exclusive: true };
const FLUSHALL: EveryShard = EveryShard { part: flushall, merge: all_done, exclusive: true };
const SWAPDB: EveryShard = EveryShard { part: swapdb, merge: all_done, exclusive: true };

const NO_SUCH_DATABASE: CommandError = CommandError::text("ERR DB index is out of range");

/// The number of an existing database, as SELECT, COPY and MOVE read it; there are `databases`.
pub fn database_number(text: &[u8], databases: usize) -> CommandResult<usize> {
    let number = parse_i64(text).ok_or(CommandError::NotInteger)?;
    if i32::try_from(number).is_err() {
        return Err(CommandError::text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    usize::try_from(number).ok().filter(|db| *db < databases).ok_or(NO_SUCH_DATABASE)
}

/// The database that SELECT goes to. In cluster mode there is the first one only.
pub fn selected_database(text: &[u8], config: &Config) -> CommandResult<usize> {
    const NOT_IN_CLUSTER: CommandError =
        CommandError::text("ERR SELECT is not allowed in cluster mode");
    match database_number(text, config.databases) {
        Ok(0) => Ok(0),
        Ok(_) if config.cluster_enabled => Err(NOT_IN_CLUSTER),
        Err(error) if config.cluster_enabled && error == NO_SUCH_DATABASE => Err(NOT_IN_CLUSTER),
        result => result,
    }
}

/// Merges parts that have nothing to say.
fn all_done(
    _: &mut Ctx<'_>,
    _: &Request<'_>,
    _: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    reply.ok();
    Ok(())
}

fn total(
    _: &mut Ctx<'_>,
    _: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    reply.integer(Part::sum(&parts) as i64);
    Ok(())
}

/// DBSIZE
fn dbsize(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    Ok(Part::Count(ctx.keyspace[ctx.db].shown_len() as u64))
}

/// FLUSHDB [ASYNC|SYNC]
fn flushdb(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    check_flush_options(request)?;
    ctx.journal.anyway();
    clear(ctx, ctx.db);
    Ok(Part::Done)
}

/// FLUSHALL [ASYNC|SYNC]
fn flushall(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    check_flush_options(request)?;
    ctx.journal.anyway();
    (0..ctx.keyspace.database_count()).for_each(|db| clear(ctx, db));
    Ok(Part::Done)
}

fn check_flush_options(request: &Request<'_>) -> CommandResult {
    match request.len() {
        1 => Ok(()),
        2 if request.is_word(1, "sync") || request.is_word(1, "async") => Ok(()),
        _ => Err(CommandError::Syntax),
    }
}

fn clear(ctx: &mut Ctx<'_>, db: usize) {
    ctx.changes.dirty += ctx.keyspace[db].len() as u64;
    ctx.keyspace[db].clear();
    ctx.changes.note_database(db);
}

/// SWAPDB index1 index2
fn swapdb(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    if ctx.config.cluster_enabled {
        return Err(CommandError::text("ERR SWAPDB is not allowed in cluster mode"));
    }
    let number = |at: usize| parse_i64(request.arg(at)).and_then(|n| i32::try_from(n).ok());
    let first = number(1).ok_or(CommandError::text("ERR invalid first DB index"))?;
    let second = number(2).ok_or(CommandError::text("ERR invalid second DB index"))?;
    let count = ctx.keyspace.database_count();
    let index = |number: i32| usize::try_from(number).ok().filter(|db| *db < count);
    let (Some(first), Some(second)) = (index(first), index(second)) else {
        return Err(NO_SUCH_DATABASE);
    };
    if first != second {
        ctx.keyspace.swap(first, second);
        ctx.changes.note_database(first);
        ctx.changes.note_database(second);
    }
    // One change of the data set, on however many shards.
    ctx.changes.dirty += u64::from(ctx.shard.0 == 0);
    Ok(Part::Done)
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;
    use crate::keyspace::Budget;
    use std::time::Duration;

    #[test]
    fn flushdb_empties_one_database_and_flushall_all() {
        let mut shard = TestShard::new();
        for (db, command, reply) in [
            (0, "MSET a 1 b 2", "+OK\r\n"),
            (1, "SET c 1", "+OK\r\n"),
            (0, "DBSIZE", ":2\r\n"),
            (0, "FLUSHDB NOW", "-ERR syntax error\r\n"),
            (0, "FLUSHALL SYNC SYNC", "-ERR syntax error\r\n"),
            (0, "FLUSHDB async", "+OK\r\n"),
            (0, "DBSIZE", ":0\r\n"),
            (1, "DBSIZE", ":1\r\n"),
            (0, "FLUSHALL sync", "+OK\r\n"),
            (1, "DBSIZE", ":0\r\n"),
            (1, "FLUSHALL", "+OK\r\n"),
        ] {
            shard.db = db;
            assert_eq!(shard.run(command), reply, "{db}: {command}");
        }
        assert_eq!(shard.changes.dirty, 6, "three keys set and three flushed");
    }

    #[test]
    fn a_flushed_database_is_freed_later() {
        let mut shard = TestShard::new();
        (0..1000).for_each(|number| drop(shard.run(&format!("SET key:{number} v"))));
        shard.run("FLUSHALL");
        assert_eq!(shard.run("DBSIZE"), ":0\r\n");
        assert_eq!(shard.keyspace[0].garbage_len(), 1000);
        while shard.keyspace.free_slice(&mut Budget::new(Duration::from_millis(1))) {}
        assert_eq!(shard.keyspace[0].garbage_len(), 0);
    }

    #[test]
    fn swapdb_exchanges_whole_databases() {
        let mut shard = TestShard::new();
        for (db, command, reply) in [
            (0, "SET a zero", "+OK\r\n"),
            (1, "MSET a one b one", "+OK\r\n"),
            (0, "SWAPDB 0 1", "+OK\r\n"),
            (0, "GET a", "$3\r\none\r\n"),
            (1, "DBSIZE", ":1\r\n"),
            (0, "SWAPDB 1 1", "+OK\r\n"),
            (1, "GET a", "$4\r\nzero\r\n"),
            (0, "SWAPDB 0 16", "-ERR DB index is out of range\r\n"),
            (0, "SWAPDB -1 0", "-ERR DB index is out of range\r\n"),
            (0, "SWAPDB x 16", "-ERR invalid first DB index\r\n"),
            (0, "SWAPDB 99999999999 0", "-ERR invalid first DB index\r\n"),
            (0, "SWAPDB 16 x", "-ERR invalid second DB index\r\n"),
        ] {
            shard.db = db;
            assert_eq!(shard.run(command), reply, "{db}: {command}");
        }
    }
}
