//! Who looks at all keys finds every key that stays, also while transactions borrow entries.
//!
//! One database holds keys that are there from the start to the end and are lent all the time, and a
//! few that come and go.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

const DB: &str = "select 5";

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Bulk(bytes) => bytes,
        other => panic!("a string, not {other:?}"),
    }
}

fn keys_in(reply: &Value) -> impl Iterator<Item = String> {
    let Value::Array(keys) = reply else { panic!("an array, not {reply:?}") };
    keys.iter().map(|key| String::from_utf8_lossy(bytes(key)).into_owned())
}

/// Everything that stays is in `found`, and nothing that never was.
fn complete(found: &BTreeSet<String>, stay: &[String], come: &[String]) {
    for key in stay {
        assert!(found.contains(key), "{key} stays and was not found");
    }
    assert!(found.iter().all(|key| stay.contains(key) || come.contains(key)));
}

/// Where a full iteration stands.
#[derive(Default)]
struct Iteration {
    cursor: String,
    found: BTreeSet<String>,
}

fn walker(stay: Vec<String>, come: Vec<String>) -> Talker {
    let start = || Iteration { cursor: "0".to_owned(), ..Iteration::default() };
    let state = Rc::new(RefCell::new(start()));
    Talker::new("walker", move |_, random| {
        let (stay, come, state) = (stay.clone(), come.clone(), state.clone());
        let count = random.pick(&["1", "2", "5", "100"]);
        let call = Call::new(&["scan", &state.borrow().cursor, "count", count]);
        Some(call.check(move |_, reply| {
            let Value::Array(parts) = reply else { panic!("SCAN answers an array") };
            let mut state = state.borrow_mut();
            state.cursor = String::from_utf8_lossy(bytes(&parts[0])).into_owned();
            state.found.extend(keys_in(&parts[1]));
            if state.cursor == "0" {
                complete(&state.found, &stay, &come);
                *state = start();
            }
        }))
    })
}

fn counter(stay: Vec<String>, come: Vec<String>) -> Talker {
    Talker::new("counter", move |_, random| {
        let (stay, come) = (stay.clone(), come.clone());
        Some(match random.below(3) {
            0 => Call::of("keys *")
                .check(move |_, reply| complete(&keys_in(reply).collect(), &stay, &come)),
            1 => Call::of("dbsize").check(move |_, reply| {
                let Value::Integer(found) = *reply else { panic!("DBSIZE answers a number") };
                let (least, most) = (stay.len(), stay.len() + come.len());
                assert!((least..=most).contains(&(found as usize)), "{found} of {least}..{most}");
            }),
            _ => Call::of("randomkey").check(|_, reply| _ = bytes(reply)),
        })
    })
}

/// Borrows keys that stay, and lets others come and go.
fn borrower(stay: Vec<String>, come: Vec<String>) -> Talker {
    Talker::new("borrower", move |_, random| {
        let name = *random.pick(&["mget", "touch", "mset", "mset", "del", "expire"]);
        let mut words = vec![name.to_owned()];
        match name {
            "mset" => {
                let of = if random.chance(50) { &stay } else { &come };
                let keys = random.several(of);
                words.extend(keys.into_iter().flat_map(|key| [key, "value".to_owned()]));
            }
            "del" => words.extend(random.several(&come)),
            "expire" => words.extend([random.pick(&stay).clone(), "100000".to_owned()]),
            _ => words.extend(random.several(&stay)),
        }
        Some(Call::new(&words))
    })
}

/// Brings walkers, counters and borrowers into the world.
pub fn join(world: &mut World) -> Audit {
    let [stay, come] = [("stay", 12), ("come", 4)].map(|(name, most)| {
        let count = world.random.between(2, most);
        world.keys(name, count)
    });
    let pairs = stay.iter().flat_map(|key| [key.as_str(), "value"]);
    let calls = [DB.split(' ').collect(), ["mset"].into_iter().chain(pairs).collect::<Vec<_>>()];
    world.ask(&calls);
    for make in [walker, counter, borrower, borrower] {
        for _ in 0..world.random.between(1, 3) {
            let mortal = world.random.chance(30);
            let talker = make(stay.clone(), come.clone()).greeting(DB.to_owned()).mortal(mortal);
            world.connect(talker);
        }
    }
    Box::new(move |world| {
        let replies = world.ask(&[vec!["select", "5"], vec!["keys", "stay*"], vec!["dbsize"]]);
        complete(&keys_in(&replies[1]).collect(), &stay, &[]);
        let Value::Integer(size) = replies[2] else { panic!("DBSIZE answers a number") };
        assert!(size as usize >= stay.len());
    })
}
