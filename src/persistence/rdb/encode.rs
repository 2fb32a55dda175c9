//! Values on their way out, byte for byte as Redis 7.0.15 writes them (version 10).
//!
//! What is a listpack, an intset or a node of a list here is one there, so it is copied as it is. Hash tables
//! are written in their own order; any order loads.
//!
//! Why an encoder is a cursor and not an iterator: a snapshot writes a large value in slices, and between two of
//! them the shard serves clients, so nothing may borrow from the keyspace. The promise that goes with it: the
//! value must not change from the first slice to the last (who wants to change it has the rest written
//! first).

use super::input::{COMPRESSED, INT_8, INT_16, INT_32, LENGTH_14, LENGTH_32, LENGTH_64};
use super::lzf;
use super::stream::NextOfStream;
use super::type_code::TypeCode;
use crate::datatypes::hash::Hash;
use crate::datatypes::list::{List, NodeView};
use crate::datatypes::listpack::Element;
use crate::datatypes::number::parse_i64;
use crate::datatypes::set::Set;
use crate::datatypes::stream::Stream;
use crate::datatypes::zset::{Order, ZSet};
use crate::keyspace::{StrRef, ValueRef};

/// Texts up to this length are tried as integers: `-2147483648` has eleven bytes.
const INTEGER_BYTES_MAX: usize = 11;
/// Texts up to this length are not compressed (Redis 7.0 `rdb.c`, rdbSaveRawString).
const UNCOMPRESSED_BYTES_MAX: usize = 20;
/// What compression must save, in bytes, to be used (rdbSaveLzfStringObject).
const SAVING_BYTES_MIN: usize = 4;
/// The quicklist node that is one large element.
pub(super) const PLAIN_NODE: u64 = 1;
/// The quicklist node that is a listpack.
pub(super) const PACKED_NODE: u64 = 2;
/// Bytes of a string that count as one element of a slice.
const BYTES_PER_ELEMENT: usize = 256;

/// Up to which length texts are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    bytes_max: usize,
}

impl Compression {
    /// No text is (`rdbcompression no`).
    pub const NONE: Self = Self { bytes_max: 0 };
    /// Every text that gets shorter is, as Redis does.
    pub const ALL: Self = Self { bytes_max: usize::MAX };
    /// All but texts that would hold up the shard: 256 KiB take about a millisecond.
    pub const BRIEF: Self = Self { bytes_max: 256 << 10 };

    /// What `rdbcompression` asks for, where a whole value is written at once.
    pub fn of_setting(rdbcompression: bool) -> Self {
        if rdbcompression { Self::ALL } else { Self::NONE }
    }

    fn is_tried_for(self, length: usize) -> bool {
        length > UNCOMPRESSED_BYTES_MAX && length <= self.bytes_max
    }
}

/// The type under which `value` is written.
pub fn type_code(value: &ValueRef<'_>) -> TypeCode {
    match value {
        ValueRef::Str(_) => TypeCode::String,
        ValueRef::List(_) => TypeCode::ListQuicklist2,
        ValueRef::Set(set) if set.as_intset().is_some() => TypeCode::SetIntset,
        ValueRef::Set(_) => TypeCode::Set,
        ValueRef::Hash(hash) if hash.as_listpack().is_some() => TypeCode::HashListpack,
        ValueRef::Hash(_) => TypeCode::Hash,
        ValueRef::ZSet(zset) if zset.as_listpack().is_some() => TypeCode::ZSetListpack,
        ValueRef::ZSet(_) => TypeCode::ZSet2,
        ValueRef::Stream(_) => TypeCode::Stream2,
    }
}

/// Appends the whole of `value`, without its type.
pub fn write_value(value: &ValueRef<'_>, compression: Compression, out: &mut Vec<u8>) {
    let whole = ValueEncoder::new(compression).slice(value, usize::MAX, out);
    assert!(whole, "a slice without a limit leaves nothing");
}

/// How far a value has been written.
#[derive(Clone, Debug)]
pub struct ValueEncoder {
    compression: Compression,
    next: Next,
}

/// What is to be written next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Start,
    /// The bytes of a string from here on.
    Bytes(usize),
    /// The nodes of a list from this one on.
    Node(usize),
    /// The elements of a hash table from this scan cursor on.
    Cursor(u64),
    /// The members of a sorted set from the one before this rank down: Redis writes the highest first.
    Below(usize),
    /// A stream from this piece on.
    Stream(NextOfStream),
    Nothing,
}

impl ValueEncoder {
    /// An encoder that has written nothing yet.
    pub fn new(compression: Compression) -> Self {
        Self { compression, next: Next::Start }
    }

