//! XREAD and XREADGROUP: entries of several streams, for anybody or for a consumer of a group.
//!
//! Promise: [`try_read`] either answers or says that there is nothing to answer with, in which case it has
//! written and changed nothing: a consumer becomes known when it is served. So whoever may wait can call it
//! again whenever one of the keys has got new entries.

use super::collection::integer;
use super::streams::{group_changed, id_argument, no_key_or_group, write_entry};
use super::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::stream::{Delivery, Stream, StreamId};
use crate::keyspace::Key;
use crate::resp::Reply;

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …]
pub(super) fn xread(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    if try_read(ctx, request, reply)?.is_none() {
        reply.null_array();
    }
    Ok(())
}

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key …]
/// id [id …]
pub(super) fn xreadgroup(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    xread(ctx, request, reply)
}

/// Answers with the entries that are there; `None`, and no reply, if none is.
pub(super) fn try_read(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Option<()>> {
    let read = Read::parse(request, ctx.now_ms())?;
    let from = read.resolve(ctx, request)?;
    let mut served = 0;
    let mut all = None;
    for (number, from) in from.into_iter().enumerate() {
        let key = request.key(read.keys_at + number);
        let Some(from) = read.ready(ctx, &key, from)? else { continue };
        all = all.or_else(|| Some(reply.deferred()));
        served += 1;
        if !reply.resp3() {
            reply.array(2);
        }
        reply.bulk(key.bytes);
        read.serve(ctx, &key, from, reply)?;
    }
    let Some(all) = all else { return Ok(None) };
    if reply.resp3() {
        reply.set_map_len(all, served);
    } else {
        reply.set_array_len(all, served);
    }
    Ok(Some(()))
}

/// What XREAD or XREADGROUP is asked for.
struct Read<'a> {
    count: usize,
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    no_acknowledgement: bool,
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
    fn parse(request: &Request<'a>, now_ms: i64) -> CommandResult<Self> {
        let for_group = request.is_word(0, "xreadgroup");
        let (mut count, mut group, mut no_acknowledgement) = (usize::MAX, None, false);
        let mut at = 1;
        loop {
            match (request.get(at + 1), request.get(at + 2)) {
                (Some(time), _) if request.is_word(at, "block") => {
                    check_timeout(time, now_ms)?;
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
        Ok(Self { count, group, no_acknowledgement, keys_at, keys: words / 2 })
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

    /// Writes the entries of one stream.
    fn serve(
        &self,
        ctx: &mut Ctx<'_>,
        key: &Key<'_>,
        ready: Ready,
        reply: &mut Reply<'_>,
    ) -> CommandResult {
        let array = reply.deferred();
        let served = match ready {
            Ready::Entries(id) => {
                let stream = ctx.keyspace[ctx.db].peek_as::<Stream>(key)?;
                let start = id.next().unwrap_or(StreamId::MAX);
                let entries = stream.map(|stream| stream.range(start, StreamId::MAX));
                let entries = entries.into_iter().flatten().take(self.count);
                entries.map(|entry| write_entry(reply, entry)).count()
            }
            Ready::Undelivered(after) => {
                self.deliver(ctx, key, after, |stream, group, delivery| {
                    stream.deliver(group, delivery, |entry| write_entry(reply, entry))
                })?
            }
            Ready::History(after) => self.deliver(ctx, key, after, |stream, group, delivery| {
                stream.deliver_again(group, delivery, |id, entry| match entry {
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
        deliver: impl FnOnce(&mut Stream, &[u8], Delivery) -> usize,
    ) -> CommandResult<usize> {
        let now_ms = ctx.now_ms();
        let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(key)?;
        let (Some(stream), Some((name, consumer))) = (stream, self.group) else { return Ok(0) };
        let Some(group) = stream.group_mut(name) else { return Ok(0) };
        let (consumer, is_new) = group.consumer_or_new(consumer, now_ms);
        let delivery = Delivery {
            after,
            entries_max: self.count,
            consumer,
            no_acknowledgement: self.no_acknowledgement,
            now_ms,
        };
        let served = deliver(stream, name, delivery);
        if is_new {
            group_changed(ctx, key, Some("xgroup-createconsumer"));
        }
        group_changed(ctx, key, None);
        Ok(served)
    }
}

/// Writes an entry that is pending for somebody but was removed.
fn write_removed(reply: &mut Reply<'_>, id: StreamId) {
    reply.array(2);
    super::streams::bulk_id(reply, id);
    reply.null_array();
}

/// How long XREAD would wait, in ms: said wrongly, it is an error even if nobody has to wait.
fn check_timeout(text: &[u8], now_ms: i64) -> CommandResult {
    let time = integer(text)
        .map_err(|_| CommandError::text("ERR timeout is not an integer or out of range"))?;
    if time < 0 {
        return Err(CommandError::text("ERR timeout is negative"));
    }
    if time.checked_add(now_ms).is_none() {
        return Err(CommandError::text("ERR timeout is out of range"));
    }
    Ok(())
}
