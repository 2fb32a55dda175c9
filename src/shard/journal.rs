//! Effects on their way from this shard, and replies that wait until they are on the disk.
//!
//! A parcel leaves before any message to another shard that follows from it, and at the end of the turn
//! before any reply ([`crate::journal`] says why).
//!
//! With `appendfsync always`, no reply leaves before everything that was stamped until the end of its turn is on
//! the disk, by whichever shard: the reply may tell of it. Connections whose replies wait do not run on, so one
//! wait covers all that they have said.

use std::sync::atomic::Ordering;

use super::Shard;
use super::message::Message;
use crate::config::values::AppendFsync;
use crate::journal::Stamp;
use crate::reactor::Action;
use crate::session::Hold;

/// Effects of all shards that may be on their way, in bytes, before those who write have to wait.
pub const EFFECT_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Shard {
    /// Sends off what was recorded.
    #[cold]
    pub(super) fn send_parcel(&mut self) {
        let stamp = self.process.stamp();
        self.send_stamped_parcel(stamp);
    }

    /// Sends off what was recorded, under a stamp that was taken just now: from then on others may wait for
    /// this parcel, so nothing may come in between.
    pub(super) fn send_stamped_parcel(&mut self, stamp: Stamp) {
        let control = self.control_core();
        let parcel = self.engine.journal.take_parcel(stamp);
        let bytes = parcel.bytes.len();
        self.process.effects_under_way.fetch_add(bytes, Ordering::SeqCst);
        self.ports.to[control].send(Message::Effects(Box::new(parcel)));
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
        self.awaits_disk = config.appendonly && config.appendfsync == AppendFsync::Always;
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
