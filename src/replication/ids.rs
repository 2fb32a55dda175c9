//! Names of histories: which streams continue which.

use std::fmt;

/// The name of a history: 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplId([u8; ReplId::LEN]);

impl ReplId {
    /// Bytes of a name.
    pub const LEN: usize = 40;
    /// What stands for no history.
    pub const NONE: ReplId = ReplId([b'0'; ReplId::LEN]);

    /// A name from 20 random bytes.
    pub fn from_random(random: [u8; 20]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = [0; Self::LEN];
        for (pair, byte) in name.chunks_exact_mut(2).zip(random) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(name)
    }

    /// A name as it is written; `None` if it has another length.
    pub fn parse(text: &[u8]) -> Option<Self> {
        text.try_into().ok().map(Self)
    }

    /// The bytes of the name.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// The name as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The history that a node is in, and the one that it was in before it was promoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Its name.
    pub id: ReplId,
    /// Position of the end.
    pub end: u64,
    /// The former name, and up to which position (inclusive) it means the same stream.
    pub former: Option<(ReplId, u64)>,
}

impl History {
    /// A history that begins.
    pub fn new(id: ReplId) -> Self {
        Self { id, end: 0, former: None }
    }

    /// Whether somebody who is at `position` of the history `id` is in this one.
    pub fn includes(&self, id: &[u8], position: u64) -> bool {
        if id == self.id.as_bytes() {
            return position <= self.end;
        }
        self.former.is_some_and(|(former, until)| {
            id == former.as_bytes() && position <= until && position <= self.end
        })
    }

    /// Goes on under another name: replicas of the old one may follow if they have no more than this node.
    pub fn rename(&mut self, id: ReplId) {
        self.former = Some((self.id, self.end));
        self.id = id;
    }

    /// `second_repl_offset` of INFO: −1 if there is no former name.
    pub fn second_offset(&self) -> i64 {
        self.former.map_or(-1, |(_, until)| until as i64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promoted_node_takes_those_who_have_no_more_than_it_had() {
        let (a, b) = (ReplId::from_random([0xa1; 20]), ReplId::from_random([0xb2; 20]));
        assert_eq!(a.to_string(), "a1".repeat(20));
        let mut history = History::new(a);
        history.end = 100;
        assert!(history.includes(a.as_bytes(), 100) && !history.includes(a.as_bytes(), 101));
        assert!(!history.includes(b.as_bytes(), 0) && !history.includes(b"?", 0));
        assert_eq!(history.second_offset(), -1);
        history.rename(b);
        history.end = 150;
        assert!(history.includes(a.as_bytes(), 100) && !history.includes(a.as_bytes(), 101));
        assert!(history.includes(b.as_bytes(), 150) && !history.includes(b.as_bytes(), 151));
        assert_eq!(history.second_offset(), 101);
        assert_eq!(ReplId::parse(b"short"), None);
        assert_eq!(ReplId::parse(a.as_bytes()), Some(a));
    }
}
