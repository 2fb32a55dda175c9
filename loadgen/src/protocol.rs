//! RESP as a load generator needs it: write a command, and find where replies end.
//!
//! A reply's content does not matter here, only that it is whole, and whether it is an error or a
//! null. So [`ReplyScanner`] keeps no bytes and no tree: it counts how many values are still to
//! come before the current reply is complete (an array of `n` adds `n`), which makes depth free and
//! allocation unnecessary. The text of the first error is kept, since a run full of errors is
//! worthless without knowing which.
//!
//! Promise: however the bytes are cut, the same replies are found; no input panics or allocates.

use std::fmt;

/// Appends `arguments` to `out` as one command, an array of bulk strings.
pub fn encode_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a complete reply was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyKind {
    /// Anything that is neither of the others.
    Value,
    /// A null: most often a key that does not exist.
    Null,
    /// An error.
    Error,
}

/// Why the bytes of a server are not RESP. The connection cannot be used any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// No type of RESP2 or RESP3 begins with this byte.
    UnknownType(u8),
    /// A length that is no number, is below -1, or adds up to more than can be counted.
    InvalidLength,
    /// A bulk string is not followed by CRLF.
    MissingTerminator,
    /// A reply came although every request had been answered.
    UnexpectedReply,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => {
                write!(f, "a reply begins with '{}'", byte.escape_ascii())
            }
            Self::InvalidLength => f.write_str("a reply has an invalid length"),
            Self::MissingTerminator => f.write_str("a bulk reply is not followed by CRLF"),
            Self::UnexpectedReply => f.write_str("a reply came that nothing had asked for"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Bytes of an error text that are kept; Redis's own texts are shorter.
pub const ERROR_TEXT_BYTES_MAX: usize = 256;

/// Finds the ends of replies in a stream of bytes.
#[derive(Debug)]
pub struct ReplyScanner {
    state: State,
    /// Values still to come, the current one included, before the current reply is whole.
    values_left: u64,
    /// What the current reply is; `None` until its own type byte (not an attribute's) was read.
    top: Option<Top>,
    /// Whether the value being read is the reply itself, not a member of it.
    is_at_top: bool,
    error_text: Vec<u8>,
    error_text_complete: bool,
}

/// The kind of a top-level value. A push is no reply: it answers no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Top {
    Reply(ReplyKind),
    Push,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Type,
    /// In a value that ends with its line. `error` says that its text is wanted.
    Line {
        error: bool,
    },
    /// In the decimal length of a bulk string or an aggregate.
    Length {
        of: LengthOf,
        value: u64,
        digits: u8,
        negative: bool,
    },
    /// A length's CR was read, its LF was not.
    LengthLf {
        of: LengthOf,
        length: Option<u64>,
    },
    Bulk {
        left: u64,
        error: bool,
    },
    BulkCr,
    BulkLf,
}

/// What a length counts.
#[derive(Clone, Copy, Debug)]
enum LengthOf {
    Bytes { error: bool },
    Values,
    Pairs,
    AttributePairs,
}