    /// Appends about `elements_max` elements of `value` to `out`, at least one; true when all is written. A
    /// listpack, an intset or a text within a collection is one element.
    pub fn slice(&mut self, value: &ValueRef<'_>, elements_max: usize, out: &mut Vec<u8>) -> bool {
        self.next = match *value {
            ValueRef::Str(text) => self.slice_string(text, elements_max, out),
            ValueRef::List(list) => self.slice_list(list, elements_max, out),
            ValueRef::Set(set) => self.slice_set(set, elements_max, out),
            ValueRef::Hash(hash) => self.slice_hash(hash, elements_max, out),
            ValueRef::ZSet(zset) => self.slice_zset(zset, elements_max, out),
            ValueRef::Stream(stream) => self.slice_stream(stream, elements_max, out),
        };
        matches!(self.next, Next::Nothing)
    }

    fn slice_string(&self, text: StrRef<'_>, elements_max: usize, out: &mut Vec<u8>) -> Next {
        let bytes = match (text, self.next) {
            (StrRef::Int(value), _) => {
                write_int(value, out);
                return Next::Nothing;
            }
            (StrRef::Bytes(bytes), Next::Bytes(from)) => bytes.get(from..).unwrap_or_default(),
            (StrRef::Bytes(bytes), _) => {
                if write_short_form(bytes, self.compression, out) {
                    return Next::Nothing;
                }
                write_length(bytes.len() as u64, out);
                bytes
            }
        };
        let written = bytes.len().min(elements_max.saturating_mul(BYTES_PER_ELEMENT).max(1));
        out.extend_from_slice(&bytes[..written]);
        if written == bytes.len() {
            return Next::Nothing;
        }
        match self.next {
            Next::Bytes(from) => Next::Bytes(from + written),
            _ => Next::Bytes(written),
        }
    }

    fn slice_list(&self, list: &List, elements_max: usize, out: &mut Vec<u8>) -> Next {
        let from = match self.next {
            Next::Node(from) => from,
            _ => {
                write_length(list.nodes().len() as u64, out);
                0
            }
        };
        let to = from.saturating_add(elements_max.max(1)).min(list.nodes().len());
        for node in list.nodes_from(from).take(to - from) {
            let (container, bytes) = match node {
                NodeView::Plain(text) => (PLAIN_NODE, text),
                NodeView::Packed(listpack) => (PACKED_NODE, listpack.as_bytes()),
            };
            write_length(container, out);
            write_text(bytes, self.compression, out);
        }
        if to == list.nodes().len() { Next::Nothing } else { Next::Node(to) }
    }

    fn slice_set(&self, set: &Set, elements_max: usize, out: &mut Vec<u8>) -> Next {
        if let Some(intset) = set.as_intset() {
            write_text(intset.as_bytes(), self.compression, out);
            return Next::Nothing;
        }
        let cursor = self.cursor_after_length(set.len(), out);
        into_cursor(set.scan(cursor, elements_max, |member| {
            write_element(member, self.compression, out);
        }))
    }

    fn slice_hash(&self, hash: &Hash, elements_max: usize, out: &mut Vec<u8>) -> Next {
        if let Some(listpack) = hash.as_listpack() {
            write_text(listpack.as_bytes(), self.compression, out);
            return Next::Nothing;
        }
        let cursor = self.cursor_after_length(hash.len(), out);
        into_cursor(hash.scan(cursor, elements_max, |(field, value)| {
            write_element(field, self.compression, out);
            write_element(value, self.compression, out);
        }))
    }

    fn slice_zset(&self, zset: &ZSet, elements_max: usize, out: &mut Vec<u8>) -> Next {
        if let Some(listpack) = zset.as_listpack() {
            write_text(listpack.as_bytes(), self.compression, out);
            return Next::Nothing;
        }
        let end = match self.next {
            Next::Below(end) => end,
            _ => {
                write_length(zset.len() as u64, out);
                zset.len()
            }
        };
        let start = end.saturating_sub(elements_max.max(1));
        for (member, score) in zset.iter(start..end, Order::Descending) {
            write_element(member, self.compression, out);
            out.extend_from_slice(&score.to_le_bytes());
        }
        if start == 0 { Next::Nothing } else { Next::Below(start) }
    }

    fn slice_stream(&self, stream: &Stream, elements_max: usize, out: &mut Vec<u8>) -> Next {
        let next = match self.next {
            Next::Stream(next) => Some(next),
            _ => None,
        };
        match super::stream::write_slice(stream, next, self.compression, elements_max, out) {
            NextOfStream::Nothing => Next::Nothing,
            next => Next::Stream(next),
        }
    }

