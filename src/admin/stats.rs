//! What one shard counts while it runs, and how the counts of all shards become one.
//!
//! Why plain numbers and not atomics: a shard's thread is the only one that touches them. Whoever asks
//! gets a copy over a lane, and copies are added up.
//!
//! Promise: counting a command costs two additions and one histogram bucket; names and texts are made
//! when somebody asks.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::latency::LatencyMonitor;
use super::latency_counts::LatencyCounts;
use super::rates::Rates;
use super::slot_usage::SlotUsage;
use super::slowlog::Slowlog;
use crate::command::{CommandId, CommandTable};
use crate::keyspace::Keyspace;

/// Declares the counters, and how those of two shards are put together.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $how:ident,)*) => {
        /// Plain counts of one shard, or of several.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Adds the counts of another shard.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = counters!(@$how self.$name, other.$name);)*
            }

            /// Starts anew (CONFIG RESETSTAT). What is true now, and not counted up, stays.
            pub fn reset(&mut self) {
                $(counters!(@reset $how self.$name);)*
            }
        }
    };
    (@sum $a:expr, $b:expr) => { $a.saturating_add($b) };
    (@now $a:expr, $b:expr) => { $a.saturating_add($b) };
    (@most $a:expr, $b:expr) => { $a.max($b) };
    (@reset sum $a:expr) => { $a = 0 };
    (@reset most $a:expr) => { $a = 0 };
    (@reset now $a:expr) => {};
}

counters! {
    /// Connections that are open.
    connected_clients: now,
    /// Clients that wait in a blocking command.
    blocked_clients: now,
    /// Clients with tracking on.
    tracking_clients: now,
    /// Blocked clients with a timeout.
    clients_with_timeout: now,
    /// Most input that any client has waiting.
    client_input_buffer_max: most,
    /// Most output that waits for any client.
    client_output_buffer_max: most,
    /// Memory of normal clients.
    clients_bytes: now,
    /// Connections accepted.
    connections_received: sum,
    /// Connections turned away at `maxclients`.
    connections_rejected: sum,
    /// Commands run.
    commands_processed: sum,
    /// Receives.
    reads_processed: sum,
    /// Sends.
    writes_processed: sum,
    /// Bytes from clients.
    net_input_bytes: sum,
    /// Bytes to clients.
    net_output_bytes: sum,
    /// Keys removed because their time had come.
    expired_keys: sum,
    /// Times that removing expired keys ran out of its time.
    expire_slices_cut: sum,
    /// Milliseconds spent removing expired keys.
    expire_ms: sum,
    /// Keys evicted.
    evicted_keys: sum,
    /// Clients evicted.
    evicted_clients: sum,
    /// Milliseconds spent over `maxmemory`.
    eviction_exceeded_ms: sum,
    /// Look-ups that found a key.
    keyspace_hits: sum,
    /// Look-ups that did not.
    keyspace_misses: sum,
    /// Deleted values whose memory is not back yet.
    lazyfree_pending: now,
    /// Values freed in the background.
    lazyfreed: sum,
    /// Channels with subscribers.
    pubsub_channels: now,
    /// Patterns with subscribers.
    pubsub_patterns: now,
    /// Shard channels with subscribers.
    pubsub_shard_channels: now,
    /// Keys remembered for client-side caching.
    tracking_keys: now,
    /// Clients remembered for those keys.
    tracking_items: now,
    /// Prefixes that are tracked in broadcast mode.
    tracking_prefixes: now,
    /// Error replies.
    error_replies: sum,
    /// Errors where none may be, such as on the link to a master.
    unexpected_error_replies: sum,
    /// Payloads checked in depth.
    payloads_checked: sum,
    /// Changed keys since the last snapshot.
    dirty: now,
}

