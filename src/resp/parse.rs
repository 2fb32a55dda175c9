//! Requests: RESP arrays of bulk strings, and inline lines, cut out of a connection's input.
//!
//! A sans-IO machine: the caller hands it the unconsumed input, gets one command, and asks again.
//! A whole command (nearly every one) is cut in one pass, straight into slices of the input. For
//! one that is still arriving only four numbers are kept: everything before `position` is known
//! to be good, so each call looks at new bytes only, and when the last byte is there the headers
//! are walked once more. That makes an idle connection's parser 32 bytes without heap, and
//! a command that comes byte by byte, or in 16 KiB pieces of a 512 MB bulk, costs linear time.
//!
//! Promise: no input panics, allocates by an announced size, or is consumed beyond its end; how
//! the input is split into reads never changes what is parsed. Texts and limits are those of
//! Redis 7.0 `networking.c`, oddities included: neither the `\n` of a header nor the CRLF after
//! a bulk is looked at, and a NUL hides the end of its line.

use std::borrow::Cow;
use std::fmt;

use crate::config::quoting::split_words;

/// Longest inline request and longest header line, in bytes (Redis 7.0 `server.h`,
/// PROTO_INLINE_MAX_SIZE).
pub const INLINE_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Default of `proto-max-bulk-len`, in bytes.
pub const BULK_BYTES_MAX_DEFAULT: usize = 512 * 1024 * 1024;
/// Most arguments of a request (Redis 7.0 `networking.c`: INT_MAX).
pub const REQUEST_ARGS_MAX: i64 = i32::MAX as i64;
/// Most arguments of a request while the connection has yet to authenticate.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
/// Longest argument while the connection has yet to authenticate, in bytes.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16384;

const _: () = assert!(size_of::<Parser>() <= 64, "thousands of idle connections own one each");

/// What a connection may send at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `proto-max-bulk-len`; `usize::MAX` for the link from our master, which has no limit.
    pub bulk_bytes_max: usize,
    /// Whether the connection still has to authenticate: it gets little memory until then.
    pub unauthenticated: bool,
}

impl Limits {
    /// For a command whose parts were already let through one by one.
    const NONE: Self = Self { bulk_bytes_max: usize::MAX, unauthenticated: false };
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk_bytes_max: BULK_BYTES_MAX_DEFAULT, unauthenticated: false }
    }
}

/// What [`Parser::next`] found at the start of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole command; its arguments are in `args`.
    Command {
        /// Bytes of the input that it took.
        consumed: usize,
    },
    /// A whole inline command. Quoting makes its arguments differ from their spelling, so they
    /// are owned; at least one.
    Inline {
        /// Bytes of the input that it took.
        consumed: usize,
        /// The arguments, without quotes and escapes.
        args: Vec<Vec<u8>>,
    },
    /// An empty line, `*0` or `*-1`: nothing to run and nothing to answer.
    Nothing {
        /// Bytes of the input that it took.
        consumed: usize,
    },
    /// Call again, with the same bytes and more after them.
    Incomplete {
        /// The command cannot be whole before the input is this long. It covers the argument
        /// that is arriving, at most `bulk_bytes_max` and a few bytes more than have come.
        need: usize,
    },
}

/// A request that no valid client sends. The connection is answered and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number after `*` is not one, or is above [`REQUEST_ARGS_MAX`].
    InvalidMultibulkLength,
    /// An argument begins with this byte.
    ExpectedDollar(u8),
    /// The number after `$` is not one, is negative, or is above the limit.
    InvalidBulkLength,
    /// The line after `*` does not end.
    TooBigMultibulkCount,
    /// The line after `$` does not end.
    TooBigBulkCount,
    /// An inline line does not end.
    TooBigInlineRequest,
    /// An inline line's quotes do not match.
    UnbalancedQuotes,
    /// More arguments than a connection may send before it authenticates.
    UnauthenticatedMultibulkLength,
    /// A longer argument than a connection may send before it authenticates.
    UnauthenticatedBulkLength,
}

