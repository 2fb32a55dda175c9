//! One thread of a run: which connection may ask now, and what its replies mean.
//!
//! Closed loop: each connection keeps `pipeline` requests in flight, so a slow server is asked
//! less. Open loop (`--rate`): requests fall due by the [`Schedule`] whatever the server does, wait
//! for room on their connection if they must, and count their latency from when they were due.
//!
//! Promise: requests of a connection are answered in order, so a connection's send times are a
//! queue; every request that was issued is counted once, as answered or as unanswered.

use std::collections::VecDeque;
use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::failure::Failure;
use crate::interrupt::CHECK_INTERVAL;
use crate::protocol::{ProtocolError, ReplyKind, ReplyScanner};
use crate::ring::{Event, Ring};
use crate::schedule::{NANOS_PER_SECOND, Schedule};
use crate::tally::Tally;
use crate::workload::Workload;

/// How long replies are waited for once a run's time is over.
const DRAIN_NANOS_MAX: u64 = 5 * NANOS_PER_SECOND;

/// What one thread is to do.
pub struct Job {
    /// Requests that may be in flight on a connection.
    pub pipeline: usize,
    /// Requests of this thread, in a closed loop; `None` for no limit.
    pub budget: Option<u64>,
    /// When to stop asking; `None` for no limit.
    pub duration: Option<Duration>,
    /// When to ask, in an open loop.
    pub schedule: Option<Schedule>,
    /// The number that each connection of this thread has in the schedule.
    pub numbers: Vec<usize>,
    /// What to ask.
    pub workload: Workload,
}

/// One connection's share of the loop.
#[derive(Default)]
struct Connection {
    scanner: ReplyScanner,
    /// Intended send times of the requests without a reply, oldest first.
    in_flight: VecDeque<u64>,
    /// Encoded requests that wait for the chunk before them to leave.
    output: Vec<u8>,
    /// The other buffer, unless the ring is sending it.
    spare: Option<Vec<u8>>,
    /// Requests that have fallen due, in an open loop.
    due: u64,
    issued: u64,
    /// When the last reply made room.
    room_since: u64,
    /// Whether it stands in the list of connections to look at.
    is_listed: bool,
}

/// The next send of the schedule: connections take turns.
#[derive(Clone, Copy, Default)]
struct Cursor {
    connection: usize,
    nth: u64,
}

/// One thread's loop.
pub struct Driver {
    job: Job,
    connections: Vec<Connection>,
    /// Connections that may have something to ask or to send.
    listed: Vec<usize>,
    /// The empty list of the turn before, kept for its memory.
    listed_before: Vec<usize>,
    cursor: Cursor,
    in_flight: u64,
    /// Set once nothing new may be asked.
    is_stopping: bool,
    tally: Tally,
    failure: Option<Failure>,
    /// When the last reply came.
    last_reply: u64,
}

/// How one thread ended.
#[derive(Debug)]
pub struct Ending {
    /// What it counted since its last message.
    pub tally: Tally,
    /// Nanoseconds from the start to its last reply.
    pub last_reply_nanos: u64,
    /// Why it ended early.
    pub failure: Option<Failure>,
}

/// A message of a thread.
#[derive(Debug)]
pub enum Message {
    /// What it counted in another second.
    Interval(Tally),
    /// It has ended.
    Ended(Ending),
}

impl Driver {
    /// A thread that is ready to start `job`.
    pub fn new(job: Job) -> Self {
        let connection = |_: &usize| Connection {
            spare: Some(Vec::new()),
            is_listed: true,
            ..Default::default()
        };
        Self {
            connections: job.numbers.iter().map(connection).collect(),
            listed: (0..job.numbers.len()).collect(),
            listed_before: Vec::new(),
            cursor: Cursor::default(),
            in_flight: 0,
            is_stopping: false,
            tally: Tally::default(),
            failure: None,
            last_reply: 0,
            job,
        }
    }

