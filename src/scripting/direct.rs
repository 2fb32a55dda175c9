//! A script's way through Lua without mlua, for what nearly every script does (`lua/lua-5.1.5/direct.c`).
//!
//! mlua makes every value that crosses a reference of its own, and every call a closure and a protected call:
//! of the 12,000 instructions of an EVAL of one INCR, that took more than half. Here the arguments are
//! copied in and a simple result is read in place; a command of the script comes as slices of Lua's own strings.
//! What is rare still goes through mlua, see [`super::run`].
//!
//! Promise: the pointers of this module live as long as the [`Lua`] next to them, and the run that scripts find is
//! there only while [`Direct::lend`] or [`Direct::run`] is at work.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;

use mlua::{Function, Lua, MultiValue, Table, lua_State};

use super::run::{Run, over};
use super::vm::RESULT_AT;
use super::words::Words;

/// Arguments of a script for which nothing is allocated.
const ARGUMENTS_FEW: usize = 16;

/// `direct_text`
#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    bytes: *const u8,
    length: usize,
}

impl Text {
    const EMPTY: Self = Self { bytes: ptr::null(), length: 0 };

    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.as_ptr(), length: bytes.len() }
    }
}

/// `direct_call`
type Call = unsafe extern "C" fn(*mut c_void, *const Text, usize, *mut Text) -> c_int;

/// `direct_state`
#[repr(C)]
struct State {
    /// A `RefCell<Run>`.
    run: *const c_void,
    call: Option<Call>,
    runner: c_int,
    handler: c_int,
    slot: c_int,
}

/// `direct_program`
#[repr(C)]
struct Program {
    function: c_int,
    has_globals: c_int,
    words: *const Text,
    key_count: usize,
    count: usize,
}

/// `direct_result`
#[repr(C)]
struct RawResult {
    kind: c_int,
    top: c_int,
    number: f64,
    text: Text,
}

const KIND_NIL: c_int = 0;
const KIND_BOOLEAN: c_int = 1;
const KIND_NUMBER: c_int = 2;
const KIND_TEXT: c_int = 3;
const KIND_OTHER: c_int = 4;

unsafe extern "C" {
    fn direct_of(lua: *mut lua_State) -> *mut State;
    fn direct_run(
        lua: *mut lua_State,
        state: *mut State,
        program: *const Program,
        result: *mut RawResult,
    );
    fn direct_end(lua: *mut lua_State, result: *const RawResult);
}

/// What a script has returned.
pub enum Returned<'a> {
    /// Nothing.
    Nil,
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(&'a [u8]),
    /// Something else, which is in the slot ([`RESULT_AT`]).
    Other,
    /// It has failed; the error is in the slot.
    Error,
}

/// Where the run at work is to be found.
#[derive(Clone, Copy)]
pub struct Current(NonNull<State>);

/// See the module.
pub struct Direct {
    state: NonNull<State>,
    /// The main thread of `_lua`.
    thread: NonNull<lua_State>,
    /// Owns both.
    _lua: Lua,
}

impl Direct {
    /// For this Lua. `direct` is the function of that name, `slot` where natives are looked for and results are put.
    pub fn new(lua: &Lua, slot: &Table, direct: &Function) -> mlua::Result<Self> {
        slot.raw_set(1, false)?;
        // Not nil, so that putting something there allocates nothing.
        slot.raw_set(RESULT_AT, false)?;
        direct.call::<()>(slot)?;
        let mut found = None;
        // SAFETY: the closure leaves the stack as it was, and `direct_open` has made what `direct_of` looks for;
        // outside of any callback the current thread is the main one.
        unsafe {
            lua.exec_raw::<()>((), |thread| {
                found = NonNull::new(thread).zip(NonNull::new(direct_of(thread)));
            })?;
        }
        let (thread, mut state) = found.ok_or_else(|| mlua::Error::runtime("it is not there"))?;
        // SAFETY: the state is a userdata that the registry of this Lua refers to for ever, and nobody else
        // uses it now.
        unsafe { state.as_mut().call = Some(call) };
        let direct = Self { state, thread, _lua: lua.clone() };
        let current = direct.current();
        let serve = lua.create_function(move |lua, args: MultiValue| {
            current.with(|run| run.borrow_mut().serve(lua, args)).unwrap_or_else(|| Err(over()))
        })?;
        slot.raw_set(1, serve)?;
        Ok(direct)
    }

    /// Where the run at work is to be found, for functions that live in this Lua.
    pub fn current(&self) -> Current {
        Current(self.state)
    }

