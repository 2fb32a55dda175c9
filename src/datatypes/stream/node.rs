//! A node of a stream: up to some hundred entries in one listpack, in Redis's layout.
//!
//! ```text
//! master entry   live, deleted, n, field 1 … field n, 0
//! an entry       flags, ms - first.ms, seq - first.seq,
//!                  the n values, if its fields are those of the master entry (SAME_FIELDS); else
//!                  m, then m fields and values by turns,
//!                how many elements the entry has so far
//! ```
//!
//! `first` is the id that the node is found by: of its first entry, even when that is deleted. A
//! deleted entry keeps its place and gets a flag; a node without live entries is normally dropped whole.
//!
//! Promise: [`check`] has accepted a node of unknown origin, or this file made it; so walks find whole
//! entries, and numbers where numbers belong. The ids of live entries grow. Those of deleted ones need not
//! fit in: whoever deletes the last entry may set the last id back (XSETID) and use its id again.

use super::id::StreamId;
use crate::datatypes::listpack::{self, Element, Listpack, Position};

/// The entry was removed.
const DELETED: i64 = 1;
/// The entry has the fields of the master entry, and says only its values.
const SAME_FIELDS: i64 = 2;

/// Elements of the master entry besides its fields: two counts, the number of fields, the closing 0.
const MASTER_ELEMENTS: usize = 4;
/// Elements of an entry before its fields and values: flags and both halves of the id.
const HEAD_ELEMENTS: usize = 3;

/// A node to read.
#[derive(Clone, Copy)]
pub(super) struct Node<'s> {
    pub(super) first: StreamId,
    pub(super) pack: &'s Listpack,
}

/// Where an entry is in its node, and what its head says.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its first element, the flags.
    at: Position,
    flags: i64,
    pub(super) id: StreamId,
    /// Number of fields.
    fields: usize,
    /// Where its values are, or its fields and values by turns.
    texts: Position,
}

impl Place {
    pub(super) fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    fn has_same_fields(&self) -> bool {
        self.flags & SAME_FIELDS != 0
    }
}

const CHECKED: &str = "a stream node was checked when it was made";

fn int_at(pack: &Listpack, at: Position) -> i64 {
    match pack.get(at) {
        Element::Int(value) => value,
        Element::Bytes(_) => unreachable!("{CHECKED}: a number is here"),
    }
}

fn skip(pack: &Listpack, from: Position, count: usize) -> Position {
    (0..count).fold(from, |at, _| pack.next(at).expect(CHECKED))
}

impl<'s> Node<'s> {
    fn header(&self, number: usize) -> i64 {
        int_at(self.pack, skip(self.pack, self.pack.first().expect(CHECKED), number))
    }

    /// Entries that are not deleted.
    pub(super) fn live(&self) -> u64 {
        self.header(0) as u64
    }

    /// Entries, deleted ones included.
    fn entries(&self) -> u64 {
        self.live() + self.header(1) as u64
    }

    fn master_fields(&self) -> usize {
        self.header(2) as usize
    }