impl ProtocolError {
    /// What follows the `-` on the wire. Bytes, because one text quotes a byte of the client's.
    pub fn text(self) -> Cow<'static, [u8]> {
        Cow::Borrowed(match self {
            Self::ExpectedDollar(got) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend([if matches!(got, b'\r' | b'\n') { b' ' } else { got }, b'\'']);
                return Cow::Owned(text);
            }
            Self::InvalidMultibulkLength => b"ERR Protocol error: invalid multibulk length",
            Self::InvalidBulkLength => b"ERR Protocol error: invalid bulk length",
            Self::TooBigMultibulkCount => b"ERR Protocol error: too big mbulk count string",
            Self::TooBigBulkCount => b"ERR Protocol error: too big bulk count string",
            Self::TooBigInlineRequest => b"ERR Protocol error: too big inline request",
            Self::UnbalancedQuotes => b"ERR Protocol error: unbalanced quotes in request",
            Self::UnauthenticatedMultibulkLength => {
                b"ERR Protocol error: unauthenticated multibulk length"
            }
            Self::UnauthenticatedBulkLength => b"ERR Protocol error: unauthenticated bulk length",
        })
    }
}

/// The text of [`ProtocolError::text`], for logs.
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl std::error::Error for ProtocolError {}

/// How far the command at the start of the input has been read; all zero between commands.
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the first element (count or argument) begins that is not known to be whole.
    position: usize,
    /// Up to here, the line at `position` has no end.
    scanned: usize,
    /// Input length below which looking again is pointless.
    need: usize,
    /// Arguments from `position` on; counts only once `position` is past the count line.
    remaining: usize,
}

/// Bytes of an [`Opening`] at most.
const OPENING_BYTES_MAX: usize = 24;

/// How a command begins, up to the end of its first argument: the number of arguments and the name. Pipelines repeat
/// themselves, and bytes that are equal mean the same, so what was read once need not be read again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// The bytes, and a mask of as many.
    bytes: [u64; OPENING_BYTES_MAX / 8],
    mask: [u64; OPENING_BYTES_MAX / 8],
    /// 0 for none.
    len: u8,
    /// Where the name begins.
    name: u8,
    /// Arguments behind the name.
    further: u32,
}

impl Opening {
    /// That of a command that was cut out of the start of `input`; one that nothing begins with if it is long.
    pub fn of(input: &[u8], args: &[&[u8]]) -> Self {
        let Some(first) = args.first() else { return Self::default() };
        let name = first.as_ptr().addr().wrapping_sub(input.as_ptr().addr());
        let len = name.saturating_add(first.len() + 2);
        let (Some(opening), Ok(further)) = (input.get(..len), u32::try_from(args.len() - 1)) else {
            return Self::default();
        };
        if len > OPENING_BYTES_MAX {
            return Self::default();
        }
        let (mut bytes, mut mask) = ([0; OPENING_BYTES_MAX], [0; OPENING_BYTES_MAX]);
        bytes[..len].copy_from_slice(opening);
        mask[..len].fill(0xff);
        let (bytes, mask) = (words(&bytes), words(&mask));
        Self { bytes, mask, len: len as u8, name: name as u8, further }
    }

    /// Whether `input` begins like this. Not of the last bytes of a read: as many are looked at as an opening can have.
    #[inline(always)]
    fn begins(&self, input: &[u8]) -> bool {
        let Some(input) = input.first_chunk::<OPENING_BYTES_MAX>() else { return false };
        let there = words(input);
        let differs = |at: usize| (there[at] & self.mask[at]) ^ self.bytes[at];
        self.len > 0 && differs(0) | differs(1) | differs(2) == 0
    }

    /// The arguments of the command that `input` begins with, if all of it is there and spelled in the usual way.
    #[inline(always)]
    fn cut<'b>(&self, input: &'b [u8], limits: &Limits, args: &mut Vec<&'b [u8]>) -> Option<usize> {
        let mut end = usize::from(self.len);
        args.push(input.get(usize::from(self.name)..end - 2)?);
        for _ in 0..self.further {
            let (length, body) = short_header(input, end, b'$')?;
            let length =
                usize::try_from(length).ok().filter(|len| *len <= limits.bulk_bytes_max)?;
            end = body + length + 2;
            args.push(&input.get(body..end)?[..length]);
        }
        Some(end)
    }
}

#[inline(always)]
fn words(bytes: &[u8; OPENING_BYTES_MAX]) -> [u64; OPENING_BYTES_MAX / 8] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(chunks[at]))
}

/// A header line: its number, and where what it announces begins.
type Header = (i64, usize);

