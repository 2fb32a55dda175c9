//! The entries of a stream: its nodes in the order of their first ids, and walks over ranges of ids.

use std::collections::BTreeMap;
use std::collections::btree_map;

use super::id::StreamId;
use super::node::{self, Entry, Node, NodeLimits, Place};
use crate::datatypes::listpack::Listpack;

/// Nodes by the id of their first entry.
#[derive(Clone, Default)]
pub(super) struct Nodes(BTreeMap<StreamId, Listpack>);

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, StreamId, Listpack> {
        self.0.iter()
    }

    /// The nodes whose first id is `from` or above.
    pub(super) fn iter_from(&self, from: StreamId) -> btree_map::Range<'_, StreamId, Listpack> {
        self.0.range(from..)
    }

    /// Adds an entry above all others; `texts` are fields and values by turns.
    pub(super) fn append(&mut self, id: StreamId, texts: &[&[u8]], limits: &NodeLimits) {
        let bytes = texts.iter().map(|text| text.len()).sum();
        if let Some(mut last) = self.0.last_entry() {
            let first = *last.key();
            let pack = last.get_mut();
            if !(Node { first, pack }).is_full(bytes, limits) {
                return node::append(pack, first, id, texts);
            }
            pack.shrink_to_fit();
        }
        self.0.insert(id, node::begin(texts));
    }

    /// Adds a node of foreign origin, which [`node::check`] has accepted and which comes after all
    /// others.
    pub(super) fn push(&mut self, first: StreamId, pack: Listpack) {
        self.0.insert(first, pack);
    }

    /// The node in which the entry of this id is, if it is anywhere.
    fn around(&self, id: StreamId) -> Option<Node<'_>> {
        self.0.range(..=id).next_back().map(|(first, pack)| Node { first: *first, pack })
    }

    /// The live entry of this id.
    pub(super) fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        let node = self.around(id)?;
        node.find(id).map(|place| node.entry(&place))
    }

    /// Removes the live entry of this id; false if there is none.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        let Some(node) = self.around(id) else { return false };
        let Some(place) = node.find(id) else { return false };
        let (first, is_last) = (node.first, node.live() == 1);
        if is_last {
            self.0.remove(&first);
        } else if let Some(pack) = self.0.get_mut(&first) {
            node::mark_deleted(pack, &place);
        }
        true
    }

    /// Removes the first node, if `wanted` says so of its live entries and its last id; the entries
    /// removed.
    pub(super) fn pop_first_if(
        &mut self,
        wanted: impl FnOnce(u64, StreamId) -> bool,
    ) -> Option<u64> {
        let first = self.0.first_entry()?;
        let node = Node { first: *first.key(), pack: first.get() };
        let live = node.live();
        let last_id = node.last_place().map_or(node.first, |place| place.id);
        wanted(live, last_id).then(|| {
            first.remove();
            live
        })
    }

    /// Live entries of the first node.
    pub(super) fn first_live(&self) -> Option<u64> {
        self.0.first_key_value().map(|(first, pack)| Node { first: *first, pack }.live())
    }

    /// Marks entries of the first node as deleted until `stop` says so of an id and the number of those
    /// marked so far, which is the answer.
    pub(super) fn trim_first(&mut self, stop: impl Fn(StreamId, u64) -> bool) -> u64 {
        let Some(mut first) = self.0.first_entry() else { return 0 };
        let id = *first.key();
        node::trim_front(first.get_mut(), id, stop)
    }

    /// Drops the first node; false if there is none.
    pub(super) fn free_one(&mut self) -> bool {
        self.0.pop_first().is_some()
    }

    /// The live entries from `start` to `end`, both included.
    pub(super) fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        Range { nodes: self.nodes_around(start, end), start, end, node: None }
    }

    /// The live entries from `end` down to `start`, both included.
    pub(super) fn range_rev(&self, start: StreamId, end: StreamId) -> RangeRev<'_> {
        RangeRev(self.range(start, end))
    }

    fn nodes_around(&self, start: StreamId, end: StreamId) -> NodeRange<'_> {
        if start > end {
            return NodeRange::default();
        }
        let from = self.around(start).map_or(start, |node| node.first);
        self.0.range(from..=end)
    }

    /// How many nodes the radix tree has in which Redis keeps these nodes, by their 16-byte keys (XINFO
    /// shows it). That tree joins what does not branch, so its shape follows from the keys: a leaf for each,
    /// a node for each branching, and one for the bytes between two of these beyond the first.
    pub(super) fn radix_nodes(&self) -> usize {
        const KEY_BYTES: usize = 16;
        let between = |from: Option<usize>, to: usize| {
            // Behind a branching, its node has the first byte; the root has none.
            let bytes = from.map_or(to, |from| to - from - 1);
            usize::from(bytes > 0)
        };
        let mut ids = self.0.keys().copied();
        let Some(mut previous) = ids.next() else { return 1 };
        // Branchings on the way to the previous key, by the bytes before them.
        let mut path: Vec<usize> = Vec::new();
        let (mut count, mut shared_before) = (0, None);
        for id in ids {
            let shared = shared_bytes(previous, id);
            count += 1 + between(shared_before.max(Some(shared)), KEY_BYTES);
            while let Some(&deepest) = path.last().filter(|deepest| **deepest > shared) {
                path.pop();
                count += 1 + between(path.last().copied().max(Some(shared)), deepest);
            }
            if path.last() != Some(&shared) {
                path.push(shared);
            }
            (previous, shared_before) = (id, Some(shared));
        }
        count += 1 + between(shared_before, KEY_BYTES);
        while let Some(deepest) = path.pop() {
            count += 1 + between(path.last().copied(), deepest);
        }
        count
    }
}

