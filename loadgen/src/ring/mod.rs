//! A thread's io_uring: all connections of the thread, one system call a turn.
//!
//! Why a ring of our own: at small requests a generator on epoll spends more on system calls than
//! the server does on the requests. Here one multishot receive per connection stays armed and fills
//! buffers that the ring hands out, and all sends of a turn leave in the call that waits for the
//! next replies.
//!
//! Promise: this folder is the only `unsafe` of the crate and its face is safe. A buffer that the
//! kernel may still touch is owned by the [`Ring`], which waits for the kernel before it frees any.
#![allow(unsafe_code)]

mod provided;

use std::io;
use std::mem::{self, ManuallyDrop};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::Socket;

use provided::{BUFFER_GROUP, ProvidedBuffers};

/// Submissions that one system call takes at once; more are submitted in several calls.
const SUBMISSIONS_MAX: u32 = 1024;
/// Completions that wait before the kernel has to keep them elsewhere.
const COMPLETIONS_MAX: u32 = 4096;

/// What the kernel reports of a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// Bytes came.
    Received {
        /// The connection's index.
        connection: usize,
        /// The bytes, valid during the call.
        bytes: &'a [u8],
    },
    /// A chunk has left whole; here is its buffer again, empty.
    Sent {
        /// The connection's index.
        connection: usize,
        /// The buffer.
        chunk: Vec<u8>,
    },
    /// The connection is over: in good order, or with an error.
    Closed {
        /// The connection's index.
        connection: usize,
        /// The error, if any.
        error: Option<io::Error>,
    },
}

/// A chunk that the kernel is reading from.
#[derive(Debug)]
struct SendInFlight {
    chunk: Vec<u8>,
    sent: usize,
}

/// What becomes of a chunk when the kernel has reported on it.
#[derive(Debug)]
enum AfterSend {
    Resubmit(SendInFlight),
    Recycle(Vec<u8>),
    Close(io::Error),
}

/// The kernel is done with `op.chunk`; `result` is the byte count or a negative errno.
fn after_send(op: SendInFlight, result: i32) -> AfterSend {
    match usize::try_from(result) {
        Ok(count) if op.sent + count < op.chunk.len() => {
            AfterSend::Resubmit(SendInFlight { sent: op.sent + count, ..op }) // short
        }
        Ok(_) => {
            let mut chunk = op.chunk;
            chunk.clear();
            AfterSend::Recycle(chunk)
        }
        Err(_) if is_transient(-result) => AfterSend::Resubmit(op),
        Err(_) => AfterSend::Close(io::Error::from_raw_os_error(-result)),
    }
}

/// What becomes of a multishot receive when it has reported `result`.
#[derive(PartialEq, Eq, Debug)]
enum AfterReceive {
    Bytes(usize),
    /// The kernel had to stop for now: no buffer was free, or a signal came.
    Rearm,
    Close(Option<i32>),
}

fn after_receive(result: i32) -> AfterReceive {
    match usize::try_from(result) {
        Ok(0) => AfterReceive::Close(None),
        Ok(count) => AfterReceive::Bytes(count),
        Err(_) if -result == libc::ENOBUFS || is_transient(-result) => AfterReceive::Rearm,
        Err(_) => AfterReceive::Close(Some(-result)),
    }
}

fn is_transient(errno: i32) -> bool {
    errno == libc::EINTR || errno == libc::EAGAIN
}

/// Which operation a completion belongs to: the connection's index, and one bit for the kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Receive(usize),
    Send(usize),
}

impl Operation {
    fn user_data(self) -> u64 {
        match self {
            Self::Receive(connection) => (connection as u64) << 1,
            Self::Send(connection) => (connection as u64) << 1 | 1,
        }
    }

    fn from_user_data(data: u64) -> Self {
        let connection = (data >> 1) as usize;
        if data & 1 == 0 { Self::Receive(connection) } else { Self::Send(connection) }
    }
}

