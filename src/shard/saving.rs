//! This shard's part of a snapshot, and standing still for the control core.
//!
//! A snapshot begins at a moment when all shards stand still: the control core has one of them coordinate that
//! ([`Message::HoldAll`]), and when all are held, it has each mark its keys and lets them go on. From
//! there on the keyspace knows what is unsaved ([`crate::keyspace::snapshot`]); slices between the turns walk
//! through it, and records go to the control core in chunks.
//!
//! Promise: at most [`CHUNKS_UNDER_WAY_MAX`] chunks are on their way or waiting for the disk, beside what
//! writers had to save before the walk came to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::message::{ControlRequest, HoldNumber, Message, SnapshotNews, SnapshotOrder};
use super::transactions::Work;
use crate::clock::Ticks;
use crate::command::{CommandId, CommandTable};
use crate::config::values::MaxmemoryPolicy;
use crate::keyspace::Budget;
use crate::keyspace::snapshot::{Recording, UsageWanted};
use crate::persistence::rdb::Compression;
use crate::persistence::snapshot::Sizes;
use crate::reactor::ConnId;
use crate::slot::Slot;
use crate::transaction::TxId;

/// Chunks on their way to where the snapshot goes.
const CHUNKS_UNDER_WAY_MAX: usize = 8;
/// A slice of the walk takes at most one part in so many of the time since the one before, so that clients
/// keep most of a busy core,
const SHARE: u64 = 8;
/// but so long at least: an idle core does little else then,
const SLICE_TIME_MIN: Duration = Duration::from_micros(25);
/// and so long at most, as other work between turns.
const SLICE_TIME_MAX: Duration = Duration::from_micros(200);

/// See the module.
#[derive(Default)]
pub(super) struct Saving {
    /// Who stands still for the control core.
    holds: HashMap<HoldNumber, TxId, ahash::RandomState>,
    /// There is a snapshot whose end has not been told.
    is_under_way: bool,
    chunks_under_way: usize,
    last_slice: Option<Ticks>,
    /// Changes that the process knows of.
    told_changes: u64,
}

impl Shard {
    /// The control core wants all shards to stand still.
    pub(super) fn on_hold_all(&mut self, number: HoldNumber) {
        self.start_exclusive(Work::Hold(number));
    }

    /// All shards stand still for the control core.
    pub(super) fn held(&mut self, tx: TxId, number: HoldNumber) {
        self.saving.holds.insert(number, tx);
        if self.engine.journal.has_parcel() {
            self.stamp_parcel();
        }
        // What was done before is stamped before, what is done from now on after it.
        let stamp = self.process.stamp();
        self.send(self.control_core(), Message::Held(number, stamp));
    }

    /// All shards may go on.
    pub(super) fn on_release_all(&mut self, number: HoldNumber) {
        let tx = self.saving.holds.remove(&number).expect("who is held is released once");
        self.end_stand_still(tx);
        self.release(tx);
    }

    /// FLUSHALL has emptied all databases: tells the control core if that matters to a snapshot, and then
    /// leaves the answer to it.
    pub(super) fn tells_of_flush(&mut self, conn: ConnId, id: CommandId) -> bool {
        let is_flush = CommandTable::get().command(id).name == "flushall";
        if !is_flush || (self.engine.config.save.is_empty() && !self.saving.is_under_way) {
            return false;
        }
        let in_script = self.scripts.awaited.as_ref().is_some_and(|awaited| awaited.conn == conn);
        let waits = !in_script && !self.runs.contains_key(&conn);
        self.ask_control(conn, ControlRequest::Flushed { waits });
        true
    }

    /// The control core says how a snapshot goes on.
    pub(super) fn on_snapshot_order(&mut self, order: SnapshotOrder) {
        match order {
            SnapshotOrder::Begin(ranges) => self.begin_snapshot(ranges),
            SnapshotOrder::Taken => self.saving.chunks_under_way -= 1,
            SnapshotOrder::Abandon => self.engine.keyspace.abandon_snapshot(),
        }
    }

    fn begin_snapshot(&mut self, ranges: Option<Arc<[(Slot, Slot)]>>) {
        let config = &self.engine.config;
        let usage = match config.maxmemory_policy {
            MaxmemoryPolicy::AllkeysLru | MaxmemoryPolicy::VolatileLru => UsageWanted::Idle,
            policy if policy.is_lfu() => UsageWanted::Frequency,
            _ => UsageWanted::Nothing,
        };
        let compression =
            if config.rdbcompression { Compression::BRIEF } else { Compression::NONE };
        let databases = self.engine.keyspace.databases().iter();
        let sizes = databases
            .map(|db| Sizes { keys: db.len() as u64, expiring: db.expiring() as u64 })
            .collect();
        self.engine.keyspace.mark_snapshot(&Recording { compression, usage, ranges });
        self.saving.is_under_way = true;
        self.saving.last_slice = None;
        let changes = self.engine.changes.dirty;
        self.tell_of_snapshot(SnapshotNews::Begun { sizes, changes });
    }

    fn tell_of_snapshot(&mut self, news: SnapshotNews) {
        self.send(self.control_core(), Message::Snapshot(Box::new((self.id(), news))));
    }

    /// Walks on, and sends the records that are there; true if more is to be done at once.
    pub(super) fn save_slice(&mut self) -> bool {
        if !self.saving.is_under_way || self.saving.chunks_under_way >= CHUNKS_UNDER_WAY_MAX {
            return false;
        }
        let mut budget = Budget::new(self.slice_time());
        let more = self.engine.keyspace.save_slice(&mut budget);
        self.saving.last_slice = Some(Ticks::now());
        if more {
            return true;
        }
        for records in self.engine.keyspace.take_records() {
            self.saving.chunks_under_way += 1;
            self.tell_of_snapshot(SnapshotNews::Records(records));
        }
        if !self.engine.keyspace.is_saving() {
            self.saving.is_under_way = false;
            self.tell_of_snapshot(SnapshotNews::Ended);
            return false;
        }
        true
    }

    fn slice_time(&self) -> Duration {
        let Some(last) = self.saving.last_slice else { return SLICE_TIME_MIN };
        let passed = self.engine.nanos(Ticks::now().since(last));
        Duration::from_nanos(passed / SHARE).clamp(SLICE_TIME_MIN, SLICE_TIME_MAX)
    }

    /// Tells the process how much has changed since it was told last: save points go by that.
    #[inline]
    pub(super) fn tell_changes(&mut self) {
        let changes = self.engine.changes.dirty;
        if changes != self.saving.told_changes {
            self.process.add_changes(self.id(), changes.wrapping_sub(self.saving.told_changes));
            self.saving.told_changes = changes;
        }
    }
}
