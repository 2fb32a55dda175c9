//! One key with its value: a single heap allocation behind one pointer.
//!
//! Why packed by hand: at 16-byte keys and 32-byte values a `Box<(Box<[u8]>, Value, …)>` costs three
//! allocations and over 100 bytes; this layout costs 56 bytes and one cache miss (two when it
//! straddles a line), which is what the figures of the keyspace rest on.
//!
//! ```text
//! offset 0   kind (low nibble) and flags (high nibble)   1 byte
//!        1   access clock: LRU seconds or LFU            3 bytes
//!        4   key length, or 0 if the key is wide         2 bytes
//!        6   length of an embedded string                2 bytes
//!        8   expiry, unix ms               8 bytes, if HAS_EXPIRY
//!        …   key length                    8 bytes, if WIDE_KEY
//!        …   payload by kind: i64, Vec<u8>, Box<List>, …   (an embedded string has none)
//!        …   key bytes
//!        …   embedded string bytes
//! ```
//!
//! Promise: an `Entry` owns its allocation and what its payload points to; the header always
//! describes the bytes behind it. All `unsafe` of the keyspace is in this file.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::size_of;
use std::ptr::{self, NonNull};

use super::value::{StrRef, Value, ValueMut, ValueRef};
use crate::datatypes::{hash::Hash, list::List, set::Set, stream::Stream, zset::ZSet};
use crate::memory::prefetch;

/// Longest string that is kept inside the entry, in bytes. Longer ones are a `Vec` of their own, so
/// that growing them (APPEND, SETRANGE) does not move the key.
pub const EMBEDDED_BYTES_MAX: usize = 4000;

const _: () = assert!(EMBEDDED_BYTES_MAX <= u16::MAX as usize, "the length field has two bytes");

/// Bytes of the fixed part of the layout.
const HEADER_BYTES: usize = 8;

/// An offset that is in the next cache line for all entries of the usual size that reach into it.
const SECOND_LINE_OFFSET: usize = 48;

const KIND_MASK: u8 = 0x0f;
const HAS_EXPIRY: u8 = 0x10;
const WIDE_KEY: u8 = 0x20;
/// The string was modified in place, so `OBJECT ENCODING` calls it raw whatever its length.
const SHOWN_RAW: u8 = 0x40;
/// The parity of the snapshot epoch in which the entry was last written or saved, see [`super::snapshot`].
const EPOCH: u8 = 0x80;

/// What the payload of an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A string that is a canonical 64-bit decimal.
    Int = 0,
    /// A string inside the entry.
    Embedded = 1,
    /// A string in a `Vec` of its own.
    Raw = 2,
    /// A list.
    List = 3,
    /// A set.
    Set = 4,
    /// A hash.
    Hash = 5,
    /// A sorted set.
    ZSet = 6,
    /// A stream.
    Stream = 7,
}

impl Kind {
    /// Whether the value is a string, however it is kept.
    pub const fn is_string(self) -> bool {
        matches!(self, Kind::Int | Kind::Embedded | Kind::Raw)
    }

    const fn payload_bytes(self) -> usize {
        match self {
            Kind::Embedded => 0,
            Kind::Raw => size_of::<Vec<u8>>(),
            Kind::Int | Kind::List | Kind::Set | Kind::Hash | Kind::ZSet | Kind::Stream => 8,
        }
    }

    const fn from_nibble(nibble: u8) -> Self {
        match nibble {
            0 => Kind::Int,
            1 => Kind::Embedded,
            2 => Kind::Raw,
            3 => Kind::List,
            4 => Kind::Set,
            5 => Kind::Hash,
            6 => Kind::ZSet,
            7 => Kind::Stream,
            _ => panic!("the header was written by this file"),
        }
    }
}

/// A key and its value.
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns everything it points to (Vec, Box) and all of that is Send.
unsafe impl Send for Entry {}

