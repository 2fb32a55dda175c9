//! The journal: every write leaves its shard as an *effect*, a command that does the same wherever and
//! whenever it is run, and all effects are merged into one stream for append-only files and replicas.
//!
//! [`recorder`] is the part on a shard: it takes effects while commands run, and wraps those of one command, block
//! or script in MULTI … EXEC. [`merge`] is the part on the control core: it puts the parcels of all shards in
//! order.
//!
//! A transaction over several shards borrows entries and runs on one of them, so all its effects are
//! made in one place and in one go; what is left to settle is the order between shards. Whoever depends on an
//! effect can only do so by a message, or by a reply to a client, that left its shard later. So a
//! shard gives its parcel the next number of one counter for the process
//! ([`crate::process::Process::stamp`]) before any other message or reply leaves, and the control core goes by
//! those numbers. They are dense: a gap says that a parcel is still with its shard, or on its lane. So what counts
//! is when the stamp is taken; a parcel may be sent later, and what was stamped in a row as one.
//!
//! Promise: the stream keeps each shard's order and the order of cause and effect; a unit (the effects of one
//! command, block or script) stands in it without a gap.

pub mod merge;
pub mod recorder;

pub use merge::{Merge, Stream};
pub use recorder::{Audience, Parcel, Recorder, Stamp, Stretch, Unit};
