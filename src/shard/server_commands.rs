//! Commands that the control core carries out: CONFIG SET, CONFIG REWRITE, SHUTDOWN, SAVE, BGSAVE, DEBUG RELOAD.

use super::Shard;
use super::message::{ControlRequest, ReloadOptions};
use crate::command::CommandError;
use crate::reactor::ConnId;

/// The Redis version whose behaviour this is, for clients that look.
pub const REDIS_VERSION: &str = "7.0.15";

impl Shard {
    pub(super) fn config_set(&mut self, conn: ConnId, words: &[&[u8]]) {
        let words = words[2..].iter().map(|word| word.to_vec()).collect();
        self.ask_control(conn, ControlRequest::ConfigSet(words));
    }

    pub(super) fn config_rewrite(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.ask_control(conn, ControlRequest::ConfigRewrite);
    }

    pub(super) fn shutdown(&mut self, conn: ConnId, words: &[&[u8]]) {
        let words = words[1..].iter().map(|word| word.to_vec()).collect();
        self.ask_control(conn, ControlRequest::Shutdown(words));
    }

    /// SAVE
    pub(super) fn save(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.ask_control(conn, ControlRequest::Save);
    }

    /// BGSAVE [SCHEDULE]
    pub(super) fn background_save(&mut self, conn: ConnId, words: &[&[u8]]) {
        let may_wait = match words {
            [_] => false,
            [_, word] if word.eq_ignore_ascii_case(b"schedule") => true,
            _ => {
                self.engine.count_error(&CommandError::Syntax);
                return self.complete(conn, |_, reply| reply.error(CommandError::Syntax));
            }
        };
        let must_wait = self.runs.contains_key(&conn);
        self.ask_control(conn, ControlRequest::BackgroundSave { may_wait, must_wait });
    }

    /// BGREWRITEAOF
    pub(super) fn rewrite_aof(&mut self, conn: ConnId, _words: &[&[u8]]) {
        let must_wait = self.runs.contains_key(&conn);
        self.ask_control(conn, ControlRequest::RewriteAof { must_wait });
    }

    /// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]
    pub(super) fn reload(&mut self, conn: ConnId, words: &[&[u8]]) {
        let mut options = ReloadOptions { saves: true, flushes: true, merges: false };
        for word in &words[2..] {
            match word.to_ascii_lowercase().as_slice() {
                b"merge" => options.merges = true,
                b"noflush" => options.flushes = false,
                b"nosave" => options.saves = false,
                _ => {
                    const TEXT: &str =
                        "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
                    let error = CommandError::text(TEXT);
                    self.engine.count_error(&error);
                    return self.complete(conn, |_, reply| reply.error(error));
                }
            }
        }
        self.ask_control(conn, ControlRequest::Reload(options));
    }

    /// DEBUG LOADAOF
    pub(super) fn load_aof(&mut self, conn: ConnId) {
        self.ask_control(conn, ControlRequest::LoadAof);
    }

    /// Drops all keys of this shard, for a reload: nothing is recorded.
    pub(super) fn clear_all(&mut self) {
        for db in 0..self.engine.keyspace.database_count() {
            self.engine.keyspace[db].clear();
            self.engine.changes.note_database(db);
        }
        self.settle_changes(None);
    }
}
