//! The sending end of a lane: a ring, and an overflow queue for when the ring is full.
//!
//! A full ring must neither block the sender (two cores could wait for each other) nor drop a
//! message (a client waits for its reply). So the message waits here, and the sender stops reading
//! from the connections that feed this lane until [`LaneSender::is_congested`] turns false: the
//! overflow is bounded by what had been read by then.
//!
//! Promise: messages arrive once, in the order they were sent, whether or not they overflowed.

use std::collections::VecDeque;

use super::ring::Sender;

/// The sending end of the lane to one other core.
pub struct LaneSender<T> {
    ring: Sender<T>,
    /// Messages that came after the ring was full. As long as there is one, none may pass it.
    overflow: VecDeque<T>,
    /// Something was pushed into the ring since [`LaneSender::take_pushed`].
    pushed: bool,
}

impl<T: Send> LaneSender<T> {
    /// The lane over this ring.
    pub fn new(ring: Sender<T>) -> Self {
        Self { ring, overflow: VecDeque::new(), pushed: false }
    }

    /// Sends `message`: at once if there is room, else as soon as [`LaneSender::flush`] finds some.
    pub fn send(&mut self, message: T) {
        if !self.overflow.is_empty() {
            self.overflow.push_back(message);
        } else if let Err(message) = self.ring.try_push(message) {
            self.overflow.push_back(message);
        } else {
            self.pushed = true;
        }
    }

    /// Moves as much of the overflow into the ring as fits; to be called every turn.
    pub fn flush(&mut self) {
        while let Some(message) = self.overflow.pop_front() {
            if let Err(message) = self.ring.try_push(message) {
                self.overflow.push_front(message);
                return;
            }
            self.pushed = true;
        }
    }

    /// Whether messages wait for room: stop reading the connections that feed this lane, and do not
    /// sleep without a deadline (nobody rings when a ring gets room again).
    pub fn is_congested(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Whether messages were pushed since this was last asked: then the receiver's doorbell is due
    /// ([`Doorbell::needs_ring`](super::Doorbell::needs_ring)).
    pub fn take_pushed(&mut self) -> bool {
        std::mem::take(&mut self.pushed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{super::ring::channel, *};

    #[test]
    fn a_full_lane_keeps_every_message_and_their_order() {
        let (ring, mut receiver) = channel(4);
        let mut lane = LaneSender::new(ring);
        for number in 0..6 {
            lane.send(number);
        }
        assert!(lane.is_congested());
        assert_eq!(receiver.pop(), Some(0));
        // There is room now, but 4 and 5 are older.
        lane.send(6);
        lane.flush();
        assert!(lane.is_congested(), "room for one of three");
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(std::iter::from_fn(|| receiver.pop()));
            lane.flush();
        }
        assert_eq!(got, [1, 2, 3, 4, 5, 6]);
        assert!(!lane.is_congested());
    }

    #[test]
    fn only_a_push_that_reached_the_ring_asks_for_the_doorbell() {
        let (ring, mut receiver) = channel(1);
        let mut lane = LaneSender::new(ring);
        assert!(!lane.take_pushed());
        lane.send(1);
        assert!(lane.take_pushed());
        lane.send(2);
        lane.flush();
        assert!(!lane.take_pushed(), "the ring is full: nothing new to see for the receiver");
        receiver.pop();
        lane.flush();
        assert!(lane.take_pushed());
    }
}
