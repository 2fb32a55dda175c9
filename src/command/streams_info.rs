//! XINFO: what is known of a stream, its groups and their consumers.

use super::collection::integer;
use super::help::help;
use super::streams::{bulk_id, no_group, subcommand_syntax, write_entries, write_entry};
use super::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::stream::{Consumer, Counters, Entry, Group, Stream, StreamId};
use crate::resp::Reply;

const HELP: [&str; 6] = [
    "CONSUMERS <key> <groupname>",
    "    List the consumers of a group.",
    "GROUPS <key>",
    "    List the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Describe a stream; FULL with entries, groups and consumers.",
];

/// Elements that XINFO STREAM … FULL shows of each list (Redis 7.0 `t_stream.c`).
const FULL_COUNT_DEFAULT: usize = 10;

/// XINFO HELP
pub(super) fn info_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "XINFO", &HELP);
    Ok(())
}

fn stream_at_two<'c>(ctx: &'c mut Ctx<'_>, request: &Request<'_>) -> CommandResult<&'c Stream> {
    let stream = ctx.keyspace[ctx.db].read_as::<Stream>(&request.key(2))?;
    stream.ok_or(CommandError::NoSuchKey)
}

fn field(reply: &mut Reply<'_>, name: &str) {
    reply.bulk(name.as_bytes());
}

fn int_field(reply: &mut Reply<'_>, name: &str, value: i64) {
    field(reply, name);
    reply.integer(value);
}

fn id_field(reply: &mut Reply<'_>, name: &str, id: StreamId) {
    field(reply, name);
    bulk_id(reply, id);
}

/// A number that is not always known.
fn known_field(reply: &mut Reply<'_>, name: &str, value: Option<i64>) {
    field(reply, name);
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}

/// XINFO CONSUMERS key group
pub(super) fn info_consumers(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let now_ms = ctx.now_ms();
    let stream = stream_at_two(ctx, request)?;
    let group = stream.group(request.arg(3));
    let group = group.ok_or_else(|| no_group(request.arg(2), request.arg(3)))?;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(3);
        field(reply, "name");
        reply.bulk(consumer.name());
        int_field(reply, "pending", consumer.pending_len() as i64);
        int_field(reply, "idle", now_ms.wrapping_sub(consumer.seen_ms).max(0));
    }
    Ok(())
}

/// XINFO GROUPS key
pub(super) fn info_groups(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let stream = stream_at_two(ctx, request)?;
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(6);
        field(reply, "name");
        reply.bulk(name);
        int_field(reply, "consumers", group.consumers().len() as i64);
        int_field(reply, "pending", group.pending_len() as i64);
        id_field(reply, "last-delivered-id", group.last_id);
        write_progress(stream.counters(), group, reply);
    }
    Ok(())
}

/// How far the group has read, and how far it is behind.
fn write_progress(counters: &Counters, group: &Group, reply: &mut Reply<'_>) {
    known_field(reply, "entries-read", group.entries_read);
    known_field(reply, "lag", counters.lag(group.last_id, group.entries_read));
}

/// XINFO STREAM key [FULL [COUNT count]]
pub(super) fn info_stream(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let stream = stream_at_two(ctx, request)?;
    let full = match request.rest(3) {
        [] => None,
        [_] if request.is_word(3, "full") => Some(FULL_COUNT_DEFAULT),
        [_, _, count] if request.is_word(3, "full") && request.is_word(4, "count") => {
            Some(match integer(count)? {
                ..0 => FULL_COUNT_DEFAULT,
                0 => usize::MAX,
                count => count as usize,
            })
        }
        _ => return Err(subcommand_syntax(request)),
    };
    let counters = stream.counters();
    reply.map(if full.is_some() { 9 } else { 10 });
    int_field(reply, "length", counters.len as i64);
    int_field(reply, "radix-tree-keys", stream.nodes().len() as i64);
    int_field(reply, "radix-tree-nodes", stream.radix_nodes() as i64);
    id_field(reply, "last-generated-id", counters.last_id);
    id_field(reply, "max-deleted-entry-id", counters.max_deleted_id);
    int_field(reply, "entries-added", counters.entries_added as i64);
    id_field(reply, "recorded-first-entry-id", counters.first_id);
    match full {
        None => write_ends(stream, reply),
        Some(count) => write_contents(stream, count, reply),
    }
    Ok(())
}

/// The rest of the short form: the first and the last entry.
fn write_ends(stream: &Stream, reply: &mut Reply<'_>) {
    int_field(reply, "groups", stream.group_count() as i64);
    let write = |reply: &mut Reply<'_>, entry: Option<Entry<'_>>| match entry {
        Some(entry) => write_entry(reply, entry),
        None => reply.null(),
    };
    field(reply, "first-entry");
    write(reply, stream.range(StreamId::MIN, StreamId::MAX).next());
    field(reply, "last-entry");
    write(reply, stream.range_rev(StreamId::MIN, StreamId::MAX).next());
}

/// The rest of the full form: entries and groups, of each list the first `count`.
fn write_contents(stream: &Stream, count: usize, reply: &mut Reply<'_>) {
    field(reply, "entries");
    write_entries(reply, stream.range(StreamId::MIN, StreamId::MAX).take(count));
    field(reply, "groups");
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(7);
        field(reply, "name");
        reply.bulk(name);
        id_field(reply, "last-delivered-id", group.last_id);
        write_progress(stream.counters(), group, reply);
        int_field(reply, "pel-count", group.pending_len() as i64);
        field(reply, "pending");
        reply.array(group.pending_len().min(count));
        for (id, pending) in group.pending(StreamId::MIN).take(count) {
            reply.array(4);
            bulk_id(reply, id);
            reply.bulk(group.consumer(pending.consumer).name());
            reply.integer(pending.delivered_ms);
            reply.integer(pending.deliveries as i64);
        }
        field(reply, "consumers");
        reply.array(group.consumers().len());
        group.consumers().for_each(|consumer| write_consumer(group, consumer, count, reply));
    }
}

fn write_consumer(group: &Group, consumer: &Consumer, count: usize, reply: &mut Reply<'_>) {
    reply.map(4);
    field(reply, "name");
    reply.bulk(consumer.name());
    int_field(reply, "seen-time", consumer.seen_ms);
    int_field(reply, "pel-count", consumer.pending_len() as i64);
    field(reply, "pending");
    reply.array(consumer.pending_len().min(count));
    for id in consumer.pending(StreamId::MIN).take(count) {
        reply.array(3);
        bulk_id(reply, id);
        let pending = group.pending_entry(id).copied();
        let (delivered_ms, deliveries) =
            pending.map_or((0, 0), |pending| (pending.delivered_ms, pending.deliveries));
        reply.integer(delivered_ms);
        reply.integer(deliveries as i64);
    }
}
