//! What the commands for each slot cost: time, and bytes of requests and replies (`cluster-slot-stats-enabled`).
//!
//! Plain numbers of one shard, as [`super::stats`]. Whichever shard sees a cost counts it, wherever the slot's keys are;
//! those who ask add up.
//!
//! Promise: 24 bytes a slot, and only where somebody has switched it on.

use crate::command::Command;
use crate::resp::request_bytes;
use crate::slot::{SLOT_COUNT, Slot, slot_of};

/// What the commands for one slot cost since it came here or somebody said CONFIG RESETSTAT.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SlotCost {
    /// Time that they ran, in nanoseconds.
    pub nanos: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies and of messages to subscribers.
    pub bytes_out: u64,
}

impl SlotCost {
    /// Adds what another shard has counted.
    pub fn add(&mut self, other: &Self) {
        self.nanos += other.nanos;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// See the module.
#[derive(Debug)]
pub struct SlotUsage {
    by_slot: Vec<SlotCost>,
    /// Bytes of the next request, if it is an inline one.
    inline: Option<usize>,
}

impl Default for SlotUsage {
    fn default() -> Self {
        Self { by_slot: vec![SlotCost::default(); usize::from(SLOT_COUNT)], inline: None }
    }
}

impl SlotUsage {
    /// What is counted of this slot.
    pub fn of(&self, slot: Slot) -> SlotCost {
        self.by_slot[slot.index()]
    }

    /// To count on what this slot costs.
    pub fn of_mut(&mut self, slot: Slot) -> &mut SlotCost {
        &mut self.by_slot[slot.index()]
    }

    /// Counts anew for the slots that are meant.
    pub fn reset(&mut self, is_meant: impl Fn(Slot) -> bool) {
        for slot in (0..SLOT_COUNT).filter_map(Slot::new).filter(|slot| is_meant(*slot)) {
            self.by_slot[slot.index()] = SlotCost::default();
        }
    }

    /// The next request came as one line of so many bytes.
    pub fn expect_inline(&mut self, bytes: usize) {
        self.inline = Some(bytes);
    }

    /// The bytes of a request with these words.
    pub fn size_of_request(&mut self, words: &[&[u8]]) -> u64 {
        self.inline.take().unwrap_or_else(|| request_bytes(words)) as u64
    }
}

/// The slot that a command is about: that of the first key or shard channel that it names.
pub fn slot_named(command: &Command, words: &[&[u8]]) -> Option<Slot> {
    let mut first = None;
    command.for_each_name(words, |at| _ = first.get_or_insert(at));
    first.map(|at| slot_of(words[at]))
}
