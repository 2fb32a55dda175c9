//! The values that keys hold, and the containers, encodings and texts that they are built of.
//!
//! Nothing here knows a key, a client, a command or a clock: a type is plain data with the encodings and
//! the conversion points of Redis 7.0 and takes its limits as arguments, so that commands, snapshots
//! and the journal use it alike.

pub mod arena;
pub mod bitfield;
pub mod bits;
pub mod glob;
pub mod hash;
pub mod hashing;
pub mod intset;
pub mod lcs;
pub mod list;
pub mod listpack;
pub mod long_double;
pub mod number;
pub mod set;
pub mod skiplist;
pub mod small_bytes;
pub mod stream;
pub mod table;
pub mod zset;
