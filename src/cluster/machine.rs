//! A node of the cluster as a state machine: events in, effects out.
//!
//! This file has the state, the entrance and what ends every step; each rule of the protocol is in the
//! file that is named by it.
//!
//! Promise: it owns no socket, clock or file, and its random numbers are the seed's, so a run is a list of
//! `(now, event)`. In the effects of a step, the state that must be on disk comes before every packet
//! that tells of it.

use std::collections::BTreeMap;

use super::address::Address;
use super::election::Election;
use super::event::{Effect, Event, Replication, Upstream};
use super::links::Links;
use super::manual_failover::ManualFailover;
use super::node::{Contact, Node, Role};
use super::node_id::NodeId;
use super::ownership::Ownership;
use super::random::{Random, Seed};
use super::settings::Settings;
use super::shard_ports::ShardPorts;
use super::slot_moves::SlotMoves;
use super::slot_set::SlotSet;
use super::stats::Stats;
use super::table::{ME, NodeKey, NodeTable};
use super::verdict::Verdict;

/// The state of a node. Times are in milliseconds since 1970.
#[derive(Debug)]
pub struct Cluster {
    pub(super) settings: Settings,
    pub(super) random: Random,
    pub(super) nodes: NodeTable,
    pub(super) slots: Ownership,
    pub(super) links: Links,
    /// The highest epoch that was ever seen.
    pub(super) current_epoch: u64,
    /// The last epoch in which this node voted: once per epoch.
    pub(super) last_vote_epoch: u64,
    pub(super) verdict: Verdict,
    pub(super) election: Election,
    pub(super) manual: ManualFailover,
    pub(super) moves: SlotMoves,
    /// Nodes that must not come back by gossip, and until when.
    pub(super) forgotten: BTreeMap<NodeId, u64>,
    pub(super) replication: Replication,
    pub(super) stats: Stats,
    /// How many ticks there were.
    pub(super) ticks: u64,
    /// When the last one was.
    pub(super) ticked_ms: u64,
    /// The time of this step.
    pub(super) now: u64,
    /// What this step does, before [`Self::finish`] puts it in order.
    pub(super) out: Vec<Effect>,
    pub(super) todo: Todo,
    /// What [`Effect::Replicate`] last said.
    upstream: Upstream,
    /// What this node and the others with the same data are called together (Redis 7.2): a replica takes over the
    /// word of its master, and keeps it when it is a master one day.
    pub(super) shard_id: NodeId,
    /// See [`Self::may_tell_shard_ports`].
    tells_shard_ports: bool,
    #[cfg(test)]
    pub(super) broken_rule: Option<super::simulator::BrokenRule>,
}

/// What the end of a step must see to.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub(super) save: Save,
    /// Data cores must know of a change.
    pub(super) slot_map: bool,
    /// Something changed that may make the cluster serve or stop.
    pub(super) judge: bool,
    /// Slots whose keys are to be deleted.
    pub(super) delete: SlotSet,
}

/// Whether nodes.conf is to be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Save {
    #[default]
    No,
    /// Soon.
    Lazily,
    /// And be on disk before anything is sent.
    First,
}

impl Cluster {
    /// A node that knows nobody, with a random id. `now_ms` is the time since 1970.
    pub fn new(settings: Settings, seed: Seed, now_ms: u64) -> Self {
        let mut random = Random::new(seed);
        let id = random.node_id();
        let mut cluster = Self::with_id(id, settings, random, now_ms);
        cluster.todo.save = Save::First;
        cluster
    }

    /// A node with this id that knows nobody.
    pub(super) fn with_id(id: NodeId, settings: Settings, mut random: Random, now_ms: u64) -> Self {
        let mut me = Node::new(id, Contact::Known, Address::default(), now_ms);
        me.is_me = true;
        me.role = Role::Master;
        let shard_id = random.node_id();
        let mut cluster = Self {
            settings: Settings::default(),
            random,
            nodes: NodeTable::new(me),
            slots: Ownership::default(),
            links: Links::default(),
            current_epoch: 0,
            last_vote_epoch: 0,
            verdict: Verdict::default(),
            election: Election::default(),
            manual: ManualFailover::None,
            moves: SlotMoves::default(),
            forgotten: BTreeMap::new(),
            replication: Replication::default(),
            stats: Stats::default(),
            ticks: 0,
            ticked_ms: 0,
            now: now_ms,
            out: Vec::new(),
            todo: Todo { slot_map: true, judge: true, ..Todo::default() },
            upstream: Upstream::None,
            shard_id,
            tells_shard_ports: true,
            #[cfg(test)]
            broken_rule: None,
        };
        cluster.apply_settings(settings);
        cluster
    }

