//! Finding keys: KEYS, SCAN, RANDOMKEY.
//!
//! KEYS and RANDOMKEY ask every shard. SCAN goes from shard to shard: its cursor names a slot, the
//! owner of the slot looks at its keys, and behind its last key comes the first slot of the next shard.

use super::collection::{ScanOptions, scan_cursor};
use super::random::Draws;
use super::spec::*;
use super::{Command, CommandResult, Ctx, EveryShard, Part, Request, Run, Stretch, Walk};
use crate::datatypes::glob::glob_match;
use crate::datatypes::listpack::Element;
use crate::keyspace::{Key, ScanCursor};
use crate::resp::Reply;
use crate::shard_map::ShardId;

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "keys", arity: Arity::Exactly(2), flags: READONLY, group: Group::Generic, keys: NO_KEYS, categories: &["@dangerous"], run: Run::EveryShard(KEYS) },
    Command { name: "scan", arity: Arity::AtLeast(2), flags: READONLY, group: Group::Generic, keys: NO_KEYS, categories: &[], run: Run::Walk(SCAN) },
    Command { name: "randomkey", arity: Arity::Exactly(1), flags: READONLY, group: Group::Generic, keys: NO_KEYS, categories: &[], run: Run::EveryShard(RANDOMKEY) },
];

const KEYS: EveryShard = EveryShard { part: keys_of_shard, merge: all_keys, exclusive: true };
const RANDOMKEY: EveryShard =
    EveryShard { part: random_key_of_shard, merge: one_candidate, exclusive: false };

const SCAN: Walk = Walk { start: start_of_scan, stretch: scan, finish: finish_scan };

// ---- KEYS ----

/// KEYS pattern
fn keys_of_shard(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    let pattern = request.arg(1);
    let all = pattern == b"*";
    let db = &ctx.keyspace[ctx.db];
    let entries = db.iter().filter(|entry| db.shows(entry));
    let matching =
        entries.map(|entry| entry.key()).filter(|key| all || glob_match(pattern, key, false));
    Ok(Part::Keys(matching.map(<[u8]>::to_vec).collect()))
}

fn all_keys(
    _: &mut Ctx<'_>,
    _: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let keys_of = |part| if let Part::Keys(keys) = part { keys } else { Vec::new() };
    let lists: Vec<Vec<Vec<u8>>> = parts.into_iter().map(keys_of).collect();
    reply.array(lists.iter().map(Vec::len).sum());
    lists.iter().flatten().for_each(|key| reply.bulk(key));
    Ok(())
}

// ---- RANDOMKEY ----

/// RANDOMKEY
fn random_key_of_shard(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    let mut draws = Draws::new(ctx.keyspace.draw());
    let db = &ctx.keyspace[ctx.db];
    let entry = db.random_entry(&mut || draws.draw());
    Ok(Part::Candidate(db.shown_len() as u64, entry.map(|entry| entry.key().to_vec())))
}

/// Draws a shard by the number of its keys, so that each key of all is about equally likely.
fn one_candidate(
    ctx: &mut Ctx<'_>,
    _: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let candidate = |part| match part {
        Part::Candidate(weight, Some(key)) => Some((weight, key)),
        _ => None,
    };
    let candidates: Vec<(u64, Vec<u8>)> = parts.into_iter().filter_map(candidate).collect();
    let weights: u64 = candidates.iter().map(|(weight, _)| weight).sum();
    let mut left = ctx.keyspace.draw() % weights.max(1);
    for (weight, key) in &candidates {
        if left < *weight {
            reply.bulk(key);
            return Ok(());
        }
        left -= weight;
    }
    reply.null();
    Ok(())
}

// ---- SCAN ----

