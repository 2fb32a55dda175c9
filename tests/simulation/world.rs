//! Several shards, their lanes and their clients on one thread: who does what next is drawn from a seed.
//!
//! The shards and the lanes are the real ones. What stands in for the reactor does what the reactor
//! promises and no more: bytes come in pieces of any size, output is taken when nothing of it is in
//! flight, what is sent may be sent in parts, connections end at any moment.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corelane::config::Config;
use corelane::lanes::{self, Doorbell};
use corelane::process::Process;
use corelane::reactor::{Action, CloseReason, ConnId, Peer, Service};
use corelane::resp::parse_reply::{Value, parse_reply};
use corelane::shard::Shard;
use corelane::shard_map::{ShardId, ShardMap};

use crate::control::Control;
use crate::random::Random;
use crate::talker::{Call, Talker};

/// Rounds, in which every core has a turn, within which each reply that is owed has to come. A
/// transaction takes four if nobody is in its way; lanes of one message take the rest.
const ROUNDS_PER_REPLY_MAX: usize = 10;
/// As many more if replies wait for the disk.
const ROUNDS_FOR_DISK: usize = 4;
/// How long a step takes, as far as shards see. Effects that may wait in a shard do so for some dozen.
const STEP_TIME: Duration = Duration::from_micros(200);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    /// The shard asked to close it: its output is still sent.
    Closing,
    Closed,
}

/// A connection as the reactor and the client at its other end know it.
struct Link {
    shard: usize,
    conn: ConnId,
    stage: Stage,
    reading: bool,
    half_closed: bool,
    /// The client went away without waiting for what it is owed.
    cut: bool,
    /// Bytes from the client that have not arrived.
    input: Vec<u8>,
    /// Bytes for the client that have not arrived, and the buffer they came in.
    in_flight: Vec<u8>,
    more_output: bool,
    /// Bytes that arrived and are no whole reply yet.
    heard: Vec<u8>,
    talker: Talker,
}

/// What the seed says about the whole run.
struct Weather {
    /// Percentage of steps in which a core has a turn.
    turns: usize,
    /// Percentage of those turns that the favourite has.
    favour: usize,
    /// Percentage of reads that bring everything there is.
    whole_reads: usize,
    /// Percentage of sends that take everything there is.
    whole_sends: usize,
    /// A mortal client is cut in one of so many steps.
    cut_every: usize,
}

