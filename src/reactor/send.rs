//! A send that the kernel is working on, and what its result means.
//!
//! The buffer belongs to the operation, not to the connection, which may be gone when the
//! completion comes: it moves into the ring and comes back whole.

use std::io;

/// Bytes on their way out.
pub(super) struct SendInFlight {
    /// The connection that they belong to.
    pub connection: u32,
    /// What the service handed over.
    pub chunk: Vec<u8>,
    /// How much of it the kernel has accepted so far.
    pub sent: usize,
}

/// What follows a completed send.
pub(super) enum AfterSend {
    /// The kernel took a part: the rest goes in again.
    Resubmit(SendInFlight),
    /// All is sent; the buffer is free.
    Recycle(Vec<u8>),
    /// The socket is of no more use.
    Failed(io::Error),
}

/// The kernel is done with `op`; `result` is the byte count or a negative errno.
pub(super) fn after_send(mut op: SendInFlight, result: i32) -> AfterSend {
    let Ok(count) = usize::try_from(result) else {
        return match -result {
            libc::EAGAIN | libc::EINTR => AfterSend::Resubmit(op),
            errno => AfterSend::Failed(io::Error::from_raw_os_error(errno)),
        };
    };
    op.sent += count;
    if op.sent < op.chunk.len() { AfterSend::Resubmit(op) } else { AfterSend::Recycle(op.chunk) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_resubmitted_until_the_kernel_took_all_of_it() {
        let op = |sent| SendInFlight { connection: 7, chunk: vec![0; 10], sent };
        for (sent, result, expected) in [
            (0, 10, "recycle"),
            (4, 6, "recycle"),
            (0, 9, "resubmit from 9"),
            (4, 3, "resubmit from 7"),
            (4, -libc::EINTR, "resubmit from 4"),
            (4, -libc::EAGAIN, "resubmit from 4"),
            (0, -libc::EPIPE, "failed"),
            (0, -libc::ECONNRESET, "failed"),
        ] {
            let got = match after_send(op(sent), result) {
                AfterSend::Resubmit(op) => format!("resubmit from {}", op.sent),
                AfterSend::Recycle(chunk) => {
                    assert_eq!(chunk.len(), 10);
                    "recycle".to_owned()
                }
                AfterSend::Failed(_) => "failed".to_owned(),
            };
            assert_eq!(got, expected, "sent {sent}, result {result}");
        }
    }
}
