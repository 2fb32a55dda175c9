//! Loading at the start: the files one after the other, while clients hear LOADING.
//!
//! A file that begins as an RDB file is one ([`super::rdb_load`]), whatever its name; what follows its checksum in an
//! append-only file, and all of any other, are records. These are run by a session of the first shard ([`crate::shard`], `fed.rs`), a chunk at
//! a time; a chunk holds whole records, and blocks between MULTI and EXEC whole. The rules for what is missing
//! at the end, and for what is wrong, are those of Redis 7.0 (`aof.c`, loadSingleAppendOnlyFile).
//!
//! Promise: clients are served when all of it is loaded; if it cannot be, the process ends and says where the
//! fault is.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Control;
use super::rdb_load::{LoadError, Progress, RdbLoad};
use super::saving::Asker;
use crate::admin::facts;
use crate::clock;
use crate::command::CommandTable;
use crate::journal::Audience;
use crate::persistence::aof::{End, Found, RecordReader};
use crate::shard::loading::LoadRules;
use crate::shard::message::{Fed, Message};
use crate::shard_map::ShardId;

/// Bytes that are read at once, and about as many are run at once.
const BLOCK_BYTES: usize = 1024 * 1024;

/// What the log says when clients are served; scripts wait for it.
const READY: &str = "Ready to accept connections";

/// What is wrong with a file.
struct Fault(String);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Records of one file.
struct Records {
    path: PathBuf,
    file: File,
    /// Kept for its allocation.
    block: Vec<u8>,
    reader: RecordReader,
    /// Name of the last record, which is a command.
    known: Vec<u8>,
    /// Records of a block that is open.
    open: Vec<u8>,
    /// Records that can be run.
    chunk: Vec<u8>,
    is_read: bool,
}

/// How far it is.
enum Stage {
    /// So many shards have not noted that data is being loaded.
    Announcing(usize),
    /// Between two files.
    NextFile,
    /// In an RDB file, at whose end is nothing else or records.
    Snapshot(PathBuf),
    /// Among records; whether a chunk is being run, while the next one is read.
    Running(Box<Records>, bool),
    /// All files are loaded; so many shards have not noted it.
    Ending(usize),
}

/// See the module.
pub(super) struct Loading {
    stage: Stage,
    files: VecDeque<PathBuf>,
    /// They are append-only files.
    are_appended: bool,
    /// Bytes of files, or parts of files, that are done.
    loaded_bytes: u64,
    started: i64,
    total_bytes: u64,
    /// Who waits for it; nobody does at the start.
    asker: Option<Asker>,
}

impl Control {
    /// Loads these files; without any, writes go to the files of this process at once.
    pub(super) fn start_loading(&mut self, files: Vec<PathBuf>) {
        let sizes = files.iter().filter_map(|path| path.metadata().ok());
        let total_bytes = sizes.map(|data| data.len()).sum();
        let is_nothing = files.is_empty() || (self.config.appendonly && total_bytes == 0);
        if is_nothing {
            return;
        }
        self.loading = Some(Loading {
            stage: Stage::Announcing(self.shards.len()),
            files: files.into(),
            are_appended: self.config.appendonly,
            loaded_bytes: 0,
            started: clock::unix_ms() / 1000,
            total_bytes,
            asker: None,
        });
        // On each lane this goes before the first connection.
        self.tell_all(|| Message::Record(Audience::FILE, false));
        self.tell_all(|| Message::Loading(true));
        self.tell_loading_facts();
    }

    /// Loads the append-only files when all shards know that something is being loaded, and have dropped what they had.
    pub(super) fn load_again(&mut self, asker: Asker) {
        let files = self.aof_files();
        let sizes = files.iter().filter_map(|path| path.metadata().ok());
        let total_bytes = sizes.map(|data| data.len()).sum();
        self.loading = Some(Loading {
            stage: Stage::NextFile,
            files: files.into(),
            are_appended: true,
            loaded_bytes: 0,
            started: clock::unix_ms() / 1000,
            total_bytes,
            asker: Some(asker),
        });
        self.tell_loading_facts();
    }

    /// Whether there is something to read now.
    pub(super) fn reads_files(&self) -> bool {
        let stage = self.loading.as_ref().map(|loading| &loading.stage);
        match stage {
            Some(Stage::NextFile | Stage::Running(_, false)) => true,
            Some(Stage::Running(records, true)) => records.wants_reading(),
            Some(Stage::Snapshot(_)) => self.rdb_goes_on,
            _ => false,
        }
    }

