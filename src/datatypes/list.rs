//! List: a row of nodes, each a listpack of a few kilobytes (Redis's "quicklist").
//!
//! Why: both ends push and pop in constant time, an element costs 2 or 3 bytes beyond its text,
//! and a snapshot copies whole nodes. The nodes stand in a `VecDeque`, 32 bytes each: 5 M short
//! elements are about 12 000 nodes, so growing the row copies 400 KiB at most, and finding an
//! element by number reads the row and then one node.
//!
//! Promise: no node is empty, and `len` is the sum of their counts; `check()` proves it in tests.

mod node;

use std::collections::{VecDeque, vec_deque};

use self::node::{Node, NodeIter};
pub use self::node::{NodeLimits, NodeView};
use super::listpack::{Element, Listpack, Needle};

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The left one, element number 0.
    Head,
    /// The right one, element number -1.
    Tail,
}

/// A side of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Towards the head.
    Before,
    /// Towards the tail.
    After,
}

/// A sequence of byte strings that is cheap to change at both ends.
#[derive(Clone, Default, Debug)]
pub struct List {
    nodes: VecDeque<Node>,
    len: usize,
    limits: NodeLimits,
}

/// Element number `offset` of node number `node`.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: usize,
    offset: usize,
}

impl List {
    /// An empty list whose nodes keep to `limits`.
    pub fn new(limits: NodeLimits) -> Self {
        Self { nodes: VecDeque::new(), len: 0, limits }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory behind this list, spare room included.
    pub fn memory_bytes(&self) -> usize {
        let row = self.nodes.capacity() * size_of::<Node>();
        size_of::<Self>() + row + self.nodes.iter().map(Node::memory_bytes).sum::<usize>()
    }

    /// Adds an element at `end`.
    pub fn push(&mut self, end: End, text: &[u8]) {
        let node = match end {
            End::Head => self.nodes.front_mut(),
            End::Tail => self.nodes.back_mut(),
        };
        match node {
            Some(node) if node.allows(text.len(), self.limits) => node.push(end, text),
            Some(_) => self.push_node(end, Node::new(text, self.limits, true)),
            None => {
                // Most lists are of one node, and a row grows to four at once if left alone.
                self.nodes.reserve_exact(1);
                self.push_node(end, Node::new(text, self.limits, false));
            }
        }
        self.len += 1;
    }

    /// The element at `end`.
    pub fn peek(&self, end: End) -> Option<Element<'_>> {
        match end {
            End::Head => self.nodes.front(),
            End::Tail => self.nodes.back(),
        }?
        .peek(end)
    }

    /// Removes the element at `end`; false if there is none.
    pub fn pop(&mut self, end: End) -> bool {
        let node = match end {
            End::Head => self.nodes.front_mut(),
            End::Tail => self.nodes.back_mut(),
        };
        let Some(node) = node else { return false };
        if node.count() > 1 {
            node.pop(end);
        } else {
            match end {
                End::Head => self.nodes.pop_front(),
                End::Tail => self.nodes.pop_back(),
            };
        }
        self.len -= 1;
        true
    }

