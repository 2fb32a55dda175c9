//! Bytes in the RDB format on their way in: lengths, texts and numbers.
//!
//! Promise: whatever the bytes are, reading ends with a value or an [`Error`]. [`Error::Truncated`] is special:
//! the bytes so far are the beginning of something, so a reader that gets its input in pieces goes back
//! to a [`Input::mark`] and waits for more.

use std::fmt;

use super::lzf;
use crate::datatypes::listpack::Element;

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// They end too early.
    Truncated,
    /// They break a rule of the format, which one being said.
    Corrupt(&'static str),
    /// A collection without elements, which no key can hold.
    Empty,
    /// A value of a type that is not kept here, by its code.
    UnknownType(u8),
    /// A record of a file that no version up to [`super::NEWEST_VERSION`] has.
    UnknownRecord(u8),
    /// What the module of this name wrote.
    Module(String),
    /// A file of another version than those that can be read.
    Version(u32),
    /// The file does not begin as an RDB file does.
    NotRdb,
    /// The checksum at the end of a file does not fit: what it says, and what was read.
    Checksum {
        /// What the file says.
        expected: u64,
        /// What its bytes sum up to.
        computed: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("unexpected end of the data"),
            Self::Corrupt(rule) => write!(f, "corrupt data: {rule}"),
            Self::Empty => f.write_str("a collection without elements"),
            Self::UnknownType(code) => write!(f, "values of type {code} are not known"),
            Self::UnknownRecord(code) => write!(f, "records of kind {code} are not known"),
            Self::Module(name) => write!(f, "data of the module '{name}', which is not here"),
            Self::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            Self::NotRdb => f.write_str("Wrong signature trying to load DB from file"),
            Self::Checksum { expected, computed } => write!(
                f,
                "wrong checksum: the file says {expected:016x}, its content sums up to {computed:016x}"
            ),
        }
    }
}

impl std::error::Error for Error {}

const UNKNOWN_TEXT: Error = Error::Corrupt("a text of an unknown encoding");

/// First byte of a length of 32 bits (Redis 7.0 `rdb.h`, RDB_32BITLEN).
pub(super) const LENGTH_32: u8 = 0x80;
/// First byte of a length of 64 bits (RDB_64BITLEN).
pub(super) const LENGTH_64: u8 = 0x81;
/// The top bits of a length of 14 bits (RDB_14BITLEN).
pub(super) const LENGTH_14: u8 = 0x40;
/// First bytes of a text that is written as an integer or compressed (RDB_ENC_*).
pub(super) const INT_8: u8 = 0xC0;
pub(super) const INT_16: u8 = 0xC1;
pub(super) const INT_32: u8 = 0xC2;
pub(super) const COMPRESSED: u8 = 0xC3;

/// A text as it was written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text<'a> {
    /// Byte by byte.
    Plain(&'a [u8]),
    /// As the integer that it spells.
    Int(i64),
    /// It was compressed.
    Unpacked(Vec<u8>),
}

impl<'a> Text<'a> {
    /// The bytes of the text; an integer is printed into `buffer`.
    pub fn as_bytes<'b>(&'b self, buffer: &'b mut itoa::Buffer) -> &'b [u8] {
        self.as_element().as_bytes(buffer)
    }

    /// The text as a member of a collection.
    pub fn as_element(&self) -> Element<'_> {
        match self {
            Self::Plain(bytes) => Element::Bytes(bytes),
            Self::Int(value) => Element::Int(*value),
            Self::Unpacked(bytes) => Element::Bytes(bytes),
        }
    }

    /// The bytes of the text, copied if they are the input's.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => bytes.to_vec(),
            Self::Int(value) => value.to_string().into_bytes(),
            Self::Unpacked(bytes) => bytes,
        }
    }
}

/// A length, or the mark of a special text.
enum Head {
    Length(u64),
    Special(u8),
}

