//! Slots as an operator gives and takes them: ADDSLOTS, DELSLOTS, FLUSHSLOTS and SETSLOT.

use super::command::parse_slot;
use super::machine::Cluster;
use super::outgoing::Audience;
use super::ownership::OpenSlot;
use super::refusal::Refusal;
use super::slot_set::SlotSet;
use super::table::{ME, NodeKey};
use crate::slot::Slot;

impl Cluster {
    /// Whether nobody owns the slot.
    pub(super) fn is_free(&self, slot: Slot) -> Result<(), Refusal> {
        self.slots.owner(slot).map_or(Ok(()), |_| Err(Refusal::SlotBusy(slot)))
    }

    /// Whether somebody does.
    pub(super) fn is_owned(&self, slot: Slot) -> Result<(), Refusal> {
        self.slots.owner(slot).map(|_| ()).ok_or(Refusal::SlotUnassigned(slot))
    }

    /// ADDSLOTS: what nobody owns is this node's.
    pub(super) fn add_slots(&mut self, slots: &SlotSet) {
        slots.iter().for_each(|slot| self.stop_importing(slot));
        self.assign_all(slots, ME);
    }

    /// DELSLOTS: this node forgets who owns them.
    pub(super) fn del_slots(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            self.stop_importing(slot);
            self.unassign(slot);
        }
    }

    fn stop_importing(&mut self, slot: Slot) {
        if self.slots.importing_from(slot).is_some() {
            self.slots.close(slot);
            self.topology_changed();
        }
    }

    /// FLUSHSLOTS: this node owns nothing.
    pub(super) fn flush_slots(&mut self, kept: &SlotSet) -> Result<(), Refusal> {
        if !kept.is_empty() {
            return Err(Refusal::FlushWithKeys);
        }
        self.give_up_slots(ME);
        self.topology_changed();
        Ok(())
    }

    /// SETSLOT: the steps by which a slot goes from one node to another.
    pub(super) fn set_slot(&mut self, words: &[Vec<u8>], kept: &SlotSet) -> Result<(), Refusal> {
        if self.nodes[ME].is_replica() {
            return Err(Refusal::SetSlotOnReplica);
        }
        let [slot, action, rest @ ..] = words else { return Err(Refusal::BadSetSlot) };
        let slot = parse_slot(slot)?;
        match (action.to_ascii_lowercase().as_slice(), rest) {
            (b"migrating", [node]) => self.start_migrating(slot, node)?,
            (b"importing", [node]) => self.start_importing(slot, node)?,
            (b"stable", []) => self.slots.close(slot),
            (b"node", [node]) => self.give_slot(slot, node, kept.contains(slot))?,
            _ => return Err(Refusal::BadSetSlot),
        }
        self.topology_changed();
        Ok(())
    }

    fn start_migrating(&mut self, slot: Slot, node: &[u8]) -> Result<(), Refusal> {
        if self.slots.owner(slot) != Some(ME) {
            return Err(Refusal::NotOwner(slot));
        }
        let to = self.peer(node, Refusal::UnknownPeer)?;
        self.slots.set_open(slot, OpenSlot::MigratingTo(to));
        Ok(())
    }

    fn start_importing(&mut self, slot: Slot, node: &[u8]) -> Result<(), Refusal> {
        if self.slots.owner(slot) == Some(ME) {
            return Err(Refusal::AlreadyOwner(slot));
        }
        let from = self.peer(node, Refusal::UnknownPeer)?;
        self.unstage(slot);
        self.slots.set_open(slot, OpenSlot::ImportingFrom(from));
        Ok(())
    }

    /// SETSLOT NODE: the end of the way, on either side, or the news of it on a third node.
    fn give_slot(&mut self, slot: Slot, node: &[u8], has_keys: bool) -> Result<(), Refusal> {
        let to = self.peer(node, Refusal::UnknownNode)?;
        let was_mine = self.slots.owner(slot) == Some(ME);
        if was_mine && to != ME && has_keys {
            return Err(Refusal::SlotHasKeys(slot));
        }
        if was_mine && !has_keys {
            self.slots.close(slot);
        }
        self.assign(slot, to);
        if to == ME
            && let Some(from) = self.slots.importing_from(slot)
        {
            // Without asking anybody: two nodes that end the import of one slot at a time would own it both,
            // and the higher epoch settles that.
            self.bump_epoch();
            self.slots.close(slot);
            self.slots.note_taken(slot, from, self.now + self.settings.node_timeout_ms);
            self.broadcast_pong(Audience::All);
        }
        let has_nothing = self.nodes[ME].slots.is_empty();
        if was_mine && to != ME && has_nothing && self.settings.allow_replica_migration {
            self.become_replica_of(to);
            self.save_first();
        }
        Ok(())
    }

    /// The master that an argument names.
    pub(super) fn peer(
        &self,
        word: &[u8],
        unknown: fn(String) -> Refusal,
    ) -> Result<NodeKey, Refusal> {
        let key = self.named_or(word, unknown)?;
        if self.nodes[key].is_replica() { Err(Refusal::TargetIsReplica) } else { Ok(key) }
    }
}
