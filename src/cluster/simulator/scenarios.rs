//! What is tried in the simulated world.

use std::fmt::Write;
use std::panic::catch_unwind;

use super::super::address::Address;
use super::super::event::TICK_MS;
use super::super::machine::Cluster;
use super::super::manual_failover::FailoverKind;
use super::super::node::Health;
use super::super::node_id::NodeId;
use super::super::operator;
use super::super::random::Random;
use super::super::settings::Settings;
use super::super::table::ME;
use super::BrokenRule;
use super::checks::disagreement;
use super::host::{BUS_PORT, HostId, ip_of};
use super::world::World;
use crate::seeds::each_seed;
use crate::slot::SLOT_COUNT;

/// Lives among faults of all kinds: what is rare must come up, too.
const TROUBLED_SEEDS: u64 = 10_000;
/// One of so many of these lives is long: what comes up only after many faults must not be missed either.
const LONG_LIFE_EVERY: u64 = 8;
/// Seeds of the other random tests, each of which tries one course of things.
const SEEDS: u64 = 500;
/// The node timeout of most worlds, in milliseconds.
const TIMEOUT_MS: u64 = 1000;
/// How long a world may take to agree after its faults have ended, in milliseconds.
const HEALING_MS_MAX: u64 = 120_000;
/// How closely it is watched when something happens, in milliseconds.
const STEP_MS: u64 = 10;
/// How far a clock jumps, in milliseconds.
const CLOCK_JUMP_MS_MAX: u64 = 5000;

/// What a world says that does not come to an agreement.
const NO_AGREEMENT: &str = "no agreement";

fn settings() -> Settings {
    Settings { node_timeout_ms: TIMEOUT_MS, ..Settings::default() }
}

/// A world of `masters` with equal shares and as many replicas each, which know each other; none runs yet.
fn formed(seed: u64, masters: usize, replicas: usize, settings: Settings) -> World {
    let mut world = World::new(seed);
    let count = masters * (1 + replicas);
    let mut ids = Random::new([seed, 1, 2, 3]);
    let ids: Vec<NodeId> = (0..count).map(|_| ids.node_id()).collect();
    for _ in 0..count {
        world.add(settings.clone());
    }
    for me in 0..count {
        let mut conf = String::new();
        for (index, id) in ids.iter().enumerate() {
            let myself = if index == me { "myself," } else { "" };
            let address = format!("{}:7000@{BUS_PORT}", ip_of(HostId(index)));
            let master = index % masters;
            let line = if index < masters {
                let share = |n: usize| n * usize::from(SLOT_COUNT) / masters;
                let (first, last) = (share(index), share(index + 1) - 1);
                let epoch = index + 1;
                format!("{myself}master - 0 0 {epoch} connected {first}-{last}")
            } else {
                format!("{myself}slave {} 0 0 {} connected", ids[master], master + 1)
            };
            writeln!(conf, "{id} {address} {line}").unwrap();
        }
        writeln!(conf, "vars currentEpoch {masters} lastVoteEpoch 0").unwrap();
        let host = world.host(HostId(me));
        host.synced.clone_from(&conf);
        host.written = conf;
    }
    world
}

/// The same world, running and of one opinion.
fn settled(seed: u64, masters: usize, replicas: usize, settings: Settings) -> World {
    let mut world = formed(seed, masters, replicas, settings);
    world.ids().for_each(|host| world.start(host));
    agree(&mut world);
    world
}

fn agree(world: &mut World) -> u64 {
    let took = world.run_until(HEALING_MS_MAX, TICK_MS, |world| disagreement(world).is_none());
    took.unwrap_or_else(|| {
        // What each node believes is what one wants to see now.
        world.running().for_each(|(host, node)| eprintln!("{host:?}\n{}", node.nodes_conf()));
        panic!("{NO_AGREEMENT}: {:?}", disagreement(world))
    })
}

/// The running node that owns slots of the shard that `host` began with, if it is another one.
fn successor(world: &World, slots_of: &Cluster, not: HostId) -> Option<HostId> {
    let slots = &slots_of.nodes[ME].slots;
    let owns = |node: &Cluster| node.nodes[ME].slots.intersects(slots) && !node.verdict.is_down;
    world.running().find(|(host, node)| *host != not && owns(node)).map(|(host, _)| host)
}