/// Bytes at the beginning of both ids' keys that are the same.
fn shared_bytes(a: StreamId, b: StreamId) -> usize {
    let differing = u128::from_be_bytes(a.to_bytes()) ^ u128::from_be_bytes(b.to_bytes());
    differing.leading_zeros() as usize / 8
}

type NodeRange<'s> = btree_map::Range<'s, StreamId, Listpack>;

/// Live entries in the order of their ids.
#[derive(Clone)]
pub struct Range<'s> {
    nodes: NodeRange<'s>,
    start: StreamId,
    end: StreamId,
    /// The node that is being walked, and where its next entry is.
    node: Option<(Node<'s>, Place)>,
}

impl<'s> Range<'s> {
    /// The entry at hand, after moving on to what `next` finds.
    fn step(
        &mut self,
        next_node: impl FnOnce(&mut NodeRange<'s>) -> Option<Node<'s>>,
        first: impl FnOnce(&Node<'s>) -> Option<Place>,
        next: impl FnOnce(&Node<'s>, &Place) -> Option<Place>,
    ) -> Option<(Node<'s>, Option<Place>)> {
        match self.node.take() {
            Some((node, place)) => {
                self.node = next(&node, &place).map(|next| (node, next));
                Some((node, Some(place)))
            }
            None => {
                let node = next_node(&mut self.nodes)?;
                self.node = first(&node).map(|place| (node, place));
                Some((node, None))
            }
        }
    }
}

impl<'s> Iterator for Range<'s> {
    type Item = Entry<'s>;

    fn next(&mut self) -> Option<Entry<'s>> {
        loop {
            let (node, place) = self.step(
                |nodes| nodes.next().map(|(first, pack)| Node { first: *first, pack }),
                Node::first_place,
                Node::after,
            )?;
            match place {
                Some(place) if place.id > self.end => {
                    (self.node, self.nodes) = (None, NodeRange::default());
                    return None;
                }
                Some(place) if place.id >= self.start && !place.is_deleted() => {
                    return Some(node.entry(&place));
                }
                _ => {}
            }
        }
    }
}

/// Live entries from the highest id down.
#[derive(Clone)]
pub struct RangeRev<'s>(Range<'s>);

impl<'s> Iterator for RangeRev<'s> {
    type Item = Entry<'s>;

    fn next(&mut self) -> Option<Entry<'s>> {
        loop {
            let (node, place) = self.0.step(
                |nodes| nodes.next_back().map(|(first, pack)| Node { first: *first, pack }),
                Node::last_place,
                Node::before,
            )?;
            match place {
                Some(place) if place.id < self.0.start => {
                    (self.0.node, self.0.nodes) = (None, NodeRange::default());
                    return None;
                }
                Some(place) if place.id <= self.0.end && !place.is_deleted() => {
                    return Some(node.entry(&place));
                }
                _ => {}
            }
        }
    }
}
