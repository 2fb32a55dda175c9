//! The replies of one connection, in the order of its commands.
//!
//! A reply that is made on this shard is appended to the output at once, unless an earlier command is
//! still at work on another shard; then it is held back. A reply that comes from elsewhere fills the
//! place that was kept for it.
//!
//! Promise: bytes leave in the order of the commands, each reply whole.

use std::collections::VecDeque;

/// The place of a reply that is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(u32);

/// Replies go on in a new chunk once one is this long: growing one buffer would copy it again and
/// again and hold twice what it needs.
const CHUNK_BYTES: usize = 64 * 1024;

enum Pending {
    /// The reply is being made elsewhere.
    Expected,
    /// The reply is being made elsewhere and nobody wants it (CLIENT REPLY OFF).
    Unwanted,
    /// The reply came before its turn.
    Filled(Box<[u8]>),
    /// This many bytes of `held`.
    Held(usize),
}

/// See the module.
#[derive(Default)]
pub struct ReplyQueue {
    /// In order and ready to go: full chunks, then the one that is being filled.
    full: VecDeque<Vec<u8>>,
    /// Bytes of `full`.
    full_bytes: usize,
    out: Vec<u8>,
    pending: VecDeque<Pending>,
    /// The place of the first of `pending`; places count on and wrap.
    first: u32,
    /// Local replies behind an expected one, one after the other.
    held: Vec<u8>,
    held_start: usize,
    /// Bytes of all [`Pending::Filled`].
    filled: usize,
    /// Somebody's reply will take a while: what is ready is not kept back for it.
    late: bool,
}

/// Replies are kept back for others that come with the next turn, up to so many bytes.
const KEPT_BACK_BYTES_MAX: usize = 16 * 1024;

impl ReplyQueue {
    /// Whether no reply is expected from elsewhere.
    pub fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes that are there: those that are ready, and those that wait for an earlier reply.
    pub fn len(&self) -> usize {
        self.ready_bytes() + self.held.len() - self.held_start + self.filled
    }

    /// Bytes that are ready to be sent.
    pub fn ready_bytes(&self) -> usize {
        self.full_bytes + self.out.len()
    }

    /// Whether no bytes are ready or held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether bytes are to be sent now. What is ready waits for the replies of a batch that is on its way: they
    /// come with the next turn, and sending twice costs more than all else about a crossing command.
    pub fn wants_sending(&self) -> bool {
        let waits = !self.pending.is_empty() && !self.late && self.full.is_empty();
        self.has_output() && !(waits && self.out.len() < KEPT_BACK_BYTES_MAX)
    }

    /// The reply to one of the commands that are under way has to wait for other clients.
    pub fn expect_delay(&mut self) {
        self.late = true;
    }

    /// Whether bytes are ready to be sent.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.full.is_empty()
    }

    /// Where a local reply is to be appended; call [`ReplyQueue::end_local`] with its former length.
    #[inline]
    pub fn local(&mut self) -> &mut Vec<u8> {
        if self.pending.is_empty() {
            ready(&mut self.full, &mut self.full_bytes, &mut self.out)
        } else {
            &mut self.held
        }
    }

    /// Takes back the reply that was appended behind `before` bytes of [`ReplyQueue::local`].
    pub fn drop_local(&mut self, before: usize) {
        self.last_local().truncate(before);
    }

    /// As [`ReplyQueue::drop_local`], and returns the reply, so that something can go before it.
    pub fn take_local(&mut self, before: usize) -> Vec<u8> {
        self.last_local().split_off(before)
    }

    /// What [`ReplyQueue::local`] returned last: it may have begun a new chunk, and now would again.
    fn last_local(&mut self) -> &mut Vec<u8> {
        if self.pending.is_empty() { &mut self.out } else { &mut self.held }
    }

    /// A local reply was appended to [`ReplyQueue::local`], which had `before` bytes.
    #[inline]
    pub fn end_local(&mut self, before: usize) {
        if self.pending.is_empty() {
            return;
        }
        let length = self.held.len() - before;
        match self.pending.back_mut() {
            Some(Pending::Held(last)) => *last += length,
            _ => self.pending.push_back(Pending::Held(length)),
        }
    }

    /// Keeps the next place for a reply from elsewhere.
    pub fn expect(&mut self, wanted: bool) -> Place {
        let place = Place(self.first.wrapping_add(self.pending.len() as u32));
        self.pending.push_back(if wanted { Pending::Expected } else { Pending::Unwanted });
        place
    }

    /// The reply for `place` has come.
    pub fn fill(&mut self, place: Place, reply: &[u8]) {
        let index = place.0.wrapping_sub(self.first) as usize;
        let Some(pending) = self.pending.get_mut(index) else {
            debug_assert!(false, "a reply came for a place that nobody kept");
            return;
        };
        let wanted = !matches!(pending, Pending::Unwanted);
        if index > 0 {
            let reply = if wanted { reply } else { b"" };
            *pending = Pending::Filled(reply.into());
            self.filled += reply.len();
            return;
        }
        if wanted {
            ready(&mut self.full, &mut self.full_bytes, &mut self.out).extend_from_slice(reply);
        }
        self.pending.pop_front();
        self.first = self.first.wrapping_add(1);
        self.release();
    }

    /// Moves what is in order now to the output.
    fn release(&mut self) {
        loop {
            match self.pending.front() {
                Some(Pending::Filled(reply)) => {
                    self.filled -= reply.len();
                    ready(&mut self.full, &mut self.full_bytes, &mut self.out)
                        .extend_from_slice(reply);
                }
                Some(Pending::Held(length)) => {
                    let end = self.held_start + length;
                    let held = &self.held[self.held_start..end];
                    ready(&mut self.full, &mut self.full_bytes, &mut self.out)
                        .extend_from_slice(held);
                    self.held_start = end;
                }
                Some(Pending::Expected | Pending::Unwanted) => return,
                None => {
                    self.late = false;
                    self.held.clear();
                    self.held_start = 0;
                    if self.held.capacity() > 4096 {
                        self.held = Vec::new();
                    }
                    return;
                }
            }
            self.pending.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Takes bytes that are ready, a chunk at a time; empty when there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        match self.full.pop_front() {
            Some(chunk) => {
                self.full_bytes -= chunk.len();
                chunk
            }
            None => std::mem::take(&mut self.out),
        }
    }

    /// Gives a free buffer to write replies into, so that the next reply need not allocate one.
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = buffer();
        }
    }

    /// Bytes allocated for replies.
    pub fn allocated_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(Vec::capacity).sum();
        full + self.out.capacity() + self.held.capacity()
    }

    /// Forgets what is pending and ready (the connection is being cut). Places stay: their replies may come
    /// before the connection is gone.
    pub fn clear(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        for place in &mut pending {
            *place = match place {
                Pending::Expected | Pending::Unwanted => Pending::Unwanted,
                Pending::Filled(_) | Pending::Held(_) => Pending::Held(0),
            };
        }
        *self = Self { first: self.first, pending, ..Self::default() };
    }
}

