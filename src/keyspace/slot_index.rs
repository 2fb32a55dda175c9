//! Which slots hold keys, in order: the skiplist slot index.
//!
//! Ordered walks over the populated slots (SCAN, GETKEYSINSLOT, hand-over), counts of them and a random
//! populated slot cost O(log n) where an array of 16384 counters would be walked.

use crate::datatypes::skiplist::SkipList;
use crate::slot::Slot;

/// Slots in a node of the skiplist: two cache lines of numbers.
const NODE_SLOTS: usize = 64;

/// The populated slots of a database, ordered by number.
#[derive(Default)]
pub struct SlotIndex {
    slots: SkipList<u16, NODE_SLOTS>,
}

/// The list holds nothing but the numbers of slots.
fn slot(number: u16) -> Option<Slot> {
    Slot::new(number)
}

impl SlotIndex {
    /// Notes that `slot` holds a key now.
    pub fn insert(&mut self, slot: Slot) {
        self.slots.insert_ord(slot.get());
    }

    /// Notes that `slot` holds no key any more.
    pub fn remove(&mut self, slot: Slot) {
        self.slots.remove_ord(slot.get());
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
        self.slots.get(rank).and_then(slot)
    }

    /// The first populated slot at or after `from`.
    pub fn at_or_after(&self, from: Slot) -> Option<Slot> {
        let position = self.slots.position(|&number| number < from.get());
        self.slots.iter_from(position).next().and_then(slot)
    }

    /// All populated slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().filter_map(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SLOT_COUNT;

    #[test]
    fn it_walks_the_populated_slots_in_order() {
        let mut index = SlotIndex::default();
        let every_third = || (0..SLOT_COUNT).filter(|number| number % 3 == 1);
        // In an order that is not the one of the slots.
        for number in every_third().rev().chain(every_third()) {
            index.insert(slot(number).unwrap());
        }
        assert!(index.iter().map(Slot::get).eq(every_third()));
        assert_eq!(index.len(), every_third().count());
        for (rank, number) in every_third().enumerate() {
            assert_eq!(index.at_rank(rank), slot(number));
            assert_eq!(index.at_or_after(slot(number - 1).unwrap()), slot(number));
        }
        assert_eq!(index.at_rank(index.len()), None);
        assert_eq!(index.at_or_after(slot(SLOT_COUNT - 1).unwrap()), None);
        every_third().for_each(|number| index.remove(slot(number).unwrap()));
        assert!(index.is_empty());
    }
}
