//! Streams on their way out and in: nodes, counters, groups with what is pending, consumers.
//!
//! Both ways go piece by piece: a node, the head of a group or of a consumer, or a pending entry each. So a stream
//! of any size, or a group with a million pending entries, is written and read in slices like other values.

use super::encode::{Compression, write_length, write_text};
use super::input::{Error, Input};
use crate::datatypes::listpack::Listpack;
use crate::datatypes::stream::{
    BadStream, ConsumerNumber, Counters, Group, Stream, StreamId, StreamLoader,
};

// ---- out ----

/// What of a stream is written next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The node that begins with this id, or the next one.
    Node(StreamId),
    /// The group of this number, or the end.
    Group(usize),
    /// The pending entries of a group from this id on.
    Pending(usize, StreamId),
    /// The consumers of a group from this number on.
    Consumer(usize, usize),
    /// The pending entries of a consumer from this id on.
    ConsumerPending(usize, usize, StreamId),
}

/// Appends up to `pieces_max` pieces of `stream`, at least one, from `place` on or from the beginning. Where to
/// go on; `None` at the end.
pub(super) fn write_slice(
    stream: &Stream,
    place: Option<Place>,
    pieces_max: usize,
    compression: Compression,
    out: &mut Vec<u8>,
) -> Option<Place> {
    let mut writer = Writer { left: pieces_max.max(1), compression, out };
    let mut place = place.unwrap_or_else(|| {
        write_length(stream.nodes().len() as u64, writer.out);
        Place::Node(StreamId::MIN)
    });
    loop {
        let group = |number| stream.groups().nth(number);
        let next = match place {
            Place::Node(from) => Some(writer.nodes(stream, from)),
            Place::Group(number) => {
                group(number).map(|(name, group)| writer.group(number, name, group))
            }
            Place::Pending(number, from) => {
                group(number).map(|(_, group)| writer.pending(number, group, from))
            }
            Place::Consumer(number, consumer) => {
                group(number).map(|(_, group)| writer.consumers(number, group, consumer))
            }
            Place::ConsumerPending(number, consumer, from) => group(number)
                .map(|(_, group)| writer.consumer_pending(number, group, consumer, from)),
        };
        place = next?;
        if writer.left == 0 {
            return Some(place);
        }
    }
}

struct Writer<'a> {
    /// Pieces until the slice is full.
    left: usize,
    compression: Compression,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Whether there is room for another piece; if so, it is taken.
    fn takes(&mut self) -> bool {
        let takes = self.left > 0;
        self.left -= usize::from(takes);
        takes
    }

    fn id(&mut self, id: StreamId) {
        write_length(id.ms, self.out);
        write_length(id.seq, self.out);
    }

    fn nodes(&mut self, stream: &Stream, from: StreamId) -> Place {
        for (first, pack) in stream.nodes_from(from) {
            if !self.takes() {
                return Place::Node(first);
            }
            write_text(&first.to_bytes(), self.compression, self.out);
            write_text(pack.as_bytes(), self.compression, self.out);
        }
        let counters = *stream.counters();
        write_length(counters.len, self.out);
        self.id(counters.last_id);
        self.id(counters.first_id);
        self.id(counters.max_deleted_id);
        write_length(counters.entries_added, self.out);
        write_length(stream.group_count() as u64, self.out);
        Place::Group(0)
    }

    fn group(&mut self, number: usize, name: &[u8], group: &Group) -> Place {
        if !self.takes() {
            return Place::Group(number);
        }
        write_text(name, self.compression, self.out);
        self.id(group.last_id);
        write_length(group.entries_read.unwrap_or(UNKNOWN_ENTRIES_READ) as u64, self.out);
        write_length(group.pending_len() as u64, self.out);
        Place::Pending(number, StreamId::MIN)
    }

    fn pending(&mut self, number: usize, group: &Group, from: StreamId) -> Place {
        for (id, pending) in group.pending(from) {
            if !self.takes() {
                return Place::Pending(number, id);
            }
            self.out.extend_from_slice(&id.to_bytes());
            self.out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
            write_length(pending.deliveries, self.out);
        }
        write_length(group.consumers().len() as u64, self.out);
        Place::Consumer(number, 0)
    }

    fn consumers(&mut self, number: usize, group: &Group, from: usize) -> Place {
        for (at, consumer) in group.consumers().enumerate().skip(from) {
            if !self.takes() {
                return Place::Consumer(number, at);
            }
            write_text(consumer.name(), self.compression, self.out);
            self.out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
            write_length(consumer.pending_len() as u64, self.out);
            let rest = self.consumer_pending(number, group, at, StreamId::MIN);
            if matches!(rest, Place::ConsumerPending(..)) {
                return rest;
            }
        }
        Place::Group(number + 1)
    }

    fn consumer_pending(
        &mut self,
        number: usize,
        group: &Group,
        consumer: usize,
        from: StreamId,
    ) -> Place {
        let pending = group.consumers().nth(consumer).map(|consumer| consumer.pending(from));
        for id in pending.into_iter().flatten() {
            if !self.takes() {
                return Place::ConsumerPending(number, consumer, id);
            }
            self.out.extend_from_slice(&id.to_bytes());
        }
        Place::Consumer(number, consumer + 1)
    }
}

