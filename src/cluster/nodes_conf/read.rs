//! Lines to nodes.
//!
//! A file that is not understood is refused with its line: a node that guesses who owns what would do harm.

use std::fmt;

use super::write::{FLAG_NAMES, NO_FLAGS};
use crate::cluster::address::{Address, BUS_PORT_OFFSET, HOST_BYTES_MAX, Host, IP_BYTES_MAX};
use crate::cluster::bus::NodeFlags;
use crate::cluster::gossip::role_of;
use crate::cluster::machine::{Cluster, Save};
use crate::cluster::node::{Contact, Health, Node};
use crate::cluster::node_id::NodeId;
use crate::cluster::ownership::OpenSlot;
use crate::cluster::random::{Random, Seed};
use crate::cluster::settings::Settings;
use crate::cluster::slot_set::SlotSet;
use crate::cluster::table::{ME, NodeKey};
use crate::slot::Slot;

/// Fields of a line before the slots.
const FIELDS_MIN: usize = 8;

/// What a nodes.conf says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodesConf {
    nodes: Vec<StoredNode>,
    current_epoch: u64,
    last_vote_epoch: u64,
    /// Files of Redis have none.
    shard_id: Option<NodeId>,
    /// Slots whose keys were on their way to here as a whole. Redis has no such variable, and skips it.
    staged: SlotSet,
}

/// A line of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct StoredNode {
    id: NodeId,
    address: Address,
    hostname: Host,
    flags: NodeFlags,
    master: Option<NodeId>,
    ping_was_sent: bool,
    pong_was_received: bool,
    config_epoch: u64,
    slots: SlotSet,
    migrating: Vec<(Slot, NodeId)>,
    importing: Vec<(Slot, NodeId)>,
}

/// Why a nodes.conf cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodesConfError {
    /// A line is not understood.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not exactly one node is this one.
    Myself,
    /// There are more nodes than a cluster may have.
    TooManyNodes,
}

impl fmt::Display for NodesConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, reason } => write!(f, "line {number}: {reason}"),
            Self::Myself => f.write_str("exactly one node must have the flag myself"),
            Self::TooManyNodes => f.write_str("too many nodes"),
        }
    }
}

impl std::error::Error for NodesConfError {}

impl NodesConf {
    /// Reads a file; `None` if it is empty, as that of a node that starts for the first time.
    pub fn parse(text: &str) -> Result<Option<Self>, NodesConfError> {
        if text.is_empty() {
            return Ok(None);
        }
        let (nodes, staged) = (Vec::new(), SlotSet::new());
        let mut conf = Self { nodes, current_epoch: 0, last_vote_epoch: 0, shard_id: None, staged };
        for (index, line) in text.lines().enumerate() {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let read = match fields.as_slice() {
                [] => Ok(()),
                ["vars", vars @ ..] => conf.read_vars(vars),
                fields => StoredNode::parse(fields).map(|node| conf.nodes.push(node)),
            };
            read.map_err(|reason| NodesConfError::Line { number: index + 1, reason })?;
        }
        let is_me = |node: &&StoredNode| node.flags.has(NodeFlags::MYSELF);
        if conf.nodes.iter().filter(is_me).count() != 1 {
            return Err(NodesConfError::Myself);
        }
        Ok(Some(conf))
    }

    fn read_vars(&mut self, vars: &[&str]) -> Result<(), &'static str> {
        let pairs = vars.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err("a variable without a value");
        }
        for pair in pairs {
            let number = || pair[1].parse().map_err(|_| "a variable is no number");
            match pair[0] {
                "currentEpoch" => self.current_epoch = number()?,
                "lastVoteEpoch" => self.last_vote_epoch = number()?,
                "shardId" => self.shard_id = Some(parse_id(pair[1])?),
                "staged" => {
                    pair[1].split(',').try_for_each(|range| read_range(range, &mut self.staged))?;
                }
                name => tracing::warn!("unknown variable {name} in the cluster's configuration"),
            }
        }
        Ok(())
    }
}

