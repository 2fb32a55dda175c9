//! What a shard does between turns: removing keys whose time has come, freeing what was deleted,
//! closing clients that are idle for too long. All in slices.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Shard;
use crate::config::values::BufferLimits;
use crate::keyspace::Budget;
use crate::reactor::ConnId;

/// How long one slice of freeing, and one of expiring, may take: with both and the steps that cannot be cut,
/// a turn without commands stays well below a millisecond.
const SLICE_TIME: Duration = Duration::from_micros(200);
/// How often idle clients are looked for.
const CLIENTS_PERIOD: Duration = Duration::from_secs(1);
/// How long a client that will say no more may take to read its replies. (Redis drops them at once.)
const LEAVING_TIME: Duration = Duration::from_secs(5);
/// When what is due.
#[derive(Default)]
pub(super) struct Background {
    clients_checked: Option<Instant>,
    /// Clients that will say no more, and until when they may read.
    leaving: VecDeque<(Instant, ConnId)>,
}

impl Shard {
    /// One slice of everything; true if more is to be done at once.
    pub(super) fn background_slice(&mut self) -> bool {
        let mut more = self.save_slice() | self.load_slice();
        more |= self.lost_slots_slice(Budget::new(SLICE_TIME));
        if !self.engine.keyspace.has_slices() {
            return more | self.engine.eviction.goes_on();
        }
        more |= self.engine.keyspace.free_slice(&mut Budget::new(SLICE_TIME));
        if self.expires() {
            more |= self.engine.keyspace.expire_slice(&mut Budget::new(SLICE_TIME));
        }
        more | self.engine.eviction.goes_on()
    }

    /// When the shard has to wake up though nobody calls.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let expiry = self.engine.keyspace.next_expiry_ms().filter(|_| self.expires()).map(|at| {
            let ms = (at - self.engine.keyspace.now_ms()).clamp(1, 3_600_000);
            now + Duration::from_millis(ms as u64)
        });
        let clients = (self.watches_clients() && !self.sessions.is_empty()).then(|| {
            self.background.clients_checked.map_or(now, |checked| checked + CLIENTS_PERIOD)
        });
        let waiting = self.deadlines.first().map(|(at, _)| {
            let ms = (at - self.engine.keyspace.now_ms()).clamp(1, 3_600_000);
            now + Duration::from_millis(ms as u64)
        });
        let pause = self.engine.refusals.pause().map(|pause| {
            let ms = (pause.until_ms - self.engine.keyspace.now_ms()).clamp(1, 3_600_000);
            now + Duration::from_millis(ms as u64)
        });
        let slow_readers = self.slow_readers.deadline();
        let leaving = self.background.leaving.front().map(|(until, _)| *until);
        let clients = clients.into_iter().chain(leaving).chain(slow_readers).chain(pause);
        let parcels = self.outbox.deadline().into_iter().chain(self.forwarding.deadline(now));
        expiry.into_iter().chain(waiting).chain(clients).chain(parcels).min()
    }

    /// `conn` will say no more: if it does not read its replies in time, it is closed without.
    pub(super) fn note_leaving(&mut self, conn: ConnId) {
        self.forget_left();
        self.background.leaving.push_back((Instant::now() + LEAVING_TIME, conn));
    }

    fn forget_left(&mut self) {
        while let Some((_, conn)) = self.background.leaving.front()
            && self.sessions.get(*conn).is_none()
        {
            self.background.leaving.pop_front();
        }
    }

    /// Closes those whose time to read is over.
    pub(super) fn close_leaving(&mut self, now: Instant) {
        while let Some((until, conn)) = self.background.leaving.front().copied()
            && until <= now
        {
            self.background.leaving.pop_front();
            if self.sessions.get(conn).is_some() {
                tracing::debug!(?conn, "closing client: it sends no more and does not read");
                self.cut(conn);
            }
        }
    }

    fn expires(&self) -> bool {
        self.engine.keyspace.switches.active_expiry && !self.engine.keyspace.keeps_expired()
    }

    fn watches_clients(&self) -> bool {
        let limits = &self.engine.config.client_output_buffer_limit;
        let has_soft = |limits: BufferLimits| limits.soft > 0 && limits.soft_seconds > 0;
        self.engine.config.timeout > 0
            || has_soft(limits.normal)
            || (self.registry.has_clients() && has_soft(limits.pubsub))
    }

    /// Closes clients that were idle too long, and those too long over their soft output limit.
    pub(super) fn check_clients(&mut self, now: Instant) {
        let due = self.background.clients_checked.is_none_or(|last| now >= last + CLIENTS_PERIOD);
        if !due || !self.watches_clients() {
            return;
        }
        self.background.clients_checked = Some(now);
        let now_ms = self.engine.keyspace.now_ms();
        let timeout_ms = self.engine.config.timeout as i64 * 1000;
        let limits = &self.engine.config.client_output_buffer_limit;
        let (mut idle, mut slow) = (Vec::new(), Vec::new());
        for (conn, session) in self.sessions.iter() {
            // A subscriber has nothing to say, and is not idle for that.
            let may_idle = session.subscribed.any() || !session.may_run();
            if timeout_ms > 0 && now_ms - session.active_ms > timeout_ms && !may_idle {
                idle.push(conn);
            }
            let soft_ms = i64::from(session.output_limits(limits).soft_seconds) * 1000;
            if session.over_soft_limit_since.is_some_and(|since| now_ms - since > soft_ms) {
                slow.push(conn);
            }
        }
        for conn in idle {
            tracing::debug!(?conn, "closing idle client");
            self.cut(conn);
        }
        for conn in slow {
            tracing::warn!(?conn, "closing client: over the soft output limit for too long");
            self.cut(conn);
        }
    }
}
