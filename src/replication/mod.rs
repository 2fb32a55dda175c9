//! Replication as Redis 7.0 speaks it: PSYNC, from either end.
//!
//! [`master`] is the end that has the data, [`replica`] the one that follows, [`backlog`] the stretch of the
//! stream that both keep. All of it is free of sockets, clocks and chance: bytes, times and
//! random ids come in through arguments, and what is to be done comes out. The control core
//! (`control/replication.rs`) has the sockets.
//!
//! A *position* counts the bytes of the stream before it; Redis's offset of a byte is the position behind
//! it. What Redis calls `master_repl_offset` is the position of the end.

pub mod backlog;
pub mod ids;
pub mod master;
pub mod replica;
#[cfg(test)]
mod simulation;
pub mod stream_reader;

pub use backlog::Backlog;
pub use ids::{History, ReplId};
