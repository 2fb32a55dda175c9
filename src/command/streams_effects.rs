//! What is recorded when a group delivers: XCLAIM says whose an entry is from when on, whoever executes it
//! and whenever; XGROUP says the rest.
//!
//! As in Redis 7.0, reading one's own pending entries once more is not recorded, though it counts as
//! a delivery. Other than in Redis, a consumer that was made known without getting anything is recorded, so
//! that it is there after a restart.

use crate::datatypes::stream::{Pending, StreamId};
use crate::journal::Recorder;

/// A group within what is recorded of it.
pub(super) struct GroupEffects<'a> {
    journal: &'a mut Recorder,
    db: usize,
    key: &'a [u8],
    group: &'a [u8],
}

impl<'a> GroupEffects<'a> {
    /// Of the group called `group` of the stream at `key`. The command that is at work has no effect but what is
    /// recorded here.
    pub(super) fn new(
        journal: &'a mut Recorder,
        db: usize,
        key: &'a [u8],
        group: &'a [u8],
    ) -> Self {
        journal.nothing();
        Self { journal, db, key, group }
    }

    /// An entry is pending for `consumer`.
    pub(super) fn delivered(
        &mut self,
        consumer: &[u8],
        id: StreamId,
        pending: &Pending,
        last_id: StreamId,
    ) {
        if self.journal.is_on() {
            self.claimed(consumer, id.to_string().as_bytes(), pending, last_id);
        }
    }

    /// The entry that the client calls `id` is pending for `consumer`, or was until it turned out to be removed.
    pub(super) fn claimed(
        &mut self,
        consumer: &[u8],
        id: &[u8],
        pending: &Pending,
        last_id: StreamId,
    ) {
        if !self.journal.is_on() {
            return;
        }
        let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        let last_id = last_id.to_string();
        self.journal.instead(
            self.db,
            &[
                b"XCLAIM",
                self.key,
                self.group,
                consumer,
                b"0",
                id,
                b"TIME",
                time.format(pending.delivered_ms).as_bytes(),
                b"RETRYCOUNT",
                // Signed, as whoever executes it reads it.
                count.format(pending.deliveries as i64).as_bytes(),
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                last_id.as_bytes(),
            ],
        );
    }

    /// `consumer` is known from now on.
    pub(super) fn consumer_created(&mut self, consumer: &[u8]) {
        let words = [b"XGROUP", b"CREATECONSUMER" as &[u8], self.key, self.group, consumer];
        self.journal.instead(self.db, &words);
    }

    /// The group has read up to an entry without keeping it as pending.
    pub(super) fn read_up_to(&mut self, last_id: StreamId, entries_read: Option<i64>) {
        if !self.journal.is_on() {
            return;
        }
        let (last_id, mut count) = (last_id.to_string(), itoa::Buffer::new());
        self.journal.instead(
            self.db,
            &[
                b"XGROUP",
                b"SETID",
                self.key,
                self.group,
                last_id.as_bytes(),
                b"ENTRIESREAD",
                count.format(entries_read.unwrap_or(-1)).as_bytes(),
            ],
        );
    }
}
