//! A Lua that runs scripts, one after another, each with a host for that run.
//!
//! The host lives in the stack frame of [`Vm::run`]: mlua's scope lends it to one native function, which
//! stands in the sandbox's slot for the time of the run. Everything of `redis` that needs the host
//! calls that function with the number of what it wants.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Value, VmState};

use super::Random;
use super::answer::{self, Answer};
use super::api::{Op, refusal};
use super::host::{Abort, Host, LogLevel};
use super::native::{Args, NativeResult, Refusal, marked, nothing, one};
use super::registration::{self, Registered};
use super::result;
use super::sandbox::{Engine, Sandbox};
use crate::datatypes::number::format_f64_17g;
use crate::journal::Audience;
use crate::resp::Reply;

/// The host is asked whether to go on after so many instructions (Redis 7.0 `script_lua.c`): some
/// hundred microseconds.
pub const TICK_INSTRUCTIONS: u32 = 100_000;

/// See the module.
pub struct Vm {
    sandbox: Sandbox,
    engine: Engine,
    /// Where the hook met the script that was to end.
    stopped_at: Rc<RefCell<Option<Position>>>,
}

/// A place in a script: its source, as Lua knows it, and its line.
type Position = (String, usize);

/// A script that is ready to run, in the VM that compiled it.
#[derive(Clone)]
pub struct Compiled(pub(super) Function);

/// One run.
pub struct Invocation<'a> {
    /// What runs.
    pub function: &'a Compiled,
    /// What errors call it: the digest of a script, the name of a function.
    pub name: &'a str,
    /// Its keys.
    pub keys: &'a [&'a [u8]],
    /// Its other arguments.
    pub args: &'a [&'a [u8]],
}

/// How a run ended; its reply is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With a result.
    Done,
    /// With an error.
    Failed {
        /// The text of the error reply.
        error: Vec<u8>,
        /// It is that of a command, and was counted there.
        counted: bool,
    },
}

impl Vm {
    /// A fresh VM.
    ///
    /// Panics if there is no memory for it.
    pub fn new(engine: Engine, random: &Random) -> Self {
        let sandbox = Sandbox::new(engine, random);
        let sandbox = sandbox.unwrap_or_else(|error| panic!("no sandbox for scripts: {error}"));
        let vm = Self { sandbox, engine, stopped_at: Rc::default() };
        vm.set_hook();
        vm
    }

    fn set_hook(&self) {
        let (slot, stopped_at) = (self.sandbox.host_slot.clone(), Rc::clone(&self.stopped_at));
        let triggers = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
        let set = self.sandbox.lua.set_global_hook(triggers, move |_, debug| {
            let Ok(host) = slot.raw_get::<Function>(1) else { return Ok(VmState::Continue) };
            host.call::<()>(Op::Tick.number()).inspect_err(|_| {
                let source = debug.source().source.map(|source| source.into_owned());
                *stopped_at.borrow_mut() = source.zip(debug.current_line());
            })?;
            Ok(VmState::Continue)
        });
        set.unwrap_or_else(|error| panic!("no hook for scripts: {error}"));
    }

