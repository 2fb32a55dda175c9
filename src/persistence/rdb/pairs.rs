//! Hashes and sorted sets out of listpacks of unknown origin: pairs, each first one different.
//!
//! Why this is asked here and not trusted: a field that is there twice would be found once, counted twice and
//! deleted once, on this server and differently on a replica.

use std::collections::HashSet;

use super::decode::Limits;
use super::input::Error;
use crate::datatypes::hash::Hash;
use crate::datatypes::listpack::{Element, Listpack};
use crate::datatypes::number::{parse_f64, parse_i64};
use crate::datatypes::zset::{Added, ZSet, compare};
use crate::keyspace::Value;

pub(super) const DUPLICATE: Error = Error::Corrupt("an element that is there twice");
const ODD: Error = Error::Corrupt("a first element without its second");
const NO_SCORE: Error = Error::Corrupt("a score that is not a number");
const UNSORTED: Error = Error::Corrupt("members that are not in order");
const UNREADABLE: Error = Error::Corrupt("a malformed listpack of pairs");

/// The hash in `pack`: a listpack still, unless it has more fields than the limits allow.
pub(super) fn hash_of(pack: Listpack, limits: &Limits) -> Result<Value, Error> {
    let fields = checked_len(&pack)?;
    if fields <= limits.hash.listpack_entries_max {
        no_duplicates(&pack)?;
    }
    let hash = Hash::from_listpack(pack, limits.hash).ok_or(UNREADABLE)?;
    // A table keeps one of two equal fields.
    if hash.len() == fields { Ok(Value::Hash(Box::new(hash))) } else { Err(DUPLICATE) }
}

/// The sorted set in `pack`: a listpack still, unless it has more members than the limits allow.
pub(super) fn zset_of(pack: Listpack, limits: &Limits) -> Result<Value, Error> {
    let members = checked_len(&pack)?;
    in_order(&pack)?;
    if members <= limits.zset.entries_max {
        no_duplicates(&pack)?;
        let zset = ZSet::from_listpack(pack).ok_or(NO_SCORE)?;
        return Ok(Value::ZSet(Box::new(zset)));
    }
    let mut zset = ZSet::for_members(members, 0, limits.zset);
    let (mut elements, mut digits) = (pack.iter(), itoa::Buffer::new());
    while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
        let score = score_of(score).ok_or(NO_SCORE)?;
        let added = zset.insert(member.as_bytes(&mut digits), score, limits.zset);
        if !matches!(added, Added::New(_)) {
            return Err(DUPLICATE);
        }
    }
    Ok(Value::ZSet(Box::new(zset)))
}

/// The number of pairs, at least one.
fn checked_len(pack: &Listpack) -> Result<usize, Error> {
    match pack.len() {
        0 => Err(Error::Empty),
        odd if odd % 2 == 1 => Err(ODD),
        even => Ok(even / 2),
    }
}

/// An element by its text: an integer may be written down as a string, too.
#[derive(PartialEq, Eq, Hash)]
enum Canonical<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

fn no_duplicates(pack: &Listpack) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(pack.len() / 2);
    let all_new = pack.iter().step_by(2).all(|element| {
        seen.insert(match element {
            Element::Int(value) => Canonical::Int(value),
            Element::Bytes(text) => match parse_i64(text) {
                Some(value) => Canonical::Int(value),
                None => Canonical::Bytes(text),
            },
        })
    });
    if all_new { Ok(()) } else { Err(DUPLICATE) }
}

/// Whether the pairs ascend as those of a sorted set do: look-ups rely on it.
fn in_order(pack: &Listpack) -> Result<(), Error> {
    let mut elements = pack.iter();
    let mut before: Option<(Element<'_>, f64)> = None;
    let (mut left, mut right) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
        let score = score_of(score).ok_or(NO_SCORE)?;
        if let Some((earlier, earlier_score)) = before {
            let earlier = (earlier_score, earlier.as_bytes(&mut left));
            if compare(earlier, (score, member.as_bytes(&mut right))).is_gt() {
                return Err(UNSORTED);
            }
        }
        before = Some((member, score));
    }
    Ok(())
}

fn score_of(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Int(value) => Some(value as f64),
        Element::Bytes(text) => parse_f64(text),
    }
}
