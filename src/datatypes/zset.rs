//! The sorted set: unique members, each with a score, in the order of score and then of bytes.
//!
//! A small one is a listpack of member, score, member, score, … with the bytes that Redis stores
//! ([`packed`]); a bigger one is a hash table by member beside a skiplist by rank ([`indexed`]). The
//! two convert exactly where Redis 7.0 converts, so `OBJECT ENCODING`, DUMP and snapshots agree.
//!
//! Every range (by rank, score or lexicographic) is first turned into ranks, in O(log n); counting is
//! then a subtraction, and iterating and removing know only ranks. Promise: scores are never NaN.

mod indexed;
mod packed;
mod range;

pub use range::{LexBound, LexRange, ScoreRange};

use super::listpack::{Element, Listpack};
use indexed::Indexed;
use packed::Packed;
use std::ops::Range;

/// Up to where a sorted set stays a listpack: `zset-max-listpack-entries` and `-value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZSetLimits {
    /// Most members.
    pub entries_max: usize,
    /// Longest member, in bytes.
    pub value_bytes_max: usize,
}

impl Default for ZSetLimits {
    fn default() -> Self {
        Self { entries_max: 128, value_bytes_max: 64 }
    }
}

/// Which members an [`ZSet::add`] may touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// All.
    #[default]
    Any,
    /// NX: only members that are not there yet.
    Missing,
    /// XX: only members that are there.
    Present,
}

/// When an [`ZSet::add`] changes the score of a member that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Comparison {
    /// Always.
    #[default]
    Always,
    /// GT: if the new score is greater.
    Greater,
    /// LT: if the new score is less.
    Less,
}

/// The conditions of an [`ZSet::add`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddMode {
    /// NX or XX.
    pub presence: Presence,
    /// GT or LT.
    pub comparison: Comparison,
    /// INCR: the score is added to the present one.
    pub increment: bool,
}

impl AddMode {
    /// What becomes of a member that is there with `current`.
    fn on_present(self, current: f64, score: f64) -> Added {
        if self.presence == Presence::Missing {
            return Added::Refused;
        }
        let new = if self.increment { current + score } else { score };
        if new.is_nan() {
            return Added::NotANumber;
        }
        let wanted = match self.comparison {
            Comparison::Always => true,
            Comparison::Greater => new > current,
            Comparison::Less => new < current,
        };
        match wanted {
            false => Added::Refused,
            true if new == current => Added::Unchanged(new),
            true => Added::Updated(new),
        }
    }
}

/// What [`ZSet::add`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Added {
    /// The member is new, with this score.
    New(f64),
    /// The member has this new score.
    Updated(f64),
    /// The member had this score already.
    Unchanged(f64),
    /// The conditions forbade it.
    Refused,
    /// The score, or the sum, is not a number.
    NotANumber,
}

/// The order of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest rank up.
    Ascending,
    /// From the highest rank down.
    Descending,
}

/// A sorted set.
#[derive(Clone, Debug)]
pub struct ZSet(Form);

#[derive(Clone, Debug)]
enum Form {
    Packed(Packed),
    Indexed(Box<Indexed>),
}

impl Default for ZSet {
    fn default() -> Self {
        Self(Form::Packed(Packed::default()))
    }
}

impl ZSet {
    /// A sorted set that adopts a listpack as Redis stores it, or `None` if that is not one of pairs
    /// of member and score.
    pub fn from_listpack(listpack: Listpack) -> Option<Self> {
        Packed::from_listpack(listpack).map(|packed| Self(Form::Packed(packed)))
    }

    /// An empty sorted set that will get `members`, the longest of `longest_bytes`: one that would not
    /// stay a listpack does not begin as one. A listpack on the way would show, for it forgets the
    /// sign of a zero.
    pub fn for_members(members: usize, longest_bytes: usize, limits: ZSetLimits) -> Self {
        if members > limits.entries_max || longest_bytes > limits.value_bytes_max {
            Self(Form::Indexed(Box::default()))
        } else {
            Self::default()
        }
    }

