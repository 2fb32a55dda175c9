//! The keys of one slot: a compact hash table of entries.
//!
//! A bucket is one cache line: seven entry pointers and, in its first eight bytes, a tag of eight hash
//! bits for each plus a mark that says whether the search must go on in the next bucket. A lookup so
//! touches the bucket and then, nearly always, only the right entry. Tables grow by an eighth and are
//! kept up to 15/16 full: about 11 bytes a key at 60 keys a slot, where doubling tables of pointers
//! cost 19 (measured with hashbrown).
//!
//! Growth is bounded: a segment holds at most [`SEGMENT_BUCKETS_MAX`] buckets and then splits in two
//! by the next top bit of the hash (extendible hashing), so that even all keys under one hash
//! tag never move more than a few hundred at a time.

use super::entry::Entry;
use super::key::{Key, hash_of, is_same};
use super::lines::Lines;
use crate::memory::prefetch;

const BUCKET_ENTRIES: usize = 7;
/// Buckets of a segment before it splits: 448 places, so a split moves at most 420 entries (about
/// 20 µs when none is cached).
const SEGMENT_BUCKETS_MAX: usize = 64;
/// A slot with fewer entries than this gives up its directory.
const DIRECTORY_ENTRIES_MIN: usize = 128;

const TAGS_MASK: u64 = 0x00ff_ffff_ffff_ffff;
/// In the top byte of `control`: an entry whose place was here went on to the next bucket.
const OVERFLOWED: u64 = 1 << 63;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

#[repr(C, align(64))]
#[derive(Default)]
struct Bucket {
    /// Bytes 0 to 6: tags, 0 = free. Byte 7: [`OVERFLOWED`].
    control: u64,
    entries: [Option<Entry>; BUCKET_ENTRIES],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

fn tag_of(hash: u64) -> u8 {
    ((hash >> 32) as u8).max(1)
}

impl Bucket {
    /// The places whose tag may be `tag`, as bits 8·i+7. May hold a false positive, never misses.
    fn candidates(&self, tag: u8) -> u64 {
        let difference = self.control ^ (LOW_BITS * u64::from(tag));
        difference.wrapping_sub(LOW_BITS) & !difference & HIGH_BITS & TAGS_MASK
    }

    #[inline]
    fn find(&self, tag: u8, matches: impl Fn(&Entry) -> bool) -> Option<(usize, &Entry)> {
        let mut candidates = self.candidates(tag);
        while candidates != 0 {
            let place = candidates.trailing_zeros() as usize / 8;
            if let Some(entry) = self.entries[place].as_ref().filter(|entry| matches(entry)) {
                return Some((place, entry));
            }
            candidates &= candidates - 1;
        }
        None
    }

    fn put(&mut self, tag: u8, entry: Entry) -> Result<(), Entry> {
        let free = self.candidates(0);
        if free == 0 {
            return Err(entry);
        }
        // The lowest candidate of the SWAR test is always a true one.
        let place = free.trailing_zeros() as usize / 8;
        self.control |= u64::from(tag) << (8 * place);
        self.entries[place] = Some(entry);
        Ok(())
    }

    fn take(&mut self, place: usize) -> Option<Entry> {
        self.control &= !(0xff << (8 * place));
        self.entries[place].take()
    }
}

/// A table that is rebuilt whole when it grows, and therefore kept small.
#[derive(Default)]
struct Segment {
    buckets: Lines<Bucket>,
    len: u32,
}

/// An entry, and where it was found.
struct Found<'a> {
    bucket: usize,
    place: usize,
    entry: &'a Entry,
}

/// Entries that `buckets` buckets may hold: 15/16 of the places, all of a single one.
const fn capacity(buckets: usize) -> usize {
    if buckets == 1 { BUCKET_ENTRIES } else { buckets * BUCKET_ENTRIES * 15 / 16 }
}

