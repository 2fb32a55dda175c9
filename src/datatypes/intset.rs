//! A sorted set of integers in one run of bytes, the same bytes that Redis keeps.
//!
//! Layout: width of an integer (2, 4 or 8) and number of integers, each a little-endian u32, then
//! the integers themselves, little-endian, ascending. All have the width of the widest ever added;
//! removing never narrows them, which is what Redis does and what DUMP shows.
//!
//! Promise: the bytes are always well formed. Bytes from a file or a client come in through
//! [`Intset::from_bytes`] only, which checks them whole.

/// Bytes before the first integer: width and count (Redis 7.0 `intset.h`, struct intset).
const HEADER_BYTES: usize = 8;

/// A sorted set of integers, byte-compatible with Redis.
#[derive(Clone)]
pub struct Intset {
    bytes: Vec<u8>,
}

impl Default for Intset {
    fn default() -> Self {
        Self { bytes: vec![2, 0, 0, 0, 0, 0, 0, 0] }
    }
}

impl Intset {
    /// Takes bytes of any origin, if they are a well-formed intset with at least one integer.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (header, integers) = bytes.split_at_checked(HEADER_BYTES)?;
        let width = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
        let count = u32::from_le_bytes(header[4..].try_into().ok()?) as usize;
        let well_formed = matches!(width, 2 | 4 | 8)
            && count > 0
            && count.checked_mul(width) == Some(integers.len());
        let intset = well_formed.then_some(Self { bytes })?;
        intset.iter().is_sorted_by(|a, b| a < b).then_some(intset)
    }

    /// The intset as Redis stores it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of integers.
    #[inline]
    pub fn len(&self) -> usize {
        (self.bytes.len() - HEADER_BYTES) / self.width()
    }

    /// Whether there is no integer.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// The integer with this rank, 0 being the smallest.
    pub fn get(&self, rank: usize) -> Option<i64> {
        (rank < self.len()).then(|| self.at(rank))
    }

    /// Whether `value` is in the set.
    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// Adds `value`; `false` if it was there.
    pub fn insert(&mut self, value: i64) -> bool {
        let Err(rank) = self.search(value) else { return false };
        let width = width_of(value).max(self.width());
        if width > self.width() {
            self.widen(width);
        }
        // Exactly one more, as most sets stay small; the allocator rounds up.
        self.bytes.reserve_exact(width);
        let offset = HEADER_BYTES + rank * width;
        let tail = offset..self.bytes.len();
        self.bytes.resize(self.bytes.len() + width, 0);
        self.bytes.copy_within(tail, offset + width);
        self.write(rank, value);
        self.write_count();
        true
    }

    /// Takes `value` out; `false` if it was not there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(rank) = self.search(value) else { return false };
        let offset = HEADER_BYTES + rank * self.width();
        self.bytes.drain(offset..offset + self.width());
        self.write_count();
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        true
    }

    /// A random integer, each with the same probability.
    pub fn random(&self, mut rng: impl FnMut() -> u64) -> Option<i64> {
        let rank = (u128::from(rng()) * self.len() as u128) >> 64;
        self.get(rank as usize)
    }

    /// The integers in ascending order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { intset: self, rank: 0 }
    }

    /// Bytes of memory behind this intset, spare room included.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    #[inline]
    fn at(&self, rank: usize) -> i64 {
        let bytes = &self.bytes[HEADER_BYTES + rank * self.width()..];
        match self.bytes[0] {
            2 => i64::from(i16::from_le_bytes([bytes[0], bytes[1]])),
            4 => i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => bytes.first_chunk().map_or(0, |chunk| i64::from_le_bytes(*chunk)),
        }
    }

    fn write(&mut self, rank: usize, value: i64) {
        let width = self.width();
        let offset = HEADER_BYTES + rank * width;
        // Little-endian: the low bytes come first, so a narrow integer is a prefix of a wide one.
        self.bytes[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }

    fn write_count(&mut self) {
        let count = self.len() as u32;
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
    }

    /// The rank of `value`, or the rank that it would have.
    #[inline]
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        // Integers often arrive in ascending order: look at the end first.
        if high > 0 && self.at(high - 1) < value {
            return Err(high);
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle).cmp(&value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    fn widen(&mut self, width: usize) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + (self.len() + 1) * width);
        bytes.extend_from_slice(&(width as u32).to_le_bytes());
        bytes.extend_from_slice(&self.bytes[4..HEADER_BYTES]);
        self.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()[..width]));
        self.bytes = bytes;
    }
}

