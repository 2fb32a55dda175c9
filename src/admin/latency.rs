//! Latency spikes: for each kind of event, the times at which it took longer than
//! `latency-monitor-threshold`.
//!
//! Promise: 160 samples per event at most, one per second (the worst of it), and none at all
//! while the threshold is zero.

use std::collections::{BTreeMap, VecDeque};

use crate::config::Config;

/// Samples remembered for an event (Redis 7.0 `latency.h`, LATENCY_TS_LEN).
pub const SAMPLES_MAX: usize = 160;

/// What took long. The words are Redis's, since tools look for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LatencyEvent {
    /// A command.
    Command,
    /// A command that should take constant time.
    FastCommand,
    /// Removing expired keys.
    ExpireCycle,
    /// Removing one expired key.
    ExpireDel,
    /// Making room.
    EvictionCycle,
    /// Removing one key to make room.
    EvictionDel,
    /// Writing to the append-only file.
    AofWrite,
    /// Writing while another flush was going on.
    AofWritePendingFsync,
    /// Flushing under `appendfsync always`.
    AofFsyncAlways,
}

impl LatencyEvent {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::Command,
        Self::FastCommand,
        Self::ExpireCycle,
        Self::ExpireDel,
        Self::EvictionCycle,
        Self::EvictionDel,
        Self::AofWrite,
        Self::AofWritePendingFsync,
        Self::AofFsyncAlways,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::FastCommand => "fast-command",
            Self::ExpireCycle => "expire-cycle",
            Self::ExpireDel => "expire-del",
            Self::EvictionCycle => "eviction-cycle",
            Self::EvictionDel => "eviction-del",
            Self::AofWrite => "aof-write",
            Self::AofWritePendingFsync => "aof-write-pending-fsync",
            Self::AofFsyncAlways => "aof-fsync-always",
        }
    }

    /// The event of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// One spike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sample {
    /// Unix time, s.
    pub at: i64,
    /// How long it took.
    pub ms: u64,
}

/// The spikes of one event, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spikes {
    /// The latest of them.
    pub samples: VecDeque<Sample>,
    /// The worst since the last reset.
    pub max_ms: u64,
}

impl Spikes {
    fn add(&mut self, sample: Sample) {
        self.max_ms = self.max_ms.max(sample.ms);
        match self.samples.back_mut() {
            Some(last) if last.at == sample.at => last.ms = last.ms.max(sample.ms),
            _ => self.samples.push_back(sample),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Both together, as if one shard had seen it all.
    pub fn merge(&mut self, other: &Self) {
        let mut all: Vec<Sample> = self.samples.iter().chain(&other.samples).copied().collect();
        all.sort_unstable();
        let max_ms = self.max_ms.max(other.max_ms);
        *self = Self::default();
        all.into_iter().for_each(|sample| self.add(sample));
        self.max_ms = max_ms;
    }
}

/// All spikes of one shard, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyMonitor {
    events: BTreeMap<LatencyEvent, Spikes>,
}

impl LatencyMonitor {
    /// `event` took `ms`; `now` is unix time in s. Short ones are not remembered.
    #[inline]
    pub fn record(&mut self, config: &Config, event: LatencyEvent, ms: u64, now: i64) {
        let threshold = config.latency_monitor_threshold;
        if threshold != 0 && ms >= threshold {
            self.events.entry(event).or_default().add(Sample { at: now, ms });
        }
    }

    /// The events with spikes.
    pub fn events(&self) -> impl Iterator<Item = (LatencyEvent, &Spikes)> {
        self.events.iter().map(|(event, spikes)| (*event, spikes))
    }

    /// The spikes of an event.
    pub fn spikes(&self, event: LatencyEvent) -> Option<&Spikes> {
        self.events.get(&event)
    }

    /// Forgets an event; true if there was something to forget.
    pub fn reset(&mut self, event: LatencyEvent) -> bool {
        self.events.remove(&event).is_some()
    }

    /// Adds the spikes of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (event, spikes) in &other.events {
            self.events.entry(*event).or_default().merge(spikes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spikes_are_kept_one_per_second_and_160_at_most() {
        let config = Config { latency_monitor_threshold: 10, ..Config::default() };
        let mut monitor = LatencyMonitor::default();
        monitor.record(&config, LatencyEvent::Command, 9, 1);
        assert_eq!(monitor.events().count(), 0);
        monitor.record(&config, LatencyEvent::Command, 10, 1);
        monitor.record(&config, LatencyEvent::Command, 500, 1);
        monitor.record(&config, LatencyEvent::Command, 20, 1);
        let spikes = monitor.spikes(LatencyEvent::Command).unwrap();
        assert_eq!(spikes.samples, [Sample { at: 1, ms: 500 }]);
        for second in 2..300 {
            monitor.record(&config, LatencyEvent::Command, 10, second);
        }
        let spikes = monitor.spikes(LatencyEvent::Command).unwrap();
        assert_eq!((spikes.samples.len(), spikes.max_ms), (SAMPLES_MAX, 500));
        monitor.record(&Config::default(), LatencyEvent::ExpireCycle, 10_000, 1);
        assert!(
            monitor.spikes(LatencyEvent::ExpireCycle).is_none(),
            "the monitor is off by default"
        );
    }

    #[test]
    fn shards_are_merged_in_order_of_time() {
        let config = Config { latency_monitor_threshold: 1, ..Config::default() };
        let (mut one, mut other) = (LatencyMonitor::default(), LatencyMonitor::default());
        for (at, ms) in [(1, 5), (3, 7)] {
            one.record(&config, LatencyEvent::Command, ms, at);
        }
        for (at, ms) in [(2, 9), (3, 8)] {
            other.record(&config, LatencyEvent::Command, ms, at);
        }
        one.merge(&other);
        let spikes = one.spikes(LatencyEvent::Command).unwrap();
        let samples: Vec<_> = spikes.samples.iter().map(|sample| (sample.at, sample.ms)).collect();
        assert_eq!((samples, spikes.max_ms), (vec![(1, 5), (2, 9), (3, 8)], 9));
    }
}
