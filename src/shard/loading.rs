//! This shard's part in loading an RDB file: it decodes the records whose keys are its own.
//!
//! The control core reads the file and sends records as they are written there ([`LoadBatch`]); they are decoded in
//! slices between the turns, as all background work, so that clients hear LOADING at once. What is loaded has
//! been there before: it is not recorded, nobody is told of it, and nothing is evicted for it.
//!
//! Promise: each batch is answered by one [`RecordsLoaded`], in their order; a batch with a fault ends at it.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::Shard;
use super::message::Message;
use crate::keyspace::{Budget, Database, Key, Keyspace, Loaded};
use crate::persistence::rdb::read_file::{FileReader, Found, FoundKey};
use crate::persistence::rdb::{Error, Limits};
use crate::shard_map::ShardId;
use crate::slot::{SLOT_COUNT, Slot};

/// How long one slice may take. Nothing else is to be done meanwhile but telling clients to wait.
const SLICE_TIME: Duration = Duration::from_micros(500);
/// Elements of a value that are decoded at a time. Of a list these are nodes of 8 KiB,
const ELEMENTS_PER_STEP: usize = 16;
/// which cost, for the budget, as much as so many that are freed.
const STEP_COST: usize = 16;
/// Empty keys of a batch that the log names.
const EMPTY_KEYS_LOGGED_MAX: u64 = 10;

/// Keys that are put into the keyspace together, so that their cache misses overlap: a file has them in no order.
const WINDOW_KEYS: usize = 32;

/// How keys of a file meet the keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadRules {
    /// Keys that expired before this time, unix ms, are left out. That is for masters and dump files: the
    /// base of an append-only file is followed by commands that may count on them.
    pub drops_expired_before: Option<i64>,
    /// A key that is there is replaced; otherwise it is a fault, for a file has each key once.
    pub merges: bool,
}

/// Records of a file whose keys are one shard's.
#[derive(Debug)]
pub struct LoadBatch {
    /// The version of the file.
    pub version: u16,
    /// The records, with the numbers of their databases between them.
    pub records: Vec<u8>,
    /// Where each key stood in the file.
    pub offsets: Vec<u64>,
    /// How they meet the keyspace.
    pub rules: LoadRules,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordsLoaded {
    /// Whose it was.
    pub shard: ShardId,
    /// Keys that are there now.
    pub keys: u64,
    /// Keys that were left out, for they had expired.
    pub expired: u64,
    /// Keys that were left out, for their collection is empty.
    pub empty: u64,
    /// The fault at which it ended.
    pub result: Result<(), BadRecord>,
}

/// A record that cannot be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// Where it is in the file.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its value.
    Value(Error),
    /// There is a key of this name in this database.
    Duplicate(Vec<u8>, usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(error) => error.fmt(f),
            Self::Duplicate(key, database) => {
                write!(f, "RDB has duplicated key '{}' in DB {database}", key.escape_ascii())
            }
        }
    }
}

/// Batches that are to be loaded.
#[derive(Default)]
pub(super) struct Loading {
    batches: VecDeque<LoadBatch>,
    current: Option<Current>,
}

/// A batch under way.
struct Current {
    reader: FileReader,
    offsets: Vec<u64>,
    rules: LoadRules,
    database: usize,
    /// Keys that were read and are not in the keyspace yet.
    window: Vec<FoundKey>,
    /// Keys that a slot of the database will have, about.
    slot_keys: usize,
    /// Keys that were read before, whatever became of them.
    read: usize,
    keys: u64,
    expired: u64,
    empty: u64,
}

/// How far a batch is after a step.
#[derive(PartialEq, Eq)]
enum Step {
    Going,
    Over,
}

impl Loading {
    fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.current.is_none()
    }

    /// Goes on until a batch is over, or there is none, or the time is.
    fn slice(
        &mut self,
        (shard, keyspace): (ShardId, &mut Keyspace),
        limits: Limits,
        budget: &mut Budget,
    ) -> Option<RecordsLoaded> {
        if self.current.is_none() {
            self.current = Some(Current::new(self.batches.pop_front()?, limits));
        }
        let current = self.current.as_mut()?;
        while !budget.is_spent() {
            budget.spend(STEP_COST);
            let result = match current.step(keyspace) {
                Ok(Step::Going) => continue,
                Ok(Step::Over) => current.load_window(keyspace),
                // What comes before the fault is there, unless it has one itself.
                Err(fault) => current.load_window(keyspace).and(Err(fault)),
            };
            let result = result.map_err(|fault| BadRecord { offset: current.offset(), fault });
            let Current { keys, expired, empty, .. } = self.current.take()?;
            return Some(RecordsLoaded { shard, keys, expired, empty, result });
        }
        None
    }
}

