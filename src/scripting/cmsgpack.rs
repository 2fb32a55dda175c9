//! The library `cmsgpack` of scripts: lua-cmsgpack 0.4.0, which Redis 7.0 brings along, written anew.

use mlua::{Lua, MultiValue, Table, Value};

use super::native::{Args, Lift, NativeResult, Refusal, as_number, one};

/// Tables nested deeper than this are packed as nil.
const PACK_DEPTH_MAX: usize = 16;
/// Deepest nesting that is unpacked; Redis stops where Lua's stack does.
const UNPACK_DEPTH_MAX: usize = 1000;

/// Puts the library into the globals.
pub fn install(lua: &Lua, lift: &Lift) -> mlua::Result<()> {
    let table = lua.create_table()?;
    table.raw_set("pack", lift.native(lua, |lua, args| pack(lua, &args))?)?;
    table.raw_set("unpack", lift.native(lua, |lua, args| unpack_from(lua, &args, 0, 0))?)?;
    let unpack_one = lift.native(lua, |lua, args| {
        let offset = args.integer_or(2, 0)?;
        unpack_from(lua, &args, 1, offset)
    })?;
    table.raw_set("unpack_one", unpack_one)?;
    let unpack_limit = lift.native(lua, |lua, args| {
        let (limit, offset) = (args.integer(2)?, args.integer_or(3, 0)?);
        unpack_from(lua, &args, limit, offset)
    })?;
    table.raw_set("unpack_limit", unpack_limit)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    lua.globals().raw_set("cmsgpack", table)
}

fn pack(lua: &Lua, args: &Args) -> NativeResult {
    if args.len() == 0 {
        return Err(Refusal::Argument(0, "MessagePack pack needs input.".into()));
    }
    let mut out = Vec::new();
    for value in &args.0 {
        pack_value(value, 0, &mut out)?;
    }
    one(Value::String(lua.create_string(out)?))
}

fn pack_value(value: &Value, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    match value {
        Value::String(text) => pack_bytes(&text.as_bytes(), out),
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Table(table) if depth < PACK_DEPTH_MAX => pack_table(table, depth + 1, out)?,
        _ => match as_number(value) {
            Some(number) => pack_number(number, out),
            None => out.push(0xc0),
        },
    }
    Ok(())
}

fn pack_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let length = bytes.len();
    match length {
        0..32 => out.push(0xa0 | length as u8),
        32..=0xff => out.extend([0xd9, length as u8]),
        0x100..=0xffff => pack_sized(0xda, &(length as u16).to_be_bytes(), out),
        _ => pack_sized(0xdb, &(length as u32).to_be_bytes(), out),
    }
    out.extend_from_slice(bytes);
}

fn pack_sized(code: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(code);
    out.extend_from_slice(bytes);
}

fn pack_number(number: f64, out: &mut Vec<u8>) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) && number.trunc() == number {
        return pack_integer(number as i64, out);
    }
    let single = number as f32;
    if f64::from(single) == number {
        pack_sized(0xca, &single.to_be_bytes(), out);
    } else {
        pack_sized(0xcb, &number.to_be_bytes(), out);
    }
}

fn pack_integer(value: i64, out: &mut Vec<u8>) {
    match value {
        0..=127 => out.push(value as u8),
        128..=0xff => out.extend([0xcc, value as u8]),
        0x100..=0xffff => pack_sized(0xcd, &(value as u16).to_be_bytes(), out),
        0x1_0000..=0xffff_ffff => pack_sized(0xce, &(value as u32).to_be_bytes(), out),
        0x1_0000_0000.. => pack_sized(0xcf, &value.to_be_bytes(), out),
        -32..0 => out.push(value as u8),
        -128..-32 => out.extend([0xd0, value as u8]),
        -32_768..-128 => pack_sized(0xd1, &(value as i16).to_be_bytes(), out),
        -2_147_483_648..-32_768 => pack_sized(0xd2, &(value as i32).to_be_bytes(), out),
        _ => pack_sized(0xd3, &value.to_be_bytes(), out),
    }
}

fn pack_table(table: &Table, depth: usize, out: &mut Vec<u8>) -> mlua::Result<()> {
    let (mut count, mut max, mut is_array) = (0_i64, 0_i64, true);
    for pair in table.pairs::<Value, Value>() {
        count += 1;
        match pair?.0 {
            Value::Integer(key) if key > 0 => max = max.max(key),
            _ => is_array = false,
        }
    }
    if is_array && max == count {
        pack_header([0x90, 0xdc, 0xdd], count, out);
        for at in 1..=count {
            pack_value(&table.raw_get(at)?, depth, out)?;
        }
        return Ok(());
    }
    pack_header([0x80, 0xde, 0xdf], count, out);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        pack_value(&key, depth, out)?;
        pack_value(&value, depth, out)?;
    }
    Ok(())
}

