//! A snapshot of the keyspace at one moment, while it goes on changing.
//!
//! Every entry carries one bit: the parity of the epoch in which it was last written or saved. The mark begins
//! a new epoch, so from then on every entry with the other parity is unsaved. A walk goes through
//! the slots and saves what is unsaved; and whoever wants to change an entry, or take it out, saves it before if
//! it is unsaved. Nothing is copied but what is written to the snapshot anyway, and each entry is written
//! once. While there is no snapshot, all entries are of one epoch, and a write pays for a comparison
//! with a byte that it has read already.
//!
//! What leaves the shard on loan is saved before it goes, so a snapshot never has to ask where an entry is. A
//! database that is emptied leaves its tables to the walk, and one that is exchanged with another takes
//! its walk along.
//!
//! Promise: the records of a snapshot are the entries at the mark, each once; see the test.

use std::sync::Arc;

use super::Keyspace;
use super::access::AccessClock;
use super::budget::{Budget, ELEMENTS_PER_LOOK};
use super::database::{Database, ScanCursor};
use super::entry::Entry;
use super::key::Key;
use super::slot_table::SlotTable;
use super::value::ValueRef;
use crate::persistence::rdb::encode::type_code;
use crate::persistence::rdb::write_file::{KeyHead, Usage, write_key_head};
use crate::persistence::rdb::{Compression, ValueEncoder};
use crate::slot::{Slot, slot_of};

/// Bytes of records that a walk leaves behind before it waits for somebody to take them.
pub const RECORD_BYTES_MAX: usize = 128 << 10;
/// Values of more elements are written in steps.
const ELEMENTS_AT_ONCE_MAX: usize = 128;
/// Strings of more bytes are written in steps.
const BYTES_AT_ONCE_MAX: usize = 16 << 10;
/// Elements of a large value that are written between two looks at the clock. Of a list these are
/// nodes of 8 KiB.
const ELEMENTS_PER_STEP: usize = 16;
/// Written bytes that cost as much time as freeing an element.
const BYTES_PER_ELEMENT: usize = 32;

/// What a record tells about how a key was used; `maxmemory-policy` decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UsageWanted {
    /// Nothing.
    #[default]
    Nothing,
    /// How long ago it was used.
    Idle,
    /// How often it is used.
    Frequency,
}

/// How records are written.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How texts are compressed.
    pub compression: Compression,
    /// What is told of usage.
    pub usage: UsageWanted,
    /// Only keys of these slots are recorded, if there are some: from the first to the last of each range.
    pub ranges: Option<Arc<[(Slot, Slot)]>>,
}

impl Recording {
    fn wants(&self, slot: Slot) -> bool {
        let has = |(first, last): &(Slot, Slot)| (*first..=*last).contains(&slot);
        self.ranges.as_ref().is_none_or(|ranges| ranges.iter().any(has))
    }

    fn wants_entry(&self, entry: &Entry) -> bool {
        self.ranges.is_none() || self.wants(slot_of(entry.key()))
    }
}

/// Records of a snapshot, whole ones, in the format of RDB files.
#[derive(Debug, PartialEq, Eq)]
pub struct Records {
    /// The number that their database had at the mark.
    pub database: usize,
    /// How many there are.
    pub keys: u64,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

/// What a database knows of snapshots.
#[derive(Default)]
pub(super) struct Saving {
    epoch: bool,
    walk: Option<Box<Walk>>,
    /// The tables that were the database's at the mark, if it was emptied since: the walk goes on in them.
    cleared: Option<Cleared>,
}

struct Cleared {
    slots: Box<[SlotTable]>,
    keys: usize,
}

/// A snapshot of a database under way.
struct Walk {
    /// The number of the database at the mark.
    database: usize,
    /// `None`: nobody wants the records any more, and the walk only brings all entries into the epoch.
    recording: Option<Recording>,
    /// Where it goes on; `None` at the end of the tables.
    cursor: Option<ScanCursor>,
    half: Option<Half>,
    records: Vec<u8>,
    keys: u64,
}

/// A large value that is written in part.
struct Half {
    key: Box<[u8]>,
    encoder: ValueEncoder,
    /// The record as far as it is written: between other records there may be no parts of one.
    record: Vec<u8>,
}

impl Saving {
    /// The epoch of what is written now.
    #[inline]
    pub(super) fn epoch(&self) -> bool {
        self.epoch
    }

    /// Whether entries may be unsaved.
    pub(super) fn is_active(&self) -> bool {
        self.walk.is_some()
    }

    /// To be called before an entry of the database is changed, and when it has been taken out.
    #[inline]
    pub(super) fn before_change(&mut self, entry: &Entry, access: &AccessClock) {
        if entry.epoch() != self.epoch {
            self.save(entry, access);
        }
    }

