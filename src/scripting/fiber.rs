//! A script on a stack of its own: it stops where it needs the server, and goes on with the answer.
//!
//! Why: a shard never waits, yet a script that runs long must let the shard look at its sockets (to
//! answer BUSY, to hear SCRIPT KILL), and one that holds all shards has to wait for keys of others. Lua
//! cannot yield through its own C functions, so the whole VM is on a stack that is left and entered
//! again. A switch takes some ten nanoseconds.

use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::host::{Abort, Host, LogLevel, Tick};
use super::run::Buffers;
use super::vm::{Compiled, Invocation, Outcome, Vm};
use super::words::{KEPT_BYTES_MAX, Words};
use crate::journal::Audience;
use crate::resp::Reply;

/// Bytes of a stack, taken from the kernel as they are touched. Lua nests its C functions 200 deep, and some of
/// them have buffers of 8 KiB.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What a script needs of the server.
pub enum Ask {
    /// Run this command. Its reply goes behind what is in `wire`.
    Call {
        /// The command.
        words: Words,
        /// Whether the reply is to be in RESP3.
        resp3: bool,
        /// An empty buffer for the reply.
        wire: Vec<u8>,
    },
    /// May it go on?
    Tick,
    /// Write this to the log.
    Log(LogLevel, Vec<u8>),
    /// Record the effects of the commands that follow for these.
    RecordFor(Audience),
    /// May the user run this command?
    MayCall(Words),
}

/// The answer to an [`Ask`].
pub enum Answer {
    /// To a script that has not begun, to a tick and to what is only told: go on.
    GoOn,
    /// The command has run; the buffers come back.
    Replied(Words, Vec<u8>),
    /// Whether the user may run it; `None` if there is no such command.
    May(Words, Option<bool>),
    /// The script is over.
    Abort(Abort),
}

/// How a script ended.
pub struct Ended {
    /// Its reply; empty after [`Abort::Again`].
    pub reply: Vec<u8>,
    /// What became of it.
    pub outcome: Result<Outcome, Abort>,
    /// Buffers for the next one.
    pub spare: Spare,
}

/// What a script does next.
pub enum Turn {
    /// It waits for the answer to this.
    Asks(Ask),
    /// It is over.
    Ended(Ended),
}

/// What to run; everything is owned, for it lies on the script's stack.
pub struct Program {
    /// The Lua that compiled it.
    pub vm: Rc<Vm>,
    /// The script.
    pub function: Compiled,
    /// What errors call it.
    pub name: Rc<str>,
    /// Its arguments, behind other words.
    pub words: Rc<Words>,
    /// Where they begin.
    pub first: usize,
    /// How many of them are keys.
    pub key_count: usize,
    /// Whether its client reads RESP3.
    pub resp3: bool,
    /// What it uses while it runs.
    pub spare: Spare,
}

/// Buffers that no script uses.
#[derive(Default)]
pub struct Spare {
    call: Buffers,
    reply: Vec<u8>,
}

impl Spare {
    /// A buffer for the next reply.
    pub fn keep_reply(&mut self, mut reply: Vec<u8>) {
        if reply.capacity() <= KEPT_BYTES_MAX {
            reply.clear();
            self.reply = reply;
        }
    }
}

/// A stack that no script uses.
pub struct SpareStack(DefaultStack);

/// See the module.
pub struct Fiber {
    coroutine: Option<Coroutine<Answer, Ask, Ended, DefaultStack>>,
}

impl Fiber {
    /// A script that begins when it is first resumed.
    ///
    /// Panics if the kernel gives no memory for a stack.
    pub fn new(program: Program, spare: Option<SpareStack>) -> Self {
        let stack = spare.map(|spare| spare.0);
        let stack = stack.unwrap_or_else(|| {
            DefaultStack::new(STACK_BYTES).unwrap_or_else(|error| panic!("no stack: {error}"))
        });
        let coroutine =
            Coroutine::with_stack(stack, move |yielder, _: Answer| run(program, yielder));
        Self { coroutine: Some(coroutine) }
    }

    /// Goes on with the answer to what was asked last.
    pub fn resume(&mut self, answer: Answer) -> Turn {
        let Some(coroutine) = &mut self.coroutine else {
            unreachable!("a script that is over is not resumed")
        };
        match coroutine.resume(answer) {
            CoroutineResult::Yield(ask) => Turn::Asks(ask),
            CoroutineResult::Return(ended) => Turn::Ended(ended),
        }
    }

    /// The stack of a script that is over, for the next one.
    pub fn into_stack(mut self) -> Option<SpareStack> {
        let coroutine = self.coroutine.take()?;
        if coroutine.done() {
            return Some(SpareStack(coroutine.into_stack()));
        }
        std::mem::forget(coroutine);
        None
    }
}

impl Drop for Fiber {
    /// Who is dropped before its end (the process ends) leaves its stack behind: it cannot be unwound
    /// through the frames of C.
    fn drop(&mut self) {
        if let Some(coroutine) = self.coroutine.take()
            && !coroutine.done()
        {
            std::mem::forget(coroutine);
        }
    }
}