/// How often one command ran and how long it took.
#[derive(Clone, Debug, Default)]
pub struct CommandStats {
    /// Times run.
    pub calls: u64,
    /// Nanoseconds in all.
    pub nanos: u64,
    /// Times refused before it ran.
    pub rejected: u64,
    /// Times that it answered with an error.
    pub failed: u64,
    /// Its latencies in nanoseconds, if `latency-tracking` was on during a call; only in a snapshot.
    pub latencies: Option<Box<Histogram<u64>>>,
}

impl CommandStats {
    /// Anything to show.
    pub fn is_used(&self) -> bool {
        self.calls > 0 || self.rejected > 0 || self.failed > 0
    }

    /// Adds the calls of another shard.
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.nanos += other.nanos;
        self.rejected += other.rejected;
        self.failed += other.failed;
        match (&mut self.latencies, &other.latencies) {
            (Some(mine), Some(theirs)) => {
                let added = mine.add(&**theirs);
                debug_assert!(added.is_ok(), "all histograms have the same bounds");
            }
            (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            (_, None) => {}
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a reply.
    Ok,
    /// With an error from its handler.
    Failed,
}

/// Most error codes that are counted apart; a script can make up any number of them.
const ERROR_CODES_MAX: usize = 128;

/// Keys of one database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseSize {
    /// Keys.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Sum of the remaining times of the sampled keys, ms.
    pub ttl_ms: u64,
    /// Sampled keys.
    pub ttl_samples: u64,
    /// Bytes of tables and indexes.
    pub overhead_bytes: u64,
}

impl DatabaseSize {
    /// The mean remaining time of keys with an expiry, ms.
    pub fn avg_ttl_ms(&self) -> u64 {
        self.ttl_ms.checked_div(self.ttl_samples).unwrap_or(0)
    }
}

/// The figures of one shard, or of several added up.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Plain counts.
    pub counters: Counters,
    /// By command number; shorter than the table where nothing beyond was called.
    pub commands: Vec<CommandStats>,
    /// Error replies by their code.
    pub errors: BTreeMap<String, u64>,
    /// By database number; only in a snapshot.
    pub databases: Vec<DatabaseSize>,
    /// Commands per second just now.
    pub ops_per_second: u64,
    /// Bytes per second from clients.
    pub input_per_second: u64,
    /// Bytes per second to clients.
    pub output_per_second: u64,
}

impl Stats {
    /// Adds the figures of another shard.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        if self.commands.len() < other.commands.len() {
            self.commands.resize_with(other.commands.len(), CommandStats::default);
        }
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.add(theirs);
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        if self.databases.len() < other.databases.len() {
            self.databases.resize(other.databases.len(), DatabaseSize::default());
        }
        for (mine, theirs) in self.databases.iter_mut().zip(&other.databases) {
            mine.keys += theirs.keys;
            mine.expires += theirs.expires;
            mine.ttl_ms += theirs.ttl_ms;
            mine.ttl_samples += theirs.ttl_samples;
            mine.overhead_bytes += theirs.overhead_bytes;
        }
        self.ops_per_second += other.ops_per_second;
        self.input_per_second += other.input_per_second;
        self.output_per_second += other.output_per_second;
    }
}

/// Entries looked at for the mean remaining time of a database.
const TTL_ENTRIES_MAX: usize = 32;

/// All that one shard keeps about itself.
#[derive(Debug, Default)]
pub struct ShardStats {
    stats: Stats,
    /// By command number, as `stats.commands`.
    latencies: Vec<Option<LatencyCounts>>,
    rates: Rates,
    /// Its slow commands.
    pub slowlog: Slowlog,
    /// What the commands for each slot cost, once somebody has wanted to know.
    pub slot_usage: Option<Box<SlotUsage>>,
    /// Its latency spikes.
    pub latency: LatencyMonitor,
}

