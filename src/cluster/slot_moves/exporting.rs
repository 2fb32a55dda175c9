//! What the node of the source knows of a move: whether it may begin and go on, and what its end means.

use super::{Move, MoveName, Side, SlotMoves, State};
use crate::cluster::command::each_range_once;
use crate::cluster::event::Effect;
use crate::cluster::machine::Cluster;
use crate::cluster::node_id::NodeId;
use crate::cluster::outgoing::Audience;
use crate::cluster::refusal::Refusal;
use crate::cluster::slot_set::SlotSet;
use crate::cluster::table::{ME, NodeKey};
use crate::slot::Slot;

/// A move that the driver is to carry out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Its name.
    pub name: MoveName,
    /// This node.
    pub source: NodeId,
    /// What moves.
    pub slots: SlotSet,
    /// The address of the target.
    pub ip: String,
    /// Its port for clients.
    pub port: u16,
    /// `cluster-node-timeout`, in milliseconds.
    pub node_timeout_ms: u64,
}

/// Whether a move goes on, as far as the node knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It does.
    Goes,
    /// Somebody has cancelled it.
    Cancelled,
    /// The target has the slots.
    Taken,
    /// It makes no sense any more, and why.
    Lost(&'static str),
}

impl SlotMoves {
    fn order_of(&self, name: &MoveName) -> Option<&Move> {
        self.log.iter().find(|known| known.side == Side::Export && known.name == *name)
    }
}

impl Cluster {
    /// CLUSTER MIGRATE, CLUSTER MIGRATESLOTS: SLOTSRANGE first last [first last …] NODE id, once or several times.
    /// All moves are begun, or none.
    pub(in crate::cluster) fn begin_moves(&mut self, words: &[Vec<u8>]) -> Result<(), Refusal> {
        if !self.i_am_master() {
            return Err(Refusal::MoveOnReplica);
        }
        let mut begun: Vec<(SlotSet, NodeKey)> = Vec::new();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            if !word.eq_ignore_ascii_case(b"slotsrange") {
                return Err(Refusal::Syntax);
            }
            let length = after.iter().position(|word| word.eq_ignore_ascii_case(b"node"));
            let length = length.filter(|length| *length > 0).ok_or(Refusal::Syntax)?;
            let ranges = &after[..length];
            let slots = each_range_once("migrateslots", ranges, |slot| {
                let is_named = begun.iter().any(|(slots, _)| slots.contains(slot));
                if is_named { Err(Refusal::SlotTwice(slot)) } else { self.may_leave(slot) }
            })?;
            let [node, after @ ..] = &after[length + 1..] else { return Err(Refusal::Syntax) };
            let target = self.peer(node, Refusal::UnknownPeer)?;
            if target == ME {
                return Err(Refusal::MoveToMyself);
            }
            begun.push((slots, target));
            rest = after;
        }
        if begun.is_empty() {
            return Err(Refusal::Syntax);
        }
        for (slots, target) in begun {
            self.note_export(slots, target);
        }
        Ok(())
    }

    fn may_leave(&self, slot: Slot) -> Result<(), Refusal> {
        if self.slots.owner(slot) != Some(ME) {
            Err(Refusal::NotOwner(slot))
        } else if self.slots.is_open(slot) || self.moves.is_exported(slot) {
            Err(Refusal::SlotMoves(slot))
        } else {
            Ok(())
        }
    }

    fn note_export(&mut self, slots: SlotSet, target: NodeKey) {
        let new = Move {
            name: self.random.node_id(),
            side: Side::Export,
            slots,
            source: self.my_id(),
            target: self.nodes[target].id,
            created_ms: self.now,
            updated_ms: self.now,
            state: State::Queued,
            message: String::new(),
            is_cancelled: false,
        };
        self.moves.note(new);
    }

    // ---- the driver's side ----

    /// The move that is to be carried out next.
    pub fn next_move(&self) -> Option<Order> {
        let is_due = |known: &&Move| known.side == Side::Export && known.state == State::Queued;
        let known = self.moves.log.iter().find(is_due)?;
        let target = self.nodes.find(&known.target);
        let address = target.map(|key| &self.nodes[key].address);
        let port = address.map(|address| match address.plain_port {
            0 => address.port,
            plain => plain,
        });
        Some(Order {
            name: known.name,
            source: known.source,
            slots: known.slots.clone(),
            ip: address.map(|address| address.ip.as_str().to_owned()).unwrap_or_default(),
            port: port.unwrap_or(0),
            node_timeout_ms: self.settings.node_timeout_ms,
        })
    }

    /// Whether a move goes on.
    pub fn standing_of_move(&self, name: &MoveName) -> Standing {
        let Some(known) = self.moves.order_of(name) else {
            return Standing::Lost("the move is unknown");
        };
        let target = self.nodes.find(&known.target);
        if target.is_some() && known.slots.iter().all(|slot| self.slots.owner(slot) == target) {
            return Standing::Taken;
        }
        if known.is_cancelled {
            return Standing::Cancelled;
        }
        let Some(target) = target else { return Standing::Lost("the target was forgotten") };
        let is_mine = |slot| self.slots.owner(slot) == Some(ME) && !self.slots.is_open(slot);
        if !self.i_am_master() {
            Standing::Lost("the source has become a replica")
        } else if !known.slots.iter().all(is_mine) {
            Standing::Lost("the slots are not the source's any more")
        } else if !self.nodes[target].is_master() {
            Standing::Lost("the target is no master any more")
        } else if self.nodes[target].has_failed() {
            Standing::Lost("the target has failed")
        } else {
            Standing::Goes
        }
    }

    /// How far a move is, for those who ask.
    pub fn note_move(&mut self, now_ms: u64, name: &MoveName, state: State, message: &str) {
        self.moves.update(now_ms, name, state, message);
    }

    /// The highest epoch that this node has seen.
    pub fn highest_epoch(&self) -> u64 {
        self.current_epoch
    }

    /// The target says that it has taken the slots of a move, with this epoch. What it says on the bus
    /// may come later.
    pub fn hand_over(
        &mut self,
        now_ms: u64,
        name: &MoveName,
        epoch: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.begin(now_ms);
        let known = self.moves.order_of(name);
        let known = known.map(|known| (known.target, known.slots.clone()));
        if let Some((target, slots)) = known
            && let Some(target) = self.nodes.find(&target)
        {
            let node = &mut self.nodes[target];
            node.config_epoch = node.config_epoch.max(epoch);
            let mut claimed = node.slots.clone();
            slots.iter().for_each(|slot| {
                claimed.insert(slot);
            });
            self.current_epoch = self.current_epoch.max(epoch);
            self.apply_claim(target, epoch, &claimed);
            self.save_first();
        }
        self.finish(effects);
    }

    /// The target was asked to take slots and has not said whether it has: whatever it did, nobody has heard of it
    /// in time, so the slots stay here. It may have taken the next epoch; this node's is above that.
    pub fn keep_after_all(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        self.current_epoch += 1;
        self.take_next_epoch();
        self.broadcast_pong(Audience::All);
        self.finish(effects);
    }
}
