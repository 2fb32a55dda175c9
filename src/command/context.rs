//! What a command's handler works with.
//!
//! A handler is `fn(&mut Ctx<'_>, &Request<'_>, &mut Reply<'_>) -> CommandResult`. It runs to
//! completion on the shard that holds its keys; all keys that the command table finds in its
//! arguments are there, on this shard, whichever shards they live on otherwise (the transaction layer
//! sees to it). It never waits, and it knows neither socket nor session.
//!
//! How to write one:
//! - `let db = &mut ctx.keyspace[ctx.db];` borrows only the keyspace, so `ctx.config` stays free.
//! - Read with `db.read_str / read_as::<Hash> / read_entry` (counts a hit or miss); look at several
//!   keys at once with `peek_as` after `expire_if_due` on each; change with `get_mut::<Set>`,
//!   `get_or_insert`, `str_mut`, `set_str`, `set`, `insert`, `remove`, `set_expiry`, `take`.
//!   `?` turns a wrong type into `WRONGTYPE`.
//! - A collection that gets empty is removed by the handler.
//! - After a change, `ctx.changed(&key, Event…)`: where Redis calls `signalModifiedKey` and
//!   `notifyKeyspaceEvent`; a second event of the same change (`del` after the last `hdel`) goes
//!   through `ctx.notify`. No change, no call.
//!   What a look-up or an insertion does by itself (a key has expired, is missing, is new) is noted by the
//!   keyspace, and its event is published before that of the next call.
//! - The effect of a command (what replicas and append-only files get) is its own words, if it has counted a
//!   change. A handler whose words depend on the time, on chance or on the state says what it did by
//!   [`Ctx::instead`], once for each effect, or [`Ctx::no_effect`]; it asks `ctx.journal.is_on()` before it goes
//!   to any expense for that.
//! - Write the reply, or return an error; never both (a partial reply is taken back).

use std::collections::HashSet;

use super::error::{CommandError, CommandResult};
use crate::admin::stats::ShardStats;
use crate::config::Config;
use crate::config::values::KeyspaceEvents;
use crate::journal::Recorder;
use crate::keyspace::{DbKey, Key, Keyspace, Note};
use crate::process::Process;
use crate::pubsub::Directory;
use crate::shard_map::{ShardId, ShardMap};
use crate::transaction::{KeyLock, LockTable};

/// Event classes of keyspace notifications (`notify-keyspace-events`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the classes, by their names in redis.conf
pub enum Class {
    Generic,
    String,
    List,
    Set,
    Hash,
    ZSet,
    Stream,
    Expired,
    Evicted,
    New,
    Miss,
}

impl Class {
    /// As `notify-keyspace-events` names it.
    const fn flag(self) -> KeyspaceEvents {
        match self {
            Class::Generic => KeyspaceEvents::GENERIC,
            Class::String => KeyspaceEvents::STRING,
            Class::List => KeyspaceEvents::LIST,
            Class::Set => KeyspaceEvents::SET,
            Class::Hash => KeyspaceEvents::HASH,
            Class::ZSet => KeyspaceEvents::ZSET,
            Class::Stream => KeyspaceEvents::STREAM,
            Class::Expired => KeyspaceEvents::EXPIRED,
            Class::Evicted => KeyspaceEvents::EVICTED,
            Class::New => KeyspaceEvents::NEW,
            Class::Miss => KeyspaceEvents::KEY_MISS,
        }
    }
}

/// What the handlers have changed: counted always, told apart only if somebody wants to know.
#[derive(Default, Debug)]
pub struct Changes {
    /// Changed keys, as INFO's `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    /// Somebody watches keys or waits for some: those that change are noted.
    pub listening: bool,
    keys: Vec<DbKey>,
    databases: Vec<usize>,
}

impl Changes {
    /// Notes that a key was changed.
    #[cold]
    pub fn note_key(&mut self, db: usize, key: &[u8]) {
        if self.keys.last().is_none_or(|(last_db, last)| *last_db != db || last != key) {
            self.keys.push((db, key.to_vec()));
        }
    }

    /// Notes that a whole database was emptied or exchanged.
    pub fn note_database(&mut self, db: usize) {
        if self.listening {
            self.databases.push(db);
        }
    }

    /// Whether nothing was noted since the last [`Changes::take`].
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.keys.is_empty() && self.databases.is_empty()
    }

    /// The keys and the databases that were noted.
    pub fn take(&mut self) -> (Vec<DbKey>, Vec<usize>) {
        (std::mem::take(&mut self.keys), std::mem::take(&mut self.databases))
    }
}

/// How far the job at work may reach beyond the keys that its commands name.
#[derive(Default, Debug)]
pub struct Reach {
    /// It holds everything on this shard.
    pub whole: bool,
    /// Further keys that it holds or that are on loan to it.
    pub keys: HashSet<DbKey>,
    /// Keys that it asked for in vain.
    pub missing: Vec<DbKey>,
}

