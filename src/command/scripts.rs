//! EVAL, FCALL, SCRIPT and FUNCTION: their rows, and where their keys and arguments are. The shard runs
//! scripts, and keeps them.

use super::help::help;
use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, Request, Run, SessionCommand};
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;

/// How a command says what to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptBy {
    /// EVAL: by its text.
    Text,
    /// EVALSHA: by its digest.
    Digest,
    /// FCALL: by the name of a function.
    Function,
}

/// A command that runs a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScriptCommand {
    /// How it says which.
    pub by: ScriptBy,
    /// The script may not write.
    pub read_only: bool,
}

impl ScriptCommand {
    /// First argument behind the number of keys.
    pub const ARGUMENTS_AT: usize = 3;

    /// How many of the arguments from [`Self::ARGUMENTS_AT`] on are keys.
    pub fn key_count(self, args: &[&[u8]]) -> CommandResult<usize> {
        let number = match (parse_i64(args[Self::ARGUMENTS_AT - 1]), self.by) {
            (Some(number), _) => number,
            (None, ScriptBy::Function) => {
                return Err(CommandError::text("ERR Bad number of keys provided"));
            }
            (None, _) => return Err(CommandError::NotInteger),
        };
        if number > (args.len() - Self::ARGUMENTS_AT) as i64 {
            const TEXT: &str = "ERR Number of keys can't be greater than number of args";
            return Err(CommandError::text(TEXT));
        }
        let count = usize::try_from(number);
        count.map_err(|_| CommandError::text("ERR Number of keys can't be negative"))
    }
}

const RUNS: Flags =
    NOSCRIPT.with(STALE).with(SKIP_MONITOR).with(NO_MANDATORY_KEYS).with(MOVABLEKEYS);
const READS: Flags = RUNS.with(READONLY);
const CHANGES_LIBRARIES: Flags = NOSCRIPT.with(WRITE);
const KEYS: &[KeySpec] = &[KeySpec::counted(2, Access::ReadWrite, &["ACCESS", "UPDATE"])];
const KEYS_RO: &[KeySpec] = &[KeySpec::counted(2, Access::ReadOnly, &["ACCESS"])];

const fn runs(by: ScriptBy, read_only: bool) -> Run {
    Run::Script(ScriptCommand { by, read_only })
}

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "eval", arity: Arity::AtLeast(3), flags: RUNS.with(MAY_REPLICATE), group: Group::Scripting, keys: KEYS, categories: &[], run: runs(ScriptBy::Text, false) },
    Command { name: "evalsha", arity: Arity::AtLeast(3), flags: RUNS.with(MAY_REPLICATE), group: Group::Scripting, keys: KEYS, categories: &[], run: runs(ScriptBy::Digest, false) },
    Command { name: "eval_ro", arity: Arity::AtLeast(3), flags: READS, group: Group::Scripting, keys: KEYS_RO, categories: &[], run: runs(ScriptBy::Text, true) },
    Command { name: "evalsha_ro", arity: Arity::AtLeast(3), flags: READS, group: Group::Scripting, keys: KEYS_RO, categories: &[], run: runs(ScriptBy::Digest, true) },
    Command { name: "fcall", arity: Arity::AtLeast(3), flags: RUNS.with(MAY_REPLICATE), group: Group::Scripting, keys: KEYS, categories: &[], run: runs(ScriptBy::Function, false) },
    Command { name: "fcall_ro", arity: Arity::AtLeast(3), flags: READS, group: Group::Scripting, keys: KEYS_RO, categories: &[], run: runs(ScriptBy::Function, true) },
    Command { name: "script", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "script|load", arity: Arity::Exactly(3), flags: NOSCRIPT.with(STALE), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ScriptLoad) },
    Command { name: "script|exists", arity: Arity::AtLeast(3), flags: NOSCRIPT, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ScriptExists) },
    Command { name: "script|flush", arity: Arity::AtLeast(2), flags: NOSCRIPT, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ScriptFlush) },
    Command { name: "script|kill", arity: Arity::Exactly(2), flags: NOSCRIPT.with(ALLOW_BUSY), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ScriptKill) },
    Command { name: "script|debug", arity: Arity::Exactly(3), flags: NOSCRIPT, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Data(script_debug) },
    Command { name: "script|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Data(script_help) },
    Command { name: "function", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "function|load", arity: Arity::AtLeast(3), flags: CHANGES_LIBRARIES.with(DENYOOM), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionLoad) },
    Command { name: "function|delete", arity: Arity::Exactly(3), flags: CHANGES_LIBRARIES, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionDelete) },
    Command { name: "function|flush", arity: Arity::AtLeast(2), flags: CHANGES_LIBRARIES, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionFlush) },
    Command { name: "function|list", arity: Arity::AtLeast(2), flags: NOSCRIPT, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionList) },
    Command { name: "function|stats", arity: Arity::Exactly(2), flags: NOSCRIPT.with(ALLOW_BUSY), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionStats) },
    Command { name: "function|dump", arity: Arity::Exactly(2), flags: NOSCRIPT, group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionDump) },
    Command { name: "function|restore", arity: Arity::AtLeast(3), flags: CHANGES_LIBRARIES.with(DENYOOM), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionRestore) },
    Command { name: "function|kill", arity: Arity::Exactly(2), flags: NOSCRIPT.with(ALLOW_BUSY), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::FunctionKill) },
    Command { name: "function|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Scripting, keys: NO_KEYS, categories: &[], run: Run::Data(function_help) },
];