    /// A shard has noted that data is being loaded, or that it has been.
    pub(super) fn on_loading_noted(&mut self) {
        let Some(loading) = &mut self.loading else { return };
        match &mut loading.stage {
            Stage::Announcing(missing) => {
                *missing -= 1;
                if *missing == 0 {
                    loading.stage = Stage::NextFile;
                }
            }
            Stage::Ending(missing) => {
                *missing -= 1;
                if *missing == 0 {
                    let asker = self.loading.take().and_then(|loading| loading.asker);
                    self.tell_loading_facts();
                    match asker {
                        Some(asker) => self.answer(asker, Ok("OK")),
                        None => tracing::info!("{READY}"),
                    }
                }
            }
            _ => {}
        }
    }

    /// The first shard has run a chunk.
    pub(super) fn on_fed(&mut self, fed: Fed) {
        let Some(loading) = &mut self.loading else { return };
        if let Stage::Running(records, is_fed) = &mut loading.stage {
            *is_fed = false;
            if let Some(error) = fed.error {
                let (error, path) = (String::from_utf8_lossy(&error), records.path.display());
                tracing::error!("== CRITICAL == a command of {path} failed: {error}");
            }
        }
    }

    /// Reads on.
    pub(super) fn go_on_loading(&mut self) {
        if std::mem::take(&mut self.starts) && self.loading.is_none() {
            if self.config.appendonly {
                self.begin_aof();
            }
            tracing::info!("{READY}");
        }
        let Some(loading) = &mut self.loading else { return };
        match std::mem::replace(&mut loading.stage, Stage::NextFile) {
            Stage::NextFile => self.next_file(),
            Stage::Running(records, is_running) if !is_running || records.wants_reading() => {
                self.go_on_with_file(records, is_running);
            }
            Stage::Snapshot(path) => self.go_on_with_snapshot(path),
            other => loading.stage = other,
        }
    }

    fn next_file(&mut self) {
        let Some(loading) = &mut self.loading else { return };
        let Some(path) = loading.files.pop_front() else { return self.end_loading() };
        // An empty dump file is a broken one; an empty append-only file is fine.
        let is_rdb = !loading.are_appended || begins_as_rdb(&path);
        // What a replica has expires when its master says so.
        let drops_expired = !loading.are_appended && self.config.replicaof.is_none();
        let opened = if is_rdb {
            let rules = LoadRules {
                drops_expired_before: drops_expired.then(clock::unix_ms),
                merges: false,
            };
            loading.stage = Stage::Snapshot(path.clone());
            self.open_rdb(&path, rules)
        } else {
            Records::open(path.clone(), 0).map(|records| {
                loading.stage = Stage::Running(Box::new(records), false);
            })
        };
        if let Err(error) = opened {
            give_up(&path, &error.to_string());
        }
    }

    fn go_on_with_snapshot(&mut self, path: PathBuf) {
        let progress = match self.step_rdb() {
            Ok(progress) => progress,
            Err(error) => give_up(&path, &error.to_string()),
        };
        let Some(loading) = &mut self.loading else { return };
        let Progress::Done(outcome) = progress else {
            loading.stage = Stage::Snapshot(path);
            return self.tell_loading_facts();
        };
        loading.loaded_bytes += outcome.end;
        if loading.are_appended {
            match Records::open(path.clone(), outcome.end) {
                Ok(records) => loading.stage = Stage::Running(Box::new(records), false),
                Err(error) => give_up(&path, &error.to_string()),
            }
        } else {
            self.restore_history(&outcome);
        }
        self.tell_loading_facts();
    }

    /// Begins to load an RDB file, at the start or again.
    pub(super) fn open_rdb(&mut self, path: &Path, rules: LoadRules) -> io::Result<()> {
        let (shards, process) = (self.shards, Arc::clone(&self.process));
        let load = RdbLoad::open(path, rules, &self.config, shards, process)?;
        (self.rdb_load, self.rdb_goes_on) = (Some(load), true);
        Ok(())
    }

    /// Loads on. When it is over, well or not, the load is gone.
    pub(super) fn step_rdb(&mut self) -> Result<Progress, LoadError> {
        let Some(load) = &mut self.rdb_load else { return Ok(Progress::Waiting) };
        let ports = &mut self.ports;
        let progress =
            load.step(&mut |shard: ShardId, message| ports.to[shard.index()].send(message));
        self.rdb_goes_on = matches!(progress, Ok(Progress::Going));
        if matches!(progress, Ok(Progress::Done(_)) | Err(_)) {
            self.rdb_load = None;
        }
        progress
    }

    fn go_on_with_file(&mut self, mut records: Box<Records>, is_running: bool) {
        let Some(loading) = &mut self.loading else { return };
        if records.wants_reading() {
            let is_last = loading.files.is_empty();
            match records.go_on(is_last, self.config.aof_load_truncated) {
                Ok(read) => loading.loaded_bytes += read,
                Err(Fault(text)) => give_up(&records.path, &text),
            }
        }
        let message = if is_running || records.wants_reading() {
            loading.stage = Stage::Running(records, is_running);
            None
        } else if records.chunk.is_empty() {
            loading.stage = Stage::NextFile;
            Some(Message::FeedOver)
        } else {
            let chunk = std::mem::take(&mut records.chunk);
            loading.stage = Stage::Running(records, true);
            Some(Message::Feed(chunk))
        };
        message.into_iter().for_each(|message| self.tell(ShardId(0), message));
        self.tell_loading_facts();
    }

