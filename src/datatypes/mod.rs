//! The value types that a key can hold, and the compact forms that they share.
//!
//! Nothing here knows of keys, clients or time: a type takes bytes and gives bytes, so that
//! commands, snapshots and the journal use it alike.

pub mod hash;
pub mod hashing;
pub mod intset;
pub mod listpack;
pub mod set;
pub mod small_bytes;
pub mod table;
