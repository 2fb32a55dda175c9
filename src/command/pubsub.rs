//! Publish/subscribe: PUBLISH and PUBSUB ask this shard's directory; who subscribes is the session's affair.

use super::help::help;
use super::spec::*;
use super::{Command, CommandError, CommandResult, Ctx, Request, Run, SessionCommand};
use crate::datatypes::glob::glob_match;
use crate::pubsub::Kind;
use crate::resp::Reply;

/// Flags of what makes and ends subscriptions.
const SUBSCRIPTION: Flags = PUBSUB.with(NOSCRIPT).with(LOADING).with(STALE);
/// Flags of PUBSUB subcommands.
const LOOK: Flags = PUBSUB.with(LOADING).with(STALE);
/// A shard channel is in a slot, as a key is, so that a cluster knows where to go with it.
const SHARD_CHANNEL: &[KeySpec] = &[KeySpec::one(1, Access::NotKey, &[])];
/// As [`SHARD_CHANNEL`], for any number of them.
const SHARD_CHANNELS: &[KeySpec] = &[KeySpec::all(1, 1, Access::NotKey, &[])];

const fn subscribe(kind: Kind) -> Run {
    Run::Session(SessionCommand::Subscribe(kind))
}

const fn unsubscribe(kind: Kind) -> Run {
    Run::Session(SessionCommand::Unsubscribe(kind))
}

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "subscribe", arity: Arity::AtLeast(2), flags: SUBSCRIPTION, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: subscribe(Kind::Channel) },
    Command { name: "unsubscribe", arity: Arity::AtLeast(1), flags: SUBSCRIPTION, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: unsubscribe(Kind::Channel) },
    Command { name: "psubscribe", arity: Arity::AtLeast(2), flags: SUBSCRIPTION, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: subscribe(Kind::Pattern) },
    Command { name: "punsubscribe", arity: Arity::AtLeast(1), flags: SUBSCRIPTION, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: unsubscribe(Kind::Pattern) },
    Command { name: "ssubscribe", arity: Arity::AtLeast(2), flags: SUBSCRIPTION, group: Group::Pubsub, keys: SHARD_CHANNELS, categories: &[], run: subscribe(Kind::Shard) },
    Command { name: "sunsubscribe", arity: Arity::AtLeast(1), flags: SUBSCRIPTION, group: Group::Pubsub, keys: SHARD_CHANNELS, categories: &[], run: unsubscribe(Kind::Shard) },
    Command { name: "publish", arity: Arity::Exactly(3), flags: LOOK.with(FAST).with(MAY_REPLICATE), group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Publish(publish) },
    Command { name: "spublish", arity: Arity::Exactly(3), flags: LOOK.with(FAST).with(MAY_REPLICATE), group: Group::Pubsub, keys: SHARD_CHANNEL, categories: &[], run: Run::Publish(spublish) },
    Command { name: "pubsub", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "pubsub|channels", arity: Arity::AtLeast(2), flags: LOOK, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(channels) },
    Command { name: "pubsub|numsub", arity: Arity::AtLeast(2), flags: LOOK, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(numsub) },
    Command { name: "pubsub|numpat", arity: Arity::Exactly(2), flags: LOOK, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(numpat) },
    Command { name: "pubsub|shardchannels", arity: Arity::AtLeast(2), flags: LOOK, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(shardchannels) },
    Command { name: "pubsub|shardnumsub", arity: Arity::AtLeast(2), flags: LOOK, group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(shardnumsub) },
    Command { name: "pubsub|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Pubsub, keys: NO_KEYS, categories: &[], run: Run::Data(show_help) },
];

const HELP: [&str; 10] = [
    "CHANNELS [<pattern>]",
    "    List the channels with subscribers that match the pattern, or all.",
    "NUMPAT",
    "    Count the patterns with subscribers.",
    "NUMSUB [<channel> ...]",
    "    Count the subscribers of each channel, without those of patterns.",
    "SHARDCHANNELS [<pattern>]",
    "    List the shard channels with subscribers that match the pattern, or all.",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Count the subscribers of each shard channel.",
];

/// PUBLISH channel message
fn publish(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    publish_as(Kind::Channel, ctx, request, reply)
}

/// SPUBLISH shardchannel message
fn spublish(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    publish_as(Kind::Shard, ctx, request, reply)
}

