//! The library `struct` of scripts: Roberto Ierusalimschy's struct 0.2, which Redis 7.0 brings along,
//! written anew. Sizes and alignment are those of x86-64.

use mlua::{Lua, MultiValue, Value};

use super::native::{Args, Lift, NativeResult, Refusal, as_number, one};

/// Bytes of the longest integer.
const INTEGER_BYTES_MAX: usize = 32;
/// Strictest alignment of a native type.
const ALIGN_MAX: usize = 8;

/// Puts the library into the globals.
pub fn install(lua: &Lua, lift: &Lift) -> mlua::Result<()> {
    let table = lua.create_table()?;
    table.raw_set("pack", lift.native(lua, pack)?)?;
    table.raw_set("unpack", lift.native(lua, |lua, args| unpack(lua, &args))?)?;
    table.raw_set("size", lift.native(lua, |lua, args| size(lua, &args))?)?;
    lua.globals().raw_set("struct", table)
}

/// One letter of a format, and the bytes that it takes.
struct Item {
    letter: u8,
    size: usize,
    /// Bytes to skip before it.
    padding: usize,
}

/// Reads a format letter by letter.
struct Format<'a> {
    rest: &'a [u8],
    big_endian: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(text: &'a [u8]) -> Self {
        // A zero ends it, as in C.
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Self { rest: &text[..end], big_endian: false, align: 1 }
    }

    /// The next item for data that has `position` bytes before it.
    fn next(&mut self, position: usize) -> Result<Option<Item>, Refusal> {
        let Some((letter, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match letter {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_BYTES_MAX {
                    return Err(message(format!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        let padding = if size == 0 || *letter == b'c' {
            0
        } else {
            // The alignment is a power of two; a size that is none is masked all the same.
            let unit = size.min(self.align);
            (unit - (position & (unit - 1))) & (unit - 1)
        };
        Ok(Some(Item { letter: *letter, size, padding }))
    }

    fn number(&mut self, default: usize) -> Result<usize, Refusal> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (text, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let value = text.iter().try_fold(0_i32, |value, digit| {
            value.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        Ok(value.ok_or_else(|| message("integral size overflow"))? as usize)
    }

    /// A letter that is no data.
    fn control(&mut self, letter: u8) -> Result<(), Refusal> {
        match letter {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN_MAX)?;
                if !align.is_power_of_two() {
                    return Err(message(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            other => {
                let other = String::from_utf8_lossy(&[other]).into_owned();
                return Err(Refusal::Argument(1, format!("invalid format option '{other}'")));
            }
        }
        Ok(())
    }

    fn ordered(&self, mut little: Vec<u8>) -> Vec<u8> {
        if self.big_endian {
            little.reverse();
        }
        little
    }
}

fn message(text: impl Into<String>) -> Refusal {
    Refusal::Message(text.into())
}

fn pack(lua: &Lua, mut args: Args) -> NativeResult {
    let text = args.bytes(lua, 1)?;
    // The original marks the end of the arguments so, and error texts show it.
    args.0.push_back(Value::Nil);
    let mut format = Format::new(&text);
    let (mut out, mut at) = (Vec::new(), 2);
    while let Some(Item { letter, size, padding }) = format.next(out.len())? {
        out.resize(out.len() + padding, 0);
        match letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut little = integer_bits(args.number(at)?).to_le_bytes().to_vec();
                little.resize(size, 0);
                out.extend(format.ordered(little));
                at += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let value = args.number(at)? as f32;
                out.extend(format.ordered(value.to_le_bytes().to_vec()));
                at += 1;
            }
            b'd' => {
                out.extend(format.ordered(args.number(at)?.to_le_bytes().to_vec()));
                at += 1;
            }
            b'c' | b's' => {
                let bytes = args.bytes(lua, at)?;
                at += 1;
                let size = if size == 0 { bytes.len() } else { size };
                let Some(wanted) = bytes.get(..size) else {
                    return Err(Refusal::Argument(at, "string too short".into()));
                };
                out.extend_from_slice(wanted);
                if letter == b's' {
                    out.push(0);
                }
            }
            control => format.control(control)?,
        }
    }
    one(Value::String(lua.create_string(out)?))
}

/// The bits of a number as C converts it on x86-64: through a signed integer if it is negative.
fn integer_bits(number: f64) -> u64 {
    if number < 0.0 { number as i64 as u64 } else { number as u64 }
}

fn unpack(lua: &Lua, args: &Args) -> NativeResult {
    let (text, data) = (args.bytes(lua, 1)?, args.bytes(lua, 2)?);
    let start = args.integer_or(3, 1)?;
    if start == 0 {
        return Err(Refusal::Argument(3, "offset must be 1 or greater".into()));
    }
    // What is below 1 becomes a place far beyond the end.
    let mut position = start.wrapping_sub(1) as usize;
    let mut format = Format::new(&text);
    let mut values = MultiValue::new();
    while let Some(Item { letter, mut size, padding }) = format.next(position)? {
        position = position.wrapping_add(padding);
        let mut bytes = slice(&data, position, size)?;
        match letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let little = format.ordered(bytes.to_vec());
                let number = integer(&little, letter.is_ascii_lowercase());
                values.push_back(Value::Number(number));
            }
            b'x' => {}
            b'f' => {
                let little = format.ordered(bytes.to_vec());
                let number = little.try_into().map(f32::from_le_bytes).unwrap_or_default();
                values.push_back(Value::Number(f64::from(number)));
            }
            b'd' => {
                let little = format.ordered(bytes.to_vec());
                let number = little.try_into().map(f64::from_le_bytes).unwrap_or_default();
                values.push_back(Value::Number(number));
            }
            b'c' => {
                if size == 0 {
                    let before = values.pop_back().and_then(|value| as_number(&value));
                    let before =
                        before.ok_or_else(|| message("format 'c0' needs a previous size"))?;
                    size = before as usize;
                    bytes = slice(&data, position, size)?;
                }
                values.push_back(Value::String(lua.create_string(bytes)?));
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let end = memchr::memchr(0, rest);
                let end = end.ok_or_else(|| message("unfinished string in data"))?;
                values.push_back(Value::String(lua.create_string(&rest[..end])?));
                size = end + 1;
            }
            control => format.control(control)?,
        }
        position = position.wrapping_add(size);
    }
    values.push_back(Value::Integer((position as i64).wrapping_add(1)));
    Ok(values)
}

fn slice(data: &[u8], position: usize, size: usize) -> Result<&[u8], Refusal> {
    let end = position.checked_add(size);
    let bytes = end.and_then(|end| data.get(position..end));
    bytes.ok_or_else(|| Refusal::Argument(2, "data string too short".into()))
}

/// The number of these bytes, the lowest first; bytes beyond the eighth are cut off.
fn integer(little: &[u8], signed: bool) -> f64 {
    let bits = little.iter().take(8).rev().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    if !signed {
        return bits as f64;
    }
    let unused = 64 - 8 * little.len().min(8) as u32;
    match unused {
        64 => 0.0,
        unused => ((bits << unused) as i64 >> unused) as f64,
    }
}

fn size(lua: &Lua, args: &Args) -> NativeResult {
    let text = args.bytes(lua, 1)?;
    let mut format = Format::new(&text);
    let mut position: usize = 0;
    while let Some(Item { letter, size, padding }) = format.next(position)? {
        let open = match letter {
            b's' => Some("s"),
            b'c' if size == 0 => Some("c0"),
            _ => None,
        };
        if let Some(open) = open {
            let text = format!("option '{open}' has no fixed size");
            return Err(Refusal::Argument(1, text));
        }
        if !letter.is_ascii_alphanumeric() {
            format.control(letter)?;
        }
        position = position.saturating_add(padding).saturating_add(size);
    }
    one(Value::Integer(position as i64))
}
