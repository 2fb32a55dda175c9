//! What commands that wait have in common: how they read their timeout. And WAIT and WAITAOF.
//!
//! The commands themselves stand with their families (`lists_blocking.rs`, `zsets_blocking.rs`); the
//! shard keeps who waits ([`super::Blocking`] says what it asks of a command).

use super::spec::*;
use super::{Attempt, Awaits, Blocking, Command, CommandError, CommandResult, Ctx, Request, Run};
use crate::datatypes::number::{parse_f64, parse_i64};
use crate::resp::Reply;

/// The rows of WAIT and WAITAOF.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "wait", arity: Arity::Exactly(3), flags: NOSCRIPT, group: Group::Other, keys: NO_KEYS, categories: &["@connection"], run: Run::Blocking(WAIT) },
    Command { name: "waitaof", arity: Arity::Exactly(4), flags: NOSCRIPT, group: Group::Other, keys: NO_KEYS, categories: &["@connection"], run: Run::Blocking(WAITAOF) },
];

const NEGATIVE: CommandError = CommandError::text("ERR timeout is negative");
/// 2^63, from which on a number of milliseconds does not fit.
const MS_LIMIT: f64 = 9_223_372_036_854_775_808.0;

/// A timeout in seconds, as the time at which it is over.
pub(super) fn seconds(ctx: &Ctx<'_>, text: &[u8]) -> CommandResult<Option<i64>> {
    let seconds =
        parse_f64(text).ok_or(CommandError::text("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    // What does not fit is negative in Redis 7.0, whatever its sign: the conversion of x86 makes it so.
    if ms.abs() >= MS_LIMIT {
        return Err(NEGATIVE);
    }
    until(ctx, ms as i64)
}

/// A timeout in milliseconds, as the time at which it is over.
pub(super) fn milliseconds(ctx: &Ctx<'_>, text: &[u8]) -> CommandResult<Option<i64>> {
    let ms = parse_i64(text)
        .ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    until(ctx, ms)
}

fn until(ctx: &Ctx<'_>, ms: i64) -> CommandResult<Option<i64>> {
    match ms {
        ..0 => Err(NEGATIVE),
        0 => Ok(None),
        // As good as for ever where it does not fit.
        _ => Ok(ctx.now_ms().checked_add(ms)),
    }
}

const WAIT: Blocking = Blocking {
    attempt: wait,
    serve: |_, _, _, _| Ok(false),
    wants: |_| false,
    nothing: |process, reply| reply.integer(process.replication().in_sync as i64),
    timed_out: |replicas, reply| reply.integer(replicas as i64),
    awaits: Awaits::Replicas,
    keep: None,
};

/// WAIT numreplicas timeout. The control core knows what replicas have acknowledged; where there are none, nobody
/// has to be asked.
fn wait(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult<Attempt> {
    let wanted = parse_i64(request.arg(1)).ok_or(CommandError::NotInteger)?;
    let until = milliseconds(ctx, request.arg(2))?;
    let replication = ctx.process.replication();
    if replication.master.is_some() {
        return Err(WAIT_ON_REPLICA);
    }
    if wanted > 0 || !replication.replicas.is_empty() {
        return Ok(Attempt::Wait(until));
    }
    drop(replication);
    reply.integer(0);
    Ok(Attempt::Done)
}

/// Of Redis 7.2, as its [`waitaof`]. Replicas do not tell what they have on their disks: none counts.
const WAITAOF: Blocking = Blocking {
    attempt: waitaof,
    nothing: |process, reply| acknowledged(usize::from(process.is_durable()), reply),
    timed_out: acknowledged,
    awaits: Awaits::Disks,
    ..WAIT
};

/// WAITAOF numlocal numreplicas timeout
fn waitaof(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult<Attempt> {
    let local = parse_i64(request.arg(1)).ok_or(CommandError::NotInteger)?;
    if !(0..=1).contains(&local) {
        return Err(NOT_ZERO_OR_ONE);
    }
    let replicas = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    if replicas < 0 {
        return Err(CommandError::OutOfRangePositive);
    }
    let until = milliseconds(ctx, request.arg(3))?;
    if ctx.process.replication().master.is_some() {
        return Err(WAITAOF_ON_REPLICA);
    }
    if local == 1 && !ctx.config.appendonly {
        return Err(WAITAOF_WITHOUT_FILE);
    }
    // What was recorded in this turn has no stamp yet.
    let is_durable = ctx.config.appendonly && !ctx.journal.has_parcel() && ctx.process.is_durable();
    if replicas > 0 || (local == 1 && !is_durable) {
        return Ok(Attempt::Wait(until));
    }
    acknowledged(usize::from(is_durable), reply);
    Ok(Attempt::Done)
}

fn acknowledged(local: usize, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.integer(local as i64);
    reply.integer(0);
}

const NOT_ZERO_OR_ONE: CommandError =
    CommandError::text("ERR value is out of range, value must between 0 and 1");
const WAITAOF_ON_REPLICA: CommandError = CommandError::text(
    "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.",
);
/// What WAITAOF answers if it is to wait for a file that there is not.
pub const WAITAOF_WITHOUT_FILE: CommandError = CommandError::text(
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
);
const WAIT_ON_REPLICA: CommandError = CommandError::text(
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.",
);

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        let mut shard = TestShard::new();
        let nothing = "*-1\r\n";
        let negative = "-ERR timeout is negative\r\n";
        let no_float = "-ERR timeout is not a float or out of range\r\n";
        for (command, reply) in [
            ("BLPOP l 0", nothing),
            ("BLPOP l 0.0001", nothing),
            ("BLPOP l 0x10", nothing),
            ("BLPOP l 9000000000000000", nothing),
            ("BLPOP l -1", negative),
            ("BLPOP l 1e18", negative),
            ("BLPOP l inf", negative),
            ("BLPOP l -inf", negative),
            ("BLPOP l nan", no_float),
            ("BLPOP l x", no_float),
            ("WAIT 0 -1", negative),
            ("WAIT x 0", "-ERR value is not an integer or out of range\r\n"),
            ("WAIT 0 1.5", "-ERR timeout is not an integer or out of range\r\n"),
            ("WAIT -1 0", ":0\r\n"),
            ("WAIT 5 0", ":0\r\n"),
            ("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1\r\n"),
            ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive\r\n"),
            ("WAITAOF 0 0 -1", negative),
            ("WAITAOF 0 0 0", "*2\r\n:0\r\n:0\r\n"),
            (
                "WAITAOF 1 0 0",
                "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
            ),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
    }
}
