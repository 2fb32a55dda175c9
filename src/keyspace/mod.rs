//! The keys of one shard, in their databases.
//!
//! For each database and slot a small hash table of its own ([`slot_table`]): growth moves a few dozen
//! keys at a time (one table of 10 M keys stalled for 1.0 s), and a slot changes owner by handing over one
//! pointer. An entry is one allocation ([`entry`]). What takes long (expiry, freeing) is a
//! slice that the shard calls between turns.
//!
//! Promise: nothing here knows a client, a socket or another shard; time comes in by
//! [`Keyspace::set_now`] and stands still in between.

pub mod access;
pub mod budget;
pub mod database;
pub mod entry;
pub mod expiry;
mod garbage;
pub mod key;
mod lines;
mod load;
mod notes;
pub mod slot_index;
pub mod slot_table;
pub mod snapshot;
mod staged;
pub mod value;

pub use access::AccessClock;
pub use budget::Budget;
pub use database::{Database, DatabaseStats, Expired, NewExpiry, ScanCursor, Soonest, WrongType};
pub use entry::{Entry, Kind};
pub use key::{DbKey, Key};
pub use load::Loaded;
pub use notes::{Note, NotesWanted};
pub use value::{Collection, StrRef, TypeName, Value, ValueMut, ValueRef};

use std::cell::Cell;
use std::ops::{Index, IndexMut};
use std::rc::Rc;

/// What DEBUG has switched, for tests; nothing in normal service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Expired keys are removed also when nobody looks at them.
    pub active_expiry: bool,
    /// New lists keep elements of this many bytes and more outside listpacks.
    pub list_plain_bytes_min: Option<u32>,
}

impl Default for Switches {
    fn default() -> Self {
        Self { active_expiry: true, list_plain_bytes_min: None }
    }
}

/// The databases of one shard.
pub struct Keyspace {
    /// See [`Switches`].
    pub switches: Switches,
    databases: Vec<Database>,
    expired: Rc<Cell<Expired>>,
    now_ms: i64,
    random: u64,
    /// The database whose slice comes first.
    first_slice: usize,
    /// Bit n: database n may have something to expire or to free. Set whenever a database is handed out to
    /// change, so that a turn looks only at those in use; the last bit stands for all from 63 on.
    in_use: u64,
    /// A snapshot is under way.
    saving: bool,
    noted: notes::Noted,
}

impl Keyspace {
    /// `databases` empty databases; `now_ms` is unix time, `seed` for everything drawn at random.
    pub fn new(databases: usize, now_ms: i64, seed: u64) -> Self {
        let mut access = AccessClock::new(seed);
        access.set_now(now_ms);
        let (expired, noted) = (Rc::new(Cell::new(Expired::Gone)), notes::Noted::default());
        let database =
            |_| Database::new(now_ms, access.clone(), Rc::clone(&expired), noted.clone());
        let databases = (0..databases).map(database).collect();
        Self {
            switches: Switches::default(),
            databases,
            expired,
            now_ms,
            random: seed | 1,
            first_slice: 0,
            in_use: 0,
            saving: false,
            noted,
        }
    }

    /// Number of databases.
    pub fn database_count(&self) -> usize {
        self.databases.len()
    }

    /// The databases in order.
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// The databases in order, to change.
    pub fn databases_mut(&mut self) -> &mut [Database] {
        self.in_use = u64::MAX;
        &mut self.databases
    }

    /// The time of this turn, unix ms.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Starts a turn: the time stands still until the next call.
    pub fn set_now(&mut self, now_ms: i64) {
        if now_ms == self.now_ms {
            return;
        }
        self.now_ms = now_ms;
        for database in &mut self.databases {
            database.set_now(now_ms);
        }
    }

    /// What keys are from now on whose time has come.
    pub fn set_expired(&self, expired: Expired) {
        self.expired.set(expired);
    }

    /// What keys are whose time has come.
    pub fn expired(&self) -> Expired {
        self.expired.get()
    }

    /// Whether keys stay although their time has come.
    pub fn keeps_expired(&self) -> bool {
        self.expired.get() != Expired::Gone
    }

