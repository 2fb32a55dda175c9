//! Clients that ask for more than they read.
//!
//! Redis makes every reply at once and holds it, however long, unless `client-output-buffer-limit` says
//! otherwise. Here the commands of a client wait while more than some megabytes of its replies are unsent:
//! one turn makes no more for it than that. Its requests take less room than their replies, mostly.
//!
//! Waiting must not become a deadlock. A client may write all its requests before it reads the first reply, or may
//! wait for the effect of one before it reads. So its input is always read; when
//! [`HELD_INPUT_BYTES_MAX`] of it wait, or when it has waited for [`HOLD_TIME`], the next commands run and make
//! as many replies again. Whoever does not read at all ends up with all its replies held, as in Redis, and
//! meets its limits, only a little later.
//!
//! Promise: nobody is slowed who reads what it asked for, nobody waits for ever, and no turn makes more than
//! [`OUTPUT_BYTES_MAX`] and one reply for one client, on each shard.

use std::time::{Duration, Instant};

use super::Shard;
use super::input::HELD_INPUT_BYTES_MAX;
use crate::reactor::ConnId;
use crate::session::{Hold, OUTPUT_BYTES_MAX};

/// How long commands wait for a client that does not read.
const HOLD_TIME: Duration = Duration::from_millis(100);

/// The clients with too much unsent output.
#[derive(Default)]
pub(super) struct SlowReaders {
    conns: Vec<ConnId>,
    /// When the first of them has waited long enough.
    deadline: Option<Instant>,
}

impl SlowReaders {
    /// When the shard has to look at them.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Shard {
    /// Whether the commands of `conn` have to wait until it reads.
    pub(super) fn reads_too_slowly(&mut self, conn: ConnId) -> bool {
        let Some(session) = self.sessions.get(conn) else { return false };
        let slow = session.has_returned || session.unsent_bytes() > session.output_max;
        if slow {
            self.hold_for_output(conn);
        }
        slow
    }

    /// Whether commands of `conn` that came back from their owner stay here until it reads. Replies that wait
    /// for an earlier one do not count: it may be one of these that they wait for.
    pub(super) fn keeps_returned(&mut self, conn: ConnId) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let slow = session.has_returned || session.sendable_bytes() > session.output_max;
        if slow {
            session.has_returned = true;
            self.hold_for_output(conn);
        }
        slow
    }

    fn hold_for_output(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.hold == Hold::None {
            session.hold = Hold::Output;
        }
        if !std::mem::replace(&mut session.reads_slowly, true) {
            self.slow_readers.conns.push(conn);
            self.slow_readers.deadline.get_or_insert_with(|| Instant::now() + HOLD_TIME);
        }
    }

    /// `conn` took some of its output: goes on if it was waited for.
    #[inline]
    pub(super) fn output_taken(&mut self, conn: ConnId) {
        if self.sessions.get(conn).is_some_and(|session| session.reads_slowly) {
            self.slow_output_taken(conn);
        }
    }

    #[cold]
    fn slow_output_taken(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let enough = OUTPUT_BYTES_MAX / 2;
        if session.unsent_bytes() <= enough {
            session.output_max = OUTPUT_BYTES_MAX;
            self.slow_readers.conns.retain(|slow| *slow != conn);
            self.end_output_hold(conn);
        } else if session.has_returned && session.sendable_bytes() <= enough {
            session.has_returned = false;
            self.send_returned(conn);
        }
    }

    /// More input came from a client that is waited for: when it is much, its commands go on.
    pub(super) fn input_behind_output(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get(conn)
            && session.hold == Hold::Output
            && session.query.len() > HELD_INPUT_BYTES_MAX
        {
            self.slow_readers.conns.retain(|slow| *slow != conn);
            self.allow_more_output(conn);
        }
    }

    /// Lets those go on that have waited long enough.
    pub(super) fn go_on_with_slow_readers(&mut self, now: Instant) {
        if self.slow_readers.deadline.is_some_and(|at| at <= now) {
            self.slow_readers.deadline = None;
            for conn in std::mem::take(&mut self.slow_readers.conns) {
                self.allow_more_output(conn);
            }
        }
    }

    fn allow_more_output(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.output_max = session.unsent_bytes() + OUTPUT_BYTES_MAX;
            self.end_output_hold(conn);
        }
    }

    /// The commands of `conn` go on: first those that came back, then those that have not run.
    fn end_output_hold(&mut self, conn: ConnId) {
        self.send_returned(conn);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.has_returned = false;
        session.reads_slowly = false;
        if session.hold == Hold::Output {
            session.hold = Hold::None;
            self.resumable.push_back(conn);
        }
    }
}
