//! An ordered list that can be searched by order and by rank: an unrolled skiplist.
//!
//! One module serves the sorted sets (millions of scores) and the slot index of a shard (populated
//! slots by number). A node holds a sorted run of items instead of one, so a search touches about a
//! twentieth of the nodes, and one item costs some 18 bytes where a node per item costs 40. Spans on
//! the links count items, which gives ranks in O(log n). Nodes live in an [`Arena`]: growth never
//! copies the list, and the links are 32-bit addresses.
//!
//! The order is an argument of each call, a closure that tells how an item stands to the one sought:
//! a sorted set compares member bytes that live elsewhere. Promise: as long as all calls mean one
//! order, items are unique and ascending; `check` proves it, and the spans, in tests.

use std::cmp::Ordering;

use super::arena::Arena;
use crate::memory::prefetch;

/// Upper bound of a node's height. With one in four nodes reaching the next level, twelve levels
/// serve 4^12 nodes, far more than there are addresses for their items.
const HEIGHT_MAX: usize = 12;

/// The node before the first one: no items, a link on every level.
const HEAD: u32 = 0;

/// The address of no node.
const NIL: u32 = u32::MAX;

/// Nodes per arena chunk are 64 times this: a chunk of a sorted set is some 27 KB.
const ARENA_WORDS: usize = 1;

/// Unique items in ascending order, up to `CAPACITY` (2 to 255) of them in a node.
#[derive(Clone, Debug)]
pub struct SkipList<T, const CAPACITY: usize> {
    nodes: Arena<Node<T, CAPACITY>, ARENA_WORDS>,
    len: u32,
    tail: u32,
    /// Levels in use, at least 1.
    height: u8,
    random: u64,
}

#[derive(Clone, Debug)]
struct Node<T, const CAPACITY: usize> {
    next: u32,
    previous: u32,
    len: u8,
    /// The links of the levels from 1 up. On level 0 the link is `next` and its span is `len`.
    tower: Box<[Link]>,
    items: [T; CAPACITY],
}

impl<T, const CAPACITY: usize> Node<T, CAPACITY> {
    /// Asks for the items, which a binary search is about to jump around in.
    #[inline]
    fn prefetch(&self) {
        for item in self.items.iter().step_by(const { 64 / size_of::<T>() + 1 }) {
            prefetch(&raw const *item);
        }
    }
}

/// A link to a node further on; `span` items lie from the start of this node to the start of that
/// one, or to the end of the list if there is none.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    span: u32,
}

const NO_LINK: Link = Link { next: NIL, span: 0 };

/// For each level the node whose link leads past the place of interest, and the rank of its start.
struct Path {
    steps: [(u32, u32); HEIGHT_MAX],
}

/// A place between two items of a list, valid until the list changes.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    node: u32,
    index: u32,
    rank: u32,
}

impl Position {
    /// How many items stand before this place.
    pub fn rank(self) -> usize {
        self.rank as usize
    }
}

impl<T: Copy + Default, const CAPACITY: usize> Default for SkipList<T, CAPACITY> {
    fn default() -> Self {
        let random = 0x9e37_79b9_7f4a_7c15;
        Self { nodes: Arena::default(), len: 0, tail: HEAD, height: 1, random }
    }
}

impl<T: Copy + Default, const CAPACITY: usize> SkipList<T, CAPACITY> {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the list takes, within a few percent.
    pub fn memory_bytes(&self) -> usize {
        // A third of a link per node beyond the first level is what one in four comes to.
        self.nodes.memory_bytes() + self.nodes.len() * size_of::<Link>() / 3
    }

    /// Inserts `item`, unless one that `order` calls equal is there. `order` tells how a present
    /// item stands to the new one.
    pub fn insert(&mut self, item: T, order: impl Fn(&T) -> Ordering) -> bool {
        if self.nodes.is_empty() {
            self.create_head();
        }
        let mut path = Path::new();
        let (mut node, mut start) =
            self.descend(|_, first| order(first).is_le(), |level, step| path.steps[level] = step);
        if node == HEAD {
            // Smaller than all: the place is at the front of the first node.
            (node, start) = (self.nodes[HEAD].next, 0);
            if node == NIL {
                node = self.link_new_node(&path, 0);
            }
            path.enter(node, start, self.height_of(node));
        }
        let Err(mut index) = self.nodes[node].items().binary_search_by(&order) else {
            return false;
        };
        if self.nodes[node].len as usize == CAPACITY {
            (node, index) = self.split(node, start, index, &mut path);
        }
        self.nodes[node].insert(index, item);
        for level in 1..self.height as usize {
            self.link_mut(path.steps[level].0, level).span += 1;
        }
        self.len += 1;
        true
    }

