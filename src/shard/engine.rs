//! What runs commands on one shard: its keys, its settings, its lines of transactions, and the
//! statistics of what ran. Knows no connection and no lane.

use std::sync::Arc;

use super::eviction::Eviction;
use super::refusal::Refusals;
use crate::admin::latency::LatencyEvent;
use crate::admin::slot_usage::slot_named;
use crate::admin::stats::{Outcome, ShardStats};
use crate::clock::{self, Ticks};
use crate::cluster::redirect::Territory;
use crate::command::spec::{FAST, SKIP_SLOWLOG, WRITE};
use crate::command::{
    Attempt, Blocking, Changes, Class, CommandError, CommandId, CommandResult, CommandTable, Ctx,
    EveryShard, Part, Reach, Request,
};
use crate::config::Config;
use crate::config::values::KeyspaceEvents;
use crate::journal::{Audience, Recorder};
use crate::keyspace::{Expired, Key, Keyspace, NotesWanted};
use crate::process::Process;
use crate::pubsub::Directory;
use crate::resp::Reply;
use crate::scripting::Words;
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

/// The clock is read once for so many brief commands, see [`Engine::run`].
const BRIEF_RUN_MAX: u64 = 16;
/// A command with more arguments or more bytes of arguments or reply than this may take its time.
const BRIEF_ARGS_MAX: usize = 8;
const BRIEF_BYTES_MAX: usize = 4096;
/// With thresholds below this, somebody wants to know the time of each command.
const SHARED_TIME_THRESHOLD_MIN: u64 = 1_000_000;

/// Commands in a row that were not timed one by one: all the same, and all brief.
#[derive(Clone, Copy)]
struct BriefRun {
    id: CommandId,
    len: u64,
}

