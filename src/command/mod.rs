//! The commands: one file per family, each with its rows of the command table and its handlers.
//!
//! A handler sees a [`context::Ctx`], the [`request::Request`] and a [`crate::resp::Reply`]; it
//! knows no socket, session or lane. `context.rs` says how to write one.

pub mod category;
pub mod context;
pub mod error;
pub mod help;
pub mod part;
pub mod request;
pub mod spec;
pub mod table;

mod bitfield;
mod bits;
mod blocking;
mod byte_range;
mod cluster;
mod collection;
mod connection;
mod counters;
mod databases;
mod dump;
mod expire;
mod hashes;
mod keys;
mod lists;
mod lists_blocking;
mod migrate;
mod object;
mod pubsub;
mod random;
mod relocate;
mod replication;
mod scan;
mod scripts;
mod server;
mod sets;
mod sets_algebra;
mod slots;
mod sort;
mod streams;
mod streams_claim;
mod streams_effects;
mod streams_groups;
mod streams_info;
mod streams_read;
mod strings;
mod substrings;
#[cfg(test)]
pub mod testing;
mod transactions;
mod zsets;
mod zsets_algebra;
mod zsets_blocking;
mod zsets_range;

pub use blocking::WAITAOF_WITHOUT_FILE;
pub use context::{Changes, Class, Ctx, Reach, removal};
pub use databases::{database_number, selected_database};
pub use error::{CommandError, CommandResult};
pub use migrate::MigrateRequest;
pub use part::{Part, Stretch};
pub use request::Request;
pub use scripts::{ScriptBy, ScriptCommand};
pub use server::{debug_is_allowed, entry_bytes};
pub use slots::NO_CLUSTER;
pub use table::{
    Attempt, Awaits, Blocking, Command, CommandId, CommandTable, EveryShard, Handler, KeyShape,
    Run, SessionCommand, Walk,
};

/// The rows of all families.
static FAMILIES: &[&[Command]] = &[
    bitfield::COMMANDS,
    bits::COMMANDS,
    blocking::COMMANDS,
    cluster::COMMANDS,
    connection::COMMANDS,
    counters::COMMANDS,
    databases::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    hashes::COMMANDS,
    keys::COMMANDS,
    lists::COMMANDS,
    lists_blocking::COMMANDS,
    migrate::COMMANDS,
    object::COMMANDS,
    pubsub::COMMANDS,
    relocate::COMMANDS,
    replication::COMMANDS,
    scan::COMMANDS,
    scripts::COMMANDS,
    server::COMMANDS,
    sets::COMMANDS,
    sets_algebra::COMMANDS,
    slots::COMMANDS,
    sort::COMMANDS,
    streams::COMMANDS,
    strings::COMMANDS,
    substrings::COMMANDS,
    transactions::COMMANDS,
    zsets::COMMANDS,
    zsets_blocking::COMMANDS,
];