    /// Removes the item that `order` calls equal.
    pub fn remove(&mut self, order: impl Fn(&T) -> Ordering) -> Option<T> {
        let mut path = Path::new();
        let (node, start) = self.trace(&mut path, |_, first| order(first).is_lt())?;
        // Either it is inside the last node that starts below it, or it starts the next one.
        let (node, start, index) = match self.nodes[node].items().binary_search_by(&order) {
            Ok(index) => (node, start, index),
            Err(_) => {
                let (next, start) =
                    (self.nodes[node].next, start + u32::from(self.nodes[node].len));
                let found = next != NIL && order(&self.nodes[next].items[0]).is_eq();
                found.then_some((next, start, 0))?
            }
        };
        let item = self.nodes[node].items[index];
        let whole = self.nodes[node].len == 1;
        self.remove_run(&path, node, index, 1);
        if !whole {
            self.merge_if_sparse(&mut path, node, start);
        }
        Some(item)
    }

    /// The item that `order` calls equal.
    pub fn find(&self, order: impl Fn(&T) -> Ordering) -> Option<T> {
        let position = self.position(|item| order(item).is_lt());
        self.iter_from(position).next().filter(|item| order(item).is_eq())
    }

    /// The rank of the item that `order` calls equal, 0 for the first.
    pub fn rank_of(&self, order: impl Fn(&T) -> Ordering) -> Option<usize> {
        let position = self.position(|item| order(item).is_lt());
        let found = self.iter_from(position).next().is_some_and(|item| order(&item).is_eq());
        found.then_some(position.rank())
    }

    /// The item at `rank`, 0 for the first.
    pub fn get(&self, rank: usize) -> Option<T> {
        self.iter_from(self.position_at(rank)).next()
    }

    /// The smallest item.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }

    /// The greatest item.
    pub fn last(&self) -> Option<T> {
        if self.is_empty() { None } else { self.nodes[self.tail].items().last().copied() }
    }

    /// The place behind the last item for which `is_before` holds; it must hold for a prefix.
    pub fn position(&self, is_before: impl Fn(&T) -> bool) -> Position {
        if self.is_empty() {
            return Position { node: NIL, index: 0, rank: 0 };
        }
        let (node, start) = self.descend(|_, first| is_before(first), |_, _| {});
        let index = self.nodes[node].items().partition_point(is_before) as u32;
        Position { node, index, rank: start + index }
    }

    /// The place before the item at `rank`, or the end if there is no such item.
    pub fn position_at(&self, rank: usize) -> Position {
        if self.is_empty() {
            return Position { node: NIL, index: 0, rank: 0 };
        }
        let rank = u32::try_from(rank).unwrap_or(u32::MAX).min(self.len);
        if rank == 0 {
            return Position { node: HEAD, index: 0, rank };
        }
        let (node, start) = self.descend(|start, _| start < rank, |_, _| {});
        Position { node, index: rank - start, rank }
    }

