//! The append-only files as the control core drives them: what is appended and when it is synchronised, when
//! the directory changes, and who is told.
//!
//! [`crate::persistence::aof`] decides about the files and writes them; a rewrite's base is a snapshot
//! ([`super::saving`]) whose cut is the place in the stream where a new increment begins.
//!
//! Promise: changes of the directory are made one after the other, and each at its place in the stream.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Control;
use super::saving::{Asker, Purpose, header_now};
use crate::admin::facts::Status;
use crate::clock;
use crate::command::CommandError;
use crate::config::Config;
use crate::config::values::AppendFsync;
use crate::journal::{Audience, Parcel, Stamp, Stream};
use crate::persistence::aof::manifest::BaseFormat;
use crate::persistence::aof::resp_base::write_timestamp;
use crate::persistence::aof::trigger::{GrowthLimit, Trigger};
use crate::persistence::aof::{
    AofFile, AofWriter, Changed, Directory, Disk, Event, FileAt, FileKind, Job, Place, Turn,
};
use crate::persistence::rdb::Compression;
use crate::persistence::snapshot::SnapshotStream;
use crate::shard::EFFECT_BYTES_MAX;
use crate::shard::message::Message;

/// How long what was written may not be on the disk, with `appendfsync everysec`; and how often what failed
/// is tried again.
const SYNC_PERIOD: Duration = Duration::from_secs(1);

const IN_PROGRESS: CommandError =
    CommandError::text("ERR Background append only file rewriting already in progress");

/// How long an append may wait for the disk before that counts as a delay (Redis 7.0 `aof.c`, flushAppendOnlyFile).
const DELAY_MIN: Duration = Duration::from_secs(2);

/// What a change of the directory is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Begin,
    SwitchOn,
    SwitchOff,
    RewriteBegins,
    Rewritten,
    GiveUp,
    CleanUp,
}

/// A rewrite under way.
struct Rewrite {
    began: Instant,
    /// How its base is written.
    format: BaseFormat,
}

/// See the module.
pub(super) struct Aof {
    disk: Disk,
    /// As the writer told it last.
    directory: Directory,
    writer: Option<AofWriter>,
    /// What is written goes to a file.
    is_on: bool,
    stream: Stream,
    /// What goes to the writer at the end of the turn, and as how much it is counted.
    buffer: Vec<u8>,
    counted: usize,
    /// Second of the last annotation.
    annotated: i64,
    last_change: u64,
    /// Changes that were given to the writer and are not made.
    changes: VecDeque<(u64, Reason)>,
    rewrite: Option<Rewrite>,
    /// One is wanted as soon as possible.
    is_scheduled: bool,
    /// Shards that have not said that they record; then it is switched on.
    awaits_recording: usize,
    trigger: Trigger,
    /// Bytes of the files that are not written to any more, and of the one that is.
    closed_bytes: u64,
    open_bytes: u64,
    is_dirty: bool,
    next_sync: Instant,
    /// Up to this stamp nobody waits for the disk, though replies wait for the file.
    spared: Stamp,
    /// Appends that had to wait for the disk for long, and which wait was counted last.
    delays: u64,
    delayed_by: Option<Instant>,
    /// Everything up to this stamp was handed to the writer, or told to be on the disk where there is none.
    told: Stamp,
    /// Everything up to this stamp is on the disk.
    durable: Stamp,
    is_failing: bool,
}

