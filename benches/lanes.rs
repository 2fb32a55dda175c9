//! A lane between two threads: one way in bulk, and a message there and back; ours against
//! crossbeam's `ArrayQueue`.

use std::{hint, sync::Arc, thread, time::Instant};

use corelane::lanes::ring;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;

/// A message as large as a lane message may be.
type Message = [u64; 8];

const LANE_MESSAGES: usize = 1024;

fn wait_for<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    loop {
        match poll() {
            Some(value) => return value,
            None => hint::spin_loop(),
        }
    }
}

/// Nanoseconds for `count` messages pushed by another thread.
fn one_way(
    count: u64,
    mut push: impl FnMut(Message) -> Option<()> + Send,
    mut pop: impl FnMut() -> Option<Message>,
) -> std::time::Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || (0..count).for_each(|number| wait_for(|| push([number; 8]))));
        for _ in 0..count {
            hint::black_box(wait_for(&mut pop));
        }
    });
    start.elapsed()
}

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one way");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ring", |bench| {
        bench.iter_custom(|count| {
            let (mut sender, mut receiver) = ring::channel(LANE_MESSAGES);
            one_way(count, |message| sender.try_push(message).ok(), || receiver.pop())
        });
    });
    group.bench_function("ArrayQueue", |bench| {
        bench.iter_custom(|count| {
            let queue = Arc::new(ArrayQueue::new(LANE_MESSAGES));
            one_way(count, |message| queue.push(message).ok(), || queue.pop())
        });
    });
    group.finish();
}

fn same_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 16 on one thread");
    group.throughput(Throughput::Elements(16));
    group.bench_function("ring", |bench| {
        let (mut sender, mut receiver) = ring::channel(LANE_MESSAGES);
        bench.iter(|| {
            (0..16).for_each(|number| sender.try_push([number; 8]).unwrap());
            std::iter::from_fn(|| receiver.pop()).for_each(|message| {
                hint::black_box(message);
            });
        });
    });
    group.bench_function("ArrayQueue", |bench| {
        let queue = ArrayQueue::new(LANE_MESSAGES);
        bench.iter(|| {
            (0..16).for_each(|number| queue.push([number; 8]).unwrap());
            std::iter::from_fn(|| queue.pop()).for_each(|message| {
                hint::black_box(message);
            });
        });
    });
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    criterion.bench_function("round trip", |bench| {
        bench.iter_custom(|count| {
            let (mut there, mut there_out) = ring::channel::<Message>(LANE_MESSAGES);
            let (mut back, mut back_out) = ring::channel::<Message>(LANE_MESSAGES);
            let start = Instant::now();
            thread::scope(|scope| {
                scope.spawn(move || {
                    for _ in 0..count {
                        let message = wait_for(|| there_out.pop());
                        wait_for(|| back.try_push(message).ok());
                    }
                });
                for number in 0..count {
                    wait_for(|| there.try_push([number; 8]).ok());
                    hint::black_box(wait_for(|| back_out.pop()));
                }
            });
            start.elapsed()
        });
    });
}

criterion_group!(benches, throughput, same_thread, round_trip);
criterion_main!(benches);
