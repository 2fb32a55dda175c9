//! Effects on their way from this shard, and replies that wait until they are on the disk.
//!
//! What was recorded is stamped before any message to another shard that follows from it, and at the end of the
//! turn before any reply ([`crate::journal`] says why). It is sent at once if somebody waits for it. If it is only
//! for a disk that has a second ([`AppendFsync::Everysec`]), it stays in an outbox for a moment: waking the control core
//! in every turn cost half as much CPU as the SETs themselves.
//!
//! With `appendfsync always`, no reply leaves before everything that was stamped until the end of its turn is on
//! the disk, by whichever shard: the reply may tell of it. Connections whose replies wait do not run on, so one
//! wait covers all that they have said.
//!
//! Promise: what is stamped is sent within [`OUTBOX_TIME`] of the end of its turn, and before anything else that
//! this shard tells the control core.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shard;
use super::message::Message;
use crate::config::values::AppendFsync;
use crate::journal::{Audience, Parcel, Recorder, Stamp};
use crate::reactor::Action;
use crate::session::Hold;

/// Effects of all shards that may be on their way, in bytes, before those who write have to wait.
pub const EFFECT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long effects may wait in an outbox.
pub const OUTBOX_TIME: Duration = Duration::from_millis(5);
/// Bytes that it takes until it is sent early.
const OUTBOX_BYTES: usize = 256 * 1024;

/// Effects that are stamped and have not left.
#[derive(Default)]
pub(super) struct Outbox {
    /// May effects wait here? Not if somebody waits for them.
    takes_time: bool,
    parcels: Vec<Parcel>,
    bytes: usize,
    /// When they have to leave, once a turn has ended with them here.
    deadline: Option<Instant>,
}

impl Outbox {
    /// Whether all has left.
    pub(super) fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// When what is here has to leave.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes what was recorded; other shards may have taken stamps since the last time.
    fn take(&mut self, journal: &mut Recorder, stamp: Stamp) {
        match self.parcels.last_mut().filter(|last| last.stamp.0 + 1 == stamp.0) {
            Some(last) => {
                let before = last.bytes.len();
                journal.extend_parcel(last, stamp);
                self.bytes += last.bytes.len() - before;
            }
            None => {
                let parcel = journal.take_parcel(stamp);
                self.bytes += parcel.bytes.len();
                self.parcels.push(parcel);
            }
        }
    }
}

impl Shard {
    /// Gives what was recorded its place in the journal.
    pub(super) fn stamp_parcel(&mut self) {
        let stamp = self.process.stamp();
        self.put_into_outbox(stamp);
    }

    /// As [`Shard::stamp_parcel`], with a stamp that was taken just now: others wait for it from then on.
    pub(super) fn put_into_outbox(&mut self, stamp: Stamp) {
        self.outbox.take(&mut self.engine.journal, stamp);
    }

    /// Sends what was stamped.
    pub(super) fn send_parcels(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let control = self.control_core();
        self.outbox.deadline = None;
        let bytes = std::mem::take(&mut self.outbox.bytes);
        self.process.effects_under_way.fetch_add(bytes, Ordering::SeqCst);
        for parcel in self.outbox.parcels.drain(..) {
            self.ports.to[control].send(Message::Effects(Box::new(parcel)));
        }
    }

    /// At the end of a turn: sends what was stamped, unless it may wait.
    pub(super) fn send_parcels_if_due(&mut self, now: Instant) {
        if self.outbox.is_empty() {
            return;
        }
        let deadline = *self.outbox.deadline.get_or_insert(now + OUTBOX_TIME);
        let may_wait = self.outbox.takes_time
            && now < deadline
            && self.outbox.bytes < OUTBOX_BYTES
            // Who stands still may do so for the control core, which waits for what was stamped before.
            && !self.engine.locks.is_all_wanted()
            && !self.engine.records_for(Audience::REPLICAS);
        if !may_wait {
            self.send_parcels();
        }
    }

    /// Whether those who write have to wait for the control core; they will be told when it is over.
    #[inline]
    pub(super) fn is_journal_full(&self) -> bool {
        self.engine.journal.is_on() && self.is_too_much_under_way()
    }

    fn is_too_much_under_way(&self) -> bool {
        let is_too_much =
            || self.process.effects_under_way.load(Ordering::SeqCst) > EFFECT_BYTES_MAX;
        if !is_too_much() {
            return false;
        }
        // Looked at again after the wish is known: the control core may have looked in between.
        self.process.awaits_effects.store(true, Ordering::SeqCst);
        is_too_much()
    }

    /// Up to which stamp everything has to be on the disk before the replies of this turn may leave.
    pub(super) fn gate(&self) -> Option<Stamp> {
        if !self.awaits_disk {
            return None;
        }
        Some(self.process.last_stamp()).filter(|last| *last > self.durable)
    }

    /// Takes over what the settings say of the disk.
    pub(super) fn journal_settings_changed(&mut self) {
        let config = &self.engine.config;
        let always = config.appendfsync == AppendFsync::Always;
        self.awaits_disk = config.appendonly && always;
        self.outbox.takes_time = config.appendonly && !always;
        if !self.awaits_disk {
            self.open_gates(None);
        }
    }

    /// Everything up to `stamp` is on the disk.
    pub(super) fn on_durable(&mut self, stamp: Stamp) {
        self.durable = self.durable.max(stamp);
        self.open_gates(Some(self.durable));
    }

    /// Lets those go on whose replies waited for stamps up to `durable`, or all.
    fn open_gates(&mut self, durable: Option<Stamp>) {
        let mut gated = std::mem::take(&mut self.gated);
        gated.retain(|conn| {
            let Some(session) = self.sessions.get_mut(*conn) else { return false };
            if session.gate.zip(durable).is_some_and(|(gate, durable)| gate > durable) {
                return true;
            }
            session.gate = None;
            if session.hold == Hold::Disk {
                self.ungated.push(*conn);
            }
            self.actions.push(Action::Send(*conn));
            false
        });
        debug_assert!(self.gated.is_empty(), "nobody is held meanwhile");
        self.gated = gated;
    }

    /// At the end of a turn: connections whose replies leave with it run on in the next. What they ran in this
    /// one would be answered together with what is on the disk.
    pub(super) fn resume_ungated(&mut self) {
        for conn in self.ungated.drain(..) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.hold == Hold::Disk
                && session.gate.is_none()
            {
                session.hold = Hold::None;
                self.resumable.push_back(conn);
            }
        }
    }
}
