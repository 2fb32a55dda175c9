//! The globals that scripts and functions find: what of Lua's libraries is allowed, what Redis adds,
//! and that nobody can change any of it.

use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use super::native::{Args, Lift, NativeResult, Refusal};
use super::{Random, api, cjson, cmsgpack, structs};

/// For whom the globals are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// EVAL: arguments come as the globals KEYS and ARGV.
    Scripts,
    /// FCALL: arguments come as arguments, and a library sees next to nothing while it loads.
    Functions,
}

/// Globals of Lua that are taken away; all others stay (Redis 7.0 `script_lua.c`, the deny list).
const FORBIDDEN: &[&str] =
    &["dofile", "loadfile", "newproxy", "print", "getfenv", "setfenv", "module", "require"];

/// The functions of the sandbox that are written in C, see `lua/`.
pub struct Tools {
    /// Makes a function ready to be run by a number.
    pub keep: Function,
    /// Begins to run functions so.
    pub direct: Function,
    /// Runs a function, and makes a table of its error.
    pub run: Function,
    readonly: Function,
}

/// A fresh Lua with everything that scripts find.
pub struct Sandbox {
    /// The state.
    pub lua: Lua,
    /// Its tools.
    pub tools: Tools,
    /// Where the functions of `redis` find what asks the host of the running script: element 1; and the result of a
    /// script: element 2.
    pub host_slot: Table,
    /// The globals of a library while it loads, and how to show them.
    pub library_globals: LibraryGlobals,
}

/// The environment of library code: the same table all the time, for closures keep it, that shows
/// different globals while a library loads.
pub struct LibraryGlobals {
    /// The environment.
    pub environment: Table,
    metatable: Table,
    while_loading: Table,
    while_running: Table,
}

impl Sandbox {
    /// Makes one.
    pub fn new(engine: Engine, random: &Random) -> mlua::Result<Self> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let globals = lua.globals();
        let sandbox: Table = globals.raw_get("sandbox")?;
        globals.raw_set("sandbox", Value::Nil)?;
        for name in FORBIDDEN {
            globals.raw_set(*name, Value::Nil)?;
        }
        globals.raw_set("pcall", sandbox.raw_get::<Function>("pcall")?)?;
        if engine == Engine::Scripts {
            let handler: Function = sandbox.raw_get("error_handler")?;
            globals.raw_set("__redis__err__handler", handler)?;
        }
        let tools = Tools {
            keep: sandbox.raw_get("keep")?,
            direct: sandbox.raw_get("direct")?,
            run: sandbox.raw_get("run")?,
            readonly: sandbox.raw_get("readonly")?,
        };
        let lift = Lift::new(sandbox.raw_get("lift")?, sandbox.raw_get("calling")?);
        let host_slot = lua.create_table()?;
        random.install(&lua, &lift)?;
        cjson::install(&lua, &lift)?;
        cmsgpack::install(&lua, &lift)?;
        structs::install(&lua, &lift)?;
        globals.raw_set("redis", api::table(&lua, &lift, &host_slot, engine)?)?;
        let strict = strict_metatable(&lua, &lift)?;
        globals.set_metatable(Some(strict.clone()))?;
        let library_globals =
            LibraryGlobals::new(&lua, &strict, api::library_table(&lua, &lift, &host_slot)?)?;
        let sandbox = Self { lua, tools, host_slot, library_globals };
        sandbox.protect()?;
        Ok(sandbox)
    }

    /// Makes everything that a script can reach read-only.
    fn protect(&self) -> mlua::Result<()> {
        let lua = &self.lua;
        let globals = lua.globals();
        let mut tables = vec![globals.clone(), self.library_globals.environment.clone()];
        tables.push(self.library_globals.while_loading.clone());
        for value in [&globals, &self.library_globals.while_loading] {
            value.for_each(|_: Value, value: Value| {
                tables.extend(value.as_table().cloned());
                Ok(())
            })?;
        }
        tables.extend(lua.load("return getmetatable('')").eval::<Option<Table>>()?);
        tables.extend(tables.clone().iter().filter_map(Table::metatable));
        for table in tables {
            self.tools.readonly.call::<()>((table, true))?;
        }
        Ok(())
    }

    /// Shows `self.library_globals` as a loading library (`true`) or a function sees them.
    pub fn show_library_globals(&self, loading: bool) -> mlua::Result<()> {
        let globals = &self.library_globals;
        let shown = if loading { &globals.while_loading } else { &globals.while_running };
        self.tools.readonly.call::<()>((&globals.metatable, false))?;
        globals.metatable.raw_set("__index", shown)?;
        self.tools.readonly.call::<()>((&globals.metatable, true))
    }
}

impl LibraryGlobals {
    fn new(lua: &Lua, strict: &Table, library_redis: Table) -> mlua::Result<Self> {
        library_redis.set_metatable(Some(strict.clone()))?;
        let while_loading = lua.create_table()?;
        while_loading.raw_set("redis", library_redis)?;
        while_loading.set_metatable(Some(strict.clone()))?;
        let (environment, metatable) = (lua.create_table()?, lua.create_table()?);
        metatable.raw_set("__index", lua.globals())?;
        environment.set_metatable(Some(metatable.clone()))?;
        Ok(Self { environment, metatable, while_loading, while_running: lua.globals() })
    }
}

/// A metatable by which the look-up of what is not there is an error.
fn strict_metatable(lua: &Lua, lift: &Lift) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", lift.native(lua, |lua, args| absent(lua, &args))?)?;
    Ok(metatable)
}

fn absent(lua: &Lua, args: &Args) -> NativeResult {
    let name = args.bytes(lua, 2).map(|name| String::from_utf8_lossy(&name).into_owned());
    let name = name.unwrap_or_default();
    let text = format!("Script attempted to access nonexistent global variable '{name}'");
    Err(Refusal::Message(text))
}
