//! A hash table that grows, shrinks and is freed a bounded piece at a time (extendible hashing).
//!
//! Why: one table of 5 M members stops its core for hundreds of milliseconds when it doubles. Here
//! the elements live in segments of at most [`SEGMENT_ELEMENTS_MAX`], each a small `hashbrown`
//! table of its own. A full segment is split in two by the next of the *top* bits of the hash, so
//! growth moves a few hundred elements at a time, and a directory indexed by the top bits leads to
//! the segments. As long as one segment is enough there is no directory at all.
//!
//! Promises: the order of the directory is the order of the hashes, which is what makes
//! [`Table::scan`] exact; a segment holds exactly the elements whose hash starts with its prefix
//! (`check()` proves it in tests). The caller passes the hash, and must pass the same function
//! each time.

use std::mem;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::memory::prefetch;

/// Buckets of a full segment. A scan step hashes the elements of one segment: at 5 M members SSCAN
/// COUNT 10 took 3.7 µs with 512 buckets, 6.2 with 1024 and 10.7 with 2048, while look-ups, which
/// gain from a smaller directory, differed by less than the noise.
const SEGMENT_BUCKETS: usize = 512;
/// Elements of a segment before it splits: what hashbrown puts in [`SEGMENT_BUCKETS`] buckets.
pub const SEGMENT_ELEMENTS_MAX: usize = SEGMENT_BUCKETS / 8 * 7;
/// A segment without a free bucket is split from this size on; a smaller one is full of
/// tombstones, and is rebuilt. The distance to the maximum keeps rebuilding rare.
const SPLIT_ELEMENTS_MIN: usize = SEGMENT_ELEMENTS_MAX / 8 * 7;
/// A segment below this size looks whether it can merge with its buddy.
const MERGE_ELEMENTS_BELOW: usize = SEGMENT_ELEMENTS_MAX / 4;
/// Buddies merge when together they half fill a segment: far from splitting again.
const MERGED_ELEMENTS_MAX: usize = SEGMENT_ELEMENTS_MAX / 2;
/// The directory has at most this many slots per segment. A good hash needs two or three; when
/// hashes collide on purpose, segments grow beyond their size instead of the directory exploding.
const SLOTS_PER_SEGMENT_MAX: usize = 16;
/// Most top bits that the directory may look at: 2^28 segments are 10^11 elements.
const DEPTH_MAX: u32 = 28;
/// Bits of a scan cursor. Not 64, so that clients which keep cursors in a signed or a floating
/// point number read them without loss.
const CURSOR_BITS: u32 = 48;
/// The first position that no hash has.
const CURSOR_END: u64 = 1 << CURSOR_BITS;
/// A single segment of at least this many buckets gives memory back when it is nearly empty.
const SHRINK_BUCKETS_MIN: usize = 32;

const _: () = assert!(DEPTH_MAX <= CURSOR_BITS, "a segment must start at a whole cursor");
const _: () = assert!(MERGED_ELEMENTS_MAX < SPLIT_ELEMENTS_MIN, "a merge must not cause a split");

/// A hash table of `T` without long pauses; the caller hashes and compares, as with
/// [`hashbrown::HashTable`].
#[derive(Clone)]
pub struct Table<T> {
    len: usize,
    form: Form<T>,
}

#[derive(Clone)]
enum Form<T> {
    Single(HashTable<T>),
    Split(Box<Directory<T>>),
}

/// The segments, and the way from the top bits of a hash to the segment that they belong to.
#[derive(Clone)]
struct Directory<T> {
    /// For each value of the top `depth` bits the index of its segment.
    slots: Vec<u32>,
    segments: Vec<Segment<T>>,
    depth: u32,
    /// Segments as deep as the directory; at zero the directory can halve.
    deepest: usize,
    /// No segment has more buckets: the range that random sampling draws from.
    buckets_max: usize,
    /// Segments from this index on were emptied by [`Table::free_slice`].
    freed_from: usize,
}

/// Elements whose top `depth` bits are `prefix`.
#[derive(Clone)]
struct Segment<T> {
    table: HashTable<T>,
    prefix: u32,
    depth: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { len: 0, form: Form::Single(HashTable::new()) }
    }
}

