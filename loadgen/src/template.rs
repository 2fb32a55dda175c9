//! A command with holes, encoded once and filled for every request.
//!
//! Why fixed widths: a key is its prefix and twelve digits, a random number has the digits of its
//! bound, a value has one size. All RESP lengths are then known before the run, so that a request
//! costs one copy of the encoded command and a few digits, and the generator stays cheaper than
//! the server it measures.
//!
//! Promise: what [`Template::append`] writes is one valid RESP command.

use std::fmt;

use crate::protocol::encode_command;

/// Digits of a key's number: `key:000000000042`, the form that redis-benchmark uses.
pub const KEY_DIGITS: usize = 12;
/// Most keys that [`KEY_DIGITS`] can tell apart.
pub const KEYS_MAX: u64 = 1_000_000_000_000;

const _: () = assert!(KEYS_MAX == 10u64.pow(KEY_DIGITS as u32));

/// What stands in a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hole {
    /// `__key__`: the digits of a key drawn from the distribution; the prefix is already there.
    Key,
    /// `__value__`: bytes of a value.
    Value { bytes: usize },
    /// `__rand__`, `__rand:N__`: a uniform number below the bound, in as many digits as it needs.
    Random { bound: u64, digits: usize },
}

impl Hole {
    fn bytes(self) -> usize {
        match self {
            Self::Key => KEY_DIGITS,
            Self::Value { bytes } => bytes,
            Self::Random { digits, .. } => digits,
        }
    }
}

/// What the holes are filled with.
pub trait Source {
    /// The number of the next key.
    fn key(&mut self) -> u64;
    /// A number below `bound`.
    fn random(&mut self, bound: u64) -> u64;
    /// Fills `value`.
    fn value(&mut self, value: &mut [u8]);
}

