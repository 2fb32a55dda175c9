//! What the commands of all collections (sets, hashes, sorted sets, lists) share: the first write
//! that creates the key, elements as replies, and the arguments of SSCAN, HSCAN, ZSCAN and SCAN.

use super::{CommandError, CommandResult, Request};
use crate::datatypes::glob::glob_match;
use crate::datatypes::listpack::Element;
use crate::datatypes::number::parse_i64;
use crate::keyspace::{Collection, Database, Entry, Key};
use crate::resp::Reply;

/// Elements per step of a scan that does not say COUNT (Redis 7.0 `db.c`, scanGenericCommand).
const SCAN_COUNT_DEFAULT: usize = 10;

/// Changes the collection at `key`. If there is none, a new one is changed, and put there unless it
/// is still empty.
#[inline]
pub(super) fn update_or_create<C: Collection, R>(
    db: &mut Database,
    key: &Key<'_>,
    change: impl FnOnce(&mut C) -> R,
) -> CommandResult<R> {
    if let Some(collection) = db.get_mut::<C>(key)? {
        return Ok(change(collection));
    }
    let mut collection = C::default();
    let result = change(&mut collection);
    if !collection.is_empty() {
        db.insert(key, collection.into_value(), None);
    }
    Ok(result)
}

/// Writes an element as a bulk string.
#[inline]
pub(super) fn bulk_element(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Int(value) => reply.bulk_int(value),
        Element::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// An argument that is an integer.
pub(super) fn integer(text: &[u8]) -> CommandResult<i64> {
    parse_i64(text).ok_or(CommandError::NotInteger)
}

/// The count of SRANDMEMBER, HRANDFIELD and ZRANDMEMBER: any integer but the lowest, whose negation
/// does not exist.
pub(super) fn random_count(text: &[u8]) -> CommandResult<i64> {
    match integer(text)? {
        i64::MIN => Err(CommandError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// The cursor of a scan, read as C's `strtoul` reads it: a sign is allowed and `-1` is the highest
/// cursor, no digits at all are 0, leading space and trailing anything are errors.
pub(super) fn scan_cursor(text: &[u8]) -> CommandResult<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    // A sign alone is no number, so `strtoul` stops before it.
    let unread = digits.is_empty() && !text.is_empty();
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    match value {
        Some(value) if !unread => Ok(if negative { value.wrapping_neg() } else { value }),
        _ => Err(CommandError::text("ERR invalid cursor")),
    }
}

/// What SCAN, SSCAN, HSCAN and ZSCAN are asked for after key and cursor.
pub(super) struct ScanOptions<'a> {
    /// About how many elements to visit.
    pub count: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// The options from argument `from` on. Redis reads them only when there is something to scan.
    pub(super) fn parse(request: &Request<'a>, from: usize) -> CommandResult<Self> {
        Self::parse_any(request, from, false)
    }

    /// The options of SCAN, which alone knows TYPE, from argument `from` on.
    pub(super) fn parse_with_type(request: &Request<'a>, from: usize) -> CommandResult<Self> {
        Self::parse_any(request, from, true)
    }

    fn parse_any(request: &Request<'a>, from: usize, with_type: bool) -> CommandResult<Self> {
        let mut options = Self { count: SCAN_COUNT_DEFAULT, pattern: None, type_name: None };
        let mut at = from;
        while at < request.len() {
            let value = request.get(at + 1).ok_or(CommandError::Syntax)?;
            if request.is_word(at, "count") {
                let count = integer(value)?;
                options.count = usize::try_from(count).unwrap_or(0);
                if options.count == 0 {
                    return Err(CommandError::Syntax);
                }
            } else if request.is_word(at, "match") {
                options.pattern = (value != b"*").then_some(value);
            } else if with_type && request.is_word(at, "type") {
                options.type_name = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        Ok(options)
    }

    /// Whether the pattern lets this element through.
    pub(super) fn matches(&self, element: Element<'_>) -> bool {
        let Some(pattern) = self.pattern else { return true };
        glob_match(pattern, element.as_bytes(&mut itoa::Buffer::new()), false)
    }

    /// Whether the pattern and the type let this key through. A type that does not exist lets none.
    pub(super) fn matches_entry(&self, entry: &Entry) -> bool {
        let type_name = entry.value().type_name().as_str().as_bytes();
        self.type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(type_name))
            && self.matches(Element::Bytes(entry.key()))
    }
}

/// Writes the reply of a scan: the next cursor and what `scan` writes. `scan` answers the cursor and
/// the number of elements it has written.
pub(super) fn scan_reply(reply: &mut Reply<'_>, scan: impl FnOnce(&mut Reply<'_>) -> (u64, usize)) {
    // The cursor stands first but is known last, so the elements wait elsewhere.
    let mut elements = Vec::new();
    let mut elements_reply = Reply::new(&mut elements, reply.resp3());
    let (cursor, length) = scan(&mut elements_reply);
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    reply.array(length);
    reply.raw(&elements);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_cursor_reads_what_strtoul_reads() {
        for (text, cursor) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("17", Some(17)),
            ("+17", Some(17)),
            ("007", Some(7)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
            ("0x1", None),
            ("-", None),
            ("+", None),
            ("--1", None),
            ("x", None),
        ] {
            assert_eq!(scan_cursor(text.as_bytes()).ok(), cursor, "{text:?}");
        }
    }
}
