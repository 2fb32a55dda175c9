//! Which transaction may touch which keys of one shard, and who is next.
//!
//! A transaction has a number that is unique in the process: its age. On every shard that it touches it
//! stands in line for its keys, all at once; it holds them when nobody holds any of them and it is first
//! in line for all. Lines are ordered by number, whoever came first. So who waits in line waits for older ones.
//!
//! It may come late and find a younger one that holds a key. That one is *recalled*: unless it has run
//! meanwhile, it gives the keys of this shard back and stands in line again, behind the older one. So
//! the oldest transaction of all waits only for what is on its way to it: no circle can close, and as
//! a number is kept until its transaction has run, everybody is the oldest at some time (the wound-wait
//! rule: Rosenkrantz, Stearns, Lewis, "System Level Concurrency Control for Distributed Database
//! Systems", TODS 1978). Refusing the late one instead, which has to come back with a new number, does
//! not end: two shards that each have two transactions for the same keys refuse each other for ever.
//!
//! A single command that meets a held key takes a new number and stands in the same line.
//!
//! Keys are known by their 64-bit hash alone: two keys of one hash, or one key in two databases, wait for
//! each other without need, and that is all. (MOVE and COPY go from database to database.)

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

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
    /// It holds all it wants: go ahead.
    Granted,
    /// In line; it will be granted when those before it are done or recalled.
    Queued,
}

struct Scheduled {
    /// Sorted, each once. Empty if the whole shard is wanted.
    keys: Box<[KeyLock]>,
    whole: bool,
    granted: bool,
    /// It was asked to give back what it holds.
    recalled: bool,
}

/// Who holds a key and who waits for it, the oldest first. There is one as long as there is somebody.
#[derive(Default)]
struct Line {
    holder: Option<TxId>,
    waiting: VecDeque<TxId>,
}

/// The lines of one shard.
#[derive(Default)]
pub struct LockTable {
    lines: HashMap<KeyLock, Line, ahash::RandomState>,
    scheduled: BTreeMap<TxId, Scheduled>,
    /// Transactions that want or hold the whole shard.
    wholes: BTreeSet<TxId>,
    whole_holder: Option<TxId>,
    /// How many hold something.
    granted: usize,
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

    /// Whether somebody holds or wants everything on this shard.
    pub fn is_all_wanted(&self) -> bool {
        !self.wholes.is_empty()
    }

    /// Whether nobody holds `key`, or only `but_for` does. (Others may be in line for it.)
    pub fn is_free(&self, key: KeyLock, but_for: Option<TxId>) -> bool {
        let free = |holder: Option<TxId>| holder.is_none() || holder == but_for;
        free(self.whole_holder) && self.lines.get(&key).is_none_or(|line| free(line.holder))
    }

    /// Whether `tx` holds keys here or is in line for some.
    pub fn knows(&self, tx: TxId) -> bool {
        self.scheduled.contains_key(&tx)
    }

    /// Puts `tx` in line for `keys`. Younger ones that hold some of them, and were not recalled before,
    /// are put into `recalled`.
    pub fn schedule(
        &mut self,
        tx: TxId,
        mut keys: Vec<KeyLock>,
        recalled: &mut Vec<TxId>,
    ) -> Verdict {
        keys.sort_unstable();
        keys.dedup();
        let mut holders: Vec<TxId> = self.whole_holder.into_iter().collect();
        for key in &keys {
            holders.extend(self.stand_in(*key, tx));
        }
        self.enter(tx, keys, false);
        self.recall_younger(tx, holders, recalled);
        self.verdict(tx)
    }

    /// As [`LockTable::schedule`], for everything on this shard.
    pub fn schedule_whole(&mut self, tx: TxId, recalled: &mut Vec<TxId>) -> Verdict {
        let granted = self.scheduled.iter().filter(|(_, scheduled)| scheduled.granted);
        let holders = granted.map(|(holder, _)| *holder).collect();
        self.wholes.insert(tx);
        self.enter(tx, Vec::new(), true);
        self.recall_younger(tx, holders, recalled);
        self.verdict(tx)
    }