    /// All items, ascending.
    pub fn iter(&self) -> Iter<'_, T, CAPACITY> {
        self.iter_from(self.position_at(0))
    }

    /// The items behind `position`, ascending.
    pub fn iter_from(&self, position: Position) -> Iter<'_, T, CAPACITY> {
        Iter { list: self, node: position.node, index: position.index as usize }
    }

    /// The items before `position`, descending.
    pub fn iter_back_from(&self, position: Position) -> IterBack<'_, T, CAPACITY> {
        IterBack { list: self, node: position.node, index: position.index as usize }
    }

    /// Removes the smallest item.
    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.first()?;
        // Everything before the first node is the head, so no search is needed.
        self.remove_run(&Path::new(), self.nodes[HEAD].next, 0, 1);
        Some(item)
    }

    /// Removes the greatest item.
    pub fn pop_back(&mut self) -> Option<T> {
        let item = self.last()?;
        self.remove_range(self.len() - 1, 1, |_| {});
        Some(item)
    }

    /// Removes up to `count` items from `rank` on, showing each to `removed`. Answers how many.
    pub fn remove_range(&mut self, rank: usize, count: usize, mut removed: impl FnMut(T)) -> usize {
        let total = count.min(self.len().saturating_sub(rank));
        let mut path = Path::new();
        let rank = rank as u32;
        let Some((mut node, mut start)) = self.trace(&mut path, |start, _| start < rank) else {
            return 0;
        };
        let mut index = (rank - start) as usize;
        let mut left = total;
        while left > 0 {
            if index >= self.nodes[node].len as usize {
                start += u32::from(self.nodes[node].len);
                (node, index) = (self.nodes[node].next, 0);
            }
            let next = self.nodes[node].next;
            let run = &self.nodes[node].items()[index..];
            let run_len = run.len().min(left);
            run[..run_len].iter().for_each(|&item| removed(item));
            let whole = run_len == self.nodes[node].len as usize;
            self.remove_run(&path, node, index, run_len);
            left -= run_len;
            if whole {
                // The node is gone, and what follows starts where it did.
                (node, index) = (next, 0);
            } else if left == 0 {
                self.merge_if_sparse(&mut path, node, start);
            }
        }
        total
    }

    /// Removes all items and gives their memory back at once.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Frees the memory of about `items_max` items; true when nothing is left. The list is empty
    /// from the first call on.
    pub fn free_slice(&mut self, items_max: usize) -> bool {
        self.len = 0;
        let done = self.nodes.free_slice(items_max.div_ceil(CAPACITY));
        if done {
            self.clear();
        }
        done
    }

    /// Goes down the levels, on each as far as `advance(start, first item)` of the next node says.
    /// Answers the last node reached and the rank of its start; `leave` hears it for each level.
    #[inline]
    fn descend(
        &self,
        advance: impl Fn(u32, &T) -> bool,
        mut leave: impl FnMut(usize, (u32, u32)),
    ) -> (u32, u32) {
        let (mut node, mut start) = (HEAD, 0);
        // The node that stopped the level above often stops this one too: ask about it once.
        let mut refused = NIL;
        for level in (0..self.height as usize).rev() {
            loop {
                let link = self.link(node, level);
                if link.next == refused || link.next == NIL {
                    break;
                }
                // If this one is too far, the next level's is looked at: fetch both at once.
                if level > 0 {
                    self.nodes.prefetch(self.link(node, level - 1).next);
                }
                if !advance(start + link.span, &self.nodes[link.next].items[0]) {
                    refused = link.next;
                    break;
                }
                (node, start) = (link.next, start + link.span);
            }
            leave(level, (node, start));
        }
        self.nodes[node].prefetch();
        (node, start)
    }

    /// Descends for a removal: `None` if the list is empty.
    fn trace(&self, path: &mut Path, advance: impl Fn(u32, &T) -> bool) -> Option<(u32, u32)> {
        if self.is_empty() {
            return None;
        }
        Some(self.descend(advance, |level, step| path.steps[level] = step))
    }

    fn link(&self, node: u32, level: usize) -> Link {
        let node = &self.nodes[node];
        if level == 0 {
            Link { next: node.next, span: u32::from(node.len) }
        } else {
            node.tower[level - 1]
        }
    }

    fn link_mut(&mut self, node: u32, level: usize) -> &mut Link {
        &mut self.nodes[node].tower[level - 1]
    }

    fn height_of(&self, node: u32) -> usize {
        self.nodes[node].tower.len() + 1
    }

    fn create_head(&mut self) {
        let head = self.nodes.insert(Node::with_height(HEIGHT_MAX));
        assert_eq!(head, HEAD, "the head is the first node of its arena");
    }

    /// A height of at least 1; each further level has one chance in four (xorshift64).
    fn random_height(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random | 1 << 62).trailing_zeros() as usize / 2 + 1).min(HEIGHT_MAX)
    }

    /// Adds an empty node that starts at rank `start`, behind the nodes of `path`.
    fn link_new_node(&mut self, path: &Path, start: u32) -> u32 {
        let height = self.random_height();
        for level in self.height as usize..height {
            *self.link_mut(HEAD, level) = Link { next: NIL, span: self.len };
        }
        self.height = self.height.max(height as u8);
        let new = self.nodes.insert(Node::with_height(height));
        for level in 1..height {
            let (before, before_start) = path.steps[level];
            let link = self.link_mut(before, level);
            let (next, span) = (link.next, link.span);
            *link = Link { next: new, span: start - before_start };
            *self.link_mut(new, level) = Link { next, span: span - (start - before_start) };
        }
        let before = path.steps[0].0;
        let next = std::mem::replace(&mut self.nodes[before].next, new);
        (self.nodes[new].previous, self.nodes[new].next) = (before, next);
        match next {
            NIL => self.tail = new,
            _ => self.nodes[next].previous = new,
        }
        new
    }

    /// Makes room for an item at `index` of the full `node`, and answers where it goes then. At
    /// either end of the list the full node stays full: items that come in order fill all nodes.
    fn split(&mut self, node: u32, start: u32, index: usize, path: &mut Path) -> (u32, usize) {
        let keep = match index {
            end if end == CAPACITY && node == self.tail => CAPACITY,
            0 if self.nodes[HEAD].next == node => 0,
            _ => CAPACITY / 2,
        };
        let new_start = start + keep as u32;
        let new = self.link_new_node(path, new_start);
        let moved = self.nodes[node].items;
        self.nodes[node].len = keep as u8;
        self.nodes[new].append(&moved[keep..]);
        if index < keep || (index == keep && keep < CAPACITY) {
            return (node, index);
        }
        path.enter(new, new_start, self.height_of(new));
        (new, index - keep)
    }

    /// Removes `count` items of `node` from `index` on. `path` leads to the node itself on its
    /// levels if `index` is not 0, else past its predecessors.
    fn remove_run(&mut self, path: &Path, node: u32, index: usize, count: usize) {
        self.nodes[node].remove(index, count);
        let own_levels = if index == 0 { self.height_of(node) } else { 0 };
        for level in 1..self.height as usize {
            let holder = if level < own_levels { node } else { path.steps[level].0 };
            self.link_mut(holder, level).span -= count as u32;
        }
        self.len -= count as u32;
        if self.is_empty() {
            self.clear();
        } else if self.nodes[node].len == 0 {
            self.unlink(path, node);
        }
    }

    /// Takes `node` out, whose predecessors `path` names.
    fn unlink(&mut self, path: &Path, node: u32) {
        let removed = self.nodes.remove(node);
        for (level, link) in (1..).zip(&removed.tower) {
            let before = self.link_mut(path.steps[level].0, level);
            *before = Link { next: link.next, span: before.span + link.span };
        }
        let before = path.steps[0].0;
        self.nodes[before].next = removed.next;
        match removed.next {
            NIL => self.tail = before,
            next => self.nodes[next].previous = before,
        }
    }

    /// Joins `node` with a neighbour if it has become sparse and both fit well in one.
    fn merge_if_sparse(&mut self, path: &mut Path, node: u32, start: u32) {
        let len = self.nodes[node].len as usize;
        if len >= CAPACITY / 4 {
            return;
        }
        let fits = |other: u32| {
            let other_len = self.nodes[other].len as usize;
            other_len > 0 && len + other_len <= CAPACITY * 3 / 4
        };
        let (previous, next) = (self.nodes[node].previous, self.nodes[node].next);
        if next != NIL && fits(next) {
            path.enter(node, start, self.height_of(node));
            self.merge(path, node, next);
        } else if fits(previous) {
            // `path` may end in the node itself; its predecessors take a search of their own.
            self.descend(|next, _| next < start, |level, step| path.steps[level] = step);
            self.merge(path, previous, node);
        }
    }

    /// Moves the items of `node`, whose predecessors `path` names, to the end of the one before it.
    fn merge(&mut self, path: &Path, before: u32, node: u32) {
        let (items, count) = (self.nodes[node].items, self.nodes[node].len as usize);
        self.unlink(path, node);
        self.nodes[before].append(&items[..count]);
    }

    /// Panics unless order, lengths, spans and back links are consistent.
    #[cfg(test)]
    fn check(&self, order: impl Fn(&T, &T) -> Ordering) {
        if self.nodes.is_empty() {
            assert_eq!(self.len, 0);
            return;
        }
        let mut starts = std::collections::HashMap::from([(HEAD, 0_u32), (NIL, self.len)]);
        let (mut node, mut before, mut rank) = (self.nodes[HEAD].next, HEAD, 0);
        while node != NIL {
            assert!(self.nodes[node].len > 0, "a node without items is unlinked");
            assert_eq!(self.nodes[node].previous, before);
            starts.insert(node, rank);
            rank += u32::from(self.nodes[node].len);
            (before, node) = (node, self.nodes[node].next);
        }
        assert_eq!((rank, before), (self.len, self.tail));
        for level in 1..self.height as usize {
            let mut node = HEAD;
            while node != NIL {
                let link = self.link(node, level);
                assert_eq!(starts[&node] + link.span, starts[&link.next], "span on level {level}");
                node = link.next;
            }
        }
        let items: Vec<T> = self.iter().collect();
        assert!(items.windows(2).all(|pair| order(&pair[0], &pair[1]).is_lt()), "ascending");
    }
}

