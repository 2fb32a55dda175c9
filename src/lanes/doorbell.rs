//! How a sender wakes a receiver that sleeps in the kernel, and leaves one alone that does not.
//!
//! The receiver announces its sleep, then looks into its lanes once more, then sleeps. The sender
//! pushes, then looks for the announcement. A full fence stands between the two steps on both sides,
//! so at least one of them sees what the other did: either the receiver finds the message and stays
//! awake, or the sender finds it asleep and rings. `model.rs` checks this over all schedules.
//!
//! Promise: no message waits for a sleeper that nobody rings; a receiver that is awake costs its
//! senders one fence and one load of a line that nobody writes.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use super::sync::{AtomicBool, Ordering, fence};

/// The announcement of a sleeping receiver.
pub(super) struct Handshake {
    asleep: AtomicBool,
}

impl Handshake {
    pub(super) fn new() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }

    // Both write by a swap, as senders do: so all writes stand in one line, each seeing the one
    // before. It is what the model checker can follow, and on the way into the kernel costs nothing.
    pub(super) fn prepare_sleep(&self) {
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    pub(super) fn wake_up(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    pub(super) fn needs_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        // The plain load first: senders to a busy core must not take its line away from each other.
        // The swap lets one of several senders ring.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }
}

/// The doorbell of one core, shared with all that send to it.
pub struct Doorbell {
    handshake: Handshake,
    /// An eventfd that the receiver's ring watches while it sleeps.
    bell: File,
}

impl Doorbell {
    /// A doorbell over this eventfd.
    pub fn new(eventfd: OwnedFd) -> Self {
        Self { handshake: Handshake::new(), bell: File::from(eventfd) }
    }

    /// Receiver: announces sleep. Look into all lanes after this and before sleeping, and call
    /// [`Doorbell::wake_up`] whether or not it came to sleeping.
    pub fn prepare_sleep(&self) {
        self.handshake.prepare_sleep();
    }

    /// Receiver: awake again, nobody needs to ring.
    pub fn wake_up(&self) {
        self.handshake.wake_up();
    }

    /// Sender, after pushing: whether the receiver is asleep and it falls to this sender to ring,
    /// by eight bytes written to its descriptor or by [`Doorbell::ring`].
    pub fn needs_ring(&self) -> bool {
        self.handshake.needs_ring()
    }

    /// The eventfd, for the ring that watches it and for rings that write to it within a submit.
    pub fn fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Another descriptor of the same eventfd, for what outlives the doorbell (signal handlers).
    pub fn clone_fd(&self) -> io::Result<OwnedFd> {
        self.bell.try_clone().map(OwnedFd::from)
    }

    /// Rings with a system call of its own: for threads without a ring.
    pub fn ring(&self) -> io::Result<()> {
        (&self.bell).write_all(&1u64.to_ne_bytes())
    }

    /// Receiver, after [`Doorbell::prepare_sleep`] and before looking into the lanes: forgets rings of
    /// the past, for those that wait for the descriptor to become readable.
    pub fn silence(&self) {
        // An eventfd that nobody rang has nothing to read and says so.
        let _ = (&self.bell).read(&mut [0; 8]);
    }

    /// Rings if the receiver is asleep: for threads without a ring.
    pub fn ring_if_asleep(&self) -> io::Result<()> {
        if self.needs_ring() { self.ring() } else { Ok(()) }
    }
}

/// The eventfd, for the ring that watches it and for rings that write to it within a submit.
impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}
