//! One database of one shard: its slots, which of them hold keys, and when keys expire.
//!
//! Promise: a key is in the table of `slot_of(key)` and in no other; `len`, `expiring` and the slot
//! index agree with the tables (`check` proves it in tests); a key whose expiry has passed is never
//! handed out.

use std::cell::Cell;
use std::rc::Rc;

use super::access::AccessClock;
use super::budget::{Budget, ELEMENTS_PER_LOOK};
use super::entry::Entry;
use super::expiry::{ExpiryWheel, Popped};
use super::garbage::Garbage;
use super::key::{Key, hash_of};
use super::notes::{Noted, Notes};
use super::slot_index::SlotIndex;
use super::slot_table::{Location, SCAN_HASH_SHIFT, SlotTable};
use super::snapshot::Saving;
use super::staged::Staged;
use super::value::{Collection, StrRef, Value, ValueMut, ValueRef};
use crate::datatypes::number::parse_i64;
use crate::slot::{SLOT_COUNT, Slot};

/// When the expiry of a staged key is looked at again, in milliseconds: it may be this node's by then.
const STAGED_MS: i64 = 1000;

/// The key holds another type of value than the command works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongType;

/// What happened in a database, summed up for INFO.
#[derive(Clone, Copy, Default, Debug)]
pub struct DatabaseStats {
    /// Look-ups for reading that found the key.
    pub hits: u64,
    /// Look-ups for reading that did not.
    pub misses: u64,
    /// Keys removed because their time had come.
    pub expired: u64,
}

/// What reads have left behind up to a point in time, see [`Database::forget_reads`].
#[derive(Clone, Copy, Debug)]
pub struct ReadMark {
    hits: u64,
    misses: u64,
    notes: usize,
}

/// What a write does to the expiry of a key that it overwrites.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewExpiry {
    /// The key lives for ever (SET).
    None,
    /// The key keeps the expiry that it has (SET … KEEPTTL).
    Keep,
    /// The key expires at this unix time, ms.
    At(i64),
}

/// What [`Database::soonest`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Soonest {
    /// This key, which expires at this unix time, ms.
    Key(i64, Vec<u8>),
    /// None yet: there were traces of keys that are gone, and there are others behind them.
    Later,
    /// No key has an expiry.
    Nothing,
}

/// What a key is whose time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expired {
    /// Gone: whoever meets it removes it.
    #[default]
    Gone,
    /// Not to be seen, but it stays until the master says that it is gone.
    Hidden,
    /// There: what is loaded, or comes from a master, decides what there is.
    Kept,
}

/// The keys of one database on one shard.
pub struct Database {
    pub(super) slots: Box<[SlotTable]>,
    pub(super) index: SlotIndex,
    len: usize,
    expiring: usize,
    wheel: ExpiryWheel,
    /// How the access clock of an entry is kept; a copy of the keyspace's.
    pub(super) access: AccessClock,
    /// Unix time, ms; the same for a whole turn.
    pub(super) now_ms: i64,
    /// What keys are whose time has come; shared with the other databases.
    pub(super) expired: Rc<Cell<Expired>>,
    stats: DatabaseStats,
    /// What handlers do not see.
    pub(super) notes: Notes,
    /// Big values on their way out.
    pub(super) garbage: Garbage,
    /// The snapshot under way, if there is one.
    pub(super) saving: Saving,
    /// Slots whose keys are not this node's.
    pub(super) staged: Staged,
}

impl Database {
    pub(super) fn new(
        now_ms: i64,
        access: AccessClock,
        expired: Rc<Cell<Expired>>,
        noted: Noted,
    ) -> Self {
        Self {
            slots: Box::default(),
            index: SlotIndex::default(),
            len: 0,
            expiring: 0,
            wheel: ExpiryWheel::new(now_ms),
            access,
            now_ms,
            expired,
            stats: DatabaseStats::default(),
            notes: Notes::new(noted),
            garbage: Garbage::default(),
            saving: Saving::default(),
            staged: Staged::default(),
        }
    }

    /// Number of keys, expired ones that nobody looked at yet included (as Redis counts).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys with an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// The counters since the last reset.
    pub fn stats(&self) -> DatabaseStats {
        self.stats
    }

