//! Short arrays of cache lines, for the tables of the slots.
//!
//! Why not `Box<[T]>`: the tables of all slots grow in step, so each size is wanted for a while by all 16384
//! of them and then by a few stragglers, and an allocator by size classes keeps whole pages of every
//! former size for these. Measured at 1 M keys of 16 + 32 bytes: 67 bytes per key allocated,
//! but 82 resident with mimalloc and 84 with jemalloc. Here arrays of all sizes share regions of
//! 64 KiB, first fit by a bitmap, so what a former size leaves free is used by the next.
//!
//! Each thread has regions of its own and allocates from them alone. Anybody may free: the bitmap is
//! atomic, and a region is found from an address in it, because it is aligned to its size. Memory of an
//! empty region goes back to the kernel; its address space stays with the thread (a core).
//!
//! Promise: an array is aligned to a cache line, its elements are initialised, and nobody else has its
//! lines until it is dropped.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::memory;

const LINE_BYTES: usize = 64;
const REGION_BYTES: usize = 64 * 1024;
const REGION_LINES: usize = REGION_BYTES / LINE_BYTES;
const WORDS: usize = REGION_LINES / 64;
/// Lines that the header of a region takes.
const HEADER_LINES: usize = size_of::<Header>().div_ceil(LINE_BYTES);
/// Longest array, in lines; more would not fit a region.
pub const LINES_MAX: usize = 512;

const _: () = assert!(LINES_MAX < REGION_LINES - HEADER_LINES, "an array fits an empty region");

/// The beginning of a region.
#[repr(C)]
struct Header {
    /// Bit i: line i is in use. The header's own lines always are.
    used: [AtomicU64; WORDS],
    /// The thread that allocates here.
    owner: u64,
    /// The place of the region among those of its owner.
    place: AtomicU32,
    /// Another thread has freed lines here since the owner last asked.
    freed_elsewhere: AtomicU32,
}

/// Regions that are allocated together: to ask for 64 KiB at an address that is a multiple of 64 KiB makes
/// the allocator set twice as much aside.
const REGIONS_PER_CHUNK: usize = 32;

/// A chunk; never given back, but the pages of its empty regions are.
fn new_chunk() -> NonNull<u8> {
    let bytes = REGIONS_PER_CHUNK * REGION_BYTES;
    let layout = Layout::from_size_align(bytes, REGION_BYTES).expect("a power of two");
    // SAFETY: the layout has a size.
    let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
        handle_alloc_error(layout)
    };
    start
}

/// A region; a pointer to its header.
#[derive(Clone, Copy)]
struct Region(NonNull<Header>);

impl Region {
    /// Makes a region of all-zero bytes that belong to nobody.
    fn new(start: NonNull<u8>, owner: u64) -> Self {
        let start = start.cast::<Header>();
        // SAFETY: the memory is part of a chunk, aligned, large enough and nobody else's; all-zero bytes
        // are a valid Header.
        unsafe { (*start.as_ptr()).owner = owner };
        let region = Self(start);
        region.mark(0, HEADER_LINES, true);
        region
    }

    /// The region that the line at `address` is in.
    fn of(address: NonNull<u8>) -> Self {
        let start = address.as_ptr().map_addr(|address| address & !(REGION_BYTES - 1));
        Self(NonNull::new(start.cast()).expect("a region does not begin at address zero"))
    }

    fn header(&self) -> &Header {
        // SAFETY: a Region points to a header, and chunks are never freed. It is cleared only when no
        // line is in use, and then nobody can come here through one; what changes is atomic.
        unsafe { self.0.as_ref() }
    }

    /// Sets or clears `count` bits from `start`.
    fn mark(&self, start: usize, count: usize, used: bool) {
        let mut at = start;
        while at < start + count {
            let (word, bit) = (at / 64, at % 64);
            let length = (64 - bit).min(start + count - at);
            let mask = (u64::MAX >> (64 - length)) << bit;
            let word = &self.header().used[word];
            if used {
                word.fetch_or(mask, Ordering::Relaxed);
            } else {
                // What the thread that frees did to the lines happens before what the next user does.
                word.fetch_and(!mask, Ordering::Release);
            }
            at += length;
        }
    }

    /// The first run of `count` free lines, or the length of the longest one there is.
    fn find(&self, count: usize) -> Result<usize, usize> {
        let (mut at, mut run, mut longest) = (0, 0, 0);
        while at < REGION_LINES {
            let left = 64 - at % 64;
            let word = self.header().used[at / 64].load(Ordering::Acquire) >> (at % 64);
            if word & 1 == 1 {
                at += (word.trailing_ones() as usize).min(left);
                run = at;
            } else {
                at += (word.trailing_zeros() as usize).min(left);
                longest = longest.max(at - run);
                if longest >= count {
                    return Ok(run);
                }
            }
        }
        Err(longest)
    }