/// The fewest bytes, of 2, 4 and 8, that hold `value`.
fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

/// The integers of an [`Intset`] in ascending order.
#[derive(Clone)]
pub struct Iter<'a> {
    intset: &'a Intset,
    rank: usize,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let value = self.intset.get(self.rank)?;
        self.rank += 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_those_of_redis() {
        let mut intset = Intset::default();
        for value in [5, -1, 300] {
            assert!(intset.insert(value));
        }
        let narrow = [2, 0, 0, 0, 3, 0, 0, 0, 0xFF, 0xFF, 5, 0, 0x2C, 1];
        assert_eq!(intset.as_bytes(), narrow);
        assert!(intset.insert(-70_000) && !intset.insert(5));
        let wide = [
            4, 0, 0, 0, 4, 0, 0, 0, 0x90, 0xEE, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 5, 0, 0, 0,
            0x2C, 1, 0, 0,
        ];
        assert_eq!(intset.as_bytes(), wide);
        assert!(intset.remove(-70_000));
        assert_eq!(intset.as_bytes()[0], 4, "an intset never narrows");
    }

    #[test]
    fn bytes_that_are_no_intset_are_refused() {
        for (bytes, why) in [
            (&[][..], "nothing"),
            (&[2, 0, 0, 0, 1, 0, 0], "short header"),
            (&[2, 0, 0, 0, 0, 0, 0, 0], "no integer"),
            (&[3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0], "width 3"),
            (&[0, 0, 0, 0, 1, 0, 0, 0], "width 0"),
            (&[2, 1, 0, 0, 1, 0, 0, 0, 1, 0], "width 258"),
            (&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0], "fewer than counted"),
            (&[2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0], "more than counted"),
            (&[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0], "descending"),
            (&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0], "twice the same"),
            (&[8, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0], "a count beyond memory"),
        ] {
            assert!(Intset::from_bytes(bytes.to_vec()).is_none(), "{why}");
        }
    }

    fn integer() -> impl Strategy<Value = i64> {
        prop_oneof![
            -8..8i64,
            any::<i16>().prop_map(i64::from),
            any::<i32>().prop_map(i64::from),
            any::<i64>(),
        ]
    }

    proptest! {
        #[test]
        fn intset_is_a_sorted_set(steps in prop::collection::vec((any::<bool>(), integer()), 0..200)) {
            let (mut intset, mut model) = (Intset::default(), BTreeSet::new());
            for (add, value) in steps {
                if add {
                    prop_assert_eq!(intset.insert(value), model.insert(value));
                } else {
                    prop_assert_eq!(intset.remove(value), model.remove(&value));
                }
                prop_assert_eq!(intset.contains(value), model.contains(&value));
                prop_assert_eq!(intset.len(), model.len());
            }
            prop_assert!(intset.iter().eq(model.iter().copied()));
            let again = Intset::from_bytes(intset.as_bytes().to_vec());
            prop_assert_eq!(again.is_some(), !model.is_empty());
            for bits in [0, u64::MAX / 2, u64::MAX] {
                prop_assert_eq!(intset.random(|| bits).is_some(), !model.is_empty());
            }
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), width in 0..9u8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = width; }
            if let Some(intset) = Intset::from_bytes(bytes.clone()) {
                prop_assert_eq!(intset.as_bytes(), &bytes[..]);
            }
        }
    }
}
