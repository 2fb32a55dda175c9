//! `cluster-proxy yes`: commands for slots of other nodes go there, and the answers come back as they are. No I/O.
//!
//! A shard of a node has a [`Link`] to each node that it forwards to. What a client would have been told (-MOVED, -ASK)
//! says where a command goes ([`Redirection`]); if the node there says the same, the command follows, a bounded number
//! of times. A link says at its start that it forwards: what comes by it is never forwarded again, or two nodes that
//! each take the other for the owner would send a command to and fro for ever. redis-server does not know that word,
//! and need not.
//!
//! Promise: a command is sent again only if the node that had it answered that it did not run it.

mod link;
mod redirection;

pub use link::{Fate, Link, LinkError, Login, Request};
pub use redirection::Redirection;

/// What a link says after CLIENT SETINFO: whoever speaks here forwards for others.
pub const FORWARDS: &str = "forwards";
