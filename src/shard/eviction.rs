//! Eviction: what goes when `maxmemory` is exceeded, by the eight policies of Redis.
//!
//! Memory is counted for the whole process, keys belong to shards. A shard that is over the limit evicts
//! keys of its own, and asks the others to evict too; writes are refused only when no shard
//! has anything left that the policy allows to go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shard;
use super::message::Message;
use crate::command::Class;
use crate::config::values::MaxmemoryPolicy;
use crate::keyspace::{Budget, Entry, Key};
use crate::memory;

/// How long a turn may look for keys to evict before it goes on without room.
const EVICTION_TIME: Duration = Duration::from_micros(500);
/// What an eviction counts in elements: it looks at several keys in cold memory.
const EVICTION_ELEMENTS: usize = 16;

/// What a shard remembers of it between turns.
#[derive(Default)]
pub(super) struct Eviction {
    /// Figures of the whole process are taken at most once a millisecond.
    checked_ms: i64,
    /// Whether this shard is counted among those that have keys to evict.
    is_counted: bool,
    /// Memory was over the limit when this shard last looked.
    is_over: bool,
}

impl Shard {
    /// Makes room if `maxmemory` is exceeded, and notes whether writes must be refused.
    pub(super) fn refresh_memory(&mut self) {
        let limit = self.engine.config.maxmemory as usize;
        if limit == 0 {
            self.engine.out_of_memory = false;
            self.eviction.is_over = false;
            return;
        }
        let now_ms = self.engine.keyspace.now_ms();
        if self.eviction.checked_ms == now_ms && !self.engine.out_of_memory {
            return;
        }
        self.eviction.checked_ms = now_ms;
        self.count_evictable();
        self.eviction.is_over = memory::used_bytes() > limit;
        if !self.eviction.is_over {
            self.engine.out_of_memory = false;
            return;
        }
        let evicts = self.make_room(limit);
        self.count_evictable();
        if self.engine.shards.len() > 1 {
            self.ask_others_for_room();
        }
        let someone_can = self.process.evictable_shards.load(Ordering::Relaxed) > 0;
        self.engine.out_of_memory = !evicts && !someone_can && memory::used_bytes() > limit;
    }

    /// Another shard found memory over the limit.
    pub(super) fn on_make_room(&mut self) {
        let limit = self.engine.config.maxmemory as usize;
        if limit > 0 && memory::used_bytes() > limit {
            self.eviction.is_over = self.make_room(limit);
            self.count_evictable();
        }
    }

    /// Whether the next turn must come at once because memory is over the limit and there is something
    /// to evict here.
    pub(super) fn is_making_room(&mut self) -> bool {
        let limit = self.engine.config.maxmemory as usize;
        self.eviction.is_over
            && self.eviction.is_counted
            && limit > 0
            && memory::used_bytes() > limit
    }

    fn ask_others_for_room(&mut self) {
        for shard in self.engine.shards.iter().filter(|shard| *shard != self.engine.id) {
            self.ports.to[shard.index()].send(Message::MakeRoom);
        }
    }

    /// Keeps the count of shards that have something to evict.
    fn count_evictable(&mut self) {
        let policy = self.engine.config.maxmemory_policy;
        let has_some = policy != MaxmemoryPolicy::Noeviction
            && self.engine.keyspace.databases().iter().any(|database| {
                if policy.is_volatile() { database.expiring() > 0 } else { !database.is_empty() }
            });
        if has_some == self.eviction.is_counted {
            return;
        }
        self.eviction.is_counted = has_some;
        if has_some {
            self.process.evictable_shards.fetch_add(1, Ordering::Relaxed);
        } else {
            self.process.evictable_shards.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Evicts until memory is below `limit` or the time is over; false if nothing can be evicted.
    /// A turn that runs out of time goes on, as in Redis: room is being made.
    fn make_room(&mut self, limit: usize) -> bool {
        let mut budget = Budget::new(EVICTION_TIME);
        loop {
            // What was evicted before may be all that is needed, once it is freed.
            if self.engine.keyspace.free_slice(&mut budget) || memory::used_bytes() <= limit {
                return true;
            }
            if !self.evict_one() {
                return false;
            }
            budget.spend(EVICTION_ELEMENTS);
            if budget.is_spent() {
                return true;
            }
        }
    }

    /// Evicts the best of a few candidates by the policy; false if there is none.
    fn evict_one(&mut self) -> bool {
        let policy = self.engine.config.maxmemory_policy;
        if policy == MaxmemoryPolicy::Noeviction {
            return false;
        }
        let samples = (self.engine.config.maxmemory_samples as usize).max(1);
        let mut best: Option<(u64, usize, Vec<u8>)> = None;
        for db in 0..self.engine.keyspace.database_count() {
            for _ in 0..samples {
                let mut seed = self.engine.keyspace.draw();
                let mut random = || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed
                };
                let database = &self.engine.keyspace[db];
                let entry = if policy.is_volatile() {
                    database.sample_expiring(&mut random)
                } else {
                    database.sample_entry(&mut random)
                };
                let Some(entry) = entry else { break };
                let score = self.eviction_score(policy, entry);
                if best.as_ref().is_none_or(|(best, ..)| score > *best) {
                    best = Some((score, db, entry.key().to_vec()));
                }
            }
        }
        let Some((_, db, bytes)) = best else { return false };
        let key = Key::new(&bytes);
        self.engine.keyspace[db].remove(&key);
        self.engine.ctx(db).notify(&key, Class::Evicted, "evicted");
        self.engine.stats.counters().evicted_keys += 1;
        true
    }

    /// The greater, the sooner it goes.
    fn eviction_score(&self, policy: MaxmemoryPolicy, entry: &Entry) -> u64 {
        let access = self.engine.keyspace.access();
        match policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => {
                u64::from(access.idle_seconds(entry.clock()))
            }
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => {
                255 - u64::from(access.frequency(entry.clock()))
            }
            MaxmemoryPolicy::VolatileTtl => {
                u64::MAX - entry.expiry().map_or(u64::MAX, |at| at.max(0) as u64)
            }
            MaxmemoryPolicy::AllkeysRandom
            | MaxmemoryPolicy::VolatileRandom
            | MaxmemoryPolicy::Noeviction => 0,
        }
    }
}
