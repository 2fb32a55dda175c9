//! What stands between the values of an RDB file: its first bytes, the records, and the checksum at its end.
//!
//! Who decodes values ([`super::read_file`]) and who only looks for their ends ([`super::border`]) both read
//! these, so what is accepted is the same.

use super::NEWEST_VERSION;
use super::input::{Error, Input, Text};
use super::type_code::TypeCode;
use super::write_file::{MAGIC, Usage, opcode};

/// The first version that ends with a checksum.
pub(super) const FIRST_SUMMED_VERSION: u16 = 5;

/// Numbers after a hint about a slot: which, its keys, those of them that expire.
const SLOT_INFO_LENGTHS: usize = 3;

/// A record, of a key only what comes before its value.
pub(super) enum Record<'a> {
    /// What the file says about itself.
    Aux { name: Text<'a>, value: Text<'a> },
    /// The keys to come are of this database.
    Database(u64),
    /// How many keys are coming, and how many of them expire.
    Sizes { keys: u64, expiring: u64 },
    /// Something without meaning here.
    Hint,
    /// The source of a library of functions.
    Function(Vec<u8>),
    /// When the next key expires, unix ms.
    Expiry(i64),
    /// How the next key was used.
    Used(Usage),
    /// A key; its value follows.
    Key(TypeCode, Text<'a>),
    /// No more records.
    End,
}

/// Reads what a file begins with: its version.
pub(super) fn read_header(input: &mut Input<'_>) -> Result<u16, Error> {
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
    Ok(version)
}

/// Reads a record of a file of this version.
pub(super) fn read_record<'a>(input: &mut Input<'a>, version: u16) -> Result<Record<'a>, Error> {
    Ok(match input.byte()? {
        opcode::AUX => Record::Aux { name: input.text()?, value: input.text()? },
        opcode::DATABASE => Record::Database(input.length()?),
        opcode::SIZES => Record::Sizes { keys: input.length()?, expiring: input.length()? },
        opcode::SLOT_INFO => {
            for _ in 0..SLOT_INFO_LENGTHS {
                input.length()?;
            }
            Record::Hint
        }
        opcode::FUNCTION => Record::Function(input.text()?.into_bytes()),
        opcode::FUNCTION_BEFORE_RELEASE => Record::Function(early_function(input)?),
        opcode::MODULE_AUX => return Err(Error::Module(module_name(input.length()?))),
        opcode::EXPIRY_MS => Record::Expiry(i64::from_le_bytes(input.array()?)),
        opcode::EXPIRY_SECONDS => {
            Record::Expiry(i64::from(i32::from_le_bytes(input.array()?)) * 1000)
        }
        opcode::IDLE => Record::Used(Usage::Idle(input.length()?)),
        opcode::FREQUENCY => Record::Used(Usage::Frequency(input.byte()?)),
        opcode::END => Record::End,
        code => {
            let code = TypeCode::from_byte(code, version).ok_or(Error::UnknownRecord(code))?;
            let key = input.text()?;
            if code == TypeCode::Module2 {
                return Err(Error::Module(module_name(input.length()?)));
            }
            Record::Key(code, key)
        }
    })
}

/// Reads what a file ends with, and compares it with the sum of all that came before, if there is one.
pub(super) fn read_sum(input: &mut Input<'_>, computed: Option<u64>) -> Result<(), Error> {
    let expected = u64::from_le_bytes(input.array()?);
    match computed {
        // Zero: the writer did not sum up.
        Some(computed) if expected != 0 && expected != computed => {
            Err(Error::Checksum { expected, computed })
        }
        _ => Ok(()),
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
