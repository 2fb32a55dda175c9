//! What was deleted and is not freed yet.
//!
//! Freeing a sorted set of five million members takes half a second; freed in slices between the turns
//! of the reactor, nobody waits for it. Small values are freed at once.

use std::collections::VecDeque;

use super::budget::{Budget, ELEMENTS_PER_LOOK};
use super::entry::{Entry, Kind};
use super::expiry::ExpiryWheel;
use super::slot_table::SlotTable;
use super::value::{ValueMut, ValueRef};

/// Values with at most this many elements are freed where they are deleted (Redis 7.0
/// `lazyfree.c`, LAZYFREE_THRESHOLD).
const FREE_AT_ONCE_ELEMENTS_MAX: usize = 64;

/// Nodes of a list that are freed between two looks at the clock; each may have 8 KiB.
const LIST_NODES_PER_STEP: usize = 8;
/// Nodes or pending entries of a stream that are freed between two looks at the clock; a node has
/// some 4 KiB.
const STREAM_PARTS_PER_STEP: usize = 16;

enum Trash {
    Value(Entry),
    Slots { slots: Box<[SlotTable]>, next: usize },
    Wheel(Box<ExpiryWheel>),
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
        ValueRef::Stream(stream) => stream.parts(),
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

    /// Frees an expiry wheel, whose keys are counted elsewhere.
    pub fn put_wheel(&mut self, wheel: ExpiryWheel) {
        self.queue.push_back(Trash::Wheel(Box::new(wheel)));
    }

    /// Whether everything has been freed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Keys that are waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Frees until the budget is spent; true if more is left.
    pub fn slice(&mut self, budget: &mut Budget) -> bool {
        while !budget.is_spent() {
            let Some(trash) = self.queue.front_mut() else { return false };
            let done = match trash {
                Trash::Value(entry) => {
                    budget.spend(ELEMENTS_PER_LOOK);
                    let done = free_elements(entry);
                    self.len -= usize::from(done);
                    done
                }
                Trash::Slots { slots, next } => match slots.get_mut(*next) {
                    None => true,
                    Some(table) => {
                        let popped = table.pop_some(ELEMENTS_PER_LOOK);
                        *next += usize::from(table.is_empty());
                        // A slot that was empty before costs a look at it, too.
                        budget.spend(popped.len().max(1));
                        self.keep_big(popped);
                        false
                    }
                },
                Trash::Wheel(wheel) => {
                    budget.spend(ELEMENTS_PER_LOOK);
                    wheel.free_some()
                }
            };
            if done {
                self.queue.pop_front();
            }
        }
        !self.queue.is_empty()
    }

    /// Frees the small ones of these entries, which were counted, and puts the others in line.
    fn keep_big(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.len -= 1;
            if entry.kind() != Kind::Embedded {
                self.put(entry);
            }
        }
    }
}

/// Frees some elements of a big value; true when nothing but the entry is left.
fn free_elements(entry: &mut Entry) -> bool {
    match entry.value_mut() {
        ValueMut::Str(_) => true,
        ValueMut::List(list) => list.free_slice(LIST_NODES_PER_STEP),
        ValueMut::Set(set) => set.free_slice(ELEMENTS_PER_LOOK),
        ValueMut::Hash(hash) => hash.free_slice(ELEMENTS_PER_LOOK),
        ValueMut::ZSet(zset) => zset.free_slice(ELEMENTS_PER_LOOK),
        ValueMut::Stream(stream) => stream.free_slice(STREAM_PARTS_PER_STEP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datatypes::list::{End, List};
    use crate::datatypes::stream::{NewId, NodeLimits, Stream};
    use crate::datatypes::{set::Set, zset::ZSet};
    use crate::keyspace::{Key, Value};
    use crate::slot::SLOT_COUNT;
    use std::time::Duration;

    const ELEMENTS: usize = 50_000;

    /// Slices whose time is over when they begin, until all is freed.
    fn slices(garbage: &mut Garbage) -> usize {
        let mut slices = 1;
        while garbage.slice(&mut Budget::new(Duration::ZERO)) {
            slices += 1;
        }
        assert!(garbage.is_empty());
        assert_eq!(garbage.len, 0, "no key is counted any more");
        slices
    }

    #[test]
    fn a_big_value_of_any_type_takes_many_slices_if_time_is_short() {
        let members = || (0..ELEMENTS).map(|number| format!("member:{number:032}").into_bytes());
        let mut list = List::default();
        let mut set = Set::default();
        let mut zset = ZSet::default();
        let mut stream = Stream::default();
        for (score, member) in members().enumerate() {
            list.push(End::Tail, &member);
            set.insert(&member, Default::default());
            zset.insert(&member, score as f64, Default::default());
            let added = stream.append(NewId::Auto, &[b"f", &member], &NodeLimits::default(), 1);
            assert!(added.is_ok());
        }
        // A segment of a table is freed at once, and holds at most 1024 members.
        for (value, at_least) in [
            (Value::List(Box::new(list)), 20),
            (Value::Set(Box::new(set)), ELEMENTS / 1024),
            (Value::ZSet(Box::new(zset)), ELEMENTS / 1024),
            (Value::Stream(Box::new(stream)), ELEMENTS / 100 / STREAM_PARTS_PER_STEP),
        ] {
            let mut garbage = Garbage::default();
            garbage.put(Entry::new(b"key", value, None, 0));
            let slices = slices(&mut garbage);
            assert!(slices >= at_least, "{slices} slices instead of {at_least}");
        }
    }

    #[test]
    fn the_keys_of_a_database_take_many_slices_if_time_is_short() {
        let mut tables: Box<[SlotTable]> = (0..SLOT_COUNT).map(|_| SlotTable::default()).collect();
        for number in 0..ELEMENTS {
            let name = number.to_string();
            let key = Key::new(name.as_bytes());
            tables[key.slot.index()].insert(key.hash, Entry::with_string(key.bytes, b"", None, 0));
        }
        let mut garbage = Garbage::default();
        garbage.put_slots(tables, ELEMENTS);
        let slices = slices(&mut garbage);
        assert!(slices > ELEMENTS / 256, "{slices}");
    }

    #[test]
    fn a_wheel_of_many_items_takes_many_slices_if_time_is_short() {
        let mut wheel = ExpiryWheel::new(0);
        for number in 0..ELEMENTS as u64 {
            wheel.arm(Key::new(b"key").slot, number << 20, 3_600_000);
        }
        let mut garbage = Garbage::default();
        garbage.put_wheel(wheel);
        let slices = slices(&mut garbage);
        assert!(slices >= ELEMENTS / 4096, "{slices}");
    }
}