fn start_of_scan(request: &Request<'_>) -> CommandResult<ScanCursor> {
    scan_cursor(request.arg(1)).map(ScanCursor::from_wire)
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
fn scan(ctx: &mut Ctx<'_>, request: &Request<'_>, start: ScanCursor) -> CommandResult<Stretch> {
    let options = ScanOptions::parse_with_type(request, 2)?;
    let next_shard = ctx.shards.first_slot(ShardId(ctx.shard.0 + 1));
    let mut stretch =
        Stretch { next: None, visited: 0, wanted: options.count, elements: Vec::new(), length: 0 };
    // Bulk strings are the same in both protocols.
    let mut elements = Reply::new(&mut stretch.elements, false);
    // Redis looks up what it is about to show, so what has expired goes; but not what the pattern leaves out.
    let mut due: Vec<Box<[u8]>> = Vec::new();
    let db = &mut ctx.keyspace[ctx.db];
    let next = db.scan(start, options.count, |entry, is_live| {
        stretch.visited += 1;
        match is_live {
            _ if !db.shows(entry) => {}
            true if options.matches_entry(entry) => {
                elements.bulk(entry.key());
                stretch.length += 1;
            }
            false if options.matches(Element::Bytes(entry.key())) => due.push(entry.key().into()),
            _ => {}
        }
    });
    for key in &due {
        db.expire_if_due(&Key::new(key));
    }
    stretch.next = next.or(next_shard.map(ScanCursor::at_slot));
    Ok(stretch)
}

fn finish_scan(found: &Stretch, reply: &mut Reply<'_>) {
    let cursor = found.next.map_or(0, ScanCursor::to_wire); // 0 is the end
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    reply.array(found.length);
    reply.raw(&found.elements);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::stats::ShardStats;
    use crate::command::Changes;
    use crate::command::testing::TestShard;
    use crate::config::Config;
    use crate::keyspace::{Keyspace, NewExpiry};
    use crate::process::Process;
    use crate::pubsub::Directory;
    use crate::shard_map::ShardMap;
    use std::collections::{HashMap, HashSet};

    /// The bulk strings of a reply without integers or errors inside.
    fn words(reply: &str) -> Vec<String> {
        let lines = reply.split("\r\n").filter(|line| !line.is_empty());
        lines.filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
    }

    /// Keys key:0 and so on.
    fn fill(shard: &mut TestShard, count: usize) {
        for number in 0..count {
            let name = format!("key:{number}");
            shard.keyspace[0].set_str(&Key::new(name.as_bytes()), b"v", NewExpiry::None);
        }
    }

    fn scan_all(shard: &mut TestShard, options: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut reply = words(&shard.run(format!("SCAN {cursor} {options}").trim_end()));
            cursor = reply.remove(0);
            found.append(&mut reply);
            if cursor == "0" {
                return found;
            }
        }
    }

    #[test]
    fn keys_answers_what_the_pattern_matches_and_has_not_expired() {
        let mut shard = TestShard::new();
        shard.run("MSET hello 1 hallo 1 hxllo 1");
        shard.run("SET heello 1 PX 1");
        shard.keyspace.set_now(shard.keyspace.now_ms() + 1);
        for (pattern, expected) in [
            ("*", vec!["hallo", "hello", "hxllo"]),
            ("h[ae]llo", vec!["hallo", "hello"]),
            ("heello", vec![]),
            ("h", vec![]),
        ] {
            let mut found = words(&shard.run(&format!("KEYS {pattern}")));
            found.sort_unstable();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn scan_finds_every_key_whatever_the_count() {
        let mut shard = TestShard::new();
        fill(&mut shard, 500);
        for options in ["", "COUNT 1", "COUNT 100000", "MATCH key:* COUNT 7 TYPE STRING"] {
            let found = scan_all(&mut shard, options);
            assert_eq!(found.len(), 500, "{options}");
            assert_eq!(found.into_iter().collect::<HashSet<_>>().len(), 500, "{options}");
        }
        let found: HashSet<_> = scan_all(&mut shard, "MATCH *9").into_iter().collect();
        assert_eq!(found, (0..50).map(|n| format!("key:{}", n * 10 + 9)).collect());
        assert!(scan_all(&mut shard, "TYPE unheard-of").is_empty());
        assert!(scan_all(&mut shard, "TYPE list").is_empty());
        shard.run("RPUSH l a");
        assert_eq!(scan_all(&mut shard, "TYPE List"), ["l"]);
    }

    #[test]
    fn scan_does_about_count_entries_of_work() {
        let mut shard = TestShard::new();
        fill(&mut shard, 500);
        let found = words(&shard.run("SCAN 0 COUNT 20")).len() - 1;
        assert!((20..=30).contains(&found), "{found}");
    }

    #[test]
    fn scan_refuses_what_redis_refuses() {
        let mut shard = TestShard::new();
        let not_integer = "-ERR value is not an integer or out of range\r\n";
        for (command, reply) in [
            ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN x", "-ERR invalid cursor\r\n"),
            ("SCAN x COUNT x", "-ERR invalid cursor\r\n"),
            ("SCAN 0 COUNT x", not_integer),
            ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
            ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
            ("SCAN 0 TYPE", "-ERR syntax error\r\n"),
            ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
            ("SCAN 0 QQ 1", "-ERR syntax error\r\n"),
            ("HSCAN k 0 TYPE string", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN 18446744073709551615", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        shard.run("HSET k f v");
        assert_eq!(shard.run("HSCAN k 0 TYPE string"), "-ERR syntax error\r\n");
    }

    /// As many shards as a test wants; commands go where the session layer would send them.
    struct Shards {
        keyspaces: Vec<Keyspace>,
        map: ShardMap,
        config: Config,
        process: Process,
        pubsub: Directory,
    }

    impl Shards {
        fn new(count: u16) -> Self {
            Self {
                keyspaces: (0..count).map(|n| Keyspace::new(1, 1000, u64::from(n) + 1)).collect(),
                map: ShardMap::new(count).unwrap(),
                config: Config::default(),
                process: Process::new(String::new(), 6379, None),
                pubsub: Directory::new(ShardId(0), ShardMap::new(count).unwrap()),
            }
        }

        fn set(&mut self, name: &str) {
            let key = Key::new(name.as_bytes());
            let owner = self.map.owner(key.slot).index();
            self.keyspaces[owner][0].set_str(&key, b"v", NewExpiry::None);
        }

        fn on<R>(&mut self, shard: usize, run: impl FnOnce(&mut Ctx<'_>) -> R) -> R {
            run(&mut Ctx {
                keyspace: &mut self.keyspaces[shard],
                db: 0,
                config: &self.config,
                shard: ShardId(shard as u16),
                shards: self.map,
                changes: &mut Changes::default(),
                reach: &mut crate::command::Reach::default(),
                journal: &mut crate::journal::Recorder::default(),
                locks: &crate::transaction::LockTable::default(),
                stats: &mut ShardStats::default(),
                pubsub: &mut self.pubsub,
                process: &self.process,
            })
        }

        fn scan(&mut self, cursor: &str) -> Vec<String> {
            let args: [&[u8]; 4] = [b"scan", cursor.as_bytes(), b"count", b"30"];
            let request = Request::new(&args);
            let mut found: Option<Stretch> = None;
            let mut next = start_of_scan(&request).ok();
            while let Some(cursor) = next {
                let owner = self.map.owner(cursor.slot).index();
                let stretch = self.on(owner, |ctx| scan(ctx, &request, cursor)).unwrap();
                match &mut found {
                    Some(found) => found.extend(stretch),
                    None => found = Some(stretch),
                }
                next = found.as_ref().and_then(Stretch::goes_on);
            }
            let mut out = Vec::new();
            finish_scan(&found.unwrap(), &mut Reply::new(&mut out, false));
            words(&String::from_utf8(out).unwrap())
        }

        fn everywhere(&mut self, every: EveryShard, args: &[&[u8]]) -> String {
            let request = Request::new(args);
            let parts: Vec<Part> = (0..self.keyspaces.len())
                .map(|shard| self.on(shard, |ctx| (every.part)(ctx, &request)).unwrap())
                .collect();
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, false);
            self.on(0, |ctx| (every.merge)(ctx, &request, parts, &mut reply)).unwrap();
            String::from_utf8(out).unwrap()
        }
    }

    #[test]
    fn a_scan_walks_from_shard_to_shard_and_visits_each_key_once() {
        for count in [1, 2, 5, 100] {
            let mut shards = Shards::new(count);
            let names: HashSet<String> = (0..300).map(|n| format!("key:{n}")).collect();
            names.iter().for_each(|name| shards.set(name));
            let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
            loop {
                let mut reply = shards.scan(&cursor);
                cursor = reply.remove(0);
                let enough = (30..=60).contains(&reply.len()) || cursor == "0";
                assert!(enough, "{count} shards, {} at once", reply.len());
                found.append(&mut reply);
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(found.len(), 300, "{count} shards");
            assert_eq!(found.into_iter().collect::<HashSet<_>>(), names, "{count} shards");
            let keys = words(&shards.everywhere(KEYS, &[b"keys", b"*"]));
            assert_eq!(keys.into_iter().collect::<HashSet<_>>(), names, "{count} shards");
        }
    }

    #[test]
    fn randomkey_draws_every_key_about_as_often() {
        let mut shards = Shards::new(3);
        assert_eq!(shards.everywhere(RANDOMKEY, &[b"randomkey"]), "$-1\r\n");
        // All but one on the same shard: weights by shard, not by key, would show.
        let heavy = |name: &String| ShardMap::new(3).unwrap().owner(Key::new(name.as_bytes()).slot);
        let names: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
        let (mine, other): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| heavy(name) == ShardId(2));
        mine.iter().take(49).chain(other.first()).for_each(|name| shards.set(name));
        let mut times: HashMap<String, u32> = HashMap::new();
        for _ in 0..5000 {
            let key = words(&shards.everywhere(RANDOMKEY, &[b"randomkey"])).remove(0);
            *times.entry(key).or_default() += 1;
        }
        assert_eq!(times.len(), 50);
        assert!(times.values().all(|&count| (30..=300).contains(&count)), "{times:?}");
        assert!(times[&other[0]] < 200, "{times:?}");
    }

    #[test]
    fn randomkey_answers_null_when_all_has_expired() {
        let mut shard = TestShard::new();
        assert_eq!(shard.run("RANDOMKEY"), "$-1\r\n");
        shard.run("SET k v PX 5");
        assert_eq!(shard.run("RANDOMKEY"), "$1\r\nk\r\n");
        shard.keyspace.set_now(shard.keyspace.now_ms() + 5);
        assert_eq!(shard.run("RANDOMKEY"), "$-1\r\n");
    }
}
