//! How one listpack element looks in bytes: encoding byte, data, then its length once more
//! ("backlen") so that a reader can also walk from the tail.
//!
//! The format is Redis's, byte for byte, because RDB files, DUMP payloads and replicas carry it.
//! A writer stores canonical decimal integers as integers and takes the narrowest encoding; a
//! reader accepts any width, as Redis does.
//!
//! Promise: [`checked_len`] looks at bytes of unknown origin and never panics; the other readers
//! are for bytes that it has accepted.

use crate::datatypes::number::parse_i64;

/// The byte after the last element.
pub(super) const END: u8 = 0xFF;

/// Longest encoding byte plus length or integer, in bytes: `F4` and 8 bytes of integer.
const HEAD_BYTES_MAX: usize = 9;

/// Strings shorter than this carry their length in the encoding byte.
const STRING_6_BIT_LIMIT: usize = 1 << 6;
/// Strings shorter than this carry their length in the encoding byte and the one after it.
const STRING_12_BIT_LIMIT: usize = 1 << 12;

const STRING_6_BIT: u8 = 0x80;
const INT_13_BIT: u8 = 0xC0;
const STRING_12_BIT: u8 = 0xE0;
const STRING_32_BIT: u8 = 0xF0;
const INT_16_BIT: u8 = 0xF1;
const INT_24_BIT: u8 = 0xF2;
const INT_32_BIT: u8 = 0xF3;
const INT_64_BIT: u8 = 0xF4;

/// One element, as it is stored.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    /// An integer: its text is the canonical decimal form.
    Int(i64),
    /// A string, borrowed from the listpack.
    Bytes(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The element as text; an integer is written into `buffer`.
    pub fn as_bytes<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Self::Int(value) => buffer.format(value).as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The element as text of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Whether the text of the element is `text`. To compare many, see [`Needle`].
    pub fn equals(&self, text: &[u8]) -> bool {
        match *self {
            Self::Int(value) => parse_i64(text) == Some(value),
            Self::Bytes(bytes) => bytes == text,
        }
    }

    /// Length of the text in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an element is a value, not a collection")]
    pub fn len(&self) -> usize {
        match *self {
            Self::Int(value) => itoa::Buffer::new().format(value).len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// A text to look for: parsed once, compared with many elements without formatting any of them.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    /// Prepares to look for `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, int: parse_i64(text) }
    }

    /// Whether the text of `element` is the one looked for.
    #[inline]
    pub fn matches(&self, element: Element<'_>) -> bool {
        match element {
            Element::Int(value) => self.int == Some(value),
            Element::Bytes(bytes) => bytes == self.text,
        }
    }
}

/// An element on its way into a listpack.
pub(super) struct Encoded<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Encodes `text`, as an integer if it is the canonical text of one.
    pub(super) fn text(text: &'a [u8]) -> Self {
        match parse_i64(text) {
            Some(value) => Self::int(value),
            None => Self::string(text),
        }
    }

    /// Encodes an element as [`Encoded::text`] or [`Encoded::int`].
    #[inline]
    pub(super) fn of(element: Element<'a>) -> Self {
        match element {
            Element::Int(value) => Self::int(value),
            Element::Bytes(text) => Self::text(text),
        }
    }

    /// Encodes an integer in the narrowest form that holds it.
    #[inline]
    pub(super) fn int(value: i64) -> Self {
        let bytes = value.to_le_bytes();
        match value {
            0..=127 => Self::head(bytes[0], bytes, 0),
            -4096..=4095 => Self::head(INT_13_BIT | (bytes[1] & 0x1F), bytes, 1),
            -0x8000..=0x7FFF => Self::head(INT_16_BIT, bytes, 2),
            -0x80_0000..=0x7F_FFFF => Self::head(INT_24_BIT, bytes, 3),
            -0x8000_0000..=0x7FFF_FFFF => Self::head(INT_32_BIT, bytes, 4),
            _ => Self::head(INT_64_BIT, bytes, 8),
        }
    }

    fn string(text: &'a [u8]) -> Self {
        let len = text.len();
        let bytes = (len as u64).to_le_bytes();
        let encoded = if len < STRING_6_BIT_LIMIT {
            Self::head(STRING_6_BIT | bytes[0], bytes, 0)
        } else if len < STRING_12_BIT_LIMIT {
            Self::head(STRING_12_BIT | bytes[1], bytes, 1)
        } else {
            assert!(len <= u32::MAX as usize, "a string above 4 GiB was sent to a listpack");
            Self::head(STRING_32_BIT, bytes, 4)
        };
        Self { body: text, ..encoded }
    }

    /// With the first `count` of `rest`. All are copied, because to copy as many as it happens to be takes a call.
    #[inline]
    fn head(first: u8, rest: [u8; HEAD_BYTES_MAX - 1], count: usize) -> Self {
        let mut head = [first; HEAD_BYTES_MAX];
        head[1..].copy_from_slice(&rest);
        Self { head, head_len: 1 + count, body: &[] }
    }

    /// Bytes that the element takes, backlen included.
    pub(super) fn byte_len(&self) -> usize {
        let len = self.head_len + self.body.len();
        len + backlen_bytes(len)
    }

    /// Writes the element; `room` is exactly [`Self::byte_len`] long.
    pub(super) fn write(&self, room: &mut [u8]) {
        let len = self.head_len + self.body.len();
        if len == 1 {
            // A small integer, as most in nodes of streams.
            (room[0], room[1]) = (self.head[0], 1);
            return;
        }
        room[..self.head_len].copy_from_slice(&self.head[..self.head_len]);
        room[self.head_len..len].copy_from_slice(self.body);
        write_backlen(len, &mut room[len..]);
    }
}

