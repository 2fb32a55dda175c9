//! What a script has changed, so that it can be undone: a script that reaches for a key of another shard
//! after it has written runs again, from the state that it found.
//!
//! Before the first write to a key, a copy of its entry is kept. Values above [`COPIED_BYTES_MAX`] are not
//! copied: the script starts again while all shards stand still, where nothing has to be undone. Only of a script
//! that is known to keep to its keys is it taken for granted that it will do so again.

use std::collections::HashMap;

use crate::command::{Changes, entry_bytes};
use crate::keyspace::{DbKey, Entry, Key, Keyspace};

/// Values with more bytes are not copied: that would take longer than most scripts.
const COPIED_BYTES_MAX: usize = 64 * 1024;
/// Elements that are looked at to estimate the bytes of a value.
const SAMPLES: usize = 5;

/// See the module.
pub(super) struct Undo {
    saved: HashMap<DbKey, Option<Entry>>,
    /// Changes that were counted before.
    dirty: u64,
    /// The script is known to keep to its keys.
    is_trusted: bool,
    /// Something was changed that was not saved.
    has_gap: bool,
}

impl Undo {
    /// Nothing has been changed yet.
    pub(super) fn new(changes: &Changes, is_trusted: bool) -> Self {
        Self { saved: HashMap::new(), dirty: changes.dirty, is_trusted, has_gap: false }
    }

    /// Keeps what a key of this shard, or one on loan to it, holds, before it is changed. False if it is too
    /// big; then the command must not run.
    pub(super) fn save(&mut self, keyspace: &mut Keyspace, db: usize, key: &[u8]) -> bool {
        let name = (db, key.to_vec());
        if self.saved.contains_key(&name) {
            return true;
        }
        let key = Key::new(key);
        keyspace[db].expire_if_due(&key);
        let entry = keyspace[db].peek(&key);
        if entry.is_some_and(|entry| entry_bytes(entry, SAMPLES) > COPIED_BYTES_MAX) {
            self.has_gap |= self.is_trusted;
            return self.is_trusted;
        }
        let copy = entry.map(|entry| {
            let value = entry.value().to_owned(entry.is_shown_raw());
            Entry::new(entry.key(), value, entry.expiry(), entry.clock())
        });
        self.saved.insert(name, copy);
        true
    }

    /// Whether everything can be put back.
    pub(super) fn is_possible(&self) -> bool {
        !self.has_gap
    }

    /// Puts everything back.
    pub(super) fn restore(&mut self, keyspace: &mut Keyspace, changes: &mut Changes) {
        debug_assert!(self.is_possible(), "such a script is not aborted");
        for ((db, key), entry) in &mut self.saved {
            keyspace[*db].remove(&Key::new(key));
            if let Some(entry) = entry.take() {
                keyspace[*db].put_back(entry);
            }
        }
        changes.dirty = self.dirty;
        // They were settled when the script began.
        _ = changes.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::TestShard;

    #[test]
    fn everything_is_as_it_was_before() {
        let mut shard = TestShard::new();
        for words in
            ["set s v", "rpush l a b", "hset h f v", "sadd set 1 2", "zadd z 1 a", "expire s 100"]
        {
            shard.run(words);
        }
        let mut undo = Undo::new(&shard.changes, false);
        for key in ["s", "l", "h", "set", "z", "new"] {
            assert!(undo.save(&mut shard.keyspace, 0, key.as_bytes()));
        }
        let dirty = shard.changes.dirty;
        for words in ["del s", "rpush l c", "rename h h2", "sadd set 3", "zadd z 2 b", "set new x"]
        {
            if words == "rename h h2" {
                assert!(undo.save(&mut shard.keyspace, 0, b"h2"));
            }
            shard.run(words);
            // Only the first state of a key counts.
            assert!(undo.save(&mut shard.keyspace, 0, b"s"));
        }
        undo.restore(&mut shard.keyspace, &mut shard.changes);
        for (words, expected) in [
            ("get s", "$1\r\nv\r\n"),
            ("ttl s", ":100\r\n"),
            ("llen l", ":2\r\n"),
            ("hget h f", "$1\r\nv\r\n"),
            ("scard set", ":2\r\n"),
            ("zcard z", ":1\r\n"),
            ("exists new h2", ":0\r\n"),
        ] {
            assert_eq!(shard.run(words), expected, "{words}");
        }
        assert_eq!(shard.changes.dirty, dirty);
        assert!(shard.changes.is_settled());
    }

    #[test]
    fn a_big_value_is_not_copied() {
        let mut shard = TestShard::new();
        shard.run(&format!("set big {}", "x".repeat(COPIED_BYTES_MAX + 1)));
        let mut cautious = Undo::new(&shard.changes, false);
        assert!(!cautious.save(&mut shard.keyspace, 0, b"big"));
        assert!(cautious.is_possible(), "it was not changed");
        let mut trusting = Undo::new(&shard.changes, true);
        assert!(trusting.save(&mut shard.keyspace, 0, b"big"));
        assert!(!trusting.is_possible());
    }
}
