//! Who owns which slot, and what decides between two that claim one.
//!
//! Promise: a slot is in the set of its owner and in no other set.

use std::collections::BTreeMap;

use super::machine::Cluster;
use super::slot_set::SlotSet;
use super::table::{ME, NodeKey};
use crate::slot::{SLOT_COUNT, Slot};

/// The owners of slots, as this node knows them.
#[derive(Debug)]
pub(super) struct Ownership {
    owners: Box<[Option<NodeKey>; SLOT_COUNT as usize]>,
    /// Slots whose owner does not claim them any more: any claim is better.
    unclaimed: SlotSet,
    /// Slots on their way from or to this node.
    open: BTreeMap<Slot, OpenSlot>,
    /// Slots that this node took from another one lately, and until when what that one has said before does not count.
    taken: BTreeMap<Slot, (NodeKey, u64)>,
}

/// A slot on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpenSlot {
    /// This node owns it and gives it to that one.
    MigratingTo(NodeKey),
    /// This node takes it from that one.
    ImportingFrom(NodeKey),
}

impl Default for Ownership {
    fn default() -> Self {
        Self {
            owners: Box::new([None; SLOT_COUNT as usize]),
            unclaimed: SlotSet::new(),
            open: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }
}

impl Ownership {
    pub(super) fn owner(&self, slot: Slot) -> Option<NodeKey> {
        self.owners[slot.index()]
    }

    /// Whether the owner of the slot has stopped claiming it.
    pub(super) fn is_unclaimed(&self, slot: Slot) -> bool {
        self.unclaimed.contains(slot)
    }

    pub(super) fn importing_from(&self, slot: Slot) -> Option<NodeKey> {
        match self.open.get(&slot) {
            Some(OpenSlot::ImportingFrom(node)) => Some(*node),
            _ => None,
        }
    }

    pub(super) fn is_open(&self, slot: Slot) -> bool {
        self.open.contains_key(&slot)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (Slot, OpenSlot)> + '_ {
        self.open.iter().map(|(slot, open)| (*slot, *open))
    }

    pub(super) fn set_open(&mut self, slot: Slot, open: OpenSlot) {
        self.open.insert(slot, open);
    }

    /// Ends the way of a slot, in either direction.
    pub(super) fn close(&mut self, slot: Slot) {
        self.open.remove(&slot);
    }

    /// This node took a slot over as an operator said. Packets that the old owner sent before may claim it with an epoch
    /// that was not known here when this node chose its own: they must not undo that.
    pub(super) fn note_taken(&mut self, slot: Slot, from: NodeKey, until_ms: u64) {
        self.taken.insert(slot, (from, until_ms));
    }

    pub(super) fn close_all(&mut self) {
        self.taken.clear();
        self.open.clear();
    }

    /// Ends the ways of slots from and to a node.
    pub(super) fn forget_moves(&mut self, node: NodeKey) {
        self.open.retain(|_, open| match *open {
            OpenSlot::MigratingTo(other) | OpenSlot::ImportingFrom(other) => other != node,
        });
        self.taken.retain(|_, (other, _)| *other != node);
    }
}

impl Cluster {
    /// Gives a slot to a node.
    pub(super) fn assign(&mut self, slot: Slot, owner: NodeKey) {
        if self.slots.owner(slot) != Some(owner) {
            self.assign_all(&SlotSet::from_iter([slot]), owner);
        }
    }

    /// Gives slots to a node, which has none of them.
    pub(super) fn assign_all(&mut self, slots: &SlotSet, owner: NodeKey) {
        if slots.is_empty() {
            return;
        }
        slots.iter().for_each(|slot| self.unassign(slot));
        for (first, last) in slots.ranges() {
            self.slots.owners[first.index()..=last.index()].fill(Some(owner));
        }
        let starts_to_serve = self.nodes[owner].slots.is_empty();
        self.nodes[owner].slots.insert_all(slots);
        if owner == ME {
            slots.iter().for_each(|slot| self.unstage(slot));
        }
        // A master that starts to serve among masters with replicas may have some too.
        if starts_to_serve && self.nodes.iter().any(|(_, node)| !node.replicas.is_empty()) {
            self.nodes[owner].wants_replicas = true;
        }
        self.topology_changed();
    }

    /// Takes a slot from its owner, if it has one; with it goes what this node meant to do with it.
    pub(super) fn unassign(&mut self, slot: Slot) {
        let Some(owner) = self.slots.owners[slot.index()].take() else { return };
        self.nodes[owner].slots.remove(slot);
        self.slots.unclaimed.remove(slot);
        if owner == ME {
            self.slots.close(slot); // It cannot be migrating any more.
        }
        self.topology_changed();
    }

