//! A list of 100,000 short elements: the operations behind LPUSH, LPOP and LRANGE.

use std::hint::black_box;

use corelane::datatypes::list::{End, List};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

const ELEMENTS: usize = 100_000;

fn list() -> List {
    let mut list = List::default();
    for number in 0..ELEMENTS {
        list.push(End::Tail, format!("element:{number:08}").as_bytes());
    }
    list
}

fn ends(criterion: &mut Criterion) {
    let mut list = list();
    criterion.bench_function("LPUSH and RPOP", |bencher| {
        bencher.iter(|| {
            list.push(End::Head, black_box(b"element:00000000"));
            list.pop(End::Tail)
        });
    });
    criterion.bench_function("LPUSH and LPOP", |bencher| {
        bencher.iter(|| {
            list.push(End::Head, black_box(b"element:00000000"));
            list.pop(End::Head)
        });
    });
}

fn range(criterion: &mut Criterion) {
    let list = list();
    let mut group = criterion.benchmark_group("LRANGE");
    group.throughput(Throughput::Elements(100));
    for (case, from) in [("100 at the head", 0), ("100 in the middle", ELEMENTS / 2)] {
        group.bench_function(case, |bencher| {
            bencher.iter(|| list.range(black_box(from), 100).map(black_box).count());
        });
    }
    group.finish();
}

criterion_group!(benches, ends, range);
criterion_main!(benches);
