//! Blocks between MULTI and EXEC, with and without WATCH.
//!
//! Transfers: money goes from account to account in blocks; whoever looks at all accounts at once sees all
//! of the money, also from within blocks that flush the database and fill it again.
//!
//! Watchers: each reads counters that it watches and writes them back, greater by one. The counters are
//! in the end what the successful blocks made them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::talker::{Call, Talker};
use crate::world::World;

const MONEY: i64 = 1000;
const DB: &str = "7";

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a number"),
        Value::NullBulk => 0,
        other => panic!("a number, not {other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("an array, not {other:?}"),
    }
}

fn sum(value: &Value) -> i64 {
    items(value).iter().map(integer).sum()
}

fn words(name: &str, rest: &[String]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(rest.iter().cloned()).collect()
}

/// All the money in one account.
fn fill(accounts: &[String]) -> Vec<String> {
    let pairs = accounts.iter().enumerate().flat_map(|(number, account)| {
        let money = if number == 0 { MONEY } else { 0 };
        [account.clone(), money.to_string()]
    });
    words("mset", &pairs.collect::<Vec<_>>())
}

fn mover(accounts: Vec<String>) -> Talker {
    Talker::new("mover", move |_, random| {
        let (from, to) = (random.pick(&accounts).clone(), random.pick(&accounts).clone());
        let amount = random.between(1, 9).to_string();
        let block = [
            vec!["decrby".to_owned(), from, amount.clone()],
            vec!["incrby".to_owned(), to, amount],
        ];
        Some(match random.below(8) {
            0 => Call::block(&[words("flushdb", &[]), fill(&accounts)], |_, reply| {
                assert_eq!(
                    items(reply),
                    [Value::Simple(b"OK".to_vec()), Value::Simple(b"OK".to_vec())]
                );
            }),
            1 => Call::of("multi")
                .then(Call::new(&block[0]).check(|_, _| {}))
                .then(Call::of("discard")),
            _ => Call::block(&block, |_, reply| assert_eq!(items(reply).len(), 2)),
        })
    })
}

fn auditor(mut accounts: Vec<String>) -> Talker {
    Talker::new("auditor", move |_, random| {
        random.shuffle(&mut accounts);
        let all = words("mget", &accounts);
        let count = accounts.len() as i64;
        Some(match random.below(4) {
            0 => Call::new(&all).check(|_, reply| assert_eq!(sum(reply), MONEY)),
            1 => Call::block(&[all.clone(), words("dbsize", &[]), all], move |_, reply| {
                let replies = items(reply);
                assert_eq!(replies[0], replies[2], "nothing comes between two commands of a block");
                assert_eq!(sum(&replies[0]), MONEY);
                assert_eq!(integer(&replies[1]), count);
            }),
            2 => {
                let block = [
                    vec!["select".to_owned(), "0".to_owned()],
                    vec!["select".to_owned(), DB.to_owned()],
                    all,
                ];
                Call::block(&block, |_, reply| assert_eq!(sum(&items(reply)[2]), MONEY))
            }
            _ => {
                let gets: Vec<_> =
                    accounts.iter().map(|key| vec!["get".to_owned(), key.clone()]).collect();
                Call::block(&gets, |_, reply| assert_eq!(sum(reply), MONEY))
            }
        })
    })
}

/// Brings movers and auditors of money into the world.
pub fn join_transfers(world: &mut World) -> Audit {
    let count = world.random.between(1, 6);
    let accounts = world.keys("account", count);
    world.ask(&[words("select", &[DB.to_owned()]), fill(&accounts)]);
    for _ in 0..world.random.between(2, 6) {
        let (depth, mortal) = (world.random.between(1, 9), world.random.chance(40));
        let talker = match world.random.chance(60) {
            true => mover(accounts.clone()),
            false => auditor(accounts.clone()),
        };
        world.connect(talker.depth(depth).mortal(mortal).greeting(format!("select {DB}")));
    }
    Box::new(move |world| {
        let replies = world.ask(&[words("select", &[DB.to_owned()]), words("mget", &accounts)]);
        assert_eq!(sum(&replies[1]), MONEY);
    })
}

/// What all watchers of one group have done.
#[derive(Default)]
struct Tally {
    /// Blocks that were sent, were answered, and have written.
    sent: Cell<i64>,
    answered: Cell<i64>,
    written: Cell<i64>,
}

/// Which counters were read, and what they held.
type Read = (Vec<String>, Vec<i64>);

fn add(counter: &Cell<i64>) {
    counter.set(counter.get() + 1);
}

fn watcher(counters: Vec<String>, tally: Rc<Tally>) -> Talker {
    let read: Rc<RefCell<Option<Read>>> = Rc::default();
    let forgotten = read.clone();
    let talker = Talker::new("watcher", move |_, random| {
        let Some((keys, values)) = read.take() else {
            let keys = random.several(&counters);
            let known = (read.clone(), keys.clone());
            let look = Call::new(&words("mget", &keys)).check(move |_, reply| {
                let values = items(reply).iter().map(integer).collect();
                *known.0.borrow_mut() = Some((known.1, values));
            });
            return Some(Call::new(&words("watch", &keys)).then(look));
        };
        if random.chance(10) {
            return Some(Call::of("unwatch"));
        }
        let sets = keys
            .iter()
            .zip(values)
            .map(|(key, value)| vec!["set".to_owned(), key.clone(), (value + 1).to_string()]);
        let mut block: Vec<_> = sets.collect();
        if random.chance(20) {
            block.push(words("dbsize", &[]));
        }
        add(&tally.sent);
        let tally = tally.clone();
        let count = keys.len() as i64;
        Some(Call::block(&block, move |_, reply| {
            add(&tally.answered);
            if !matches!(reply, Value::NullArray | Value::Null) {
                tally.written.set(tally.written.get() + count);
            }
        }))
    });
    talker.forgetting(move || _ = forgotten.take())
}

/// Brings clients into the world that count together.
pub fn join_watchers(world: &mut World) -> Audit {
    let count = world.random.between(1, 4);
    let counters = world.keys("counter", count);
    let tally = Rc::new(Tally::default());
    let mortals = world.random.chance(30);
    for _ in 0..world.random.between(2, 6) {
        let mortal = mortals && world.random.chance(50);
        world.connect(watcher(counters.clone(), tally.clone()).depth(1).mortal(mortal));
    }
    Box::new(move |world| {
        let total = sum(&world.ask(&[words("mget", &counters)])[0]);
        let (written, unknown) = (tally.written.get(), tally.sent.get() - tally.answered.get());
        let most = written + unknown * counters.len() as i64;
        assert!((written..=most).contains(&total), "{total} of {written}..={most}");
    })
}
