//! The stream type: entries of fields and values in the order of their ids, and the groups that read
//! them.
//!
//! Entries lie in nodes of Redis's layout ([`node`]), so that RDB files and DUMP payloads take them as
//! they are. Redis finds a node by a radix tree; an ordered map of first ids does the same with less code,
//! and what XINFO tells of the radix tree follows from the ids.
//!
//! Promise: ids grow from live entry to live entry and from node to node; [`Counters`] agree with the nodes; a
//! pending entry is in the list of one consumer ([`group`]). An empty stream is a value like any other.

pub mod counters;
pub mod group;
pub mod id;
pub mod load;
mod node;
mod nodes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use self::counters::Counters;
pub use self::group::{Consumer, ConsumerNumber, Group, Pending};
pub use self::id::{NewId, StreamId};
pub use self::load::{BadStream, StreamLoader};
pub use self::node::{Entry, Fields, NODE_BYTES_MAX, NodeLimits};
use self::nodes::Nodes;
pub use self::nodes::{Range, RangeRev};
use super::listpack::Listpack;

/// Why an entry cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The id is not above the last one.
    NotGreater,
    /// No higher id exists.
    Exhausted,
    /// The texts do not fit a node.
    TooLarge,
}

/// What XTRIM keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrimTo {
    /// The newest entries, so many.
    Len(u64),
    /// The entries from this id on.
    MinId(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// What stays.
    pub to: TrimTo,
    /// Only whole nodes go, and more than asked for may stay.
    pub approximate: bool,
    /// Entries that may go at most; 0 for no limit.
    pub entries_max: u64,
}

/// The entries of a stream while one of its groups is being changed.
#[derive(Clone, Copy)]
pub struct Entries<'s>(&'s Nodes);

impl<'s> Entries<'s> {
    /// The entry of this id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'s>> {
        self.0.get(id)
    }
}

/// What a group is given to read.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// Entries above this id.
    pub after: StreamId,
    /// At most so many.
    pub entries_max: usize,
    /// Who reads.
    pub consumer: ConsumerNumber,
    /// The entries need no acknowledgement, so they do not become pending.
    pub no_acknowledgement: bool,
    /// The time, unix ms.
    pub now_ms: i64,
}

/// Entries in the order of their ids, and groups.
#[derive(Clone, Default)]
pub struct Stream {
    nodes: Nodes,
    counters: Counters,
    groups: BTreeMap<Box<[u8]>, Group>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:?}, {} groups)", self.counters, self.groups.len())
    }
}

impl Stream {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.counters.len as usize
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The figures of the stream.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    // ---- adding ----

    /// The id that a new entry gets.
    pub fn next_id(&self, wanted: NewId, now_ms: i64) -> Result<StreamId, AppendError> {
        let last = self.counters.last_id;
        if last == StreamId::MAX {
            return Err(AppendError::Exhausted);
        }
        let id = match wanted {
            NewId::Exact(id) => id,
            NewId::AutoSeq(ms) if ms == last.ms => {
                StreamId::new(ms, last.seq.checked_add(1).ok_or(AppendError::NotGreater)?)
            }
            NewId::AutoSeq(ms) => StreamId::new(ms, 0),
            NewId::Auto if now_ms as u64 > last.ms => StreamId::new(now_ms as u64, 0),
            NewId::Auto => last.next().ok_or(AppendError::Exhausted)?,
        };
        if id > last { Ok(id) } else { Err(AppendError::NotGreater) }
    }

    /// Adds an entry and says its id. `texts` are fields and values by turns.
    pub fn append(
        &mut self,
        wanted: NewId,
        texts: &[&[u8]],
        limits: &NodeLimits,
        now_ms: i64,
    ) -> Result<StreamId, AppendError> {
        let id = self.next_id(wanted, now_ms)?;
        if texts.iter().map(|text| text.len()).sum::<usize>() > NODE_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        self.nodes.append(id, texts, limits);
        self.counters.len += 1;
        self.counters.entries_added = self.counters.entries_added.wrapping_add(1);
        self.counters.last_id = id;
        if self.counters.len == 1 {
            self.counters.first_id = id;
        }
        Ok(id)
    }

