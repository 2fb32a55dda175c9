//! The table `redis`.
//!
//! What needs the host of the running script goes through the slot: each such function is a number
//! ([`Op`]) that comes as the first argument of whatever the VM has put there for this run.

use mlua::{Lua, Table, Value};
use sha1_smol::Sha1;

use super::answer::error_table;
use super::native::{Args, Lift, NativeResult, Refusal, nothing, one};
use super::sandbox::Engine;
use crate::admin::info::REDIS_VERSION;

/// What the host is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `redis.call`
    Call,
    /// `redis.pcall`
    ProtectedCall,
    /// `redis.log`
    Log,
    /// `redis.setresp`
    SetResp,
    /// `redis.acl_check_cmd`
    AclCheck,
    /// `redis.register_function`
    Register,
    /// `redis.set_repl`
    SetRepl,
}

impl Op {
    const ALL: [Self; 7] = [
        Self::Call,
        Self::ProtectedCall,
        Self::Log,
        Self::SetResp,
        Self::AclCheck,
        Self::Register,
        Self::SetRepl,
    ];

    /// By which number the functions ask for it.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// The one of this number.
    pub fn of_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}

const LOG_LEVELS: [(&str, i64); 4] =
    [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)];
const REPLICATION: [(&str, i64); 5] =
    [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];

/// The table that scripts (or functions, which lack what only scripts ever needed) find.
pub fn table(lua: &Lua, lift: &Lift, host: &Table, engine: Engine) -> mlua::Result<Table> {
    let table = common(lua, lift, host)?;
    for (name, op) in [("call", Op::Call), ("pcall", Op::ProtectedCall)] {
        table.raw_set(name, lift.calling(host, op.number())?)?;
    }
    for (name, op) in
        [("setresp", Op::SetResp), ("acl_check_cmd", Op::AclCheck), ("set_repl", Op::SetRepl)]
    {
        table.raw_set(name, lift.slot(host, op.number())?)?;
    }
    for (name, value) in REPLICATION {
        table.raw_set(name, value)?;
    }
    table.raw_set("sha1hex", lift.native(lua, |lua, args| sha1hex(lua, &args))?)?;
    table.raw_set("error_reply", lift.native(lua, |lua, args| error_reply(lua, &args))?)?;
    table.raw_set("status_reply", lift.native(lua, |lua, args| status_reply(lua, &args))?)?;
    if engine == Engine::Scripts {
        // No script is ever debugged here, so these do what they do for a script that is not.
        table.raw_set("breakpoint", lift.native(lua, |_, _| one(Value::Boolean(false)))?)?;
        table.raw_set("debug", lift.native(lua, |_, _| nothing())?)?;
        let replicate = lift.native(lua, |_, _| one(Value::Boolean(true)))?;
        table.raw_set("replicate_commands", replicate)?;
    }
    Ok(table)
}

/// The table that a library finds while it loads.
pub fn library_table(lua: &Lua, lift: &Lift, host: &Table) -> mlua::Result<Table> {
    let table = common(lua, lift, host)?;
    table.raw_set("register_function", lift.slot(host, Op::Register.number())?)?;
    Ok(table)
}

fn common(lua: &Lua, lift: &Lift, host: &Table) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("log", lift.slot(host, Op::Log.number())?)?;
    for (name, value) in LOG_LEVELS {
        table.raw_set(name, value)?;
    }
    table.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    table.raw_set("REDIS_VERSION_NUM", version_number())?;
    Ok(table)
}

/// A byte for each part of the version.
fn version_number() -> u32 {
    let parts = REDIS_VERSION.split('.').filter_map(|part| part.parse::<u32>().ok());
    parts.fold(0, |number, part| number << 8 | part)
}

/// An error of the API itself: a table, as errors of commands are.
pub fn refusal(lua: &Lua, text: &str) -> Refusal {
    match error_table(lua, text.as_bytes()) {
        Ok(table) => Refusal::Table(table),
        Err(error) => Refusal::Fatal(error),
    }
}

fn sha1hex(lua: &Lua, args: &Args) -> NativeResult {
    if args.len() != 1 {
        return Err(refusal(lua, "wrong number of arguments"));
    }
    // What is neither string nor number counts as an empty string.
    let bytes = args.bytes(lua, 1).unwrap_or_default();
    let digest = Sha1::from(bytes).digest().to_string();
    one(Value::String(lua.create_string(digest)?))
}

/// `redis.error_reply`: wrong arguments are answered with an error table too, not raised.
fn error_reply(lua: &Lua, args: &Args) -> NativeResult {
    let table = match only_string(args) {
        Some(text) if text.starts_with(b"-") => error_table(lua, &text)?,
        Some(text) => error_table(lua, &[b"-", text.as_slice()].concat())?,
        None => error_table(lua, WRONG_ARGUMENTS)?,
    };
    one(Value::Table(table))
}

fn status_reply(lua: &Lua, args: &Args) -> NativeResult {
    let table = match only_string(args) {
        Some(text) => {
            let table = lua.create_table_with_capacity(0, 1)?;
            table.raw_set("ok", lua.create_string(text)?)?;
            table
        }
        None => error_table(lua, WRONG_ARGUMENTS)?,
    };
    one(Value::Table(table))
}

const WRONG_ARGUMENTS: &[u8] = b"wrong number or type of arguments";

fn only_string(args: &Args) -> Option<Vec<u8>> {
    match args.get(1) {
        Some(Value::String(text)) if args.len() == 1 => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}