/// hashbrown takes bucket and tag from the low bits and the seven top bits. Those top bits are the
/// same for all of a segment, so the halves change places and the tag comes from the middle.
#[inline]
const fn inner(hash: u64) -> u64 {
    hash.rotate_left(32)
}

impl<T> Table<T> {
    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element with this hash that `eq` accepts.
    #[inline]
    pub fn find(&self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&T> {
        self.segment(hash).find(inner(hash), eq)
    }

    /// Brings the elements that [`Self::find`] will look at closer, for look-ups that will follow soon: several of
    /// these overlap their cache misses. `visit` may ask for what a likely element points to.
    #[inline]
    pub fn prefetch(&self, hash: u64, mut visit: impl FnMut(&T)) {
        self.segment(hash).find(inner(hash), |likely| {
            prefetch(&raw const *likely);
            visit(likely);
            false
        });
    }

    /// As [`Self::find`]. The caller must not change what the hash is computed from.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.segment_mut(hash).find_mut(inner(hash), eq)
    }

    /// Adds `value`, which must not be present yet.
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        self.make_room(hash, &hasher);
        self.segment_mut(hash).insert_unique(inner(hash), value, |v| inner(hasher(v)));
        self.len += 1;
        self.note_buckets(hash);
    }

    /// The element that `eq` accepts, and `false`; or a new element from `make`, and `true`. One
    /// look-up serves both.
    #[inline]
    pub fn find_or_insert_with(
        &mut self,
        hash: u64,
        eq: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
        hasher: impl Fn(&T) -> u64,
    ) -> (&mut T, bool) {
        // Also when the element turns out to be there: a full segment splits soon anyway, and
        // hashbrown's `entry` makes room before it looks.
        self.make_room(hash, &hasher);
        let (segment, len) = match &mut self.form {
            Form::Single(table) => (table, &mut self.len),
            Form::Split(directory) => {
                let index = directory.index_of(hash);
                let Directory { segments, buckets_max, .. } = &mut **directory;
                let segment = &mut segments[index].table;
                if segment.len() == segment.capacity() {
                    // It will double below; a segment that cannot split passes the maximum so.
                    *buckets_max = (*buckets_max).max(segment.num_buckets() * 2);
                }
                (segment, &mut self.len)
            }
        };
        match segment.entry(inner(hash), eq, |v| inner(hasher(v))) {
            Entry::Occupied(entry) => (entry.into_mut(), false),
            Entry::Vacant(entry) => {
                *len += 1;
                (entry.insert(make()).into_mut(), true)
            }
        }
    }

    /// Takes out the element that `eq` accepts. May merge two nearly empty segments, hence `hasher`.
    pub fn remove(
        &mut self,
        hash: u64,
        eq: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let entry = self.segment_mut(hash).find_entry(inner(hash), eq).ok()?;
        let (value, _) = entry.remove();
        self.len -= 1;
        self.shrink_around(hash, &hasher);
        Some(value)
    }

    /// A random element, each with the same probability: a segment and a bucket of it are drawn
    /// evenly, and drawn again when the bucket is empty. Expected draws stay below ten, for
    /// segments merge when they are nearly empty.
    pub fn random(&self, mut rng: impl FnMut() -> u64) -> Option<&T> {
        let (segment, bucket) = self.random_bucket(&mut rng)?;
        self.segment_by_index(segment).get_bucket(bucket)
    }

    /// Takes out a random element, drawn as by [`Self::random`].
    pub fn pop_random(
        &mut self,
        mut rng: impl FnMut() -> u64,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let (segment, bucket) = self.random_bucket(&mut rng)?;
        let table = match &mut self.form {
            Form::Single(table) => table,
            Form::Split(directory) => &mut directory.segments[segment].table,
        };
        let (value, _) = table.get_bucket_entry(bucket).ok()?.remove();
        self.len -= 1;
        self.shrink_around(hasher(&value), &hasher);
        Some(value)
    }

    /// All elements, in no particular order. Allocates nothing.
    pub fn iter(&self) -> Iter<'_, T> {
        match &self.form {
            Form::Single(table) => Iter { current: table.iter(), rest: [].iter() },
            Form::Split(directory) => {
                Iter { current: Default::default(), rest: directory.segments.iter() }
            }
        }
    }

    /// Visits about `count` elements in the order of their hashes, from `cursor` on, and returns
    /// the cursor to go on from; 0 is the start, and the answer when all has been visited.
    ///
    /// The cursor is a position in the order of hashes, and a call visits every element between
    /// its cursor and the one it returns. So an element that stays from the first call to the last
    /// is visited exactly once, whatever is added and removed around it.
    pub fn scan<'t>(
        &'t self,
        cursor: u64,
        count: usize,
        hasher: impl Fn(&T) -> u64,
        mut visit: impl FnMut(&'t T),
    ) -> u64 {
        let position_of = |value: &T| hasher(value) >> (64 - CURSOR_BITS);
        let (mut position, mut wanted) = (cursor, count.max(1));
        let mut candidates: Vec<(u64, &T)> = Vec::new();
        while position < CURSOR_END && wanted > 0 {
            let (table, end) = self.segment_at(position);
            candidates.clear();
            candidates.extend(table.iter().map(|value| (position_of(value), value)));
            candidates.retain(|candidate| candidate.0 >= position);
            if candidates.len() > wanted {
                let nth = candidates.select_nth_unstable_by_key(wanted - 1, |c| c.0).1.0;
                // Positions that are equal stay together: the cursor cannot point between them.
                candidates.iter().filter(|c| c.0 <= nth).for_each(|c| visit(c.1));
                position = nth + 1;
                break;
            }
            candidates.iter().for_each(|candidate| visit(candidate.1));
            wanted -= candidates.len();
            position = end;
        }
        if position < CURSOR_END { position } else { 0 }
    }

    /// Drops everything at once.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops about `max` elements (whole segments, at least one) and returns whether the table is
    /// empty now. For giving up a big table in slices; it stays a valid table in between.
    pub fn free_slice(&mut self, max: usize) -> bool {
        if let Form::Split(directory) = &mut self.form {
            let mut freed = 0;
            while freed < max.max(1) && self.len > 0 {
                // Elements may have been added behind the front, so go around until all is gone.
                let segments = directory.segments.len();
                let last = match directory.freed_from.min(segments) {
                    0 => segments - 1,
                    from => from - 1,
                };
                directory.freed_from = last;
                let table = mem::take(&mut directory.segments[last].table);
                freed += table.len();
                self.len -= table.len();
            }
            if self.len > 0 {
                return false;
            }
        }
        self.clear();
        true
    }

    /// Bytes of the buckets and the directory, without what elements own outside. A split table is
    /// estimated from its first segment.
    pub fn allocation_bytes(&self) -> usize {
        match &self.form {
            Form::Single(table) => table.allocation_size(),
            Form::Split(directory) => {
                let each = directory.segments[0].table.allocation_size() + size_of::<Segment<T>>();
                directory.segments.len() * each
                    + directory.slots.len() * size_of::<u32>()
                    + size_of::<Directory<T>>()
            }
        }
    }

    #[inline]
    fn segment(&self, hash: u64) -> &HashTable<T> {
        match &self.form {
            Form::Single(table) => table,
            Form::Split(directory) => &directory.segments[directory.index_of(hash)].table,
        }
    }

    #[inline]
    fn segment_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        match &mut self.form {
            Form::Single(table) => table,
            Form::Split(directory) => {
                let index = directory.index_of(hash);
                &mut directory.segments[index].table
            }
        }
    }

    fn segment_by_index(&self, index: usize) -> &HashTable<T> {
        match &self.form {
            Form::Single(table) => table,
            Form::Split(directory) => &directory.segments[index].table,
        }
    }

    /// The segment that covers this scan position, and the position where the next one begins.
    fn segment_at(&self, position: u64) -> (&HashTable<T>, u64) {
        match &self.form {
            Form::Single(table) => (table, CURSOR_END),
            Form::Split(directory) => {
                let index = directory.index_of(position << (64 - CURSOR_BITS));
                let Segment { table, prefix, depth } = &directory.segments[index];
                (table, (u64::from(*prefix) + 1) << (CURSOR_BITS - depth))
            }
        }
    }

    /// Sees to a free bucket for `hash`, by a split or by getting rid of tombstones. Where neither
    /// is possible (all elements of the segment collide), hashbrown grows the segment.
    #[inline]
    fn make_room(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        let segment = self.segment(hash);
        if segment.len() == segment.capacity() && segment.num_buckets() >= SEGMENT_BUCKETS {
            self.make_room_in_full_segment(hash, hasher);
        }
    }

    #[cold]
    fn make_room_in_full_segment(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        loop {
            let segment = self.segment_mut(hash);
            if segment.len() < segment.capacity() {
                return;
            }
            if segment.len() < SPLIT_ELEMENTS_MIN {
                let old = mem::replace(segment, HashTable::with_capacity(SEGMENT_ELEMENTS_MAX));
                old.into_iter().for_each(|value| {
                    segment.insert_unique(inner(hasher(&value)), value, |v| inner(hasher(v)));
                });
                return;
            }
            if let Form::Single(table) = &mut self.form {
                self.form = Form::Split(Box::new(Directory::new(mem::take(table))));
            }
            let Form::Split(directory) = &mut self.form else { return };
            if !directory.split(directory.index_of(hash), hasher) {
                return;
            }
        }
    }

    /// After an insertion into the segment of `hash`: it may have grown beyond all others.
    fn note_buckets(&mut self, hash: u64) {
        if let Form::Split(directory) = &mut self.form {
            let buckets = directory.segments[directory.index_of(hash)].table.num_buckets();
            directory.buckets_max = directory.buckets_max.max(buckets);
        }
    }

    /// After a removal from the segment of `hash`: gives memory back if it is nearly empty.
    #[inline]
    fn shrink_around(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) {
        match &mut self.form {
            Form::Single(table) => {
                let buckets = table.num_buckets();
                if buckets >= SHRINK_BUCKETS_MIN && table.len() * 8 < buckets {
                    table.shrink_to(table.len() * 2, |v| inner(hasher(v)));
                }
            }
            Form::Split(directory) => {
                let index = directory.index_of(hash);
                if directory.segments[index].table.len() < MERGE_ELEMENTS_BELOW
                    && let Some(single) = directory.merge(index, hasher)
                {
                    self.form = Form::Single(single);
                }
            }
        }
    }

    /// A segment and one of its buckets that is in use, all elements with equal probability.
    fn random_bucket(&self, rng: &mut impl FnMut() -> u64) -> Option<(usize, usize)> {
        if self.len == 0 {
            return None;
        }
        let (segments, buckets) = match &self.form {
            Form::Single(table) => (1, table.num_buckets()),
            Form::Split(directory) => (directory.segments.len(), directory.buckets_max),
        };
        loop {
            let (segment, bucket) = (below(rng(), segments), below(rng(), buckets));
            let table = self.segment_by_index(segment);
            if bucket < table.num_buckets() && table.get_bucket(bucket).is_some() {
                return Some((segment, bucket));
            }
        }
    }
}