    fn is_empty(&self) -> bool {
        let words = &self.header().used;
        let others = words[1..].iter().all(|word| word.load(Ordering::Acquire) == 0);
        others && words[0].load(Ordering::Acquire) == (1 << HEADER_LINES) - 1
    }

    /// Gives the pages of an empty region back to the kernel; its bytes read as zero from now on.
    fn clear(self) -> NonNull<u8> {
        let start = self.0.cast::<u8>();
        // SAFETY: the caller owns the region and found it empty, so nobody looks at its bytes; it is
        // private anonymous memory of whole pages, which MADV_DONTNEED turns into zeros.
        let result =
            unsafe { libc::madvise(start.as_ptr().cast(), REGION_BYTES, libc::MADV_DONTNEED) };
        if result != 0 {
            // SAFETY: as above; the kernel kept the pages, so the zeros are written.
            unsafe { start.as_ptr().write_bytes(0, REGION_BYTES) };
        }
        start
    }
}

/// The regions of one thread.
struct Regions {
    owner: u64,
    regions: Vec<Region>,
    /// Zeroed memory for more regions.
    spare: Vec<NonNull<u8>>,
    /// For each region, at least the length of its longest free run (cut to 255); what other threads
    /// free is not in it.
    longest: Vec<u8>,
}

static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static REGIONS: RefCell<Regions> = RefCell::new(Regions {
        owner: NEXT_OWNER.fetch_add(1, Ordering::Relaxed),
        regions: Vec::new(),
        spare: Vec::new(),
        longest: Vec::new(),
    });
}

fn cut(length: usize) -> u8 {
    length.min(255) as u8
}

impl Regions {
    fn allocate(&mut self, count: usize) -> NonNull<u8> {
        if let Some(start) = self.allocate_in_known(count) {
            return start;
        }
        let mut more = false;
        for (region, longest) in self.regions.iter().zip(&mut self.longest) {
            if region.header().freed_elsewhere.swap(0, Ordering::Relaxed) != 0 {
                *longest = u8::MAX;
                more = true;
            }
        }
        if more && let Some(start) = self.allocate_in_known(count) {
            return start;
        }
        let place = self.regions.len();
        let region = Region::new(self.spare_memory(), self.owner);
        region.header().place.store(place as u32, Ordering::Relaxed);
        self.regions.push(region);
        self.longest.push(u8::MAX);
        self.take(place, HEADER_LINES, count)
    }

    fn spare_memory(&mut self) -> NonNull<u8> {
        if self.spare.is_empty() {
            let chunk = new_chunk();
            memory::leave_untouched(REGIONS_PER_CHUNK * REGION_BYTES);
            // From the end, so that regions are used in the order of their addresses.
            self.spare.extend((0..REGIONS_PER_CHUNK).rev().map(|number| {
                // SAFETY: `number` regions fit into the chunk before this one.
                unsafe { chunk.add(number * REGION_BYTES) }
            }));
        }
        memory::touch(REGION_BYTES);
        self.spare.pop().expect("a chunk has regions")
    }

    /// The first run of `count` free lines in a region that may have one.
    fn allocate_in_known(&mut self, count: usize) -> Option<NonNull<u8>> {
        let wanted = cut(count);
        let mut from = 0;
        while let Some(offset) = self.longest[from..].iter().position(|length| *length >= wanted) {
            let place = from + offset;
            match self.regions[place].find(count) {
                Ok(start) => return Some(self.take(place, start, count)),
                Err(longest) => self.longest[place] = cut(longest).min(wanted - 1),
            }
            from = place + 1;
        }
        None
    }

    fn take(&mut self, place: usize, start: usize, count: usize) -> NonNull<u8> {
        let region = self.regions[place];
        region.mark(start, count, true);
        // SAFETY: `start` is below REGION_LINES, so the address is inside the region.
        unsafe { region.0.cast::<u8>().add(start * LINE_BYTES) }
    }

    /// A run in `region`, which is this thread's, was freed.
    fn freed(&mut self, region: Region) {
        let place = region.header().place.load(Ordering::Relaxed) as usize;
        self.longest[place] = u8::MAX;
        if self.regions.len() > 1 && region.is_empty() {
            self.regions.swap_remove(place);
            self.longest.swap_remove(place);
            if let Some(moved) = self.regions.get(place) {
                moved.header().place.store(place as u32, Ordering::Relaxed);
            }
            self.spare.push(region.clear());
            memory::leave_untouched(REGION_BYTES);
        }
    }
}