impl Aof {
    /// The files at the start of the process.
    pub(super) fn open(config: &Config) -> Result<Self, String> {
        let dir = std::env::current_dir().map_err(|error| error.to_string())?;
        let disk = Disk::new(&dir, &config.appenddirname);
        // Also if nothing is to be loaded: what is switched on later must not overwrite what is there.
        let found = disk.look(&config.appendfilename).map_err(|error| error.to_string())?;
        let mut directory = Directory::open(&config.appendfilename, &found.standing())
            .map_err(|error| error.to_string())?;
        if let Some(change) = directory.upgrade(&found.standing()).filter(|_| config.appendonly) {
            disk.carry_out(&change).map_err(|error| error.to_string())?;
            directory.commit(change);
        }
        Ok(Self {
            disk,
            directory,
            writer: None,
            is_on: false,
            stream: Stream::default(),
            buffer: Vec::new(),
            counted: 0,
            annotated: 0,
            last_change: 0,
            changes: VecDeque::new(),
            rewrite: None,
            is_scheduled: false,
            awaits_recording: 0,
            trigger: Trigger::default(),
            closed_bytes: 0,
            open_bytes: 0,
            is_dirty: false,
            next_sync: Instant::now(),
            spared: Stamp::default(),
            delays: 0,
            delayed_by: None,
            told: Stamp::default(),
            durable: Stamp::default(),
            is_failing: false,
        })
    }

    /// What has to be loaded, in order.
    pub(super) fn files_to_load(&self) -> Vec<PathBuf> {
        self.directory.to_load().map(|file| self.path_of(file)).collect()
    }

    fn path_of(&self, file: &AofFile) -> PathBuf {
        self.disk.path(&FileAt { place: Place::Append, name: file.name.clone() })
    }

    /// Whether tasks of the executor are at work.
    pub(super) fn has_tasks(&self) -> bool {
        self.writer.is_some()
    }

    /// How the base of the rewrite under way is written.
    pub(super) fn rewrite_format(&self) -> BaseFormat {
        self.rewrite.as_ref().map_or(BaseFormat::Rdb, |rewrite| rewrite.format)
    }

    /// Whether a rewrite is under way or wanted.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.is_scheduled && self.changes.is_empty() && self.awaits_recording == 0
    }

    fn sizes_changed(&mut self) {
        let open = self.directory.sink().map(|file| self.disk.path(file));
        let closed = self.files_to_load().into_iter().filter(|path| Some(path) != open.as_ref());
        let lengths = closed.filter_map(|path| path.metadata().ok()).map(|data| data.len());
        self.closed_bytes = lengths.sum();
    }
}

impl Control {
    // ---- what is written ----

    /// What was loaded is there: writes go to the files from now on.
    pub(super) fn begin_aof(&mut self) {
        let format = BaseFormat::of_setting(self.config.aof_use_rdb_preamble);
        let empty = match format {
            BaseFormat::Rdb => self.empty_base(),
            BaseFormat::Resp => Vec::new(),
        };
        let is_base = |file: &&AofFile| file.kind == FileKind::Base;
        let base = self.aof.directory.to_load().find(is_base).map(|file| self.aof.path_of(file));
        let base = base.and_then(|path| path.metadata().ok()).map_or(0, |data| data.len());
        self.aof.trigger = Trigger::new(base);
        self.give_turn(Reason::Begin, Turn::Begin(format, empty));
        self.aof.is_on = true;
    }

    fn empty_base(&self) -> Vec<u8> {
        let header = header_now(true);
        let mut stream = SnapshotStream::new(self.config.rdbchecksum, &[]);
        let mut bytes = stream.begin(&header, std::iter::empty(), Compression::ALL);
        bytes.extend(stream.end());
        bytes
    }

    /// The next part of the stream.
    pub(super) fn aof_append(&mut self, parcel: &Parcel) {
        let aof = &mut self.aof;
        if !aof.is_on {
            self.process.effects_under_way.fetch_sub(parcel.bytes.len(), Ordering::SeqCst);
            return;
        }
        if self.config.aof_timestamp_enabled && !parcel.bytes.is_empty() {
            let now = clock::unix_ms() / 1000;
            if std::mem::replace(&mut aof.annotated, now) != now {
                write_timestamp(now, &mut aof.buffer);
            }
        }
        aof.stream.append(parcel, Audience::FILE, &mut aof.buffer);
        aof.counted += parcel.bytes.len();
    }

