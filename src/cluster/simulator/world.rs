//! Machines and the network between them, on one thread: a seed decides everything.
//!
//! Packets of one connection stay in order; they may be lost, and a connection may break. A machine may die
//! between any two effects of a step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::super::command::{LinkQueue, Surroundings};
use super::super::event::{Effect, Event, LinkId, MasterLink, TICK_MS, Upstream};
use super::super::machine::Cluster;
use super::super::random::Random;
use super::super::settings::Settings;
use super::super::slot_set::SlotSet;
use super::BrokenRule;
use super::checks::{Checks, check_sets};
use super::host::{BUS_PORT, Host, HostId, host_of, ip_of};
use crate::resp::Reply;

/// A time to begin at, in milliseconds since 1970.
pub const START_MS: u64 = 1_700_000_000_000;

/// What happens some time.
enum What {
    Tick {
        host: HostId,
        life: u64,
    },
    /// A call arrives.
    Call {
        connection: u64,
    },
    /// The caller hears that his call was taken.
    Taken {
        connection: u64,
    },
    /// A call was refused, or a connection broke.
    Broken {
        host: HostId,
        life: u64,
        link: LinkId,
        connection: u64,
    },
    Packet {
        connection: u64,
        forward: bool,
        bytes: Arc<[u8]>,
    },
    Paused {
        host: HostId,
        life: u64,
    },
}

struct Scheduled {
    at: u64,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// An end of a connection.
#[derive(Clone, Copy)]
struct End {
    host: HostId,
    life: u64,
    link: LinkId,
    /// When the last packet for it arrives: later ones do not overtake it.
    last: u64,
}

struct Connection {
    caller: End,
    /// Set when the call was taken.
    taker: Option<End>,
    to: HostId,
    /// What was sent before the call was taken.
    waiting: Vec<Arc<[u8]>>,
}

/// How bad the network and the machines are.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Of a thousand packets, how many are lost.
    pub lost_permille: u64,
    /// Longest way of a packet, in milliseconds.
    pub delay_ms_max: u64,
    /// Of a million steps, how many end with the death of the machine.
    pub crash_ppm: u64,
    /// Ways that are blocked, from and to.
    pub blocked: BTreeSet<(HostId, HostId)>,
}

