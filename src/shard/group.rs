//! A group of commands: parsed from the input of a connection, found in the command table, their keys hashed
//! and prefetched before the first of them runs.
//!
//! Promise: nothing here changes anything; what is no command is told apart, and in Redis's words.

use super::engine::Engine;
use crate::command::{Command, CommandError, CommandId, CommandTable, KeyShape, Run};
use crate::keyspace::{Database, Key};
use crate::resp::{Limits, Opening, ProtocolError, Step};
use crate::session::Session;

/// Commands that are parsed before the first of them runs: enough to overlap cache misses, few enough
/// that what was prefetched is still in the first-level cache when it is used.
const GROUP_COMMANDS_MAX: usize = 64;

/// One parsed command of a group.
#[derive(Clone, Copy)]
pub(super) struct Parsed<'a> {
    /// Its arguments in the group's.
    pub(super) first_arg: usize,
    pub(super) end_arg: usize,
    /// Where it ends in the input of the group.
    pub(super) end: usize,
    /// `None` if there is no such command, or not with so many arguments.
    pub(super) id: Option<CommandId>,
    /// Its only key, for commands that have exactly one.
    pub(super) key: Option<(u8, Key<'a>)>,
}

/// What the command before this one was, and how it began: most are followed by another one of their kind.
#[derive(Clone, Copy, Default)]
pub(super) struct Familiar {
    opening: Opening,
    id: Option<CommandId>,
}

impl Familiar {
    /// The command at the start of `input`, whose words are these; `None` where its name and their number do not tell.
    #[inline]
    fn of(table: &CommandTable, id: Option<CommandId>, input: &[u8], words: &[&[u8]]) -> Self {
        // A subcommand is known by its second word.
        let tells = |id: &CommandId| {
            let command = table.command(*id);
            !matches!(command.run, Run::ContainerOr(_)) && !command.name.contains('|')
        };
        match id.filter(tells) {
            Some(id) => Self { opening: Opening::of(input, words), id: Some(id) },
            None => Self::default(),
        }
    }
}

/// Why parsing a group ended.
pub(super) enum Why {
    /// The group is full.
    Full,
    /// The next command is not whole.
    NeedsMore,
    /// An inline command follows, of so many bytes and these words.
    Inline(usize, Vec<Vec<u8>>),
    /// What follows is no command.
    Error(ProtocolError),
}

/// Where parsing a group ended.
pub(super) struct Stop {
    pub(super) why: Why,
    /// Input taken by the group and by empty lines after it.
    pub(super) skipped: usize,
}

/// Parses commands from the start of `input` until the group is full or something is in the way.
pub(super) fn parse_group<'b>(
    engine: &Engine,
    session: &mut Session,
    familiar: &mut Familiar,
    input: &'b [u8],
    args: &mut Vec<&'b [u8]>,
    group: &mut Vec<Parsed<'b>>,
) -> Stop {
    let limits = Limits {
        bulk_bytes_max: engine.config.proto_max_bulk_len as usize,
        unauthenticated: !session.authenticated,
    };
    // AUTH lifts limits that apply to what follows it, so until then one command at a time.
    let most = if session.authenticated { GROUP_COMMANDS_MAX } else { 1 };
    let table = CommandTable::get();
    let mut end = 0;
    while group.len() < most {
        if end == input.len() {
            return Stop { why: Why::NeedsMore, skipped: end };
        }
        let first_arg = args.len();
        let rest = &input[end..];
        if most > 1
            && let Some(consumed) = session.parser.next_like(&familiar.opening, rest, &limits, args)
        {
            end += consumed;
            let id = familiar.id;
            let key = id.and_then(|id| single_key(table, id, &args[first_arg..]));
            group.push(Parsed { first_arg, end_arg: args.len(), end, id, key });
            continue;
        }
        match session.parser.next(rest, &limits, args) {
            Ok(Step::Command { consumed }) => {
                end += consumed;
                let words = &args[first_arg..];
                let id = identify(table, words);
                *familiar = Familiar::of(table, id, rest, words);
                let key = id.and_then(|id| single_key(table, id, words));
                group.push(Parsed { first_arg, end_arg: args.len(), end, id, key });
            }
            Ok(Step::Nothing { consumed }) => end += consumed,
            Ok(Step::Inline { consumed, args }) => {
                return Stop { why: Why::Inline(consumed, args), skipped: end };
            }
            Ok(Step::Incomplete { .. }) => return Stop { why: Why::NeedsMore, skipped: end },
            Err(error) => return Stop { why: Why::Error(error), skipped: end },
        }
    }
    Stop { why: Why::Full, skipped: end }
}