impl StoredNode {
    fn parse(fields: &[&str]) -> Result<Self, &'static str> {
        let [id, address, flags, master, ping, pong, epoch, _link, slots @ ..] = fields else {
            return Err("too few fields");
        };
        const _: () = assert!(FIELDS_MIN == 8, "the fields that are named above");
        let (address, hostname) = parse_address(address)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| "a number is none");
        let mut node = Self {
            id: parse_id(id)?,
            address,
            hostname,
            flags: parse_flags(flags)?,
            master: if *master == "-" { None } else { Some(parse_id(master)?) },
            ping_was_sent: number(ping)? != 0,
            pong_was_received: number(pong)? != 0,
            config_epoch: number(epoch)?,
            slots: SlotSet::new(),
            migrating: Vec::new(),
            importing: Vec::new(),
        };
        slots.iter().try_for_each(|text| node.parse_slots(text))?;
        Ok(node)
    }

    fn parse_slots(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some(open) = text.strip_prefix('[') {
            let open = open.strip_suffix(']').ok_or("an open slot without its bracket")?;
            if let Some((slot, to)) = open.split_once("->-") {
                self.migrating.push((parse_slot(slot)?, parse_id(to)?));
            } else if let Some((slot, from)) = open.split_once("-<-") {
                self.importing.push((parse_slot(slot)?, parse_id(from)?));
            } else {
                return Err("an open slot without a direction");
            }
            return Ok(());
        }
        read_range(text, &mut self.slots)
    }
}

/// A slot, or a first and a last one.
pub(in crate::cluster) fn read_range(text: &str, slots: &mut SlotSet) -> Result<(), &'static str> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_slot(first)?, parse_slot(last)?);
    for slot in (first.get()..=last.get()).filter_map(Slot::new) {
        slots.insert(slot);
    }
    Ok(())
}

fn parse_id(text: &str) -> Result<NodeId, &'static str> {
    NodeId::parse(text.as_bytes()).ok_or("an id is none")
}

fn parse_slot(text: &str) -> Result<Slot, &'static str> {
    text.parse().ok().and_then(Slot::new).ok_or("a slot is none")
}

/// `ip:port@bus_port,hostname,more`. What newer versions put behind the host name is not needed here.
fn parse_address(text: &str) -> Result<(Address, Host), &'static str> {
    const WRONG: &str = "an address is none";
    let mut parts = text.split(',');
    let address = parts.next().unwrap_or_default();
    let hostname = parts.next().unwrap_or_default();
    let hostname = Host::parse(hostname.as_bytes(), HOST_BYTES_MAX).ok_or(WRONG)?;
    // An IPv6 address has colons of its own.
    let (ip, ports) = address.rsplit_once(':').ok_or(WRONG)?;
    let (port, bus_port) = match ports.split_once('@') {
        Some((port, bus_port)) => (port, Some(bus_port.parse().map_err(|_| WRONG)?)),
        None => (ports, None),
    };
    let port: u16 = port.parse().map_err(|_| WRONG)?;
    let bus_port = bus_port.or(port.checked_add(BUS_PORT_OFFSET)).ok_or(WRONG)?;
    let ip = Host::parse(ip.as_bytes(), IP_BYTES_MAX).ok_or(WRONG)?;
    Ok((Address { ip, port, plain_port: 0, bus_port }, hostname))
}

fn parse_flags(text: &str) -> Result<NodeFlags, &'static str> {
    let mut flags = NodeFlags::default();
    for name in text.split(',').filter(|name| *name != NO_FLAGS) {
        let known = FLAG_NAMES.iter().find(|(_, known)| *known == name);
        let (flag, _) = known.ok_or("an unknown flag")?;
        flags = flags | *flag;
    }
    Ok(flags)
}