/// Digits of the longest length that is certain to fit 64 bits.
const LENGTH_DIGITS_MAX: u8 = 19;

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyScanner {
    /// A scanner that stands before the first reply.
    pub fn new() -> Self {
        Self {
            state: State::Type,
            values_left: 1,
            top: None,
            is_at_top: false,
            error_text: Vec::with_capacity(ERROR_TEXT_BYTES_MAX),
            error_text_complete: false,
        }
    }

    /// Reads on, and calls `on_reply` for each reply that these bytes complete.
    pub fn scan(
        &mut self,
        mut bytes: &[u8],
        mut on_reply: impl FnMut(ReplyKind),
    ) -> Result<(), ProtocolError> {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Type => {
                    self.on_type(first)?;
                    rest
                }
                State::Line { error } => self.on_line(bytes, error, &mut on_reply),
                State::Length { .. } => {
                    self.on_length(first)?;
                    rest
                }
                State::LengthLf { of, length } => {
                    self.on_length_end(first, of, length, &mut on_reply)?;
                    rest
                }
                State::Bulk { left, error } => self.on_bulk(bytes, left, error),
                State::BulkCr if first == b'\r' => {
                    self.state = State::BulkLf;
                    rest
                }
                State::BulkLf if first == b'\n' => {
                    self.finish_value(&mut on_reply);
                    rest
                }
                State::BulkCr | State::BulkLf => return Err(ProtocolError::MissingTerminator),
            };
        }
        Ok(())
    }

    /// The text of the first error reply, without its `-`.
    pub fn first_error(&self) -> Option<String> {
        let text = &self.error_text;
        self.error_text_complete.then(|| String::from_utf8_lossy(text).trim_end().to_owned())
    }

    fn on_type(&mut self, byte: u8) -> Result<(), ProtocolError> {
        use {LengthOf::*, ReplyKind::*};
        let length = |of| State::Length { of, value: 0, digits: 0, negative: false };
        let (state, top) = match byte {
            b'+' | b':' | b',' | b'#' | b'(' => (State::Line { error: false }, Top::Reply(Value)),
            b'_' => (State::Line { error: false }, Top::Reply(Null)),
            b'-' => (State::Line { error: true }, Top::Reply(Error)),
            b'$' | b'=' => (length(Bytes { error: false }), Top::Reply(Value)),
            b'!' => (length(Bytes { error: true }), Top::Reply(Error)),
            b'*' | b'~' => (length(Values), Top::Reply(Value)),
            b'%' => (length(Pairs), Top::Reply(Value)),
            b'>' => (length(Values), Top::Push),
            b'|' => (length(AttributePairs), Top::Reply(Value)),
            _ => return Err(ProtocolError::UnknownType(byte)),
        };
        self.state = state;
        // While an attribute's pairs are read more than one value is left, so the first type byte
        // met with exactly one left is the reply's own.
        self.is_at_top = self.values_left == 1 && self.top.is_none() && byte != b'|';
        if self.is_at_top {
            self.top = Some(top);
        }
        Ok(())
    }

    fn on_line<'a>(
        &mut self,
        bytes: &'a [u8],
        error: bool,
        on_reply: &mut impl FnMut(ReplyKind),
    ) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |lf| lf + 1));
        if error {
            self.keep_error_text(line);
        }
        if end.is_some() {
            self.error_text_complete |= error;
            self.finish_value(on_reply);
        }
        rest
    }

    fn on_length(&mut self, byte: u8) -> Result<(), ProtocolError> {
        let State::Length { of, value, digits, negative } = &mut self.state else { return Ok(()) };
        match byte {
            b'0'..=b'9' if *digits < LENGTH_DIGITS_MAX => {
                *value = *value * 10 + u64::from(byte - b'0');
                *digits += 1;
            }
            b'-' if *digits == 0 && !*negative => *negative = true,
            b'\r' if *digits > 0 && (!*negative || *value == 1) => {
                let length = (!*negative).then_some(*value);
                self.state = State::LengthLf { of: *of, length };
            }
            _ => return Err(ProtocolError::InvalidLength),
        }
        Ok(())
    }

    fn on_length_end(
        &mut self,
        byte: u8,
        of: LengthOf,
        length: Option<u64>,
        on_reply: &mut impl FnMut(ReplyKind),
    ) -> Result<(), ProtocolError> {
        if byte != b'\n' {
            return Err(ProtocolError::InvalidLength);
        }
        let Some(length) = length else {
            // A null is complete with its length; one inside an array does not make the array null.
            if self.is_at_top && self.top == Some(Top::Reply(ReplyKind::Value)) {
                self.top = Some(Top::Reply(ReplyKind::Null));
            }
            self.finish_value(on_reply);
            return Ok(());
        };
        let values = match of {
            LengthOf::Bytes { error } => {
                self.state = State::Bulk { left: length, error };
                return Ok(());
            }
            LengthOf::Values => Some(length),
            LengthOf::Pairs | LengthOf::AttributePairs => length.checked_mul(2),
        };
        let total = values.and_then(|values| self.values_left.checked_add(values));
        self.values_left = total.ok_or(ProtocolError::InvalidLength)?;
        self.state = State::Type;
        if !matches!(of, LengthOf::AttributePairs) {
            self.finish_value(on_reply);
        }
        Ok(())
    }

    fn on_bulk<'a>(&mut self, bytes: &'a [u8], left: u64, error: bool) -> &'a [u8] {
        let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (payload, rest) = bytes.split_at(taken);
        if error {
            self.keep_error_text(payload);
        }
        let left = left - taken as u64;
        self.error_text_complete |= error && left == 0;
        self.state = if left == 0 { State::BulkCr } else { State::Bulk { left, error } };
        rest
    }

    /// The value that was being read is complete, and with it perhaps the reply.
    fn finish_value(&mut self, on_reply: &mut impl FnMut(ReplyKind)) {
        self.state = State::Type;
        self.values_left -= 1;
        if self.values_left == 0 {
            self.values_left = 1;
            if let Some(Top::Reply(kind)) = self.top.take() {
                on_reply(kind);
            }
        }
    }

    fn keep_error_text(&mut self, text: &[u8]) {
        if !self.error_text_complete {
            let room = ERROR_TEXT_BYTES_MAX - self.error_text.len();
            self.error_text.extend_from_slice(&text[..text.len().min(room)]);
        }
    }
}

#[cfg(test)]
mod tests;