impl Entry {
    /// A new entry. `expiry` is unix time in ms; `clock` the 24-bit access clock.
    pub fn new(key: &[u8], value: Value, expiry: Option<i64>, clock: u32) -> Self {
        match value {
            Value::Int(n) => {
                let entry = Self::allocate(Kind::Int, key, 0, expiry, clock);
                // SAFETY: an Int entry has 8 payload bytes at an 8-aligned offset.
                unsafe { entry.payload().cast::<i64>().write(n) };
                entry
            }
            Value::Str(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => {
                Self::with_embedded(key, &bytes, expiry, clock)
            }
            Value::Str(bytes) => Self::with_payload(Kind::Raw, key, bytes, expiry, clock),
            Value::ModifiedStr(bytes) => {
                let entry = Self::with_payload(Kind::Raw, key, bytes, expiry, clock);
                entry.set_flag(SHOWN_RAW);
                entry
            }
            Value::List(list) => Self::with_payload(Kind::List, key, list, expiry, clock),
            Value::Set(set) => Self::with_payload(Kind::Set, key, set, expiry, clock),
            Value::Hash(hash) => Self::with_payload(Kind::Hash, key, hash, expiry, clock),
            Value::ZSet(zset) => Self::with_payload(Kind::ZSet, key, zset, expiry, clock),
            Value::Stream(stream) => Self::with_payload(Kind::Stream, key, stream, expiry, clock),
        }
    }

    /// A new entry with a copy of `value`, which is not looked at for being a number.
    pub fn with_string(key: &[u8], value: &[u8], expiry: Option<i64>, clock: u32) -> Self {
        if value.len() <= EMBEDDED_BYTES_MAX {
            Self::with_embedded(key, value, expiry, clock)
        } else {
            Self::with_payload(Kind::Raw, key, value.to_vec(), expiry, clock)
        }
    }

    fn with_embedded(key: &[u8], value: &[u8], expiry: Option<i64>, clock: u32) -> Self {
        let entry = Self::allocate(Kind::Embedded, key, value.len(), expiry, clock);
        // SAFETY: `allocate` reserved `value.len()` bytes behind the key.
        unsafe {
            ptr::copy_nonoverlapping(value.as_ptr(), entry.embedded_start(), value.len());
        }
        entry
    }

    /// `P` must be the payload type of `kind`: every caller is in this file and pairs them.
    fn with_payload<P>(
        kind: Kind,
        key: &[u8],
        payload: P,
        expiry: Option<i64>,
        clock: u32,
    ) -> Self {
        assert_eq!(size_of::<P>(), kind.payload_bytes(), "the payload fits its kind");
        let entry = Self::allocate(kind, key, 0, expiry, clock);
        // SAFETY: the layout reserves size_of::<P>() bytes at an 8-aligned offset, and the payload
        // types have alignment 8.
        unsafe { entry.payload().cast::<P>().write(payload) };
        entry
    }

    /// An entry whose header and key are written and whose payload is not.
    fn allocate(kind: Kind, key: &[u8], value_len: usize, expiry: Option<i64>, clock: u32) -> Self {
        let wide = key.len() > u16::MAX as usize;
        let mut flags = kind as u8;
        if expiry.is_some() {
            flags |= HAS_EXPIRY;
        }
        if wide {
            flags |= WIDE_KEY;
        }
        let layout = layout_of(flags, key.len(), value_len);
        // SAFETY: the layout has a non-zero size (the header alone is 8 bytes).
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let [c0, c1, c2, _] = clock.to_le_bytes();
        let [k0, k1] = if wide { [0, 0] } else { (key.len() as u16).to_le_bytes() };
        let [v0, v1] = (value_len as u16).to_le_bytes();
        let header = u64::from_le_bytes([flags, c0, c1, c2, k0, k1, v0, v1]);
        let entry = Entry(start);
        // SAFETY: `layout_of` reserves the header, then the optional fields in this order, then the
        // payload, then the key; the allocation is 8-aligned, so the u64/i64 writes are aligned.
        unsafe {
            start.as_ptr().cast::<u64>().write(header.to_le());
            if let Some(at) = expiry {
                start.as_ptr().add(HEADER_BYTES).cast::<i64>().write(at);
            }
            if wide {
                let offset = HEADER_BYTES + if expiry.is_some() { 8 } else { 0 };
                start.as_ptr().add(offset).cast::<u64>().write(key.len() as u64);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), entry.key_start(), key.len());
        }
        entry
    }

    fn byte(&self, offset: usize) -> u8 {
        debug_assert!(offset < HEADER_BYTES);
        // SAFETY: the header is always there and initialised.
        unsafe { self.0.as_ptr().add(offset).read() }
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.byte(0)
    }

    #[inline]
    fn header(&self) -> u64 {
        // SAFETY: the header is always there, initialised, and 8-aligned as the allocation is.
        u64::from_le(unsafe { self.0.as_ptr().cast::<u64>().read() })
    }