fn run(program: Program, yielder: &Yielder<Answer, Ask>) -> Ended {
    let Program { vm, function, name, words, first, key_count, resp3, mut spare } = program;
    let mut host = Outside { yielder };
    let call = Invocation { function: &function, name: &name, words: &words, first, key_count };
    let mut reply = std::mem::take(&mut spare.reply);
    let mut writer = Reply::new(&mut reply, resp3);
    let outcome = vm.run(&call, (&mut host, &mut spare.call), &mut writer);
    spare.call.trim();
    Ended { reply, outcome, spare }
}

/// The server, as a script on its own stack sees it.
struct Outside<'y> {
    yielder: &'y Yielder<Answer, Ask>,
}

impl Outside<'_> {
    fn ask(&mut self, ask: Ask) -> Result<Answer, Abort> {
        match self.yielder.suspend(ask) {
            Answer::Abort(abort) => Err(abort),
            answer => Ok(answer),
        }
    }
}

impl Host for Outside<'_> {
    fn call(&mut self, words: &mut Words, resp3: bool, out: &mut Vec<u8>) -> Result<(), Abort> {
        let ask = Ask::Call { words: std::mem::take(words), resp3, wire: std::mem::take(out) };
        match self.ask(ask)? {
            Answer::Replied(asked, wire) => (*words, *out) = (asked, wire),
            _ => unreachable!("a command is answered with its reply"),
        }
        Ok(())
    }

    fn tick(&mut self) -> Tick {
        self.ask(Ask::Tick).map(|_| ())
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        // An abort is told again at the next tick.
        _ = self.ask(Ask::Log(level, text.to_vec()));
    }

    fn record_for(&mut self, audience: Audience) {
        // An abort is told again at the next tick.
        _ = self.ask(Ask::RecordFor(audience));
    }

    fn may_call(&mut self, words: &mut Words) -> Option<bool> {
        match self.ask(Ask::MayCall(std::mem::take(words))) {
            Ok(Answer::May(asked, may)) => {
                *words = asked;
                may
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripting::{Engine, Random};

    fn fiber(vm: &Rc<Vm>, script: &str, spare: Option<SpareStack>) -> Fiber {
        let function = vm.compile(script.as_bytes()).expect("a script");
        let program = Program {
            vm: Rc::clone(vm),
            function,
            name: "test".into(),
            words: Rc::new(Words::of(&[b"k", b"a"])),
            first: 0,
            key_count: 1,
            resp3: false,
            spare: Spare::default(),
        };
        Fiber::new(program, spare)
    }

    #[test]
    fn a_script_stops_where_it_needs_the_server_whatever_it_is_in() {
        let vm = Rc::new(Vm::new(Engine::Scripts, &Random::default()));
        let mut spare = None;
        for script in [
            "return redis.call('GET', KEYS[1], ARGV[1])",
            "return select(2, pcall(redis.call, 'GET', KEYS[1], ARGV[1]))",
            "local r string.gsub('x', 'x', function() r = redis.call('GET', KEYS[1], ARGV[1]) end) return r",
            "return coroutine.wrap(function() return redis.call('GET', KEYS[1], ARGV[1]) end)()",
        ] {
            let mut fiber = fiber(&vm, script, spare.take());
            let Turn::Asks(Ask::Call { words, resp3: false, mut wire }) =
                fiber.resume(Answer::GoOn)
            else {
                panic!("{script} calls first");
            };
            let expected: [&[u8]; 3] = [b"GET", b"k", b"a"];
            assert!(words.iter().eq(expected), "{script}");
            wire.extend_from_slice(b"$1\r\nv\r\n");
            let Turn::Ended(ended) = fiber.resume(Answer::Replied(words, wire)) else {
                panic!("{script} ends then");
            };
            assert_eq!(
                (ended.reply.as_slice(), ended.outcome),
                (&b"$1\r\nv\r\n"[..], Ok(Outcome::Done))
            );
            spare = fiber.into_stack();
            assert!(spare.is_some(), "its stack is free");
        }
    }

    #[test]
    fn a_script_that_is_stopped_for_ever_leaves_room_for_others() {
        let vm = Rc::new(Vm::new(Engine::Scripts, &Random::default()));
        let mut stuck = fiber(&vm, "redis.call('PING')", None);
        assert!(matches!(stuck.resume(Answer::GoOn), Turn::Asks(Ask::Call { .. })));
        // Within it, others may come and go.
        let mut nested = fiber(&vm, "return #KEYS", None);
        let Turn::Ended(ended) = nested.resume(Answer::GoOn) else { panic!("it asks nothing") };
        assert_eq!(ended.reply, b":1\r\n");
        let Turn::Ended(ended) = stuck.resume(Answer::Abort(Abort::Again)) else {
            panic!("it was aborted");
        };
        assert_eq!(ended.outcome, Err(Abort::Again));
        drop(fiber(&vm, "redis.call('PING')", None));
    }

    #[test]
    fn a_loop_asks_whether_it_may_go_on() {
        let vm = Rc::new(Vm::new(Engine::Scripts, &Random::default()));
        let mut fiber = fiber(&vm, "while true do end", None);
        for _ in 0..3 {
            assert!(matches!(fiber.resume(Answer::GoOn), Turn::Asks(Ask::Tick)));
        }
        let Turn::Ended(ended) = fiber.resume(Answer::Abort(Abort::Killed("enough"))) else {
            panic!("it was killed");
        };
        assert_eq!(ended.reply, b"-ERR enough script: test, on @user_script:1.\r\n");
    }
}
