//! Random operations of several clients on few keys, noted with when they began and ended; then
//! [`linear`](crate::linear) looks for an order that explains all replies.

use std::cell::RefCell;
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::linear::{Action, Answer, ERROR, Operation, is_linearizable};
use crate::random::Random;
use crate::talker::{Call, Talker};
use crate::world::World;

/// Operations of one history: more make the search long and find nothing new.
const OPERATIONS_MAX: usize = 150;

type History = Rc<RefCell<Vec<Operation>>>;

fn draw(random: &mut Random, keys: usize, value: i64) -> Action {
    let key = random.below(keys);
    let all: Vec<usize> = (0..keys).collect();
    match random.below(14) {
        0..=3 => Action::Get(key),
        4 | 5 => Action::Set(key, value),
        6 => Action::GetSet(key, value),
        7 | 8 => Action::Incr(key),
        // No zero in front: such a text is no number for INCR.
        9 => Action::Append(key, random.between(1, 10) as i64),
        10 => Action::SetAll(random.several(&all), value),
        11 | 12 => Action::GetAll(random.several(&all)),
        _ => Action::Delete(random.several(&all)),
    }
}

fn call(action: &Action, keys: &[String]) -> Call {
    let named = |name: &str, of: &[usize]| {
        let of = of.iter().map(|key| keys[*key].clone());
        Call::new(&std::iter::once(name.to_owned()).chain(of).collect::<Vec<_>>())
    };
    let with = |name: &str, key: usize, value: i64| {
        Call::new(&[name.to_owned(), keys[key].clone(), value.to_string()])
    };
    match action {
        Action::Get(key) => named("get", &[*key]),
        Action::Set(key, value) => with("set", *key, *value),
        Action::GetSet(key, value) => with("getset", *key, *value),
        Action::Incr(key) => named("incr", &[*key]),
        Action::Append(key, digit) => with("append", *key, *digit),
        Action::SetAll(of, value) => {
            let pairs = of.iter().flat_map(|key| [keys[*key].clone(), value.to_string()]);
            Call::new(&std::iter::once("mset".to_owned()).chain(pairs).collect::<Vec<_>>())
        }
        Action::GetAll(of) => named("mget", of),
        Action::Delete(of) => named("del", of),
    }
}

fn answer(reply: &Value) -> Answer {
    match reply {
        Value::Simple(_) => vec![],
        Value::Integer(number) => vec![Some(number.to_string())],
        Value::NullBulk => vec![None],
        Value::Bulk(text) => vec![Some(String::from_utf8_lossy(text).into_owned())],
        Value::Array(values) => values.iter().flat_map(answer).collect(),
        // INCR of what became too long for a number.
        Value::Error(_) => vec![Some(ERROR.to_owned())],
        other => panic!("no command here answers {other:?}"),
    }
}

fn client(number: usize, keys: Vec<String>, history: History) -> Talker {
    let mut count = 0;
    Talker::new(&format!("historian {number}"), move |now, random| {
        if history.borrow().len() == OPERATIONS_MAX {
            return None;
        }
        count += 1;
        let action = draw(random, keys.len(), (number * 1000 + count) as i64);
        let call = call(&action, &keys);
        let at = history.borrow().len();
        history.borrow_mut().push(Operation { action, begin: now, end: None });
        let history = history.clone();
        Some(call.check(move |now, reply| {
            history.borrow_mut()[at].end = Some((now, answer(reply)));
        }))
    })
}

/// Brings clients with a common history into the world.
pub fn join(world: &mut World) -> Audit {
    let history = History::default();
    let count = world.random.between(1, 4);
    let keys = world.keys("noted", count);
    for number in 1..world.random.between(3, 7) {
        let mortal = world.random.chance(30);
        world.connect(client(number, keys.clone(), history.clone()).mortal(mortal));
    }
    Box::new(move |world| {
        let mut history = history.take();
        let last = Action::GetAll((0..keys.len()).collect());
        let words: Vec<String> = std::iter::once("mget".to_owned()).chain(keys).collect();
        let begin = world.now() + 1;
        let replies = world.ask(&[words]);
        let end = Some((world.now(), answer(&replies[0])));
        history.push(Operation { action: last, begin, end });
        let lines: String = history.iter().map(|operation| format!("{operation:?}\n")).collect();
        assert!(is_linearizable(&history), "no order explains\n{lines}");
    })
}
