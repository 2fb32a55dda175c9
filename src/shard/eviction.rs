//! Eviction: what goes when `maxmemory` is exceeded, by the eight policies of Redis.
//!
//! Memory is counted for the whole process, keys belong to shards. As in Redis, room is made before a command
//! that may take memory, on the shard whose keys it touches. What this shard cannot do, for it has
//! nothing left that the policy allows to go, the others may ([`super::room`]).
//!
//! LRU and LFU are approximated as in Redis 7.0 (`evict.c`): of `maxmemory-samples` keys at a time the best are
//! kept in a pool over many samples. What expires soonest is not sampled: the timing wheel knows it.
//!
//! Promise: without `maxmemory`, a command pays one comparison for all this.

use std::time::Duration;

use super::engine::Engine;
use crate::command::{Class, CommandError, removal};
use crate::config::values::MaxmemoryPolicy;
use crate::keyspace::{Budget, Entry, Key, Soonest};
use crate::memory;

/// How long the first command of a turn may be kept waiting for room (Redis 7.0 `evict.c`,
/// evictionTimeLimitUs with the default tenacity), and each further one: a turn of 64 such commands stays
/// below 4 ms even if memory is far over the limit.
const EVICTION_TIME: Duration = Duration::from_micros(500);
const FURTHER_EVICTION_TIME: Duration = Duration::from_micros(50);
/// What an eviction counts in elements: it looks at several keys in cold memory.
const EVICTION_ELEMENTS: usize = 16;
/// Candidates kept from one sample to the next (Redis 7.0 `evict.c`, EVPOOL_SIZE).
const POOL_CANDIDATES: usize = 16;

/// The reply to a command that would take memory when there is none.
pub const OUT_OF_MEMORY: CommandError =
    CommandError::text("OOM command not allowed when used memory > 'maxmemory'.");

/// A key that may be evicted.
struct Candidate {
    /// The greater, the sooner it goes.
    score: u64,
    db: usize,
    key: Vec<u8>,
}

/// What a shard knows of memory and of keys to evict.
#[derive(Default)]
pub struct Eviction {
    /// `maxmemory`; 0 for none.
    limit: usize,
    /// What the other cores had allocated when this one last looked; its own share it sees at any time.
    others: isize,
    /// How long the next command may be kept waiting.
    time: Duration,
    /// Memory is over the limit still, and there is more to evict.
    goes_on: bool,
    /// Best last.
    pool: Vec<Candidate>,
    /// The database that is sampled first where chance decides.
    next_db: usize,
}

impl Eviction {
    /// Takes the limit over from the settings. What counts as a good candidate may have changed too.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.goes_on = false;
        self.pool.clear();
        self.look();
    }

    /// Takes the figures of all cores.
    pub fn look(&mut self) {
        if self.limit > 0 {
            self.others = memory::used_bytes() as isize - memory::counted_here();
        }
    }

    /// Whether memory is over the limit still, and there is more to evict here: the next turn comes at once.
    pub fn goes_on(&self) -> bool {
        self.goes_on && self.is_over()
    }

    #[inline]
    fn is_over(&self) -> bool {
        self.limit > 0 && self.others + memory::counted_here() > self.limit as isize
    }

    /// Adds to the pool, unless it is full of better ones.
    fn offer(&mut self, candidate: Candidate) {
        let same = |known: &Candidate| known.db == candidate.db && known.key == candidate.key;
        if self.pool.iter().any(same) {
            return;
        }
        let at = self.pool.partition_point(|known| known.score <= candidate.score);
        if self.pool.len() < POOL_CANDIDATES {
            self.pool.insert(at, candidate);
        } else if at > 0 {
            self.pool.remove(0);
            self.pool.insert(at - 1, candidate);
        }
    }
}

impl Engine {
    /// Whether there is no `maxmemory`.
    #[inline]
    pub fn has_no_limit(&self) -> bool {
        self.eviction.limit == 0
    }

