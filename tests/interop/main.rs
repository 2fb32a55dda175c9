//! Files of this crate and those of redis-server 7.0: each end reads what the other writes. Needs `redis-server` and
//! `redis-check-aof` in the path, as the behaviour tests do.

mod aof;
mod rdb;
mod redis;