impl Segment {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn find(&self, hash: u64, matches: impl Fn(&Entry) -> bool) -> Option<Found<'_>> {
        let count = self.buckets.len();
        if count == 0 {
            return None;
        }
        let tag = tag_of(hash);
        let mut index = self.home(hash);
        for _ in 0..count {
            let bucket = &self.buckets[index];
            if let Some((place, entry)) = bucket.find(tag, &matches) {
                return Some(Found { bucket: index, place, entry });
            }
            if bucket.control & OVERFLOWED == 0 {
                return None;
            }
            index = if index + 1 == count { 0 } else { index + 1 };
        }
        None
    }

    fn is_full(&self) -> bool {
        self.len as usize >= capacity(self.buckets.len())
    }

    /// Adds an entry that is not there yet; the caller made room.
    fn put(&mut self, hash: u64, mut entry: Entry) {
        let count = self.buckets.len();
        let mut index = self.home(hash);
        loop {
            match self.buckets[index].put(tag_of(hash), entry) {
                Ok(()) => break,
                Err(back) => entry = back,
            }
            self.buckets[index].control |= OVERFLOWED;
            index = if index + 1 == count { 0 } else { index + 1 };
        }
        self.len += 1;
    }

    fn take(&mut self, (bucket, place): (usize, usize)) -> Entry {
        self.len -= 1;
        self.buckets[bucket].take(place).expect("the place was found occupied")
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| bucket.entries.iter().flatten())
    }

    fn resize(&mut self, buckets: usize) {
        for entry in self.entries() {
            entry.prefetch();
        }
        let old = std::mem::replace(&mut self.buckets, Lines::new(buckets));
        self.len = 0;
        for entry in into_entries(old) {
            self.put(hash_of(entry.key()), entry);
        }
    }

    fn shrink_if_sparse(&mut self) {
        let count = self.buckets.len();
        if self.len == 0 {
            self.buckets = Lines::default();
        } else if count > 1 && (self.len as usize) * 5 < capacity(count) * 2 {
            self.resize(buckets_for(self.len as usize));
        }
    }
}

fn into_entries(mut buckets: Lines<Bucket>) -> impl Iterator<Item = Entry> {
    let places = 0..buckets.len() * BUCKET_ENTRIES;
    places.filter_map(move |at| buckets[at / BUCKET_ENTRIES].entries[at % BUCKET_ENTRIES].take())
}

/// Buckets that hold `len` entries with a fifth to spare.
fn buckets_for(len: usize) -> usize {
    let wanted = len + len / 5;
    let mut count = wanted.div_ceil(BUCKET_ENTRIES).max(1);
    while capacity(count) < wanted {
        count += 1;
    }
    count.min(SEGMENT_BUCKETS_MAX)
}

/// Segments by hash prefix.
struct Directory {
    /// 2^depth segment numbers, by the top `depth` bits of the hash.
    index: Vec<u32>,
    depth: u32,
    segments: Vec<(Segment, u32)>,
    len: usize,
}

impl Directory {
    fn position(&self, hash: u64) -> usize {
        if self.depth == 0 { 0 } else { (hash >> (64 - self.depth)) as usize }
    }

    #[inline]
    fn segment(&self, hash: u64) -> &Segment {
        &self.segments[self.index[self.position(hash)] as usize].0
    }

    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        let number = self.index[self.position(hash)] as usize;
        &mut self.segments[number].0
    }

    fn split(&mut self, hash: u64) {
        let number = self.index[self.position(hash)];
        let local_depth = self.segments[number as usize].1;
        if local_depth == self.depth {
            self.index = self.index.iter().flat_map(|&segment| [segment, segment]).collect();
            self.depth += 1;
        }
        let bit = 1_u64 << (63 - local_depth);
        let (segment, depth) = &mut self.segments[number as usize];
        *depth += 1;
        let old = std::mem::take(segment);
        for entry in old.entries() {
            entry.prefetch();
        }
        let half = buckets_for(old.len as usize / 2 + old.len as usize / 8);
        let mut low = Segment { buckets: Lines::new(half), len: 0 };
        let mut high = Segment { buckets: Lines::new(half), len: 0 };
        for entry in into_entries(old.buckets) {
            let hash = hash_of(entry.key());
            let side = if hash & bit == 0 { &mut low } else { &mut high };
            if side.is_full() {
                side.resize(grown(side.buckets.len()));
            }
            side.put(hash, entry);
        }
        *segment = low;
        let new_number = self.segments.len() as u32;
        self.segments.push((high, local_depth + 1));
        // The directory positions of the old segment are one run; its upper half is the new one's.
        let run = 1_usize << (self.depth - local_depth);
        let start = self.position(hash) & !(run - 1);
        self.index[start + run / 2..start + run].fill(new_number);
    }
}

