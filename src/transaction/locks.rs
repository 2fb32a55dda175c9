//! Which transaction may touch which keys of one shard, and who is next.
//!
//! A transaction has a number that is unique in the process. On every shard that it touches it
//! schedules its keys; it holds them when it is first in line for all of them. Lines are ordered
//! by number: who comes late with a smaller number than one that conflicts is refused,
//! gives up everywhere, and tries again with a new number. So everybody waits only for smaller
//! numbers, on every shard, and no circle can close (the scheme of VLL: Ren, Thomson, Abadi,
//! "Lightweight Locking for Main Memory Database Systems", VLDB 2013).
//!
//! A single command that meets a held key takes a new number and stands in the same line.
//!
//! Keys are known by their 64-bit hash alone: two keys of one hash, or one key in two databases, wait for
//! each other without need, and that is all. (MOVE and COPY go from database to database.)

use std::collections::{BTreeSet, HashMap, VecDeque};

/// The number of a transaction; unique in the process, greater for later ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxId(pub u64);

/// What a key is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyLock {
    /// The hash of the key.
    pub hash: u64,
}

/// The answer to a scheduling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// First in line for everything: go ahead.
    Granted,
    /// In line; it will be granted when those before it are done.
    Queued,
    /// A greater number is in line for one of the keys: give up and come back with a new number.
    Refused,
}

struct Scheduled {
    /// Sorted, each once. Empty if the whole shard is wanted.
    keys: Box<[KeyLock]>,
    whole: bool,
    /// How many keys (and whole-shard transactions before it) it still waits for.
    waits_for: usize,
}

/// The lines of one shard.
#[derive(Default)]
pub struct LockTable {
    lines: HashMap<KeyLock, VecDeque<TxId>, ahash::RandomState>,
    scheduled: HashMap<TxId, Scheduled, ahash::RandomState>,
    /// Transactions that want the whole shard.
    wholes: BTreeSet<TxId>,
}

