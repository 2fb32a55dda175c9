//! The values that a key can hold, and the containers that they are built of.
//!
//! Nothing here knows a key, a client or a clock: a type is plain data with the encodings and the
//! conversion points of Redis 7.0, so that snapshots and `OBJECT ENCODING` agree with it.

pub mod arena;
pub mod long_double;
pub mod number;
pub mod skiplist;
