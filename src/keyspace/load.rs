//! Keys that come from a file: they are there as if they had never been away, so nobody is told of them and nothing
//! is recorded.

use super::Database;
use super::entry::Entry;
use super::key::Key;
use super::value::Value;
use crate::persistence::rdb::write_file::Usage;
use crate::slot::Slot;

/// What a file tells of a key.
pub struct Loaded {
    /// Its value.
    pub value: Value,
    /// When it expires, unix ms; this may have passed.
    pub expiry: Option<i64>,
    /// How it was used, which is taken over as far as the present policy has a use for it.
    pub usage: Option<Usage>,
}

impl Database {
    /// Makes the table of a slot that has none yet for so many keys: growing up to there takes longer than all else
    /// about loading a small key.
    pub fn make_room(&mut self, slot: Slot, keys: usize) {
        self.slot_mut(slot).make_room(keys);
    }

    /// Adds a key from a file. If it is there already, also if it has expired, it is replaced if it may be;
    /// otherwise nothing is done, and the answer is false.
    pub fn load(&mut self, key: &Key<'_>, loaded: Loaded, may_replace: bool) -> bool {
        if self.find(key).is_some() {
            if !may_replace {
                return false;
            }
            if let Some(old) = self.remove_entry(key) {
                self.garbage.put(old);
            }
        }
        let clock = match loaded.usage {
            Some(Usage::Idle(seconds)) => self.access.of_idle_seconds(seconds),
            Some(Usage::Frequency(count)) => self.access.of_frequency(count),
            None => None,
        };
        let clock = clock.unwrap_or_else(|| self.access.new_entry());
        self.insert_entry(key, Entry::new(key.bytes, loaded.value, loaded.expiry, clock));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Keyspace, NotesWanted};
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn loaded(text: &[u8], expiry: Option<i64>, usage: Option<Usage>) -> Loaded {
        Loaded { value: Value::Str(text.to_vec()), expiry, usage }
    }

    #[test]
    fn a_loaded_key_is_there_with_its_expiry_and_usage_and_nobody_is_told() {
        let mut keyspace = Keyspace::new(1, NOW_MS, 1);
        keyspace.set_notes_wanted(NotesWanted { expired: true, missed: true, created: true });
        let db = &mut keyspace[0];
        let key = Key::new(b"k");
        assert!(db.load(&key, loaded(b"v", Some(NOW_MS + 5), Some(Usage::Idle(77))), false));
        let entry = db.peek(&key).expect("it is there");
        assert_eq!(entry.expiry(), Some(NOW_MS + 5));
        assert_eq!(db.access.idle_seconds(entry.clock()), 77);
        assert_eq!((db.len(), db.expiring()), (1, 1));
        db.check();
        assert!(keyspace.take_notes(0).is_empty());
    }

    #[test]
    fn a_key_that_is_there_is_replaced_only_if_it_may_be_even_when_it_has_expired() {
        let mut keyspace = Keyspace::new(1, NOW_MS, 1);
        let db = &mut keyspace[0];
        for (name, expiry) in [(&b"lives"[..], None), (b"expired", Some(NOW_MS - 1))] {
            let key = Key::new(name);
            assert!(db.load(&key, loaded(b"old", expiry, None), false));
            assert!(!db.load(&key, loaded(b"new", None, None), false));
            assert_eq!(db.find(&key).map(Entry::expiry), Some(expiry), "it is as it was");
            assert!(db.load(&key, loaded(b"new", None, None), true));
            assert_eq!(db.read_str(&key).unwrap().unwrap().to_vec(), b"new");
        }
        assert_eq!((db.len(), db.expiring(), db.stats().expired), (2, 0, 0));
        db.check();
    }
}
