//! Values that go to another key or database: RENAME, COPY, MOVE.
//!
//! A value moves as a pointer, whatever its size; its expiry and its access clock go with it.

use super::databases::database_number;
use super::spec::*;
use super::{Class, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::keyspace::{Entry, Key, Keyspace};
use crate::resp::Reply;

const KEYS_RENAME: &[KeySpec] = &[
    KeySpec::one(1, Access::ReadWrite, &["ACCESS", "DELETE"]),
    KeySpec::one(2, Access::OverWrite, &["UPDATE"]),
];
const KEYS_RENAMENX: &[KeySpec] = &[
    KeySpec::one(1, Access::ReadWrite, &["ACCESS", "DELETE"]),
    KeySpec::one(2, Access::OverWrite, &["INSERT"]),
];
const KEYS_COPY: &[KeySpec] = &[
    KeySpec::one(1, Access::ReadOnly, &["ACCESS"]),
    KeySpec::one(2, Access::OverWrite, &["UPDATE"]),
];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "rename", arity: Arity::Exactly(3), flags: WRITE, group: Group::Generic, keys: KEYS_RENAME, categories: &[], run: Run::Data(rename) },
    Command { name: "renamenx", arity: Arity::Exactly(3), flags: WRITE.with(FAST), group: Group::Generic, keys: KEYS_RENAMENX, categories: &[], run: Run::Data(renamenx) },
    Command { name: "copy", arity: Arity::AtLeast(3), flags: WRITE.with(DENYOOM), group: Group::Generic, keys: KEYS_COPY, categories: &[], run: Run::Data(copy) },
    Command { name: "move", arity: Arity::Exactly(3), flags: WRITE.with(FAST), group: Group::Generic, keys: KEY_ACCESS_UPDATE, categories: &[], run: Run::Data(move_key) },
];

const SAME_OBJECT: CommandError =
    CommandError::text("ERR source and destination objects are the same");

/// RENAME key newkey
fn rename(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    rename_key(ctx, &request.key(1), &request.key(2), true)?;
    reply.ok();
    Ok(())
}

/// RENAMENX key newkey
fn renamenx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let renamed = rename_key(ctx, &request.key(1), &request.key(2), false)?;
    reply.integer(i64::from(renamed));
    Ok(())
}

/// Gives the value of `source` to `destination`; false if there was nothing to do or, without
/// `replace`, something is there.
fn rename_key(
    ctx: &mut Ctx<'_>,
    source: &Key<'_>,
    destination: &Key<'_>,
    replace: bool,
) -> CommandResult<bool> {
    let db = &mut ctx.keyspace[ctx.db];
    db.entry_mut(source).ok_or(CommandError::NoSuchKey)?;
    if source.bytes == destination.bytes || (!replace && db.contains(destination)) {
        return Ok(false);
    }
    let entry = db.take(source).ok_or(CommandError::NoSuchKey)?;
    let (expiry, clock) = (entry.expiry(), entry.clock());
    db.adopt(Entry::new(destination.bytes, entry.into_value(), expiry, clock));
    ctx.changed(source, Class::Generic, "rename_from");
    ctx.changed(destination, Class::Generic, "rename_to");
    ctx.changes.dirty -= 1; // two keys, one change
    Ok(true)
}

/// What COPY is asked for after its keys.
struct CopyOptions {
    /// The database of the destination.
    db: usize,
    replace: bool,
}

