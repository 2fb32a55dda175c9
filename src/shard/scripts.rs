//! The scripts of one shard: its Lua, what it has compiled, and what it has learned about each script.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{JobRequest, Message};
use super::script_run::Running;
use crate::command::{CommandError, CommandResult, ScriptBy, ScriptCommand};
use crate::journal::Audience;
use crate::reactor::ConnId;
use crate::scripting::library::{Catalogue, Library, LibraryError, LoadedLibraries};
use crate::scripting::source::{self, ScriptFlags};
use crate::scripting::{
    Abort, Compiled, Digest, Engine, Host, LogLevel, Random, Spare, SpareStack, Store, Tick, Vm,
    Words,
};

const NO_SUCH_SCRIPT: CommandError =
    CommandError::text("NOSCRIPT No matching script. Please use EVAL.");
const NO_SUCH_FUNCTION: CommandError = CommandError::text("ERR Function not found");

/// Smaller changes of the memory of Lua are not told to the process, whose count all cores share.
const MEMORY_STEP_BYTES: i64 = 16 * 1024;

/// A library that loads longer is stopped (Redis 7.0 `function_lua.c`, LOAD_TIMEOUT_MS).
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

/// What was learned about a script from its runs here.
#[derive(Clone, Copy, Default)]
pub(super) struct Habit {
    /// It touched keys that it did not declare, and what it had done till then had to be undone: it starts
    /// with all shards.
    pub(super) reaches_far: bool,
    /// A run was over without that.
    pub(super) keeps_to_its_keys: bool,
}

/// The reply of a command that a script waits for: all shards do their part of it, or others do it.
pub(super) struct AwaitedParts {
    pub(super) conn: ConnId,
    pub(super) db: usize,
    pub(super) resp3: bool,
    pub(super) wire: Option<Vec<u8>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Scripts {
    random: Random,
    eval: Option<Rc<Vm>>,
    compiled: HashMap<Digest, Known, ahash::RandomState>,
    /// The digests of texts that clients send: to make one takes as long as to look up several.
    digests: HashMap<Box<[u8]>, Digest, ahash::RandomState>,
    generation: u64,
    functions: Option<Rc<Vm>>,
    libraries: LoadedLibraries,
    catalogue: Arc<Catalogue>,
    catalogue_generation: u64,
    habits: HashMap<Rc<str>, Habit, ahash::RandomState>,
    /// Bytes of both Lua, as the process knows them.
    noted_memory: [i64; 2],
    /// The stack of the script before,
    pub(super) spare: Option<SpareStack>,
    /// its buffers,
    pub(super) buffers: Spare,
    /// and what held the words of its command.
    pub(super) words: Option<Rc<Words>>,
    /// A script that waits for something. There is one at most: a Lua runs one script at a time.
    pub(super) running: Option<Box<Running>>,
    /// There was room for what takes memory when the script began.
    pub(super) has_room: bool,
    /// It has run for so long that others are told.
    pub(super) is_busy: bool,
    /// What it waits for, if that is a command that others do.
    pub(super) awaited: Option<AwaitedParts>,
    /// Scripts that wait for the Lua.
    pub(super) queue: VecDeque<JobRequest>,
    /// Messages that wait for the end of a busy script.
    pub(super) deferred: VecDeque<Message>,
}

/// A script that was compiled.
struct Known {
    function: Compiled,
    flags: Option<ScriptFlags>,
    /// Its digest in digits.
    name: Rc<str>,
}

/// What a command runs.
pub(super) struct Resolved {
    pub(super) engine: Engine,
    pub(super) vm: Rc<Vm>,
    pub(super) function: Compiled,
    /// What errors call it, and under what it is known.
    pub(super) name: Rc<str>,
    /// What it says about itself; `None` for a script without a first line.
    pub(super) flags: Option<ScriptFlags>,
}

impl Scripts {
    /// What `script` with these arguments runs.
    pub(super) fn resolve(
        &mut self,
        store: &Store,
        script: ScriptCommand,
        args: &[&[u8]],
    ) -> CommandResult<Resolved> {
        match script.by {
            ScriptBy::Text => {
                let digest = self.digest_of(args[1]);
                self.script(store, digest, Some(args[1]))
            }
            ScriptBy::Digest => {
                let digest = Digest::parse(args[1]).ok_or(NO_SUCH_SCRIPT)?;
                self.script(store, digest, None)
            }
            ScriptBy::Function => self.function(store, args[1]),
        }
    }

