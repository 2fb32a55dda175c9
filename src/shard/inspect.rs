//! Looking at a shard from outside: whether it is at rest, and whether it keeps its promises.
//!
//! For simulations and debugging; nothing here runs in normal service.

use super::{Shard, crossing};
use crate::session::Hold;

impl Shard {
    /// Whether nothing is under way: nobody holds a key or waits for one, no operation or transaction
    /// is at work, no connection is owed a reply, and the lanes from and to this shard are empty.
    pub fn is_quiet(&self) -> bool {
        self.engine.locks.is_idle()
            && self.waiting.is_empty()
            && self.operations.is_empty()
            && self.transactions.is_empty()
            && self.lent.is_empty()
            && self.granted.is_empty()
            && self.awaited.is_empty()
            && self.registry.is_settled()
            && self.incoming.is_empty()
            && !self.engine.pubsub.has_outgoing()
            && self.runs.is_empty()
            && self.scripts.is_idle()
            && !self.engine.journal.has_parcel()
            && self.outbox.is_empty()
            && self.crossings.iter().all(crossing::Crossing::is_idle)
            && self.is_room_settled()
            && self.resumable.is_empty()
            && self.sessions.iter().all(|(_, session)| match session.hold {
                Hold::None => session.replies.is_clear(),
                // Waiting for a key is rest, too, unless its number is in some line.
                Hold::Blocked => true,
                Hold::Drain
                | Hold::Operation
                | Hold::FullLane
                | Hold::FullLink
                | Hold::Room
                | Hold::Paused
                | Hold::Output
                | Hold::Disk => false,
            })
            && !self.ports.has_incoming()
            && !self.ports.is_congested()
    }

    /// Whether nobody watches keys of this shard, waits for some, or is answered by it when there are some.
    pub fn has_no_followers(&self) -> bool {
        self.watches.is_empty()
            && self.waits.is_empty()
            && self.blocked.is_empty()
            && self.deadlines.is_empty()
            && !self.engine.changes.listening
            && self.engine.stats.snapshot(&self.engine.keyspace, false).counters.blocked_clients
                == 0
    }

    /// Number of connections that live here.
    pub fn connection_count(&self) -> usize {
        self.sessions.len()
    }

    /// Whether, as far as this shard knows, nobody listens to anything on any shard.
    pub fn knows_no_subscriber(&self) -> bool {
        self.engine.pubsub.is_empty() && self.registry.is_empty()
    }

    /// Proves what this shard promises; panics with the rule that is broken. Walks every key. Between
    /// turns the keys of other shards are always on their way home, so every key here is its own.
    pub fn check(&self) {
        for database in self.engine.keyspace.databases() {
            database.check();
            for entry in database.iter() {
                let owner = self.engine.shards.owner(crate::slot::slot_of(entry.key()));
                assert_eq!(owner, self.id(), "a key is on the shard that owns its slot");
            }
        }
        self.registry.check(|conn| self.sessions.get(conn).is_some());
        let counted =
            self.engine.stats.snapshot(&self.engine.keyspace, false).counters.connected_clients;
        assert_eq!(counted, self.sessions.len() as u64, "every connection is counted");
    }
}