    /// How accesses are noted, from `maxmemory-policy`, `lfu-log-factor` and `lfu-decay-time`.
    pub fn set_access_policy(&mut self, lfu: bool, log_factor: u32, decay_minutes: u32) {
        for database in &mut self.databases {
            database.access.lfu = lfu;
            database.access.lfu_log_factor = log_factor;
            database.access.lfu_decay_minutes = decay_minutes;
        }
    }

    /// Which notes the databases keep from now on.
    pub fn set_notes_wanted(&mut self, wanted: NotesWanted) {
        for database in &mut self.databases {
            database.notes.wanted = wanted;
        }
    }

    /// Whether some database may have noted something since the last call.
    #[inline]
    pub fn take_noted(&mut self) -> bool {
        self.noted.take()
    }

    /// What database `db` has noted since the last call, in order.
    pub fn take_notes(&mut self, db: usize) -> Vec<(Note, Box<[u8]>)> {
        let Some(database) = self.databases.get_mut(db) else { return Vec::new() };
        if database.notes.is_empty() { Vec::new() } else { database.notes.take() }
    }

    /// The access clock, for OBJECT IDLETIME and FREQ and for eviction.
    pub fn access(&self) -> &AccessClock {
        &self.databases[0].access
    }

    /// Exchanges the contents of two databases (SWAPDB).
    pub fn swap(&mut self, a: usize, b: usize) {
        self.in_use |= in_use_bit(a) | in_use_bit(b);
        self.databases.swap(a, b);
    }

    /// A uniform 64-bit number (xorshift64*; not for secrets).
    pub fn draw(&mut self) -> u64 {
        let mut x = self.random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Removes keys whose time has come; true if more are due.
    pub fn expire_slice(&mut self, budget: &mut Budget) -> bool {
        if !self.switches.active_expiry || self.keeps_expired() {
            return false;
        }
        self.each_in_use(|database| database.expire_slice(budget))
    }

    /// Frees deleted values; true if more is left.
    pub fn free_slice(&mut self, budget: &mut Budget) -> bool {
        self.each_in_use(|database| database.free_slice(budget))
    }

    /// Whether [`Keyspace::free_slice`] or [`Keyspace::expire_slice`] would have something to do.
    #[inline]
    pub fn has_slices(&mut self) -> bool {
        let mut any = false;
        let mut left = self.in_use;
        while left != 0 {
            let number = left.trailing_zeros() as usize;
            left &= left - 1;
            let last = if number == IN_USE_BITS - 1 { usize::MAX } else { number + 1 };
            let databases = self.databases.get(number..last.min(self.databases.len()));
            let databases = databases.unwrap_or_default();
            any |= databases.iter().any(Database::has_slices);
            if databases.iter().all(Database::is_settled) {
                self.in_use &= !(1 << number);
            }
        }
        any
    }

    /// When the next key may expire, unix ms.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.databases_in_use().filter_map(Database::next_expiry_ms).min()
    }

    fn databases_in_use(&self) -> impl Iterator<Item = &Database> {
        let numbered = self.databases.iter().enumerate();
        numbered.filter(|(number, _)| self.in_use & in_use_bit(*number) != 0).map(|(_, db)| db)
    }

    /// Has every database in use do its slice, beginning with another one each time, so that one that
    /// always has more to do does not use up the time of the others. True if any has more.
    fn each_in_use(&mut self, mut slice: impl FnMut(&mut Database) -> bool) -> bool {
        let count = self.databases.len();
        self.first_slice = (self.first_slice + 1) % count;
        let mut more = false;
        for number in (self.first_slice..count).chain(0..self.first_slice) {
            if self.in_use & in_use_bit(number) != 0 {
                more |= slice(&mut self.databases[number]);
            }
        }
        more
    }
}

const IN_USE_BITS: usize = u64::BITS as usize;

#[inline]
fn in_use_bit(database: usize) -> u64 {
    1 << database.min(IN_USE_BITS - 1)
}

impl Index<usize> for Keyspace {
    type Output = Database;

    #[inline]
    fn index(&self, database: usize) -> &Database {
        &self.databases[database]
    }
}

impl IndexMut<usize> for Keyspace {
    #[inline]
    fn index_mut(&mut self, database: usize) -> &mut Database {
        self.in_use |= in_use_bit(database);
        &mut self.databases[database]
    }
}
