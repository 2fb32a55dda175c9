//! What the server refuses for a while: everything but a few commands while it loads, writes when it could not
//! save them or has too few replicas, and what a replica refuses.
//!
//! Promise: while all is well, a command pays a branch for this.

use super::Shard;
use super::engine::Engine;
use super::input::Next;
use super::message::Standing;
use super::multi::exec_aborted;
use super::pause::Pause;
use crate::command::spec::{LOADING, MAY_REPLICATE, STALE, WRITE};
use crate::command::{Command, CommandError, CommandId, CommandTable, Run, SessionCommand};
use crate::config::Config;
use crate::keyspace::Expired;
use crate::reactor::ConnId;

static STILL_LOADING: CommandError =
    CommandError::text("LOADING Redis is loading the dataset in memory");
const CANNOT_SAVE: CommandError = CommandError::text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
     disk. Commands that may modify the data set are disabled, because this instance is configured \
     to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
     Please check the Redis logs for details about the RDB error.",
);

static LACKS_REPLICAS: CommandError =
    CommandError::text("NOREPLICAS Not enough good replicas to write.");
static READ_ONLY: CommandError =
    CommandError::text("READONLY You can't write against a read only replica.");
static MASTER_DOWN: CommandError = CommandError::text(
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
);

/// See the module.
#[derive(Default)]
pub struct Refusals {
    is_loading: bool,
    has_failed_to_save: bool,
    aof_error: Option<CommandError>,
    /// What could not be saved.
    unsaved: Option<CommandError>,
    standing: Standing,
    /// CLIENT PAUSE.
    pause: Option<Pause>,
    is_read_only: bool,
    has_stale_data: bool,
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

    /// Whether the server has a master.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.standing.is_replica
    }

    /// Whether the link to the master is missing.
    pub fn lacks_link(&self) -> bool {
        self.standing.is_replica && !self.standing.has_link
    }

    /// CLIENT PAUSE, while it lasts.
    pub fn pause(&self) -> Option<Pause> {
        self.pause
    }

    /// Whether those who write have to wait.
    fn pauses_writes(&self) -> bool {
        self.pause.is_some() || self.standing.pauses_writes
    }

    /// Whether keys are evicted by somebody else, or must not be.
    pub fn leaves_eviction(&self, config: &Config) -> bool {
        self.is_loading
            || self.pauses_writes()
            || (self.standing.is_replica && config.replica_ignore_maxmemory)
    }

    /// Why writes are refused, if they are (in the order of Redis 7.0 `server.c`, processCommand).
    pub fn of_writes(&self) -> Option<&CommandError> {
        let unsaved = self.unsaved.as_ref();
        let lacking = self.standing.lacks_replicas.then_some(&LACKS_REPLICAS);
        unsaved.or(lacking).or(self.is_read_only.then_some(&READ_ONLY))
    }

    fn of_command(&self, command: &Command, writes: bool) -> Option<&CommandError> {
        // Who watches a server by PING learns that it is of little use.
        if command.name == "ping" && self.unsaved.is_some() {
            return self.unsaved.as_ref();
        }
        if let Some(error) = self.of_writes().filter(|_| writes) {
            return Some(error);
        }
        if self.has_stale_data && !command.flags.has(STALE) {
            return Some(&MASTER_DOWN);
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
        self.settle_recording();
        self.settle_expiry();
        self.settings_changed();
    }

    /// The server stands so in replication.
    pub fn set_standing(&mut self, standing: Standing) {
        self.refusals.standing = standing;
        self.settle_expiry();
        self.settings_changed();
    }

    /// Clients are paused, or not any more.
    pub fn set_pause(&mut self, pause: Option<Pause>) {
        // A pause that is begun again lasts as long, and is as strict, as either.
        self.refusals.pause = match (self.refusals.pause, pause) {
            (Some(old), Some(new)) => {
                Some(Pause { until_ms: old.until_ms.max(new.until_ms), all: old.all || new.all })
            }
            (_, pause) => pause,
        };
        self.settle_expiry();
        self.settings_changed();
    }

    /// What is loaded decides what there is: nothing expires, and nothing is evicted. On a replica the master says
    /// what has expired.
    fn settle_expiry(&mut self) {
        let stays = self.refusals.is_replica() || self.refusals.pauses_writes();
        self.keyspace.set_expired(match (self.refusals.is_loading, stays) {
            (true, _) => Expired::Kept,
            (false, true) => Expired::Hidden,
            (false, false) => Expired::Gone,
        });
    }

    /// Whether the cluster knows this node as a master, and replication has not yet made it one. No client may see
    /// that: they were sent here, and wait.
    fn is_being_promoted(&self) -> bool {
        let is_master = self.territory.as_ref().is_some_and(|territory| territory.is_masters());
        is_master && self.refusals.is_replica()
    }

    /// Decides what is refused, by what has happened and by the settings.
    pub fn settle_refusals(&mut self) {
        let matters = self.config.stop_writes_on_bgsave_error && !self.config.save.is_empty();
        let refusals = &mut self.refusals;
        let cannot_save = (matters && refusals.has_failed_to_save).then_some(CANNOT_SAVE);
        refusals.unsaved = cannot_save.or_else(|| refusals.aof_error.clone());
        let standing = refusals.standing;
        refusals.is_read_only = standing.is_replica && self.config.replica_read_only;
        refusals.has_stale_data = refusals.lacks_link() && !self.config.replica_serve_stale_data;
        refusals.any = refusals.is_loading
            || refusals.of_writes().is_some()
            || refusals.has_stale_data
            || refusals.pauses_writes();
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
        if self.engine.is_being_promoted() && (writes || command.flags.has(MAY_REPLICATE)) {
            return Some(self.hold_for_pause(conn));
        }
        let refusals = &self.engine.refusals;
        let Some(error) = refusals.of_command(command, writes).cloned() else {
            let has_effects = writes || command.flags.has(MAY_REPLICATE);
            let waits = (has_effects && refusals.pauses_writes())
                || refusals.pause.is_some_and(|pause| pause.all);
            return waits.then(|| self.hold_for_pause(conn));
        };
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
        let failed = Refusals { unsaved: Some(CANNOT_SAVE), any: true, ..Refusals::default() };
        let replica = Refusals { is_read_only: true, any: true, ..Refusals::default() };
        let stale = Refusals { has_stale_data: true, any: true, ..Refusals::default() };
        for (refusals, name, expected) in [
            (&none, "set", None),
            (&loading, "set", Some(STILL_LOADING.clone())),
            (&loading, "get", Some(STILL_LOADING.clone())),
            (&loading, "ping", Some(STILL_LOADING.clone())),
            (&loading, "info", None),
            (&failed, "set", Some(CANNOT_SAVE)),
            (&failed, "ping", Some(CANNOT_SAVE)),
            (&failed, "get", None),
            (&replica, "set", Some(READ_ONLY.clone())),
            (&replica, "ping", None),
            (&stale, "get", Some(MASTER_DOWN.clone())),
            (&stale, "info", None),
        ] {
            assert_eq!(of(refusals, name), expected, "{name}");
        }
    }
}