    /// Element number `index`; -1 is the last one.
    pub fn get(&self, index: i64) -> Option<Element<'_>> {
        let place = self.locate(self.absolute(index)?)?;
        self.nodes[place.node].get(place.offset)
    }

    /// Puts `text` in the place of element number `index`, -1 being the last one; false if there
    /// is none.
    pub fn set(&mut self, index: i64, text: &[u8]) -> bool {
        let Some(index) = self.absolute(index) else { return false };
        let Some(Place { node, offset }) = self.locate(index) else { return false };
        if !self.nodes[node].replace(offset, text, self.limits) {
            // The new element outgrows the node: it gets a place of its own behind the old one.
            self.insert_at(Place { node, offset: offset + 1 }, text);
            self.remove_range(index, 1);
        }
        true
    }

    /// Adds `text` beside the first element that reads `pivot`; false if there is none.
    pub fn insert(&mut self, pivot: &[u8], side: Side, text: &[u8]) -> bool {
        let needle = Needle::new(pivot);
        let found = self
            .nodes
            .iter()
            .enumerate()
            .find_map(|(node, body)| body.find(needle).map(|offset| Place { node, offset }));
        let Some(Place { node, offset }) = found else { return false };
        match side {
            Side::Before => self.insert_at(Place { node, offset }, text),
            Side::After => self.insert_at(Place { node, offset: offset + 1 }, text),
        }
        true
    }

    /// Removes elements that read `text`: `count` of them from the head, `-count` from the tail
    /// if it is negative, all if it is 0. Returns how many.
    pub fn remove_matching(&mut self, text: &[u8], count: i64) -> usize {
        let needle = Needle::new(text);
        let end = if count < 0 { End::Tail } else { End::Head };
        let limit = match count {
            0 => usize::MAX,
            _ => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        };
        let (mut removed, mut some_empty) = (0, false);
        let (mut from_head, mut from_tail) = (0, self.nodes.len());
        while removed < limit && from_head < from_tail {
            let number = match end {
                End::Head => {
                    from_head += 1;
                    from_head - 1
                }
                End::Tail => {
                    from_tail -= 1;
                    from_tail
                }
            };
            let node = &mut self.nodes[number];
            removed += node.remove_matching(needle, end, limit - removed);
            some_empty |= node.count() == 0;
        }
        if some_empty {
            self.nodes.retain(|node| node.count() > 0);
        }
        self.len -= removed;
        removed
    }

    /// Removes `count` elements from number `start` on, or as many as there are; returns how
    /// many.
    pub fn remove_range(&mut self, start: usize, count: usize) -> usize {
        let count = count.min(self.len.saturating_sub(start));
        let Some(Place { node: first, offset }) = self.locate(start) else { return 0 };
        let mut left = count;
        let mut number = first;
        if offset > 0 {
            let node = &mut self.nodes[number];
            let here = left.min(node.count() - offset);
            node.remove(offset, here);
            left -= here;
            number += 1;
        }
        let whole_from = number;
        while left > 0 && self.nodes[number].count() <= left {
            left -= self.nodes[number].count();
            number += 1;
        }
        if left > 0 {
            self.nodes[number].remove(0, left);
        }
        self.nodes.drain(whole_from..number);
        self.len -= count;
        count
    }

    /// The elements, head to tail.
    pub fn iter(&self) -> Iter<'_> {
        self.walk(End::Head)
    }

    /// The elements, starting at `end`.
    pub fn walk(&self, end: End) -> Iter<'_> {
        Iter { nodes: self.nodes.iter(), node: NodeIter::Plain(None), end, left: self.len }
    }

    /// Up to `count` elements from number `start` on, towards the tail.
    pub fn range(&self, start: usize, count: usize) -> Iter<'_> {
        let count = count.min(self.len.saturating_sub(start));
        let Some(place) = self.locate(start) else { return Iter::empty(&self.nodes) };
        Iter {
            nodes: self.nodes.range(place.node + 1..),
            node: self.nodes[place.node].iter_from(End::Head, place.offset),
            end: End::Head,
            left: count,
        }
    }

    /// Up to `count` elements from number `start` on, towards the head.
    pub fn range_rev(&self, start: usize, count: usize) -> Iter<'_> {
        let Some(place) = self.locate(start) else { return Iter::empty(&self.nodes) };
        Iter {
            nodes: self.nodes.range(..place.node),
            node: self.nodes[place.node].iter_from(End::Tail, place.offset),
            end: End::Tail,
            left: count.min(start + 1),
        }
    }

    /// The nodes, for a snapshot.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeView<'_>> {
        self.nodes.iter().map(Node::view)
    }

    /// The nodes from number `first` on, for a snapshot that goes on where it stopped.
    pub fn nodes_from(&self, first: usize) -> impl ExactSizeIterator<Item = NodeView<'_>> {
        self.nodes.range(first.min(self.nodes.len())..).map(Node::view)
    }

    /// Adds the elements of a listpack at the tail as one node, as a snapshot has it.
    pub fn append_packed(&mut self, listpack: Listpack) {
        if !listpack.is_empty() {
            let node = Node::packed(listpack);
            self.len += node.count();
            self.nodes.push_back(node);
        }
    }

    /// Adds an element at the tail that stands alone, as a snapshot has it.
    pub fn append_plain(&mut self, text: Vec<u8>) {
        self.nodes.push_back(Node::plain(text.into_boxed_slice()));
        self.len += 1;
    }

    /// Frees a part of the list, to let go of a large one in slices; true when nothing is left.
    /// A whole node counts as one element, because it is one call of the allocator.
    pub fn free_slice(&mut self, max_elements: usize) -> bool {
        let kept = self.nodes.len().saturating_sub(max_elements);
        let freed = self.nodes.drain(kept..).map(|node| node.count()).sum::<usize>();
        self.len -= freed;
        self.is_empty()
    }

    /// The number of an element counted from the head, if there is one; -1 is the last.
    fn absolute(&self, index: i64) -> Option<usize> {
        let index = match index {
            0.. => usize::try_from(index).ok()?,
            _ => self.len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
        };
        (index < self.len).then_some(index)
    }

    /// Where element number `index` is. Reads the row of nodes from the nearer end.
    fn locate(&self, index: usize) -> Option<Place> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut offset = index;
            for (node, body) in self.nodes.iter().enumerate() {
                if offset < body.count() {
                    return Some(Place { node, offset });
                }
                offset -= body.count();
            }
        } else {
            let mut behind = self.len - index;
            for (node, body) in self.nodes.iter().enumerate().rev() {
                if behind <= body.count() {
                    return Some(Place { node, offset: body.count() - behind });
                }
                behind -= body.count();
            }
        }
        unreachable!("len is the sum of the counts of the nodes, and the element is below it")
    }

    /// Adds `text` before the element at `place`, whose offset may be the count of its node.
    fn insert_at(&mut self, place: Place, text: &[u8]) {
        let Place { node: number, offset } = place;
        let (len, limits) = (text.len(), self.limits);
        self.len += 1;
        let node = &mut self.nodes[number];
        if node.allows(len, limits) {
            node.insert(offset, text);
        } else if offset == node.count() {
            match self.nodes.get_mut(number + 1) {
                Some(next) if next.allows(len, limits) => next.push(End::Head, text),
                _ => self.nodes.insert(number + 1, Node::new(text, limits, false)),
            }
        } else if offset == 0 {
            match number.checked_sub(1).map(|before| &mut self.nodes[before]) {
                Some(before) if before.allows(len, limits) => before.push(End::Tail, text),
                _ => self.nodes.insert(number, Node::new(text, limits, false)),
            }
        } else {
            self.insert_splitting(place, text);
        }
    }

    /// Splits a full node at `place` to put `text` between the halves.
    fn insert_splitting(&mut self, place: Place, text: &[u8]) {
        let (number, limits) = (place.node, self.limits);
        let mut right = self.nodes[number].split_off(place.offset);
        let left = &mut self.nodes[number];
        if left.allows(text.len(), limits) {
            left.push(End::Tail, text);
        } else if right.allows(text.len(), limits) {
            right.push(End::Head, text);
        } else {
            self.nodes.insert(number + 1, right);
            right = Node::new(text, limits, false);
        }
        self.nodes.insert(number + 1, right);
        // Without this, inserts at one place would leave a trail of ever smaller nodes.
        for left in (number.saturating_sub(1)..=number + 2).rev() {
            self.merge_with_next(left);
        }
    }

    fn merge_with_next(&mut self, number: usize) {
        let Some(next) = self.nodes.remove(number + 1) else { return };
        if !self.nodes[number].absorb(&next, self.limits) {
            self.nodes.insert(number + 1, next);
        }
    }

    fn push_node(&mut self, end: End, node: Node) {
        match end {
            End::Head => self.nodes.push_front(node),
            End::Tail => self.nodes.push_back(node),
        }
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements of a list, in either direction.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    /// The nodes still to come.
    nodes: vec_deque::Iter<'a, Node>,
    /// What is left of the node under way.
    node: NodeIter<'a>,
    /// Where the walk started.
    end: End,
    /// Elements still to give.
    left: usize,
}

impl<'a> Iter<'a> {
    fn empty(nodes: &'a VecDeque<Node>) -> Self {
        Self { nodes: nodes.range(..0), node: NodeIter::Plain(None), end: End::Head, left: 0 }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            if let Some(element) = self.node.next() {
                return Some(element);
            }
            let node = match self.end {
                End::Head => self.nodes.next(),
                End::Tail => self.nodes.next_back(),
            };
            self.node = node?.iter(self.end);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests;
