//! The small form of a sorted set: a listpack of member, score, member, score, …, ascending.
//!
//! A score that is a whole number within half of the 64-bit range is stored as an integer, any other
//! as its `%.17g` text, as Redis 7.0 does; so the bytes are the same. All searches walk, which is
//! cheap for the 128 members that a listpack has by default.

use super::{Order, ZSetLimits, compare};
use crate::datatypes::listpack::{Element, Listpack, Position};
use crate::datatypes::number;
use std::ops::Range;

/// Pairs of member and score in a listpack.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    listpack: Listpack,
}

/// A member that was found, and its score.
#[derive(Clone, Copy)]
pub(super) struct Found {
    at: Position,
    pub(super) score: f64,
}

impl Packed {
    /// Adopts a listpack from outside, if every second element is a score.
    pub(super) fn from_listpack(listpack: Listpack) -> Option<Self> {
        let mut elements = listpack.iter();
        while elements.next().is_some() {
            let valid = match elements.next()? {
                Element::Int(_) => true,
                Element::Bytes(text) => number::parse_f64(text).is_some(),
            };
            if !valid {
                return None;
            }
        }
        Some(Self { listpack })
    }

    pub(super) fn listpack(&self) -> &Listpack {
        &self.listpack
    }

    pub(super) fn len(&self) -> usize {
        self.listpack.len() / 2
    }

    /// Whether Redis would still keep a listpack after adding `member`.
    pub(super) fn has_room_for(&self, member: &[u8], limits: ZSetLimits) -> bool {
        self.len() < limits.entries_max
            && member.len() <= limits.value_bytes_max
            && self.listpack.fits(member.len())
    }

    pub(super) fn find(&self, member: &[u8]) -> Option<Found> {
        let at = self.listpack.find(self.listpack.first()?, member, 1)?;
        let score = score_of(self.listpack.get(self.listpack.next(at)?));
        Some(Found { at, score })
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let needle = crate::datatypes::listpack::Needle::new(member);
        self.listpack.iter().step_by(2).position(|element| needle.matches(element))
    }

    /// Adds a member that is not there.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        let mut digits = itoa::Buffer::new();
        let mut text = Vec::new();
        let mut pairs = self.iter(0..self.len(), Order::Ascending);
        while let Some(at) = pairs.at {
            let Some((other, other_score)) = pairs.next() else { break };
            if compare((other_score, other.as_bytes(&mut digits)), (score, member)).is_gt() {
                let at = self.listpack.insert_before(at, member);
                self.listpack.insert_after(at, score_text(score, &mut text));
                return;
            }
        }
        self.listpack.push_back(member);
        self.listpack.push_back(score_text(score, &mut text));
    }

    /// Moves a member to where its new score belongs.
    pub(super) fn update(&mut self, found: Found, member: &[u8], score: f64) {
        self.listpack.remove_range(found.at, 2);
        self.insert(member, score);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let found = self.find(member)?;
        self.listpack.remove_range(found.at, 2);
        Some(found.score)
    }

    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        if let Some(at) = self.seek(ranks.start) {
            self.listpack.remove_range(at, 2 * ranks.len());
        }
    }

    /// The ranks from the first pair that is not below, to the first one after it that is above.
    pub(super) fn ranks(
        &self,
        is_below: impl Fn(&[u8], f64) -> bool,
        is_above: impl Fn(&[u8], f64) -> bool,
    ) -> Range<usize> {
        let mut digits = itoa::Buffer::new();
        let mut start = 0;
        for (rank, (member, score)) in (0..).zip(self.iter(0..self.len(), Order::Ascending)) {
            let member = member.as_bytes(&mut digits);
            if rank == start && is_below(member, score) {
                start += 1;
            } else if is_above(member, score) {
                return start..rank;
            }
        }
        start..self.len()
    }

    pub(super) fn iter(&self, ranks: Range<usize>, order: Order) -> Iter<'_> {
        let at = match order {
            _ if ranks.is_empty() => None,
            Order::Ascending => self.seek(ranks.start),
            Order::Descending => self.seek(ranks.end - 1),
        };
        Iter { listpack: &self.listpack, at, order }
    }

    fn seek(&self, rank: usize) -> Option<Position> {
        let index = i64::try_from(rank * 2).ok()?;
        self.listpack.seek(index)
    }
}

/// The score that an element stands for.
fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Int(value) => value as f64,
        Element::Bytes(text) => number::strtod(text).value,
    }
}

/// The text of a score in a listpack, which makes an integer of it if it is one.
fn score_text(score: f64, text: &mut Vec<u8>) -> &[u8] {
    match number::f64_to_i64_exact(score) {
        Some(integer) => text.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        None => number::format_f64_17g(score, text),
    }
    text
}

/// Pairs of a listpack, from a member on.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    listpack: &'a Listpack,
    at: Option<Position>,
    order: Order,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at?;
        let score_at = self.listpack.next(at)?;
        self.at = match self.order {
            Order::Ascending => self.listpack.next(score_at),
            Order::Descending => {
                self.listpack.prev(at).and_then(|score_at| self.listpack.prev(score_at))
            }
        };
        Some((self.listpack.get(at), score_of(self.listpack.get(score_at))))
    }
}
