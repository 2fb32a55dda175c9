//! The big form of a sorted set: members in an arena, found by hash and by rank.
//!
//! A member and its score live once, in a cell of 32 bytes (a member of up to 22 bytes needs no
//! allocation of its own); the hash table holds 4 bytes per member, the skiplist 12: the address of
//! the cell, and the score again, so that a search by score reads no cell. With five million members
//! that is some 60 bytes each, where Redis takes about 100, and nothing is ever moved as a whole.

use super::{AddMode, Added, LexRange, Order, Presence, ScoreRange};
use crate::datatypes::arena::Arena;
use crate::datatypes::hashing::hash_bytes;
use crate::datatypes::listpack::Element;
use crate::datatypes::skiplist::{self, SkipList};
use crate::datatypes::small_bytes::SmallBytes;
use crate::datatypes::table::Table;
use std::cmp::Ordering;
use std::ops::Range;

/// Words of an arena chunk: 256 cells, 8 KB.
const CELL_ARENA_WORDS: usize = 4;

/// Elements in a node of the skiplist: with 12 bytes each, six cache lines.
const NODE_ELEMENTS: usize = 32;

type Cells = Arena<Cell, CELL_ARENA_WORDS>;
type ByRank = SkipList<Ranked, NODE_ELEMENTS>;

/// Members by hash and by rank.
#[derive(Clone, Default)]
pub(super) struct Indexed {
    cells: Cells,
    by_member: Table<u32>,
    by_rank: ByRank,
}

#[derive(Clone, Debug)]
struct Cell {
    score: f64,
    member: SmallBytes,
}

impl Default for Cell {
    fn default() -> Self {
        Self { score: 0.0, member: SmallBytes::new(b"") }
    }
}

/// What the skiplist orders. The halves of the score keep it at 12 bytes where an `f64` would take
/// 16, for its alignment.
#[derive(Clone, Copy, Debug, Default)]
struct Ranked {
    score_halves: [u32; 2],
    cell: u32,
}

const _: () = assert!(size_of::<Ranked>() == 12 && size_of::<Cell>() == 32);

impl Ranked {
    fn new(score: f64, cell: u32) -> Self {
        let bits = score.to_bits();
        Self { score_halves: [bits as u32, (bits >> 32) as u32], cell }
    }

    #[inline]
    fn score(self) -> f64 {
        f64::from_bits(u64::from(self.score_halves[0]) | u64::from(self.score_halves[1]) << 32)
    }
}

/// How a present element stands to `score` and `member`; reads its cell only if the scores tie.
#[inline]
fn order_to<'a>(
    cells: &'a Cells,
    score: f64,
    member: &'a [u8],
) -> impl Fn(&Ranked) -> Ordering + 'a {
    move |ranked| match ranked.score().partial_cmp(&score) {
        Some(Ordering::Equal) | None => cells[ranked.cell].member.as_slice().cmp(member),
        Some(order) => order,
    }
}

fn hash_of(cells: &Cells) -> impl Fn(&u32) -> u64 + '_ {
    |&cell| hash_bytes(cells[cell].member.as_slice())
}

impl Indexed {
    pub(super) fn len(&self) -> usize {
        self.by_member.len()
    }

    pub(super) fn memory_usage(&self, samples: usize) -> usize {
        let samples = if samples == 0 { self.len() } else { samples.min(self.len()) };
        let sampled = self.by_rank.iter().take(samples);
        let heap: usize = sampled.map(|ranked| self.cells[ranked.cell].member.heap_bytes()).sum();
        let heap = heap * self.len() / samples.max(1);
        let tables = self.by_member.allocation_bytes() + self.by_rank.memory_bytes();
        tables + self.cells.memory_bytes() + heap
    }

    pub(super) fn add(&mut self, member: &[u8], score: f64, mode: AddMode) -> Added {
        let hash = hash_bytes(member);
        let Some(cell) = self.find(hash, member) else {
            if mode.presence == Presence::Present {
                return Added::Refused;
            }
            self.insert(hash, member, score);
            return Added::New(score);
        };
        let added = mode.on_present(self.cells[cell].score, score);
        if let Added::Updated(score) = added {
            self.update(cell, score);
        }
        added
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let Self { cells, by_member, by_rank } = self;
        let eq = |&cell: &u32| cells[cell].member.as_slice() == member;
        let cell = by_member.remove(hash_bytes(member), eq, hash_of(cells))?;
        let score = cells[cell].score;
        by_rank.remove(order_to(cells, score, member));
        cells.remove(cell);
        Some(score)
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(hash_bytes(member), member).map(|cell| self.cells[cell].score)
    }

