//! The values that keys hold, and the formats that they are kept in. Below the keyspace: nothing
//! here knows a key, a client or a command.

pub mod glob;
//! The value types that a key can hold, and the compact forms that they share.
//!
//! Nothing here knows of keys, clients or time: a type takes bytes and gives bytes, so that
//! commands, snapshots and the journal use it alike.

pub mod listpack;
//! The values that a key can hold, and the containers that they are built of.
//!
//! Nothing here knows a key, a client or a clock: a type is plain data with the encodings and the
//! conversion points of Redis 7.0, so that snapshots and `OBJECT ENCODING` agree with it.

pub mod long_double;
pub mod number;
//! The values that a key can have, each in the encodings that Redis 7.0 has for it.
//!
//! Nothing here knows of keys, commands or configuration: limits come in as arguments.

pub mod hashing;
pub mod small_bytes;
pub mod table;