impl ShardStats {
    /// The counters, to count.
    #[inline]
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.stats.counters
    }

    /// A command ran; its time is recorded apart, by [`ShardStats::record_time`].
    #[inline]
    pub fn record_call(&mut self, id: CommandId, outcome: Outcome) {
        self.stats.counters.commands_processed += 1;
        let stats = self.command(id);
        stats.calls += 1;
        stats.failed += u64::from(outcome == Outcome::Failed);
    }

    /// A command ran so many times, each time well.
    #[inline]
    pub fn record_calls(&mut self, id: CommandId, calls: u64) {
        self.stats.counters.commands_processed += calls;
        self.command(id).calls += calls;
    }

    /// `calls` calls of a command took `nanos` together. `track` is `latency-tracking`.
    #[inline]
    pub fn record_time(&mut self, id: CommandId, nanos: u64, calls: u64, track: bool) {
        self.command(id).nanos += nanos;
        if track {
            let counts = &mut self.latencies[usize::from(id.0)];
            counts.get_or_insert_with(LatencyCounts::new).record(nanos / calls.max(1), calls);
        }
    }

    /// What a call of this command has taken so far on average, in ns.
    pub fn mean_nanos(&mut self, id: CommandId) -> u64 {
        let stats = self.command(id);
        stats.nanos / stats.calls.max(1)
    }

    /// A command was refused before it ran (arity, ACL, OOM, …).
    pub fn record_rejection(&mut self, id: CommandId) {
        self.command(id).rejected += 1;
    }

    /// An error was answered; `text` is what follows the `-`.
    #[cold]
    pub fn record_error(&mut self, text: &[u8]) {
        self.stats.counters.error_replies += 1;
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(code);
        if let Some(count) = self.stats.errors.get_mut(code.as_ref()) {
            *count += 1;
        } else if self.stats.errors.len() < ERROR_CODES_MAX {
            self.stats.errors.insert(code.into_owned(), 1);
        }
    }

    fn command(&mut self, id: CommandId) -> &mut CommandStats {
        let index = usize::from(id.0);
        if index >= self.stats.commands.len() {
            self.make_places(index);
        }
        &mut self.stats.commands[index]
    }

    #[cold]
    fn make_places(&mut self, index: usize) {
        let len = CommandTable::get().commands().len().max(index + 1);
        self.stats.commands.resize_with(len, CommandStats::default);
        self.latencies.resize_with(len, || None);
    }

    /// To be called at the start of every turn; cheap unless the last sample is old.
    #[inline]
    pub fn sample_rates(&mut self, now_ms: i64) {
        let counters = &self.stats.counters;
        self.rates.commands.sample(now_ms, counters.commands_processed);
        self.rates.input.sample(now_ms, counters.net_input_bytes);
        self.rates.output.sample(now_ms, counters.net_output_bytes);
    }

    /// A copy of the figures, those of the keyspace included. Histograms are big, so they are only
    /// copied if asked for.
    pub fn snapshot(&self, keyspace: &Keyspace, histograms: bool) -> Stats {
        let each = self.stats.commands.iter().zip(&self.latencies);
        let commands = each.map(|(stats, counts)| CommandStats {
            latencies: counts.as_ref().filter(|_| histograms).map(LatencyCounts::histogram),
            ..*stats
        });
        let (now_ms, counters) = (keyspace.now_ms(), &self.stats.counters);
        let mut snapshot = Stats {
            counters: self.stats.counters.clone(),
            commands: commands.collect(),
            errors: self.stats.errors.clone(),
            databases: keyspace.databases().iter().map(database_size).collect(),
            ops_per_second: self.rates.commands.per_second(now_ms, counters.commands_processed),
            input_per_second: self.rates.input.per_second(now_ms, counters.net_input_bytes),
            output_per_second: self.rates.output.per_second(now_ms, counters.net_output_bytes),
        };
        for database in keyspace.databases() {
            let stats = database.stats();
            snapshot.counters.keyspace_hits += stats.hits;
            snapshot.counters.keyspace_misses += stats.misses;
            snapshot.counters.expired_keys += stats.expired;
            snapshot.counters.lazyfree_pending += database.garbage_len() as u64;
        }
        snapshot
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&mut self, keyspace: &mut Keyspace) {
        self.stats.counters.reset();
        self.stats.commands.clear();
        self.latencies.clear();
        self.stats.errors.clear();
        if let Some(usage) = &mut self.slot_usage {
            usage.reset(|_| true);
        }
        keyspace.databases_mut().iter_mut().for_each(|database| database.reset_stats());
    }
}

