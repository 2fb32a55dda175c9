//! What a script needs of the server.

use super::words::Words;
use crate::journal::Audience;

/// Why a script ends before its end. No `pcall` catches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// The run is void, for the host has to prepare something (lend more keys); it will run again.
    Again,
    /// Somebody killed it (SCRIPT KILL, FUNCTION KILL), or it took too long to load. The client reads
    /// this text, without its code.
    Killed(&'static str),
}

/// Whether a script that has run for a while may go on.
pub type Tick = Result<(), Abort>;

/// Severity of `redis.log`, in the numbers that scripts use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // the levels of redis.conf
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl LogLevel {
    /// The level of this number, if there is one.
    pub fn new(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Debug),
            1 => Some(Self::Verbose),
            2 => Some(Self::Notice),
            3 => Some(Self::Warning),
            _ => None,
        }
    }
}

/// What a script needs of the server. All calls come from the thread that runs the script.
pub trait Host {
    /// Runs a command and appends its reply to `out`: one reply, in RESP3 or in RESP2. A command that
    /// is refused is an error reply. There is at least one word.
    fn call(&mut self, words: &mut Words, resp3: bool, out: &mut Vec<u8>) -> Result<(), Abort>;

    /// Called now and then while Lua runs, see [`super::vm::TICK_INSTRUCTIONS`].
    fn tick(&mut self) -> Tick;

    /// Writes to the server's log.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// The effects of the commands that follow are recorded for these.
    fn record_for(&mut self, audience: Audience);

    /// Whether the user may run this command; `None` if there is no such command.
    fn may_call(&mut self, words: &mut Words) -> Option<bool>;
}