    /// Puts `tx` in the line of `key`; returns who holds it.
    fn stand_in(&mut self, key: KeyLock, tx: TxId) -> Option<TxId> {
        let line = self.lines.entry(key).or_default();
        let place = line.waiting.partition_point(|other| *other < tx);
        line.waiting.insert(place, tx);
        line.holder
    }

    fn enter(&mut self, tx: TxId, keys: Vec<KeyLock>, whole: bool) {
        let new = Scheduled { keys: keys.into(), whole, granted: false, recalled: false };
        let before = self.scheduled.insert(tx, new);
        assert!(before.is_none(), "{tx:?} is scheduled once");
    }

    fn recall_younger(&mut self, tx: TxId, holders: Vec<TxId>, recalled: &mut Vec<TxId>) {
        for holder in holders.into_iter().filter(|holder| *holder > tx) {
            let younger = self.scheduled.get_mut(&holder).expect("who holds is scheduled");
            if !std::mem::replace(&mut younger.recalled, true) {
                recalled.push(holder);
            }
        }
    }

    fn verdict(&mut self, tx: TxId) -> Verdict {
        if self.grant_if_first(tx) { Verdict::Granted } else { Verdict::Queued }
    }

    /// Lets `tx` hold what it waits for if it can; true if so.
    fn grant_if_first(&mut self, tx: TxId) -> bool {
        let scheduled = &self.scheduled[&tx];
        let first = if scheduled.whole {
            self.granted == 0 && self.scheduled.keys().next() == Some(&tx)
        } else {
            let free = |line: &Line| line.holder.is_none() && line.waiting.front() == Some(&tx);
            self.whole_holder.is_none()
                && self.wholes.first().is_none_or(|whole| *whole > tx)
                && scheduled.keys.iter().all(|key| free(&self.lines[key]))
        };
        if !first || scheduled.granted {
            return false;
        }
        for key in &scheduled.keys {
            let line = self.lines.get_mut(key).expect("a scheduled key has a line");
            line.holder = line.waiting.pop_front();
        }
        if scheduled.whole {
            self.whole_holder = Some(tx);
        }
        self.granted += 1;
        self.scheduled.get_mut(&tx).expect("it was there").granted = true;
        true
    }

    /// Whether `tx` holds its keys here.
    pub fn is_granted(&self, tx: TxId) -> bool {
        self.scheduled.get(&tx).is_some_and(|scheduled| scheduled.granted)
    }

    /// `tx` is done here; those that hold all they want now are put into `granted`, in the order of
    /// their numbers.
    pub fn release(&mut self, tx: TxId, granted: &mut VecDeque<TxId>) {
        let Some(released) = self.leave(tx) else { return };
        for key in &released.keys {
            let line = &self.lines[key];
            if line.holder.is_none() && line.waiting.is_empty() {
                self.lines.remove(key);
            }
        }
        self.grant_next(&released, granted);
    }

    /// `tx`, which was recalled, gives back what it holds and stands in line again; `granted` as in
    /// [`LockTable::release`]. If the older one has left the line meanwhile, `tx` itself is among them.
    pub fn give_back(&mut self, tx: TxId, granted: &mut VecDeque<TxId>) {
        let Some(released) = self.leave(tx) else { return };
        let keys = released.keys.to_vec();
        for key in &keys {
            self.stand_in(*key, tx);
        }
        if released.whole {
            self.wholes.insert(tx);
        }
        self.enter(tx, keys, released.whole);
        self.grant_next(&released, granted);
    }

    /// Takes `tx` out of all lines.
    fn leave(&mut self, tx: TxId) -> Option<Scheduled> {
        let released = self.scheduled.remove(&tx)?;
        self.granted -= usize::from(released.granted);
        for key in &released.keys {
            let line = self.lines.get_mut(key).expect("a scheduled key has a line");
            if line.holder == Some(tx) {
                line.holder = None;
            } else {
                line.waiting.retain(|other| *other != tx);
            }
        }
        if released.whole {
            self.wholes.remove(&tx);
            self.whole_holder = self.whole_holder.filter(|holder| *holder != tx);
        }
        Some(released)
    }