    /// The fields of the master entry and what follows them.
    fn master(&self) -> listpack::Iter<'s> {
        let mut elements = self.pack.iter();
        elements.nth(MASTER_ELEMENTS - 2);
        elements
    }

    fn place(&self, at: Position) -> Place {
        let flags = int_at(self.pack, at);
        let ms = self.pack.next(at).expect(CHECKED);
        let seq = self.pack.next(ms).expect(CHECKED);
        let id = StreamId::new(
            self.first.ms.wrapping_add(int_at(self.pack, ms) as u64),
            self.first.seq.wrapping_add(int_at(self.pack, seq) as u64),
        );
        let after = self.pack.next(seq).expect(CHECKED);
        let (fields, texts) = match flags & SAME_FIELDS {
            0 => (int_at(self.pack, after) as usize, self.pack.next(after).expect(CHECKED)),
            _ => (self.master_fields(), after),
        };
        Place { at, flags, id, fields, texts }
    }

    /// The first entry, deleted or not.
    pub(super) fn first_place(&self) -> Option<Place> {
        let first = self.pack.first().expect(CHECKED);
        let closing = skip(self.pack, first, self.master_fields() + MASTER_ELEMENTS - 1);
        self.pack.next(closing).map(|at| self.place(at))
    }

    /// The last entry, deleted or not.
    pub(super) fn last_place(&self) -> Option<Place> {
        self.place_that_ends(self.pack.last()?)
    }

    /// The entry after `place`.
    pub(super) fn after(&self, place: &Place) -> Option<Place> {
        let texts = if place.has_same_fields() { place.fields } else { place.fields * 2 };
        let count = skip(self.pack, place.texts, texts);
        self.pack.next(count).map(|at| self.place(at))
    }

    /// The entry before `place`.
    pub(super) fn before(&self, place: &Place) -> Option<Place> {
        self.place_that_ends(self.pack.prev(place.at)?)
    }

    /// The entry whose last element is at `count`; none if that closes the master entry.
    fn place_that_ends(&self, count: Position) -> Option<Place> {
        let elements = int_at(self.pack, count);
        if elements == 0 {
            return None;
        }
        let at = (0..elements).try_fold(count, |at, _| self.pack.prev(at)).expect(CHECKED);
        Some(self.place(at))
    }

    /// The entry at `place`, to read.
    pub(super) fn entry(&self, place: &Place) -> Entry<'s> {
        let names = place.has_same_fields().then(|| self.master());
        let texts = self.pack.iter_from(place.texts);
        Entry { id: place.id, fields: Fields { left: place.fields, names, texts } }
    }

    /// Where the live entry of this id is.
    pub(super) fn find(&self, id: StreamId) -> Option<Place> {
        let mut place = self.first_place();
        while let Some(found) = place.filter(|found| found.id <= id) {
            if found.id == id && !found.is_deleted() {
                return Some(found);
            }
            place = self.after(&found);
        }
        None
    }

    /// Whether another entry should begin a new node.
    pub(super) fn is_full(&self, added_bytes: usize, limits: &NodeLimits) -> bool {
        let bytes_max = match limits.bytes_max {
            0 => NODE_BYTES_MAX,
            bytes => bytes.min(NODE_BYTES_MAX),
        };
        self.pack.byte_len() + added_bytes >= bytes_max
            || (limits.entries_max > 0 && self.entries() >= limits.entries_max)
    }

    fn has_fields(&self, texts: &[&[u8]]) -> bool {
        self.master_fields() == texts.len() / 2
            && self.master().zip(texts.iter().step_by(2)).all(|(name, text)| name.equals(text))
    }
}

/// Largest listpack of a node, and the longest entry, in bytes (Redis 7.0 `t_stream.c`,
/// STREAM_LISTPACK_MAX_SIZE).
pub const NODE_BYTES_MAX: usize = 1 << 30;

/// When a stream begins a new node.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// `stream-node-max-bytes`; 0 for no limit.
    pub bytes_max: usize,
    /// `stream-node-max-entries`; 0 for no limit.
    pub entries_max: u64,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self { bytes_max: 4096, entries_max: 100 }
    }
}

/// A node with one entry. `texts` are fields and values by turns.
pub(super) fn begin(texts: &[&[u8]]) -> Listpack {
    let names = texts.iter().step_by(2);
    let mut pack = Listpack::with_capacity(texts.iter().map(|text| text.len() + 2).sum());
    pack.push_back_int(1);
    pack.push_back_int(0);
    pack.push_back_int(names.len() as i64);
    names.for_each(|name| pack.push_back(name));
    pack.push_back_int(0);
    push_entry(&mut pack, SAME_FIELDS, (0, 0), texts);
    pack
}

/// Adds the entry `id`, which is above all others, to the node that begins with `first`.
pub(super) fn append(pack: &mut Listpack, first: StreamId, id: StreamId, texts: &[&[u8]]) {
    let same = Node { first, pack }.has_fields(texts);
    let live = pack.first().expect(CHECKED);
    pack.replace_int(live, int_at(pack, live) + 1);
    let distance = (id.ms.wrapping_sub(first.ms) as i64, id.seq.wrapping_sub(first.seq) as i64);
    push_entry(pack, if same { SAME_FIELDS } else { 0 }, distance, texts);
}

fn push_entry(pack: &mut Listpack, flags: i64, (ms, seq): (i64, i64), texts: &[&[u8]]) {
    let head = [flags, ms, seq].into_iter().map(Element::Int);
    let closing = |elements: usize| std::iter::once(Element::Int(elements as i64));
    let fields = texts.len() / 2;
    if flags & SAME_FIELDS != 0 {
        let values = texts.chunks_exact(2).map(|pair| Element::Bytes(pair[1]));
        pack.push_back_all(head.chain(values).chain(closing(HEAD_ELEMENTS + fields)));
    } else {
        let count = std::iter::once(Element::Int(fields as i64));
        let texts = texts.iter().map(|text| Element::Bytes(text));
        let closing = closing(HEAD_ELEMENTS + 1 + 2 * fields);
        pack.push_back_all(head.chain(count).chain(texts).chain(closing));
    }
}