    /// The ring of this thread's connections, made here because it belongs to the calling thread.
    pub fn ring(sockets: Vec<Socket>) -> Result<Ring, Failure> {
        Ring::new(sockets).map_err(Failure::Ring)
    }

    /// Runs to the end, or until `stop` is set, sending a tally each second.
    pub fn run(
        mut self,
        mut ring: Ring,
        start: Instant,
        stop: &AtomicBool,
        messages: &Sender<Message>,
    ) -> Ending {
        let nanos = || start.elapsed().as_nanos() as u64;
        let mut next_interval = NANOS_PER_SECOND;
        let mut now = nanos();
        while !stop.load(Ordering::Relaxed) && self.before_waiting(now, &mut ring).is_continue() {
            let wait = self.wait_nanos(now, next_interval);
            if let Err(error) = ring.submit_and_wait(Duration::from_nanos(wait)) {
                self.failure = Some(Failure::Ring(error));
                break;
            }
            // Everything reaped below had arrived by now.
            now = nanos();
            ring.reap(|event| self.on_event(now, event));
            if now >= next_interval {
                next_interval = (now / NANOS_PER_SECOND + 1) * NANOS_PER_SECOND;
                // Nobody listens any more only if the run is being given up.
                let _ = messages.send(Message::Interval(mem::take(&mut self.tally)));
            }
        }
        self.end()
    }