fn grown(buckets: usize) -> usize {
    buckets + (buckets / 8).max(1)
}

/// Where in its table an entry is, until the table changes: what is found once can so be looked at
/// and then changed.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    hash: u64,
    bucket: usize,
    place: usize,
}

/// The keys of one slot.
#[derive(Default)]
pub struct SlotTable(Shape);

enum Shape {
    Small(Segment),
    Large(Box<Directory>),
}

impl Default for Shape {
    fn default() -> Self {
        Shape::Small(Segment::default())
    }
}

impl SlotTable {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Shape::Small(segment) => segment.len as usize,
            Shape::Large(directory) => directory.len,
        }
    }

    /// Whether the slot has no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn segment(&self, hash: u64) -> &Segment {
        match &self.0 {
            Shape::Small(segment) => segment,
            Shape::Large(directory) => directory.segment(hash),
        }
    }

    fn segment_mut(&mut self, hash: u64) -> &mut Segment {
        match &mut self.0 {
            Shape::Small(segment) => segment,
            Shape::Large(directory) => directory.segment_mut(hash),
        }
    }

    /// Where the entry of `key` is.
    #[inline]
    pub fn locate(&self, key: &Key<'_>) -> Option<Location> {
        let segment = self.segment(key.hash);
        let found = segment.find(key.hash, |entry| is_same(entry.key(), key.bytes))?;
        Some(Location { hash: key.hash, bucket: found.bucket, place: found.place })
    }

    /// The entry at a place where one was found.
    #[inline]
    pub fn at(&self, at: Location) -> Option<&Entry> {
        self.segment(at.hash).buckets[at.bucket].entries[at.place].as_ref()
    }

    /// The entry at a place where one was found, to change.
    #[inline]
    pub fn at_mut(&mut self, at: Location) -> Option<&mut Entry> {
        self.segment_mut(at.hash).buckets[at.bucket].entries[at.place].as_mut()
    }

    /// The entry of `key`.
    #[inline]
    pub fn find(&self, key: &Key<'_>) -> Option<&Entry> {
        let segment = self.segment(key.hash);
        segment.find(key.hash, |entry| is_same(entry.key(), key.bytes)).map(|found| found.entry)
    }

    /// The entry of `key`, to change.
    pub fn find_mut(&mut self, key: &Key<'_>) -> Option<&mut Entry> {
        self.at_mut(self.locate(key)?)
    }

    /// Makes room for `len` entries, or for as many as one segment takes, if there is no room for any.
    pub fn make_room(&mut self, len: usize) {
        if let Shape::Small(segment) = &mut self.0
            && segment.buckets.is_empty()
            && len > 0
        {
            let wanted = (1..SEGMENT_BUCKETS_MAX).find(|count| capacity(*count) >= len);
            segment.buckets = Lines::new(wanted.unwrap_or(SEGMENT_BUCKETS_MAX));
        }
    }

    /// Adds the entry of a key that is not there yet. `hash` is the key's.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        loop {
            let segment = self.segment_mut(hash);
            if !segment.is_full() {
                break;
            }
            if segment.buckets.len() < SEGMENT_BUCKETS_MAX {
                segment.resize(grown(segment.buckets.len()).min(SEGMENT_BUCKETS_MAX));
            } else {
                self.split(hash);
            }
        }
        self.segment_mut(hash).put(hash, entry);
        if let Shape::Large(directory) = &mut self.0 {
            directory.len += 1;
        }
    }

    fn split(&mut self, hash: u64) {
        if let Shape::Small(segment) = &mut self.0 {
            let len = segment.len as usize;
            let segments = vec![(std::mem::take(segment), 0)];
            let directory = Directory { index: vec![0], depth: 0, segments, len };
            self.0 = Shape::Large(Box::new(directory));
        }
        let Shape::Large(directory) = &mut self.0 else { unreachable!("made large above") };
        directory.split(hash);
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &Key<'_>) -> Option<Entry> {
        self.remove_if(key.hash, |entry| is_same(entry.key(), key.bytes))
    }

    /// Takes an entry with this hash out for which `matches` holds. The hash is only a hint:
    /// `matches` must tell entries apart that share some bits of it.
    pub fn remove_if(&mut self, hash: u64, matches: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let segment = self.segment_mut(hash);
        let found = segment.find(hash, matches)?;
        let at = (found.bucket, found.place);
        let entry = segment.take(at);
        segment.shrink_if_sparse();
        self.note_removed();
        Some(entry)
    }

    /// An entry with this hash for which `matches` holds; see [`SlotTable::remove_if`].
    pub fn find_if(&self, hash: u64, matches: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        self.segment(hash).find(hash, matches).map(|found| found.entry)
    }

    fn note_removed(&mut self) {
        let Shape::Large(directory) = &mut self.0 else { return };
        directory.len -= 1;
        if directory.len >= DIRECTORY_ENTRIES_MIN {
            return;
        }
        let mut single = Segment { buckets: Lines::new(buckets_for(directory.len)), len: 0 };
        for (segment, _) in std::mem::take(&mut directory.segments) {
            for entry in into_entries(segment.buckets) {
                single.put(hash_of(entry.key()), entry);
            }
        }
        self.0 = Shape::Small(single);
    }

    /// All entries, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let (small, large) = match &self.0 {
            Shape::Small(segment) => (Some(segment), None),
            Shape::Large(directory) => (None, Some(directory)),
        };
        let segments =
            large.into_iter().flat_map(|d| d.segments.iter().map(|(segment, _)| segment));
        small.into_iter().chain(segments).flat_map(Segment::entries)
    }

    /// Takes up to `max` entries out, any; for freeing a slot in slices.
    pub fn pop_some(&mut self, max: usize) -> Vec<Entry> {
        let mut popped = Vec::new();
        while popped.len() < max {
            let segment = match &mut self.0 {
                Shape::Small(segment) => segment,
                Shape::Large(directory) => match directory.segments.last_mut() {
                    Some((segment, _)) if segment.len > 0 => segment,
                    Some(_) => {
                        directory.segments.pop();
                        continue;
                    }
                    None => {
                        self.0 = Shape::default();
                        break;
                    }
                },
            };
            if segment.len == 0 {
                break;
            }
            let len = segment.len as usize;
            popped.extend(into_entries(std::mem::take(segment).buckets));
            if let Shape::Large(directory) = &mut self.0 {
                directory.len -= len;
            }
        }
        popped
    }

    /// Walks in hash order from `from`: calls `visit` for about `count` entries and returns where to go
    /// on, or `None` at the end. An entry that is there from the first call to the last is
    /// visited at least once, whatever comes, goes or grows meanwhile: the order is that of the hashes,
    /// which never change. Entries of equal hash prefix ([`SCAN_HASH_SHIFT`]) are visited together.
    pub fn scan(&self, from: u64, count: usize, mut visit: impl FnMut(&Entry)) -> Option<u64> {
        let mut position = from;
        let mut visited = 0;
        loop {
            let (segment, end) = self.segment_at(position);
            let mut due: Vec<(u64, &Entry)> = segment
                .entries()
                .map(|entry| (hash_of(entry.key()) >> SCAN_HASH_SHIFT, entry))
                .filter(|(at, _)| *at >= position)
                .collect();
            due.sort_unstable_by_key(|(at, _)| *at);
            for (at, entry) in due {
                if visited >= count && at > position {
                    return Some(at);
                }
                position = at;
                visited += 1;
                visit(entry);
            }
            match end {
                Some(end) if visited >= count => return Some(end),
                Some(end) => position = end,
                None => return None,
            }
        }
    }

    /// Calls `visit` for the entries of the segment that `from` leads to, in no promised order, until it answers
    /// false; then returns `from` again. Otherwise returns where to go on, `None` at the end. As with
    /// [`SlotTable::scan`], whose cursors these are, an entry that is there from the first call to the
    /// last is met; it costs no sorting, and a segment is a few hundred entries.
    pub fn visit_segment(&self, from: u64, mut visit: impl FnMut(&Entry) -> bool) -> Option<u64> {
        let (segment, end) = self.segment_at(from);
        segment.entries().for_each(Entry::prefetch);
        if segment.entries().all(&mut visit) { end } else { Some(from) }
    }

    /// The segment that a cursor leads to, and the cursor behind it.
    fn segment_at(&self, position: u64) -> (&Segment, Option<u64>) {
        match &self.0 {
            Shape::Small(segment) => (segment, None),
            Shape::Large(directory) => {
                let hash = position << SCAN_HASH_SHIFT;
                let number = directory.index[directory.position(hash)] as usize;
                let (segment, local_depth) = &directory.segments[number];
                let span = if *local_depth == 0 { 0 } else { 1_u64 << (64 - local_depth) };
                let start = if span == 0 { 0 } else { hash & !(span - 1) };
                let end = start.checked_add(span).filter(|end| *end != 0 && span != 0);
                (segment, end.map(|end| end >> SCAN_HASH_SHIFT))
            }
        }
    }

    /// An entry, every one about equally likely; `random` gives uniform 64-bit numbers.
    pub fn random(&self, random: &mut impl FnMut() -> u64) -> Option<&Entry> {
        if self.is_empty() {
            return None;
        }
        loop {
            let segment = match &self.0 {
                Shape::Small(segment) => segment,
                // Short hash prefixes hold more segments' worth of keys; each position of the index
                // covers an equal share of the hashes, hence of the keys.
                Shape::Large(directory) => directory.segment(random()),
            };
            let draw = random();
            if segment.buckets.is_empty() {
                continue;
            }
            let bucket = &segment.buckets[(draw >> 32) as usize % segment.buckets.len()];
            if let Some(entry) = &bucket.entries[(draw as u32) as usize % BUCKET_ENTRIES] {
                return Some(entry);
            }
        }
    }

    /// Asks for the bucket where `hash` would be.
    ///
    /// Of two keys in seven the place is in the bucket after their own (tables are nearly full), so both are asked
    /// for: they are neighbours in memory.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if let Shape::Small(segment) = &self.0
            && !segment.buckets.is_empty()
        {
            let home: *const Bucket = &raw const segment.buckets[segment.home(hash)];
            prefetch(home);
            prefetch(home.wrapping_add(1));
        }
    }

    /// Asks for the entry that `hash` likely leads to; reads the bucket, so prefetch that earlier.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        let segment = self.segment(hash);
        if segment.buckets.is_empty() {
            return;
        }
        let (tag, home) = (tag_of(hash), segment.home(hash));
        let mut bucket = &segment.buckets[home];
        let mut candidates = bucket.candidates(tag);
        if candidates == 0
            && bucket.control & OVERFLOWED != 0
            && let Some(next) = segment.buckets.get(home + 1)
        {
            bucket = next;
            candidates = bucket.candidates(tag);
        }
        if candidates != 0
            && let Some(entry) = &bucket.entries[candidates.trailing_zeros() as usize / 8]
        {
            entry.prefetch();
        }
    }

    /// Bytes of the buckets and directory, without the entries.
    pub fn allocated_bytes(&self) -> usize {
        match &self.0 {
            Shape::Small(segment) => size_of_val(&*segment.buckets),
            Shape::Large(directory) => {
                let buckets: usize =
                    directory.segments.iter().map(|(s, _)| size_of_val(&*s.buckets)).sum();
                buckets
                    + directory.index.capacity() * size_of::<u32>()
                    + directory.segments.capacity() * size_of::<(Segment, u32)>()
            }
        }
    }
}

