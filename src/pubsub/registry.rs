//! The subscriptions of the connections that live on one shard.
//!
//! A subscription that begins or ends while there are other shards is *moving* until all of them have noted
//! it: a shard that has not noted the beginning does not count the subscriber, and one that has not
//! noted the end still does. Who was counted for a message must get it and nobody else, so a moving
//! subscription gets the messages of some shards and not those of others.
//!
//! Promise: subscribers of a channel are found in the order in which they came, any stretch of them at a
//! time, and one of them leaves without a look at the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{ByKind, Counts, Kind, Name, Publication};
use crate::datatypes::glob::glob_match;
use crate::reactor::ConnId;
use crate::shard_map::ShardId;

/// Subscriptions of one connection that begin or end together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MoveId(pub u64);

/// Which way subscriptions move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stay {
    /// They begin.
    Begins,
    /// They end.
    Ends,
}

struct Move {
    stay: Stay,
    /// Which shards have noted it.
    noted: Box<[bool]>,
}

/// One subscriber of a topic. A move that is over is forgotten: then the subscription stays.
struct Subscriber {
    conn: ConnId,
    moving: Option<MoveId>,
}

/// Subscribers in the order in which they came.
type Topic = BTreeMap<u64, Subscriber>;
/// The subscriptions of a connection, each with its number among the subscribers.
type Client = ByKind<HashMap<Name, u64, ahash::RandomState>>;

/// See the module.
#[derive(Default)]
pub struct Registry {
    topics: ByKind<HashMap<Name, Topic, ahash::RandomState>>,
    clients: HashMap<ConnId, Client, ahash::RandomState>,
    moves: HashMap<MoveId, Move, ahash::RandomState>,
    /// Subscriptions so far: the number of the next.
    count: u64,
    last_move: u64,
}

