//! What clients of a node hear: nodes of one shard and of three, whose slots come and go.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::cluster::NodeId;
use crate::cluster::address::Host;
use crate::cluster::slot_map::{Move, SlotOwner};
use crate::config::Config;
use crate::lanes::{Doorbell, Ports, mesh};
use crate::process::Process;
use crate::reactor::{Peer, Service};
use crate::shard_map::ShardMap;

/// A node without sockets; its control core is the test.
struct Node {
    shards: Vec<Shard>,
    control: Ports<Message>,
    map: SlotMap,
    clients: u32,
    noted: usize,
}

/// A client, which lives on the first shard.
#[derive(Clone, Copy)]
struct Client(ConnId);

fn owner(number: u8) -> SlotOwner {
    let host = Host::parse(b"10.0.0.1", 45).expect("a host");
    let id = NodeId::new([b'0' + number; 40]).expect("an id");
    let port = 7000 + u16::from(number);
    SlotOwner { id, endpoint: Some(host.clone()), ip: host, port, plain_port: 0, shard_ports: None }
}

impl Node {
    /// A node that owns all slots.
    fn new(shards: u16) -> Self {
        let bell = || Doorbell::new(File::open("/dev/null").expect("every system has it").into());
        let doorbells: Vec<_> = (0..=shards).map(|_| Arc::new(bell())).collect();
        let mut ports = mesh(&doorbells, 64);
        let control = ports.pop().expect("the last port");
        let config = Arc::new(Config { cluster_enabled: true, ..Config::default() });
        let process = Arc::new(Process::new("0".repeat(40), 6379, None));
        let map = ShardMap::new(shards).expect("few shards");
        let shards = ports.into_iter().zip(map.iter()).map(|(port, id)| {
            Shard::new(id, map, Arc::clone(&config), Arc::clone(&process), port, 1)
        });
        let mut map = SlotMap::new(owner(0));
        map.nodes.push(owner(1));
        map.is_down = false;
        (0..crate::slot::SLOT_COUNT).filter_map(Slot::new).for_each(|slot| map.set_owner(slot, 0));
        let mut node = Self { shards: shards.collect(), control, map, clients: 0, noted: 0 };
        node.tell(|_| {});
        node
    }

    fn client(&mut self) -> Client {
        self.clients += 1;
        let conn = ConnId::from_parts(self.clients, 1);
        self.shards[0].opened(conn, Peer::Unix, u64::from(self.clients));
        Client(conn)
    }

    /// Changes the map, and has all shards note it.
    fn tell(&mut self, change: impl FnOnce(&mut SlotMap)) {
        change(&mut self.map);
        self.noted = 0;
        let map = Arc::new(self.map.clone());
        for shard in 0..self.shards.len() {
            self.control.to[shard].send(Message::SlotMap(Arc::clone(&map)));
        }
        self.settle();
        assert_eq!(self.noted, self.shards.len(), "every shard says that it has noted the map");
    }

    /// Turns until nobody has anything left to say.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.control.flush(|_| {});
            for shard in &mut self.shards {
                _ = shard.turn(Instant::now());
                shard.drain_actions(&mut Vec::new());
            }
            for core in 0..self.shards.len() {
                while let Some(message) = self.control.from[core].pop() {
                    match message {
                        Message::SlotMapNoted(_) => self.noted += 1,
                        Message::PublishOnBus(_) => {}
                        _ => panic!("nothing else is for the control core"),
                    }
                }
            }
        }
    }

    fn give(&mut self, client: Client, line: &str) {
        let input = format!("{line}\r\n");
        self.shards[0].received(client.0, input.as_bytes());
        self.settle();
    }

    /// EVAL of a text with one key.
    fn eval(&mut self, client: Client, text: &str, key: &str) -> String {
        let input = format!("*4\r\n$4\r\nEVAL\r\n${}\r\n{text}\r\n$1\r\n1\r\n", text.len());
        let input = format!("{input}${}\r\n{key}\r\n", key.len());
        self.shards[0].received(client.0, input.as_bytes());
        self.settle();
        self.hear(client)
    }

    fn hear(&mut self, client: Client) -> String {
        let output = self.shards[0].take_output(client.0);
        self.shards[0].sent(client.0, output.len());
        String::from_utf8_lossy(&output).replace("\r\n", "|")
    }

    fn ask(&mut self, client: Client, line: &str) -> String {
        self.give(client, line);
        self.hear(client)
    }

    /// Says each line and checks what comes back. `{m}` and `{a}` stand for MOVED and ASK of the slot of `k`.
    fn talk(&mut self, client: Client, lines: &[(&str, &str)]) {
        for (line, expected) in lines {
            let slot = slot_of(b"k").get();
            let expected = expected
                .replace("{m}", &format!("-MOVED {slot} 10.0.0.1:7001|"))
                .replace("{a}", &format!("-ASK {slot} 10.0.0.1:7001|"))
                .replace("{t}", "-TRYAGAIN Multiple keys request during rehashing of slot|");
            let shards = self.shards.len();
            assert_eq!(self.ask(client, line), expected, "{line}, {shards} shards");
        }
    }
}

