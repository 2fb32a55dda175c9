//! Many items of one place of a wheel, in vectors that stay short.
//!
//! Why not one vector: a million sessions that live for an hour share a few places. Doubling
//! one vector of them copies 16 MB, and sorting it to find repeated items took 60 ms, in the middle of
//! a SET. Here items are spread over buckets by their hash, one more bucket for every
//! [`BUCKET_ITEMS`] items (linear hashing), so only one bucket is ever copied, sorted or split.

use super::Item;

/// Items per bucket on average; 16 KiB.
const BUCKET_ITEMS: usize = 1024;

/// The items of one place.
#[derive(Default)]
pub(super) struct Place {
    buckets: Vec<Vec<Item>>,
    len: usize,
}

impl Place {
    /// Adds an item.
    pub(super) fn push(&mut self, item: Item) {
        if self.buckets.is_empty() {
            self.buckets.push(Vec::new());
        }
        let at = bucket_of(item.hash, self.buckets.len());
        let bucket = &mut self.buckets[at];
        if bucket.len() == bucket.capacity() && bucket.len() >= BUCKET_ITEMS {
            // A key that is set again and again with an expiry leaves an item each time; keep the
            // earliest of each, so that the garbage stays below the live items.
            self.len -= deduplicate(bucket);
        }
        bucket.push(item);
        self.len += 1;
        if self.len > self.buckets.len() * BUCKET_ITEMS {
            self.split();
        }
    }

    /// Adds a bucket and moves those items to it that belong there now, all from one other.
    fn split(&mut self) {
        let new = self.buckets.len();
        let source = new & !(1 << new.ilog2());
        let (moved, kept) =
            self.buckets[source].iter().partition(|item| bucket_of(item.hash, new + 1) == new);
        self.buckets[source] = kept;
        self.buckets.push(moved);
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes out some item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        while let Some(bucket) = self.buckets.last_mut() {
            if let Some(item) = bucket.pop() {
                self.len -= 1;
                return Some(item);
            }
            // An empty last bucket was split off in vain: without it, all others hold what they should.
            self.buckets.pop();
        }
        None
    }

    /// Some item; any `draw` will do.
    pub(super) fn sample(&self, draw: usize) -> Option<Item> {
        sample(&self.buckets, draw)
    }

    /// Frees a bucket; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        self.buckets.pop();
        self.buckets.is_empty()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        allocated_bytes(&self.buckets)
    }
}

/// Removes repeated items and returns how many there were.
fn deduplicate(items: &mut Vec<Item>) -> usize {
    let before = items.len();
    items.sort_unstable_by_key(|item| (item.hash, item.tick_and_slot & 0x3fff, item.tick_and_slot));
    items.dedup_by_key(|item| (item.hash, item.tick_and_slot & 0x3fff));
    before - items.len()
}

/// The bucket of a hash among `count`: of as many of its low bits as `count` has values for.
fn bucket_of(hash: u64, count: usize) -> usize {
    let mask = count.next_power_of_two() - 1;
    let at = hash as usize & mask;
    if at < count { at } else { at & (mask >> 1) }
}

/// Items to be taken out one after the other, in any order.
#[derive(Default)]
pub(super) struct Pile {
    /// None is empty.
    chunks: Vec<Vec<Item>>,
}

impl Pile {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push(&mut self, item: Item) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < BUCKET_ITEMS => chunk.push(item),
            _ => self.chunks.push(vec![item]),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let chunk = self.chunks.last_mut()?;
        let item = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        item
    }

    /// Moves all items of `place` here.
    pub(super) fn take_all(&mut self, place: &mut Place) {
        place.len = 0;
        let buckets = place.buckets.drain(..).filter(|bucket| !bucket.is_empty());
        self.chunks.extend(buckets);
        place.buckets.shrink_to(0);
    }

    /// Some item; any `draw` will do.
    pub(super) fn sample(&self, draw: usize) -> Option<Item> {
        sample(&self.chunks, draw)
    }

    /// Frees a chunk; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        self.chunks.pop();
        self.chunks.is_empty()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        allocated_bytes(&self.chunks)
    }
}

/// Some item of one of the first vectors from a drawn one on that has any.
fn sample(vectors: &[Vec<Item>], draw: usize) -> Option<Item> {
    let count = vectors.len();
    let from = |step: usize| &vectors[(draw % count).wrapping_add(step) % count];
    let found = (0..count).map(from).find(|items| !items.is_empty())?;
    Some(found[draw / count % found.len()])
}

fn allocated_bytes(chunks: &Vec<Vec<Item>>) -> usize {
    let items: usize = chunks.iter().map(Vec::capacity).sum();
    items * size_of::<Item>() + chunks.capacity() * size_of::<Vec<Item>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_place_keeps_all_items_in_short_buckets() {
        let mut place = Place::default();
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for number in 0..100_000 {
            place.push(Item { hash: hash(number), tick_and_slot: number << 14 });
        }
        let longest = place.buckets.iter().map(Vec::capacity).max().unwrap();
        assert!(longest <= 4 * BUCKET_ITEMS, "{longest}");
        for (at, bucket) in place.buckets.iter().enumerate() {
            let count = place.buckets.len();
            assert!(bucket.iter().all(|item| bucket_of(item.hash, count) == at));
        }
        let mut pile = Pile::default();
        pile.take_all(&mut place);
        let mut seen = HashSet::new();
        while let Some(item) = pile.pop() {
            assert!(seen.insert(item.tick_and_slot >> 14));
        }
        assert!(pile.is_empty() && place.len == 0);
        assert_eq!(seen.len(), 100_000);
    }
}