    /// Where to scan on; before the first element its number of elements is written.
    fn cursor_after_length(&self, length: usize, out: &mut Vec<u8>) -> u64 {
        match self.next {
            Next::Cursor(cursor) => cursor,
            _ => {
                write_length(length as u64, out);
                0
            }
        }
    }
}

/// A scan that answers 0 is over.
fn into_cursor(cursor: u64) -> Next {
    if cursor == 0 { Next::Nothing } else { Next::Cursor(cursor) }
}

// ---- texts and lengths ----

/// Appends a length in the narrowest form.
pub fn write_length(length: u64, out: &mut Vec<u8>) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend([LENGTH_14 | (length >> 8) as u8, length as u8]),
        0x4000..=0xFFFF_FFFF => {
            out.push(LENGTH_32);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(LENGTH_64);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Appends a text: as an integer if it is a short one, compressed if that is shorter, or as it is.
pub fn write_text(text: &[u8], compression: Compression, out: &mut Vec<u8>) {
    if !write_short_form(text, compression, out) {
        write_length(text.len() as u64, out);
        out.extend_from_slice(text);
    }
}

/// Appends the text of an integer.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    if !write_narrow_int(value, out) {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value).as_bytes();
        write_length(text.len() as u64, out);
        out.extend_from_slice(text);
    }
}

fn write_element(element: Element<'_>, compression: Compression, out: &mut Vec<u8>) {
    match element {
        Element::Int(value) => write_int(value, out),
        Element::Bytes(text) => write_text(text, compression, out),
    }
}

/// Appends `text` as an integer or compressed; false, and nothing, where neither is shorter.
fn write_short_form(text: &[u8], compression: Compression, out: &mut Vec<u8>) -> bool {
    if text.len() <= INTEGER_BYTES_MAX
        && let Some(value) = parse_i64(text)
        && write_narrow_int(value, out)
    {
        return true;
    }
    compression.is_tried_for(text.len()) && write_compressed(text, out)
}

/// Appends an integer of up to 32 bits as such.
fn write_narrow_int(value: i64, out: &mut Vec<u8>) -> bool {
    let bytes = value.to_le_bytes();
    let (mark, width) = match value {
        -0x80..=0x7F => (INT_8, 1),
        -0x8000..=0x7FFF => (INT_16, 2),
        -0x8000_0000..=0x7FFF_FFFF => (INT_32, 4),
        _ => return false,
    };
    out.push(mark);
    out.extend_from_slice(&bytes[..width]);
    true
}

fn write_compressed(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut packed = Vec::new();
    if !lzf::compress(text, text.len() - SAVING_BYTES_MIN, &mut packed) {
        return false;
    }
    out.push(COMPRESSED);
    write_length(packed.len() as u64, out);
    write_length(text.len() as u64, out);
    out.extend_from_slice(&packed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_texts_take_the_form_that_redis_gives_them() {
        for (length, bytes) in [
            (63, &[0x3F][..]),
            (64, &[0x40, 0x40]),
            (16383, &[0x7F, 0xFF]),
            (16384, &[0x80, 0, 0, 0x40, 0]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_length(length, &mut out);
            assert_eq!(out, bytes, "{length}");
        }
        for (text, bytes) in [
            (&b"-128"[..], &b"\xC0\x80"[..]),
            (b"128", b"\xC1\x80\x00"),
            (b"32768", b"\xC2\x00\x80\x00\x00"),
            (b"-2147483648", b"\xC2\x00\x00\x00\x80"),
            (b"2147483648", b"\x0A2147483648"),
            (b"007", b"\x03007"),
            (b"", b"\x00"),
            (b"aaaaaaaaaaaaaaaaaaaa", b"\x14aaaaaaaaaaaaaaaaaaaa"),
            (b"aaaaaaaaaaaaaaaaaaaaa", b"\xC3\x06\x15\x01aa\xE0\x0A\x00"),
        ] {
            let mut out = Vec::new();
            write_text(text, Compression::ALL, &mut out);
            assert_eq!(out, bytes, "{} as {}", text.escape_ascii(), out.escape_ascii());
            let Some(value) = parse_i64(text) else { continue };
            out.clear();
            write_int(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn a_long_string_is_written_piece_by_piece() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        let value = ValueRef::Str(StrRef::Bytes(&text));
        let (mut encoder, mut pieces) = (ValueEncoder::new(Compression::NONE), 1);
        let (mut out, mut whole) = (Vec::new(), Vec::new());
        while !encoder.slice(&value, 10, &mut out) {
            pieces += 1;
        }
        write_value(&value, Compression::NONE, &mut whole);
        assert_eq!(pieces, text.len().div_ceil(10 * BYTES_PER_ELEMENT));
        assert!(out == whole, "the pieces make up the whole");
    }
}
