//! A host for tests: some commands with fixed answers, and a diary.

use super::host::{Abort, Host, LogLevel, Tick};
use super::words::Words;
use crate::journal::Audience;

/// See the module.
#[derive(Default)]
pub struct FakeHost {
    /// What was called, the words joined by blanks; with `3>` before it if RESP3 was asked for.
    pub calls: Vec<String>,
    /// What was logged.
    pub log: Vec<(LogLevel, String)>,
    /// How often the host was asked whether to go on.
    pub ticks: usize,
    /// After so many ticks, the script is aborted.
    pub abort_at: Option<(usize, Abort)>,
    /// Whom effects are for.
    pub audience: Audience,
    /// `GET again` is answered with this many aborts first.
    pub aborts: usize,
}

impl Host for FakeHost {
    fn call(&mut self, words: &mut Words, resp3: bool, out: &mut Vec<u8>) -> Result<(), Abort> {
        let words: Vec<_> = words.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        let line = words.join(" ");
        self.calls.push(if resp3 { format!("3>{line}") } else { line.clone() });
        if line == "GET again" && self.aborts > 0 {
            return Err(Abort::Again);
        }
        out.extend_from_slice(match (line.as_str(), resp3) {
            ("PING", _) => b"+PONG\r\n".as_slice(),
            ("GET s", _) => b"$1\r\nv\r\n",
            ("GET nothing", false) => b"$-1\r\n",
            ("GET nothing", true) => b"_\r\n",
            ("INCR s", _) => b"-ERR value is not an integer or out of range\r\n",
            ("INCR n", _) => b":1\r\n",
            ("MGET s nothing s", false) => b"*3\r\n$1\r\nv\r\n$-1\r\n$1\r\nv\r\n",
            ("BLPOP l 0", false) => b"*-1\r\n",
            ("HGETALL h", false) => b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ("HGETALL h", true) => b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ("SMEMBERS set", true) => b"~1\r\n$1\r\na\r\n",
            ("ZSCORE z a", true) => b",1.5\r\n",
            ("DEBUG PROTOCOL true", true) => b"#t\r\n",
            ("DEBUG PROTOCOL bignum", true) => b"(1234567999999999999999999999999999999\r\n",
            ("DEBUG PROTOCOL verbatim", true) => b"=29\r\ntxt:This is a verbatim\nstring\r\n",
            ("DEBUG PROTOCOL attrib", true) => b"|1\r\n$1\r\na\r\n:1\r\n$4\r\nReal\r\n",
            ("SET k v", _) => b"+OK\r\n",
            ("BROKEN", _) => b"$9\r\nshort",
            _ => b"-ERR Unknown Redis command called from script\r\n",
        });
        Ok(())
    }

    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        match self.abort_at {
            Some((at, abort)) if self.ticks >= at => Err(abort),
            _ => Ok(()),
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.log.push((level, String::from_utf8_lossy(text).into_owned()));
    }

    fn record_for(&mut self, audience: Audience) {
        self.audience = audience;
    }

    fn may_call(&mut self, words: &mut Words) -> Option<bool> {
        match words.iter().next() {
            Some(b"GET") => Some(true),
            Some(b"SET") => Some(false),
            _ => None,
        }
    }
}
