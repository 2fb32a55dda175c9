//! A session without a socket: the control core feeds it with commands, from an append-only file or from a master, and
//! it runs them as a client's pipeline is run, over all shards.
//!
//! There is one such session, on the first shard. The control core sends whole commands, a chunk at a time, and
//! the next chunk when this one has been run ([`Message::Fed`]); so it knows how far the commands have come.
//!
//! Promise: commands run in their order and each once; replies are looked at for errors and go nowhere.

use super::Shard;
use super::message::{Fed, Message};
use crate::reactor::ConnId;
use crate::resp::parse_reply::{Value, parse_reply};
use crate::session::{Endpoint, Hold, Session};

impl Shard {
    /// The control core has a chunk of commands.
    pub(super) fn on_feed(&mut self, bytes: &[u8]) {
        let conn = ConnId::WITHOUT_SOCKET;
        if self.sessions.get(conn).is_none() {
            let nowhere = || String::new();
            let endpoint = Endpoint { remote: nowhere(), local: nowhere(), unix: true };
            let mut session = Session::new(0, endpoint, self.engine.keyspace.now_ms(), true);
            session.fed = Some(Box::default());
            self.sessions.insert(conn, session);
        }
        if let Some(fed) = self.sessions.get_mut(conn).and_then(|session| session.fed.as_mut()) {
            fed.owes_report = true;
        }
        self.feed(conn, bytes);
        self.touch(conn);
    }

    /// The control core begins anew: what was selected or queued by MULTI is forgotten.
    pub(super) fn on_feed_over(&mut self) {
        debug_assert!(self.is_fed_idle(), "all chunks have been run");
        self.sessions.remove(ConnId::WITHOUT_SOCKET);
    }

    fn is_fed_idle(&self) -> bool {
        self.sessions.get(ConnId::WITHOUT_SOCKET).is_none_or(|session| {
            session.query.is_empty() && session.hold == Hold::None && session.replies.is_clear()
        })
    }

    /// At the end of a turn: looks at the replies, and says so when the chunk has been run.
    pub(super) fn settle_fed(&mut self) {
        let is_idle = self.is_fed_idle();
        let Some(session) = self.sessions.get_mut(ConnId::WITHOUT_SOCKET) else { return };
        let Some(fed) = &mut session.fed else { return };
        loop {
            let output = session.replies.take_output();
            if output.is_empty() {
                break;
            }
            fed.unread.extend_from_slice(&output);
            self.buffers.give(output);
        }
        let mut used = 0;
        while let Ok(Some((reply, length))) = parse_reply(&fed.unread[used..]) {
            used += length;
            if let Value::Error(text) = reply {
                fed.first_error.get_or_insert(text);
            }
        }
        fed.unread.drain(..used);
        if is_idle && std::mem::take(&mut fed.owes_report) {
            let error = fed.first_error.take();
            let control = self.control_core();
            self.send(control, Message::Fed(Box::new(Fed { error })));
        }
    }
}
