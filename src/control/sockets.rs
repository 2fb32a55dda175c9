//! The control core's own connections: replicas, the master, other nodes of the cluster.

pub(super) use crate::reactor::sockets::{SocketId, begin_connecting, unconnected};

/// See there.
pub(super) type Sockets = crate::reactor::sockets::Sockets<Owner>;

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
