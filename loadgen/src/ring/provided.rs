//! The buffers that the kernel receives into: it picks a free one when bytes arrive.
//!
//! With buffers tied to connections, ten thousand idle ones would hold ten thousand buffers. Here
//! a thread shares a few among all of its connections, since it empties them every turn.
//!
//! Promise: a buffer is either the kernel's or ours, never both: it becomes ours with the
//! completion that names it, and the kernel's again with [`ProvidedBuffers::give_back`].

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The only group of buffers of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;
/// Buffers of a ring. If all are full the kernel stops receiving until some are given back.
pub(super) const BUFFERS: u16 = 256;
/// Bytes of one buffer: a whole batch of small replies, a quarter of the loopback's largest segment.
const BUFFER_BYTES: usize = 16 * 1024;
/// The kernel wants the entries on a page boundary.
const PAGE_BYTES: usize = 4096;

const _: () = assert!(BUFFERS.is_power_of_two(), "an index is masked, not divided");

const ENTRIES_LAYOUT: Layout = layout(BUFFERS as usize * size_of::<BufRingEntry>());
const DATA_LAYOUT: Layout = layout(BUFFERS as usize * BUFFER_BYTES);

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("the sizes are constants that fit"),
    }
}

/// The buffers and the ring of entries that offers them to the kernel.
pub(super) struct ProvidedBuffers {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    tail: u16,
}

impl ProvidedBuffers {
    /// All buffers, all offered.
    pub(super) fn new() -> Self {
        let entries = allocate(ENTRIES_LAYOUT).cast();
        let mut buffers = Self { entries, data: allocate(DATA_LAYOUT), tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers
    }

    /// Where the entries are, for the registration.
    pub(super) fn entries_address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// The first `count` bytes of `buffer`, which a completion has just named.
    pub(super) fn bytes(&self, buffer: u16, count: usize) -> &[u8] {
        assert!(buffer < BUFFERS && count <= BUFFER_BYTES, "the kernel names what it was offered");
        // SAFETY: the range lies in the allocation, which was zeroed and so is initialized. The
        // kernel does not write to it before `give_back`, which the borrow excludes meanwhile.
        unsafe { slice::from_raw_parts(self.start_of(buffer), count) }
    }

    /// Offers `buffer` to the kernel again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let address = self.start_of(buffer) as u64;
        // SAFETY: the masked index is inside the entries, which only this thread writes, and the
        // kernel reads the entry only after it sees the new tail.
        let entry = unsafe { self.entries.add(usize::from(self.tail & (BUFFERS - 1))).as_mut() };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is a field of the first entry that `set_*` above leave alone; it is
        // aligned, alive, and shared with the kernel only, so atomic access is what it needs.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn start_of(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < BUFFERS, "the kernel names what it was offered");
        // SAFETY: below BUFFERS, so inside the allocation.
        unsafe { self.data.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) }
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with these layouts, freed only here.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), ENTRIES_LAYOUT);
            dealloc(self.data.as_ptr(), DATA_LAYOUT);
        }
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layouts above are not empty.
    let pointer = unsafe { alloc_zeroed(layout) };
    NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout))
}
