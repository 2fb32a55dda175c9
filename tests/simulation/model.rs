//! One client, keys of its own, many commands under way: every reply is known beforehand.
//!
//! Whatever shards the commands of a pipeline go to, the client gets one reply for each, in order, and
//! the one that a single-threaded store would have given.

use std::collections::{BTreeMap, BTreeSet};

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::random::Random;
use crate::talker::{Call, Talker, is_error};
use crate::world::World;

/// Keys of each type.
const KEYS: usize = 4;

#[derive(Default)]
struct Store {
    strings: [Option<String>; KEYS],
    lists: [Vec<String>; KEYS],
    sets: [BTreeSet<String>; KEYS],
    sorted: [BTreeMap<String, i64>; KEYS],
}

/// What CLIENT REPLY says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    On,
    Off,
    Skip,
}

struct Model {
    name: String,
    store: Store,
    mode: Mode,
    count: usize,
    shards: Vec<[String; KEYS]>,
}

/// A reply as words, so that both protocols look alike.
fn flat(reply: &Value) -> Vec<String> {
    match reply {
        Value::Simple(text) | Value::Bulk(text) => vec![String::from_utf8_lossy(text).into()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Double(number) => vec![number.to_string()],
        Value::NullBulk | Value::Null | Value::NullArray => vec!["nil".to_owned()],
        Value::Array(items) | Value::Set(items) => items.iter().flat_map(flat).collect(),
        other => panic!("no command here answers {other:?}"),
    }
}

fn flat_set(reply: &Value) -> Vec<String> {
    let mut words = flat(reply);
    words.sort_unstable();
    words
}

fn or_nil(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "nil".to_owned())
}

impl Model {
    fn key(&self, kind: usize, number: usize) -> &str {
        &self.shards[kind][number]
    }

    fn call(&self, words: &[&str], expected: Vec<String>) -> Call {
        Call::new(words).check(move |_, reply| assert_eq!(flat(reply), expected))
    }

    fn next(&mut self, random: &mut Random) -> Call {
        self.count += 1;
        let call = match random.below(16) {
            0..=5 => self.string(random),
            6 | 7 => self.list(random),
            8..=10 => self.set(random),
            11 | 12 => self.sorted_set(random),
            13 => return self.reply_mode(random),
            14 => self.connection(random),
            _ => self.mistake(random),
        };
        match self.mode {
            Mode::On => call,
            Mode::Off => call.unanswered(),
            Mode::Skip => {
                self.mode = Mode::On;
                call.unanswered()
            }
        }
    }

    fn string(&mut self, random: &mut Random) -> Call {
        let (a, b) = (random.below(KEYS), random.below(KEYS));
        let (key, other) = (self.key(0, a).to_owned(), self.key(0, b).to_owned());
        let value = format!("{}-{}", self.name, self.count);
        let strings = &mut self.store.strings;
        match random.below(8) {
            0 => {
                strings[a] = Some(value.clone());
                self.call(&["set", &key, &value], vec!["OK".into()])
            }
            1 | 2 => {
                let expected = or_nil(&strings[a]);
                self.call(&["get", &key], vec![expected])
            }
            3 => {
                let text = strings[a].get_or_insert_default();
                text.push('+');
                let length = text.len().to_string();
                self.call(&["append", &key, "+"], vec![length])
            }
            4 => {
                strings[a] = Some(value.clone());
                strings[b] = Some(value.clone());
                self.call(&["mset", &key, &value, &other, &value], vec!["OK".into()])
            }
            5 => {
                let expected = strings.iter().map(or_nil).collect();
                let words: Vec<&str> =
                    ["mget"].into_iter().chain(self.shards[0].iter().map(|key| &**key)).collect();
                self.call(&words, expected)
            }
            6 => {
                let mut deleted = usize::from(strings[a].take().is_some());
                deleted += usize::from(strings[b].take().is_some());
                self.call(&["del", &key, &other], vec![deleted.to_string()])
            }
            _ if strings[a].is_none() => {
                Call::new(&["rename", &key, &other]).check(|_, reply| assert!(is_error(reply)))
            }
            _ => {
                let moved = strings[a].take();
                strings[b] = moved;
                self.call(&["rename", &key, &other], vec!["OK".into()])
            }
        }
    }

    fn list(&mut self, random: &mut Random) -> Call {
        let (a, b) = (random.below(KEYS), random.below(KEYS));
        let (key, other) = (self.key(1, a).to_owned(), self.key(1, b).to_owned());
        let value = self.count.to_string();
        let lists = &mut self.store.lists;
        match random.below(4) {
            0 => {
                lists[a].push(value.clone());
                let length = lists[a].len().to_string();
                self.call(&["rpush", &key, &value], vec![length])
            }
            1 => {
                let expected = lists[a].clone();
                self.call(&["lrange", &key, "0", "-1"], expected)
            }
            _ => {
                let moved = lists[a].pop();
                if let Some(moved) = &moved {
                    lists[b].insert(0, moved.clone());
                }
                self.call(&["lmove", &key, &other, "right", "left"], vec![or_nil(&moved)])
            }
        }
    }

