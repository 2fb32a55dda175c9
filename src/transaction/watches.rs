//! Who watches which keys of one shard (WATCH), and whose watch is broken.
//!
//! A watch is known to the shard that owns the key, so that the change and the EXEC that must notice it
//! meet in one place. A key that was there and is not any more breaks its watches without being told
//! (it expired, was evicted, its database was flushed); all other changes are told by
//! [`Watches::touch`].
//!
//! Promise: a broken watch stays broken until its watcher is forgotten; who is forgotten leaves nothing.

use std::collections::{HashMap, HashSet};

use crate::keyspace::DbKey;
use crate::reactor::ConnId;
use crate::shard_map::ShardId;

/// A connection from one WATCH to the EXEC, UNWATCH or DISCARD that ends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Watcher {
    /// Where the connection lives.
    pub shard: ShardId,
    /// The connection.
    pub conn: ConnId,
    /// Grows with each end of a watch: what comes late is about an earlier one.
    pub round: u32,
}

#[derive(Default, Debug)]
struct Watched {
    /// The keys, each with whether it was there at WATCH.
    keys: Vec<(DbKey, bool)>,
    broken: bool,
}

/// See the module.
#[derive(Default, Debug)]
pub struct Watches {
    keys: HashMap<DbKey, HashSet<Watcher, ahash::RandomState>, ahash::RandomState>,
    watchers: HashMap<Watcher, Watched, ahash::RandomState>,
}

impl Watches {
    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// `watcher` watches `key`, which is there or not.
    pub fn watch(&mut self, watcher: Watcher, key: DbKey, is_there: bool) {
        let watched = self.watchers.entry(watcher).or_default();
        // Who is broken already needs to notice no more.
        if !watched.broken && self.keys.entry(key.clone()).or_default().insert(watcher) {
            watched.keys.push((key, is_there));
        }
    }

    /// `key` has changed: breaks the watches on it, and says whose.
    pub fn touch(&mut self, key: &DbKey) -> Vec<Watcher> {
        let broken: Vec<Watcher> = self
            .keys
            .get(key)
            .map(|watchers| watchers.iter().copied().collect())
            .unwrap_or_default();
        for watcher in &broken {
            self.let_go(*watcher);
            self.watchers.entry(*watcher).or_default().broken = true;
        }
        broken
    }

    /// The keys of `watcher` whose watches hold so far.
    pub fn keys_of(&self, watcher: Watcher) -> impl Iterator<Item = &DbKey> {
        let watched = self.watchers.get(&watcher).into_iter();
        watched.flat_map(|watched| watched.keys.iter().map(|(key, _)| key))
    }

    /// The watched keys of one database.
    pub fn keys_in(&self, db: usize) -> Vec<DbKey> {
        self.keys.keys().filter(|key| key.0 == db).cloned().collect()
    }

    /// Whether a watch of `watcher` is broken; `is_there` looks for keys.
    pub fn is_broken(&self, watcher: Watcher, is_there: impl Fn(&DbKey) -> bool) -> bool {
        self.watchers.get(&watcher).is_some_and(|watched| {
            watched.broken
                || watched.keys.iter().any(|(key, was_there)| *was_there && !is_there(key))
        })
    }

    /// The watch of `watcher` is over.
    pub fn forget(&mut self, watcher: Watcher) {
        self.let_go(watcher);
        self.watchers.remove(&watcher);
    }

    fn let_go(&mut self, watcher: Watcher) {
        let Some(watched) = self.watchers.get_mut(&watcher) else { return };
        for (key, _) in watched.keys.drain(..) {
            let watchers = self.keys.get_mut(&key).expect("both maps know of a watch");
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(number: u32) -> Watcher {
        Watcher { shard: ShardId(0), conn: ConnId::from_parts(number, 1), round: 0 }
    }

    fn key(name: &str) -> DbKey {
        (0, name.as_bytes().to_vec())
    }

    #[test]
    fn a_change_breaks_all_watches_on_its_key_and_nothing_else() {
        let mut watches = Watches::default();
        let [a, b, c] = [1, 2, 3].map(watcher);
        watches.watch(a, key("x"), true);
        watches.watch(a, key("y"), true);
        watches.watch(b, key("x"), false);
        watches.watch(c, (1, b"x".to_vec()), true);
        let mut broken = watches.touch(&key("x"));
        broken.sort_unstable_by_key(|watcher| watcher.conn.index());
        assert_eq!(broken, [a, b]);
        assert_eq!(watches.touch(&key("y")), [], "who is broken watches no more");
        let all_there = |_: &DbKey| true;
        for (watcher, is_broken) in [(a, true), (b, true), (c, false)] {
            assert_eq!(watches.is_broken(watcher, all_there), is_broken);
            watches.forget(watcher);
            assert!(!watches.is_broken(watcher, all_there));
        }
        assert!(watches.is_empty() && watches.keys.is_empty());
    }

    #[test]
    fn a_key_that_goes_without_a_word_breaks_the_watch_of_who_saw_it() {
        let mut watches = Watches::default();
        watches.watch(watcher(1), key("x"), true);
        watches.watch(watcher(2), key("x"), false);
        let gone = |_: &DbKey| false;
        assert!(watches.is_broken(watcher(1), gone));
        assert!(!watches.is_broken(watcher(2), gone), "it was not there at WATCH either");
    }

    #[test]
    fn a_key_is_watched_once_however_often_it_is_named() {
        let mut watches = Watches::default();
        watches.watch(watcher(1), key("x"), true);
        watches.watch(watcher(1), key("x"), false);
        assert_eq!(watches.keys_of(watcher(1)).count(), 1);
        assert!(watches.is_broken(watcher(1), |_| false), "the first time counts");
        assert_eq!(watches.keys_in(0), [key("x")]);
        assert_eq!(watches.keys_in(1), []);
    }
}
