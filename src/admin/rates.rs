//! How much happens per second just now: `instantaneous_ops_per_sec` and its kin.
//!
//! Why no timer: an idle shard sleeps in the kernel and should not be woken to count nothing. A sample
//! is taken at the start of a turn when the last one is old enough, and who asks gets the growth
//! since the oldest sample of the last moments.

use std::collections::VecDeque;

/// Time between samples, ms.
const PERIOD_MS: i64 = 100;
/// Span over which a rate is taken, ms: sixteen periods, as in Redis 7.0 (`server.h`,
/// STATS_METRIC_SAMPLES).
const SPAN_MS: i64 = 16 * PERIOD_MS;

/// The rate of one counter.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    /// Time in ms and count, the oldest first; never more than a span holds, and one.
    samples: VecDeque<(i64, u64)>,
}

impl Rate {
    /// Notes that the counter stands at `count`, unless the last note is fresh.
    #[inline]
    pub fn sample(&mut self, now_ms: i64, count: u64) {
        if self.samples.back().is_some_and(|last| now_ms - last.0 < PERIOD_MS) {
            return;
        }
        self.samples.push_back((now_ms, count));
        // One older than the span stays: from it on the growth is known.
        while self.samples.get(1).is_some_and(|second| now_ms - second.0 >= SPAN_MS) {
            self.samples.pop_front();
        }
    }

    /// Counts per second up to now, when the counter stands at `count`.
    pub fn per_second(&self, now_ms: i64, count: u64) -> u64 {
        let start = self.samples.iter().rev().find(|sample| now_ms - sample.0 >= SPAN_MS);
        let Some((at_ms, before)) = start.or(self.samples.front()) else { return 0 };
        let elapsed = u64::try_from(now_ms - at_ms).unwrap_or(0);
        // The counter falls back to zero at CONFIG RESETSTAT; that is no growth.
        let grown = count.saturating_sub(*before).saturating_mul(1000);
        grown.checked_div(elapsed).unwrap_or(0)
    }
}

/// The rates that INFO shows.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Commands.
    pub commands: Rate,
    /// Bytes from clients.
    pub input: Rate,
    /// Bytes to clients.
    pub output: Rate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_growth_over_the_last_moments() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(0, 5), 0, "nothing is known yet");
        for ms in 0..3000 {
            rate.sample(ms, ms as u64 * 2);
        }
        assert_eq!(rate.per_second(3000, 6000), 2000);
        assert!(rate.samples.len() <= 18, "{}", rate.samples.len());
        assert_eq!(rate.per_second(3000, 0), 0, "a reset counter counts as no growth");
    }

    #[test]
    fn a_counter_that_rests_falls_to_nothing() {
        let mut rate = Rate::default();
        for ms in 0..1000 {
            rate.sample(ms, ms as u64);
        }
        assert!(rate.per_second(1000, 1000) >= 900);
        assert!(rate.per_second(10_000, 1000) < 20, "{}", rate.per_second(10_000, 1000));
    }
}