/// How keys are removed that no command names.
#[derive(Clone, Copy)]
pub struct Removal {
    /// The command that it is recorded as.
    pub word: &'static [u8],
    /// Whether it is a keyspace event.
    pub is_event: bool,
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a command out of reach has to be run again"]
pub enum Ran {
    /// It is answered.
    Done,
    /// Nothing happened: it needs keys that are noted in [`Engine::reach`].
    OutOfReach,
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
    /// Which keys the job at work may touch.
    pub reach: Reach,
    /// What it records of its writes.
    pub journal: Recorder,
    /// Who reads that, as soon as nothing is loaded.
    readers: Audience,
    /// What is refused for a while.
    pub refusals: Refusals,
    /// Which slots this node serves, in cluster mode.
    pub territory: Option<Box<Territory>>,
    /// How many maps of slots there were; the same number on all shards names the same map. 0 without cluster mode.
    pub map_version: u32,
    /// What this shard counts.
    pub stats: ShardStats,
    /// Slow commands on their way to the slow log.
    pub slow: Vec<SlowCommand>,
    /// What may have to go when memory is full.
    pub eviction: Eviction,
    /// The keyspace keeps notes for keyspace events.
    takes_notes: bool,
    /// When the last timed command ended: the next one's start.
    last: Ticks,
    /// What ran since then.
    brief: BriefRun,
    /// By command: whether it is brief unless its arguments or reply are long. Empty while each is timed.
    is_brief: Vec<bool>,
    /// From how many nanoseconds on a command is slow.
    slow_nanos: u64,
    /// From how many nanoseconds on a command is a latency spike.
    spike_nanos: u64,
    /// From how many nanoseconds on something is to be noted of a command: the least of those two, or 0 while what
    /// slots cost is counted.
    notable_nanos: u64,
    /// What slots cost is counted (`cluster-slot-stats-enabled`).
    pub counts_slots: bool,
    /// A script runs: what its commands cost is counted with it.
    pub in_script: bool,
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
            reach: Reach::default(),
            journal: Recorder::default(),
            readers: Audience::NONE,
            refusals: Refusals::default(),
            territory: None,
            map_version: 0,
            stats: ShardStats::default(),
            slow: Vec::new(),
            eviction: Eviction::default(),
            takes_notes: false,
            last: Ticks::now(),
            brief: BriefRun { id: CommandId(0), len: 0 },
            is_brief: Vec::new(),
            slow_nanos: u64::MAX,
            spike_nanos: u64::MAX,
            notable_nanos: u64::MAX,
            counts_slots: false,
            in_script: false,
            nanos_per_tick: (1000.0 / clock::ticks_per_us() * (1_u64 << 32) as f64) as u64,
        };
        if engine.config.cluster_enabled {
            engine.set_territory(Territory::new(None));
        }
        // From the first command on; what is loaded before is not recorded, see Message::Record.
        if engine.config.appendonly {
            engine.readers = Audience::FILE;
            engine.journal.set_readers(Audience::FILE);
        }
        engine.settings_changed();
        engine
    }

    /// The map of slots is another one from now on.
    pub fn set_territory(&mut self, territory: Territory) {
        self.territory = Some(Box::new(territory));
        self.map_version += 1;
    }

    /// Effects are recorded for these from now on, or not any more.
    pub fn set_recording(&mut self, readers: Audience, on: bool) {
        let others = self.readers.without(readers);
        self.readers = if on { others.or(readers) } else { others };
        self.settle_recording();
        self.settings_changed();
    }

    /// What is loaded is no effect: whoever reads effects has it, or is given it in another way.
    pub(super) fn settle_recording(&mut self) {
        self.publish_notes();
        let loads = self.refusals.is_loading();
        self.journal.set_readers(if loads { Audience::NONE } else { self.readers });
    }

    /// Whether effects are recorded for these.
    pub fn records_for(&self, readers: Audience) -> bool {
        self.readers.and(readers) != Audience::NONE
    }

    /// Takes over what the settings say; to be called after `config` was replaced.
    pub fn settings_changed(&mut self) {
        self.end_brief_run();
        self.settle_refusals();
        let config = &self.config;
        self.slow_nanos = match u64::try_from(config.slowlog_log_slower_than) {
            Ok(us) => us.saturating_mul(1000),
            Err(_) => u64::MAX,
        };
        self.spike_nanos = match config.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.counts_slots = config.cluster_enabled && config.cluster_slot_stats_enabled;
        self.notable_nanos = match self.counts_slots {
            true => 0,
            false => self.slow_nanos.min(self.spike_nanos),
        };
        if self.counts_slots {
            self.stats.slot_usage.get_or_insert_default();
        }
        let may_share = self.notable_nanos >= SHARED_TIME_THRESHOLD_MIN;
        let commands = if may_share { CommandTable::get().commands() } else { &[] };
        self.is_brief = commands.iter().map(|command| command.flags.has(FAST)).collect();
        let events = config.notify_keyspace_events;
        let wanted = NotesWanted {
            expired: events.contains(KeyspaceEvents::EXPIRED) || self.journal.is_on(),
            missed: events.contains(KeyspaceEvents::KEY_MISS),
            created: events.contains(KeyspaceEvents::NEW),
        };
        self.takes_notes = wanted.any();
        self.keyspace.set_notes_wanted(wanted);
        let limit =
            if self.refusals.leaves_eviction(config) { 0 } else { config.maxmemory as usize };
        self.eviction.set_limit(limit);
        self.keyspace.set_access_policy(
            config.maxmemory_policy.is_lfu(),
            config.lfu_log_factor,
            config.lfu_decay_time,
        );
    }

    /// The commands that follow are timed from here.
    #[inline]
    pub fn start_timing(&mut self) {
        self.end_brief_run();
        self.last = Ticks::now();
    }

    /// Runs a command and appends its reply, or its error, to `out`.
    ///
    /// Reading the clock costs as much as a tenth of a GET. So of a pipeline's brief commands of one kind, up to
    /// [`BRIEF_RUN_MAX`] share one time; none of them can be slow by itself. Call
    /// [`Engine::end_brief_run`] before waiting, or before somebody looks at the statistics.
    #[inline]
    pub fn run(
        &mut self,
        id: CommandId,
        handler: impl FnOnce(&mut Ctx<'_>, &Request<'_>, &mut Reply<'_>) -> CommandResult,
        request: &Request<'_>,
        (db, resp3): (usize, bool),
        out: &mut Vec<u8>,
    ) -> Ran {
        if self.brief.len > 0 && (self.brief.id != id || self.brief.len == BRIEF_RUN_MAX) {
            self.end_brief_run();
        }
        if self.refusals.is_replica() {
            self.set_expired_for(id);
        }
        let before = out.len();
        let dirty = self.changes.dirty;
        let mut reply = Reply::new(out, resp3);
        let mark = reply.mark();
        let result = handler(&mut self.ctx(db), request, &mut reply);
        self.take_notes();
        if let Err(error) = result {
            reply.truncate(mark);
            self.journal.end_failed_command();
            return self.failed(id, request, &error, &mut reply);
        }
        let args = request.args();
        if self.journal.is_on() {
            self.journal.end_command(db, args, self.changes.dirty != dirty);
        }
        if self.was_brief(id, args, out.len() - before) {
            self.brief = BriefRun { id, len: self.brief.len + 1 };
        } else {
            let replied = out.len() - before;
            self.account_reply(id, args, Outcome::Ok, replied);
        }
        Ran::Done
    }

    /// Removes those of `keys` that there are, because they are elsewhere now; recorded as one command.
    pub fn remove_keys(&mut self, db: usize, keys: &[&[u8]], removal: Removal) {
        let dirty = self.changes.dirty;
        let mut ctx = self.ctx(db);
        for bytes in keys {
            let key = Key::new(bytes);
            if !ctx.keyspace[db].remove(&key) {
                continue;
            }
            if removal.is_event {
                ctx.changed(&key, Class::Generic, "del");
            } else {
                ctx.changed_silently(&key);
            }
        }
        self.take_notes();
        let words: Vec<&[u8]> = std::iter::once(removal.word).chain(keys.iter().copied()).collect();
        self.journal.end_command(db, &words, self.changes.dirty != dirty);
    }

    /// Publishes what the keyspace has noted itself, as keyspace events, and records it, when no command is at
    /// work.
    #[inline]
    pub fn publish_notes(&mut self) {
        if self.takes_notes {
            if self.keyspace.take_noted() {
                self.publish_all_notes();
            }
            self.journal.end_beside();
        }
    }

    /// As [`Engine::publish_notes`], within the unit of the command at work.
    #[inline]
    fn take_notes(&mut self) {
        if self.takes_notes && self.keyspace.take_noted() {
            self.publish_all_notes();
        }
    }

    #[cold]
    fn publish_all_notes(&mut self) {
        for db in 0..self.keyspace.database_count() {
            self.ctx(db).publish_notes(db);
        }
    }

    /// On a replica only the master's commands write, and they see keys whose time has come as the master did;
    /// clients do not see them.
    #[cold]
    fn set_expired_for(&mut self, id: CommandId) {
        let writes = CommandTable::get().command(id).flags.has(WRITE);
        let expired = if writes { Expired::Kept } else { Expired::Hidden };
        self.keyspace.set_expired(if self.refusals.is_loading() { Expired::Kept } else { expired });
    }

    #[inline]
    fn was_brief(&self, id: CommandId, args: &[&[u8]], replied: usize) -> bool {
        self.is_brief.get(usize::from(id.0)) == Some(&true)
            && args.len() <= BRIEF_ARGS_MAX
            && args.iter().map(|arg| arg.len()).sum::<usize>() + replied <= BRIEF_BYTES_MAX
    }

    #[cold]
    fn failed(
        &mut self,
        id: CommandId,
        request: &Request<'_>,
        error: &CommandError,
        reply: &mut Reply<'_>,
    ) -> Ran {
        if *error == CommandError::OutOfReach {
            return Ran::OutOfReach;
        }
        self.answer_error(id, request, error, reply);
        Ran::Done
    }

    #[cold]
    fn answer_error(
        &mut self,
        id: CommandId,
        request: &Request<'_>,
        error: &CommandError,
        reply: &mut Reply<'_>,
    ) {
        let mark = reply.mark();
        reply.error(error);
        self.count_error(error);
        let replied = reply.since(mark).len();
        self.account_reply(id, request.args(), Outcome::Failed, replied);
    }

    /// As [`Engine::run`], a command that may have to wait.
    pub fn attempt(
        &mut self,
        id: CommandId,
        blocking: &Blocking,
        request: &Request<'_>,
        (db, resp3): (usize, bool),
        out: &mut Vec<u8>,
    ) -> Attempt {
        let dirty = self.changes.dirty;
        let mut reply = Reply::new(out, resp3);
        let mark = reply.mark();
        let attempt = (blocking.attempt)(&mut self.ctx(db), request, &mut reply);
        self.take_notes();
        match attempt {
            // It is counted when it is answered.
            Ok(Attempt::Wait(until)) => {
                self.journal.end_failed_command();
                return Attempt::Wait(until);
            }
            Ok(Attempt::Done) => {
                self.journal.end_command(db, request.args(), self.changes.dirty != dirty);
                let replied = reply.since(mark).len();
                self.account_reply(id, request.args(), Outcome::Ok, replied);
            }
            Err(error) => {
                self.journal.end_failed_command();
                reply.truncate(mark);
                self.answer_error(id, request, &error, &mut reply);
            }
        }
        Attempt::Done
    }

    /// Serves a waiting command from `key`; false if there is nothing to answer with.
    pub fn serve(
        &mut self,
        id: CommandId,
        blocking: &Blocking,
        (request, key): (&Request<'_>, &Key<'_>),
        (db, resp3): (usize, bool),
        out: &mut Vec<u8>,
    ) -> bool {
        let dirty = self.changes.dirty;
        let mut reply = Reply::new(out, resp3);
        let mark = reply.mark();
        let served = (blocking.serve)(&mut self.ctx(db), request, key, &mut reply);
        self.take_notes();
        match served {
            Ok(false) => {
                self.journal.end_failed_command();
                return false;
            }
            Ok(true) => {
                self.journal.end_command(db, request.args(), self.changes.dirty != dirty);
                let replied = reply.since(mark).len();
                self.account_reply(id, request.args(), Outcome::Ok, replied);
            }
            Err(error) => {
                self.journal.end_failed_command();
                reply.truncate(mark);
                self.answer_error(id, request, &error, &mut reply);
            }
        }
        true
    }

    /// A stretch of time in nanoseconds.
    pub fn nanos(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.nanos_per_tick)) >> 32) as u64
    }

    /// The nanoseconds since the clock was read last.
    #[inline]
    fn lap(&mut self) -> u64 {
        let now = Ticks::now();
        let nanos = self.nanos(now.since(self.last));
        self.last = now;
        nanos
    }

    /// The brief commands since the clock was read last get their time.
    #[inline]
    pub fn end_brief_run(&mut self) {
        let BriefRun { id, len } = self.brief;
        if len > 0 {
            let nanos = self.lap();
            self.stats.record_calls(id, len);
            self.stats.record_time(id, nanos, len, self.config.latency_tracking);
            self.brief.len = 0;
        }
    }

    /// Counts a command that has just run, from the end of the one before.
    #[inline]
    pub fn account(&mut self, id: CommandId, args: &[&[u8]], outcome: Outcome) {
        self.account_reply(id, args, outcome, 0);
    }

    /// The same of a command that has appended a reply of `replied` bytes.
    #[inline]
    fn account_reply(&mut self, id: CommandId, args: &[&[u8]], outcome: Outcome, replied: usize) {
        let mut nanos = self.lap();
        let track = self.config.latency_tracking;
        let BriefRun { id: earlier, len } = self.brief;
        if len > 0 {
            // Those before it were brief: they get what such a command usually takes, it the rest.
            let theirs = self.stats.mean_nanos(earlier).min(nanos / (len + 1)) * len;
            self.stats.record_calls(earlier, len);
            self.stats.record_time(earlier, theirs, len, track);
            self.brief.len = 0;
            nanos -= theirs;
        }
        self.stats.record_call(id, outcome);
        self.stats.record_time(id, nanos, 1, track);
        if nanos >= self.notable_nanos {
            self.note(id, nanos, args, replied);
        }
    }

    /// A command was slow, or what it costs its slot is counted.
    #[cold]
    fn note(&mut self, id: CommandId, nanos: u64, args: &[&[u8]], replied: usize) {
        if nanos >= self.slow_nanos {
            self.note_slow(id, nanos, args);
        }
        if nanos >= self.spike_nanos {
            self.note_spike(id, nanos);
        }
        if self.counts_slots
            && !self.in_script
            && let Some(usage) = &mut self.stats.slot_usage
            && let Some(slot) = slot_named(CommandTable::get().command(id), args)
        {
            let cost = usage.of_mut(slot);
            cost.nanos += nanos;
            cost.bytes_out += replied as u64;
        }
    }

    /// Counts a command that has run others ([`Engine::account`] of which has taken their times): all the time
    /// since it began is its own. Its reply has `replied` bytes.
    pub fn account_since(
        &mut self,
        (id, words): (CommandId, &Words),
        began: Ticks,
        outcome: Outcome,
        replied: usize,
    ) {
        self.start_timing();
        let nanos = self.nanos(self.last.since(began));
        self.stats.record_call(id, outcome);
        self.stats.record_time(id, nanos, 1, self.config.latency_tracking);
        if nanos >= self.notable_nanos {
            words.with_list(|words| self.note(id, nanos, words, replied));
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
        self.end_brief_run();
        let start = Ticks::now();
        let part = (every.part)(&mut self.ctx(db), request);
        // The effect is recorded once, by the shard that coordinates.
        self.journal.end_failed_command();
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
            reach: &mut self.reach,
            journal: &mut self.journal,
            locks: &self.locks,
            stats: &mut self.stats,
            process: &self.process,
        }
    }
}
