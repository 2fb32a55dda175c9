//! What one operation on a sorted set of 100 000 members costs, without keyspace and network.

use corelane::datatypes::zset::{AddMode, Order, ScoreRange, ZSet, ZSetLimits};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const MEMBERS: u64 = 100_000;

/// Members as redis-benchmark names them.
fn names() -> Vec<String> {
    (0..MEMBERS).map(|number| format!("element:{number:012}")).collect()
}

/// Visits the members in an order that no prefetcher foresees.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    ((u128::from(*state) * u128::from(MEMBERS)) >> 64) as usize
}

fn filled(names: &[String], score: impl Fn(usize) -> f64) -> ZSet {
    let mut zset = ZSet::default();
    let mut state = 1;
    for _ in 0..2 * MEMBERS {
        let at = next(&mut state);
        zset.insert(names[at].as_bytes(), score(at), ZSetLimits::default());
    }
    zset
}

fn zset(c: &mut Criterion) {
    let names = names();
    let limits = ZSetLimits::default();
    let mut state = 7;

    let mut flat = filled(&names, |_| 0.0);
    c.bench_function("zset/add a member that has this score", |b| {
        b.iter(|| flat.insert(names[next(&mut state)].as_bytes(), black_box(0.0), limits));
    });
    c.bench_function("zset/pop the first, add any, equal scores", |b| {
        b.iter(|| {
            flat.pop(Order::Ascending, |_, score| score);
            flat.insert(names[next(&mut state)].as_bytes(), 0.0, limits)
        });
    });

    let mut scored = filled(&names, |at| (at * 7919 % 100_003) as f64);
    let increment = AddMode { increment: true, ..AddMode::default() };
    c.bench_function("zset/increment", |b| {
        b.iter(|| {
            let by = (state % 100) as f64 - 50.0;
            scored.add(names[next(&mut state)].as_bytes(), by, increment, limits)
        });
    });
    c.bench_function("zset/score", |b| {
        b.iter(|| scored.score(names[next(&mut state)].as_bytes()));
    });
    c.bench_function("zset/rank", |b| {
        b.iter(|| scored.rank(names[next(&mut state)].as_bytes()));
    });
    c.bench_function("zset/ten members by score", |b| {
        b.iter(|| {
            let min = next(&mut state) as f64;
            let max = f64::INFINITY;
            let range = ScoreRange { min, max, min_excluded: false, max_excluded: false };
            let ranks = scored.ranks_by_score(&range);
            let ranks = ranks.start..ranks.end.min(ranks.start + 10);
            scored.iter(ranks, Order::Ascending).map(|(_, score)| score).sum::<f64>()
        });
    });
    c.bench_function("zset/a hundred members by rank", |b| {
        b.iter(|| {
            let first = next(&mut state).min(MEMBERS as usize - 100);
            let ranks = first..first + 100;
            scored.iter(ranks, Order::Ascending).map(|(_, score)| score).sum::<f64>()
        });
    });
}

criterion_group!(benches, zset);
criterion_main!(benches);
