//! Replies read back into values: for tests, fuzzing and tools, so strict rather than fast.
//!
//! It takes exactly what a Redis 7.0 server sends: every CRLF is checked, numbers have one
//! spelling, and the null of each protocol is a value of its own, so that a test sees which came.
//!
//! Promise: no input panics, overflows the stack or allocates by an announced length.

/// Deepest nesting that is read. The replies of Redis stay below ten, and each level takes stack.
pub const REPLY_DEPTH_MAX: usize = 128;

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`: a status.
    Simple(Vec<u8>),
    /// `-`: an error, code and message.
    Error(Vec<u8>),
    /// `:`: an integer.
    Integer(i64),
    /// `$`: a string of bytes.
    Bulk(Vec<u8>),
    /// `$-1`: RESP2, no string.
    NullBulk,
    /// `*-1`: RESP2, no array.
    NullArray,
    /// `_`: RESP3, no value.
    Null,
    /// `*`: an array.
    Array(Vec<Value>),
    /// `%`: keys and values, in order.
    Map(Vec<(Value, Value)>),
    /// `~`: a set, in order of arrival.
    Set(Vec<Value>),
    /// `>`: a message out of turn.
    Push(Vec<Value>),
    /// `|`: attributes, and the reply that they belong to.
    Attribute(Vec<(Value, Value)>, Box<Value>),
    /// `,`: a double.
    Double(f64),
    /// `#`: true or false.
    Boolean(bool),
    /// `(`: decimal digits.
    BigNumber(Vec<u8>),
    /// `=`: a format in three letters, and text.
    Verbatim([u8; 3], Vec<u8>),
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A reply begins with this byte.
    UnknownType(u8),
    /// A number, a boolean or a null is spelled wrong.
    BadScalar,
    /// A line or a string does not end with CRLF.
    MissingCrlf,
    /// More than [`REPLY_DEPTH_MAX`] aggregates in one another.
    TooDeep,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(f, "no reply begins with byte {byte:#04x}"),
            Self::BadScalar => f.write_str("a number, boolean or null is spelled wrong"),
            Self::MissingCrlf => f.write_str("a line or string does not end with CRLF"),
            Self::TooDeep => write!(f, "more than {REPLY_DEPTH_MAX} nested aggregates"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// The reply that `input` begins with and its length in bytes, or `None` if more has to come.
pub fn parse_reply(input: &[u8]) -> Result<Option<(Value, usize)>, ReplyError> {
    let mut cursor = Cursor { input, position: 0 };
    match cursor.value(REPLY_DEPTH_MAX) {
        Ok(value) => Ok(Some((value, cursor.position))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Invalid(error)) => Err(error),
    }
}

/// Why reading ended before the end of a reply.
enum Stop {
    Incomplete,
    Invalid(ReplyError),
}

impl From<ReplyError> for Stop {
    fn from(error: ReplyError) -> Self {
        Self::Invalid(error)
    }
}

struct Cursor<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn value(&mut self, depth_left: usize) -> Result<Value, Stop> {
        let sigil = *self.input.get(self.position).ok_or(Stop::Incomplete)?;
        self.position += 1;
        match sigil {
            b'+' => Ok(Value::Simple(self.line()?.to_vec())),
            b'-' => Ok(Value::Error(self.line()?.to_vec())),
            b':' => Ok(Value::Integer(parse_integer(self.line()?)?)),
            b'$' => match self.length()? {
                Some(length) => Ok(Value::Bulk(self.bytes(length)?.to_vec())),
                None => Ok(Value::NullBulk),
            },
            b'_' if self.line()?.is_empty() => Ok(Value::Null),
            b'#' => match self.line()? {
                b"t" => Ok(Value::Boolean(true)),
                b"f" => Ok(Value::Boolean(false)),
                _ => Err(ReplyError::BadScalar.into()),
            },
            b',' => Ok(Value::Double(parse_double(self.line()?)?)),
            b'(' => Ok(Value::BigNumber(parse_big_number(self.line()?)?)),
            b'=' => self.verbatim(),
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let depth_left = depth_left.checked_sub(1).ok_or(ReplyError::TooDeep)?;
                self.aggregate(sigil, depth_left)
            }
            b'_' => Err(ReplyError::BadScalar.into()),
            other => Err(ReplyError::UnknownType(other).into()),
        }
    }

    fn aggregate(&mut self, sigil: u8, depth_left: usize) -> Result<Value, Stop> {
        let length = match (sigil, self.length()?) {
            (_, Some(length)) => length,
            (b'*', None) => return Ok(Value::NullArray),
            (_, None) => return Err(ReplyError::BadScalar.into()),
        };
        match sigil {
            b'*' => Ok(Value::Array(self.items(length, depth_left)?)),
            b'~' => Ok(Value::Set(self.items(length, depth_left)?)),
            b'>' => Ok(Value::Push(self.items(length, depth_left)?)),
            b'%' => Ok(Value::Map(self.pairs(length, depth_left)?)),
            _ => {
                let pairs = self.pairs(length, depth_left)?;
                Ok(Value::Attribute(pairs, Box::new(self.value(depth_left)?)))
            }
        }
    }

    /// The vector grows with what is there, not with what is announced.
    fn items(&mut self, length: usize, depth_left: usize) -> Result<Vec<Value>, Stop> {
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.value(depth_left)?);
        }
        Ok(items)
    }

    fn pairs(&mut self, length: usize, depth_left: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let mut pairs = Vec::new();
        for _ in 0..length {
            let key = self.value(depth_left)?;
            pairs.push((key, self.value(depth_left)?));
        }
        Ok(pairs)
    }

    fn verbatim(&mut self) -> Result<Value, Stop> {
        let length = self.length()?.ok_or(ReplyError::BadScalar)?;
        match self.bytes(length)? {
            [a, b, c, b':', text @ ..] => Ok(Value::Verbatim([*a, *b, *c], text.to_vec())),
            _ => Err(ReplyError::BadScalar.into()),
        }
    }

    /// A length, or `None` for -1.
    fn length(&mut self) -> Result<Option<usize>, Stop> {
        match parse_integer(self.line()?)? {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).map_err(|_| ReplyError::BadScalar)?)),
        }
    }

    /// The rest of the line, without its CRLF.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.position..];
        let end = memchr::memchr2(b'\r', b'\n', rest).ok_or(Stop::Incomplete)?;
        match &rest[end..] {
            [b'\r', b'\n', ..] => {
                self.position += end + 2;
                Ok(&rest[..end])
            }
            [b'\r'] => Err(Stop::Incomplete),
            _ => Err(ReplyError::MissingCrlf.into()),
        }
    }

    /// `length` bytes and their CRLF.
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.position..];
        let end = length.checked_add(2).ok_or(ReplyError::BadScalar)?;
        let framed = rest.get(..end).ok_or(Stop::Incomplete)?;
        let bytes = framed.strip_suffix(b"\r\n").ok_or(ReplyError::MissingCrlf)?;
        self.position += end;
        Ok(bytes)
    }
}