/// How a group is written that does not know how many entries it has read (Redis 7.0 `stream.h`,
/// SCG_INVALID_ENTRIES_READ).
const UNKNOWN_ENTRIES_READ: i64 = -1;

// ---- in ----

/// Which layout a stream is written in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Layout {
    /// Type 15: without what Redis 7.0 counts.
    Plain,
    /// Type 19: with it.
    Counted,
    /// Type 21: with the time at which each consumer was last given something, too.
    Timed,
}

/// A stream under way.
pub(super) struct StreamUnderWay {
    loader: StreamLoader,
    layout: Layout,
    next: Piece,
}

/// What comes next; the numbers say how many of a kind are left.
#[derive(Clone, Copy)]
enum Piece {
    Node { nodes: u64 },
    Counters,
    Group { groups: u64 },
    Pending { groups: u64, entries: u64 },
    ConsumerCount { groups: u64 },
    Consumer { groups: u64, consumers: u64 },
    ConsumerPending { groups: u64, consumers: u64, consumer: ConsumerNumber, entries: u64 },
}

impl Piece {
    /// Past what has nothing left.
    fn settled(self) -> Self {
        match self {
            Self::Node { nodes: 0 } => Self::Counters,
            Self::Pending { groups, entries: 0 } => Self::ConsumerCount { groups },
            Self::ConsumerPending { groups, consumers, entries: 0, .. } => {
                Self::Consumer { groups, consumers: consumers - 1 }.settled()
            }
            Self::Consumer { groups, consumers: 0 } => Self::Group { groups: groups - 1 },
            piece => piece,
        }
    }
}

fn bad(_: BadStream) -> Error {
    Error::Corrupt("a stream whose parts contradict each other")
}

fn id(input: &mut Input<'_>) -> Result<StreamId, Error> {
    Ok(StreamId::new(input.length()?, input.length()?))
}

fn time(input: &mut Input<'_>) -> Result<i64, Error> {
    input.array().map(i64::from_le_bytes)
}

impl StreamUnderWay {
    /// A stream of so many nodes.
    pub(super) fn new(layout: Layout, nodes: u64) -> Self {
        Self { loader: StreamLoader::default(), layout, next: Piece::Node { nodes }.settled() }
    }