/// Where bytes go whose turn has come.
#[inline]
fn ready<'q>(
    full: &mut VecDeque<Vec<u8>>,
    full_bytes: &mut usize,
    out: &'q mut Vec<u8>,
) -> &'q mut Vec<u8> {
    if out.len() >= CHUNK_BYTES {
        *full_bytes += out.len();
        full.push_back(std::mem::take(out));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(queue: &mut ReplyQueue, text: &str) {
        let buffer = queue.local();
        let before = buffer.len();
        buffer.extend_from_slice(text.as_bytes());
        queue.end_local(before);
    }

    #[test]
    fn ready_replies_wait_for_those_of_the_next_turn_unless_they_are_many_or_it_is_late() {
        let mut queue = ReplyQueue::default();
        local(&mut queue, "+OK\r\n");
        assert!(queue.wants_sending());
        let place = queue.expect(true);
        assert!(queue.has_output() && !queue.wants_sending());
        queue.fill(place, b"+LATER\r\n");
        assert!(queue.wants_sending());

        let place = queue.expect(true);
        queue.expect_delay();
        assert!(queue.wants_sending(), "what comes late holds nothing up");
        queue.fill(place, b"+LATE\r\n");
        queue.take_output();

        local(&mut queue, &"x".repeat(KEPT_BACK_BYTES_MAX));
        queue.expect(true);
        assert!(queue.wants_sending(), "so much is not kept back");
    }

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_their_commands(
            kinds in prop::collection::vec(any::<bool>(), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
            cut in 0_usize..40,
        ) {
            let mut queue = ReplyQueue::default();
            let (mut expected, mut places, mut got) = (String::new(), Vec::new(), Vec::new());
            for (number, is_local) in kinds.iter().enumerate() {
                let text = format!("<{number}>");
                expected += &text;
                if *is_local {
                    local(&mut queue, &text);
                } else {
                    places.push((queue.expect(true), text));
                }
                if number == cut && !places.is_empty() {
                    let (place, text) = places.remove(order[number].index(places.len()));
                    queue.fill(place, text.as_bytes());
                    got.extend(queue.take_output());
                }
            }
            for pick in order {
                if places.is_empty() {
                    break;
                }
                let (place, text) = places.remove(pick.index(places.len()));
                queue.fill(place, text.as_bytes());
                got.extend(queue.take_output());
            }
            got.extend(queue.take_output());
            prop_assert_eq!(String::from_utf8(got).unwrap(), expected);
            prop_assert!(queue.is_clear() && queue.is_empty());
        }
    }

    #[test]
    fn replies_that_come_after_all_was_forgotten_leave_nothing() {
        let mut queue = ReplyQueue::default();
        let (first, second) = (queue.expect(true), queue.expect(true));
        local(&mut queue, "c");
        queue.fill(second, b"b");
        queue.clear();
        assert_eq!(queue.len(), 0);
        queue.fill(first, b"a");
        assert!(queue.is_clear() && queue.is_empty());
    }

    #[test]
    fn an_unwanted_reply_takes_its_place_and_leaves_nothing() {
        let mut queue = ReplyQueue::default();
        let unwanted = queue.expect(false);
        let wanted = queue.expect(true);
        local(&mut queue, "c");
        queue.fill(wanted, b"b");
        assert_eq!(queue.take_output(), b"");
        queue.fill(unwanted, b"a");
        assert_eq!(queue.take_output(), b"bc");
    }
}