    /// Sets what XSETID sets; the caller has compared it with [`Stream::counters`].
    pub fn set_last_id(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.counters.last_id = last_id;
        if let Some(entries_added) = entries_added {
            self.counters.entries_added = entries_added;
        }
        if let Some(max_deleted_id) = max_deleted_id {
            self.counters.max_deleted_id = max_deleted_id;
        }
    }

    // ---- removing ----

    /// Removes an entry; false if there is none of this id.
    pub fn remove(&mut self, id: StreamId) -> bool {
        if !self.nodes.remove(id) {
            return false;
        }
        self.counters.len -= 1;
        self.counters.max_deleted_id = self.counters.max_deleted_id.max(id);
        if self.counters.len == 0 || id == self.counters.first_id {
            self.find_first();
        }
        true
    }

    /// Removes the oldest entries and says how many. Node by node as Redis does it, so that replies and
    /// nodes agree also where an approximate trim leaves a choice.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut deleted = 0;
        loop {
            let len = self.counters.len;
            let has_enough = matches!(trim.to, TrimTo::Len(keep) if len <= keep);
            let Some(live) = self.nodes.first_live().filter(|_| !has_enough) else { break };
            if trim.entries_max > 0 && deleted + live > trim.entries_max {
                break;
            }
            let whole = self.nodes.pop_first_if(|live, last_id| match trim.to {
                TrimTo::Len(keep) => len - live >= keep,
                TrimTo::MinId(id) => last_id < id,
            });
            if let Some(removed) = whole {
                self.counters.len -= removed;
                deleted += removed;
                continue;
            }
            if !trim.approximate {
                let removed = self.trim_first_node(trim.to);
                self.counters.len -= removed;
                deleted += removed;
            }
            break;
        }
        if deleted > 0 {
            self.find_first();
        }
        deleted
    }

    fn trim_first_node(&mut self, to: TrimTo) -> u64 {
        match to {
            TrimTo::MinId(min) => self.nodes.trim_first(|id, _| id >= min),
            TrimTo::Len(keep) => {
                let surplus = self.counters.len.saturating_sub(keep);
                self.nodes.trim_first(|_, trimmed| trimmed >= surplus)
            }
        }
    }

    /// Makes the first live entry the first id.
    fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next();
        self.counters.first_id = first.map_or(StreamId::MIN, |entry| entry.id);
    }

    // ---- reading ----

    /// The entry of this id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.nodes.get(id)
    }

    /// The entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        self.nodes.range(start, end)
    }

    /// The entries from `end` down to `start`, both included.
    pub fn range_rev(&self, start: StreamId, end: StreamId) -> RangeRev<'_> {
        self.nodes.range_rev(start, end)
    }

    /// The id of the last entry; zero if there is none.
    pub fn last_entry_id(&self) -> StreamId {
        let last = self.range_rev(StreamId::MIN, StreamId::MAX).next();
        last.map_or(StreamId::MIN, |entry| entry.id)
    }

    // ---- groups ----

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// The group of this name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// The group of this name, to change.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// The entries, to look up, and the group of this name, to change.
    pub fn entries_and_group(&mut self, name: &[u8]) -> Option<(Entries<'_>, &mut Group)> {
        let group = self.groups.get_mut(name)?;
        Some((Entries(&self.nodes), group))
    }

    /// Adds a group; false if there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), group);
        true
    }

    /// Removes a group.
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.groups.remove(name)
    }

    /// Gives entries to a consumer of a group: visits them and makes them its pending ones. Says how many.
    pub fn deliver(
        &mut self,
        group: &[u8],
        delivery: Delivery,
        mut visit: impl FnMut(Entry<'_>),
    ) -> usize {
        let Some(group) = self.groups.get_mut(group) else { return 0 };
        let Some(start) = delivery.after.next() else { return 0 };
        let mut delivered = 0;
        for entry in self.nodes.range(start, StreamId::MAX).take(delivery.entries_max) {
            let id = entry.id;
            note_read(group, &self.counters, id);
            visit(entry);
            delivered += 1;
            if !delivery.no_acknowledgement {
                let (consumer, delivered_ms) = (delivery.consumer, delivery.now_ms);
                group.assign(id, Pending { delivered_ms, deliveries: 1, consumer });
            }
        }
        delivered
    }

    /// Gives a consumer its pending entries above an id once more, and counts that. An entry that was
    /// removed meanwhile is visited by its id alone. Says how many.
    pub fn deliver_again(
        &mut self,
        group: &[u8],
        delivery: Delivery,
        mut visit: impl FnMut(StreamId, Option<Entry<'_>>),
    ) -> usize {
        let Some(group) = self.groups.get_mut(group) else { return 0 };
        let Some(start) = delivery.after.next() else { return 0 };
        let pending = group.consumer(delivery.consumer).pending(start);
        let ids: Vec<StreamId> = pending.take(delivery.entries_max).collect();
        for &id in &ids {
            let entry = self.nodes.get(id);
            if entry.is_some()
                && let Some(pending) = group.pending_entry_mut(id)
            {
                pending.delivered_ms = delivery.now_ms;
                pending.deliveries = pending.deliveries.wrapping_add(1);
            }
            visit(id, entry);
        }
        ids.len()
    }

    // ---- for snapshots ----

    /// The nodes, each with the id of its first entry.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter().map(|(first, pack)| (*first, pack))
    }

    /// As [`Stream::nodes`], from the one whose first entry has the id `from`, or the next after it.
    pub fn nodes_from(&self, from: StreamId) -> impl Iterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter_from(from).map(|(first, pack)| (*first, pack))
    }

    // ---- figures ----

    /// Nodes of the radix tree that Redis would have for this stream.
    pub fn radix_nodes(&self) -> usize {
        self.nodes.radix_nodes()
    }

    /// How much there is to free: nodes and pending entries.
    pub fn parts(&self) -> usize {
        self.nodes.len() + self.groups.values().map(Group::pending_len).sum::<usize>()
    }

    /// Drops about `max_parts` nodes or pending entries and returns whether none is left.
    pub fn free_slice(&mut self, max_parts: usize) -> bool {
        if !(0..max_parts).all(|_| self.nodes.free_one()) {
            let Some(mut group) = self.groups.first_entry() else { return true };
            if group.get_mut().free_slice(max_parts) {
                group.remove();
            }
        }
        false
    }

    /// Estimated bytes of memory, from the sizes of `samples` nodes (0: of all).
    pub fn memory_usage(&self, samples: usize) -> usize {
        let nodes = self.nodes.iter();
        let sizes = nodes.map(|(_, pack)| size_of::<(StreamId, Listpack)>() + pack.memory_bytes());
        let nodes = super::set::extrapolate(sizes, samples, self.nodes.len());
        let names = self.groups.keys().map(|name| name.len()).sum::<usize>();
        let groups = self.groups.values().map(Group::memory_usage).sum::<usize>();
        size_of::<Self>() + nodes + names + groups
    }
}

/// Notes that `group` was given the entry `id`.
fn note_read(group: &mut Group, counters: &Counters, id: StreamId) {
    if id <= group.last_id {
        return;
    }
    match group.entries_read {
        Some(read) if !counters.has_tombstone_from(id) => {
            group.entries_read = Some(read.wrapping_add(1));
        }
        _ if counters.entries_added > 0 => group.entries_read = counters.entries_up_to(id),
        _ => {}
    }
    group.last_id = id;
}