/// Bytes to read from the front.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn mark(&self) -> usize {
        self.at
    }

    /// Goes back to where [`Input::mark`] was called.
    pub fn rewind(&mut self, mark: usize) {
        self.at = mark.min(self.bytes.len());
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], Error> {
        let count = usize::try_from(count).map_err(|_| Error::Truncated)?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(Error::Truncated)?;
        self.at += count;
        Ok(taken)
    }

    /// The next bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N as u64)?.try_into().map_err(|_| Error::Truncated)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length, or another number that is written as one.
    pub fn length(&mut self) -> Result<u64, Error> {
        match self.head()? {
            Head::Length(length) => Ok(length),
            Head::Special(_) => Err(Error::Corrupt("a special text where a length should be")),
        }
    }

    /// A text, however it is written.
    pub fn text(&mut self) -> Result<Text<'a>, Error> {
        match self.head()? {
            Head::Length(length) => self.take(length).map(Text::Plain),
            Head::Special(INT_8) => Ok(Text::Int(i64::from(i8::from_le_bytes(self.array()?)))),
            Head::Special(INT_16) => Ok(Text::Int(i64::from(i16::from_le_bytes(self.array()?)))),
            Head::Special(INT_32) => Ok(Text::Int(i64::from(i32::from_le_bytes(self.array()?)))),
            Head::Special(COMPRESSED) => self.compressed().map(Text::Unpacked),
            Head::Special(_) => Err(UNKNOWN_TEXT),
        }
    }

    /// Goes past a text, however it is written, without a look at what it says.
    pub fn skip_text(&mut self) -> Result<(), Error> {
        let count = match self.head()? {
            Head::Length(length) => length,
            Head::Special(INT_8) => 1,
            Head::Special(INT_16) => 2,
            Head::Special(INT_32) => 4,
            Head::Special(COMPRESSED) => {
                let packed_length = self.length()?;
                self.length()?;
                packed_length
            }
            Head::Special(_) => return Err(UNKNOWN_TEXT),
        };
        self.take(count).map(|_| ())
    }

    /// A double, as the sorted sets of version 5 and later have it.
    pub fn double(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_le_bytes)
    }

    fn head(&mut self) -> Result<Head, Error> {
        let first = self.byte()?;
        Ok(match (first & 0xC0, first) {
            (0, _) => Head::Length(u64::from(first)),
            (LENGTH_14, _) => Head::Length(u64::from(first & 0x3F) << 8 | u64::from(self.byte()?)),
            (_, LENGTH_32) => Head::Length(u64::from(u32::from_be_bytes(self.array()?))),
            (_, LENGTH_64) => Head::Length(u64::from_be_bytes(self.array()?)),
            (0xC0, _) => Head::Special(first),
            _ => return Err(Error::Corrupt("a length of an unknown encoding")),
        })
    }

    fn compressed(&mut self) -> Result<Vec<u8>, Error> {
        let (packed_length, length) = (self.length()?, self.length()?);
        let packed = self.take(packed_length)?;
        usize::try_from(length)
            .ok()
            .and_then(|length| lzf::decompress(packed, length))
            .ok_or(Error::Corrupt("a compressed text that does not decompress"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_every_width() {
        for (bytes, length) in [
            (&[0x3F][..], 63),
            (&[0x40, 0x40], 64),
            (&[0x7F, 0xFF], 16383),
            (&[0x80, 0, 0, 0x40, 0], 16384),
            (&[0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], u64::MAX),
        ] {
            let mut input = Input::new(bytes);
            assert_eq!(input.length(), Ok(length));
            assert_eq!(input.mark(), bytes.len());
            assert_eq!(Input::new(&bytes[..bytes.len() - 1]).length(), Err(Error::Truncated));
        }
    }

    #[test]
    fn texts_are_read_in_every_encoding() {
        for (bytes, text) in [
            (&b"\x03abc"[..], &b"abc"[..]),
            (b"\x00", b""),
            (b"\xC0\xFB", b"-5"),
            (b"\xC1\x2C\x01", b"300"),
            (b"\xC2\x60\x79\xFE\xFF", b"-100000"),
            (b"\xC3\x05\x0A\x01aa\xC0\x00", b"aaaaaaaaaa"),
        ] {
            let mut input = Input::new(bytes);
            let read = input.text().map(Text::into_bytes);
            assert_eq!(read.as_deref(), Ok(text), "{}", bytes.escape_ascii());
            let mut skipping = Input::new(bytes);
            assert_eq!(skipping.skip_text(), Ok(()), "{}", bytes.escape_ascii());
            assert_eq!(skipping.mark(), input.mark(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_text_or_length_is_an_error() {
        for (bytes, error) in [
            (&b""[..], Error::Truncated),
            (b"\x03ab", Error::Truncated),
            (b"\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", Error::Truncated),
            (b"\xC4\x00", Error::Corrupt("a text of an unknown encoding")),
            (b"\x82\x00", Error::Corrupt("a length of an unknown encoding")),
            (b"\xC3\xC0\x01", Error::Corrupt("a special text where a length should be")),
            (b"\xC3\x02\x09\x00a", Error::Corrupt("a compressed text that does not decompress")),
        ] {
            assert_eq!(Input::new(bytes).text(), Err(error), "{}", bytes.escape_ascii());
        }
    }
}
