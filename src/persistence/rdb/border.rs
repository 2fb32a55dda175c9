//! The keys of an RDB file as bytes: whose they are, and where their values end.
//!
//! A file is loaded by several shards at a time. Who reads it only finds the records, which costs a fraction
//! of what decoding does, and the owners of the keys decode them. As [`super::read_file`] this owns no file and
//! is fed in pieces of any size.
//!
//! Promise: it finds what [`super::read_file::FileReader`] finds in the same bytes, or ends with the same kind of
//! error, except that it does not look into values. No byte of a value is looked at twice, however it is cut;
//! at most one unfinished record is buffered, beside what was fed last.

use super::crc64::Crc64;
use super::encode::Compression;
use super::input::{Error, Input};
use super::record::{FIRST_SUMMED_VERSION, Record, read_header, read_record, read_sum};
use super::skip::Skipper;
use super::type_code::TypeCode;
use super::write_file::{KeyHead, Usage, write_key_head};

/// What the buffer may keep of the room that a large value took.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// What was found next.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing yet: [`BorderReader::feed`] it more.
    NeedsMore,
    /// What the file says about itself.
    Aux {
        /// `redis-ver`, `repl-id`, …
        name: Vec<u8>,
        /// What it is.
        value: Vec<u8>,
    },
    /// The keys to come are of this database.
    Database(u64),
    /// A hint of how many keys are coming, and how many of them expire.
    Sizes {
        /// All keys of the database.
        keys: u64,
        /// Those that expire.
        expiring: u64,
    },
    /// The source of a library of functions.
    Function(Vec<u8>),
    /// A key and the bytes of its value.
    Key(RawKey<'a>),
    /// The file is read, and its checksum was right. What comes after is not looked at.
    End,
}

/// A key and the bytes of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawKey<'a> {
    /// The key, and what else comes before its value.
    pub head: KeyHead<'a>,
    /// The value as it is written.
    pub value: &'a [u8],
    /// Where in the file the record with the key begins.
    pub offset: u64,
}

impl RawKey<'_> {
    /// Appends the record: the key and all that belongs to it.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_key_head(&self.head, Compression::NONE, out);
        out.extend_from_slice(self.value);
    }
}

/// Takes a file apart into records.
pub struct BorderReader {
    verify: bool,
    version: u16,
    stage: Stage,
    /// What was said about the key to come.
    expiry: Option<i64>,
    usage: Option<Usage>,
    /// The key whose value is under way or was found last.
    key: Vec<u8>,
    skipper: Skipper,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    at: usize,
    /// What of it is in the sum.
    summed: usize,
    sum: Crc64,
    /// Bytes that came before the buffer.
    before: u64,
    /// Where the record begins that was looked at last.
    record_at: u64,
}

#[derive(Clone, Copy)]
enum Stage {
    Header,
    Record,
    /// A value, where it begins in the buffer, and where its record begins in the file.
    Value {
        code: TypeCode,
        start: usize,
        offset: u64,
    },
    Checksum,
    Done,
}

/// What a step has found; [`Found`] without what it borrows.
enum Step {
    Nothing,
    Found(Found<'static>),
    Key { code: TypeCode, start: usize, offset: u64 },
}

impl BorderReader {
    /// A reader at the start of a file; `verify` is what `rdbchecksum` says.
    pub fn new(verify: bool) -> Self {
        Self {
            verify,
            version: 0,
            stage: Stage::Header,
            expiry: None,
            usage: None,
            key: Vec::new(),
            skipper: Skipper::default(),
            buffer: Vec::new(),
            at: 0,
            summed: 0,
            sum: Crc64::default(),
            before: 0,
            record_at: 0,
        }
    }

    /// Adds what comes next.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.sum_up();
        let read = match &mut self.stage {
            Stage::Value { start, .. } => std::mem::take(start),
            _ => self.at,
        };
        self.buffer.drain(..read);
        self.before += read as u64;
        self.at -= read;
        self.summed = self.at;
        if self.buffer.len() + bytes.len() < SPARE_BYTES_MAX {
            self.buffer.shrink_to(SPARE_BYTES_MAX);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The version of the file, 0 until it is known.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// How many bytes have been read; at the end, where the file ends and something else may begin.
    pub fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// Where the record that was found last begins.
    pub fn record_offset(&self) -> u64 {
        self.record_at
    }

    /// What is next in what has been fed. After an error there is no way to go on.
    pub fn find(&mut self) -> Result<Found<'_>, Error> {
        loop {
            match self.step() {
                Ok(Step::Nothing) => {}
                Ok(Step::Found(found)) => return Ok(found),
                Ok(Step::Key { code, start, offset }) => {
                    let (expiry, usage) = (self.expiry.take(), self.usage.take());
                    let head = KeyHead { key: &self.key, code, expiry, usage };
                    let value = &self.buffer[start..self.at];
                    return Ok(Found::Key(RawKey { head, value, offset }));
                }
                Err(Error::Truncated) => return Ok(Found::NeedsMore),
                Err(error) => return Err(error),
            }
        }
    }

    /// One step. If it says [`Error::Truncated`], the next one goes on when there is more.
    fn step(&mut self) -> Result<Step, Error> {
        let mut input = Input::new(&self.buffer[self.at..]);
        match self.stage {
            Stage::Header => {
                self.version = read_header(&mut input)?;
                self.stage = Stage::Record;
                self.at += input.mark();
            }
            Stage::Record => return self.record(),
            Stage::Value { code, start, offset } => {
                let skipped = self.skipper.skip(&mut input);
                self.at += input.mark();
                skipped?;
                self.stage = Stage::Record;
                return Ok(Step::Key { code, start, offset });
            }
            Stage::Checksum => {
                read_sum(&mut input, self.verify.then(|| self.sum.value()))?;
                self.stage = Stage::Done;
                self.at += input.mark();
                self.summed = self.at;
            }
            Stage::Done => return Ok(Step::Found(Found::End)),
        }
        Ok(Step::Nothing)
    }

    fn record(&mut self) -> Result<Step, Error> {
        let offset = self.offset();
        self.record_at = offset;
        let mut input = Input::new(&self.buffer[self.at..]);
        let record = read_record(&mut input, self.version)?;
        let end = self.at + input.mark();
        let mut step = Step::Nothing;
        match record {
            Record::Aux { name, value } => {
                let (name, value) = (name.into_bytes(), value.into_bytes());
                step = Step::Found(Found::Aux { name, value });
            }
            Record::Database(number) => step = Step::Found(Found::Database(number)),
            Record::Sizes { keys, expiring } => {
                step = Step::Found(Found::Sizes { keys, expiring });
            }
            Record::Function(source) => step = Step::Found(Found::Function(source)),
            Record::Hint => {}
            Record::Expiry(at) => self.expiry = Some(at),
            Record::Used(usage) => self.usage = Some(usage),
            Record::Key(code, key) => {
                self.skipper.begin(code)?;
                self.key.clear();
                self.key.extend_from_slice(key.as_bytes(&mut itoa::Buffer::new()));
                self.stage = Stage::Value { code, start: end, offset };
            }
            Record::End => {
                self.at = end;
                self.sum_up();
                let is_summed = self.version >= FIRST_SUMMED_VERSION;
                self.stage = if is_summed { Stage::Checksum } else { Stage::Done };
            }
        }
        self.at = end;
        Ok(step)
    }

    /// Brings what has been read into the sum.
    fn sum_up(&mut self) {
        if self.verify {
            self.sum.update(&self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
    }
}

#[cfg(test)]
mod tests;
