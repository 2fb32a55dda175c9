//! Output buffers between two uses.
//!
//! A connection takes a buffer for its first reply byte and lets go of it with
//! [`Service::take_output`](super::Service::take_output); when the kernel has sent it, it comes back
//! through [`Service::recycle`](super::Service::recycle). So idle connections hold none, and busy
//! ones share a few that are warm in the cache (the last given is the first taken).

/// Buffers kept for reuse. More are freed: a burst is over at some time.
const POOL_BUFFERS_MAX: usize = 256;
/// The largest capacity kept, in bytes. A larger one served a large reply and would rarely be filled.
const POOLED_BYTES_MAX: usize = 64 * 1024;
/// The capacity a fresh buffer starts with, in bytes: a few small replies.
const FRESH_BYTES: usize = 512;

/// A bounded stack of empty buffers.
#[derive(Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
}

impl BufferPool {
    /// An empty buffer with some capacity.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    /// Keeps the capacity of `buffer` for later, within bounds.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= POOLED_BYTES_MAX && self.free.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_small_buffers_and_not_too_many() {
        let mut pool = BufferPool::default();
        pool.give(Vec::with_capacity(POOLED_BYTES_MAX + 1));
        pool.give(Vec::new());
        assert!(pool.free.is_empty());
        for _ in 0..=POOL_BUFFERS_MAX {
            pool.give(vec![1; 600]);
        }
        assert_eq!(pool.free.len(), POOL_BUFFERS_MAX);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 600);
    }
}
