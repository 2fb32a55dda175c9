//! `corelane-loadgen`: drives a RESP server over io_uring.

fn main() {}