/// Maps 64 random bits to `0..bound`, evenly up to `bound` / 2^64.
fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

impl<T> Directory<T> {
    /// A directory of depth 0 is only the first half of a split: [`Self::split`] comes next.
    fn new(table: HashTable<T>) -> Self {
        let buckets_max = table.num_buckets().max(SEGMENT_BUCKETS);
        let segments = vec![Segment { table, prefix: 0, depth: 0 }];
        Self { slots: vec![0], segments, depth: 0, deepest: 1, buckets_max, freed_from: 0 }
    }

    #[inline]
    fn index_of(&self, hash: u64) -> usize {
        // `>> 1 >>` because a shift by all 64 bits, at depth 0, is not allowed.
        self.slots[(hash >> 1 >> (63 - self.depth)) as usize] as usize
    }

    /// Splits a segment by the next bit. `false` if the directory may not grow for it.
    fn split(&mut self, index: usize, hasher: &impl Fn(&T) -> u64) -> bool {
        if self.segments[index].depth == self.depth && !self.double() {
            return false;
        }
        let new_index = self.segments.len();
        let low = &mut self.segments[index];
        let old = mem::replace(&mut low.table, HashTable::with_capacity(SEGMENT_ELEMENTS_MAX));
        let mut table = HashTable::with_capacity(SEGMENT_ELEMENTS_MAX);
        for value in old {
            let hash = hasher(&value);
            let goes_high = hash & (1 << (63 - low.depth)) != 0;
            let side = if goes_high { &mut table } else { &mut low.table };
            side.insert_unique(inner(hash), value, |v| inner(hasher(v)));
        }
        low.depth += 1;
        low.prefix <<= 1;
        let high = Segment { table, prefix: low.prefix | 1, depth: low.depth };
        self.deepest += if high.depth == self.depth { 2 } else { 0 };
        let buckets = low.table.num_buckets().max(high.table.num_buckets());
        self.buckets_max = self.buckets_max.max(buckets);
        self.segments.push(high);
        self.point_slots_at(new_index);
        true
    }

