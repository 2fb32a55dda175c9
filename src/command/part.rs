//! What one shard contributes to a command that asks every shard.

use std::any::Any;

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
    /// Anything else; only the command's own merge knows what.
    Other(Box<dyn Any + Send>),
}

impl Part {
    /// The sum of the numbers among `parts`.
    pub fn sum(parts: &[Part]) -> u64 {
        parts.iter().map(|part| if let Part::Count(count) = part { *count } else { 0 }).sum()
    }
}
