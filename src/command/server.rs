//! The server itself: CONFIG, COMMAND, INFO, SLOWLOG, LATENCY, MEMORY, DEBUG, TIME, LOLWUT.
//!
//! INFO, SLOWLOG and their like ask every shard for its figures ([`figures`]); the control core carries out
//! CONFIG SET, CONFIG REWRITE and SHUTDOWN; everything else needs only settings, arguments or keys.

mod debug;
mod digest;
mod docs;
mod figures;
mod introspection;
mod lolwut;
mod memory_usage;

pub use debug::is_allowed as debug_is_allowed;
pub use memory_usage::entry_bytes;

use super::help::help;
use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, EveryShard, Request, Run, SessionCommand};
use crate::clock;
use crate::config::values::Permission;
use crate::resp::Reply;

/// For operators, also while loading and on a stale replica, and never from scripts.
const OPERATOR: Flags = ADMIN.with(NOSCRIPT).with(LOADING).with(STALE);
/// Harmless at any time.
const ANY_TIME: Flags = LOADING.with(STALE);
const MODULES: Flags = ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING);
const KEY_USAGE: &[KeySpec] = &[KeySpec::one(2, Access::ReadOnly, &[])];
const DEBUG: Run =
    Run::EveryShard(EveryShard { part: debug::part, merge: debug::merge, exclusive: false });

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "command", arity: Arity::AtLeast(1), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::ContainerOr(introspection::command) },
    Command { name: "command|count", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::count) },
    Command { name: "command|docs", arity: Arity::AtLeast(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::write_docs) },
    Command { name: "command|getkeys", arity: Arity::AtLeast(4), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::get_keys) },
    Command { name: "command|getkeysandflags", arity: Arity::AtLeast(4), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::get_keys_and_flags) },
    Command { name: "command|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::show_help) },
    Command { name: "command|info", arity: Arity::AtLeast(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::info) },
    Command { name: "command|list", arity: Arity::AtLeast(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@connection"], run: Run::Data(introspection::list) },

    Command { name: "config", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "config|get", arity: Arity::AtLeast(3), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(config_get) },
    Command { name: "config|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(config_help) },
    Command { name: "config|resetstat", arity: Arity::Exactly(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::RESETSTAT },
    Command { name: "config|rewrite", arity: Arity::Exactly(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ConfigRewrite) },
    Command { name: "config|set", arity: Arity::AtLeast(4), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ConfigSet) },

    Command { name: "debug", arity: Arity::AtLeast(2), flags: OPERATOR.with(PROTECTED), group: Group::Server, keys: NO_KEYS, categories: &[], run: DEBUG },
    Command { name: "info", arity: Arity::AtLeast(1), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &["@dangerous"], run: figures::INFO },

    Command { name: "latency", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "latency|doctor", arity: Arity::Exactly(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|graph", arity: Arity::Exactly(3), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|histogram", arity: Arity::AtLeast(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|history", arity: Arity::Exactly(3), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|latest", arity: Arity::Exactly(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },
    Command { name: "latency|reset", arity: Arity::AtLeast(2), flags: OPERATOR, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::LATENCY },

    Command { name: "lolwut", arity: Arity::AtLeast(1), flags: READONLY.with(FAST), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(lolwut::lolwut) },

    Command { name: "memory", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "memory|doctor", arity: Arity::Exactly(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::MEMORY },
    Command { name: "memory|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(memory_usage::show_help) },
    Command { name: "memory|malloc-stats", arity: Arity::Exactly(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(memory_usage::malloc_stats) },
    Command { name: "memory|purge", arity: Arity::Exactly(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(memory_usage::purge) },
    Command { name: "memory|stats", arity: Arity::Exactly(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::MEMORY },
    Command { name: "memory|usage", arity: Arity::AtLeast(3), flags: READONLY, group: Group::Server, keys: KEY_USAGE, categories: &[], run: Run::Data(memory_usage::usage) },

    Command { name: "module", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "module|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(module_help) },
    Command { name: "module|list", arity: Arity::Exactly(2), flags: ADMIN.with(NOSCRIPT), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(module_list) },
    Command { name: "module|load", arity: Arity::AtLeast(3), flags: MODULES, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(module_load) },
    Command { name: "module|loadex", arity: Arity::AtLeast(3), flags: MODULES, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(module_load) },
    Command { name: "module|unload", arity: Arity::Exactly(3), flags: MODULES, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(module_unload) },

    Command { name: "slowlog", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "slowlog|get", arity: Arity::AtLeast(2), flags: ADMIN.with(LOADING).with(STALE), group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::SLOWLOG },
    Command { name: "slowlog|help", arity: Arity::Exactly(2), flags: ANY_TIME, group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::SLOWLOG },
    Command { name: "slowlog|len", arity: Arity::Exactly(2), flags: ADMIN.with(LOADING).with(STALE), group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::SLOWLOG },
    Command { name: "slowlog|reset", arity: Arity::Exactly(2), flags: ADMIN.with(LOADING).with(STALE), group: Group::Server, keys: NO_KEYS, categories: &[], run: figures::SLOWLOG },

    Command { name: "bgrewriteaof", arity: Arity::Exactly(1), flags: ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::RewriteAof) },
    Command { name: "bgsave", arity: Arity::AtLeast(1), flags: ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::BackgroundSave) },
    Command { name: "lastsave", arity: Arity::Exactly(1), flags: ANY_TIME.with(FAST), group: Group::Server, keys: NO_KEYS, categories: &["@admin", "@dangerous"], run: Run::Data(last_save) },
    Command { name: "save", arity: Arity::Exactly(1), flags: ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING).with(NO_MULTI), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Save) },
    Command { name: "shutdown", arity: Arity::AtLeast(1), flags: OPERATOR.with(NO_MULTI).with(ALLOW_BUSY), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Shutdown) },
    Command { name: "time", arity: Arity::Exactly(1), flags: ANY_TIME.with(FAST), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Data(time) },
];

/// CONFIG GET pattern [pattern …]
fn config_get(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    let found = ctx.config.get(request.rest(2));
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(&value);
    }
    Ok(())
}

const CONFIG_HELP: [&str; 8] = [
    "GET <pattern> [<pattern> ...]",
    "    Show the directives that match a pattern, with their values.",
    "SET <directive> <value> [<directive> <value> ...]",
    "    Change directives, all of them or none.",
    "RESETSTAT",
    "    Set the counters of INFO to zero.",
    "REWRITE",
    "    Write the configuration back to its file.",
];

/// CONFIG HELP
fn config_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "CONFIG", &CONFIG_HELP);
    Ok(())
}

const MODULE_HELP: [&str; 8] = [
    "LIST",
    "    List the loaded modules: there are none.",
    "LOAD <path> [<arg> ...]",
    "    Not supported.",
    "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
    "    Not supported.",
    "UNLOAD <name>",
    "    Not supported.",
];

/// MODULE HELP
fn module_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "MODULE", &MODULE_HELP);
    Ok(())
}

/// MODULE LIST
fn module_list(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.array(0);
    Ok(())
}

/// The error for who may not load modules, and the one for who may: there is nothing to load them with.
fn refuse_module(ctx: &Ctx<'_>, failure: &'static str) -> CommandResult {
    if ctx.config.enable_module_command == Permission::No {
        return Err(CommandError::text(
            "ERR MODULE command not allowed. If the enable-module-command option is set to \
             \"local\", you can run it from a local connection, otherwise you need to set this \
             option in the configuration file, and then restart the server.",
        ));
    }
    Err(CommandError::text(failure))
}

/// MODULE LOAD path [argument …]
fn module_load(ctx: &mut Ctx<'_>, _: &Request<'_>, _: &mut Reply<'_>) -> CommandResult {
    refuse_module(ctx, "ERR Error loading the extension. Please check the server logs.")
}

/// MODULE UNLOAD name
fn module_unload(ctx: &mut Ctx<'_>, _: &Request<'_>, _: &mut Reply<'_>) -> CommandResult {
    refuse_module(ctx, "ERR Error unloading module: no such module with that name")
}

/// LASTSAVE
fn last_save(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.integer(ctx.process.persistence().last_save);
    Ok(())
}

/// TIME
fn time(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    // Not the time of the turn: who asks for microseconds wants them to be true.
    let now = clock::unix_us();
    reply.array(2);
    reply.bulk_int(now / 1_000_000);
    reply.bulk_int(now % 1_000_000);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Permission;
    use crate::command::testing::TestShard;

    #[test]
    fn config_get_is_a_map_of_names_and_values() {
        let mut shard = TestShard::new();
        assert_eq!(
            shard.run("CONFIG GET Port nothing hz"),
            "*4\r\n$4\r\nPort\r\n$4\r\n6379\r\n$2\r\nhz\r\n$2\r\n10\r\n"
        );
        shard.resp3 = true;
        assert_eq!(shard.run("config get maxmemory"), "%1\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n");
        assert_eq!(shard.run("config get nothing"), "%0\r\n");
        assert!(shard.run("config help").starts_with("*11\r\n+CONFIG <subcommand>"));
    }

    #[test]
    fn there_are_no_modules_and_none_can_be_loaded() {
        let mut shard = TestShard::new();
        assert_eq!(shard.run("module list"), "*0\r\n");
        assert!(shard.run("module load x").starts_with("-ERR MODULE command not allowed. If the"));
        shard.config.enable_module_command = Permission::Yes;
        assert!(shard.run("module load x").starts_with("-ERR Error loading the extension."));
        assert!(shard.run("module unload x").contains("no such module with that name"));
    }

    #[test]
    fn time_is_seconds_and_microseconds() {
        let reply = TestShard::new().run("time");
        let lines: Vec<&str> = reply.split("\r\n").collect();
        let (seconds, micros): (u64, u64) = (lines[2].parse().unwrap(), lines[4].parse().unwrap());
        assert!(lines[0] == "*2" && seconds > 1_700_000_000 && micros < 1_000_000, "{reply}");
    }
}