    /// Sets the counters to zero (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        self.stats = DatabaseStats::default();
    }

    /// Unix time in ms, fixed for the turn.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    pub(super) fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.access.set_now(now_ms);
        self.wheel.skip_to(now_ms);
    }

    // ---- look-ups ----

    fn table(&self, slot: Slot) -> Option<&SlotTable> {
        self.slots.get(slot.index())
    }

    pub(super) fn find(&self, key: &Key<'_>) -> Option<&Entry> {
        self.table(key.slot)?.find(key)
    }

    fn is_expired(&self, entry: &Entry) -> bool {
        entry.expiry().is_some_and(|at| at <= self.now_ms)
            && self.expired.get() != Expired::Kept
            && !self.staged.has_entry(entry)
    }

    /// The live entry of `key`: no statistics, no change of the access clock. For looking at several
    /// keys at once, and for commands that must not count as an access (OBJECT, TTL).
    pub fn peek(&self, key: &Key<'_>) -> Option<&Entry> {
        self.find(key).filter(|entry| !self.is_expired(entry))
    }

    /// Removes `key` if its time has come; true if it is gone, or as good as gone.
    pub fn expire_if_due(&mut self, key: &Key<'_>) -> bool {
        if self.expiring == 0 || !self.find(key).is_some_and(|entry| self.is_expired(entry)) {
            return false;
        }
        if self.expired.get() == Expired::Hidden {
            return true;
        }
        self.stats.expired += 1;
        self.notes.expired(key.bytes);
        self.remove_entry(key).map(|entry| self.garbage.put(entry)).is_some()
    }

    /// Where the live entry of `key` is in the table of its slot. An expired one is removed.
    #[inline]
    fn locate(&mut self, key: &Key<'_>) -> Option<Location> {
        let table = self.slots.get(key.slot.index())?;
        let at = table.locate(key)?;
        if self.expiring > 0 && table.at(at).is_some_and(|entry| self.is_expired(entry)) {
            self.expire_if_due(key);
            return None;
        }
        Some(at)
    }

    /// The value of `key`, as a command reads it: counts a hit or a miss and an access.
    #[inline]
    pub fn read(&mut self, key: &Key<'_>) -> Option<ValueRef<'_>> {
        self.read_entry(key).map(Entry::value)
    }

    /// As [`Database::read`], the whole entry.
    #[inline]
    pub fn read_entry(&mut self, key: &Key<'_>) -> Option<&Entry> {
        let is_gone = self.expiring > 0 && self.expire_if_due(key);
        let table = self.slots.get(key.slot.index()).filter(|_| !is_gone);
        let Some(entry) = table.and_then(|table| table.find(key)) else {
            self.stats.misses += 1;
            self.notes.missed(key.bytes);
            return None;
        };
        self.stats.hits += 1;
        self.access.touch(entry);
        Some(entry)
    }

    /// The entry of `key`, as a command looks at it that must not count as an access (EXISTS, TTL):
    /// counts a hit or a miss.
    pub fn look_at(&mut self, key: &Key<'_>) -> Option<&Entry> {
        if self.notes.wanted.missed && !self.contains(key) {
            self.notes.missed(key.bytes);
        }
        self.inspect(key)
    }

    /// As [`Database::look_at`], for commands to which a missing key is no event (OBJECT).
    pub fn inspect(&mut self, key: &Key<'_>) -> Option<&Entry> {
        let Some(at) = self.locate(key) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        self.slots[key.slot.index()].at(at)
    }

    /// From where on [`Database::forget_reads`] forgets.
    pub fn mark_reads(&self) -> ReadMark {
        let DatabaseStats { hits, misses, .. } = self.stats;
        ReadMark { hits, misses, notes: self.notes.len() }
    }

    /// Reads since `mark` count for nothing: the command that made them runs again. Keys that turned out to have
    /// expired are gone all the same, and are told of now.
    pub fn forget_reads(&mut self, mark: ReadMark) {
        (self.stats.hits, self.stats.misses) = (mark.hits, mark.misses);
        self.notes.forget_misses(mark.notes);
    }

    /// The string at `key`, as a command reads it.
    #[inline]
    pub fn read_str(&mut self, key: &Key<'_>) -> Result<Option<StrRef<'_>>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(ValueRef::Str(text)) => Ok(Some(text)),
            Some(_) => Err(WrongType),
        }
    }

    /// The collection at `key`, as a command reads it.
    pub fn read_as<C: Collection>(&mut self, key: &Key<'_>) -> Result<Option<&C>, WrongType> {
        match self.read(key) {
            None => Ok(None),
            Some(value) => C::from_ref(value).map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key` without counting anything: for looking at several keys at once, after
    /// `read_as` or `expire_if_due` was called for each.
    pub fn peek_as<C: Collection>(&self, key: &Key<'_>) -> Result<Option<&C>, WrongType> {
        match self.peek(key) {
            None => Ok(None),
            Some(entry) => C::from_ref(entry.value()).map(Some).ok_or(WrongType),
        }
    }

    /// The string at `key` without counting anything.
    pub fn peek_str(&self, key: &Key<'_>) -> Result<Option<StrRef<'_>>, WrongType> {
        match self.peek(key).map(Entry::value) {
            None => Ok(None),
            Some(ValueRef::Str(text)) => Ok(Some(text)),
            Some(_) => Err(WrongType),
        }
    }

    /// Whether `key` exists (no statistics).
    pub fn contains(&mut self, key: &Key<'_>) -> bool {
        self.locate(key).is_some()
    }

    /// The live entry of `key`, to change in place. Counts as an access, not as a hit or miss.
    /// Do not set its expiry here: [`Database::set_expiry`] does.
    pub fn entry_mut(&mut self, key: &Key<'_>) -> Option<&mut Entry> {
        let at = self.locate(key)?;
        let entry = self.slots[key.slot.index()].at_mut(at)?;
        self.saving.before_change(entry, &self.access);
        self.access.touch(entry);
        Some(entry)
    }

    /// The collection at `key`, to change. Remove the key with [`Database::remove`] when it gets empty.
    pub fn get_mut<C: Collection>(&mut self, key: &Key<'_>) -> Result<Option<&mut C>, WrongType> {
        match self.entry_mut(key) {
            None => Ok(None),
            Some(entry) if entry.kind() != C::KIND => Err(WrongType),
            Some(entry) => C::from_mut(entry.value_mut()).map(Some).ok_or(WrongType),
        }
    }

    /// The collection at `key`, to change; an empty one is put there first if there is none. The caller
    /// must put something in.
    pub fn get_or_insert<C: Collection>(&mut self, key: &Key<'_>) -> Result<&mut C, WrongType> {
        if !self.contains(key) {
            self.insert(key, C::default().into_value(), None);
        }
        self.get_mut(key).map(|found| found.expect("it was there or has just been inserted"))
    }

    /// The string at `key` as a `Vec` to change in place ("raw" from now on).
    pub fn str_mut(&mut self, key: &Key<'_>) -> Result<Option<&mut Vec<u8>>, WrongType> {
        match self.entry_mut(key) {
            None => Ok(None),
            Some(entry) => match entry.value() {
                ValueRef::Str(_) => match entry.value_mut() {
                    ValueMut::Str(bytes) => Ok(Some(bytes)),
                    _ => Err(WrongType),
                },
                _ => Err(WrongType),
            },
        }
    }

    // ---- writes ----

    /// Adds a key that does not exist. `expiry` is unix time, ms.
    pub fn insert(&mut self, key: &Key<'_>, value: Value, expiry: Option<i64>) {
        let entry = Entry::new(key.bytes, value, expiry, self.access.new_entry());
        self.notes.created(key.bytes);
        self.insert_entry(key, entry);
    }

    pub(super) fn insert_entry(&mut self, key: &Key<'_>, entry: Entry) {
        if let Some(at) = entry.expiry() {
            self.expiring += 1;
            self.wheel.arm(key.slot, key.hash, at);
        }
        entry.set_epoch(self.saving.epoch());
        self.slot_mut(key.slot).insert(key.hash, entry);
        self.len += 1;
        if self.slots[key.slot.index()].len() == 1 {
            self.index.insert(key.slot);
        }
    }

    pub(super) fn slot_mut(&mut self, slot: Slot) -> &mut SlotTable {
        if self.slots.is_empty() {
            self.slots = (0..SLOT_COUNT).map(|_| SlotTable::default()).collect();
        }
        &mut self.slots[slot.index()]
    }

    /// Puts `value` at `key`, whatever was there.
    pub fn set(&mut self, key: &Key<'_>, value: Value, expiry: NewExpiry) {
        self.put(key, New::Value(value), expiry);
    }

    /// Puts the string `text` at `key`, whatever was there; kept as a number if it is a canonical
    /// one (Redis's `tryObjectEncoding`).
    pub fn set_str(&mut self, key: &Key<'_>, text: &[u8], expiry: NewExpiry) {
        match parse_i64(text) {
            Some(n) => self.put(key, New::Value(Value::Int(n)), expiry),
            None => self.put(key, New::Bytes(text), expiry),
        }
    }

    fn put(&mut self, key: &Key<'_>, new: New<'_>, expiry: NewExpiry) {
        let found = self.locate(key);
        let Some(entry) = found.and_then(|at| self.slots[key.slot.index()].at_mut(at)) else {
            let at = match expiry {
                NewExpiry::At(at) => Some(at),
                NewExpiry::None | NewExpiry::Keep => None,
            };
            let clock = self.access.new_entry();
            let entry = match new {
                New::Bytes(text) => Entry::with_string(key.bytes, text, at, clock),
                New::Value(value) => Entry::new(key.bytes, value, at, clock),
            };
            self.notes.created(key.bytes);
            return self.insert_entry(key, entry);
        };
        self.saving.before_change(entry, &self.access);
        let old_expiry = entry.expiry();
        let new_expiry = match expiry {
            NewExpiry::None => None,
            NewExpiry::Keep => old_expiry,
            NewExpiry::At(at) => Some(at),
        };
        let clock = self.access.overwritten(entry.clock());
        if old_expiry.is_some() == new_expiry.is_some() && entry.kind().is_string() {
            entry.set_clock(clock);
            match new {
                New::Bytes(text) => entry.replace_string(text),
                New::Value(Value::Int(n)) => entry.replace_int(n),
                New::Value(value) => entry.replace(value),
            }
            entry.set_expiry(new_expiry);
        } else {
            let replacement = match new {
                New::Bytes(text) => Entry::with_string(key.bytes, text, new_expiry, clock),
                New::Value(value) => Entry::new(key.bytes, value, new_expiry, clock),
            };
            replacement.set_epoch(self.saving.epoch());
            self.garbage.put(std::mem::replace(entry, replacement));
        }
        self.note_expiry_change(key, old_expiry, new_expiry);
    }

    fn note_expiry_change(&mut self, key: &Key<'_>, old: Option<i64>, new: Option<i64>) {
        self.expiring -= usize::from(old.is_some());
        self.expiring += usize::from(new.is_some());
        // An item at an earlier time is there already: it will find the later expiry and arm again,
        // so a session whose expiry is pushed forward on each access adds nothing.
        if let Some(at) = new
            && old.is_none_or(|old| at < old)
        {
            self.wheel.arm(key.slot, key.hash, at);
        }
    }

    /// Sets or clears the expiry of `key`; false if there is no such key.
    pub fn set_expiry(&mut self, key: &Key<'_>, expiry: Option<i64>) -> bool {
        let Some(entry) =
            self.slots.get_mut(key.slot.index()).and_then(|table| table.find_mut(key))
        else {
            return false;
        };
        self.saving.before_change(entry, &self.access);
        let old = entry.expiry();
        entry.set_expiry(expiry);
        self.note_expiry_change(key, old, expiry);
        true
    }

    /// Deletes `key`; false if there was no such (live) key. A big value is freed in slices.
    pub fn remove(&mut self, key: &Key<'_>) -> bool {
        if self.expire_if_due(key) {
            return false;
        }
        self.remove_entry(key).map(|entry| self.garbage.put(entry)).is_some()
    }

    /// Takes the live entry of `key` out, to put it elsewhere.
    pub fn take(&mut self, key: &Key<'_>) -> Option<Entry> {
        self.expire_if_due(key);
        self.remove_entry(key)
    }

    /// Takes the entry of `key` out to lend it: also one that is due, for nobody has looked at it yet, and until then it
    /// counts (DBSIZE).
    pub fn take_on_loan(&mut self, key: &Key<'_>) -> Option<Entry> {
        self.remove_entry(key)
    }

    /// Puts an entry that was on loan back under its own key, over what is there.
    pub fn put_back(&mut self, entry: Entry) {
        self.insert_over(entry, false);
    }

    /// Makes an entry that was taken elsewhere a new key, over what is there.
    pub fn adopt(&mut self, entry: Entry) {
        self.insert_over(entry, true);
    }

    fn insert_over(&mut self, entry: Entry, is_new: bool) {
        let bytes = entry.key().to_vec();
        let key = Key::new(&bytes);
        self.remove(&key);
        if is_new {
            self.notes.created(&bytes);
        }
        self.insert_entry(&key, entry);
    }

    pub(super) fn remove_entry(&mut self, key: &Key<'_>) -> Option<Entry> {
        let entry = self.slots.get_mut(key.slot.index())?.remove(key)?;
        self.note_removed(key.slot, &entry);
        Some(entry)
    }

    fn note_removed(&mut self, slot: Slot, entry: &Entry) {
        // Here all ways out meet, that of a key on loan among them: so a snapshot need not know who has it.
        self.saving.before_change(entry, &self.access);
        self.len -= 1;
        self.expiring -= usize::from(entry.expiry().is_some());
        if self.slots[slot.index()].is_empty() {
            self.index.remove(slot);
        }
    }

    /// Deletes every key. What they held is freed in slices.
    pub fn clear(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        if let Some((slots, len)) = self.saving.keep_cleared(slots, self.len) {
            self.garbage.put_slots(slots, len);
        }
        self.index = SlotIndex::default();
        let wheel = ExpiryWheel::new(self.now_ms);
        self.garbage.put_wheel(std::mem::replace(&mut self.wheel, wheel));
        self.len = 0;
        self.expiring = 0;
    }

    // ---- background work ----

    /// Handles items of the expiry wheel that are due; true if more are.
    pub fn expire_slice(&mut self, budget: &mut Budget) -> bool {
        while !budget.is_spent() {
            match self.wheel.pop_due(self.now_ms) {
                Popped::Nothing => return false,
                Popped::Later => budget.spend(ELEMENTS_PER_LOOK),
                Popped::Due(slot, hash) => {
                    self.fire(slot, hash);
                    budget.spend(1);
                }
            }
        }
        true
    }

    fn fire(&mut self, slot: Slot, hash: u64) {
        let now_ms = self.now_ms;
        let Some(table) = self.slots.get_mut(slot.index()) else { return };
        let has_expiry = |entry: &Entry| entry.expiry().is_some() && hash_of(entry.key()) == hash;
        let Some(at) = table.find_if(hash, has_expiry).and_then(Entry::expiry) else { return };
        if at > now_ms {
            self.wheel.arm(slot, hash, at);
        } else if self.staged.has(slot) {
            self.wheel.arm(slot, hash, now_ms + STAGED_MS);
        } else if let Some(entry) = table.remove_if(hash, has_expiry) {
            self.stats.expired += 1;
            self.notes.expired(entry.key());
            self.note_removed(slot, &entry);
            self.garbage.put(entry);
        }
    }

    /// When the next key may expire, unix ms; never later than it does.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.wheel.next_due_ms()
    }

    /// Frees deleted values; true if more is left.
    pub fn free_slice(&mut self, budget: &mut Budget) -> bool {
        self.garbage.slice(budget)
    }

    /// Whether a slice of either kind would have something to do now.
    #[inline]
    pub fn has_slices(&self) -> bool {
        !self.garbage.is_empty() || self.wheel.may_be_due(self.now_ms)
    }

    /// Whether, until the next change, no slice will ever have something to do.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.garbage.is_empty() && self.wheel.is_empty()
    }

    /// Deleted keys whose memory is not back yet (INFO lazyfree_pending_objects).
    pub fn garbage_len(&self) -> usize {
        self.garbage.len()
    }

    // ---- walks ----

    /// Every live entry.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.index
            .iter()
            .filter_map(|slot| self.table(slot))
            .flat_map(SlotTable::iter)
            .filter(|entry| !self.is_expired(entry))
    }

    /// The live entries of one slot.
    pub fn iter_slot(&self, slot: Slot) -> impl Iterator<Item = &Entry> {
        let table = self.table(slot).into_iter();
        table.flat_map(SlotTable::iter).filter(|entry| !self.is_expired(entry))
    }

    /// Number of keys in `slot`.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.table(slot).map_or(0, SlotTable::len)
    }

    /// Walks in slot and hash order from `cursor` and calls `visit` for about `count` live entries.
    /// `None` at the end. Keys that stay are visited at least once; see [`SlotTable::scan`].
    pub fn scan(
        &self,
        cursor: ScanCursor,
        count: usize,
        mut visit: impl FnMut(&Entry),
    ) -> Option<ScanCursor> {
        let mut visited = 0;
        let ScanCursor { slot, mut position } = cursor;
        let mut slot = slot;
        loop {
            let populated = self.index.at_or_after(slot)?;
            if populated != slot {
                (slot, position) = (populated, 0);
            }
            if visited >= count {
                return Some(ScanCursor { slot, position });
            }
            let next = self.slots[slot.index()].scan(position, count - visited, |entry| {
                visited += 1;
                if !self.is_expired(entry) {
                    visit(entry);
                }
            });
            if let Some(position) = next {
                return Some(ScanCursor { slot, position });
            }
            (slot, position) = (Slot::new(slot.get() + 1)?, 0);
        }
    }

    /// A live entry, each about equally likely. `random` gives uniform 64-bit numbers.
    pub fn random_entry(&self, random: &mut impl FnMut() -> u64) -> Option<&Entry> {
        // Slots differ in size: draw slots until one passes a lottery by its length, so that a key in
        // a crowded slot is as likely as one that is alone in its slot.
        const DRAWS_MAX: usize = 128;
        let mean = self.len.div_ceil(self.index.len().max(1));
        let mut fallback = None;
        for _ in 0..DRAWS_MAX {
            let table = self.random_slot(random)?;
            let drawn = table.random(random);
            if let Some(entry) = drawn.filter(|entry| !self.is_expired(entry) && self.shows(entry))
            {
                fallback = Some(entry);
                if random() % (4 * mean as u64) < table.len() as u64 {
                    return Some(entry);
                }
            }
        }
        fallback.or_else(|| self.iter().find(|entry| self.shows(entry)))
    }

    /// An entry for eviction to consider: cheaper than [`Database::random_entry`], fair enough.
    pub fn sample_entry(&self, random: &mut impl FnMut() -> u64) -> Option<&Entry> {
        self.random_slot(random)?.random(random)
    }

    /// A key with an expiry, for eviction to consider: one that the wheel knows of.
    pub fn sample_expiring(&self, random: &mut impl FnMut() -> u64) -> Option<&Entry> {
        const DRAWS_MAX: usize = 32;
        if self.expiring == 0 {
            return None;
        }
        for _ in 0..DRAWS_MAX {
            let Some((slot, hash)) = self.wheel.sample(random) else { break };
            let found = self.find_expiring(slot, hash);
            if found.is_some() {
                return found;
            }
        }
        // Nearly all items are stale: look for a key the long way.
        self.iter().find(|entry| entry.expiry().is_some())
    }

    /// The key that expires soonest, as far as a look at `candidates` of them tells. Items of the wheel that
    /// are stale are dropped on the way, so that nobody meets them twice.
    pub fn soonest(&mut self, candidates: usize) -> Soonest {
        /// Stale items dropped in one call; each costs a look into cold memory.
        const STALE_MAX: usize = 64;
        if self.expiring == 0 {
            return Soonest::Nothing;
        }
        let mut live: Vec<(i64, Slot, u64)> = Vec::with_capacity(candidates);
        let mut stale = 0;
        while live.len() < candidates && stale < STALE_MAX {
            let Some((slot, hash, fires_ms)) = self.wheel.take_soonest() else { break };
            match self.find_expiring(slot, hash).and_then(Entry::expiry) {
                Some(at) if at <= fires_ms => live.push((at, slot, hash)),
                Some(later) => {
                    self.wheel.arm(slot, hash, later);
                    stale += 1;
                }
                None => stale += 1,
            }
        }
        for (at, slot, hash) in &live {
            self.wheel.arm(*slot, *hash, *at);
        }
        let best = live.iter().min().and_then(|(_, slot, hash)| self.find_expiring(*slot, *hash));
        match best {
            Some(entry) => Soonest::Key(entry.expiry().unwrap_or(i64::MAX), entry.key().to_vec()),
            None => Soonest::Later,
        }
    }

    fn find_expiring(&self, slot: Slot, hash: u64) -> Option<&Entry> {
        let live = |entry: &Entry| entry.expiry().is_some() && hash_of(entry.key()) == hash;
        self.table(slot)?.find_if(hash, live)
    }

    fn random_slot(&self, random: &mut impl FnMut() -> u64) -> Option<&SlotTable> {
        // Trying a few slots at random is cheaper than the index while most slots are populated.
        for _ in 0..4 {
            let table = self.slots.get((random() % u64::from(SLOT_COUNT)) as usize)?;
            if !table.is_empty() {
                return Some(table);
            }
        }
        let rank = random() % (self.index.len() as u64).max(1);
        self.table(self.index.at_rank(rank as usize)?)
    }

    // ---- prefetch: the three steps of a look-up, for commands that will run soon ----

    /// All three steps for all keys, step by step, so that their cache misses overlap. `keys` makes an iterator
    /// for each step.
    #[inline]
    pub fn prefetch<'k, 'a: 'k, I: Iterator<Item = &'k Key<'a>>>(&self, keys: impl Fn() -> I) {
        keys().for_each(|key| self.prefetch_slot(key));
        keys().for_each(|key| self.prefetch_bucket(key));
        keys().for_each(|key| self.prefetch_entry(key));
    }

    /// Asks for the table header of the slot.
    pub fn prefetch_slot(&self, key: &Key<'_>) {
        if let Some(table) = self.table(key.slot) {
            crate::memory::prefetch(&raw const *table);
        }
    }

    /// Asks for the bucket of the key; wants the header prefetched.
    pub fn prefetch_bucket(&self, key: &Key<'_>) {
        if let Some(table) = self.table(key.slot) {
            table.prefetch_bucket(key.hash);
        }
    }

    /// Asks for the entry of the key; wants the bucket prefetched.
    pub fn prefetch_entry(&self, key: &Key<'_>) {
        if let Some(table) = self.table(key.slot) {
            table.prefetch_entry(key.hash);
        }
    }

    /// Asks for what a look-up of these members of the collection at `key` will want.
    pub fn prefetch_members<'m>(&self, key: &Key<'_>, members: impl Iterator<Item = &'m [u8]>) {
        let Some(entry) = self.find(key) else { return };
        match entry.value() {
            ValueRef::Set(set) => members.for_each(|member| set.prefetch(member)),
            ValueRef::Hash(hash) => members.for_each(|field| hash.prefetch(field)),
            ValueRef::ZSet(zset) => members.for_each(|member| zset.prefetch(member)),
            ValueRef::Str(_) | ValueRef::List(_) | ValueRef::Stream(_) => {}
        }
    }

    // ---- figures ----

    /// Bytes of tables, index and wheel, without the entries (MEMORY STATS overhead.hashtable).
    pub fn overhead_bytes(&self) -> usize {
        let tables: usize = self
            .index
            .iter()
            .filter_map(|slot| self.table(slot))
            .map(SlotTable::allocated_bytes)
            .sum();
        tables + size_of_val(&*self.slots) + self.wheel.allocated_bytes()
    }

    /// Proves the promises of this module; panics with the broken one. Walks everything: for tests.
    pub fn check(&self) {
        let (mut len, mut expiring) = (0, 0);
        for (number, table) in self.slots.iter().enumerate() {
            let slot = Slot::new(number as u16).expect("there are SLOT_COUNT tables");
            assert_eq!(
                !table.is_empty(),
                self.index.at_or_after(slot) == Some(slot),
                "the index has {slot:?} exactly if it holds keys"
            );
            for entry in table.iter() {
                assert_eq!(Key::new(entry.key()).slot, slot, "a key is in the table of its slot");
                assert!(
                    self.saving.is_active() || entry.epoch() == self.saving.epoch(),
                    "without a snapshot all entries are of one epoch"
                );
                expiring += usize::from(entry.expiry().is_some());
                len += 1;
            }
        }
        assert_eq!((len, expiring), (self.len, self.expiring), "the counts agree with the tables");
    }
}

enum New<'v> {
    Bytes(&'v [u8]),
    Value(Value),
}

/// Where a SCAN goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanCursor {
    /// The slot to go on in.
    pub slot: Slot,
    /// The hash prefix to go on at.
    pub position: u64,
}

const POSITION_BITS: u32 = 64 - SCAN_HASH_SHIFT;

impl ScanCursor {
    /// The cursor that clients pass; 0 is the start. Any number is a valid cursor, as in Redis.
    pub fn from_wire(cursor: u64) -> Self {
        let number = (cursor >> POSITION_BITS) as u16 & (SLOT_COUNT - 1);
        let slot = Slot::new(number).expect("masked to the slot range");
        Self { slot, position: cursor & ((1 << POSITION_BITS) - 1) }
    }

    /// The number that clients pass back.
    pub fn to_wire(self) -> u64 {
        u64::from(self.slot.get()) << POSITION_BITS | self.position
    }

    /// The start of a slot.
    pub fn at_slot(slot: Slot) -> Self {
        Self { slot, position: 0 }
    }
}