    /// Whether a command that may take memory can run: memory is below the limit, or room is being made on this
    /// shard. If not, there is nothing to evict here.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        !self.eviction.is_over() || self.make_room()
    }

    /// Makes room at the beginning of a turn; false if there is nothing to evict here.
    #[inline]
    pub fn refresh_room(&mut self) -> bool {
        if self.eviction.limit == 0 {
            return true;
        }
        self.eviction.time = EVICTION_TIME;
        self.eviction.look();
        self.has_room()
    }

    /// Evicts until memory is below the limit or the time is over, and returns true; or until nothing is left
    /// to evict, and returns false.
    #[cold]
    fn make_room(&mut self) -> bool {
        let time = std::mem::replace(&mut self.eviction.time, FURTHER_EVICTION_TIME);
        let mut budget = Budget::new(time);
        self.eviction.goes_on = false;
        loop {
            // What was deleted before may be all that is needed, once it is freed.
            let more_to_free = self.keyspace.free_slice(&mut budget);
            self.eviction.look();
            if !self.eviction.is_over() {
                return true;
            }
            if more_to_free || budget.is_spent() {
                self.eviction.goes_on = true;
                return true;
            }
            if !self.evict_one() {
                return false;
            }
            budget.spend(EVICTION_ELEMENTS);
        }
    }

    /// Evicts a key, or comes closer to it; false if there is none that may go.
    fn evict_one(&mut self) -> bool {
        match self.config.maxmemory_policy {
            MaxmemoryPolicy::Noeviction => false,
            MaxmemoryPolicy::VolatileTtl => self.evict_soonest(),
            MaxmemoryPolicy::AllkeysRandom | MaxmemoryPolicy::VolatileRandom => self.evict_random(),
            MaxmemoryPolicy::AllkeysLru
            | MaxmemoryPolicy::VolatileLru
            | MaxmemoryPolicy::AllkeysLfu
            | MaxmemoryPolicy::VolatileLfu => self.evict_best(),
        }
    }

    fn evict_soonest(&mut self) -> bool {
        let candidates = self.samples();
        let mut any = false;
        let mut best: Option<(i64, usize, Vec<u8>)> = None;
        for db in 0..self.keyspace.database_count() {
            if self.keyspace.databases()[db].expiring() == 0 {
                continue;
            }
            any = true;
            if let Soonest::Key(at, key) = self.keyspace[db].soonest(candidates)
                && best.as_ref().is_none_or(|(best, ..)| at < *best)
            {
                best = Some((at, db, key));
            }
        }
        if let Some((_, db, key)) = best {
            self.evict(db, &key);
        }
        any
    }

    fn evict_random(&mut self) -> bool {
        let count = self.keyspace.database_count();
        for step in 0..count {
            let db = (self.eviction.next_db + step) % count;
            let seed = self.keyspace.draw();
            if let Some(entry) = self.sample(db, seed) {
                let key = entry.key().to_vec();
                self.eviction.next_db = db + 1;
                self.evict(db, &key);
                return true;
            }
        }
        false
    }

    fn evict_best(&mut self) -> bool {
        let mut any = false;
        for db in 0..self.keyspace.database_count() {
            for _ in 0..self.samples() {
                let seed = self.keyspace.draw();
                let Some(entry) = self.sample(db, seed) else { break };
                any = true;
                let candidate =
                    Candidate { score: self.score(entry), db, key: entry.key().to_vec() };
                self.eviction.offer(candidate);
            }
        }
        // One that was used since it was sampled stays, and so does one that is gone.
        while let Some(Candidate { score, db, key }) = self.eviction.pool.pop() {
            let entry = self.keyspace.databases()[db].peek(&Key::new(&key));
            if entry.is_some_and(|entry| self.may_go(entry) && self.score(entry) >= score) {
                self.evict(db, &key);
                break;
            }
            if entry.is_none() && self.keyspace[db].expire_if_due(&Key::new(&key)) {
                break;
            }
        }
        any
    }

    fn samples(&self) -> usize {
        (self.config.maxmemory_samples as usize).max(1)
    }

    /// Some key that may go, drawn with this seed.
    fn sample(&self, db: usize, mut seed: u64) -> Option<&Entry> {
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let database = &self.keyspace.databases()[db];
        if self.config.maxmemory_policy.is_volatile() {
            database.sample_expiring(&mut random)
        } else {
            database.sample_entry(&mut random)
        }
    }

    fn may_go(&self, entry: &Entry) -> bool {
        !self.config.maxmemory_policy.is_volatile() || entry.expiry().is_some()
    }

    /// The greater, the sooner it goes: how long it was not used, or how seldom.
    fn score(&self, entry: &Entry) -> u64 {
        let access = self.keyspace.access();
        if self.config.maxmemory_policy.is_lfu() {
            255 - u64::from(access.frequency(entry.clock()))
        } else {
            u64::from(access.idle_seconds(entry.clock()))
        }
    }

    fn evict(&mut self, db: usize, key: &[u8]) {
        let key = Key::new(key);
        if self.keyspace[db].remove(&key) {
            self.ctx(db).notify(&key, Class::Evicted, "evicted");
            let word = removal(self.config.lazyfree_lazy_eviction);
            self.journal.beside(db, &[word, key.bytes]);
            self.journal.end_beside();
            self.stats.counters().evicted_keys += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(score: u64) -> Candidate {
        Candidate { score, db: 0, key: score.to_le_bytes().to_vec() }
    }

    #[test]
    fn the_pool_keeps_the_best_of_all_samples_and_each_once() {
        let mut eviction = Eviction::default();
        for score in (0..100).chain(0..100).map(|n| n * 37 % 100) {
            eviction.offer(candidate(score));
        }
        let scores: Vec<u64> = eviction.pool.iter().map(|candidate| candidate.score).collect();
        assert_eq!(scores, (84..100).collect::<Vec<_>>());
    }
}