/// What a handler works with; see the module.
pub struct Ctx<'a> {
    /// All databases of this shard.
    pub keyspace: &'a mut Keyspace,
    /// The database that the client selected.
    pub db: usize,
    /// The settings, fixed for the turn.
    pub config: &'a Config,
    /// Which shard this is.
    pub shard: ShardId,
    /// Which shard owns which slots.
    pub shards: ShardMap,
    /// What this command has changed.
    pub changes: &'a mut Changes,
    /// Who listens to what, on all shards; what is published is sent when the command has run.
    pub pubsub: &'a mut Directory,
    /// Which keys it may touch.
    pub reach: &'a mut Reach,
    /// Which keys of this shard others hold.
    pub locks: &'a LockTable,
    /// Records effects; see [`Ctx::instead`].
    pub journal: &'a mut Recorder,
    /// What this shard counts about itself, its slow log and its latency spikes.
    pub stats: &'a mut ShardStats,
    /// What all cores share: start time, port, switches.
    pub process: &'a Process,
}

impl Ctx<'_> {
    /// Notes that `key` of the selected database was changed by the event `event`.
    pub fn changed(&mut self, key: &Key<'_>, class: Class, event: &'static str) {
        self.changed_in(self.db, key, class, event);
    }

    /// As [`Ctx::changed`], where that is no event.
    pub fn changed_silently(&mut self, key: &Key<'_>) {
        self.note_change(self.db, key);
    }

    fn note_change(&mut self, db: usize, key: &Key<'_>) {
        self.changes.dirty += 1;
        if self.changes.listening {
            self.changes.note_key(db, key.bytes);
        }
    }

    /// As [`Ctx::changed`], in another database (MOVE, COPY … DB).
    pub fn changed_in(&mut self, db: usize, key: &Key<'_>, class: Class, event: &'static str) {
        self.note_change(db, key);
        self.notify_in(db, key, class, event);
    }

    /// A further event of a change that was noted already.
    pub fn notify(&mut self, key: &Key<'_>, class: Class, event: &'static str) {
        self.notify_in(self.db, key, class, event);
    }

    /// Records an effect of this command in the selected database in place of its own words. To be called when nothing can
    /// fail any more; for each effect, if there are several.
    pub fn instead(&mut self, words: &[&[u8]]) {
        self.instead_in(self.db, words);
    }

    /// As [`Ctx::instead`], in another database.
    pub fn instead_in(&mut self, db: usize, words: &[&[u8]]) {
        if self.journal.is_on() {
            // What the keyspace has noted happened before.
            self.publish_notes(self.db);
        }
        self.journal.instead(db, words);
    }

    /// This command has no effect, though it may have counted changes.
    pub fn no_effect(&mut self) {
        self.journal.nothing();
    }

    fn notify_in(&mut self, db: usize, key: &Key<'_>, class: Class, event: &'static str) {
        if self.config.notify_keyspace_events != KeyspaceEvents::NONE {
            // What the keyspace has noted happened before.
            self.publish_notes(db);
            self.publish_event(db, key.bytes, class, event);
        }
    }

    #[cold]
    fn publish_event(&mut self, db: usize, key: &[u8], class: Class, event: &str) {
        let wanted = self.config.notify_keyspace_events;
        if wanted.contains(class.flag()) {
            self.pubsub.publish_event(wanted, db, key, event);
        }
    }

    /// Publishes what the keyspace has noted of database `db` itself.
    pub fn publish_notes(&mut self, db: usize) {
        for (note, key) in self.keyspace.take_notes(db) {
            let (class, event) = match note {
                Note::Expired => {
                    self.journal.beside(db, &[removal(self.config.lazyfree_lazy_expire), &key]);
                    (Class::Expired, "expired")
                }
                Note::Missed => (Class::Miss, "keymiss"),
                Note::Created => (Class::New, "new"),
            };
            self.publish_event(db, &key, class, event);
        }
    }

    /// To be asked before a command touches a key that its arguments do not name, and before it changes
    /// anything. Where the answer is an error, hand it on: the command is run again as soon as it has
    /// the key. Each time costs a round trip, so ask for all keys that you know of before you return, and take
    /// back what you have read with [`crate::keyspace::Database::forget_reads`].
    pub fn reach(&mut self, db: usize, key: &Key<'_>) -> CommandResult {
        let here = self.shards.owner(key.slot) == self.shard;
        let lock = KeyLock { hash: key.hash };
        let free = self.reach.whole || self.locks.is_idle() || !self.locks.is_wanted(lock);
        if here && free {
            return Ok(());
        }
        let wanted = (db, key.bytes.to_vec());
        if self.reach.keys.contains(&wanted) {
            return Ok(());
        }
        self.reach.missing.push(wanted);
        Err(CommandError::OutOfReach)
    }

    /// Unix time in ms, the same for all commands of a turn.
    pub fn now_ms(&self) -> i64 {
        self.keyspace.now_ms()
    }

    /// Whether a key that gets this expiry, in unix ms, is deleted instead. What comes from a master or a file says so
    /// itself when the time has come: until then such a key is there (Redis 7.0 `expire.c`, checkAlreadyExpired).
    pub fn ends_key(&self, expiry: i64) -> bool {
        expiry <= self.now_ms() && !self.keyspace.keeps_expired()
    }
}

/// How the removal of a key that nobody asked for is recorded (Redis 7.0 `db.c`, propagateDeletion).
pub fn removal(lazily: bool) -> &'static [u8] {
    if lazily { b"UNLINK" } else { b"DEL" }
}
