//! Which slots hold keys, in order: the skiplist slot index.
//!
//! Ordered walks over the populated slots (SCAN, GETKEYSINSLOT, hand-over) and a random populated slot
//! cost O(log n) where an array of 16384 counters would be walked.

use std::collections::BTreeSet;

use crate::slot::Slot;

/// The populated slots of a database, ordered by number.
#[derive(Default)]
pub struct SlotIndex {
    slots: BTreeSet<Slot>,
}

impl SlotIndex {
    /// Notes that `slot` holds a key now.
    pub fn insert(&mut self, slot: Slot) {
        self.slots.insert(slot);
    }

    /// Notes that `slot` holds no key any more.
    pub fn remove(&mut self, slot: Slot) {
        self.slots.remove(&slot);
    }

    /// How many slots hold keys.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no slot holds a key.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The populated slot with `rank` populated ones before it.
    pub fn at_rank(&self, rank: usize) -> Option<Slot> {
        self.slots.iter().nth(rank).copied()
    }

    /// The first populated slot at or after `slot`.
    pub fn at_or_after(&self, slot: Slot) -> Option<Slot> {
        self.slots.range(slot..).next().copied()
    }

    /// All populated slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied()
    }
}
