//! An RDB file on its way into the shards.
//!
//! The control core reads it block by block, finds the borders of the records ([`BorderReader`]) and sends each
//! shard those of its keys, in batches. Decoding, which costs most, is thus done by all shards at a time. What
//! concerns the process is done here: libraries of functions, and what the file says about itself.
//!
//! Promise: a shard has at most [`BATCHES_UNDER_WAY_MAX`] batches to do, and one more at the end of the file; a
//! load that is over, well or not, has none under way.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::clock;
use crate::config::Config;
use crate::persistence::rdb::Error;
use crate::persistence::rdb::border::{BorderReader, Found, RawKey};
use crate::persistence::rdb::write_file::{ReplicationPoint, write_database, write_sizes};
use crate::process::Process;
use crate::scripting::library::LibraryError;
use crate::shard::library_of;
use crate::shard::loading::{BadRecord, Fault, LoadBatch, LoadRules, RecordsLoaded};
use crate::shard::message::Message;
use crate::shard_map::{ShardId, ShardMap};
use crate::slot::slot_of;

/// Bytes that are read at a time: some milliseconds of work.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of records that make a batch; one of a large value has more.
const BATCH_BYTES: usize = 128 << 10;
/// Batches that a shard has to do. While it does one there is always another, and all of them take little memory.
pub const BATCHES_UNDER_WAY_MAX: usize = 4;
/// Length of the id of a replication stream.
const REPLICATION_ID_BYTES: usize = 40;

/// How far a load is after [`RdbLoad::step`].
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do at once.
    Going,
    /// Nothing can be done before [`Message::RecordsLoaded`] comes.
    Waiting,
    /// All is loaded.
    Done(Box<Outcome>),
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Keys that are there now.
    pub keys: u64,
    /// Keys that were left out, for they had expired.
    pub expired: u64,
    /// Keys that were left out, for their collection was empty.
    pub empty: u64,
    /// Libraries of functions.
    pub libraries: u64,
    /// Where the file ends, behind its checksum: something else may follow.
    pub end: u64,
    /// What the file says about itself.
    pub facts: FileFacts,
}

/// What a file says about itself, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Which server wrote it (`redis-ver`).
    pub server: Option<String>,
    /// When, unix s (`ctime`).
    pub created: Option<i64>,
    /// The stream that it is a state of (`repl-id`),
    pub replication_id: Option<String>,
    /// the place in it (`repl-offset`),
    pub replication_offset: Option<i64>,
    /// and the database that is selected there (`repl-stream-db`).
    pub replication_database: Option<i64>,
    /// It is the base of append-only files (`aof-base`).
    pub is_aof_base: bool,
}

impl FileFacts {
    /// The place in a replication stream, if the file tells it whole. No database is -1.
    pub fn replication(&self) -> Option<ReplicationPoint> {
        let (id, offset) = (self.replication_id.clone()?, self.replication_offset?);
        Some(ReplicationPoint { database: self.replication_database.unwrap_or(-1), id, offset })
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let number = || text.parse::<i64>().ok();
        match name.to_ascii_lowercase().as_slice() {
            b"redis-ver" => {
                tracing::info!("Loading RDB produced by version {}", text.escape_debug());
                self.server = Some(text.into_owned());
            }
            b"ctime" => {
                self.created = number();
                let age = self.created.map_or(0, |at| (clock::unix_ms() / 1000 - at).max(0));
                tracing::info!("RDB age {age} seconds");
            }
            b"used-mem" => {
                let mebibytes = number().unwrap_or(0) as f64 / (1024.0 * 1024.0);
                tracing::info!("RDB memory usage when created {mebibytes:.2} Mb");
            }
            b"repl-stream-db" => self.replication_database = number(),
            b"repl-id" if value.len() == REPLICATION_ID_BYTES => {
                self.replication_id = Some(text.into_owned());
            }
            b"repl-offset" => self.replication_offset = number(),
            b"aof-base" => {
                self.is_aof_base = number().is_some_and(|number| number != 0);
                if self.is_aof_base {
                    tracing::info!("RDB is base AOF");
                }
            }
            _ => tracing::debug!("RDB field '{}': {}", name.escape_ascii(), text.escape_debug()),
        }
    }
}

/// Why a file cannot be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// Where in the file.
    pub offset: u64,
    /// Why.
    pub reason: LoadFailure,
}

