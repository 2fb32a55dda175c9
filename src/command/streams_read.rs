//! XREAD and XREADGROUP: entries of several streams, for anybody or for a consumer of a group.
//!
//! Promise: a command that has to wait has written and changed nothing; a consumer becomes known when it is
//! served. Who waited is served from one key and with a bounded number of entries, as in Redis.

use super::blocking::milliseconds;
use super::collection::integer;
use super::streams::{bulk_id, group_changed, id_argument, no_key_or_group, write_entry};
use super::streams_effects::GroupEffects;
use super::{Attempt, Awaits, Blocking, CommandError, CommandResult, Ctx, Request};
use crate::datatypes::stream::{Delivery, Entry, Pending, Stream, StreamId};
use crate::keyspace::{Key, TypeName, ValueRef};
use crate::resp::Reply;

/// Entries for who had to wait and gave no COUNT (Redis 7.0 `t_stream.c`, XREAD_BLOCKED_DEFAULT_COUNT).
const WAITED_COUNT_DEFAULT: &[u8] = b"1000";

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …]
pub(super) const XREAD: Blocking = Blocking {
    attempt,
    serve: serve_waiting,
    wants: |found| found == Some(TypeName::Stream),
    nothing: |_, reply| reply.null_array(),
    timed_out: |_, reply| reply.null_array(),
    awaits: Awaits::Keys,
    keep: Some(keep),
};

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key …]
/// id [id …]
///
/// It is interested in keys of any kind: a key that is no stream any more ends the waiting.
pub(super) const XREADGROUP: Blocking = Blocking { wants: |_| true, ..XREAD };

/// Answers with the entries that are there, or waits if it may.
fn attempt(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let read = Read::parse(ctx, request)?;
    let from = read.resolve(ctx, request)?;
    let mut served = 0;
    let mut all = None;
    for (number, from) in from.into_iter().enumerate() {
        let key = request.key(read.keys_at + number);
        let Some(ready) = read.ready(ctx, &key, from)? else { continue };
        all = all.or_else(|| Some(reply.deferred()));
        served += 1;
        read.serve(ctx, &key, ready, reply)?;
    }
    match (all, read.block) {
        (Some(all), _) if reply.resp3() => reply.set_map_len(all, served),
        (Some(all), _) => reply.set_array_len(all, served),
        (None, Some(until)) => return Ok(Attempt::Wait(until)),
        (None, None) => reply.null_array(),
    }
    Ok(Attempt::Done)
}

