//! Producers fill lists; consumers wait for them.
//!
//! Every element is taken once; of one list each consumer gets what one producer pushed in that order;
//! and when everything is at rest, nobody waits for a list that has elements.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

/// What all clients of one group have done.
#[derive(Default)]
struct Ledger {
    pushed: RefCell<BTreeSet<String>>,
    taken: RefCell<BTreeSet<String>>,
    /// The lists that each consumer waits for at the moment.
    waiting: RefCell<BTreeMap<usize, Vec<String>>>,
    /// A connection was lost, and with it perhaps an element on its way.
    lost: Cell<bool>,
}

impl Ledger {
    fn take(&self, element: &str) {
        assert!(self.pushed.borrow().contains(element), "{element} was never pushed");
        assert!(self.taken.borrow_mut().insert(element.to_owned()), "{element} was taken twice");
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// Pushes `name/1`, `name/2`, … to the tails of lists.
fn producer(name: String, lists: Vec<String>, ledger: Rc<Ledger>) -> Talker {
    let mut count = 0;
    Talker::new(&name.clone(), move |_, random| {
        let mut element = || {
            count += 1;
            let element = format!("{name}/{count:06}");
            ledger.pushed.borrow_mut().insert(element.clone());
            element
        };
        let list = random.pick::<String>(&lists).clone();
        Some(match random.below(4) {
            0 | 1 => Call::new(&["rpush", &list, &element()]),
            2 => Call::new(&["rpush", &list, &element(), &element()]),
            _ => {
                let other = random.pick::<String>(&lists).clone();
                let push = |list: String, element: String| vec!["rpush".to_owned(), list, element];
                let block = [push(list, element()), push(other, element())];
                Call::block(&block, |_, reply| assert!(matches!(reply, Value::Array(_))))
            }
        })
    })
}

fn consumer(
    number: usize,
    lists: Vec<String>,
    done: Vec<String>,
    ledger: Rc<Ledger>,
    is_mover: bool,
) -> Talker {
    let last: Rc<RefCell<BTreeMap<(String, String), String>>> = Rc::default();
    let forgetful = ledger.clone();
    let talker = Talker::new(&format!("consumer {number}"), move |_, random| {
        let ledger = ledger.clone();
        if is_mover {
            let list = random.pick::<String>(&lists).clone();
            ledger.waiting.borrow_mut().insert(number, vec![list.clone()]);
            let call =
                Call::new(&["blmove", &list, random.pick::<String>(&done), "left", "right", "0"]);
            return Some(call.check(move |_, _| _ = ledger.waiting.borrow_mut().remove(&number)));
        }
        let wanted = random.several(&lists);
        ledger.waiting.borrow_mut().insert(number, wanted.clone());
        let words: Vec<String> = match random.below(3) {
            0 => [
                vec!["blmpop".to_owned(), "0".to_owned(), wanted.len().to_string()],
                wanted,
                vec!["left".to_owned(), "count".to_owned(), "2".to_owned()],
            ]
            .concat(),
            _ => [vec!["blpop".to_owned()], wanted, vec!["0".to_owned()]].concat(),
        };
        let last = last.clone();
        Some(Call::new(&words).check(move |_, reply| {
            ledger.waiting.borrow_mut().remove(&number);
            let Value::Array(parts) = reply else { return };
            let list = text(&parts[0]).expect("the name of the list");
            let elements =
                text(&parts[1]).map_or_else(|| texts(&parts[1]), |element| vec![element]);
            for element in elements {
                ledger.take(&element);
                let from = element.split('/').next().unwrap_or_default().to_owned();
                let before = last.borrow_mut().insert((list.clone(), from), element.clone());
                assert!(before.is_none_or(|before| before < element), "{element} came late");
            }
        }))
    });
    talker.patient().forgetting(move || {
        forgetful.lost.set(true);
        forgetful.waiting.borrow_mut().remove(&number);
    })
}

/// Wakes clients for no reason.
fn waker() -> Talker {
    Talker::new("waker", |_, random| {
        let id = random.between(1, 40).to_string();
        let how = *random.pick(&["timeout", "timeout", "error"]);
        Some(Call::new(&["client", "unblock", &id, how]))
    })
}

/// Brings producers and consumers into the world.
pub fn join(world: &mut World) -> Audit {
    let ledger = Rc::new(Ledger::default());
    let [lists, done] = [("queue", 5), ("done", 3)].map(|(name, most)| {
        let count = world.random.between(1, most);
        world.keys(name, count)
    });
    for number in 0..world.random.between(1, 4) {
        let name = format!("producer{number}");
        let depth = world.random.between(1, 5);
        world.connect(producer(name, lists.clone(), ledger.clone()).depth(depth));
    }
    let (mortals, movers) = (world.random.chance(30), world.random.chance(40));
    for number in 0..world.random.between(1, 8) {
        let is_mover = movers && world.random.chance(50);
        let mortal = mortals && world.random.chance(50);
        let talker = consumer(number, lists.clone(), done.clone(), ledger.clone(), is_mover);
        world.connect(talker.mortal(mortal));
    }
    if world.random.chance(50) {
        world.connect(waker().mortal(true));
    }
    Box::new(move |world| {
        let range =
            |list: &String| vec!["lrange".to_owned(), list.clone(), "0".into(), "-1".into()];
        let all: Vec<String> = lists.iter().chain(&done).cloned().collect();
        let replies = world.ask(&all.iter().map(range).collect::<Vec<_>>());
        let mut left = BTreeMap::new();
        for (list, reply) in all.iter().zip(&replies) {
            let elements = texts(reply);
            elements.iter().for_each(|element| ledger.take(element));
            left.insert(list.clone(), elements.len());
        }
        for (consumer, wanted) in ledger.waiting.borrow().iter() {
            for list in wanted {
                assert_eq!(
                    left[list], 0,
                    "consumer {consumer} waits for {list}, which has elements"
                );
            }
        }
        if !ledger.lost.get() {
            assert_eq!(*ledger.pushed.borrow(), *ledger.taken.borrow(), "nothing is lost");
        }
    })
}

/// Clients that begin to wait one after the other are served in this order, wherever they, the lists and
/// the producer live.
pub fn longest_first(seeds: u64) {
    for seed in 1..=seeds {
        let mut world = World::new(seed);
        let lists = world.keys("queue", 3);
        let order: Rc<RefCell<Vec<(usize, String)>>> = Rc::default();
        let waiters = world.random.between(2, 8);
        for number in 0..waiters {
            let order = order.clone();
            let wanted = world.random.several(&lists);
            let words =
                [vec!["blpop".to_owned()], wanted, vec![lists[0].clone(), "0".into()]].concat();
            let call = Call::new(&words).check(move |_, reply| {
                order.borrow_mut().push((number, texts(reply)[1].clone()));
            });
            let mut call = Some(call);
            world.connect(Talker::new("waiter", move |_, _| call.take()).patient());
            world.say_everything();
            world.settle();
        }
        let elements: Vec<String> = (0..waiters).map(|number| format!("{number:02}")).collect();
        let (one_by_one, push) =
            (world.random.chance(50), vec!["rpush".to_owned(), lists[0].clone()]);
        if one_by_one {
            for element in &elements {
                world.ask(&[[push.clone(), vec![element.clone()]].concat()]);
            }
        } else {
            world.ask(&[[push, elements.clone()].concat()]);
        }
        world.settle();
        let mut served = order.take();
        served.sort_unstable();
        let expected: Vec<_> = elements.into_iter().enumerate().collect();
        assert_eq!(served, expected, "seed {seed}");
        world.close_all();
    }
}
