//! What a reactor asks of the layer above it, and what it does for it.
//!
//! The reactor knows sockets and no protocol; a [`Service`] knows the protocol and no socket. A turn
//! is: completions become calls of the service, [`Service::turn`] runs, the actions it queued are
//! carried out, and one entry into the kernel submits all of it and waits for the next completions.

use std::{io, net::SocketAddr, os::fd::OwnedFd, time::Instant};

/// A connection of one reactor. The index is reused after the connection is gone; the generation
/// tells the two apart, so a reply that comes late from another core reaches nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    index: u32,
    generation: u32,
}

impl ConnId {
    /// A session that has no socket: what its core itself has to say. No table of a driver is so long.
    pub const WITHOUT_SOCKET: ConnId = ConnId { index: u32::MAX, generation: 0 };

    /// The connection at `index` of a driver's own table: for the reactor, and for what stands in for it
    /// in a simulation. No two connections of one service may ever have the same name.
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place of the connection in a table: small numbers, reused.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Which user of that place this is.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// Who is at the other end of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A TCP connection.
    Tcp {
        /// The address of the peer.
        remote: SocketAddr,
        /// Our own address on this connection.
        local: SocketAddr,
    },
    /// A connection to a Unix socket; its peers have no address.
    Unix,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// [`Action::Close`] or [`Action::Abort`] asked for it.
    Asked,
    /// The socket failed: reset by the peer, broken pipe, timed out.
    Failed(io::Error),
}

/// What the service has left to do when its turn ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// There is more work now: look for completions without blocking and come back. Other tasks of the
    /// executor do not run; who has some and more work too says `WithExecutor(Some(now))`.
    Poll,
    /// Nothing to do before this time, a completion or the doorbell, but other tasks of the executor
    /// wait for files or timers: sleep in the executor, which wakes for them too. A task that leaves
    /// something for the next turn rings this core's doorbell.
    WithExecutor(Option<Instant>),
    /// Nothing to do before this time, or before a completion or the doorbell.
    Until(Option<Instant>),
}

/// A socket on its way into a reactor.
#[derive(Debug)]
pub struct Adoption {
    /// The connected socket. What it is set to is kept (keepalive and the like are the service's),
    /// but it is made blocking, which the ring needs, and TCP sockets do not delay.
    pub socket: OwnedFd,
    /// Who is at its other end.
    pub peer: Peer,
    /// Handed to [`Service::opened`] as it is.
    pub token: u64,
}

/// What a service asks its reactor to do at the end of a turn. An action for a connection that is
/// gone does nothing.
#[derive(Debug)]
pub enum Action {
    /// The connection has output: take it as soon as nothing of it is in flight.
    Send(ConnId),
    /// Stop reading. Bytes that the kernel had already delivered still come.
    PauseReading(ConnId),
    /// Read again.
    ResumeReading(ConnId),
    /// Stop reading, send all output there is, then close.
    Close(ConnId),
    /// Close now, whatever is pending; [`Service::closed`] comes in this same turn.
    Abort(ConnId),
    /// Stop reading, send all output there is, then hand the socket back by [`Service::released`].
    Release(ConnId),
    /// Make this socket a connection of this reactor.
    Adopt(Box<Adoption>),
    /// Accept from this listening socket, too.
    Listen(OwnedFd),
    /// Close all listening TCP sockets there are; one of [`Action::Listen`] after this stays.
    StopListening,
    /// Ring the doorbell of this core.
    Ring(usize),
    /// End [`Reactor::run`](super::Reactor::run); all connections are closed.
    Stop,
}

const _: () = assert!(size_of::<Action>() <= 16, "actions are moved by the thousand");

/// The layer above the reactor: everything that is not sockets. No call may block.
pub trait Service {
    /// A listener accepted `socket`: adopt it here or send it to another core. Who has no listeners is
    /// never asked, so by default the socket is closed.
    fn accepted(&mut self, socket: OwnedFd, _peer: Peer) {
        drop(socket);
    }

    /// An adopted socket is a connection now; `conn` names it until `closed` or `released`.
    fn opened(&mut self, conn: ConnId, peer: Peer, token: u64);

    /// Bytes from the peer, in the buffer that the kernel wrote, valid during this call.
    fn received(&mut self, conn: ConnId, bytes: &[u8]);

    /// The peer will send no more but may still read: answer what is due, then ask for `Close`.
    fn half_closed(&mut self, conn: ConnId);

    /// The connection is gone: forget it.
    fn closed(&mut self, conn: ConnId, why: CloseReason);

    /// The answer to [`Action::Release`]: the connection is gone from here, its socket is not. For who
    /// never releases, it is as if the connection had been closed.
    fn released(&mut self, conn: ConnId, socket: OwnedFd) {
        drop(socket);
        self.closed(conn, CloseReason::Asked);
    }

    /// All completions of this turn have been delivered: run lanes, timers, slices of background
    /// work, and say what is left.
    fn turn(&mut self, now: Instant) -> Wait;

    /// Whether something waits in the lanes: asked between announcing sleep and sleeping.
    fn has_incoming(&self) -> bool;

    /// Appends the actions queued since the last call.
    fn drain_actions(&mut self, actions: &mut Vec<Action>);

    /// All pending output of `conn`; empty if there is none. Take the buffer itself
    /// (`mem::take`), so that the connection keeps none while it is idle.
    fn take_output(&mut self, conn: ConnId) -> Vec<u8>;

    /// The kernel accepted `bytes` more of the output of `conn`.
    fn sent(&mut self, conn: ConnId, bytes: usize);

    /// A buffer from `take_output` that is free again; keep it in a [`BufferPool`](super::BufferPool).
    fn recycle(&mut self, buffer: Vec<u8>);
}