    /// Everything up to `stamp` was appended: hands it to the writer.
    pub(super) fn aof_flush(&mut self, stamp: Stamp) {
        let always = self.config.appendonly && self.config.appendfsync == AppendFsync::Always;
        let may_synchronise = self.may_synchronise();
        let aof = &mut self.aof;
        let Some(writer) = aof.writer.as_ref().filter(|_| aof.is_on) else {
            if always && aof.told < stamp {
                aof.told = stamp;
                self.tell_all(|| Message::Durable(stamp));
            }
            return self.tell_of_room();
        };
        if aof.buffer.is_empty() && (!always || aof.told >= stamp) {
            return;
        }
        aof.told = stamp;
        aof.is_dirty |= !aof.buffer.is_empty();
        let (bytes, counted) = (std::mem::take(&mut aof.buffer), std::mem::take(&mut aof.counted));
        writer.give(Job::Append { bytes, stamp, counted });
        match (always, may_synchronise) {
            (true, true) => writer.give(Job::Commit),
            (true, false) => aof.spared = stamp,
            (false, _) => {}
        }
        let since = writer.synchronises_since();
        if since != aof.delayed_by && since.is_some_and(|since| since.elapsed() >= DELAY_MIN) {
            (aof.delays, aof.delayed_by) = (aof.delays + 1, since);
        }
    }

    /// Whether what is appended may be brought to the disk now: a snapshot that is being written may have gone
    /// before.
    fn may_synchronise(&self) -> bool {
        !(self.config.no_appendfsync_on_rewrite && self.is_saving())
    }

    /// Shards that wait for room go on, if there is some.
    fn tell_of_room(&mut self) {
        let left = self.process.effects_under_way.load(Ordering::SeqCst);
        if left < EFFECT_BYTES_MAX / 2 && self.process.awaits_effects.swap(false, Ordering::SeqCst)
        {
            self.tell_all(|| Message::RoomForEffects);
        }
    }

    fn aof_writer(&mut self) -> &AofWriter {
        let bell = Arc::clone(self.bell());
        let Aof { disk, directory, writer, .. } = &mut self.aof;
        writer.get_or_insert_with(|| AofWriter::start(disk.clone(), directory.clone(), bell))
    }

    fn give_turn(&mut self, reason: Reason, turn: Turn) {
        self.aof.last_change += 1;
        let number = self.aof.last_change;
        self.aof.changes.push_back((number, reason));
        self.aof_writer().give(Job::Change(number, turn));
    }

    // ---- what becomes of it ----

    /// Looks what the writer has done, and at the clock.
    pub(super) fn go_on_with_aof(&mut self, now: Instant) {
        while let Some(event) = self.aof.writer.as_ref().and_then(AofWriter::event) {
            self.on_aof_event(event);
        }
        self.tell_of_room();
        self.append_for_waits();
        if now >= self.aof.next_sync {
            self.aof.next_sync = now + SYNC_PERIOD;
            let waits =
                self.config.appendfsync != AppendFsync::No || self.disk_waits.last().is_some();
            let syncs = waits && self.may_synchronise();
            if (self.aof.is_dirty && syncs) || self.aof.is_failing {
                self.aof.is_dirty = false;
                self.aof_writer().give(Job::Synchronise);
            }
            self.look_at_growth();
            self.tell_aof_facts();
        }
        if self.aof.wants_snapshot() {
            self.begin_rewrite_when_idle();
        }
    }

    /// A stamp that stands for no effects is not worth telling the writer, unless somebody waits for it.
    fn append_for_waits(&mut self) {
        let merged = self.last_stamp();
        let Some(wanted) = self.disk_waits.last().filter(|wanted| *wanted <= merged) else {
            return;
        };
        let aof = &mut self.aof;
        let Some(writer) = aof.writer.as_ref().filter(|_| aof.is_on && aof.told < wanted) else {
            return;
        };
        aof.told = merged;
        aof.is_dirty = true;
        writer.give(Job::Append { bytes: Vec::new(), stamp: merged, counted: 0 });
    }

