//! Replies, appended to a connection's output in the protocol that the client speaks.
//!
//! A handler says what it means (`map`, `null`, `double`); this file knows what RESP2 makes of it.
//! A reply whose length is known only at its end opens with [`Reply::deferred`]: the header is
//! put in afterwards, which moves that aggregate's own bytes by a few places and nothing else.
//!
//! Promise: whatever a handler passes, the output stays well framed. Texts that end with the line
//! (status, error) lose their line breaks, everything else is counted.

use std::fmt::{self, Write};

use crate::datatypes::number::format_f64_17g;

/// Where a reply began, for [`Reply::truncate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

/// An aggregate whose length is not known yet. To drop it would leave the reply without a header.
#[derive(Debug)]
#[must_use = "an aggregate without a length breaks the framing of all later replies"]
pub struct Deferred {
    /// Where the header belongs.
    start: usize,
}

/// Bytes that a deferred header takes before its length is known: a length of one digit fits.
const DEFERRED_HEADER: &[u8; 4] = b"*0\r\n";

/// Appends replies to an output buffer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
}

impl<'a> Reply<'a> {
    /// Replies that follow what is already in `out`, in RESP3 or in RESP2.
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Self {
        Self { out, resp3 }
    }

    /// Whether the client speaks RESP3.
    pub fn resp3(&self) -> bool {
        self.resp3
    }