/// The same by the natural order of the items.
impl<T: Copy + Default + Ord, const CAPACITY: usize> SkipList<T, CAPACITY> {
    /// Inserts `item`; false if it is there already.
    pub fn insert_ord(&mut self, item: T) -> bool {
        self.insert(item, |other| other.cmp(&item))
    }

    /// Removes `item`; false if it is not there.
    pub fn remove_ord(&mut self, item: T) -> bool {
        self.remove(|other| other.cmp(&item)).is_some()
    }

    /// Whether `item` is there.
    pub fn contains_ord(&self, item: T) -> bool {
        self.find(|other| other.cmp(&item)).is_some()
    }
}

impl Path {
    fn new() -> Self {
        Self { steps: [(HEAD, 0); HEIGHT_MAX] }
    }

    /// From now on the place of interest is inside `node`, which is `height` levels high.
    fn enter(&mut self, node: u32, start: u32, height: usize) {
        self.steps[..height].fill((node, start));
    }
}

impl<T: Copy + Default, const CAPACITY: usize> Node<T, CAPACITY> {
    fn with_height(height: usize) -> Self {
        Self { tower: vec![NO_LINK; height - 1].into_boxed_slice(), ..Self::default() }
    }

    fn items(&self) -> &[T] {
        &self.items[..self.len as usize]
    }