/// The header of an array or map: up to 15 elements in the code itself, or 16 or 32 bits.
fn pack_header([small, medium, large]: [u8; 3], count: i64, out: &mut Vec<u8>) {
    match count {
        0..=15 => out.push(small | count as u8),
        16..=65_535 => pack_sized(medium, &(count as u16).to_be_bytes(), out),
        _ => pack_sized(large, &(count as u32).to_be_bytes(), out),
    }
}

/// Unpacks up to `limit` values from `offset` on, and returns them after the offset of the next one
/// (-1 at the end). All of them, without an offset, if both are 0.
fn unpack_from(lua: &Lua, args: &Args, limit: i64, offset: i64) -> NativeResult {
    let bytes = args.bytes(lua, 1)?;
    let length = bytes.len();
    if limit < 0 || offset < 0 {
        let text =
            format!("Invalid request to unpack with offset of {offset} and limit of {length}.");
        return Err(Refusal::Message(text));
    }
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)) else {
        let text = format!("Start offset {offset} greater than input length {length}.");
        return Err(Refusal::Message(text));
    };
    let all = limit == 0 && offset == 0;
    let limit = if all { usize::MAX } else { limit as usize };
    let mut unpacker = Unpacker { lua, rest };
    let mut values = MultiValue::new();
    while !unpacker.rest.is_empty() && values.len() < limit {
        values.push_back(unpacker.value(UNPACK_DEPTH_MAX)?);
    }
    if !all {
        let left = unpacker.rest.len();
        let next = if left == 0 { -1 } else { (length - left) as i64 };
        values.push_front(Value::Integer(next));
    }
    Ok(values)
}

struct Unpacker<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        let [code] = self.take()?;
        Ok(match code {
            0x00..=0x7f => Value::Integer(i64::from(code)),
            0xe0..=0xff => Value::Integer(i64::from(code as i8)),
            0x80..=0x8f => self.map(usize::from(code & 0xf), depth)?,
            0x90..=0x9f => self.array(usize::from(code & 0xf), depth)?,
            0xa0..=0xbf => self.string(usize::from(code & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f64::from(f32::from_be_bytes(self.take()?))),
            0xcb => Value::Number(f64::from_be_bytes(self.take()?)),
            0xcc => Value::Integer(i64::from(u8::from_be_bytes(self.take()?))),
            0xcd => Value::Integer(i64::from(u16::from_be_bytes(self.take()?))),
            0xce => Value::Integer(i64::from(u32::from_be_bytes(self.take()?))),
            // Beyond 2^63 it turns negative, as in Redis.
            0xcf => Value::Integer(i64::from_be_bytes(self.take()?)),
            0xd0 => Value::Integer(i64::from(i8::from_be_bytes(self.take()?))),
            0xd1 => Value::Integer(i64::from(i16::from_be_bytes(self.take()?))),
            0xd2 => Value::Integer(i64::from(i32::from_be_bytes(self.take()?))),
            0xd3 => Value::Integer(i64::from_be_bytes(self.take()?)),
            0xd9 => {
                let length = u8::from_be_bytes(self.take()?);
                self.string(usize::from(length))?
            }
            0xda => {
                let length = u16::from_be_bytes(self.take()?);
                self.string(usize::from(length))?
            }
            0xdb => {
                let length = u32::from_be_bytes(self.take()?);
                self.string(length as usize)?
            }
            0xdc => {
                let length = u16::from_be_bytes(self.take()?);
                self.array(usize::from(length), depth)?
            }
            0xdd => {
                let length = u32::from_be_bytes(self.take()?);
                self.array(length as usize, depth)?
            }
            0xde => {
                let pairs = u16::from_be_bytes(self.take()?);
                self.map(usize::from(pairs), depth)?
            }
            0xdf => {
                let pairs = u32::from_be_bytes(self.take()?);
                self.map(pairs as usize, depth)?
            }
            _ => return Err(Refusal::Message("Bad data format in input.".into())),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(missing)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn string(&mut self, length: usize) -> Result<Value, Refusal> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(missing)?;
        self.rest = rest;
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn array(&mut self, length: usize, depth: usize) -> Result<Value, Refusal> {
        let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
        let table = self.lua.create_table()?;
        for at in 1..=length {
            table.raw_set(at, self.value(depth)?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, pairs: usize, depth: usize) -> Result<Value, Refusal> {
        let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
        let table = self.lua.create_table()?;
        for _ in 0..pairs {
            let key = self.value(depth)?;
            let value = self.value(depth)?;
            match &key {
                Value::Nil => return Err(Refusal::Bare("table index is nil".into())),
                Value::Number(number) if number.is_nan() => {
                    return Err(Refusal::Bare("table index is NaN".into()));
                }
                _ => table.raw_set(key, value)?,
            }
        }
        Ok(Value::Table(table))
    }
}

fn missing() -> Refusal {
    Refusal::Message("Missing bytes in input.".into())
}

fn too_deep() -> Refusal {
    Refusal::Message("stack overflow (in function mp_decode_to_lua_array)".into())
}
