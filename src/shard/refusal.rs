//! What the server refuses for a while because of its files: everything but a few commands while it loads, and
//! writes when it could not save them.
//!
//! Promise: while all is well, a command pays a branch for this.

use super::Shard;
use super::engine::Engine;
use super::input::Next;
use super::multi::exec_aborted;
use crate::command::spec::{LOADING, WRITE};
use crate::command::{Command, CommandError, CommandId, CommandTable, Run, SessionCommand};
use crate::reactor::ConnId;

static STILL_LOADING: CommandError =
    CommandError::text("LOADING Redis is loading the dataset in memory");
const CANNOT_SAVE: CommandError = CommandError::text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
     disk. Commands that may modify the data set are disabled, because this instance is configured \
     to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
     Please check the Redis logs for details about the RDB error.",
);

/// See the module.
#[derive(Default)]
pub struct Refusals {
    is_loading: bool,
    has_failed_to_save: bool,
    aof_error: Option<CommandError>,
    writes: Option<CommandError>,
    any: bool,
}

impl Refusals {
    /// Whether anything is refused.
    #[inline]
    pub fn any(&self) -> bool {
        self.any
    }

    /// Whether the server loads its data.
    pub fn is_loading(&self) -> bool {
        self.is_loading
    }

    /// Why writes are refused, if they are.
    pub fn of_writes(&self) -> Option<&CommandError> {
        self.writes.as_ref()
    }

    fn of_command(&self, command: &Command, writes: bool) -> Option<&CommandError> {
        // Who watches a server by PING learns that it is of little use.
        if (writes || command.name == "ping") && self.writes.is_some() {
            return self.writes.as_ref();
        }
        let is_refused = self.is_loading && !command.flags.has(LOADING);
        is_refused.then_some(&STILL_LOADING)
    }
}

impl Engine {
    /// The last snapshot was good, or not.
    pub fn set_save_status(&mut self, good: bool) {
        self.refusals.has_failed_to_save = !good;
        self.settle_refusals();
    }

    /// Append-only files can be written, or not, and why.
    pub fn set_aof_status(&mut self, error: Option<std::sync::Arc<str>>) {
        let text = |error| format!("MISCONF Errors writing to the AOF file: {error}");
        self.refusals.aof_error = error.map(|error| CommandError::owned(text(error)));
        self.settle_refusals();
    }

    /// The server loads its data, or has done so.
    pub fn set_loading(&mut self, is_loading: bool) {
        self.refusals.is_loading = is_loading;
        // What is loaded decides what there is: nothing expires, and nothing is evicted.
        self.keyspace.keep_expired(is_loading);
        self.settings_changed();
        self.settle_refusals();
    }

    /// Decides what is refused, by what has happened and by the settings.
    pub fn settle_refusals(&mut self) {
        let matters = self.config.stop_writes_on_bgsave_error && !self.config.save.is_empty();
        let refusals = &mut self.refusals;
        let cannot_save = (matters && refusals.has_failed_to_save).then_some(CANNOT_SAVE);
        refusals.writes = cannot_save.or_else(|| refusals.aof_error.clone());
        refusals.any = refusals.is_loading || refusals.writes.is_some();
    }
}

impl Shard {
    /// Refuses a command if it has to be; `None` if it may run.
    #[cold]
    pub(super) fn refused_for_files(&mut self, conn: ConnId, id: CommandId) -> Option<Next> {
        let command = CommandTable::get().command(id);
        let is_exec = matches!(command.run, Run::Session(SessionCommand::Exec));
        let session = self.sessions.get(conn);
        if session.is_some_and(|session| session.fed.is_some()) {
            // What is loaded is not refused for being loaded.
            return None;
        }
        let multi = session.and_then(|session| session.multi.as_ref());
        let block_writes = is_exec && multi.is_some_and(|multi| multi.block.writes);
        let writes = command.flags.has(WRITE) || block_writes;
        let error = self.engine.refusals.of_command(command, writes)?.clone();
        if is_exec {
            self.leave_multi(conn);
            return Some(self.refuse(conn, Some(id), &exec_aborted(&error)));
        }
        Some(self.refuse(conn, Some(id), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_follows_from_what_happened() {
        let of = |refusals: &Refusals, name: &str| {
            let table = CommandTable::get();
            let command = table.command(table.find(name.as_bytes()).expect("a command"));
            refusals.of_command(command, command.flags.has(WRITE)).cloned()
        };
        let none = Refusals::default();
        let loading = Refusals { is_loading: true, any: true, ..Refusals::default() };
        let failed = Refusals { writes: Some(CANNOT_SAVE), any: true, ..Refusals::default() };
        for (refusals, name, expected) in [
            (&none, "set", None),
            (&loading, "set", Some(STILL_LOADING.clone())),
            (&loading, "get", Some(STILL_LOADING.clone())),
            (&loading, "ping", Some(STILL_LOADING.clone())),
            (&loading, "info", None),
            (&failed, "set", Some(CANNOT_SAVE)),
            (&failed, "ping", Some(CANNOT_SAVE)),
            (&failed, "get", None),
        ] {
            assert_eq!(of(refusals, name), expected, "{name}");
        }
    }
}
