//! Commands that the control core carries out: CONFIG SET, CONFIG REWRITE, SHUTDOWN.

use super::Shard;
use super::message::ControlRequest;
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
}
