//! Streams on their way out and in (types 15, 19 and 21): nodes, counters, then the groups with what is pending.
//!
//! Both ways go piece by piece like the other values, for a stream may have millions of nodes, and a group
//! millions of pending entries.

use super::encode::{Compression, write_length, write_text};
use super::input::{Error, Input};
use crate::datatypes::listpack::Listpack;
use crate::datatypes::stream::{
    BadStream, ConsumerNumber, Counters, Group, Stream, StreamId, StreamLoader,
};

const CORRUPT_NODE: Error = Error::Corrupt("a malformed node of a stream");
const CORRUPT_STREAM: Error = Error::Corrupt("a stream that contradicts itself");

impl From<BadStream> for Error {
    fn from(_: BadStream) -> Self {
        CORRUPT_STREAM
    }
}

// ---- out ----

/// What of a stream is to be written next. Groups and consumers go by their place in the order of names.
#[derive(Clone, Copy, Debug)]
pub(super) enum NextOfStream {
    /// The nodes from this id on, or the counters if there are none.
    Node(StreamId),
    /// This group.
    Group(usize),
    /// What is pending in this group, from this id on.
    Pending(usize, StreamId),
    /// This consumer of this group.
    Consumer(usize, usize),
    /// What is pending for this consumer of this group, from this id on.
    ConsumerPending(usize, usize, StreamId),
    /// Nothing more.
    Nothing,
}

/// Appends about `elements_max` pieces of `stream`, from `next` on (`None`: from the start), and answers what comes then.
pub(super) fn write_slice(
    stream: &Stream,
    next: Option<NextOfStream>,
    compression: Compression,
    elements_max: usize,
    out: &mut Vec<u8>,
) -> NextOfStream {
    let mut next = next.unwrap_or_else(|| {
        write_length(stream.nodes().len() as u64, out);
        NextOfStream::Node(StreamId::MIN)
    });
    let mut left = elements_max.max(1);
    while left > 0 {
        let (then, written) = write_piece(stream, next, compression, left, out);
        left = left.saturating_sub(written.max(1));
        next = then;
        if let NextOfStream::Nothing = next {
            break;
        }
    }
    next
}

fn write_piece(
    stream: &Stream,
    next: NextOfStream,
    compression: Compression,
    most: usize,
    out: &mut Vec<u8>,
) -> (NextOfStream, usize) {
    let group_at = |at: usize| stream.groups().nth(at);
    match next {
        NextOfStream::Node(from) => {
            let mut nodes = stream.nodes_from(from);
            let mut written = 0;
            for (first, pack) in nodes.by_ref().take(most) {
                write_length(first.to_bytes().len() as u64, out);
                out.extend_from_slice(&first.to_bytes());
                write_text(pack.as_bytes(), compression, out);
                written += 1;
            }
            match nodes.next() {
                Some((next, _)) => (NextOfStream::Node(next), written),
                None => {
                    write_counters(stream.counters(), out);
                    write_length(stream.group_count() as u64, out);
                    (NextOfStream::Group(0), written)
                }
            }
        }
        NextOfStream::Group(at) => match group_at(at) {
            None => (NextOfStream::Nothing, 1),
            Some((name, group)) => {
                write_text(name, compression, out);
                write_id(group.last_id, out);
                // -1, which says that the number is not known, is written as what it is without a sign.
                write_length(group.entries_read.unwrap_or(-1) as u64, out);
                write_length(group.pending_len() as u64, out);
                (NextOfStream::Pending(at, StreamId::MIN), 1)
            }
        },
        NextOfStream::Pending(at, from) => match group_at(at) {
            None => (NextOfStream::Nothing, 1),
            Some((_, group)) => write_pending(group, at, from, most, out),
        },
        NextOfStream::Consumer(at, number) => {
            let consumer = group_at(at).and_then(|(_, group)| group.consumers().nth(number));
            let Some(consumer) = consumer else { return (NextOfStream::Group(at + 1), 1) };
            write_text(consumer.name(), compression, out);
            out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
            write_length(consumer.pending_len() as u64, out);
            (NextOfStream::ConsumerPending(at, number, StreamId::MIN), 1)
        }
        NextOfStream::ConsumerPending(at, number, from) => {
            let consumer = group_at(at).and_then(|(_, group)| group.consumers().nth(number));
            let Some(consumer) = consumer else { return (NextOfStream::Group(at + 1), 1) };
            let mut pending = consumer.pending(from);
            let mut written = 0;
            for id in pending.by_ref().take(most) {
                out.extend_from_slice(&id.to_bytes());
                written += 1;
            }
            let then = match pending.next() {
                Some(next) => NextOfStream::ConsumerPending(at, number, next),
                None => NextOfStream::Consumer(at, number + 1),
            };
            (then, written)
        }
        NextOfStream::Nothing => (NextOfStream::Nothing, 1),
    }
}

fn write_pending(
    group: &Group,
    at: usize,
    from: StreamId,
    most: usize,
    out: &mut Vec<u8>,
) -> (NextOfStream, usize) {
    let mut pending = group.pending(from);
    let mut written = 0;
    for (id, delivery) in pending.by_ref().take(most) {
        out.extend_from_slice(&id.to_bytes());
        out.extend_from_slice(&delivery.delivered_ms.to_le_bytes());
        write_length(delivery.deliveries, out);
        written += 1;
    }
    if let Some((next, _)) = pending.next() {
        return (NextOfStream::Pending(at, next), written);
    }
    write_length(group.consumers().len() as u64, out);
    (NextOfStream::Consumer(at, 0), written)
}

