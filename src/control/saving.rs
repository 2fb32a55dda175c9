//! Snapshots as the control core drives them: when they begin, where they go, and who is told.
//!
//! One at a time. All shards stand still, mark their keys and go on; their records come as they make them and go
//! on to a [`Sink`]. Who wants something else meanwhile (SHUTDOWN, FLUSHALL) has it abandoned, and waits for
//! its end, for the keyspace has one bit for this.
//!
//! Promise: a snapshot that was begun ends, and its end is told once: to who asked, in INFO and in the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Control;
use super::ending::Ending;
use crate::admin::facts::Status;
use crate::clock;
use crate::command::CommandError;
use crate::keyspace::snapshot::Records;
use crate::memory;
use crate::persistence::aof::manifest::BaseFormat;
use crate::persistence::aof::resp_stream::RespStream;
use crate::persistence::rdb::write_file::{Header, ReplicationPoint};
use crate::persistence::rdb::{Compression, Limits};
use crate::persistence::snapshot::{FileSink, FileTarget, Sink, SinkEvent, Sizes, SnapshotStream};
use crate::shard::message::{HoldNumber, Message, SnapshotNews, SnapshotOrder, Ticket};
use crate::shard_map::ShardId;

/// How often save points are looked at, and what INFO tells is brought up to date.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a save point waits after a failure (Redis 7.0 `server.h`, CONFIG_BGSAVE_RETRY_DELAY).
const RETRY_SECONDS: i64 = 5;
/// What the task that writes is told to leave behind while it writes.
const ABANDONED: &str = "abandoned";

const IN_PROGRESS: CommandError = CommandError::text("ERR Background save already in progress");
const REWRITE_IN_PROGRESS: CommandError = CommandError::text(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
);
pub(super) const CANNOT_STOP: CommandError =
    CommandError::text("ERR Errors trying to SHUTDOWN. Check logs.");

/// A client that waits, by its shard and the operation there.
pub(super) type Asker = (ShardId, Ticket);

/// Why a snapshot is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// BGSAVE, told when it has begun; or a save point.
    Background(Option<Asker>),
    /// SAVE, told when it is over.
    Save(Asker),
    /// FLUSHALL with save points: the file is to be as empty as the keyspace, if that can be had.
    AfterFlush(Option<Asker>),
    /// The base of append-only files.
    Rewrite,
    /// Replicas that ask for all data share it.
    Replicas,
    /// Slots move to another node: it has their keys and no others.
    Move,
    /// DEBUG RELOAD: all stand still until the file is loaded again.
    Reload,
    /// The server stops when it is over; if it fails, only if that is forced.
    Shutdown {
        /// Whether to stop even then.
        force: bool,
    },
}

/// How far a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Shards are about to stand still.
    Holding,
    /// They stand still, and so many have not marked their keys yet.
    Marking(usize),
    /// They walk; so many are to tell their end.
    Walking(usize),
    /// All records have come.
    Walked,
}

/// How records are written.
enum Form {
    /// As an RDB file.
    Rdb(SnapshotStream),
    /// As commands.
    Commands(RespStream),
}

/// A snapshot under way.
struct Run {
    number: HoldNumber,
    /// Who coordinates that all stand still.
    holder: ShardId,
    purpose: Purpose,
    stage: Stage,
    began: Instant,
    /// All shards still stand still.
    is_held: bool,
    sink: Box<dyn Sink>,
    /// What became of it there.
    outcome: Option<Result<(), String>>,
    /// Somebody wants it no more.
    is_abandoned: bool,
    form: Option<Form>,
    /// Where the replication stream was cut, if there is one.
    point: Option<ReplicationPoint>,
    sizes: Vec<Sizes>,
    changes: u64,
    keys: u64,
    /// Shards that have told the end of their part.
    ended: usize,
    /// Records that came before all shards had marked their keys.
    early: Vec<(ShardId, Records)>,
}

