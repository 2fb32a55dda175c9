//! Items that live at a fixed `u32` address: a vector that grows by whole chunks.
//!
//! Why not a `Vec`: growing one of five million items copies all of them at once and stalls the
//! shard; here growth allocates one chunk and moves nothing. Why not a box per item: an address is
//! half the size of a pointer, and neighbours share pages.
//!
//! Promise: an address stays valid until `remove`, freed places are used again before new ones, and
//! a chunk without items gives its memory back.

use std::ops::{Index, IndexMut};

use crate::memory::prefetch;

/// Items per word of a chunk's occupancy map.
const WORD_BITS: usize = 64;

/// Items addressed by number, `64 * WORDS` to a chunk. A vacant place holds `T::default()`, which
/// should own nothing.
#[derive(Clone, Debug)]
pub struct Arena<T, const WORDS: usize> {
    chunks: Vec<Chunk<T, WORDS>>,
    /// Chunks with a vacant place, each once; the last one is filled first.
    vacant: Vec<u32>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Chunk<T, const WORDS: usize> {
    /// The places ever used since the chunk was last empty: at most `64 * WORDS`.
    items: Vec<T>,
    /// One bit for each place of the chunk, set where it holds an item.
    occupied: [u64; WORDS],
}

impl<T, const WORDS: usize> Default for Arena<T, WORDS> {
    fn default() -> Self {
        Self { chunks: Vec::new(), vacant: Vec::new(), len: 0 }
    }
}

impl<T: Default, const WORDS: usize> Arena<T, WORDS> {
    const CHUNK_ITEMS: usize = WORD_BITS * WORDS;

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the items and the chunks around them take.
    pub fn memory_bytes(&self) -> usize {
        let items: usize = self.chunks.iter().map(|chunk| chunk.items.capacity()).sum();
        items * size_of::<T>()
            + self.chunks.capacity() * size_of::<Chunk<T, WORDS>>()
            + self.vacant.capacity() * size_of::<u32>()
    }

    /// Stores `item` and answers its address.
    pub fn insert(&mut self, item: T) -> u32 {
        let number = match self.vacant.last() {
            Some(&number) => number as usize,
            None => self.add_chunk(),
        };
        let first_chunk = number == 0;
        let chunk = &mut self.chunks[number];
        let place = chunk.first_vacant();
        if place < chunk.items.len() {
            chunk.items[place] = item;
        } else {
            // Only the first chunk grows by steps, so that a small value stays small.
            if chunk.items.capacity() == 0 && !first_chunk {
                chunk.items.reserve_exact(Self::CHUNK_ITEMS);
            }
            chunk.items.push(item);
        }
        chunk.occupied[place / WORD_BITS] |= 1 << (place % WORD_BITS);
        if chunk.is_full() {
            self.vacant.pop();
        }
        self.len += 1;
        (number * Self::CHUNK_ITEMS + place) as u32
    }

    /// Asks the core for the first cache line of the item at `address`, if there is one.
    #[inline]
    pub fn prefetch(&self, address: u32) {
        let (number, place) = Self::split(address);
        if let Some(item) = self.chunks.get(number).and_then(|chunk| chunk.items.get(place)) {
            prefetch(&raw const *item);
        }
    }

    /// Takes the item at `address` out.
    pub fn remove(&mut self, address: u32) -> T {
        let (number, place) = Self::split(address);
        let chunk = &mut self.chunks[number];
        let (word, bit) = (place / WORD_BITS, 1 << (place % WORD_BITS));
        assert!(chunk.occupied[word] & bit != 0, "address {address} holds no item");
        if chunk.is_full() {
            self.vacant.push(number as u32);
        }
        chunk.occupied[word] &= !bit;
        let item = std::mem::take(&mut chunk.items[place]);
        if chunk.occupied.iter().all(|&word| word == 0) {
            chunk.items = Vec::new();
        }
        self.len -= 1;
        item
    }

