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
use super::write_file::{opcode, write_function};
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

/// The payload of FUNCTION DUMP for libraries of these texts.
pub fn dump_libraries<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    compression: Compression,
) -> Vec<u8> {
    let mut out = Vec::new();
    texts.for_each(|text| write_function(text, compression, &mut out));
    seal(0, &mut out);
    out
}

/// Why a payload is not one of FUNCTION DUMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Its checksum is wrong, or it comes from the future.
    Seal,
    /// It holds something else.
    NoLibrary,
    /// Its libraries are in the form that was given up before 7.0.
    BeforeRelease,
    /// It ends within a library.
    Damaged,
}

/// The texts of the libraries in a payload of FUNCTION DUMP.
pub fn libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
    let (body, _) = open(payload).ok_or(Unreadable::Seal)?;
    let mut input = Input::new(body);
    let mut texts = Vec::new();
    while input.mark() < body.len() {
        match input.byte().map_err(|_| Unreadable::Damaged)? {
            opcode::FUNCTION => {
                let text = input.text().map_err(|_| Unreadable::Damaged)?;
                texts.push(text.into_bytes());
            }
            opcode::FUNCTION_BEFORE_RELEASE => return Err(Unreadable::BeforeRelease),
            _ => return Err(Unreadable::NoLibrary),
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FUNCTION DUMP of Redis 7.0.15: one library.
    const CAPTURED: &[u8] = include_bytes!("../../../tests/vectors/rdb/function-dump.bin");

    #[test]
    fn libraries_come_back_and_damage_is_noticed() {
        let texts = libraries(CAPTURED).expect("libraries");
        assert!(texts.len() == 1 && texts[0].starts_with(b"#!lua name="));
        let again = dump_libraries(texts.iter().map(Vec::as_slice), Compression::ALL);
        assert_eq!(again, CAPTURED);
        assert_eq!(libraries(&dump_libraries([].into_iter(), Compression::ALL)), Ok(Vec::new()));
        assert_eq!(libraries(&CAPTURED[1..]), Err(Unreadable::Seal));
        for (body, reason) in [
            (&b"\xf5\x05abc"[..], Unreadable::Damaged),
            (b"\xf6\x00", Unreadable::BeforeRelease),
            (b"\x00\x01a", Unreadable::NoLibrary),
        ] {
            let mut payload = body.to_vec();
            seal(0, &mut payload);
            assert_eq!(libraries(&payload), Err(reason));
        }
    }
}
