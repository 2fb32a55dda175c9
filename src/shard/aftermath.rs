//! What follows from changes, once the command or the block that made them is done: broken watches, and
//! clients that waited for a key.
//!
//! Who waited is served before any further command touches the key, the one that waits longest first, and
//! what that changes is settled in turn (BLMOVE feeds who waits for its destination).
//!
//! Promise: nothing is noted, and nothing done, as long as nobody watches and nobody waits.

use std::collections::VecDeque;

use super::Shard;
use super::message::Message;
use crate::keyspace::DbKey;
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

    /// Somebody came or went who wants to know of changes, or does not any more.
    pub(super) fn listen(&mut self) {
        self.engine.changes.listening = !self.watches.is_empty() || !self.waits.is_empty();
    }
}