    /// The append-only files that there are, in order.
    pub(super) fn aof_files(&self) -> Vec<PathBuf> {
        self.aof.files_to_load()
    }

    /// What was loaded is in the files: the next effect selects its database.
    pub(super) fn go_on_behind_loaded(&mut self) {
        self.aof.stream.begin_anew();
    }

    /// Whether effects go to append-only files.
    pub(super) fn writes_aof(&self) -> bool {
        self.aof.is_on
    }

    /// Up to which stamp everything is in the files and on the disk, if they are whole.
    pub(super) fn aof_durable(&self) -> Option<Stamp> {
        let is_whole = self.aof.is_on && !self.aof.directory.awaits_base();
        is_whole.then_some(self.aof.durable)
    }

    /// When to look again.
    pub(super) fn next_aof_look(&self) -> Option<Instant> {
        (self.aof.is_on || self.aof.is_scheduled).then_some(self.aof.next_sync)
    }

    fn on_aof_event(&mut self, event: Event) {
        match event {
            Event::Written { stamp, counted, end } => {
                self.aof.open_bytes = end;
                self.process.effects_under_way.fetch_sub(counted, Ordering::SeqCst);
                if stamp <= self.aof.spared {
                    // As durable as the settings want it.
                    self.tell_all(|| Message::Durable(stamp));
                }
            }
            Event::Durable(stamp) => {
                self.aof.durable = stamp;
                self.process.note_durable(self.aof_durable());
                if self.config.appendfsync == AppendFsync::Always {
                    self.tell_all(|| Message::Durable(stamp));
                }
                self.set_aof_failure(None);
            }
            Event::Writes(Ok(())) => {
                tracing::warn!("AOF write error looks solved, Redis can write again.");
                self.set_aof_failure(None);
            }
            Event::Writes(Err(error)) | Event::NotSynchronised(error) => {
                if self.config.appendfsync == AppendFsync::Always {
                    tracing::error!(
                        "Can't recover from AOF write error when the AOF fsync policy is 'always': {error}. Exiting..."
                    );
                    std::process::exit(1);
                }
                tracing::warn!("Error writing to the AOF file: {error}");
                self.set_aof_failure(Some(error));
            }
            Event::Changed(changed) => self.on_changed(*changed),
        }
    }

    fn set_aof_failure(&mut self, error: Option<String>) {
        if self.aof.is_failing == error.is_some() {
            return;
        }
        self.aof.is_failing = error.is_some();
        let status = if error.is_some() { Status::Err } else { Status::Ok };
        self.process.persistence().aof_write_status = status;
        let error: Option<Arc<str>> = error.map(Into::into);
        self.tell_all(|| Message::AofStatus(error.clone()));
    }

    fn on_changed(&mut self, changed: Changed) {
        let Changed { number, result, directory, end } = changed;
        let Some((_, reason)) = self.aof.changes.pop_front().filter(|known| known.0 == number)
        else {
            unreachable!("changes are made in order")
        };
        (self.aof.directory, self.aof.open_bytes) = (directory, end);
        self.process.note_durable(self.aof_durable());
        self.aof.sizes_changed();
        let is_done = result.is_ok();
        if let Err(error) = result {
            tracing::warn!("Changing the append-only directory failed: {error}");
        }
        match reason {
            Reason::Begin if is_done => {}
            Reason::Begin => {
                tracing::error!("There is nowhere to write what clients change. Exiting...");
                std::process::exit(1);
            }
            Reason::SwitchOn => {
                if !is_done {
                    self.aof.is_on = false;
                    self.aof.is_scheduled = false;
                    self.tell_all(|| Message::Record(Audience::FILE, false));
                }
                self.aof_was_switched_on(is_done);
            }
            Reason::RewriteBegins if is_done => {}
            Reason::RewriteBegins => self.abandon_rewrite(),
            Reason::Rewritten => {
                if !is_done {
                    let temp = self.rewrite_names().1;
                    self.give_turn(Reason::GiveUp, Turn::RewriteFailed(temp));
                }
                self.rewrite_is_over(is_done);
            }
            Reason::SwitchOff | Reason::GiveUp | Reason::CleanUp => {}
        }
    }

