//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: their rows. The session queues and the shard runs.

use super::spec::*;
use super::{Command, Run, SessionCommand};

const ANY_TIME: Flags = NOSCRIPT.with(LOADING).with(STALE);
const EVEN_BUSY: Flags = ANY_TIME.with(FAST).with(ALLOW_BUSY);
const WATCHED: &[KeySpec] = &[KeySpec::all(1, 1, Access::ReadOnly, &[])];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "multi", arity: Arity::Exactly(1), flags: EVEN_BUSY, group: Group::Transactions, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Multi) },
    Command { name: "exec", arity: Arity::Exactly(1), flags: ANY_TIME.with(SKIP_SLOWLOG), group: Group::Transactions, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Exec) },
    Command { name: "discard", arity: Arity::Exactly(1), flags: EVEN_BUSY, group: Group::Transactions, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Discard) },
    Command { name: "watch", arity: Arity::AtLeast(2), flags: EVEN_BUSY, group: Group::Transactions, keys: WATCHED, categories: &[], run: Run::Session(SessionCommand::Watch) },
    Command { name: "unwatch", arity: Arity::Exactly(1), flags: EVEN_BUSY, group: Group::Transactions, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Unwatch) },
];