    /// Grants those that may have waited for `released`.
    fn grant_next(&mut self, released: &Scheduled, granted: &mut VecDeque<TxId>) {
        let lines = released.keys.iter().filter_map(|key| self.lines.get(key));
        let mut next: Vec<TxId> = lines.filter_map(|line| line.waiting.front().copied()).collect();
        if released.whole {
            next.extend(self.scheduled.keys());
        }
        next.extend(self.wholes.first());
        next.sort_unstable();
        next.dedup();
        granted.extend(next.into_iter().filter(|tx| self.grant_if_first(*tx)));
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

    /// Schedules for these keys (the whole shard if there are none): the verdict, and who is recalled.
    fn schedule(table: &mut LockTable, tx: u64, hashes: &[u64]) -> (Verdict, Vec<u64>) {
        let mut recalled = Vec::new();
        let verdict = match hashes {
            [] => table.schedule_whole(TxId(tx), &mut recalled),
            hashes => table.schedule(TxId(tx), keys(hashes), &mut recalled),
        };
        (verdict, recalled.into_iter().map(|tx| tx.0).collect())
    }

    fn release(table: &mut LockTable, tx: u64) -> Vec<u64> {
        let mut granted = VecDeque::new();
        table.release(TxId(tx), &mut granted);
        granted.into_iter().map(|tx| tx.0).collect()
    }

    fn give_back(table: &mut LockTable, tx: u64) -> Vec<u64> {
        let mut granted = VecDeque::new();
        table.give_back(TxId(tx), &mut granted);
        granted.into_iter().map(|tx| tx.0).collect()
    }

    const GRANTED: (Verdict, Vec<u64>) = (Verdict::Granted, Vec::new());
    const QUEUED: (Verdict, Vec<u64>) = (Verdict::Queued, Vec::new());

    #[test]
    fn transactions_without_common_keys_pass_each_other() {
        let mut table = LockTable::default();
        assert_eq!(schedule(&mut table, 5, &[1, 2]), GRANTED);
        assert_eq!(schedule(&mut table, 3, &[3]), GRANTED);
        assert_eq!(schedule(&mut table, 7, &[2, 3]), QUEUED);
        assert_eq!(release(&mut table, 5), []);
        assert_eq!(release(&mut table, 3), [7]);
        assert_eq!(release(&mut table, 7), []);
        assert!(table.is_idle() && table.lines.is_empty());
    }

    #[test]
    fn who_is_older_goes_before_those_that_wait_and_recalls_those_that_hold() {
        let mut table = LockTable::default();
        assert_eq!(schedule(&mut table, 5, &[1]), GRANTED);
        assert_eq!(schedule(&mut table, 6, &[1]), QUEUED);
        assert_eq!(schedule(&mut table, 4, &[1, 2]), (Verdict::Queued, vec![5]));
        assert_eq!(schedule(&mut table, 3, &[1]), QUEUED, "5 is recalled once");
        assert_eq!(give_back(&mut table, 5), [3]);
        assert_eq!(release(&mut table, 3), [4]);
        assert_eq!(release(&mut table, 4), [5]);
        assert_eq!(release(&mut table, 5), [6]);
    }

    #[test]
    fn who_is_recalled_in_vain_is_granted_again() {
        let mut table = LockTable::default();
        assert_eq!(schedule(&mut table, 5, &[1]), GRANTED);
        assert_eq!(schedule(&mut table, 4, &[1, 2]), (Verdict::Queued, vec![5]));
        assert_eq!(release(&mut table, 4), [], "its client is gone");
        assert_eq!(give_back(&mut table, 5), [5]);
        assert_eq!(schedule(&mut table, 3, &[1]), (Verdict::Queued, vec![5]), "again");
    }

    #[test]
    fn the_whole_shard_waits_for_all_and_all_younger_ones_wait_for_it() {
        let mut table = LockTable::default();
        assert_eq!(schedule(&mut table, 2, &[1]), GRANTED);
        assert_eq!(schedule(&mut table, 3, &[1]), QUEUED);
        assert_eq!(schedule(&mut table, 4, &[]), QUEUED);
        assert_eq!(schedule(&mut table, 5, &[9]), QUEUED);
        assert!(table.is_wanted(KeyLock { hash: 77 }));
        assert_eq!(release(&mut table, 2), [3]);
        assert_eq!(release(&mut table, 3), [4]);
        assert_eq!(schedule(&mut table, 1, &[9]), (Verdict::Queued, vec![4]));
        assert_eq!(give_back(&mut table, 4), [1]);
        assert_eq!(release(&mut table, 1), [4]);
        assert_eq!(release(&mut table, 4), [5]);
        assert_eq!(schedule(&mut table, 3, &[]), (Verdict::Queued, vec![5]));
        assert_eq!(give_back(&mut table, 5), [3]);
        assert_eq!(release(&mut table, 3), [5]);
    }

    #[test]
    fn who_leaves_the_middle_of_a_line_lets_the_others_move_up() {
        let mut table = LockTable::default();
        for tx in 1..=3 {
            schedule(&mut table, tx, &[1]);
        }
        assert_eq!(release(&mut table, 2), []);
        assert_eq!(release(&mut table, 1), [3]);
    }

    /// A transaction of the test below, on three shards.
    struct Tx {
        number: u64,
        wanted: Vec<Vec<u64>>,
        whole: bool,
        reached: [bool; 3],
        /// Shards that want their keys back.
        recalls: Vec<usize>,
    }

    impl Tx {
        fn touches(&self, shard: usize) -> bool {
            self.whole || !self.wanted[shard].is_empty()
        }
    }

    proptest! {
        /// Random scheduling over several shards: holders never conflict, and everything ends soon.
        #[test]
        fn holders_never_conflict_and_everyone_gets_a_turn(
            wanted in prop::collection::vec(
                (prop::collection::vec((0_usize..3, 0_u64..4), 1..4), 0_u8..12), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut shards: Vec<LockTable> = (0..3).map(|_| LockTable::default()).collect();
            let count = wanted.len();
            let mut running: Vec<Tx> = wanted.into_iter().zip(1..).map(|((keys, kind), number)| {
                let mut wanted = vec![Vec::new(); 3];
                keys.into_iter().for_each(|(shard, hash)| wanted[shard].push(hash));
                Tx { number, wanted, whole: kind == 0, reached: [false; 3], recalls: Vec::new() }
            }).collect();
            let mut picks = picks.into_iter().cycle();
            let mut steps = 0;
            while !running.is_empty() {
                steps += 1;
                prop_assert!(steps < 20_000 + 1000 * count, "everything ends");
                let pick = picks.next().unwrap().index(running.len());
                let tx = &mut running[pick];
                let number = tx.number;
                let missing = (0..3).find(|shard| tx.touches(*shard) && !tx.reached[*shard]);
                if let Some(shard) = tx.recalls.pop() {
                    shards[shard].give_back(TxId(number), &mut VecDeque::new());
                } else if let Some(shard) = missing {
                    let hashes = if tx.whole { Vec::new() } else { tx.wanted[shard].clone() };
                    tx.reached[shard] = true;
                    for recalled in schedule(&mut shards[shard], number, &hashes).1 {
                        let holder = running.iter_mut().find(|tx| tx.number == recalled);
                        holder.unwrap().recalls.push(shard);
                    }
                } else if (0..3).all(|shard| {
                    !tx.touches(shard) || shards[shard].is_granted(TxId(number))
                }) {
                    let tx = running.swap_remove(pick);
                    for shard in (0..3).filter(|shard| tx.touches(*shard)) {
                        let others = running.iter().filter(|other| {
                            shards[shard].is_granted(TxId(other.number))
                        });
                        for other in others {
                            let common = tx.whole || other.whole
                                || other.wanted[shard].iter().any(|h| tx.wanted[shard].contains(h));
                            prop_assert!(!common, "two hold the same key");
                        }
                    }
                    for table in &mut shards {
                        release(table, number);
                    }
                }
            }
            prop_assert!(shards.iter().all(|s| s.is_idle() && s.lines.is_empty()));
        }
    }
}
