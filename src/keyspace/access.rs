//! The 24-bit access clock of an entry: seconds of the last access (LRU), or minutes of the last
//! decrement and a logarithmic counter (LFU), as Redis 7.0 keeps them (`evict.c`), so that
//! OBJECT IDLETIME/FREQ and the RDB's idle and frequency fields mean the same.

use std::cell::Cell;

use super::entry::Entry;

const CLOCK_MASK: u32 = 0x00ff_ffff;
/// Counter of a new entry, so that it is not evicted before it had a chance (Redis 7.0 LFU_INIT_VAL).
const LFU_INITIAL: u8 = 5;

/// How accesses are noted.
#[derive(Clone, Debug)]
pub struct AccessClock {
    /// Counts accesses instead of noting the time.
    pub lfu: bool,
    /// `lfu-log-factor`.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`, minutes.
    pub lfu_decay_minutes: u32,
    now_seconds: u32,
    random: Cell<u64>,
}

impl AccessClock {
    /// A clock that notes the time; `seed` is for the counter's lottery.
    pub fn new(seed: u64) -> Self {
        Self {
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            now_seconds: 0,
            random: Cell::new(seed | 1),
        }
    }

    /// Sets the time, unix ms.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_seconds = (now_ms / 1000) as u32;
    }

    fn minutes(&self) -> u32 {
        (self.now_seconds / 60) & 0xffff
    }

    /// The clock of a new entry.
    pub fn new_entry(&self) -> u32 {
        if self.lfu {
            self.minutes() << 8 | u32::from(LFU_INITIAL)
        } else {
            self.now_seconds & CLOCK_MASK
        }
    }

    /// The clock of an entry whose value is overwritten; a frequency survives, as in Redis.
    pub fn overwritten(&self, clock: u32) -> u32 {
        if self.lfu { clock } else { self.new_entry() }
    }

    /// Notes an access. Writes only what changes: a read of a hot key leaves its line clean.
    #[inline]
    pub fn touch(&self, entry: &Entry) {
        let clock = if self.lfu {
            let count = self.decayed(entry.clock());
            self.minutes() << 8 | u32::from(self.incremented(count))
        } else {
            self.now_seconds & CLOCK_MASK
        };
        if entry.clock() != clock {
            entry.set_clock(clock);
        }
    }

    fn decayed(&self, clock: u32) -> u8 {
        let count = clock as u8;
        if self.lfu_decay_minutes == 0 {
            return count;
        }
        let elapsed = self.minutes().wrapping_sub(clock >> 8) & 0xffff;
        count.saturating_sub((elapsed / self.lfu_decay_minutes).min(255) as u8)
    }

    fn incremented(&self, count: u8) -> u8 {
        let base = f64::from(count.saturating_sub(LFU_INITIAL));
        let chance = 1.0 / (base * f64::from(self.lfu_log_factor) + 1.0);
        let draw = self.draw() as f64 / u64::MAX as f64;
        if draw < chance { count.saturating_add(1) } else { count }
    }

    fn draw(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// The clock of an entry that nobody has used for so long, if the time of the last use is noted.
    pub fn of_idle_seconds(&self, seconds: u64) -> Option<u32> {
        (!self.lfu).then(|| self.now_seconds.wrapping_sub(seconds as u32) & CLOCK_MASK)
    }

    /// The clock of an entry whose counter stands so high, if accesses are counted.
    pub fn of_frequency(&self, count: u8) -> Option<u32> {
        self.lfu.then(|| self.minutes() << 8 | u32::from(count))
    }

    /// Seconds since the last access (OBJECT IDLETIME).
    pub fn idle_seconds(&self, clock: u32) -> u32 {
        self.now_seconds.wrapping_sub(clock) & CLOCK_MASK
    }

    /// Access frequency counter (OBJECT FREQ).
    pub fn frequency(&self, clock: u32) -> u8 {
        self.decayed(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_grows_with_the_clock_and_an_access_resets_it() {
        let mut access = AccessClock::new(1);
        access.set_now(5_000_000_000_000);
        let entry = Entry::with_string(b"k", b"v", None, access.new_entry());
        access.set_now(5_000_000_100_000);
        assert_eq!(access.idle_seconds(entry.clock()), 100);
        access.touch(&entry);
        assert_eq!(access.idle_seconds(entry.clock()), 0);
    }

    #[test]
    fn frequency_rises_with_accesses_and_decays_by_the_minute() {
        let mut access = AccessClock::new(1);
        access.lfu = true;
        access.set_now(1_000_000_000_000);
        let entry = Entry::with_string(b"k", b"v", None, access.new_entry());
        for _ in 0..1000 {
            access.touch(&entry);
        }
        let frequency = access.frequency(entry.clock());
        assert!(frequency > 10 && frequency < 60, "{frequency}");
        access.set_now(1_000_000_000_000 + 3 * 60_000);
        assert_eq!(access.frequency(entry.clock()), frequency - 3);
    }
}