    fn insert(&mut self, index: usize, item: T) {
        self.items.copy_within(index..self.len as usize, index + 1);
        self.items[index] = item;
        self.len += 1;
    }

    fn remove(&mut self, index: usize, count: usize) {
        self.items.copy_within(index + count..self.len as usize, index);
        self.len -= count as u8;
    }

    fn append(&mut self, items: &[T]) {
        self.items[self.len as usize..][..items.len()].copy_from_slice(items);
        self.len += items.len() as u8;
    }
}

impl<T: Copy + Default, const CAPACITY: usize> Default for Node<T, CAPACITY> {
    fn default() -> Self {
        const { assert!(CAPACITY >= 2 && CAPACITY <= u8::MAX as usize, "a length is one byte") }
        let items = [T::default(); CAPACITY];
        Self { next: NIL, previous: NIL, len: 0, tower: Box::default(), items }
    }
}

/// Ascending iteration, see [`SkipList::iter_from`].
#[derive(Clone, Debug)]
pub struct Iter<'a, T, const CAPACITY: usize> {
    list: &'a SkipList<T, CAPACITY>,
    node: u32,
    index: usize,
}

impl<T: Copy + Default, const CAPACITY: usize> Iterator for Iter<'_, T, CAPACITY> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        while self.node != NIL {
            let node = &self.list.nodes[self.node];
            if let Some(&item) = node.items().get(self.index) {
                self.index += 1;
                return Some(item);
            }
            (self.node, self.index) = (node.next, 0);
        }
        None
    }
}

/// Descending iteration, see [`SkipList::iter_back_from`].
#[derive(Clone, Debug)]
pub struct IterBack<'a, T, const CAPACITY: usize> {
    list: &'a SkipList<T, CAPACITY>,
    node: u32,
    index: usize,
}

