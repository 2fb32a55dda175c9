//! How long a slice of background work may go on.
//!
//! Why time and not a number of elements: freeing an element costs 10 ns when it lies in the cache and
//! 500 ns when it does not, and a value of one element may have a megabyte.
//!
//! Promise: whoever calls [`Budget::spend`] for every few elements stops within [`ELEMENTS_PER_LOOK`]
//! elements after the time is over; and gets something done however short the time is.

use std::time::Duration;

use crate::clock::Ticks;

/// Elements between two looks at the clock: reading it costs as much as freeing one.
pub const ELEMENTS_PER_LOOK: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    end: Ticks,
    since_look: usize,
    spent: bool,
}

impl Budget {
    /// From now on for so long.
    pub fn new(time: Duration) -> Self {
        Self { end: Ticks::now().after(time), since_look: 0, spent: false }
    }

    /// `elements` more were handled.
    #[inline]
    pub fn spend(&mut self, elements: usize) {
        self.since_look += elements;
        if self.since_look >= ELEMENTS_PER_LOOK {
            self.since_look = 0;
            self.spent |= Ticks::now() >= self.end;
        }
    }

    /// Whether it is time to stop.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_by_time_and_never_before_the_first_look() {
        let mut none = Budget::new(Duration::ZERO);
        none.spend(ELEMENTS_PER_LOOK - 1);
        assert!(!none.is_spent());
        none.spend(1);
        assert!(none.is_spent());
        let mut long = Budget::new(Duration::from_secs(3600));
        long.spend(1_000_000);
        assert!(!long.is_spent());
    }
}
