//! A core's own connections, of which it is the one that speaks first or that knows more than a client: replicas, the
//! master, other nodes of the cluster.
//!
//! Who uses a connection names it by a [`SocketId`], which is never used again, and has its bytes, its end and
//! its output here; the reactor's names stay inside. Nothing waits: a connection that is being made takes output
//! at once, and the kernel sends it when the other end has answered.
//!
//! Promise: after [`Sockets::close`] nothing is heard of a connection; any other end is told once.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::service::{Action, Adoption, ConnId, Peer};

/// A connection, for as long as the process runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(u64);

struct Entry<O> {
    owner: O,
    /// Its name at the reactor, once that has it.
    conn: Option<ConnId>,
    output: Vec<u8>,
}

/// See the module; `O` says whose a connection is.
pub struct Sockets<O> {
    last: u64,
    entries: HashMap<SocketId, Entry<O>, ahash::RandomState>,
    by_conn: HashMap<ConnId, SocketId, ahash::RandomState>,
}

/// A socket that can be connected to this address, and never waits.
pub fn unconnected(remote: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends for the other end, which answers later.
pub fn begin_connecting(socket: &Socket, remote: SocketAddr) -> io::Result<()> {
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

impl<O: Copy> Sockets<O> {
    /// None yet; their [tokens](Adoption::token) are greater than this.
    pub fn numbered_from(last: u64) -> Self {
        Self { last, entries: HashMap::default(), by_conn: HashMap::default() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a connected socket over.
    pub fn adopt(
        &mut self,
        socket: OwnedFd,
        peer: Peer,
        owner: O,
        actions: &mut Vec<Action>,
    ) -> SocketId {
        self.last += 1;
        let id = SocketId(self.last);
        self.entries.insert(id, Entry { owner, conn: None, output: Vec::new() });
        actions.push(Action::Adopt(Box::new(Adoption { socket, peer, token: id.0 })));
        id
    }

    /// Begins to connect to `remote`, from the address `source` if one is given.
    pub fn connect(
        &mut self,
        remote: SocketAddr,
        source: Option<IpAddr>,
        owner: O,
        actions: &mut Vec<Action>,
    ) -> io::Result<SocketId> {
        let socket = unconnected(remote)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        begin_connecting(&socket, remote)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(self.adopt(socket.into(), Peer::Tcp { remote, local }, owner, actions))
    }

    /// Sends this after what was to be sent before.
    pub fn write(&mut self, id: SocketId, bytes: &[u8], actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.output.extend_from_slice(bytes);
        actions.extend(entry.conn.map(Action::Send));
    }

    /// There is something to take for this connection elsewhere, see [`Sockets::take_output`].
    pub fn wake(&mut self, id: SocketId, actions: &mut Vec<Action>) {
        actions.extend(self.entries.get(&id).and_then(|entry| entry.conn).map(Action::Send));
    }

    /// The reactor's name of a connection, once it has one.
    pub fn conn(&self, id: SocketId) -> Option<ConnId> {
        self.entries.get(&id)?.conn
    }

    /// Bytes of [`Sockets::write`] that the reactor has not taken yet.
    pub fn unsent(&self, id: SocketId) -> usize {
        self.entries.get(&id).map_or(0, |entry| entry.output.len())
    }

    /// Ends a connection now, whatever is under way.
    pub fn close(&mut self, id: SocketId, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(conn) = entry.conn {
            self.by_conn.remove(&conn);
            actions.push(Action::Abort(conn));
        }
    }

    // ---- the reactor's side ----

    /// A connection has its name.
    pub fn opened(&mut self, conn: ConnId, token: u64, actions: &mut Vec<Action>) {
        let id = SocketId(token);
        let Some(entry) = self.entries.get_mut(&id) else {
            // Closed before it was there.
            return actions.push(Action::Abort(conn));
        };
        entry.conn = Some(conn);
        self.by_conn.insert(conn, id);
        actions.push(Action::Send(conn));
    }

    /// Who is concerned.
    pub fn owner(&self, conn: ConnId) -> Option<(SocketId, O)> {
        let id = *self.by_conn.get(&conn)?;
        Some((id, self.entries.get(&id)?.owner))
    }

    /// A connection is gone: whose it was.
    pub fn closed(&mut self, conn: ConnId) -> Option<(SocketId, O)> {
        let id = self.by_conn.remove(&conn)?;
        Some((id, self.entries.remove(&id)?.owner))
    }

    /// What was written for this connection.
    pub fn take_output(&mut self, id: SocketId) -> Vec<u8> {
        self.entries.get_mut(&id).map(|entry| std::mem::take(&mut entry.output)).unwrap_or_default()
    }
}
