//! Commands that touch a key in two databases: MOVE and COPY.
//!
//! Two databases hold the same names. Those that stay are in both, so nothing can move or be copied
//! there, also not while the one in the way is lent to a transaction. Others wander from one to the other.

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

const DATABASES: [&str; 2] = ["8", "9"];

fn words<'a>(command: &'a str, keys: &'a [String]) -> Vec<&'a str> {
    std::iter::once(command).chain(keys.iter().map(String::as_str)).collect()
}

/// Works in the database `here` on keys that stay and keys that wander.
fn mover(here: usize, stay: Vec<String>, wander: Vec<String>) -> Talker {
    Talker::new("mover", move |_, random| {
        let (key, other) = (random.pick::<String>(&stay), random.pick::<String>(&stay));
        let there = DATABASES[1 - here];
        let is_mine = vec![Value::Bulk(DATABASES[here].into()); stay.len()];
        Some(match random.below(8) {
            0 | 1 => Call::new(&["move", key, there]).expect(Value::Integer(0)),
            2 => Call::new(&["copy", key, other, "db", there]).expect(Value::Integer(0)),
            3..=5 => Call::new(&words("mget", &stay)).expect(Value::Array(is_mine)),
            6 => Call::new(&words("touch", &wander)),
            _ => Call::new(&["move", random.pick::<String>(&wander), there]),
        })
    })
}

/// Brings clients of two databases into the world.
pub fn join(world: &mut World) -> Audit {
    let [stay, wander] = ["both", "wander"].map(|name| {
        let count = world.random.between(2, 6);
        world.keys(name, count)
    });
    for (here, db) in DATABASES.iter().enumerate() {
        let of_this: &[String] = if here == 0 { &wander } else { &[] };
        let pairs = stay.iter().chain(of_this).flat_map(|key| [key.as_str(), *db]);
        let set = std::iter::once("mset").chain(pairs).collect();
        world.ask(&[vec!["select", *db], set]);
        for _ in 0..world.random.between(1, 4) {
            let (depth, mortal) = (world.random.between(1, 5), world.random.chance(30));
            let talker = mover(here, stay.clone(), wander.clone()).depth(depth).mortal(mortal);
            world.connect(talker.greeting(format!("select {db}")));
        }
    }
    Box::new(move |world| {
        let mut found = 0;
        for db in DATABASES {
            let calls = [vec!["select", db], words("exists", &wander), words("mget", &stay)];
            let replies = world.ask(&calls);
            let Value::Integer(here) = replies[1] else { panic!("EXISTS answers a number") };
            found += here as usize;
            assert_eq!(replies[2], Value::Array(vec![Value::Bulk(db.into()); stay.len()]));
        }
        assert_eq!(found, wander.len(), "who wanders is in one database");
    })
}
