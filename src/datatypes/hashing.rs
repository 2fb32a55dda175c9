//! The hash function of everything that lives in memory only: hash tables of sets, hashes and
//! sorted sets.
//!
//! Why seeded: a client that knew the function could send members that all fall into one segment.
//! The seed is drawn from the operating system once per process and is the same on every core, so
//! a value may move from one shard to another without being hashed again.
//!
//! Promise: equal bytes hash alike for the life of the process, and never longer: a hash must not
//! reach a file or another node.

use std::sync::OnceLock;

use ahash::RandomState;

static STATE: OnceLock<RandomState> = OnceLock::new();

/// The hash of `bytes`. All 64 bits are usable; [`Table`](super::table::Table) takes its directory
/// index from the top ones.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    STATE.get_or_init(RandomState::new).hash_one(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_hash_alike_and_neighbours_spread_over_the_top_bits() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..1000u32 {
            let bytes = number.to_string().into_bytes();
            assert_eq!(hash_bytes(&bytes), hash_bytes(&bytes.clone()), "{number}");
            seen.insert(hash_bytes(&bytes) >> 48);
        }
        assert!(seen.len() > 950, "1000 members share {} of 65536 prefixes", seen.len());
    }
}
