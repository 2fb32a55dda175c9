#![allow(unsafe_code)]
//! The buffers that the kernel receives into: one provided-buffer ring for all connections of a core.
//!
//! The kernel takes a buffer only when bytes are there, so an idle connection holds none. A buffer is
//! lent to the reactor with a completion and goes back, together with all others of the turn, before
//! the next entry into the kernel; a page is touched when bytes first land in it.
//!
//! Promise: a buffer is either the kernel's or lent, never both.

use std::{
    io,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{Submitter, types::BufRingEntry};

/// The one group of buffers on a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Bytes between the end of a buffer and the start of the next: a cache line. Without it all buffers
/// would start at the same place of a page, and small requests would compete for the same cache sets.
const COLOUR_BYTES: usize = 64;

const PAGE_BYTES: usize = 4096;

/// The memory of the buffers and of the ring that lists those which are the kernel's.
pub(super) struct Buffers {
    /// `count` entries, then the buffers themselves; one mapping.
    entries: NonNull<BufRingEntry>,
    mapping_bytes: usize,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    /// Entries given to the kernel since the start; wraps.
    tail: u16,
    /// What the kernel handed out since [`Buffers::give_back`].
    lent: Vec<u16>,
    /// Not yet in use, see [`Buffers::add_reserve`].
    reserve: Vec<u16>,
}

/// Buffers that the kernel has from the start. It uses all that it has in turn, so what it has becomes
/// resident; few connections at a time need few.
const FIRST_BUFFERS: u16 = 64;

impl Buffers {
    /// Maps `count` buffers (a power of two) of `buffer_bytes` and gives the first of them to the kernel.
    pub(super) fn new(ring: &Submitter<'_>, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let ring_bytes =
            (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let mapping_bytes = ring_bytes + usize::from(count) * (buffer_bytes + COLOUR_BYTES);
        let mapping = map(mapping_bytes)?;
        let mut buffers = Self {
            entries: mapping.cast(),
            mapping_bytes,
            // SAFETY: the mapping is longer than `ring_bytes`.
            memory: unsafe { mapping.add(ring_bytes) },
            count,
            buffer_bytes,
            tail: 0,
            lent: (0..count.min(FIRST_BUFFERS)).collect(),
            reserve: (count.min(FIRST_BUFFERS)..count).collect(),
        };
        // SAFETY: the address is that of `count` zeroed entries, page-aligned; the mapping lives as
        // long as `Buffers`, which the ring drops after itself is closed.
        unsafe {
            ring.register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        buffers.give_back();
        Ok(buffers)
    }

    /// The kernel handed out `buffer` with a completion.
    pub(super) fn lend(&mut self, buffer: u16) {
        assert!(buffer < self.count, "the kernel handed out a buffer that does not exist");
        self.lent.push(buffer);
    }

    /// The first `length` bytes of a lent buffer.
    pub(super) fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes, "no such bytes in a buffer");
        let start = self.start(buffer);
        // SAFETY: within the mapping by the assertion; mapped memory is initialised. The buffer is
        // lent, so the kernel does not write to it before `give_back`, which takes `&mut self`.
        unsafe { slice::from_raw_parts(start, length) }
    }

    /// The kernel ran out of buffers: from the next [`Buffers::give_back`] on it has all of them.
    #[cold]
    pub(super) fn add_reserve(&mut self) {
        self.lent.append(&mut self.reserve);
    }

    /// Gives all lent buffers back to the kernel, in one store.
    pub(super) fn give_back(&mut self) {
        if self.lent.is_empty() {
            return;
        }
        while let Some(buffer) = self.lent.pop() {
            self.place(buffer);
        }
        // SAFETY: `entries` is the start of a live registered ring; the tail overlays a reserved
        // field of the first entry, is aligned for u16, and is shared with the kernel only, which
        // reads it.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Writes the entry for `buffer` at the tail.
    fn place(&mut self, buffer: u16) {
        let address = self.start(buffer) as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below `count`; the kernel reads entries only before the published tail,
        // and at most `count` buffers exist, so this place has been consumed.
        let entry = unsafe { &mut *self.entries.as_ptr().add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn start(&self, buffer: u16) -> *const u8 {
        // SAFETY: `buffer` is below `count`, for which the mapping has room.
        unsafe {
            self.memory.as_ptr().add(usize::from(buffer) * (self.buffer_bytes + COLOUR_BYTES))
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: our own mapping. The ring that knew these addresses has no operation left
        // (`Ring::drop` waited for them), and no borrow of the bytes outlives `self`.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), self.mapping_bytes) };
    }
}

/// Zeroed pages that take up memory when they are first touched.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing of ours.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
