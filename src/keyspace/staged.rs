//! Slots whose keys no client sees: they come from another node that still owns them, or are being deleted.
//!
//! Nothing in them expires: their owner says what has.

use super::entry::Entry;
use super::{Database, Keyspace};
use crate::slot::{SLOT_COUNT, Slot, slot_of};

/// A set of slots, which is nearly always empty.
#[derive(Default)]
pub(super) struct Staged {
    /// One for each slot, or none at all.
    slots: Box<[bool]>,
}

impl Staged {
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.slots.get(slot.index()).is_some_and(|is_in| *is_in)
    }

    /// Whether the slot of an entry is in it.
    pub(super) fn has_entry(&self, entry: &Entry) -> bool {
        !self.slots.is_empty() && self.has(slot_of(entry.key()))
    }
}

impl Keyspace {
    /// These slots are staged from now on, and no others. Nodes of a cluster, which alone have such slots, have
    /// one database.
    pub fn set_staged(&mut self, slots: impl Iterator<Item = Slot>) {
        let mut staged = Staged::default();
        for slot in slots {
            if staged.slots.is_empty() {
                staged.slots = vec![false; usize::from(SLOT_COUNT)].into();
            }
            staged.slots[slot.index()] = true;
        }
        self.databases[0].staged = staged;
    }
}

impl Database {
    /// Whether keys of this slot are staged.
    pub fn is_staged(&self, slot: Slot) -> bool {
        self.staged.has(slot)
    }

    /// Whether a walk shows an entry to clients.
    pub fn shows(&self, entry: &Entry) -> bool {
        !self.staged.has_entry(entry)
    }

    /// Number of keys that are not staged.
    pub fn shown_len(&self) -> usize {
        let slots = self.staged.slots.iter().enumerate().filter(|(_, is_in)| **is_in);
        let staged = slots.filter_map(|(number, _)| Slot::new(number as u16));
        self.len() - staged.map(|slot| self.slot_len(slot)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Key, NewExpiry};
    use super::*;
    use std::time::Duration;

    #[test]
    fn staged_keys_are_not_shown_and_do_not_expire_until_they_are_at_home() {
        let mut keyspace = Keyspace::new(1, 1_000, 7);
        for (name, at) in [(&b"staged"[..], 1_500), (b"other", 1_500), (b"stays", 9_000)] {
            keyspace[0].set_str(&Key::new(name), b"v", NewExpiry::At(at));
        }
        keyspace.set_staged([slot_of(b"staged")].into_iter());
        assert_eq!((keyspace[0].len(), keyspace[0].shown_len()), (3, 2));
        let pass = |keyspace: &mut Keyspace, now_ms| {
            keyspace.set_now(now_ms);
            while keyspace.expire_slice(&mut Budget::new(Duration::from_millis(1))) {}
        };
        pass(&mut keyspace, 2_000);
        assert!(
            keyspace[0].contains(&Key::new(b"staged")),
            "its owner has not said that it is gone"
        );
        assert!(!keyspace[0].contains(&Key::new(b"other")));
        keyspace.set_staged([].into_iter());
        assert!(!keyspace[0].contains(&Key::new(b"staged")));
        pass(&mut keyspace, 4_000);
        assert_eq!((keyspace[0].len(), keyspace[0].shown_len()), (1, 1));
    }
}