impl Parser {
    /// Reads the command that `input` begins with.
    ///
    /// On [`Step::Command`] its arguments have been appended to `args`; in all other cases `args` is
    /// as it was. So the arguments of a pipeline stand one after the other. After [`Step::Incomplete`] the next call's
    /// input must begin with the same bytes. After an error the connection is to be closed.
    #[inline]
    pub fn next<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        args: &mut Vec<&'b [u8]>,
    ) -> Result<Step, ProtocolError> {
        match input.first() {
            Some(b'*') if self.position == 0 => self.multibulk(input, limits, args),
            Some(b'*') => self.resume(input, limits, args),
            Some(_) => self.inline(input),
            None => Ok(Step::Incomplete { need: 1 }),
        }
    }

    /// As [`Parser::next`] of an authenticated connection, if `input` is a whole command that begins with `opening`: the
    /// bytes that it took. `None` says nothing: ask [`Parser::next`].
    #[inline(always)]
    pub fn next_like<'b>(
        &mut self,
        opening: &Opening,
        input: &'b [u8],
        limits: &Limits,
        args: &mut Vec<&'b [u8]>,
    ) -> Option<usize> {
        if self.position != 0 || !opening.begins(input) {
            return None;
        }
        let before = args.len();
        let end = opening.cut(input, limits, args);
        match end {
            Some(_) => *self = Self::default(),
            None => args.truncate(before),
        }
        end
    }

    /// A multibulk request from its first byte.
    #[inline]
    fn multibulk<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        args: &mut Vec<&'b [u8]>,
    ) -> Result<Step, ProtocolError> {
        let header = match short_header(input, 0, b'*') {
            Some(header) => Some(header),
            None => self.count_line(input)?,
        };
        let Some((count, start)) = header else { return Ok(self.pause(0, 0, input.len() + 1)) };
        if count > UNAUTHENTICATED_ARGS_MAX && limits.unauthenticated {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
            *self = Self::default();
            return Ok(Step::Nothing { consumed: start });
        };
        let before = args.len();
        let step = self.arguments(input, start, count, limits, args);
        if !matches!(step, Ok(Step::Command { .. })) {
            args.truncate(before);
        }
        step
    }

    /// A multibulk request whose beginning was read by an earlier call. Arguments that came
    /// before are not remembered, so when the rest is there, all are cut anew.
    #[cold]
    fn resume<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        args: &mut Vec<&'b [u8]>,
    ) -> Result<Step, ProtocolError> {
        if input.len() < self.need {
            return Ok(Step::Incomplete { need: self.need });
        }
        let before = args.len();
        let step = self.arguments(input, self.position, self.remaining, limits, args);
        args.truncate(before);
        match step? {
            Step::Command { .. } => self.multibulk(input, &Limits::NONE, args),
            other => Ok(other),
        }
    }

    /// The `count` arguments that begin at `start`.
    #[inline(always)]
    fn arguments<'b>(
        &mut self,
        input: &'b [u8],
        start: usize,
        count: usize,
        limits: &Limits,
        args: &mut Vec<&'b [u8]>,
    ) -> Result<Step, ProtocolError> {
        let mut position = start;
        let mut remaining = count;
        while remaining > 0 {
            let header = match short_header(input, position, b'$') {
                Some(header) => Some(header),
                None => self.length_line(input, position)?,
            };
            let Some((length, body)) = header else {
                return Ok(self.pause(position, remaining, input.len() + 1));
            };
            let end = body + checked_length(length, limits)?;
            let Some(with_break) = input.get(body..end + 2) else {
                return Ok(self.pause(position, remaining, end + 2));
            };
            args.push(&with_break[..end - body]);
            position = end + 2;
            remaining -= 1;
        }
        *self = Self::default();
        Ok(Step::Command { consumed: position })
    }

    /// Remembers what to read next, and that nothing can come of it below `need` bytes.
    fn pause(&mut self, position: usize, remaining: usize, need: usize) -> Step {
        self.position = position;
        self.remaining = remaining;
        self.need = need;
        Step::Incomplete { need }
    }

    /// The count line, however it is spelled.
    #[cold]
    fn count_line(&mut self, input: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let line = self.line(input, 0, b'\r', ProtocolError::TooBigMultibulkCount)?;
        let Some(end) = line.filter(|end| end + 1 < input.len()) else { return Ok(None) };
        let count = parse_strict(&input[1..end])
            .filter(|count| *count <= REQUEST_ARGS_MAX)
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        Ok(Some((count, end + 2)))
    }

    /// The line before an argument, however it is spelled.
    #[cold]
    fn length_line(
        &mut self,
        input: &[u8],
        position: usize,
    ) -> Result<Option<Header>, ProtocolError> {
        let line = self.line(input, position, b'\r', ProtocolError::TooBigBulkCount)?;
        let Some(end) = line.filter(|end| end + 1 < input.len()) else { return Ok(None) };
        match &input[position..end] {
            [b'$', digits @ ..] => {
                let length = parse_strict(digits).ok_or(ProtocolError::InvalidBulkLength)?;
                Ok(Some((length, end + 2)))
            }
            [other, ..] => Err(ProtocolError::ExpectedDollar(*other)),
            [] => Err(ProtocolError::ExpectedDollar(b'\r')),
        }
    }

    /// An inline request.
    #[cold]
    fn inline(&mut self, input: &[u8]) -> Result<Step, ProtocolError> {
        let line = self.line(input, 0, b'\n', ProtocolError::TooBigInlineRequest)?;
        let Some(end) = line else { return Ok(self.pause(0, 0, input.len() + 1)) };
        *self = Self::default();
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let args = split_words(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        let consumed = end + 1;
        Ok(if args.is_empty() {
            Step::Nothing { consumed }
        } else {
            Step::Inline { consumed, args }
        })
    }

    /// Where the line that begins at `start` ends, or `None` if the end is yet to come.
    fn line(
        &mut self,
        input: &[u8],
        start: usize,
        terminator: u8,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.scanned.max(start);
        let unseen = input.get(from..).unwrap_or_default();
        // Redis searches with C's string functions: behind a NUL it sees nothing.
        let found = memchr::memchr2(terminator, 0, unseen).map(|offset| from + offset);
        self.scanned = found.unwrap_or(input.len());
        let end = found.filter(|end| input[*end] == terminator);
        // A line that came whole in one read has the same limit as one that came in pieces.
        if end.unwrap_or(input.len()) > start + INLINE_REQUEST_BYTES_MAX {
            return Err(too_big);
        }
        Ok(end)
    }
}

