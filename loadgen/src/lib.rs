//! The load generator's parts, shared by its two programs.
//!
//! `corelane-loadgen` measures throughput and latency under a workload, `corelane-gap` the longest
//! silence of a server while it does something heavy. The way of a request:
//! [`workload`] chooses what to ask, [`template`] writes it as RESP, [`driver`] decides when,
//! [`ring`] moves the bytes, [`protocol`] finds where replies end, [`tally`] counts them and
//! [`report`] prints them. [`engine`] starts the threads and collects what they counted.
//! `corelane-gap` drives the same engine through [`scenario`] while [`probe`] listens.
//!
//! Promise: only [`ring`] contains `unsafe`, and only [`ring`] and [`client`] know a socket.

pub mod args;
pub mod client;
pub mod driver;
pub mod engine;
pub mod failure;
pub mod interrupt;
pub mod json;
pub mod probe;
pub mod protocol;
pub mod random;
pub mod report;
pub mod ring;
pub mod scenario;
pub mod schedule;
pub mod tally;
pub mod template;
pub mod workload;
pub mod zipfian;
