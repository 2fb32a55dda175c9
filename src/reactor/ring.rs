#![allow(unsafe_code)]
//! One io_uring and every operation on it: the place where memory is shared with the kernel.
//!
//! Set up for one thread that enters the kernel itself (SINGLE_ISSUER, DEFER_TASKRUN): completions
//! never interrupt the core, they are worked off when it asks for them. All operations of a turn go
//! in, and all completions come out, with one system call.
//!
//! Promise: memory that the kernel holds belongs to the ring. Send buffers move in and come back
//! with their completion; received bytes are lent from the ring's buffers until the next entry; and
//! dropping the ring first takes every operation back.

use std::{
    collections::VecDeque,
    io,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    ptr,
    sync::atomic::{Ordering, fence},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode,
    squeue::{self, Flags},
    types::{CancelBuilder, Fd, SubmitArgs, Timespec},
};

use super::{
    buffers::{BUFFER_GROUP, Buffers},
    send::SendInFlight,
};

/// What an operation is; the top byte of its user data. The rest is a key.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    /// Nobody looks at the completion; it comes only if the operation failed.
    Quiet,
    Accept,
    Receive,
    Send,
    Bell,
}

const KIND_SHIFT: u32 = 56;

/// Flags of io_uring_enter(2) (Linux 6.1 `io_uring.h`).
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// What rings a bell: the number that an eventfd adds. Static, as the kernel reads it after the
/// call.
static ONE: u64 = 1;

/// Entries into the kernel that [`Ring::drop`] grants operations to end, and how long each waits.
const DRAIN_ENTRIES_MAX: usize = 100;
const DRAIN_WAIT: Duration = Duration::from_millis(50);

/// How long an entry into the kernel may wait for a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// At most so long.
    For(Duration),
    /// As long as it takes.
    Endless,
}

/// A finished step of an operation. `more`: the operation goes on and will report again.
pub(super) enum Completion {
    /// A connection for a listener, or why there is none.
    Accepted { listener: u32, result: io::Result<OwnedFd>, more: bool },
    /// `lent` bytes for a connection; without them `result` is zero (the end) or a negative errno.
    Received { connection: u32, result: i32, lent: Option<Lent>, more: bool },
    /// The kernel is done with `op`; a byte count or a negative errno.
    Sent { op: SendInFlight, result: i32 },
    /// Somebody rang.
    BellRang { more: bool },
}

/// Bytes that a completion brought, to be looked at before the next entry into the kernel.
pub(super) struct Lent {
    buffer: u16,
    length: u32,
    entry: u64,
}

/// The sizes of a ring.
pub(super) struct RingSizes {
    pub submissions: u32,
    pub completions: u32,
    pub buffers: u16,
    pub buffer_bytes: usize,
}

