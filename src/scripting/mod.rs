//! Lua scripts and functions: the sandbox that Redis 7.0 runs them in, and the way of values across
//! its border.
//!
//! One [`Vm`] for scripts and one for functions per shard, made when first needed. A VM knows the
//! server only through [`Host`]: commands go out as arguments and come back as RESP, so nothing here
//! knows a key, a shard or a connection. The Lua itself is 5.1.5 with read-only tables (`lua/`).
//!
//! Promise: a script can neither change what later scripts see, nor outlive an [`Abort`], nor reach
//! memory that is not its own (no bytecode, no `debug`, no C of the libraries: cjson, cmsgpack and
//! struct are written here).

mod answer;
mod api;
mod cjson;
mod cmsgpack;
mod direct;
mod fiber;
mod host;
pub mod library;
mod native;
mod random;
mod registration;
mod result;
mod run;
mod sandbox;
pub mod source;
mod store;
mod structs;
mod vm;
mod words;

pub use fiber::{Answer, Ask, Ended, Fiber, Program, Spare, SpareStack, Turn};
pub use host::{Abort, Host, LogLevel, Tick};
pub use random::Random;
pub use run::Buffers;
pub use sandbox::Engine;
pub use store::{Digest, Store};
pub use vm::{Compiled, Invocation, Outcome, Vm};
pub use words::Words;

#[cfg(test)]
mod fake_host;
#[cfg(test)]
mod tests;
