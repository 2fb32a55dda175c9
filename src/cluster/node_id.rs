//! The name of a node: 40 characters that it keeps for life.
//!
//! Ids travel in every packet and stand in nodes.conf, so a value of this type is always printable.

use std::fmt;

/// Characters of a node id (Redis 7.0 `cluster.h`, CLUSTER_NAMELEN).
pub const NODE_ID_BYTES: usize = 40;

/// A node's id: 40 characters of `[a-z0-9]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; NODE_ID_BYTES]);

impl NodeId {
    /// The id with these characters, if they are characters of an id.
    pub fn new(bytes: [u8; NODE_ID_BYTES]) -> Option<Self> {
        let valid = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.iter().all(valid).then_some(Self(bytes))
    }

    /// The id that a client or a file spells out.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::new(text.try_into().ok()?)
    }

    /// The id that these 160 random bits spell in hexadecimal.
    pub fn from_bits(bits: [u8; NODE_ID_BYTES / 2]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0; NODE_ID_BYTES];
        for (pair, byte) in id.chunks_exact_mut(2).zip(bits) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(id)
    }

    /// Its characters.
    pub fn as_bytes(&self) -> &[u8; NODE_ID_BYTES] {
        &self.0
    }

    /// Its characters as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("ids are ASCII, the constructors see to it")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
