//! The control core's own connections: replicas, the master, other nodes of the cluster.
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

use crate::reactor::{Action, Adoption, ConnId, Peer};

/// A connection, for as long as the process runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct SocketId(u64);

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// A replica has this end's data.
    Replica,
    /// This end has the data of a master.
    Master,
    /// It is a link of the cluster's bus.
    Bus,
    /// Slots leave by it for another node.
    Move,
}

struct Entry {
    owner: Owner,
    /// Its name at the reactor, once that has it.
    conn: Option<ConnId>,
    output: Vec<u8>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Sockets {
    last: u64,
    entries: HashMap<SocketId, Entry>,
    by_conn: HashMap<ConnId, SocketId>,
}

/// A socket that can be connected to this address, and never waits.
pub(super) fn unconnected(remote: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends for the other end, which answers later.
pub(super) fn begin_connecting(socket: &Socket, remote: SocketAddr) -> io::Result<()> {
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

impl Sockets {
    /// Takes a connected socket over.
    pub(super) fn adopt(
        &mut self,
        socket: OwnedFd,
        peer: Peer,
        owner: Owner,
        actions: &mut Vec<Action>,
    ) -> SocketId {
        self.last += 1;
        let id = SocketId(self.last);
        self.entries.insert(id, Entry { owner, conn: None, output: Vec::new() });
        actions.push(Action::Adopt(Box::new(Adoption { socket, peer, token: id.0 })));
        id
    }

    /// Begins to connect to `remote`, from the address `source` if one is given.
    pub(super) fn connect(
        &mut self,
        remote: SocketAddr,
        source: Option<IpAddr>,
        owner: Owner,
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
    pub(super) fn write(&mut self, id: SocketId, bytes: &[u8], actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.output.extend_from_slice(bytes);
        actions.extend(entry.conn.map(Action::Send));
    }

    /// There is something to take for this connection elsewhere, see [`Sockets::take_output`].
    pub(super) fn wake(&mut self, id: SocketId, actions: &mut Vec<Action>) {
        actions.extend(self.entries.get(&id).and_then(|entry| entry.conn).map(Action::Send));
    }

    /// The reactor's name of a connection, once it has one.
    pub(super) fn conn(&self, id: SocketId) -> Option<ConnId> {
        self.entries.get(&id)?.conn
    }

    /// Bytes of [`Sockets::write`] that the reactor has not taken yet.
    pub(super) fn unsent(&self, id: SocketId) -> usize {
        self.entries.get(&id).map_or(0, |entry| entry.output.len())
    }

    /// Ends a connection now, whatever is under way.
    pub(super) fn close(&mut self, id: SocketId, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(conn) = entry.conn {
            self.by_conn.remove(&conn);
            actions.push(Action::Abort(conn));
        }
    }

    // ---- the reactor's side ----

    /// A connection has its name.
    pub(super) fn opened(&mut self, conn: ConnId, token: u64, actions: &mut Vec<Action>) {
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
    pub(super) fn owner(&self, conn: ConnId) -> Option<(SocketId, Owner)> {
        let id = *self.by_conn.get(&conn)?;
        Some((id, self.entries.get(&id)?.owner))
    }

    /// A connection is gone: whose it was.
    pub(super) fn closed(&mut self, conn: ConnId) -> Option<(SocketId, Owner)> {
        let id = self.by_conn.remove(&conn)?;
        Some((id, self.entries.remove(&id)?.owner))
    }

    /// What was written for this connection.
    pub(super) fn take_output(&mut self, id: SocketId) -> Vec<u8> {
        self.entries.get_mut(&id).map(|entry| std::mem::take(&mut entry.output)).unwrap_or_default()
    }
}
