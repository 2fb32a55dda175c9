//! Functions written in Rust that look to scripts like those of Lua's standard library.
//!
//! mlua raises a Rust error as a userdata, which scripts must never see: it has no position, and a
//! script would catch an abort. So a native *returns* its errors, and a closure in C (`lua/`, "lifted")
//! raises them as strings with the caller's position, or as the tables that they are.

use mlua::{Function, Lua, MultiValue, Table, Value};

/// Why a native failed.
pub enum Refusal {
    /// An error; it gets the position of the caller.
    Message(String),
    /// An error without a position, as the core of Lua raises it in a C function.
    Bare(String),
    /// An error table, raised as it is.
    Table(Table),
    /// What is wrong with the argument of this number.
    Argument(usize, String),
    /// The script is over, or Lua itself failed (out of memory).
    Fatal(mlua::Error),
}

impl From<mlua::Error> for Refusal {
    fn from(error: mlua::Error) -> Self {
        Self::Fatal(error)
    }
}

/// What a native answers.
pub type NativeResult = Result<MultiValue, Refusal>;

/// An answer of one value.
pub fn one(value: Value) -> NativeResult {
    Ok(MultiValue::from_iter([value]))
}

/// No value.
pub fn nothing() -> NativeResult {
    Ok(MultiValue::new())
}

/// Puts the mark before an answer by which "lifted" tells results from errors.
pub fn marked(lua: &Lua, answer: NativeResult) -> mlua::Result<MultiValue> {
    let (mark, error) = match answer {
        Ok(mut results) => {
            results.push_front(Value::Boolean(true));
            return Ok(results);
        }
        Err(Refusal::Fatal(error)) => return Err(error),
        Err(Refusal::Table(table)) => (Value::Boolean(false), Value::Table(table)),
        Err(Refusal::Bare(text)) => (Value::Nil, Value::String(lua.create_string(text)?)),
        Err(Refusal::Message(text)) => {
            (Value::Boolean(false), Value::String(lua.create_string(text)?))
        }
        Err(Refusal::Argument(at, text)) => {
            (Value::Integer(at as i64), Value::String(lua.create_string(text)?))
        }
    };
    Ok(MultiValue::from_iter([mark, error]))
}

/// Makes natives into functions for scripts.
#[derive(Clone)]
pub struct Lift {
    lift: Function,
    calling: Function,
}

impl Lift {
    /// With the functions of these names of the sandbox.
    pub fn new(lift: Function, calling: Function) -> Self {
        Self { lift, calling }
    }

    /// A function that runs `native`.
    pub fn native(
        &self,
        lua: &Lua,
        native: impl Fn(&Lua, Args) -> NativeResult + 'static,
    ) -> mlua::Result<Function> {
        let native =
            lua.create_function(move |lua, args: MultiValue| marked(lua, native(lua, Args(args))))?;
        self.lift.call((native, Value::Nil))
    }

    /// A function that runs whatever native is at `slot[1]` at that time, with `first` before its
    /// arguments.
    pub fn slot(&self, slot: &Table, first: i64) -> mlua::Result<Function> {
        self.lift.call((slot, first))
    }

    /// As [`Lift::slot`], a function that runs commands: for most of them it needs no native.
    pub fn calling(&self, slot: &Table, first: i64) -> mlua::Result<Function> {
        self.calling.call((slot, first))
    }
}

/// The arguments of a native, checked as the standard library checks its own.
pub struct Args(pub MultiValue);

impl Args {
    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Argument `at`, from 1 on.
    pub fn get(&self, at: usize) -> Option<&Value> {
        at.checked_sub(1).and_then(|index| self.0.get(index))
    }

    /// Whether argument `at` is absent or nil.
    pub fn is_none_or_nil(&self, at: usize) -> bool {
        matches!(self.get(at), None | Some(Value::Nil))
    }

    /// Argument `at` as a number; strings that spell one will do.
    pub fn number(&self, at: usize) -> Result<f64, Refusal> {
        match self.get(at) {
            Some(Value::Integer(value)) => Ok(*value as f64),
            Some(Value::Number(value)) => Ok(*value),
            Some(Value::String(text)) => {
                number_of_text(&text.as_bytes()).ok_or_else(|| self.expected(at, "number"))
            }
            _ => Err(self.expected(at, "number")),
        }
    }

    /// Argument `at` as an integer, cut off towards zero.
    pub fn integer(&self, at: usize) -> Result<i64, Refusal> {
        Ok(self.number(at)? as i64)
    }

    /// As [`Args::integer`], or `default` if it is absent.
    pub fn integer_or(&self, at: usize, default: i64) -> Result<i64, Refusal> {
        if self.is_none_or_nil(at) { Ok(default) } else { self.integer(at) }
    }

    /// Argument `at` as a string; numbers will do.
    pub fn bytes(&self, lua: &Lua, at: usize) -> Result<Vec<u8>, Refusal> {
        match self.get(at) {
            Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
            Some(value @ (Value::Integer(_) | Value::Number(_))) => Ok(number_text(lua, value)?),
            _ => Err(self.expected(at, "string")),
        }
    }

    /// The error that argument `at` is not a `wanted`.
    pub fn expected(&self, at: usize, wanted: &str) -> Refusal {
        let got = self.get(at).map_or("no value", type_name);
        Refusal::Argument(at, format!("{wanted} expected, got {got}"))
    }
}

/// The name of a value's type in Lua.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        other => other.type_name(),
    }
}

/// A number as Lua prints it.
pub fn number_text(lua: &Lua, value: &Value) -> mlua::Result<Vec<u8>> {
    let text = lua.coerce_string(value.clone())?;
    Ok(text.map(|text| text.as_bytes().to_vec()).unwrap_or_default())
}

/// The value of a number.
pub fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(value) => Some(*value as f64),
        Value::Number(value) => Some(*value),
        _ => None,
    }
}

/// What Lua takes a text for where it needs a number.
fn number_of_text(text: &[u8]) -> Option<f64> {
    let end = text.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b)? + 1;
    let parsed = crate::datatypes::number::strtod(&text[..end]);
    (parsed.length == end).then_some(parsed.value)
}
