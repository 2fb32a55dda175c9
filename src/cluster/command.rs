//! CLUSTER as a client says it: words in, a reply and effects out.
//!
//! What a subcommand does stands in `operator.rs` (the node and its cluster), `assignment.rs` (slots), `slot_moves/`
//! (slots that move as a whole) and `report.rs` (what is known). Some may do their work only without keys, which the data cores have: whoever
//! runs a command asks [`slots_in_question`] first, and says which of those slots hold keys.

use super::event::{Effect, LinkId};
use super::machine::Cluster;
use super::manual_failover::FailoverKind;
use super::refusal::Refusal;
use super::slot_moves::slots_to_stage;
use super::slot_set::SlotSet;
use crate::datatypes::number;
use crate::resp::Reply;
use crate::slot::Slot;

/// What is not of the cluster's own knowledge.
pub struct Surroundings<'a> {
    /// Of the [`slots_in_question`], those that hold keys.
    pub kept: &'a SlotSet,
    /// What waits on a link.
    pub queue_of: &'a dyn Fn(LinkId) -> LinkQueue,
}

/// The output of a link that has not been sent yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkQueue {
    /// Bytes of its memory.
    pub allocated_bytes: usize,
    /// Bytes that wait.
    pub used_bytes: usize,
}

/// The slots of which this command must know whether they hold keys. The words begin with the subcommand.
pub fn slots_in_question(words: &[Vec<u8>]) -> SlotSet {
    let Some((subcommand, rest)) = words.split_first() else { return SlotSet::new() };
    match (subcommand.to_ascii_lowercase().as_slice(), rest) {
        (b"setslot", [slot, action, _]) if action.eq_ignore_ascii_case(b"node") => {
            parse_slot(slot).ok().into_iter().collect()
        }
        (b"syncslots", words) => slots_to_stage(words),
        (b"flushslots" | b"replicate" | b"reset", _) => SlotSet::all(),
        _ => SlotSet::new(),
    }
}

/// A slot as an argument.
pub(super) fn parse_slot(word: &[u8]) -> Result<Slot, Refusal> {
    number::parse_slot(word).ok_or(Refusal::BadSlot)
}

