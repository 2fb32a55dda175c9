//! Strings as arrays of bits, most significant bit of each byte first: counting, searching and
//! combining them.
//!
//! All of it goes word by word and leaves the vector instructions to the compiler: a bitmap of
//! 512 MB is a common use, and a count of it holds its shard for as long as it takes.

use std::ops::RangeInclusive;

/// How BITOP combines its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bits that are set in all sources.
    And,
    /// Bits that are set in any source.
    Or,
    /// Bits that are set in an odd number of sources.
    Xor,
    /// Bits that are not set in the only source.
    Not,
}

/// Whether the bit at `offset` is set; beyond the end no bit is.
pub fn get_bit(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte & mask_of(offset) != 0)
}

/// Sets the bit at `offset` and returns what it was. The caller has made room.
pub fn set_bit(bytes: &mut [u8], offset: usize, on: bool) -> bool {
    let byte = &mut bytes[offset / 8];
    let was = *byte & mask_of(offset) != 0;
    *byte = if on { *byte | mask_of(offset) } else { *byte & !mask_of(offset) };
    was
}

fn mask_of(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

/// Number of set bits in `bytes`.
pub fn count(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole: u64 =
        words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum();
    whole + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// Number of set bits among the bits of `range`, which lies within `bytes`.
pub fn count_range(bytes: &[u8], range: RangeInclusive<usize>) -> u64 {
    let (first, last) = range.into_inner();
    let whole = count(&bytes[first / 8..=last / 8]);
    let before = bytes[first / 8] & !low_bits(8 - first % 8);
    let after = bytes[last / 8] & low_bits(7 - last % 8);
    whole - u64::from(before.count_ones()) - u64::from(after.count_ones())
}

/// The offset of the first bit in `range` that is `on`. The range lies within `bytes`.
pub fn find(bytes: &[u8], range: RangeInclusive<usize>, on: bool) -> Option<usize> {
    let (first, last) = range.into_inner();
    // With `flip`, a clear bit is looked for as a set one.
    let flip = if on { 0 } else { 0xff };
    let edge = (bytes[first / 8] ^ flip) & low_bits(8 - first % 8);
    let offset = if edge != 0 {
        first / 8 * 8 + edge.leading_zeros() as usize
    } else {
        let start = first / 8 + 1;
        start * 8 + find_any(bytes.get(start..=last / 8)?, flip)?
    };
    (offset <= last).then_some(offset)
}

/// The offset of the first set bit of `bytes`, each taken with `flip`.
fn find_any(bytes: &[u8], flip: u8) -> Option<usize> {
    /// Bytes per step while there is nothing: a step becomes a few vector instructions.
    const BLOCK: usize = 64;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let nothing = |block: &&[u8; BLOCK]| block.iter().fold(0, |any, byte| any | (byte ^ flip)) == 0;
    let skipped = blocks.iter().take_while(nothing).count() * BLOCK;
    let tail = &bytes[skipped..];
    let index = tail.iter().position(|byte| byte ^ flip != 0)?;
    Some((skipped + index) * 8 + (tail[index] ^ flip).leading_zeros() as usize)
}

/// The lowest `bits` (0 to 8) bits of a byte.
fn low_bits(bits: usize) -> u8 {
    ((1_u16 << bits) - 1) as u8
}

/// Combines the sources; shorter ones count as if zero bytes followed.
pub fn combine(operation: Operation, sources: &[&[u8]]) -> Vec<u8> {
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let Some((first, others)) = sources.split_first() else { return Vec::new() };
    let mut result = Vec::with_capacity(length);
    result.extend_from_slice(first);
    result.resize(length, 0);
    match operation {
        Operation::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
        Operation::And => {
            let shortest = sources.iter().map(|source| source.len()).min().unwrap_or(0);
            result[shortest..].fill(0);
            others.iter().for_each(|source| zip_into(&mut result, source, |a, b| a & b));
        }
        Operation::Or => {
            others.iter().for_each(|source| zip_into(&mut result, source, |a, b| a | b));
        }
        Operation::Xor => {
            others.iter().for_each(|source| zip_into(&mut result, source, |a, b| a ^ b));
        }
    }
    result
}

#[inline(always)]
fn zip_into(result: &mut [u8], source: &[u8], combine: impl Fn(u8, u8) -> u8) {
    for (byte, other) in result.iter_mut().zip(source) {
        *byte = combine(*byte, *other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_and_range() -> impl Strategy<Value = (Vec<u8>, RangeInclusive<usize>)> {
        let byte = prop_oneof![4 => Just(0), 4 => Just(0xff), 1 => any::<u8>()];
        prop::collection::vec(byte, 1..200).prop_flat_map(|bytes| {
            let bits = bytes.len() * 8;
            (Just(bytes), 0..bits, 0..bits).prop_map(|(bytes, a, b)| (bytes, a.min(b)..=a.max(b)))
        })
    }

    proptest! {
        #[test]
        fn counting_and_searching_agree_with_looking_at_each_bit((bytes, range) in bytes_and_range()) {
            let set = range.clone().filter(|offset| get_bit(&bytes, *offset)).count();
            prop_assert_eq!(count_range(&bytes, range.clone()), set as u64);
            for on in [false, true] {
                let first = range.clone().find(|offset| get_bit(&bytes, *offset) == on);
                prop_assert_eq!(find(&bytes, range.clone(), on), first);
            }
            prop_assert_eq!(count(&bytes), count_range(&bytes, 0..=bytes.len() * 8 - 1));
        }

        #[test]
        fn combining_agrees_with_combining_each_bit(
            sources in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
        ) {
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let bits = sources.iter().map(Vec::len).max().unwrap_or(0) * 8;
            for operation in [Operation::And, Operation::Or, Operation::Xor, Operation::Not] {
                let slices = if operation == Operation::Not { &slices[..1] } else { &slices[..] };
                let combined = combine(operation, slices);
                prop_assert_eq!(combined.len(), slices.iter().map(|s| s.len()).max().unwrap_or(0));
                for offset in 0..bits.min(combined.len() * 8) {
                    let set = slices.iter().filter(|source| get_bit(source, offset)).count();
                    let expected = match operation {
                        Operation::And => set == slices.len(),
                        Operation::Or => set > 0,
                        Operation::Xor => set % 2 == 1,
                        Operation::Not => set == 0,
                    };
                    prop_assert_eq!(get_bit(&combined, offset), expected);
                }
            }
        }

        #[test]
        fn setting_a_bit_changes_that_bit_alone(
            mut bytes in prop::collection::vec(any::<u8>(), 1..9), offset: usize, on: bool,
        ) {
            let offset = offset % (bytes.len() * 8);
            let before = bytes.clone();
            prop_assert_eq!(set_bit(&mut bytes, offset, on), get_bit(&before, offset));
            for other in 0..bytes.len() * 8 {
                let expected = if other == offset { on } else { get_bit(&before, other) };
                prop_assert_eq!(get_bit(&bytes, other), expected);
            }
        }
    }
}