impl Current {
    fn new(batch: LoadBatch, limits: Limits) -> Self {
        let LoadBatch { version, records, offsets, rules } = batch;
        let reader = FileReader::of_records(records, version, limits);
        let (window, slot_keys) = (Vec::with_capacity(WINDOW_KEYS), 0);
        let (database, read, keys, expired, empty) = (0, 0, 0, 0, 0);
        Self { reader, offsets, rules, database, window, slot_keys, read, keys, expired, empty }
    }

    /// Where the record under way is in the file.
    fn offset(&self) -> u64 {
        self.offsets.get(self.read).or(self.offsets.last()).copied().unwrap_or(0)
    }

    fn step(&mut self, keyspace: &mut Keyspace) -> Result<Step, Fault> {
        match self.reader.find(ELEMENTS_PER_STEP).map_err(Fault::Value)? {
            Found::Key(key) => {
                self.window.push(key);
                if self.window.len() == WINDOW_KEYS {
                    self.load_window(keyspace)?;
                }
            }
            Found::EmptyKey(key) => {
                self.load_window(keyspace)?;
                if self.empty < EMPTY_KEYS_LOGGED_MAX {
                    let key = key.escape_ascii();
                    tracing::info!("loading skips the empty key '{key}'");
                }
                self.empty += 1;
                self.read += 1;
            }
            Found::Database(number) => {
                self.load_window(keyspace)?;
                self.database = number as usize;
            }
            Found::Sizes { keys, .. } => self.slot_keys = (keys / SLOT_COUNT as u64) as usize,
            Found::NeedsMore if self.reader.unread().is_empty() => return Ok(Step::Over),
            // Its border was found elsewhere, but it is inconsistent within.
            Found::NeedsMore => return Err(Fault::Value(Error::Truncated)),
            Found::Progress | Found::Aux { .. } | Found::Function(_) => {}
            Found::End => return Ok(Step::Over),
        }
        Ok(Step::Going)
    }

    /// Puts what was read into the keyspace.
    fn load_window(&mut self, keyspace: &mut Keyspace) -> Result<(), Fault> {
        if self.window.is_empty() {
            return Ok(());
        }
        let mut window = std::mem::take(&mut self.window);
        let database = &mut keyspace[self.database];
        let keys: Vec<Key<'_>> = window.iter().map(|found| Key::new(&found.key)).collect();
        keys.iter().for_each(|key| database.prefetch_slot(key));
        keys.iter().for_each(|key| database.prefetch_bucket(key));
        let places: Vec<_> = keys.iter().map(|key| (key.hash, key.slot)).collect();
        for (found, place) in window.drain(..).zip(places) {
            self.load(found, place, database)?;
            self.read += 1;
        }
        self.window = window;
        Ok(())
    }

    fn load(
        &mut self,
        found: FoundKey,
        (hash, slot): (u64, Slot),
        database: &mut Database,
    ) -> Result<(), Fault> {
        let FoundKey { key, value, expiry, usage } = found;
        let limit = self.rules.drops_expired_before;
        if limit.zip(expiry).is_some_and(|(limit, expiry)| expiry < limit) {
            self.expired += 1;
            return Ok(());
        }
        let loaded = Loaded { value, expiry, usage };
        database.make_room(slot, self.slot_keys);
        if !database.load(&Key { bytes: &key, hash, slot }, loaded, self.rules.merges) {
            return Err(Fault::Duplicate(key, self.database));
        }
        self.keys += 1;
        Ok(())
    }
}

impl Shard {
    /// The control core has records of ours.
    pub(super) fn on_load_records(&mut self, batch: LoadBatch) {
        self.loading.batches.push_back(batch);
    }

    /// Decodes and inserts for a while; true if more is to be done at once.
    pub(super) fn load_slice(&mut self) -> bool {
        if self.loading.is_idle() {
            return false;
        }
        let mut limits = Limits::new(&self.engine.config);
        if let Some(bytes) = self.engine.keyspace.switches.list_plain_bytes_min {
            limits.list = limits.list.with_plain_bytes_min(bytes);
        }
        let mut budget = Budget::new(SLICE_TIME);
        loop {
            let place = (self.id(), &mut self.engine.keyspace);
            let Some(loaded) = self.loading.slice(place, limits, &mut budget) else { break };
            self.send(self.control_core(), Message::RecordsLoaded(Box::new(loaded)));
        }
        !self.loading.is_idle()
    }
}

#[cfg(test)]
mod tests;