/// Runs a test on a node of one shard and on nodes of several, where the slot of `k` is on the first or on another.
fn on_nodes(test: impl Fn(Node)) {
    [1, 2, 3].into_iter().for_each(|shards| test(Node::new(shards)));
}

fn slot() -> Slot {
    slot_of(b"k")
}

#[test]
fn the_nodes_of_these_tests_have_the_slot_at_home_and_elsewhere() {
    let owner = |shards| ShardMap::new(shards).map(|map| map.owner(slot()));
    assert_eq!(
        [owner(1), owner(2), owner(3)],
        [Some(ShardId(0)), Some(ShardId(1)), Some(ShardId(2))]
    );
}

#[test]
fn commands_run_here_or_are_sent_away() {
    on_nodes(|mut node| {
        let client = node.client();
        node.talk(
            client,
            &[
                ("SET k 1", "+OK|"),
                ("MSET {k}a 1 {k}b 2", "+OK|"),
                ("MGET k other", "-CROSSSLOT Keys in request don't hash to the same slot|"),
                (
                    "EVAL return 2 k other",
                    "-CROSSSLOT Keys in request don't hash to the same slot|",
                ),
                ("PING", "+PONG|"),
                ("SELECT 1", "-ERR SELECT is not allowed in cluster mode|"),
                ("SELECT 0", "+OK|"),
            ],
        );
        node.tell(|map| map.set_owner(slot(), 1));
        node.talk(
            client,
            &[
                ("GET k", "{m}"),
                ("SET k 1", "{m}"),
                ("MGET {k}a {k}b", "{m}"),
                ("WATCH k", "{m}"),
                ("BLPOP k 0", "{m}"),
                ("EVAL return 1 k", "{m}"),
                ("SPUBLISH k message", "{m}"),
                ("SSUBSCRIBE k", "{m}"),
                ("ASKING", "+OK|"),
                ("GET k", "{m}"),
                ("OBJECT ENCODING k", "{m}"),
                ("XREAD STREAMS k 0", "{m}"),
                ("DBSIZE", ":3|"),
            ],
        );
        node.tell(|map| map.is_down = true);
        node.talk(
            client,
            &[
                ("GET k", "-CLUSTERDOWN The cluster is down|"),
                ("SPUBLISH other message", ":0|"),
                ("PING", "+PONG|"),
            ],
        );
    });
}

#[test]
fn blocks_are_checked_when_they_are_queued_and_when_they_run() {
    on_nodes(|mut node| {
        let client = node.client();
        node.tell(|map| map.set_owner(slot_of(b"theirs"), 1));
        let moved = format!("-MOVED {} 10.0.0.1:7001|", slot_of(b"theirs").get());
        node.talk(
            client,
            &[
                ("MULTI", "+OK|"),
                ("SET k 1", "+QUEUED|"),
                ("GET theirs", &moved),
                ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
                ("MULTI", "+OK|"),
                ("SET k 1", "+QUEUED|"),
                ("SET other 1", "+QUEUED|"),
                ("EXEC", "-CROSSSLOT Keys in request don't hash to the same slot|"),
                ("EXEC", "-ERR EXEC without MULTI|"),
                ("MULTI", "+OK|"),
                ("SET k 1", "+QUEUED|"),
                ("GET k", "+QUEUED|"),
                ("EXEC", "*2|+OK|$1|1|"),
                ("MULTI", "+OK|"),
                ("SET k 2", "+QUEUED|"),
                ("DBSIZE", "+QUEUED|"),
            ],
        );
        node.tell(|map| map.set_owner(slot(), 1));
        node.talk(
            client,
            &[
                ("EXEC", "{m}"),
                ("EXEC", "-ERR EXEC without MULTI|"),
                ("MULTI", "+OK|"),
                ("PING", "+QUEUED|"),
                ("EXEC", "*1|+PONG|"),
            ],
        );
    });
}

