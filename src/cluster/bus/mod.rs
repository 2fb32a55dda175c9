//! The cluster bus as bytes: the packets of Redis 7.0, both ways.
//!
//! `frame.rs` finds where a packet ends, `decode.rs` and `encode.rs` turn it into a [`Packet`] and
//! back. Nothing here knows a link, a clock or the cluster.
//!
//! Promise: any bytes are a packet or a [`Malformed`]; what is decoded encodes to the same meaning, and
//! packets of Redis encode to the very bytes.

mod decode;
mod encode;
mod flags;
mod frame;
mod malformed;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use flags::{MessageFlags, NodeFlags};
pub use frame::{FRAME_HEAD_BYTES, frame_length};
pub use malformed::Malformed;

use super::address::{Address, Host};
use super::node_id::NodeId;
use super::shard_ports::ShardPorts;
use super::slot_set::SlotSet;

/// Bytes of a packet before its body (Redis 7.0 `cluster.h`, offset of `data` in clusterMsg).
pub const HEADER_BYTES: usize = 2256;
/// What every packet begins with.
pub const SIGNATURE: &[u8; 4] = b"RCmb";
/// The one version of the format (Redis 7.0 `cluster.h`, CLUSTER_PROTO_VER).
pub const VERSION: u16 = 1;
/// Bytes of a gossip entry.
pub const GOSSIP_BYTES: usize = 104;
/// Bytes of an address, padded with NUL (Redis 7.0 `cluster.h`, NET_IP_STR_LEN).
pub(super) const IP_FIELD_BYTES: usize = 46;

/// The type of [`Extension::ShardPorts`]: far from those of Redis and Valkey, which count up from 0.
pub(super) const SHARD_PORTS_KIND: u16 = 0xC07E;

/// One message from node to node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// What every packet says about its sender.
    pub header: Header,
    /// What this one is about.
    pub body: Body<'a>,
}

/// What every packet says about its sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The highest epoch that the sender has seen.
    pub current_epoch: u64,
    /// The sender's configuration epoch, or its master's.
    pub config_epoch: u64,
    /// The replication offset that the sender has made or processed.
    pub offset: u64,
    /// The sender's id.
    pub sender: NodeId,
    /// The sender's slots, or its master's.
    pub slots: SlotSet,
    /// The sender's master, if it is a replica.
    pub master: Option<NodeId>,
    /// Where the sender is; without an IP, where its packets come from.
    pub address: Address,
    /// What the sender is.
    pub flags: NodeFlags,
    /// Whether the sender believes that the cluster cannot serve.
    pub cluster_is_down: bool,
    /// What is special about this packet.
    pub message_flags: MessageFlags,
}

/// What a packet is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Are you there?
    Ping(Gossip<'a>),
    /// The answer to `Ping` and `Meet`, and news for all.
    Pong(Gossip<'a>),
    /// A ping that asks to be let into the cluster.
    Meet(Gossip<'a>),
    /// A majority has lost this node.
    Fail(NodeId),
    /// A message for the subscribers of a channel.
    Publish(Publication<'a>),
    /// A replica asks for a vote.
    FailoverAuthRequest,
    /// The vote is given.
    FailoverAuthAck,
    /// Somebody owns slots with a higher epoch than the receiver thinks.
    Update(Claim),
    /// A replica asks its master to pause, for a manual failover.
    MfStart,
    /// A message of a module.
    Module(ModuleMessage<'a>),
    /// A message for the subscribers of a shard channel.
    PublishShard(Publication<'a>),
}

/// The types of packets, in the order of their numbers on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// See [`Body::Ping`], and so on.
    Ping,
    /// An answer.
    Pong,
    /// A first contact.
    Meet,
    /// A failure.
    Fail,
    /// A publication.
    Publish,
    /// A request for a vote.
    FailoverAuthRequest,
    /// A vote.
    FailoverAuthAck,
    /// A correction.
    Update,
    /// The start of a manual failover.
    MfStart,
    /// A message of a module.
    Module,
    /// A publication within a shard.
    PublishShard,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Ping,
        Self::Pong,
        Self::Meet,
        Self::Fail,
        Self::Publish,
        Self::FailoverAuthRequest,
        Self::FailoverAuthAck,
        Self::Update,
        Self::MfStart,
        Self::Module,
        Self::PublishShard,
    ];

    /// Its name in CLUSTER INFO.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Meet => "meet",
            Self::Fail => "fail",
            Self::Publish => "publish",
            Self::FailoverAuthRequest => "auth-req",
            Self::FailoverAuthAck => "auth-ack",
            Self::Update => "update",
            Self::MfStart => "mfstart",
            Self::Module => "module",
            Self::PublishShard => "publishshard",
        }
    }
}

impl<'a> Body<'a> {
    /// What it tells about other nodes, if it is about being there.
    pub const fn gossip(&self) -> Option<&Gossip<'a>> {
        match self {
            Self::Ping(gossip) | Self::Pong(gossip) | Self::Meet(gossip) => Some(gossip),
            _ => None,
        }
    }

    /// Its type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ping(_) => Kind::Ping,
            Self::Pong(_) => Kind::Pong,
            Self::Meet(_) => Kind::Meet,
            Self::Fail(_) => Kind::Fail,
            Self::Publish(_) => Kind::Publish,
            Self::FailoverAuthRequest => Kind::FailoverAuthRequest,
            Self::FailoverAuthAck => Kind::FailoverAuthAck,
            Self::Update(_) => Kind::Update,
            Self::MfStart => Kind::MfStart,
            Self::Module(_) => Kind::Module,
            Self::PublishShard(_) => Kind::PublishShard,
        }
    }
}

/// What a ping tells about other nodes, and what else fits into no field of the header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gossip<'a> {
    /// Some nodes that the sender knows.
    pub entries: Vec<GossipEntry>,
    /// Extensions; only a packet with [`MessageFlags::EXTENSIONS`] has any.
    pub extensions: Vec<Extension<'a>>,
}

/// What the sender of a ping knows about another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GossipEntry {
    /// Whom it is about.
    pub node: NodeId,
    /// Since when the sender waits for a pong, in seconds since 1970; 0 if it does not.
    pub ping_sent_s: u32,
    /// When it had the last one, in seconds since 1970.
    pub pong_received_s: u32,
    /// Where the node is.
    pub address: Address,
    /// What the node is to the sender.
    pub flags: NodeFlags,
}

/// What newer versions added to pings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extension<'a> {
    /// The sender's host name (Redis 7.0).
    Hostname(Host),
    /// A node that the sender was told to forget, and for how many seconds (Redis 7.2).
    Forgotten {
        /// The node.
        node: NodeId,
        /// How long it stays forgotten, in seconds.
        seconds: u64,
    },
    /// The shard that the sender belongs to (Redis 7.2).
    ShardId(NodeId),
    /// The ports of the sender's shards, if they have some (Corelane).
    ShardPorts(Option<ShardPorts>),
    /// One that is not known here: its type, and its bytes with their padding.
    Other(u16, &'a [u8]),
}

/// A message for subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication<'a> {
    /// Where it was published.
    pub channel: &'a [u8],
    /// What was published.
    pub message: &'a [u8],
}

/// Who owns which slots, since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The owner.
    pub node: NodeId,
    /// Its configuration epoch.
    pub config_epoch: u64,
    /// Its slots.
    pub slots: SlotSet,
}

/// A message of a module. There are no modules here, so nobody reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleMessage<'a> {
    /// The module's id, in the byte order of its host.
    pub module: u64,
    /// What the module makes of it.
    pub kind: u8,
    /// The message.
    pub payload: &'a [u8],
}
