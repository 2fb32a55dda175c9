//! A run from the outside: connect, start the threads together, gather what they count.
//!
//! All connections are open and logged in before the clock starts, and the threads wait for each
//! other, so that the first second is like the others.
//!
//! Promise: a run that fails half-way still returns what was counted until then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::client::{Client, Login, Target};
use crate::driver::{Driver, Ending, Job, Message};
use crate::failure::Failure;
use crate::schedule::{Schedule, share};
use crate::tally::Tally;
use crate::workload::{Workload, WorkloadSpec};

/// A run as the user gives it. A run without `requests` and `duration` goes on until it is stopped.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// What each connection says first.
    pub login: Login,
    /// Threads, at most as many as connections.
    pub threads: usize,
    /// Connections in all.
    pub connections: usize,
    /// Requests that may be in flight on a connection.
    pub pipeline: usize,
    /// Requests in all.
    pub requests: Option<u64>,
    /// When to stop asking.
    pub duration: Option<Duration>,
    /// Requests per second in all: an open loop. Without it the loop is closed.
    pub rate: Option<u64>,
    /// What to ask.
    pub workload: WorkloadSpec,
}

/// Requests in flight on a connection while keys are preloaded, at least: nobody measures that.
const PRELOAD_PIPELINE: usize = 64;

impl Plan {
    /// The run that writes each key once before this one.
    pub fn preload(&self) -> Self {
        Self {
            pipeline: self.pipeline.max(PRELOAD_PIPELINE),
            requests: Some(self.workload.keys),
            duration: None,
            rate: None,
            workload: self.workload.preload(),
            ..self.clone()
        }
    }

    fn job(&self, thread: usize) -> Result<Job, Failure> {
        let schedule = |rate| Schedule::new(rate, self.connections, self.requests);
        Ok(Job {
            pipeline: self.pipeline,
            budget: self.requests.map(|requests| share(requests, self.threads, thread)),
            duration: self.duration,
            schedule: self.rate.map(schedule),
            numbers: (thread..self.connections).step_by(self.threads).collect(),
            workload: Workload::new(&self.workload, thread, self.threads)?,
        })
    }
}

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub tally: Tally,
    /// From the start to the last reply.
    pub elapsed: Duration,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Why it ended early.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// Replies per second.
    pub fn throughput(&self) -> f64 {
        per_second(self.tally.requests, self.elapsed)
    }
}

/// `count` per second; 0 if no time passed.
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// What one second has shown.
#[derive(Debug)]
pub struct Interval<'a> {
    /// Time since the start.
    pub elapsed: Duration,
    /// Time since the interval before.
    pub length: Duration,
    /// What was counted.
    pub tally: &'a Tally,
}

/// Runs `plan` until its end or until `stop` is set, and calls `on_interval` each second. Fails
/// only if the run could not start.
pub fn run(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    on_interval: impl FnMut(&Interval<'_>),
) -> Result<Outcome, Failure> {
    let mut sockets_by_thread: Vec<Vec<Socket>> = (0..plan.threads).map(|_| Vec::new()).collect();
    for connection in 0..plan.connections {
        let socket = Client::connect(&plan.target, &plan.login)?.into_socket();
        sockets_by_thread[connection % plan.threads].push(socket);
    }
    let shared = Arc::new(Shared {
        barrier: Barrier::new(plan.threads),
        start: OnceLock::new(),
        stop: Arc::clone(stop),
    });
    let (messages, inbox) = mpsc::channel();
    let jobs: Vec<Job> = (0..plan.threads).map(|t| plan.job(t)).collect::<Result<_, _>>()?;
    let threads: Vec<JoinHandle<()>> = jobs
        .into_iter()
        .zip(sockets_by_thread)
        .map(|(job, sockets)| {
            let (shared, messages) = (Arc::clone(&shared), messages.clone());
            thread::spawn(move || run_thread(job, sockets, &shared, &messages))
        })
        .collect();
    drop(messages);
    let mut outcome = gather(plan.threads, &inbox, stop, on_interval);
    for thread in threads {
        if thread.join().is_err() {
            let panicked = Failure::Thread("a thread of the generator panicked".to_owned());
            outcome.failure.get_or_insert(panicked);
        }
    }
    Ok(outcome)
}

/// What the threads of a run share.
struct Shared {
    barrier: Barrier,
    /// The common start, set by the first thread that passes the barrier.
    start: OnceLock<Instant>,
    stop: Arc<AtomicBool>,
}

fn run_thread(job: Job, sockets: Vec<Socket>, shared: &Shared, messages: &Sender<Message>) {
    let driver = Driver::new(job);
    let ring = Driver::ring(sockets);
    // Even a thread without a ring comes here, or the others would wait for it for ever.
    shared.barrier.wait();
    let start = *shared.start.get_or_init(Instant::now);
    let ending = match ring {
        Ok(ring) => driver.run(ring, start, &shared.stop, messages),
        Err(failure) => {
            Ending { tally: Tally::default(), last_reply_nanos: 0, failure: Some(failure) }
        }
    };
    if ending.failure.is_some() {
        // One broken connection falsifies the whole run: its fellows need not go on.
        shared.stop.store(true, Ordering::Relaxed);
    }
    // The receiver lives until all threads have ended.
    let _ = messages.send(Message::Ended(ending));
}

fn gather(
    threads: usize,
    inbox: &Receiver<Message>,
    stop: &AtomicBool,
    mut on_interval: impl FnMut(&Interval<'_>),
) -> Outcome {
    let start = Instant::now();
    let (mut total, mut interval) = (Tally::default(), Tally::default());
    let (mut running, mut reported, mut last_line) = (threads, 0, Duration::ZERO);
    let (mut last_reply_nanos, mut failure) = (0, None);
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Interval(tally) => {
                interval.add(&tally);
                reported += 1;
            }
            Message::Ended(ending) => {
                interval.add(&ending.tally);
                running -= 1;
                last_reply_nanos = ending.last_reply_nanos.max(last_reply_nanos);
                failure = failure.or(ending.failure);
            }
        }
        // A line when each thread that still runs has told its second.
        if running > 0 && reported >= running {
            let elapsed = start.elapsed();
            on_interval(&Interval { elapsed, length: elapsed - last_line, tally: &interval });
            total.add(&std::mem::take(&mut interval));
            (reported, last_line) = (0, elapsed);
        }
    }
    total.add(&interval);
    let interrupted = failure.is_none() && stop.load(Ordering::Relaxed);
    let elapsed = Duration::from_nanos(last_reply_nanos);
    Outcome { tally: total, elapsed, interrupted, failure }
}