/// An argument as it is quoted in an error.
pub(super) fn quoted(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

impl Cluster {
    /// Runs a CLUSTER command. The words begin with the subcommand; `reply` may go out when the effects have
    /// been performed.
    pub fn command(
        &mut self,
        now_ms: u64,
        words: &[Vec<u8>],
        around: &Surroundings<'_>,
        reply: &mut Reply<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Some((subcommand, rest)) = words.split_first() else {
            return Err(Refusal::Unknown(String::new()));
        };
        let name = subcommand.to_ascii_lowercase();
        if self.report(&name, rest, around, reply)? {
            return Ok(());
        }
        self.begin(now_ms);
        let changed = self.change(&name, rest, around, reply);
        self.finish(effects);
        if changed? {
            return Ok(());
        }
        Err(Refusal::Unknown(quoted(subcommand)))
    }

    /// Runs a subcommand that changes something; false if it is none.
    fn change(
        &mut self,
        name: &[u8],
        rest: &[Vec<u8>],
        around: &Surroundings<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<bool, Refusal> {
        match (name, rest) {
            (b"addslots", slots) => self.add_slots(&each_once(slots, |slot| self.is_free(slot))?),
            (b"delslots", slots) => self.del_slots(&each_once(slots, |slot| self.is_owned(slot))?),
            (b"addslotsrange", ranges) => {
                let slots = each_range_once("addslotsrange", ranges, |slot| self.is_free(slot))?;
                self.add_slots(&slots);
            }
            (b"delslotsrange", ranges) => {
                let slots = each_range_once("delslotsrange", ranges, |slot| self.is_owned(slot))?;
                self.del_slots(&slots);
            }
            (b"flushslots", []) => self.flush_slots(around.kept)?,
            (b"setslot", words) => self.set_slot(words, around.kept)?,
            (b"migrate" | b"migrateslots", words) => self.begin_moves(words)?,
            (b"cancelslotmigrations", options) => {
                is_all(options)?;
                self.cancel_moves()?;
            }
            (b"syncslots", words) => {
                self.sync_slots(words, around.kept, reply)?;
                return Ok(true);
            }
            (b"meet", [ip, port]) => self.meet_by_words(ip, port, None)?,
            (b"meet", [ip, port, bus]) => self.meet_by_words(ip, port, Some(bus))?,
            (b"forget", [node]) => self.forget(node)?,
            (b"replicate", [node]) => self.replicate(node, around.kept)?,
            (b"reset", options @ ([] | [_])) => {
                let hard = is_hard(options)?;
                self.reset_without_keys(hard, around.kept)?;
            }
            (b"failover", options @ ([] | [_])) => {
                let kind = failover_kind(options)?;
                self.begin_failover(kind)?;
            }
            (b"saveconfig", []) => self.save_first(),
            (b"set-config-epoch", [epoch]) => self.set_config_epoch(epoch)?,
            (b"bumpepoch", []) => {
                let word = if self.bump_epoch() { "BUMPED" } else { "STILL" };
                reply.simple(&format!("{word} {}", self.my_epoch()));
                return Ok(true);
            }
            _ => return Ok(false),
        }
        reply.ok();
        Ok(true)
    }
}

/// RESET [HARD | SOFT]
fn is_hard(options: &[Vec<u8>]) -> Result<bool, Refusal> {
    match options.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        None | Some(b"soft") => Ok(false),
        Some(b"hard") => Ok(true),
        Some(_) => Err(Refusal::Syntax),
    }
}

/// CANCELSLOTMIGRATIONS [ALL]
fn is_all(options: &[Vec<u8>]) -> Result<(), Refusal> {
    match options {
        [] => Ok(()),
        [word] if word.eq_ignore_ascii_case(b"all") => Ok(()),
        _ => Err(Refusal::Syntax),
    }
}

/// FAILOVER [FORCE | TAKEOVER]
fn failover_kind(options: &[Vec<u8>]) -> Result<FailoverKind, Refusal> {
    match options.first().map(|word| word.to_ascii_lowercase()).as_deref() {
        None => Ok(FailoverKind::Plain),
        Some(b"force") => Ok(FailoverKind::Force),
        Some(b"takeover") => Ok(FailoverKind::Takeover),
        Some(_) => Err(Refusal::Syntax),
    }
}

/// Slots, each fit for what is to be done with it, and named once.
fn each_once(
    words: &[Vec<u8>],
    fits: impl Fn(Slot) -> Result<(), Refusal>,
) -> Result<SlotSet, Refusal> {
    let mut slots = SlotSet::new();
    for word in words {
        insert_once(&mut slots, parse_slot(word)?, &fits)?;
    }
    Ok(slots)
}

/// The same for ranges: pairs of a first and a last slot.
pub(super) fn each_range_once(
    name: &str,
    words: &[Vec<u8>],
    fits: impl Fn(Slot) -> Result<(), Refusal>,
) -> Result<SlotSet, Refusal> {
    let (pairs, odd) = words.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::HalfRange(name.to_owned()));
    }
    let mut slots = SlotSet::new();
    for [first, last] in pairs {
        let (first, last) = (parse_slot(first)?, parse_slot(last)?);
        if first > last {
            return Err(Refusal::RangeReversed(first, last));
        }
        for slot in (first.get()..=last.get()).filter_map(Slot::new) {
            insert_once(&mut slots, slot, &fits)?;
        }
    }
    Ok(slots)
}

fn insert_once(
    slots: &mut SlotSet,
    slot: Slot,
    fits: impl Fn(Slot) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    fits(slot)?;
    if slots.insert(slot) { Ok(()) } else { Err(Refusal::SlotTwice(slot)) }
}