    /// Compiles a script. The error is Lua's text.
    pub fn compile(&self, code: &[u8]) -> Result<Compiled, String> {
        let name = match self.engine {
            Engine::Scripts => "@user_script",
            Engine::Functions => "@user_function",
        };
        let chunk = self.sandbox.lua.load(code).set_name(name);
        match chunk.into_function() {
            Ok(function) => Ok(Compiled(function)),
            Err(mlua::Error::SyntaxError { message, .. }) => Err(message),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Bytes that this Lua uses.
    pub fn memory(&self) -> usize {
        self.sandbox.lua.used_memory()
    }

    /// Runs a script and writes its reply. After an [`Abort::Again`] nothing is written.
    pub fn run(
        &self,
        call: &Invocation<'_>,
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<Outcome, Abort> {
        let run = RefCell::new(Run::new(host));
        let mark = reply.mark();
        let outcome = self.with_host(&run, || {
            let returned = self.call(call)?;
            let resp3 = run.borrow().resp3;
            match returned {
                (true, value) => {
                    result::write(&value, resp3, reply)?;
                    Ok(Outcome::Done)
                }
                (false, error) => Ok(failure(&error, call.name)),
            }
        });
        let aborted = run.borrow().aborted;
        let outcome = match (aborted, outcome) {
            (Some(Abort::Again), _) => {
                reply.truncate(mark);
                return Err(Abort::Again);
            }
            (Some(Abort::Killed(text)), _) => self.killed(text, call.name),
            (None, Ok(outcome)) => outcome,
            (None, Err(error)) => {
                let error = format!("ERR Error running script {}, {error}", call.name);
                Outcome::Failed { error: error.into_bytes(), counted: false }
            }
        };
        if let Outcome::Failed { error, .. } = &outcome {
            reply.truncate(mark);
            reply.error_bytes(error);
        }
        Ok(outcome)
    }

    /// Puts `run` in the slot while `body` runs.
    fn with_host<T>(
        &self,
        run: &RefCell<Run<'_>>,
        body: impl FnOnce() -> mlua::Result<T>,
    ) -> mlua::Result<T> {
        let slot = &self.sandbox.host_slot;
        // A script that waits for the server may have another one run within it.
        let outer: Value = slot.raw_get(1)?;
        self.stopped_at.borrow_mut().take();
        let result = self.sandbox.lua.scope(|scope| {
            let serve = scope.create_function(|lua, args| run.borrow_mut().serve(lua, args))?;
            slot.raw_set(1, serve)?;
            body()
        });
        slot.raw_set(1, outer)?;
        result
    }

    fn call(&self, call: &Invocation<'_>) -> mlua::Result<(bool, Value)> {
        let (keys, args) = (self.list(call.keys)?, self.list(call.args)?);
        let tools = &self.sandbox.tools;
        match self.engine {
            Engine::Scripts => {
                tools.arguments.call::<()>((keys, args))?;
                tools.run.call(&call.function.0)
            }
            Engine::Functions => tools.run.call((&call.function.0, keys, args)),
        }
    }

    fn list(&self, items: &[&[u8]]) -> mlua::Result<Table> {
        let lua = &self.sandbox.lua;
        let table = lua.create_table_with_capacity(items.len(), 0)?;
        for (item, at) in items.iter().zip(1..) {
            table.raw_set(at, lua.create_string(item)?)?;
        }
        Ok(table)
    }

    fn killed(&self, text: &str, name: &str) -> Outcome {
        let error = match self.stopped_at.borrow_mut().take() {
            Some((source, line)) => format!("ERR {text} script: {name}, on {source}:{line}."),
            None => format!("ERR {text}"),
        };
        Outcome::Failed { error: error.into_bytes(), counted: false }
    }

    /// Runs the code of a library, and returns what it registers. The error is the text of the reply.
    pub(super) fn load(
        &self,
        code: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<Registered>, Vec<u8>> {
        let failed = |text: &[u8]| [b"ERR Error registering functions: ", text].concat();
        let chunk = self.compile(code);
        let chunk = chunk.map_err(|text| format!("ERR Error compiling function: {text}"))?;
        let run = RefCell::new(Run { registered: Some(Vec::new()), ..Run::new(host) });
        let returned = self.sandbox.show_library_globals(true).and_then(|()| {
            chunk.0.set_environment(self.sandbox.library_globals.environment.clone())?;
            self.with_host(&run, || self.sandbox.tools.run.call::<(bool, Value)>(&chunk.0))
        });
        let hidden = self.sandbox.show_library_globals(false);
        let Run { registered, aborted, .. } = run.into_inner();
        match (aborted, returned.and_then(|returned| hidden.map(|()| returned))) {
            (Some(Abort::Killed(text)), _) => Err(failed(format!("ERR {text}").as_bytes())),
            (Some(Abort::Again), _) => Err(failed(b"ERR a library touches no keys")),
            (None, Err(error)) => Err(failed(error.to_string().as_bytes())),
            (None, Ok((false, error))) => Err(failed(&error_field(&error))),
            (None, Ok((true, _))) => match registered.unwrap_or_default() {
                none if none.is_empty() => Err(b"ERR No functions registered".to_vec()),
                some => Ok(some),
            },
        }
    }
}

/// The error reply for an error table: what, where, and in which script.
fn failure(error: &Value, name: &str) -> Outcome {
    let mut text = error_field(error);
    let mut counted = false;
    if let Value::Table(table) = error {
        let source = table.raw_get::<Option<mlua::LuaString>>("source").unwrap_or_default();
        let line = table.raw_get::<Option<i64>>("line").unwrap_or_default();
        if let (Some(source), Some(line)) = (source, line) {
            text.extend_from_slice(format!(" script: {name}, on ").as_bytes());
            text.extend_from_slice(&source.as_bytes());
            text.extend_from_slice(format!(":{line}.").as_bytes());
        }
        counted = table.raw_get("ignore_error_stats_update").unwrap_or(false);
    }
    Outcome::Failed { error: text, counted }
}

fn error_field(error: &Value) -> Vec<u8> {
    let text = match error {
        Value::Table(table) => table.raw_get::<Option<mlua::LuaString>>("err").unwrap_or_default(),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    // A table without `err`: Redis 7.0.15 crashes here, so there is no text to keep.
    text.map_or_else(
        || b"ERR unknown error".to_vec(),
        |text| answer::until_zero(&text.as_bytes()).to_vec(),
    )
}

/// What a running script needs between two instructions.
struct Run<'h> {
    host: &'h mut dyn Host,
    /// What `redis.setresp` said.
    resp3: bool,
    aborted: Option<Abort>,
    /// What has been registered, if this is a library that loads.
    registered: Option<Vec<Registered>>,
    /// The arguments of a command, one after another, and where each ends.
    words: Vec<u8>,
    ends: Vec<usize>,
    /// The reply of a command.
    wire: Vec<u8>,
}

impl<'h> Run<'h> {
    fn new(host: &'h mut dyn Host) -> Self {
        let (words, ends, wire) = (Vec::new(), Vec::new(), Vec::new());
        Self { host, resp3: false, aborted: None, registered: None, words, ends, wire }
    }

    fn serve(&mut self, lua: &Lua, mut args: MultiValue) -> mlua::Result<MultiValue> {
        let op = match args.pop_front() {
            Some(Value::Integer(number)) => Op::of_number(number),
            _ => None,
        };
        // A script that caught an abort in some way comes no further.
        if self.aborted.is_some() {
            return Err(over());
        }
        let args = Args(args);
        let answer = match op {
            Some(Op::Tick) => self.tick(),
            Some(Op::Call) => self.call(lua, &args, false),
            Some(Op::ProtectedCall) => self.call(lua, &args, true),
            Some(Op::Log) => self.log(lua, &args),
            Some(Op::SetResp) => self.set_resp(lua, &args),
            Some(Op::AclCheck) => self.acl_check(lua, &args),
            Some(Op::Register) => self.register(lua, &args),
            Some(Op::SetRepl) => self.set_repl(lua, &args),
            None => Err(Refusal::Fatal(over())),
        };
        marked(lua, answer)
    }

    fn abort(&mut self, abort: Abort) -> Refusal {
        self.aborted = Some(abort);
        Refusal::Fatal(over())
    }

    fn tick(&mut self) -> NativeResult {
        match self.host.tick() {
            Ok(()) => nothing(),
            Err(abort) => Err(self.abort(abort)),
        }
    }

    fn call(&mut self, lua: &Lua, args: &Args, protected: bool) -> NativeResult {
        let answer = match self.execute(lua, args) {
            Err(Refusal::Table(error)) => Answer::Error(error),
            other => other?,
        };
        match answer {
            Answer::Value(value) => one(value),
            Answer::Error(error) if protected => one(Value::Table(error)),
            Answer::Error(error) => Err(Refusal::Table(error)),
        }
    }

    fn execute(&mut self, lua: &Lua, args: &Args) -> Result<Answer, Refusal> {
        self.collect_words(lua, args)?;
        self.wire.clear();
        let words = words(&self.words, &self.ends);
        if let Err(abort) = self.host.call(&words, self.resp3, &mut self.wire) {
            return Err(self.abort(abort));
        }
        answer::read(lua, &self.wire)
    }

    /// Copies the arguments of a command out of Lua.
    fn collect_words(&mut self, lua: &Lua, args: &Args) -> Result<(), Refusal> {
        if args.len() == 0 {
            return Err(refusal(
                lua,
                "Please specify at least one argument for this redis lib call",
            ));
        }
        self.words.clear();
        self.ends.clear();
        for arg in &args.0 {
            match arg {
                Value::String(text) => self.words.extend_from_slice(&text.as_bytes()),
                Value::Integer(number) => format_f64_17g(*number as f64, &mut self.words),
                Value::Number(number) => format_f64_17g(*number, &mut self.words),
                _ => {
                    const TEXT: &str =
                        "Lua redis lib command arguments must be strings or integers";
                    return Err(refusal(lua, TEXT));
                }
            }
            self.ends.push(self.words.len());
        }
        Ok(())
    }

    fn log(&mut self, lua: &Lua, args: &Args) -> NativeResult {
        if args.len() < 2 {
            return Err(refusal(lua, "redis.log() requires two arguments or more."));
        }
        let level = match args.get(1) {
            Some(Value::Integer(level)) => *level,
            Some(Value::Number(level)) => *level as i64,
            _ => return Err(refusal(lua, "First argument must be a number (log level).")),
        };
        let level = LogLevel::new(level).ok_or_else(|| refusal(lua, "Invalid debug level."))?;
        // What is neither string nor number is left out.
        let texts: Vec<_> = (2..=args.len()).filter_map(|at| args.bytes(lua, at).ok()).collect();
        self.host.log(level, &texts.join(&b' '));
        nothing()
    }

    fn set_resp(&mut self, lua: &Lua, args: &Args) -> NativeResult {
        if args.len() != 1 {
            return Err(refusal(lua, "redis.setresp() requires one argument."));
        }
        self.resp3 = match args.integer(1) {
            Ok(2) => false,
            Ok(3) => true,
            _ => return Err(refusal(lua, "RESP version must be 2 or 3.")),
        };
        nothing()
    }

    fn set_repl(&mut self, lua: &Lua, args: &Args) -> NativeResult {
        if args.len() != 1 {
            return Err(refusal(lua, "redis.set_repl() requires two arguments."));
        }
        let Some(audience) = Audience::new(args.integer(1).unwrap_or_default()) else {
            const TEXT: &str =
                "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
            return Err(refusal(lua, TEXT));
        };
        self.host.record_for(audience);
        nothing()
    }

    fn acl_check(&mut self, lua: &Lua, args: &Args) -> NativeResult {
        self.collect_words(lua, args)?;
        match self.host.may_call(&words(&self.words, &self.ends)) {
            Some(allowed) => one(Value::Boolean(allowed)),
            None => Err(refusal(lua, "Invalid command passed to redis.acl_check_cmd()")),
        }
    }

    fn register(&mut self, lua: &Lua, args: &Args) -> NativeResult {
        let Some(registered) = &mut self.registered else {
            const TEXT: &str =
                "redis.register_function can only be called on FUNCTION LOAD command";
            return Err(refusal(lua, TEXT));
        };
        registration::register(lua, args, registered)?;
        nothing()
    }
}

/// Raised to end a script. No text of it is ever seen.
fn over() -> mlua::Error {
    mlua::Error::runtime("the script is over")
}

fn words<'a>(bytes: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| &bytes[start..*end]).collect()
}