    /// Takes one piece, all of which is read before anything is changed. The stream, if that was the last one.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Result<Option<Stream>, Error> {
        let next = match self.next {
            Piece::Node { nodes } => {
                self.node(input)?;
                Piece::Node { nodes: nodes - 1 }
            }
            Piece::Counters => Piece::Group { groups: self.counters(input)? },
            Piece::Group { groups } => Piece::Pending { groups, entries: self.group(input)? },
            Piece::Pending { groups, entries } => {
                let (id, delivered_ms) = (StreamId::from_bytes(input.array()?), time(input)?);
                self.loader.pending(id, delivered_ms, input.length()?).map_err(bad)?;
                Piece::Pending { groups, entries: entries - 1 }
            }
            Piece::ConsumerCount { groups } => {
                Piece::Consumer { groups, consumers: input.length()? }
            }
            Piece::Consumer { groups, consumers } => {
                let (consumer, entries) = self.consumer(input)?;
                Piece::ConsumerPending { groups, consumers, consumer, entries }
            }
            Piece::ConsumerPending { groups, consumers, consumer, entries } => {
                let id = StreamId::from_bytes(input.array()?);
                self.loader.consumer_pending(consumer, id).map_err(bad)?;
                Piece::ConsumerPending { groups, consumers, consumer, entries: entries - 1 }
            }
        };
        self.next = next.settled();
        if !matches!(self.next, Piece::Group { groups: 0 }) {
            return Ok(None);
        }
        std::mem::take(&mut self.loader).finish().map(Some).map_err(bad)
    }

    fn node(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let (first, pack) = (input.text()?, input.text()?);
        let mut buffer = itoa::Buffer::new();
        let first: [u8; 16] = first
            .as_bytes(&mut buffer)
            .try_into()
            .map_err(|_| Error::Corrupt("a stream node that begins with no id"))?;
        let pack = Listpack::from_bytes(pack.into_bytes())
            .map_err(|_| Error::Corrupt("a malformed stream node"))?;
        self.loader.node(StreamId::from_bytes(first), pack).map_err(bad)
    }

    /// Takes the counters and says how many groups there are.
    fn counters(&mut self, input: &mut Input<'_>) -> Result<u64, Error> {
        let (len, last_id) = (input.length()?, id(input)?);
        if self.layout == Layout::Plain {
            let groups = input.length()?;
            self.loader.old_counters(len, last_id).map_err(bad)?;
            return Ok(groups);
        }
        let (first_id, max_deleted_id) = (id(input)?, id(input)?);
        let (entries_added, groups) = (input.length()?, input.length()?);
        let counters = Counters { len, last_id, first_id, max_deleted_id, entries_added };
        self.loader.counters(counters).map_err(bad)?;
        Ok(groups)
    }

    /// Takes the head of a group and says how many entries are pending.
    fn group(&mut self, input: &mut Input<'_>) -> Result<u64, Error> {
        let (name, last_id) = (input.text()?, id(input)?);
        let mut buffer = itoa::Buffer::new();
        let name = name.as_bytes(&mut buffer);
        if self.layout == Layout::Plain {
            let pending = input.length()?;
            self.loader.old_group(name, last_id).map_err(bad)?;
            return Ok(pending);
        }
        let entries_read =
            Some(input.length()? as i64).filter(|read| *read != UNKNOWN_ENTRIES_READ);
        let pending = input.length()?;
        self.loader.group(name, last_id, entries_read).map_err(bad)?;
        Ok(pending)
    }

    /// Takes the head of a consumer and says how many entries are pending for it.
    fn consumer(&mut self, input: &mut Input<'_>) -> Result<(ConsumerNumber, u64), Error> {
        let (name, seen_ms) = (input.text()?, time(input)?);
        if self.layout == Layout::Timed {
            // Redis 7.0, which is what we show, does not know of it.
            time(input)?;
        }
        let pending = input.length()?;
        let mut buffer = itoa::Buffer::new();
        let consumer = self.loader.consumer(name.as_bytes(&mut buffer), seen_ms).map_err(bad)?;
        Ok((consumer, pending))
    }
}
