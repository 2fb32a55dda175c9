//! A sorted set of 100,000 members: the operations behind ZADD, ZPOPMIN and ZRANGE.

use std::hint::black_box;

use corelane::datatypes::zset::{Order, ZSet};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

const MEMBERS: usize = 100_000;

fn member(number: usize) -> Vec<u8> {
    format!("member:{number:09}").into_bytes()
}

/// A number below `MEMBERS`, the next of a sequence that looks random and repeats none.
fn next(number: usize) -> usize {
    (number + 61_957) % MEMBERS
}

fn zset() -> ZSet {
    let mut zset = ZSet::default();
    for number in 0..MEMBERS {
        zset.insert(&member(number), (number * 7919 % MEMBERS) as f64, Default::default());
    }
    zset
}

fn write(criterion: &mut Criterion) {
    let members: Vec<_> = (0..MEMBERS).map(member).collect();
    let mut zset = zset();
    let mut number = 0;
    criterion.bench_function("ZADD existing, new score", |bencher| {
        bencher.iter(|| {
            number = next(number);
            let score = (number * 31 % MEMBERS) as f64 + 0.5;
            zset.insert(black_box(&members[number]), score, Default::default())
        });
    });
    criterion.bench_function("ZPOPMIN and ZADD at the end", |bencher| {
        let mut score = MEMBERS as f64;
        bencher.iter(|| {
            let mut buffer = itoa::Buffer::new();
            let popped =
                zset.pop(Order::Ascending, |member, _| member.as_bytes(&mut buffer).to_vec());
            score += 1.0;
            zset.insert(&popped.expect("it never gets empty"), score, Default::default())
        });
    });
}

fn read(criterion: &mut Criterion) {
    let zset = zset();
    let mut group = criterion.benchmark_group("ZRANGE");
    group.throughput(Throughput::Elements(100));
    let mut number = 0;
    group.bench_function("100 by rank", |bencher| {
        bencher.iter(|| {
            number = next(number);
            let from = number.min(MEMBERS - 100);
            zset.iter(from..from + 100, Order::Ascending).map(|(_, score)| score).sum::<f64>()
        });
    });
    group.finish();
}

criterion_group!(benches, write, read);
criterion_main!(benches);
