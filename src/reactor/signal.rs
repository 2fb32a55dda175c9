//! What wakes a reactor that sleeps in the executor instead of in its own ring.
//!
//! Completions come through an eventfd registered with the ring. The doorbell is watched by the
//! executor itself: it is an eventfd too, and a ring's eventfd signal that is due inside a write to
//! another eventfd is put off by the kernel (recursion guard, `eventfd_signal_allowed`) and was seen
//! to get lost from the second time on (Linux 6.18).

use std::{
    fs::File,
    future::{Future, poll_fn},
    io::{self, Read, Write},
    os::fd::{AsRawFd, RawFd},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Instant,
};

use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;

use super::eventfd::eventfd;
use crate::lanes::Doorbell;

/// The two descriptors that the executor watches.
pub(super) struct Signal {
    completions: PollableFd<File>,
    bell: PollableFd<Arc<Doorbell>>,
}

impl Signal {
    /// To be made within the executor.
    pub(super) fn new(doorbell: Arc<Doorbell>) -> io::Result<Self> {
        let completions = PollableFd::new(File::from(eventfd()?))?;
        Ok(Self { completions, bell: PollableFd::new(doorbell)? })
    }

    /// The eventfd to register with the ring.
    pub(super) fn eventfd(&self) -> RawFd {
        self.completions.as_raw_fd()
    }

    /// As if a completion had come.
    pub(super) fn give(&self) {
        // Fails only if it was given 2^64 times already, and then it is given.
        let _ = self.completions.get_ref().write(&1_u64.to_ne_bytes());
    }

    /// Waits for a completion or the doorbell, since the last [`Signal::forget`].
    pub(super) async fn given(&self) -> glommio::Result<(), ()> {
        let (mut completions, mut bell) = (PollState::default(), PollState::default());
        poll_fn(|context| match self.completions.poll_readable(context, &mut completions) {
            Poll::Pending => self.bell.poll_readable(context, &mut bell),
            ready => ready,
        })
        .await
    }

    /// As [`Signal::given`], but not beyond the deadline.
    pub(super) async fn given_until(&self, deadline: Instant) -> glommio::Result<(), ()> {
        let mut given = pin!(self.given());
        let mut timer = Timer::new(deadline.saturating_duration_since(Instant::now()));
        let mut is_set = false;
        poll_fn(|context| {
            let ready = given.as_mut().poll(context);
            if ready.is_ready() {
                return ready;
            }
            // Asked once: each time the timer is asked it enters itself anew, and the executor goes through all
            // entries of the last second whenever it looks at them.
            if !std::mem::replace(&mut is_set, true) {
                return Pin::new(&mut timer).poll(context).map(|_| Ok(()));
            }
            if Instant::now() < deadline { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }

    /// Back to nothing, or the next wait would end at once.
    pub(super) fn forget(&self) {
        // Nothing to read means nothing to forget: the doorbell or a deadline came first.
        let _ = self.completions.get_ref().read(&mut [0; 8]);
    }
}
