//! What must hold after every step, and what must hold in the end.

use std::collections::BTreeMap;

use super::super::bus::Kind;
use super::super::machine::Cluster;
use super::super::node::{Health, Node};
use super::super::ownership::OpenSlot;
use super::super::slot_set::SlotSet;
use super::super::table::ME;
use super::host::{Host, HostId};
use super::world::World;
use crate::slot::{SLOT_COUNT, Slot};

/// Where a packet says of which type it is.
const KIND_AT: usize = 12;
/// Where a packet has the epoch of its sender.
const EPOCH_AT: usize = 16;

#[derive(Default)]
pub struct Checks {
    /// When each node voted in each epoch.
    votes: BTreeMap<(HostId, u64), u64>,
    /// The highest epoch that each node has spoken of.
    epochs: Vec<u64>,
}

impl Checks {
    /// A packet leaves.
    pub fn sent(&mut self, host: HostId, bytes: &[u8], now: u64) {
        let epoch =
            bytes[EPOCH_AT..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).unwrap();
        self.epochs.resize(self.epochs.len().max(host.0 + 1), 0);
        let before = &mut self.epochs[host.0];
        assert!(epoch >= *before, "{host:?} went back from epoch {before} to {epoch}");
        *before = epoch;
        if bytes[KIND_AT..][..2] == (Kind::FailoverAuthAck as u16).to_be_bytes() {
            let earlier = self.votes.insert((host, epoch), now);
            assert_eq!(earlier, None, "{host:?} voted twice in epoch {epoch}");
        }
    }

    /// `host` has changed: no other node may own what it owns in the same epoch.
    pub fn after_step(&self, host: HostId, hosts: &[Host]) {
        let Some(node) = &hosts[host.0].node else { return };
        let Some((epoch, slots)) = writable(node) else { return };
        for (index, other) in hosts.iter().enumerate() {
            let Some(other) = other.node.as_ref().filter(|_| index != host.0) else { continue };
            let Some((their_epoch, their_slots)) = writable(other) else { continue };
            // A slot that its old owner is giving away has a new one already: the old one writes no new key there.
            let is_shared = |slot| {
                their_slots.contains(slot) && !gives_away(node, slot) && !gives_away(other, slot)
            };
            let meet = epoch == their_epoch && slots.intersects(their_slots);
            assert!(
                !meet || !slots.iter().any(is_shared),
                "{host:?} and {index} both serve slots in epoch {epoch}: {slots:?} {their_slots:?}"
            );
        }
    }
}

fn gives_away(node: &Cluster, slot: Slot) -> bool {
    node.slots.open().any(|open| matches!(open, (at, OpenSlot::MigratingTo(_)) if at == slot))
}

/// The epoch and slots of a node that takes writes.
fn writable(node: &Cluster) -> Option<(u64, &SlotSet)> {
    let me = &node.nodes[ME];
    (me.votes() && !node.verdict.is_down).then_some((me.config_epoch, &me.slots))
}

/// No slot is in two sets. `check_table` walks all slots.
pub fn check_sets(node: &Cluster) {
    let owned: usize = node.nodes.iter().map(|(_, other)| usize::from(other.slots.len())).sum();
    assert!(owned <= usize::from(SLOT_COUNT), "{owned} slots have an owner");
    for (key, other) in node.nodes.iter() {
        for replica in &other.replicas {
            assert_eq!(node.nodes[*replica].master(), Some(key), "the list of replicas is right");
        }
        if let Some(master) = other.master() {
            assert!(node.nodes[master].replicas.contains(&key), "the master has it in its list");
        }
        assert!(other.is_master() || other.slots.is_empty(), "only masters own slots");
    }
}

/// Why the nodes that run are not of one opinion yet.
pub fn disagreement(world: &World) -> Option<String> {
    for (host, node) in world.running() {
        if node.verdict.is_down {
            return Some(format!("{host:?} is down"));
        }
        let odd = |other: &&Node| other.health != Health::Fine || other.in_handshake();
        if let Some(odd) = node.nodes.iter().map(|(_, other)| other).find(odd) {
            return Some(format!("{host:?} thinks that {} is {:?}", odd.id, odd.health));
        }
    }
    let mut owned = 0;
    for (host, node) in world.running() {
        let mine = &node.nodes[ME];
        owned += mine.slots.len();
        for (other_host, other) in world.running() {
            let view = other.nodes.find(&mine.id).map(|key| &other.nodes[key].slots);
            if view != Some(&mine.slots) {
                return Some(format!("{other_host:?} is wrong about the slots of {host:?}"));
            }
        }
    }
    if owned != SLOT_COUNT {
        return Some(format!("only {owned} slots are served"));
    }
    world.running().for_each(|(_, node)| check_table(node));
    None
}

/// The owner of a slot has it in its set.
fn check_table(node: &Cluster) {
    for slot in SlotSet::all().iter() {
        if let Some(owner) = node.slots.owner(slot) {
            assert!(node.nodes[owner].slots.contains(slot), "owners and sets differ");
        }
    }
}