    #[cold]
    fn save(&mut self, entry: &Entry, access: &AccessClock) {
        entry.set_epoch(self.epoch);
        if let Some(walk) = &mut self.walk {
            walk.record(entry, access);
        }
    }

    /// The database is emptied: takes its tables if there may be something unsaved in them that is
    /// wanted. Otherwise they come back.
    pub(super) fn keep_cleared(
        &mut self,
        slots: Box<[SlotTable]>,
        keys: usize,
    ) -> Option<(Box<[SlotTable]>, usize)> {
        let Some(walk) = self.walk.as_mut().filter(|_| self.cleared.is_none()) else {
            return Some((slots, keys));
        };
        if walk.recording.is_none() {
            walk.cursor = None;
        }
        if walk.cursor.is_none() && walk.half.is_none() {
            return Some((slots, keys));
        }
        self.cleared = Some(Cleared { slots, keys });
        None
    }
}

impl Walk {
    fn is_over(&self) -> bool {
        self.cursor.is_none() && self.half.is_none()
    }

    /// Writes the record of an entry, the whole of it or what is left.
    fn record(&mut self, entry: &Entry, access: &AccessClock) {
        let Some(recording) = self.recording.as_ref() else { return };
        if !recording.wants_entry(entry) {
            return;
        }
        self.keys += 1;
        match self.half.take_if(|half| *half.key == *entry.key()) {
            Some(mut half) => {
                half.encoder.slice(&entry.value(), usize::MAX, &mut half.record);
                self.records.append(&mut half.record);
            }
            None => {
                write_head(entry, recording, access, &mut self.records);
                let mut encoder = ValueEncoder::new(recording.compression);
                encoder.slice(&entry.value(), usize::MAX, &mut self.records);
            }
        }
    }

    /// Goes on with the value that is half written.
    fn go_on_with_half(&mut self, tables: &[SlotTable], epoch: bool, budget: &mut Budget) {
        let Some(mut half) = self.half.take() else { return };
        let key = Key::new(&half.key);
        // Who takes an entry out has its record finished, so it is there.
        let Some(entry) = tables.get(key.slot.index()).and_then(|table| table.find(&key)) else {
            return;
        };
        while !budget.is_spent() {
            budget.spend(ELEMENTS_PER_LOOK);
            if half.encoder.slice(&entry.value(), ELEMENTS_PER_STEP, &mut half.record) {
                entry.set_epoch(epoch);
                self.records.append(&mut half.record);
                self.keys += 1;
                return;
            }
        }
        self.half = Some(half);
    }

    /// Saves what is unsaved in the segment that `position` leads to; where to go on.
    fn visit_segment(
        &mut self,
        table: &SlotTable,
        position: u64,
        (epoch, access): (bool, &AccessClock),
        budget: &mut Budget,
    ) -> Option<u64> {
        table.visit_segment(position, |entry| {
            if entry.epoch() == epoch {
                return true;
            }
            let is_wanted = |recording: &Recording| recording.wants_entry(entry);
            if is_large(entry)
                && let Some(recording) = self.recording.clone().filter(is_wanted)
            {
                let mut record = Vec::new();
                write_head(entry, &recording, access, &mut record);
                let (key, encoder) = (entry.key().into(), ValueEncoder::new(recording.compression));
                self.half = Some(Half { key, encoder, record });
                return false;
            }
            let before = self.records.len();
            entry.set_epoch(epoch);
            self.record(entry, access);
            budget.spend(1 + (self.records.len() - before) / BYTES_PER_ELEMENT);
            !budget.is_spent() && self.records.len() < RECORD_BYTES_MAX
        })
    }
}

fn write_head(entry: &Entry, recording: &Recording, access: &AccessClock, out: &mut Vec<u8>) {
    let usage = match recording.usage {
        UsageWanted::Nothing => None,
        UsageWanted::Idle => Some(Usage::Idle(access.idle_seconds(entry.clock()).into())),
        UsageWanted::Frequency => Some(Usage::Frequency(access.frequency(entry.clock()))),
    };
    let (key, code, expiry) = (entry.key(), type_code(&entry.value()), entry.expiry());
    write_key_head(&KeyHead { key, code, expiry, usage }, recording.compression, out);
}

fn is_large(entry: &Entry) -> bool {
    match entry.value() {
        ValueRef::Str(text) => text.len() > BYTES_AT_ONCE_MAX,
        ValueRef::List(list) => list.nodes().len() > 1,
        ValueRef::Set(set) => set.len() > ELEMENTS_AT_ONCE_MAX,
        ValueRef::Hash(hash) => hash.len() > ELEMENTS_AT_ONCE_MAX,
        ValueRef::ZSet(zset) => zset.len() > ELEMENTS_AT_ONCE_MAX,
        ValueRef::Stream(stream) => stream.parts() > 1,
    }
}

/// The first slot from `slot` on with something in it.
fn populated(tables: &[SlotTable], slot: Slot) -> Option<Slot> {
    let found = tables.iter().skip(slot.index()).position(|table| !table.is_empty())?;
    Slot::new((slot.index() + found) as u16)
}

impl Database {
    /// Begins a snapshot: it will hold what the database holds now.
    fn mark(&mut self, number: usize, recording: Recording) {
        assert!(!self.saving.is_active(), "one snapshot begins when the one before is over");
        self.saving.epoch = !self.saving.epoch;
        self.saving.walk = (!self.is_empty()).then(|| {
            Box::new(Walk {
                database: number,
                recording: Some(recording),
                cursor: Slot::new(0).map(ScanCursor::at_slot),
                half: None,
                records: Vec::new(),
                keys: 0,
            })
        });
    }

