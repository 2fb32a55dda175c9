//! From RESP to Lua: what a command answered, as the script sees it.
//!
//! The bytes come from our own handlers, yet they are read like any others: what is not a reply is an
//! error of the script, and depth is bounded by what handlers nest.

use mlua::{Lua, Table, Value};

use super::native::Refusal;

/// What a command answered.
pub enum Answer {
    /// Anything but an error.
    Value(Value),
    /// An error table.
    Error(Table),
}

/// Reads the one reply in `wire`.
pub fn read(lua: &Lua, wire: &[u8]) -> Result<Answer, Refusal> {
    let mut reader = Reader { lua, rest: wire };
    match wire.first() {
        Some(b'-') => {
            let text = &reader.line()?[1..];
            Ok(Answer::Error(counted_error(lua, text)?))
        }
        _ => Ok(Answer::Value(reader.value(DEPTH_MAX)?)),
    }
}

/// What C sees of a text: a zero ends it. Texts of errors and statuses are read so.
pub fn until_zero(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// An error table made of `text`: the code is kept after a `-` and is `ERR` without one; line breaks
/// at the end are cut off.
pub fn error_table(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
    let text = until_zero(text);
    let end = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    let text = match &text[..end] {
        [b'-', coded @ ..] if coded.contains(&b' ') => coded.to_vec(),
        [b'-', bare @ ..] | bare => [b"ERR ", bare].concat(),
    };
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", lua.create_string(text)?)?;
    Ok(table)
}

/// The error of a command, which has been counted where the command ran.
fn counted_error(lua: &Lua, text: &[u8]) -> mlua::Result<Table> {
    let table = error_table(lua, &[b"-", text].concat())?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(table)
}

/// Deepest nesting that is read; the replies of commands stay below ten.
const DEPTH_MAX: usize = 64;

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        let depth = depth.checked_sub(1).ok_or_else(malformed)?;
        let line = self.line()?;
        let (sigil, text) = line.split_first().ok_or_else(malformed)?;
        let lua = self.lua;
        Ok(match sigil {
            b'$' => match self.length(text)? {
                None => Value::Boolean(false),
                Some(length) => Value::String(lua.create_string(self.bytes(length)?)?),
            },
            b':' => Value::Integer(integer(text)?),
            b'*' | b'>' => match self.length(text)? {
                None => Value::Boolean(false),
                Some(length) => Value::Table(self.array(length, depth)?),
            },
            b'+' => field(lua, "ok", Value::String(lua.create_string(text)?))?,
            b'-' => Value::Table(counted_error(lua, text)?),
            b'_' => Value::Nil,
            b'#' => Value::Boolean(text == b"t"),
            b',' => field(lua, "double", Value::Number(double(text)))?,
            b'(' => field(lua, "big_number", Value::String(lua.create_string(text)?))?,
            b'=' => self.verbatim(text)?,
            b'%' => {
                let pairs = self.length(text)?.ok_or_else(malformed)?;
                field(lua, "map", Value::Table(self.map(pairs, depth)?))?
            }
            b'~' => {
                let length = self.length(text)?.ok_or_else(malformed)?;
                field(lua, "set", Value::Table(self.set(length, depth)?))?
            }
            b'|' => {
                // Attributes are dropped, as Redis does.
                let pairs = self.length(text)?.ok_or_else(malformed)?;
                self.map(pairs, depth)?;
                self.value(depth)?
            }
            _ => return Err(malformed()),
        })
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Table, Refusal> {
        // The table grows with what is there, not with what is announced.
        let table = self.lua.create_table_with_capacity(length.min(self.rest.len()), 0)?;
        for at in 1..=length {
            table.raw_set(at, self.value(depth)?)?;
        }
        Ok(table)
    }

    fn map(&mut self, pairs: usize, depth: usize) -> Result<Table, Refusal> {
        let table = self.lua.create_table()?;
        for _ in 0..pairs {
            let key = self.value(depth)?;
            let value = self.value(depth)?;
            if !key.is_nil() {
                table.raw_set(key, value)?;
            }
        }
        Ok(table)
    }

    fn set(&mut self, length: usize, depth: usize) -> Result<Table, Refusal> {
        let table = self.lua.create_table()?;
        for _ in 0..length {
            let member = self.value(depth)?;
            if !member.is_nil() {
                table.raw_set(member, true)?;
            }
        }
        Ok(table)
    }

    fn verbatim(&mut self, text: &[u8]) -> Result<Value, Refusal> {
        let length = self.length(text)?.ok_or_else(malformed)?;
        let [a, b, c, b':', content @ ..] = self.bytes(length)? else { return Err(malformed()) };
        let table = self.lua.create_table()?;
        table.raw_set("format", self.lua.create_string([*a, *b, *c])?)?;
        table.raw_set("string", self.lua.create_string(content)?)?;
        Ok(field(self.lua, "verbatim_string", Value::Table(table))?)
    }

    /// A length, or `None` for -1.
    fn length(&self, text: &[u8]) -> Result<Option<usize>, Refusal> {
        match integer(text)? {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).map_err(|_| malformed())?)),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Refusal> {
        let end = memchr::memchr(b'\r', self.rest).ok_or_else(malformed)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        Ok(line)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(malformed)?;
        self.rest = rest.strip_prefix(b"\r\n").ok_or_else(malformed)?;
        Ok(bytes)
    }
}

/// A table of one field, which says what its value is.
fn field(lua: &Lua, name: &str, value: Value) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn integer(text: &[u8]) -> Result<i64, Refusal> {
    crate::datatypes::number::parse_i64(text).ok_or_else(malformed)
}

fn double(text: &[u8]) -> f64 {
    crate::datatypes::number::strtod(text).value
}

fn malformed() -> Refusal {
    Refusal::Message("a command answered what is not a reply".into())
}
