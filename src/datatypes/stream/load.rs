//! A stream from a snapshot, a DUMP payload or another server: put together piece by piece, in the order
//! in which these formats have them.
//!
//! Promise: pieces of any content end as a stream that keeps the promises of this module, or as
//! [`BadStream`].

use super::counters::Counters;
use super::group::{ConsumerNumber, Group, Pending};
use super::id::StreamId;
use super::node::{self, Node};
use super::{Listpack, Stream};

/// The pieces do not make a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadStream;

impl std::fmt::Display for BadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the nodes, counters or groups of a stream contradict each other")
    }
}

impl std::error::Error for BadStream {}

/// Deliveries of which the consumer is not known yet.
struct Unclaimed {
    id: StreamId,
    delivered_ms: i64,
    deliveries: u64,
}

/// Puts a stream together: nodes, then counters, then each group with its pending entries and then its
/// consumers.
#[derive(Default)]
pub struct StreamLoader {
    stream: Stream,
    /// Live entries of all nodes.
    live: u64,
    /// The last of them.
    last: StreamId,
    group: Option<(Vec<u8>, Group, Vec<Unclaimed>)>,
}

impl StreamLoader {
    /// The next node, whose first entry (perhaps deleted) has the id `first`.
    pub fn node(&mut self, first: StreamId, pack: Listpack) -> Result<(), BadStream> {
        if self.stream.nodes.iter_from(first).next().is_some() {
            return Err(BadStream);
        }
        self.last = node::check(first, &pack, self.last).ok_or(BadStream)?;
        self.live += Node { first, pack: &pack }.live();
        self.stream.nodes.push(first, pack);
        Ok(())
    }

    /// The counters, as formats since RDB version 10 have them.
    pub fn counters(&mut self, counters: Counters) -> Result<(), BadStream> {
        if counters.len != self.live || self.last > counters.last_id {
            return Err(BadStream);
        }
        self.stream.counters = counters;
        Ok(())
    }

    /// The counters of older formats, which know of nothing that was removed.
    pub fn old_counters(&mut self, len: u64, last_id: StreamId) -> Result<(), BadStream> {
        let entries_added = len;
        self.counters(Counters { len, last_id, entries_added, ..Counters::default() })?;
        self.stream.find_first();
        Ok(())
    }

    /// The next group.
    pub fn group(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<i64>,
    ) -> Result<(), BadStream> {
        self.end_group()?;
        if self.stream.group(name).is_some() {
            return Err(BadStream);
        }
        self.group = Some((name.to_vec(), Group::new(last_id, entries_read), Vec::new()));
        Ok(())
    }

    /// The next group of an older format, which does not say how many entries it has read.
    pub fn old_group(&mut self, name: &[u8], last_id: StreamId) -> Result<(), BadStream> {
        let entries_read = self.stream.counters.entries_up_to(last_id);
        self.group(name, last_id, entries_read)
    }

    /// The next pending entry of the group, in the order of ids.
    pub fn pending(
        &mut self,
        id: StreamId,
        delivered_ms: i64,
        deliveries: u64,
    ) -> Result<(), BadStream> {
        let (_, _, unclaimed) = self.group.as_mut().ok_or(BadStream)?;
        if unclaimed.last().is_some_and(|last| last.id >= id) {
            return Err(BadStream);
        }
        unclaimed.push(Unclaimed { id, delivered_ms, deliveries });
        Ok(())
    }

    /// The next consumer of the group; `seen_ms` is when it was last heard of.
    pub fn consumer(&mut self, name: &[u8], seen_ms: i64) -> Result<ConsumerNumber, BadStream> {
        let (_, group, _) = self.group.as_mut().ok_or(BadStream)?;
        group.add_consumer(name, seen_ms).ok_or(BadStream)
    }

    /// The next pending entry of a consumer, which the group has told of.
    pub fn consumer_pending(
        &mut self,
        consumer: ConsumerNumber,
        id: StreamId,
    ) -> Result<(), BadStream> {
        let (_, group, unclaimed) = self.group.as_mut().ok_or(BadStream)?;
        let at = unclaimed.binary_search_by_key(&id, |known| known.id).map_err(|_| BadStream)?;
        if group.pending_entry(id).is_some() {
            return Err(BadStream);
        }
        let Unclaimed { delivered_ms, deliveries, .. } = unclaimed[at];
        group.assign(id, Pending { delivered_ms, deliveries, consumer });
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), BadStream> {
        if let Some((name, group, unclaimed)) = self.group.take() {
            if group.pending_len() != unclaimed.len() {
                return Err(BadStream);
            }
            self.stream.add_group(&name, group);
        }
        Ok(())
    }

    /// The stream.
    pub fn finish(mut self) -> Result<Stream, BadStream> {
        self.end_group()?;
        if self.stream.counters.len != self.live {
            return Err(BadStream);
        }
        Ok(self.stream)
    }
}
