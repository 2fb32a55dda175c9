//! What happens to keys within a look-up or an insertion, where no handler sees it: a key turns out to have
//! expired, to be missing, or comes into being. Kept for keyspace events, in the order of events.
//!
//! Promise: what nobody wants costs a branch; and so does a command without notes, however many databases there are.

use std::cell::Cell;
use std::rc::Rc;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// The key was removed because its time had come.
    Expired,
    /// A command that reads did not find the key.
    Missed,
    /// The key was created.
    Created,
}

/// Which notes are kept.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NotesWanted {
    /// [`Note::Expired`].
    pub expired: bool,
    /// [`Note::Missed`].
    pub missed: bool,
    /// [`Note::Created`].
    pub created: bool,
}

impl NotesWanted {
    /// Whether any are.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// Whether some database of a keyspace may have notes.
#[derive(Clone, Default)]
pub(super) struct Noted(Rc<Cell<bool>>);

impl Noted {
    /// Whether there may be notes; not any more, as far as this knows.
    #[inline]
    pub(super) fn take(&self) -> bool {
        self.0.replace(false)
    }
}

/// The notes of one database.
pub(super) struct Notes {
    pub(super) wanted: NotesWanted,
    noted: Noted,
    list: Vec<(Note, Box<[u8]>)>,
}

impl Notes {
    pub(super) fn new(noted: Noted) -> Self {
        Self { wanted: NotesWanted::default(), noted, list: Vec::new() }
    }

    #[inline]
    pub(super) fn expired(&mut self, key: &[u8]) {
        if self.wanted.expired {
            self.add(Note::Expired, key);
        }
    }

    #[inline]
    pub(super) fn missed(&mut self, key: &[u8]) {
        if self.wanted.missed {
            self.add(Note::Missed, key);
        }
    }

    #[inline]
    pub(super) fn created(&mut self, key: &[u8]) {
        if self.wanted.created {
            self.add(Note::Created, key);
        }
    }

    #[cold]
    fn add(&mut self, note: Note, key: &[u8]) {
        self.noted.0.set(true);
        self.list.push((note, key.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Drops the misses from the note at `from` on.
    pub(super) fn forget_misses(&mut self, from: usize) {
        let mut at = 0;
        self.list.retain(|(note, _)| {
            at += 1;
            at <= from || *note != Note::Missed
        });
    }

    pub(super) fn take(&mut self) -> Vec<(Note, Box<[u8]>)> {
        std::mem::take(&mut self.list)
    }
}
