//! Nodes that follow each other over links that break: a seed decides what happens next.
//!
//! The data of a node is the stream itself, from its beginning; a snapshot is a copy of it. So whether a byte was
//! lost, doubled or taken out of order shows by comparing. Checked after every step: a replica whose link
//! is up has a beginning of what its master has. Checked at the end, when nothing breaks any more: all
//! have the same.
//!
//! `crate::seeds` says how to run one seed again, and millions.

use std::sync::Arc;

use super::ids::{History, ReplId};
use super::master::{self, Master, Profile, Request};
use super::replica::{self, Chunk, Introduction, Link};
use super::stream_reader::next_command;
use crate::journal::recorder::write_effect;
use crate::resp::{Limits, Parser};
use crate::seeds::each_seed;

/// These take a minute on two cores.
const SEEDS: u64 = 100_000;
const STEPS: usize = 1500;

struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn id(&mut self) -> ReplId {
        ReplId::from_random(std::array::from_fn(|_| self.draw() as u8))
    }
}

/// A connection from a replica to its master.
struct Wire {
    key: u32,
    replica: usize,
    master: usize,
    to_master: Vec<u8>,
    to_replica: Vec<u8>,
    /// What the replica says before it asks for data is heard by somebody else.
    greeting: Vec<u8>,
    attached: bool,
}

/// What a node has: it grows at its end, or is replaced as a whole.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    /// How often it was replaced.
    replaced: u64,
}

impl Data {
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn replace(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.replaced += 1;
    }
}

/// So many bytes of a replica were found to be those of its master; what was neither replaced nor is new since need not be
/// compared again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Compared {
    master: usize,
    replaced: (u64, u64),
    bytes: usize,
}

struct Node {
    master: Master<u32>,
    link: Option<Link>,
    /// Whom it follows.
    follows: Option<usize>,
    data: Data,
    compared: Compared,
    loading: Vec<u8>,
    load_is_over: bool,
    chunk: Option<Chunk>,
    /// What is left of the snapshot that is being sent.
    snapshot: Option<Vec<u8>>,
}

struct World {
    random: Random,
    now: i64,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    next_key: u32,
    writes: u64,
    full: u64,
    partial: u64,
}

