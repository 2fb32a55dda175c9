//! Zipmap: what a small hash was up to Redis 2.4. Read only.
//!
//! Layout: count of fields (one byte, 254 and more = unknown); for each field its length, itself, the length of
//! its value, a byte of how much room is free behind the value, the value, that room; then `FF`.
//!
//! Promise: any bytes are read to their end or refused, without a panic.

use super::input::{Error, Input};

const END: u8 = 0xFF;
/// A length that does not fit one byte follows in four.
const LONG_LENGTH: u8 = 0xFE;
/// Counts from here on mean "walk and count".
const COUNT_UNKNOWN: u8 = 0xFE;

const CORRUPT: Error = Error::Corrupt("a malformed zipmap");

/// Shows every field with its value to `visit`, until that fails.
pub fn for_each(
    bytes: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    // Within a zipmap, to end early is to be malformed: there is no more to wait for.
    let waits = |error| if error == Error::Truncated { CORRUPT } else { error };
    read(bytes, &mut visit).map_err(waits)
}

fn read(
    bytes: &[u8],
    visit: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut input = Input::new(bytes);
    let stated = input.byte()?;
    let mut count = 0_usize;
    while let Some(length) = length(&mut input)? {
        let field = input.take(length)?;
        let length = self::length(&mut input)?.ok_or(CORRUPT)?;
        let free = input.byte()?;
        let value = input.take(length)?;
        input.take(u64::from(free))?;
        visit(field, value)?;
        count += 1;
    }
    let counted = stated >= COUNT_UNKNOWN || usize::from(stated) == count;
    (counted && input.mark() == bytes.len()).then_some(()).ok_or(CORRUPT)
}

/// The next length, or `None` at the end.
fn length(input: &mut Input<'_>) -> Result<Option<u64>, Error> {
    Ok(match input.byte()? {
        END => None,
        LONG_LENGTH => Some(u64::from(u32::from_le_bytes(input.array()?))),
        short => Some(u64::from(short)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut pairs = Vec::new();
        let read = for_each(bytes, |field, value| {
            pairs.push((field.to_vec(), value.to_vec()));
            Ok(())
        });
        read.is_ok().then_some(pairs)
    }

    #[test]
    fn fields_are_read_and_free_room_is_skipped() {
        let pair = |field: &[u8], value: &[u8]| (field.to_vec(), value.to_vec());
        for (bytes, expected) in [
            (
                &b"\x02\x01f\x02\x00v1\x01g\x00\x03...\xFF"[..],
                vec![pair(b"f", b"v1"), pair(b"g", b"")],
            ),
            (b"\xFE\xFE\x01\x00\x00\x00f\xFE\x01\x00\x00\x00\x00v\xFF", vec![pair(b"f", b"v")]),
            (b"\x00\xFF", vec![]),
        ] {
            assert_eq!(pairs(bytes), Some(expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn bytes_that_are_no_zipmap_are_refused() {
        let good = b"\x01\x01f\x02\x01v1.\xFF";
        assert!(pairs(good).is_some());
        for length in 0..good.len() {
            assert_eq!(pairs(&good[..length]), None, "{length} bytes of it");
        }
        for (bytes, why) in [
            (&b"\x02\x01f\x01\x00v\xFF"[..], "a wrong count"),
            (b"\x01\x01f\xFF", "no value"),
            (b"\x01\x01f\x01\x00v\xFF\xFF", "surplus bytes"),
            (b"\x01\xFE\xFF\xFF\xFF\xFFf", "a length beyond the end"),
        ] {
            assert_eq!(pairs(bytes), None, "{why}");
        }
    }
}
