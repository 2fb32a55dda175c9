//! One database with a million keys of 16 bytes and values of 32, looked at and written in random
//! order: what a command pays below the dispatcher, and what prefetching a pipeline saves.

use std::hint::black_box;
use std::time::{Duration, Instant};

use corelane::keyspace::{Database, Key, Keyspace, NewExpiry};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

const KEYS: usize = 1_000_000;
const VALUE: [u8; 32] = [b'x'; 32];

type Name = [u8; 16];

fn name(prefix: &str, number: usize) -> Name {
    format!("{prefix}:{number:012}").into_bytes().try_into().expect("3 + 1 + 12 bytes")
}

/// Names in an order in which no two neighbours are neighbours in memory.
fn names(prefix: &str) -> Vec<Name> {
    // A prime that does not divide KEYS: every number comes once.
    (0..KEYS).map(|number| name(prefix, number * 611_953 % KEYS)).collect()
}

fn keyspace() -> Keyspace {
    Keyspace::new(1, 1_700_000_000_000, 1)
}

fn fill(database: &mut Database, names: &[Name]) {
    for name in names {
        database.set_str(&Key::new(name), &VALUE, NewExpiry::None);
    }
}

/// The names `from` on, around and around, in groups of `size`.
fn groups<'n>(names: &'n [Name], size: usize) -> impl FnMut() -> Vec<Key<'n>> {
    let mut from = 0;
    move || {
        if from + size > names.len() {
            from = 0;
        }
        from += size;
        names[from - size..from].iter().map(|name| Key::new(name)).collect()
    }
}

fn prefetch(database: &Database, keys: &[Key<'_>]) {
    keys.iter().for_each(|key| database.prefetch_slot(key));
    keys.iter().for_each(|key| database.prefetch_bucket(key));
    keys.iter().for_each(|key| database.prefetch_entry(key));
}

/// Reads all of `keys`; how many there were.
fn read(database: &mut Database, keys: &[Key<'_>]) -> usize {
    keys.iter().filter(|key| matches!(database.read_str(key), Ok(Some(_)))).count()
}

fn get(criterion: &mut Criterion) {
    let (present, absent) = (names("key"), names("nil"));
    let mut keyspace = keyspace();
    let database = &mut keyspace[0];
    fill(database, &present);
    let mut group = criterion.benchmark_group("GET at 1 M keys");
    for (case, names, hits) in [("hit", &present, 16), ("miss", &absent, 0)] {
        group.throughput(Throughput::Elements(16));
        group.bench_function(case, |bencher| {
            bencher.iter_batched_ref(
                groups(names, 16),
                |keys| assert_eq!(read(database, black_box(keys)), hits),
                BatchSize::SmallInput,
            );
        });
        for size in [16, 64] {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(format!("{case}, {size} prefetched"), |bencher| {
                bencher.iter_batched_ref(
                    groups(names, size),
                    |keys| {
                        prefetch(database, black_box(keys));
                        read(database, keys)
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.throughput(Throughput::Elements(16));
    group.bench_function("SET existing, 16 prefetched", |bencher| {
        bencher.iter_batched_ref(
            groups(&present, 16),
            |keys| {
                prefetch(database, keys);
                keys.iter().for_each(|key| database.set_str(key, &VALUE, NewExpiry::None));
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Keys that were not there: tables grow and split, entries are allocated.
fn insert(criterion: &mut Criterion) {
    let names = names("key");
    let mut group = criterion.benchmark_group("insert");
    group.throughput(Throughput::Elements(1));
    group.sample_size(10);
    group.bench_function("per key, from none to 1 M", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count as usize;
            while left > 0 {
                let mut keyspace = keyspace();
                let now = left.min(KEYS);
                let start = Instant::now();
                fill(&mut keyspace[0], &names[..now]);
                spent += start.elapsed();
                left -= now;
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, get, insert);
criterion_main!(benches);
