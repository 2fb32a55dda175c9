//! The rows of the commands of replication; what they do is the session's and the control core's.

use super::spec::*;
use super::{Command, Run, SessionCommand};

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "replicaof", arity: Arity::Exactly(3), flags: ADMIN.with(NOSCRIPT).with(STALE).with(NO_ASYNC_LOADING), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ReplicaOf) },
    Command { name: "slaveof", arity: Arity::Exactly(3), flags: ADMIN.with(NOSCRIPT).with(STALE).with(NO_ASYNC_LOADING), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ReplicaOf) },
    Command { name: "role", arity: Arity::Exactly(1), flags: NOSCRIPT.with(LOADING).with(STALE).with(FAST), group: Group::Server, keys: NO_KEYS, categories: &["@admin", "@dangerous"], run: Run::Session(SessionCommand::Role) },
    Command { name: "replconf", arity: Arity::AtLeast(1), flags: ADMIN.with(NOSCRIPT).with(LOADING).with(STALE).with(ALLOW_BUSY), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Replconf) },
    Command { name: "psync", arity: Arity::AtLeast(3), flags: ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING).with(NO_MULTI), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Psync) },
    Command { name: "sync", arity: Arity::Exactly(1), flags: ADMIN.with(NOSCRIPT).with(NO_ASYNC_LOADING).with(NO_MULTI), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Psync) },
    Command { name: "failover", arity: Arity::AtLeast(1), flags: ADMIN.with(NOSCRIPT).with(STALE), group: Group::Server, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Failover) },
];
