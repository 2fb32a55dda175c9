//! What a turn of the reactor pays for RESP: 16 pipelined requests in, 16 replies out.

use std::hint::black_box;

use corelane::resp::{Limits, Parser, Reply, Step};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Requests of one connection in one turn, as `redis-benchmark -P 16` sends them.
const PIPELINE: usize = 16;

fn pipeline(command: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    (0..PIPELINE).flat_map(command).collect()
}

fn parse_all<'b>(stream: &'b [u8], args: &mut Vec<&'b [u8]>) -> usize {
    let mut parser = Parser::default();
    let limits = Limits::default();
    let mut rest = stream;
    let mut bytes = 0;
    while !rest.is_empty() {
        args.clear();
        let Ok(Step::Command { consumed }) = parser.next(rest, &limits, args) else { break };
        bytes += black_box(args.as_slice()).len();
        rest = &rest[consumed..];
    }
    bytes
}

fn parse(criterion: &mut Criterion) {
    let gets = pipeline(|n| format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{n:012}\r\n").into_bytes());
    let sets = pipeline(|n| {
        let value = "x".repeat(32);
        format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{n:012}\r\n$32\r\n{value}\r\n").into_bytes()
    });
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, stream) in [("16 GET", &gets), ("16 SET", &sets)] {
        let mut args = Vec::with_capacity(8);
        assert!(parse_all(stream, &mut args) >= 2 * PIPELINE, "the bench parses every command");
        group.bench_function(name, |bencher| {
            let mut args = Vec::with_capacity(8);
            bencher.iter(|| parse_all(black_box(stream), &mut args));
        });
    }
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let mut out = Vec::with_capacity(4096);
    let value = [b'x'; 32];
    group.bench_function("16 bulks of 32 bytes", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, false);
            (0..PIPELINE).for_each(|_| reply.bulk(black_box(&value)));
        });
    });
    group.bench_function("16 integers", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, false);
            (0..PIPELINE).for_each(|n| reply.integer(black_box(n as i64 * 1000)));
        });
    });
    group.bench_function("16 OK", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, false);
            (0..PIPELINE).for_each(|_| black_box(&mut reply).ok());
        });
    });
}

criterion_group!(benches, parse, write);
criterion_main!(benches);