/// Flags the live entry at `place` as deleted and counts it so.
pub(super) fn mark_deleted(pack: &mut Listpack, place: &Place) {
    pack.replace_int(place.at, place.flags | DELETED);
    count_deleted(pack, 1);
}

/// Moves `count` entries from the live to the deleted ones in the master entry.
fn count_deleted(pack: &mut Listpack, count: i64) {
    let live = pack.first().expect(CHECKED);
    pack.replace_int(live, int_at(pack, live) - count);
    let deleted = pack.next(live).expect(CHECKED);
    pack.replace_int(deleted, int_at(pack, deleted) + count);
}

/// Marks live entries as deleted, from the first on, until `stop` says so of an id and the number of those
/// marked so far, which is the answer.
pub(super) fn trim_front(
    pack: &mut Listpack,
    first: StreamId,
    stop: impl Fn(StreamId, u64) -> bool,
) -> u64 {
    let mut deleted = 0;
    let mut next = Node { first, pack }.first_place();
    while let Some(place) = next {
        if stop(place.id, deleted) {
            break;
        }
        if !place.is_deleted() {
            pack.replace_int(place.at, place.flags | DELETED);
            deleted += 1;
        }
        // Looked at again: flags of foreign origin may have got shorter.
        let node = Node { first, pack };
        next = node.after(&node.place(place.at));
    }
    count_deleted(pack, deleted as i64);
    deleted
}

/// An entry of a stream.
#[derive(Clone, Debug)]
pub struct Entry<'s> {
    /// Its id.
    pub id: StreamId,
    /// Its fields with their values.
    pub fields: Fields<'s>,
}

/// The fields of an entry, each with its value.
#[derive(Clone, Debug)]
pub struct Fields<'s> {
    left: usize,
    /// The fields, if they stand in the master entry.
    names: Option<listpack::Iter<'s>>,
    /// The values, or fields and values by turns.
    texts: listpack::Iter<'s>,
}

impl<'s> Iterator for Fields<'s> {
    type Item = (Element<'s>, Element<'s>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next()?,
            None => self.texts.next()?,
        };
        Some((name, self.texts.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Whether `pack` is a node that begins with the id `first`, however it came here. Its live entries must be
/// above `last`; the answer is the last one of all.
pub(super) fn check(first: StreamId, pack: &Listpack, last: StreamId) -> Option<StreamId> {
    let mut elements = Numbers(pack.iter());
    let (live, deleted) = (elements.count()?, elements.count()?);
    let master_fields = elements.count()?;
    elements.skip(master_fields)?;
    let closed = elements.int()? == 0;
    let (mut found_live, mut found_deleted, mut last) = (0, 0, last);
    while let Some(flags) = elements.0.next() {
        let Element::Int(flags) = flags else { return None };
        let (ms, seq) = (elements.int()? as u64, elements.int()? as u64);
        let id = StreamId::new(first.ms.wrapping_add(ms), first.seq.wrapping_add(seq));
        let elements_before = if flags & SAME_FIELDS != 0 {
            elements.skip(master_fields)?;
            HEAD_ELEMENTS.checked_add(master_fields)?
        } else {
            let texts = elements.count()?.checked_mul(2)?;
            elements.skip(texts)?;
            (HEAD_ELEMENTS + 1).checked_add(texts)?
        };
        let is_deleted = flags & DELETED != 0;
        if elements.count()? != elements_before || (!is_deleted && id <= last) {
            return None;
        }
        if is_deleted {
            found_deleted += 1;
        } else {
            (found_live, last) = (found_live + 1, id);
        }
    }
    (closed && (found_live, found_deleted) == (live, deleted) && live + deleted > 0).then_some(last)
}

/// Elements of which some must be numbers.
struct Numbers<'a>(listpack::Iter<'a>);

impl Numbers<'_> {
    fn int(&mut self) -> Option<i64> {
        match self.0.next()? {
            Element::Int(value) => Some(value),
            Element::Bytes(_) => None,
        }
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok()
    }

    fn skip(&mut self, elements: usize) -> Option<()> {
        match elements {
            0 => Some(()),
            _ => self.0.nth(elements - 1).map(drop),
        }
    }
}
