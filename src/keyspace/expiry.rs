//! When keys expire: a hierarchical timing wheel per database.
//!
//! Why not sampling, as Redis does: a sample finds expired keys by luck, so memory of keys that nobody
//! reads comes back late, and a wave of expiries makes long cycles. The wheel knows what is due, at
//! 16 bytes a key and a constant cost to arm.
//!
//! An item holds the slot and hash of a key, not the key. It may be stale: the key may be gone or have
//! another expiry by the time it fires. The database looks and decides; so nothing has to be
//! taken out of the wheel when a key is deleted or persisted.
//!
//! Promise: every key with an expiry has an item that fires at or before it (at most one tick late);
//! and however many items share a place (a million sessions of one length do), no call moves more
//! than a few thousand of them.

mod place;

use self::place::{Pile, Place};
use crate::slot::Slot;

/// Milliseconds of one tick of the finest wheel.
const TICK_MS: i64 = 8;
const WHEEL_BITS: u32 = 6;
const WHEEL_SLOTS: usize = 1 << WHEEL_BITS;
/// Six wheels of 64 ticks reach 17 years; what lies further is put at the end and armed again then.
const WHEELS: usize = 6;
/// Items that one call moves from a coarse wheel to a finer one.
const MOVES_PER_CALL: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    hash: u64,
    /// Tick << 14 | slot.
    tick_and_slot: u64,
}

impl Item {
    fn tick(self) -> u64 {
        self.tick_and_slot >> 14
    }

    fn slot(self) -> Slot {
        Slot::new((self.tick_and_slot & 0x3fff) as u16).expect("14 bits are a slot")
    }
}

/// What [`ExpiryWheel::pop_due`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Popped {
    /// The key of this slot and hash may have expired.
    Due(Slot, u64),
    /// There is more to do, but this call has done enough.
    Later,
    /// Everything that is due has been handed out.
    Nothing,
}

/// The items of one database, by when they are due.
pub struct ExpiryWheel {
    /// Every item of an earlier tick has been moved to `due`.
    now: u64,
    wheels: Vec<Place>,
    /// Bit i of word w: place i of wheel w has items.
    occupied: [u64; WHEELS],
    /// Items on their way from a coarse wheel to a finer one.
    moving: Pile,
    due: Pile,
}

impl ExpiryWheel {
    /// An empty wheel; `now_ms` is unix time.
    pub fn new(now_ms: i64) -> Self {
        Self {
            now: tick_of(now_ms),
            wheels: Vec::new(),
            occupied: [0; WHEELS],
            moving: Pile::default(),
            due: Pile::default(),
        }
    }

    /// Makes an item fire at `at_ms` (unix time).
    pub fn arm(&mut self, slot: Slot, hash: u64, at_ms: i64) {
        // Rounded up, so that the key has expired when its item fires.
        let tick = tick_of(at_ms.saturating_add(TICK_MS - 1)).min((1 << 50) - 1);
        self.place(Item { hash, tick_and_slot: tick << 14 | u64::from(slot.get()) });
    }

    fn place(&mut self, item: Item) {
        if item.tick() <= self.now {
            self.due.push(item);
            return;
        }
        if self.wheels.is_empty() {
            self.wheels.resize_with(WHEELS * WHEEL_SLOTS, Place::default);
        }
        // The highest differing bit group says on which wheel the item and `now` part.
        let differing = (item.tick() ^ self.now).ilog2() / WHEEL_BITS;
        let (wheel, at) = if differing as usize >= WHEELS {
            // On the other side of a multiple of the reach, and perhaps near for all that (the next such
            // time is in 2039); or beyond the reach: then as far ahead as the last wheel goes.
            let last = WHEELS as u32 - 1;
            let shift = last * WHEEL_BITS;
            let ahead = (item.tick() >> shift) - (self.now >> shift);
            let ahead = ahead.min(WHEEL_SLOTS as u64 - 1);
            (last as usize, ((self.now >> shift) + ahead) as usize % WHEEL_SLOTS)
        } else {
            let shift = differing * WHEEL_BITS;
            (differing as usize, (item.tick() >> shift) as usize % WHEEL_SLOTS)
        };
        self.occupied[wheel] |= 1 << at;
        self.wheels[wheel * WHEEL_SLOTS + at].push(item);
    }

