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

/// The hash by which a key is placed in the table of its slot; seeded anew in each process, so that
/// nobody can prepare keys that collide.
pub fn hash_of(key: &[u8]) -> u64 {
    hash_bytes(key)
}
