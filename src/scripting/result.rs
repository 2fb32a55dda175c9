//! From Lua to RESP: what a script returned, as its client reads it.

use mlua::{Table, Value};

use super::answer::until_zero;
use super::native::as_number;
use crate::resp::Reply;

/// Deepest nesting of a result. Redis ends where Lua's stack does, see [`TOO_DEEP`].
const DEPTH_MAX: usize = 1000;

/// What stands in the place of a table that is nested too deep.
const TOO_DEEP: &str = "ERR reached lua stack limit";

/// Writes `value`. `script_resp3` is what the script set with `redis.setresp`.
pub fn write(value: &Value, script_resp3: bool, reply: &mut Reply<'_>) -> mlua::Result<()> {
    Writer { script_resp3, reply }.value(value, DEPTH_MAX)
}

struct Writer<'a, 'r> {
    script_resp3: bool,
    reply: &'a mut Reply<'r>,
}

impl Writer<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        match value {
            Value::String(text) => self.reply.bulk(&text.as_bytes()),
            Value::Integer(number) => self.reply.integer(*number),
            Value::Number(number) => self.reply.integer(truncated(*number)),
            Value::Boolean(value) => self.boolean(*value),
            Value::Table(table) => match depth.checked_sub(1) {
                Some(depth) => self.table(table, depth)?,
                None => self.reply.error(TOO_DEEP),
            },
            _ => self.reply.null(),
        }
        Ok(())
    }

    fn boolean(&mut self, value: bool) {
        match (self.script_resp3, value) {
            (true, _) => self.reply.boolean(value),
            (false, true) => self.reply.integer(1),
            (false, false) => self.reply.null(),
        }
    }

    /// A table with one of the special fields is what the field says; any other is an array.
    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        if let Some(text) = self.text(table, "err")? {
            self.reply.error_bytes(until_zero(&text));
        } else if let Some(text) = self.text(table, "ok")? {
            self.status(until_zero(&text));
        } else if let Some(number) = as_number(&table.raw_get("double")?) {
            self.reply.double(number);
        } else if let Value::Table(map) = table.raw_get("map")? {
            self.map(&map, depth)?;
        } else if let Value::Table(set) = table.raw_get("set")? {
            self.set(&set, depth)?;
        } else if let Some(digits) = self.text(table, "big_number")? {
            let digits: Vec<u8> = digits.into_iter().map(blank).collect();
            self.reply.big_number(&digits);
        } else if !self.verbatim(table)? {
            self.array(table, depth)?;
        }
        Ok(())
    }

    fn text(&self, table: &Table, field: &str) -> mlua::Result<Option<Vec<u8>>> {
        match table.raw_get(field)? {
            Value::String(text) => Ok(Some(text.as_bytes().to_vec())),
            _ => Ok(None),
        }
    }

    fn status(&mut self, text: &[u8]) {
        let mut line = Vec::with_capacity(text.len() + 3);
        line.push(b'+');
        line.extend(text.iter().copied().map(blank));
        line.extend_from_slice(b"\r\n");
        self.reply.raw(&line);
    }

    fn verbatim(&mut self, table: &Table) -> mlua::Result<bool> {
        let Value::Table(verbatim) = table.raw_get("verbatim_string")? else { return Ok(false) };
        let (format, string) = (self.text(&verbatim, "format")?, self.text(&verbatim, "string")?);
        let (Some(format), Some(string)) = (format, string) else { return Ok(false) };
        // Redis pads and cuts the format to its three letters.
        let letter = |at: usize| format.get(at).copied().unwrap_or(b' ');
        self.reply.verbatim([letter(0), letter(1), letter(2)], &string);
        Ok(true)
    }

    fn map(&mut self, map: &Table, depth: usize) -> mlua::Result<()> {
        let header = self.reply.deferred();
        let mut pairs = 0;
        map.for_each(|key: Value, value: Value| {
            self.value(&key, depth)?;
            self.value(&value, depth)?;
            pairs += 1;
            Ok(())
        })?;
        self.reply.set_map_len(header, pairs);
        Ok(())
    }

    fn set(&mut self, set: &Table, depth: usize) -> mlua::Result<()> {
        let header = self.reply.deferred();
        let mut length = 0;
        set.for_each(|member: Value, _: Value| {
            self.value(&member, depth)?;
            length += 1;
            Ok(())
        })?;
        self.reply.set_set_len(header, length);
        Ok(())
    }

    /// An array ends before its first nil.
    fn array(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let header = self.reply.deferred();
        let mut length = 0;
        loop {
            let value: Value = table.raw_get(length + 1)?;
            if value.is_nil() {
                break;
            }
            self.value(&value, depth)?;
            length += 1;
        }
        self.reply.set_array_len(header, length);
        Ok(())
    }
}

/// Cuts off the fraction. What no integer can hold becomes the smallest, as the conversion of x86-64 does.
pub fn truncated(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

fn blank(byte: u8) -> u8 {
    if byte == b'\r' || byte == b'\n' { b' ' } else { byte }
}