#[test]
fn nodes_that_meet_know_each_other_all() {
    each_seed("meeting", SEEDS, |seed| {
        let mut world = World::new(seed);
        let count = 3 + world.random.below(10) as usize;
        for _ in 0..count {
            let host = world.add(settings());
            world.start(host);
        }
        for host in 1..count {
            let known = world.random.below(host as u64) as usize;
            let ip = ip_of(HostId(known)).into();
            let address = Address { ip, port: 7000, plain_port: 0, bus_port: BUS_PORT };
            let now = world.now;
            world.act(HostId(host), |node, effects| node.meet(now, address, effects));
        }
        let everybody_knows = |world: &World| {
            world.running().all(|(_, node)| {
                let met = node.nodes.iter().filter(|(_, other)| !other.in_handshake());
                met.count() == count && node.nodes.len() == count
            })
        };
        let took = world.run_until(20_000, STEP_MS, everybody_knows);
        assert!(took.is_some(), "{count} nodes");
        // Epochs were all 0: collisions are settled, each has its own.
        world.run(10_000);
        let mut epochs: Vec<_> =
            world.running().map(|(_, node)| node.nodes[ME].config_epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), count);
    });
}

#[test]
fn a_replica_takes_over_from_a_master_that_was_killed() {
    each_seed("a killed master", SEEDS, |seed| {
        let replicas = 1 + seed as usize % 3;
        let mut world = settled(seed, 3, replicas, settings());
        let victim = HostId(world.random.below(3) as usize);
        let before = world.host(victim).node.take().unwrap();
        world.host(victim).node = Some(restored(&world, victim));
        world.crash(victim, seed % 2 == 0);
        let took =
            world.run_until(20_000, STEP_MS, |world| successor(world, &before, victim).is_some());
        let took = took.expect("somebody takes over");
        assert!(took <= TIMEOUT_MS + 1500, "it took {took} ms");
        world.start(victim);
        agree(&mut world);
        assert!(world.host(victim).node.as_ref().unwrap().nodes[ME].is_replica());
    });
}

/// The node of a host once more, from its file: for tests that need a copy of what was.
fn restored(world: &World, host: HostId) -> Cluster {
    let host = &world.hosts[host.0];
    let conf = super::super::NodesConf::parse(&host.written).unwrap().unwrap();
    Cluster::restore(&conf, host.settings.clone(), [1; 4], world.now).unwrap()
}

#[test]
fn a_master_in_a_minority_refuses_writes_and_follows_its_successor_when_it_is_back() {
    each_seed("a master in a minority", SEEDS, |seed| {
        let mut world = settled(seed, 3, 2, settings());
        let victim = HostId(world.random.below(3) as usize);
        let before = restored(&world, victim);
        for other in world.ids().filter(|other| *other != victim) {
            world.faults.blocked.extend([(victim, other), (other, victim)]);
        }
        let stopped = world.run_until(20_000, STEP_MS, |world| {
            world.hosts[victim.0].node.as_ref().is_some_and(|node| node.verdict.is_down)
        });
        // The lease counts from when the last question was sent that a majority answered; it is looked at every tick.
        assert!(stopped.expect("it notices") <= TIMEOUT_MS + 2 * TICK_MS, "{stopped:?}");
        let took =
            world.run_until(20_000, STEP_MS, |world| successor(world, &before, victim).is_some());
        assert!(took.is_some(), "somebody takes over");
        world.faults.blocked.clear();
        agree(&mut world);
        assert!(world.host(victim).node.as_ref().unwrap().nodes[ME].is_replica());
    });
}

/// Masters, and replicas of each. A life takes time as the square of their number: most are small, for that is enough for nearly
/// everything that goes wrong.
fn shape(seed: u64) -> (usize, usize) {
    match seed % 32 {
        0..20 => (3, 1),
        20..26 => (3, 2),
        26..31 => (5, 1),
        _ => (4, 3),
    }
}

/// A life among faults of all kinds, and healing.
fn troubled_life(seed: u64, broken_rule: Option<BrokenRule>) {
    let (masters, replicas) = shape(seed);
    let mut world = formed(seed, masters, replicas, settings());
    world.broken_rule = broken_rule;
    world.forgets = seed % 7 == 6;
    world.ids().for_each(|host| world.start(host));
    agree(&mut world);
    let troubles = if seed.is_multiple_of(LONG_LIFE_EVERY) { 20..50 } else { 8..24 };
    for _ in 0..troubles.start + world.random.below(troubles.end - troubles.start) {
        trouble(&mut world);
        let pause = world.random.below(3000);
        world.run(pause);
    }
    world.faults = super::world::Faults { delay_ms_max: 5, ..Default::default() };
    for host in world.ids() {
        if world.host(host).node.is_none() {
            world.start(host);
        }
    }
    if world.has_forgotten {
        introduce_again(&mut world);
    }
    agree(&mut world);
}

