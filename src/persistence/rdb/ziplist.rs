//! Ziplist: what small collections were before the listpack. Read only, in files of Redis up to 6.2.
//!
//! Layout: total bytes, offset of the last entry (u32 each), count (u16, 65535 = unknown), entries, `FF`. An
//! entry begins with the length of the entry before it, in one byte, or in four after `FE`.
//!
//! Promise: any bytes are read to their end or refused, without a panic.

use super::input::{Error, Input};
use crate::datatypes::listpack::{Element, LISTPACK_BYTES_MAX, Listpack};

const END: u8 = 0xFF;
/// Bytes before the first entry.
const HEADER_BYTES: usize = 10;
/// The count that means "walk and count".
const COUNT_UNKNOWN: u16 = u16::MAX;
/// The length of the entry before does not fit one byte.
const LONG_PREVIOUS: u8 = 0xFE;

const CORRUPT: Error = Error::Corrupt("a malformed ziplist");

/// The entries of a ziplist as a listpack.
pub fn to_listpack(bytes: &[u8]) -> Result<Listpack, Error> {
    if bytes.len() > LISTPACK_BYTES_MAX {
        return Err(CORRUPT); // Redis lets none grow so far, and some entries take a byte more here
    }
    let mut listpack = Listpack::with_capacity(bytes.len());
    for_each(bytes, |element| match element {
        Element::Int(value) => listpack.push_back_int(value),
        Element::Bytes(text) => listpack.push_back(text),
    })?;
    listpack.shrink_to_fit();
    Ok(listpack)
}

/// Shows every entry to `visit`, those before a malformed one as well.
pub fn for_each(bytes: &[u8], mut visit: impl FnMut(Element<'_>)) -> Result<(), Error> {
    // Within a ziplist, to end early is to be malformed: there is no more to wait for.
    read(bytes, &mut visit).map_err(|_| CORRUPT)
}

fn read(bytes: &[u8], visit: &mut impl FnMut(Element<'_>)) -> Result<(), Error> {
    let mut input = Input::new(bytes);
    let total = u32::from_le_bytes(input.array()?) as usize;
    let last = u32::from_le_bytes(input.array()?) as usize;
    let stated = u16::from_le_bytes(input.array()?);
    let (mut count, mut previous) = (0_usize, 0);
    loop {
        let start = input.mark();
        let first = input.byte()?;
        if first == END {
            break;
        }
        let said = match first {
            LONG_PREVIOUS => u32::from_le_bytes(input.array()?) as usize,
            _ => usize::from(first),
        };
        if said != previous {
            return Err(CORRUPT);
        }
        visit(entry(&mut input)?);
        (count, previous) = (count + 1, input.mark() - start);
    }
    let end = input.mark();
    let last_start = if count == 0 { HEADER_BYTES } else { end - 1 - previous };
    let counted = stated == COUNT_UNKNOWN || usize::from(stated) == count;
    let whole = total == bytes.len() && end == total && last == last_start && counted;
    whole.then_some(()).ok_or(CORRUPT)
}

/// The content of an entry, behind the length of the one before.
fn entry<'a>(input: &mut Input<'a>) -> Result<Element<'a>, Error> {
    let first = input.byte()?;
    let length = match first >> 6 {
        0 => u64::from(first),
        1 => u64::from(first & 0x3F) << 8 | u64::from(input.byte()?),
        _ => match first {
            0x80 => u64::from(u32::from_be_bytes(input.array()?)),
            _ => return integer(first, input).map(Element::Int),
        },
    };
    input.take(length).map(Element::Bytes)
}

fn integer(first: u8, input: &mut Input<'_>) -> Result<i64, Error> {
    Ok(match first {
        0xC0 => i64::from(i16::from_le_bytes(input.array()?)),
        0xD0 => i64::from(i32::from_le_bytes(input.array()?)),
        0xE0 => i64::from_le_bytes(input.array()?),
        0xF0 => {
            let [low, middle, high] = input.array()?;
            i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
        }
        0xFE => i64::from(i8::from_le_bytes(input.array()?)),
        0xF1..=0xFD => i64::from(first & 0x0F) - 1,
        _ => return Err(CORRUPT),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A ziplist of entries that are given from their encoding byte on.
    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let (mut previous, mut last) = (0, HEADER_BYTES);
        for entry in entries {
            last = HEADER_BYTES + body.len();
            let start = body.len();
            if previous < 254 {
                body.push(previous as u8);
            } else {
                body.push(LONG_PREVIOUS);
                body.extend_from_slice(&(previous as u32).to_le_bytes());
            }
            body.extend_from_slice(entry);
            previous = body.len() - start;
        }
        let total = (HEADER_BYTES + body.len() + 1) as u32;
        let mut bytes = total.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(last as u32).to_le_bytes());
        bytes.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.push(END);
        bytes
    }

    #[test]
    fn entries_of_every_encoding_are_read() {
        let long = [&[0x41, 0x2C][..], &[b'x'; 300]].concat();
        let wide = [&[0x80, 0, 0, 0, 2][..], b"ab"].concat();
        let bytes = ziplist(&[
            b"\x03abc",
            &long,
            &wide,
            b"\xC0\xFE\xFF",
            b"\xD0\x00\x00\x01\x00",
            b"\xE0\x00\x00\x00\x00\x00\x00\x00\x80",
            b"\xF0\xFF\xFF\xFF",
            b"\xFE\x80",
            b"\xF1",
            b"\xFD",
            b"\x00",
        ]);
        let listpack = to_listpack(&bytes).expect("it is well formed");
        let texts: Vec<String> = listpack
            .iter()
            .map(|element| String::from_utf8_lossy(&element.to_vec()).into_owned())
            .collect();
        let long = "x".repeat(300);
        let expected = [
            "abc",
            &long,
            "ab",
            "-2",
            "65536",
            "-9223372036854775808",
            "-1",
            "-128",
            "0",
            "12",
            "",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn every_damage_to_the_frame_is_noticed() {
        let good = ziplist(&[b"\x01a", b"\xF5", b"\x02bc"]);
        assert!(to_listpack(&good).is_ok());
        for length in 0..good.len() {
            assert!(to_listpack(&good[..length]).is_err(), "{length} bytes of it");
        }
        for at in [0, 4, 8, 10, 13, 15, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(to_listpack(&bad).is_err(), "byte {at}");
        }
        assert!(to_listpack(&[&good[..], b"x"].concat()).is_err(), "surplus bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..6),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            let mut bytes = ziplist(&entries);
            if let Some((at, byte)) = damage {
                *at.get_mut(&mut bytes) = byte;
            }
            if let Ok(listpack) = to_listpack(&bytes) {
                prop_assert!(Listpack::from_bytes(listpack.into_bytes()).is_ok());
            }
        }
    }
}
