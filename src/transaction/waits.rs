//! Who waits for which keys of one shard (BLPOP and its kin), in which order.
//!
//! A client that waits is known by the number that its command took when it began: the oldest is
//! served first, on every shard alike. Time limits are kept where the client is answered from.
//!
//! Promise: who is removed leaves nothing.

use std::collections::{BTreeSet, HashMap};

use super::TxId;
use crate::keyspace::DbKey;

/// See the module; `W` is what is known of each.
pub struct Waits<W> {
    queues: HashMap<DbKey, BTreeSet<TxId>, ahash::RandomState>,
    waiters: HashMap<TxId, Waiting<W>, ahash::RandomState>,
}

struct Waiting<W> {
    keys: Vec<DbKey>,
    /// Keys that were ready while it was being served from another one.
    missed: Vec<DbKey>,
    waiter: W,
}

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self { queues: HashMap::default(), waiters: HashMap::default() }
    }
}

impl<W> Waits<W> {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// `number` waits for these keys.
    pub fn insert(&mut self, number: TxId, mut keys: Vec<DbKey>, waiter: W) {
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            self.queues.entry(key.clone()).or_default().insert(number);
        }
        let waiting = Waiting { keys, missed: Vec::new(), waiter };
        let before = self.waiters.insert(number, waiting);
        assert!(before.is_none(), "{number:?} begins to wait once");
    }

    /// What is known of `number`, if it waits.
    pub fn get(&self, number: TxId) -> Option<&W> {
        self.waiters.get(&number).map(|waiting| &waiting.waiter)
    }

    /// As [`Waits::get`], to change.
    pub fn get_mut(&mut self, number: TxId) -> Option<&mut W> {
        self.waiters.get_mut(&number).map(|waiting| &mut waiting.waiter)
    }

    /// All who wait, in no order.
    pub fn numbers(&self) -> impl Iterator<Item = TxId> + '_ {
        self.waiters.keys().copied()
    }

    /// `key` is ready while `number` is being served from another one: if that fails, it comes back to it.
    pub fn note_missed(&mut self, number: TxId, key: DbKey) {
        if let Some(waiting) = self.waiters.get_mut(&number)
            && !waiting.missed.contains(&key)
        {
            waiting.missed.push(key);
        }
    }

    /// The keys of [`Waits::note_missed`], each to be looked at for all who wait for it.
    pub fn take_missed(&mut self, number: TxId) -> Vec<(DbKey, Option<TxId>)> {
        let missed =
            self.waiters.get_mut(&number).map(|waiting| std::mem::take(&mut waiting.missed));
        missed.unwrap_or_default().into_iter().map(|key| (key, None)).collect()
    }

    /// `number` waits no more.
    pub fn remove(&mut self, number: TxId) -> Option<W> {
        let Waiting { keys, waiter, .. } = self.waiters.remove(&number)?;
        for key in &keys {
            let queue = self.queues.get_mut(key).expect("both maps know who waits");
            queue.remove(&number);
            if queue.is_empty() {
                self.queues.remove(key);
            }
        }
        Some(waiter)
    }

    /// Whether somebody waits for `key`.
    pub fn is_awaited(&self, key: &DbKey) -> bool {
        self.queues.contains_key(key)
    }

    /// The awaited keys of one database.
    pub fn keys_in(&self, db: usize) -> Vec<DbKey> {
        let mut keys: Vec<DbKey> = self.queues.keys().filter(|key| key.0 == db).cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Who waits longest for `key` of those that began after `last`.
    pub fn next(&self, key: &DbKey, last: Option<TxId>) -> Option<TxId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = last.map_or(Unbounded, Excluded);
        self.queues.get(key)?.range((after, Unbounded)).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> DbKey {
        (usize::from(number % 2), vec![number])
    }

    proptest! {
        #[test]
        fn queues_are_in_order_whatever_comes_and_goes(
            steps in prop::collection::vec(
                (any::<bool>(), 0_u64..20, prop::collection::vec(0_u8..5, 1..4)), 0..100),
        ) {
            let mut waits = Waits::default();
            let mut model: Vec<(TxId, Vec<DbKey>)> = Vec::new();
            for (comes, number, keys) in steps {
                let (number, keys) = (TxId(number), keys.into_iter().map(key).collect::<Vec<_>>());
                let known = model.iter().position(|(other, _)| *other == number);
                match known {
                    None if comes => {
                        waits.insert(number, keys.clone(), number);
                        model.push((number, keys));
                    }
                    known => {
                        prop_assert_eq!(waits.remove(number), known.map(|_| number));
                        known.map(|at| model.swap_remove(at));
                    }
                }
                for key in (0..5).map(key) {
                    let waiting = model.iter().filter(|(_, keys)| keys.contains(&key));
                    let mut expected: Vec<TxId> = waiting.map(|(number, _)| *number).collect();
                    expected.sort_unstable();
                    let mut found = Vec::new();
                    while let Some(next) = waits.next(&key, found.last().copied()) {
                        found.push(next);
                    }
                    prop_assert_eq!(waits.is_awaited(&key), !expected.is_empty());
                    prop_assert_eq!(found, expected);
                }
                let awaited = waits.keys_in(0).len() + waits.keys_in(1).len();
                prop_assert_eq!(awaited, waits.queues.len());
            }
            model.into_iter().for_each(|(number, _)| _ = waits.remove(number));
            prop_assert!(waits.is_empty() && waits.queues.is_empty());
        }
    }
}
