//! How often a command took how long, in the buckets of Redis's histograms.
//!
//! Why not a histogram at once: it is recorded for every command, and `hdrhistogram` takes 90
//! instructions for what are seven here. Whoever asks for the figures gets a histogram made of them.
//!
//! Promise: the histogram is the one that would have come of recording every latency into it.

use hdrhistogram::Histogram;

/// Longest latency that is told from longer ones (Redis 7.0 `server.h`,
/// LATENCY_HISTOGRAM_MAX_VALUE).
const LATENCY_NANOS_MAX: u64 = 1_000_000_000;
/// Significant decimal digits of a latency (Redis 7.0 `server.h`, LATENCY_HISTOGRAM_PRECISION).
const LATENCY_DIGITS: u8 = 2;

/// Two digits need 200 linear steps, hence the next power of two; each doubling of the value after them
/// has half as many steps of double the width.
const STEPS_BITS: u32 = 8;
const STEPS: u64 = 1 << STEPS_BITS;
const BUCKETS: usize = bucket_of(LATENCY_NANOS_MAX) + 1;

const _: () = assert!(STEPS >= 2 * 10_u64.pow(LATENCY_DIGITS as u32));

/// See the module.
#[derive(Debug)]
pub(super) struct LatencyCounts(Box<[u64; BUCKETS]>);

#[inline]
const fn bucket_of(nanos: u64) -> usize {
    let doublings = (nanos | (STEPS - 1)).ilog2() + 1 - STEPS_BITS;
    (doublings as usize) * (STEPS as usize / 2) + (nanos >> doublings) as usize
}

/// The least latency that falls into this bucket.
const fn least_of(bucket: usize) -> u64 {
    let half = STEPS as usize / 2;
    let doublings = (bucket / half).saturating_sub(1);
    ((bucket - doublings * half) as u64) << doublings
}

impl LatencyCounts {
    pub(super) fn new() -> Self {
        Self(Box::new([0; BUCKETS]))
    }

    #[inline]
    pub(super) fn record(&mut self, nanos: u64, calls: u64) {
        self.0[bucket_of(nanos.clamp(1, LATENCY_NANOS_MAX))] += calls;
    }

    pub(super) fn histogram(&self) -> Box<Histogram<u64>> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS);
        let mut histogram = Box::new(histogram.expect("the bounds are constant and make sense"));
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.saturating_record_n(least_of(bucket), *count);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_histogram_is_the_one_that_records_every_latency(
            latencies in prop::collection::vec((any::<u64>(), 0_u32..64), 1..200)
        ) {
            let mut counts = LatencyCounts::new();
            let mut whole =
                Histogram::<u64>::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS).unwrap();
            for (bits, shift) in latencies {
                counts.record(bits >> shift, 1);
                whole.saturating_record((bits >> shift).clamp(1, LATENCY_NANOS_MAX));
            }
            let made = counts.histogram();
            prop_assert_eq!(made.len(), whole.len());
            for (a, b) in made.iter_recorded().zip(whole.iter_recorded()) {
                prop_assert_eq!(a.value_iterated_to(), b.value_iterated_to());
                prop_assert_eq!(a.count_at_value(), b.count_at_value());
            }
        }
    }
}