    fn set_flag(&self, flag: u8) {
        // SAFETY: the header is ours; `Entry` is not Sync, so nobody reads it meanwhile.
        unsafe { self.0.as_ptr().write(self.flags() | flag) }
    }

    /// What the payload is.
    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::from_nibble(self.flags() & KIND_MASK)
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let header = self.header();
        let flags = header as u8;
        let length = match flags & WIDE_KEY {
            0 => usize::from((header >> 32) as u16),
            _ => self.key_len(),
        };
        // SAFETY: `allocate` copied so many bytes to this offset; they live as long as the entry.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(key_offset(flags)), length) }
    }

    fn key_len(&self) -> usize {
        if self.flags() & WIDE_KEY == 0 {
            return usize::from(u16::from_le_bytes([self.byte(4), self.byte(5)]));
        }
        let offset = HEADER_BYTES + if self.flags() & HAS_EXPIRY != 0 { 8 } else { 0 };
        // SAFETY: WIDE_KEY says that the u64 length is there, 8-aligned.
        unsafe { self.0.as_ptr().add(offset).cast::<u64>().read() as usize }
    }

    #[inline]
    fn embedded_len(&self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(6), self.byte(7)]))
    }

    fn payload_offset(&self) -> usize {
        payload_offset(self.flags())
    }

    #[inline]
    fn payload(&self) -> *mut u8 {
        // SAFETY: the offset is inside the allocation (at most its end, for an empty payload).
        unsafe { self.0.as_ptr().add(self.payload_offset()) }
    }

    fn key_start(&self) -> *mut u8 {
        // SAFETY: the payload lies inside the allocation, so its end is inside or at its end.
        unsafe { self.0.as_ptr().add(key_offset(self.flags())) }
    }

    fn embedded_start(&self) -> *mut u8 {
        // SAFETY: the key lies inside the allocation.
        unsafe { self.key_start().add(self.key_len()) }
    }

    /// When the key expires, unix ms.
    #[inline]
    pub fn expiry(&self) -> Option<i64> {
        if self.flags() & HAS_EXPIRY == 0 {
            return None;
        }
        // SAFETY: HAS_EXPIRY says that the i64 is there, 8-aligned.
        Some(unsafe { self.0.as_ptr().add(HEADER_BYTES).cast::<i64>().read() })
    }

    /// Sets or clears the expiry. Moves the entry if the field comes or goes.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        if let (Some(_), Some(at)) = (self.expiry(), expiry) {
            // SAFETY: as in `expiry`; `&mut self` is exclusive.
            unsafe { self.0.as_ptr().add(HEADER_BYTES).cast::<i64>().write(at) };
            return;
        }
        if self.expiry() == expiry {
            return;
        }
        let clock = self.clock();
        let moved = match self.value() {
            ValueRef::Str(StrRef::Bytes(bytes)) if self.kind() == Kind::Embedded => {
                let moved = Self::with_embedded(self.key(), bytes, expiry, clock);
                if self.flags() & SHOWN_RAW != 0 {
                    moved.set_flag(SHOWN_RAW);
                }
                moved
            }
            _ => {
                let shown_raw = self.flags() & SHOWN_RAW;
                let moved = Self::allocate(self.kind(), self.key(), 0, expiry, clock);
                moved.set_flag(shown_raw);
                // SAFETY: both payloads have the size of the kind; the old entry is released below
                // without dropping its payload, which now belongs to `moved`.
                unsafe {
                    let bytes = self.kind().payload_bytes();
                    ptr::copy_nonoverlapping(self.payload(), moved.payload(), bytes);
                }
                moved
            }
        };
        moved.set_flag(self.flags() & EPOCH);
        let old = std::mem::replace(self, moved);
        old.release_keeping_payload();
    }

    /// The parity of the snapshot epoch to which the entry belongs.
    #[inline]
    pub(super) fn epoch(&self) -> bool {
        self.flags() & EPOCH != 0
    }

    /// Moves the entry to an epoch; takes `&self` because who saves it only reads it.
    pub(super) fn set_epoch(&self, epoch: bool) {
        let flags = self.flags() & !EPOCH | if epoch { EPOCH } else { 0 };
        // SAFETY: the header is ours, no reference to it ever leaves this file, and `Entry` is not
        // Sync, so nobody reads this byte meanwhile.
        unsafe { self.0.as_ptr().write(flags) }
    }

    /// The 24-bit access clock (LRU seconds, or LFU minutes and counter).
    #[inline]
    pub fn clock(&self) -> u32 {
        u32::from_le_bytes([self.byte(1), self.byte(2), self.byte(3), 0])
    }

    /// Sets the access clock; takes `&self` because readers do it.
    pub fn set_clock(&self, clock: u32) {
        let [c0, c1, c2, _] = clock.to_le_bytes();
        // SAFETY: the header is ours, no reference to it ever leaves this file, and `Entry` is not
        // Sync, so nobody reads these bytes meanwhile.
        unsafe {
            self.0.as_ptr().add(1).write(c0);
            self.0.as_ptr().add(2).write(c1);
            self.0.as_ptr().add(3).write(c2);
        }
    }

    /// The value, to read.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        // SAFETY: the kind says which type the payload was written as; the reference lives as long
        // as `&self`, and only `&mut self` methods write payloads.
        unsafe {
            match self.kind() {
                Kind::Int => ValueRef::Str(StrRef::Int(self.payload().cast::<i64>().read())),
                Kind::Embedded => ValueRef::Str(StrRef::Bytes(std::slice::from_raw_parts(
                    self.embedded_start(),
                    self.embedded_len(),
                ))),
                Kind::Raw => ValueRef::Str(StrRef::Bytes(&*self.payload().cast::<Vec<u8>>())),
                Kind::List => ValueRef::List(&*self.payload().cast::<Box<List>>()),
                Kind::Set => ValueRef::Set(&*self.payload().cast::<Box<Set>>()),
                Kind::Hash => ValueRef::Hash(&*self.payload().cast::<Box<Hash>>()),
                Kind::ZSet => ValueRef::ZSet(&*self.payload().cast::<Box<ZSet>>()),
                Kind::Stream => ValueRef::Stream(&*self.payload().cast::<Box<Stream>>()),
            }
        }
    }

    /// The value, to change in place. A string becomes a `Vec` of its own ("raw" in Redis's words).
    pub fn value_mut(&mut self) -> ValueMut<'_> {
        if matches!(self.kind(), Kind::Int | Kind::Embedded) {
            let ValueRef::Str(text) = self.value() else { unreachable!("the kind is a string") };
            let bytes = text.to_vec();
            self.replace(Value::ModifiedStr(bytes));
        }
        // SAFETY: as in `value`; `&mut self` makes the reference exclusive.
        unsafe {
            match self.kind() {
                Kind::Int | Kind::Embedded => unreachable!("converted above"),
                Kind::Raw => {
                    self.set_flag(SHOWN_RAW);
                    ValueMut::Str(&mut *self.payload().cast::<Vec<u8>>())
                }
                Kind::List => ValueMut::List(&mut *self.payload().cast::<Box<List>>()),
                Kind::Set => ValueMut::Set(&mut *self.payload().cast::<Box<Set>>()),
                Kind::Hash => ValueMut::Hash(&mut *self.payload().cast::<Box<Hash>>()),
                Kind::ZSet => ValueMut::ZSet(&mut *self.payload().cast::<Box<ZSet>>()),
                Kind::Stream => ValueMut::Stream(&mut *self.payload().cast::<Box<Stream>>()),
            }
        }
    }

    /// Whether the string was modified in place since it was set.
    pub fn is_shown_raw(&self) -> bool {
        self.flags() & SHOWN_RAW != 0
    }

    /// Puts another value under the same key and expiry; drops the old one.
    pub fn replace(&mut self, value: Value) {
        self.make_way(Entry::new(self.key(), value, self.expiry(), self.clock()));
    }

    /// Puts `other`, which has the same key, in the place of this entry and into its epoch.
    fn make_way(&mut self, other: Entry) {
        other.set_flag(self.flags() & EPOCH);
        *self = other;
    }

    /// Makes the value the number `n`, in place where the entry holds a number already.
    pub fn replace_int(&mut self, n: i64) {
        if self.kind() == Kind::Int {
            // SAFETY: an Int entry has an aligned i64 payload; `&mut self` is exclusive.
            unsafe { self.payload().cast::<i64>().write(n) };
        } else {
            self.replace(Value::Int(n));
        }
    }

    /// Puts the string `value` under the same key and expiry, in place where the length allows it.
    pub fn replace_string(&mut self, value: &[u8]) {
        if self.kind() == Kind::Embedded
            && self.embedded_len() == value.len()
            && self.flags() & SHOWN_RAW == 0
        {
            // SAFETY: the entry has exactly value.len() embedded bytes; `value` cannot overlap
            // them, because `&mut self` is exclusive.
            unsafe {
                ptr::copy_nonoverlapping(value.as_ptr(), self.embedded_start(), value.len());
            }
        } else {
            self.make_way(Entry::with_string(self.key(), value, self.expiry(), self.clock()));
        }
    }

    /// Takes the value out and frees the rest.
    pub fn into_value(self) -> Value {
        // SAFETY: each payload is read once and released without being dropped again.
        let value = unsafe {
            match self.kind() {
                Kind::Int => Value::Int(self.payload().cast::<i64>().read()),
                Kind::Embedded => {
                    let ValueRef::Str(text) = self.value() else { unreachable!("a string") };
                    Value::Str(text.to_vec())
                }
                Kind::Raw if self.is_shown_raw() => {
                    Value::ModifiedStr(self.payload().cast::<Vec<u8>>().read())
                }
                Kind::Raw => Value::Str(self.payload().cast::<Vec<u8>>().read()),
                Kind::List => Value::List(self.payload().cast::<Box<List>>().read()),
                Kind::Set => Value::Set(self.payload().cast::<Box<Set>>().read()),
                Kind::Hash => Value::Hash(self.payload().cast::<Box<Hash>>().read()),
                Kind::ZSet => Value::ZSet(self.payload().cast::<Box<ZSet>>().read()),
                Kind::Stream => Value::Stream(self.payload().cast::<Box<Stream>>().read()),
            }
        };
        self.release_keeping_payload();
        value
    }

    /// Bytes of the entry's own allocation, without what its payload points to.
    pub fn allocated_bytes(&self) -> usize {
        self.layout().size()
    }

    fn layout(&self) -> Layout {
        layout_of(self.flags(), self.key_len(), self.embedded_len())
    }

    /// Frees the allocation; the payload has moved elsewhere.
    fn release_keeping_payload(self) {
        let layout = self.layout();
        let start = self.0.as_ptr();
        std::mem::forget(self);
        // SAFETY: `start` came from `alloc` with this very layout, and `self` is gone.
        unsafe { dealloc(start, layout) }
    }

    /// Asks the core for the first two cache lines of the entry: most entries are shorter than a line and
    /// begin anywhere in one.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.0.as_ptr());
        prefetch(self.0.as_ptr().wrapping_add(SECOND_LINE_OFFSET));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = self.layout();
        // SAFETY: the kind says what the payload is; it is dropped once, and then the allocation
        // goes back with the layout it was made with.
        unsafe {
            match self.kind() {
                Kind::Int | Kind::Embedded => {}
                Kind::Raw => self.payload().cast::<Vec<u8>>().drop_in_place(),
                Kind::List => self.payload().cast::<Box<List>>().drop_in_place(),
                Kind::Set => self.payload().cast::<Box<Set>>().drop_in_place(),
                Kind::Hash => self.payload().cast::<Box<Hash>>().drop_in_place(),
                Kind::ZSet => self.payload().cast::<Box<ZSet>>().drop_in_place(),
                Kind::Stream => self.payload().cast::<Box<Stream>>().drop_in_place(),
            }
            dealloc(self.0.as_ptr(), layout);
        }
    }
}