/// After the time for which a forgotten node is kept out, everybody meets everybody: clocks may have gone back meanwhile, so
/// it takes what the largest jump adds.
fn introduce_again(world: &mut World) {
    world.run(operator::FORGOTTEN_MS + CLOCK_JUMP_MS_MAX);
    for host in world.ids() {
        for other in world.ids().filter(|other| *other != host) {
            meet(world, host, other);
        }
    }
}

fn meet(world: &mut World, host: HostId, other: HostId) {
    let answer = world.command(host, &format!("meet {} 7000 {BUS_PORT}", ip_of(other)));
    assert!(answer.is_empty() || answer.starts_with("+OK"), "{answer}");
}

/// The id of a node of the world, also of one that does not run.
fn id_of(world: &World, host: HostId) -> NodeId {
    let node = &world.hosts[host.0].node;
    node.as_ref().map_or_else(|| restored(world, host).my_id(), Cluster::my_id)
}

fn trouble(world: &mut World) {
    let hosts = world.hosts.len() as u64;
    let host = HostId(world.random.below(hosts) as usize);
    let is_running = world.host(host).node.is_some();
    match world.random.below(13) {
        0 | 1 if is_running => {
            let power = world.random.below(2) == 0;
            world.crash(host, power);
        }
        0..=3 if !is_running => world.start(host),
        4 => {
            // A part of the nodes cannot be heard, or neither heard nor reached.
            let cut: Vec<_> = world.ids().filter(|_| world.random.below(3) == 0).collect();
            let both = world.random.below(2) == 0;
            for inside in cut.iter().copied() {
                for outside in world.ids().filter(|other| !cut.contains(other)) {
                    world.faults.blocked.insert((inside, outside));
                    if both {
                        world.faults.blocked.insert((outside, inside));
                    }
                }
            }
        }
        5 => {
            let other = HostId(world.random.below(hosts) as usize);
            world.faults.blocked.insert((host, other));
        }
        6 => world.faults.blocked.clear(),
        7 => {
            world.faults.lost_permille = world.random.below(200);
            world.faults.delay_ms_max = 1 + world.random.below(300);
        }
        8 => world.faults.crash_ppm = world.random.below(200),
        9 => {
            let kind = [FailoverKind::Plain, FailoverKind::Force];
            let kind = kind[world.random.below(2) as usize];
            fail_over(world, host, kind);
        }
        10 => {
            let jump = world.random.below(2 * CLOCK_JUMP_MS_MAX) as i64 - CLOCK_JUMP_MS_MAX as i64;
            world.host(host).skew_ms = jump;
        }
        11 => {
            // Refused where it may not be done: by masters with slots, and of replicas.
            let other = HostId(world.random.below(hosts) as usize);
            let master = id_of(world, other);
            world.command(host, &format!("replicate {master}"));
        }
        12 if world.forgets => {
            let other = HostId(world.random.below(hosts) as usize);
            // Who forgets masters with slots counts majorities without them: nobody may be told to do that.
            if world.host(other).node.as_ref().is_some_and(|node| node.nodes[ME].is_replica()) {
                let replica = id_of(world, other);
                // It goes on to others by gossip, and takes a minute to be over: not in every life.
                world.has_forgotten |=
                    world.command(host, &format!("forget {replica}")) == "+OK\r\n";
            }
        }
        _ => {}
    }
}

/// CLUSTER FAILOVER on a replica.
fn fail_over(world: &mut World, host: HostId, kind: FailoverKind) {
    let now = world.hosts[host.0].clock(world.now);
    // Who is a master by now refuses, as it should.
    let _ = world.act(host, |node, effects| Some(node.fail_over(now, kind, effects)));
}

#[test]
fn no_fault_makes_two_owners_and_all_agree_in_the_end() {
    each_seed("troubled lives", TROUBLED_SEEDS, |seed| troubled_life(seed, None));
}

#[test]
fn a_broken_rule_is_found_out() {
    let complaint = (0..400).find_map(|seed| {
        let panic = catch_unwind(|| troubled_life(seed, Some(BrokenRule::VoteTwice))).err()?;
        panic.downcast_ref::<String>().cloned()
    });
    let complaint = complaint.expect("somebody votes twice, and that is noticed");
    assert!(complaint.contains("voted twice"), "{complaint}");
}

