//! Whole runs of several shards on one thread, without sockets, kernel or threads: a seed decides who
//! does what next, so a run that fails fails again.
//!
//! Every run checks that all calls are answered within a bound, each connection in order; that what
//! clients see fits together (the groups of clients below); and that nothing is left when they are
//! gone. `CORELANE_SEED=n` runs one seed, `CORELANE_SEEDS=n` that many.

mod atomic;
mod blocks;
mod control;
mod databases;
mod elements;
mod history;
mod linear;
mod model;
mod operators;
mod pubsub;
mod queues;
mod random;
mod replay;
mod scripts;
mod talker;
mod walk;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use talker::{Call, Talker};
use world::World;

/// Seeds of each test, unless the environment says otherwise.
const SEEDS: u64 = 200;
/// Most random steps of a run.
const STEPS_MAX: usize = 3000;

/// Looks at the world after everything came to an end.
pub type Audit = Box<dyn FnOnce(&mut World)>;

/// Brings a group of clients into the world.
type Join = fn(&mut World) -> Audit;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// One life of a world with these groups of clients. Returns what the random source says at its end:
/// the same for the same life.
fn run(seed: u64, groups: &[Join]) -> u64 {
    let mut world = World::new(seed);
    let audits: Vec<Audit> = groups.iter().map(|join| join(&mut world)).collect();
    let steps = world.random.between(STEPS_MAX / 10, STEPS_MAX);
    world.run(steps);
    world.settle();
    for audit in audits {
        audit(&mut world);
    }
    replay::check(&mut world, seed);
    world.close_all();
    world.random.draw()
}

fn each_seed(groups: &[Join]) {
    let seeds = match number("CORELANE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("CORELANE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, groups))) {
            eprintln!("seed {seed} failed; CORELANE_SEED={seed} runs it again");
            resume_unwind(panic);
        }
    }
}

#[test]
fn a_seed_makes_the_same_run_again() {
    let groups: &[Join] = &[
        atomic::join,
        blocks::join_transfers,
        blocks::join_watchers,
        elements::join,
        history::join,
        model::join,
        queues::join,
        scripts::join,
        walk::join,
    ];
    for seed in 1..=10 {
        assert_eq!(run(seed, groups), run(seed, groups), "{seed}");
    }
}

#[test]
fn keys_that_are_written_together_are_seen_together() {
    each_seed(&[atomic::join]);
}

#[test]
fn what_moves_between_keys_is_neither_lost_nor_doubled() {
    each_seed(&[elements::join]);
}

#[test]
fn what_is_done_between_multi_and_exec_is_seen_whole() {
    each_seed(&[blocks::join_transfers]);
}

#[test]
fn what_a_script_does_is_seen_whole_whatever_keys_it_names() {
    each_seed(&[scripts::join]);
}

#[test]
fn no_update_is_lost_to_who_watches() {
    each_seed(&[blocks::join_watchers]);
}

#[test]
fn who_waits_gets_every_element_once_and_in_order() {
    each_seed(&[queues::join]);
}

#[test]
fn who_waits_longest_is_served_first() {
    queues::longest_first(number("CORELANE_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn replies_are_explained_by_one_order_of_the_operations() {
    each_seed(&[history::join]);
}

#[test]
fn a_pipeline_gets_the_replies_of_a_single_thread_in_order() {
    each_seed(&[model::join]);
}

#[test]
fn a_key_in_two_databases_is_one_for_who_touches_both() {
    each_seed(&[databases::join]);
}

/// What goes on when a transaction ends was once done by recursion, as deep as the line is long: the
/// stack of a core would have ended.
#[test]
fn a_line_may_be_as_long_as_there_are_clients() {
    const CLIENTS: usize = 10_000;
    let seed = (1..).find(|seed| World::new(*seed).shards.len() == 3);
    let mut world = World::new(seed.expect("some have three"));
    let hot = world.key_of_shard("hot", 0);
    for number in 0..CLIENTS {
        // The first needs a shard that has no turn until all others have all but the hot key.
        let own = world.key_of_shard(&format!("own{number}"), if number == 0 { 2 } else { 1 });
        let mut call = Some(Call::new(&["mset", &hot, "1", &own, "1"]));
        world.connect_to(0, Talker::new("one of many", move |_, _| call.take()));
    }
    world.say_everything();
    // Batches of a lane take several rounds.
    (0..CLIENTS).for_each(|_| world.round(Some(2)));
    world.settle();
    world.close_all();
}

#[test]
fn every_message_that_was_counted_is_heard_in_order() {
    each_seed(&[pubsub::join]);
}

#[test]
fn a_walk_over_all_keys_finds_every_key_that_stays() {
    each_seed(&[walk::join]);
}

#[test]
fn all_of_it_at_once_with_operators_at_work() {
    each_seed(&[
        operators::join,
        atomic::join,
        blocks::join_transfers,
        blocks::join_watchers,
        databases::join,
        elements::join,
        history::join,
        model::join,
        queues::join,
        pubsub::join,
        scripts::join,
        walk::join,
    ]);
}