/// The sizes that a template's holes take.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// What stands before the digits of every key.
    pub key_prefix: &'a str,
    /// The number of keys: the bound of `__rand__`.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// Why a command text is no template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TemplateError {
    /// There is no word in it.
    Empty,
    /// A quote is opened and never closed.
    UnbalancedQuote,
    /// The bound of `__rand:N__` is no number from 1 on.
    InvalidBound(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the command is empty"),
            Self::UnbalancedQuote => f.write_str("the command has an unbalanced quote"),
            Self::InvalidBound(bound) => {
                write!(f, "'{bound}' is no bound for __rand:N__, which takes a number from 1 on")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

/// An encoded command and where its holes are.
#[derive(Clone, Debug)]
pub struct Template {
    encoded: Vec<u8>,
    /// Each hole with its offset in `encoded`.
    holes: Vec<(usize, Hole)>,
}

impl Template {
    /// Reads `text`, words separated by blanks or enclosed in `"` or `'`, with placeholders
    /// anywhere in them.
    pub fn parse(text: &str, shape: Shape<'_>) -> Result<Self, TemplateError> {
        let words = split_words(text)?;
        if words.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut arguments = Vec::new();
        let mut holes_by_argument = Vec::new();
        for word in &words {
            let (argument, holes) = parse_word(word, shape)?;
            arguments.push(argument);
            holes_by_argument.push(holes);
        }
        let views: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let mut encoded = Vec::new();
        encode_command(&mut encoded, &views);
        // Walk back from the end: each argument is followed by CRLF and preceded by its length.
        let mut holes = Vec::new();
        let mut end = encoded.len();
        for (argument, of_argument) in arguments.iter().zip(holes_by_argument).rev() {
            let start = end - b"\r\n".len() - argument.len();
            holes.extend(of_argument.into_iter().map(|(offset, hole)| (start + offset, hole)));
            end = start - format!("${}\r\n", argument.len()).len();
        }
        // The order of the text, so that several keys of a command are drawn from left to right.
        holes.sort_unstable_by_key(|&(offset, _)| offset);
        Ok(Self { encoded, holes })
    }

    /// Appends one command to `out`, its holes filled from `source`.
    pub fn append(&self, out: &mut Vec<u8>, source: &mut impl Source) {
        let start = out.len();
        out.extend_from_slice(&self.encoded);
        for &(offset, hole) in &self.holes {
            let place = &mut out[start + offset..][..hole.bytes()];
            match hole {
                Hole::Key => write_digits(place, source.key()),
                Hole::Value { .. } => source.value(place),
                Hole::Random { bound, .. } => write_digits(place, source.random(bound)),
            }
        }
    }
}

/// Writes `number` over all of `place`, zeros in front.
fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn split_words(text: &str) -> Result<Vec<String>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).ok_or(TemplateError::UnbalancedQuote)?,
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

/// One argument with its holes blank, and the holes by offset.
type ParsedWord = (Vec<u8>, Vec<(usize, Hole)>);

fn parse_word(word: &str, shape: Shape<'_>) -> Result<ParsedWord, TemplateError> {
    let (mut argument, mut holes) = (Vec::new(), Vec::new());
    let mut rest = word;
    while let Some(open) = rest.find("__") {
        let (literal, tail) = rest.split_at(open);
        argument.extend_from_slice(literal.as_bytes());
        let name = tail[2..].split_once("__").map(|(name, _)| name);
        match name.map(|name| hole_named(name, shape)).transpose()?.flatten() {
            Some(hole) => {
                if hole == Hole::Key {
                    argument.extend_from_slice(shape.key_prefix.as_bytes());
                }
                holes.push((argument.len(), hole));
                argument.resize(argument.len() + hole.bytes(), b'0');
                rest = &tail[name.map_or(0, str::len) + 4..];
            }
            // Not one of ours: an underscore is a character like another.
            None => {
                argument.push(b'_');
                rest = &tail[1..];
            }
        }
    }
    argument.extend_from_slice(rest.as_bytes());
    Ok((argument, holes))
}

fn hole_named(name: &str, shape: Shape<'_>) -> Result<Option<Hole>, TemplateError> {
    match name {
        "key" => Ok(Some(Hole::Key)),
        "value" => Ok(Some(Hole::Value { bytes: shape.value_bytes })),
        "rand" => Ok(Some(Hole::Random { bound: shape.keys, digits: KEY_DIGITS })),
        _ => {
            let Some(bound) = name.strip_prefix("rand:") else { return Ok(None) };
            let parsed = bound.parse().ok().filter(|&bound: &u64| bound > 0);
            let bound = parsed.ok_or_else(|| TemplateError::InvalidBound(bound.to_owned()))?;
            Ok(Some(Hole::Random { bound, digits: (bound - 1).max(1).ilog10() as usize + 1 }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up, so that a test sees which hole took which number.
    struct Counting(u64);

    impl Source for Counting {
        fn key(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
        fn random(&mut self, bound: u64) -> u64 {
            bound - 1
        }
        fn value(&mut self, value: &mut [u8]) {
            value.fill(b'v');
        }
    }

    const SHAPE: Shape<'_> = Shape { key_prefix: "k:", keys: 100, value_bytes: 3 };

    fn filled(text: &str) -> Vec<String> {
        let template = Template::parse(text, SHAPE).unwrap();
        let mut out = b"before".to_vec();
        template.append(&mut out, &mut Counting(0));
        let encoded = String::from_utf8(out.split_off(6)).unwrap();
        let mut lines = encoded.split("\r\n").skip(1);
        let mut words = Vec::new();
        while let (Some(length), Some(word)) = (lines.next(), lines.next()) {
            assert_eq!(length, format!("${}", word.len()), "{encoded:?}");
            words.push(word.to_owned());
        }
        assert!(encoded.starts_with(&format!("*{}\r\n", words.len())), "{encoded:?}");
        words
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        for (text, words) in [
            ("PING", vec!["PING"]),
            ("SET __key__ __value__", vec!["SET", "k:000000000001", "vvv"]),
            ("MGET __key__ __key__", vec!["MGET", "k:000000000001", "k:000000000002"]),
            ("SET {a__key__b} x__rand__", vec!["SET", "{ak:000000000001b}", "x000000000099"]),
            ("SETEX k 1__rand:1000__ v", vec!["SETEX", "k", "1999", "v"]),
            ("PEXPIRE k __rand:1__", vec!["PEXPIRE", "k", "0"]),
            ("SET k 'a b' \"\"", vec!["SET", "k", "a b", ""]),
            ("GET  __other__ __ ___key__", vec!["GET", "__other__", "__", "_k:000000000001"]),
        ] {
            assert_eq!(filled(text), words, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_command_are_refused() {
        for (text, error) in [
            ("  ", TemplateError::Empty),
            ("SET k 'v", TemplateError::UnbalancedQuote),
            ("SET k __rand:0__", TemplateError::InvalidBound("0".into())),
            ("SET k __rand:x__", TemplateError::InvalidBound("x".into())),
        ] {
            assert_eq!(Template::parse(text, SHAPE).unwrap_err(), error, "{text}");
        }
    }
}