    pub(super) fn prefetch(&self, member: &[u8]) {
        self.by_member.prefetch(hash_bytes(member), |&cell| self.cells.prefetch(cell));
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        self.by_rank.rank_of(order_to(&self.cells, score, member))
    }

    pub(super) fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let start = self.by_rank.position(|ranked| range.is_below(ranked.score())).rank();
        let end = self.by_rank.position(|ranked| !range.is_above(ranked.score())).rank();
        start..end.max(start)
    }

    pub(super) fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let member = |ranked: &Ranked| self.cells[ranked.cell].member.as_slice();
        let start = self.by_rank.position(|ranked| range.is_below(member(ranked))).rank();
        let end = self.by_rank.position(|ranked| !range.is_above(member(ranked))).rank();
        start..end.max(start)
    }

    pub(super) fn iter(&self, ranks: Range<usize>, order: Order) -> Iter<'_> {
        let walk = match order {
            Order::Ascending => {
                Walk::Up(self.by_rank.iter_from(self.by_rank.position_at(ranks.start)))
            }
            Order::Descending => {
                Walk::Down(self.by_rank.iter_back_from(self.by_rank.position_at(ranks.end)))
            }
        };
        Iter { cells: &self.cells, walk }
    }

    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        let Self { cells, by_member, by_rank } = self;
        by_rank.remove_range(ranks.start, ranks.len(), |ranked| {
            forget(cells, by_member, ranked.cell);
        });
    }

    pub(super) fn pop<R>(
        &mut self,
        order: Order,
        popped: impl FnOnce(Element<'_>, f64) -> R,
    ) -> Option<R> {
        let ranked = match order {
            Order::Ascending => self.by_rank.pop_front(),
            Order::Descending => self.by_rank.pop_back(),
        }?;
        let member = self.cells[ranked.cell].member.as_slice();
        let answer = popped(Element::Bytes(member), ranked.score());
        forget(&mut self.cells, &mut self.by_member, ranked.cell);
        Some(answer)
    }

    pub(super) fn scan<'z>(
        &'z self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(Element<'z>, f64),
    ) -> u64 {
        self.by_member.scan(cursor, count, hash_of(&self.cells), |&cell| {
            let Cell { score, member } = &self.cells[cell];
            visit(Element::Bytes(member.as_slice()), *score);
        })
    }

    /// Frees the skiplist, the table and then the cells; the order does not matter, for nothing
    /// reads them any more.
    pub(super) fn free_slice(&mut self, elements_max: usize) -> bool {
        self.by_rank.free_slice(elements_max)
            && self.by_member.free_slice(elements_max)
            && self.cells.free_slice(elements_max)
    }

    fn find(&self, hash: u64, member: &[u8]) -> Option<u32> {
        self.by_member.find(hash, |&cell| self.cells[cell].member.as_slice() == member).copied()
    }

    fn insert(&mut self, hash: u64, member: &[u8], score: f64) {
        let Self { cells, by_member, by_rank } = self;
        let cell = cells.insert(Cell { score, member: SmallBytes::new(member) });
        by_member.insert_unique(hash, cell, hash_of(cells));
        let inserted = by_rank.insert(Ranked::new(score, cell), order_to(cells, score, member));
        debug_assert!(inserted, "a member that has no hash entry has no rank");
    }

    fn update(&mut self, cell: u32, score: f64) {
        let Self { cells, by_rank, .. } = self;
        let Cell { score: old, member } = &cells[cell];
        let removed = by_rank.remove(order_to(cells, *old, member.as_slice()));
        debug_assert!(removed.is_some(), "every member has a rank");
        by_rank.insert(Ranked::new(score, cell), order_to(cells, score, member.as_slice()));
        cells[cell].score = score;
    }
}

/// Removes a member that has no rank any more from the table and the cells.
fn forget(cells: &mut Cells, by_member: &mut Table<u32>, cell: u32) {
    let hash = hash_bytes(cells[cell].member.as_slice());
    by_member.remove(hash, |&other| other == cell, hash_of(cells));
    cells.remove(cell);
}

impl std::fmt::Debug for Indexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter(0..self.len(), Order::Ascending)).finish()
    }
}

/// Elements of a skiplist, either way.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    cells: &'a Cells,
    walk: Walk<'a>,
}

#[derive(Clone, Debug)]
enum Walk<'a> {
    Up(skiplist::Iter<'a, Ranked, NODE_ELEMENTS>),
    Down(skiplist::IterBack<'a, Ranked, NODE_ELEMENTS>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let ranked = match &mut self.walk {
            Walk::Up(iter) => iter.next(),
            Walk::Down(iter) => iter.next(),
        }?;
        let cell = &self.cells[ranked.cell];
        Some((Element::Bytes(cell.member.as_slice()), ranked.score()))
    }
}