    fn digest_of(&mut self, text: &[u8]) -> Digest {
        if let Some(digest) = self.digests.get(text) {
            return *digest;
        }
        let digest = Digest::of(text);
        if text.len() <= DIGESTED_BYTES_MAX {
            if self.digests.len() >= DIGESTS_MAX {
                self.digests.clear();
            }
            self.digests.insert(text.into(), digest);
        }
        digest
    }

    /// A script by its digest; it is compiled if it has to be, from `text` or what others have sent.
    fn script(
        &mut self,
        store: &Store,
        digest: Digest,
        text: Option<&[u8]>,
    ) -> CommandResult<Resolved> {
        let generation = store.script_generation();
        if self.generation != generation {
            // SCRIPT FLUSH starts with a fresh Lua. One that still runs a script is kept by it.
            self.generation = generation;
            self.compiled.clear();
            self.eval = None;
        }
        let random = &self.random;
        let vm = self.eval.get_or_insert_with(|| Rc::new(Vm::new(Engine::Scripts, random)));
        let vm = Rc::clone(vm);
        if let Some(known) = self.compiled.get(&digest) {
            let (function, flags) = (known.function.clone(), known.flags);
            let name = Rc::clone(&known.name);
            return Ok(Resolved { engine: Engine::Scripts, vm, function, name, flags });
        }
        let known = if text.is_none() { store.script(digest) } else { None };
        let source = text.or(known.as_deref()).ok_or(NO_SUCH_SCRIPT)?;
        let script = source::script(source).map_err(|e| CommandError::owned(e.to_string()))?;
        let function = vm.compile(script.code).map_err(|error| {
            CommandError::owned(format!("ERR Error compiling script (new function): {error}"))
        })?;
        let (name, flags): (Rc<str>, _) = (digest.to_hex().into(), script.flags);
        let known = Known { function: function.clone(), flags, name: Rc::clone(&name) };
        self.compiled.insert(digest, known);
        store.add_script(digest, source);
        Ok(Resolved { engine: Engine::Scripts, vm, function, name, flags })
    }

    /// SCRIPT LOAD: compiles a script and keeps it.
    pub(super) fn load_script(&mut self, store: &Store, text: &[u8]) -> CommandResult<String> {
        self.script(store, Digest::of(text), Some(text)).map(|resolved| resolved.name.to_string())
    }

    fn function(&mut self, store: &Store, name: &[u8]) -> CommandResult<Resolved> {
        self.refresh_catalogue(store);
        let catalogue = Arc::clone(&self.catalogue);
        let (library, info) = catalogue.function(name).ok_or(NO_SUCH_FUNCTION)?;
        let vm = self.function_vm();
        let function = self.libraries.function(&vm, library, &info.name, &mut Loading::new());
        let function = function.map_err(|error| CommandError::owned(error.to_string()))?;
        let (name, flags) = (info.name.as_str().into(), Some(info.flags));
        Ok(Resolved { engine: Engine::Functions, vm, function, name, flags })
    }

    fn function_vm(&mut self) -> Rc<Vm> {
        let random = &self.random;
        let vm = self.functions.get_or_insert_with(|| Rc::new(Vm::new(Engine::Functions, random)));
        Rc::clone(vm)
    }

    fn refresh_catalogue(&mut self, store: &Store) {
        let generation = store.catalogue_generation();
        if self.catalogue_generation != generation {
            self.catalogue_generation = generation;
            self.catalogue = store.catalogue();
            self.libraries.retain(&self.catalogue);
            if self.catalogue.function_count() == 0 {
                self.functions = None;
            }
        }
    }