    fn end_loading(&mut self) {
        let count = self.shards.len();
        let Some(loading) = &mut self.loading else { return };
        loading.stage = Stage::Ending(count);
        let seconds = clock::unix_ms() / 1000 - loading.started;
        let kind = if loading.are_appended { "append only file" } else { "disk" };
        tracing::info!("DB loaded from {kind}: {seconds} seconds");
        if loading.asker.is_some() {
            self.go_on_behind_loaded();
        } else if self.config.appendonly {
            self.begin_aof();
            self.tell_all(|| Message::Record(Audience::FILE, true));
        }
        self.tell_all(|| Message::Loading(false));
    }

    fn tell_loading_facts(&self) {
        let in_snapshot = self.rdb_load.as_ref().map_or(0, RdbLoad::loaded_bytes);
        let told = self.loading.as_ref().map(|loading| {
            let loaded_bytes = loading.loaded_bytes + in_snapshot;
            let passed = (clock::unix_ms() / 1000 - loading.started).max(0) as u64;
            let left = loading.total_bytes.saturating_sub(loaded_bytes);
            facts::Loading {
                started: loading.started,
                total_bytes: loading.total_bytes,
                loaded_bytes,
                eta_seconds: passed * left / loaded_bytes.max(1),
            }
        });
        self.process.persistence().loading = told;
    }
}

impl Records {
    fn open(path: PathBuf, offset: u64) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            path,
            file,
            block: vec![0; BLOCK_BYTES],
            reader: RecordReader::new(offset),
            known: Vec::new(),
            open: Vec::new(),
            chunk: Vec::new(),
            is_read: false,
        })
    }

    /// Whether there is more to read, and what was read last has been taken.
    fn wants_reading(&self) -> bool {
        self.chunk.is_empty() && !self.is_read
    }

    /// Reads a block and takes the records out of it; how many bytes were read.
    fn go_on(&mut self, is_last: bool, truncates: bool) -> Result<u64, Fault> {
        let count = self.file.read(&mut self.block)?;
        if count == 0 {
            self.is_read = true;
            self.look_at_end(is_last, truncates)?;
            return Ok(0);
        }
        self.reader.feed(&self.block[..count]);
        loop {
            let found = self.reader.find().map_err(|bad| {
                Fault(format!(
                    "Bad file format reading the append only file at offset {}: make a backup of your AOF file, then use corelane check-aof --fix <filename.manifest>",
                    bad.offset
                ))
            })?;
            match found {
                Found::NeedsMore => return Ok(count as u64),
                Found::Annotation(_) => {}
                Found::Record => self.take_record()?,
            }
        }
    }

    fn take_record(&mut self) -> Result<(), Fault> {
        let name = self.reader.words().next().unwrap_or_default();
        if name != self.known {
            if CommandTable::get().find(name).is_none() {
                let name = String::from_utf8_lossy(name);
                return Err(Fault(format!(
                    "Unknown command '{name}' reading the append only file"
                )));
            }
            self.known = name.to_vec();
        }
        // A block is run when all of it is there.
        if self.reader.in_multi() {
            self.reader.write_record(&mut self.open);
        } else {
            self.chunk.append(&mut self.open);
            self.reader.write_record(&mut self.chunk);
        }
        Ok(())
    }

    fn look_at_end(&mut self, is_last: bool, truncates: bool) -> Result<(), Fault> {
        let (good, what) = match self.reader.end() {
            End::Whole => return Ok(()),
            End::CutOff(good) => (good, "Unexpected end of file reading the append only file"),
            End::InMulti(good) => (good, "Revert incomplete MULTI/EXEC transaction from AOF file"),
        };
        if !truncates {
            return Err(Fault(format!(
                "{what} (good up to offset {good}). You can: 1) Make a backup of your AOF file, then use corelane check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the server."
            )));
        }
        tracing::warn!("{what}: truncating {} at offset {good}", self.path.display());
        OpenOptions::new().write(true).open(&self.path)?.set_len(good)?;
        if !is_last {
            return Err(Fault("the truncated file is not the last file".to_owned()));
        }
        Ok(())
    }
}

/// Whether a file begins as an RDB file does.
fn begins_as_rdb(path: &Path) -> bool {
    let mut start = [0; 5];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && &start == b"REDIS"
}

/// The process cannot start with what there is.
fn give_up(path: &Path, text: &str) -> ! {
    tracing::error!("Fatal error loading {}: {text}", path.display());
    std::process::exit(1);
}
