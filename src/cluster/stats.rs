//! How many packets of each type came and went.

use super::bus::Kind;

/// Counts since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    sent: [u64; Kind::ALL.len()],
    received: [u64; Kind::ALL.len()],
    /// Links that were closed because too much waited on them.
    pub links_overflowed: u64,
    /// When a broken packet was last written to the log, in milliseconds since 1970.
    pub(super) malformed_logged_ms: u64,
}

impl Stats {
    pub(super) fn count_sent(&mut self, kind: Kind, packets: usize) {
        self.sent[kind as usize] += packets as u64;
    }

    pub(super) fn count_received(&mut self, kind: Kind) {
        self.received[kind as usize] += 1;
    }

    /// Packets of this type that were sent.
    pub fn sent(&self, kind: Kind) -> u64 {
        self.sent[kind as usize]
    }

    /// Packets of this type that came.
    pub fn received(&self, kind: Kind) -> u64 {
        self.received[kind as usize]
    }
}