    /// Frees whole chunks until at least `items_max` places are gone; true when all are. From the
    /// first call on, the addresses mean nothing.
    pub fn free_slice(&mut self, items_max: usize) -> bool {
        let mut freed = 0;
        while freed < items_max
            && let Some(chunk) = self.chunks.pop()
        {
            freed += chunk.items.len().max(1);
        }
        self.len = 0;
        self.vacant.clear();
        if self.chunks.is_empty() {
            *self = Self::default();
        }
        self.chunks.is_empty()
    }

    fn add_chunk(&mut self) -> usize {
        let number = self.chunks.len();
        assert!(
            (number + 1) * Self::CHUNK_ITEMS < u32::MAX as usize,
            "an arena is out of addresses"
        );
        self.chunks.push(Chunk { items: Vec::new(), occupied: [0; WORDS] });
        self.vacant.push(number as u32);
        number
    }

    fn split(address: u32) -> (usize, usize) {
        (address as usize / Self::CHUNK_ITEMS, address as usize % Self::CHUNK_ITEMS)
    }
}

impl<T, const WORDS: usize> Chunk<T, WORDS> {
    /// The lowest place without an item; the chunk is not full.
    fn first_vacant(&self) -> usize {
        let word = self.occupied.iter().position(|&word| word != u64::MAX);
        let word = word.expect("a chunk in the vacant list has a vacant place");
        word * WORD_BITS + self.occupied[word].trailing_ones() as usize
    }

    fn is_full(&self) -> bool {
        self.occupied.iter().all(|&word| word == u64::MAX)
    }
}

impl<T, const WORDS: usize> Index<u32> for Arena<T, WORDS> {
    type Output = T;

    #[inline]
    fn index(&self, address: u32) -> &T {
        let items = WORD_BITS * WORDS;
        &self.chunks[address as usize / items].items[address as usize % items]
    }
}

impl<T, const WORDS: usize> IndexMut<u32> for Arena<T, WORDS> {
    #[inline]
    fn index_mut(&mut self, address: u32) -> &mut T {
        let items = WORD_BITS * WORDS;
        &mut self.chunks[address as usize / items].items[address as usize % items]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn an_address_keeps_its_item_until_removed(
            operations in proptest::collection::vec(any::<u16>(), 0..1500)
        ) {
            let mut arena: Arena<u16, 1> = Arena::default();
            let mut model: HashMap<u32, u16> = HashMap::new();
            for operation in operations {
                let victim = model.keys().copied().min_by_key(|key| key.abs_diff(operation.into()));
                match victim {
                    Some(address) if operation % 5 < 2 => {
                        prop_assert_eq!(Some(arena.remove(address)), model.remove(&address));
                    }
                    _ => prop_assert!(model.insert(arena.insert(operation), operation).is_none()),
                }
            }
            prop_assert_eq!(arena.len(), model.len());
            prop_assert!(model.iter().all(|(&address, &item)| arena[address] == item));
        }
    }

    #[test]
    fn memory_returns_with_the_last_item_of_a_chunk() {
        let mut arena: Arena<u64, 1> = Arena::default();
        let addresses: Vec<u32> = (0..640).map(|item| arena.insert(item)).collect();
        let full = arena.memory_bytes();
        for &address in &addresses[64..] {
            arena.remove(address);
        }
        assert!(arena.memory_bytes() < full / 3);
        assert!(addresses[..64].iter().all(|&address| arena[address] == u64::from(address)));
        for item in 0..576 {
            assert!(arena.insert(item) < 640, "freed places are used again");
        }
    }

    #[test]
    fn free_slice_takes_a_bounded_part() {
        let mut arena: Arena<u64, 1> = Arena::default();
        for item in 0..64 * 4 {
            arena.insert(item);
        }
        assert!(!arena.free_slice(100));
        assert!(!arena.free_slice(1));
        assert!(arena.free_slice(100));
        assert!(arena.is_empty());
        assert_eq!(arena.insert(7), 0);
    }
}
