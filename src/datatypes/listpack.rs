//! Listpack: a sequence of small strings and integers in one run of bytes.
//!
//! Small hashes and sorted sets, list nodes and stream nodes are listpacks, byte-compatible with
//! Redis 7.0 (`listpack.c`), so that RDB and DUMP copy them as they are. Header: total bytes
//! (u32), element count (u16, 65535 = too many to say); then the elements; then `FF`.
//!
//! Why the bytes may start inside the buffer: a push or pop at the head then moves the 6 bytes of
//! the header and not the whole sequence. An edit in the middle moves the shorter side.
//!
//! Promise: the bytes are a valid listpack at all times ([`Listpack::from_bytes`] checks foreign
//! ones whole), so no walk can leave them. A [`Position`] is good until the next change before it.

mod encoding;

use std::fmt;
use std::ops::Range;

use self::encoding::{
    END, Encoded, backlen_bytes, checked_len, decode, encoded_len, le_u32, len_from_backlen,
};
pub use self::encoding::{Element, Needle};

/// Bytes of the header: total bytes and element count.
const HEADER_BYTES: usize = 6;
/// Bytes of a listpack without elements: the header and the end byte.
const EMPTY_BYTES: usize = HEADER_BYTES + 1;
/// The element count that means "walk and count" (Redis 7.0, LP_HDR_NUMELE_UNKNOWN).
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Largest listpack that [`Listpack::fits`] lets grow (Redis 7.0, LISTPACK_MAX_SAFETY_LIMIT).
pub const LISTPACK_BYTES_MAX: usize = 1 << 30;
/// Smallest buffer. A listpack of a few elements fits, and shrinking below it wins nothing.
const BUFFER_BYTES_MIN: usize = 32;

/// A sequence of small strings and integers in one run of bytes.
pub struct Listpack {
    buffer: Box<[u8]>,
    /// Where in `buffer` the header starts.
    start: u32,
    /// Where in `buffer` the end byte ends.
    end: u32,
}

const _: () = assert!(size_of::<Listpack>() == 24, "a list keeps one for each node");

/// Where an element is: its distance from the first byte of the listpack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position(u32);

impl Position {
    fn offset(self) -> usize {
        self.0 as usize
    }
}

/// Bytes that are not a listpack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are not a valid listpack")
    }
}

impl std::error::Error for Corrupt {}

impl Listpack {
    /// A listpack without elements.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// A listpack without elements that can take `element_bytes` before its buffer must grow.
    pub fn with_capacity(element_bytes: usize) -> Self {
        let capacity = (EMPTY_BYTES + element_bytes).max(BUFFER_BYTES_MIN);
        let mut buffer = vec![0; capacity].into_boxed_slice();
        buffer[0] = EMPTY_BYTES as u8;
        buffer[HEADER_BYTES] = END;
        Self { buffer, start: 0, end: EMPTY_BYTES as u32 }
    }