#[test]
fn a_slot_that_is_leaving_serves_the_keys_that_are_there() {
    on_nodes(|mut node| {
        let client = node.client();
        node.talk(client, &[("MSET {k}a 1 {k}b 2", "+OK|")]);
        node.tell(|map| map.set_move(slot(), Move::To(1)));
        node.talk(
            client,
            &[
                ("GET {k}a", "$1|1|"),
                ("GET k", "{a}"),
                ("SET k 1", "{a}"),
                ("MGET {k}a {k}b", "*2|$1|1|$1|2|"),
                ("MGET {k}a k", "{t}"),
                ("MGET k {k}c", "{a}"),
                ("DEL {k}b", ":1|"),
                ("GET {k}b", "{a}"),
                ("BLPOP k 0", "{a}"),
                ("EVAL return 1 {k}a", "$-1|"),
                ("EVAL return 1 k", "{a}"),
                ("WATCH k", "{a}"),
                ("WATCH {k}a", "+OK|"),
                ("MULTI", "+OK|"),
                ("SET {k}a 3", "+QUEUED|"),
                ("GET k", "{a}"),
                ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
                ("MULTI", "+OK|"),
                ("GET {k}a", "+QUEUED|"),
                ("DEL {k}a", "+QUEUED|"),
                ("EXEC", "*2|$1|1|:1|"),
                ("SPUBLISH k message", ":0|"),
            ],
        );
        let words = ["MULTI", "SET {k}d 1"].map(|line| node.ask(client, line)).concat();
        let slot = slot().get();
        assert_eq!(words, format!("+OK|-ASK {slot} 10.0.0.1:7001|"));
        node.talk(client, &[("DISCARD", "+OK|")]);
    });
}

#[test]
fn a_slot_that_is_coming_serves_those_who_ask() {
    on_nodes(|mut node| {
        let client = node.client();
        node.tell(|map| {
            map.set_owner(slot(), 1);
            map.set_move(slot(), Move::From(1));
        });
        node.talk(
            client,
            &[
                ("GET k", "{m}"),
                ("ASKING", "+OK|"),
                ("GET k", "$-1|"),
                ("GET k", "{m}"),
                ("ASKING", "+OK|"),
                ("SET {k}a 1", "+OK|"),
                ("ASKING", "+OK|"),
                ("MGET {k}a k", "{t}"),
                ("MGET {k}a k", "{m}"),
                ("ASKING", "+OK|"),
                ("SET k 2", "+OK|"),
                ("ASKING", "+OK|"),
                ("MGET {k}a k", "*2|$1|1|$1|2|"),
                ("ASKING", "+OK|"),
                ("MULTI", "+OK|"),
                ("GET k", "+QUEUED|"),
                ("GET {k}a", "+QUEUED|"),
                ("EXEC", "*2|$1|2|$1|1|"),
                ("GET k", "{m}"),
                ("ASKING", "+OK|"),
                ("MULTI", "+OK|"),
                ("GET k", "+QUEUED|"),
                ("MGET k {k}z", "{t}"),
                ("DISCARD", "+OK|"),
                ("ASKING", "+OK|"),
                ("PING", "+PONG|"),
                ("GET k", "{m}"),
            ],
        );
    });
}

#[test]
fn a_replica_serves_clients_that_only_read() {
    on_nodes(|mut node| {
        let client = node.client();
        node.talk(client, &[("SET k 1", "+OK|")]);
        node.tell(|map| {
            (map.is_replica, map.serving) = (true, Some(1));
            map.set_owner(slot(), 1);
        });
        node.talk(
            client,
            &[
                ("GET k", "{m}"),
                ("READONLY", "+OK|"),
                ("GET k", "$1|1|"),
                ("MGET k {k}b", "*2|$1|1|$-1|"),
                ("SET k 2", "{m}"),
                ("MULTI", "+OK|"),
                ("GET k", "+QUEUED|"),
                ("EXEC", "*1|$1|1|"),
                ("READWRITE", "+OK|"),
                ("GET k", "{m}"),
            ],
        );
    });
}

