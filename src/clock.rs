//! Time: what a turn calls now, and a cheap count of how long a command took.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix time in ms.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Unix time in µs.
pub fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Counts time in the core's own ticks: reading the counter costs 8 ns where `Instant::now` costs 25,
/// and it is read once for every command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticks(u64);

impl Ticks {
    /// The count now.
    #[inline]
    pub fn now() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            #[allow(unsafe_code)]
            // SAFETY: RDTSC reads a counter and is part of every x86_64; the kernels that forbid
            // it to user space (PR_SET_TSC) do so on a process's own request, which ours never makes.
            Self(unsafe { std::arch::x86_64::_rdtsc() })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            static START: OnceLock<Instant> = OnceLock::new();
            Self(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
        }
    }

    /// Ticks from `earlier` to this.
    #[inline]
    pub fn since(self, earlier: Ticks) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The count when `time` will have passed since this.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add((time.as_secs_f64() * 1e6 * ticks_per_us()) as u64))
    }
}

/// Ticks in a microsecond, measured once against the monotonic clock.
pub fn ticks_per_us() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, ticks) = (Instant::now(), Ticks::now());
        std::thread::sleep(Duration::from_millis(10));
        let (elapsed, passed) = (start.elapsed(), Ticks::now().since(ticks));
        (passed as f64 / elapsed.as_nanos() as f64 * 1000.0).max(0.001)
    })
}

/// Ticks as microseconds.
pub fn ticks_to_us(ticks: u64) -> f64 {
    ticks as f64 / ticks_per_us()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_monotonic_clock() {
        ticks_per_us();
        let (start, ticks) = (Instant::now(), Ticks::now());
        std::thread::sleep(Duration::from_millis(50));
        let us = ticks_to_us(Ticks::now().since(ticks));
        let real = start.elapsed().as_micros() as f64;
        assert!(us > 0.5 * real && us < 2.0 * real, "{us} for {real}");
    }
}
