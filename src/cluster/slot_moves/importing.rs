//! A move as its target sees it: what the source says on its connection, by CLUSTER SYNCSLOTS.
//!
//! ESTABLISH stages the slots: from then on the connection may write their keys, and no client sees them. READY asks
//! whether all has come, TAKE makes the slots this node's. Between the two only so much time may pass as
//! the source gives: later it may have let its writers go on.
//!
//! Promise: what was staged and is not taken is deleted. nodes.conf tells which slots are staged before the first
//! key comes, so that a node that falls deletes them when it is back; and so does the replication stream (STAGED), for a
//! replica that is promoted.

use super::{Move, MoveName, Side, State, ranges_of};
use crate::cluster::command::each_range_once;
use crate::cluster::event::Effect;
use crate::cluster::machine::Cluster;
use crate::cluster::node_id::NodeId;
use crate::cluster::nodes_conf::read_range;
use crate::cluster::outgoing::Audience;
use crate::cluster::refusal::Refusal;
use crate::cluster::slot_set::SlotSet;
use crate::cluster::table::ME;
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;
use crate::slot::Slot;

/// Slots are staged no longer without a word from the source, in milliseconds (Redis 7.0 waits as long for a
/// replica: `repl-timeout`).
const SILENCE_MS_MAX: u64 = 60_000;

/// What replicas are told instead of ranges, if there are none.
const NONE_STAGED: &str = "none";

/// Slots on their way to here.
#[derive(Debug)]
pub(super) struct Import {
    name: MoveName,
    source: NodeId,
    slots: SlotSet,
    /// When the source was last heard.
    heard_ms: u64,
    /// Until when the slots may be taken.
    may_take_until: Option<u64>,
}

/// The slots of ESTABLISH, as far as they are some: keys in them have to be gone.
pub(in crate::cluster) fn slots_to_stage(words: &[Vec<u8>]) -> SlotSet {
    match words {
        [verb, _, _, ranges @ ..] if verb.eq_ignore_ascii_case(b"establish") => {
            each_range_once("syncslots", ranges, |_| Ok(())).unwrap_or_default()
        }
        _ => SlotSet::new(),
    }
}

impl Cluster {
    /// CLUSTER SYNCSLOTS ESTABLISH name source first last [first last …] | PING name | READY name milliseconds |
    /// TAKE name epoch; and STAGED ranges, as a master says it to its replicas
    pub(in crate::cluster) fn sync_slots(
        &mut self,
        words: &[Vec<u8>],
        kept: &SlotSet,
        reply: &mut Reply<'_>,
    ) -> Result<(), Refusal> {
        let [verb, name, rest @ ..] = words else { return Err(Refusal::Syntax) };
        if verb.eq_ignore_ascii_case(b"staged") {
            self.note_staged(name)?;
            reply.ok();
            return Ok(());
        }
        let name = MoveName::parse(name).ok_or(Refusal::UnknownMove)?;
        let number = |word: &[u8]| parse_i64(word).and_then(|number| u64::try_from(number).ok());
        match (verb.to_ascii_lowercase().as_slice(), rest) {
            (b"establish", [source, ranges @ ..]) => self.stage(name, source, ranges, kept)?,
            (b"ping", []) => _ = self.import(&name)?,
            (b"ready", [ms]) => {
                let until = self.now + number(ms).ok_or(Refusal::NotInteger)?;
                self.import(&name)?.may_take_until = Some(until);
            }
            (b"take", [epoch]) => {
                let epoch = self.take(&name, number(epoch).ok_or(Refusal::NotInteger)?)?;
                reply.integer(epoch as i64);
                return Ok(());
            }
            _ => return Err(Refusal::Syntax),
        }
        reply.ok();
        Ok(())
    }

    fn import(&mut self, name: &MoveName) -> Result<&mut Import, Refusal> {
        let now = self.now;
        let import = self.moves.imports.iter_mut().find(|import| import.name == *name);
        let import = import.ok_or(Refusal::UnknownMove)?;
        import.heard_ms = now;
        Ok(import)
    }

    fn stage(
        &mut self,
        name: MoveName,
        source: &[u8],
        ranges: &[Vec<u8>],
        kept: &SlotSet,
    ) -> Result<(), Refusal> {
        if !self.i_am_master() {
            return Err(Refusal::MoveOnReplica);
        }
        let owner = self.peer(source, Refusal::UnknownPeer)?;
        let slots = each_range_once("syncslots", ranges, |slot| {
            if self.slots.owner(slot) != Some(owner) || owner == ME {
                Err(Refusal::NotSources(slot))
            } else if self.slots.is_open(slot) || self.is_coming(slot) {
                Err(Refusal::SlotMoves(slot))
            } else if kept.contains(slot) {
                Err(Refusal::SlotKeepsKeys(slot))
            } else {
                Ok(())
            }
        })?;
        if slots.is_empty() || self.moves.find(&name).is_some() {
            return Err(Refusal::Syntax);
        }
        slots.iter().for_each(|slot| {
            self.moves.staged.insert(slot);
        });
        let (source, now) = (self.nodes[owner].id, self.now);
        let target = self.my_id();
        self.moves.note(Move {
            name,
            side: Side::Import,
            slots: slots.clone(),
            source,
            target,
            created_ms: now,
            updated_ms: now,
            state: State::Receiving,
            message: String::new(),
            is_cancelled: false,
        });
        let import = Import { name, source, slots, heard_ms: now, may_take_until: None };
        self.moves.imports.push(import);
        self.tell_replicas();
        self.todo.slot_map = true;
        self.save_first();
        Ok(())
    }