fn publish_as(
    kind: Kind,
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let (channel, message) = (request.arg(1), request.arg(2));
    let receivers = if ctx.config.cluster_enabled {
        ctx.pubsub.publish_to_cluster(kind, channel, message)
    } else {
        // Replicas have subscribers of their own.
        ctx.journal.for_replicas(ctx.db, request.args());
        ctx.pubsub.publish(kind, channel, message)
    };
    reply.integer(receivers as i64);
    Ok(())
}

/// PUBSUB CHANNELS [pattern]
fn channels(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    list(ctx, Kind::Channel, request, reply)
}

/// PUBSUB SHARDCHANNELS [pattern]
fn shardchannels(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    list(ctx, Kind::Shard, request, reply)
}

fn list(
    ctx: &mut Ctx<'_>,
    kind: Kind,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    if request.len() > 3 {
        let word = String::from_utf8_lossy(request.arg(1)).into_owned();
        return Err(CommandError::owned(format!(
            "ERR unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP."
        )));
    }
    let pattern = request.get(2);
    let array = reply.deferred();
    let mut length = 0;
    for name in ctx.pubsub.names(kind) {
        if pattern.is_none_or(|pattern| glob_match(pattern, name, false)) {
            reply.bulk(name);
            length += 1;
        }
    }
    reply.set_array_len(array, length);
    Ok(())
}

/// PUBSUB NUMSUB [channel …]
fn numsub(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    count(ctx, Kind::Channel, request, reply);
    Ok(())
}

/// PUBSUB SHARDNUMSUB [shardchannel …]
fn shardnumsub(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    count(ctx, Kind::Shard, request, reply);
    Ok(())
}

fn count(ctx: &mut Ctx<'_>, kind: Kind, request: &Request<'_>, reply: &mut Reply<'_>) {
    let names = request.rest(2);
    // Not a map, in RESP3 either (Redis 7.0).
    reply.array(names.len() * 2);
    for name in names {
        reply.bulk(name);
        reply.integer(ctx.pubsub.subscribers(kind, name) as i64);
    }
}

/// PUBSUB NUMPAT
fn numpat(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.integer(ctx.pubsub.len(Kind::Pattern) as i64);
    Ok(())
}

/// PUBSUB HELP
fn show_help(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    help(reply, "PUBSUB", &HELP);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;
    use crate::pubsub::{Change, Kind};
    use crate::shard_map::ShardId;

    #[test]
    fn publish_and_pubsub_tell_what_the_directory_knows() {
        let mut shard = TestShard::new();
        for (kind, name) in [
            (Kind::Channel, "news"),
            (Kind::Channel, "news"),
            (Kind::Pattern, "n*"),
            (Kind::Shard, "local"),
        ] {
            let change = Change { kind, name: name.as_bytes().into(), joined: true };
            shard.pubsub.note(ShardId(0), &change);
        }
        for (words, expected) in [
            ("PUBLISH news hello", ":3\r\n"),
            ("PUBLISH nobody hello", ":1\r\n"),
            ("PUBLISH silence hello", ":0\r\n"),
            ("SPUBLISH local hello", ":1\r\n"),
            ("SPUBLISH news hello", ":0\r\n"),
            ("PUBSUB CHANNELS", "*1\r\n$4\r\nnews\r\n"),
            ("PUBSUB CHANNELS x*", "*0\r\n"),
            ("PUBSUB NUMSUB news x", "*4\r\n$4\r\nnews\r\n:2\r\n$1\r\nx\r\n:0\r\n"),
            ("PUBSUB NUMPAT", ":1\r\n"),
            ("PUBSUB SHARDCHANNELS *", "*1\r\n$5\r\nlocal\r\n"),
            ("PUBSUB SHARDNUMSUB local", "*2\r\n$5\r\nlocal\r\n:1\r\n"),
            (
                "PUBSUB Channels a b",
                "-ERR unknown subcommand or wrong number of arguments for 'Channels'. Try PUBSUB HELP.\r\n",
            ),
        ] {
            assert_eq!(shard.run(words), expected, "{words}");
        }
        assert_eq!(
            shard.pubsub.take_outgoing().len(),
            3,
            "a message without receivers goes nowhere"
        );
    }
}
