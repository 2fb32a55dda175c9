//! How much happens per second just now: `instantaneous_ops_per_sec` and its kin.
//!
//! As in Redis, a rate is the mean of the last sixteen samples, and a sample is taken about ten times a
//! second, so that the figure neither jumps nor lags.

/// Samples that make up the mean (Redis 7.0 `server.h`, STATS_METRIC_SAMPLES).
const SAMPLES: usize = 16;

/// The rate of one counter.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    samples: [u64; SAMPLES],
    next: usize,
    last_count: u64,
    last_ms: i64,
}

impl Rate {
    /// Notes that the counter stands at `count` at the time `now_ms`.
    pub fn sample(&mut self, now_ms: i64, count: u64) {
        let elapsed = u64::try_from(now_ms - self.last_ms).unwrap_or(0);
        let first = self.last_ms == 0;
        if elapsed == 0 {
            return;
        }
        // The counter falls back to zero at CONFIG RESETSTAT.
        let grown = count.saturating_sub(self.last_count);
        (self.last_count, self.last_ms) = (count, now_ms);
        if !first {
            self.samples[self.next] = grown.saturating_mul(1000) / elapsed;
            self.next = (self.next + 1) % SAMPLES;
        }
    }

    /// Counts per second.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / SAMPLES as u64
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
    fn a_rate_is_the_mean_of_sixteen_samples() {
        let mut rate = Rate::default();
        rate.sample(1000, 500);
        assert_eq!(rate.per_second(), 0, "one sample tells nothing");
        for tick in 1..=16 {
            rate.sample(1000 + tick * 100, 500 + tick as u64 * 10);
        }
        assert_eq!(rate.per_second(), 100);
        rate.sample(2700, 0);
        assert_eq!(rate.per_second(), 93, "a reset counter counts as no growth");
        rate.sample(2700, 1000);
        assert_eq!(rate.per_second(), 93, "no time has passed");
    }
}
