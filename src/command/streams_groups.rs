//! Consumer groups: XGROUP, and what a group has delivered: XACK, XPENDING.

use super::collection::integer;
use super::help::help;
use super::streams::{
    bulk_id, end_argument, group_changed, id_argument, no_group, no_key_or_group, start_argument,
    subcommand_syntax,
};
use super::{Class, CommandError, CommandResult, Ctx, Request};
use crate::datatypes::stream::{Group, Pending, Stream, StreamId};
use crate::keyspace::Collection;
use crate::resp::Reply;

const HELP: [&str; 14] = [
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a group that reads on after <id>, or after the last entry. Options are:",
    "    * MKSTREAM",
    "      Create an empty stream if there is none.",
    "    * ENTRIESREAD entries_read",
    "      Say how many entries the group has read.",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a consumer in the group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove a consumer and what is pending for it.",
    "DESTROY <key> <groupname>",
    "    Remove the group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Let the group read on after <id>, or after the last entry.",
];

const NO_KEY_FOR_GROUP: CommandError = CommandError::text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
     MKSTREAM option to create an empty stream automatically.",
);

/// XGROUP HELP
pub(super) fn group_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "XGROUP", &HELP);
    Ok(())
}

/// The options of XGROUP CREATE and SETID.
struct GroupOptions {
    make_stream: bool,
    entries_read: Option<i64>,
}

impl GroupOptions {
    fn parse(request: &Request<'_>, may_make_stream: bool) -> CommandResult<Self> {
        let mut options = Self { make_stream: false, entries_read: None };
        let mut at = 5;
        while at < request.len() {
            if may_make_stream && request.is_word(at, "mkstream") {
                options.make_stream = true;
                at += 1;
            } else if let (true, Some(count)) =
                (request.is_word(at, "entriesread"), request.get(at + 1))
            {
                options.entries_read = match integer(count)? {
                    -1 => None,
                    ..-1 => {
                        return Err(CommandError::text(
                            "ERR value for ENTRIESREAD must be positive or -1",
                        ));
                    }
                    count => Some(count),
                };
                at += 2;
            } else {
                return Err(subcommand_syntax(request));
            }
        }
        Ok(options)
    }
}

/// XGROUP CREATE key group id | $ [MKSTREAM] [ENTRIESREAD entries-read]
pub(super) fn create(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    /// `XGROUP CREATE key group id MKSTREAM ENTRIESREAD n`: Redis goes no further.
    const WORDS_MAX: usize = 8;
    let options = GroupOptions::parse(request, true)?;
    let key = request.key(2);
    let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)?;
    if stream.is_none() && !options.make_stream {
        return Err(NO_KEY_FOR_GROUP);
    }
    if request.len() > WORDS_MAX {
        return Err(subcommand_syntax(request));
    }
    let last_id = match (request.arg(4), &stream) {
        (b"$", Some(stream)) => stream.counters().last_id,
        (b"$", None) => StreamId::MIN,
        (id, _) => id_argument(id)?,
    };
    let group = Group::new(last_id, options.entries_read);
    match stream {
        Some(stream) => {
            if !stream.add_group(request.arg(3), group) {
                let text = "BUSYGROUP Consumer Group name already exists";
                return Err(CommandError::text(text));
            }
            group_changed(ctx, &key, Some("xgroup-create"));
        }
        None => {
            let mut stream = Stream::default();
            stream.add_group(request.arg(3), group);
            ctx.keyspace[ctx.db].insert(&key, stream.into_value(), None);
            ctx.changed(&key, Class::Stream, "xgroup-create");
        }
    }
    reply.ok();
    Ok(())
}

/// The stream and its group that a subcommand of XGROUP is about.
fn stream_of_group<'c>(
    ctx: &'c mut Ctx<'_>,
    request: &Request<'_>,
) -> CommandResult<&'c mut Stream> {
    let key = request.key(2);
    let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)?.ok_or(NO_KEY_FOR_GROUP)?;
    match stream.group(request.arg(3)) {
        Some(_) => Ok(stream),
        None => Err(no_group(key.bytes, request.arg(3))),
    }
}

fn group_of<'c>(ctx: &'c mut Ctx<'_>, request: &Request<'_>) -> CommandResult<&'c mut Group> {
    let stream = stream_of_group(ctx, request)?;
    let group = stream.group_mut(request.arg(3));
    group.ok_or_else(|| no_group(request.arg(2), request.arg(3)))
}

/// XGROUP SETID key group id | $ [ENTRIESREAD entries-read]
pub(super) fn set_group_id(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let options = GroupOptions::parse(request, false)?;
    let stream = stream_of_group(ctx, request)?;
    if !matches!(request.len(), 5 | 7) {
        return Err(subcommand_syntax(request));
    }
    let last_id = match request.arg(4) {
        b"$" => stream.counters().last_id,
        b"-" => StreamId::MIN,
        b"+" => StreamId::MAX,
        id => id_argument(id)?,
    };
    if let Some(group) = stream.group_mut(request.arg(3)) {
        group.last_id = last_id;
        group.entries_read = options.entries_read;
    }
    group_changed(ctx, &request.key(2), Some("xgroup-setid"));
    reply.ok();
    Ok(())
}

/// XGROUP DESTROY key group
pub(super) fn destroy(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let key = request.key(2);
    let stream = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)?.ok_or(NO_KEY_FOR_GROUP)?;
    let destroyed = stream.remove_group(request.arg(3)).is_some();
    if destroyed {
        // Who waits for the group has to hear of it, unlike of other changes of groups.
        ctx.changed(&key, Class::Stream, "xgroup-destroy");
    }
    reply.integer(i64::from(destroyed));
    Ok(())
}

