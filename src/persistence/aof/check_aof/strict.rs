//! Records read to the letter, with offsets and lines for what is said about them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// Longest line of a length, in bytes (Redis 7.0 `redis-check-aof.c`, the buffer of readLong, less its end).
const LENGTH_LINE_BYTES_MAX: u64 = 127;
/// Longest annotation, in bytes (Redis 7.0 `aof.c`, AOF_ANNOTATION_LINE_MAX_LEN, less its end).
const ANNOTATION_BYTES_MAX: u64 = 1023;
/// What of a payload is looked at: enough to tell MULTI and EXEC from others.
const NAME_BYTES_MAX: u64 = 8;

/// What a line that begins with `#` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Annotation {
    /// The unix time in seconds.
    Time(i64),
    /// It says that it tells the time, and does not.
    BadTime,
    /// Something else.
    Other,
}

/// Reads records; what is wrong is in [`Strict::error`].
pub(super) struct Strict<'f> {
    source: BufReader<&'f File>,
    at: u64,
    /// Where the piece at work begins.
    mark: u64,
    line: u64,
    multi: u32,
    is_at_end: bool,
    error: Option<String>,
}

impl<'f> Strict<'f> {
    /// Goes on at `at` of the file, which is line `line`.
    pub(super) fn new(source: BufReader<&'f File>, at: u64, line: u64) -> Self {
        Self { source, at, mark: at, line, multi: 0, is_at_end: false, error: None }
    }

    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// Where the piece begins that was read last.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn in_multi(&self) -> bool {
        self.multi > 0
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The next byte, which stays; `None` at the end of the file.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        let first = self.source.fill_buf()?.first().copied();
        self.is_at_end |= first.is_none();
        Ok(first)
    }

    /// Says so if the file has ended within a block.
    pub(super) fn note_open_multi(&mut self) {
        if self.is_at_end && self.in_multi() && self.error.is_none() {
            self.fail::<()>("Reached EOF before reading EXEC for MULTI".to_owned());
        }
    }

    pub(super) fn annotation(&mut self) -> Annotation {
        self.mark = self.at;
        let line = self.take_line(ANNOTATION_BYTES_MAX);
        let Some(time) = line.strip_prefix(b"#TS:") else { return Annotation::Other };
        let time =
            time.split(|byte| *byte == b'\r').next().filter(|digits| digits.len() < time.len());
        let time = time.and_then(|digits| std::str::from_utf8(digits).ok());
        time.and_then(|digits| digits.parse().ok()).map_or(Annotation::BadTime, Annotation::Time)
    }

    /// Reads a record; false if it is not one.
    pub(super) fn record(&mut self, file: &str) -> bool {
        self.try_record(file).is_some()
    }

    fn try_record(&mut self, file: &str) -> Option<()> {
        let count = self.number(b'*')?;
        for word in 0..count {
            let name = self.text()?;
            if word > 0 {
                continue;
            }
            if name.eq_ignore_ascii_case(b"multi") {
                self.multi += 1;
                if self.multi > 1 {
                    return self.fail(format!("Unexpected MULTI in AOF {file}"));
                }
            } else if name.eq_ignore_ascii_case(b"exec") {
                if self.multi != 1 {
                    return self.fail(format!("Unexpected EXEC in AOF {file}"));
                }
                self.multi = 0;
            }
        }
        Some(())
    }

    /// A line of `prefix` and a number.
    fn number(&mut self, prefix: u8) -> Option<i64> {
        self.mark = self.at;
        let line = self.take_line(LENGTH_LINE_BYTES_MAX);
        let first = *line.first()?;
        if first != prefix {
            let (prefix, first) = (char::from(prefix), char::from(first));
            return self.fail(format!("Expected prefix '{prefix}', got: '{first}'"));
        }
        let digits = line[1..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-');
        let end = 1 + digits.count();
        self.line_end(&line[end..])?;
        Some(super::super::manifest::leading_integer(&line[1..end]))
    }

    /// A payload; its bytes if there are few of them.
    fn text(&mut self) -> Option<Vec<u8>> {
        let length = self.number(b'$')?;
        let Some(whole) = u64::try_from(length).ok().and_then(|l| l.checked_add(2)) else {
            return self.fail(format!(
                "Expected to read string of {length} bytes, which is not in the suitable range"
            ));
        };
        self.mark = self.at;
        let mut kept = Vec::new();
        // What cannot be read ends the file as well as its end does: the check says how much was there.
        let mut count = (&mut self.source).take(length.min(NAME_BYTES_MAX as i64) as u64);
        let kept_count = count.read_to_end(&mut kept).unwrap_or(0) as u64;
        let middle = (whole - 2).saturating_sub(kept_count);
        let mut rest = (&mut self.source).take(middle);
        let skipped = io::copy(&mut rest, &mut io::sink()).unwrap_or(0);
        let mut end = Vec::new();
        let end_count = (&mut self.source).take(2).read_to_end(&mut end).unwrap_or(0) as u64;
        let read = kept_count + skipped + end_count;
        self.at += read;
        if read < whole {
            self.is_at_end = true;
            return self.fail(format!("Expected to read {whole} bytes, got {read} bytes"));
        }
        self.line_end(&end)?;
        Some(kept)
    }

    fn line_end(&mut self, text: &[u8]) -> Option<()> {
        let byte = |at| text.get(at).copied().unwrap_or(0);
        if !text.starts_with(b"\r\n") {
            return self.fail(format!("Expected \\r\\n, got: {:02x}{:02x}", byte(0), byte(1)));
        }
        self.line += 1;
        Some(())
    }

    fn take_line(&mut self, most: u64) -> Vec<u8> {
        let mut line = Vec::new();
        _ = (&mut self.source).take(most).read_until(b'\n', &mut line);
        self.is_at_end |= line.is_empty();
        self.at += line.len() as u64;
        line
    }

    fn fail<T>(&mut self, what: String) -> Option<T> {
        self.error = Some(format!("0x{:16x}: {what}", self.mark));
        None
    }
}
