//! Ids of stream entries: milliseconds and a sequence number within them.
//!
//! How a client may write one is Redis's, whose reader ends up in C's `strtoull`: leading space, a plus
//! sign and leading zeros are let through, and so is a "negative" number that is not a canonical one.
//! Applications that zero-pad ids depend on it.

use std::fmt;

use crate::datatypes::number::parse_i64;

/// Longest id that is looked at, in bytes (Redis 7.0 `t_stream.c`, the buffer of the id parser).
const TEXT_BYTES_MAX: usize = 127;

/// The id of an entry. Ids grow from entry to entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Unix time in ms, by custom.
    pub ms: u64,
    /// Tells entries of the same ms apart.
    pub seq: u64,
}

impl StreamId {
    /// Below every entry: no entry has this id.
    pub const MIN: Self = Self::new(0, 0);
    /// The highest id.
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    /// An id of these two numbers.
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The id right above, unless this is the highest.
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id right below, unless this is the lowest.
    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// The 16 bytes that RDB files and DUMP payloads have: both numbers, highest byte first.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// The id in these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self::new((both >> 64) as u64, both as u64)
    }

    /// Reads `ms-seq`, or `ms` alone, to which `missing_seq` is added.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        let (ms, seq) = halves(text)?;
        let seq = match seq {
            Some(seq) => parse_u64(seq)?,
            None => missing_seq,
        };
        Some(Self::new(parse_u64(ms)?, seq))
    }

    /// As [`StreamId::parse`], where `-` and `+` are the lowest and the highest id.
    pub fn parse_bound(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text {
            b"-" => Some(Self::MIN),
            b"+" => Some(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The id that a new entry is to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewId {
    /// `*`: the time, or what follows the last id.
    Auto,
    /// `ms-*`: the next sequence number within these milliseconds.
    AutoSeq(u64),
    /// This one.
    Exact(StreamId),
}

impl NewId {
    /// Reads what XADD takes for an id.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text == b"*" {
            return Some(Self::Auto);
        }
        match halves(text)? {
            (ms, Some(b"*")) => parse_u64(ms).map(Self::AutoSeq),
            _ => StreamId::parse(text, 0).map(Self::Exact),
        }
    }
}

/// What is before the first dash, and what is after it if there is one.
fn halves(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    // A C string ends at its first zero byte.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => Some((&text[..dash], Some(&text[dash + 1..]))),
        None => Some((text, None)),
    }
}

/// A number as Redis's `string2ull` reads it: a canonical one must not be negative, any other goes to
/// `strtoull`, which negates modulo 2^64.
fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).ok();
    }
    // C's space: what Rust calls so, and the vertical tab.
    let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let (negative, digits) = match &text[spaces..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        // Each was tried on redis-server 7.0.15.
        for (text, expected) in [
            ("5", Some(StreamId::new(5, 7))),
            ("5-3", Some(StreamId::new(5, 3))),
            ("005-0003", Some(StreamId::new(5, 3))),
            (" 6-+1", Some(StreamId::new(6, 1))),
            ("5--0", Some(StreamId::new(5, 0))),
            ("5--1", None),
            ("5- -1", Some(StreamId::new(5, u64::MAX))),
            ("5-\x0b1", Some(StreamId::new(5, 1))),
            ("5--01", Some(StreamId::new(5, u64::MAX))),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616", None),
            ("5\0rubbish", Some(StreamId::new(5, 7))),
            ("", None),
            ("-", None),
            ("+", None),
            ("-5", None),
            ("5-", None),
            ("5-*", None),
            ("x", None),
            ("5-3-1", None),
            ("5 ", None),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes(), 7), expected, "{text:?}");
        }
        let long = [b"0".repeat(127), b"5".to_vec()].concat();
        assert_eq!(StreamId::parse(&long, 0), None);
        assert_eq!(StreamId::parse(&long[1..], 0), Some(StreamId::new(5, 0)));
        assert_eq!(StreamId::parse_bound(b"-", 0), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_bound(b"+", 0), Some(StreamId::MAX));
    }

    #[test]
    fn a_new_id_may_leave_numbers_open() {
        for (text, expected) in [
            ("*", Some(NewId::Auto)),
            ("5-*", Some(NewId::AutoSeq(5))),
            ("05-*", Some(NewId::AutoSeq(5))),
            ("5", Some(NewId::Exact(StreamId::new(5, 0)))),
            ("5-**", None),
            ("*-5", None),
            ("-*", None),
        ] {
            assert_eq!(NewId::parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn neighbours_carry_from_one_number_to_the_other() {
        let end_of_ms = StreamId::new(4, u64::MAX);
        assert_eq!(end_of_ms.next(), Some(StreamId::new(5, 0)));
        assert_eq!(StreamId::new(5, 0).prev(), Some(end_of_ms));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.prev()), (None, None));
        assert_eq!(StreamId::from_bytes(end_of_ms.to_bytes()), end_of_ms);
        assert_eq!(end_of_ms.to_bytes()[7], 4);
        assert_eq!(end_of_ms.to_string(), "4-18446744073709551615");
    }
}
