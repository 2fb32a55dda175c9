//! A key with what every layer needs to know of it, computed once.

use crate::datatypes::hashing::hash_bytes;
use crate::slot::{Slot, slot_of};

/// A key, its slot and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key itself.
    pub bytes: &'a [u8],
    /// [`hash_of`] the key.
    pub hash: u64,
    /// The slot that it belongs to.
    pub slot: Slot,
}

impl<'a> Key<'a> {
    /// Hashes `bytes` and finds their slot.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, hash: hash_of(bytes), slot: slot_of(bytes) }
    }
}

/// A key and the number of its database, owned: it crosses a lane, or is remembered.
pub type DbKey = (usize, Vec<u8>);

/// Whether `a` and `b` are the same bytes. Most keys have 8 to 32 bytes, and a call of the C library's `memcmp`
/// costs more than comparing them.
#[inline]
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    match (a.len(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        // The last word overlaps the one before it.
        (..=32, Some(last_a), Some(last_b)) => {
            last_a == last_b && words.fold(true, |same, (a, b)| same & (a == b))
        }
        _ => a == b,
    }
}

/// The hash by which a key is placed in the table of its slot; seeded anew in each process, so that
/// nobody can prepare keys that collide.
pub fn hash_of(key: &[u8]) -> u64 {
    hash_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sameness_is_that_of_slices(
            a in prop::collection::vec(0_u8..3, 0..40), at in any::<prop::sample::Index>(), byte: u8
        ) {
            prop_assert!(is_same(&a, &a.clone()));
            prop_assert!(!is_same(&a, &[&a[..], &[byte]].concat()));
            if !a.is_empty() {
                let mut b = a.clone();
                b[at.index(a.len())] = byte;
                prop_assert_eq!(is_same(&a, &b), a == b);
            }
        }
    }
}