/// An io_uring with the connections it serves. It belongs to the thread that made it.
pub struct Ring {
    uring: IoUring,
    sockets: Vec<Socket>,
    sends: Vec<Option<SendInFlight>>,
    buffers: ManuallyDrop<ProvidedBuffers>,
    /// Operations that the kernel has and will still report on.
    outstanding: usize,
    /// Entries for which the submission queue had no room yet.
    backlog: Vec<Entry>,
}

impl Ring {
    /// A ring that receives from all of `sockets`; a socket's place is its connection's index.
    pub fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        Self::on(build()?, sockets)
    }

    fn on(uring: IoUring, sockets: Vec<Socket>) -> io::Result<Self> {
        let buffers = ProvidedBuffers::new();
        // SAFETY: the entries live in `buffers`, which `Drop` frees only once no operation is
        // outstanding, and otherwise leaks.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                buffers.entries_address(),
                provided::BUFFERS,
                BUFFER_GROUP,
                0,
            )?;
        }
        let sends = sockets.iter().map(|_| None).collect();
        let buffers = ManuallyDrop::new(buffers);
        let mut ring = Self { uring, sockets, sends, buffers, outstanding: 0, backlog: Vec::new() };
        (0..ring.sockets.len()).for_each(|connection| ring.arm_receive(connection));
        Ok(ring)
    }

    /// Sends `chunk` on `connection`, whose previous chunk must have been reported as sent. It
    /// leaves with the next [`Self::submit_and_wait`].
    pub fn send(&mut self, connection: usize, chunk: Vec<u8>) {
        assert!(!chunk.is_empty(), "an empty chunk would never be reported as sent");
        assert!(self.sends[connection].is_none(), "one chunk at a time keeps the bytes in order");
        self.submit_send(connection, SendInFlight { chunk, sent: 0 });
    }

    /// Submits what is queued and waits until something happens, at most `timeout`.
    pub fn submit_and_wait(&mut self, timeout: Duration) -> io::Result<()> {
        while !self.backlog.is_empty() {
            let waiting = self.backlog.len();
            self.enter(0, Duration::ZERO)?;
            self.push_backlog();
            if self.backlog.len() == waiting {
                break; // the kernel wants its completions reaped first
            }
        }
        let has_completions = !self.uring.completion().is_empty();
        let want = usize::from(!timeout.is_zero() && !has_completions);
        self.enter(want, timeout)
    }

    /// Hands every completion that has arrived to `visit`.
    pub fn reap(&mut self, mut visit: impl FnMut(Event<'_>)) {
        // What is rearmed or resubmitted below completes in a later turn, so this ends.
        while let Some(completion) = self.next_completion() {
            let more = cqueue::more(completion.flags());
            self.outstanding -= usize::from(!more);
            match Operation::from_user_data(completion.user_data()) {
                Operation::Receive(connection) => {
                    self.on_receive(connection, &completion, more, &mut visit);
                }
                Operation::Send(connection) => {
                    self.on_send(connection, completion.result(), &mut visit);
                }
            }
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.uring.completion().next()
    }

    fn on_receive(
        &mut self,
        connection: usize,
        completion: &cqueue::Entry,
        more: bool,
        visit: &mut impl FnMut(Event<'_>),
    ) {
        let buffer = cqueue::buffer_select(completion.flags());
        match (after_receive(completion.result()), buffer) {
            (AfterReceive::Bytes(count), Some(buffer)) => {
                visit(Event::Received { connection, bytes: self.buffers.bytes(buffer, count) });
            }
            (AfterReceive::Bytes(_), None) => unreachable!("bytes come in a provided buffer"),
            (AfterReceive::Rearm, _) => {}
            (AfterReceive::Close(errno), _) => {
                let error = errno.map(io::Error::from_raw_os_error);
                visit(Event::Closed { connection, error });
                return;
            }
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        if !more {
            self.arm_receive(connection);
        }
    }

    fn on_send(&mut self, connection: usize, result: i32, visit: &mut impl FnMut(Event<'_>)) {
        let op = self.sends[connection].take().expect("a send completes once");
        match after_send(op, result) {
            AfterSend::Resubmit(op) => self.submit_send(connection, op),
            AfterSend::Recycle(chunk) => visit(Event::Sent { connection, chunk }),
            AfterSend::Close(error) => visit(Event::Closed { connection, error: Some(error) }),
        }
    }

    fn arm_receive(&mut self, connection: usize) {
        let fd = Fd(self.sockets[connection].as_raw_fd());
        let data = Operation::Receive(connection).user_data();
        self.push(opcode::RecvMulti::new(fd, BUFFER_GROUP).build().user_data(data));
    }

    fn submit_send(&mut self, connection: usize, op: SendInFlight) {
        let fd = Fd(self.sockets[connection].as_raw_fd());
        let op = self.sends[connection].insert(op);
        let rest = &op.chunk[op.sent..];
        // What does not fit 32 bits is a short send like another.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(fd, rest.as_ptr(), length).flags(libc::MSG_NOSIGNAL);
        self.push(entry.build().user_data(Operation::Send(connection).user_data()));
    }

    fn push(&mut self, entry: Entry) {
        self.outstanding += 1;
        self.backlog.push(entry);
        self.push_backlog();
    }

    /// Moves what fits from the backlog to the submission queue, in order.
    fn push_backlog(&mut self) {
        let mut queue = self.uring.submission();
        let room = queue.capacity() - queue.len();
        for entry in self.backlog.drain(..room.min(self.backlog.len())) {
            // SAFETY: a receive takes only buffers of `self.buffers`; a send reads a chunk that
            // stays in `self.sends` until its completion. Both outlive the operation, see `Drop`.
            let pushed = unsafe { queue.push(&entry) };
            assert!(pushed.is_ok(), "the room was counted");
        }
    }

    fn enter(&mut self, want: usize, timeout: Duration) -> io::Result<()> {
        let timespec = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timespec);
        match self.uring.submitter().submit_with_args(want, &arguments) {
            Ok(_) => Ok(()),
            // Time is up; a signal came; completions must be reaped first. All go on by reaping.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Ends all connections and waits for the kernel to let go of every buffer.
    fn quiesce(&mut self) -> bool {
        for socket in &self.sockets {
            // A connection that is already gone has nothing left to shut down.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for _ in 0..QUIESCE_ATTEMPTS {
            if self.outstanding == 0 || self.submit_and_wait(QUIESCE_WAIT).is_err() {
                break;
            }
            while let Some(completion) = self.next_completion() {
                self.outstanding -= usize::from(!cqueue::more(completion.flags()));
            }
        }
        self.outstanding == 0
    }
}

/// How often and how long a ring that ends waits for the kernel: two seconds in all, although a
/// shut-down socket completes its operations at once.
const QUIESCE_ATTEMPTS: u32 = 20;
const QUIESCE_WAIT: Duration = Duration::from_millis(100);

impl Drop for Ring {
    fn drop(&mut self) {
        if self.quiesce() {
            // SAFETY: dropped here only, and no operation is left that could write to them.
            unsafe { ManuallyDrop::drop(&mut self.buffers) }
        } else {
            // The kernel may still read or write them: memory that is lost beats memory that is
            // someone else's by then.
            mem::forget(mem::take(&mut self.sends));
        }
    }
}

/// Completions only when this thread asks for them, if the kernel can (6.1); else any ring.
fn build() -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS_MAX)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(SUBMISSIONS_MAX);
    match deferred {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build_plain(),
        result => result,
    }
}

fn build_plain() -> io::Result<IoUring> {
    IoUring::builder().setup_clamp().setup_cqsize(COMPLETIONS_MAX).build(SUBMISSIONS_MAX)
}

#[cfg(test)]
mod tests;
