//! The driver of the cluster: it gives the state machine its time, its packets and its commands, and does what it
//! says ([`crate::cluster`]).
//!
//! Effects are performed in their order, one after the other: what must be on disk is there before the
//! packet that tells of it goes out, and the data cores have a new slot map before the client who asked for it has
//! its answer. Subcommands that depend on keys wait until all shards have said which slots hold some.
//!
//! Promise: if nodes.conf cannot be written, nothing later of the same step happens: the process ends.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Control;
use super::cluster_bus::Bus;
use super::cluster_conf::{ConfError, ConfFile};
use super::saving::Asker;
use crate::clock;
use crate::cluster::address::{HOST_BYTES_MAX, Host, IP_BYTES_MAX};
use crate::cluster::event::{TICK_MS, Upstream};
use crate::cluster::random::Seed;
use crate::cluster::settings::{Endpoint, Settings};
use crate::cluster::slot_moves::MoveName;
use crate::cluster::{
    Cluster, Effect, Event, NodesConf, ShardPorts, SlotMap, SlotSet, Surroundings,
    slots_in_question,
};
use crate::command::{CommandError, CommandResult};
use crate::config::Config;
use crate::config::values::EndpointType;
use crate::entropy::random_bytes;
use crate::resp::Reply;
use crate::shard::message::Message;
use crate::shard_map::ShardId;

const TICK: Duration = Duration::from_millis(TICK_MS);

/// A CLUSTER command and who waits for its answer.
struct ClusterCall {
    asker: Asker,
    /// From the subcommand on.
    words: Vec<Vec<u8>>,
    resp3: bool,
}

/// What shards were asked: which of some slots hold keys.
struct Question {
    /// Shards that have not answered.
    missing: usize,
    kept: SlotSet,
    /// The command that needs it, or nothing at the start.
    call: Option<ClusterCall>,
}

/// See the module.
pub(super) struct ClusterDriver {
    pub(super) node: Cluster,
    pub(super) bus: Bus,
    /// Whose data this process is to copy, if it does not yet.
    pub(super) wanted: Option<Upstream>,
    /// The master that is followed has been a source of data, so that this node may take its place.
    pub(super) has_data: bool,
    conf: ConfFile,
    settings: Settings,
    /// When the next tick is due; nothing before the data is loaded.
    next_tick: Option<Instant>,
    question: Option<Question>,
    /// Commands that wait for the answer to another one's question.
    queued: VecDeque<ClusterCall>,
    maps: Maps,
    /// Replies that go out when all shards have this version of the slot map.
    answers: VecDeque<(u64, Asker, CommandResult<Vec<u8>>)>,
}

/// Which slot map is in force where.
struct Maps {
    /// How many were sent.
    sent: u64,
    /// By shard, how many it has taken.
    noted: Vec<u64>,
}

impl ClusterDriver {
    /// The node that nodes.conf tells of, or a new one; nothing outside of cluster mode.
    pub(super) fn open(
        config: &Config,
        shard_ports: Option<ShardPorts>,
    ) -> Result<Option<Box<Self>>, String> {
        if !config.cluster_enabled {
            return Ok(None);
        }
        let name = &config.cluster_config_file;
        let mut conf = ConfFile::open(Path::new(name)).map_err(|error| match error {
            ConfError::Locked => format!(
                "Sorry, the cluster configuration file {name} is already used by a different Redis Cluster node. Please make sure that different nodes use different cluster configuration files."
            ),
            ConfError::System(error) => format!("Can't open {name} in order to acquire a lock: {error}"),
        })?;
        let corrupted = |error: &dyn std::fmt::Display| {
            format!("Unrecoverable error: corrupted cluster config file {name}: {error}")
        };
        let text = conf.read().map_err(|error| corrupted(&error))?;
        let known = NodesConf::parse(&text).map_err(|error| corrupted(&error))?;
        let (settings, now_ms) = (settings_of(config, shard_ports), clock::unix_ms() as u64);
        let seed = seed().map_err(|error| format!("no random numbers: {error}"))?;
        let node = match known {
            Some(known) => Cluster::restore(&known, settings.clone(), seed, now_ms)
                .map_err(|error| corrupted(&error))?,
            None => Cluster::new(settings.clone(), seed, now_ms),
        };
        tracing::info!("Node configuration loaded, I'm {}", node.my_id());
        Ok(Some(Box::new(Self {
            node,
            bus: Bus::default(),
            wanted: None,
            has_data: false,
            conf,
            settings,
            next_tick: None,
            question: None,
            queued: VecDeque::new(),
            maps: Maps { sent: 0, noted: Vec::new() },
            answers: VecDeque::new(),
        })))
    }

    /// Whether the node takes part in its cluster: its data is loaded.
    pub(super) fn is_ticking(&self) -> bool {
        self.next_tick.is_some()
    }
}

impl Control {
    /// Tells shards whose slots are whose, before they have a client; and writes the file of a new node.
    pub(super) fn start_cluster(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let settings = cluster.settings.clone();
        self.cluster_step(Event::Settings(settings));
    }