/// Which command this is, if it exists and its arity is right; [`why_unidentified`] if not.
#[inline(always)]
pub(super) fn identify(table: &CommandTable, words: &[&[u8]]) -> Option<CommandId> {
    let mut id = table.find(words[0])?;
    let mut command = table.command(id);
    if wants_subcommand(command, words) {
        id = table.find_subcommand(command, words.get(1)?)?;
        command = table.command(id);
    }
    command.arity.allows(words.len()).then_some(id)
}

/// Whether the next word decides what this command is.
#[inline(always)]
fn wants_subcommand(command: &Command, words: &[&[u8]]) -> bool {
    match command.run {
        Run::Container => true,
        Run::ContainerOr(_) => words.len() > 1,
        _ => false,
    }
}

/// What is wrong with a command that [`identify`] does not know.
#[cold]
pub(super) fn why_unidentified(words: &[&[u8]]) -> CommandError {
    let table = CommandTable::get();
    let Some(id) = table.find(words[0]) else { return unknown_command(words) };
    let command = table.command(id);
    let name = match (wants_subcommand(command, words), words.get(1)) {
        (true, Some(word)) => match table.find_subcommand(command, word) {
            Some(id) => table.command(id).name,
            None => return unknown_subcommand(command.name, word),
        },
        _ => command.name,
    };
    CommandError::WrongArity(name.to_owned())
}

/// The only key of a command that has exactly one, and where it stands.
#[inline(always)]
pub(super) fn single_key<'b>(
    table: &CommandTable,
    id: CommandId,
    words: &[&'b [u8]],
) -> Option<(u8, Key<'b>)> {
    match table.shape(id) {
        KeyShape::One(at) => words.get(usize::from(at)).map(|bytes| (at, Key::new(bytes))),
        KeyShape::None | KeyShape::Several => None,
    }
}

/// Whether this is how an HTTP request begins that a browser can be made to send.
#[cold]
pub(super) fn is_http(words: &[&[u8]]) -> bool {
    words[0].eq_ignore_ascii_case(b"post") || words[0].eq_ignore_ascii_case(b"host:")
}

/// Most bytes of the arguments that an unknown command's error repeats (Redis 7.0 `server.c`).
const UNKNOWN_ARGS_BYTES_MAX: usize = 128;

#[cold]
fn unknown_command(words: &[&[u8]]) -> CommandError {
    let text = |bytes: &[u8]| {
        let cut = &bytes[..bytes.len().min(UNKNOWN_ARGS_BYTES_MAX)];
        String::from_utf8_lossy(cut).into_owned()
    };
    let mut args = String::new();
    for word in &words[1..] {
        if args.len() >= UNKNOWN_ARGS_BYTES_MAX {
            break;
        }
        let left = UNKNOWN_ARGS_BYTES_MAX - args.len();
        let cut = &word[..word.len().min(left)];
        args.push_str(&format!("'{}' ", String::from_utf8_lossy(cut)));
    }
    let name = text(words[0]);
    CommandError::owned(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}

#[cold]
fn unknown_subcommand(container: &str, word: &[u8]) -> CommandError {
    let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
    let container = container.to_ascii_uppercase();
    CommandError::owned(format!("ERR unknown subcommand '{word}'. Try {container} HELP."))
}

/// Asks for what the commands of the group will look at, level by level.
pub(super) fn prefetch(engine: &Engine, db: usize, args: &[&[u8]], group: &[Parsed<'_>]) {
    let Some(database) = engine.keyspace.databases().get(db) else { return };
    let alone = engine.shards.len() == 1;
    let keys = || {
        let keys = group.iter().filter_map(|parsed| parsed.key.as_ref().map(|(_, key)| key));
        keys.filter(|key| alone || engine.shards.owner(key.slot) == engine.id)
    };
    database.prefetch(keys);
    prefetch_members(database, args, group);
}

/// Of commands in a row for the same collection, asks for the members too.
fn prefetch_members(database: &Database, args: &[&[u8]], group: &[Parsed<'_>]) {
    let table = CommandTable::get();
    let key = |parsed: &Parsed<'_>| parsed.key.map(|(_, key)| (key.hash, key.slot));
    for run in group.chunk_by(|a, b| a.id == b.id && key(a) == key(b)) {
        let [Parsed { id: Some(id), key: Some((_, key)), .. }, _, ..] = run else { continue };
        let Some(at) = table.command(*id).likely_member() else { continue };
        let member = |parsed: &Parsed<'_>| {
            args[parsed.first_arg..parsed.end_arg].get(usize::from(at)).copied()
        };
        database.prefetch_members(key, run.iter().filter_map(member));
    }
}
