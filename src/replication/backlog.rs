//! The last stretch of the stream, for those who were away for a moment.
//!
//! Kept in blocks, so that growing it copies nothing, and so that bytes stay for somebody who reads
//! slowly though the backlog itself would have dropped them.

use std::collections::VecDeque;

/// Bytes of a block: what is dropped at once, so below the smallest `repl-backlog-size`.
const BLOCK_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Backlog {
    blocks: VecDeque<Vec<u8>>,
    /// Position of the first byte that is kept.
    first: u64,
    /// Position of the end.
    end: u64,
    size: u64,
}

impl Backlog {
    /// An empty backlog at `position` of the stream that keeps `size` bytes.
    pub fn new(position: u64, size: u64) -> Self {
        Self { blocks: VecDeque::new(), first: position, end: position, size }
    }

    /// Position of the first byte that is kept on purpose.
    pub fn first(&self) -> u64 {
        self.first.max(self.end.saturating_sub(self.size))
    }

    /// Position of the end.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are kept on purpose (INFO `repl_backlog_histlen`).
    pub fn len(&self) -> u64 {
        self.end - self.first()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.blocks.iter().map(Vec::capacity).sum()
    }

    /// How many bytes are kept from now on.
    pub fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// `repl-backlog-size`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends to the stream. [`Backlog::trim`] drops what is too old.
    pub fn append(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            let free = self.blocks.back().map_or(0, |block| BLOCK_BYTES - block.len());
            if free == 0 {
                self.blocks.push_back(Vec::with_capacity(BLOCK_BYTES));
                continue;
            }
            let (now, later) = bytes.split_at(free.min(bytes.len()));
            if let Some(block) = self.blocks.back_mut() {
                block.extend_from_slice(now);
            }
            bytes = later;
        }
    }

    /// Whether everything from `position` on is there.
    pub fn holds(&self, position: u64) -> bool {
        (self.first..=self.end).contains(&position)
    }

    /// Bytes from `position` on, as many as lie in a row; empty at the end and for what is gone.
    pub fn read(&self, position: u64) -> &[u8] {
        if !self.holds(position) {
            return &[];
        }
        // All blocks but the last are full.
        let offset = (position - self.first) as usize;
        match self.blocks.get(offset / BLOCK_BYTES) {
            Some(block) => block.get(offset % BLOCK_BYTES..).unwrap_or_default(),
            None => &[],
        }
    }

    /// Drops what is beyond the size, but for what somebody at `slowest` has still to read.
    pub fn trim(&mut self, slowest: Option<u64>) {
        let keep = self.end.saturating_sub(self.size).min(slowest.unwrap_or(u64::MAX));
        while self.first + BLOCK_BYTES as u64 <= keep && self.blocks.pop_front().is_some() {
            self.first += BLOCK_BYTES as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_keeps_the_end_of_the_stream(
            start in 0_u64..1000,
            size in 16_384_u64..70_000,
            pieces in prop::collection::vec((0_usize..30_000, prop::option::of(0_u64..100_000)), 1..30),
        ) {
            let mut backlog = Backlog::new(start, size);
            let mut all: Vec<u8> = Vec::new();
            for (len, slowest) in pieces {
                let from = all.len();
                all.extend((0..len).map(|at| ((from + at) * 31 % 251) as u8));
                backlog.append(&all[from..]);
                let slowest = slowest.map(|at| (start + at).clamp(backlog.first, backlog.end));
                backlog.trim(slowest);
                let end = start + all.len() as u64;
                prop_assert_eq!(backlog.end(), end);
                prop_assert!(backlog.len() <= size);
                prop_assert!(backlog.holds(backlog.first()) && backlog.holds(end));
                prop_assert!(!backlog.holds(end + 1));
                let kept = end - backlog.first;
                prop_assert!(kept < size + BLOCK_BYTES as u64 || slowest.is_some());
                let mut at = slowest.unwrap_or(backlog.first());
                prop_assert!(backlog.holds(at));
                let mut read = Vec::new();
                while !backlog.read(at).is_empty() {
                    read.extend_from_slice(backlog.read(at));
                    at = slowest.unwrap_or(backlog.first()) + read.len() as u64;
                }
                let from = (slowest.unwrap_or(backlog.first()) - start) as usize;
                prop_assert_eq!(&read[..], &all[from..]);
            }
        }
    }
}
