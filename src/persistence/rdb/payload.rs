//! The frame of DUMP: one value and what tells a damaged one, or one from the future, from a good one.
//!
//! Layout: type, value, version (u16), CRC-64 of all before it (u64), both little-endian. FUNCTION DUMP
//! uses the same end for libraries instead of a value.

use super::VERSION;
use super::crc64::crc64;
use super::decode::{Limits, ValueDecoder};
use super::encode::{Compression, type_code, write_value};
use super::input::{Error, Input};
use super::type_code::TypeCode;
use crate::keyspace::{Value, ValueRef};

/// Bytes of the checksum.
const SUM_BYTES: usize = 8;
/// Bytes of version and checksum.
const END_BYTES: usize = 2 + SUM_BYTES;

/// Appends the payload of DUMP for `value`.
pub fn dump(value: &ValueRef<'_>, compression: Compression, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(type_code(value).byte());
    write_value(value, compression, out);
    seal(start, out);
}

/// Appends version and checksum of what `out` holds from `start` on.
pub fn seal(start: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION.to_le_bytes());
    let sum = crc64(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// What `payload` holds before version and checksum, and the version; `None` if the checksum is wrong or the
/// version a newer one.
pub fn open(payload: &[u8]) -> Option<(&[u8], u16)> {
    let (summed, sum) = payload.split_at_checked(payload.len().checked_sub(SUM_BYTES)?)?;
    let (body, version) = summed.split_last_chunk::<{ END_BYTES - SUM_BYTES }>()?;
    let version = u16::from_le_bytes(*version);
    (version <= VERSION && sum == crc64(summed).to_le_bytes()).then_some((body, version))
}

/// The value in the body of a payload. Bytes after it are ignored, as Redis does.
pub fn restore(body: &[u8], version: u16, limits: Limits) -> Result<Value, Error> {
    let mut input = Input::new(body);
    let code = input.byte()?;
    let code = TypeCode::from_byte(code, version).ok_or(Error::UnknownType(code))?;
    let mut decoder = ValueDecoder::new(code, limits);
    loop {
        // A payload is here whole, so the value never waits for more.
        if let Some(value) = decoder.slice(&mut input, usize::MAX)? {
            return Ok(value);
        }
    }
}