    fn tell_replicas(&mut self) {
        self.out.push(Effect::Staged(self.staged_text()));
    }

    /// Whether there are staged slots.
    pub fn has_staged(&self) -> bool {
        !self.moves.staged.is_empty()
    }

    /// Which slots are staged, as replicas are told, see [`Effect::Staged`].
    pub fn staged_text(&self) -> String {
        match self.moves.staged.is_empty() {
            true => NONE_STAGED.to_owned(),
            false => ranges_of(&self.moves.staged).join(","),
        }
    }

    /// The master of this node says which slots are staged there, and so here.
    fn note_staged(&mut self, text: &[u8]) -> Result<(), Refusal> {
        if self.i_am_master() {
            return Err(Refusal::StagedOnMaster);
        }
        let mut staged = SlotSet::new();
        let text = str::from_utf8(text).map_err(|_| Refusal::Syntax)?;
        if text != NONE_STAGED {
            let mut ranges = text.split(',');
            ranges
                .try_for_each(|range| read_range(range, &mut staged))
                .map_err(|_| Refusal::Syntax)?;
        }
        self.moves.staged = staged;
        self.todo.slot_map = true;
        self.save();
        Ok(())
    }

    /// These slots are another node's, and their keys here are to be deleted. Whoever restarts or takes over before
    /// that is done has to know.
    pub(in crate::cluster) fn stage_lost(&mut self, lost: &SlotSet) {
        if lost.is_empty() {
            return;
        }
        for slot in lost.iter() {
            self.todo.delete.insert(slot);
            self.moves.staged.insert(slot);
        }
        self.tell_replicas();
        self.todo.slot_map = true;
        self.save();
    }

    /// This node is a master from now on: what is staged came to its master, and has lost its connection.
    pub(in crate::cluster) fn drop_staged(&mut self) {
        for slot in self.moves.staged.iter() {
            self.todo.delete.insert(slot);
        }
    }

    /// This node is a replica from now on, and its data is another node's.
    pub(in crate::cluster) fn forget_staged(&mut self) {
        self.moves.staged = SlotSet::new();
        self.todo.slot_map = true;
    }

    fn is_coming(&self, slot: Slot) -> bool {
        self.moves.imports.iter().any(|import| import.slots.contains(slot))
    }

    /// Slots whose keys come over connections of their sources.
    pub(in crate::cluster) fn coming_slots(&self) -> SlotSet {
        self.moves.imports.iter().flat_map(|import| import.slots.iter()).collect()
    }

    /// The slots are this node's from now on, in an epoch above all that either end has seen. As at the end of
    /// SETSLOT, nobody is asked: two nodes that take slots at the same time settle by their epochs.
    fn take(&mut self, name: &MoveName, epoch_of_source: u64) -> Result<u64, Refusal> {
        let now = self.now;
        if self.import(name)?.may_take_until.is_none_or(|until| now > until) {
            return Err(Refusal::MoveIsLate);
        }
        let at = self.moves.imports.iter().position(|import| import.name == *name);
        let import = self.moves.imports.remove(at.ok_or(Refusal::UnknownMove)?);
        self.current_epoch = self.current_epoch.max(epoch_of_source);
        self.take_next_epoch();
        self.assign_all(&import.slots, ME);
        self.moves.update(now, name, State::Success, "");
        self.tell_replicas();
        self.broadcast_pong(Audience::All);
        Ok(self.current_epoch)
    }

    /// The connection of a move is gone: what it has brought is deleted, unless the slots were taken.
    pub fn import_lost(&mut self, now_ms: u64, name: &MoveName, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        self.drop_imports("the source has gone", |import, _| import.name == *name);
        self.finish(effects);
    }

    /// Imports that have lost their sense: the source is silent, or the slots are not its any more.
    pub(in crate::cluster) fn drop_stale_imports(&mut self) {
        if self.moves.imports.is_empty() {
            return;
        }
        self.drop_imports("the slots are not the source's any more", |import, cluster| {
            let source = cluster.nodes.find(&import.source);
            let is_sources = |slot| source.is_some() && cluster.slots.owner(slot) == source;
            !cluster.i_am_master() || !import.slots.iter().all(is_sources)
        });
        self.drop_imports("the source is silent", |import, cluster| {
            cluster.now.saturating_sub(import.heard_ms) > SILENCE_MS_MAX
        });
    }

    fn drop_imports(&mut self, why: &str, is_over: impl Fn(&Import, &Self) -> bool) {
        let imports = std::mem::take(&mut self.moves.imports);
        let (over, kept): (Vec<_>, Vec<_>) =
            imports.into_iter().partition(|import| is_over(import, self));
        self.moves.imports = kept;
        for import in over {
            self.moves.update(self.now, &import.name, State::Failed, why);
            // A replica gets its master's data anyway.
            for slot in import.slots.iter().filter(|slot| self.moves.staged.contains(*slot)) {
                self.todo.delete.insert(slot);
            }
            self.todo.slot_map = true;
        }
    }

    /// Keys here in this slot are this node's by right: it owns the slot, or takes it key by key.
    pub(in crate::cluster) fn unstage(&mut self, slot: Slot) {
        if self.moves.staged.remove(slot) {
            self.todo.slot_map = true;
            self.save();
        }
    }

    /// What nodes.conf says was staged.
    pub(in crate::cluster) fn restore_staged(&mut self, staged: &SlotSet) {
        let is_mine = |slot: &Slot| self.slots.owner(*slot) == Some(ME);
        self.moves.staged = staged.iter().filter(|slot| !is_mine(slot)).collect();
    }
}
