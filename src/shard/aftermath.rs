//! What follows from a command that ran, before anything else runs.

use super::Shard;
use super::message::Message;
use crate::reactor::ConnId;

impl Shard {
    /// To be called after everything that runs commands: what they published goes out.
    #[inline]
    pub(super) fn settle_changes(&mut self) {
        self.engine.publish_notes();
        if self.engine.pubsub.has_outgoing() {
            self.send_publications();
        }
    }

    #[cold]
    fn send_publications(&mut self) {
        let me = self.id();
        for outgoing in self.engine.pubsub.take_outgoing() {
            for shard in outgoing.to {
                let publication = std::sync::Arc::clone(&outgoing.publication);
                if shard == me {
                    self.take_publication(publication);
                } else {
                    self.send(shard.index(), Message::Publication(publication));
                }
            }
        }
        // Deliveries are not the next command's work.
        self.engine.start_timing();
    }

    /// As [`Shard::settle_changes`], after a command whose reply was appended behind `before` bytes of
    /// the local replies of `conn`: what the client gets of its own messages goes before the reply
    /// (Redis 7.0 writes it while the command runs). Returns where the reply begins now.
    #[inline]
    pub(super) fn settle_before_reply(&mut self, conn: ConnId, before: usize) -> usize {
        if !self.engine.pubsub.has_outgoing() {
            return before;
        }
        self.publish_before_reply(conn, before)
    }

    #[cold]
    fn publish_before_reply(&mut self, conn: ConnId, before: usize) -> usize {
        let Some(session) = self.sessions.get_mut(conn) else { return before };
        let reply = session.replies.take_local(before);
        self.settle_changes();
        let Some(session) = self.sessions.get_mut(conn) else { return 0 };
        let out = session.replies.local();
        let before = out.len();
        out.extend_from_slice(&reply);
        before
    }
}
