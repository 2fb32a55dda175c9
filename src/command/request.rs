//! A command as a client sent it.

use crate::keyspace::Key;

/// The arguments of one command; the first is its name.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    args: &'a [&'a [u8]],
    /// The key that routing already hashed, and its place.
    known: Option<(usize, Key<'a>)>,
}

impl<'a> Request<'a> {
    /// A request with these arguments, of which there is at least one.
    pub fn new(args: &'a [&'a [u8]]) -> Self {
        Self { args, known: None }
    }

    /// As [`Request::new`], where `key` is argument `at` and already hashed.
    pub fn with_key(args: &'a [&'a [u8]], at: usize, key: Key<'a>) -> Self {
        Self { args, known: Some((at, key)) }
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
    pub fn key(&self, at: usize) -> Key<'a> {
        match self.known {
            Some((known, key)) if known == at => key,
            _ => Key::new(self.args[at]),
        }
    }

    /// Whether argument `at` is the option `word`, in any case. `word` is in lower case.
    pub fn is_word(&self, at: usize, word: &str) -> bool {
        self.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }
}