pub struct World {
    pub now: u64,
    pub random: Random,
    pub hosts: Vec<Host>,
    pub faults: Faults,
    pub checks: Checks,
    pub broken_rule: Option<BrokenRule>,
    /// Whether an operator has nodes forget others in this life, and whether one has.
    pub forgets: bool,
    pub has_forgotten: bool,
    /// Packets that were sent, and their bytes.
    pub traffic: (u64, u64),
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: START_MS,
            random: Random::new([seed, 0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, !seed]),
            hosts: Vec::new(),
            faults: Faults { delay_ms_max: 5, ..Faults::default() },
            checks: Checks::default(),
            broken_rule: None,
            forgets: false,
            has_forgotten: false,
            traffic: (0, 0),
            queue: BinaryHeap::new(),
            order: 0,
            connections: BTreeMap::new(),
            next_connection: 0,
        }
    }

    /// Adds a machine; it is not started.
    pub fn add(&mut self, settings: Settings) -> HostId {
        let settings = Settings { port: 7000, bus_port: BUS_PORT, ..settings };
        self.hosts.push(Host::new(settings));
        HostId(self.hosts.len() - 1)
    }

    pub fn host(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0]
    }

    pub fn ids(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.hosts.len()).map(HostId)
    }

    pub fn running(&self) -> impl Iterator<Item = (HostId, &Cluster)> {
        let hosts = self.hosts.iter().enumerate();
        hosts.filter_map(|(index, host)| host.node.as_ref().map(|node| (HostId(index), node)))
    }

    pub fn start(&mut self, host: HostId) {
        let seed = std::array::from_fn(|_| self.random.draw());
        let (now, broken_rule) = (self.now, self.broken_rule);
        let machine = self.host(host);
        machine.start(seed, machine.clock(now));
        machine.node.as_mut().expect("it was started").broken_rule = broken_rule;
        let life = machine.life;
        let first = self.random.below(TICK_MS);
        self.schedule(first, What::Tick { host, life });
    }

    pub fn crash(&mut self, host: HostId, power: bool) {
        for connection in std::mem::take(&mut self.host(host).ends).into_values() {
            self.break_connection(connection, host);
        }
        self.host(host).crash(power);
    }

    /// Lets everything happen that is due within `duration_ms`.
    pub fn run(&mut self, duration_ms: u64) {
        let end = self.now + duration_ms;
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.happen(next.what);
        }
        self.now = end;
    }

    /// Runs until `done`, which is asked every `step_ms`, at most for `limit_ms`. How long it took, or `None`.
    pub fn run_until(
        &mut self,
        limit_ms: u64,
        step_ms: u64,
        mut done: impl FnMut(&World) -> bool,
    ) -> Option<u64> {
        let start = self.now;
        while !done(self) {
            if self.now - start >= limit_ms {
                return None;
            }
            self.run(step_ms);
        }
        Some(self.now - start)
    }

    fn schedule(&mut self, delay: u64, what: What) {
        self.schedule_at(self.now + delay, what);
    }

    fn schedule_at(&mut self, at: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, what }));
    }

    fn delay(&mut self) -> u64 {
        self.random.below(self.faults.delay_ms_max + 1)
    }

    fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        self.faults.blocked.contains(&(from, to))
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick { host, life } => self.tick(host, life),
            What::Call { connection } => self.call(connection),
            What::Taken { connection } => self.taken(connection),
            What::Broken { host, life, link, connection } => {
                if self.host(host).life == life
                    && self.host(host).ends.get(&link) == Some(&connection)
                {
                    self.host(host).ends.remove(&link);
                    self.step(host, Event::LinkLost { link, overflowed: false });
                }
            }
            What::Packet { connection, forward, bytes } => self.arrive(connection, forward, &bytes),
            What::Paused { host, life } => {
                if self.host(host).life == life && self.host(host).writes_paused {
                    let offset = self.host(host).offset;
                    self.step(host, Event::WritesPaused { offset });
                }
            }
        }
    }

    fn tick(&mut self, host: HostId, life: u64) {
        if self.host(host).life != life {
            return;
        }
        self.schedule(TICK_MS, What::Tick { host, life });
        self.replicate(host);
        let replication = self.host(host).replication();
        self.step(host, Event::Replication(replication));
        self.step(host, Event::Tick);
    }

    /// Masters write, replicas follow.
    fn replicate(&mut self, host: HostId) {
        let (now, written) = (self.now, self.random.below(50));
        let is_lazy = self.random.below(4) == 0;
        let machine = &self.hosts[host.0];
        let Some(node) = &machine.node else { return };
        let Upstream::Node { ip, .. } = &machine.upstream else {
            if machine.upstream == Upstream::None && !machine.writes_paused && !node.verdict.is_down
            {
                self.hosts[host.0].offset += written;
            }
            return;
        };
        let master = host_of(ip.as_str());
        let is_cut = self.is_blocked(host, master) || self.is_blocked(master, host);
        let runs = self.hosts.get(master.0).is_some_and(|other| other.node.is_some());
        let offset = self.hosts.get(master.0).map_or(0, |other| other.offset);
        let machine = &mut self.hosts[host.0];
        if is_cut || !runs {
            if let MasterLink::Up { heard_ms } = machine.master_link {
                machine.master_link = MasterLink::Down { since_ms: heard_ms };
            }
            return;
        }
        machine.master_link = MasterLink::Up { heard_ms: machine.clock(now) };
        if !is_lazy {
            machine.offset = offset;
        }
    }

    /// One step of a node, and all that it leads to.
    pub fn step(&mut self, host: HostId, event: Event<'_>) {
        let now = self.hosts[host.0].clock(self.now);
        self.act(host, |node, effects| node.step(now, event, effects));
    }

    /// CLUSTER, as an operator says it to a node that has no keys; what a node that does not run answers is empty.
    pub fn command(&mut self, host: HostId, line: &str) -> String {
        let now = self.hosts[host.0].clock(self.now);
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let around = Surroundings { kept: &SlotSet::new(), queue_of: &|_| LinkQueue::default() };
        let reply = self.act(host, |node, effects| {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, false);
            if let Err(refusal) = node.command(now, &words, &around, &mut reply, effects) {
                reply.error(refusal);
            }
            out
        });
        String::from_utf8(reply).expect("these replies are text")
    }

    /// Something that a node does, and all that it leads to.
    pub fn act<T: Default>(
        &mut self,
        host: HostId,
        action: impl FnOnce(&mut Cluster, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let Some(node) = &mut self.host(host).node else { return T::default() };
        let result = action(node, &mut effects);
        // Who has something to tell has changed; the walk over its nodes takes longer than most steps do.
        let has_changed = |effect: &Effect| !matches!(effect, Effect::Send { .. });
        if effects.iter().any(has_changed) {
            check_sets(node);
        }
        let dies = self.random.below(1_000_000) < self.faults.crash_ppm;
        let survived =
            if dies { self.random.below(effects.len() as u64 + 1) as usize } else { effects.len() };
        for effect in effects.into_iter().take(survived) {
            self.perform(host, effect);
        }
        if dies {
            let power = self.random.below(2) == 0;
            self.crash(host, power);
        }
        let machines = &self.hosts;
        self.checks.after_step(host, machines);
        result
    }

    fn perform(&mut self, host: HostId, effect: Effect) {
        match effect {
            Effect::Persist { nodes_conf, sync } => {
                let machine = self.host(host);
                if sync {
                    machine.synced.clone_from(&nodes_conf);
                }
                machine.written = nodes_conf;
            }
            Effect::Connect { link, ip, port } => {
                assert_eq!(port, BUS_PORT, "calls go to the bus");
                self.dial(host, link, host_of(ip.as_str()));
            }
            Effect::Close { link } => {
                if let Some(connection) = self.host(host).ends.remove(&link) {
                    self.break_connection(connection, host);
                }
            }
            Effect::Send { link, bytes } => {
                self.traffic.0 += 1;
                self.traffic.1 += bytes.len() as u64;
                self.checks.sent(host, &bytes, self.now);
                self.send(host, link, bytes);
            }
            Effect::Replicate(upstream) => {
                let machine = self.host(host);
                machine.upstream = upstream;
                machine.master_link = MasterLink::Never;
            }
            Effect::PauseWrites { .. } => {
                self.host(host).writes_paused = true;
                let (life, delay) = (self.host(host).life, self.random.below(20));
                self.schedule(delay, What::Paused { host, life });
            }
            Effect::ResumeWrites => self.host(host).writes_paused = false,
            Effect::SlotMap(_) | Effect::DeleteKeys(_) | Effect::FlushAll => {}
            Effect::Deliver { .. } | Effect::Staged(_) => {}
        }
    }

    fn dial(&mut self, host: HostId, link: LinkId, to: HostId) {
        let connection = self.next_connection;
        self.next_connection += 1;
        let life = self.host(host).life;
        self.host(host).ends.insert(link, connection);
        let caller = End { host, life, link, last: 0 };
        let dialled = Connection { caller, taker: None, to, waiting: Vec::new() };
        self.connections.insert(connection, dialled);
        let delay = self.delay();
        if !self.is_blocked(host, to) {
            self.schedule(delay, What::Call { connection });
        }
    }

    fn call(&mut self, connection: u64) {
        let Some(call) = self.connections.get(&connection) else { return };
        let (caller, to) = (call.caller, call.to);
        let delay = self.delay();
        if self.is_blocked(to, caller.host) {
            return;
        }
        if self.hosts.get(to.0).is_none_or(|machine| machine.node.is_none()) {
            self.connections.remove(&connection);
            let End { host, life, link, .. } = caller;
            return self.schedule(delay, What::Broken { host, life, link, connection });
        }
        let machine = self.host(to);
        let link = LinkId::From(machine.next_inbound);
        machine.next_inbound += 1;
        machine.ends.insert(link, connection);
        let taker = End { host: to, life: machine.life, link, last: 0 };
        if let Some(call) = self.connections.get_mut(&connection) {
            call.taker = Some(taker);
        }
        self.schedule(delay, What::Taken { connection });
        let (peer, local) = (ip_of(caller.host), ip_of(to));
        self.step(to, Event::Accepted { link, peer, local });
    }

    fn taken(&mut self, connection: u64) {
        let Some(call) = self.connections.get_mut(&connection) else { return };
        let (caller, waiting) = (call.caller, std::mem::take(&mut call.waiting));
        for bytes in waiting {
            self.send(caller.host, caller.link, bytes);
        }
        if self.host(caller.host).life == caller.life {
            self.step(caller.host, Event::Connected { link: caller.link });
        }
    }

    fn send(&mut self, host: HostId, link: LinkId, bytes: Arc<[u8]>) {
        let Some(connection) = self.host(host).ends.get(&link).copied() else { return };
        let delay = self.delay();
        let lost = self.random.below(1000) < self.faults.lost_permille;
        let now = self.now;
        let Some(ends) = self.connections.get_mut(&connection) else { return };
        let forward = matches!(link, LinkId::To(_));
        let Some(taker) = &mut ends.taker else {
            ends.waiting.push(bytes);
            return;
        };
        let target = if forward { taker } else { &mut ends.caller };
        let to = target.host;
        target.last = target.last.max(now + delay);
        let at = target.last;
        if !lost && !self.is_blocked(host, to) {
            self.schedule_at(at, What::Packet { connection, forward, bytes });
        }
    }

    fn arrive(&mut self, connection: u64, forward: bool, bytes: &[u8]) {
        let Some(ends) = self.connections.get(&connection) else { return };
        let end = if forward { ends.taker } else { Some(ends.caller) };
        let Some(end) = end else { return };
        if self.host(end.host).life == end.life && self.host(end.host).ends.contains_key(&end.link)
        {
            self.step(end.host, Event::Packet { link: end.link, bytes });
        }
    }

    /// A connection is closed at the end of `by`; the other end hears of it, if it can.
    fn break_connection(&mut self, connection: u64, by: HostId) {
        let Some(ends) = self.connections.remove(&connection) else { return };
        let other = if ends.caller.host == by { ends.taker } else { Some(ends.caller) };
        let Some(End { host, life, link, .. }) = other else { return };
        let delay = self.delay();
        if !self.is_blocked(by, host) {
            self.schedule(delay, What::Broken { host, life, link, connection });
        }
    }
}