/// See [`LoadError`].
#[derive(Debug)]
pub enum LoadFailure {
    /// It cannot be read.
    Io(io::Error),
    /// Its bytes are wrong.
    Bytes(Error),
    /// A key is of a database that is not here; so many are.
    Database(usize),
    /// A library of functions does not load.
    Library(LibraryError),
    /// A record cannot be loaded by its shard.
    Record(Fault),
}

/// In the words of Redis where it has some, for the log.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[offset {}] ", self.offset)?;
        match &self.reason {
            LoadFailure::Io(error) => write!(f, "Error reading the RDB file: {error}"),
            LoadFailure::Bytes(Error::Truncated) => {
                f.write_str("Short read loading DB. Unrecoverable error, aborting now.")
            }
            LoadFailure::Bytes(Error::Checksum { expected, computed }) => write!(
                f,
                "Wrong RDB checksum expected: ({expected:x}) but got ({computed:x}). Aborting now."
            ),
            LoadFailure::Bytes(error) => error.fmt(f),
            LoadFailure::Database(databases) => write!(
                f,
                "FATAL: Data file was created with a Redis server configured to handle more than \
                 {databases} databases. Exiting"
            ),
            LoadFailure::Library(error) => write!(f, "Failed loading library, {error}"),
            LoadFailure::Record(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

/// What one shard is about to get, and has got.
#[derive(Default)]
struct Part {
    records: Vec<u8>,
    offsets: Vec<u64>,
    /// The database of the last of the records.
    database: Option<usize>,
    under_way: usize,
}

/// See the module.
pub struct RdbLoad {
    source: Box<dyn Read>,
    total_bytes: u64,
    block: Vec<u8>,
    reader: BorderReader,
    shards: ShardMap,
    parts: Vec<Part>,
    /// Whose batch is to be sent before anything else is done.
    full: Option<ShardId>,
    /// Of the keys to come.
    database: usize,
    /// Keys of it in the whole file, and those of them that expire, as far as the file tells.
    sizes: (u64, u64),
    databases: usize,
    rules: LoadRules,
    process: Arc<Process>,
    outcome: Outcome,
    is_read: bool,
    failure: Option<LoadError>,
}

impl RdbLoad {
    /// A load of the file at `path`, at its beginning.
    pub fn open(
        path: &Path,
        rules: LoadRules,
        config: &Config,
        shards: ShardMap,
        process: Arc<Process>,
    ) -> io::Result<Self> {
        let file = File::open(path)?;
        let total_bytes = file.metadata()?.len();
        Ok(Self::of(Box::new(file), total_bytes, rules, config, shards, process))
    }

    fn of(
        source: Box<dyn Read>,
        total_bytes: u64,
        rules: LoadRules,
        config: &Config,
        shards: ShardMap,
        process: Arc<Process>,
    ) -> Self {
        let load = Self {
            source,
            total_bytes,
            block: vec![0; BLOCK_BYTES],
            reader: BorderReader::new(config.rdbchecksum),
            shards,
            parts: shards.iter().map(|_| Part::default()).collect(),
            full: None,
            database: 0,
            sizes: (0, 0),
            databases: config.databases,
            rules,
            process,
            outcome: Outcome::default(),
            is_read: false,
            failure: None,
        };
        load.tell_counts();
        load
    }

    /// Bytes of the file.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes of it that have been read.
    pub fn loaded_bytes(&self) -> u64 {
        self.reader.offset()
    }

    /// Reads a block, at most, and gives batches to `send`. To be called until it is done or fails, which
    /// is the end of it: there is nothing more to ask then.
    pub fn step(&mut self, send: &mut dyn FnMut(ShardId, Message)) -> Result<Progress, LoadError> {
        if self.failure.is_none() && !self.is_read {
            match self.read_on(send) {
                Ok(progress) if !self.is_read => return Ok(progress),
                Ok(_) => {}
                Err(error) => self.failure = Some(error),
            }
        }
        if self.parts.iter().any(|part| part.under_way > 0) {
            return Ok(Progress::Waiting);
        }
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let Outcome { keys, expired, empty, .. } = self.outcome;
        tracing::info!(
            "Done loading RDB, keys loaded: {keys}, keys expired: {expired}, empty keys skipped: {empty}."
        );
        Ok(Progress::Done(Box::new(self.outcome.clone())))
    }

    /// A shard has done a batch.
    pub fn on_loaded(&mut self, loaded: RecordsLoaded) {
        let RecordsLoaded { shard, keys, expired, empty, result } = loaded;
        self.parts[shard.index()].under_way -= 1;
        self.outcome.keys += keys;
        self.outcome.expired += expired;
        self.outcome.empty += empty;
        self.tell_counts();
        if let Err(BadRecord { offset, fault }) = result {
            let reason = LoadFailure::Record(fault);
            self.failure.get_or_insert(LoadError { offset, reason });
        }
    }

    /// INFO shows how many keys the last load had.
    fn tell_counts(&self) {
        let mut facts = self.process.persistence();
        facts.load_keys = self.outcome.keys;
        facts.load_keys_expired = self.outcome.expired;
    }

    fn failed(&self, reason: LoadFailure) -> LoadError {
        LoadError { offset: self.reader.offset(), reason }
    }

    fn read_on(&mut self, send: &mut dyn FnMut(ShardId, Message)) -> Result<Progress, LoadError> {
        let mut has_read = false;
        loop {
            if let Some(shard) = self.full {
                if self.parts[shard.index()].under_way >= BATCHES_UNDER_WAY_MAX {
                    return Ok(Progress::Waiting);
                }
                self.full = None;
                self.send_part(shard, send);
            }
            let found = match self.reader.find() {
                Ok(found) => found,
                Err(error) => return Err(self.failed(LoadFailure::Bytes(error))),
            };
            match found {
                Found::NeedsMore if has_read => return Ok(Progress::Going),
                Found::NeedsMore => {
                    self.read_block()?;
                    has_read = true;
                }
                Found::Aux { name, value } => self.outcome.facts.note(&name, &value),
                Found::Database(number) => {
                    let known = usize::try_from(number).ok().filter(|n| *n < self.databases);
                    let reason = LoadFailure::Database(self.databases);
                    let offset = self.reader.record_offset();
                    self.database = known.ok_or(LoadError { offset, reason })?;
                    self.sizes = (0, 0);
                }
                Found::Sizes { keys, expiring } => self.sizes = (keys, expiring),
                Found::Function(text) => {
                    let offset = self.reader.record_offset();
                    self.load_library(&text, offset)?;
                }
                Found::Key(raw) => {
                    let shard = self.shards.owner(slot_of(raw.head.key));
                    let part = &mut self.parts[shard.index()];
                    part.put((self.database, self.sizes), &raw);
                    self.full = (part.records.len() >= BATCH_BYTES).then_some(shard);
                }
                Found::End => {
                    self.is_read = true;
                    self.outcome.end = self.reader.offset();
                    self.shards.iter().for_each(|shard| self.send_part(shard, send));
                    return Ok(Progress::Going);
                }
            }
        }
    }

    fn read_block(&mut self) -> Result<(), LoadError> {
        let count = loop {
            match self.source.read(&mut self.block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match count {
            Ok(0) => Err(self.failed(LoadFailure::Bytes(Error::Truncated))),
            Ok(count) => {
                self.reader.feed(&self.block[..count]);
                Ok(())
            }
            Err(error) => Err(self.failed(LoadFailure::Io(error))),
        }
    }

    /// Does what FUNCTION LOAD does, with REPLACE if the file is merged into what is there.
    fn load_library(&mut self, text: &[u8], offset: u64) -> Result<(), LoadError> {
        let replaces = self.rules.merges;
        let loaded = library_of(text).and_then(|library| {
            self.process.scripts.change_catalogue(|catalogue| catalogue.with(library, replaces))
        });
        loaded.map_err(|error| LoadError { offset, reason: LoadFailure::Library(error) })?;
        self.outcome.libraries += 1;
        Ok(())
    }

    fn send_part(&mut self, shard: ShardId, send: &mut dyn FnMut(ShardId, Message)) {
        let (version, rules) = (self.reader.version(), self.rules);
        let part = &mut self.parts[shard.index()];
        if part.offsets.is_empty() {
            return;
        }
        part.under_way += 1;
        part.database = None;
        let (records, offsets) =
            (std::mem::take(&mut part.records), std::mem::take(&mut part.offsets));
        let batch = LoadBatch { version, records, offsets, rules };
        send(shard, Message::LoadRecords(Box::new(batch)));
    }
}

impl Part {
    fn put(&mut self, (database, sizes): (usize, (u64, u64)), raw: &RawKey<'_>) {
        if self.database != Some(database) {
            self.database = Some(database);
            write_database(database as u64, &mut self.records);
            write_sizes(sizes.0, sizes.1, &mut self.records);
        }
        raw.write(&mut self.records);
        self.offsets.push(raw.offset);
    }
}

#[cfg(test)]
mod tests;