    /// Twice as many slots, one bit more of the hash. `false` at the bound of the directory.
    fn double(&mut self) -> bool {
        if self.depth == DEPTH_MAX
            || self.slots.len() >= SLOTS_PER_SEGMENT_MAX * self.segments.len()
        {
            return false;
        }
        self.slots = self.slots.iter().flat_map(|&slot| [slot, slot]).collect();
        self.depth += 1;
        self.deepest = 0;
        true
    }

    /// Makes all slots of the segment's prefix lead to it.
    fn point_slots_at(&mut self, index: usize) {
        let Segment { prefix, depth, .. } = self.segments[index];
        let spare_bits = self.depth - depth;
        let first = (prefix as usize) << spare_bits;
        self.slots[first..first + (1 << spare_bits)].fill(index as u32);
    }

    /// Merges a segment with its buddy, if the two are nearly empty. When that was the last pair,
    /// takes out the one table that is left.
    fn merge(&mut self, index: usize, hasher: &impl Fn(&T) -> u64) -> Option<HashTable<T>> {
        let Segment { prefix, depth, .. } = self.segments[index];
        let buddy = self.slots[((prefix ^ 1) as usize) << (self.depth - depth)] as usize;
        let len = self.segments[index].table.len() + self.segments[buddy].table.len();
        if self.segments[buddy].depth != depth || len > MERGED_ELEMENTS_MAX {
            return None;
        }
        let mut table = HashTable::with_capacity(SEGMENT_ELEMENTS_MAX);
        for source in [index, buddy] {
            for value in mem::take(&mut self.segments[source].table) {
                table.insert_unique(inner(hasher(&value)), value, |v| inner(hasher(v)));
            }
        }
        if depth == 1 {
            return Some(table);
        }
        self.deepest -= if depth == self.depth { 2 } else { 0 };
        self.segments[index] = Segment { table, prefix: prefix >> 1, depth: depth - 1 };
        self.point_slots_at(index);
        self.segments.swap_remove(buddy);
        if buddy < self.segments.len() {
            self.point_slots_at(buddy);
        }
        while self.deepest == 0 {
            self.halve();
        }
        None
    }

    fn halve(&mut self) {
        self.slots = self.slots.iter().copied().step_by(2).collect();
        self.depth -= 1;
        self.deepest = self.segments.iter().filter(|s| s.depth == self.depth).count();
    }
}

/// The elements of a [`Table`], in no particular order.
pub struct Iter<'t, T> {
    current: hashbrown::hash_table::Iter<'t, T>,
    rest: std::slice::Iter<'t, Segment<T>>,
}

impl<'t, T> Iterator for Iter<'t, T> {
    type Item = &'t T;

    fn next(&mut self) -> Option<&'t T> {
        loop {
            if let Some(value) = self.current.next() {
                return Some(value);
            }
            self.current = self.rest.next()?.table.iter();
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