    /// Whether [`ExpiryWheel::pop_due`] has anything to do at `now_ms`.
    #[inline]
    pub fn may_be_due(&self, now_ms: i64) -> bool {
        !self.due.is_empty()
            || !self.moving.is_empty()
            || (self.now < tick_of(now_ms) && self.occupied != [0; WHEELS])
    }

    /// Moves an empty wheel on, so that what is armed next need not wade through the time between.
    #[inline]
    pub fn skip_to(&mut self, now_ms: i64) {
        if self.is_empty() {
            self.now = tick_of(now_ms);
        }
    }

    /// Whether there is no item at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.moving.is_empty() && self.occupied == [0; WHEELS]
    }

    /// The next item that is due at `now_ms`. Does a bounded piece of moving between wheels.
    pub fn pop_due(&mut self, now_ms: i64) -> Popped {
        let target = tick_of(now_ms);
        for _ in 0..MOVES_PER_CALL {
            if let Some(item) = self.moving.pop() {
                self.place(item);
            } else if let Some(item) = self.due.pop() {
                return Popped::Due(item.slot(), item.hash);
            } else if self.now < target {
                self.advance(target);
            } else {
                return Popped::Nothing;
            }
        }
        Popped::Later
    }

    /// Frees a few thousand items of a wheel that is not used any more; true when none is left.
    pub fn free_some(&mut self) -> bool {
        if self.due.free_some() && self.moving.free_some() {
            while let Some(place) = self.wheels.last_mut() {
                if !place.free_some() {
                    return false;
                }
                self.wheels.pop();
            }
            return true;
        }
        false
    }

    /// Moves `now` to the next tick with something to do, at most to `target`.
    fn advance(&mut self, target: u64) {
        if self.occupied.iter().all(|word| *word == 0) {
            self.now = target;
            return;
        }
        // The next occupied place of the finest wheel within this turn of it, or its end.
        let place = self.now as usize % WHEEL_SLOTS;
        let ahead = if place + 1 == WHEEL_SLOTS { 0 } else { self.occupied[0] >> (place + 1) };
        let step = if ahead != 0 {
            u64::from(ahead.trailing_zeros()) + 1
        } else {
            (WHEEL_SLOTS - place) as u64
        };
        let next = self.now + step;
        if next > target {
            self.now = target;
            return;
        }
        self.now = next;
        // Entering a new turn of a wheel empties the coarser wheel's place for it, coarsest last.
        for wheel in 1..WHEELS {
            if !self.now.is_multiple_of(1 << (wheel as u32 * WHEEL_BITS)) {
                break;
            }
            self.empty(wheel);
        }
        self.empty(0);
    }

    fn empty(&mut self, wheel: usize) {
        let place = (self.now >> (wheel as u32 * WHEEL_BITS)) as usize % WHEEL_SLOTS;
        if self.occupied[wheel] & (1 << place) == 0 {
            return;
        }
        self.occupied[wheel] &= !(1 << place);
        let items = &mut self.wheels[wheel * WHEEL_SLOTS + place];
        let target = if wheel == 0 { &mut self.due } else { &mut self.moving };
        target.take_all(items);
    }

    /// When something may be due next, unix ms: never later than it is.
    pub fn next_due_ms(&self) -> Option<i64> {
        if !self.due.is_empty() || !self.moving.is_empty() {
            return Some(self.now as i64 * TICK_MS);
        }
        let mut earliest: Option<u64> = None;
        for wheel in 0..WHEELS {
            if self.occupied[wheel] == 0 {
                continue;
            }
            let shift = wheel as u32 * WHEEL_BITS;
            let tick = ((self.now >> shift) + u64::from(self.ahead(wheel))) << shift;
            earliest = Some(earliest.map_or(tick, |e| e.min(tick)));
        }
        earliest.map(|tick| tick as i64 * TICK_MS)
    }

    /// Some item, stale or not, each about as likely as any other; `random` gives uniform 64-bit numbers.
    pub fn sample(&self, random: &mut impl FnMut() -> u64) -> Option<(Slot, u64)> {
        let draw = random() as usize;
        let placed: usize = self.wheels.iter().map(Place::len).sum();
        let item = if placed > 0 {
            let mut left = random() as usize % placed;
            let place = self.wheels.iter().find(|place| {
                let here = left < place.len();
                left -= if here { 0 } else { place.len() };
                here
            });
            place?.sample(draw)
        } else {
            // Only in the middle of a wave of expiries.
            self.moving.sample(draw).or_else(|| self.due.sample(draw))
        }?;
        Some((item.slot(), item.hash))
    }

    /// Takes out one of the items that fire soonest: of the first place that has any, whose items lie the
    /// closer together the nearer they are; also when it would have fired, unix ms. Who does not handle it
    /// arms it again.
    pub fn take_soonest(&mut self) -> Option<(Slot, u64, i64)> {
        let item = self
            .due
            .pop()
            .or_else(|| self.moving.pop())
            .or_else(|| (0..WHEELS).find_map(|wheel| self.take_from_wheel(wheel)))?;
        Some((item.slot(), item.hash, item.tick() as i64 * TICK_MS))
    }

    fn take_from_wheel(&mut self, wheel: usize) -> Option<Item> {
        while self.occupied[wheel] != 0 {
            let at =
                (self.now >> (wheel as u32 * WHEEL_BITS)) as usize + self.ahead(wheel) as usize;
            let at = at % WHEEL_SLOTS;
            let item = self.wheels[wheel * WHEEL_SLOTS + at].pop();
            if item.is_some() {
                return item;
            }
            self.occupied[wheel] &= !(1 << at);
        }
        None
    }

    /// How many places ahead of now the next occupied place of this wheel is; there is one.
    fn ahead(&self, wheel: usize) -> u32 {
        let place = (self.now >> (wheel as u32 * WHEEL_BITS)) as u32 % WHEEL_SLOTS as u32;
        // The place of now itself has been emptied: what is there belongs to the next round.
        match self.occupied[wheel].rotate_right(place) & !1 {
            0 => WHEEL_SLOTS as u32,
            later => later.trailing_zeros(),
        }
    }

    /// Bytes that the wheel holds.
    pub fn allocated_bytes(&self) -> usize {
        let items: usize = self.wheels.iter().map(Place::allocated_bytes).sum();
        items
            + self.moving.allocated_bytes()
            + self.due.allocated_bytes()
            + self.wheels.capacity() * size_of::<Place>()
    }
}

