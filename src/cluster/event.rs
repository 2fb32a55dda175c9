//! Everything that can happen to a node, and everything that it can do.
//!
//! The driver performs effects in their order and feeds back what comes of them. The order is safety: what
//! must be on disk before it is said comes before it.

use std::net::IpAddr;
use std::sync::Arc;

use super::address::Host;
use super::node_id::NodeId;
use super::settings::Settings;
use super::slot_map::SlotMap;
use super::slot_set::SlotSet;

/// A connection of the bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkId {
    /// One that this node opens; the node numbers them.
    To(u64),
    /// One that this node accepts; the driver numbers them. A number is never used again.
    From(u64),
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A tenth of a second has passed ([`TICK_MS`]).
    Tick,
    /// Another node has connected.
    Accepted {
        /// The link, a [`LinkId::From`].
        link: LinkId,
        /// The other end.
        peer: IpAddr,
        /// The address of this node that was called.
        local: IpAddr,
    },
    /// A connection that this node asked for is there.
    Connected {
        /// The link.
        link: LinkId,
    },
    /// A link broke, or could not be made. Links that the node closes are not reported.
    LinkLost {
        /// The link.
        link: LinkId,
        /// Whether it had more bytes waiting than `cluster-link-sendbuf-limit` allows.
        overflowed: bool,
    },
    /// A whole packet has come; [`super::bus::frame_length`] says where it ends.
    Packet {
        /// The link.
        link: LinkId,
        /// The packet.
        bytes: &'a [u8],
    },
    /// How replication stands. Told before each tick and whenever something of it changes.
    Replication(Replication),
    /// All writers stand still, as [`Effect::PauseWrites`] asked; the offset is final.
    WritesPaused {
        /// The replication offset.
        offset: u64,
    },
    /// The configuration has changed.
    Settings(Settings),
    /// There are keys in these slots, told once after start.
    KeysFound(SlotSet),
}

/// How often [`Event::Tick`] comes, in milliseconds.
pub const TICK_MS: u64 = 100;

/// How replication stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replication {
    /// Of a master, the offset that it has made; of a replica, the offset that it has processed.
    pub offset: u64,
    /// The link to the master, for replicas.
    pub master_link: MasterLink,
}

/// The link of a replica to its master.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MasterLink {
    /// There never was one.
    #[default]
    Never,
    /// It stands.
    Up {
        /// When something last came, in milliseconds since 1970.
        heard_ms: u64,
    },
    /// It is broken.
    Down {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
    },
}

/// Whose data this node copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// Nobody's: it is a master.
    None,
    /// That of a node that nobody knows how to reach.
    Unreachable,
    /// That of this master.
    Node {
        /// Its id.
        id: NodeId,
        /// Its address.
        ip: Host,
        /// Its port for clients.
        port: u16,
    },
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write nodes.conf. If it fails, the process must end before any later effect.
    Persist {
        /// The content.
        nodes_conf: String,
        /// Whether it must be on disk before the next effect.
        sync: bool,
    },
    /// Open a link. It must not be waited for: [`Event::Connected`] or [`Event::LinkLost`] follows.
    Connect {
        /// The link, a [`LinkId::To`].
        link: LinkId,
        /// Where to.
        ip: Host,
        /// The port of the bus there.
        port: u16,
    },
    /// Close a link; nothing more is to be heard of it.
    Close {
        /// The link.
        link: LinkId,
    },
    /// Send a packet. On a link that is not there yet, it waits.
    Send {
        /// The link.
        link: LinkId,
        /// The packet.
        bytes: Arc<[u8]>,
    },
    /// Copy another node's data from now on, or nobody's.
    Replicate(Upstream),
    /// Let no write happen until this time or [`Effect::ResumeWrites`], and say
    /// [`Event::WritesPaused`] when none is under way any more.
    PauseWrites {
        /// Until when at most, in milliseconds since 1970.
        until_ms: u64,
    },
    /// Let writers go on.
    ResumeWrites,
    /// What the data cores must know has changed.
    SlotMap(Arc<SlotMap>),
    /// Delete the keys of these slots: they belong to another node.
    DeleteKeys(SlotSet),
    /// Tell replicas, before anything that is written later, that these slots are staged
    /// ([`super::slot_moves`]), by CLUSTER SYNCSLOTS STAGED.
    Staged(String),
    /// Delete all keys.
    FlushAll,
    /// A message for the subscribers here.
    Deliver {
        /// The channel.
        channel: Vec<u8>,
        /// The message.
        message: Vec<u8>,
        /// Whether it is a shard channel.
        sharded: bool,
    },
}
