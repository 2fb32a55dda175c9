//! What a failed accept means for its listener.

use std::time::Duration;

/// How long a listener rests when the process or the machine is out of descriptors or memory. Short
/// enough that a client hardly notices, long enough that failing does not take the core.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What follows a failed accept.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum AfterAccept {
    /// That one connection died before it was accepted, or nothing happened: go on.
    GoOn,
    /// Out of descriptors or memory: rest, then go on.
    Rest,
    /// The listener itself is of no use.
    GiveUp,
}

/// The decision for `errno`.
pub(super) fn after_accept(errno: i32) -> AfterAccept {
    match errno {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => AfterAccept::Rest,
        libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::ECANCELED => {
            AfterAccept::GiveUp
        }
        // accept(2): pending network errors of the new socket are reported here, to be retried.
        _ => AfterAccept::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_survives_everything_but_its_own_end() {
        for (errno, expected) in [
            (libc::ECONNABORTED, AfterAccept::GoOn),
            (libc::EPROTO, AfterAccept::GoOn),
            (libc::ENETDOWN, AfterAccept::GoOn),
            (libc::EMFILE, AfterAccept::Rest),
            (libc::ENFILE, AfterAccept::Rest),
            (libc::ENOMEM, AfterAccept::Rest),
            (libc::EINVAL, AfterAccept::GiveUp),
            (libc::EBADF, AfterAccept::GiveUp),
        ] {
            assert_eq!(after_accept(errno), expected, "errno {errno}");
        }
    }
}