fn tick_of(ms: i64) -> u64 {
    (ms.max(0) / TICK_MS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(wheel: &mut ExpiryWheel, now_ms: i64) -> Vec<u64> {
        let mut fired = Vec::new();
        loop {
            match wheel.pop_due(now_ms) {
                Popped::Due(_, hash) => fired.push(hash),
                Popped::Later => {}
                Popped::Nothing => return fired,
            }
        }
    }

    proptest! {
        #[test]
        fn every_item_fires_once_and_at_most_a_tick_late(
            start in 0_i64..4_000_000_000_000,
            items in prop::collection::vec((0_i64..4_000_000, 0_u32..20), 1..200),
        ) {
            let mut wheel = ExpiryWheel::new(start);
            let slot = Slot::new(77).unwrap();
            let due: Vec<i64> =
                items.iter().map(|(base, shift)| start + (base << shift) / 1000).collect();
            for (number, at) in due.iter().enumerate() {
                wheel.arm(slot, number as u64, *at);
            }
            let mut fired = vec![None; due.len()];
            let mut now = start;
            let mut steps = 0;
            while let Some(next) = wheel.next_due_ms() {
                prop_assert!(next >= now - TICK_MS, "time goes forward");
                let late: Vec<_> = due.iter().zip(&fired)
                    .filter(|(at, fired)| fired.is_none() && **at + 2 * TICK_MS < next).collect();
                prop_assert!(late.is_empty(), "next_due_ms passed {late:?}");
                now = next.max(now);
                for number in drain(&mut wheel, now) {
                    let number = number as usize;
                    prop_assert!(fired[number].is_none(), "fires once");
                    prop_assert!(now >= due[number] - TICK_MS, "not early");
                    fired[number] = Some(now);
                }
                steps += 1;
                prop_assert!(steps < 100_000);
            }
            prop_assert!(fired.iter().all(Option::is_some));
        }
    }

    #[test]
    fn what_lies_beyond_the_reach_is_armed_again_and_not_early_by_much() {
        let mut wheel = ExpiryWheel::new(0);
        wheel.arm(Slot::new(1).unwrap(), 9, i64::MAX);
        assert!(drain(&mut wheel, 1_000_000_000_000).is_empty());
    }

    #[test]
    fn what_lies_beyond_a_multiple_of_the_reach_fires_in_time() {
        // Before, everything behind the next such multiple fired 17 years late.
        let reach_ms = (1_i64 << (WHEELS as u32 * WHEEL_BITS)) * TICK_MS;
        for (before, after) in [(1, 0), (1000, 1000), (100_000_000, 500_000_000)] {
            let mut wheel = ExpiryWheel::new(4 * reach_ms - before);
            wheel.arm(Slot::new(1).unwrap(), 9, 4 * reach_ms + after);
            assert!(wheel.next_due_ms().is_some_and(|next| next <= 4 * reach_ms + after));
            assert!(drain(&mut wheel, 4 * reach_ms + after - TICK_MS).is_empty());
            assert_eq!(drain(&mut wheel, 4 * reach_ms + after + TICK_MS), [9]);
        }
    }

    #[test]
    fn items_are_taken_soonest_first_as_far_as_their_places_tell() {
        let mut wheel = ExpiryWheel::new(1_700_000_000_000);
        let slot = Slot::new(1).unwrap();
        // Each ten times as far ahead as the one before, in an order that is not theirs.
        for number in [4, 0, 7, 2, 6, 1, 5, 3] {
            wheel.arm(slot, number, 1_700_000_000_000 + 100 * 10_i64.pow(number as u32));
        }
        let taken: Vec<u64> =
            std::iter::from_fn(|| wheel.take_soonest()).map(|(_, n, _)| n).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_crowded_place_is_sampled_as_often_as_its_items_are_many() {
        let mut wheel = ExpiryWheel::new(0);
        let slot = Slot::new(1).unwrap();
        (0..900).for_each(|number| wheel.arm(slot, number, 3_600_000));
        (900..1000).for_each(|number| wheel.arm(slot, number, (number as i64 - 890) * 1000));
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 16
        };
        let crowded = (0..10_000).filter(|_| wheel.sample(&mut random).unwrap().1 < 900).count();
        assert!((8700..9300).contains(&crowded), "{crowded} of 10,000, where 9,000 are due");
    }

    #[test]
    fn setting_the_same_key_again_and_again_keeps_the_wheel_small() {
        let mut wheel = ExpiryWheel::new(0);
        for round in 0..1_000_000 {
            wheel.arm(Slot::new(1).unwrap(), round % 10, 3_600_000);
        }
        assert!(wheel.allocated_bytes() < 200_000, "{}", wheel.allocated_bytes());
    }
}
