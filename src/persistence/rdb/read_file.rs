//! The records of an RDB file, on their way in.
//!
//! [`FileReader`] owns no file and no socket: it is fed bytes as they come, in pieces of any size, and asked for
//! what is in them. So one reader serves a file at start, a full synchronisation, and a test that cuts its
//! input at every byte; and a value of millions of elements is read in slices.
//!
//! Promise: at most one unfinished element is buffered, beside what was fed last.

use super::crc64::Crc64;
use super::decode::{Limits, ValueDecoder, string};
use super::input::{Error, Input};
use super::record::{FIRST_SUMMED_VERSION, Record, read_header, read_record, read_sum};
use super::type_code::TypeCode;
use super::write_file::Usage;
use crate::keyspace::Value;

/// What was found next.
pub enum Found {
    /// Nothing yet: [`FileReader::feed`] it more.
    NeedsMore,
    /// A part of a large value, or something without meaning here. Ask again.
    Progress,
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
    /// A key and its value.
    Key(FoundKey),
    /// A key whose collection has no elements: nothing to load.
    EmptyKey(Vec<u8>),
    /// The file is read, and its checksum was right. What comes after is not looked at.
    End,
}

/// A key and its value.
pub struct FoundKey {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Value,
    /// When it expires, unix ms.
    pub expiry: Option<i64>,
    /// How it was used.
    pub usage: Option<Usage>,
}

/// Takes a file apart.
pub struct FileReader {
    parser: Parser,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    at: usize,
    /// Bytes that came before the buffer.
    before: u64,
    /// Of everything read so far.
    sum: Crc64,
}

/// All but the bytes.
struct Parser {
    limits: Limits,
    verify: bool,
    version: u16,
    stage: Stage,
    /// What was said about the key to come.
    expiry: Option<i64>,
    usage: Option<Usage>,
}

enum Stage {
    Header,
    Record,
    Value { key: Vec<u8>, decoder: Box<ValueDecoder> },
    Checksum,
    Done,
}

impl FileReader {
    /// A reader at the start of a file. Encodings are chosen by `limits`; `verify` is what `rdbchecksum`
    /// says.
    pub fn new(limits: Limits, verify: bool) -> Self {
        let (expiry, usage) = (None, None);
        let parser = Parser { limits, verify, version: 0, stage: Stage::Header, expiry, usage };
        Self { parser, buffer: Vec::new(), at: 0, before: 0, sum: Crc64::default() }
    }

    /// A reader of whole records out of a file of this version, without its beginning and its end: when they have
    /// all been read, it needs more.
    pub fn of_records(records: Vec<u8>, version: u16, limits: Limits) -> Self {
        let mut reader = Self::new(limits, false);
        reader.parser.version = version;
        reader.parser.stage = Stage::Record;
        reader.buffer = records;
        reader
    }

    /// Adds what comes next.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > self.buffer.len() / 2 {
            self.buffer.drain(..self.at);
            self.before += self.at as u64;
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The version of the file, 0 until it is known.
    pub fn version(&self) -> u16 {
        self.parser.version
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// What was fed and not read: after the end, what follows the file.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// What is next in what has been fed; of a value about `elements_max` elements at a time. After an error
    /// there is no way to go on.
    pub fn find(&mut self, elements_max: usize) -> Result<Found, Error> {
        let mut input = Input::new(&self.buffer[self.at..]);
        let found = self.parser.step(&mut input, self.sum.value(), elements_max);
        let read = self.at..self.at + input.mark();
        if self.parser.verify {
            self.sum.update(&self.buffer[read.clone()]);
        }
        self.at = read.end;
        match found {
            Err(Error::Truncated) => Ok(Found::NeedsMore),
            found => found,
        }
    }
}

impl Parser {
    /// One step. If it says [`Error::Truncated`], `input` is where the step that needs more begins.
    fn step(
        &mut self,
        input: &mut Input<'_>,
        sum: u64,
        elements_max: usize,
    ) -> Result<Found, Error> {
        let mark = input.mark();
        let found = match &mut self.stage {
            Stage::Header => self.header(input),
            Stage::Record => self.record(input),
            Stage::Value { decoder, .. } => {
                // It goes back by itself, and only as far as its last whole element.
                let value = decoder.slice(input, elements_max);
                return self.after_value(value);
            }
            Stage::Checksum => self.checksum(input, sum),
            Stage::Done => Ok(Found::End),
        };
        if found.is_err() {
            input.rewind(mark);
        }
        found
    }

    fn header(&mut self, input: &mut Input<'_>) -> Result<Found, Error> {
        self.version = read_header(input)?;
        self.stage = Stage::Record;
        Ok(Found::Progress)
    }

    fn record(&mut self, input: &mut Input<'_>) -> Result<Found, Error> {
        match read_record(input, self.version)? {
            Record::Aux { name, value } => {
                return Ok(Found::Aux { name: name.into_bytes(), value: value.into_bytes() });
            }
            Record::Database(number) => return Ok(Found::Database(number)),
            Record::Sizes { keys, expiring } => return Ok(Found::Sizes { keys, expiring }),
            Record::Function(source) => return Ok(Found::Function(source)),
            Record::Hint => {}
            Record::Expiry(at) => self.expiry = Some(at),
            Record::Used(usage) => self.usage = Some(usage),
            Record::End => {
                let summed = self.version >= FIRST_SUMMED_VERSION;
                self.stage = if summed { Stage::Checksum } else { Stage::Done };
            }
            // Most keys are strings, for which nothing has to be kept until the next step.
            Record::Key(TypeCode::String, key) => {
                let (value, key) = (string(input.text()?), key.into_bytes());
                let (expiry, usage) = (self.expiry.take(), self.usage.take());
                return Ok(Found::Key(FoundKey { key, value, expiry, usage }));
            }
            Record::Key(code, key) => {
                let decoder = Box::new(ValueDecoder::new(code, self.limits));
                self.stage = Stage::Value { key: key.into_bytes(), decoder };
            }
        }
        Ok(Found::Progress)
    }

    fn after_value(&mut self, value: Result<Option<Value>, Error>) -> Result<Found, Error> {
        let value = match value {
            Ok(None) => return Ok(Found::Progress),
            Ok(Some(value)) => Some(value),
            Err(Error::Empty) => None,
            Err(error) => return Err(error),
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Record);
        let (expiry, usage) = (self.expiry.take(), self.usage.take());
        Ok(match (stage, value) {
            (Stage::Value { key, .. }, Some(value)) => {
                Found::Key(FoundKey { key, value, expiry, usage })
            }
            (Stage::Value { key, .. }, None) => Found::EmptyKey(key),
            _ => unreachable!("a value comes in its own stage only"),
        })
    }

    fn checksum(&mut self, input: &mut Input<'_>, computed: u64) -> Result<Found, Error> {
        read_sum(input, self.verify.then_some(computed))?;
        self.stage = Stage::Done;
        Ok(Found::End)
    }
}