/// See the module.
pub struct World {
    pub random: Random,
    pub shards: Vec<Shard>,
    control: Control,
    appendonly: bool,
    process: Arc<Process>,
    links: Vec<Link>,
    /// Generations of the places in each shard's table of connections, and the free places.
    places: Vec<(Vec<u32>, Vec<u32>)>,
    weather: Weather,
    favourite: usize,
    began: Instant,
    step: u64,
    /// Clients that went away and may have left a command behind that still runs.
    left_behind: usize,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = if random.chance(10) { 1 } else { random.between(2, 5) };
        let capacity = *random.pick(&[1, 2, 2, 4, 16, 1024]);
        let bell = || Doorbell::new(File::open("/dev/null").expect("every system has it").into());
        let doorbells: Vec<_> = (0..=count).map(|_| Arc::new(bell())).collect();
        let mut ports = lanes::mesh(&doorbells, capacity);
        let events = *random.pick::<&str>(&["", "", "KEAmn"]);
        let appendonly = if random.chance(50) { "yes" } else { "no" };
        let appendfsync = *random.pick(&["always", "everysec"]);
        let words = [
            b"notify-keyspace-events".to_vec(),
            events.into(),
            b"appendonly".to_vec(),
            appendonly.into(),
            b"appendfsync".to_vec(),
            appendfsync.into(),
        ];
        let config = Config::default().set(&words, true).expect("Redis takes them too");
        let config = Arc::new(config);
        let process = Arc::new(Process::new("0".repeat(40), 6379, None));
        let map = ShardMap::new(count as u16).expect("it is between 1 and 4");
        let control = Control::new(ports.pop().expect("the last port"), Arc::clone(&config));
        let shards = ports.into_iter().zip(map.iter());
        let shards: Vec<_> = shards
            .map(|(port, id)| Shard::new(id, map, config.clone(), process.clone(), port, seed))
            .collect();
        let weather = Weather {
            turns: *random.pick(&[10, 40, 40, 70]),
            favour: *random.pick(&[0, 0, 50, 90]),
            whole_reads: *random.pick(&[0, 50, 95]),
            whole_sends: *random.pick(&[0, 50, 95]),
            cut_every: *random.pick(&[50, 200, 1000]),
        };
        let places = shards.iter().map(|_| Default::default()).collect();
        let links = Vec::new();
        Self {
            random,
            shards,
            control,
            appendonly: appendonly == "yes",
            process,
            links,
            places,
            weather,
            favourite: 0,
            began: Instant::now(),
            step: 0,
            left_behind: 0,
        }
    }

    /// What the journal holds, if there is one.
    pub fn journal(&self) -> Option<&[u8]> {
        self.appendonly.then_some(&*self.control.journal)
    }

    /// Number of the step: the clock of this world.
    pub fn now(&self) -> u64 {
        self.step
    }

    /// A key of this shard whose name begins with `name`.
    pub fn key_of_shard(&self, name: &str, shard: usize) -> String {
        let map = ShardMap::new(self.shards.len() as u16).expect("it is between 1 and 4");
        let wanted = ShardId((shard % self.shards.len()) as u16);
        (0..)
            .map(|number| format!("{name}:{number}"))
            .find(|key| map.owner(corelane::slot::slot_of(key.as_bytes())) == wanted)
            .expect("each shard owns many names")
    }

    /// `count` keys, spread over the shards.
    pub fn keys(&mut self, name: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| self.key_of_shard(&format!("{name}{n}"), n)).collect()
    }

    // ---- connections ----

    /// Connects a client to some shard.
    pub fn connect(&mut self, talker: Talker) {
        let shard = self.random.below(self.shards.len());
        self.connect_to(shard, talker);
    }

    pub fn connect_to(&mut self, shard: usize, talker: Talker) {
        let (generations, free) = &mut self.places[shard];
        let index = free.pop().unwrap_or_else(|| {
            generations.push(0);
            generations.len() as u32 - 1
        });
        generations[index as usize] += 1;
        let conn = ConnId::from_parts(index, generations[index as usize]);
        self.process.clients.fetch_add(1, Ordering::Relaxed);
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let peer = Peer::Tcp { remote: address(20_000 + index as u16), local: address(6379) };
        // As the control core does, which deals the connections.
        self.shards[shard].opened(conn, peer, self.process.client_id());
        self.links.push(Link {
            shard,
            conn,
            stage: Stage::Open,
            reading: true,
            half_closed: false,
            cut: false,
            input: Vec::new(),
            in_flight: Vec::new(),
            more_output: false,
            heard: Vec::new(),
            talker,
        });
    }

    /// The connection is gone: the shard hears of it, the place is free.
    fn end(&mut self, at: usize, why: CloseReason) {
        let link = &mut self.links[at];
        link.stage = Stage::Closed;
        self.shards[link.shard].closed(link.conn, why);
        self.places[link.shard].1.push(link.conn.index() as u32);
    }

    /// The client is gone, whatever it is owed.
    fn cut(&mut self, at: usize) {
        self.links[at].cut = true;
        self.left_behind += 1;
        self.end(at, CloseReason::Failed(io::ErrorKind::ConnectionReset.into()));
    }

    /// Forgets closed connections; clients that may lose theirs come back on new ones.
    fn bury(&mut self) {
        let mut at = 0;
        while at < self.links.len() {
            if self.links[at].stage != Stage::Closed {
                at += 1;
                continue;
            }
            let Link { mut talker, cut, .. } = self.links.swap_remove(at);
            let (name, waits) = (&talker.name, talker.waits_for());
            let may_end = cut || talker.patient || talker.owed() == 0;
            assert!(may_end, "{name} was closed, waiting for {waits:.200}");
            if talker.mortal {
                talker.start_over();
                self.connect(talker);
            }
        }
    }

    fn link_of(&mut self, shard: usize, conn: ConnId) -> Option<usize> {
        let named = |link: &Link| link.shard == shard && link.conn == conn;
        self.links.iter().position(|link| named(link) && link.stage != Stage::Closed)
    }

    // ---- what stands in for the reactor ----

    fn turn(&mut self, core: usize) {
        if core == self.shards.len() {
            return self.control.turn();
        }
        let now = self.began + STEP_TIME * self.step as u32;
        _ = self.shards[core].turn(now);
        let mut actions = Vec::new();
        self.shards[core].drain_actions(&mut actions);
        for action in actions {
            self.perform(core, action);
        }
        self.bury();
    }

    fn perform(&mut self, core: usize, action: Action) {
        let (Action::Send(conn)
        | Action::PauseReading(conn)
        | Action::ResumeReading(conn)
        | Action::Close(conn)
        | Action::Abort(conn)) = action
        else {
            panic!("no shard does this here: {action:?}");
        };
        let Some(at) = self.link_of(core, conn) else { return };
        let link = &mut self.links[at];
        match action {
            Action::Send(_) if link.in_flight.is_empty() => _ = self.take_output(at),
            Action::Send(_) => link.more_output = true,
            Action::PauseReading(_) => link.reading = false,
            Action::ResumeReading(_) => link.reading = true,
            Action::Close(_) => {
                link.stage = Stage::Closing;
                self.go_on_closing(at);
            }
            _ => self.end(at, CloseReason::Asked),
        }
    }

    fn take_output(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        link.more_output = false;
        let output = self.shards[link.shard].take_output(link.conn);
        if output.is_empty() {
            self.shards[link.shard].recycle(output);
            return false;
        }
        link.in_flight = output;
        true
    }

    fn go_on_closing(&mut self, at: usize) {
        if self.links[at].in_flight.is_empty() && !self.take_output(at) {
            self.end(at, CloseReason::Asked);
        }
    }

    /// The client gets the next `count` bytes.
    fn send_some(&mut self, at: usize, count: usize) {
        let link = &mut self.links[at];
        link.heard.extend(link.in_flight.drain(..count));
        self.shards[link.shard].sent(link.conn, count);
        let mut used = 0;
        while let Some((reply, length)) =
            parse_reply(&link.heard[used..]).expect("what comes is a reply")
        {
            used += length;
            link.talker.hear(self.step, &reply);
        }
        link.heard.drain(..used);
        if !link.in_flight.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut link.in_flight);
        buffer.clear();
        self.shards[link.shard].recycle(buffer);
        match link.stage {
            Stage::Closing => self.go_on_closing(at),
            _ if link.more_output => _ = self.take_output(at),
            _ => {}
        }
    }

    /// The shard gets the next `count` bytes of a client.
    fn receive_some(&mut self, at: usize, count: usize) {
        let link = &mut self.links[at];
        let bytes: Vec<u8> = link.input.drain(..count).collect();
        self.shards[link.shard].received(link.conn, &bytes);
    }

    fn can_receive(link: &Link) -> bool {
        link.stage == Stage::Open && link.reading && !link.half_closed
    }

    // ---- the run ----

    /// Lets `steps` random things happen.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step += 1;
            if self.random.below(100) < self.weather.turns {
                let core = self.next_core();
                self.turn(core);
            } else if !self.links.is_empty() {
                let at = self.random.below(self.links.len());
                self.disturb(at);
            }
        }
    }

    /// Everybody says all there is to say now.
    pub fn say_everything(&mut self) {
        for link in &mut self.links {
            while let Some(bytes) = link.talker.speak(self.step, &mut self.random) {
                link.input.extend(bytes);
            }
        }
    }

    fn next_core(&mut self) -> usize {
        // One core is ahead of all others for a while: lanes to them overflow.
        if self.random.below(50) == 0 {
            self.favourite = self.random.below(self.shards.len());
        }
        if self.random.chance(self.weather.favour) {
            return self.favourite;
        }
        self.random.below(self.shards.len() + 1)
    }

    /// Something happens to a connection.
    fn disturb(&mut self, at: usize) {
        let link = &mut self.links[at];
        if link.talker.mortal && self.random.below(self.weather.cut_every) == 0 {
            if self.random.chance(30) && Self::can_receive(&self.links[at]) {
                return self.half_close(at);
            }
            self.cut(at);
            return self.bury();
        }
        if !link.in_flight.is_empty() && self.random.chance(50) {
            let most = link.in_flight.len();
            let whole = self.random.chance(self.weather.whole_sends);
            let count = if whole { most } else { self.random.between(1, most + 1) };
            self.send_some(at, count);
            return self.bury();
        }
        if !Self::can_receive(link) {
            return;
        }
        while self.random.chance(70)
            && let Some(bytes) = link.talker.speak(self.step, &mut self.random)
        {
            link.input.extend(bytes);
        }
        if !link.input.is_empty() {
            let most = link.input.len();
            let whole = self.random.chance(self.weather.whole_reads);
            let count = if whole { most } else { self.random.between(1, most.min(200) + 1) };
            self.receive_some(at, count);
        }
    }

    /// The client sends no more; it still gets what it is owed, if all of it has arrived.
    fn half_close(&mut self, at: usize) {
        let link = &mut self.links[at];
        let all = link.input.len();
        link.half_closed = true;
        if all > 0 {
            self.receive_some(at, all);
        }
        let link = &mut self.links[at];
        self.shards[link.shard].half_closed(link.conn);
    }

    /// Nobody says anything new; everything that was said is answered, within a bound. Returns how
    /// many rounds it took.
    pub fn settle(&mut self) -> usize {
        let owed = |world: &Self| -> usize {
            let links = world.links.iter().filter(|link| !link.talker.patient);
            links.map(|link| link.talker.owed()).sum()
        };
        let waits: usize = self.links.iter().map(|link| link.talker.owed()).sum();
        let rounds = ROUNDS_PER_REPLY_MAX + ROUNDS_FOR_DISK;
        let most = 100 + rounds * (waits + self.left_behind);
        for round in 0..most {
            let arrived = self.links.iter().all(|link| link.input.is_empty());
            if arrived && owed(self) == 0 && self.is_quiet() {
                self.left_behind = 0;
                // Replies to those who wait without being owed anything arrive, too.
                self.round(None);
                if std::env::var("STAT").is_ok() {
                    eprintln!("STAT {round} of {most}");
                }
                return round;
            }
            self.round(None);
        }
        for link in self.links.iter().filter(|link| link.talker.owed() > 0) {
            let (name, waits) = (&link.talker.name, link.talker.waits_for());
            eprintln!("{name} on shard {} still waits for {waits:.200}", link.shard);
        }
        for shard in &self.shards {
            eprintln!("a shard is quiet: {}", shard.is_quiet());
        }
        panic!("not everything came to an end within {most} rounds");
    }

    /// Everything that is under way arrives, and every core has a turn, but for one perhaps.
    pub fn round(&mut self, but_for: Option<usize>) {
        self.step += 1;
        for at in 0..self.links.len() {
            let count = self.links[at].input.len();
            if count > 0 && Self::can_receive(&self.links[at]) {
                self.receive_some(at, count);
            }
        }
        let cores = 0..=self.shards.len();
        let mut cores: Vec<usize> = cores.filter(|core| Some(*core) != but_for).collect();
        self.random.shuffle(&mut cores);
        for core in cores {
            self.turn(core);
        }
        for at in 0..self.links.len() {
            while !self.links[at].in_flight.is_empty() {
                self.send_some(at, self.links[at].in_flight.len());
            }
        }
        self.bury();
    }

    pub fn is_quiet(&self) -> bool {
        self.control.is_quiet() && self.shards.iter().all(Shard::is_quiet)
    }

    /// A client comes, says all of this at once, and goes when it has its replies.
    pub fn ask<W: AsRef<[u8]>>(&mut self, calls: &[Vec<W>]) -> Vec<Value> {
        let replies = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let talker = Talker::new("who asks", |_, _| None);
        self.connect(talker);
        let mut calls = calls.iter().map(|words| {
            let replies = replies.clone();
            Call::new(words).check(move |_, reply| replies.borrow_mut().push(reply.clone()))
        });
        let link = self.links.last_mut().expect("it has just come");
        link.talker.say_all(&mut calls, &mut link.input);
        let conn = (link.shard, link.conn);
        self.settle();
        let at = self.link_of(conn.0, conn.1).expect("nobody closes it");
        self.half_close(at);
        self.settle();
        replies.take()
    }

    /// Every client goes: some after their last reply, some at once. Then nothing may be left.
    pub fn close_all(&mut self) {
        self.links.iter_mut().for_each(|link| link.talker.mortal = false);
        for at in 0..self.links.len() {
            if self.random.chance(50) && Self::can_receive(&self.links[at]) {
                self.half_close(at);
            } else if self.links[at].stage != Stage::Closed {
                self.cut(at);
            }
        }
        self.bury();
        self.settle();
        // Who is gone leaves words on their way: watches and waits are over, and others are told.
        (0..4).for_each(|_| self.round(None));
        self.settle();
        assert!(self.links.is_empty(), "who sends no more and is owed nothing is closed");
        assert!(self.is_quiet());
        for shard in &self.shards {
            shard.check();
            assert!(shard.knows_no_subscriber());
            assert_eq!(shard.connection_count(), 0);
            assert!(shard.has_no_followers(), "who is gone watches nothing and waits for nothing");
        }
        assert_eq!(self.process.clients.load(Ordering::Relaxed), 0);
    }
}
