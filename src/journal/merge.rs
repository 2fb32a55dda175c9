//! The parcels of all shards in the order of their stamps, and the stream that they make.

use std::collections::BTreeMap;

use super::recorder::{Audience, Parcel, Stamp, write_effect};

/// What has come and is not due yet. `T` is whatever takes a stamp, or some that follow each other.
#[derive(Debug)]
pub struct Merge<T> {
    /// The stamp that is due next.
    next: Stamp,
    /// By the first stamp of each; with the last.
    early: BTreeMap<Stamp, (Stamp, T)>,
}

impl<T> Default for Merge<T> {
    fn default() -> Self {
        Self { next: Stamp(1), early: BTreeMap::new() }
    }
}

impl<T> Merge<T> {
    /// Something has come that has the stamps from `first` to `last`.
    pub fn put(&mut self, first: Stamp, last: Stamp, item: T) {
        debug_assert!(self.next <= first && first <= last, "a stamp is given once");
        self.early.insert(first, (last, item));
    }

    /// Takes what is due, if it is there, with its last stamp.
    pub fn pop(&mut self) -> Option<(Stamp, T)> {
        let first = self.early.first_entry().filter(|first| *first.key() == self.next)?;
        let (last, item) = first.remove();
        self.next = Stamp(last.0 + 1);
        Some((last, item))
    }

    /// The stamp that was handed out last; 0 at the start.
    pub fn last(&self) -> Stamp {
        Stamp(self.next.0 - 1)
    }

    /// Whether something waits for what was stamped before it.
    pub fn is_waiting(&self) -> bool {
        !self.early.is_empty()
    }
}

/// Where in a stream the database was selected last: each reader of its own (a file, the backlog) needs one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stream {
    db: Option<u16>,
}

impl Stream {
    /// A stream whose reader begins anew: the next effect is preceded by a SELECT.
    pub fn begin_anew(&mut self) {
        self.db = None;
    }

    /// The database that is selected, if one has been.
    pub fn db(&self) -> Option<u16> {
        self.db
    }

    /// Appends what is for `reader` of a parcel to `out`, with a SELECT wherever the database changes.
    pub fn append(&mut self, parcel: &Parcel, reader: Audience, out: &mut Vec<u8>) {
        let mut from = 0;
        for stretch in &parcel.stretches {
            if stretch.audience.and(reader) == Audience::NONE {
                from = stretch.end;
                continue;
            }
            if self.db != Some(stretch.db) {
                self.db = Some(stretch.db);
                write_effect(out, &[b"SELECT", itoa::Buffer::new().format(stretch.db).as_bytes()]);
            }
            out.extend_from_slice(&parcel.bytes[from..stretch.end]);
            from = stretch.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::{Recorder, Unit};
    use super::*;

    #[test]
    fn what_comes_early_waits() {
        let mut merge = Merge::default();
        merge.put(Stamp(2), Stamp(2), 'b');
        merge.put(Stamp(6), Stamp(6), 'd');
        assert_eq!(merge.pop(), None);
        merge.put(Stamp(1), Stamp(1), 'a');
        assert_eq!(merge.pop(), Some((Stamp(1), 'a')));
        assert_eq!(merge.pop(), Some((Stamp(2), 'b')));
        assert_eq!((merge.pop(), merge.is_waiting(), merge.last()), (None, true, Stamp(2)));
        merge.put(Stamp(3), Stamp(5), 'c');
        assert_eq!([merge.pop(), merge.pop()].map(|popped| popped.unwrap().1), ['c', 'd']);
        assert!(!merge.is_waiting());
    }

    #[test]
    fn a_select_stands_before_multi_and_wherever_the_database_changes() {
        let mut recorder = Recorder::default();
        recorder.set_readers(Audience::ALL);
        recorder.open(Unit::default());
        recorder.end_command(3, &[b"INCR", b"a"], true);
        recorder.end_command(4, &[b"INCR", b"b"], true);
        recorder.close_unit();
        recorder.end_command(4, &[b"INCR", b"c"], true);
        let (mut stream, mut out) = (Stream::default(), Vec::new());
        stream.append(&recorder.take_parcel(Stamp(1)), Audience::FILE, &mut out);
        let text = String::from_utf8(out).unwrap();
        let words = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        assert_eq!(
            words.collect::<Vec<_>>().join(" ").trim(),
            "SELECT 3 MULTI INCR a SELECT 4 INCR b EXEC INCR c"
        );
    }

    #[test]
    fn each_reader_gets_what_is_for_it() {
        let mut recorder = Recorder::default();
        recorder.set_readers(Audience::ALL);
        recorder.open(Unit::default());
        recorder.end_command(0, &[b"INCR", b"a"], true);
        recorder.for_replicas(0, &[b"PUBLISH", b"c", b"m"]);
        recorder.set_audience(Audience::FILE);
        recorder.end_command(3, &[b"INCR", b"b"], true);
        recorder.set_audience(Audience::ALL);
        recorder.close_unit();
        let parcel = recorder.take_parcel(Stamp(1));
        for (reader, expected) in [
            (Audience::FILE, "SELECT 0 MULTI INCR a SELECT 3 INCR b EXEC"),
            (Audience::REPLICAS, "SELECT 0 MULTI INCR a PUBLISH c m SELECT 3 EXEC"),
        ] {
            let (mut stream, mut out) = (Stream::default(), Vec::new());
            stream.append(&parcel, reader, &mut out);
            let text = String::from_utf8(out).unwrap();
            let words = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
            assert_eq!(words.collect::<Vec<_>>().join(" ").trim(), expected);
        }
        recorder.set_readers(Audience::FILE);
        recorder.for_replicas(0, &[b"PUBLISH", b"c", b"m"]);
        recorder.end_command(0, &[b"PUBLISH", b"c", b"m"], false);
        assert!(!recorder.has_parcel(), "nobody reads it");
    }
}