impl Cluster {
    /// A node that goes on with what its nodes.conf says.
    pub fn restore(
        conf: &NodesConf,
        settings: Settings,
        seed: Seed,
        now_ms: u64,
    ) -> Result<Self, NodesConfError> {
        let me = conf.nodes.iter().find(|node| node.flags.has(NodeFlags::MYSELF));
        let me = me.ok_or(NodesConfError::Myself)?;
        let mut cluster = Self::with_id(me.id, settings, Random::new(seed), now_ms);
        // Only the address of others counts: what this node's is, its configuration and its callers say.
        if cluster.settings.announce_ip.is_none() {
            cluster.nodes[ME].address.ip = me.address.ip.clone();
        }
        let keys = cluster.restore_nodes(conf)?;
        for (stored, key) in conf.nodes.iter().zip(&keys) {
            cluster.restore_relations(stored, *key);
        }
        let highest = cluster.nodes.iter().map(|(_, node)| node.config_epoch).max().unwrap_or(0);
        cluster.current_epoch = conf.current_epoch.max(highest);
        cluster.last_vote_epoch = conf.last_vote_epoch;
        cluster.shard_id = conf.shard_id.unwrap_or(cluster.shard_id);
        cluster.restore_staged(&conf.staged);
        // The configuration may say other things of this node than the file.
        cluster.todo.save = Save::First;
        Ok(cluster)
    }

    fn restore_nodes(&mut self, conf: &NodesConf) -> Result<Vec<NodeKey>, NodesConfError> {
        let mut keys = Vec::with_capacity(conf.nodes.len());
        for stored in &conf.nodes {
            let key = if stored.flags.has(NodeFlags::MYSELF) {
                ME
            } else {
                let contact = if stored.flags.has(NodeFlags::NO_ADDRESS) {
                    Contact::Lost
                } else {
                    Contact::Known
                };
                let node = Node::new(stored.id, contact, stored.address.clone(), self.now);
                self.nodes.add(node).ok_or(NodesConfError::TooManyNodes)?
            };
            self.restore_node(stored, key);
            keys.push(key);
        }
        Ok(keys)
    }

    fn restore_node(&mut self, stored: &StoredNode, key: NodeKey) {
        let now = self.now;
        let node = &mut self.nodes[key];
        node.role = role_of(stored.flags);
        node.no_failover |= stored.flags.has(NodeFlags::NO_FAILOVER);
        if key != ME {
            node.hostname = stored.hostname.clone();
            if stored.flags.has(NodeFlags::FAIL) {
                node.health = Health::Failed { since_ms: now };
            } else if stored.flags.has(NodeFlags::PFAIL) {
                node.health = Health::Suspect;
            }
        }
        // Old times would make everybody overdue at once.
        node.ping_sent_ms = if stored.ping_was_sent { now } else { 0 };
        node.pong_received_ms = if stored.pong_was_received { now } else { 0 };
        // The epoch in the line of a replica is its master's.
        if !node.is_replica() {
            node.config_epoch = stored.config_epoch;
        }
    }

    fn restore_relations(&mut self, stored: &StoredNode, key: NodeKey) {
        let master = stored.master.and_then(|id| self.nodes.find(&id));
        if let Some(master) = master.filter(|master| *master != key)
            && self.nodes[key].is_replica()
        {
            self.attach(key, master);
        }
        self.assign_all(&stored.slots, key);
        if key != ME {
            return;
        }
        for (slot, id) in &stored.migrating {
            if let Some(to) = self.nodes.find(id)
                && self.slots.owner(*slot) == Some(ME)
            {
                self.slots.set_open(*slot, OpenSlot::MigratingTo(to));
            }
        }
        for (slot, id) in &stored.importing {
            if let Some(from) = self.nodes.find(id)
                && self.slots.owner(*slot) != Some(ME)
            {
                self.slots.set_open(*slot, OpenSlot::ImportingFrom(from));
            }
        }
    }
}