    fn set(&mut self, random: &mut Random) -> Call {
        let [a, b, c] = [0; 3].map(|_| random.below(KEYS));
        let [key, left, right] = [a, b, c].map(|number| self.key(2, number).to_owned());
        let member = random.below(6).to_string();
        let sets = &mut self.store.sets;
        match random.below(6) {
            0 | 1 => {
                let added = usize::from(sets[a].insert(member.clone()));
                self.call(&["sadd", &key, &member], vec![added.to_string()])
            }
            2 => {
                let removed = usize::from(sets[a].remove(&member));
                self.call(&["srem", &key, &member], vec![removed.to_string()])
            }
            3 => {
                let expected: Vec<String> = sets[a].iter().cloned().collect();
                Call::new(&["smembers", &key])
                    .check(move |_, reply| assert_eq!(flat_set(reply), expected))
            }
            _ => {
                let (name, result) = match random.below(3) {
                    0 => ("sinterstore", &sets[b] & &sets[c]),
                    1 => ("sunionstore", &sets[b] | &sets[c]),
                    _ => ("sdiffstore", &sets[b] - &sets[c]),
                };
                let length = result.len().to_string();
                sets[a] = result;
                self.call(&[name, &key, &left, &right], vec![length])
            }
        }
    }

    fn sorted_set(&mut self, random: &mut Random) -> Call {
        let [a, b, c] = [0; 3].map(|_| random.below(KEYS));
        let [key, left, right] = [a, b, c].map(|number| self.key(3, number).to_owned());
        let (member, score) = (random.below(6).to_string(), random.below(9) as i64);
        let sorted = &mut self.store.sorted;
        match random.below(4) {
            0 => {
                let added = usize::from(sorted[a].insert(member.clone(), score).is_none());
                self.call(&["zadd", &key, &score.to_string(), &member], vec![added.to_string()])
            }
            1 => {
                let expected = or_nil(&sorted[a].get(&member).map(i64::to_string));
                self.call(&["zscore", &key, &member], vec![expected])
            }
            2 => {
                let mut ordered: Vec<_> =
                    sorted[a].iter().map(|(member, score)| (*score, member.clone())).collect();
                ordered.sort_unstable();
                let expected = ordered.into_iter().map(|(_, member)| member).collect();
                self.call(&["zrange", &key, "0", "-1"], expected)
            }
            _ => {
                let mut union = sorted[b].clone();
                for (member, score) in &sorted[c] {
                    *union.entry(member.clone()).or_default() += score;
                }
                let length = union.len().to_string();
                // Scores stay small, so that both protocols spell them alike.
                union.values_mut().for_each(|score| *score = (*score).min(1000));
                let over = sorted[b].values().chain(sorted[c].values()).any(|score| *score > 400);
                if over {
                    let expected = usize::from(!sorted[a].is_empty()).to_string();
                    sorted[a].clear();
                    return self.call(&["del", &key], vec![expected]);
                }
                sorted[a] = union;
                self.call(&["zunionstore", &key, "2", &left, &right], vec![length])
            }
        }
    }

    /// CLIENT REPLY is answered itself only when it switches replies on.
    fn reply_mode(&mut self, random: &mut Random) -> Call {
        let ok = Value::Simple(b"OK".to_vec());
        match self.mode {
            Mode::On if random.chance(20) => {
                self.mode = Mode::Off;
                Call::of("client reply off").unanswered()
            }
            Mode::On if random.chance(50) => {
                self.mode = Mode::Skip;
                Call::of("client reply skip").unanswered()
            }
            // Also right after SKIP (Redis 7.0.15).
            _ => {
                self.mode = Mode::On;
                Call::of("client reply on").expect(ok)
            }
        }
    }

    fn connection(&mut self, random: &mut Random) -> Call {
        let word = self.count.to_string();
        match random.below(4) {
            0 => self.call(&["echo", &word], vec![word.clone()]),
            1 => Call::inline("ping").expect(Value::Simple(b"PONG".to_vec())),
            2 => Call::of(random.pick::<&str>(&["hello 3", "hello 2"])).check(|_, reply| {
                assert!(matches!(reply, Value::Map(_) | Value::Array(_)));
            }),
            _ => self.call(&["client", "setname", &word], vec!["OK".into()]),
        }
    }

    fn mistake(&self, random: &mut Random) -> Call {
        let number = random.below(KEYS);
        let (string, set) = (self.key(0, number), self.key(2, number));
        let words: &[&str] = match random.below(4) {
            0 => &["no-such-command", string],
            1 => &["get", string, set],
            2 => &["smove", string],
            _ => &["select", "1000"],
        };
        Call::new(words).check(|_, reply| assert!(is_error(reply), "a mistake is an error"))
    }
}

/// Brings clients that know what they get into the world.
pub fn join(world: &mut World) -> Audit {
    for number in 0..world.random.between(1, 4) {
        let name = format!("model{number}");
        let kinds = ["s", "l", "m", "z"];
        let shards = kinds.map(|kind| {
            let keys = world.keys(&format!("{name}{kind}"), KEYS);
            keys.try_into().expect("as many as asked for")
        });
        let mut model = Model {
            name: name.clone(),
            store: Store::default(),
            mode: Mode::On,
            count: 0,
            shards: shards.into(),
        };
        let depth = *world.random.pick(&[1, 3, 10, 50]);
        let talker = Talker::new(&name, move |_, random| Some(model.next(random)));
        world.connect(talker.depth(depth));
    }
    Box::new(|_| {})
}
