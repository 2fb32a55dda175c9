//! What a shard does between turns: removing keys whose time has come, freeing what was deleted,
//! closing clients that are idle for too long, evicting when memory is full. All in slices.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shard;
use crate::command::Class;
use crate::config::values::MaxmemoryPolicy;
use crate::keyspace::{Budget, Entry, Key};
use crate::memory;

/// How long one slice of freeing, and one of expiring, may take: with both and the steps that cannot be cut,
/// a turn without commands stays well below a millisecond.
const SLICE_TIME: Duration = Duration::from_micros(200);
/// How long a turn may look for keys to evict before it goes on without room.
const EVICTION_TIME: Duration = Duration::from_micros(500);
/// What an eviction counts in elements: it looks at several keys in cold memory.
const EVICTION_ELEMENTS: usize = 16;
/// How often idle clients are looked for.
const CLIENTS_PERIOD: Duration = Duration::from_secs(1);
/// When what is due.
#[derive(Default)]
pub(super) struct Background {
    clients_checked: Option<Instant>,
    /// Figures of the whole process are taken at most once a millisecond.
    memory_checked_ms: i64,
}

impl Shard {
    /// One slice of everything; true if more is to be done at once.
    pub(super) fn background_slice(&mut self) -> bool {
        if !self.engine.keyspace.has_slices() {
            return false;
        }
        let mut more = self.engine.keyspace.free_slice(&mut Budget::new(SLICE_TIME));
        if self.process.active_expire.load(Ordering::Relaxed) {
            more |= self.engine.keyspace.expire_slice(&mut Budget::new(SLICE_TIME));
        }
        more
    }

    /// When the shard has to wake up though nobody calls.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let expiry = self
            .engine
            .keyspace
            .next_expiry_ms()
            .filter(|_| self.process.active_expire.load(Ordering::Relaxed))
            .map(|at| {
                let ms = (at - self.engine.keyspace.now_ms()).clamp(1, 3_600_000);
                now + Duration::from_millis(ms as u64)
            });
        let clients = (self.watches_clients() && !self.sessions.is_empty()).then(|| {
            self.background.clients_checked.map_or(now, |checked| checked + CLIENTS_PERIOD)
        });
        expiry.into_iter().chain(clients).min()
    }

    fn watches_clients(&self) -> bool {
        let soft = self.engine.config.client_output_buffer_limit.normal;
        self.engine.config.timeout > 0 || (soft.soft > 0 && soft.soft_seconds > 0)
    }

    /// Closes clients that were idle too long, and those too long over their soft output limit.
    pub(super) fn check_clients(&mut self, now: Instant) {
        let due = self.background.clients_checked.is_none_or(|last| now >= last + CLIENTS_PERIOD);
        if !due || !self.watches_clients() {
            return;
        }
        self.background.clients_checked = Some(now);
        let now_ms = self.engine.keyspace.now_ms();
        let timeout_ms = self.engine.config.timeout as i64 * 1000;
        let soft = self.engine.config.client_output_buffer_limit.normal;
        let soft_ms = soft.soft_seconds as i64 * 1000;
        let (mut idle, mut slow) = (Vec::new(), Vec::new());
        for (conn, session) in self.sessions.iter() {
            if timeout_ms > 0 && now_ms - session.active_ms > timeout_ms && session.may_run() {
                idle.push(conn);
            }
            if session.over_soft_limit_since.is_some_and(|since| now_ms - since > soft_ms) {
                slow.push(conn);
            }
        }
        for conn in idle {
            tracing::debug!(?conn, "closing idle client");
            self.cut(conn);
        }
        for conn in slow {
            tracing::warn!(?conn, "closing client: over the soft output limit for too long");
            self.cut(conn);
        }
    }

    /// Makes room if `maxmemory` is exceeded, and notes whether writes must be refused.
    pub(super) fn refresh_memory(&mut self) {
        let limit = self.engine.config.maxmemory as usize;
        if limit == 0 {
            self.engine.out_of_memory = false;
            return;
        }
        let now_ms = self.engine.keyspace.now_ms();
        if self.background.memory_checked_ms == now_ms && !self.engine.out_of_memory {
            return;
        }
        self.background.memory_checked_ms = now_ms;
        self.engine.out_of_memory = memory::used_bytes() > limit && !self.make_room(limit);
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
            let database = &self.engine.keyspace[db];
            let eligible = if policy.is_volatile() { database.expiring() } else { database.len() };
            if eligible == 0 {
                continue;
            }
            // Volatile policies look at more keys, because many that are drawn do not count.
            let draws = if policy.is_volatile() {
                samples * (database.len() / eligible + 1).min(64)
            } else {
                samples
            };
            for _ in 0..draws {
                let mut seed = self.engine.keyspace.draw();
                let mut random = || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed
                };
                let database = &self.engine.keyspace[db];
                let Some(entry) = database.sample_entry(&mut random) else { break };
                if policy.is_volatile() && entry.expiry().is_none() {
                    continue;
                }
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
