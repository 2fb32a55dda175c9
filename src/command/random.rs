//! Random numbers and random selections for SRANDMEMBER, HRANDFIELD, SPOP and their kin.
//!
//! A handler that borrows the keyspace cannot ask it for random numbers, so it takes one as a seed
//! first and goes on with [`Draws`]. A seed makes a command repeatable in tests.

use std::collections::HashSet;

/// Most elements that one command draws with repetition (a negative count). Redis would go on until
/// its memory is full; this many make a reply of hundreds of megabytes.
pub(super) const REPEATED_DRAWS_MAX: u64 = 1 << 24;

/// Drawing distinct elements one by one pays off while they are below this share of all (Redis 7.0,
/// SRANDMEMBER_SUB_STRATEGY_MUL).
const DISTINCT_DRAWS_SHARE: usize = 3;

/// A generator of random numbers for one command (SplitMix64).
pub(super) struct Draws(u64);

impl Draws {
    /// A generator that gives the same numbers for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }
}

/// Whether `count` distinct of `len` elements are better drawn one by one ([`draw_distinct`]) than
/// picked in one pass over all ([`pick`]).
pub(super) fn draws_pay_off(count: usize, len: usize) -> bool {
    count.saturating_mul(DISTINCT_DRAWS_SHARE) <= len
}

/// Picks `count` of the `len` elements of `all` in one pass, every selection with the same
/// probability, and keeps their order.
pub(super) fn pick<T>(
    all: impl Iterator<Item = T>,
    len: usize,
    count: usize,
    draws: &mut Draws,
) -> Vec<T> {
    let mut picked = Vec::with_capacity(count.min(len));
    for (passed, element) in all.enumerate() {
        if picked.len() == count {
            break;
        }
        let left = len.saturating_sub(passed).max(1);
        if draws.below(left) < count - picked.len() {
            picked.push(element);
        }
    }
    picked
}

/// Draws until `count` elements with different texts have come. Only for collections that have many
/// more than that ([`draws_pay_off`]), or it takes long.
pub(super) fn draw_distinct<'a, T>(
    count: usize,
    mut draw: impl FnMut() -> Option<(&'a [u8], T)>,
) -> Vec<T> {
    let mut seen = HashSet::with_capacity(count);
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let Some((text, element)) = draw() else { break };
        if seen.insert(text) {
            drawn.push(element);
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pick_selects_evenly_and_keeps_the_order() {
        let mut draws = Draws::new(7);
        for (len, count) in [(10, 0), (10, 1), (10, 4), (10, 10), (10, 20)] {
            let mut times = vec![0; len];
            for _ in 0..2000 {
                let picked = pick(0..len, len, count, &mut draws);
                assert_eq!(picked.len(), count.min(len));
                assert!(picked.is_sorted_by(|a, b| a < b));
                picked.into_iter().for_each(|index| times[index] += 1);
            }
            let expected = 2000 * count.min(len) / len;
            assert!(times.iter().all(|&t| expected.abs_diff(t) < 120), "{count}: {times:?}");
        }
    }

    #[test]
    fn draw_distinct_never_repeats_and_stops_when_there_is_nothing() {
        let texts: Vec<Vec<u8>> = (0..100).map(|n: u32| n.to_string().into_bytes()).collect();
        let mut draws = Draws::new(7);
        let drawn = draw_distinct(30, || {
            let text = &texts[draws.below(texts.len())];
            Some((text.as_slice(), text))
        });
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 30);
        assert!(draw_distinct::<()>(3, || None).is_empty());
    }
}