    /// One step of the node.
    pub(super) fn cluster_step(&mut self, event: Event<'_>) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut effects = Vec::new();
        cluster.node.step(clock::unix_ms() as u64, event, &mut effects);
        self.perform(effects);
    }

    /// Does what the node says. Links that cannot be opened are told to it afterwards.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        let mut lost = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist { nodes_conf, sync } => self.persist(&nodes_conf, sync),
                Effect::Connect { link, ip, port } => {
                    if !self.open_link(link, &ip, port) {
                        lost.push(link);
                    }
                }
                Effect::Close { link } => self.close_link(link),
                Effect::Send { link, bytes } => self.send_on_link(link, &bytes),
                Effect::Replicate(upstream) => self.set_upstream(upstream),
                Effect::PauseWrites { until_ms } => self.pause_writes(until_ms),
                Effect::ResumeWrites => self.resume_writes(),
                Effect::SlotMap(map) => self.send_slot_map(&map),
                Effect::DeleteKeys(slots) => self.tell_all(|| Message::SlotsLost(slots.clone())),
                Effect::Staged(ranges) => self.tell_replicas_of_staged(&ranges),
                Effect::FlushAll => {
                    // What is being saved is of the past.
                    self.abandon_snapshot();
                    self.tell_all(|| Message::Clear);
                }
                Effect::Deliver { channel, message, sharded } => {
                    self.deliver(channel, message, sharded);
                }
            }
        }
        for link in lost {
            self.cluster_step(Event::LinkLost { link, overflowed: false });
        }
    }

    fn persist(&mut self, nodes_conf: &str, sync: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Err(error) = cluster.conf.write(nodes_conf, sync) {
            tracing::error!("Fatal: can't update cluster config file: {error:?}");
            std::process::exit(1);
        }
    }

    /// A client sends a CLUSTER command.
    pub(super) fn on_cluster_call(&mut self, asker: Asker, words: Vec<Vec<u8>>, resp3: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.queued.push_back(ClusterCall { asker, words, resp3 });
        self.go_on_with_calls();
    }

    fn go_on_with_calls(&mut self) {
        loop {
            let Some(cluster) = &mut self.cluster else { return };
            if cluster.question.is_some() {
                return;
            }
            let Some(call) = cluster.queued.pop_front() else { return };
            let slots = slots_in_question(&call.words);
            if slots.is_empty() {
                self.run_call(call, &slots);
            } else {
                self.ask_for_keys(slots, Some(call));
            }
        }
    }

    fn run_call(&mut self, call: ClusterCall, kept: &SlotSet) {
        let Some(cluster) = &mut self.cluster else { return };
        let ClusterDriver { node, bus, .. } = &mut **cluster;
        let sockets = &self.sockets;
        let around = Surroundings { kept, queue_of: &|link| bus.queue(link, sockets) };
        let (mut reply, mut effects) = (Vec::new(), Vec::new());
        let result = node.command(
            clock::unix_ms() as u64,
            &call.words,
            &around,
            &mut Reply::new(&mut reply, call.resp3),
            &mut effects,
        );
        self.perform(effects);
        let result =
            result.map(|()| reply).map_err(|refusal| CommandError::owned(refusal.to_string()));
        if let Some(cluster) = &mut self.cluster {
            cluster.answers.push_back((cluster.maps.sent, call.asker, result));
        }
        self.send_answers();
    }

    fn send_slot_map(&mut self, map: &Arc<SlotMap>) {
        if let Some(cluster) = &mut self.cluster {
            cluster.maps.sent += 1;
            cluster.maps.noted.resize(self.shards.len(), 0);
        }
        self.tell_all(|| Message::SlotMap(Arc::clone(map)));
    }

    /// A shard has taken a slot map.
    pub(super) fn on_slot_map_noted(&mut self, shard: ShardId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.maps.noted[shard.index()] += 1;
            self.send_answers();
        }
    }

    /// Answers those whose changes are in force on all shards.
    fn send_answers(&mut self) {
        loop {
            let Some(cluster) = &mut self.cluster else { return };
            let noted = cluster.maps.noted.iter().copied().min().unwrap_or(0);
            if cluster.answers.front().is_none_or(|(version, ..)| *version > noted) {
                return;
            }
            let Some((_, (shard, ticket), result)) = cluster.answers.pop_front() else { return };
            self.tell(shard, Message::ClusterDone(Box::new((ticket, result))));
        }
    }

    fn ask_for_keys(&mut self, slots: SlotSet, call: Option<ClusterCall>) {
        let Some(cluster) = &mut self.cluster else { return };
        let missing = self.shards.len();
        cluster.question = Some(Question { missing, kept: SlotSet::new(), call });
        self.tell_all(|| Message::WhichHoldKeys(slots.clone()));
    }

    /// A shard has keys in these slots, of those that it was asked for.
    pub(super) fn on_slots_with_keys(&mut self, slots: &SlotSet) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(question) = &mut cluster.question else { return };
        slots.iter().for_each(|slot| {
            question.kept.insert(slot);
        });
        question.missing -= 1;
        if question.missing > 0 {
            return;
        }
        if let Some(Question { kept, call, .. }) = cluster.question.take() {
            match call {
                Some(call) => self.run_call(call, &kept),
                None => self.begin_ticking(kept),
            }
        }
        self.go_on_with_calls();
    }

    /// The connection is gone that brought slots to here.
    pub(super) fn on_import_lost(&mut self, name: &MoveName) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut effects = Vec::new();
        cluster.node.import_lost(clock::unix_ms() as u64, name, &mut effects);
        self.perform(effects);
    }

    /// The data is loaded, and the node knows of it.
    fn begin_ticking(&mut self, kept: SlotSet) {
        self.cluster_step(Event::KeysFound(kept));
        if let Some(cluster) = &mut self.cluster {
            cluster.next_tick = Some(Instant::now());
        }
    }

    /// Lets time pass; to be called every turn.
    pub(super) fn go_on_with_cluster(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(due) = cluster.next_tick else {
            if self.loading.is_none() && cluster.question.is_none() {
                self.ask_for_keys(SlotSet::all(), None);
            }
            return;
        };
        self.look_at_connecting_links(now);
        self.follow_as_wanted();
        self.go_on_with_takeover();
        if now < due {
            return;
        }
        if let Some(cluster) = &mut self.cluster {
            // Ticks that were missed are not made up for: they are about what is due now.
            cluster.next_tick = Some((due + TICK).max(now));
        }
        let facts = self.replication_facts();
        self.cluster_step(Event::Replication(facts));
        self.cluster_step(Event::Tick);
        self.close_overflowing_links();
        self.tell_cluster_figures();
    }

    /// How long shards may go on, and what INFO says of the bus.
    fn tell_cluster_figures(&self) {
        let Some(cluster) = &self.cluster else { return };
        let others = cluster.node.nodes().len() as u64 - 1;
        self.process.cluster_lease_ms.store(cluster.node.lease_ms(), Ordering::Relaxed);
        self.process.cluster_connections.store(2 * others, Ordering::Relaxed);
        let waiting = cluster.bus.waiting_bytes(&self.sockets) as u64;
        self.process.cluster_link_bytes.store(waiting, Ordering::Relaxed);
    }

    /// When [`Control::go_on_with_cluster`] has something to do next.
    pub(super) fn next_cluster_look(&self) -> Option<Instant> {
        let cluster = self.cluster.as_ref()?;
        cluster.next_tick.into_iter().chain(cluster.bus.next_look()).min()
    }

    /// The configuration has changed.
    pub(super) fn cluster_settings_changed(&mut self) {
        let settings = settings_of(&self.config, self.listeners.shard_ports());
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.settings != settings {
            cluster.settings = settings.clone();
            self.cluster_step(Event::Settings(settings));
        }
    }
}

