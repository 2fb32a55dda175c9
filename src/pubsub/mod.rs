//! Publish/subscribe: who listens to which channel, here and on the other shards.
//!
//! A shard keeps two things. The [`Registry`] has the connections that live here: it says who gets a
//! message. The [`Directory`] has, for every channel and pattern of the process, how many subscribers each
//! shard has: it says how many will get a message and which shards to send it to, so that PUBLISH is
//! answered at once, wherever it runs, and a message crosses only the lanes that lead to somebody.
//! A change of the registry is told to all other directories.
//!
//! Promise: nothing here knows a session, a socket or a lane, and nothing waits. A message reaches exactly
//! those who were counted for it, connections that end meanwhile aside.

mod directory;
mod events;
mod registry;

use std::sync::Arc;

pub use directory::{Directory, Outgoing};
pub use registry::{MoveId, Registry, Stay};

use crate::shard_map::ShardId;

/// The name of a channel or a pattern, shared by everything on a shard that knows it.
pub type Name = Arc<[u8]>;

/// The three kinds of subscriptions. They have nothing to do with each other, whatever their names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A channel (SUBSCRIBE).
    Channel,
    /// A pattern that channels match (PSUBSCRIBE).
    Pattern,
    /// A shard channel (SSUBSCRIBE).
    Shard,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// The word with which a subscription of this kind is confirmed.
    pub const fn subscribed(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
            Self::Shard => "ssubscribe",
        }
    }

    /// The word with which its end is confirmed.
    pub const fn unsubscribed(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
            Self::Shard => "sunsubscribe",
        }
    }
}

/// One thing of each kind.
#[derive(Clone, Copy, Default, Debug)]
struct ByKind<T>([T; 3]);

impl<T> std::ops::Index<Kind> for ByKind<T> {
    type Output = T;
    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> std::ops::IndexMut<Kind> for ByKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

/// How many subscriptions one connection has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// `sub=` of CLIENT LIST.
    pub channels: u32,
    /// `psub=`.
    pub patterns: u32,
    /// `ssub=`.
    pub shard_channels: u32,
}

impl Counts {
    /// Whether the connection is a subscriber.
    #[inline]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// The number in a confirmation of this kind: channels and patterns are counted together.
    pub fn confirmed(self, kind: Kind) -> u32 {
        match kind {
            Kind::Channel | Kind::Pattern => self.channels + self.patterns,
            Kind::Shard => self.shard_channels,
        }
    }
}

/// A message on its way to the subscribers of a channel.
#[derive(PartialEq, Eq, Debug)]
pub struct Publication {
    /// On which shard it was published.
    pub from: ShardId,
    /// [`Kind::Channel`] or [`Kind::Shard`].
    pub kind: Kind,
    /// The channel.
    pub channel: Vec<u8>,
    /// What is said.
    pub message: Vec<u8>,
}

/// One subscriber more or less on some shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Of what.
    pub kind: Kind,
    /// Of which.
    pub name: Name,
    /// More or less.
    pub joined: bool,
}