    /// One step of this node at `now_ms`; what it does is appended to `effects`.
    pub fn step(&mut self, now_ms: u64, event: Event<'_>, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        match event {
            Event::Tick => self.on_tick(),
            Event::Accepted { link, peer, local } => self.on_accepted(link, peer, local),
            Event::Connected { link } => self.on_connected(link),
            Event::LinkLost { link, overflowed } => self.on_link_lost(link, overflowed),
            Event::Packet { link, bytes } => self.on_packet(link, bytes),
            Event::Replication(replication) => self.on_replication(replication),
            Event::WritesPaused { offset } => self.on_writes_paused(offset),
            Event::Settings(settings) => self.apply_settings(settings),
            Event::KeysFound(slots) => self.on_keys_found(&slots),
        }
        self.finish(effects);
    }

    /// What comes before every step. Deadlines are looked at first: whatever comes too late, even
    /// by a little, must find that it does.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.now = now_ms;
        self.end_manual_failover_in_time();
    }

    /// What ends every step: decisions that any event may have led to, and the order of the effects.
    pub(super) fn finish(&mut self, effects: &mut Vec<Effect>) {
        self.advance_manual_failover();
        self.advance_election();
        self.drop_stale_imports();
        if self.todo.judge {
            self.judge();
        }
        let told = self.changed_upstream();
        // Who becomes a master takes writes only when it copies nobody any more; who becomes a
        // replica takes none before it begins to copy.
        let becomes_master = told == Some(Upstream::None);
        if becomes_master {
            self.drop_staged();
        }
        let todo = std::mem::take(&mut self.todo);
        if todo.save > Save::No {
            let sync = todo.save == Save::First;
            effects.push(Effect::Persist { nodes_conf: self.nodes_conf(), sync });
        }
        let sends = std::mem::take(&mut self.out);
        let replicate = told.map(Effect::Replicate);
        if todo.slot_map {
            self.tells_shard_ports = self.may_tell_shard_ports();
        }
        let slot_map = todo.slot_map.then(|| Effect::SlotMap(self.slot_map()));
        if becomes_master {
            effects.extend(replicate.into_iter().chain(slot_map));
        } else {
            effects.extend(slot_map.into_iter().chain(replicate));
        }
        if !todo.delete.is_empty() {
            effects.push(Effect::DeleteKeys(todo.delete));
        }
        effects.extend(sends);
    }

    /// The nodes.conf must be written, some time soon.
    pub(super) fn save(&mut self) {
        self.todo.save = self.todo.save.max(Save::Lazily);
    }

    /// The nodes.conf must be on disk before this step says anything.
    pub(super) fn save_first(&mut self) {
        self.todo.save = Save::First;
    }

    /// Something about owners or reachability of nodes has changed.
    pub(super) fn topology_changed(&mut self) {
        self.todo.judge = true;
        self.todo.slot_map = true;
        self.save();
    }

    /// Whether clients are told of the shards of nodes. As long as some node knows of none, a client would hear of
    /// main ports there and of shards here, and some have no answer to a node that is not in the table they have:
    /// redis-py fails when ASK names one.
    fn may_tell_shard_ports(&self) -> bool {
        let knows_none = |node: &Node| node.reads_shard_ports == Some(false) && !node.has_failed();
        !self.nodes.iter().any(|(_, node)| knows_none(node))
    }

    /// The ports of a node's shards, if clients are to know them.
    pub(super) fn shard_ports(&self, node: &Node) -> Option<ShardPorts> {
        node.shard_ports.filter(|_| self.tells_shard_ports)
    }

    /// Whom to copy from, if that is news.
    fn changed_upstream(&mut self) -> Option<Upstream> {
        let upstream = self.upstream();
        (upstream != self.upstream).then(|| {
            self.upstream = upstream.clone();
            upstream
        })
    }

    fn upstream(&self) -> Upstream {
        let Role::Replica { of } = self.nodes[ME].role else { return Upstream::None };
        match of.map(|master| &self.nodes[master]) {
            Some(master) if !master.address.ip.is_empty() => Upstream::Node {
                id: master.id,
                ip: master.address.ip.clone(),
                port: master.address.port,
            },
            _ => Upstream::Unreachable,
        }
    }

    fn on_replication(&mut self, replication: Replication) {
        self.replication = replication;
        self.nodes[ME].offset = replication.offset;
    }

    /// Takes over a configuration, and what it says about this node.
    fn apply_settings(&mut self, settings: Settings) {
        let me = &mut self.nodes[ME];
        let mut address = Address {
            ip: me.address.ip.clone(),
            port: settings.port,
            plain_port: settings.plain_port,
            bus_port: settings.bus_port,
        };
        if let Some(ip) = &settings.announce_ip {
            address.ip = ip.clone();
        }
        let is_news = me.address != address
            || me.hostname != settings.hostname
            || me.shard_ports != settings.shard_ports;
        me.address = address;
        me.hostname = settings.hostname.clone();
        me.shard_ports = settings.shard_ports;
        me.no_failover = settings.replica_no_failover;
        self.settings = settings;
        self.todo.judge = true;
        if is_news {
            self.todo.slot_map = true;
            self.save();
        }
    }

    /// This node's id.
    pub fn my_id(&self) -> NodeId {
        self.nodes[ME].id
    }

    /// The nodes that this one knows.
    pub fn nodes(&self) -> &NodeTable {
        &self.nodes
    }

    /// The master of the shard that this node belongs to: itself, or its master if that is known.
    pub(super) fn shard_master(&self) -> Option<NodeKey> {
        match self.nodes[ME].role {
            Role::Replica { of } => of,
            Role::Master | Role::Unknown => Some(ME),
        }
    }

    pub(super) fn i_am_master(&self) -> bool {
        self.nodes[ME].is_master()
    }
}