impl CopyOptions {
    /// The options among all arguments; `selected` of `databases` databases is the client's.
    fn parse(request: &Request<'_>, selected: usize, databases: usize) -> CommandResult<Self> {
        let mut options = Self { db: selected, replace: false };
        let mut at = 3;
        while at < request.len() {
            if request.is_word(at, "replace") {
                options.replace = true;
                at += 1;
            } else if let (true, Some(number)) = (request.is_word(at, "db"), request.get(at + 1)) {
                options.db = database_number(number, databases)?;
                at += 2;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

/// The database that the destination of COPY is in; `selected` when the arguments are bad, which the
/// handler will say.
pub(super) fn copy_destination_db(args: &[&[u8]], selected: usize, databases: usize) -> usize {
    CopyOptions::parse(&Request::new(args), selected, databases).map_or(selected, |found| found.db)
}

/// COPY source destination [DB destination-db] [REPLACE]
fn copy(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let options = CopyOptions::parse(request, ctx.db, ctx.keyspace.database_count())?;
    if ctx.config.cluster_enabled && (ctx.db != 0 || options.db != 0) {
        return Err(CommandError::text(
            "ERR Copying to another database is not allowed in cluster mode",
        ));
    }
    let (source, destination) = (request.key(1), request.key(2));
    if options.db == ctx.db && source.bytes == destination.bytes {
        return Err(SAME_OBJECT);
    }
    let copied = copy_value(ctx.keyspace, (ctx.db, &source), (options.db, &destination), &options);
    if copied {
        ctx.changed_in(options.db, &destination, Class::Generic, "copy_to");
    }
    reply.integer(i64::from(copied));
    Ok(())
}

fn copy_value(
    keyspace: &mut Keyspace,
    (source_db, source): (usize, &Key<'_>),
    (destination_db, destination): (usize, &Key<'_>),
    options: &CopyOptions,
) -> bool {
    if keyspace[source_db].read_entry(source).is_none()
        || (!options.replace && keyspace[destination_db].contains(destination))
    {
        return false;
    }
    let Some(entry) = keyspace[source_db].peek(source) else { return false };
    let (expiry, value) = (entry.expiry(), entry.value().to_owned(entry.is_shown_raw()));
    // The destination goes first: an overwritten value is not a base for the new one.
    keyspace[destination_db].remove(destination);
    keyspace[destination_db].insert(destination, value, expiry);
    true
}

/// MOVE key db
fn move_key(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    if ctx.config.cluster_enabled {
        return Err(CommandError::text("ERR MOVE is not allowed in cluster mode"));
    }
    let destination = database_number(request.arg(2), ctx.keyspace.database_count())?;
    if destination == ctx.db {
        return Err(SAME_OBJECT);
    }
    let key = request.key(1);
    let moves =
        ctx.keyspace[ctx.db].entry_mut(&key).is_some() && !ctx.keyspace[destination].contains(&key);
    if moves && let Some(entry) = ctx.keyspace[ctx.db].take(&key) {
        ctx.keyspace[destination].adopt(entry);
        ctx.changed(&key, Class::Generic, "move_from");
        ctx.changed_in(destination, &key, Class::Generic, "move_to");
        ctx.changes.dirty -= 1; // two keys, one change
    }
    reply.integer(i64::from(moves));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;
    use crate::config::values::Permission;

    const ONE_OF_EACH: [&str; 7] = [
        "SET s v",
        "SET n 12345",
        "RPUSH l a b c",
        "SADD i 1 2 3",
        "SADD set a b",
        "ZADD z 1 a 2.5 b",
        "HSET h f v g w",
    ];
    const KEYS: [&str; 7] = ["s", "n", "l", "i", "set", "z", "h"];

    /// What a value is, apart from its name: a digest and the encoding.
    fn value(shard: &mut TestShard, key: &str) -> String {
        let digest = shard.run(&format!("DEBUG DIGEST-VALUE {key}"));
        digest + &shard.run(&format!("OBJECT ENCODING {key}"))
    }

    #[test]
    fn every_kind_of_value_is_renamed_copied_and_moved_with_its_expiry() {
        let mut shard = TestShard::new();
        shard.config.enable_debug_command = Permission::Yes;
        ONE_OF_EACH.iter().for_each(|command| drop(shard.run(command)));
        shard.run("APPEND s w"); // raw from now on, though short
        for key in KEYS {
            shard.run(&format!("PEXPIRE {key} 5000"));
            let before = value(&mut shard, key);
            assert_eq!(shard.run(&format!("RENAME {key} {key}2")), "+OK\r\n");
            assert_eq!(value(&mut shard, &format!("{key}2")), before, "{key}");
            assert_eq!(shard.run(&format!("COPY {key}2 {key}")), ":1\r\n");
            assert_eq!(value(&mut shard, key), before, "{key}");
            assert_eq!(shard.run(&format!("MOVE {key} 5")), ":1\r\n");
            assert_eq!(shard.run(&format!("EXISTS {key} {key}2")), ":1\r\n");
            shard.db = 5;
            assert_eq!(value(&mut shard, key), before, "{key}");
            assert_eq!(shard.run(&format!("PTTL {key}")), ":5000\r\n");
            shard.db = 0;
        }
    }

    #[test]
    fn rename_replaces_what_is_there_and_renamenx_does_not() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("RENAME nothing k", "-ERR no such key\r\n"),
            ("RENAMENX nothing nothing", "-ERR no such key\r\n"),
            ("SET a 1 PX 5000", "+OK\r\n"),
            ("SET b 2", "+OK\r\n"),
            ("RENAMENX a b", ":0\r\n"),
            ("RENAMENX a a", ":0\r\n"),
            ("RENAME a a", "+OK\r\n"),
            ("RENAME b a", "+OK\r\n"),
            ("GET a", "$1\r\n2\r\n"),
            ("PTTL a", ":-1\r\n"),
            ("EXISTS b", ":0\r\n"),
            ("RENAMENX a b", ":1\r\n"),
            ("GET b", "$1\r\n2\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.changes.dirty, 4);
    }

    #[test]
    fn a_renamed_key_keeps_its_frequency() {
        let mut shard = TestShard::new();
        shard.keyspace.set_access_policy(true, 0, 0);
        shard.run("SET k v");
        (0..20).for_each(|_| drop(shard.run("GET k")));
        let frequency = |shard: &TestShard, key: &[u8]| {
            let clock = shard.keyspace[0].peek(&Key::new(key)).unwrap().clock();
            shard.keyspace.access().frequency(clock)
        };
        let before = frequency(&shard, b"k");
        shard.run("RENAME k j");
        assert_eq!(frequency(&shard, b"j"), before + 1); // the look-up of the source counts
    }

    #[test]
    fn copy_reads_its_options_before_it_looks_at_keys() {
        let mut shard = TestShard::new();
        let int_range =
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n";
        for (command, reply) in [
            ("COPY nothing k", ":0\r\n"),
            ("SET a 1", "+OK\r\n"),
            ("SET b 2", "+OK\r\n"),
            ("COPY a b", ":0\r\n"),
            ("COPY a b replace", ":1\r\n"),
            ("GET b", "$1\r\n1\r\n"),
            ("COPY a a", "-ERR source and destination objects are the same\r\n"),
            ("COPY a a DB 0", "-ERR source and destination objects are the same\r\n"),
            ("COPY a a DB 3 REPLACE", ":1\r\n"),
            ("COPY a a DB 3", ":0\r\n"),
            ("COPY a b DB 16", "-ERR DB index is out of range\r\n"),
            ("COPY a b DB -1", "-ERR DB index is out of range\r\n"),
            ("COPY a b DB 99999999999", int_range),
            ("COPY a b DB x", "-ERR value is not an integer or out of range\r\n"),
            ("COPY a b DB", "-ERR syntax error\r\n"),
            ("COPY a a QQ", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.changes.dirty, 4);
    }

    #[test]
    fn the_database_of_a_copy_is_found_in_its_arguments() {
        for (words, db) in [
            ("copy a b", 2),
            ("copy a b replace", 2),
            ("copy a b replace db 7", 7),
            ("copy a b DB 7 db 8", 8),
            ("copy a b db 16", 2),
            ("copy a b db", 2),
            ("copy a b db 7 qq", 2),
        ] {
            let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            assert_eq!(copy_destination_db(&args, 2, 16), db, "{words}");
        }
    }

    #[test]
    fn move_needs_another_database_and_a_free_name() {
        let mut shard = TestShard::new();
        for (command, reply) in [
            ("MOVE nothing 1", ":0\r\n"),
            ("SET k v", "+OK\r\n"),
            ("COPY k k DB 1", ":1\r\n"),
            ("MOVE k 1", ":0\r\n"),
            ("MOVE k 0", "-ERR source and destination objects are the same\r\n"),
            ("MOVE k 16", "-ERR DB index is out of range\r\n"),
            ("MOVE k -1", "-ERR DB index is out of range\r\n"),
            ("MOVE k x", "-ERR value is not an integer or out of range\r\n"),
            ("MOVE k 2", ":1\r\n"),
            ("EXISTS k", ":0\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert_eq!(shard.changes.dirty, 3);
    }

    #[test]
    fn a_cluster_has_one_database() {
        let mut shard = TestShard::new();
        shard.config.cluster_enabled = true;
        shard.run("SET k v");
        for (command, reply) in [
            ("COPY k j", ":1\r\n"),
            (
                "COPY k j DB 1",
                "-ERR Copying to another database is not allowed in cluster mode\r\n",
            ),
            ("MOVE k 1", "-ERR MOVE is not allowed in cluster mode\r\n"),
            ("SWAPDB 0 1", "-ERR SWAPDB is not allowed in cluster mode\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }
}
