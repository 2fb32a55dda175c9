#![allow(unsafe_code)]
//! Eventfds: behind a core's doorbell, and between a ring and the executor.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    sync::Arc,
};

use crate::lanes::Doorbell;

/// A doorbell that a reactor can watch.
pub fn doorbell() -> io::Result<Arc<Doorbell>> {
    Ok(Arc::new(Doorbell::new(eventfd()?)))
}

/// A new eventfd whose counter is zero. Not blocking: a writer never waits for the reader.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: `eventfd` takes two integers and touches no memory of ours.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