impl Registry {
    /// Whether nobody listens and nothing moves.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.moves.is_empty()
    }

    /// Whether all subscriptions have begun or ended.
    pub fn is_settled(&self) -> bool {
        self.moves.is_empty()
    }

    /// Whether any connection has subscriptions.
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// How many subscriptions `conn` has.
    pub fn counts(&self, conn: ConnId) -> Counts {
        let Some(client) = self.clients.get(&conn) else { return Counts::default() };
        let count = |kind| client[kind].len() as u32;
        Counts {
            channels: count(Kind::Channel),
            patterns: count(Kind::Pattern),
            shard_channels: count(Kind::Shard),
        }
    }

    /// The names that `conn` listens to, in the order of its subscriptions.
    pub fn names(&self, conn: ConnId, kind: Kind) -> Vec<Name> {
        let Some(client) = self.clients.get(&conn) else { return Vec::new() };
        let mut names: Vec<(u64, &Name)> = client[kind].iter().map(|(n, at)| (*at, n)).collect();
        names.sort_unstable_by_key(|(at, _)| *at);
        names.into_iter().map(|(_, name)| Arc::clone(name)).collect()
    }

    // ---- moves ----

    /// A move that every shard for which `noted` is false has yet to note.
    pub fn begin_move(&mut self, stay: Stay, noted: Box<[bool]>) -> MoveId {
        self.last_move += 1;
        let id = MoveId(self.last_move);
        self.moves.insert(id, Move { stay, noted });
        id
    }

    /// `shard` has noted it; true if it was the last one. The move is over then.
    pub fn noted(&mut self, id: MoveId, shard: ShardId) -> bool {
        let Some(moving) = self.moves.get_mut(&id) else {
            debug_assert!(false, "a move lasts until all have noted it");
            return false;
        };
        moving.noted[shard.index()] = true;
        let over = moving.noted.iter().all(|noted| *noted);
        if over {
            self.moves.remove(&id);
        }
        over
    }

    /// Forgets a move in which nothing moves.
    pub fn cancel_move(&mut self, id: MoveId) {
        self.moves.remove(&id);
    }

    // ---- subscriptions ----

    /// `conn` listens to `name` from now on, on the move `id` if others have to note it. `None` if it did
    /// before.
    pub fn add(
        &mut self,
        conn: ConnId,
        kind: Kind,
        name: &[u8],
        moving: Option<MoveId>,
    ) -> Option<Name> {
        let client = &mut self.clients.entry(conn).or_default()[kind];
        if client.contains_key(name) {
            return None;
        }
        let topics = &mut self.topics[kind];
        let name = match topics.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => Name::from(name),
        };
        client.insert(Arc::clone(&name), self.count);
        let topic = topics.entry(Arc::clone(&name)).or_default();
        topic.insert(self.count, Subscriber { conn, moving });
        self.count += 1;
        Some(name)
    }

    /// The subscription of `conn` to `name` ends on the move `id`. `None` if there is none, or none that is
    /// not ending already.
    pub fn leave(&mut self, conn: ConnId, kind: Kind, name: &[u8], id: MoveId) -> Option<Name> {
        let (name, at) = self.clients.get(&conn)?[kind].get_key_value(name)?;
        let subscriber = self.topics[kind].get_mut(name)?.get_mut(at)?;
        (subscriber.moving.replace(id) != Some(id)).then(|| Arc::clone(name))
    }

    /// `conn` does not listen to `name` any more.
    pub fn remove(&mut self, conn: ConnId, kind: Kind, name: &[u8]) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        let at = client[kind].remove(name);
        if Kind::ALL.into_iter().all(|kind| client[kind].is_empty()) {
            self.clients.remove(&conn);
        }
        if let Some(at) = at {
            self.remove_from_topic(kind, name, at);
        }
    }

    fn remove_from_topic(&mut self, kind: Kind, name: &[u8], at: u64) -> Option<Subscriber> {
        let topic = self.topics[kind].get_mut(name)?;
        let subscriber = topic.remove(&at);
        if topic.is_empty() {
            self.topics[kind].remove(name);
        }
        subscriber
    }

    /// `conn` is gone. Returns what it listened to, without that whose end others were told already.
    pub fn forget(&mut self, conn: ConnId) -> Vec<(Kind, Name)> {
        let Some(client) = self.clients.remove(&conn) else { return Vec::new() };
        let mut left = Vec::new();
        for (kind, names) in Kind::ALL.into_iter().zip(client.0) {
            for (name, at) in names {
                let subscriber = self.remove_from_topic(kind, &name, at);
                let moving = subscriber.and_then(|subscriber| subscriber.moving);
                let told = moving.and_then(|id| self.moves.get(&id));
                if told.is_none_or(|moving| moving.stay == Stay::Begins) {
                    left.push((kind, name));
                }
            }
        }
        left
    }

    // ---- messages ----

    /// The number of the next subscription: a message of now is for those below it.
    pub fn now(&self) -> u64 {
        self.count
    }

    /// The topics of this shard that a message is for: its channel, then the patterns that match.
    pub fn topics_of(&self, publication: &Publication) -> Vec<(Kind, Name)> {
        let channel = self.topics[publication.kind].get_key_value(&publication.channel[..]);
        let mut topics: Vec<(Kind, Name)> =
            channel.map(|(name, _)| (publication.kind, Arc::clone(name))).into_iter().collect();
        if publication.kind == Kind::Channel {
            let patterns = self.topics[Kind::Pattern].keys();
            let matching = patterns.filter(|p| glob_match(p, &publication.channel, false));
            topics.extend(matching.map(|pattern| (Kind::Pattern, Arc::clone(pattern))));
        }
        topics
    }

    /// Puts those of the next `most` subscribers of a topic into `receivers` that get a message of shard
    /// `from`. `range` has the numbers of those who are left; what follows them is returned.
    pub fn receivers(
        &self,
        (kind, name): (Kind, &[u8]),
        from: ShardId,
        range: std::ops::Range<u64>,
        most: usize,
        receivers: &mut Vec<ConnId>,
    ) -> Option<u64> {
        let topic = self.topics[kind].get(name)?;
        let mut left = topic.range(range);
        for (_, subscriber) in left.by_ref().take(most) {
            if self.is_counted_by(subscriber, from) {
                receivers.push(subscriber.conn);
            }
        }
        left.next().map(|(at, _)| *at)
    }

    /// Whether `shard` counts this subscriber for its messages.
    fn is_counted_by(&self, subscriber: &Subscriber, shard: ShardId) -> bool {
        let moving = subscriber.moving.and_then(|id| self.moves.get(&id));
        moving.is_none_or(|moving| (moving.stay == Stay::Begins) == moving.noted[shard.index()])
    }

    /// Proves what holds of the registry; panics with the rule that is broken.
    pub fn check(&self, is_connected: impl Fn(ConnId) -> bool) {
        let mut subscriptions = 0;
        for (conn, client) in &self.clients {
            assert!(is_connected(*conn), "only connections listen");
            for kind in Kind::ALL {
                for (name, at) in &client[kind] {
                    let topic = self.topics[kind].get(name).expect("a topic of somebody is known");
                    assert_eq!(topic.get(at).map(|s| s.conn), Some(*conn), "both sides agree");
                    subscriptions += 1;
                }
            }
            assert!(self.counts(*conn).any(), "a client without subscriptions is forgotten");
        }
        let topics = Kind::ALL.into_iter().flat_map(|kind| self.topics[kind].values());
        assert_eq!(topics.map(BTreeMap::len).sum::<usize>(), subscriptions, "both sides agree");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const HERE: ShardId = ShardId(0);
    const THERE: ShardId = ShardId(1);

    fn conn(index: u32) -> ConnId {
        ConnId::from_parts(index, 1)
    }

    fn receivers(registry: &Registry, kind: Kind, name: &str, from: ShardId) -> Vec<usize> {
        let mut found = Vec::new();
        let mut next = Some(0);
        while let Some(at) = next {
            let range = at..registry.now();
            next = registry.receivers((kind, name.as_bytes()), from, range, 2, &mut found);
        }
        found.into_iter().map(ConnId::index).collect()
    }

    proptest! {
        #[test]
        fn subscribers_are_those_of_a_plain_model(
            steps in prop::collection::vec((0_u32..6, 0_usize..3, 0_u8..4, 0_u8..10), 1..80),
        ) {
            let mut registry = Registry::default();
            let mut model: Vec<(u32, Kind, u8)> = Vec::new();
            for (client, kind, name, step) in steps {
                let kind = Kind::ALL[kind];
                let entry = (client, kind, name);
                let is_new = !model.contains(&entry);
                match step {
                    0 => {
                        let left = registry.forget(conn(client));
                        let gone = model.extract_if(.., |(who, ..)| *who == client);
                        let gone: BTreeSet<(Kind, Name)> =
                            gone.map(|(_, kind, name)| (kind, [name].as_slice().into())).collect();
                        prop_assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), gone);
                    }
                    1..5 => {
                        registry.remove(conn(client), kind, &[name]);
                        model.retain(|other| *other != entry);
                    }
                    _ => {
                        let added = registry.add(conn(client), kind, &[name], None);
                        prop_assert_eq!(added.is_some(), is_new);
                        if is_new {
                            model.push(entry);
                        }
                    }
                }
                registry.check(|_| true);
                for kind in Kind::ALL {
                    for name in 0..4_u8 {
                        let mut found = Vec::new();
                        let all = 0..registry.now();
                        registry.receivers((kind, &[name]), HERE, all, 100, &mut found);
                        let found: Vec<usize> = found.into_iter().map(ConnId::index).collect();
                        let expected = model.iter().filter(|(_, k, n)| (*k, *n) == (kind, name));
                        let expected: Vec<usize> = expected.map(|(who, ..)| *who as usize).collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                let mine = |wanted: Kind| model.iter().filter(|(who, kind, _)| (*who, *kind) == (client, wanted)).count();
                let counts = registry.counts(conn(client));
                let shown = [counts.channels, counts.patterns, counts.shard_channels];
                prop_assert_eq!(shown.map(|count| count as usize), Kind::ALL.map(mine));
            }
        }
    }

    #[test]
    fn a_moving_subscriber_gets_the_messages_of_those_who_count_it() {
        let mut registry = Registry::default();
        registry.add(conn(1), Kind::Channel, b"c", None);
        let comes = registry.begin_move(Stay::Begins, [true, false].into());
        registry.add(conn(2), Kind::Channel, b"c", Some(comes));
        assert_eq!(receivers(&registry, Kind::Channel, "c", HERE), [1, 2]);
        assert_eq!(receivers(&registry, Kind::Channel, "c", THERE), [1]);
        assert!(registry.noted(comes, THERE) && registry.is_settled());
        assert_eq!(receivers(&registry, Kind::Channel, "c", THERE), [1, 2]);

        let goes = registry.begin_move(Stay::Ends, [true, false].into());
        assert!(registry.leave(conn(1), Kind::Channel, b"c", goes).is_some());
        assert_eq!(registry.leave(conn(1), Kind::Channel, b"c", goes), None, "it ends already");
        assert_eq!(receivers(&registry, Kind::Channel, "c", HERE), [2]);
        assert_eq!(receivers(&registry, Kind::Channel, "c", THERE), [1, 2]);
        assert_eq!(registry.forget(conn(1)), [], "its end was told already");
        assert!(registry.noted(goes, THERE));
        assert_eq!(receivers(&registry, Kind::Channel, "c", THERE), [2]);
    }

    #[test]
    fn a_message_is_not_for_those_who_come_later() {
        let mut registry = Registry::default();
        registry.add(conn(1), Kind::Channel, b"c", None);
        registry.add(conn(1), Kind::Pattern, b"[ab]*", None);
        registry.add(conn(2), Kind::Pattern, b"?", None);
        let now = registry.now();
        registry.add(conn(3), Kind::Channel, b"c", None);
        let mut found = Vec::new();
        assert_eq!(registry.receivers((Kind::Channel, b"c"), HERE, 0..now, 100, &mut found), None);
        assert_eq!(found, [conn(1)]);
        let publication = |kind, channel: &[u8]| Publication {
            from: HERE,
            kind,
            channel: channel.to_vec(),
            message: Vec::new(),
        };
        for (kind, channel, expected) in [
            (Kind::Channel, "c", vec!["c", "?"]),
            (Kind::Channel, "a", vec!["?", "[ab]*"]),
            (Kind::Channel, "nobody", vec![]),
            (Kind::Shard, "c", vec![]),
        ] {
            let topics = registry.topics_of(&publication(kind, channel.as_bytes()));
            let mut names: Vec<_> = topics.iter().map(|(_, name)| &name[..]).collect();
            // The channel comes first; patterns have no order.
            let first_pattern = names.len().min(usize::from(channel == "c"));
            names[first_pattern..].sort_unstable();
            assert_eq!(
                names,
                expected.iter().map(|n| n.as_bytes()).collect::<Vec<_>>(),
                "{channel}"
            );
        }
    }
}
