//! A Lua that runs scripts, one after another, each with a host for that run.
//!
//! The host lives in the stack frame of [`Vm::run`], which lends it to the Lua for the time of the run
//! ([`super::direct`]).

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Function, HookTriggers, Value, VmState};

use super::Random;
use super::answer;
use super::direct::{Direct, Returned};
use super::host::{Abort, Host};
use super::registration::Registered;
use super::result;
use super::run::{Buffers, Run};
use super::sandbox::{Engine, Sandbox};
use super::words::Words;
use crate::resp::Reply;

/// The host is asked whether to go on after so many instructions (Redis 7.0 `script_lua.c`): some
/// hundred microseconds.
pub const TICK_INSTRUCTIONS: u32 = 100_000;

/// Where the sandbox's slot takes a result.
pub(super) const RESULT_AT: i64 = 2;

/// See the module.
pub struct Vm {
    sandbox: Sandbox,
    direct: Direct,
    engine: Engine,
    /// Where the hook met the script that was to end.
    stopped_at: Rc<RefCell<Option<Position>>>,
}

/// A place in a script: its source, as Lua knows it, and its line.
type Position = (String, usize);

/// A script that is ready to run, in the VM that compiled it.
#[derive(Clone)]
pub struct Compiled(Rc<Kept>);

struct Kept {
    function: Function,
    /// By which it is run.
    number: i32,
}

/// One run.
pub struct Invocation<'a> {
    /// What runs.
    pub function: &'a Compiled,
    /// What errors call it: the digest of a script, the name of a function.
    pub name: &'a str,
    /// Its arguments, behind other words.
    pub words: &'a Words,
    /// Where they begin.
    pub first: usize,
    /// How many of them are keys.
    pub key_count: usize,
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
        let direct = Direct::new(&sandbox.lua, &sandbox.host_slot, &sandbox.tools.direct);
        let direct = direct.unwrap_or_else(|error| panic!("no sandbox for scripts: {error}"));
        let vm = Self { sandbox, direct, engine, stopped_at: Rc::default() };
        vm.set_hook();
        vm
    }

    fn set_hook(&self) {
        let (current, stopped_at) = (self.direct.current(), Rc::clone(&self.stopped_at));
        let triggers = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
        let set = self.sandbox.lua.set_global_hook(triggers, move |_, debug| {
            let asked = current.with(|run| run.borrow_mut().tick());
            asked.unwrap_or(Ok(())).inspect_err(|_| {
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
            Ok(function) => self.keep(function).map_err(|error| error.to_string()),
            Err(mlua::Error::SyntaxError { message, .. }) => Err(message),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Makes a function ready to run.
    pub(super) fn keep(&self, function: Function) -> mlua::Result<Compiled> {
        let number = self.sandbox.tools.keep.call(&function)?;
        Ok(Compiled(Rc::new(Kept { function, number })))
    }

    /// Bytes that this Lua uses.
    pub fn memory(&self) -> usize {
        self.sandbox.lua.used_memory()
    }

    /// Runs a script and writes its reply. After an [`Abort::Again`] nothing is written.
    pub fn run(
        &self,
        call: &Invocation<'_>,
        (host, buffers): (&mut dyn Host, &mut Buffers),
        reply: &mut Reply<'_>,
    ) -> Result<Outcome, Abort> {
        let run = RefCell::new(Run::new(host, buffers));
        let mark = reply.mark();
        self.stopped_at.borrow_mut().take();
        let written = self.direct.run(
            &run,
            (call.function.0.number, self.engine == Engine::Scripts),
            (call.words, call.first, call.key_count),
            |returned| self.write(returned, &run, call.name, reply),
        );
        let Run { aborted, .. } = run.into_inner();
        let outcome = match (aborted, written) {
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

    /// Writes what a script has returned, unless that is an error.
    fn write(
        &self,
        returned: Returned<'_>,
        run: &RefCell<Run<'_>>,
        name: &str,
        reply: &mut Reply<'_>,
    ) -> mlua::Result<Outcome> {
        match returned {
            Returned::Nil => reply.null(),
            Returned::Boolean(value) => {
                result::write(&Value::Boolean(value), run.borrow().resp3, reply)?;
            }
            Returned::Number(number) => reply.integer(result::truncated(number)),
            Returned::Text(text) => reply.bulk(text),
            Returned::Other => {
                let value: Value = self.sandbox.host_slot.raw_get(RESULT_AT)?;
                self.sandbox.host_slot.raw_set(RESULT_AT, false)?;
                result::write(&value, run.borrow().resp3, reply)?;
            }
            Returned::Error => {
                let error: Value = self.sandbox.host_slot.raw_get(RESULT_AT)?;
                self.sandbox.host_slot.raw_set(RESULT_AT, false)?;
                return match error {
                    Value::Error(error) => Err(*error),
                    error => Ok(failure(&error, name)),
                };
            }
        }
        Ok(Outcome::Done)
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
        let mut buffers = Buffers::default();
        let mut run = Run::new(host, &mut buffers);
        run.registered = Some(Vec::new());
        let run = RefCell::new(run);
        self.stopped_at.borrow_mut().take();
        let returned = self.sandbox.show_library_globals(true).and_then(|()| {
            let function = &chunk.0.function;
            function.set_environment(self.sandbox.library_globals.environment.clone())?;
            self.direct.lend(&run, || self.sandbox.tools.run.call::<(bool, Value)>(function))
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
