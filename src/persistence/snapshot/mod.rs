//! A snapshot on its way from the shards to wherever it goes.
//!
//! Shards make records; [`SnapshotStream`] puts them together as one RDB file, which a [`Sink`] takes: a
//! file of its own ([`file`]), the base of an append-only file, replicas. Whoever drives it gives a sink what there
//! is and asks it what has become of it; a sink never calls back, and its work is done in tasks of
//! its own.

pub mod file;
pub mod pipe;
mod stream;

pub use file::{FileSink, FileTarget};
pub use pipe::{Piece, Pipe};
pub use stream::{Sizes, SnapshotStream};

use crate::shard_map::ShardId;

/// What became of what a sink was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SinkEvent {
    /// Bytes that this shard sent are disposed of: it may send more.
    Taken(ShardId),
    /// The last event: everything is where it belongs and will last, or nothing is, and why.
    Over(Result<(), String>),
}

/// Where a snapshot goes.
pub trait Sink {
    /// Takes the next bytes. If they came from a shard, [`SinkEvent::Taken`] says when they are disposed of,
    /// also after a failure.
    fn write(&mut self, bytes: Vec<u8>, from: Option<ShardId>);

    /// That was all. [`SinkEvent::Over`] follows.
    fn finish(&mut self);

    /// There is not going to be a snapshot: what there is of it goes away. [`SinkEvent::Over`] follows with
    /// a failure, unless the snapshot was finished and it is too late.
    fn abandon(&mut self);

    /// What happened next, if something did that was not told yet.
    fn event(&mut self) -> Option<SinkEvent>;
}