    /// Lends `run` to scripts while `body` runs one.
    pub fn lend<T>(&self, run: &RefCell<Run<'_>>, body: impl FnOnce() -> T) -> T {
        let state = self.state.as_ptr();
        // SAFETY: `_lua` keeps the state. Only this thread uses it, a word at a time, so nothing aliases.
        let outer = unsafe { ptr::replace(&raw mut (*state).run, ptr::from_ref(run).cast()) };
        // A script that waits for the server may have another one run within it.
        let _restore = Restore { state: self.state, outer };
        body()
    }

    /// Runs the function of this number, with globals for its arguments or not, and `read`s what it returns. Its arguments are
    /// `words` from a place on, so many of them keys.
    pub fn run<T>(
        &self,
        run: &RefCell<Run<'_>>,
        (function, has_globals): (i32, bool),
        (words, first, key_count): (&Words, usize, usize),
        read: impl FnOnce(Returned<'_>) -> T,
    ) -> T {
        let count = words.len().saturating_sub(first);
        let (mut few, mut many) = ([Text::EMPTY; ARGUMENTS_FEW], Vec::new());
        let texts = if count <= few.len() {
            &mut few[..count]
        } else {
            many.resize(count, Text::EMPTY);
            &mut many[..]
        };
        texts.iter_mut().zip(words.iter().skip(first)).for_each(|(to, word)| *to = Text::of(word));
        assert!(key_count <= count, "keys are arguments");
        let program = Program {
            function,
            has_globals: c_int::from(has_globals),
            words: texts.as_ptr(),
            key_count,
            count,
        };
        let mut result = RawResult { kind: KIND_NIL, top: 0, number: 0.0, text: Text::EMPTY };
        self.lend(run, || {
            // SAFETY: the thread is alive, and at rest or within a call of a command, where C may use its stack. All
            // errors are caught by the protected call in there. The texts point into `words`, which is borrowed.
            unsafe {
                direct_run(self.thread.as_ptr(), self.state.as_ptr(), &program, &mut result);
            }
        });
        let returned = match result.kind {
            KIND_NIL => Returned::Nil,
            KIND_BOOLEAN => Returned::Boolean(result.number != 0.0),
            KIND_NUMBER => Returned::Number(result.number),
            // SAFETY: the string is on the stack of Lua until `direct_end`.
            KIND_TEXT => Returned::Text(unsafe {
                slice::from_raw_parts(result.text.bytes, result.text.length)
            }),
            KIND_OTHER => Returned::Other,
            _ => Returned::Error,
        };
        let read = read(returned);
        // SAFETY: as above; this only takes values off the stack that `direct_run` has put there.
        unsafe { direct_end(self.thread.as_ptr(), &result) };
        read
    }
}

/// Takes back what was lent, also if a panic passes.
struct Restore {
    state: NonNull<State>,
    outer: *const c_void,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: as in `Direct::lend`, within which this lives.
        unsafe { (*self.state.as_ptr()).run = self.outer };
    }
}

impl Current {
    /// Lets `ask` ask the run at work, if there is one.
    pub fn with<T>(self, ask: impl FnOnce(&RefCell<Run<'_>>) -> T) -> Option<T> {
        // SAFETY: who has this lives in the Lua that owns the state. If a run is there, it is lent by a frame of
        // `Direct::lend` further down the stack, so it is alive; and `ask` cannot keep it, for it works for any lifetime.
        unsafe {
            let run: *const RefCell<Run<'_>> = (*self.0.as_ptr()).run.cast();
            run.as_ref().map(ask)
        }
    }
}

/// Runs a command for a script; not 0 if its reply is to be read from `reply`.
///
/// # Safety
///
/// `run` is what [`Direct::lend`] has put into the state; there are `count` words, which are strings of Lua.
unsafe extern "C" fn call(
    run: *mut c_void,
    words: *const Text,
    count: usize,
    reply: *mut Text,
) -> c_int {
    // SAFETY: the caller's promises. A slice of no bytes does not come from Lua, whose strings end in a zero.
    let (run, words) = unsafe {
        let words = slice::from_raw_parts(words, count);
        let words = words.iter().map(|word| slice::from_raw_parts(word.bytes, word.length));
        (&*run.cast_const().cast::<RefCell<Run<'_>>>(), words)
    };
    match run.borrow_mut().call_directly(words) {
        // The reply is in a buffer of the run, which nobody touches before the next command.
        Some(wire) => {
            // SAFETY: C gives room for one.
            unsafe { *reply = Text::of(wire) };
            1
        }
        None => 0,
    }
}
