//! What was deleted and is not freed yet.
//!
//! Freeing a sorted set of five million members takes half a second; freed in slices between the turns
//! of the reactor, nobody waits for it. Small values are freed at once.

use std::collections::VecDeque;

use super::entry::{Entry, Kind};
use super::slot_table::SlotTable;
use super::value::{ValueMut, ValueRef};

/// Values with at most this many elements are freed where they are deleted (Redis 7.0
/// `lazyfree.c`, LAZYFREE_THRESHOLD).
const FREE_AT_ONCE_ELEMENTS_MAX: usize = 64;

enum Trash {
    Value(Entry),
    Slots { slots: Box<[SlotTable]>, next: usize },
}

/// Deleted values, in the order of their deletion.
#[derive(Default)]
pub struct Garbage {
    queue: VecDeque<Trash>,
    len: usize,
}

fn elements(entry: &Entry) -> usize {
    match entry.value() {
        ValueRef::Str(_) => 1,
        ValueRef::List(list) => list.len(),
        ValueRef::Set(set) => set.len(),
        ValueRef::Hash(hash) => hash.len(),
        ValueRef::ZSet(zset) => zset.len(),
    }
}

impl Garbage {
    /// Frees `entry`, now if it is small.
    pub fn put(&mut self, entry: Entry) {
        if entry.kind().is_string() || elements(&entry) <= FREE_AT_ONCE_ELEMENTS_MAX {
            return;
        }
        self.queue.push_back(Trash::Value(entry));
        self.len += 1;
    }

    /// Frees all keys of a database, `keys` in number.
    pub fn put_slots(&mut self, slots: Box<[SlotTable]>, keys: usize) {
        if keys > 0 {
            self.queue.push_back(Trash::Slots { slots, next: 0 });
            self.len += keys;
        }
    }

    /// Keys that are waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Frees about `budget` elements; true if more is left.
    pub fn slice(&mut self, budget: usize) -> bool {
        let mut left = budget;
        while left > 0 {
            match self.queue.front_mut() {
                None => return false,
                Some(Trash::Value(entry)) => {
                    let before = elements(entry);
                    let done = match entry.value_mut() {
                        ValueMut::Str(_) => true,
                        ValueMut::List(list) => list.free_slice(left),
                        ValueMut::Set(set) => set.free_slice(left),
                        ValueMut::Hash(hash) => hash.free_slice(left),
                        ValueMut::ZSet(zset) => zset.free_slice(left),
                    };
                    left = left.saturating_sub(before.saturating_sub(elements(entry)).max(1));
                    if done {
                        self.queue.pop_front();
                        self.len -= 1;
                    }
                }
                Some(Trash::Slots { slots, next }) => {
                    let Some(table) = slots.get_mut(*next) else {
                        self.queue.pop_front();
                        continue;
                    };
                    if table.is_empty() {
                        *next += 1;
                        continue;
                    }
                    let popped = table.pop_some(left.min(256));
                    left = left.saturating_sub(popped.len());
                    self.len -= popped.len();
                    for entry in popped {
                        if entry.kind() != Kind::Embedded
                            && elements(&entry) > FREE_AT_ONCE_ELEMENTS_MAX
                        {
                            self.queue.push_back(Trash::Value(entry));
                            self.len += 1;
                        }
                    }
                }
            }
        }
        !self.queue.is_empty()
    }
}