/// What the configuration says to the node.
fn settings_of(config: &Config, shard_ports: Option<ShardPorts>) -> Settings {
    let or = |announced: u16, port: u16| if announced == 0 { port } else { announced };
    let plain_port = or(config.cluster_announce_port, config.port);
    let tls_port = or(config.cluster_announce_tls_port, config.tls_port);
    let announce_ip = Host::parse(config.cluster_announce_ip.as_bytes(), IP_BYTES_MAX);
    let hostname = Host::parse(config.cluster_announce_hostname.as_bytes(), HOST_BYTES_MAX);
    Settings {
        node_timeout_ms: config.cluster_node_timeout,
        replica_validity_factor: config.cluster_replica_validity_factor.into(),
        repl_ping_period_ms: u64::from(config.repl_ping_replica_period) * 1000,
        migration_barrier: config.cluster_migration_barrier as usize,
        allow_replica_migration: config.cluster_allow_replica_migration,
        replica_no_failover: config.cluster_replica_no_failover,
        require_full_coverage: config.cluster_require_full_coverage,
        endpoint: match config.cluster_preferred_endpoint_type {
            EndpointType::Ip => Endpoint::Ip,
            EndpointType::Hostname => Endpoint::Hostname,
            EndpointType::UnknownEndpoint => Endpoint::Unknown,
        },
        announce_ip: announce_ip.filter(|ip| !ip.is_empty()),
        port: if config.tls_cluster { tls_port } else { plain_port },
        plain_port: if config.tls_cluster { plain_port } else { 0 },
        bus_port: or(config.cluster_announce_bus_port, config.bus_port().unwrap_or_default()),
        shard_ports: shard_ports
            .map(|ports| ports.from_or_same(config.cluster_announce_shard_port_base)),
        hostname: hostname.unwrap_or_default(),
    }
}

fn seed() -> std::io::Result<Seed> {
    let bytes = random_bytes::<{ size_of::<Seed>() }>()?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok([words[0], words[1], words[2], words[3]].map(u64::from_ne_bytes))
}
