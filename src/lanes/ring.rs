#![allow(unsafe_code)]
//! A bounded queue from one core to another: one producer, one consumer, no lock.
//!
//! Each side owns its index, on a cache line of its own, and remembers the last value it saw of the
//! other's, so that a push or a pop touches the other core's line only when the queue looks full or
//! empty. `benches/lanes.rs` compares it with crossbeam's `ArrayQueue`, whose slots carry a stamp
//! because it allows many producers.
//!
//! Promise: what is pushed is popped once, in order; a full queue gives the message back.

use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// What the two ends share. The indices count messages since the start and wrap around; their
/// difference is the number of messages inside.
struct Shared<T> {
    /// Messages popped so far; written by the consumer alone.
    head: CachePadded<AtomicUsize>,
    /// Messages pushed so far; written by the producer alone.
    tail: CachePadded<AtomicUsize>,
    /// The place of message `n` is `n & mask`.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
}

// SAFETY: a slot is touched by the producer only while its index is outside head..tail and by the
// consumer only while it is inside; the release store and acquire load of the index in between
// order the two. Messages cross threads, hence `T: Send`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; `Sender` and `Receiver` are the only users and neither can be cloned.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The pushing end of a ring.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The consumer's index as last seen: it can only have grown since.
    head_seen: usize,
}

/// The popping end of a ring.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// The producer's index as last seen: it can only have grown since.
    tail_seen: usize,
}

/// A ring for `capacity` messages (rounded up to a power of two) and its two ends.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        slots,
        mask: capacity - 1,
    });
    let sender = Sender { shared: shared.clone(), tail: 0, head_seen: 0 };
    (sender, Receiver { shared, head: 0, tail_seen: 0 })
}

impl<T: Send> Sender<T> {
    /// Appends `message`, or gives it back if the ring is full.
    #[inline]
    pub fn try_push(&mut self, message: T) -> Result<(), T> {
        if self.looks_full() {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            if self.looks_full() {
                return Err(message);
            }
        }
        self.shared.slots[self.tail & self.shared.mask].with_mut(|slot| {
            // SAFETY: the slot is outside head..tail, so the consumer is done with it (its release
            // store of `head` was seen by our acquire load) and will not look at it before `tail`
            // moves. It holds no message, so overwriting it drops nothing.
            unsafe { (*slot).write(message) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    fn looks_full(&self) -> bool {
        self.tail.wrapping_sub(self.head_seen) > self.shared.mask
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        let message = self.shared.slots[self.head & self.shared.mask].with_mut(|slot| {
            // SAFETY: the slot is inside head..tail, so the producer wrote it (its release store of
            // `tail` was seen by our acquire load) and will not touch it before `head` moves. It is
            // read once: `head` moves past it now.
            unsafe { (*slot).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        self.shared.head.store(self.head, Ordering::Release);
        Some(message)
    }

    /// Whether there is nothing to pop. Looks at the producer's index, not at the remembered one:
    /// this is the check between announcing sleep and sleeping.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail_seen && self.head == self.shared.tail.load(Ordering::Acquire)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Acquire);
        let mut head = self.head.load(Ordering::Acquire);
        while head != tail {
            self.slots[head & self.mask].with_mut(|slot| {
                // SAFETY: both ends are gone, and what lies in head..tail was pushed and not popped.
                unsafe { (*slot).assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{collections::VecDeque, thread};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ring_behaves_as_a_bounded_queue(capacity in 1usize..9, steps in proptest::collection::vec(any::<bool>(), 0..200)) {
            let (mut sender, mut receiver) = channel(capacity);
            let mut model = VecDeque::new();
            for (number, push) in steps.into_iter().enumerate() {
                if push {
                    let expected = if model.len() < capacity.next_power_of_two() {
                        model.push_back(number);
                        Ok(())
                    } else {
                        Err(number)
                    };
                    prop_assert_eq!(sender.try_push(number), expected);
                } else {
                    prop_assert_eq!(receiver.pop(), model.pop_front());
                }
                prop_assert_eq!(receiver.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn every_message_crosses_threads_once_and_in_order() {
        let (mut sender, mut receiver) = channel(8);
        let producer = thread::spawn(move || {
            for number in 0..100_000u64 {
                while sender.try_push(number).is_err() {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..100_000 {
            let got = loop {
                match receiver.pop() {
                    Some(number) => break number,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, expected);
        }
        producer.join().unwrap();
        assert!(receiver.is_empty());
    }

    #[test]
    fn messages_left_inside_are_dropped_with_the_ring() {
        // A `Send` message that counts: the count is looked at after both ends are gone.
        struct Counted(#[expect(dead_code, reason = "held for its drop")] std::sync::Arc<()>);
        let alive = std::sync::Arc::new(());
        let (mut sender, mut receiver) = channel(4);
        for _ in 0..3 {
            assert!(sender.try_push(Counted(alive.clone())).is_ok());
        }
        drop(receiver.pop());
        assert_eq!(std::sync::Arc::strong_count(&alive), 3);
        drop((sender, receiver));
        assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    }
}
