//! The records of an RDB file, on their way in.
//!
//! [`FileReader`] owns no file and no socket: it is fed bytes as they come, in pieces of any size, and asked for
//! what is in them. So one reader serves a file at start, a full synchronisation, and a test that cuts its
//! input at every byte; and a value of millions of elements is read in slices.
//!
//! Promise: at most one unfinished element is buffered, beside what was fed last.

use super::NEWEST_VERSION;
use super::crc64::Crc64;
use super::decode::{Limits, ValueDecoder};
use super::input::{Error, Input};
use super::type_code::TypeCode;
use super::write_file::{MAGIC, Usage, opcode};
use crate::keyspace::Value;

/// The first version that ends with a checksum.
const FIRST_SUMMED_VERSION: u16 = 5;

/// Numbers after a hint about a slot: which, its keys, those of them that expire.
const SLOT_INFO_LENGTHS: usize = 3;

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
    Key(Box<FoundKey>),
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
        self.sum.update(&self.buffer[read.clone()]);
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
        let magic: [u8; 5] = input.array()?;
        let digits: [u8; 4] = input.array()?;
        if magic != *MAGIC {
            return Err(Error::NotRdb);
        }
        let version = std::str::from_utf8(&digits).ok().and_then(|text| text.parse::<u16>().ok());
        let version = version.ok_or(Error::NotRdb)?;
        if !(1..=NEWEST_VERSION).contains(&version) {
            return Err(Error::Version(u32::from(version)));
        }
        self.version = version;
        self.stage = Stage::Record;
        Ok(Found::Progress)
    }

    fn record(&mut self, input: &mut Input<'_>) -> Result<Found, Error> {
        Ok(match input.byte()? {
            opcode::AUX => {
                let (name, value) = (input.text()?.into_bytes(), input.text()?.into_bytes());
                Found::Aux { name, value }
            }
            opcode::DATABASE => Found::Database(input.length()?),
            opcode::SIZES => Found::Sizes { keys: input.length()?, expiring: input.length()? },
            opcode::SLOT_INFO => {
                for _ in 0..SLOT_INFO_LENGTHS {
                    input.length()?;
                }
                Found::Progress
            }
            opcode::FUNCTION => Found::Function(input.text()?.into_bytes()),
            opcode::FUNCTION_BEFORE_RELEASE => Found::Function(early_function(input)?),
            opcode::MODULE_AUX => return Err(Error::Module(module_name(input.length()?))),
            opcode::EXPIRY_MS => {
                self.expiry = Some(i64::from_le_bytes(input.array()?));
                Found::Progress
            }
            opcode::EXPIRY_SECONDS => {
                self.expiry = Some(i64::from(i32::from_le_bytes(input.array()?)) * 1000);
                Found::Progress
            }
            opcode::IDLE => {
                self.usage = Some(Usage::Idle(input.length()?));
                Found::Progress
            }
            opcode::FREQUENCY => {
                self.usage = Some(Usage::Frequency(input.byte()?));
                Found::Progress
            }
            opcode::END => {
                let summed = self.version >= FIRST_SUMMED_VERSION;
                self.stage = if summed { Stage::Checksum } else { Stage::Done };
                Found::Progress
            }
            code => {
                self.key(code, input)?;
                Found::Progress
            }
        })
    }

    fn key(&mut self, code: u8, input: &mut Input<'_>) -> Result<(), Error> {
        let Some(code) = TypeCode::from_byte(code, self.version) else {
            return Err(Error::UnknownRecord(code));
        };
        let key = input.text()?.into_bytes();
        if code == TypeCode::Module2 {
            return Err(Error::Module(module_name(input.length()?)));
        }
        let decoder = Box::new(ValueDecoder::new(code, self.limits));
        self.stage = Stage::Value { key, decoder };
        Ok(())
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
                Found::Key(Box::new(FoundKey { key, value, expiry, usage }))
            }
            (Stage::Value { key, .. }, None) => Found::EmptyKey(key),
            _ => unreachable!("a value comes in its own stage only"),
        })
    }

    fn checksum(&mut self, input: &mut Input<'_>, computed: u64) -> Result<Found, Error> {
        let expected = u64::from_le_bytes(input.array()?);
        // Zero: the writer did not sum up.
        if self.verify && expected != 0 && expected != computed {
            return Err(Error::Checksum { expected, computed });
        }
        self.stage = Stage::Done;
        Ok(Found::End)
    }
}

/// A library as release candidates of Redis 7.0 wrote it: name, engine, a description perhaps, code.
fn early_function(input: &mut Input<'_>) -> Result<Vec<u8>, Error> {
    let (name, engine) = (input.text()?.into_bytes(), input.text()?.into_bytes());
    if input.length()? != 0 {
        input.text()?;
    }
    let code = input.text()?.into_bytes();
    Ok([b"#!", &engine[..], b" name=", &name, b"\n", &code].concat())
}

/// The name in a module id: nine letters of six bits, above ten bits of version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).map(|at| char::from(LETTERS[(id >> (58 - 6 * at) & 0x3F) as usize])).collect()
}
