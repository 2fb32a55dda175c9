//! The records of an append-only file, on their way in.
//!
//! [`RecordReader`] owns no file: it is fed bytes as they come, in pieces of any size, and finds whole records in
//! them. It is as lenient as Redis when it loads (a line may end without a carriage return, the two bytes
//! behind a payload are not looked at), for what Redis loads has to load here too; `check-aof` is strict.
//!
//! Promise: a byte is looked at once however the input is cut, and memory is bounded by the largest record. At the
//! end of the file [`RecordReader::end`] says up to where the file is good: in front of a record that is
//! cut off, or in front of a MULTI without its EXEC.

use std::ops::Range;

use super::manifest::leading_integer;
use crate::journal::recorder::write_effect;

/// Longest line that is read, in bytes (Redis 7.0 `aof.c`, AOF_ANNOTATION_LINE_MAX_LEN).
const LINE_BYTES_MAX: usize = 1024;
/// What stands behind a payload.
const LINE_END_BYTES: usize = 2;

/// What was found next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing yet: [`RecordReader::feed`] it more.
    NeedsMore,
    /// A record; [`RecordReader::words`] has it.
    Record,
    /// A line that begins with `#`. `#TS:` tells the unix time in seconds.
    Annotation(Option<i64>),
}

/// The bytes are no records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadFormat {
    /// Where the line begins that cannot be.
    pub offset: u64,
}

/// What is at the end of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A whole record.
    Whole,
    /// The beginning of one; all before this offset is good.
    CutOff(u64),
    /// A whole record, but of a block whose EXEC is missing; all before its MULTI is good.
    InMulti(u64),
}

/// Finds records.
pub struct RecordReader {
    buffer: Vec<u8>,
    /// Where the record at work begins in the buffer.
    at: usize,
    /// Bytes that came before the buffer.
    before: u64,
    /// Where to go on, behind `at`.
    scanned: usize,
    /// Words that the record has; unknown before its first line is read.
    count: Option<usize>,
    /// Where the words are, behind `at`.
    words: Vec<Range<usize>>,
    /// The record so far stands there as it would be written.
    is_plain: bool,
    /// The record was handed out and makes room when the next one is asked for.
    is_taken: bool,
    /// Where the open MULTI begins.
    multi: Option<u64>,
}