fn write_counters(counters: &Counters, out: &mut Vec<u8>) {
    write_length(counters.len, out);
    write_id(counters.last_id, out);
    write_id(counters.first_id, out);
    write_id(counters.max_deleted_id, out);
    write_length(counters.entries_added, out);
}

fn write_id(id: StreamId, out: &mut Vec<u8>) {
    write_length(id.ms, out);
    write_length(id.seq, out);
}

// ---- in ----

/// The three forms of streams, by what later ones added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Type 15.
    Plain,
    /// Type 19: first and deleted ids, entries added and read.
    Counted,
    /// Type 21: when a consumer was last active.
    Active,
}

/// A stream under way.
pub(super) struct StreamDecoder {
    loader: StreamLoader,
    form: Form,
    next: Expected,
}

/// What comes next, with the numbers of pieces that are left around it.
#[derive(Clone, Copy)]
enum Expected {
    NodeCount,
    Node { left: u64 },
    Counters,
    Group { left: u64 },
    Pending { left: u64, groups: u64 },
    ConsumerCount { groups: u64 },
    Consumer { left: u64, groups: u64 },
    ConsumerPending { consumer: ConsumerNumber, left: u64, consumers: u64, groups: u64 },
}

impl StreamDecoder {
    pub(super) fn new(form: Form) -> Self {
        Self { loader: StreamLoader::default(), form, next: Expected::NodeCount }
    }

    /// Takes one piece; the stream after its last. Reads all of the piece before anything is changed.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Result<Option<Stream>, Error> {
        self.next = match self.next {
            Expected::NodeCount => Expected::Node { left: input.length()? },
            Expected::Node { left: 0 } => Expected::Counters,
            Expected::Node { left } => {
                self.node(input)?;
                Expected::Node { left: left - 1 }
            }
            Expected::Counters => Expected::Group { left: self.counters(input)? },
            Expected::Group { left: 0 } => {
                return Ok(Some(std::mem::take(&mut self.loader).finish()?));
            }
            Expected::Group { left } => {
                Expected::Pending { left: self.group(input)?, groups: left - 1 }
            }
            Expected::Pending { left: 0, groups } => Expected::ConsumerCount { groups },
            Expected::Pending { left, groups } => {
                let id = StreamId::from_bytes(input.array()?);
                let delivered_ms = i64::from_le_bytes(input.array()?);
                self.loader.pending(id, delivered_ms, input.length()?)?;
                Expected::Pending { left: left - 1, groups }
            }
            Expected::ConsumerCount { groups } => {
                Expected::Consumer { left: input.length()?, groups }
            }
            Expected::Consumer { left: 0, groups } => Expected::Group { left: groups },
            Expected::Consumer { left, groups } => {
                let (consumer, pending) = self.consumer(input)?;
                Expected::ConsumerPending { consumer, left: pending, consumers: left - 1, groups }
            }
            Expected::ConsumerPending { left: 0, consumers, groups, .. } => {
                Expected::Consumer { left: consumers, groups }
            }
            Expected::ConsumerPending { consumer, left, consumers, groups } => {
                let id = StreamId::from_bytes(input.array()?);
                self.loader.consumer_pending(consumer, id)?;
                Expected::ConsumerPending { consumer, left: left - 1, consumers, groups }
            }
        };
        Ok(None)
    }

    fn node(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        let first = input.text()?.into_bytes();
        let first = <[u8; 16]>::try_from(first.as_slice()).map_err(|_| CORRUPT_NODE)?;
        let pack = Listpack::from_bytes(input.text()?.into_bytes()).map_err(|_| CORRUPT_NODE)?;
        Ok(self.loader.node(StreamId::from_bytes(first), pack)?)
    }

    /// The counters and the number of groups.
    fn counters(&mut self, input: &mut Input<'_>) -> Result<u64, Error> {
        let (len, last_id) = (input.length()?, id(input)?);
        if self.form == Form::Plain {
            let groups = input.length()?;
            self.loader.old_counters(len, last_id)?;
            return Ok(groups);
        }
        let (first_id, max_deleted_id) = (id(input)?, id(input)?);
        let (entries_added, groups) = (input.length()?, input.length()?);
        self.loader.counters(Counters { len, last_id, first_id, max_deleted_id, entries_added })?;
        Ok(groups)
    }

    /// The head of a group; how many entries are pending in it.
    fn group(&mut self, input: &mut Input<'_>) -> Result<u64, Error> {
        let name = input.text()?.into_bytes();
        let last_id = id(input)?;
        if self.form == Form::Plain {
            let pending = input.length()?;
            self.loader.old_group(&name, last_id)?;
            return Ok(pending);
        }
        let (entries_read, pending) = (input.length()? as i64, input.length()?);
        let entries_read = (entries_read != -1).then_some(entries_read);
        self.loader.group(&name, last_id, entries_read)?;
        Ok(pending)
    }

    /// The head of a consumer; how many entries are pending for it.
    fn consumer(&mut self, input: &mut Input<'_>) -> Result<(ConsumerNumber, u64), Error> {
        let name = input.text()?.into_bytes();
        let seen_ms = i64::from_le_bytes(input.array()?);
        if self.form >= Form::Active {
            // Redis 7.0 does not tell apart when a consumer asked and when it got something.
            input.array::<8>()?;
        }
        let pending = input.length()?;
        Ok((self.loader.consumer(&name, seen_ms)?, pending))
    }
}

fn id(input: &mut Input<'_>) -> Result<StreamId, Error> {
    Ok(StreamId::new(input.length()?, input.length()?))
}
