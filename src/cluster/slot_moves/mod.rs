//! Slots that move as a whole: from one master to another with all their keys, and no client notices but by MOVED.
//!
//! The source makes a snapshot of the slots, sends it and what is written meanwhile over one connection, lets its
//! writers stand still for the last few records, and asks the target to take the slots. [`export`] is that
//! conversation from the source's side, `importing.rs` from the target's; [`stream`] is what goes over the
//! connection. `exporting.rs` is what the source's node knows of it. A driver owns the socket and the snapshot.
//!
//! Promise: until the target takes the slots, they are the source's in every respect; from then on they are the
//! target's. What the target has before is *staged*: no client sees it, nodes.conf tells of it, and it is deleted
//! whatever becomes of either node, unless the slots are taken.

pub mod export;
mod exporting;
mod importing;
pub mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::machine::Cluster;
use super::node_id::NodeId;
use super::refusal::Refusal;
use super::slot_set::SlotSet;
use crate::resp::Reply;

pub use exporting::{Order, Standing};
pub(super) use importing::slots_to_stage;

use importing::Import;

/// Moves that are over and still told of (Valkey 9.0 `valkey.conf`, cluster-slot-migration-log-max-len).
const LOG_LENGTH_MAX: usize = 1000;

/// The name of a move, in the form of a node's id.
pub type MoveName = NodeId;

/// Which end of a move this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Export,
    Import,
}

/// How far a move is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Others are before it.
    Queued,
    /// The target is asked whether it takes part.
    Connecting,
    /// The keys are on their way.
    Snapshot,
    /// They are there, and what was written meanwhile follows.
    Streaming,
    /// Writers stand still, or are about to.
    Pausing,
    /// The target has been asked to take the slots.
    HandingOver,
    /// As the target sees it: the slots' keys come.
    Receiving,
    /// The slots are the target's.
    Success,
    /// They are still the source's.
    Failed,
    /// So they are because somebody wanted it.
    Cancelled,
}

impl State {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Queued => b"queued",
            Self::Connecting => b"connecting",
            Self::Snapshot => b"snapshotting",
            Self::Streaming => b"streaming",
            Self::Pausing => b"pausing",
            Self::HandingOver => b"handing-over",
            Self::Receiving => b"receiving",
            Self::Success => b"success",
            Self::Failed => b"failed",
            Self::Cancelled => b"cancelled",
        }
    }

    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }
}

/// What is told of a move.
#[derive(Debug)]
struct Move {
    name: MoveName,
    side: Side,
    slots: SlotSet,
    source: NodeId,
    target: NodeId,
    created_ms: u64,
    updated_ms: u64,
    state: State,
    message: String,
    is_cancelled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SlotMoves {
    /// Moves under way, and those that are over.
    log: VecDeque<Move>,
    /// Those that bring slots to here.
    imports: Vec<Import>,
    /// Slots whose keys here are not this node's: not yet, or not any more.
    staged: SlotSet,
}

impl SlotMoves {
    /// See [`super::SlotMap::staged`].
    pub(super) fn staged(&self) -> &SlotSet {
        &self.staged
    }

    fn find(&mut self, name: &MoveName) -> Option<&mut Move> {
        self.log.iter_mut().find(|known| known.name == *name)
    }

    fn is_exported(&self, slot: crate::slot::Slot) -> bool {
        let moves = self.log.iter().filter(|known| known.side == Side::Export);
        moves.filter(|known| !known.state.is_over()).any(|known| known.slots.contains(slot))
    }

    fn note(&mut self, new: Move) {
        self.log.push_back(new);
        while self.log.len() > LOG_LENGTH_MAX
            && let Some(oldest) = self.log.iter().position(|known| known.state.is_over())
        {
            self.log.remove(oldest);
        }
    }

    fn update(&mut self, now_ms: u64, name: &MoveName, state: State, message: &str) {
        if let Some(known) = self.find(name)
            && !known.state.is_over()
        {
            (known.updated_ms, known.state) = (now_ms, state);
            message.clone_into(&mut known.message);
        }
    }
}

impl Cluster {
    /// CLUSTER GETSLOTMIGRATIONS, in the form of Valkey 9.0; the newest move comes first.
    pub(super) fn write_moves(&self, reply: &mut Reply<'_>) {
        reply.array(self.moves.log.len());
        for known in self.moves.log.iter().rev() {
            let ranges: Vec<String> = ranges_of(&known.slots);
            let operation: &[u8] = match known.side {
                Side::Export => b"EXPORT",
                Side::Import => b"IMPORT",
            };
            reply.map(9);
            for (name, value) in [
                (&b"name"[..], &known.name.as_bytes()[..]),
                (b"operation", operation),
                (b"slot_ranges", ranges.join(" ").as_bytes()),
                (b"target_node", known.target.as_bytes()),
                (b"source_node", known.source.as_bytes()),
            ] {
                reply.bulk(name);
                reply.bulk(value);
            }
            for (name, ms) in
                [(&b"create_time"[..], known.created_ms), (b"last_update_time", known.updated_ms)]
            {
                reply.bulk(name);
                reply.integer((ms / 1000) as i64);
            }
            for (name, value) in
                [(&b"state"[..], known.state.name()), (b"message", known.message.as_bytes())]
            {
                reply.bulk(name);
                reply.bulk(value);
            }
        }
    }

    /// CLUSTER CANCELSLOTMIGRATIONS: those that this node is the source of.
    pub(super) fn cancel_moves(&mut self) -> Result<(), Refusal> {
        let now = self.now;
        let is_open = |known: &&mut Move| known.side == Side::Export && !known.state.is_over();
        let mut any = false;
        for known in self.moves.log.iter_mut().filter(is_open) {
            any = true;
            known.is_cancelled = true;
            if known.state == State::Queued {
                (known.state, known.updated_ms) = (State::Cancelled, now);
            }
        }
        if any { Ok(()) } else { Err(Refusal::NoMoves) }
    }
}

/// Ranges as they are told: first and last slot of each.
fn ranges_of(slots: &SlotSet) -> Vec<String> {
    slots.ranges().map(|(first, last)| format!("{}-{}", first.get(), last.get())).collect()
}
