//! RDB: how Redis writes values down, in files, to replicas and in DUMP.
//!
//! [`encode`] writes what Redis 7.0.15 writes (version 10), [`decode`] reads what any version up to 11
//! wrote. Both can stop and go on, so that a value of millions of elements does not hold up its
//! shard. [`payload`] is DUMP's frame around one value; [`write_file`] and [`read_file`] are the records of
//! a whole file; [`border`] finds where the values of a file end, without decoding them. [`lzf`] and
//! [`crc64`] are the compression and the checksum of the format.
//!
//! Promise: bytes from outside become a value or an [`Error`], never a panic, and cost no more memory than a
//! small multiple of their own length.

pub mod border;
pub mod check_file;
pub mod crc64;
pub mod decode;
pub mod encode;
pub mod input;
pub mod lzf;
pub mod payload;
pub mod read_file;
mod stream;
pub mod type_code;
pub mod write_file;

mod pairs;
mod record;
mod skip;
#[cfg(test)]
mod tests;
mod ziplist;
mod zipmap;

pub use decode::{Limits, ValueDecoder};
pub use encode::{Compression, ValueEncoder};
pub use input::Error;
pub use type_code::TypeCode;

/// The version that is written: that of Redis 7.0.
pub const VERSION: u16 = 10;
/// The newest version that a file may have: that of Redis 7.2 and Valkey 8.0.
pub const NEWEST_VERSION: u16 = 11;