    /// Takes bytes of any origin, after checking every one of them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Corrupt> {
        check(&bytes).ok_or(Corrupt)?;
        let end = bytes.len() as u32;
        Ok(Self { buffer: bytes.into_boxed_slice(), start: 0, end })
    }

    /// The listpack as Redis would store it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }

    /// The listpack as Redis would store it.
    pub fn into_bytes(self) -> Vec<u8> {
        if self.start > 0 {
            return self.as_bytes().to_vec();
        }
        let mut bytes = self.buffer.into_vec();
        bytes.truncate(self.end as usize);
        bytes
    }

    /// Number of elements; walks only if there are more than the header can count.
    pub fn len(&self) -> usize {
        match self.stored_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.byte_len() == EMPTY_BYTES
    }

    /// Length in bytes, as stored by Redis.
    pub fn byte_len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes of memory behind this listpack, spare room included.
    pub fn memory_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether `added_bytes` more keep this listpack below the size that Redis deems safe.
    pub fn fits(&self, added_bytes: usize) -> bool {
        self.byte_len().saturating_add(added_bytes) <= LISTPACK_BYTES_MAX
    }

    /// Where the first element is.
    pub fn first(&self) -> Option<Position> {
        self.element_at(HEADER_BYTES)
    }

    /// Where the last element is.
    pub fn last(&self) -> Option<Position> {
        self.before(self.byte_len() - 1)
    }

    /// Where the element after the one at `position` is.
    pub fn next(&self, position: Position) -> Option<Position> {
        self.element_at(position.offset() + self.size_at(position))
    }

    /// Where the element before the one at `position` is.
    pub fn prev(&self, position: Position) -> Option<Position> {
        self.before(position.offset())
    }

    /// Where element number `index` is; -1 is the last one.
    pub fn seek(&self, index: i64) -> Option<Position> {
        let count = self.len();
        let index = match index {
            0.. => usize::try_from(index).ok()?,
            _ => count.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
        };
        if index >= count {
            return None;
        }
        if index <= count / 2 {
            (0..index).try_fold(self.first()?, |position, _| self.next(position))
        } else {
            (index + 1..count).try_fold(self.last()?, |position, _| self.prev(position))
        }
    }

    /// The element at `position`.
    pub fn get(&self, position: Position) -> Element<'_> {
        decode(&self.as_bytes()[position.offset()..]).0
    }

    /// The elements from the first to the last.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.as_bytes()[HEADER_BYTES..] }
    }

    /// The elements from `position` to the last.
    pub fn iter_from(&self, position: Position) -> Iter<'_> {
        Iter { rest: &self.as_bytes()[position.offset()..] }
    }

    /// The elements from the last to the first.
    pub fn iter_rev(&self) -> IterRev<'_> {
        let bytes = self.as_bytes();
        IterRev { rest: &bytes[..bytes.len() - 1] }
    }

    /// The elements from `position` to the first.
    pub fn iter_rev_from(&self, position: Position) -> IterRev<'_> {
        IterRev { rest: &self.as_bytes()[..position.offset() + self.size_at(position)] }
    }

    /// Looks at the element at `from` and then at each one that follows `skip` others, for the
    /// first that reads `needle`. With `skip` 1 it looks at the fields of a hash only.
    pub fn find(&self, from: Position, needle: &[u8], skip: usize) -> Option<Position> {
        let needle = Needle::new(needle);
        let bytes = self.as_bytes();
        let mut at = from.offset();
        let mut to_skip = 0;
        while bytes[at] != END {
            let len = if to_skip > 0 {
                to_skip -= 1;
                encoded_len(&bytes[at..])
            } else {
                let (element, len) = decode(&bytes[at..]);
                if needle.matches(element) {
                    return Some(Position(at as u32));
                }
                to_skip = skip;
                len
            };
            at += len + backlen_bytes(len);
        }
        None
    }

    /// Adds an element at the tail.
    pub fn push_back(&mut self, text: &[u8]) {
        self.insert(self.byte_len() - 1, &Encoded::text(text));
    }

    /// Adds an integer at the tail.
    pub fn push_back_int(&mut self, value: i64) {
        self.insert(self.byte_len() - 1, &Encoded::int(value));
    }

    /// Adds elements at the tail, with one move to make room for all. They are encoded twice, which costs less than
    /// the bookkeeping for each.
    pub fn push_back_all<'t>(&mut self, elements: impl Iterator<Item = Element<'t>> + Clone) {
        let size = elements.clone().map(|element| Encoded::of(element).byte_len()).sum();
        let (mut room, mut count) = (self.open_gap(self.byte_len() - 1, size), 0);
        for element in elements {
            let encoded = Encoded::of(element);
            let (own, rest) = room.split_at_mut(encoded.byte_len());
            encoded.write(own);
            (room, count) = (rest, count + 1);
        }
        self.change_count(count);
    }

    /// Adds an element at the head.
    pub fn push_front(&mut self, text: &[u8]) {
        self.insert(HEADER_BYTES, &Encoded::text(text));
    }

    /// Adds an element before the one at `position`, and says where the new one is.
    pub fn insert_before(&mut self, position: Position, text: &[u8]) -> Position {
        self.insert(position.offset(), &Encoded::text(text))
    }

    /// Adds an element after the one at `position`, and says where the new one is.
    pub fn insert_after(&mut self, position: Position, text: &[u8]) -> Position {
        let after = position.offset() + self.size_at(position);
        self.insert(after, &Encoded::text(text))
    }

    /// Puts `text` in the place of the element at `position`, where it then is.
    pub fn replace(&mut self, position: Position, text: &[u8]) -> Position {
        self.overwrite(position, &Encoded::text(text))
    }

    /// Puts an integer in the place of the element at `position`, where it then is.
    pub fn replace_int(&mut self, position: Position, value: i64) -> Position {
        self.overwrite(position, &Encoded::int(value))
    }

    /// Removes the element at `position`, and says where the one that followed it is now.
    pub fn remove(&mut self, position: Position) -> Option<Position> {
        self.remove_bytes(position.offset(), self.size_at(position), 1);
        self.element_at(position.offset())
    }

    /// Removes the element at `position` and those after it, `count` in all or as many as there
    /// are, and says where the one that followed them is now.
    pub fn remove_range(&mut self, position: Position, count: usize) -> Option<Position> {
        let from = position.offset();
        let bytes = self.as_bytes();
        let (mut to, mut removed) = (from, 0);
        while removed < count && bytes[to] != END {
            let len = encoded_len(&bytes[to..]);
            to += len + backlen_bytes(len);
            removed += 1;
        }
        self.remove_bytes(from, to - from, removed);
        self.element_at(from)
    }

    /// Moves the element at `position` and those after it into a listpack of their own.
    pub fn split_off(&mut self, position: Position) -> Self {
        let from = position.offset();
        let moved = &self.as_bytes()[from..self.byte_len() - 1];
        let count = Iter { rest: &self.as_bytes()[from..] }.count();
        let mut tail = Self::with_capacity(moved.len());
        tail.open_gap(HEADER_BYTES, moved.len()).copy_from_slice(moved);
        tail.change_count(count as isize);
        self.remove_bytes(from, tail.byte_len() - EMPTY_BYTES, count);
        tail
    }

    /// Adds all elements of `other` at the tail.
    pub fn append(&mut self, other: &Self) {
        let added = &other.as_bytes()[HEADER_BYTES..other.byte_len() - 1];
        self.open_gap(self.byte_len() - 1, added.len()).copy_from_slice(added);
        self.change_count(other.len() as isize);
    }

    /// Gives spare room back to the allocator.
    pub fn shrink_to_fit(&mut self) {
        if self.buffer.len() > self.byte_len().max(BUFFER_BYTES_MIN) {
            self.reallocate(self.byte_len());
        }
    }

    fn stored_count(&self) -> u16 {
        let bytes = self.as_bytes();
        u16::from_le_bytes([bytes[4], bytes[5]])
    }

    /// Adds to the element count of the header. A count that does not fit becomes "unknown" and
    /// stays so, as in Redis.
    fn change_count(&mut self, change: isize) {
        let stored = self.stored_count();
        if stored == COUNT_UNKNOWN {
            return;
        }
        let count = (stored as isize + change).clamp(0, COUNT_UNKNOWN as isize) as u16;
        let header = self.start as usize;
        self.buffer[header + 4..header + HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
    }

    /// The position of the element at `offset`, unless the end byte is there.
    fn element_at(&self, offset: usize) -> Option<Position> {
        (self.as_bytes()[offset] != END).then_some(Position(offset as u32))
    }

    /// The position of the element that ends at `offset`, unless the header does.
    fn before(&self, offset: usize) -> Option<Position> {
        if offset == HEADER_BYTES {
            return None;
        }
        let size = len_from_backlen(&self.as_bytes()[..offset]);
        Some(Position((offset - size) as u32))
    }

    /// Bytes of the element at `position`, backlen included.
    fn size_at(&self, position: Position) -> usize {
        let len = encoded_len(&self.as_bytes()[position.offset()..]);
        len + backlen_bytes(len)
    }

    fn insert(&mut self, at: usize, element: &Encoded<'_>) -> Position {
        element.write(self.open_gap(at, element.byte_len()));
        self.change_count(1);
        Position(at as u32)
    }

    fn overwrite(&mut self, position: Position, element: &Encoded<'_>) -> Position {
        let at = position.offset();
        let (old, new) = (self.size_at(position), element.byte_len());
        if new > old {
            self.open_gap(at, new - old);
        } else if new < old {
            self.close_gap(at, old - new);
        }
        let room = self.start as usize + at;
        element.write(&mut self.buffer[room..room + new]);
        position
    }

    fn remove_bytes(&mut self, at: usize, size: usize, count: usize) {
        self.close_gap(at, size);
        self.change_count(-(count as isize));
    }
    /// Makes `size` bytes of room before the byte at `at`, moving the shorter side of it.
    fn open_gap(&mut self, at: usize, size: usize) -> &mut [u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        let (room_before, room_after) = (start, self.buffer.len() - end);
        let grow_before = at <= end - start - at;
        let new_start = match (grow_before, room_before >= size, room_after >= size) {
            (true, true, _) => start - size,
            (false, _, true) => start,
            // The room is on the other side. Half of what stays of it comes over too: whoever
            // pushes at one end and pops at the other would otherwise move all bytes each time.
            (true, false, true) => start + (room_after - size) / 2,
            (false, true, false) => start - size - (room_before - size) / 2,
            (_, false, false) => {
                self.reallocate(grown(self.byte_len() + size));
                let room = self.buffer.len() - self.byte_len();
                if grow_before { room - size } else { 0 }
            }
        };
        self.spread(new_start, at, size);
        let gap = new_start + at;
        &mut self.buffer[gap..gap + size]
    }

    /// Moves the listpack to `new_start`, and what follows the first `at` bytes `size` further.
    fn spread(&mut self, new_start: usize, at: usize, size: usize) {
        let (start, end) = (self.start as usize, self.end as usize);
        let (before, after) = (start..start + at, start + at..end);
        let after_to = new_start + at + size;
        // In this order neither side lands on bytes of the other that have yet to move.
        if after_to >= after.start {
            move_bytes(&mut self.buffer, after, after_to);
            move_bytes(&mut self.buffer, before, new_start);
        } else {
            move_bytes(&mut self.buffer, before, new_start);
            move_bytes(&mut self.buffer, after, after_to);
        }
        self.place(new_start, end - start + size);
    }

    /// Takes out `size` bytes at `at`, moving the shorter side of them.
    fn close_gap(&mut self, at: usize, size: usize) {
        let (start, end) = (self.start as usize, self.end as usize);
        let (gap, after) = (start + at, start + at + size);
        let len = end - start - size;
        if at <= end - after {
            move_bytes(&mut self.buffer, start..gap, start + size);
            self.place(start + size, len);
        } else {
            move_bytes(&mut self.buffer, after..end, gap);
            self.place(start, len);
        }
        // Half empty, not merely smaller, so that a list that breathes does not reallocate.
        if self.buffer.len() > BUFFER_BYTES_MIN && self.buffer.len() / 2 > len {
            self.reallocate(grown(len));
        }
    }

    /// Moves the listpack to the start of a buffer of `capacity` bytes.
    fn reallocate(&mut self, capacity: usize) {
        let mut buffer = vec![0; capacity.max(BUFFER_BYTES_MIN)].into_boxed_slice();
        let len = self.byte_len();
        buffer[..len].copy_from_slice(self.as_bytes());
        self.buffer = buffer;
        (self.start, self.end) = (0, len as u32);
    }

    /// Records that the listpack now is `len` bytes from `start` on.
    fn place(&mut self, start: usize, len: usize) {
        assert!(len <= u32::MAX as usize, "a listpack grew past 4 GiB: its owner must ask fits()");
        (self.start, self.end) = (start as u32, (start + len) as u32);
        self.buffer[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    }
}

/// `memmove`, but free of charge when there is nothing to move.
fn move_bytes(buffer: &mut [u8], from: Range<usize>, to: usize) {
    if from.start != to {
        buffer.copy_within(from, to);
    }
}

/// The buffer size for a listpack of `len` bytes that is about to grow: an eighth more, which is
/// the step of the allocator's size classes, so that small listpacks stay small.
fn grown(len: usize) -> usize {
    (len + len / 8).next_multiple_of(16)
}

/// Walks bytes of any origin; `None` if they are not a listpack from end to end.
fn check(bytes: &[u8]) -> Option<()> {
    if bytes.len() < EMPTY_BYTES || le_u32(bytes) as usize != bytes.len() {
        return None;
    }
    let (mut rest, mut count) = (&bytes[HEADER_BYTES..], 0usize);
    while rest.len() > 1 {
        rest = rest.get(checked_len(rest)?..)?;
        count += 1;
    }
    let stored = u16::from_le_bytes([bytes[4], bytes[5]]);
    let count_holds = stored == COUNT_UNKNOWN || usize::from(stored) == count;
    (rest == [END] && count_holds).then_some(())
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Listpack {
    /// The copy has no spare room.
    fn clone(&self) -> Self {
        let end = self.end - self.start;
        Self { buffer: self.as_bytes().into(), start: 0, end }
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements of a listpack, head to tail.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    /// From the next element to the end byte.
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.rest[0] == END {
            return None;
        }
        let (element, len) = decode(self.rest);
        self.rest = &self.rest[len + backlen_bytes(len)..];
        Some(element)
    }
}

/// Elements of a listpack, tail to head.
#[derive(Clone, Debug)]
pub struct IterRev<'a> {
    /// From the header to the end of the next element.
    rest: &'a [u8],
}

impl<'a> Iterator for IterRev<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.rest.len() == HEADER_BYTES {
            return None;
        }
        let at = self.rest.len() - len_from_backlen(self.rest);
        let (element, _) = decode(&self.rest[at..]);
        self.rest = &self.rest[..at];
        Some(element)
    }
}

#[cfg(test)]
mod tests;
