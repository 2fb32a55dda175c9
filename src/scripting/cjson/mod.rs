//! The library `cjson` of scripts: lua-cjson 2.1.0, which Redis 7.0 brings along, written anew.
//!
//! Its settings belong to an instance and outlive the script that changes them, as in Redis.

mod decode;
mod encode;

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::native::{Args, Lift, NativeResult, Refusal, one};

/// What becomes of NaN and the infinities when encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InvalidNumbers {
    Refused,
    AsTheyAre,
    Null,
}

/// The settings of one instance.
#[derive(Clone, Copy, Debug)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth_max: i64,
    decode_depth_max: i64,
    invalid_numbers: InvalidNumbers,
    decode_invalid_numbers: bool,
    keep_buffer: bool,
    precision: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1000,
            decode_depth_max: 1000,
            invalid_numbers: InvalidNumbers::Refused,
            decode_invalid_numbers: true,
            keep_buffer: true,
            precision: 14,
        }
    }
}

type Shared = Rc<Cell<Settings>>;

/// Deepest nesting whatever the settings say, for each level takes stack of ours; the default of
/// both. Redis stops where Lua's stack does, some thousand levels further.
const DEPTH_MAX: i64 = 1000;

/// Puts the library into the globals.
pub fn install(lua: &Lua, lift: &Lift) -> mlua::Result<()> {
    let library = instance(lua, lift)?;
    let lift_again = lift.clone();
    let new = lift.native(lua, move |lua, _| one(Value::Table(instance(lua, &lift_again)?)))?;
    library.raw_set("new", new)?;
    lua.globals().raw_set("cjson", library)
}

/// A library with settings of its own.
fn instance(lua: &Lua, lift: &Lift) -> mlua::Result<Table> {
    let settings = Shared::default();
    let table = lua.create_table()?;
    let add = |name: &str, function: fn(&Lua, &Cell<Settings>, &Args) -> NativeResult| {
        let settings = Rc::clone(&settings);
        let native: Function =
            lift.native(lua, move |lua, args| function(lua, &settings, &args))?;
        table.raw_set(name, native)
    };
    add("encode", encode)?;
    add("decode", decode)?;
    add("encode_sparse_array", encode_sparse_array)?;
    add("encode_max_depth", encode_max_depth)?;
    add("decode_max_depth", decode_max_depth)?;
    add("encode_number_precision", encode_number_precision)?;
    add("encode_keep_buffer", encode_keep_buffer)?;
    add("encode_invalid_numbers", encode_invalid_numbers)?;
    add("decode_invalid_numbers", decode_invalid_numbers)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn encode(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    let [value] = args.exactly_one()?;
    let text = encode::encode(settings.get(), value)?;
    one(Value::String(lua.create_string(text)?))
}

fn decode(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    args.exactly_one()?;
    let text = args.bytes(lua, 1)?;
    one(decode::decode(lua, settings.get(), &text)?)
}

impl Args {
    fn exactly_one(&self) -> Result<[&Value; 1], Refusal> {
        match self.get(1) {
            Some(value) if self.len() == 1 => Ok([value]),
            _ => Err(Refusal::Argument(1, "expected 1 argument".into())),
        }
    }

    fn at_most(&self, count: usize) -> Result<(), Refusal> {
        if self.len() <= count {
            return Ok(());
        }
        Err(Refusal::Argument(count + 1, "found too many arguments".into()))
    }

    /// The integer at `at` if there is one; it has to be in the range.
    fn setting(&self, at: usize, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        if self.is_none_or_nil(at) {
            return Ok(None);
        }
        let value = self.integer(at)?;
        if !(min..=max).contains(&value) {
            let text = format!("expected integer between {min} and {max}");
            return Err(Refusal::Argument(at, text));
        }
        Ok(Some(value))
    }

    /// The switch at `at` if there is one: a boolean or one of `words`.
    fn switch(&self, lua: &Lua, at: usize, words: &[&str]) -> Result<Option<usize>, Refusal> {
        match self.get(at) {
            None | Some(Value::Nil) => Ok(None),
            Some(Value::Boolean(value)) => Ok(Some(usize::from(*value))),
            Some(_) => {
                let word = self.bytes(lua, at)?;
                let found = words.iter().position(|known| known.as_bytes() == word);
                found.map(Some).ok_or_else(|| {
                    let word = String::from_utf8_lossy(&word).into_owned();
                    Refusal::Argument(at, format!("invalid option '{word}'"))
                })
            }
        }
    }
}

const INT_MAX: i64 = i32::MAX as i64;

fn encode_sparse_array(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    args.at_most(3)?;
    let mut new = settings.get();
    if let Some(convert) = args.switch(lua, 1, &[])? {
        new.sparse_convert = convert == 1;
    }
    new.sparse_ratio = args.setting(2, 0, INT_MAX)?.unwrap_or(new.sparse_ratio);
    new.sparse_safe = args.setting(3, 0, INT_MAX)?.unwrap_or(new.sparse_safe);
    settings.set(new);
    Ok(MultiValue::from_iter([
        Value::Boolean(new.sparse_convert),
        Value::Integer(new.sparse_ratio),
        Value::Integer(new.sparse_safe),
    ]))
}

fn encode_max_depth(_: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    number_setting(settings, args, (1, INT_MAX), |settings| &mut settings.encode_depth_max)
}

fn decode_max_depth(_: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    number_setting(settings, args, (1, INT_MAX), |settings| &mut settings.decode_depth_max)
}

fn encode_number_precision(_: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    number_setting(settings, args, (1, 14), |settings| &mut settings.precision)
}

fn number_setting(
    settings: &Cell<Settings>,
    args: &Args,
    (min, max): (i64, i64),
    field: fn(&mut Settings) -> &mut i64,
) -> NativeResult {
    args.at_most(1)?;
    let mut new = settings.get();
    if let Some(value) = args.setting(1, min, max)? {
        *field(&mut new) = value;
    }
    settings.set(new);
    one(Value::Integer(*field(&mut new)))
}

fn encode_keep_buffer(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    args.at_most(1)?;
    let mut new = settings.get();
    if let Some(keep) = args.switch(lua, 1, &[])? {
        new.keep_buffer = keep == 1;
    }
    settings.set(new);
    one(Value::Boolean(new.keep_buffer))
}

fn encode_invalid_numbers(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    use InvalidNumbers::{AsTheyAre, Null, Refused};
    args.at_most(1)?;
    let mut new = settings.get();
    if let Some(choice) = args.switch(lua, 1, &["off", "on", "null"])? {
        new.invalid_numbers = [Refused, AsTheyAre, Null][choice];
    }
    settings.set(new);
    one(match new.invalid_numbers {
        Refused => Value::Boolean(false),
        AsTheyAre => Value::Boolean(true),
        Null => Value::String(lua.create_string("null")?),
    })
}

fn decode_invalid_numbers(lua: &Lua, settings: &Cell<Settings>, args: &Args) -> NativeResult {
    args.at_most(1)?;
    let mut new = settings.get();
    if let Some(allowed) = args.switch(lua, 1, &[])? {
        new.decode_invalid_numbers = allowed == 1;
    }
    settings.set(new);
    one(Value::Boolean(new.decode_invalid_numbers))
}
