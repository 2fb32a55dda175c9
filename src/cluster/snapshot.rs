//! From the state of the cluster to what data cores know of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::machine::Cluster;
use super::ownership::OpenSlot;
use super::settings::Endpoint;
use super::slot_map::{Move, SlotMap, SlotOwner};
use super::table::{ME, NodeKey};

impl Cluster {
    /// What data cores must know now.
    pub fn slot_map(&self) -> Arc<SlotMap> {
        let mut map = SlotMap::new(self.slot_owner(ME));
        let mut indices = BTreeMap::from([(ME, 0)]);
        map.is_down = self.verdict.is_down;
        map.is_replica = self.nodes[ME].is_replica();
        for (key, node) in self.nodes.iter().filter(|(_, node)| !node.slots.is_empty()) {
            let index = self.index_in(&mut map, &mut indices, key);
            map.set_owner_of_all(&node.slots, index);
        }
        let shard = self.shard_master();
        map.serving = shard.map(|key| self.index_in(&mut map, &mut indices, key));
        for (slot, open) in self.slots.open() {
            let way = match open {
                OpenSlot::MigratingTo(key) => Move::To(self.index_in(&mut map, &mut indices, key)),
                OpenSlot::ImportingFrom(key) => {
                    Move::From(self.index_in(&mut map, &mut indices, key))
                }
            };
            map.set_move(slot, way);
        }
        (map.coming, map.staged) = (self.coming_slots(), self.moves.staged().clone());
        Arc::new(map)
    }

    fn index_in(
        &self,
        map: &mut SlotMap,
        indices: &mut BTreeMap<NodeKey, u16>,
        key: NodeKey,
    ) -> u16 {
        *indices.entry(key).or_insert_with(|| {
            map.nodes.push(self.slot_owner(key));
            (map.nodes.len() - 1) as u16
        })
    }

    fn slot_owner(&self, key: NodeKey) -> SlotOwner {
        let node = &self.nodes[key];
        let endpoint = match self.settings.endpoint {
            Endpoint::Ip => Some(node.address.ip.clone()),
            Endpoint::Hostname => (!node.hostname.is_empty()).then(|| node.hostname.clone()),
            Endpoint::Unknown => Some(Default::default()),
        };
        SlotOwner {
            id: node.id,
            endpoint,
            ip: node.address.ip.clone(),
            port: node.address.port,
            plain_port: node.address.plain_port,
            shard_ports: self.shard_ports(node),
        }
    }
}