const _: () = assert!(KIND_MASK | HAS_EXPIRY | WIDE_KEY == 63, "KEY_OFFSETS covers them all");

const fn payload_offset(flags: u8) -> usize {
    HEADER_BYTES
        + if flags & HAS_EXPIRY != 0 { 8 } else { 0 }
        + if flags & WIDE_KEY != 0 { 8 } else { 0 }
}

/// Where the key begins, for every combination of kind, HAS_EXPIRY and WIDE_KEY: the look-up compares
/// keys before anything else, and this is what it would have to branch for.
static KEY_OFFSETS: [u8; 64] = {
    let mut offsets = [0; 64];
    let mut flags = 0;
    while flags < 64 {
        let kind = flags & KIND_MASK;
        // Other kinds do not exist: no header has them.
        if kind <= Kind::Stream as u8 {
            let payload = Kind::from_nibble(kind).payload_bytes();
            offsets[flags as usize] = (payload_offset(flags) + payload) as u8;
        }
        flags += 1;
    }
    offsets
};

#[inline]
fn key_offset(flags: u8) -> usize {
    usize::from(KEY_OFFSETS[usize::from(flags & (KIND_MASK | HAS_EXPIRY | WIDE_KEY))])
}

fn layout_of(flags: u8, key_len: usize, embedded_len: usize) -> Layout {
    let payload = Kind::from_nibble(flags & KIND_MASK).payload_bytes();
    let size = payload_offset(flags) + payload + key_len + embedded_len;
    Layout::from_size_align(size, 8).expect("a key is at most 512 MB, so the size cannot overflow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> Vec<u8> {
        match entry.value() {
            ValueRef::Str(text) => text.to_vec(),
            _ => panic!("not a string"),
        }
    }

    #[test]
    fn an_entry_gives_back_what_was_put_in_whatever_the_lengths() {
        for key_len in [0, 1, 16, 65535, 65536, 70000] {
            for value_len in [0, 1, 32, EMBEDDED_BYTES_MAX, EMBEDDED_BYTES_MAX + 1] {
                for expiry in [None, Some(1), Some(i64::MAX)] {
                    let key = vec![b'k'; key_len];
                    let value = vec![b'v'; value_len];
                    let mut entry = Entry::with_string(&key, &value, expiry, 0x00ab_cdef);
                    let row = (key_len, value_len, expiry);
                    assert_eq!(entry.key(), key, "{row:?}");
                    assert_eq!(text(&entry), value, "{row:?}");
                    assert_eq!(entry.expiry(), expiry, "{row:?}");
                    assert_eq!(entry.clock(), 0x00ab_cdef, "{row:?}");
                    for again in [Some(7), None, Some(9), Some(10), None] {
                        entry.set_expiry(again);
                        assert_eq!(entry.expiry(), again, "{row:?}");
                        assert_eq!(entry.key(), key, "{row:?}");
                        assert_eq!(text(&entry), value, "{row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_16_byte_key_with_a_32_byte_value_takes_56_bytes() {
        assert_eq!(Entry::with_string(&[b'k'; 16], &[b'v'; 32], None, 0).allocated_bytes(), 56);
    }

    #[test]
    fn replacing_keeps_key_and_expiry() {
        let mut entry = Entry::new(b"key", Value::Int(5), Some(99), 3);
        entry.replace_int(6);
        assert_eq!(text(&entry), b"6");
        entry.replace_string(b"hello");
        entry.replace_string(b"world");
        assert_eq!(text(&entry), b"world");
        entry.replace(Value::List(Box::default()));
        assert_eq!(entry.kind(), Kind::List);
        entry.set_expiry(None);
        entry.set_expiry(Some(99));
        assert_eq!((entry.key(), entry.expiry()), (&b"key"[..], Some(99)));
        assert!(matches!(entry.into_value(), Value::List(_)));
    }

    #[test]
    fn an_entry_stays_in_its_epoch_whatever_happens_to_it() {
        for epoch in [false, true] {
            let mut entry = Entry::with_string(b"key", b"value", None, 0x0012_3456);
            assert!(!entry.epoch(), "a new entry is in none");
            entry.set_epoch(epoch);
            entry.set_expiry(Some(7));
            entry.replace_string(b"other");
            entry.replace_string(b"a longer one");
            entry.replace_int(5);
            entry.replace(Value::Str(vec![b'x'; EMBEDDED_BYTES_MAX + 1]));
            entry.set_expiry(None);
            _ = entry.value_mut();
            entry.set_clock(3);
            assert_eq!((entry.epoch(), entry.clock(), entry.key()), (epoch, 3, &b"key"[..]));
            assert_eq!((entry.kind(), entry.is_shown_raw()), (Kind::Raw, true));
        }
    }

    #[test]
    fn a_string_changed_in_place_is_shown_as_raw() {
        let mut entry = Entry::with_string(b"k", b"ab", Some(5), 0);
        match entry.value_mut() {
            ValueMut::Str(bytes) => bytes.push(b'c'),
            _ => panic!("not a string"),
        }
        assert!(entry.is_shown_raw());
        entry.set_expiry(None);
        assert!(entry.is_shown_raw());
        assert_eq!(text(&entry), b"abc");
    }
}
