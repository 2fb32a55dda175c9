//! What nodes tell each other about third ones.

use std::collections::BTreeSet;

use super::bus::{Extension, Gossip, GossipEntry, Header, MessageFlags, NodeFlags};
use super::machine::Cluster;
use super::node::{Contact, Health, Node, Role};
use super::node_id::NodeId;
use super::shard_ports::ShardPorts;
use super::table::{ME, NodeKey};

/// Fewest nodes that a ping tells of, if there are as many.
const ENTRIES_MIN: usize = 3;
/// Of how many nodes one is told of.
const NODES_PER_ENTRY: usize = 10;
/// Random draws for each entry that is wanted: few nodes may be fit to be told of.
const DRAWS_PER_ENTRY: usize = 3;
/// How far the time of a pong may lie in the future, in milliseconds, for clocks differ.
const CLOCK_SKEW_MS: u64 = 500;
/// Most nodes that are kept away at a time because another node said so.
const FORGOTTEN_MAX: usize = 4096;

impl Cluster {
    /// Some random nodes, and all that this node suspects: a majority must hear of those soon.
    pub(super) fn gossip_entries(&mut self, receiver: Option<NodeKey>) -> Vec<GossipEntry> {
        // This node and the receiver know about themselves.
        let others = self.nodes.len().saturating_sub(2);
        let wanted = (self.nodes.len() / NODES_PER_ENTRY).max(ENTRIES_MIN).min(others);
        let mut chosen = BTreeSet::new();
        for _ in 0..wanted * DRAWS_PER_ENTRY {
            if chosen.len() == wanted {
                break;
            }
            let place = self.random.below(self.nodes.len() as u64) as usize;
            let key = self.nodes.nth(place);
            if Some(key) != receiver && is_worth_telling(&self.nodes[key]) {
                chosen.insert(key);
            }
        }
        let suspects = self.nodes.iter().filter(|(key, node)| {
            node.health == Health::Suspect
                && node.contact == Contact::Known
                && Some(*key) != receiver
        });
        let keys: Vec<_> = chosen.into_iter().chain(suspects.map(|(key, _)| key)).collect();
        keys.into_iter().map(|key| self.gossip_entry(key)).collect()
    }

    fn gossip_entry(&self, key: NodeKey) -> GossipEntry {
        let node = &self.nodes[key];
        let seconds = |ms: u64| u32::try_from(ms / 1000).unwrap_or(u32::MAX);
        GossipEntry {
            node: node.id,
            ping_sent_s: seconds(node.ping_sent_ms),
            pong_received_s: seconds(node.pong_received_ms),
            address: node.address.clone(),
            flags: node.flags(),
        }
    }

    /// Takes in what `sender` tells about others; a stranger's word counts for little.
    pub(super) fn hear_gossip(&mut self, sender: Option<NodeKey>, gossip: &Gossip<'_>) {
        for entry in &gossip.entries {
            match self.nodes.find(&entry.node) {
                Some(ME) => {}
                Some(key) => self.hear_of_known(sender, key, entry),
                None if sender.is_some() => self.hear_of_stranger(entry),
                None => {}
            }
        }
    }

    fn hear_of_known(&mut self, sender: Option<NodeKey>, key: NodeKey, entry: &GossipEntry) {
        let is_bad = entry.flags.has_any(NodeFlags::FAIL | NodeFlags::PFAIL);
        if let Some(sender) = sender
            && self.nodes[sender].is_master()
        {
            if is_bad {
                self.report_failure(key, sender);
                self.fail_if_agreed(key);
            } else {
                self.nodes[key].reports.retain(|report| report.by != sender);
            }
        }
        if is_bad {
            return;
        }
        self.forget_old_reports(key);
        let now = self.now;
        let node = &mut self.nodes[key];
        if node.ping_sent_ms == 0 && node.reports.is_empty() {
            // A pong that another node got is as good as one that we got: fewer pings are needed.
            let heard = u64::from(entry.pong_received_s) * 1000;
            if heard <= now + CLOCK_SKEW_MS {
                node.pong_received_ms = node.pong_received_ms.max(heard);
            }
        }
        let moved = (&node.address.ip, node.address.port, node.address.bus_port)
            != (&entry.address.ip, entry.address.port, entry.address.bus_port);
        let is_placed = !entry.flags.has(NodeFlags::NO_ADDRESS) && !entry.address.ip.is_empty();
        if node.health != Health::Fine && moved && is_placed {
            node.address = entry.address.clone();
            if node.contact == Contact::Lost {
                node.contact = Contact::Known;
            }
            self.disconnect(key);
            self.topology_changed();
        }
    }