fn settings(random: &mut Random) -> master::Settings {
    master::Settings {
        backlog_bytes: if random.chance(50) { 16 * 1024 } else { 1 << 20 },
        backlog_ttl_ms: 0,
        ping_period_ms: 3_000,
        timeout_ms: 20_000,
        snapshot_delay_ms: if random.chance(50) { 0 } else { 500 },
        snapshot_replicas: 0,
        diskless: random.chance(70),
        output_limits: (0, 0, 0),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..10).for_each(|_| _ = random.draw());
        let mut nodes = Vec::new();
        for number in 0..3 {
            let history = History::new(random.id());
            let settings = settings(&mut random);
            let mut node = Node {
                master: Master::new(history, settings),
                link: None,
                follows: None,
                data: Data::default(),
                compared: Compared { master: number, replaced: (0, 0), bytes: 0 },
                loading: Vec::new(),
                load_is_over: false,
                chunk: None,
                snapshot: None,
            };
            if number > 0 {
                node.follows = Some(random.below(number));
                node.link = Some(Link::new(introduction(), None));
            }
            nodes.push(node);
        }
        let (now, wires) = (1_000_000, Vec::new());
        Self { random, now, nodes, wires, next_key: 0, writes: 0, full: 0, partial: 0 }
    }

    fn write(&mut self) {
        let Some(at) = self.nodes.iter().position(|node| node.link.is_none()) else { return };
        let mut stream = Vec::new();
        for _ in 0..self.random.below(5) {
            self.writes += 1;
            let number = self.writes.to_string();
            let value = vec![b'v'; self.random.below(400)];
            let block = self.random.chance(20);
            if block {
                write_effect(&mut stream, &[b"MULTI"]);
            }
            write_effect(&mut stream, &[b"SET", number.as_bytes(), &value]);
            if block {
                write_effect(&mut stream, &[b"INCR", b"n"]);
                write_effect(&mut stream, &[b"EXEC"]);
            }
        }
        self.append(at, &stream);
    }

    /// The stream of a node that follows nobody goes on. Without a backlog it has no positions: what is written is
    /// in the data all the same.
    fn append(&mut self, at: usize, stream: &[u8]) {
        let node = &mut self.nodes[at];
        node.data.append(stream);
        node.master.append(stream);
    }

    // ---- connections ----

    fn connect(&mut self, replica: usize) {
        let Some(master) = self.nodes[replica].follows else { return };
        self.next_key += 1;
        self.wires.push(Wire {
            key: self.next_key,
            replica,
            master,
            to_master: Vec::new(),
            to_replica: Vec::new(),
            greeting: Vec::new(),
            attached: false,
        });
        if let Some(link) = &mut self.nodes[replica].link {
            link.connected(self.now);
        }
    }

    fn cut(&mut self, at: usize) {
        let wire = self.wires.swap_remove(at);
        self.nodes[wire.master].master.detach(self.now, wire.key);
        if let Some(link) = &mut self.nodes[wire.replica].link {
            link.closed(self.now);
        }
    }

    fn deliver(&mut self, at: usize, most: usize) {
        let wire = &mut self.wires[at];
        let count = most.min(wire.to_replica.len());
        let bytes: Vec<u8> = wire.to_replica.drain(..count).collect();
        if let Some(link) = &mut self.nodes[wire.replica].link
            && count > 0
        {
            link.received(self.now, &bytes);
        }
        let count = most.min(wire.to_master.len());
        let bytes: Vec<u8> = wire.to_master.drain(..count).collect();
        if wire.attached {
            self.nodes[wire.master].master.received(self.now, wire.key, &bytes);
        } else if count > 0 {
            wire.greeting.extend(bytes);
            self.greet(at);
        }
    }

    /// What the client side of the master does with a connection that has not asked for data.
    fn greet(&mut self, at: usize) {
        let wire = &mut self.wires[at];
        loop {
            let (mut parser, mut said) = (Parser::default(), Vec::new());
            let found = next_command(&mut parser, &wire.greeting, &Limits::default(), |words| {
                said = words.iter().map(|word| word.to_vec()).collect();
            });
            let Ok(Some((length, _))) = found else { return };
            wire.greeting.drain(..length);
            match said[0].as_slice() {
                b"PING" => wire.to_replica.extend(b"+PONG\r\n"),
                b"REPLCONF" => wire.to_replica.extend(b"+OK\r\n"),
                b"PSYNC" => {
                    let offset = String::from_utf8_lossy(&said[2]).parse().unwrap();
                    let profile = Profile { eof: true, psync2: true, ..Profile::default() };
                    let master = &mut self.nodes[wire.master].master;
                    let before = master.counts;
                    let request = Request::Psync(&said[1], offset);
                    master.attach(self.now, wire.key, profile, request);
                    self.full += master.counts.full - before.full;
                    self.partial += master.counts.partial - before.partial;
                    wire.attached = true;
                    let rest = std::mem::take(&mut wire.greeting);
                    return self.nodes[wire.master].master.received(self.now, wire.key, &rest);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    // ---- what nodes do ----

    fn go_on(&mut self, at: usize) {
        let is_replica = self.nodes[at].link.is_some();
        if let Some(link) = &mut self.nodes[at].link {
            link.tick(self.now);
        }
        let before = self.nodes[at].master.history.end;
        self.nodes[at].master.tick(self.now, is_replica);
        // Pings are part of the stream.
        let node = &mut self.nodes[at];
        let said = (node.master.history.end - before) as usize;
        if said > 0 {
            assert_eq!(said, 14);
            node.data.append(b"*1\r\n$4\r\nping\r\n");
        }
        self.go_on_with_snapshot(at);
        self.go_on_with_chunk(at);
        self.do_of_link(at);
        self.do_of_master(at);
    }

    fn go_on_with_snapshot(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let is_settled = node.link.as_ref().is_none_or(|link| link.is_up() && node.chunk.is_none());
        if node.master.wants_snapshot(self.now) && is_settled {
            let (id, mark) = (self.random.id(), self.random.id());
            node.master.snapshot_asked();
            node.master.snapshot_begins(id, mark.as_bytes().try_into().unwrap());
            node.snapshot = Some(node.data.bytes.clone());
        }
        let Some(left) = &mut node.snapshot else { return };
        if self.random.below(300) == 0 {
            node.snapshot = None;
            return node.master.snapshot_ends(self.now, false);
        }
        let count = left.len().min(1 + self.random.below(20_000));
        let bytes: Vec<u8> = left.drain(..count).collect();
        node.master.snapshot_bytes(Arc::from(bytes));
        if left.is_empty() {
            node.snapshot = None;
            node.master.snapshot_ends(self.now, true);
        }
    }

    fn go_on_with_chunk(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(link) = &mut node.link else { return };
        if node.load_is_over {
            node.load_is_over = false;
            let well = self.random.below(50) != 0;
            if well {
                node.data.replace(std::mem::take(&mut node.loading));
            } else {
                // As Redis does, which has emptied itself before.
                node.data.replace(Vec::new());
            }
            link.loaded(self.now, well);
            if let Some((id, position)) = link.known() {
                node.master.resynchronised(id, position);
            }
        }
        if let Some(chunk) = node.chunk.take() {
            node.data.append(&chunk.verbatim);
            node.master.append(&chunk.verbatim);
            link.applied(&chunk);
        } else {
            node.chunk = link.next_chunk(self.now);
        }
    }

    fn do_of_link(&mut self, at: usize) {
        let doings = match &mut self.nodes[at].link {
            Some(link) => link.take_doings(),
            None => return,
        };
        for doing in doings {
            match doing {
                replica::Doing::Refused => unreachable!("nobody hands over here"),
                replica::Doing::Connect => {
                    if self.random.chance(80) {
                        self.connect(at);
                    } else if let Some(link) = &mut self.nodes[at].link {
                        link.closed(self.now);
                    }
                }
                replica::Doing::Disconnect => {
                    if let Some(wire) = self.wires.iter().position(|wire| wire.replica == at) {
                        let wire = self.wires.swap_remove(wire);
                        self.nodes[wire.master].master.detach(self.now, wire.key);
                    }
                }
                replica::Doing::Write(bytes) => {
                    let mut wires = self.wires.iter_mut();
                    if let Some(wire) = wires.find(|wire| wire.replica == at) {
                        wire.to_master.extend(bytes);
                    }
                }
                replica::Doing::BeginLoad { .. } | replica::Doing::AbortLoad => {
                    self.nodes[at].loading.clear();
                }
                replica::Doing::Load(bytes) => self.nodes[at].loading.extend(bytes),
                replica::Doing::EndLoad => self.nodes[at].load_is_over = true,
                replica::Doing::Continue(id) => self.nodes[at].master.continued_as(id),
            }
        }
    }

    fn do_of_master(&mut self, at: usize) {
        for doing in self.nodes[at].master.take_doings() {
            match doing {
                master::Doing::Close(key) => {
                    if let Some(wire) = self.wires.iter().position(|wire| wire.key == key) {
                        self.cut(wire);
                    }
                }
                master::Doing::Send(_) | master::Doing::Acknowledged => {}
            }
        }
        for wire in self.wires.iter_mut().filter(|wire| wire.master == at && wire.attached) {
            let out = self.nodes[at].master.take_output(wire.key);
            wire.to_replica.extend(out);
        }
    }

    /// The first node goes; the second takes over, and the others follow it, the old one with what it had.
    fn fail_over(&mut self) {
        let old = self.nodes.iter().position(|node| node.link.is_none()).unwrap();
        let ready =
            |node: &Node| node.link.as_ref().is_some_and(Link::is_up) && node.chunk.is_none();
        let Some(new) = self.nodes.iter().position(|node| node.follows == Some(old) && ready(node))
        else {
            return;
        };
        while let Some(wire) = self.wires.iter().position(|w| w.replica == new || w.master == old) {
            self.cut(wire);
        }
        let id = self.random.id();
        let node = &mut self.nodes[new];
        (node.link, node.follows) = (None, None);
        node.master.promote(id);
        let node = &mut self.nodes[old];
        let known = node.master.wants_stream().then_some(node.master.history);
        let known = known.map(|history| (history.id, history.end));
        // What it sends to its own replicas is not the stream any more.
        node.master.close_all();
        node.snapshot = None;
        node.master.snapshot_ends(self.now, false);
        node.link = Some(Link::new(introduction(), known));
        for at in 0..self.nodes.len() {
            if at != new {
                if let Some(wire) = self.wires.iter().position(|wire| wire.replica == at) {
                    self.cut(wire);
                }
                self.nodes[at].follows = Some(new);
            }
        }
    }

    fn check(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &self.nodes[number];
            let (Some(link), Some(at)) = (&node.link, node.follows) else { continue };
            let is_attached = self.wires.iter().any(|w| w.replica == number && w.master == at);
            let master = &self.nodes[at];
            if !link.is_up() || !is_attached || !master_is_settled(master) {
                continue;
            }
            let (ours, theirs) = (&node.data.bytes, &master.data.bytes);
            let replaced = (node.data.replaced, master.data.replaced);
            let before = Compared { master: at, replaced, bytes: node.compared.bytes };
            let known = if node.compared == before { before.bytes } else { 0 };
            assert!(
                theirs.len() >= ours.len() && theirs[known..].starts_with(&ours[known..]),
                "node {number} has something else than its master"
            );
            self.nodes[number].compared = Compared { bytes: ours.len(), ..before };
        }
    }

    fn step(&mut self, breaks: bool) {
        self.now += self.random.below(200) as i64;
        match self.random.below(10) {
            0 if breaks => self.write(),
            1 if breaks && self.random.below(30) == 0 => self.fail_over(),
            1 if breaks && !self.wires.is_empty() && self.random.below(10) == 0 => {
                let at = self.random.below(self.wires.len());
                self.cut(at);
            }
            2..=5 if !self.wires.is_empty() => {
                let at = self.random.below(self.wires.len());
                let most = if self.random.chance(50) { 100_000 } else { self.random.below(500) };
                self.deliver(at, most);
            }
            _ => {
                let at = self.random.below(self.nodes.len());
                self.go_on(at);
            }
        }
        self.check();
    }

    fn is_settled(&self) -> bool {
        let top = self.nodes.iter().find(|node| node.link.is_none());
        self.nodes.iter().all(|node| {
            node.link.as_ref().is_none_or(Link::is_up)
                && node.chunk.is_none()
                && top.is_some_and(|top| node.data.bytes == top.data.bytes)
        })
    }
}

/// Whether what a node has is what it hands on: not while it is about to be given other data itself.
fn master_is_settled(node: &Node) -> bool {
    node.link.as_ref().is_none_or(Link::is_up)
}

fn introduction() -> Introduction {
    Introduction { port: 1, timeout_ms: 20_000, ..Introduction::default() }
}

fn run(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step(true);
    }
    for _ in 0..200 {
        (0..100).for_each(|_| world.step(false));
        if world.is_settled() {
            return (world.full, world.partial);
        }
    }
    panic!("the nodes do not come to have the same");
}

#[test]
fn replicas_come_to_have_what_their_master_has() {
    let lives = each_seed("replication links", SEEDS, run);
    let full: u64 = lives.iter().map(|(full, _)| full).sum();
    let partial: u64 = lives.iter().map(|(_, partial)| partial).sum();
    assert!(lives.len() < 100 || (full > 0 && partial > 0));
}
