//! What a run counts, for one thread and one second or for all of it.
//!
//! Threads share nothing while they run: each counts into its own [`Tally`] and sends it away once
//! a second, so counting is an increment without a lock or an atomic operation.
//!
//! Promise: adding the tallies of all threads and seconds gives the tally of the run, percentiles
//! included, because histograms add up exactly.

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in nanoseconds: one hour. Longer ones count as this.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;
/// Digits of a latency that are exact.
const LATENCY_DIGITS: u8 = 3;

/// The quantiles of every report, with the names they have in JSON.
pub const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.50),
    ("p75", 0.75),
    ("p90", 0.90),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// How long things took, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS);
        Self(histogram.expect("the bounds are constants that a histogram can have"))
    }
}

impl Latencies {
    /// Counts one.
    pub fn record_nanos(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Counts all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `quantile` (0 to 1) of all do not exceed, in microseconds; 0 if none.
    pub fn micros_at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The shortest, in microseconds.
    pub fn min_micros(&self) -> f64 {
        self.0.min() as f64 / 1e3
    }

    /// The longest, in microseconds.
    pub fn max_micros(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// The mean, in microseconds.
    pub fn mean_micros(&self) -> f64 {
        self.0.mean() / 1e3
    }
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Replies that came, errors included.
    pub requests: u64,
    /// Replies that were errors.
    pub errors: u64,
    /// Replies that were null.
    pub nulls: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// From the intended send time to the reply.
    pub latency: Latencies,
    /// From when a request could have left (due, and room on its connection) to when the generator
    /// sent it: its own lateness. Only at a fixed rate.
    pub lag: Latencies,
    /// Requests that were due by the end and found no room on their connection until then.
    pub unsent: u64,
    /// Requests that had no reply by the end.
    pub unanswered: u64,
    /// The first error's text.
    pub first_error: Option<String>,
}

impl Tally {
    /// Counts all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.nulls += other.nulls;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.latency.add(&other.latency);
        self.lag.add(&other.lag);
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let (mut whole, mut sum) = (Latencies::default(), Tally::default());
        for part in 0..10 {
            let mut tally = Tally { requests: 100, errors: part, ..Tally::default() };
            tally.first_error = (part > 3).then(|| format!("ERR {part}"));
            for nanos in (part * 100_000..).step_by(1000).take(100) {
                whole.record_nanos(nanos);
                tally.latency.record_nanos(nanos);
            }
            sum.add(&tally);
        }
        assert_eq!((sum.requests, sum.errors, sum.latency.count()), (1000, 45, 1000));
        assert_eq!(sum.first_error.as_deref(), Some("ERR 4"));
        for (name, quantile) in QUANTILES {
            assert_eq!(sum.latency.micros_at(quantile), whole.micros_at(quantile), "{name}");
        }
        assert_eq!(sum.latency.max_micros(), whole.max_micros());
    }

    #[test]
    fn quantiles_are_exact_to_a_thousandth() {
        let mut latencies = Latencies::default();
        (1..=100_000).for_each(|micros| latencies.record_nanos(micros * 1000));
        for (name, quantile) in QUANTILES {
            let (got, exact) = (latencies.micros_at(quantile), quantile * 100_000.0);
            assert!((got / exact - 1.0).abs() < 0.001, "{name}: {got} not {exact}");
        }
    }

    #[test]
    fn nothing_counted_is_all_zeros_and_the_absurd_is_kept_within_bounds() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.max_micros(), latencies.micros_at(0.5)), (0.0, 0.0));
        latencies.record_nanos(u64::MAX);
        assert!(latencies.max_micros() >= LATENCY_NANOS_MAX as f64 / 1e3);
    }
}