/// Answers who waits with what one of its keys has now; false if that is nothing.
fn serve_waiting(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    key: &Key<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<bool> {
    let read = Read::parse(ctx, request)?;
    if let Some((group, _)) = read.group {
        let found = ctx.keyspace[ctx.db].peek(key).map(|entry| entry.value());
        let Some(ValueRef::Stream(stream)) = found else {
            return Err(CommandError::text("UNBLOCKED the stream key no longer exists"));
        };
        if stream.group(group).is_none() {
            return Err(CommandError::text(
                "NOGROUP the consumer group this client was blocked on no longer exists",
            ));
        }
    }
    // Of a key that is named twice, the first id counts.
    let keys = request.rest(read.keys_at).iter().take(read.keys);
    let Some(number) = keys.into_iter().position(|name| *name == key.bytes) else {
        return Ok(false);
    };
    let from = match request.arg(read.keys_at + read.keys + number) {
        b">" => From::Undelivered,
        id => From::After(id_argument(id)?),
    };
    let Some(ready) = read.ready(ctx, key, from)? else { return Ok(false) };
    if reply.resp3() {
        reply.map(1);
    } else {
        reply.array(1);
    }
    read.serve(ctx, key, ready, reply)?;
    Ok(true)
}

/// The arguments to wait with: `$` is the last entry of now, not of later, and there is a COUNT.
fn keep(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Vec<Vec<u8>> {
    let mut args: Vec<Vec<u8>> = request.args().iter().map(|arg| arg.to_vec()).collect();
    let Ok(read) = Read::parse(ctx, request) else { return args };
    for (number, id) in args[read.keys_at + read.keys..].iter_mut().enumerate() {
        if id == b"$" {
            let key = request.key(read.keys_at + number);
            let stream = ctx.keyspace[ctx.db].peek_as::<Stream>(&key).ok().flatten();
            let last = stream.map_or(StreamId::MIN, |stream| stream.counters().last_id);
            *id = last.to_string().into_bytes();
        }
    }
    if read.count == usize::MAX {
        let count = [b"COUNT", WAITED_COUNT_DEFAULT].map(<[u8]>::to_vec);
        let streams_at = read.keys_at - 1;
        args.splice(streams_at..streams_at, count);
    }
    args
}

/// What XREAD or XREADGROUP is asked for.
struct Read<'a> {
    count: usize,
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    no_acknowledgement: bool,
    /// Whether it waits if there is nothing, and until when (unix ms; `None` for ever).
    block: Option<Option<i64>>,
    /// Where the keys are.
    keys_at: usize,
    /// How many keys there are, and as many ids after them.
    keys: usize,
}

/// From where a stream is read.
#[derive(Clone, Copy)]
enum From {
    /// After this id.
    After(StreamId),
    /// What the group has not delivered yet (`>`).
    Undelivered,
}

/// What there is to serve of a stream.
enum Ready {
    /// Entries above this id, for anybody.
    Entries(StreamId),
    /// Entries above this id, which the group has not delivered.
    Undelivered(StreamId),
    /// The consumer's own pending entries above this id.
    History(StreamId),
}

const GROUP_IN_XREAD: CommandError = CommandError::text(
    "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
);
const NOACK_IN_XREAD: CommandError = CommandError::text(
    "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
);
const DOLLAR_IN_XREADGROUP: CommandError = CommandError::text(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
     consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just \
     return an empty result set.",
);
const UNDELIVERED_IN_XREAD: CommandError = CommandError::text(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
     option.",
);

impl<'a> Read<'a> {
    fn parse(ctx: &Ctx<'_>, request: &Request<'a>) -> CommandResult<Self> {
        let for_group = request.is_word(0, "xreadgroup");
        let (mut count, mut group, mut no_acknowledgement) = (usize::MAX, None, false);
        let mut block = None;
        let mut at = 1;
        loop {
            match (request.get(at + 1), request.get(at + 2)) {
                (Some(time), _) if request.is_word(at, "block") => {
                    block = Some(milliseconds(ctx, time)?);
                    at += 2;
                }
                (Some(number), _) if request.is_word(at, "count") => {
                    // Anything below one is no limit.
                    count = match usize::try_from(integer(number)?) {
                        Ok(0) | Err(_) => usize::MAX,
                        Ok(count) => count,
                    };
                    at += 2;
                }
                (Some(_), _) if request.is_word(at, "streams") => break,
                (Some(name), Some(consumer)) if request.is_word(at, "group") => {
                    if !for_group {
                        return Err(GROUP_IN_XREAD);
                    }
                    group = Some((name, consumer));
                    at += 3;
                }
                _ if request.is_word(at, "noack") => {
                    if !for_group {
                        return Err(NOACK_IN_XREAD);
                    }
                    no_acknowledgement = true;
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let keys_at = at + 1;
        let words = request.len() - keys_at;
        if !words.is_multiple_of(2) {
            return Err(CommandError::text(
                "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be \
                 specified.",
            ));
        }
        if for_group && group.is_none() {
            return Err(CommandError::text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(Self { count, group, no_acknowledgement, block, keys_at, keys: words / 2 })
    }

    /// Looks at every key and its id before anything is read: one mistake, and nothing is served.
    fn resolve(&self, ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Vec<From>> {
        let resolve = |number| {
            let key = request.key(self.keys_at + number);
            let stream = ctx.keyspace[ctx.db].read_as::<Stream>(&key)?;
            if let Some((group, _)) = self.group
                && stream.and_then(|stream| stream.group(group)).is_none()
            {
                let place = " in XREADGROUP with GROUP option";
                return Err(no_key_or_group(key.bytes, group, place));
            }
            match (request.arg(self.keys_at + self.keys + number), self.group) {
                (b"$", Some(_)) => Err(DOLLAR_IN_XREADGROUP),
                (b"$", None) => {
                    let last = stream.map_or(StreamId::MIN, |stream| stream.counters().last_id);
                    Ok(From::After(last))
                }
                (b">", Some(_)) => Ok(From::Undelivered),
                (b">", None) => Err(UNDELIVERED_IN_XREAD),
                (id, group) => match (id_argument(id)?, group) {
                    // In Redis this id is how `>` is kept.
                    (StreamId::MAX, Some(_)) => Ok(From::Undelivered),
                    (id, _) => Ok(From::After(id)),
                },
            }
        };
        (0..self.keys).map(resolve).collect()
    }

    /// What can be served of the stream at `key` at once.
    fn ready(&self, ctx: &mut Ctx<'_>, key: &Key<'_>, from: From) -> CommandResult<Option<Ready>> {
        let Some(stream) = ctx.keyspace[ctx.db].read_as::<Stream>(key)? else { return Ok(None) };
        let has_after = |id| !stream.is_empty() && stream.last_entry_id() > id;
        let group = self.group.and_then(|(group, _)| stream.group(group));
        Ok(match (from, group) {
            (From::After(id), None) => has_after(id).then_some(Ready::Entries(id)),
            (From::After(id), Some(_)) => Some(Ready::History(id)),
            (From::Undelivered, Some(group)) => {
                has_after(group.last_id).then_some(Ready::Undelivered(group.last_id))
            }
            (From::Undelivered, None) => None,
        })
    }

    /// Writes the name and the entries of one stream.
    fn serve(
        &self,
        ctx: &mut Ctx<'_>,
        key: &Key<'_>,
        ready: Ready,
        reply: &mut Reply<'_>,
    ) -> CommandResult {
        if !reply.resp3() {
            reply.array(2);
        }
        reply.bulk(key.bytes);
        let array = reply.deferred();
        let served = match ready {
            Ready::Entries(id) => {
                let stream = ctx.keyspace[ctx.db].peek_as::<Stream>(key)?;
                let start = id.next().unwrap_or(StreamId::MAX);
                let entries = stream.map(|stream| stream.range(start, StreamId::MAX));
                let entries = entries.into_iter().flatten().take(self.count);
                entries.map(|entry| write_entry(reply, entry)).count()
            }
            Ready::Undelivered(after) => self.deliver(ctx, key, after, |deliveries| {
                deliveries.of_new_entries(|entry| write_entry(reply, entry))
            })?,
            Ready::History(after) => self.deliver(ctx, key, after, |deliveries| {
                deliveries.of_pending_entries(|id, entry| match entry {
                    Some(entry) => write_entry(reply, entry),
                    None => write_removed(reply, id),
                })
            })?,
        };
        reply.set_array_len(array, served);
        Ok(())
    }

    /// Lets `deliver` give entries of the stream to the consumer, which is made known if it is new.
    fn deliver(
        &self,
        ctx: &mut Ctx<'_>,
        key: &Key<'_>,
        after: StreamId,
        deliver: impl FnOnce(Deliveries<'_, '_>) -> usize,
    ) -> CommandResult<usize> {
        let now_ms = ctx.now_ms();
        let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(key)?;
        let (Some(stream), Some((name, reader))) = (stream, self.group) else { return Ok(0) };
        let Some(group) = stream.group_mut(name) else { return Ok(0) };
        let (consumer, is_new) = group.consumer_or_new(reader, now_ms);
        let delivery = Delivery {
            after,
            entries_max: self.count,
            consumer,
            no_acknowledgement: self.no_acknowledgement,
            now_ms,
        };
        let effects = GroupEffects::new(ctx.journal, ctx.db, key.bytes, name);
        let served = deliver(Deliveries { stream, group: name, reader, is_new, delivery, effects });
        if is_new {
            group_changed(ctx, key, Some("xgroup-createconsumer"));
        }
        group_changed(ctx, key, None);
        Ok(served)
    }
}

/// What a consumer gets of one stream.
struct Deliveries<'s, 'e> {
    stream: &'s mut Stream,
    group: &'e [u8],
    /// The consumer.
    reader: &'e [u8],
    /// It was not known before.
    is_new: bool,
    delivery: Delivery,
    effects: GroupEffects<'e>,
}

impl Deliveries<'_, '_> {
    /// Entries that nobody in the group has got. Says how many.
    fn of_new_entries(self, mut visit: impl FnMut(Entry<'_>)) -> usize {
        let Self { stream, group, reader, is_new, delivery, mut effects } = self;
        let Delivery { consumer, no_acknowledgement, now_ms, .. } = delivery;
        if no_acknowledgement && is_new {
            effects.consumer_created(reader);
        }
        let pending = Pending { delivered_ms: now_ms, deliveries: 1, consumer };
        let served = stream.deliver(group, delivery, |entry| {
            if !no_acknowledgement {
                effects.delivered(reader, entry.id, &pending, entry.id);
            }
            visit(entry);
        });
        if no_acknowledgement && let Some(group) = stream.group(group) {
            effects.read_up_to(group.last_id, group.entries_read);
        }
        served
    }

    /// Entries that are pending for the consumer already. Says how many.
    fn of_pending_entries(mut self, visit: impl FnMut(StreamId, Option<Entry<'_>>)) -> usize {
        if self.is_new {
            self.effects.consumer_created(self.reader);
        }
        self.stream.deliver_again(self.group, self.delivery, visit)
    }
}

/// Writes an entry that is pending for somebody but was removed.
fn write_removed(reply: &mut Reply<'_>, id: StreamId) {
    reply.array(2);
    bulk_id(reply, id);
    reply.null_array();
}
