//! What one shard contributes to a command that asks every shard, or walks over them.

use std::any::Any;

use crate::keyspace::ScanCursor;

/// The answer of one shard; owned, because it crosses a lane.
pub enum Part {
    /// The work is done and there is nothing to say.
    Done,
    /// A number (DBSIZE).
    Count(u64),
    /// Keys (KEYS).
    Keys(Vec<Vec<u8>>),
    /// A weighted candidate (RANDOMKEY): how many keys the shard has, and one of them.
    Candidate(u64, Option<Vec<u8>>),
    /// A stretch of a walk (SCAN).
    Stretch(Stretch),
    /// Anything else; only the command's own merge knows what.
    Other(Box<dyn Any + Send>),
}

impl Part {
    /// The sum of the numbers among `parts`.
    pub fn sum(parts: &[Part]) -> u64 {
        parts.iter().map(|part| if let Part::Count(count) = part { *count } else { 0 }).sum()
    }
}

/// What a walk over the keys has found so far, on one shard or on several.
pub struct Stretch {
    /// Where the walk goes on; `None` at the end of the last shard.
    pub next: Option<ScanCursor>,
    /// Entries that were looked at, those included that have expired.
    pub visited: usize,
    /// How many are to be looked at before the reply goes out.
    pub wanted: usize,
    /// What was found, each as a reply of its own.
    pub elements: Vec<u8>,
    /// How many were found.
    pub length: usize,
}

impl Stretch {
    /// Adds what the walk has found further on.
    pub fn extend(&mut self, further: Stretch) {
        self.next = further.next;
        self.visited += further.visited;
        self.elements.extend_from_slice(&further.elements);
        self.length += further.length;
    }

    /// Where to go on at once, because there is more and not enough has been looked at.
    pub fn goes_on(&self) -> Option<ScanCursor> {
        self.next.filter(|_| self.visited < self.wanted)
    }
}