    /// Nobody wants the snapshot any more.
    fn abandon_snapshot(&mut self) {
        let Some(walk) = &mut self.saving.walk else { return };
        (walk.recording, walk.half, walk.keys, walk.records) = (None, None, 0, Vec::new());
        if let Some(Cleared { slots, keys }) = self.saving.cleared.take() {
            walk.cursor = None;
            self.garbage.put_slots(slots, keys);
        }
    }

    /// Walks on; true if there is more to do, and room for its records.
    fn save_slice(&mut self, budget: &mut Budget) -> bool {
        let Self { slots, index, saving, access, garbage, .. } = self;
        let Saving { epoch, walk: Some(walk), cleared } = saving else { return false };
        let tables = cleared.as_ref().map_or(&**slots, |cleared| &*cleared.slots);
        while !budget.is_spent() && walk.records.len() < RECORD_BYTES_MAX {
            if walk.half.is_some() {
                walk.go_on_with_half(tables, *epoch, budget);
                continue;
            }
            let Some(cursor) = walk.cursor else { break };
            budget.spend(1);
            let slot = match cleared {
                Some(_) => populated(tables, cursor.slot),
                None => index.at_or_after(cursor.slot),
            };
            walk.cursor = slot.and_then(|slot| {
                let position = if slot == cursor.slot { cursor.position } else { 0 };
                let table = &tables[slot.index()];
                match walk.visit_segment(table, position, (*epoch, access), budget) {
                    Some(position) => Some(ScanCursor { slot, position }),
                    None => Slot::new(slot.get() + 1).map(ScanCursor::at_slot),
                }
            });
        }
        let more = !walk.is_over() && walk.records.len() < RECORD_BYTES_MAX;
        if walk.is_over()
            && let Some(Cleared { slots, keys }) = cleared.take()
        {
            garbage.put_slots(slots, keys);
        }
        more
    }

    /// Takes the records that are there, and ends the walk if it is over.
    fn take_records(&mut self) -> Option<Records> {
        let walk = self.saving.walk.as_mut()?;
        let (database, keys) = (walk.database, std::mem::take(&mut walk.keys));
        let bytes = std::mem::take(&mut walk.records);
        if walk.is_over() {
            self.saving.walk = None;
        }
        (!bytes.is_empty()).then_some(Records { database, keys, bytes })
    }
}

impl Keyspace {
    /// Begins a snapshot of all databases. None may be under way.
    pub fn mark_snapshot(&mut self, recording: &Recording) {
        for (number, database) in self.databases.iter_mut().enumerate() {
            database.mark(number, recording.clone());
        }
        self.saving = true;
    }

    /// Whether a snapshot is under way, an abandoned one included.
    #[inline]
    pub fn is_saving(&self) -> bool {
        self.saving
    }

    /// Goes on without keeping records: nobody wants them any more.
    pub fn abandon_snapshot(&mut self) {
        self.databases.iter_mut().for_each(Database::abandon_snapshot);
    }

    /// Walks on; true if there is more to do before somebody takes records.
    pub fn save_slice(&mut self, budget: &mut Budget) -> bool {
        // One database after the other: a file that goes back and forth between them would be longer.
        for database in &mut self.databases {
            if database.save_slice(budget) {
                return true;
            }
            if database.saving.walk.as_ref().is_some_and(|walk| !walk.is_over()) {
                return false;
            }
        }
        false
    }

    /// Takes the records that are there. When there are none and the walk is over, the snapshot is:
    /// [`Keyspace::is_saving`] says so.
    pub fn take_records(&mut self) -> Vec<Records> {
        let records = self.databases.iter_mut().filter_map(Database::take_records).collect();
        self.saving = self.databases.iter().any(|database| database.saving.is_active());
        records
    }

    /// Bytes of records that nobody has taken yet.
    pub fn record_bytes(&self) -> usize {
        let walks = self.databases.iter().filter_map(|database| database.saving.walk.as_ref());
        walks.map(|walk| walk.records.len()).sum()
    }
}

#[cfg(test)]
mod tests;
