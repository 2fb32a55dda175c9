//! Commands about the server: CONFIG SET, SHUTDOWN and what is gathered from all shards.

use super::Shard;
use super::message::{ControlRequest, PartWork};
use crate::command::Part;
use crate::reactor::ConnId;
use crate::resp::Reply;

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

    pub(super) fn config_resetstat(&mut self, conn: ConnId, _words: &[&[u8]]) {
        let merge = |_: &mut Shard, _: ConnId, _: Vec<Part>, reply: &mut Reply<'_>| reply.ok();
        self.gather(conn, PartWork::ResetStats, Box::new(merge));
    }

    pub(super) fn info(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.complete(conn, |_, reply| reply.bulk(b"# Server\r\n"));
    }

    pub(super) fn gathered_admin(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.complete(conn, |_, reply| reply.ok());
    }

    pub(super) fn stats(&self) -> Vec<u64> {
        Vec::new()
    }

    pub(super) fn reset_stats(&mut self) {}

    pub(super) fn collect_slow_commands(&mut self) {
        self.engine.slowlog.fresh.clear();
    }
}