/// One io_uring with its provided buffers and the sends in flight.
pub(super) struct Ring {
    uring: IoUring,
    buffers: ManuallyDrop<Buffers>,
    sends: Vec<Option<SendInFlight>>,
    free_sends: Vec<u32>,
    /// What did not fit into the submission queue.
    backlog: VecDeque<squeue::Entry>,
    /// Operations that will report at least once more.
    in_flight: usize,
    /// Entries into the kernel so far: bytes are lent until the next.
    entry: u64,
    /// The index under which this thread registered the ring, which saves the kernel a look-up.
    registered: Option<u32>,
    /// A ring belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl Ring {
    pub(super) fn new(sizes: &RingSizes) -> io::Result<Self> {
        // Kernels before 6.6 know no rings without the index array.
        let uring = build(sizes, true).or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => build(sizes, false),
            _ => Err(error),
        })?;
        let buffers = Buffers::new(&uring.submitter(), sizes.buffers, sizes.buffer_bytes)?;
        let registered = register(uring.as_raw_fd());
        Ok(Self {
            uring,
            buffers: ManuallyDrop::new(buffers),
            sends: Vec::new(),
            free_sends: Vec::new(),
            backlog: VecDeque::new(),
            in_flight: 0,
            entry: 0,
            registered,
            _not_send: PhantomData,
        })
    }

    /// Accepts connections of a listening socket until told otherwise.
    pub(super) fn accept(&mut self, listener: u32, socket: RawFd) {
        let accept = opcode::AcceptMulti::new(Fd(socket)).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build(), Kind::Accept, listener);
    }

    /// Ends [`Ring::accept`]; its last completion has no `more`.
    pub(super) fn stop_accepting(&mut self, listener: u32) {
        self.cancel(Kind::Accept, listener);
    }

    /// Gives the kernel all receive buffers that there are, from the next turn on.
    pub(super) fn add_buffers(&mut self) {
        self.buffers.add_reserve();
    }

    /// Receives into provided buffers as bytes come, until told otherwise or out of buffers.
    pub(super) fn receive(&mut self, connection: u32, socket: RawFd) {
        let receive = opcode::RecvMulti::new(Fd(socket), BUFFER_GROUP);
        self.push(receive.build(), Kind::Receive, connection);
    }

    /// Ends [`Ring::receive`]; its last completion has no `more`.
    pub(super) fn stop_receiving(&mut self, connection: u32) {
        self.cancel(Kind::Receive, connection);
    }

    /// Sends what `op` has left; the key names the send for [`Ring::stop_sending`].
    pub(super) fn send(&mut self, socket: RawFd, op: SendInFlight) -> u32 {
        let rest = &op.chunk[op.sent..];
        // More than the operation can count goes in several rounds.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(1 << 30);
        let send = opcode::Send::new(Fd(socket), rest.as_ptr(), length).flags(libc::MSG_NOSIGNAL);
        let key = self.free_sends.pop().unwrap_or_else(|| {
            self.sends.push(None);
            (self.sends.len() - 1) as u32 // one per connection at most
        });
        // The bytes stay where they are: moving a Vec does not move its heap memory.
        self.sends[key as usize] = Some(op);
        self.push(send.build(), Kind::Send, key);
        key
    }

    /// Takes a send back that waits for room in the socket.
    pub(super) fn stop_sending(&mut self, key: u32) {
        self.cancel(Kind::Send, key);
    }

    /// Reports every time somebody writes to this eventfd.
    pub(super) fn watch_bell(&mut self, bell: RawFd) {
        let poll = opcode::PollAdd::new(Fd(bell), libc::POLLIN as u32).multi(true);
        self.push(poll.build(), Kind::Bell, 0);
    }

    /// Rings another core's bell with the next entry.
    pub(super) fn ring_bell(&mut self, bell: RawFd) {
        let write = opcode::Write::new(Fd(bell), (&raw const ONE).cast(), size_of_val(&ONE) as u32);
        self.push_quiet(write.build());
    }

    /// Closes a socket with the next entry.
    pub(super) fn close(&mut self, socket: OwnedFd) {
        self.push_quiet(opcode::Close::new(Fd(socket.into_raw_fd())).build());
    }

    /// Submits everything, gives lent buffers back, and waits for a completion as long as `patience`
    /// says. Interruptions are not errors: the caller looks for completions and comes again.
    pub(super) fn enter(&mut self, patience: Patience) -> io::Result<()> {
        self.buffers.give_back();
        self.entry += 1;
        self.move_backlog();
        let queue = self.uring.submission();
        let (pending, work_waits) = (queue.len() as u32, queue.taskrun() || queue.cq_overflow());
        drop(queue);
        let timeout;
        let mut arguments = SubmitArgs::new();
        let wait_for = match patience {
            Patience::None if pending == 0 && !work_waits => return Ok(()),
            Patience::None => 0,
            Patience::For(time) => {
                timeout = Timespec::from(time);
                arguments = arguments.timespec(&timeout);
                1
            }
            Patience::Endless => 1,
        };
        match self.enter_kernel(pending, wait_for, &arguments) {
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Whether a completion or work that leads to one is there, without a system call.
    pub(super) fn has_news(&mut self) -> bool {
        !self.uring.completion().is_empty() || {
            let queue = self.uring.submission();
            queue.taskrun() || queue.cq_overflow()
        }
    }

    /// Names the eventfd that [`Ring::set_signalling`] is about.
    pub(super) fn register_signal(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(eventfd)?;
        self.set_signalling(false);
        Ok(())
    }

    /// Whether completions are signalled to the eventfd. Look for news after turning it on: what
    /// came before is not signalled.
    pub(super) fn set_signalling(&mut self, on: bool) {
        let queue = self.uring.completion();
        if on {
            queue.enable_eventfd()
        } else {
            queue.disable_eventfd()
        }
        // The kernel first announces work and then looks whether to signal; we the other way round.
        fence(Ordering::SeqCst);
    }

    /// Appends all completions that are there.
    pub(super) fn take_completions(&mut self, into: &mut Vec<Completion>) {
        let Self { uring, buffers, sends, free_sends, in_flight, entry, .. } = self;
        for cqe in uring.completion() {
            let (data, result, more) = (cqe.user_data(), cqe.result(), cqueue::more(cqe.flags()));
            let (kind, key) = ((data >> KIND_SHIFT) as u8, data as u32);
            if kind != Kind::Quiet as u8 && !more {
                *in_flight -= 1;
            }
            into.push(match kind {
                k if k == Kind::Receive as u8 => {
                    let lent = cqueue::buffer_select(cqe.flags()).map(|buffer| {
                        buffers.lend(buffer);
                        Lent { buffer, length: result.max(0) as u32, entry: *entry }
                    });
                    Completion::Received { connection: key, result, lent, more }
                }
                k if k == Kind::Send as u8 => {
                    let op = sends[key as usize].take().expect("a send completed twice");
                    free_sends.push(key);
                    Completion::Sent { op, result }
                }
                k if k == Kind::Accept as u8 => {
                    let result = match result {
                        // SAFETY: a successful accept yields a new descriptor that is ours alone.
                        0.. => Ok(unsafe { OwnedFd::from_raw_fd(result) }),
                        _ => Err(io::Error::from_raw_os_error(-result)),
                    };
                    Completion::Accepted { listener: key, result, more }
                }
                k if k == Kind::Bell as u8 => Completion::BellRang { more },
                _ => continue,
            });
        }
    }

    /// The bytes that a completion of this turn brought.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        assert_eq!(lent.entry, self.entry, "received bytes were kept beyond their turn");
        self.buffers.bytes(lent.buffer, lent.length as usize)
    }

    fn cancel(&mut self, kind: Kind, key: u32) {
        let all = CancelBuilder::user_data(user_data(kind, key));
        self.push_quiet(opcode::AsyncCancel2::new(all).build());
    }

    fn push(&mut self, entry: squeue::Entry, kind: Kind, key: u32) {
        self.in_flight += 1;
        self.push_entry(entry.user_data(user_data(kind, key)));
    }

    fn push_quiet(&mut self, entry: squeue::Entry) {
        let entry = entry.flags(Flags::SKIP_SUCCESS);
        self.push_entry(entry.user_data(user_data(Kind::Quiet, 0)));
    }

    fn push_entry(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: the memory that entries point to is the heap of a send in `self.sends`, which
        // leaves it with its completion, or `ONE`, which is static. `Drop` waits for both.
        if unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Moves the backlog into the queue; as long as it does not fit, submits without waiting.
    fn move_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: as in `push_entry`, which made these entries.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                continue;
            }
            self.backlog.push_front(entry);
            let pending = self.uring.submission().len() as u32;
            if self.enter_kernel(pending, 0, &SubmitArgs::new()).is_err()
                || self.uring.submission().is_full()
            {
                return; // completions are in the way: the next entry tries again
            }
        }
    }

    fn enter_kernel(
        &self,
        submit: u32,
        wait_for: u32,
        arguments: &SubmitArgs<'_, '_>,
    ) -> io::Result<()> {
        let (ring, by_index) = match self.registered {
            Some(index) => (index as RawFd, ENTER_REGISTERED_RING),
            None => (self.uring.as_raw_fd(), 0),
        };
        // SAFETY: the ring is ours and open; `arguments` is the struct io_uring_getevents_arg that
        // EXT_ARG announces (`SubmitArgs` is a transparent wrapper of it) and outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                submit,
                wait_for,
                ENTER_GETEVENTS | ENTER_EXT_ARG | by_index,
                ptr::from_ref(arguments),
                size_of::<SubmitArgs<'_, '_>>(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Ring {
    /// Takes all operations back, so that the kernel knows no memory of ours when it is freed.
    fn drop(&mut self) {
        // What is still queued goes first: a cancellation that overtook it would miss it.
        let _ = self.enter(Patience::None);
        self.push_quiet(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build());
        let mut completions = Vec::new();
        for _ in 0..DRAIN_ENTRIES_MAX {
            self.take_completions(&mut completions);
            completions.clear();
            if self.in_flight == 0 && self.backlog.is_empty() {
                break;
            }
            let _ = self.enter(Patience::For(DRAIN_WAIT));
        }
        if self.in_flight == 0 {
            // SAFETY: dropped nowhere else, and not used below.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        } else {
            // An operation that cannot be cancelled still knows its buffer: leak rather than free.
            mem::forget(mem::take(&mut self.sends));
        }
        if let Some(index) = self.registered {
            unregister(self.uring.as_raw_fd(), index);
        }
    }
}

const fn user_data(kind: Kind, key: u32) -> u64 {
    (kind as u64) << KIND_SHIFT | key as u64
}

fn build(sizes: &RingSizes, without_index_array: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .dontfork()
        .setup_cqsize(sizes.completions);
    if without_index_array {
        builder.setup_no_sqarray();
    }
    builder.build(sizes.submissions)
}

/// Argument of IORING_REGISTER_RING_FDS (Linux `io_uring.h`, struct io_uring_rsrc_update).
#[repr(C)]
struct RingRegistration {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// Opcodes of io_uring_register(2).
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Registers the ring with this thread; without success the plain descriptor will do.
fn register(ring: RawFd) -> Option<u32> {
    let any_index = u32::MAX;
    let mut update = RingRegistration { offset: any_index, reserved: 0, data: ring as u64 };
    (register_call(ring, REGISTER_RING_FDS, &mut update) == 1).then_some(update.offset)
}

fn unregister(ring: RawFd, index: u32) {
    register_call(
        ring,
        UNREGISTER_RING_FDS,
        &mut RingRegistration { offset: index, reserved: 0, data: 0 },
    );
}

fn register_call(ring: RawFd, opcode: u32, update: &mut RingRegistration) -> i64 {
    // SAFETY: one element of the struct that both opcodes expect, alive and writable for the call.
    unsafe { libc::syscall(libc::SYS_io_uring_register, ring, opcode, ptr::from_mut(update), 1) }
}
