//! Whole runs of several shards on one thread, without sockets, kernel or threads: a seed decides who
//! does what next, so a run that fails fails again.
//!
//! Every run checks that all calls are answered within a bound, each connection in order; that what
//! clients see fits together (the groups of clients below); and that nothing is left when they are
//! gone. `CORELANE_SEED=n` runs one seed, `CORELANE_SEEDS=n` that many.

mod atomic;
mod control;
mod elements;
mod history;
mod linear;
mod model;
mod operators;
mod random;
mod talker;
mod walk;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

/// One life of a world with these groups of clients.
fn run(seed: u64, groups: &[Join]) {
    let mut world = World::new(seed);
    let audits: Vec<Audit> = groups.iter().map(|join| join(&mut world)).collect();
    let steps = world.random.between(STEPS_MAX / 10, STEPS_MAX);
    world.run(steps);
    world.settle();
    for audit in audits {
        audit(&mut world);
    }
    world.close_all();
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
fn keys_that_are_written_together_are_seen_together() {
    each_seed(&[atomic::join]);
}

#[test]
fn what_moves_between_keys_is_neither_lost_nor_doubled() {
    each_seed(&[elements::join]);
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
fn a_walk_over_all_keys_finds_every_key_that_stays() {
    each_seed(&[walk::join]);
}

#[test]
fn all_of_it_at_once_with_operators_at_work() {
    each_seed(&[
        operators::join,
        atomic::join,
        elements::join,
        history::join,
        model::join,
        walk::join,
    ]);
}
