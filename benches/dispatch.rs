//! Bytes in, replies out, without sockets: 16 pipelined commands through the whole of a shard, and
//! through two shards that are driven by hand on one thread, so that half of the keys are foreign.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use corelane::config::Config;
use corelane::lanes::{self, Ports};
use corelane::process::Process;
use corelane::reactor::{self, Action, ConnId, Peer, Service};
use corelane::shard::Shard;
use corelane::shard::message::Message;
use corelane::shard_map::{ShardId, ShardMap};
use corelane::slot::slot_of;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

/// Commands of one turn, as `redis-benchmark -P 16` sends them.
const PIPELINE: usize = 16;
/// Few enough that everything is in the cache: what is measured is instructions, not memory.
const KEYS: usize = 1024;
const CONN: ConnId = ConnId::from_parts(0, 0);

/// The data cores of a process, on one thread.
struct Cores {
    shards: Vec<Shard>,
    /// The control core's end of the lanes.
    _control: Option<Ports<Message>>,
    actions: Vec<Action>,
}

impl Cores {
    /// `count` shards, the first with one connection.
    fn new(count: u16) -> Self {
        let map = ShardMap::new(count).expect("a few shards");
        let bells: Vec<_> =
            (0..=count).map(|_| reactor::doorbell().expect("an eventfd is to be had")).collect();
        let mut ports = lanes::mesh(&bells, 1024);
        let control = ports.pop();
        let config = Arc::new(Config::default());
        let process = Arc::new(Process::new("0".repeat(40), 0, None));
        let shards = ports.into_iter().enumerate().map(|(number, ports)| {
            let id = ShardId(number as u16);
            Shard::new(id, map, Arc::clone(&config), Arc::clone(&process), ports, u64::from(id.0))
        });
        let mut cores = Self { shards: shards.collect(), _control: control, actions: Vec::new() };
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        cores.shards[0].opened(CONN, Peer::Tcp { remote: nobody, local: nobody }, 0);
        cores
    }

    /// As `exchange`, by another name, so that a profile can leave the set-up out.
    #[inline(never)]
    fn prepare(&mut self, input: &[u8]) {
        assert_eq!(self.around(input), PIPELINE * b"+OK\r\n".len());
    }

    /// What a reactor does around one read of 16 commands; the length of all replies.
    #[inline(never)]
    fn exchange(&mut self, input: &[u8]) -> usize {
        self.around(input)
    }

    #[inline(always)]
    fn around(&mut self, input: &[u8]) -> usize {
        self.shards[0].received(CONN, input);
        let mut replied = self.turn(0);
        for other in 1..self.shards.len() {
            self.turn(other);
        }
        if self.shards.len() > 1 {
            replied += self.turn(0);
        }
        replied
    }

    fn turn(&mut self, number: usize) -> usize {
        let shard = &mut self.shards[number];
        shard.turn(Instant::now());
        shard.drain_actions(&mut self.actions);
        let mut replied = 0;
        for action in self.actions.drain(..) {
            if let Action::Send(conn) = action {
                let output = black_box(shard.take_output(conn));
                replied += output.len();
                shard.sent(conn, output.len());
                shard.recycle(output);
            }
        }
        replied
    }
}

/// Pipelines of `command` over all keys.
fn pipelines(keys: &[String], command: impl Fn(&str) -> String) -> Vec<Vec<u8>> {
    let pipeline = |keys: &[String]| keys.iter().map(|key| command(key)).collect::<String>();
    keys.chunks_exact(PIPELINE).map(|keys| pipeline(keys).into_bytes()).collect()
}

fn get(key: &str) -> String {
    format!("*2\r\n$3\r\nGET\r\n$16\r\n{key}\r\n")
}

fn set(key: &str) -> String {
    format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n$32\r\n{}\r\n", "x".repeat(32))
}

fn incr(key: &str) -> String {
    format!("*2\r\n$4\r\nINCR\r\n$16\r\n{key}\r\n")
}

/// A script that is one command, as `benches/beside_redis.py` sends it.
fn eval(key: &str) -> String {
    const SCRIPT: &str = "return redis.call('INCR', KEYS[1])";
    let length = SCRIPT.len();
    format!("*4\r\n$4\r\nEVAL\r\n${length}\r\n{SCRIPT}\r\n$1\r\n1\r\n$16\r\n{key}\r\n")
}

/// To streams that are cut short, so that they stay in the cache.
fn xadd(key: &str) -> String {
    let key = key.replace("key", "str");
    format!(
        "*8\r\n$4\r\nXADD\r\n$16\r\n{key}\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$3\r\n100\r\n$1\r\n*\r\n\
         $5\r\nfield\r\n$5\r\nvalue\r\n"
    )
}

/// Names of which, among `shards` shards, every second is not of the first shard.
fn names(prefix: &str, shards: u16) -> Vec<String> {
    let map = ShardMap::new(shards).expect("a few shards");
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for number in 0.. {
        let name = format!("{prefix}:{number:012}");
        let owner = map.owner(slot_of(name.as_bytes()));
        if owner == ShardId(0) {
            here.push(name)
        } else {
            there.push(name)
        }
        if here.len() >= KEYS && (shards == 1 || there.len() >= KEYS) {
            break;
        }
    }
    if shards == 1 {
        here.truncate(KEYS);
        return here;
    }
    here.into_iter().zip(there).flat_map(|(here, there)| [here, there]).take(KEYS).collect()
}

fn dispatch(criterion: &mut Criterion) {
    for shards in [1, 2] {
        let title = if shards == 1 { "all keys at home" } else { "every second key foreign" };
        let mut group = criterion.benchmark_group(title);
        group.throughput(Throughput::Elements(PIPELINE as u64));
        let (strings, numbers) = (names("key", shards), names("num", shards));
        let sets = pipelines(&strings, set);
        for (case, inputs) in [
            ("16 SET", &sets),
            ("16 GET", &pipelines(&strings, get)),
            ("16 INCR", &pipelines(&numbers, incr)),
            ("16 EVAL", &pipelines(&numbers, eval)),
            ("16 XADD", &pipelines(&strings, xadd)),
        ] {
            let mut cores = Cores::new(shards);
            sets.iter().for_each(|input| cores.prepare(input));
            let mut next = inputs.iter().cycle();
            group.bench_function(case, |bencher| {
                bencher.iter(|| {
                    let input = next.next().expect("a cycle has no end");
                    let replied = cores.exchange(black_box(input));
                    assert!(replied >= PIPELINE * b":1\r\n".len(), "every command is answered");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