impl<T: Copy + Default, const CAPACITY: usize> Iterator for IterBack<'_, T, CAPACITY> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.node == NIL {
            return None;
        }
        if self.index == 0 {
            // Before the first item of a node comes the last of the one before; the head has none.
            self.node = self.list.nodes[self.node].previous;
            if self.node == NIL {
                return None;
            }
            self.index = self.list.nodes[self.node].len as usize;
        }
        self.index = self.index.checked_sub(1)?;
        Some(self.list.nodes[self.node].items[self.index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u16),
        Remove(u16),
        RemoveRange(u16, u8),
        PopFront,
        PopBack,
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let one = prop_oneof![
            12 => (0..600_u16).prop_map(Operation::Insert),
            6 => (0..600_u16).prop_map(Operation::Remove),
            1 => (0..600_u16, 0..60_u8).prop_map(|(rank, count)| Operation::RemoveRange(rank, count)),
            1 => Just(Operation::PopFront),
            1 => Just(Operation::PopBack),
        ];
        proptest::collection::vec(one, 0..800)
    }

    fn apply(list: &mut SkipList<u16, 4>, model: &mut Vec<u16>, operation: &Operation) {
        match *operation {
            Operation::Insert(item) => {
                let place = model.binary_search(&item);
                assert_eq!(list.insert_ord(item), place.is_err());
                if let Err(place) = place {
                    model.insert(place, item);
                }
            }
            Operation::Remove(item) => {
                let place = model.binary_search(&item);
                assert_eq!(list.remove_ord(item), place.is_ok());
                if let Ok(place) = place {
                    model.remove(place);
                }
            }
            Operation::RemoveRange(rank, count) => {
                let start = (rank as usize).min(model.len());
                let end = (start + count as usize).min(model.len());
                let expected: Vec<u16> = model.drain(start..end).collect();
                let mut removed = Vec::new();
                let count = list.remove_range(rank.into(), count.into(), |item| removed.push(item));
                assert_eq!((count, removed), (expected.len(), expected));
            }
            Operation::PopFront => {
                let expected = if model.is_empty() { None } else { Some(model.remove(0)) };
                assert_eq!(list.pop_front(), expected);
            }
            Operation::PopBack => assert_eq!(list.pop_back(), model.pop()),
        }
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_sorted_vector(operations in operations()) {
            let (mut list, mut model) = (SkipList::<u16, 4>::default(), Vec::new());
            for operation in &operations {
                apply(&mut list, &mut model, operation);
            }
            list.check(u16::cmp);
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), model.clone());
            prop_assert_eq!((list.first(), list.last()), (model.first().copied(), model.last().copied()));
            for probe in (0..600).step_by(37) {
                let place = model.binary_search(&probe);
                prop_assert_eq!(list.rank_of(|item| item.cmp(&probe)), place.ok());
                prop_assert_eq!(list.find(|item| item.cmp(&probe)), place.ok().map(|_| probe));
                prop_assert_eq!(list.get(probe.into()), model.get(probe as usize).copied());
                let split = place.unwrap_or_else(|place| place);
                for position in [list.position(|&item| item < probe), list.position_at(split)] {
                    prop_assert_eq!(position.rank(), split);
                    let after: Vec<u16> = list.iter_from(position).collect();
                    let before: Vec<u16> = list.iter_back_from(position).collect();
                    prop_assert_eq!(&after[..], &model[split..]);
                    prop_assert!(before.iter().eq(model[..split].iter().rev()));
                }
            }
        }
    }

    #[test]
    fn items_that_come_in_order_fill_their_nodes() {
        let count = 32 * 1000;
        for descending in [false, true] {
            let mut list = SkipList::<u32, 32>::default();
            for item in 0..count {
                assert!(list.insert_ord(if descending { count - item } else { item }));
            }
            list.check(u32::cmp);
            // One node is the head.
            assert_eq!(list.nodes.len() as u32 - 1, count / 32, "descending: {descending}");
        }
    }

    #[test]
    fn sparse_neighbours_merge() {
        let mut list = SkipList::<u32, 32>::default();
        for item in 0..32_000 {
            list.insert_ord(item);
        }
        for item in (0..32_000).filter(|item| item % 16 != 0) {
            assert!(list.remove_ord(item));
        }
        list.check(u32::cmp);
        assert!(list.nodes.len() < 400, "{} nodes for 2000 items", list.nodes.len());
    }

    #[test]
    fn free_slice_ends_with_an_empty_usable_list() {
        let mut list = SkipList::<u32, 32>::default();
        for item in 0..100_000 {
            list.insert_ord(item);
        }
        let mut slices = 1;
        while !list.free_slice(10_000) {
            assert!(list.is_empty());
            slices += 1;
        }
        assert!((5..=20).contains(&slices), "{slices} slices");
        assert!(list.insert_ord(1));
        list.check(u32::cmp);
    }
}