    /// A node that a known one knows is known from now on, without a handshake.
    fn hear_of_stranger(&mut self, entry: &GossipEntry) {
        let unfit = NodeFlags::NO_ADDRESS | NodeFlags::HANDSHAKE;
        let is_unreachable = entry.address.ip.is_empty() || entry.address.bus_port == 0;
        if entry.flags.has_any(unfit) || is_unreachable || self.is_forgotten(&entry.node) {
            return;
        }
        let mut node = Node::new(entry.node, Contact::Known, entry.address.clone(), self.now);
        node.role = role_of(entry.flags);
        node.no_failover = entry.flags.has(NodeFlags::NO_FAILOVER);
        node.wants_replicas = entry.flags.has(NodeFlags::MIGRATE_TO);
        if entry.flags.has(NodeFlags::FAIL) {
            node.health = Health::Failed { since_ms: self.now };
        } else if entry.flags.has(NodeFlags::PFAIL) {
            node.health = Health::Suspect;
        }
        if self.nodes.add(node).is_some() {
            tracing::info!("node {} at {} is known by gossip", entry.node, entry.address);
            self.topology_changed();
        }
    }

    /// Takes in what pings say beyond their fields.
    pub(super) fn hear_extensions(
        &mut self,
        sender: NodeKey,
        header: &Header,
        extensions: &[Extension<'_>],
    ) {
        let hostname = extensions.iter().find_map(|extension| match extension {
            Extension::Hostname(name) => Some(name.clone()),
            _ => None,
        });
        let hostname = hostname.unwrap_or_default();
        if self.nodes[sender].hostname != hostname {
            self.nodes[sender].hostname = hostname;
            self.todo.slot_map = true;
            self.save();
        }
        for extension in extensions {
            match extension {
                Extension::Forgotten { node, seconds } if *node != header.sender => {
                    self.hear_of_forgotten(node, *seconds);
                }
                Extension::ShardPorts(ports) => self.note_shard_ports(sender, *ports),
                Extension::ShardId(id) => self.hear_shard_id(sender, *id),
                _ => {}
            }
        }
    }

    /// Whoever reads which ports shards have is told at once: until then it sends clients to the main port.
    pub(super) fn hear_who_reads_shard_ports(&mut self, sender: NodeKey, header: &Header) {
        let reads = header.message_flags.has(MessageFlags::READS_SHARD_PORTS);
        if self.nodes[sender].reads_shard_ports.replace(reads) == Some(reads) {
            return;
        }
        self.todo.slot_map = true;
        if !reads {
            // Another server has taken its place.
            self.note_shard_ports(sender, None);
        } else if let Some(link) = self.link_to(sender) {
            self.send_ping_on(link, sender);
        }
    }

    fn hear_shard_id(&mut self, sender: NodeKey, id: NodeId) {
        if self.nodes[ME].master() == Some(sender) && self.shard_id != id {
            self.shard_id = id;
            self.save();
        }
    }

    /// These are the ports of a node's shards. A ping without a word of them changes nothing: those to all have none.
    fn note_shard_ports(&mut self, node: NodeKey, ports: Option<ShardPorts>) {
        if self.nodes[node].shard_ports != ports {
            self.nodes[node].shard_ports = ports;
            self.todo.slot_map = true;
        }
    }

    fn hear_of_forgotten(&mut self, id: &NodeId, seconds: u64) {
        let key = self.nodes.find(id);
        if key == Some(ME) || (key.is_some() && key == self.nodes[ME].master()) {
            return;
        }
        self.is_forgotten(id); // Lets go of those whose time is over.
        if self.forgotten.len() < FORGOTTEN_MAX || self.forgotten.contains_key(id) {
            let until = self.now.saturating_add(seconds.saturating_mul(1000));
            self.forgotten.insert(*id, until);
            if let Some(key) = key {
                self.remove_node(key);
            }
        }
    }

    /// Whether this node must not be let in again by gossip for now.
    pub(super) fn is_forgotten(&mut self, id: &NodeId) -> bool {
        let now = self.now;
        self.forgotten.retain(|_, until| *until > now);
        self.forgotten.contains_key(id)
    }
}

/// Whether a random entry of gossip may be about this node.
fn is_worth_telling(node: &Node) -> bool {
    let has_substance = node.link.is_some() || !node.slots.is_empty();
    !node.is_me && node.health != Health::Suspect && node.contact == Contact::Known && has_substance
}

/// The role that these bits tell of.
pub(super) fn role_of(flags: NodeFlags) -> Role {
    if flags.has(NodeFlags::REPLICA) {
        Role::Replica { of: None }
    } else if flags.has(NodeFlags::MASTER) {
        Role::Master
    } else {
        Role::Unknown
    }
}