/// The element at the start of `bytes`, and its length without the backlen.
#[inline]
pub(super) fn decode(bytes: &[u8]) -> (Element<'_>, usize) {
    let first = bytes[0];
    match first {
        0..STRING_6_BIT => (Element::Int(i64::from(first)), 1),
        STRING_6_BIT..INT_13_BIT => string(bytes, 1, usize::from(first & 0x3F)),
        _ => decode_long(bytes),
    }
}

fn decode_long(bytes: &[u8]) -> (Element<'_>, usize) {
    match bytes[0] {
        first @ INT_13_BIT..STRING_12_BIT => {
            // The 13 bits go to the top of 16 and come back down with their sign.
            let bits = u16::from_be_bytes([first, bytes[1]]) << 3;
            (Element::Int(i64::from(bits as i16 >> 3)), 2)
        }
        first @ STRING_12_BIT..STRING_32_BIT => {
            string(bytes, 2, usize::from(first & 0x0F) << 8 | usize::from(bytes[1]))
        }
        STRING_32_BIT => string(bytes, 5, le_u32(&bytes[1..]) as usize),
        INT_16_BIT => int::<2>(bytes),
        INT_24_BIT => int::<3>(bytes),
        INT_32_BIT => int::<4>(bytes),
        INT_64_BIT => int::<8>(bytes),
        other => unreachable!("byte {other:#x} starts no element, and the listpack was checked"),
    }
}

fn string(bytes: &[u8], head_len: usize, len: usize) -> (Element<'_>, usize) {
    (Element::Bytes(&bytes[head_len..head_len + len]), head_len + len)
}

fn int<const WIDTH: usize>(bytes: &[u8]) -> (Element<'_>, usize) {
    // The bytes go to the top of 8 and come back down with their sign.
    let mut top = [0; 8];
    top[8 - WIDTH..].copy_from_slice(&bytes[1..=WIDTH]);
    (Element::Int(i64::from_le_bytes(top) >> (8 * (8 - WIDTH))), 1 + WIDTH)
}

/// Length without the backlen of the element at the start of `bytes`, which have been checked.
#[inline]
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
    match bytes[0] {
        0..STRING_6_BIT => 1,
        first @ STRING_6_BIT..INT_13_BIT => 1 + usize::from(first & 0x3F),
        _ => stated_len(bytes).expect("the listpack was checked when it was made"),
    }
}

/// Length, backlen included, of the element at the start of `bytes`, whatever these hold; `None`
/// if no whole and well-formed element is there.
pub(super) fn checked_len(bytes: &[u8]) -> Option<usize> {
    let len = stated_len(bytes)?;
    let mut backlen = [0; BACKLEN_BYTES_MAX];
    let backlen = &mut backlen[..backlen_bytes(len)];
    write_backlen(len, backlen);
    (bytes.get(len..len + backlen.len())? == backlen).then_some(len + backlen.len())
}