impl RecordReader {
    /// A reader of what begins at `offset` of its file: 0, or the end of an RDB preamble.
    pub fn new(offset: u64) -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            before: offset,
            scanned: 0,
            count: None,
            words: Vec::new(),
            is_plain: true,
            is_taken: false,
            multi: None,
        }
    }

    /// Adds what comes next.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.drop_taken();
        if self.at > self.buffer.len() / 2 {
            self.buffer.drain(..self.at);
            self.before += self.at as u64;
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Where the next record begins.
    pub fn offset(&self) -> u64 {
        let taken = if self.is_taken { self.scanned } else { 0 };
        self.before + (self.at + taken) as u64
    }

    /// The words of the record that was found last.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let record = &self.buffer[self.at..];
        self.words.iter().map(|word| &record[word.clone()])
    }

    /// Appends the record that was found last to `out`, as it would be written: as it stands there, if that is so.
    pub fn write_record(&self, out: &mut Vec<u8>) {
        let record = &self.buffer[self.at..self.at + self.scanned];
        if self.is_plain {
            return out.extend_from_slice(record);
        }
        let words: Vec<&[u8]> = self.words().collect();
        write_effect(out, &words);
    }

    /// Whether a MULTI waits for its EXEC.
    pub fn in_multi(&self) -> bool {
        self.multi.is_some()
    }

    /// What is next in what has been fed. After an error there is no way to go on.
    pub fn find(&mut self) -> Result<Found, BadFormat> {
        self.drop_taken();
        loop {
            let Some(count) = self.count else {
                let Some(line) = self.line(b'*')? else { return Ok(Found::NeedsMore) };
                let text = &self.buffer[self.at + line.start..self.at + line.end];
                if text.first() == Some(&b'#') {
                    let time = text.strip_prefix(b"#TS:").map(leading_integer);
                    self.at += self.scanned;
                    self.scanned = 0;
                    return Ok(Found::Annotation(time));
                }
                let count = usize::try_from(leading_integer(&text[1..])).unwrap_or(0);
                if count == 0 {
                    return Err(BadFormat { offset: self.offset() });
                }
                self.is_plain = is_plain_number(&text[1..]);
                self.count = Some(count);
                continue;
            };
            if self.words.len() == count {
                self.is_taken = true;
                self.note_block();
                return Ok(Found::Record);
            }
            if !self.word()? {
                return Ok(Found::NeedsMore);
            }
        }
    }

    /// What the file ends with, if it ends where it has been fed to.
    pub fn end(&self) -> End {
        let taken = if self.is_taken { self.scanned } else { 0 };
        match self.multi {
            Some(multi) => End::InMulti(multi),
            None if self.at + taken == self.buffer.len() => End::Whole,
            None => End::CutOff(self.offset()),
        }
    }

    fn drop_taken(&mut self) {
        if self.is_taken {
            self.at += self.scanned;
            self.scanned = 0;
            self.count = None;
            self.words.clear();
            self.is_taken = false;
        }
    }

    /// Takes one more word; false if it is not there yet.
    fn word(&mut self) -> Result<bool, BadFormat> {
        let begin = self.scanned;
        let Some(line) = self.line(b'$')? else { return Ok(false) };
        let text = &self.buffer[self.at + line.start..self.at + line.end];
        let length = leading_integer(&text[1..]);
        let bad = BadFormat { offset: self.before + (self.at + begin) as u64 };
        let length = usize::try_from(length).map_err(|_| bad)?;
        let start = self.scanned;
        let end = start.checked_add(length).ok_or(bad)?;
        let next = end.checked_add(LINE_END_BYTES).ok_or(bad)?;
        if next > self.buffer.len() - self.at {
            // The line is short: it is read again when more has come.
            self.scanned = begin;
            return Ok(false);
        }
        let payload_end = &self.buffer[self.at + end..self.at + next];
        self.is_plain &= is_plain_number(&text[1..]) && payload_end == b"\r\n";
        self.words.push(start..end);
        self.scanned = next;
        Ok(true)
    }

    /// Takes a line that begins with `prefix`, without its end; a line that begins with anything else is refused as
    /// soon as its first byte is there. Instead of a record an annotation may stand.
    fn line(&mut self, prefix: u8) -> Result<Option<Range<usize>>, BadFormat> {
        let start = self.scanned;
        let rest = &self.buffer[self.at + start..];
        let bad = BadFormat { offset: self.before + (self.at + start) as u64 };
        let Some(first) = rest.first() else { return Ok(None) };
        if *first != prefix && !(prefix == b'*' && *first == b'#') {
            return Err(bad);
        }
        let window = &rest[..rest.len().min(LINE_BYTES_MAX)];
        match memchr::memchr(b'\n', window) {
            Some(length) => {
                self.scanned = start + length + 1;
                Ok(Some(start..start + length))
            }
            None if window.len() == LINE_BYTES_MAX => Err(bad),
            None => Ok(None),
        }
    }

    fn note_block(&mut self) {
        let begin = self.before + self.at as u64;
        let record = &self.buffer[self.at..];
        let Some(name) = self.words.first().map(|word| &record[word.clone()]) else { return };
        if name.eq_ignore_ascii_case(b"multi") {
            self.multi.get_or_insert(begin);
        } else if name.eq_ignore_ascii_case(b"exec") || name.eq_ignore_ascii_case(b"discard") {
            self.multi = None;
        }
    }
}

