//! How long a server is silent: pings back to back while something else happens.
//!
//! A gap is measured by a client, and a client is a thread that the machine may also make wait. So
//! beside the pings runs a control: a thread that only sleeps and notes how late it is woken. A
//! gap says something about the server only where it is well above the control's.
//!
//! Promise: a gap counts from just before its ping is sent until its reply has been read, and the
//! gap that is running when the probe is finished is still waited for and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Login, Target};
use crate::failure::Failure;
use crate::tally::Latencies;

/// How long the control sleeps at a time: about a ping's turnaround, so that it is woken as often.
const CONTROL_SLEEP: Duration = Duration::from_micros(100);

/// Threads that ping, and the control. Dropped without [`Probe::finish`] they end on their own.
pub struct Probe {
    stop: Arc<AtomicBool>,
    pingers: Vec<JoinHandle<Result<Latencies, Failure>>>,
    control: JoinHandle<Latencies>,
}

/// What a probe has seen.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// The pings' turnarounds.
    pub pings: Latencies,
    /// How late the control was woken.
    pub control: Latencies,
}

impl Probe {
    /// Starts pinging on `connections` connections, each with its own thread.
    pub fn start(target: &Target, login: &Login, connections: usize) -> Result<Self, Failure> {
        let clients: Vec<Client> =
            (0..connections).map(|_| Client::connect(target, login)).collect::<Result<_, _>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let pinger = |client| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                go_before_others();
                ping_until(client, &stop)
            })
        };
        let pingers = clients.into_iter().map(pinger).collect();
        let control_stop = Arc::clone(&stop);
        let control = thread::spawn(move || {
            go_before_others();
            sleep_until(&control_stop)
        });
        Ok(Self { stop, pingers, control })
    }

    /// Ends the pings and gathers what they saw.
    pub fn finish(mut self) -> Result<Gaps, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = || Failure::Thread("a probing thread panicked".to_owned());
        let mut gaps = Gaps::default();
        for pinger in self.pingers.drain(..) {
            gaps.pings.add(&pinger.join().map_err(|_| panicked())??);
        }
        gaps.control = self.control.join().map_err(|_| panicked())?;
        Ok(gaps)
    }
}

/// Makes the calling thread a real-time one, if the operating system lets it: the load that a scenario makes
/// beside the probe would otherwise keep it from the processor, and that is no gap of the server's.
fn go_before_others() {
    use thread_priority::*;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let lowest = ThreadPriorityValue::try_from(1).map(ThreadPriority::Crossplatform);
    if let Ok(lowest) = lowest {
        _ = set_thread_priority_and_policy(thread_native_id(), lowest, policy);
    }
}

fn ping_until(mut client: Client, stop: &AtomicBool) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        client.call_ok(&[b"PING"])?;
        latencies.record_nanos(sent.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

fn sleep_until(stop: &AtomicBool) -> Latencies {
    let mut latencies = Latencies::default();
    while !stop.load(Ordering::Relaxed) {
        let asleep = Instant::now();
        thread::sleep(CONTROL_SLEEP);
        let late = asleep.elapsed().saturating_sub(CONTROL_SLEEP);
        latencies.record_nanos(late.as_nanos() as u64);
    }
    latencies
}
