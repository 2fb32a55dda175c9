//! Which slots hold keys, in order: the skiplist slot index.
//!
//! Ordered walks over the populated slots (SCAN, GETKEYSINSLOT, hand-over) and a random populated slot
//! cost O(log n) where an array of 16384 counters would be walked. The skiplist is the one that sorted
//! sets use; here the order is that of the slot numbers.

use crate::datatypes::skiplist::SkipList;
use crate::slot::Slot;

/// Slots in a node of the skiplist. All slots then fill 256 nodes, some 160 bytes each.
const NODE_SLOTS: usize = 64;

/// The populated slots of a database, ordered by number.
#[derive(Default)]
pub struct SlotIndex {
    /// The numbers; each comes from a [`Slot`].
    slots: SkipList<u16, NODE_SLOTS>,
}

fn slot(number: u16) -> Slot {
    Slot::new(number).expect("only the numbers of slots are put in")
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
        self.slots.get(rank).map(slot)
    }

    /// The first populated slot at or after `slot`.
    pub fn at_or_after(&self, slot: Slot) -> Option<Slot> {
        self.iter_from(slot).next()
    }

    /// All populated slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().map(slot)
    }

    /// The populated slots from `start` on, ascending.
    pub fn iter_from(&self, start: Slot) -> impl Iterator<Item = Slot> {
        let position = self.slots.position(|number| *number < start.get());
        self.slots.iter_from(position).map(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SLOT_COUNT;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_slot() -> impl Strategy<Value = Slot> {
        // Few enough numbers that slots come and go, and the last slot of all among them.
        prop_oneof![0_u16..300, SLOT_COUNT - 20..SLOT_COUNT].prop_map(slot)
    }

    proptest! {
        #[test]
        fn it_answers_as_an_ordered_set(
            steps in prop::collection::vec((any::<bool>(), any_slot()), 0..1500)
        ) {
            let (mut index, mut model) = (SlotIndex::default(), BTreeSet::new());
            for (comes, slot) in steps {
                if comes {
                    index.insert(slot);
                    model.insert(slot);
                } else {
                    index.remove(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert_eq!(index.is_empty(), model.is_empty());
                prop_assert_eq!(index.at_or_after(slot), model.range(slot..).next().copied());
            }
            prop_assert!(index.iter().eq(model.iter().copied()));
            for (rank, slot) in model.iter().enumerate() {
                prop_assert_eq!(index.at_rank(rank), Some(*slot));
                prop_assert!(index.iter_from(*slot).eq(model.range(*slot..).copied()));
            }
            prop_assert_eq!(index.at_rank(model.len()), None);
        }
    }

    #[test]
    fn all_slots_fit_in() {
        let mut index = SlotIndex::default();
        (0..SLOT_COUNT).for_each(|number| index.insert(slot(number)));
        assert_eq!(index.len(), usize::from(SLOT_COUNT));
        assert_eq!(index.at_rank(12345), Slot::new(12345));
        (0..SLOT_COUNT - 1).for_each(|number| index.remove(slot(number)));
        assert_eq!(index.at_or_after(slot(0)), Slot::new(SLOT_COUNT - 1));
    }
}
