//! `redis.register_function`: what a library says about its functions.

use mlua::{Function, Lua, Value};

use super::api::refusal;
use super::native::{Args, Refusal, number_text};
use super::source::{BAD_NAME, ScriptFlags, is_name};

/// A function that a library registered.
pub struct Registered {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: Option<Vec<u8>>,
    /// Its flags.
    pub flags: ScriptFlags,
    /// What runs.
    pub callback: Function,
}

/// Registers the function that `args` describe, in one of the two forms.
pub fn register(lua: &Lua, args: &Args, registered: &mut Vec<Registered>) -> Result<(), Refusal> {
    let function = match args.len() {
        1 => named(lua, args)?,
        2 => positional(lua, args)?,
        _ => return Err(refusal(lua, "wrong number of arguments to redis.register_function")),
    };
    if !is_name(function.name.as_bytes()) {
        return Err(refusal(lua, BAD_NAME));
    }
    if registered.iter().any(|other| other.name == function.name) {
        return Err(refusal(lua, "Function already exists in the library"));
    }
    registered.push(function);
    Ok(())
}

fn positional(lua: &Lua, args: &Args) -> Result<Registered, Refusal> {
    let name = args.get(1).and_then(|name| text(lua, name)).ok_or_else(|| {
        refusal(lua, "first argument to redis.register_function must be a string")
    })?;
    let Some(Value::Function(callback)) = args.get(2) else {
        return Err(refusal(lua, "second argument to redis.register_function must be a function"));
    };
    Ok(Registered {
        name: lossy(&name),
        description: None,
        flags: ScriptFlags::default(),
        callback: callback.clone(),
    })
}

fn named(lua: &Lua, args: &Args) -> Result<Registered, Refusal> {
    let Some(Value::Table(fields)) = args.get(1) else {
        const TEXT: &str = "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).";
        return Err(refusal(lua, TEXT));
    };
    let (mut name, mut description, mut callback) = (None, None, None);
    let mut flags = ScriptFlags::default();
    for pair in fields.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let Some(key) = text(lua, &key) else {
            const TEXT: &str =
                "named argument key given to redis.register_function is not a string";
            return Err(refusal(lua, TEXT));
        };
        match key.to_ascii_lowercase().as_slice() {
            b"function_name" => name = Some(string_field(lua, "function_name", &value)?),
            b"description" => description = Some(string_field(lua, "description", &value)?),
            b"callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => {
                    const TEXT: &str =
                        "callback argument given to redis.register_function must be a function";
                    return Err(refusal(lua, TEXT));
                }
            },
            b"flags" => flags = read_flags(lua, &value)?,
            _ => {
                return Err(refusal(lua, "unknown argument given to redis.register_function"));
            }
        }
    }
    let name = name
        .ok_or_else(|| refusal(lua, "redis.register_function must get a function name argument"))?;
    let callback = callback
        .ok_or_else(|| refusal(lua, "redis.register_function must get a callback argument"))?;
    Ok(Registered { name: lossy(&name), description, flags, callback })
}

fn string_field(lua: &Lua, field: &str, value: &Value) -> Result<Vec<u8>, Refusal> {
    text(lua, value).ok_or_else(|| {
        refusal(lua, &format!("{field} argument given to redis.register_function must be a string"))
    })
}

fn read_flags(lua: &Lua, value: &Value) -> Result<ScriptFlags, Refusal> {
    let Value::Table(list) = value else {
        const TEXT: &str =
            "flags argument to redis.register_function must be a table representing function flags";
        return Err(refusal(lua, TEXT));
    };
    let mut flags = ScriptFlags::default();
    for at in 1.. {
        let word = match list.raw_get(at)? {
            Value::Nil => break,
            Value::String(word) => ScriptFlags::of_word(&word.as_bytes()),
            _ => None,
        };
        flags = flags.with(word.ok_or_else(|| refusal(lua, "unknown flag given"))?);
    }
    Ok(flags)
}

/// A string, or a number as Lua prints it.
fn text(lua: &Lua, value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(_) | Value::Number(_) => number_text(lua, value).ok(),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