    // ---- rewrites ----

    /// BGREWRITEAOF
    pub(super) fn on_rewrite_aof(&mut self, asker: Asker, must_wait: bool) {
        if self.aof.rewrite.is_some() {
            return self.answer(asker, Err(IN_PROGRESS));
        }
        self.aof.is_scheduled = true;
        let waits = must_wait || self.is_saving() || !self.aof.changes.is_empty();
        self.answer(
            asker,
            Ok(match waits {
                true => "Background append only file rewriting scheduled",
                false => "Background append only file rewriting started",
            }),
        );
    }

    fn begin_rewrite_when_idle(&mut self) {
        if self.is_saving() || self.saver.is_stopping() {
            return;
        }
        self.aof.is_scheduled = false;
        let format = BaseFormat::of_setting(self.config.aof_use_rdb_preamble);
        self.aof.rewrite = Some(Rewrite { began: Instant::now(), format });
        tracing::info!("Background append only file rewriting started");
        self.begin_snapshot(Purpose::Rewrite);
    }

    /// The server stops: what was appended is brought to the disk. False if there is nothing to wait for.
    pub(super) fn aof_last_words(&mut self, stamp: Stamp) -> bool {
        match self.aof.writer.as_ref().filter(|_| self.aof.is_on) {
            Some(writer) => {
                // A stamp without effects was not worth telling before.
                writer.give(Job::Append { bytes: Vec::new(), stamp, counted: 0 });
                writer.give(Job::Synchronise);
                true
            }
            None => false,
        }
    }

    /// Whether everything up to this stamp is on the disk, or there is no use in waiting for it.
    pub(super) fn is_on_disk(&self, stamp: Stamp) -> bool {
        !self.aof.is_on || self.aof.is_failing || self.aof.durable >= stamp
    }

    /// The stream is cut for the base: what follows goes to another increment.
    pub(super) fn cut_aof(&mut self) {
        self.aof.stream.begin_anew();
        self.aof.annotated = 0;
        self.give_turn(Reason::RewriteBegins, Turn::RewriteBegins);
    }

    /// The base is written, or will not be.
    pub(super) fn base_is_over(&mut self, result: &Result<(), String>) {
        let temp = self.rewrite_names().1;
        if result.is_ok() {
            let format = self.aof.rewrite_format();
            return self.give_turn(Reason::Rewritten, Turn::Rewritten(temp, format));
        }
        self.give_turn(Reason::GiveUp, Turn::RewriteFailed(temp));
        self.rewrite_is_over(false);
    }

    /// What the base is called while it is written, and when it is whole.
    pub(super) fn rewrite_names(&self) -> (String, String) {
        let pid = std::process::id();
        (format!("temp-rewriteaof-{pid}.aof"), format!("temp-rewriteaof-bg-{pid}.aof"))
    }

    fn rewrite_is_over(&mut self, is_done: bool) {
        let Some(rewrite) = self.aof.rewrite.take() else { return };
        let mut facts = self.process.persistence();
        facts.last_aof_rewrite_seconds = Some(rewrite.began.elapsed().as_secs());
        facts.aof_rewrite_status = if is_done { Status::Ok } else { Status::Err };
        facts.aof_rewrites += 1;
        drop(facts);
        if is_done {
            tracing::info!("Background AOF rewrite finished successfully");
            self.aof.trigger.succeeded(self.aof.closed_bytes + self.aof.open_bytes);
            if !self.config.aof_disable_auto_gc && self.aof.directory.has_history() {
                self.give_turn(Reason::CleanUp, Turn::CleanUp);
            }
        } else {
            self.aof.trigger.failed();
            // Without a base the file that is written to is worth nothing: try again.
            self.aof.is_scheduled |= self.aof.directory.awaits_base();
        }
        self.tell_aof_facts();
    }

