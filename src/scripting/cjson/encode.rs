//! From Lua to JSON.

use std::io::Write;

use mlua::{Table, Value};

use super::{DEPTH_MAX, InvalidNumbers, Settings};
use crate::scripting::native::{Refusal, as_number, type_name};

/// The JSON text of `value`.
pub fn encode(settings: Settings, value: &Value) -> Result<Vec<u8>, Refusal> {
    let mut encoder = Encoder { settings, out: Vec::new() };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

struct Encoder {
    settings: Settings,
    out: Vec<u8>,
}

impl Encoder {
    fn value(&mut self, value: &Value, depth: i64) -> Result<(), Refusal> {
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Table(table) => self.table(table, depth + 1)?,
            _ => match as_number(value) {
                Some(number) => self.number(number)?,
                None => return Err(cannot(value, "type not supported")),
            },
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: i64) -> Result<(), Refusal> {
        if depth > self.settings.encode_depth_max.min(DEPTH_MAX) {
            let text = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(Refusal::Message(text));
        }
        match self.array_length(table)? {
            Some(length) => self.array(table, length, depth),
            None => self.object(table, depth),
        }
    }

    /// The length of an array; `None` for a table that is empty or has other keys than 1, 2, ….
    fn array_length(&self, table: &Table) -> Result<Option<i64>, Refusal> {
        let (mut max, mut items) = (0_i64, 0_i64);
        for pair in table.pairs::<Value, Value>() {
            match pair?.0 {
                Value::Integer(key) if key >= 1 => {
                    max = max.max(key);
                    items += 1;
                }
                _ => return Ok(None),
            }
        }
        let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = self.settings;
        if sparse_ratio > 0 && max > items.saturating_mul(sparse_ratio) && max > sparse_safe {
            if !sparse_convert {
                return Err(cannot(&Value::Table(table.clone()), "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok((max > 0).then_some(max))
    }

    fn array(&mut self, table: &Table, length: i64, depth: i64) -> Result<(), Refusal> {
        self.out.push(b'[');
        for at in 1..=length {
            if at > 1 {
                self.out.push(b',');
            }
            self.value(&table.raw_get(at)?, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i64) -> Result<(), Refusal> {
        self.out.push(b'{');
        let mut first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            match (&key, as_number(&key)) {
                (Value::String(text), _) => self.string(&text.as_bytes()),
                (_, Some(number)) => {
                    self.out.push(b'"');
                    self.number(number)?;
                    self.out.push(b'"');
                }
                _ => return Err(cannot(&key, "table key must be a number or string")),
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for byte in text {
            match byte {
                b'"' | b'\\' | b'/' => self.out.extend([b'\\', *byte]),
                8 => self.out.extend_from_slice(b"\\b"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                0..=31 | 127 => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.out.push(*byte),
            }
        }
        self.out.push(b'"');
    }

    fn number(&mut self, number: f64) -> Result<(), Refusal> {
        if !number.is_finite() {
            match self.settings.invalid_numbers {
                InvalidNumbers::Refused => {
                    let value = Value::Number(number);
                    return Err(cannot(&value, "must not be NaN or Inf"));
                }
                InvalidNumbers::AsTheyAre if number.is_nan() => {
                    self.out.extend_from_slice(b"nan");
                }
                InvalidNumbers::AsTheyAre if number > 0.0 => self.out.extend_from_slice(b"inf"),
                InvalidNumbers::AsTheyAre => self.out.extend_from_slice(b"-inf"),
                InvalidNumbers::Null => self.out.extend_from_slice(b"null"),
            }
            return Ok(());
        }
        format_g(number, self.settings.precision as usize, &mut self.out);
        Ok(())
    }
}

fn cannot(value: &Value, reason: &str) -> Refusal {
    Refusal::Message(format!("Cannot serialise {}: {reason}", type_name(value)))
}

/// C's `%.{precision}g` of a finite number.
fn format_g(value: f64, precision: usize, out: &mut Vec<u8>) {
    let text = format!("{value:.*e}", precision.max(1) - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let short = |text: &str| -> String {
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
            false => text.to_string(),
        }
    };
    // Writing to a vector does not fail.
    let _ = if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{}e{sign}{:02}", short(mantissa), exponent.abs())
    } else {
        let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
        write!(out, "{}", short(&format!("{value:.decimals$}")))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_printf_writes_them() {
        for (value, precision, expected) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (0.1, 14, "0.1"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1e14, 14, "1e+14"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (999_999_999_999_999.0, 14, "1e+15"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (-1.5e-300, 14, "-1.5e-300"),
            (123.456, 3, "123"),
            (1234.5, 3, "1.23e+03"),
            (9.5, 1, "1e+01"),
        ] {
            let mut out = Vec::new();
            format_g(value, precision, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{value} {precision}");
        }
    }
}
