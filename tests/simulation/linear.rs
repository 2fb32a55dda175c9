//! Is there an order of these operations, each at one moment between its call and its reply, in which
//! a plain map would have given the same replies? (Wing and Gong, "Testing and Verifying Concurrent
//! Objects", 1993, with the memory of visited states of Lowe, 2017.)
//!
//! The map holds all keys of a history, so operations on several keys are judged as well.

use std::collections::{BTreeMap, HashSet};

/// What one operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Get(usize),
    Set(usize, i64),
    GetSet(usize, i64),
    Incr(usize),
    Append(usize, i64),
    /// Sets several keys to one value.
    SetAll(Vec<usize>, i64),
    GetAll(Vec<usize>),
    Delete(Vec<usize>),
}

/// What it answered: the values, `None` for nothing; the word [`ERROR`] for an error.
pub type Answer = Vec<Option<String>>;

pub const ERROR: &str = "error";

#[derive(Clone, Debug)]
pub struct Operation {
    pub action: Action,
    pub begin: u64,
    /// When the reply came, and what it was; `None` if it never came: then it may have happened at any
    /// time, or not at all.
    pub end: Option<(u64, Answer)>,
}

type State = BTreeMap<usize, String>;

/// Does `action` to `state` and returns what it answers.
fn apply(state: &mut State, action: &Action) -> Answer {
    match action {
        Action::Get(key) => vec![state.get(key).cloned()],
        Action::Set(key, value) => {
            state.insert(*key, value.to_string());
            vec![]
        }
        Action::GetSet(key, value) => vec![state.insert(*key, value.to_string())],
        Action::Incr(key) => {
            let old = state.get(key).map_or("0", String::as_str);
            let Ok(old) = old.parse::<i64>() else { return vec![Some(ERROR.to_owned())] };
            let new = (old + 1).to_string();
            state.insert(*key, new.clone());
            vec![Some(new)]
        }
        Action::Append(key, value) => {
            let text = state.entry(*key).or_default();
            text.push_str(&value.to_string());
            vec![Some(text.len().to_string())]
        }
        Action::SetAll(keys, value) => {
            state.extend(keys.iter().map(|key| (*key, value.to_string())));
            vec![]
        }
        Action::GetAll(keys) => keys.iter().map(|key| state.get(key).cloned()).collect(),
        Action::Delete(keys) => {
            let deleted = keys.iter().filter(|key| state.remove(key).is_some()).count();
            vec![Some(deleted.to_string())]
        }
    }
}

/// Which operations are done, and what the map holds then.
type Visited = HashSet<(Vec<u64>, State)>;

/// See the module.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let mut done = vec![0; history.len().div_ceil(64)];
    search(history, &mut done, &State::new(), &mut Visited::new())
}

fn search(history: &[Operation], done: &mut Vec<u64>, state: &State, seen: &mut Visited) -> bool {
    let is_done = |done: &[u64], at: usize| done[at / 64] >> (at % 64) & 1 == 1;
    let left = || history.iter().enumerate().filter(|(at, _)| !is_done(done, *at));
    // What comes next began before the first reply of those that are left.
    let Some(first_end) = left().filter_map(|(_, o)| o.end.as_ref().map(|end| end.0)).min() else {
        return true;
    };
    if !seen.insert((done.clone(), state.clone())) {
        return false;
    }
    let next: Vec<usize> = left().filter(|(_, o)| o.begin <= first_end).map(|(at, _)| at).collect();
    for at in next {
        let mut after = state.clone();
        let answer = apply(&mut after, &history[at].action);
        if history[at].end.as_ref().is_some_and(|(_, given)| *given != answer) {
            continue;
        }
        done[at / 64] |= 1 << (at % 64);
        if search(history, done, &after, seen) {
            return true;
        }
        done[at / 64] &= !(1 << (at % 64));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(begin: u64, end: u64, action: Action, answer: &[Option<i64>]) -> Operation {
        let answer = answer.iter().map(|value| value.map(|value| value.to_string())).collect();
        let end = (end > 0).then_some((end, answer));
        Operation { action, begin, end }
    }

    #[test]
    fn a_read_during_a_write_may_see_it_or_not_but_not_go_back() {
        use Action::{Get, Set};
        let write = op(1, 10, Set(0, 7), &[]);
        let read = |begin, end, value| op(begin, end, Get(0), &[value]);
        for (reads, linearizable) in [
            (vec![read(2, 3, None), read(4, 5, Some(7))], true),
            (vec![read(2, 3, Some(7)), read(4, 5, Some(7))], true),
            (vec![read(2, 3, Some(7)), read(4, 5, None)], false),
            (vec![read(2, 5, Some(7)), read(4, 6, None)], true), // the reads overlap
            (vec![read(11, 12, None)], false),                   // after the write
            (vec![read(2, 3, Some(8))], false),                  // never written
        ] {
            let history: Vec<_> = std::iter::once(write.clone()).chain(reads).collect();
            assert_eq!(is_linearizable(&history), linearizable, "{history:#?}");
        }
    }

    #[test]
    fn a_lost_update_is_found() {
        let incr = |begin, end, value| op(begin, end, Action::Incr(0), &[Some(value)]);
        assert!(is_linearizable(&[incr(1, 5, 2), incr(2, 6, 1)]));
        assert!(!is_linearizable(&[incr(1, 5, 1), incr(2, 6, 1)]));
        assert!(!is_linearizable(&[incr(1, 2, 2), incr(3, 4, 1)]));
    }

    #[test]
    fn an_operation_without_a_reply_may_have_happened_or_not() {
        let lost = op(1, 0, Action::Append(0, 4), &[]);
        let read = |begin, end, value| op(begin, end, Action::Get(0), &[value]);
        assert!(is_linearizable(&[lost.clone(), read(2, 3, None), read(8, 9, Some(4))]));
        assert!(is_linearizable(&[lost.clone(), read(2, 3, None), read(8, 9, None)]));
        assert!(!is_linearizable(&[lost, read(2, 3, Some(4)), read(8, 9, None)]));
    }

    #[test]
    fn a_half_seen_write_of_two_keys_is_found() {
        let write = op(1, 10, Action::SetAll(vec![0, 1], 5), &[]);
        let read = |key, begin, end, value| op(begin, end, Action::Get(key), &[value]);
        let seen = [write.clone(), read(0, 2, 3, Some(5)), read(1, 4, 5, Some(5))];
        assert!(is_linearizable(&seen));
        let torn = [write, read(0, 2, 3, Some(5)), read(1, 4, 5, None)];
        assert!(!is_linearizable(&torn));
    }
}