/// What the head of an element says of its length, which the bytes after it may not live up to.
fn stated_len(bytes: &[u8]) -> Option<usize> {
    Some(match *bytes.first()? {
        0..STRING_6_BIT => 1,
        first @ STRING_6_BIT..INT_13_BIT => 1 + usize::from(first & 0x3F),
        INT_13_BIT..STRING_12_BIT => 2,
        first @ STRING_12_BIT..STRING_32_BIT => {
            2 + (usize::from(first & 0x0F) << 8 | usize::from(*bytes.get(1)?))
        }
        STRING_32_BIT => 5 + le_u32(bytes.get(1..5)?) as usize,
        INT_16_BIT => 3,
        INT_24_BIT => 4,
        INT_32_BIT => 5,
        INT_64_BIT => 9,
        _ => return None,
    })
}

pub(super) fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Longest backlen, in bytes: 5 groups of 7 bits.
const BACKLEN_BYTES_MAX: usize = 5;

/// Bytes of the backlen of an element of `len` bytes. Redis moves to the next width one early, at
/// 2^14 - 1 and not at 2^14 (except for the first), and so must we.
#[inline]
pub(super) fn backlen_bytes(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..0x3FFF => 2,
        0x3FFF..0x1F_FFFF => 3,
        0x1F_FFFF..0xFFF_FFFF => 4,
        _ => 5,
    }
}

/// Groups of 7 bits, the highest first; all but the first have the top bit set, which tells a
/// reader that comes from the right to go on.
fn write_backlen(len: usize, room: &mut [u8]) {
    let mut rest = len;
    for byte in room[1..].iter_mut().rev() {
        *byte = (rest & 0x7F) as u8 | 0x80;
        rest >>= 7;
    }
    room[0] = rest as u8;
}

/// Length, backlen included, of the element that ends where `bytes` end.
pub(super) fn len_from_backlen(bytes: &[u8]) -> usize {
    let mut len = 0;
    for (group, &byte) in bytes.iter().rev().take(BACKLEN_BYTES_MAX).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * group);
        if byte & 0x80 == 0 {
            break;
        }
    }
    len + backlen_bytes(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_border_survives_the_round_trip_with_its_redis_width() {
        for (value, width) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (-1, 2),
            (4095, 2),
            (-4096, 2),
            (4096, 3),
            (-4097, 3),
            (32767, 3),
            (-32768, 3),
            (32768, 4),
            (8_388_607, 4),
            (-8_388_608, 4),
            (8_388_608, 5),
            (2_147_483_647, 5),
            (-2_147_483_648, 5),
            (2_147_483_648, 9),
            (i64::MAX, 9),
            (i64::MIN, 9),
        ] {
            let (text, head) = (value.to_string(), width);
            assert_round_trip(text.as_bytes(), head);
        }
        for (len, head) in [(0, 1), (63, 1), (64, 2), (4095, 2), (4096, 5), (20_000, 5)] {
            assert_round_trip(&vec![b'x'; len], head + len);
        }
    }

    fn assert_round_trip(text: &[u8], len: usize) {
        let encoded = Encoded::text(text);
        let mut bytes = vec![0; encoded.byte_len()];
        encoded.write(&mut bytes);
        let (element, decoded_len) = decode(&bytes);
        let shown = text.escape_ascii();
        assert!(element.equals(text) && Needle::new(text).matches(element), "{shown}");
        assert_eq!(element.to_vec(), text, "{shown}");
        assert_eq!(element.len(), text.len(), "{shown}");
        assert_eq!((decoded_len, encoded_len(&bytes)), (len, len), "{shown}");
        assert_eq!(checked_len(&bytes), Some(bytes.len()), "{shown}");
        assert_eq!(len_from_backlen(&bytes), bytes.len(), "{shown}");
    }

    #[test]
    fn the_backlen_grows_where_redis_grows_it() {
        for (len, bytes) in [
            (127, &[0x7F][..]),
            (128, &[0x01, 0x80]),
            (16_382, &[0x7F, 0xFE]),
            (16_383, &[0x00, 0xFF, 0xFF]),
            (2_097_151, &[0x00, 0xFF, 0xFF, 0xFF]),
        ] {
            let mut room = vec![0; backlen_bytes(len)];
            write_backlen(len, &mut room);
            assert_eq!(room, bytes, "{len}");
        }
    }
}
