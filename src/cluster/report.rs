//! What a node tells about the cluster: the CLUSTER subcommands that change nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::bus::Kind;
use super::command::{LinkQueue, Surroundings};
use super::event::LinkId;
use super::machine::Cluster;
use super::node::{Health, Node};
use super::node_id::NodeId;
use super::refusal::Refusal;
use super::settings::Endpoint;
use super::shard_ports::ShardPorts;
use super::slot_set::SlotSet;
use super::table::NodeKey;
use crate::resp::Reply;
use crate::shard_map::ShardId;
use crate::slot::{SLOT_COUNT, Slot};

impl Cluster {
    /// Runs a subcommand that only tells something; false if it is none.
    pub(super) fn report(
        &self,
        name: &[u8],
        rest: &[Vec<u8>],
        around: &Surroundings<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<bool, Refusal> {
        match (name, rest) {
            (b"myid", []) => reply.bulk(self.my_id().as_bytes()),
            (b"myshardid", []) => reply.bulk(self.shard_id.as_bytes()),
            (b"nodes", []) => reply.verbatim(*b"txt", self.node_lines().as_bytes()),
            (b"info", []) => reply.verbatim(*b"txt", self.info().as_bytes()),
            (b"slots", []) => self.write_slots_reply(reply),
            (b"shards", []) => self.write_shards(reply),
            (b"getslotmigrations", []) => self.write_moves(reply),
            (b"links", []) => self.write_links(around.queue_of, reply),
            (b"replicas" | b"slaves", [node]) => self.write_replicas(node, reply)?,
            (b"count-failure-reports", [node]) => {
                let reports = self.fresh_reports(self.named(node)?);
                reply.integer(reports as i64);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn info(&self) -> String {
        let slots_of = |wanted: fn(&Node) -> bool| -> u64 {
            let nodes = self.nodes.iter().filter(|(_, node)| wanted(node));
            nodes.map(|(_, node)| u64::from(node.slots.len())).sum()
        };
        let lines: [(&str, u64); 8] = [
            ("slots_assigned", slots_of(|_| true)),
            ("slots_ok", slots_of(|node| node.health == Health::Fine)),
            ("slots_pfail", slots_of(|node| node.health == Health::Suspect)),
            ("slots_fail", slots_of(Node::has_failed)),
            ("known_nodes", self.nodes.len() as u64),
            ("size", self.verdict.size as u64),
            ("current_epoch", self.current_epoch),
            ("my_epoch", self.my_epoch()),
        ];
        let state = if self.verdict.is_down { "fail" } else { "ok" };
        let mut text = format!("cluster_state:{state}\r\n");
        for (name, value) in lines {
            _ = write!(text, "cluster_{name}:{value}\r\n"); // Strings take all that is written.
        }
        write_packets("sent", |kind| self.stats.sent(kind), &mut text);
        write_packets("received", |kind| self.stats.received(kind), &mut text);
        let overflowed = self.stats.links_overflowed;
        _ = write!(text, "total_cluster_links_buffer_limit_exceeded:{overflowed}\r\n");
        text
    }

    /// Ranges of slots with the nodes that serve them.
    fn write_slots_reply(&self, reply: &mut Reply<'_>) {
        let array = reply.deferred();
        let mut count = 0;
        let mut next = Some(0);
        while let Some((first, last, owner)) = next.and_then(|from| self.next_run(from)) {
            let replicas = self.nodes[owner].replicas.iter().filter(|key| self.is_available(**key));
            let nodes: Vec<NodeKey> = std::iter::once(owner).chain(replicas.copied()).collect();
            let last = self.end_of_shards(&nodes, first).min(last);
            reply.array(2 + nodes.len());
            reply.integer(i64::from(first.get()));
            reply.integer(i64::from(last));
            nodes.iter().for_each(|key| self.write_slot_node(*key, first, reply));
            count += 1;
            next = last.checked_add(1);
        }
        reply.set_array_len(array, count);
    }

    /// The last slot from `first` on up to which each of these nodes has them on one shard.
    fn end_of_shards(&self, nodes: &[NodeKey], first: Slot) -> u16 {
        let ports = nodes.iter().filter_map(|key| self.shard_ports(&self.nodes[*key]));
        ports.map(|ports| ports.end_of_run(first)).min().unwrap_or(SLOT_COUNT - 1)
    }

    /// The next slots with one owner, from that slot on: first, last and owner.
    fn next_run(&self, from: u16) -> Option<(Slot, u16, NodeKey)> {
        let owner_of = |number: u16| Slot::new(number).and_then(|slot| self.slots.owner(slot));
        let (first, owner) =
            (from..SLOT_COUNT).find_map(|slot| owner_of(slot).map(|owner| (slot, owner)))?;
        let end = (first..SLOT_COUNT).find(|slot| owner_of(*slot) != Some(owner));
        Some((Slot::new(first)?, end.unwrap_or(SLOT_COUNT) - 1, owner))
    }

    /// Whether clients should be sent to a replica: it has data.
    fn is_available(&self, replica: NodeKey) -> bool {
        let node = &self.nodes[replica];
        !node.has_failed() && node.offset != 0
    }

    /// What clients call a node for the sake of a slot: the shard that has it, if that has a port of its own.
    fn face_of(&self, node: &Node, slot: Option<Slot>) -> (NodeId, u16) {
        match (self.shard_ports(node), slot) {
            (Some(ports), Some(slot)) => {
                (ShardPorts::id(&node.id, ports.shard_of(slot)), ports.port_of(slot))
            }
            (None, _) | (_, None) => (node.id, node.address.port),
        }
    }

    fn write_slot_node(&self, key: NodeKey, slot: Slot, reply: &mut Reply<'_>) {
        let node = &self.nodes[key];
        let (id, port) = self.face_of(node, Some(slot));
        reply.array(4);
        self.write_endpoint(node, reply);
        reply.integer(i64::from(port));
        reply.bulk(id.as_bytes());
        let names_ip = self.settings.endpoint != Endpoint::Ip;
        let names_host = self.settings.endpoint != Endpoint::Hostname && !node.hostname.is_empty();
        reply.map(usize::from(names_ip) + usize::from(names_host));
        if names_ip {
            reply.bulk(b"ip");
            reply.bulk(node.address.ip.as_str().as_bytes());
        }
        if names_host {
            reply.bulk(b"hostname");
            reply.bulk(node.hostname.as_str().as_bytes());
        }
    }

    /// Where clients are told that a node is.
    fn write_endpoint(&self, node: &Node, reply: &mut Reply<'_>) {
        match self.settings.endpoint {
            Endpoint::Ip => reply.bulk(node.address.ip.as_str().as_bytes()),
            Endpoint::Hostname if node.hostname.is_empty() => reply.bulk(b"?"),
            Endpoint::Hostname => reply.bulk(node.hostname.as_str().as_bytes()),
            Endpoint::Unknown => reply.null(),
        }
    }

    /// Every master with its slots and its replicas; once for each of its shards that has slots, if these have
    /// ports of their own.
    fn write_shards(&self, reply: &mut Reply<'_>) {
        let array = reply.deferred();
        let mut count = 0;
        for (key, master) in self.nodes.iter().filter(|(_, node)| node.is_master()) {
            let nodes: Vec<NodeKey> =
                std::iter::once(key).chain(master.replicas.iter().copied()).collect();
            let parts = self.parts_of(&nodes, &master.slots);
            parts.iter().for_each(|ranges| self.write_shard(&nodes, ranges, reply));
            count += parts.len();
        }
        reply.set_array_len(array, count);
    }

    /// Ranges of slots, grouped by the shards on which these nodes have them; one empty group for no slots.
    fn parts_of(&self, nodes: &[NodeKey], slots: &SlotSet) -> Vec<Vec<(Slot, Slot)>> {
        let ports: Vec<_> = nodes.iter().map(|key| self.shard_ports(&self.nodes[*key])).collect();
        let mut parts: BTreeMap<Vec<Option<ShardId>>, Vec<(Slot, Slot)>> = BTreeMap::new();
        for (first, last) in slots.ranges() {
            let mut next = Some(first);
            while let Some(from) = next.filter(|slot| *slot <= last) {
                let shards = ports.iter().map(|ports| ports.map(|ports| ports.shard_of(from)));
                let to = self.end_of_shards(nodes, from);
                let piece = (from, Slot::new(to).map_or(last, |to| to.min(last)));
                parts.entry(shards.collect()).or_default().push(piece);
                next = Slot::new(piece.1.get() + 1);
            }
        }
        if parts.is_empty() { vec![Vec::new()] } else { parts.into_values().collect() }
    }

    fn write_shard(&self, nodes: &[NodeKey], ranges: &[(Slot, Slot)], reply: &mut Reply<'_>) {
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(ranges.len() * 2);
        for (first, last) in ranges {
            reply.integer(i64::from(first.get()));
            reply.integer(i64::from(last.get()));
        }
        let slot = ranges.first().map(|(first, _)| *first);
        reply.bulk(b"nodes");
        reply.array(nodes.len());
        nodes.iter().for_each(|key| self.write_shard_node(*key, slot, reply));
    }

    fn write_shard_node(&self, key: NodeKey, slot: Option<Slot>, reply: &mut Reply<'_>) {
        let node = &self.nodes[key];
        let (id, port) = self.face_of(node, slot);
        let names_host = !node.hostname.is_empty();
        reply.map(7 + usize::from(names_host));
        reply.bulk(b"id");
        reply.bulk(id.as_bytes());
        reply.bulk(b"port");
        reply.integer(i64::from(port));
        reply.bulk(b"ip");
        reply.bulk(node.address.ip.as_str().as_bytes());
        reply.bulk(b"endpoint");
        self.write_endpoint(node, reply);
        if names_host {
            reply.bulk(b"hostname");
            reply.bulk(node.hostname.as_str().as_bytes());
        }
        reply.bulk(b"role");
        reply.bulk(if node.is_replica() { b"replica" } else { b"master" });
        reply.bulk(b"replication-offset");
        reply.integer(i64::try_from(node.offset).unwrap_or(i64::MAX));
        reply.bulk(b"health");
        reply.bulk(match () {
            () if node.has_failed() => b"fail",
            () if node.is_replica() && node.offset == 0 => b"loading",
            () => b"online",
        });
    }

    fn write_links(&self, queue_of: &dyn Fn(LinkId) -> LinkQueue, reply: &mut Reply<'_>) {
        let links = self.link_list();
        reply.array(links.len());
        for info in links {
            let queue = queue_of(info.link);
            reply.map(6);
            reply.bulk(b"direction");
            reply.bulk(if let LinkId::To(_) = info.link { b"to" } else { b"from" });
            reply.bulk(b"node");
            reply.bulk(info.node.as_bytes());
            reply.bulk(b"create-time");
            reply.integer(info.created_ms as i64);
            reply.bulk(b"events");
            reply.bulk(if queue.used_bytes > 0 { b"rw" } else { b"r" });
            reply.bulk(b"send-buffer-allocated");
            reply.integer(queue.allocated_bytes as i64);
            reply.bulk(b"send-buffer-used");
            reply.integer(queue.used_bytes as i64);
        }
    }

    fn write_replicas(&self, word: &[u8], reply: &mut Reply<'_>) -> Result<(), Refusal> {
        let key = self.named(word)?;
        if self.nodes[key].is_replica() {
            return Err(Refusal::NotMaster);
        }
        let replicas = &self.nodes[key].replicas;
        reply.array(replicas.len());
        for replica in replicas {
            let mut line = String::new();
            self.write_node_line(*replica, &mut line);
            reply.bulk(line.as_bytes());
        }
        Ok(())
    }

    /// How many say of a node that it has failed, and not too long ago.
    fn fresh_reports(&self, key: NodeKey) -> usize {
        self.nodes[key].reports.iter().filter(|report| self.is_fresh(report)).count()
    }
}

/// How many packets came or went, by type and in all.
fn write_packets(direction: &str, count_of: impl Fn(Kind) -> u64, text: &mut String) {
    for kind in Kind::ALL {
        let (name, count) = (kind.name(), count_of(kind));
        if count > 0 {
            _ = write!(text, "cluster_stats_messages_{name}_{direction}:{count}\r\n");
        }
    }
    let sum: u64 = Kind::ALL.into_iter().map(count_of).sum();
    _ = write!(text, "cluster_stats_messages_{direction}:{sum}\r\n");
}