/// Scan positions are the top 48 bits of a hash, so that a slot number fits beside them in a cursor.
pub const SCAN_HASH_SHIFT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    fn entry(key: &str, value: &str) -> Entry {
        Entry::with_string(key.as_bytes(), value.as_bytes(), None, 0)
    }

    fn insert(table: &mut SlotTable, key: &str) {
        table.insert(Key::new(key.as_bytes()).hash, entry(key, key));
    }

    fn names(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|e| String::from_utf8(e.key().to_vec()).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_hash_map_holds(
            steps in prop::collection::vec((0_u8..3, 0_u16..2000), 0..6000)
        ) {
            let mut table = SlotTable::default();
            let mut model: HashMap<String, ()> = HashMap::new();
            for (step, number) in steps {
                let name = format!("key:{number}");
                let key = Key::new(name.as_bytes());
                prop_assert_eq!(table.find(&key).is_some(), model.contains_key(&name));
                match step {
                    0 | 1 if !model.contains_key(&name) => {
                        insert(&mut table, &name);
                        model.insert(name, ());
                    }
                    2 => {
                        let removed = table.remove(&key).is_some();
                        prop_assert_eq!(removed, model.remove(&name).is_some());
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert_eq!(table.iter().count(), model.len());
        }
    }

    #[test]
    fn a_slot_with_very_many_keys_splits_and_comes_back() {
        let mut table = SlotTable::default();
        for number in 0..20_000 {
            insert(&mut table, &format!("{{tag}}{number}"));
        }
        assert!(matches!(table.0, Shape::Large(_)));
        for number in 0..20_000 {
            let name = format!("{{tag}}{number}");
            assert!(table.find(&Key::new(name.as_bytes())).is_some(), "{name}");
        }
        for number in 0..19_990 {
            let name = format!("{{tag}}{number}");
            assert!(table.remove(&Key::new(name.as_bytes())).is_some(), "{name}");
        }
        assert_eq!(table.len(), 10);
        assert!(matches!(table.0, Shape::Small(_)));
        assert!(table.allocated_bytes() <= 4 * 64, "memory returns: {}", table.allocated_bytes());
        let left: HashSet<_> = names(&table.pop_some(100)).into_iter().collect();
        assert_eq!(left, (19_990..20_000).map(|n| format!("{{tag}}{n}")).collect());
        assert!(table.is_empty());
    }

    #[test]
    fn sixty_keys_take_less_than_twelve_bytes_each() {
        let mut bytes = 0;
        for table_number in 0..100 {
            let mut table = SlotTable::default();
            for number in 0..61 {
                insert(&mut table, &format!("{table_number}:{number}"));
            }
            bytes += table.allocated_bytes();
        }
        assert!(bytes < 12 * 61 * 100, "{bytes}");
    }

    #[test]
    fn a_scan_visits_every_key_that_stays_whatever_comes_and_goes() {
        for size in [0, 5, 60, 3000] {
            let mut table = SlotTable::default();
            for number in 0..size {
                insert(&mut table, &format!("stays:{number}"));
            }
            let mut seen = HashSet::new();
            let (mut position, mut round) = (0, 0);
            loop {
                let next = table.scan(position, 10, |entry| {
                    seen.insert(String::from_utf8(entry.key().to_vec()).unwrap());
                });
                for extra in 0..20 {
                    insert(&mut table, &format!("comes:{round}:{extra}"));
                    let gone = format!("comes:{}:{extra}", round - 2);
                    table.remove(&Key::new(gone.as_bytes()));
                }
                round += 1;
                match next {
                    Some(next) => {
                        assert!(next > position, "the scan moves on");
                        position = next;
                    }
                    None => break,
                }
            }
            for number in 0..size {
                assert!(seen.contains(&format!("stays:{number}")), "{number} of {size}");
            }
        }
    }

    #[test]
    fn popping_in_slices_empties_a_large_table() {
        let mut table = SlotTable::default();
        for number in 0..5000 {
            insert(&mut table, &format!("key:{number}"));
        }
        let mut total = 0;
        while !table.is_empty() {
            let popped = table.pop_some(100).len();
            assert!((1..1000).contains(&popped), "{popped}");
            total += popped;
        }
        assert_eq!(total, 5000);
    }

    #[test]
    fn random_reaches_every_entry() {
        let mut table = SlotTable::default();
        for number in 0..1000 {
            insert(&mut table, &format!("key:{number}"));
        }
        let mut state = 7_u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state ^ (state >> 29)
        };
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            seen.insert(table.random(&mut random).unwrap().key().to_vec());
        }
        assert!(seen.len() > 990, "{}", seen.len());
    }
}