    /// Changes the protocol from here on (HELLO).
    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status. Line breaks become spaces.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.line(text.as_bytes());
    }

    /// An error: `text` is code and message, without the `-`.
    #[cold]
    pub fn error(&mut self, text: impl fmt::Display) {
        let start = self.out.len();
        self.out.push(b'-');
        // Writing to a vector fails only if the value's own Display does; what is there stays.
        let _ = write!(Bytes(self.out), "{text}");
        self.end_error(start + 1);
    }

    /// An error that quotes bytes which need not be text.
    #[cold]
    pub fn error_bytes(&mut self, text: &[u8]) {
        let start = self.out.len();
        self.out.push(b'-');
        self.out.extend_from_slice(text);
        self.end_error(start + 1);
    }

    /// Redis cuts line breaks off the end of an error and turns the others into spaces.
    fn end_error(&mut self, start: usize) {
        while self.out.len() > start && self.out.last().is_some_and(|byte| is_break(*byte)) {
            self.out.pop();
        }
        blank_breaks(&mut self.out[start..]);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.header(b':', value),
        }
    }

    /// A string of bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A number as a string of bytes.
    #[inline]
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// No value, where a string would be.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No value, where an array would be.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The header of an array of `length` replies.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.length(b'*', length);
    }

    /// The header of `pairs` keys and values; in RESP2 an array of twice as many.
    pub fn map(&mut self, pairs: usize) {
        let (sigil, length) = self.map_header(pairs);
        self.length(sigil, length);
    }

    /// The header of a set of `length` replies; in RESP2 an array.
    pub fn set(&mut self, length: usize) {
        self.length(if self.resp3 { b'~' } else { b'*' }, length);
    }

    /// The header of a message out of turn, of `length` replies; in RESP2 an array.
    pub fn push(&mut self, length: usize) {
        self.length(if self.resp3 { b'>' } else { b'*' }, length);
    }

    /// The header of `pairs` attributes of the reply that follows. RESP2 has none: there, the
    /// answer is `false`, and the caller leaves the pairs out.
    pub fn attribute(&mut self, pairs: usize) -> bool {
        if self.resp3 {
            self.length(b'|', pairs);
        }
        self.resp3
    }

    /// A double, with 17 significant digits; in RESP2 as a string.
    pub fn double(&mut self, value: f64) {
        let start = self.out.len();
        format_f64_17g(value, self.out);
        // Written in place first, because RESP2 wants the length before the text.
        let text_length = self.out.len() - start;
        let mut text = [0_u8; 32];
        text[..text_length].copy_from_slice(&self.out[start..]);
        self.out.truncate(start);
        self.double_text(&text[..text_length]);
    }

    /// A double whose text the caller has made; in RESP2 as a string.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.resp3 {
            self.out.push(b',');
            self.line(text);
        } else {
            self.bulk(text);
        }
    }

    /// True or false; in RESP2 as 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        match (self.resp3, value) {
            (true, true) => self.out.extend_from_slice(b"#t\r\n"),
            (true, false) => self.out.extend_from_slice(b"#f\r\n"),
            (false, _) => self.integer(i64::from(value)),
        }
    }

    /// A number of any size, in decimal digits; in RESP2 as a string.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 {
            self.out.push(b'(');
            self.line(digits);
        } else {
            self.bulk(digits);
        }
    }

    /// Text for humans, with its format in three letters (`txt`, `mkd`); in RESP2 a string.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.length(b'=', text.len() + 4);
        self.out.extend_from_slice(&format);
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Bytes that already are replies.
    pub fn raw(&mut self, replies: &[u8]) {
        self.out.extend_from_slice(replies);
    }

    /// Opens an aggregate; its length is given later, to one of the `set_…_len`.
    pub fn deferred(&mut self) -> Deferred {
        let start = self.out.len();
        self.out.extend_from_slice(DEFERRED_HEADER);
        Deferred { start }
    }

    /// The deferred aggregate is an array of `length` replies.
    pub fn set_array_len(&mut self, deferred: Deferred, length: usize) {
        self.set_len(deferred, b'*', length);
    }

    /// The deferred aggregate is a map of `pairs`.
    pub fn set_map_len(&mut self, deferred: Deferred, pairs: usize) {
        let (sigil, length) = self.map_header(pairs);
        self.set_len(deferred, sigil, length);
    }

    /// The deferred aggregate is a set of `length` replies.
    pub fn set_set_len(&mut self, deferred: Deferred, length: usize) {
        let sigil = if self.resp3 { b'~' } else { b'*' };
        self.set_len(deferred, sigil, length);
    }

    /// Where the next reply will begin.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }

    /// Takes back everything since `mark`: a handler that fails half-way answers only its error.
    pub fn truncate(&mut self, mark: Mark) {
        self.out.truncate(mark.0);
    }

    /// What has been written since `mark`.
    pub fn since(&self, mark: Mark) -> &[u8] {
        self.out.get(mark.0..).unwrap_or_default()
    }

    fn map_header(&self, pairs: usize) -> (u8, usize) {
        if self.resp3 { (b'%', pairs) } else { (b'*', pairs * 2) }
    }

    fn set_len(&mut self, deferred: Deferred, sigil: u8, length: usize) {
        let end = deferred.start + DEFERRED_HEADER.len();
        assert!(end <= self.out.len(), "a deferred reply was truncated, then given a length");
        self.out[deferred.start] = sigil;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(length).as_bytes();
        let digit = deferred.start + 1;
        self.out.splice(digit..=digit, digits.iter().copied());
    }

    /// A header with a length. Nearly all lengths have one or two digits, and a store of constant
    /// size is what makes those cheap.
    #[inline(always)]
    fn length(&mut self, sigil: u8, length: usize) {
        match length {
            0..10 => self.out.extend_from_slice(&[sigil, b'0' + length as u8, b'\r', b'\n']),
            10..100 => {
                let (tens, ones) = (b'0' + (length / 10) as u8, b'0' + (length % 10) as u8);
                self.out.extend_from_slice(&[sigil, tens, ones, b'\r', b'\n']);
            }
            _ => self.header(sigil, length),
        }
    }

    #[inline(never)]
    fn header(&mut self, sigil: u8, number: impl itoa::Integer) {
        self.out.push(sigil);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Text up to the end of a line.
    fn line(&mut self, text: &[u8]) {
        let start = self.out.len();
        self.out.extend_from_slice(text);
        blank_breaks(&mut self.out[start..]);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Lets `write!` append to a byte vector without `io::Error`.
struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn blank_breaks(text: &mut [u8]) {
    for byte in text {
        if is_break(*byte) {
            *byte = b' ';
        }
    }
}

/// How many bytes a command with these words is on the wire: an array of bulk strings.
pub fn request_bytes(words: &[&[u8]]) -> usize {
    let header = |number: usize| 1 + number.checked_ilog10().unwrap_or(0) as usize + 1 + 2;
    let word = |word: &&[u8]| header(word.len()) + word.len() + 2;
    header(words.len()) + words.iter().map(word).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::parse_reply::{Value, parse_reply};
    use super::*;
    use proptest::prelude::*;

    fn written(resp3: bool, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut Reply::new(&mut out, resp3));
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn each_reply_has_its_spelling_in_both_protocols() {
        type Write = fn(&mut Reply<'_>);
        let rows: &[(Write, &str, &str)] = &[
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n"),
            (|r| r.error("ERR a\r\nb\n\r"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|r| r.error_bytes(b"ERR \n"), "-ERR \r\n", "-ERR \r\n"),
            (|r| r.integer(0), ":0\r\n", ":0\r\n"),
            (|r| r.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
            (|r| r.bulk_int(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.array(123), "*123\r\n", "*123\r\n"),
            (|r| r.map(5), "*10\r\n", "%5\r\n"),
            (|r| r.set(2), "*2\r\n", "~2\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| assert_eq!(r.attribute(1), r.resp3()), "", "|1\r\n"),
            (|r| r.double(0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n"),
            (|r| r.double(-f64::INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (
                |r| r.double(-f64::MIN_POSITIVE),
                "$24\r\n-2.2250738585072014e-308\r\n",
                ",-2.2250738585072014e-308\r\n",
            ),
            (|r| r.double_text(b"3.50"), "$4\r\n3.50\r\n", ",3.50\r\n"),
            (|r| r.boolean(true), ":1\r\n", "#t\r\n"),
            (|r| r.boolean(false), ":0\r\n", "#f\r\n"),
            (|r| r.big_number(b"-12"), "$3\r\n-12\r\n", "(-12\r\n"),
            (|r| r.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|r| r.raw(b":7\r\n"), ":7\r\n", ":7\r\n"),
        ];
        for (write, resp2, resp3) in rows {
            assert_eq!(written(false, write), *resp2);
            assert_eq!(written(true, write), *resp3);
        }
    }

    #[test]
    fn a_deferred_length_lands_before_its_elements() {
        for length in [0, 1, 9, 10, 12345] {
            let text = written(true, |reply| {
                let outer = reply.deferred();
                let inner = reply.deferred();
                (0..length).for_each(|_| reply.integer(7));
                reply.set_array_len(inner, length);
                let pairs = reply.deferred();
                reply.set_map_len(pairs, 0);
                let set = reply.deferred();
                reply.set_set_len(set, 0);
                reply.set_array_len(outer, 3);
            });
            let expected = format!("*3\r\n*{length}\r\n{}%0\r\n~0\r\n", ":7\r\n".repeat(length));
            assert_eq!(text, expected);
        }
        let text = written(false, |reply| {
            let map = reply.deferred();
            reply.set_map_len(map, 6);
        });
        assert_eq!(text, "*12\r\n");
    }

    #[test]
    fn truncate_takes_back_a_partial_reply() {
        let text = written(false, |reply| {
            let mark = reply.mark();
            reply.array(3);
            reply.bulk(b"x");
            assert_eq!(reply.since(mark), b"*3\r\n$1\r\nx\r\n");
            reply.truncate(mark);
            reply.error("ERR no");
        });
        assert_eq!(text, "-ERR no\r\n");
    }

    /// Writes `value` with the calls that a handler would use.
    fn write_value(reply: &mut Reply<'_>, value: &Value) {
        match value {
            Value::Simple(text) => reply.simple(&String::from_utf8_lossy(text)),
            Value::Error(text) => reply.error_bytes(text),
            Value::Integer(value) => reply.integer(*value),
            Value::Bulk(bytes) => reply.bulk(bytes),
            Value::Null | Value::NullBulk => reply.null(),
            Value::NullArray => reply.null_array(),
            Value::Double(value) => reply.double(*value),
            Value::Boolean(value) => reply.boolean(*value),
            Value::BigNumber(digits) => reply.big_number(digits),
            Value::Verbatim(format, text) => reply.verbatim(*format, text),
            Value::Array(items) => {
                let array = reply.deferred();
                items.iter().for_each(|item| write_value(reply, item));
                reply.set_array_len(array, items.len());
            }
            Value::Set(items) => {
                reply.set(items.len());
                items.iter().for_each(|item| write_value(reply, item));
            }
            Value::Push(items) => {
                reply.push(items.len());
                items.iter().for_each(|item| write_value(reply, item));
            }
            Value::Map(pairs) => {
                let map = reply.deferred();
                write_pairs(reply, pairs);
                reply.set_map_len(map, pairs.len());
            }
            Value::Attribute(pairs, of) => {
                reply.attribute(pairs.len());
                write_pairs(reply, pairs);
                write_value(reply, of);
            }
        }
    }

    fn write_pairs(reply: &mut Reply<'_>, pairs: &[(Value, Value)]) {
        for (key, value) in pairs {
            write_value(reply, key);
            write_value(reply, value);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..120);
        let leaf = prop_oneof![
            prop::collection::vec(b' '..b'~', 0..20).prop_map(Value::Simple),
            prop::collection::vec(b' '..b'~', 0..20).prop_map(Value::Error),
            any::<i64>().prop_map(Value::Integer),
            (-3_i64..200).prop_map(Value::Integer),
            bytes().prop_map(Value::Bulk),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<f64>()
                .prop_filter("NaN differs from itself", |v| !v.is_nan())
                .prop_map(Value::Double),
            any::<i128>().prop_map(|v| Value::BigNumber(v.to_string().into_bytes())),
            bytes().prop_map(|text| Value::Verbatim(*b"txt", text)),
        ];
        leaf.prop_recursive(4, 64, 12, |inner| {
            let items = prop::collection::vec(inner.clone(), 0..12);
            let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..12);
            prop_oneof![
                items.clone().prop_map(Value::Array),
                items.clone().prop_map(Value::Set),
                items.prop_map(Value::Push),
                pairs.clone().prop_map(Value::Map),
                (pairs, inner).prop_map(|(pairs, of)| Value::Attribute(pairs, Box::new(of))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let mut out = Vec::new();
            write_value(&mut Reply::new(&mut out, true), &value);
            prop_assert_eq!(parse_reply(&out), Ok(Some((value, out.len()))));
            for end in 0..out.len() {
                prop_assert_eq!(parse_reply(&out[..end]), Ok(None));
            }
        }
    }
}