/// See the module.
pub(super) struct Saver {
    last_number: u64,
    run: Option<Run>,
    /// Snapshots that begin as soon as none is under way.
    waiting: VecDeque<Purpose>,
    /// BGSAVE wants one as soon as possible.
    is_scheduled: bool,
    last_try: i64,
    next_look: Instant,
    /// Who waits for the end of the server, or for its failure.
    stoppers: Vec<Asker>,
    is_stopping: bool,
}

impl Default for Saver {
    fn default() -> Self {
        Self {
            last_number: 0,
            run: None,
            waiting: VecDeque::new(),
            is_scheduled: false,
            last_try: 0,
            next_look: Instant::now(),
            stoppers: Vec::new(),
            is_stopping: false,
        }
    }
}

impl Saver {
    /// Whether the server is about to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether tasks of the executor are at work.
    pub(super) fn has_tasks(&self) -> bool {
        self.run.is_some()
    }
}

/// What an RDB file that begins now says about itself.
pub(super) fn header_now(aof_base: bool) -> Header {
    let used_memory = memory::used_bytes() as u64;
    Header { created: unix_seconds(), used_memory, replication: None, aof_base }
}

fn unix_seconds() -> i64 {
    clock::unix_ms() / 1000
}

impl Control {
    // ---- what is asked ----

    /// SAVE
    pub(super) fn on_save(&mut self, asker: Asker) {
        if self.saver.run.is_some() {
            return self.answer(asker, Err(IN_PROGRESS));
        }
        self.begin_snapshot(Purpose::Save(asker));
    }

    /// BGSAVE [SCHEDULE]
    pub(super) fn on_background_save(&mut self, asker: Asker, may_wait: bool, must_wait: bool) {
        match &self.saver.run {
            Some(run) if run.purpose == Purpose::Rewrite && !may_wait && !must_wait => {
                self.answer(asker, Err(REWRITE_IN_PROGRESS));
            }
            Some(run) if !(run.is_abandoned || may_wait && !run.is_for_clients()) => {
                self.answer(asker, Err(IN_PROGRESS));
            }
            None if !must_wait => self.begin_snapshot(Purpose::Background(Some(asker))),
            _ => {
                self.saver.is_scheduled = true;
                self.answer(asker, Ok("Background saving scheduled"));
            }
        }
    }

    /// FLUSHALL: what is being saved is of the past, and with save points the empty data set is saved at once.
    pub(super) fn on_flushed(&mut self, asker: Asker, waits: bool) {
        let is_wanted = |run: &Run| matches!(run.purpose, Purpose::Background(_));
        if self.saver.run.as_ref().is_some_and(is_wanted) {
            self.abandon_snapshot();
        }
        if !waits || self.config.save.is_empty() {
            self.answer(asker, Ok("OK"));
        }
        if !self.config.save.is_empty() {
            self.begin_when_idle(Purpose::AfterFlush(waits.then_some(asker)));
        }
    }

    /// The server is to stop, after a snapshot if `saves`.
    pub(super) fn stop_after(&mut self, saves: bool, force: bool, asker: Option<Asker>) {
        self.saver.stoppers.extend(asker);
        if std::mem::replace(&mut self.saver.is_stopping, true) {
            return;
        }
        self.saver.is_scheduled = false;
        self.abandon_snapshot();
        if saves {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            return self.begin_when_idle(Purpose::Shutdown { force });
        }
        self.stop_without_sink();
    }

    /// Whether a file is being written.
    pub(super) fn is_sink_at_work(&self) -> bool {
        self.saver.run.as_ref().is_some_and(|run| run.outcome.is_none())
    }