/// A header of up to three digits that is there with its CRLF; anything else goes the long way. Eight bytes are
/// loaded at once, for the checks on them are then free of bounds; so of a request's last headers those
/// with less than eight bytes behind them go the long way too.
#[inline(always)]
fn short_header(input: &[u8], position: usize, sigil: u8) -> Option<Header> {
    let word = u64::from_le_bytes(*input.get(position..)?.first_chunk::<8>()?);
    let byte = |at: u32| (word >> (8 * at)) as u8;
    let digit = |at: u32| byte(at).wrapping_sub(b'0');
    if byte(0) != sigil || digit(1) > 9 {
        return None;
    }
    let ones = i64::from(digit(1));
    if byte(2) == b'\r' {
        return Some((ones, position + 4));
    }
    if ones == 0 || digit(2) > 9 {
        return None;
    }
    let tens = ones * 10 + i64::from(digit(2));
    match byte(3) {
        b'\r' => Some((tens, position + 5)),
        _ if digit(3) <= 9 && byte(4) == b'\r' => {
            Some((tens * 10 + i64::from(digit(3)), position + 6))
        }
        _ => None,
    }
}

/// The length of an argument, if this connection may send that much.
#[inline]
fn checked_length(length: i64, limits: &Limits) -> Result<usize, ProtocolError> {
    match usize::try_from(length) {
        Ok(length) if length > limits.bulk_bytes_max => Err(ProtocolError::InvalidBulkLength),
        Ok(length) if limits.unauthenticated && length > UNAUTHENTICATED_BULK_BYTES_MAX => {
            Err(ProtocolError::UnauthenticatedBulkLength)
        }
        Ok(length) => Ok(length),
        Err(_) => Err(ProtocolError::InvalidBulkLength),
    }
}

/// A number in its one shortest spelling: no plus, no leading zero, no space (`string2ll`).
fn parse_strict(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] if text.len() == 1 => Some(0),
        [b'1'..=b'9', ..] => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
