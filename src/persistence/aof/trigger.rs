//! When a rewrite begins by itself: when the files have grown enough, and not too soon after failures.

/// Failures in a row from which on retries wait (Redis 7.0 `aof.c`, AOF_REWRITE_LIMITE_THRESHOLD).
const FAILURES_BEFORE_WAIT: u64 = 3;
/// Longest wait, in minutes (AOF_REWRITE_LIMITE_MAX_MINUTES).
const WAIT_MINUTES_MAX: i64 = 60;

/// What `auto-aof-rewrite-percentage` and `auto-aof-rewrite-min-size` ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrowthLimit {
    /// Growth since the base was written, in percent; 0 for never.
    pub percentage: u32,
    /// Files below this many bytes are let grow.
    pub bytes_min: u64,
}

/// Remembers how rewrites went.
#[derive(Clone, Debug, Default)]
pub struct Trigger {
    /// All files when the last rewrite was done, in bytes; at the start, the base.
    base_bytes: u64,
    failures: u64,
    wait_minutes: i64,
    /// Not before this unix time in seconds.
    not_before: Option<i64>,
}

impl Trigger {
    /// With `base_bytes` as the size to compare with.
    pub fn new(base_bytes: u64) -> Self {
        Self { base_bytes, ..Self::default() }
    }

    /// The size that growth is measured from.
    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    /// Failures since a rewrite succeeded.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// A rewrite is done; the files have so many bytes now.
    pub fn succeeded(&mut self, bytes: u64) {
        *self = Self::new(bytes);
    }

    /// A rewrite has failed.
    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// Whether files of `bytes` are rewritten now, at `now` unix seconds.
    pub fn is_due(&mut self, bytes: u64, limit: GrowthLimit, now: i64) -> bool {
        if limit.percentage == 0 || bytes <= limit.bytes_min {
            return false;
        }
        let growth = u128::from(bytes) * 100 / u128::from(self.base_bytes.max(1));
        growth >= 100 + u128::from(limit.percentage) && !self.is_held_back(now)
    }

    /// Whether failures make this attempt wait. Each wait is twice as long as the one before, as in Redis.
    fn is_held_back(&mut self, now: i64) -> bool {
        if self.failures < FAILURES_BEFORE_WAIT {
            return false;
        }
        match self.not_before {
            Some(at) if now < at => true,
            Some(_) => {
                self.not_before = None;
                false
            }
            None => {
                self.wait_minutes = (self.wait_minutes * 2).clamp(1, WAIT_MINUTES_MAX);
                self.not_before = Some(now + self.wait_minutes * 60);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: GrowthLimit = GrowthLimit { percentage: 100, bytes_min: 64 };

    #[test]
    fn growth_is_measured_from_the_last_rewrite() {
        for (base, bytes, limit, due) in [
            (50, 99, LIMIT, false),
            (50, 100, LIMIT, true),
            (10, 64, LIMIT, false), // grown, but small
            (0, 65, LIMIT, true),
            (50, 1000, GrowthLimit { percentage: 0, ..LIMIT }, false),
            (200, 299, GrowthLimit { percentage: 50, ..LIMIT }, false),
            (200, 300, GrowthLimit { percentage: 50, ..LIMIT }, true),
            (1, u64::MAX, LIMIT, true),
        ] {
            assert_eq!(Trigger::new(base).is_due(bytes, limit, 0), due, "{base} {bytes} {limit:?}");
        }
        let mut trigger = Trigger::new(50);
        trigger.succeeded(100);
        assert!(!trigger.is_due(199, LIMIT, 0));
    }

    #[test]
    fn from_the_third_failure_on_attempts_wait_longer_and_longer() {
        let mut trigger = Trigger::new(50);
        for _ in 0..2 {
            trigger.failed();
            assert!(trigger.is_due(100, LIMIT, 0));
        }
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..8 {
            trigger.failed();
            let begin = now;
            while !trigger.is_due(100, LIMIT, now) {
                now += 60;
            }
            waits.push((now - begin) / 60);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        trigger.succeeded(50);
        trigger.failed();
        assert!(trigger.is_due(100, LIMIT, now));
    }
}