/// An integer in its shortest spelling.
pub(super) fn parse_integer(text: &[u8]) -> Result<i64, ReplyError> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or(ReplyError::BadScalar)?;
    let shortest = itoa::Buffer::new().format(number).as_bytes() == text;
    if shortest { Ok(number) } else { Err(ReplyError::BadScalar) }
}

fn parse_double(text: &[u8]) -> Result<f64, ReplyError> {
    match text {
        b"inf" => Ok(f64::INFINITY),
        b"-inf" => Ok(f64::NEG_INFINITY),
        b"nan" | b"-nan" => Ok(f64::NAN),
        // Rust also reads "infinity", "NaN" and "+1", which no server sends.
        [b'0'..=b'9' | b'-', rest @ ..]
            if rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'-' | b'+')) =>
        {
            let text = std::str::from_utf8(text).map_err(|_| ReplyError::BadScalar)?;
            text.parse().map_err(|_| ReplyError::BadScalar)
        }
        _ => Err(ReplyError::BadScalar),
    }
}

fn parse_big_number(text: &[u8]) -> Result<Vec<u8>, ReplyError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if valid { Ok(text.to_vec()) } else { Err(ReplyError::BadScalar) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_a_server_sends_is_a_reply() {
        type Parsed = Result<Option<Value>, ReplyError>;
        let rows: &[(&[u8], Parsed)] = &[
            (b"", Ok(None)),
            (b"$-1\r\n", Ok(Some(Value::NullBulk))),
            (b"*-1\r\n", Ok(Some(Value::NullArray))),
            (b"_\r\n", Ok(Some(Value::Null))),
            (b"*2\r\n:1\r\n", Ok(None)),
            (b"*9223372036854775807\r\n", Ok(None)),
            (b"$9223372036854775807\r\nx", Ok(None)),
            (
                b"%1\r\n+a\r\n:1\r\n",
                Ok(Some(Value::Map(vec![(Value::Simple(b"a".to_vec()), Value::Integer(1))]))),
            ),
            (b"_x\r\n", Err(ReplyError::BadScalar)),
            (b"%-1\r\n", Err(ReplyError::BadScalar)),
            (b"$-2\r\n", Err(ReplyError::BadScalar)),
            (b":+1\r\n", Err(ReplyError::BadScalar)),
            (b":01\r\n", Err(ReplyError::BadScalar)),
            (b":\r\n", Err(ReplyError::BadScalar)),
            (b"#x\r\n", Err(ReplyError::BadScalar)),
            (b",infinity\r\n", Err(ReplyError::BadScalar)),
            (b"(1x\r\n", Err(ReplyError::BadScalar)),
            (b"=2\r\nab\r\n", Err(ReplyError::BadScalar)),
            (b"$1\r\nabc", Err(ReplyError::MissingCrlf)),
            (b"+a\nb\r\n", Err(ReplyError::MissingCrlf)),
            (b"+a\rb\r\n", Err(ReplyError::MissingCrlf)),
            (b"?\r\n", Err(ReplyError::UnknownType(b'?'))),
        ];
        for (input, expected) in rows {
            let parsed = parse_reply(input).map(|found| found.map(|(value, _)| value));
            assert_eq!(parsed, *expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_million_nested_arrays_are_an_error_and_no_stack_overflow() {
        assert_eq!(parse_reply(&b"*1\r\n".repeat(1_000_000)), Err(ReplyError::TooDeep));
        let allowed = [b"*1\r\n".repeat(REPLY_DEPTH_MAX), b":1\r\n".to_vec()].concat();
        assert!(matches!(parse_reply(&allowed), Ok(Some((_, length))) if length == allowed.len()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_nor_take_more_than_given(
            words in prop::collection::vec(prop::sample::select(vec![
                "*1", "*-1", "%2", "|1", "~3", ">1", "$1", "=5", "\r\n", "a", ":", "1", "-", "txt:",
            ]), 0..30),
            noise in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            for input in [words.concat().into_bytes(), noise] {
                if let Ok(Some((_, length))) = parse_reply(&input) {
                    prop_assert!(length <= input.len());
                }
            }
        }
    }
}
