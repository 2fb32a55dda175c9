//! A command as a client sent it.

use crate::keyspace::Key;

/// The arguments of one command; the first is its name.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    args: &'a [&'a [u8]],
    known: Known<'a>,
}

/// Keys that routing already hashed, with their places.
#[derive(Clone, Copy)]
enum Known<'a> {
    None,
    One(usize, Key<'a>),
    /// In the order of their places.
    Many(&'a [(usize, Key<'a>)]),
}

impl<'a> Request<'a> {
    /// A request with these arguments, of which there is at least one.
    pub fn new(args: &'a [&'a [u8]]) -> Self {
        Self { args, known: Known::None }
    }

    /// As [`Request::new`], where `key` is argument `at` and already hashed.
    pub fn with_key(args: &'a [&'a [u8]], at: usize, key: Key<'a>) -> Self {
        Self { args, known: Known::One(at, key) }
    }

    /// As [`Request::new`], where `keys` are the hashed keys at their places, in ascending order.
    pub fn with_keys(args: &'a [&'a [u8]], keys: &'a [(usize, Key<'a>)]) -> Self {
        Self { args, known: Known::Many(keys) }
    }

    /// Number of arguments, the name included: the arity check made sure of the command's minimum.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Never: a request has a name.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `at`; 0 is the name. Panics beyond the end: check `len` for optional ones.
    pub fn arg(&self, at: usize) -> &'a [u8] {
        self.args[at]
    }

    /// Argument `at`, if there are that many.
    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        self.args.get(at).copied()
    }

    /// The arguments from `at` on.
    pub fn rest(&self, at: usize) -> &'a [&'a [u8]] {
        &self.args[at.min(self.args.len())..]
    }

    /// All arguments.
    pub fn args(&self) -> &'a [&'a [u8]] {
        self.args
    }

    /// Argument `at` as a key. Costs nothing for the key that routing hashed.
    #[inline(always)]
    pub fn key(&self, at: usize) -> Key<'a> {
        match self.known {
            Known::One(known, key) if known == at => key,
            _ => self.further_key(at),
        }
    }

    fn further_key(&self, at: usize) -> Key<'a> {
        match self.known {
            Known::Many(keys) => match keys.binary_search_by_key(&at, |(at, _)| *at) {
                Ok(index) => keys[index].1,
                Err(_) => Key::new(self.args[at]),
            },
            _ => Key::new(self.args[at]),
        }
    }

    /// Whether argument `at` is the option `word`, in any case. `word` is in lower case.
    pub fn is_word(&self, at: usize, word: &str) -> bool {
        self.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}
