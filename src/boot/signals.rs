//! SIGTERM and SIGINT as something that the control core can wait for.
//!
//! Why an eventfd: a signal handler may do almost nothing, and the control core sleeps in its ring.
//! Writing to an eventfd is allowed in a handler and wakes any ring or poll that reads it.
//!
//! Promise: the first signal is reported once and stops nothing by itself; a second SIGINT ends the
//! process at once, for whoever will not wait for the snapshot.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// The eventfd that the handler writes to; -1 before [`Signals::install`].
static EVENT_FD: AtomicI32 = AtomicI32::new(-1);
/// The first stop signal that came; 0 while there was none.
static FIRST_SIGNAL: AtomicI32 = AtomicI32::new(0);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM: see `shutdown-on-sigterm`.
    Term,
    /// SIGINT: see `shutdown-on-sigint`.
    Interrupt,
}

/// The stop signals of this process.
#[derive(Debug)]
pub struct Signals {
    event: OwnedFd,
}

impl Signals {
    /// Installs the handlers, which write to `event`: an eventfd that wakes the control core (its
    /// doorbell). SIGPIPE and SIGHUP are ignored: a closed socket is an error of a write, and the
    /// end of a terminal is not the end of a server. SIGXFSZ neither: a file that may not grow is an
    /// error of a write too. To be called once.
    pub fn install(event: OwnedFd) -> io::Result<Self> {
        EVENT_FD.store(event.as_raw_fd(), Ordering::SeqCst);
        let on_stop = handle_stop as extern "C" fn(libc::c_int);
        for signal in [libc::SIGTERM, libc::SIGINT] {
            set_action(signal, on_stop as usize)?;
        }
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGXFSZ] {
            set_action(signal, libc::SIG_IGN)?;
        }
        Ok(Self { event })
    }

    /// What the handlers write to.
    pub fn event_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// The first stop signal, if one came.
    pub fn received(&self) -> Option<StopSignal> {
        match FIRST_SIGNAL.load(Ordering::SeqCst) {
            libc::SIGTERM => Some(StopSignal::Term),
            libc::SIGINT => Some(StopSignal::Interrupt),
            _ => None,
        }
    }

    /// The signal that came was of no consequence: the next one will be the first.
    pub fn forget(&self) {
        FIRST_SIGNAL.store(0, Ordering::SeqCst);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The handler outlives the descriptor; a number that is reused must not be written to.
        EVENT_FD.store(-1, Ordering::SeqCst);
    }
}

fn set_action(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask, no handler yet.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and outlives the call; the handlers passed in are
    // async-signal-safe (see `handle_stop`) or SIG_IGN.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs in the middle of anything, so it uses atomics, write(2) and _exit(2) only.
extern "C" fn handle_stop(signal: libc::c_int) {
    let first = FIRST_SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    if signal == libc::SIGINT && first == Err(libc::SIGINT) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(1) };
    }
    let one = 1_u64.to_ne_bytes();
    let fd = EVENT_FD.load(Ordering::SeqCst);
    // SAFETY: errno belongs to the interrupted code, so it is put back; `one` is 8 readable bytes. A
    // descriptor of -1 makes write fail, which leaves the signal recorded in FIRST_SIGNAL.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        libc::write(fd, one.as_ptr().cast(), one.len());
        *errno = saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    /// Set for the copy of the test program that plays the server.
    const CHILD: &str = "CORELANE_TEST_SIGNALS";

    fn raise(signal: libc::c_int) {
        // SAFETY: raise has no memory obligations; the handler is installed.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    /// Signals belong to the process, so each case runs in a process of its own.
    fn in_child(case: &str) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "boot::signals::tests::play_the_server", "--test-threads", "1"])
            .env(CHILD, case)
            .output()
            .unwrap()
            .status
    }

    #[test]
    fn play_the_server() {
        let Ok(case) = std::env::var(CHILD) else { return };
        let event = crate::reactor::doorbell().unwrap().clone_fd().unwrap();
        let signals = Signals::install(event).unwrap();
        assert_eq!(signals.received(), None);
        let (signal, meaning) = match case.as_str() {
            "term" => (libc::SIGTERM, StopSignal::Term),
            _ => (libc::SIGINT, StopSignal::Interrupt),
        };
        raise(libc::SIGPIPE);
        raise(signal);
        assert_eq!(signals.received(), Some(meaning));
        let mut count = [0_u8; 8];
        // SAFETY: `count` is 8 writable bytes, the size of an eventfd read.
        let read = unsafe { libc::read(signals.event_fd(), count.as_mut_ptr().cast(), 8) };
        assert_eq!((read, u64::from_ne_bytes(count)), (8, 1));
        raise(signal);
        std::process::exit(42);
    }

    #[test]
    fn the_first_signal_is_reported_and_a_second_interrupt_exits_at_once() {
        for (case, code) in [("term", 42), ("interrupt", 1)] {
            let status = in_child(case);
            assert_eq!((status.code(), status.signal()), (Some(code), None), "{case}");
        }
    }
}
