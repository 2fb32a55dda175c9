//! Keys that are written together are seen together.
//!
//! Writers give all keys of a group one value, or none; readers look at all of them and must see
//! one. In one of the databases whole databases are flushed and exchanged as well.

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

/// All values of an MGET are the same; nothing counts as a value.
fn one_value(reply: &Value) {
    let Value::Array(values) = reply else { panic!("MGET answers an array") };
    assert!(values.iter().all(|value| *value == values[0]), "a part of a write is seen");
}

fn words<'a>(command: &'a str, keys: &'a [String]) -> Vec<&'a str> {
    std::iter::once(command).chain(keys.iter().map(String::as_str)).collect()
}

fn writer(name: &str, mut keys: Vec<String>) -> Talker {
    let name = name.to_owned();
    let mut count = 0;
    Talker::new(&name.clone(), move |_, random| {
        count += 1;
        let value = format!("{name}-{count}");
        random.shuffle(&mut keys);
        let pairs: Vec<String> = keys.iter().flat_map(|key| [key.clone(), value.clone()]).collect();
        let all = keys.len() as i64;
        Some(match random.below(4) {
            0 | 1 => Call::new(&words("mset", &pairs)),
            2 => Call::new(&words("msetnx", &pairs)),
            _ => Call::new(&words("del", &keys)).check(move |_, reply| {
                assert!([Value::Integer(0), Value::Integer(all)].contains(reply));
            }),
        })
    })
}

fn reader(mut keys: Vec<String>) -> Talker {
    Talker::new("reader", move |_, random| {
        random.shuffle(&mut keys);
        let all = keys.len() as i64;
        Some(match random.below(4) {
            0..=2 => Call::new(&words("mget", &keys)).check(|_, reply| one_value(reply)),
            _ => Call::new(&words("exists", &keys)).check(move |_, reply| {
                assert!([Value::Integer(0), Value::Integer(all)].contains(reply));
            }),
        })
    })
}

/// Empties and exchanges the databases 1 and 2.
fn flusher() -> Talker {
    Talker::new("flusher", move |_, random| {
        Some(Call::of(random.pick::<&str>(&[
            "swapdb 1 2",
            "swapdb 2 1",
            "flushdb",
            "flushdb async",
        ])))
    })
}

/// Brings writers and readers of one group of keys into the world.
pub fn join(world: &mut World) -> Audit {
    let count = world.random.between(2, 7);
    let keys = world.keys("together", count);
    let flushed = world.random.chance(50);
    let databases: &[u8] = if flushed { &[1, 2] } else { &[0] };
    for db in databases {
        let (writers, readers) = (world.random.between(1, 4), world.random.between(1, 4));
        for number in 0..writers + readers {
            let talker = match number < writers {
                true => writer(&format!("writer{db}.{number}"), keys.clone()),
                false => reader(keys.clone()),
            };
            let (depth, mortal) = (world.random.between(1, 6), world.random.chance(50));
            world.connect(talker.depth(depth).mortal(mortal).greeting(format!("select {db}")));
        }
    }
    if flushed {
        world.connect(flusher().mortal(true).greeting("select 1".to_owned()));
    }
    Box::new(move |world| {
        for db in ["0", "1", "2"] {
            let calls = [vec!["select", db], words("mget", &keys)];
            one_value(&world.ask(&calls)[1]);
        }
    })
}