const SCRIPT_HELP: [&str; 14] = [
    "DEBUG (YES|SYNC|NO)",
    "    Say whether the scripts of this connection are debugged; they never are.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Tell for each digest whether its script is known.",
    "FLUSH [ASYNC|SYNC]",
    "    Forget all scripts. With or without an argument, memory is freed",
    "    as the shards come across it.",
    "    * ASYNC: as without.",
    "    * SYNC: as without.",
    "KILL",
    "    End the script that runs, if it has not written.",
    "LOAD <script>",
    "    Compile a script and keep it, without running it.",
    "    Its digest is the reply.",
];

/// SCRIPT HELP
fn script_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "SCRIPT", &SCRIPT_HELP);
    Ok(())
}

/// SCRIPT DEBUG: scripts are not debugged here; clients that say so explicitly are content.
fn script_debug(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    if request.is_word(2, "no") {
        reply.ok();
        return Ok(());
    }
    if request.is_word(2, "yes") || request.is_word(2, "sync") {
        return Err(CommandError::text("ERR The Lua debugger is not supported"));
    }
    Err(CommandError::text("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

const FUNCTION_HELP: [&str; 24] = [
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Make a library of this code; its name is in the first line.",
    "DELETE <LIBRARY NAME>",
    "    Delete the library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Tell about all libraries, or those whose names match:",
    "    * Library name",
    "    * Engine",
    "    * Functions",
    "    * Library code (if WITHCODE is given)",
    "STATS",
    "    Tell about the function that runs:",
    "    * Function name",
    "    * Command by which it was called",
    "    * For how many milliseconds it has run",
    "    and about the engines.",
    "KILL",
    "    End the function that runs, if it has not written.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all libraries.",
    "DUMP",
    "    Give all libraries as a payload for FUNCTION RESTORE.",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Make the libraries of a payload.",
];

/// FUNCTION HELP
fn function_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "FUNCTION", &FUNCTION_HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    #[test]
    fn the_number_of_keys_is_checked_in_the_words_of_redis() {
        for (by, words, expected) in [
            (ScriptBy::Text, "eval x 1 k a", Ok(1)),
            (ScriptBy::Text, "eval x 0", Ok(0)),
            (ScriptBy::Text, "eval x z", Err("ERR value is not an integer or out of range")),
            (ScriptBy::Function, "fcall x z", Err("ERR Bad number of keys provided")),
            (
                ScriptBy::Text,
                "eval x 2 k",
                Err("ERR Number of keys can't be greater than number of args"),
            ),
            (ScriptBy::Text, "eval x -1", Err("ERR Number of keys can't be negative")),
        ] {
            let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            let count = ScriptCommand { by, read_only: false }.key_count(&args);
            let count = count.map_err(|error| error.to_string());
            assert_eq!(count, expected.map_err(String::from), "{words}");
        }
    }

    #[test]
    fn help_and_debug_answer_without_a_script() {
        let mut shard = TestShard::new();
        assert!(shard.run("SCRIPT HELP").starts_with("*17\r\n+SCRIPT <subcommand>"));
        assert!(shard.run("FUNCTION HELP").starts_with("*27\r\n+FUNCTION <subcommand>"));
        assert_eq!(shard.run("SCRIPT DEBUG NO"), "+OK\r\n");
        assert_eq!(shard.run("SCRIPT DEBUG x"), "-ERR Use SCRIPT DEBUG YES/SYNC/NO\r\n");
    }
}