    /// Issues what may be asked now. Breaks when there is nothing left to wait for.
    fn before_waiting(&mut self, now: u64, ring: &mut Ring) -> ControlFlow<()> {
        if self.failure.is_some() {
            return ControlFlow::Break(());
        }
        let deadline = self.deadline().unwrap_or(u64::MAX);
        let is_over = now >= deadline;
        // A schedule's last requests fell due before the deadline and leave even if we woke late.
        self.is_stopping |= is_over && self.job.schedule.is_none();
        if !self.is_stopping {
            self.list_due(now.min(deadline.saturating_sub(1)));
        }
        let mut turn = mem::replace(&mut self.listed, mem::take(&mut self.listed_before));
        for index in turn.drain(..) {
            self.connections[index].is_listed = false;
            self.issue(index, now);
            self.flush(index, ring);
        }
        self.listed_before = turn;
        self.is_stopping |= is_over;
        let is_drained = self.in_flight == 0 && (self.is_stopping || !self.has_more_to_ask());
        if is_drained || now >= deadline.saturating_add(DRAIN_NANOS_MAX) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.job.duration.map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    fn has_more_to_ask(&self) -> bool {
        match &self.job.schedule {
            Some(_) => {
                self.next_due().is_some() || self.connections.iter().any(|c| c.due > c.issued)
            }
            None => self.job.budget != Some(0),
        }
    }

    /// When the next request falls due, if the schedule has one.
    fn next_due(&self) -> Option<u64> {
        let number = *self.job.numbers.get(self.cursor.connection)?;
        self.job.schedule.as_ref()?.intended_nanos(number, self.cursor.nth)
    }

    /// Moves the cursor over everything that is due, and lists the connections concerned.
    fn list_due(&mut self, now: u64) {
        while self.next_due().is_some_and(|due| due <= now) {
            let index = self.cursor.connection;
            self.connections[index].due += 1;
            self.list(index);
            self.cursor.connection += 1;
            if self.cursor.connection == self.connections.len() {
                self.cursor = Cursor { connection: 0, nth: self.cursor.nth + 1 };
            }
        }
    }

    fn list(&mut self, index: usize) {
        if !mem::replace(&mut self.connections[index].is_listed, true) {
            self.listed.push(index);
        }
    }

    /// Encodes all that connection `index` may ask now.
    fn issue(&mut self, index: usize, now: u64) {
        let connection = &mut self.connections[index];
        while !self.is_stopping && connection.in_flight.len() < self.job.pipeline {
            let intended = match &self.job.schedule {
                Some(_) if connection.issued >= connection.due => return,
                Some(schedule) => {
                    let number = self.job.numbers[index];
                    let due = schedule.intended_nanos(number, connection.issued).unwrap_or(now);
                    let possible = due.max(connection.room_since);
                    self.tally.lag.record_nanos(now.saturating_sub(possible));
                    due
                }
                None => match &mut self.job.budget {
                    Some(0) => return,
                    Some(left) => {
                        *left -= 1;
                        now
                    }
                    None => now,
                },
            };
            connection.issued += 1;
            connection.in_flight.push_back(intended);
            self.in_flight += 1;
            self.job.workload.append_request(&mut connection.output);
        }
    }

    /// Hands the encoded requests to the ring unless it is still sending the chunk before.
    fn flush(&mut self, index: usize, ring: &mut Ring) {
        let connection = &mut self.connections[index];
        if connection.output.is_empty() {
            return;
        }
        if let Some(spare) = connection.spare.take() {
            let chunk = mem::replace(&mut connection.output, spare);
            self.tally.bytes_out += chunk.len() as u64;
            ring.send(index, chunk);
        }
    }

    /// How long nothing has to be done: until a request falls due, a second ends or someone could
    /// have pressed Ctrl-C.
    fn wait_nanos(&self, now: u64, next_interval: u64) -> u64 {
        let check = now + CHECK_INTERVAL.as_nanos() as u64;
        let next_due = if self.is_stopping { None } else { self.next_due() };
        let deadline = self.deadline().filter(|_| !self.is_stopping);
        let wake = [Some(check), Some(next_interval), next_due, deadline];
        wake.into_iter().flatten().min().map_or(0, |wake| wake.saturating_sub(now))
    }

    fn on_event(&mut self, now: u64, event: Event<'_>) {
        match event {
            Event::Received { connection, bytes } => {
                self.list(connection);
                if let Err(error) = self.on_bytes(now, connection, bytes) {
                    self.failure.get_or_insert(Failure::Protocol(error));
                }
            }
            Event::Sent { connection, chunk } => {
                self.list(connection);
                self.connections[connection].spare = Some(chunk);
            }
            // What it still had in flight is counted as unanswered at the end.
            Event::Closed { error, .. } => {
                self.failure.get_or_insert(Failure::Lost(error));
            }
        }
    }

    fn on_bytes(&mut self, now: u64, index: usize, bytes: &[u8]) -> Result<(), ProtocolError> {
        let Connection { scanner, in_flight, room_since, .. } = &mut self.connections[index];
        let tally = &mut self.tally;
        tally.bytes_in += bytes.len() as u64;
        let (mut answered, mut unexpected, mut erred) = (0, false, false);
        scanner.scan(bytes, |kind| {
            let Some(intended) = in_flight.pop_front() else {
                unexpected = true;
                return;
            };
            tally.latency.record_nanos(now.saturating_sub(intended));
            answered += 1;
            match kind {
                ReplyKind::Value => {}
                ReplyKind::Null => tally.nulls += 1,
                ReplyKind::Error => {
                    tally.errors += 1;
                    erred = true;
                }
            }
        })?;
        if erred && tally.first_error.is_none() {
            tally.first_error = scanner.first_error();
        }
        tally.requests += answered;
        self.in_flight -= answered;
        if answered > 0 {
            *room_since = now;
            self.last_reply = now;
        }
        if unexpected { Err(ProtocolError::UnexpectedReply) } else { Ok(()) }
    }

    fn end(mut self) -> Ending {
        self.tally.unanswered += self.in_flight;
        // In a closed loop nothing is ever due, so nothing is unsent.
        let unsent = |c: &Connection| c.due.saturating_sub(c.issued);
        self.tally.unsent += self.connections.iter().map(unsent).sum::<u64>();
        Ending { tally: self.tally, last_reply_nanos: self.last_reply, failure: self.failure }
    }
}