    /// Takes all slots from a node.
    pub(super) fn give_up_slots(&mut self, owner: NodeKey) {
        for slot in self.nodes[owner].slots.clone().iter() {
            self.unassign(slot);
        }
    }

    /// `claimant` says, with `epoch`, that it owns `claimed`: higher epochs win.
    pub(super) fn apply_claim(&mut self, claimant: NodeKey, epoch: u64, claimed: &SlotSet) {
        if claimant == ME {
            return;
        }
        let shard = self.shard_master();
        let now = self.now;
        self.slots.taken.retain(|_, (_, until_ms)| *until_ms > now);
        let (mut lost_by_shard, mut lost_by_me) = (0, SlotSet::new());
        let mut won = SlotSet::new();
        for slot in claimed.iter() {
            let owner = self.slots.owner(slot);
            if owner == Some(claimant) {
                self.slots.unclaimed.remove(slot);
            } else if self.claim_wins(slot, claimant, epoch) {
                lost_by_shard += u16::from(owner.is_some() && owner == shard);
                if owner == Some(ME) {
                    lost_by_me.insert(slot);
                }
                won.insert(slot);
            }
        }
        self.assign_all(&won, claimant);
        for slot in self.nodes[claimant].slots.iter() {
            if !claimed.contains(slot) {
                self.slots.unclaimed.insert(slot);
            }
        }
        self.after_losses(claimant, claimed.len(), lost_by_shard, lost_by_me);
    }

    fn claim_wins(&self, slot: Slot, claimant: NodeKey, epoch: u64) -> bool {
        let was_taken = self.slots.taken.get(&slot).is_some_and(|(from, _)| *from == claimant);
        match self.slots.owner(slot) {
            _ if was_taken || self.slots.importing_from(slot).is_some() => false,
            None => true,
            Some(owner) => self.slots.is_unclaimed(slot) || self.nodes[owner].config_epoch < epoch,
        }
    }

    /// A shard that lost everything follows the one who took it; keys of single lost slots go.
    fn after_losses(
        &mut self,
        winner: NodeKey,
        claimed: u16,
        lost_by_shard: u16,
        lost_by_me: SlotSet,
    ) {
        let shard = self.shard_master();
        let has_nothing =
            lost_by_shard > 0 && shard.is_some_and(|shard| self.nodes[shard].slots.is_empty());
        // A winner that owns nothing but what was ours is our shard's new master.
        let follows = self.settings.allow_replica_migration || claimed == lost_by_shard;
        let masters_master = self.nodes[ME].master().and_then(|master| self.nodes[master].master());
        if has_nothing && follows {
            self.become_replica_of(winner);
        } else if let Some(above) = masters_master.filter(|above| *above != ME) {
            // Our master has become a replica: what it copies is what we want.
            self.become_replica_of(above);
        } else {
            self.stage_lost(&lost_by_me);
        }
    }

    /// This node's epoch becomes one that nobody has seen.
    pub(super) fn take_next_epoch(&mut self) {
        self.current_epoch += 1;
        self.nodes[ME].config_epoch = self.current_epoch;
        self.save_first();
        self.todo.slot_map = true;
    }

    /// Raises this node's epoch above all others without asking, unless it is there already. Whether it
    /// was raised.
    pub(super) fn bump_epoch(&mut self) -> bool {
        let highest = self.nodes.iter().map(|(_, node)| node.config_epoch).max().unwrap_or(0);
        let mine = self.nodes[ME].config_epoch;
        let is_raised = mine == 0 || mine != highest.max(self.current_epoch);
        if is_raised {
            self.take_next_epoch();
        }
        is_raised
    }

    /// Keys were found in slots at start. What nobody owns is ours; what others own is to be handed over, unless it
    /// came with a move that has not ended: that goes.
    pub(super) fn on_keys_found(&mut self, slots: &SlotSet) {
        if !self.i_am_master() {
            return;
        }
        for slot in slots.iter() {
            match self.slots.owner(slot) {
                Some(ME) => {}
                _ if self.moves.staged().contains(slot) => _ = self.todo.delete.insert(slot),
                None => self.assign(slot, ME),
                Some(owner) if self.slots.importing_from(slot).is_none() => {
                    self.slots.set_open(slot, OpenSlot::ImportingFrom(owner));
                    self.topology_changed();
                }
                Some(_) => {}
            }
        }
    }
}