    /// The listpack, while it is one.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.0 {
            Form::Packed(packed) => Some(packed.listpack()),
            Form::Indexed(_) => None,
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len(),
            Form::Indexed(indexed) => indexed.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `OBJECT ENCODING` says.
    pub fn encoding(&self) -> &'static str {
        match self.0 {
            Form::Packed(_) => "listpack",
            Form::Indexed(_) => "skiplist",
        }
    }

    /// Bytes of memory that the sorted set takes beyond its own size. What long members allocate is
    /// estimated from the first `samples` of them; 0 means all.
    pub fn memory_usage(&self, samples: usize) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.listpack().memory_bytes(),
            Form::Indexed(indexed) => size_of::<Indexed>() + indexed.memory_usage(samples),
        }
    }

    /// ZADD and ZINCRBY of one member.
    pub fn add(&mut self, member: &[u8], score: f64, mode: AddMode, limits: ZSetLimits) -> Added {
        if score.is_nan() {
            return Added::NotANumber;
        }
        match &mut self.0 {
            Form::Indexed(indexed) => indexed.add(member, score, mode),
            Form::Packed(packed) => {
                if let Some(found) = packed.find(member) {
                    let added = mode.on_present(found.score, score);
                    if let Added::Updated(score) = added {
                        packed.update(found, member, score);
                    }
                    return added;
                }
                if mode.presence == Presence::Present {
                    return Added::Refused;
                }
                if packed.has_room_for(member, limits) {
                    packed.insert(member, score);
                    return Added::New(score);
                }
                self.index().add(member, score, mode)
            }
        }
    }

    /// Sets the score of `member`, which is added if missing.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: ZSetLimits) -> Added {
        self.add(member, score, AddMode::default(), limits)
    }

    /// Removes `member` and answers its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Form::Packed(packed) => packed.remove(member),
            Form::Indexed(indexed) => indexed.remove(member),
        }
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Packed(packed) => packed.find(member).map(|found| found.score),
            Form::Indexed(indexed) => indexed.score(member),
        }
    }

    /// Asks for the memory that a look-up of `member` will want.
    pub fn prefetch(&self, member: &[u8]) {
        if let Form::Indexed(indexed) = &self.0 {
            indexed.prefetch(member);
        }
    }

    /// How many members come before `member`.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.0 {
            Form::Packed(packed) => packed.rank(member),
            Form::Indexed(indexed) => indexed.rank(member),
        }
    }

    /// The ranks of the members whose score is in `range`.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        match &self.0 {
            Form::Packed(packed) => {
                packed.ranks(|_, score| range.is_below(score), |_, score| range.is_above(score))
            }
            Form::Indexed(indexed) => indexed.ranks_by_score(range),
        }
    }

    /// The ranks of the members in a lexicographic `range`; means something if all scores are equal.
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        match &self.0 {
            Form::Packed(packed) => {
                packed.ranks(|member, _| range.is_below(member), |member, _| range.is_above(member))
            }
            Form::Indexed(indexed) => indexed.ranks_by_lex(range),
        }
    }

    /// The member at `rank` and its score.
    pub fn get(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        let end = rank.checked_add(1)?;
        if end > self.len() { None } else { self.iter(rank..end, Order::Ascending).next() }
    }

    /// The members with these ranks and their scores; descending, from the last of them down. Ranks
    /// beyond the end are left out.
    pub fn iter(&self, ranks: Range<usize>, order: Order) -> Iter<'_> {
        let ranks = ranks.start..ranks.end.min(self.len());
        let left = ranks.len();
        let source = match &self.0 {
            Form::Packed(packed) => Source::Packed(packed.iter(ranks, order)),
            Form::Indexed(indexed) => Source::Indexed(indexed.iter(ranks, order)),
        };
        Iter { left, source }
    }

    /// All members and their scores, ascending.
    pub fn iter_all(&self) -> Iter<'_> {
        self.iter(0..self.len(), Order::Ascending)
    }

    /// Removes the members with these ranks and answers how many there were.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) -> usize {
        let ranks = ranks.start..ranks.end.min(self.len());
        if ranks.is_empty() {
            return 0;
        }
        match &mut self.0 {
            Form::Packed(packed) => packed.remove_ranks(ranks.clone()),
            Form::Indexed(indexed) => indexed.remove_ranks(ranks.clone()),
        }
        ranks.len()
    }

    /// Removes the member that comes first in `order`, after showing it to `popped`.
    pub fn pop<R>(
        &mut self,
        order: Order,
        popped: impl FnOnce(Element<'_>, f64) -> R,
    ) -> Option<R> {
        let last = self.len().checked_sub(1)?;
        let rank = if order == Order::Ascending { 0 } else { last };
        match &mut self.0 {
            Form::Packed(_) => {
                let answer = self.get(rank).map(|(member, score)| popped(member, score));
                self.remove_ranks(rank..rank + 1);
                answer
            }
            Form::Indexed(indexed) => indexed.pop(order, popped),
        }
    }

    /// Visits about `count` members from `cursor` on and answers the cursor to go on from, 0 at the
    /// end. A listpack is visited at once, as Redis does.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        match &self.0 {
            Form::Packed(_) => {
                self.iter_all().for_each(|(member, score)| visit(member, score));
                0
            }
            Form::Indexed(indexed) => indexed.scan(cursor, count, visit),
        }
    }

    /// Gives up the listpack (SORT does, in Redis).
    pub fn convert_to_skiplist(&mut self) {
        self.index();
    }

    /// Frees about `elements_max` members of a sorted set that is given up; true when nothing is
    /// left.
    pub fn free_slice(&mut self, elements_max: usize) -> bool {
        if let Form::Indexed(indexed) = &mut self.0
            && !indexed.free_slice(elements_max)
        {
            return false;
        }
        *self = Self::default();
        true
    }

    /// Turns a listpack into a skiplist.
    fn index(&mut self) -> &mut Indexed {
        if let Form::Packed(packed) = &self.0 {
            let mut indexed = Box::<Indexed>::default();
            let mut digits = itoa::Buffer::new();
            for (member, score) in packed.iter(0..packed.len(), Order::Ascending) {
                // Through `add`, for a listpack from a file may name a member twice.
                indexed.add(member.as_bytes(&mut digits), score, AddMode::default());
            }
            self.0 = Form::Indexed(indexed);
        }
        match &mut self.0 {
            Form::Indexed(indexed) => indexed,
            Form::Packed(_) => unreachable!("the line above has converted it"),
        }
    }
}

/// The order of two elements: by score, then by the bytes of the members. -0 equals 0.
pub fn compare(left: (f64, &[u8]), right: (f64, &[u8])) -> std::cmp::Ordering {
    // A NaN cannot be stored, so the scores do compare.
    left.0
        .partial_cmp(&right.0)
        .unwrap_or(std::cmp::Ordering::Equal)
        .then_with(|| left.1.cmp(right.1))
}

/// Members and their scores, see [`ZSet::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    left: usize,
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Packed(packed::Iter<'a>),
    Indexed(indexed::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.source {
            Source::Packed(iter) => iter.next(),
            Source::Indexed(iter) => iter.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests;
