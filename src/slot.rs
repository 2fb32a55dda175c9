//! Hash slots: which of the 16384 slots a key belongs to.

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

    /// The same of a number of any size.
    pub fn numbered(number: i64) -> Option<Self> {
        u16::try_from(number).ok().and_then(Self::new)
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
    Slot(crc16(hashed_part(key)) & (SLOT_COUNT - 1))
}

/// The part of `key` that is hashed: between the first `{` and the first `}` after it, unless empty.
fn hashed_part(key: &[u8]) -> &[u8] {
    if !has_brace(key) {
        return key;
    }
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    match memchr::memchr(b'}', &key[open + 1..]) {
        None | Some(0) => key,
        Some(length) => &key[open + 1..open + 1 + length],
    }
}

/// Whether `key` may hold a `{`; nearly all keys hold none, and most are too short for a vector
/// search to pay.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = key.as_chunks::<8>();
    // A byte of `word` is zero where the key has a brace; the well-known test for a zero byte.
    words
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes) ^ (ONES * b'{' as u64))
        .any(|word| word.wrapping_sub(ONES) & !word & (ONES << 7) != 0)
        || rest.contains(&b'{')
}

/// The polynomial of XMODEM without its highest bit.
const POLYNOMIAL: u16 = 0x1021;

/// `TABLES[n][b]`: what the byte `b` leaves in the checksum when `n` more bytes follow it.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc: u16 = tables[behind - 1][byte];
            tables[behind][byte] = crc << 8 ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// CRC16/XMODEM, eight bytes at a time: 16 bytes cost 50 instructions instead of 150.
fn crc16(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut crc = 0_u16;
    for [a, b, c, d, e, f, g, h] in words {
        let [high, low] = crc.to_be_bytes();
        let at = |behind: usize, byte: u8| TABLES[behind][usize::from(byte)];
        crc = at(7, a ^ high) ^ at(6, b ^ low) ^ at(5, *c) ^ at(4, *d);
        crc ^= at(3, *e) ^ at(2, *f) ^ at(1, *g) ^ at(0, *h);
    }
    for byte in rest {
        crc = crc << 8 ^ TABLES[0][usize::from(byte ^ (crc >> 8) as u8)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc16::{State, XMODEM};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_checksum_is_that_of_another_implementation(
            bytes in prop::collection::vec(any::<u8>(), 0..70)
        ) {
            prop_assert_eq!(crc16(&bytes), State::<XMODEM>::calculate(&bytes));
        }

        #[test]
        fn a_brace_is_seen_wherever_it_stands(
            mut bytes in prop::collection::vec(any::<u8>(), 1..40), at in any::<prop::sample::Index>()
        ) {
            prop_assert_eq!(has_brace(&bytes), bytes.contains(&b'{'));
            let at = at.index(bytes.len());
            bytes[at] = b'{';
            prop_assert!(has_brace(&bytes));
        }
    }

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
