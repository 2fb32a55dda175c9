//! How many subscribers each shard has, for every channel and pattern.
//!
//! Every shard has a directory of the whole process, its own subscribers included. Handlers publish into
//! it: the count is the reply, and what goes out waits in [`Directory::take_outgoing`] until the shard sends it.
//!
//! Promise: a name is known as long as somebody listens to it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ByKind, Change, Kind, Name, Publication};
use crate::datatypes::glob::glob_match;
use crate::shard_map::{ShardId, ShardMap};

/// Subscribers of one channel or pattern, by shard.
type ByShard = Box<[u32]>;
type Topics = HashMap<Name, ByShard, ahash::RandomState>;

/// A message, and the shards that have receivers.
#[derive(Debug)]
pub struct Outgoing {
    /// What is said.
    pub publication: Arc<Publication>,
    /// Where it goes, in the order of the shards.
    pub to: Vec<ShardId>,
    /// Whether the other nodes of the cluster are to have it, too.
    pub is_for_bus: bool,
}

/// See the module.
pub struct Directory {
    me: ShardId,
    shards: ShardMap,
    topics: ByKind<Topics>,
    outgoing: Vec<Outgoing>,
    /// Receivers of the message at hand, by shard; kept for its allocation.
    receivers: Vec<u32>,
    /// The channel of the event at hand; kept for its allocation.
    pub(super) event_channel: Vec<u8>,
}

impl Directory {
    /// The directory of shard `me`, with nobody in it.
    pub fn new(me: ShardId, shards: ShardMap) -> Self {
        Self {
            me,
            shards,
            topics: ByKind::default(),
            outgoing: Vec::new(),
            receivers: Vec::new(),
            event_channel: Vec::new(),
        }
    }

    /// Shard `shard` has one subscriber more or less.
    pub fn note(&mut self, shard: ShardId, change: &Change) {
        let topics = &mut self.topics[change.kind];
        if change.joined {
            let shards = self.shards.len();
            let counts = topics.entry(Arc::clone(&change.name));
            counts.or_insert_with(|| vec![0; shards].into())[shard.index()] += 1;
            return;
        }
        let Some(counts) = topics.get_mut(&change.name) else {
            debug_assert!(false, "who leaves has joined");
            return;
        };
        debug_assert!(counts[shard.index()] > 0, "who leaves has joined");
        counts[shard.index()] = counts[shard.index()].saturating_sub(1);
        if counts.iter().all(|count| *count == 0) {
            topics.remove(&change.name);
        }
    }

    /// Publishes `message`; returns how many times it will be received. `kind` is that of the channel.
    pub fn publish(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> u64 {
        self.publish_to(kind, channel, message, false)
    }

    /// The same, and on the other nodes of the cluster, whose receivers are not counted.
    pub fn publish_to_cluster(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> u64 {
        self.publish_to(kind, channel, message, true)
    }

    fn publish_to(&mut self, kind: Kind, channel: &[u8], message: &[u8], is_for_bus: bool) -> u64 {
        self.receivers.clear();
        self.receivers.resize(self.shards.len(), 0);
        if let Some(counts) = self.topics[kind].get(channel) {
            add(&mut self.receivers, counts);
        }
        if kind == Kind::Channel {
            for (pattern, counts) in &self.topics[Kind::Pattern] {
                if glob_match(pattern, channel, false) {
                    add(&mut self.receivers, counts);
                }
            }
        }
        let count = self.receivers.iter().map(|count| u64::from(*count)).sum();
        if count > 0 || is_for_bus {
            let (channel, message) = (channel.to_vec(), message.to_vec());
            let publication = Publication { from: self.me, kind, channel, message };
            let to = self.shards.iter().filter(|shard| self.receivers[shard.index()] > 0);
            let to = to.collect();
            self.outgoing.push(Outgoing { publication: Arc::new(publication), to, is_for_bus });
        }
        count
    }

    /// Whether anything that was published waits to be sent.
    #[inline]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What was published since the last call, in order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// What was taken goes out after all, before what came since.
    pub fn put_back(&mut self, mut earlier: Vec<Outgoing>) {
        earlier.append(&mut self.outgoing);
        self.outgoing = earlier;
    }

    /// Whether a message to some channel could have a receiver.
    pub(super) fn has_listeners(&self) -> bool {
        !self.topics[Kind::Channel].is_empty() || !self.topics[Kind::Pattern].is_empty()
    }

    /// How many names of this kind somebody listens to.
    pub fn len(&self, kind: Kind) -> usize {
        self.topics[kind].len()
    }

    /// Whether nobody listens to anything.
    pub fn is_empty(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| self.topics[kind].is_empty())
    }

    /// The names of this kind that somebody listens to.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        self.topics[kind].keys()
    }

    /// How many listen to this name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> u64 {
        let counts = self.topics[kind].get(name);
        counts.map_or(0, |counts| counts.iter().map(|count| u64::from(*count)).sum())
    }
}

fn add(sum: &mut [u32], counts: &[u32]) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Kind, name: &str, joined: bool) -> Change {
        Change { kind, name: name.as_bytes().into(), joined }
    }

    fn directory() -> Directory {
        let mut directory = Directory::new(ShardId(1), ShardMap::new(3).unwrap());
        for (shard, kind, name) in [
            (0, Kind::Channel, "news"),
            (2, Kind::Channel, "news"),
            (2, Kind::Pattern, "n*"),
            (2, Kind::Pattern, "x*"),
            (1, Kind::Shard, "news"),
        ] {
            directory.note(ShardId(shard), &change(kind, name, true));
        }
        directory
    }

    #[test]
    fn a_message_goes_to_the_shards_with_receivers_and_is_counted() {
        for (kind, channel, count, to) in [
            (Kind::Channel, "news", 3, vec![ShardId(0), ShardId(2)]),
            (Kind::Channel, "nobody", 1, vec![ShardId(2)]),
            (Kind::Shard, "news", 1, vec![ShardId(1)]),
            (Kind::Shard, "nobody", 0, vec![]),
            (Kind::Channel, "silence", 0, vec![]),
        ] {
            let mut directory = directory();
            assert_eq!(directory.publish(kind, channel.as_bytes(), b"m"), count, "{channel}");
            let outgoing = directory.take_outgoing();
            let sent: Vec<ShardId> = outgoing.iter().flat_map(|out| out.to.clone()).collect();
            assert_eq!(sent, to, "{channel}");
            assert!(!directory.has_outgoing());
            assert!(outgoing.iter().all(|out| out.publication.from == ShardId(1)));
        }
    }

    #[test]
    fn a_name_is_known_while_somebody_listens() {
        let mut directory = directory();
        assert_eq!(directory.subscribers(Kind::Channel, b"news"), 2);
        assert_eq!((directory.len(Kind::Channel), directory.len(Kind::Pattern)), (1, 2));
        directory.note(ShardId(0), &change(Kind::Channel, "news", false));
        assert_eq!(directory.subscribers(Kind::Channel, b"news"), 1);
        directory.note(ShardId(2), &change(Kind::Channel, "news", false));
        assert_eq!(directory.names(Kind::Channel).count(), 0);
        assert!(!directory.is_empty());
        for (shard, kind, name) in
            [(2, Kind::Pattern, "n*"), (2, Kind::Pattern, "x*"), (1, Kind::Shard, "news")]
        {
            directory.note(ShardId(shard), &change(kind, name, false));
        }
        assert!(directory.is_empty());
    }
}
