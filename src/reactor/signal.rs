//! What wakes a reactor that sleeps in the executor instead of in its own ring.
//!
//! Completions come through an eventfd registered with the ring. The doorbell is watched by the
//! executor itself: it is an eventfd too, and a ring's eventfd signal that is due inside a write to
//! another eventfd is put off by the kernel (recursion guard, `eventfd_signal_allowed`) and was seen
//! to get lost from the second time on (Linux 6.18).

use std::{
    fs::File,
    future::poll_fn,
    io::{self, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    task::Poll,
};

use glommio::io::{PollState, PollableFd};

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

    /// Back to nothing, or the next wait would end at once.
    pub(super) fn forget(&self) {
        // Nothing to read means nothing to forget: the doorbell or a deadline came first.
        let _ = self.completions.get_ref().read(&mut [0; 8]);
    }
}