fn database_size(database: &crate::keyspace::Database) -> DatabaseSize {
    let mut size = DatabaseSize {
        keys: database.len() as u64,
        expires: database.expiring() as u64,
        overhead_bytes: database.overhead_bytes() as u64,
        ..DatabaseSize::default()
    };
    if database.expiring() == 0 {
        return size;
    }
    for expiry in database.iter().take(TTL_ENTRIES_MAX).filter_map(|entry| entry.expiry()) {
        size.ttl_ms += u64::try_from(expiry - database.now_ms()).unwrap_or(0);
        size.ttl_samples += 1;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> CommandId {
        CommandTable::get().find(name.as_bytes()).unwrap()
    }

    #[test]
    fn figures_of_shards_add_up() {
        let keyspace = Keyspace::new(2, 1_700_000_000_000, 1);
        let (mut one, mut other) = (ShardStats::default(), ShardStats::default());
        one.record_call(id("get"), Outcome::Ok);
        one.record_time(id("get"), 1000, 1, true);
        one.counters().client_input_buffer_max = 7;
        other.record_call(id("get"), Outcome::Failed);
        other.record_time(id("get"), 3000, 1, true);
        other.record_call(id("del"), Outcome::Ok);
        other.record_time(id("del"), 5000, 1, false);
        other.record_rejection(id("del"));
        other.record_error(b"WRONGTYPE Operation against");
        other.record_error(b"WRONGTYPE");
        other.counters().client_input_buffer_max = 5;

        let mut sum = one.snapshot(&keyspace, true);
        sum.add(&other.snapshot(&keyspace, true));
        assert_eq!(sum.counters.commands_processed, 3);
        assert_eq!(sum.counters.client_input_buffer_max, 7);
        assert_eq!(sum.errors.into_iter().collect::<Vec<_>>(), [("WRONGTYPE".to_owned(), 2)]);
        let get = &sum.commands[usize::from(id("get").0)];
        assert_eq!((get.calls, get.nanos, get.failed), (2, 4000, 1));
        assert_eq!(get.latencies.as_ref().unwrap().len(), 2);
        let del = &sum.commands[usize::from(id("del").0)];
        assert_eq!((del.calls, del.rejected), (1, 1));
        assert!(del.latencies.is_none(), "latencies were not tracked");
        assert_eq!(sum.databases.len(), 2);
    }

    #[test]
    fn a_reset_keeps_what_is_true_now() {
        let mut keyspace = Keyspace::new(1, 1_700_000_000_000, 1);
        let mut shard = ShardStats::default();
        shard.counters().connected_clients = 3;
        shard.record_call(id("get"), Outcome::Ok);
        shard.record_time(id("get"), 1, 1, true);
        shard.reset(&mut keyspace);
        let stats = shard.snapshot(&keyspace, true);
        assert_eq!((stats.counters.connected_clients, stats.counters.commands_processed), (3, 0));
        assert!(stats.commands.iter().all(|stats| !stats.is_used()));
    }

    #[test]
    fn made_up_error_codes_are_bounded() {
        let mut shard = ShardStats::default();
        for number in 0..1000 {
            shard.record_error(format!("E{number} text").as_bytes());
        }
        assert_eq!(shard.stats.errors.len(), ERROR_CODES_MAX);
        assert_eq!(shard.stats.counters.error_replies, 1000);
    }
}
