//! The values that a key can have, each in the encodings that Redis 7.0 has for it.
//!
//! Nothing here knows of keys, commands or configuration: limits come in as arguments.

pub mod hashing;
pub mod small_bytes;
pub mod table;
