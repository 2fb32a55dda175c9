//! A set of slots, as it travels on the bus: one bit for each of the 16384.
//!
//! Most nodes of a large cluster are replicas and own nothing, so the empty set takes no memory.

use std::fmt;

use crate::slot::{SLOT_COUNT, Slot};

/// Bytes of a slot bitmap on the wire.
pub const SLOT_SET_BYTES: usize = SLOT_COUNT as usize / 8;

const WORDS: usize = SLOT_COUNT as usize / 64;

const BITS_ARE_SLOTS: &str = "a set has as many bits as there are slots";

/// Slots, each in it or not.
#[derive(Clone, Default)]
pub struct SlotSet {
    /// `None` is the empty set. Slot `s` is bit `s % 64` of word `s / 64`.
    words: Option<Box<[u64; WORDS]>>,
    count: u16,
}

impl SlotSet {
    /// No slot.
    pub const fn new() -> Self {
        Self { words: None, count: 0 }
    }

    /// Every slot.
    pub fn all() -> Self {
        Self { words: Some(Box::new([u64::MAX; WORDS])), count: SLOT_COUNT }
    }

    /// The set that a bitmap of the wire means: slot `s` is bit `s % 8`, from the lowest, of byte `s / 8`.
    pub fn from_bytes(bytes: &[u8; SLOT_SET_BYTES]) -> Self {
        if *bytes == [0; SLOT_SET_BYTES] {
            return Self::new();
        }
        let (mut words, mut count) = (Box::new([0; WORDS]), 0);
        let (chunks, _) = bytes.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
            if *word != 0 {
                count += word.count_ones();
            }
        }
        Self { words: Some(words), count: count as u16 }
    }

    /// Appends the bitmap as it travels.
    pub fn write_bytes(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + SLOT_SET_BYTES, 0);
        let Some(words) = &self.words else { return };
        let (chunks, _) = out[start..].as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(words.iter()) {
            *chunk = word.to_le_bytes();
        }
    }

    /// How many slots are in it.
    pub fn len(&self) -> u16 {
        self.count
    }

    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `slot` is in it.
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        self.words.as_ref().is_some_and(|words| words[word] & bit != 0)
    }

    /// Puts `slot` in; whether it was not there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        let words = self.words.get_or_insert_with(|| Box::new([0; WORDS]));
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        self.count += u16::from(is_new);
        is_new
    }

    /// Puts all of `other` in.
    pub fn insert_all(&mut self, other: &Self) {
        let Some(theirs) = &other.words else { return };
        let words = self.words.get_or_insert_with(|| Box::new([0; WORDS]));
        for (word, theirs) in words.iter_mut().zip(theirs.iter()) {
            self.count += (theirs & !*word).count_ones() as u16;
            *word |= theirs;
        }
    }

    /// Takes `slot` out; whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        if !self.contains(slot) {
            return false;
        }
        self.count -= 1;
        if self.count == 0 {
            self.words = None;
        } else if let Some(words) = &mut self.words {
            let (word, bit) = place(slot);
            words[word] &= !bit;
        }
        true
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let words = self.words.iter().flat_map(|words| words.iter().enumerate());
        words
            .flat_map(|(index, word)| Bits(*word).map(move |bit| index as u16 * 64 + bit))
            .map(|number| Slot::new(number).expect(BITS_ARE_SLOTS))
    }

    /// Its runs of neighbouring slots, first and last of each, in order. Word by word: nodes mostly own few long runs.
    pub fn ranges(&self) -> impl Iterator<Item = (Slot, Slot)> + '_ {
        let words: &[u64] = self.words.as_ref().map_or(&[], |words| words.as_slice());
        let mut end = 0;
        std::iter::from_fn(move || {
            let first = next_bit(words, end, 0)?;
            end = next_bit(words, first, u64::MAX).unwrap_or(usize::from(SLOT_COUNT));
            let slot = |number: usize| Slot::new(number as u16).expect(BITS_ARE_SLOTS);
            Some((slot(first), slot(end - 1)))
        })
    }

    /// Whether the two have a slot in common.
    pub fn intersects(&self, other: &Self) -> bool {
        match (&self.words, &other.words) {
            (Some(ours), Some(theirs)) => ours.iter().zip(theirs.iter()).any(|(a, b)| a & b != 0),
            _ => false,
        }
    }
}

/// The numbers of the bits that are set in a word, from the lowest.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros() as u16);
        self.0 &= self.0.wrapping_sub(1);
        bit
    }
}

/// The first bit from `start` on that is set; with `flip` all ones, the first that is not.
fn next_bit(words: &[u64], start: usize, flip: u64) -> Option<usize> {
    let mut mask = u64::MAX << (start % 64);
    for (index, word) in words.iter().enumerate().skip(start / 64) {
        let found = (word ^ flip) & mask;
        if found != 0 {
            return Some(index * 64 + found.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

fn place(slot: Slot) -> (usize, u64) {
    (slot.index() / 64, 1 << (slot.index() % 64))
}

impl PartialEq for SlotSet {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.words == other.words
    }
}

impl Eq for SlotSet {}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Slot>>(slots: T) -> Self {
        let mut set = Self::new();
        set.extend(slots);
        set
    }
}

impl Extend<Slot> for SlotSet {
    fn extend<T: IntoIterator<Item = Slot>>(&mut self, slots: T) {
        slots.into_iter().for_each(|slot| _ = self.insert(slot));
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges().map(|(first, last)| (first.get(), last.get()));
        f.debug_list().entries(ranges).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(
            steps in prop::collection::vec((any::<bool>(), 0..SLOT_COUNT), 0..200)
        ) {
            let (mut set, mut model) = (SlotSet::new(), BTreeSet::new());
            for (put, number) in steps {
                if put {
                    prop_assert_eq!(set.insert(slot(number)), model.insert(number));
                } else {
                    prop_assert_eq!(set.remove(slot(number)), model.remove(&number));
                }
                prop_assert_eq!(usize::from(set.len()), model.len());
            }
            prop_assert!(set.iter().map(Slot::get).eq(model.iter().copied()));
            let mut bytes = Vec::new();
            set.write_bytes(&mut bytes);
            let bytes: &[u8; SLOT_SET_BYTES] = bytes.as_slice().try_into().unwrap();
            prop_assert_eq!(SlotSet::from_bytes(bytes), set.clone());
            let (low, high): (SlotSet, SlotSet) = set.iter().partition(|slot| slot.get() < 9000);
            let (mut both, mut same) = (low.clone(), set.clone());
            both.insert_all(&high);
            same.insert_all(&low);
            prop_assert_eq!((&both, &same), (&set, &set));
            let from_ranges: BTreeSet<u16> =
                set.ranges().flat_map(|(first, last)| first.get()..=last.get()).collect();
            prop_assert_eq!(from_ranges, model);
        }
    }

    #[test]
    fn neighbours_are_one_range_up_to_the_last_slot() {
        let set: SlotSet = [0, 1, 2, 64, 16382, 16383].into_iter().map(slot).collect();
        assert_eq!(format!("{set:?}"), "[(0, 2), (64, 64), (16382, 16383)]");
        assert_eq!(format!("{:?}", SlotSet::all()), "[(0, 16383)]");
        assert_eq!(format!("{:?}", SlotSet::new()), "[]");
        assert_eq!(SlotSet::all().iter().collect::<SlotSet>(), SlotSet::all());
    }
}
