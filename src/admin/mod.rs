//! What the server knows about itself, and how it tells: INFO, SLOWLOG, LATENCY, MEMORY STATS.
//!
//! Each shard counts for itself in a [`stats::ShardStats`]; nothing is shared. A command about all
//! shards has two halves: `part`, which runs on every shard and copies out what is asked for, and
//! `merge`, which runs where the connection lives and writes the reply.

pub mod facts;
pub mod info;
pub mod latency;
mod latency_counts;
pub mod latency_report;
pub mod memory_report;
pub mod rates;
pub mod slot_usage;
pub mod slowlog;
pub mod stats;

use std::any::Any;

use crate::command::Part;

/// The parts of all shards in the type that the command's `part` made. A part of another type is
/// a mistake of ours, and left out.
fn unpack<T: Any>(parts: Vec<Part>) -> impl Iterator<Item = T> {
    parts.into_iter().filter_map(|part| match part {
        Part::Other(any) => {
            let part = any.downcast::<T>();
            debug_assert!(part.is_ok(), "a part and its merge disagree about the type");
            part.ok().map(|part| *part)
        }
        Part::Done | Part::Count(_) | Part::Keys(_) | Part::Candidate(..) | Part::Stretch(_) => {
            None
        }
    })
}