/// Whether the rest of a line is a number, and the carriage return, as they are written.
fn is_plain_number(text: &[u8]) -> bool {
    let Some(digits) = text.strip_suffix(b"\r") else { return false };
    let is_padded = digits.len() > 1 && digits[0] == b'0';
    !digits.is_empty() && !is_padded && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/persistence/");
        std::fs::read(format!("{folder}{name}")).expect("the vector is there")
    }

    /// The records as words with blanks, and the end.
    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<String>, End), BadFormat> {
        let (mut reader, mut records) = (RecordReader::new(0), Vec::new());
        let mut pieces = bytes.chunks(piece.max(1));
        loop {
            match reader.find()? {
                Found::NeedsMore => match pieces.next() {
                    Some(piece) => reader.feed(piece),
                    None => return Ok((records, reader.end())),
                },
                Found::Record => {
                    let words = reader.words().map(String::from_utf8_lossy);
                    records.push(words.collect::<Vec<_>>().join(" "));
                }
                Found::Annotation(time) => records.push(format!("# {time:?}")),
            }
        }
    }

    fn command(words: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        crate::journal::recorder::write_effect(&mut out, words);
        out
    }

    #[test]
    fn a_record_is_written_as_it_should_have_been() {
        let set = command(&[b"SET", b"k", b""]);
        for text in [
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n",
            "*3\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n",
            "*3\r\n$03\r\nSET\r\n$1\nk\r\n$0\r\n\r\n",
            "*3\r\n$3\r\nSET\r\n$1\r\nk__$0\r\n\r\n",
            "*3 \r\n$+3\r\nSET\r\n$1\r\nk\r\n$0x\r\n\r\n",
        ] {
            let mut reader = RecordReader::new(0);
            // Twice: nothing of the first is in the way of the second.
            reader.feed(&[text.as_bytes(), set.as_slice()].concat());
            for _ in 0..2 {
                assert_eq!(reader.find(), Ok(Found::Record), "{text}");
                let mut out = Vec::new();
                reader.write_record(&mut out);
                assert_eq!(out, set, "{text}");
            }
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_of_its_last_4_kib_is_good_up_to_the_last_whole_record_or_block() {
        let (mut file, mut borders) = (Vec::new(), vec![0]);
        for number in 0.. {
            let value = vec![b'\n'; number % 40];
            let set = command(&[b"SET", number.to_string().as_bytes(), &value]);
            match number % 3 {
                0 => file
                    .extend([command(&[b"MULTI"]), set.clone(), set, command(&[b"EXEC"])].concat()),
                _ => file.extend(set),
            }
            borders.push(file.len());
            if file.len() > 6000 {
                break;
            }
        }
        for cut in file.len() - 4096..=file.len() {
            let mut reader = RecordReader::new(0);
            reader.feed(&file[..cut]);
            let (mut records, mut blocks) = (0, 0);
            while reader.find().expect("all of it was good") == Found::Record {
                records += 1;
                blocks += usize::from(!reader.in_multi());
            }
            let good = borders.iter().rposition(|border| *border <= cut).expect("0 is one");
            assert!(blocks == good && records >= blocks, "cut at {cut}");
            let end = match reader.end() {
                End::Whole => cut as u64,
                End::CutOff(end) | End::InMulti(end) => end,
            };
            assert_eq!(end, borders[good] as u64, "cut at {cut}");
        }
    }

    #[test]
    fn what_redis_wrote_is_read_however_it_is_cut() {
        let (incr, timed) =
            (vector("appendonly.aof.1.incr.aof"), vector("incr-with-timestamps.aof"));
        for piece in [1, 2, 7, 64, 1 << 20] {
            let (records, end) = read(&incr, piece).unwrap();
            assert_eq!(
                records.join("|"),
                "SELECT 0|SET a 1|SET b 2 PXAT 1795356289504|SELECT 3|RPUSH l x|SELECT 0|MULTI|SET m \
                 1|INCR m|EXEC"
            );
            assert_eq!(end, End::Whole);
            let (records, end) = read(&timed, piece).unwrap();
            assert_eq!(records[0], "# Some(1795356191)");
            assert_eq!((records.len(), end), (6, End::Whole));
            let base = vector("appendonly.aof.4.base.aof-resp-base");
            assert_eq!(read(&base, piece).unwrap().1, End::Whole);
        }
    }

    #[test]
    fn the_end_tells_up_to_where_a_cut_file_is_good() {
        let file = vector("appendonly.aof.1.incr.aof");
        // Where records end outside of the block, and where the block begins.
        let (mut ends, mut multi) = (vec![0], 0);
        let mut reader = RecordReader::new(0);
        reader.feed(&file);
        while reader.find().unwrap() != Found::NeedsMore {
            match reader.in_multi() {
                false => ends.push(reader.offset()),
                true if multi == 0 => {
                    multi = reader.offset() - b"*1\r\n$5\r\nMULTI\r\n".len() as u64
                }
                true => {}
            }
        }
        assert_eq!((multi, file.len()), (182, 259));
        let first_in_block = multi + 15;
        for length in 0..=file.len() as u64 {
            let (_, end) = read(&file[..length as usize], 16).unwrap();
            let expected = match length {
                _ if ends.contains(&length) => End::Whole,
                _ if length >= first_in_block => End::InMulti(multi),
                _ => End::CutOff(*ends.iter().rev().find(|end| **end <= length).unwrap()),
            };
            assert_eq!(end, expected, "{length} bytes");
        }
    }

    #[test]
    fn it_is_as_lenient_as_redis_and_no_more() {
        for (bytes, expected) in [
            (&b"*1\n$4\nPING\r\n"[..], Ok(("PING", End::Whole))),
            (b"*1\r\n$4\r\nPINGxx", Ok(("PING", End::Whole))),
            (b"*01x\r\n$4y\r\nPING\r\n", Ok(("PING", End::Whole))),
            (b"#anything\n*1\r\n$0\r\n\r\n", Ok(("# None|", End::Whole))),
            (b"", Ok(("", End::Whole))),
            (b"*", Ok(("", End::CutOff(0)))),
            (b"#TS:12", Ok(("", End::CutOff(0)))),
            (b"*2\r\n$1\r\na\r\n$9\r\nb", Ok(("", End::CutOff(0)))),
            (b"PING\r\n", Err(0)),
            (b"\r\n", Err(0)),
            (b"*0\r\n", Err(0)),
            (b"*-1\r\n", Err(0)),
            (b"*1\r\n:1\r\n", Err(4)),
            (b"*1\r\n$-1\r\n", Err(4)),
            (b"*1\r\n$4\r\nPING\r\n\0\0\0", Err(14)),
        ] {
            let expected = expected
                .map(|(records, end)| (records.to_owned(), end))
                .map_err(|offset| BadFormat { offset });
            let found = read(bytes, 3).map(|(records, end)| (records.join("|"), end));
            assert_eq!(found, expected, "{}", bytes.escape_ascii());
        }
        let line = [b"#".to_vec(), vec![b'x'; LINE_BYTES_MAX]].concat();
        assert_eq!(read(&line, 100), Err(BadFormat { offset: 0 }));
    }

    #[test]
    fn a_length_that_no_file_can_have_waits_for_its_bytes() {
        let found = read(b"*1\r\n$9223372036854775807\r\nx", 5);
        assert_eq!(found, Ok((vec![], End::CutOff(0))));
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(
            records in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
                0..8,
            ),
            piece in 1usize..50,
        ) {
            let mut file = Vec::new();
            for record in &records {
                let words: Vec<&[u8]> = record.iter().map(Vec::as_slice).collect();
                file.extend(command(&words));
            }
            let (mut reader, mut found) = (RecordReader::new(7), Vec::new());
            let mut pieces = file.chunks(piece);
            loop {
                match reader.find() {
                    Ok(Found::NeedsMore) => match pieces.next() {
                        Some(piece) => reader.feed(piece),
                        None => break,
                    },
                    Ok(Found::Record) => {
                        found.push(reader.words().map(<[u8]>::to_vec).collect::<Vec<_>>());
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(found, records);
            prop_assert_eq!(reader.offset(), 7 + file.len() as u64);
        }

        #[test]
        fn any_bytes_end_somehow(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 13);
        }
    }
}
