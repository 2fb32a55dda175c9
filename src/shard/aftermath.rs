//! What follows from changes, once the command or the block that made them is done: broken watches,
//! clients that waited for a key, and messages, those of keyspace events among them.
//!
//! Who waited is served before any further command touches the key, the one that waits longest first, and
//! what that changes is settled in turn (BLMOVE feeds who waits for its destination).
//!
//! Promise: nothing is noted, and nothing done, as long as nobody watches, waits or listens.

use std::collections::VecDeque;

use super::Shard;
use super::message::Message;
use crate::keyspace::DbKey;
use crate::reactor::ConnId;
use crate::transaction::{TxId, Watcher};

/// A key that may serve somebody: those who began to wait after the one that is named, or all.
pub(super) type Ready = (DbKey, Option<TxId>);

impl Shard {
    /// To be called after every command or job that ran here, before the locks of `under` are released,
    /// if it ran under some.
    #[inline]
    pub(super) fn settle_changes(&mut self, under: Option<TxId>) {
        if !self.engine.changes.is_settled() {
            self.settle(Vec::new(), Vec::new(), under);
        }
        self.send_what_is_published();
    }

    /// As [`Shard::settle_changes`], and for keys that were `changed` on another shard, or are `ready` to
    /// serve somebody else.
    pub(super) fn settle(&mut self, changed: Vec<DbKey>, ready: Vec<Ready>, under: Option<TxId>) {
        let mut ready = VecDeque::from(ready);
        self.note_changed(changed, &mut ready);
        loop {
            if !self.engine.changes.is_settled() {
                let (keys, databases) = self.engine.changes.take();
                self.note_changed(keys, &mut ready);
                databases.into_iter().for_each(|db| self.note_exchanged(db, &mut ready));
            }
            let Some((key, last)) = ready.pop_front() else { return };
            self.serve_key(&key, last, under);
        }
    }

    fn note_changed(&mut self, keys: Vec<DbKey>, ready: &mut VecDeque<Ready>) {
        for key in keys {
            if !self.watches.is_empty() {
                self.watches.touch(&key).into_iter().for_each(|watcher| self.tell_broken(watcher));
            }
            if self.waits.is_awaited(&key) && !ready.contains(&(key.clone(), None)) {
                ready.push_back((key, None));
            }
        }
    }

    /// A database was emptied, or has the contents of another now. Keys that went are noticed by their
    /// absence ([`crate::transaction::Watches`]); those that are there now were something else before, or nothing.
    fn note_exchanged(&mut self, db: usize, ready: &mut VecDeque<Ready>) {
        let there: Vec<DbKey> =
            self.watches.keys_in(db).into_iter().filter(|key| self.is_there(key)).collect();
        for key in there {
            self.watches.touch(&key).into_iter().for_each(|watcher| self.tell_broken(watcher));
        }
        ready.extend(self.waits.keys_in(db).into_iter().map(|key| (key, None)));
    }

    /// The watch of `watcher` is broken: its connection shows it.
    fn tell_broken(&mut self, watcher: Watcher) {
        if watcher.shard == self.id() {
            self.on_watch_broken(watcher);
        } else {
            self.send(watcher.shard.index(), Message::WatchBroken(watcher));
        }
    }

    /// What was published goes out, here and to other shards.
    #[inline]
    pub(super) fn send_what_is_published(&mut self) {
        self.engine.publish_notes();
        if self.engine.pubsub.has_outgoing() {
            self.send_publications();
        }
    }

    #[cold]
    fn send_publications(&mut self) {
        let me = self.id();
        for outgoing in self.engine.pubsub.take_outgoing() {
            if outgoing.is_for_bus {
                let publication = std::sync::Arc::clone(&outgoing.publication);
                self.send(self.control_core(), Message::PublishOnBus(publication));
            }
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

    /// As [`Shard::send_what_is_published`], after a command whose reply was appended behind `before` bytes of
    /// the local replies of `conn`: what the client gets of its own messages goes before the reply
    /// (Redis 7.0 writes it while the command runs). Returns where the reply begins now.
    #[inline]
    pub(super) fn send_before_reply(&mut self, conn: ConnId, before: usize) -> usize {
        if !self.engine.pubsub.has_outgoing() {
            return before;
        }
        self.put_messages_before_reply(conn, before)
    }

    #[cold]
    fn put_messages_before_reply(&mut self, conn: ConnId, before: usize) -> usize {
        let Some(session) = self.sessions.get_mut(conn) else { return before };
        let reply = session.replies.take_local(before);
        self.send_what_is_published();
        let Some(session) = self.sessions.get_mut(conn) else { return 0 };
        let out = session.replies.local();
        let before = out.len();
        out.extend_from_slice(&reply);
        before
    }

    /// Somebody came or went who wants to know of changes, or does not any more.
    pub(super) fn listen(&mut self) {
        self.engine.changes.listening =
            self.borrowing || !self.watches.is_empty() || !self.waits.is_empty();
    }

    /// Keys of other shards are here, or go home again: their owners want to know which were changed.
    pub(super) fn set_borrowing(&mut self, borrowing: bool) {
        self.borrowing = borrowing;
        self.listen();
    }
}
