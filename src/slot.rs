//! Hash slots: which of the 16384 slots a key belongs to.

use crc16::{State, XMODEM};

/// Number of hash slots of a Redis Cluster (Redis 7.0 `cluster.h`, CLUSTER_SLOTS).
pub const SLOT_COUNT: u16 = 16384;

const _: () = assert!(SLOT_COUNT.is_power_of_two(), "slot_of masks, it does not divide");

/// A hash slot, always below [`SLOT_COUNT`]: indexing an array of slots with it cannot fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` if there is no such slot.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The number, below [`SLOT_COUNT`].
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The slot of `key`: CRC16/XMODEM of its first non-empty hash tag, or of all of it
/// (Redis Cluster specification, "Hash tags").
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(State::<XMODEM>::calculate(hashed_part(key)) & (SLOT_COUNT - 1))
}

/// The part of `key` that is hashed: between the first `{` and the first `}` after it, unless empty.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        None | Some(0) => key,
        Some(length) => &key[open + 1..open + 1 + length],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_of_hashes_the_first_non_empty_tag_or_the_whole_key() {
        for (key, hashed) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"), // the first tag is empty, so there is no tag
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
            ("", ""),
        ] {
            let expected = State::<XMODEM>::calculate(hashed.as_bytes()) % SLOT_COUNT;
            assert_eq!(slot_of(key.as_bytes()).get(), expected, "{key}");
        }
    }

    #[test]
    fn slot_of_answers_as_cluster_keyslot_of_redis_does() {
        for (key, slot) in [("foo", 12182), ("bar", 5061), ("123456789", 12739)] {
            assert_eq!(slot_of(key.as_bytes()).get(), slot, "{key}");
        }
    }
}
