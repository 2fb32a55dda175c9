//! Who listens hears every message of a publisher in order, from the confirmation of the subscription to
//! that of its end; and what PUBLISH answers, added up, is what was heard.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use corelane::resp::parse_reply::Value;

use crate::Audit;
use crate::random::Random;
use crate::talker::{Call, Talker};
use crate::world::World;

const CHANNELS: &[&str] = &["red", "green", "blue"];
const PATTERNS: &[&str] = &["r*", "[rgb]*e*", "nothing"];

/// What all clients together have counted and heard.
#[derive(Default)]
struct Totals {
    counted: Cell<u64>,
    heard: Cell<u64>,
}

/// What one listener knows.
#[derive(Default)]
struct Ear {
    /// Confirmations that are due: verb and name.
    due: VecDeque<(String, String)>,
    /// What it listens to, by the verb of its messages.
    listens: HashSet<(String, String)>,
    /// The last message of each publisher on each channel, by subscription.
    last: HashMap<(String, String, String, String), u64>,
}

impl Ear {
    fn hear(&mut self, words: &[Value], totals: &Totals) {
        let text = |value: &Value| match value {
            Value::Bulk(bytes) => String::from_utf8(bytes.clone()).expect("we wrote it"),
            _ => panic!("names are strings: {value:?}"),
        };
        let verb = text(&words[0]);
        let is_message = ["message", "pmessage", "smessage"].contains(&verb.as_str());
        let name = text(&words[1]);
        if is_message {
            assert!(
                self.listens.contains(&(verb.clone(), name.clone())),
                "{verb} {name}: not asked for"
            );
            let (channel, said) = (text(&words[words.len() - 2]), text(&words[words.len() - 1]));
            let (publisher, number) = said.split_once(' ').expect("two words");
            let number: u64 = number.parse().expect("a number");
            let place = (verb, name, channel, publisher.to_owned());
            let before = self.last.insert(place, number);
            assert!(before.is_none_or(|before| number == before + 1), "{number} after {before:?}");
            totals.heard.set(totals.heard.get() + 1);
            return;
        }
        assert_eq!(self.due.pop_front(), Some((verb.clone(), name.clone())), "in order");
        let message = |prefix: &str| match prefix {
            "s" => "smessage",
            "p" => "pmessage",
            _ => "message",
        };
        if let Some(prefix) = verb.strip_suffix("unsubscribe") {
            let message = message(prefix).to_owned();
            self.last.retain(|(verb, of, ..), _| *verb != message || *of != name);
            self.listens.remove(&(message, name));
        } else if let Some(prefix) = verb.strip_suffix("subscribe") {
            self.listens.insert((message(prefix).to_owned(), name));
        } else {
            panic!("{verb} was not expected");
        }
    }
}

fn listener(totals: Rc<Totals>, depth: usize) -> Talker {
    let ear = Rc::new(RefCell::new(Ear::default()));
    let due = Rc::new(Cell::new(0));
    let (speaks, hears, forgets) = (ear.clone(), ear.clone(), ear);
    let (asked, told, lost) = (due.clone(), due.clone(), due.clone());
    let make = move |_: u64, random: &mut Random| {
        if asked.get() >= depth {
            return None;
        }
        if random.chance(20) {
            return Some(Call::of("ping").expect(Value::Simple(b"PONG".to_vec())));
        }
        let prefix = *random.pick(&["", "", "p", "s"]);
        let name = *random.pick(if prefix == "p" { PATTERNS } else { CHANNELS });
        let verb = format!("{prefix}{}", random.pick::<&str>(&["subscribe", "unsubscribe"]));
        let call = Call::new(&[verb.as_str(), name]).unanswered();
        speaks.borrow_mut().due.push_back((verb, name.to_owned()));
        asked.set(asked.get() + 1);
        Some(call)
    };
    let overhear = move |value: &Value| {
        let Value::Push(words) = value else { panic!("a push: {value:?}") };
        let mut ear = hears.borrow_mut();
        ear.hear(words, &totals);
        told.set(ear.due.len());
    };
    let start_over = move || {
        *forgets.borrow_mut() = Ear::default();
        lost.set(0);
    };
    Talker::new("listener", make)
        .greeting("hello 3".to_owned())
        .overhearing(due, overhear, start_over)
}

fn publisher(number: usize, totals: Rc<Totals>) -> Talker {
    let mut said: HashMap<(&str, &str), u64> = HashMap::new();
    Talker::new("publisher", move |_, random| {
        if random.chance(10) {
            // What it publishes next waits for this.
            return Some(Call::new(&["get", *random.pick(CHANNELS)]));
        }
        let verb = *random.pick(&["publish", "publish", "spublish"]);
        let channel = *random.pick(CHANNELS);
        let count = said.entry((verb, channel)).or_default();
        *count += 1;
        let message = format!("{verb}{number} {count}");
        let totals = totals.clone();
        Some(Call::new(&[verb, channel, &message]).check(move |_, reply| match reply {
            Value::Integer(count) => totals.counted.set(totals.counted.get() + *count as u64),
            _ => panic!("a count"),
        }))
    })
}

/// Hears every keyspace event, if there are any, and says nothing.
fn spy() -> Talker {
    Talker::new("spy", |_, _| None).greeting("hello 3".to_owned()).overhearing(
        Rc::default(),
        |_| {},
        || {},
    )
}

/// Brings publishers and listeners into the world.
pub fn join(world: &mut World) -> Audit {
    let totals = Rc::new(Totals::default());
    let some_go = world.random.chance(50);
    for _ in 0..world.random.between(1, 6) {
        let depth = world.random.between(1, 4);
        let mortal = some_go && world.random.chance(50);
        world.connect(listener(totals.clone(), depth).mortal(mortal));
    }
    for number in 0..world.random.between(1, 4) {
        let depth = world.random.between(1, 8);
        world.connect(publisher(number, totals.clone()).depth(depth));
    }
    let mut spy = spy();
    spy.say_first(Call::of("psubscribe __key*").unanswered());
    world.connect(spy);
    Box::new(move |world| {
        world.round(None);
        let (counted, heard) = (totals.counted.get(), totals.heard.get());
        assert!(heard <= counted, "{heard} were heard, {counted} counted");
        assert!(some_go || heard == counted, "{heard} were heard, {counted} counted");
    })
}