#[test]
fn slots_that_are_moved_by_hand_have_one_owner_in_the_end() {
    each_seed("slots moved by hand", SEEDS, |seed| {
        let mut world = settled(seed, 4, 1, settings());
        world.faults.lost_permille = world.random.below(50);
        world.faults.delay_ms_max = 1 + world.random.below(100);
        let mut moved = 0;
        for _ in 0..30 {
            moved += u32::from(move_a_slot(&mut world));
            let pause = world.random.below(1000);
            world.run(pause);
        }
        assert!(moved > 10, "{moved} of 30");
        world.faults = super::world::Faults { delay_ms_max: 5, ..Default::default() };
        agree(&mut world);
    });
}

/// The four commands by which redis-cli moves a slot; false if they were refused.
fn move_a_slot(world: &mut World) -> bool {
    let masters: Vec<HostId> =
        world.running().filter(|(_, node)| node.nodes[ME].votes()).map(|(host, _)| host).collect();
    let from = masters[world.random.below(masters.len() as u64) as usize];
    let to = masters[world.random.below(masters.len() as u64) as usize];
    let Some(slot) =
        world.hosts[from.0].node.as_ref().and_then(|node| node.nodes[ME].slots.iter().next())
    else {
        return false;
    };
    let (source, target) = (id_of(world, from), id_of(world, to));
    let slot = slot.get();
    [
        (to, format!("setslot {slot} importing {source}")),
        (from, format!("setslot {slot} migrating {target}")),
        (to, format!("setslot {slot} node {target}")),
        (from, format!("setslot {slot} node {target}")),
    ]
    .into_iter()
    .all(|(host, line)| world.command(host, &line) == "+OK\r\n")
}

#[test]
fn a_manual_failover_loses_no_write_and_happens_at_once() {
    each_seed("manual failover", SEEDS, |seed| {
        let mut world = settled(seed, 3, 1, settings());
        let (master, replica) = (HostId(0), HostId(3));
        let before = restored(&world, master);
        fail_over(&mut world, replica, FailoverKind::Plain);
        let took =
            world.run_until(5000, STEP_MS, |world| successor(world, &before, master).is_some());
        assert!(took.expect("it takes over") <= 500, "{took:?}");
        let offset = world.host(master).offset;
        assert!(world.host(replica).offset >= offset, "{offset} at the old master");
        agree(&mut world);
        assert!(world.host(master).node.as_ref().unwrap().nodes[ME].is_replica());
    });
}

#[test]
fn a_manual_failover_that_does_not_come_through_lets_writers_go_on() {
    let mut world = settled(1, 3, 1, settings());
    let (master, replica) = (HostId(0), HostId(3));
    fail_over(&mut world, replica, FailoverKind::Plain);
    world.run(6);
    assert!(world.host(master).writes_paused);
    world.crash(replica, false);
    world.run(4800);
    assert!(world.host(master).writes_paused);
    world.run(400);
    assert!(!world.host(master).writes_paused);
}

#[test]
fn a_spare_replica_goes_to_a_master_that_lost_its_own() {
    each_seed("a spare replica", SEEDS, |seed| {
        // Masters 0..3 with two replicas each; both replicas of master 0 die.
        let mut world = settled(seed, 3, 2, settings());
        world.crash(HostId(3), false);
        world.crash(HostId(6), false);
        let migrated = world.run_until(60_000, STEP_MS, |world| {
            let node = world.hosts[0].node.as_ref().unwrap();
            let works = |key: &&_| node.nodes[**key].health == Health::Fine;
            node.nodes[ME].replicas.iter().filter(works).count() == 1
        });
        assert!(migrated.is_some());
    });
}

#[test]
fn a_large_cluster_agrees_and_replaces_a_dead_master() {
    let settings = Settings { node_timeout_ms: 5000, ..Settings::default() };
    let mut world = settled(7, 60, 2, settings);
    let before = restored(&world, HostId(17));
    world.crash(HostId(17), true);
    let took =
        world.run_until(60_000, STEP_MS, |world| successor(world, &before, HostId(17)).is_some());
    let took = took.expect("somebody takes over");
    assert!(took <= 2 * 5000, "it took {took} ms");
    world.start(HostId(17));
    agree(&mut world);
}
