//! What is moved from key to key is never lost and never there twice.
//!
//! Three groups: elements of lists, members of sets, and tokens that are the values of strings and
//! move by RENAMENX. Whoever looks at all keys of a group at once sees every element once.

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::random::Random;
use crate::talker::{Call, Talker};
use crate::world::World;

fn texts(reply: &Value) -> Vec<String> {
    let (Value::Array(items) | Value::Set(items)) = reply else { panic!("an array: {reply:?}") };
    let mut found: Vec<String> = items.iter().filter_map(text).collect();
    found.sort_unstable();
    found
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bulk(bytes) => Some(String::from_utf8(bytes.clone()).expect("we wrote it")),
        _ => None,
    }
}

fn command<'a>(name: &'a str, keys: &'a [String]) -> Vec<&'a str> {
    std::iter::once(name).chain(keys.iter().map(String::as_str)).collect()
}

fn two<'a>(random: &mut Random, keys: &'a [String]) -> (&'a str, &'a str) {
    (random.pick::<String>(keys), random.pick::<String>(keys))
}

/// Element of a collection that somebody moves: `None`, or one of them.
fn list_mover(keys: Vec<String>) -> Talker {
    Talker::new("list mover", move |_, random| {
        let (from, to) = two(random, &keys);
        Some(match random.below(3) {
            0 => Call::new(&["rpoplpush", from, to]),
            _ => {
                let (a, b) = (*random.pick(&["left", "right"]), *random.pick(&["left", "right"]));
                Call::new(&["lmove", from, to, a, b])
            }
        })
    })
}

fn set_mover(keys: Vec<String>, all: Vec<String>) -> Talker {
    Talker::new("set mover", move |_, random| {
        let (from, to) = two(random, &keys);
        let all = all.clone();
        Some(match random.below(6) {
            0 => Call::new(&command("sunion", &keys))
                .check(move |_, reply| assert_eq!(texts(reply), all)),
            // Nothing is in two sets at once.
            1 if from != to => Call::new(&["sinter", from, to])
                .check(|_, reply| assert!(texts(reply).is_empty(), "it is here and there")),
            _ => Call::new(&["smove", from, to, random.pick::<String>(&all)]),
        })
    })
}

fn token_mover(mut keys: Vec<String>, all: Vec<String>) -> Talker {
    Talker::new("token mover", move |_, random| {
        let (from, to) = two(random, &keys);
        let (from, to) = (from.to_owned(), to.to_owned());
        let all = all.clone();
        random.shuffle(&mut keys);
        Some(match random.below(3) {
            0 => Call::new(&command("mget", &keys))
                .check(move |_, reply| assert_eq!(texts(reply), all)),
            // The source may be empty, which is an error.
            _ => Call::new(&["renamenx".to_owned(), from, to]).check(|_, _| {}),
        })
    })
}

fn enter(world: &mut World, make: impl Fn() -> Talker) {
    for _ in 0..world.random.between(1, 4) {
        let (depth, mortal) = (world.random.between(1, 5), world.random.chance(50));
        world.connect(make().depth(depth).mortal(mortal));
    }
}

/// Brings movers of all three groups into the world.
pub fn join(world: &mut World) -> Audit {
    let [places, elements] = [world.random.between(2, 6), world.random.between(1, 6)];
    let all: Vec<String> = (0..elements).map(|n| format!("e{n}")).collect();
    let [lists, sets] = ["list", "set"].map(|name| world.keys(name, places));
    let tokens = world.keys("token", places + elements);
    let push = [vec!["rpush", &lists[0]], all.iter().map(String::as_str).collect()].concat();
    let add = [vec!["sadd", &sets[0]], all.iter().map(String::as_str).collect()].concat();
    let pairs = tokens.iter().zip(&all).flat_map(|(key, token)| [key.as_str(), token]);
    let set = std::iter::once("mset").chain(pairs).collect();
    world.ask(&[push, add, set]);
    enter(world, || list_mover(lists.clone()));
    enter(world, || set_mover(sets.clone(), all.clone()));
    enter(world, || token_mover(tokens.clone(), all.clone()));
    Box::new(move |world| {
        for (name, keys) in [("lrange", &lists), ("smembers", &sets)] {
            let range = |key: &String| match name {
                "lrange" => vec![name.to_owned(), key.clone(), "0".to_owned(), "-1".to_owned()],
                _ => vec![name.to_owned(), key.clone()],
            };
            let replies = world.ask(&keys.iter().map(range).collect::<Vec<_>>());
            let mut found: Vec<String> = replies.iter().flat_map(texts).collect();
            found.sort_unstable();
            assert_eq!(found, all, "{name}: what was moved is there once");
        }
        assert_eq!(texts(&world.ask(&[command("mget", &tokens)])[0]), all);
    })
}
