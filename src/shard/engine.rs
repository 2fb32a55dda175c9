//! What runs commands on one shard: its keys, its settings, its lines of transactions, and the
//! statistics of what ran. Knows no connection and no lane.

use std::sync::Arc;

use crate::admin::latency::LatencyEvent;
use crate::admin::stats::{Outcome, ShardStats};
use crate::clock::{self, Ticks};
use crate::command::spec::{FAST, SKIP_SLOWLOG};
use crate::command::{
    Changes, CommandError, CommandId, CommandResult, CommandTable, Ctx, EveryShard, Handler, Part,
    Request,
};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::process::Process;
use crate::pubsub::Directory;
use crate::resp::Reply;
use crate::shard_map::{ShardId, ShardMap};
use crate::transaction::LockTable;

/// A command that took longer than `slowlog-log-slower-than`, until somebody who knows its client puts
/// it into the slow log.
pub struct SlowCommand {
    /// When it ended, unix µs.
    pub at_us: i64,
    /// How long it took.
    pub duration_us: u64,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
}

/// See the module.
pub struct Engine {
    /// Which shard this is.
    pub id: ShardId,
    /// Who owns which slots.
    pub shards: ShardMap,
    /// The keys.
    pub keyspace: Keyspace,
    /// The settings; a new snapshot replaces the old one between turns.
    pub config: Arc<Config>,
    /// What all cores share.
    pub process: Arc<Process>,
    /// Who may touch which keys.
    pub locks: LockTable,
    /// Changes since the start.
    pub changes: Changes,
    /// Who listens to what, on all shards.
    pub pubsub: Directory,
    /// What this shard counts.
    pub stats: ShardStats,
    /// Slow commands on their way to the slow log.
    pub slow: Vec<SlowCommand>,
    /// Memory is full and nothing can be evicted.
    pub out_of_memory: bool,
    /// When the last command ended: the next one's start.
    last: Ticks,
    /// From how many nanoseconds on a command is slow.
    slow_nanos: u64,
    /// From how many nanoseconds on a command is a latency spike.
    spike_nanos: u64,
    /// Nanoseconds per tick, times 2^32.
    nanos_per_tick: u64,
}

impl Engine {
    /// An empty shard.
    pub fn new(
        id: ShardId,
        shards: ShardMap,
        config: Arc<Config>,
        process: Arc<Process>,
        seed: u64,
    ) -> Self {
        let keyspace = Keyspace::new(config.databases, clock::unix_ms(), seed);
        let mut engine = Self {
            id,
            shards,
            keyspace,
            config,
            process,
            locks: LockTable::default(),
            changes: Changes::default(),
            pubsub: Directory::new(id, shards),
            stats: ShardStats::default(),
            slow: Vec::new(),
            out_of_memory: false,
            last: Ticks::now(),
            slow_nanos: u64::MAX,
            spike_nanos: u64::MAX,
            nanos_per_tick: (1000.0 / clock::ticks_per_us() * (1_u64 << 32) as f64) as u64,
        };
        engine.settings_changed();
        engine
    }

    /// Takes over what the settings say; to be called after `config` was replaced.
    pub fn settings_changed(&mut self) {
        let config = &self.config;
        self.slow_nanos = match u64::try_from(config.slowlog_log_slower_than) {
            Ok(us) => us.saturating_mul(1000),
            Err(_) => u64::MAX,
        };
        self.spike_nanos = match config.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.keyspace.set_access_policy(
            config.maxmemory_policy.is_lfu(),
            config.lfu_log_factor,
            config.lfu_decay_time,
        );
    }

    /// The commands that follow are timed from here.
    #[inline]
    pub fn start_timing(&mut self) {
        self.last = Ticks::now();
    }

    /// Runs a command and appends its reply, or its error, to `out`.
    #[inline]
    pub fn run(
        &mut self,
        id: CommandId,
        handler: Handler,
        request: &Request<'_>,
        (db, resp3): (usize, bool),
        out: &mut Vec<u8>,
    ) {
        let mut reply = Reply::new(out, resp3);
        let mark = reply.mark();
        let mut outcome = Outcome::Ok;
        if let Err(error) = handler(&mut self.ctx(db), request, &mut reply) {
            reply.truncate(mark);
            reply.error(&error);
            self.count_error(&error);
            outcome = Outcome::Failed;
        }
        self.account(id, request.args(), outcome);
    }

    fn nanos(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.nanos_per_tick)) >> 32) as u64
    }

    /// Counts a command that has just run, from the end of the one before.
    #[inline]
    pub fn account(&mut self, id: CommandId, args: &[&[u8]], outcome: Outcome) {
        let now = Ticks::now();
        let nanos = self.nanos(now.since(self.last));
        self.last = now;
        self.stats.record_call(id, nanos, outcome, self.config.latency_tracking);
        if nanos >= self.slow_nanos {
            self.note_slow(id, nanos, args);
        }
        if nanos >= self.spike_nanos {
            self.note_spike(id, nanos);
        }
    }

    #[cold]
    fn note_spike(&mut self, id: CommandId, nanos: u64) {
        let fast = CommandTable::get().command(id).flags.has(FAST);
        let event = if fast { LatencyEvent::FastCommand } else { LatencyEvent::Command };
        let now = self.keyspace.now_ms() / 1000;
        self.stats.latency.record(&self.config, event, nanos / 1_000_000, now);
    }

    #[cold]
    fn note_slow(&mut self, id: CommandId, nanos: u64, args: &[&[u8]]) {
        if CommandTable::get().command(id).flags.has(SKIP_SLOWLOG) {
            return;
        }
        self.slow.push(SlowCommand {
            at_us: clock::unix_us(),
            duration_us: nanos / 1000,
            args: args.iter().map(|arg| arg.to_vec()).collect(),
        });
    }

    /// Counts a command that was refused before it ran.
    #[cold]
    pub fn rejected(&mut self, id: Option<CommandId>, error: &CommandError) {
        if let Some(id) = id {
            self.stats.record_rejection(id);
        }
        self.count_error(error);
    }

    /// Counts an error reply.
    #[cold]
    pub fn count_error(&mut self, error: &CommandError) {
        self.stats.record_error(error.to_string().as_bytes());
    }

    /// This shard's part of a command that concerns all.
    pub fn part(
        &mut self,
        every: &EveryShard,
        request: &Request<'_>,
        db: usize,
    ) -> CommandResult<Part> {
        let start = Ticks::now();
        let part = (every.part)(&mut self.ctx(db), request);
        let nanos = self.nanos(Ticks::now().since(start));
        if nanos >= self.spike_nanos
            && let Some(id) = CommandTable::get().find(request.arg(0))
        {
            self.note_spike(id, nanos);
        }
        part
    }

    /// A context to run handlers in.
    #[inline]
    pub fn ctx(&mut self, db: usize) -> Ctx<'_> {
        Ctx {
            keyspace: &mut self.keyspace,
            db,
            config: &self.config,
            shard: self.id,
            shards: self.shards,
            changes: &mut self.changes,
            pubsub: &mut self.pubsub,
            stats: &mut self.stats,
            process: &self.process,
        }
    }
}