/// XGROUP CREATECONSUMER key group consumer
pub(super) fn create_consumer(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let now_ms = ctx.now_ms();
    let created = group_of(ctx, request)?.add_consumer(request.arg(4), now_ms).is_some();
    if created {
        group_changed(ctx, &request.key(2), Some("xgroup-createconsumer"));
    }
    reply.integer(i64::from(created));
    Ok(())
}

/// XGROUP DELCONSUMER key group consumer
pub(super) fn delete_consumer(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let pending = group_of(ctx, request)?.remove_consumer(request.arg(4));
    if pending.is_some() {
        group_changed(ctx, &request.key(2), Some("xgroup-delconsumer"));
    }
    reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}

/// XACK key group id [id …]
pub(super) fn xack(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let key = request.key(1);
    let db = &mut ctx.keyspace[ctx.db];
    let has_group = db.read_as::<Stream>(&key)?.is_some_and(|s| s.group(request.arg(2)).is_some());
    let mut acknowledged = 0;
    if has_group {
        // All are read before one is acknowledged: a bad id leaves the group as it is.
        let ids = request.rest(3).iter().map(|text| id_argument(text));
        let ids = ids.collect::<CommandResult<Vec<StreamId>>>()?;
        if let Some(group) = db.get_mut::<Stream>(&key)?.and_then(|s| s.group_mut(request.arg(2))) {
            acknowledged = ids.into_iter().filter(|id| group.acknowledge(*id)).count();
        }
    }
    ctx.changes.dirty += acknowledged as u64;
    reply.integer(acknowledged as i64);
    Ok(())
}

// ---- XPENDING ----

/// Which pending entries XPENDING lists.
struct PendingRange<'a> {
    start: StreamId,
    end: StreamId,
    count: usize,
    idle_ms_min: i64,
    consumer: Option<&'a [u8]>,
}

impl<'a> PendingRange<'a> {
    /// `None` if only the summary is asked for.
    fn parse(request: &Request<'a>) -> CommandResult<Option<Self>> {
        match request.len() {
            3 => return Ok(None),
            6..=9 => {}
            _ => return Err(CommandError::Syntax),
        }
        let (mut at, mut idle_ms_min) = (3, 0);
        if request.is_word(3, "idle") {
            idle_ms_min = integer(request.arg(4))?;
            if request.len() < 8 {
                return Err(CommandError::Syntax);
            }
            at = 5;
        }
        let count = usize::try_from(integer(request.arg(at + 2))?).unwrap_or(0);
        let start = start_argument(request.arg(at))?;
        let end = end_argument(request.arg(at + 1))?;
        Ok(Some(Self { start, end, count, idle_ms_min, consumer: request.get(at + 3) }))
    }
}

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]]
pub(super) fn xpending(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let range = PendingRange::parse(request)?;
    let (key, now_ms) = (request.key(1), ctx.now_ms());
    let stream = ctx.keyspace[ctx.db].read_as::<Stream>(&key)?;
    let group = stream.and_then(|stream| stream.group(request.arg(2)));
    let group = group.ok_or_else(|| no_key_or_group(key.bytes, request.arg(2), ""))?;
    let Some(range) = range else {
        write_summary(group, reply);
        return Ok(());
    };
    match range.consumer.map(|name| group.find_consumer(name)) {
        // A consumer that does not exist has nothing.
        Some(None) => reply.array(0),
        Some(Some(number)) => {
            let ids = group.consumer(number).pending(range.start);
            let pending = ids.filter_map(|id| Some((id, group.pending_entry(id)?)));
            write_pending(group, pending, &range, now_ms, reply);
        }
        None => write_pending(group, group.pending(range.start), &range, now_ms, reply),
    }
    Ok(())
}

/// How many entries are pending, the first and the last of them, and how many each consumer has.
fn write_summary(group: &Group, reply: &mut Reply<'_>) {
    reply.array(4);
    reply.integer(group.pending_len() as i64);
    let first = group.pending(StreamId::MIN).next();
    let (Some((first, _)), Some(last)) = (first, group.last_pending()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    bulk_id(reply, first);
    bulk_id(reply, last);
    let busy = group.consumers().filter(|consumer| consumer.pending_len() > 0);
    let array = reply.deferred();
    let count = busy.map(|consumer| {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_len() as i64);
    });
    let count = count.count();
    reply.set_array_len(array, count);
}

fn write_pending<'g>(
    group: &Group,
    pending: impl Iterator<Item = (StreamId, &'g Pending)>,
    range: &PendingRange<'_>,
    now_ms: i64,
    reply: &mut Reply<'_>,
) {
    let idle_ms = |pending: &Pending| now_ms.wrapping_sub(pending.delivered_ms);
    let idle_enough =
        |pending: &Pending| range.idle_ms_min == 0 || idle_ms(pending) >= range.idle_ms_min;
    let wanted = pending
        .take_while(|(id, _)| *id <= range.end)
        .filter(|(_, pending)| idle_enough(pending))
        .take(range.count);
    let array = reply.deferred();
    let count = wanted.map(|(id, pending)| {
        reply.array(4);
        bulk_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.integer(idle_ms(pending).max(0));
        reply.integer(pending.deliveries as i64);
    });
    let count = count.count();
    reply.set_array_len(array, count);
}