/// An array of elements of one cache line each.
pub struct Lines<T> {
    start: NonNull<T>,
    count: u32,
}

// SAFETY: the array owns its elements, and freeing is allowed to every thread (see the module).
unsafe impl<T: Send> Send for Lines<T> {}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { start: NonNull::dangling(), count: 0 }
    }
}

impl<T: Default> Lines<T> {
    /// `count` default elements, at most [`LINES_MAX`].
    pub fn new(count: usize) -> Self {
        const {
            assert!(size_of::<T>() == LINE_BYTES && align_of::<T>() == LINE_BYTES);
        }
        assert!(count <= LINES_MAX, "{count} lines do not fit a region");
        if count == 0 {
            return Self::default();
        }
        let start = REGIONS.with_borrow_mut(|regions| regions.allocate(count)).cast::<T>();
        for place in 0..count {
            // SAFETY: the run has `count` lines of the size and alignment of T, and is ours alone.
            unsafe { start.add(place).write(T::default()) };
        }
        Self { start, count: count as u32 }
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` initialised `count` elements from `start`, which live as long as the array.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count as usize) }
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count as usize) }
    }
}

impl<T> Drop for Lines<T> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let elements = std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.count as usize);
        // SAFETY: the elements are initialised and dropped once; nobody has a reference to them.
        unsafe { elements.drop_in_place() };
        let region = Region::of(self.start.cast());
        let line = (self.start.addr().get() % REGION_BYTES) / LINE_BYTES;
        let owner = region.header().owner;
        // A thread that is ending has no regions any more.
        let mine = REGIONS.try_with(|regions| regions.borrow().owner).ok() == Some(owner);
        if !mine {
            // First: once the lines are free, their owner may release the region.
            region.header().freed_elsewhere.store(1, Ordering::Relaxed);
        }
        region.mark(line, self.count as usize, false);
        if mine {
            REGIONS.with_borrow_mut(|regions| regions.freed(region));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[repr(align(64))]
    struct Line([u8; 64]);

    impl Default for Line {
        fn default() -> Self {
            Self([0; 64])
        }
    }

    proptest! {
        #[test]
        fn arrays_never_overlap_and_memory_is_used_again(
            steps in prop::collection::vec((1_usize..65, any::<prop::sample::Index>(), any::<bool>()), 1..400)
        ) {
            let mut arrays: Vec<(u8, Lines<Line>)> = Vec::new();
            for (number, (count, index, free)) in steps.into_iter().enumerate() {
                if free && !arrays.is_empty() {
                    arrays.swap_remove(index.index(arrays.len()));
                } else {
                    let mut lines = Lines::<Line>::new(count);
                    prop_assert!(lines.iter().all(|line| line.0 == [0; 64]), "fresh lines are zero");
                    let mark = (number % 255) as u8 + 1;
                    lines.iter_mut().for_each(|line| line.0 = [mark; 64]);
                    arrays.push((mark, lines));
                }
                for (mark, lines) in &arrays {
                    prop_assert!(lines.iter().all(|line| line.0 == [*mark; 64]), "not overwritten");
                }
            }
            let lines: usize = arrays.iter().map(|(_, lines)| lines.len()).sum();
            drop(arrays);
            let regions = REGIONS.with_borrow(|regions| regions.regions.len());
            prop_assert!(regions <= 1, "{regions} regions are left of {lines} lines");
        }
    }

    #[test]
    fn another_thread_may_free_and_the_owner_uses_the_lines_again() {
        for _ in 0..100 {
            let arrays: Vec<Lines<Line>> = (0..200).map(|_| Lines::new(40)).collect();
            std::thread::spawn(move || drop(arrays)).join().unwrap();
        }
        let regions = REGIONS.with_borrow(|regions| regions.regions.len());
        assert!(regions < 40, "{regions} regions for what fits into nine");
    }

    #[test]
    fn dropping_drops_the_elements() {
        #[derive(Default)]
        #[repr(align(64))]
        struct Counted(Option<std::rc::Rc<()>>);
        let count = std::rc::Rc::new(());
        let mut lines = Lines::<Counted>::new(3);
        lines.iter_mut().for_each(|line| line.0 = Some(std::rc::Rc::clone(&count)));
        assert_eq!(std::rc::Rc::strong_count(&count), 4);
        drop(lines);
        assert_eq!(std::rc::Rc::strong_count(&count), 1);
    }
}
