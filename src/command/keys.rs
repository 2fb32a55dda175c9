//! Keys of any type, by name: DEL, EXISTS, TYPE and their kin.

use super::spec::*;
use super::{Class, Command, CommandResult, Ctx, Request, Run};
use crate::keyspace::Database;
use crate::resp::Reply;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "del", arity: Arity::AtLeast(2), flags: WRITE, group: Group::Generic, keys: KEYS_REMOVE, categories: &[], run: Run::Data(del) },
    Command { name: "unlink", arity: Arity::AtLeast(2), flags: WRITE.with(FAST), group: Group::Generic, keys: KEYS_REMOVE, categories: &[], run: Run::Data(del) },
    Command { name: "exists", arity: Arity::AtLeast(2), flags: READONLY.with(FAST), group: Group::Generic, keys: KEYS_LOOK, categories: &[], run: Run::Data(exists) },
    Command { name: "touch", arity: Arity::AtLeast(2), flags: READONLY.with(FAST), group: Group::Generic, keys: KEYS_LOOK, categories: &[], run: Run::Data(touch) },
    Command { name: "type", arity: Arity::Exactly(2), flags: READONLY.with(FAST), group: Group::Generic, keys: KEY_LOOK, categories: &[], run: Run::Data(type_of) },
];

/// DEL key [key …], and UNLINK: big values are freed in slices either way.
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

/// EXISTS key [key …]
fn exists(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let db: &mut Database = &mut ctx.keyspace[ctx.db];
    let found = (1..request.len()).filter(|&at| db.look_at(&request.key(at)).is_some()).count();
    reply.integer(found as i64);
    Ok(())
}

/// TOUCH key [key …]
fn touch(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let db = &mut ctx.keyspace[ctx.db];
    let found = (1..request.len()).filter(|&at| db.read(&request.key(at)).is_some()).count();
    reply.integer(found as i64);
    Ok(())
}

/// TYPE key
fn type_of(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let entry = ctx.keyspace[ctx.db].look_at(&request.key(1));
    reply.simple(entry.map_or("none", |entry| entry.value().type_name().as_str()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn keys_are_counted_as_often_as_they_are_named() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("EXISTS a", ":0\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("RPUSH b x", ":1\r\n"),
            ("EXISTS a a b nothing", ":3\r\n"),
            ("TOUCH a b b nothing", ":3\r\n"),
            ("DEL a a nothing", ":1\r\n"),
            ("UNLINK b b", ":1\r\n"),
            ("EXISTS a b", ":0\r\n"),
            ("DEL", "-ERR wrong number of arguments for 'del' command\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.changes.dirty, 4);
    }

    #[test]
    fn type_names_each_kind_of_value() {
        let mut shard = TestShard::new();
        for (command, name) in [
            ("SET k v", "string"),
            ("RPUSH k v", "list"),
            ("SADD k v", "set"),
            ("ZADD k 1 v", "zset"),
            ("HSET k f v", "hash"),
        ] {
            shard.run(command);
            assert_eq!(shard.run("TYPE k"), format!("+{name}\r\n"));
            shard.run("DEL k");
        }
        assert_eq!(shard.run("TYPE k"), "+none\r\n");
    }

    #[test]
    fn looking_counts_a_hit_or_a_miss_and_only_touch_is_an_access() {
        let mut shard = TestShard::new();
        shard.run("SET k v");
        shard.keyspace.set_now(shard.keyspace.now_ms() + 60_000);
        let before = shard.keyspace[0].stats();
        for look in ["EXISTS k", "TYPE k", "TTL k", "OBJECT ENCODING k"] {
            shard.run(look);
            assert_eq!(shard.run("OBJECT IDLETIME k"), ":60\r\n", "{look}");
        }
        assert_eq!(shard.keyspace[0].stats().hits - before.hits, 8);
        shard.run("EXISTS nothing");
        assert_eq!(shard.keyspace[0].stats().misses - before.misses, 1);
        shard.run("TOUCH k");
        assert_eq!(shard.run("OBJECT IDLETIME k"), ":0\r\n");
    }

    #[test]
    fn what_has_expired_is_not_there() {
        let mut shard = TestShard::new();
        for deleting in ["DEL k", "UNLINK k", "EXISTS k", "TOUCH k"] {
            shard.run("SET k v PX 10");
            shard.keyspace.set_now(shard.keyspace.now_ms() + 10);
            assert_eq!(shard.run(deleting), ":0\r\n", "{deleting}");
        }
    }
}