    /// FUNCTION LOAD: makes a library.
    pub(super) fn new_library(
        &mut self,
        store: &Store,
        text: &[u8],
        replace: bool,
    ) -> Result<Arc<Library>, LibraryError> {
        let (name, _) = source::library(text).map_err(LibraryError::Source)?;
        if !replace && store.catalogue().library(&name).is_some() {
            return Err(LibraryError::Exists(name));
        }
        self.make_library(text)
    }

    /// Runs the text of a library that is not in the catalogue yet.
    pub(super) fn make_library(&mut self, text: &[u8]) -> Result<Arc<Library>, LibraryError> {
        let vm = self.function_vm();
        self.libraries.make(&vm, text, &mut Loading::new())
    }

    /// Tells the process how much memory Lua takes here, if that has changed much.
    pub(super) fn note_memory(&mut self, store: &Store) {
        for (engine, vm) in [(Engine::Scripts, &self.eval), (Engine::Functions, &self.functions)] {
            let now = vm.as_ref().map_or(0, |vm| vm.memory() as i64);
            let noted = &mut self.noted_memory[engine as usize];
            if (now - *noted).abs() > MEMORY_STEP_BYTES || (now == 0 && *noted > 0) {
                store.note_memory(engine, now - *noted);
                *noted = now;
            }
        }
    }

    /// Whether no script runs or waits, and nobody waits for one.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty() && self.deferred.is_empty()
    }

    /// What is known of a script.
    pub(super) fn habit(&self, name: &str) -> Habit {
        self.habits.get(name).copied().unwrap_or_default()
    }

    /// Notes what a run has shown.
    pub(super) fn learn(&mut self, name: &str, learn: impl FnOnce(&mut Habit)) {
        if self.habits.len() >= HABITS_MAX && !self.habits.contains_key(name) {
            self.habits.clear();
        }
        match self.habits.get_mut(name) {
            Some(habit) => learn(habit),
            None => learn(self.habits.entry(name.into()).or_default()),
        }
    }
}

/// Scripts about which something is known; then it is learned anew. Clients that put values into texts make a
/// new script with every call.
const HABITS_MAX: usize = 10_000;
/// Texts whose digests are kept; at so many they are forgotten, for the same reason.
const DIGESTS_MAX: usize = 1000;
/// Longer texts are digested each time.
const DIGESTED_BYTES_MAX: usize = 16 * 1024;

/// Makes a library of the text in a file, in a Lua for this alone: who loads files runs no functions, and each shard
/// compiles those that it calls.
pub fn library_of(text: &[u8]) -> Result<Arc<Library>, LibraryError> {
    let vm = Vm::new(Engine::Functions, &Random::default());
    LoadedLibraries::default().make(&vm, text, &mut Loading::new())
}

/// The host of a library while it loads: it may log, and not take too long.
pub(super) struct Loading {
    since: Instant,
}

impl Loading {
    pub(super) fn new() -> Self {
        Self { since: Instant::now() }
    }
}

impl Host for Loading {
    fn call(&mut self, _: &mut Words, resp3: bool, out: &mut Vec<u8>) -> Result<(), Abort> {
        // A library that loads sees no `redis.call`.
        crate::resp::Reply::new(out, resp3).error("ERR no commands while a library loads");
        Ok(())
    }

    fn tick(&mut self) -> Tick {
        if self.since.elapsed() > LOAD_TIME_MAX {
            return Err(Abort::Killed("FUNCTION LOAD timeout"));
        }
        Ok(())
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        log(level, text);
    }

    fn record_for(&mut self, _: Audience) {
        // Nor does it see `redis.set_repl`.
    }

    fn may_call(&mut self, _: &mut Words) -> Option<bool> {
        None
    }
}

/// `redis.log`
pub(super) fn log(level: LogLevel, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        LogLevel::Debug | LogLevel::Verbose => tracing::debug!("{text}"),
        LogLevel::Notice => tracing::info!("{text}"),
        LogLevel::Warning => tracing::warn!("{text}"),
    }
}
