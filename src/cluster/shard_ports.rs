//! The ports of a node's shards (`shard-ports yes`), as clients and other nodes are told of them.
//!
//! Each shard of such a node has a port of its own, and clients are sent to the port of the shard that has the
//! slot: nothing that they ask for then crosses to another core. Some clients know nodes by their address and
//! some by their id, so to CLUSTER SLOTS and CLUSTER SHARDS a shard is a node of its own with a [derived
//! id](ShardPorts::id).
//!
//! All else is about real nodes, CLUSTER NODES above all: redis-cli --cluster calls every address in it and
//! takes the line marked `myself` for who answered, so that a node with three lines would own its slots
//! three times, and `check`, `reshard` and `fix` would see slots with several owners. The bus knows one node, too.
//!
//! Promise: two nodes that know the same of a third one derive the same ids, for as long as that one keeps its id.

use sha1_smol::Sha1;

use super::node_id::NodeId;
use crate::shard_map::{SHARDS_MAX, ShardId, ShardMap};
use crate::slot::Slot;

/// How many shards a node has, and where: the ports follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardPorts {
    shards: ShardMap,
    first: u16,
}

impl ShardPorts {
    /// The ports from `first` on of so many shards; nothing if these are no shards or no ports.
    pub fn new(shards: u16, first: u16) -> Option<Self> {
        let fits = first != 0 && first.checked_add(shards.saturating_sub(1)).is_some();
        let shards = ShardMap::new(shards).filter(|_| fits)?;
        Some(Self { shards, first })
    }

    /// The same from another port on, if that leaves room; 0 for none.
    pub fn from_or_same(self, first: u16) -> Self {
        Self::new(self.count(), first).unwrap_or(self)
    }

    /// How many shards the node has.
    pub fn count(self) -> u16 {
        self.shards.len() as u16
    }

    /// The port of the first shard.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The port of a shard.
    pub fn port(self, shard: ShardId) -> u16 {
        self.first + shard.0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.shards.iter().map(move |shard| self.port(shard))
    }

    /// The shard that listens on a port.
    pub fn shard_at(self, port: u16) -> Option<ShardId> {
        let number = port.checked_sub(self.first)?;
        (usize::from(number) < self.shards.len()).then_some(ShardId(number))
    }

    /// The shard that has a slot, whoever owns the slot.
    pub fn shard_of(self, slot: Slot) -> ShardId {
        self.shards.owner(slot)
    }

    /// The port of the shard that has a slot.
    pub fn port_of(self, slot: Slot) -> u16 {
        self.port(self.shard_of(slot))
    }

    /// The last slot up to which the shard that has `slot` has all.
    pub fn end_of_run(self, slot: Slot) -> u16 {
        self.shards.block_end(slot)
    }

    /// The id that clients are told for a shard of `node`.
    pub fn id(node: &NodeId, shard: ShardId) -> NodeId {
        let mut digest = Sha1::from(node.as_bytes());
        digest.update(&shard.0.to_be_bytes());
        NodeId::from_bits(digest.digest().bytes())
    }

    /// The shard of `node` that has this derived id.
    pub fn shard_with_id(self, node: &NodeId, id: &NodeId) -> Option<ShardId> {
        self.shards.iter().find(|shard| Self::id(node, *shard) == *id)
    }
}

const _: () = assert!(SHARDS_MAX < u16::MAX, "there is a number behind the last shard's");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SLOT_COUNT;

    #[test]
    fn ports_are_those_of_a_host_and_shards_those_of_a_process() {
        for (shards, first, valid) in [
            (1, 1, true),
            (3, 65533, true),
            (3, 65534, false),
            (0, 7001, false),
            (3, 0, false),
            (SHARDS_MAX, 7001, true),
            (SHARDS_MAX + 1, 7001, false),
            (u16::MAX, u16::MAX, false),
        ] {
            assert_eq!(ShardPorts::new(shards, first).is_some(), valid, "{shards} {first}");
        }
    }

    #[test]
    fn a_slot_leads_to_the_port_of_its_shard_and_back() {
        for shards in [1, 2, 3, 7] {
            let ports = ShardPorts::new(shards, 7001).unwrap();
            let mut from = 0;
            for shard in (0..shards).cycle().map(ShardId) {
                let Some(first) = Slot::new(from) else { break };
                let last = Slot::new(ports.end_of_run(first)).unwrap();
                assert_eq!((ports.shard_of(first), ports.shard_of(last)), (shard, shard));
                assert_eq!(ports.port_of(last), 7001 + shard.0);
                assert_eq!(ports.shard_at(ports.port(shard)), Some(shard));
                from = last.get() + 1;
            }
            assert_eq!(from, SLOT_COUNT, "{shards}");
            assert_eq!((ports.shard_at(7000), ports.shard_at(7001 + shards)), (None, None));
        }
    }

    #[test]
    fn derived_ids_are_the_same_every_time_and_differ_from_each_other() {
        let node = NodeId::new([b'a'; 40]).unwrap();
        let ports = ShardPorts::new(3, 7001).unwrap();
        let ids: Vec<_> = (0..3).map(|shard| ShardPorts::id(&node, ShardId(shard))).collect();
        // Written down: a client that keeps ids over an upgrade of the server finds its nodes again.
        assert_eq!(ids[0].as_str(), "65361f272eeff217f4b4a8af2d0178745ecc15fd");
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(ports.shard_with_id(&node, id), Some(ShardId(number as u16)));
        }
        assert_eq!(ports.shard_with_id(&node, &node), None);
    }
}
