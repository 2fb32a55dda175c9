//! The reactor: one core's io_uring and the sockets on it.
//!
//! It runs as one task inside the core's glommio executor, over a ring of its own: glommio's rings
//! let every completion interrupt the core, which doubles the cost of a small request. It knows
//! sockets and buffers, and no protocol: that is the [`Service`]'s.
//!
//! Promise: bytes of a connection arrive and leave in order; everything that can wake the core
//! (sockets, doorbell, deadline) arrives on this ring, so blocking in it loses nothing.

mod accept;
mod buffers;
mod connections;
mod core;
mod eventfd;
mod executor;
mod pool;
mod ring;
mod send;
mod service;
mod signal;
pub mod sockets;
#[cfg(test)]
mod tests;

pub use core::{Options, Reactor, StartError, peer_of};
pub use eventfd::doorbell;
pub use executor::{executor, task_queue};
pub use pool::BufferPool;
pub use service::{Action, Adoption, CloseReason, ConnId, Peer, Service, Wait};
