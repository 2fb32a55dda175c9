//! The connections of one reactor: what is in flight for each, and how far its end has come.
//!
//! A place in the table is reused only when the kernel holds no operation of its last user, so a
//! completion always belongs to the connection that stands in its place. [`ConnId`]s, which the
//! layer above may keep for longer, are told apart by the generation.

use std::os::fd::OwnedFd;

use super::service::ConnId;

/// What the kernel does about incoming bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    /// Nothing.
    Off,
    /// It delivers them as they come.
    Armed,
    /// It has been asked to stop and will confirm.
    Stopping,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Not asked for.
    Open,
    /// Output is being sent; then the socket is closed.
    Closing,
    /// Output is being sent; then the socket is handed back.
    Releasing,
    /// The service knows of the end; the kernel still holds operations.
    Dead,
}

/// One socket.
pub(super) struct Connection {
    pub socket: OwnedFd,
    pub receive: Receive,
    pub stage: Stage,
    /// The service wants to read.
    pub reading: bool,
    /// The peer has sent all it will.
    pub ended: bool,
    /// The key of the one send in flight.
    pub send: Option<u32>,
    /// The service asked for a send while one was in flight.
    pub more_output: bool,
}

const _: () = assert!(size_of::<Place>() <= 128, "10,000 idle connections must stay small");

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            receive: Receive::Off,
            stage: Stage::Open,
            reading: true,
            ended: false,
            send: None,
            more_output: false,
        }
    }

    /// Whether a receive is due that is not armed.
    pub(super) fn should_arm(&self) -> bool {
        self.stage == Stage::Open && self.reading && !self.ended && self.receive == Receive::Off
    }

    /// Whether the kernel holds nothing of this connection.
    pub(super) fn is_quiet(&self) -> bool {
        self.receive == Receive::Off && self.send.is_none()
    }
}

struct Place {
    generation: u32,
    connection: Option<Connection>,
}

/// All connections, by index.
#[derive(Default)]
pub(super) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Connections {
    /// Finds a place for `connection`.
    pub(super) fn insert(&mut self, connection: Connection) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            (self.places.len() - 1) as u32 // a process has fewer descriptors than that
        });
        let place = &mut self.places[index as usize];
        assert!(place.connection.is_none(), "a free place of the table was in use");
        place.connection = Some(connection);
        ConnId::from_parts(index, place.generation)
    }

    /// Empties a place.
    pub(super) fn remove(&mut self, index: u32) -> Connection {
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        place.connection.take().expect("a place was emptied twice")
    }

    /// The connection that an operation in flight belongs to: there is one as long as there is an
    /// operation.
    #[inline]
    pub(super) fn of_operation(&mut self, index: u32) -> (ConnId, &mut Connection) {
        let place = &mut self.places[index as usize];
        let connection = place.connection.as_mut();
        let connection = connection.expect("a place was reused while the kernel held an operation");
        (ConnId::from_parts(index, place.generation), connection)
    }

    /// The connection that the service means, unless it is gone.
    #[inline]
    pub(super) fn named(&mut self, conn: ConnId) -> Option<(u32, &mut Connection)> {
        let place = self.places.get_mut(conn.index())?;
        let connection = place.connection.as_mut()?;
        let known = place.generation == conn.generation() && connection.stage != Stage::Dead;
        known.then_some((conn.index() as u32, connection))
    }

    /// The indices of all connections.
    pub(super) fn indices(&self) -> Vec<u32> {
        let taken = |index: &u32| self.places[*index as usize].connection.is_some();
        (0..self.places.len() as u32).filter(taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn a_name_does_not_reach_the_next_user_of_its_place() {
        let mut connections = Connections::default();
        let first = connections.insert(connection());
        assert!(connections.named(first).is_some());
        connections.remove(first.index() as u32);
        assert!(connections.named(first).is_none());
        let second = connections.insert(connection());
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert!(connections.named(first).is_none());
        assert!(connections.named(second).is_some());
        assert!(connections.named(ConnId::from_parts(99, 0)).is_none());
    }
}
