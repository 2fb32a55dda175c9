//! The records of an RDB file, on their way out.
//!
//! Each function appends one record to a buffer. A record means the same wherever it stands (a database
//! number counts until the next one), so shards write theirs into buffers of their own, in any order, and
//! who puts them together only adds a [`Summed`] around the sink, for the checksum.

use std::io::{self, Write};

use super::VERSION;
use super::crc64::Crc64;
use super::encode::{Compression, write_length, write_text};
use super::type_code::TypeCode;

/// What opens a file, before the version.
pub(super) const MAGIC: &[u8; 5] = b"REDIS";

/// The byte that begins a record which is not a key (Redis 7.0 `rdb.h`).
pub(super) mod opcode {
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const FUNCTION_BEFORE_RELEASE: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const SIZES: u8 = 251;
    pub const EXPIRY_MS: u8 = 252;
    pub const EXPIRY_SECONDS: u8 = 253;
    pub const DATABASE: u8 = 254;
    pub const END: u8 = 255;
}

/// What a file says about itself.
#[derive(Clone, Debug)]
pub struct Header {
    /// Unix time in seconds.
    pub created: i64,
    /// Bytes of memory in use.
    pub used_memory: u64,
    /// Where the replication stream stands, if there is one.
    pub replication: Option<ReplicationPoint>,
    /// Whether the file is the base of an append-only file.
    pub aof_base: bool,
}

/// A place in a replication stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicationPoint {
    /// The database that the stream has selected.
    pub database: i64,
    /// Forty hexadecimal digits.
    pub id: String,
    /// Bytes of the stream so far.
    pub offset: i64,
}

/// How recently, or how often, a key was used; which one depends on `maxmemory-policy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Seconds since the last use.
    Idle(u64),
    /// The logarithmic counter of uses.
    Frequency(u8),
}

/// Appends what a file begins with: the version, and what it says about itself.
pub fn write_header(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(format!("{VERSION:04}").as_bytes());
    write_aux("redis-ver", "7.0.15", out);
    write_aux("redis-bits", &usize::BITS.to_string(), out);
    write_aux("ctime", &header.created.to_string(), out);
    write_aux("used-mem", &header.used_memory.to_string(), out);
    if let Some(ReplicationPoint { database, id, offset }) = &header.replication {
        write_aux("repl-stream-db", &database.to_string(), out);
        write_aux("repl-id", id, out);
        write_aux("repl-offset", &offset.to_string(), out);
    }
    write_aux("aof-base", if header.aof_base { "1" } else { "0" }, out);
}

/// Appends one thing that a file says about itself.
pub fn write_aux(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(opcode::AUX);
    write_text(name.as_bytes(), Compression::NONE, out);
    write_text(value.as_bytes(), Compression::NONE, out);
}

/// Appends the source of a library of functions.
pub fn write_function(source: &[u8], compression: Compression, out: &mut Vec<u8>) {
    out.push(opcode::FUNCTION);
    write_text(source, compression, out);
}

/// Appends that the keys to come are of this database.
pub fn write_database(database: u64, out: &mut Vec<u8>) {
    out.push(opcode::DATABASE);
    write_length(database, out);
}

/// Appends how many keys the database has, and how many of them expire: a hint.
pub fn write_sizes(keys: u64, expiring: u64, out: &mut Vec<u8>) {
    out.push(opcode::SIZES);
    write_length(keys, out);
    write_length(expiring, out);
}

/// What comes before the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHead<'a> {
    /// The key.
    pub key: &'a [u8],
    /// How its value is written.
    pub code: TypeCode,
    /// When it expires, unix ms.
    pub expiry: Option<i64>,
    /// How it was used, under a policy that evicts by that.
    pub usage: Option<Usage>,
}

/// Appends what comes before the value of a key; [`super::ValueEncoder`] writes the value.
pub fn write_key_head(head: &KeyHead<'_>, compression: Compression, out: &mut Vec<u8>) {
    if let Some(at) = head.expiry {
        out.push(opcode::EXPIRY_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    match head.usage {
        Some(Usage::Idle(seconds)) => {
            out.push(opcode::IDLE);
            write_length(seconds, out);
        }
        Some(Usage::Frequency(count)) => out.extend([opcode::FREQUENCY, count]),
        None => {}
    }
    out.push(head.code.byte());
    write_text(head.key, compression, out);
}

/// Appends what a file ends with, before its checksum.
pub fn write_end(out: &mut Vec<u8>) {
    out.push(opcode::END);
}

/// A sink that sums up what goes through it, and ends the file.
pub struct Summed<W> {
    sink: W,
    sum: Option<Crc64>,
}

impl<W: Write> Summed<W> {
    /// Puts a sum around `sink`; `checksum` is what `rdbchecksum` says.
    pub fn new(sink: W, checksum: bool) -> Self {
        Self { sink, sum: checksum.then(Crc64::default) }
    }

    /// Passes whole or partial records on.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.sink.write_all(bytes)
    }

    /// Ends the file. Without a checksum, zero stands in its place, which readers do not look at.
    pub fn finish(mut self) -> io::Result<W> {
        self.write(&[opcode::END])?;
        let sum = self.sum.map_or(0, Crc64::value);
        self.sink.write_all(&sum.to_le_bytes())?;
        Ok(self.sink)
    }
}
