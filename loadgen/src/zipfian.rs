//! Ranks drawn by Zipf's law: rank `k` (from 0) with a weight of `1 / (k + 1)^theta`.
//!
//! The method is rejection-inversion (Hörmann and Derflinger, 1996). YCSB's method sums `keys`
//! powers before the first draw and breaks at `theta` = 1; this one needs no preparation, holds
//! four numbers, and takes any `theta` of 0 or more at two or three logarithms a draw.
//!
//! Promise: every rank is below `keys`; the most popular rank is 0.

use crate::random::Random;

/// A Zipf distribution over `keys` ranks.
#[derive(Clone, Debug)]
pub struct Zipfian {
    keys: u64,
    theta: f64,
    /// The area under the hat up to the first rank, less the first rank's own bar.
    area_low: f64,
    /// The area under the hat up to the last rank.
    area_high: f64,
    /// A rank that lies no further than this above the drawn point is accepted without a test.
    squeeze: f64,
}

impl Zipfian {
    /// Ranks below `keys` (taken as 1 if 0), skewed by `theta` (taken as 0, uniform, if negative).
    pub fn new(keys: u64, theta: f64) -> Self {
        let (keys, theta) = (keys.max(1), theta.max(0.0));
        let area_low = hat_area(1.5, theta) - 1.0;
        let area_high = hat_area(keys as f64 + 0.5, theta);
        let squeeze = 2.0 - hat_point(hat_area(2.5, theta) - weight(2.0, theta), theta);
        Self { keys, theta, area_low, area_high, squeeze }
    }

    /// Draws one rank.
    pub fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.area_high + random.unit() * (self.area_low - self.area_high);
            let point = hat_point(area, self.theta);
            // The float may land a hair outside 1..=keys.
            let rank = (point + 0.5).clamp(1.0, self.keys as f64).floor();
            let under_the_bar = area >= hat_area(rank + 0.5, self.theta) - weight(rank, self.theta);
            if rank - point <= self.squeeze || under_the_bar {
                return rank as u64 - 1;
            }
        }
    }
}

/// The weight of the `rank`-th key, counting from 1.
fn weight(rank: f64, theta: f64) -> f64 {
    (-theta * rank.ln()).exp()
}

/// The area under `x^-theta` from 1 to `x`: `(x^(1-theta) - 1) / (1 - theta)`, and `ln x` at 1.
fn hat_area(x: f64, theta: f64) -> f64 {
    let log = x.ln();
    exp_m1_over((1.0 - theta) * log) * log
}

/// The inverse of [`hat_area`].
fn hat_point(area: f64, theta: f64) -> f64 {
    // Below -1 the logarithm does not exist; only rounding leads there.
    let scaled = (area * (1.0 - theta)).max(-1.0);
    (ln_1p_over(scaled) * area).exp()
}

/// `(e^x - 1) / x`, continued through 0.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > SERIES_BELOW { x.exp_m1() / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// `ln(1 + x) / x`, continued through 0.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > SERIES_BELOW { x.ln_1p() / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// Below this the quotient loses digits and three terms of its series are exact to a double.
const SERIES_BELOW: f64 = 1e-5;

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    fn histogram(keys: u64, theta: f64) -> Vec<u32> {
        let (zipfian, mut random) = (Zipfian::new(keys, theta), Random::new(42));
        let mut counts = vec![0; keys as usize];
        for _ in 0..DRAWS {
            counts[zipfian.rank(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn every_rank_appears_as_often_as_zipfs_law_says() {
        for theta in [0.0, 0.5, 0.99, 1.0, 1.2, 2.0] {
            let counts = histogram(100, theta);
            let sum: f64 = (1..=100).map(|rank| f64::from(rank).powf(-theta)).sum();
            for (index, &count) in counts.iter().enumerate() {
                let expected = f64::from(DRAWS) * ((index + 1) as f64).powf(-theta) / sum;
                // Five standard deviations of a count, so a right sampler fails one run in 10^4.
                let tolerance = 5.0 * expected.sqrt() + 1.0;
                let error = (f64::from(count) - expected).abs();
                assert!(error < tolerance, "theta {theta} rank {index}: {count} not {expected}");
            }
        }
    }

    #[test]
    fn large_and_degenerate_key_counts_stay_in_range() {
        for (keys, theta) in [(0, 0.99), (1, 0.99), (2, 3.0), (1 << 40, 0.99), (1 << 40, 1.0)] {
            let (zipfian, mut random) = (Zipfian::new(keys, theta), Random::new(1));
            for _ in 0..10_000 {
                let rank = zipfian.rank(&mut random);
                assert!(rank < keys.max(1), "{rank} of {keys} at {theta}");
            }
        }
    }
}
