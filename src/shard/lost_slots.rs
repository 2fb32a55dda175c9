//! Keys of slots that another node has taken over: they are deleted, in slices.
//!
//! No client sees them any more, so nothing hurries; what replicas and append-only files hear is one deletion for each
//! key (Redis 7.0 `cluster.c`, delKeysInSlot), and for clients it is no keyspace event: the keys live elsewhere.
//!
//! Promise: a slot that comes back before its turn keeps what it has.

use std::collections::VecDeque;

use super::Shard;
use super::engine::Removal;
use crate::cluster::SlotSet;
use crate::cluster::redirect::Territory;
use crate::command::removal;
use crate::keyspace::{Budget, Key};
use crate::slot::Slot;
use crate::transaction::KeyLock;

/// Keys that are deleted between two looks at the clock.
const KEYS_PER_STEP: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct LostSlots {
    slots: VecDeque<Slot>,
}

impl LostSlots {
    /// The map has changed: those that this node has now, or is getting, stay.
    pub(super) fn keep_those_of(&mut self, territory: &Territory) {
        self.slots.retain(|slot| !territory.keeps(*slot));
    }
}

impl Shard {
    /// These slots belong to another node.
    pub(super) fn on_slots_lost(&mut self, lost: &SlotSet) {
        let here = lost.iter().filter(|slot| self.engine.shards.owner(*slot) == self.engine.id);
        let new: Vec<Slot> = here.filter(|slot| !self.lost_slots.slots.contains(slot)).collect();
        self.lost_slots.slots.extend(new);
    }

    /// Deletes some of the keys; true if there are more that can be deleted at once.
    pub(super) fn lost_slots_slice(&mut self, mut budget: Budget) -> bool {
        if self.engine.keyspace.keeps_expired() {
            // The data stands still, or it is a master's.
            return false;
        }
        for _ in 0..self.lost_slots.slots.len() {
            let Some(slot) = self.lost_slots.slots.pop_front() else { break };
            while self.delete_some_of(slot) {
                budget.spend(KEYS_PER_STEP);
                if budget.is_spent() {
                    self.lost_slots.slots.push_front(slot);
                    return true;
                }
            }
            if self.engine.keyspace[0].slot_len(slot) > 0 {
                // Somebody holds what is left.
                self.lost_slots.slots.push_back(slot);
            }
        }
        false
    }

    /// Deletes keys of a slot that nobody holds; false if there were none.
    fn delete_some_of(&mut self, slot: Slot) -> bool {
        let locks = &self.engine.locks;
        let is_free = |key: &[u8]| !locks.is_wanted(KeyLock { hash: Key::new(key).hash });
        let keys = self.engine.keyspace[0].iter_slot(slot).map(|entry| entry.key());
        let keys: Vec<Vec<u8>> =
            keys.filter(|key| is_free(key)).take(KEYS_PER_STEP).map(<[u8]>::to_vec).collect();
        let word = removal(self.engine.config.lazyfree_lazy_server_del);
        for key in &keys {
            self.engine.remove_keys(0, &[key], Removal { word, is_event: false });
        }
        self.settle_changes(None);
        !keys.is_empty()
    }
}