impl LockTable {
    /// Whether nobody holds or wants anything: the one test that a command makes when there are no
    /// transactions.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.scheduled.is_empty()
    }

    /// Whether somebody holds or wants `key`.
    pub fn is_wanted(&self, key: KeyLock) -> bool {
        !self.wholes.is_empty() || self.lines.contains_key(&key)
    }

    /// Puts `tx` in line for `keys`, all or none.
    pub fn schedule(&mut self, tx: TxId, mut keys: Vec<KeyLock>) -> Verdict {
        keys.sort_unstable();
        keys.dedup();
        let passed_by = |line: &VecDeque<TxId>| line.back().is_some_and(|last| *last > tx);
        if self.wholes.last().is_some_and(|last| *last > tx)
            || keys.iter().any(|key| self.lines.get(key).is_some_and(passed_by))
        {
            return Verdict::Refused;
        }
        let mut waits_for = self.wholes.len();
        for key in &keys {
            let line = self.lines.entry(*key).or_default();
            waits_for += usize::from(!line.is_empty());
            line.push_back(tx);
        }
        self.enter(tx, Scheduled { keys: keys.into(), whole: false, waits_for })
    }

    /// Puts `tx` in line for everything on this shard.
    pub fn schedule_whole(&mut self, tx: TxId) -> Verdict {
        if self.scheduled.keys().any(|other| *other > tx) {
            return Verdict::Refused;
        }
        let waits_for = self.scheduled.len();
        self.wholes.insert(tx);
        self.enter(tx, Scheduled { keys: Box::default(), whole: true, waits_for })
    }

    fn enter(&mut self, tx: TxId, scheduled: Scheduled) -> Verdict {
        let granted = scheduled.waits_for == 0;
        let before = self.scheduled.insert(tx, scheduled);
        assert!(before.is_none(), "{tx:?} is scheduled once");
        if granted { Verdict::Granted } else { Verdict::Queued }
    }

    /// Whether `tx` is in line or holds its keys here.
    pub fn is_scheduled(&self, tx: TxId) -> bool {
        self.scheduled.contains_key(&tx)
    }

    /// Whether `tx` holds its keys here.
    pub fn is_granted(&self, tx: TxId) -> bool {
        self.scheduled.get(&tx).is_some_and(|scheduled| scheduled.waits_for == 0)
    }

    /// `tx` is done here, or gives up; those that are first in line for everything now are put into
    /// `granted`, in the order of their numbers.
    pub fn release(&mut self, tx: TxId, granted: &mut Vec<TxId>) {
        let Some(released) = self.scheduled.remove(&tx) else { return };
        let first_new = granted.len();
        for key in &released.keys {
            let line = self.lines.get_mut(key).expect("a scheduled key has a line");
            if line.front() == Some(&tx) {
                line.pop_front();
                if let Some(next) = line.front().copied() {
                    self.one_less(next, granted);
                }
            } else {
                line.retain(|other| *other != tx);
            }
            if self.lines[key].is_empty() {
                self.lines.remove(key);
            }
        }
        if released.whole {
            self.wholes.remove(&tx);
            let later: Vec<_> =
                self.scheduled.keys().filter(|other| **other > tx).copied().collect();
            later.into_iter().for_each(|other| self.one_less(other, granted));
        } else {
            let later: Vec<_> = self.wholes.range(tx..).copied().collect();
            later.into_iter().for_each(|other| self.one_less(other, granted));
        }
        granted[first_new..].sort_unstable();
    }

    fn one_less(&mut self, tx: TxId, granted: &mut Vec<TxId>) {
        let scheduled = self.scheduled.get_mut(&tx).expect("who is in line is scheduled");
        scheduled.waits_for -= 1;
        if scheduled.waits_for == 0 {
            granted.push(tx);
        }
    }

    /// Number of transactions in line or at work.
    pub fn len(&self) -> usize {
        self.scheduled.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scheduled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(hashes: &[u64]) -> Vec<KeyLock> {
        hashes.iter().map(|hash| KeyLock { hash: *hash }).collect()
    }

    fn release(table: &mut LockTable, tx: u64) -> Vec<u64> {
        let mut granted = Vec::new();
        table.release(TxId(tx), &mut granted);
        granted.into_iter().map(|tx| tx.0).collect()
    }

    #[test]
    fn transactions_without_common_keys_pass_each_other() {
        let mut table = LockTable::default();
        assert_eq!(table.schedule(TxId(5), keys(&[1, 2])), Verdict::Granted);
        assert_eq!(table.schedule(TxId(3), keys(&[3])), Verdict::Granted);
        assert_eq!(table.schedule(TxId(7), keys(&[2, 3])), Verdict::Queued);
        assert_eq!(table.schedule(TxId(6), keys(&[3])), Verdict::Refused);
        assert!(release(&mut table, 5).is_empty());
        assert_eq!(release(&mut table, 3), [7]);
        assert!(release(&mut table, 7).is_empty());
        assert!(table.is_idle() && table.lines.is_empty());
    }

    #[test]
    fn the_whole_shard_waits_for_all_and_all_later_ones_wait_for_it() {
        let mut table = LockTable::default();
        assert_eq!(table.schedule(TxId(1), keys(&[1])), Verdict::Granted);
        assert_eq!(table.schedule(TxId(2), keys(&[1])), Verdict::Queued);
        assert_eq!(table.schedule_whole(TxId(3)), Verdict::Queued);
        assert_eq!(table.schedule(TxId(4), keys(&[9])), Verdict::Queued);
        assert!(table.is_wanted(KeyLock { hash: 77 }));
        assert_eq!(release(&mut table, 1), [2]);
        assert_eq!(release(&mut table, 2), [3]);
        assert_eq!(release(&mut table, 3), [4]);
        assert_eq!(table.schedule_whole(TxId(2)), Verdict::Refused);
    }

    #[test]
    fn who_gives_up_in_the_middle_of_a_line_lets_the_others_move_up() {
        let mut table = LockTable::default();
        for tx in 1..=3 {
            table.schedule(TxId(tx), keys(&[1]));
        }
        assert!(release(&mut table, 2).is_empty());
        assert_eq!(release(&mut table, 1), [3]);
    }

    proptest! {
        /// Random scheduling over several shards: holders never conflict, and everything ends.
        #[test]
        fn holders_never_conflict_and_everyone_gets_a_turn(
            wanted in prop::collection::vec(
                (prop::collection::vec((0_usize..3, 0_u64..4), 1..4), 0_u8..12), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut shards: Vec<LockTable> = (0..3).map(|_| LockTable::default()).collect();
            struct Tx { number: u64, keys: Vec<(usize, u64)>, whole: bool, reached: Vec<usize> }
            let mut next_number = 0;
            let mut running: Vec<Tx> = wanted.into_iter().map(|(keys, kind)| {
                next_number += 1;
                Tx { number: next_number, keys, whole: kind == 0, reached: Vec::new() }
            }).collect();
            let mut picks = picks.into_iter().cycle();
            let mut steps = 0;
            while !running.is_empty() {
                steps += 1;
                prop_assert!(steps < 200_000, "everything ends");
                let pick = picks.next().unwrap().index(running.len());
                let tx = &mut running[pick];
                let shards_of: Vec<usize> =
                    if tx.whole { vec![0, 1, 2] } else {
                        let mut all: Vec<_> = tx.keys.iter().map(|(shard, _)| *shard).collect();
                        all.sort_unstable();
                        all.dedup();
                        all
                    };
                if let Some(shard) = shards_of.iter().find(|s| !tx.reached.contains(s)).copied() {
                    let mine: Vec<u64> = tx.keys.iter()
                        .filter(|(s, _)| *s == shard).map(|(_, hash)| *hash).collect();
                    let verdict = if tx.whole {
                        shards[shard].schedule_whole(TxId(tx.number))
                    } else {
                        shards[shard].schedule(TxId(tx.number), keys(&mine))
                    };
                    if verdict == Verdict::Refused {
                        for shard in tx.reached.drain(..) {
                            shards[shard].release(TxId(tx.number), &mut Vec::new());
                        }
                        next_number += 1;
                        tx.number = next_number;
                    } else {
                        tx.reached.push(shard);
                    }
                } else if shards_of.iter().all(|s| shards[*s].is_granted(TxId(tx.number))) {
                    let tx = running.swap_remove(pick);
                    for other in &running {
                        for shard in &shards_of {
                            if !shards[*shard].is_granted(TxId(other.number)) { continue; }
                            let common = tx.whole || other.whole || other.keys.iter()
                                .any(|key| key.0 == *shard && tx.keys.contains(key));
                            prop_assert!(!common, "two hold the same key");
                        }
                    }
                    for shard in shards_of {
                        shards[shard].release(TxId(tx.number), &mut Vec::new());
                    }
                }
            }
            prop_assert!(shards.iter().all(|s| s.is_idle() && s.lines.is_empty()));
        }
    }
}
