//! One run of a script, between it and its host.
//!
//! Most commands come straight from the script's stack ([`super::direct`]); all else that scripts ask of
//! `redis` comes as the arguments of one native function ([`super::api::Op`]).

use mlua::{Lua, MultiValue, Value};

use super::answer::{self, Answer};
use super::api::{Op, refusal};
use super::host::{Abort, Host, LogLevel};
use super::native::{Args, NativeResult, Refusal, marked, nothing, one};
use super::registration::{self, Registered};
use super::words::{KEPT_BYTES_MAX, Words};
use crate::datatypes::number::format_f64_17g;
use crate::journal::Audience;

/// What a running script needs between two instructions.
pub struct Run<'h> {
    host: &'h mut dyn Host,
    /// What `redis.setresp` said.
    pub resp3: bool,
    /// Why it is over before its end.
    pub aborted: Option<Abort>,
    /// What has been registered, if this is a library that loads.
    pub registered: Option<Vec<Registered>>,
    /// Used again for each command.
    buffers: &'h mut Buffers,
}

/// The words of a command and its reply.
#[derive(Default)]
pub struct Buffers {
    words: Words,
    wire: Vec<u8>,
}

impl Buffers {
    /// Gives back memory that only long commands and replies need.
    pub fn trim(&mut self) {
        self.words.trim();
        if self.wire.capacity() > KEPT_BYTES_MAX {
            self.wire = Vec::new();
        }
    }
}

impl<'h> Run<'h> {
    /// A run that has not begun.
    pub fn new(host: &'h mut dyn Host, buffers: &'h mut Buffers) -> Self {
        Self { host, resp3: false, aborted: None, registered: None, buffers }
    }

    /// Runs a command: its reply, if that is no error and the script is not over. Anything else is for
    /// [`Run::serve`].
    pub fn call_directly<'w>(&mut self, words: impl Iterator<Item = &'w [u8]>) -> Option<&[u8]> {
        if self.aborted.is_some() {
            return None;
        }
        self.buffers.words.set(words);
        self.execute().ok()?;
        Some(&self.buffers.wire).filter(|wire| wire.first() != Some(&b'-')).map(Vec::as_slice)
    }

    /// The host's part of [`Run::serve`] for [`Op::Tick`].
    pub fn tick(&mut self) -> mlua::Result<()> {
        self.host.tick().map_err(|abort| {
            self.aborted = Some(abort);
            over()
        })
    }

    /// What a function of the table `redis` needs of the host: which one says the first of `args`.
    pub fn serve(&mut self, lua: &Lua, mut args: MultiValue) -> mlua::Result<MultiValue> {
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

    fn call(&mut self, lua: &Lua, args: &Args, protected: bool) -> NativeResult {
        let answer = match self.answer(lua, args) {
            Err(Refusal::Table(error)) => Answer::Error(error),
            other => other?,
        };
        match answer {
            Answer::Value(value) => one(value),
            Answer::Error(error) if protected => one(Value::Table(error)),
            Answer::Error(error) => Err(Refusal::Table(error)),
        }
    }

    /// The answer to a command. Only its reply is to be read if it has run already ([`Run::call_directly`]); then a
    /// pointer, which no script has, is in the place of its words.
    fn answer(&mut self, lua: &Lua, args: &Args) -> Result<Answer, Refusal> {
        if !matches!(args.get(1), Some(Value::LightUserData(state)) if !state.0.is_null()) {
            self.collect_words(lua, args)?;
            self.execute().map_err(|_| Refusal::Fatal(over()))?;
        }
        answer::read(lua, &self.buffers.wire)
    }

    /// Runs the command in the buffers.
    fn execute(&mut self) -> Result<(), Abort> {
        let Buffers { words, wire } = &mut *self.buffers;
        wire.clear();
        let called = self.host.call(words, self.resp3, wire);
        called.inspect_err(|abort| self.aborted = Some(*abort))
    }

    /// Copies the arguments of a command out of Lua.
    fn collect_words(&mut self, lua: &Lua, args: &Args) -> Result<(), Refusal> {
        if args.len() == 0 {
            const TEXT: &str = "Please specify at least one argument for this redis lib call";
            return Err(refusal(lua, TEXT));
        }
        let words = &mut self.buffers.words;
        words.clear();
        for arg in &args.0 {
            match arg {
                Value::String(text) => words.push(&text.as_bytes()),
                Value::Integer(number) => words.push_with(|to| format_f64_17g(*number as f64, to)),
                Value::Number(number) => words.push_with(|to| format_f64_17g(*number, to)),
                _ => {
                    const TEXT: &str =
                        "Lua redis lib command arguments must be strings or integers";
                    return Err(refusal(lua, TEXT));
                }
            }
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
        match self.host.may_call(&mut self.buffers.words) {
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
pub fn over() -> mlua::Error {
    mlua::Error::runtime("the script is over")
}
