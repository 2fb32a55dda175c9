//! Which seeds a simulation runs, and on how many cores.
//!
//! A run says how many seeds it had and at which one it failed. `CORELANE_SEED=n` runs that one alone, `CORELANE_SEEDS=n` so many
//! instead of the usual number (a soak is one with millions), `CORELANE_FIRST_SEED=n` begins elsewhere: a soak of
//! yesterday need not be that of today.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// After so many seeds a soak says that it goes on.
const SEEDS_PER_REPORT: u64 = 100_000;

/// The number in a variable of the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The first seed, and how many there are.
fn range(usual: u64) -> (u64, u64) {
    match number("CORELANE_SEED") {
        Some(seed) => (seed, 1),
        None => {
            (number("CORELANE_FIRST_SEED").unwrap_or(0), number("CORELANE_SEEDS").unwrap_or(usual))
        }
    }
}

/// Runs `life` with each seed, on all cores, and returns what the lives returned, in no order. The first that fails ends
/// all, and is named.
pub fn each_seed<T: Send>(name: &str, usual: u64, life: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (first, count) = range(usual);
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let work = || {
        let mut results = Vec::new();
        loop {
            let done = next.fetch_add(1, Ordering::Relaxed);
            if done >= count {
                return results;
            }
            if done > 0 && done.is_multiple_of(SEEDS_PER_REPORT) {
                say(&format!("{name}: {done} of {count} seeds begun, {:.0?}", start.elapsed()));
            }
            let seed = first + done;
            match catch_unwind(AssertUnwindSafe(|| life(seed))) {
                Ok(result) => results.push(result),
                Err(panic) => {
                    next.store(count, Ordering::Relaxed);
                    say(&format!("{name}: CORELANE_SEED={seed} fails"));
                    resume_unwind(panic);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.collect::<Result<Vec<_>, _>>().unwrap_or_else(|panic| resume_unwind(panic))
    });
    say(&format!("{name}: {count} seeds from {first} on, {:.1?}", start.elapsed()));
    results.into_iter().flatten().collect()
}

/// Tests that pass show nothing that they print; what goes to the stream itself is seen.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn every_seed_is_run_once_and_a_failure_is_passed_on() {
    // Not with the seeds of the environment: these are too few to go by it.
    if number("CORELANE_SEED").or(number("CORELANE_SEEDS")).is_some() {
        return;
    }
    let first = number("CORELANE_FIRST_SEED").unwrap_or(0);
    let mut seeds = each_seed("every seed once", 1000, |seed| seed - first);
    seeds.sort_unstable();
    assert!(seeds.into_iter().eq(0..1000));
    let failure = catch_unwind(|| {
        each_seed("the eighth fails", 1000, |seed| assert_ne!(seed - first, 7, "as it should"));
    });
    assert!(failure.is_err());
}
