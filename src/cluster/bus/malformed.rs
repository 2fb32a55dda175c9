//! Why bytes are no packet.

use std::fmt;

/// Why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It does not begin as packets do.
    Signature,
    /// The length that it claims cannot be.
    FrameLength(u32),
    /// It has another length than it claims, or than its content needs.
    Length,
    /// It is of another version of the format.
    Version(u16),
    /// Its type is not known here: of a newer version, perhaps.
    UnknownKind(u16),
    /// An id has characters that ids do not have.
    NodeId,
    /// An address has characters that addresses do not have.
    Address,
    /// An extension has a length that it cannot have.
    Extension,
}

impl Malformed {
    /// Whether the link is of no use any more. A packet of an unknown type alone is skipped, so that newer
    /// versions can talk among themselves.
    pub const fn ends_link(self) -> bool {
        !matches!(self, Self::UnknownKind(_))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("no signature of a cluster bus packet"),
            Self::FrameLength(length) => write!(f, "a packet cannot have {length} bytes"),
            Self::Length => f.write_str("a packet has another length than its content needs"),
            Self::Version(version) => write!(f, "unknown version {version} of the cluster bus"),
            Self::UnknownKind(kind) => write!(f, "unknown packet type {kind}"),
            Self::NodeId => f.write_str("invalid node id in a packet"),
            Self::Address => f.write_str("invalid address in a packet"),
            Self::Extension => f.write_str("invalid extension in a packet"),
        }
    }
}

impl std::error::Error for Malformed {}
