//! What a stream counts, and what follows from it for groups: how many entries they have read and how
//! many are ahead of them.
//!
//! Entries have no index, so a group's number of entries read is kept while it reads, and estimated
//! where the counters allow it. A deleted entry ahead makes it unknown. The rules are Redis 7.0's, quirks
//! included, for clients compare `entries-read` and `lag`.

use super::id::StreamId;

/// The figures of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Live entries.
    pub len: u64,
    /// The highest id that the stream has ever had.
    pub last_id: StreamId,
    /// The first live entry; zero if there is none.
    pub first_id: StreamId,
    /// The highest id that XDEL removed.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
}

impl Counters {
    /// Whether an entry at `from` or above was removed by XDEL, as far as the counters tell.
    pub fn has_tombstone_from(&self, from: StreamId) -> bool {
        let fragmented = self.len > 0 && self.max_deleted_id != StreamId::MIN;
        fragmented && self.first_id <= self.max_deleted_id && from <= self.max_deleted_id
    }

    /// How many entries were added up to `id`, if that can be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(added);
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(added);
        }
        let fragmented =
            self.max_deleted_id != StreamId::MIN && self.max_deleted_id >= self.first_id;
        if fragmented || id > self.first_id {
            return None;
        }
        let before = added.wrapping_sub(self.len as i64);
        Some(if id == self.first_id { before.wrapping_add(1) } else { before })
    }

    /// Entries that a group which has read up to `last_id` has yet to read, if that can be told.
    pub fn lag(&self, last_id: StreamId, entries_read: Option<i64>) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let read = entries_read.filter(|_| !self.has_tombstone_from(last_id));
        let read = read.or_else(|| self.entries_up_to(last_id))?;
        Some((self.entries_added as i64).wrapping_sub(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    /// Ten entries were added, of which 4 to 10 are left; the last id was moved on to 12.
    const COUNTERS: Counters = Counters {
        len: 7,
        last_id: id(12),
        first_id: id(4),
        max_deleted_id: StreamId::MIN,
        entries_added: 10,
    };

    #[test]
    fn a_lag_is_told_where_nothing_was_removed_ahead() {
        let removed = Counters { len: 6, max_deleted_id: id(6), ..COUNTERS };
        let removed_before = Counters { max_deleted_id: id(3), ..COUNTERS };
        let emptied = Counters { len: 0, first_id: id(0), ..COUNTERS };
        for (counters, last_id, read, lag) in [
            (Counters::default(), id(5), Some(3), Some(0)),
            (COUNTERS, id(0), None, Some(7)),
            (COUNTERS, id(4), None, Some(6)),
            (COUNTERS, id(5), None, None),
            (COUNTERS, id(5), Some(5), Some(5)),
            (COUNTERS, id(12), None, Some(0)),
            (COUNTERS, id(13), None, None),
            (COUNTERS, id(5), Some(11), Some(-1)),
            (removed, id(0), None, None),
            (removed, id(5), Some(5), None),
            (removed, id(6), Some(6), None),
            (removed, id(7), Some(7), Some(3)),
            (removed, id(12), None, Some(0)),
            (removed_before, id(0), None, Some(7)),
            (removed_before, id(2), Some(2), Some(8)),
            (emptied, id(5), None, Some(0)),
            (emptied, id(5), Some(5), Some(5)),
        ] {
            assert_eq!(counters.lag(last_id, read), lag, "{counters:?} {last_id} {read:?}");
        }
    }
}
