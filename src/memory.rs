//! How much memory the process has allocated: the figure behind `used_memory` and `maxmemory`.
//!
//! The allocator proper is mimalloc; this wrapper counts. Each thread counts into a cache line of its
//! own, so that counting costs a load and a store; readers sum up.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use libmimalloc_sys::{mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

/// Threads that count alone; all later ones share the last counter.
const COUNTERS: usize = 128;

static COUNTS: [CachePadded<AtomicIsize>; COUNTERS] =
    [const { CachePadded::new(AtomicIsize::new(0)) }; COUNTERS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread's counter; `usize::MAX` until its first allocation.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// mimalloc, counted.
pub struct Allocator;

fn count(bytes: isize) {
    // A thread that is ending has no thread-locals any more; it uses the shared counter.
    let mine = MINE
        .try_with(|mine| {
            if mine.get() == usize::MAX {
                mine.set(NEXT.fetch_add(1, Ordering::Relaxed).min(COUNTERS - 1));
            }
            mine.get()
        })
        .unwrap_or(COUNTERS - 1);
    let counter = &COUNTS[mine];
    if mine == COUNTERS - 1 {
        counter.fetch_add(bytes, Ordering::Relaxed);
    } else {
        counter.store(counter.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

/// Alignment of whatever mimalloc gives without being asked (`MI_MAX_ALIGN_SIZE` in `.cargo/config.toml`; its
/// own default is 16). Asking for an alignment, as the `mimalloc` crate always does, sends a block of 56
/// bytes to the size class of 64.
const ALIGN_GUARANTEED: usize = 8;

// SAFETY: every call is handed to mimalloc, with the alignment unless mimalloc guarantees it anyway; its
// blocks are freed and grown by the same functions however they were asked for. Counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are mimalloc's conditions.
        unsafe {
            if layout.align() <= ALIGN_GUARANTEED {
                mi_malloc(layout.size()).cast()
            } else {
                MiMalloc.alloc(layout)
            }
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are mimalloc's conditions.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are mimalloc's conditions.
        unsafe {
            if layout.align() <= ALIGN_GUARANTEED {
                mi_zalloc(layout.size()).cast()
            } else {
                MiMalloc.alloc_zeroed(layout)
            }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are mimalloc's conditions.
        unsafe {
            if layout.align() <= ALIGN_GUARANTEED {
                mi_realloc(ptr.cast(), new_size).cast()
            } else {
                MiMalloc.realloc(ptr, layout, new_size)
            }
        }
    }
}

/// Takes `bytes` that were allocated out of the count, until [`touch`]: nobody has written to them since they
/// came from the kernel, so they cost address space and no memory.
pub fn leave_untouched(bytes: usize) {
    count(-(bytes as isize));
}

/// `bytes` of what was left untouched are used from now on.
pub fn touch(bytes: usize) {
    count(bytes as isize);
}

/// The part of [`used_bytes`] that the calling thread counts: it changes with every allocation, and to read
/// it takes one load of a line that is at hand. Below zero if the thread freed what others had allocated.
pub fn counted_here() -> isize {
    let mine = MINE.try_with(Cell::get).unwrap_or(usize::MAX).min(COUNTERS - 1);
    COUNTS[mine].load(Ordering::Relaxed)
}

/// Bytes that all threads have allocated and not freed.
pub fn used_bytes() -> usize {
    let threads = NEXT.load(Ordering::Relaxed).min(COUNTERS - 1);
    let shared = COUNTS[COUNTERS - 1].load(Ordering::Relaxed);
    let sum: isize =
        COUNTS[..threads].iter().map(|count| count.load(Ordering::Relaxed)).sum::<isize>() + shared;
    sum.max(0) as usize
}

/// Asks the core for the cache line at `address`. Only a hint, so any address is allowed.
#[inline]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHT0 yields no value and never faults, whatever the address; SSE, its only
    // requirement, is part of every x86_64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