#[test]
fn who_waits_or_listens_is_told_when_its_slot_leaves() {
    on_nodes(|mut node| {
        let (waiting, listening, staying) = (node.client(), node.client(), node.client());
        node.give(waiting, "BLPOP k {k}a 0");
        node.give(staying, "BLPOP other 0");
        node.talk(
            listening,
            &[
                ("SSUBSCRIBE k", "*3|$10|ssubscribe|$1|k|:1|"),
                ("SSUBSCRIBE other", "*3|$10|ssubscribe|$5|other|:2|"),
            ],
        );
        assert_eq!(node.hear(waiting), "");
        node.tell(|map| map.set_owner(slot(), 1));
        let moved = format!("-MOVED {} 10.0.0.1:7001|", slot().get());
        assert_eq!(node.hear(waiting), moved);
        assert_eq!(node.hear(listening), "*3|$12|sunsubscribe|$1|k|:1|");
        assert_eq!(node.hear(staying), "");
        node.tell(|map| map.is_down = true);
        assert_eq!(node.hear(staying), "-CLUSTERDOWN The cluster is down|");
        assert_eq!(node.hear(listening), "");
        let counts = node.ask(waiting, "PUBSUB SHARDNUMSUB k other");
        assert_eq!(counts, "*4|$1|k|:0|$5|other|:1|");
    });
}

#[test]
fn scripts_touch_keys_of_this_node_only() {
    on_nodes(|mut node| {
        let client = node.client();
        node.tell(|map| map.set_owner(slot_of(b"theirs"), 1));
        let run = |node: &mut Node, text: &str, key: &str| node.eval(client, text, key);
        assert_eq!(run(&mut node, "return redis.call('set', KEYS[1], 1)", "k"), "+OK|");
        assert_eq!(run(&mut node, "return redis.call('set', 'other', 1)", "k"), "+OK|");
        let refused = run(&mut node, "return redis.call('get', 'theirs')", "k");
        let text = "-ERR Script attempted to access a non local key in a cluster node script: ";
        assert!(refused.starts_with(text), "{refused}");
        let refused = run(&mut node, "#!lua\nreturn redis.call('get', 'other')", "k");
        let text =
            "-ERR Script attempted to access keys that do not hash to the same slot script: ";
        assert!(refused.starts_with(text), "{refused}");
        node.tell(|map| map.set_move(slot(), Move::To(1)));
        assert_eq!(run(&mut node, "return redis.call('get', KEYS[1])", "k"), "$1|1|");
        let refused = run(&mut node, "return redis.call('get', '{k}a')", "k");
        assert!(
            refused.starts_with("-ERR Script attempted to access a non local key"),
            "{refused}"
        );
    });
}

#[test]
fn a_command_that_is_under_way_when_its_slot_leaves_is_asked_again() {
    // It used to run on the shard of its keys, by the map of the shard of its connection.
    let mut node = Node::new(3);
    let client = node.client();
    node.map.set_owner(slot(), 1);
    let map = Arc::new(node.map.clone());
    (0..3).for_each(|shard| node.control.to[shard].send(Message::SlotMap(Arc::clone(&map))));
    node.control.flush(|_| {});
    let owner = ShardMap::new(3).expect("few shards").owner(slot());
    _ = node.shards[owner.index()].turn(Instant::now());
    // The first shard has not noted the map yet.
    node.shards[0].received(client.0, b"SET k 1\r\nMSET {k}a 1 {k}b 2\r\n");
    node.settle();
    let moved = format!("-MOVED {} 10.0.0.1:7001|", slot().get());
    assert_eq!(node.hear(client), moved.repeat(2));
    assert_eq!(node.ask(client, "DBSIZE"), ":0|");
}

#[test]
fn keys_of_a_slot_that_was_lost_go_unless_it_comes_back() {
    on_nodes(|mut node| {
        let client = node.client();
        let lost = |node: &mut Node| {
            let slots: crate::cluster::SlotSet = [slot()].into_iter().collect();
            for shard in 0..node.shards.len() {
                node.control.to[shard].send(Message::SlotsLost(slots.clone()));
            }
        };
        for number in 0..200 {
            node.give(client, &format!("SET {{k}}{number} v"));
        }
        node.ask(client, "SET other v");
        lost(&mut node);
        node.tell(|map| map.set_owner(slot(), 0));
        assert_eq!(node.ask(client, "DBSIZE"), ":201|", "it is ours again");
        node.tell(|map| map.set_owner(slot(), 1));
        lost(&mut node);
        node.settle();
        assert_eq!(node.ask(client, "DBSIZE"), ":1|");
        assert_eq!(node.ask(client, &format!("CLUSTER COUNTKEYSINSLOT {}", slot().get())), ":0|");
    });
}
