//! When an open-loop request is meant to leave.
//!
//! At a fixed `--rate` the send times are decided before the run starts: request `n` of the whole
//! run leaves `n / rate` seconds after the start, and the requests go round the connections. A slow
//! server therefore cannot slow the questions down: a request that has to wait for room on its
//! connection still counts its latency from the time written here (no coordinated omission).
//!
//! Promise: the times are computed from `n`, never by adding periods, so no rounding accumulates.

/// Nanoseconds of one second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The send times of one run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate_per_second: u64,
    connections: u64,
    requests: Option<u64>,
}

impl Schedule {
    /// `rate_per_second` requests each second over `connections` in turn, at most `requests`.
    /// Zeros are taken as one.
    pub fn new(rate_per_second: u64, connections: usize, requests: Option<u64>) -> Self {
        let connections = (connections as u64).max(1);
        Self { rate_per_second: rate_per_second.max(1), connections, requests }
    }

    /// Nanoseconds from the start of the run to the `nth` send (from 0) of connection number
    /// `connection`, or `None` if the run has fewer requests.
    pub fn intended_nanos(&self, connection: usize, nth: u64) -> Option<u64> {
        let index = nth.checked_mul(self.connections)?.checked_add(connection as u64)?;
        if self.requests.is_some_and(|requests| index >= requests) {
            return None;
        }
        let nanos =
            u128::from(index) * u128::from(NANOS_PER_SECOND) / u128::from(self.rate_per_second);
        u64::try_from(nanos).ok()
    }
}

/// The part of `total` that falls to number `index` of `parts`: the parts differ by at most one.
pub fn share(total: u64, parts: usize, index: usize) -> u64 {
    let (parts, index) = ((parts as u64).max(1), index as u64);
    total / parts + u64::from(index < total % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_round_the_connections_at_even_distances() {
        let schedule = Schedule::new(1000, 4, None);
        for (connection, nth, millis) in [(0, 0, 0), (1, 0, 1), (3, 0, 3), (0, 1, 4), (2, 10, 42)] {
            let nanos = schedule.intended_nanos(connection, nth);
            assert_eq!(nanos, Some(millis * 1_000_000), "connection {connection} send {nth}");
        }
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = Schedule::new(7, 1, None);
        for second in [1, 60, 3600, 86_400] {
            assert_eq!(schedule.intended_nanos(0, 7 * second), Some(second * NANOS_PER_SECOND));
        }
    }

    #[test]
    fn a_limited_run_holds_exactly_its_requests() {
        for (connections, requests) in [(1, 0), (3, 10), (4, 8), (50, 7)] {
            let schedule = Schedule::new(10, connections, Some(requests));
            let sends = |connection| {
                (0..).take_while(|&nth| schedule.intended_nanos(connection, nth).is_some()).count()
            };
            let total: usize = (0..connections).map(sends).sum();
            assert_eq!(total as u64, requests, "{connections} connections");
        }
    }

    #[test]
    fn times_beyond_what_nanoseconds_can_say_end_the_run() {
        let schedule = Schedule::new(1, 1, None);
        assert_eq!(schedule.intended_nanos(0, u64::MAX), None);
        assert_eq!(Schedule::new(1, 2, None).intended_nanos(1, u64::MAX), None);
    }

    #[test]
    fn shares_add_up_and_differ_by_at_most_one() {
        for (total, parts) in [(0, 3), (2, 3), (10, 3), (9, 3), (100, 7)] {
            let shares: Vec<u64> = (0..parts).map(|index| share(total, parts, index)).collect();
            assert_eq!(shares.iter().sum::<u64>(), total, "{shares:?}");
            assert!(shares[0] - shares[parts - 1] <= 1, "{shares:?}");
        }
    }
}
