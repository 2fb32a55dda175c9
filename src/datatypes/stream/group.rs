//! A consumer group: how far it has read, and which entries were delivered to whom and not acknowledged.
//!
//! A pending entry is in the list of the group and in that of its consumer, each in the order of ids;
//! what is known of the delivery is kept once, in the group's.

use std::collections::{BTreeMap, BTreeSet};

use super::id::StreamId;

/// A consumer's number within its group; numbers of removed consumers are used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerNumber(u32);

/// One delivered entry that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// When it was delivered last, unix ms.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom.
    pub consumer: ConsumerNumber,
}

/// A reader within a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it was last heard of, unix ms.
    pub seen_ms: i64,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many entries it has not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The entries from `start` on that it has not acknowledged.
    pub fn pending(&self, start: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.range(start..).copied()
    }
}

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries were delivered since the stream began, if known.
    pub entries_read: Option<i64>,
    pending: BTreeMap<StreamId, Pending>,
    /// Consumers by number; empty where one was removed.
    consumers: Vec<Option<Consumer>>,
    free: Vec<ConsumerNumber>,
    by_name: BTreeMap<Box<[u8]>, ConsumerNumber>,
}

impl Group {
    /// A group without consumers that goes on after `last_id`.
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Self {
        Self { last_id, entries_read, ..Self::default() }
    }

    // ---- consumers ----

    /// The number of the consumer of this name.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerNumber> {
        self.by_name.get(name).copied()
    }

    /// The consumer of this number.
    pub fn consumer(&self, number: ConsumerNumber) -> &Consumer {
        self.consumers[number.0 as usize].as_ref().expect("numbers of removed consumers are gone")
    }

    fn consumer_mut(&mut self, number: ConsumerNumber) -> &mut Consumer {
        self.consumers[number.0 as usize].as_mut().expect("numbers of removed consumers are gone")
    }

    /// The consumers by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.by_name.values().map(|number| self.consumer(*number))
    }

    /// Adds a consumer; `None` if there is one of this name.
    pub fn add_consumer(&mut self, name: &[u8], now_ms: i64) -> Option<ConsumerNumber> {
        let is_new = !self.by_name.contains_key(name);
        is_new.then(|| self.new_consumer(name, now_ms))
    }

    fn new_consumer(&mut self, name: &[u8], now_ms: i64) -> ConsumerNumber {
        let consumer =
            Consumer { name: name.into(), seen_ms: now_ms, pending: BTreeSet::default() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.consumers.push(None);
            ConsumerNumber(self.consumers.len() as u32 - 1)
        });
        self.consumers[number.0 as usize] = Some(consumer);
        self.by_name.insert(name.into(), number);
        number
    }

    /// The consumer of this name, which was heard of now, and whether it is a new one.
    pub fn consumer_or_new(&mut self, name: &[u8], now_ms: i64) -> (ConsumerNumber, bool) {
        match self.find_consumer(name) {
            Some(number) => {
                self.consumer_mut(number).seen_ms = now_ms;
                (number, false)
            }
            None => (self.new_consumer(name, now_ms), true),
        }
    }

    /// Removes a consumer with its pending entries, and says how many these were.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let number = self.by_name.remove(name)?;
        let consumer = self.consumers[number.0 as usize].take()?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        self.free.push(number);
        Some(consumer.pending.len())
    }

    // ---- pending entries ----

    /// How many entries are delivered and not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The pending entries from `start` on.
    pub fn pending(&self, start: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> {
        self.pending.range(start..).map(|(id, pending)| (*id, pending))
    }

    /// The last pending entry.
    pub fn last_pending(&self) -> Option<StreamId> {
        self.pending.last_key_value().map(|(id, _)| *id)
    }

    /// What is known of the delivery of `id`, if it is pending.
    pub fn pending_entry(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// As [`Group::pending_entry`], to change. [`Group::assign`] changes the consumer.
    pub fn pending_entry_mut(&mut self, id: StreamId) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// Makes `id` pending for a consumer, whoever had it before.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        let consumer = pending.consumer;
        let before = self.pending.insert(id, pending).map(|pending| pending.consumer);
        if before != Some(consumer) {
            if let Some(before) = before {
                self.consumer_mut(before).pending.remove(&id);
            }
            self.consumer_mut(consumer).pending.insert(id);
        }
    }

    /// Forgets the delivery of `id`; false if it was not pending.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.consumer_mut(pending.consumer).pending.remove(&id);
        true
    }

    // ---- figures ----

    /// Drops about `max_entries` pending entries and returns whether none is left.
    pub(super) fn free_slice(&mut self, max_entries: usize) -> bool {
        let emptied = (0..max_entries).any(|_| self.pending.pop_first().is_none());
        let lists = self.consumers.iter_mut().flatten().map(|consumer| &mut consumer.pending);
        let mut left = max_entries;
        for list in lists {
            while left > 0 && list.pop_first().is_some() {
                left -= 1;
            }
        }
        emptied && left > 0
    }

    /// Estimated bytes of memory.
    pub(super) fn memory_usage(&self) -> usize {
        let pending = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let consumer = size_of::<Consumer>() + size_of::<(Box<[u8]>, ConsumerNumber)>();
        let names: usize = self.by_name.keys().map(|name| 2 * name.len() + consumer).sum();
        size_of::<Self>() + names + self.pending.len() * pending
    }

    /// Proves that both kinds of lists agree; panics with the broken rule. For tests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut listed = 0;
        for (name, number) in &self.by_name {
            let consumer = self.consumer(*number);
            assert_eq!(&consumer.name, name, "a consumer is found by its name");
            for id in &consumer.pending {
                let pending = self.pending.get(id).expect("the group knows what is pending");
                assert_eq!(pending.consumer, *number, "an entry is pending for one consumer");
            }
            listed += consumer.pending.len();
        }
        assert_eq!(listed, self.pending.len(), "each pending entry has a consumer");
        assert_eq!(self.by_name.len(), self.consumers.iter().flatten().count());
    }
}
