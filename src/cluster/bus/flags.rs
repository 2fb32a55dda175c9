//! The bits that nodes and packets carry.
//!
//! Bits that have no name here are kept: newer versions set some, and pass them on.

use std::ops::BitOr;

/// What a node is, in the bits of headers and gossip (Redis 7.0 `cluster.h`, CLUSTER_NODE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeFlags(pub u16);

impl NodeFlags {
    /// It may own slots.
    pub const MASTER: Self = Self(1);
    /// It copies a master.
    pub const REPLICA: Self = Self(2);
    /// The speaker cannot reach it.
    pub const PFAIL: Self = Self(4);
    /// A majority cannot reach it.
    pub const FAIL: Self = Self(8);
    /// It is the speaker.
    pub const MYSELF: Self = Self(16);
    /// The speaker has not heard its id yet.
    pub const HANDSHAKE: Self = Self(32);
    /// Nobody knows where it is.
    pub const NO_ADDRESS: Self = Self(64);
    /// It gets a MEET instead of a first ping.
    pub const MEET: Self = Self(128);
    /// A master that replicas may migrate to.
    pub const MIGRATE_TO: Self = Self(256);
    /// A replica that will not try to be elected.
    pub const NO_FAILOVER: Self = Self(512);

    /// Whether it has all bits of `flags`.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether it has a bit of `flags`.
    pub const fn has_any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These bits if `condition` holds, otherwise none.
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self(0) }
    }
}

impl BitOr for NodeFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What is special about a packet: the first of three bytes (Redis 7.0 `cluster.h`, CLUSTERMSG_FLAG0_*), and
/// the second above it, which Redis and Valkey leave zero and do not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageFlags(pub u16);

impl MessageFlags {
    /// The sender is a master that has paused its writers for a manual failover.
    pub const PAUSED: Self = Self(1);
    /// A vote is asked for although the master lives.
    pub const FORCE_ACK: Self = Self(2);
    /// The sender knows extensions.
    pub const EXTENSIONS: Self = Self(4);
    /// The sender reads [`Extension::ShardPorts`](super::Extension::ShardPorts), and so is a Corelane. Redis
    /// would skip that extension, but writes a line to its log for every one that it does not know.
    pub const READS_SHARD_PORTS: Self = Self(0x100);

    /// Whether it has all bits of `flags`.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These bits if `condition` holds, otherwise none.
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self(0) }
    }
}

impl BitOr for MessageFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
