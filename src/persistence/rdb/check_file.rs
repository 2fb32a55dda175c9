//! Says whether an RDB file is whole, and what is in it: `corelane check-rdb`, after `redis-check-rdb`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::decode::Limits;
use super::input::Error;
use super::read_file::{FileReader, Found, FoundKey};
use super::write_file::Usage;
use crate::keyspace::Value;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Elements of a value that are read at a time.
const ELEMENTS: usize = 4096;

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The version of the format.
    pub version: u16,
    /// What the file says about itself, in its order.
    pub aux: Vec<(String, String)>,
    /// Keys by database.
    pub databases: BTreeMap<u64, u64>,
    /// Keys by type.
    pub types: BTreeMap<&'static str, u64>,
    /// Keys in all.
    pub keys: u64,
    /// Keys that expire.
    pub expires: u64,
    /// Keys with a note of how they were used.
    pub usages: u64,
    /// Keys whose collection is empty, which are left out when the file is loaded.
    pub empty_keys: u64,
    /// Libraries of functions.
    pub functions: u64,
}

/// Why a file is not good.
#[derive(Debug)]
pub enum CheckError {
    /// It cannot be read.
    Io(io::Error),
    /// Its bytes are wrong.
    Bad {
        /// What is wrong.
        error: Error,
        /// How many bytes were good.
        offset: u64,
        /// The last key that was read.
        last_key: Option<Vec<u8>>,
    },
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the file: {error}"),
            Self::Bad { error, offset, last_key } => {
                write!(f, "[offset {offset}] {error}")?;
                match last_key {
                    Some(key) => write!(f, " (after the key '{}')", key.escape_ascii()),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for CheckError {}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "RDB version {}", self.version)?;
        for (name, value) in &self.aux {
            writeln!(f, "{name} = '{value}'")?;
        }
        for (database, keys) in &self.databases {
            writeln!(f, "database {database}: {keys} keys")?;
        }
        for (name, keys) in &self.types {
            writeln!(f, "{name}: {keys} keys")?;
        }
        writeln!(f, "{} keys read, {} of them expire", self.keys, self.expires)?;
        if self.empty_keys > 0 {
            writeln!(f, "{} empty keys, left out on load", self.empty_keys)?;
        }
        if self.functions > 0 {
            writeln!(f, "{} libraries of functions", self.functions)?;
        }
        write!(f, "RDB looks OK")
    }
}

/// Reads the whole file at `path`.
pub fn check_file(path: &Path) -> Result<Summary, CheckError> {
    check(File::open(path).map_err(CheckError::Io)?)
}

/// Reads the whole file that `source` gives.
pub fn check(mut source: impl Read) -> Result<Summary, CheckError> {
    let (mut summary, mut database, mut last_key) = (Summary::default(), 0, None);
    let mut reader = FileReader::new(Limits::default(), true);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let found = reader.find(ELEMENTS).map_err(|error| CheckError::Bad {
            error,
            offset: reader.offset(),
            last_key: last_key.clone(),
        })?;
        match found {
            Found::NeedsMore => {
                let count = source.read(&mut chunk).map_err(CheckError::Io)?;
                if count == 0 {
                    let (error, offset) = (Error::Truncated, reader.offset());
                    return Err(CheckError::Bad { error, offset, last_key });
                }
                reader.feed(&chunk[..count]);
            }
            Found::Progress | Found::Sizes { .. } => {}
            Found::Aux { name, value } => {
                let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
                summary.aux.push((text(name), text(value)));
            }
            Found::Database(number) => database = number,
            Found::Function(_) => summary.functions += 1,
            Found::EmptyKey(key) => {
                summary.empty_keys += 1;
                last_key = Some(key);
            }
            Found::Key(found) => {
                summary.count(database, &found);
                last_key = Some(found.key);
            }
            Found::End => {
                summary.version = reader.version();
                return Ok(summary);
            }
        }
    }
}

impl Summary {
    fn count(&mut self, database: u64, found: &FoundKey) {
        self.keys += 1;
        self.expires += u64::from(found.expiry.is_some());
        self.usages += u64::from(matches!(found.usage, Some(Usage::Idle(_) | Usage::Frequency(_))));
        *self.databases.entry(database).or_default() += 1;
        *self.types.entry(type_name(&found.value)).or_default() += 1;
    }
}

fn type_name(value: &Value) -> &'static str {
    value.as_ref().type_name().as_str()
}