    /// SHUTDOWN ABORT
    pub(super) fn abort_stop(&mut self) -> Result<&'static str, CommandError> {
        if !self.saver.is_stopping || self.stopping {
            return Err(CommandError::text("ERR No shutdown in progress."));
        }
        self.saver.waiting.retain(|purpose| !matches!(purpose, Purpose::Shutdown { .. }));
        let is_stop = |run: &Run| matches!(run.purpose, Purpose::Shutdown { .. });
        if self.saver.run.as_ref().is_some_and(is_stop) {
            self.abandon_snapshot();
        }
        self.refuse_to_stop();
        tracing::warn!("Shutdown manually aborted.");
        Ok("OK")
    }

    fn refuse_to_stop(&mut self) {
        self.saver.is_stopping = false;
        self.ending = Ending::No;
        self.signals.forget();
        for asker in std::mem::take(&mut self.saver.stoppers) {
            self.answer(asker, Err(CANNOT_STOP));
        }
    }

    // ---- a snapshot from its beginning to its end ----

    fn begin_when_idle(&mut self, purpose: Purpose) {
        match self.saver.run {
            Some(_) => self.saver.waiting.push_back(purpose),
            None => self.begin_snapshot(purpose),
        }
    }

    /// Whether a snapshot is under way.
    pub(super) fn is_saving(&self) -> bool {
        self.saver.run.is_some()
    }

    /// Whether one is about to begin: what is written now may or may not be in it.
    pub(super) fn is_marking(&self) -> bool {
        let stage = self.saver.run.as_ref().map(|run| run.stage);
        matches!(stage, Some(Stage::Holding | Stage::Marking(_)))
    }

    /// Whether its records are coming.
    pub(super) fn is_walking(&self) -> bool {
        self.saver.run.as_ref().is_some_and(|run| matches!(run.stage, Stage::Walking(_)))
    }

    /// Gives the snapshot under way up, if it is for this.
    pub(super) fn abandon_snapshot_for(&mut self, purpose: Purpose) {
        if self.saver.run.as_ref().is_some_and(|run| run.purpose == purpose) {
            self.abandon_snapshot();
        }
    }

    /// A number for a time during which all shards stand still.
    pub(super) fn next_hold(&mut self) -> HoldNumber {
        self.saver.last_number += 1;
        HoldNumber(self.saver.last_number)
    }

    pub(super) fn begin_snapshot(&mut self, purpose: Purpose) {
        if !matches!(purpose, Purpose::Rewrite | Purpose::Replicas | Purpose::Move) {
            self.saver.last_try = unix_seconds();
        }
        self.saver.is_scheduled &= !matches!(purpose, Purpose::Background(_));
        let number = self.next_hold();
        let holder = match purpose {
            Purpose::Background(Some(asker)) | Purpose::Save(asker) => asker.0,
            _ => ShardId(0),
        };
        let sink: Box<dyn Sink> = match purpose {
            Purpose::Replicas => Box::new(self.new_pipe().sink()),
            Purpose::Move => Box::new(self.new_pipe_of_move().sink()),
            _ => {
                let target = self.file_target(purpose);
                Box::new(FileSink::start(target, Arc::clone(self.bell())))
            }
        };
        self.saver.run = Some(Run {
            number,
            holder,
            purpose,
            stage: Stage::Holding,
            began: Instant::now(),
            is_held: false,
            sink,
            outcome: None,
            is_abandoned: false,
            form: None,
            point: None,
            sizes: Vec::new(),
            changes: 0,
            keys: 0,
            ended: 0,
            early: Vec::new(),
        });
        self.tell(holder, Message::HoldAll(number));
    }

    fn file_target(&self, purpose: Purpose) -> FileTarget {
        let (temporary, name, flushes) = match purpose {
            Purpose::Rewrite => {
                let (temporary, name) = self.rewrite_names();
                (temporary, name, self.config.aof_rewrite_incremental_fsync)
            }
            _ => {
                let temporary = format!("temp-{}.rdb", std::process::id());
                (temporary, self.config.dbfilename.clone(), self.config.rdb_save_incremental_fsync)
            }
        };
        let directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
        FileTarget { directory, temporary, name, flushes }
    }

    /// All shards stand still, and all that happened before has been handed on.
    pub(super) fn cut_for_snapshot(&mut self, number: HoldNumber) {
        let count = self.shards.len();
        let Some(run) = self.saver.run.as_mut().filter(|run| run.number == number) else { return };
        run.is_held = true;
        run.stage = Stage::Marking(count);
        run.sizes = vec![Sizes::default(); self.config.databases];
        let purpose = run.purpose;
        match purpose {
            Purpose::Rewrite => self.cut_aof(),
            Purpose::Replicas => self.cut_stream(),
            Purpose::Move => self.cut_for_move(),
            _ => {}
        }
        let point = self.replication_point();
        if let Some(run) = &mut self.saver.run {
            run.point = point;
        }
        let order = self.beginning_of_snapshot(purpose);
        self.order_snapshot(order);
    }

    /// A shard tells how its part goes on.
    pub(super) fn on_snapshot_news(&mut self, shard: ShardId, news: SnapshotNews) {
        let Some(run) = &mut self.saver.run else { return };
        match news {
            SnapshotNews::Begun { sizes, changes } => {
                run.changes += changes;
                for (sum, part) in run.sizes.iter_mut().zip(sizes) {
                    sum.keys += part.keys;
                    sum.expiring += part.expiring;
                }
                if let Stage::Marking(missing) = &mut run.stage {
                    *missing -= 1;
                    if *missing == 0 {
                        self.all_have_begun();
                    }
                }
            }
            SnapshotNews::Records(records) if matches!(run.stage, Stage::Marking(_)) => {
                run.early.push((shard, records));
            }
            SnapshotNews::Records(records) => run.put(shard, records),
            SnapshotNews::Ended => run.ended += 1,
        }
        self.look_at_walks();
    }

    fn all_have_begun(&mut self) {
        let (config, process) = (Arc::clone(&self.config), Arc::clone(&self.process));
        let (count, format) = (self.shards.len(), self.aof.rewrite_format());
        let Some(run) = &mut self.saver.run else { return };
        let is_rewrite = run.purpose == Purpose::Rewrite;
        let header = Header { replication: run.point.take(), ..header_now(is_rewrite) };
        let catalogue = process.scripts.catalogue();
        let libraries = catalogue.libraries().map(|library| library.text.as_slice());
        let (form, first) = if is_rewrite && format == BaseFormat::Resp {
            let stream = RespStream::new(Limits::new(&config));
            let seconds = config.aof_timestamp_enabled.then(unix_seconds);
            let first = stream.begin(seconds, libraries);
            (Form::Commands(stream), first)
        } else {
            let mut stream = SnapshotStream::new(config.rdbchecksum, &run.sizes);
            let compression = Compression::of_setting(config.rdbcompression);
            let first = stream.begin(&header, libraries, compression);
            (Form::Rdb(stream), first)
        };
        run.sink.write(first, None);
        run.form = Some(form);
        run.stage = Stage::Walking(count);
        for (shard, records) in std::mem::take(&mut run.early) {
            run.put(shard, records);
        }
        if !matches!(run.purpose, Purpose::Shutdown { .. } | Purpose::Reload) {
            run.is_held = false;
            let (holder, number) = (run.holder, run.number);
            self.tell(holder, Message::ReleaseAll(number));
        }
        if let Some(Run { purpose: Purpose::Background(asker), .. }) = &mut self.saver.run
            && let Some(asker) = asker.take()
        {
            self.answer(asker, Ok("Background saving started"));
        }
        if self.saver.run.as_ref().is_some_and(|run| run.is_abandoned) {
            self.order_snapshot(SnapshotOrder::Abandon);
        }
        if self.saver.run.as_ref().is_some_and(|run| run.purpose != Purpose::Rewrite) {
            tracing::info!("Background saving started");
        }
        self.tell_facts();
    }

    /// Goes on when all shards have told the end of their part.
    fn look_at_walks(&mut self) {
        let Some(run) = &mut self.saver.run else { return };
        if run.stage == Stage::Walking(run.ended) {
            run.stage = Stage::Walked;
            if let Some(form) = run.form.take()
                && !run.is_abandoned
                && run.outcome.is_none()
            {
                if let Form::Rdb(stream) = form {
                    run.sink.write(stream.end(), None);
                }
                run.sink.finish();
            }
        }
        self.end_snapshot_if_over();
    }

    /// Nobody wants the snapshot under way any more.
    pub(super) fn abandon_snapshot(&mut self) {
        let Some(run) = self.saver.run.as_mut().filter(|run| !run.is_abandoned) else { return };
        run.is_abandoned = true;
        run.sink.abandon();
        if matches!(run.stage, Stage::Walking(_)) {
            self.order_snapshot(SnapshotOrder::Abandon);
        }
    }

    /// Looks what has become of what was given to the sink, and at the clock.
    pub(super) fn go_on_saving(&mut self, now: Instant) {
        while let Some(event) = self.saver.run.as_mut().and_then(|run| run.sink.event()) {
            match event {
                SinkEvent::Taken(shard) => {
                    self.tell(shard, Message::SnapshotOrder(SnapshotOrder::Taken));
                }
                SinkEvent::Over(outcome) => self.sink_is_over(outcome),
            }
        }
        self.end_snapshot_if_over();
        self.go_on_abandoning(now);
        if now >= self.saver.next_look {
            self.saver.next_look = now + PERIOD;
            self.look_at_save_points();
            self.tell_facts();
        }
    }

    fn sink_is_over(&mut self, outcome: Result<(), String>) {
        let Some(run) = &mut self.saver.run else { return };
        let is_early = outcome.is_err() && matches!(run.stage, Stage::Walking(_));
        run.outcome = Some(outcome);
        if is_early && !run.is_abandoned {
            self.order_snapshot(SnapshotOrder::Abandon);
        }
    }

    fn end_snapshot_if_over(&mut self) {
        let is_over = |run: &mut Run| run.stage == Stage::Walked && run.outcome.is_some();
        let Some(run) = self.saver.run.take_if(is_over) else { return };
        let is_reload = run.purpose == Purpose::Reload;
        if run.is_held && !is_reload {
            self.tell(run.holder, Message::ReleaseAll(run.number));
        }
        let result = run.outcome.clone().unwrap_or_else(|| Err(ABANDONED.to_owned()));
        self.note_outcome(&run, &result);
        self.tell_facts();
        match run.purpose {
            Purpose::Background(asker) => {
                asker
                    .into_iter()
                    .for_each(|asker| self.answer(asker, Ok("Background saving started")));
            }
            Purpose::Save(asker) => {
                let answer = result.map(|()| "OK").map_err(|_| CommandError::text("ERR"));
                self.answer(asker, answer);
            }
            Purpose::Rewrite | Purpose::Replicas | Purpose::Move => {}
            Purpose::Reload => self.saved_for_reload(&result, (run.number, run.holder)),
            Purpose::AfterFlush(asker) => {
                asker.into_iter().for_each(|asker| self.answer(asker, Ok("OK")));
            }
            Purpose::Shutdown { force } if result.is_ok() || force => return self.stop(),
            Purpose::Shutdown { .. } if run.is_abandoned => {}
            Purpose::Shutdown { .. } => {
                tracing::warn!("Error trying to save the DB, can't exit.");
                self.refuse_to_stop();
            }
        }
        if let Some(next) = self.saver.waiting.pop_front() {
            self.begin_snapshot(next);
        }
    }

    fn note_outcome(&mut self, run: &Run, result: &Result<(), String>) {
        match run.purpose {
            Purpose::Rewrite => return self.base_is_over(result),
            Purpose::Replicas | Purpose::Move => return,
            _ => {}
        }
        let seconds = run.began.elapsed().as_secs();
        let mut facts = self.process.persistence();
        let was_good = facts.bgsave_status;
        match result {
            Ok(()) => {
                tracing::info!(keys = run.keys, "DB saved on disk");
                facts.last_save = unix_seconds();
                facts.saves += 1;
                facts.bgsave_status = Status::Ok;
                self.process.note_saved_changes(run.changes);
            }
            Err(_) if run.is_abandoned => tracing::info!("Background saving abandoned"),
            Err(error) => {
                tracing::warn!("Background saving error: {error}");
                facts.bgsave_status = Status::Err;
            }
        }
        facts.last_bgsave_seconds = Some(seconds);
        let status = facts.bgsave_status;
        drop(facts);
        if status != was_good {
            let good = status == Status::Ok;
            self.tell_all(|| Message::SaveStatus(good));
        }
    }

    // ---- save points ----

    fn look_at_save_points(&mut self) {
        if self.saver.run.is_some() || self.saver.is_stopping || self.is_loading_from_master() {
            return;
        }
        let (changes, saved) = self.process.changes();
        let changes = changes.saturating_sub(saved);
        let now = unix_seconds();
        let (last_save, status) = {
            let facts = self.process.persistence();
            (facts.last_save, facts.bgsave_status)
        };
        let may_try = status == Status::Ok || now - self.saver.last_try > RETRY_SECONDS;
        let due = self
            .config
            .save
            .iter()
            .find(|point| changes >= point.changes && now - last_save > point.seconds as i64);
        if let Some(point) = due.filter(|_| may_try) {
            let (changes, seconds) = (point.changes, point.seconds);
            tracing::info!("{changes} changes in {seconds} seconds. Saving...");
            self.begin_snapshot(Purpose::Background(None));
        } else if self.saver.is_scheduled && may_try {
            self.begin_snapshot(Purpose::Background(None));
        }
    }

    /// When to look again, if there is anything to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let looks =
            self.saver.run.is_some() || self.saver.is_scheduled || !self.config.save.is_empty();
        looks.then_some(self.saver.next_look)
    }

    fn tell_facts(&self) {
        let mut facts = self.process.persistence();
        let run = self.saver.run.as_ref().filter(|run| run.purpose != Purpose::Rewrite);
        facts.bgsave_seconds = run.map(|run| run.began.elapsed().as_secs());
        facts.save_keys_processed = run.map_or(0, |run| run.keys);
        facts.save_keys_total = run.map_or(0, |run| run.sizes.iter().map(|sizes| sizes.keys).sum());
    }

    // ---- messages ----

    fn order_snapshot(&mut self, order: SnapshotOrder) {
        self.tell_all(|| Message::SnapshotOrder(order.clone()));
    }

    /// What a snapshot leaves behind that the server does not wait for.
    pub(super) fn remove_unfinished(&self) {
        if let Some(run) = &self.saver.run {
            let target = self.file_target(run.purpose);
            // It may not have been created yet.
            _ = std::fs::remove_file(target.directory.join(target.temporary));
        }
    }
}

impl Run {
    /// Whether it is one that clients see as BGSAVE or SAVE.
    fn is_for_clients(&self) -> bool {
        !matches!(self.purpose, Purpose::Shutdown { .. })
    }

    fn put(&mut self, shard: ShardId, records: Records) {
        self.keys += records.keys;
        let bytes = match &mut self.form {
            Some(Form::Rdb(stream)) => {
                let before = stream.put(&records);
                if !before.is_empty() {
                    self.sink.write(before, None);
                }
                records.bytes
            }
            Some(Form::Commands(stream)) => match stream.put(records) {
                Ok(commands) => commands,
                Err(error) => {
                    debug_assert!(false, "records that a shard has made are good: {error}");
                    self.sink.abandon();
                    Vec::new()
                }
            },
            None => records.bytes,
        };
        self.sink.write(bytes, Some(shard));
    }
}