    fn look_at_growth(&mut self) {
        let limit = GrowthLimit {
            percentage: self.config.auto_aof_rewrite_percentage,
            bytes_min: self.config.auto_aof_rewrite_min_size,
        };
        let aof = &mut self.aof;
        let bytes = aof.closed_bytes + aof.open_bytes;
        let may = aof.is_on && aof.rewrite.is_none() && !aof.is_scheduled;
        if may && aof.trigger.is_due(bytes, limit, clock::unix_ms() / 1000) {
            tracing::info!("Starting automatic rewriting of AOF");
            aof.is_scheduled = true;
        }
    }

    // ---- CONFIG SET appendonly ----

    /// Whether files are being made because the settings say so now.
    pub(super) fn is_aof_switching_on(&self) -> bool {
        let is_switch = |change: &(u64, Reason)| change.1 == Reason::SwitchOn;
        self.aof.awaits_recording > 0 || self.aof.changes.iter().any(is_switch)
    }

    /// The settings have changed.
    pub(super) fn aof_settings_changed(&mut self) {
        let wanted = self.config.appendonly;
        if wanted && !self.aof.is_on && self.aof.awaits_recording == 0 {
            self.aof.awaits_recording = self.shards.len();
            self.tell_all(|| Message::Record(Audience::FILE, true));
        } else if !wanted && self.aof.is_on {
            self.aof.is_on = false;
            self.aof.is_scheduled = false;
            self.process.note_durable(None);
            self.abandon_rewrite();
            self.tell_all(|| Message::Record(Audience::FILE, false));
            self.give_turn(Reason::SwitchOff, Turn::SwitchOff);
            self.aof_writer().give(Job::Close);
            self.set_aof_failure(None);
        }
    }

    /// A shard records, or does not any more.
    pub(super) fn on_recording(&mut self) {
        if self.aof.awaits_recording == 0 {
            return;
        }
        self.aof.awaits_recording -= 1;
        if self.aof.awaits_recording == 0 && self.config.appendonly {
            // A rewrite that began without AOF has no file for what came after its cut.
            self.abandon_rewrite();
            self.aof.stream.begin_anew();
            self.give_turn(Reason::SwitchOn, Turn::SwitchOn);
            self.aof.is_on = true;
            self.aof.is_scheduled = true;
        }
    }

    /// All data is about to be replaced by a master's: what the files say of it ends here.
    pub(super) fn suspend_aof(&mut self) {
        self.abandon_rewrite();
    }

    /// The data is another: the files begin with a base of it.
    pub(super) fn resume_aof(&mut self) {
        self.aof.is_scheduled |= self.aof.is_on;
    }

    fn abandon_rewrite(&mut self) {
        if self.aof.rewrite.is_some() {
            self.abandon_snapshot_for(Purpose::Rewrite);
        }
    }

    fn tell_aof_facts(&self) {
        let aof = &self.aof;
        let mut facts = self.process.persistence();
        facts.aof_rewrite_seconds =
            aof.rewrite.as_ref().map(|rewrite| rewrite.began.elapsed().as_secs());
        facts.aof_rewrite_scheduled = aof.is_scheduled;
        facts.aof_rewrite_failures = aof.trigger.failures();
        facts.aof_size = aof.closed_bytes + aof.open_bytes;
        facts.aof_base_size = aof.trigger.base_bytes();
        facts.aof_buffer_bytes = aof.buffer.len() as u64;
        let is_synchronising =
            aof.writer.as_ref().is_some_and(|writer| writer.synchronises_since().is_some());
        facts.aof_pending_fsync = u64::from(is_synchronising);
        facts.aof_delayed_fsync = aof.delays;
    }
}
