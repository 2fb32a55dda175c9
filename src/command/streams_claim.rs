//! XCLAIM and XAUTOCLAIM: a consumer takes over what was delivered to another and lies idle.
//!
//! Entries that were removed from the stream meanwhile are forgotten on the way, as in Redis 7.0.

use super::collection::integer;
use super::streams::{
    bulk_id, group_changed, id_argument, no_key_or_group, start_argument, write_entry,
};
use super::streams_effects::GroupEffects;
use super::{CommandError, CommandResult, Ctx, Request};
use crate::datatypes::stream::{ConsumerNumber, Entries, Group, Pending, Stream, StreamId};
use crate::keyspace::Key;
use crate::resp::Reply;

/// Entries that XAUTOCLAIM takes over unless told otherwise (Redis 7.0 `t_stream.c`).
const AUTOCLAIM_COUNT_DEFAULT: u64 = 100;
/// Entries that XAUTOCLAIM looks at for each that it may take over (Redis 7.0 `t_stream.c`).
const AUTOCLAIM_LOOKS_PER_ENTRY: u64 = 10;
/// Highest COUNT of XAUTOCLAIM: so many ids are all the memory that there can be (Redis 7.0).
const AUTOCLAIM_COUNT_MAX: u64 = i64::MAX as u64 / 16;
/// Redis sets memory for COUNT ids aside at once. More than a process can have, and it refuses.
const AUTOCLAIM_COUNT_IN_MEMORY_MAX: u64 = (1 << 47) / 16;

/// The least time that an entry must have lain idle.
fn idle_argument(text: &[u8], error: &'static str) -> CommandResult<i64> {
    let idle_ms = integer(text).map_err(|_| CommandError::text(error))?;
    Ok(idle_ms.max(0))
}

/// The group that is claimed in. Must exist, for claiming creates none.
fn check_group(ctx: &mut Ctx<'_>, key: &Key<'_>, group: &[u8]) -> CommandResult {
    let stream = ctx.keyspace[ctx.db].read_as::<Stream>(key)?;
    let found = stream.and_then(|stream| stream.group(group));
    found.map(drop).ok_or_else(|| no_key_or_group(key.bytes, group, ""))
}

/// How entries are claimed.
struct Claim {
    idle_ms_min: i64,
    /// What the time of delivery becomes.
    delivered_ms: i64,
    /// What the count of deliveries becomes; one more if not given.
    deliveries: Option<u64>,
    /// Entries that are pending for nobody are claimed, too.
    force: bool,
    /// The reply has ids alone, and the claim is no delivery.
    just_id: bool,
    now_ms: i64,
}

/// Who claims. A consumer becomes known, and counts as seen, with the first entry that it takes.
struct Claimer<'a> {
    name: &'a [u8],
    number: Option<ConsumerNumber>,
    is_new: bool,
}

impl<'a> Claimer<'a> {
    fn new(name: &'a [u8]) -> Self {
        Self { name, number: None, is_new: false }
    }

    fn number(&mut self, group: &mut Group, now_ms: i64) -> ConsumerNumber {
        *self.number.get_or_insert_with(|| {
            let (number, is_new) = group.consumer_or_new(self.name, now_ms);
            self.is_new = is_new;
            number
        })
    }
}

/// What became of an id that was to be claimed.
enum Claimed {
    /// It is the consumer's now, and the reply has it.
    Taken(Pending),
    /// The entry is gone; it was pending like this and is no more.
    Forgotten(Pending),
    /// Nothing: not pending, not idle for long enough, or gone and not pending either.
    Left,
}

impl Claim {
    /// Lets `consumer` take over one entry.
    fn take(
        &self,
        entries: Entries<'_>,
        group: &mut Group,
        claimer: &mut Claimer<'_>,
        id: StreamId,
        reply: &mut Reply<'_>,
    ) -> Claimed {
        let Some(entry) = entries.get(id) else {
            let Some(pending) = group.pending_entry(id).copied() else { return Claimed::Left };
            group.acknowledge(id);
            return Claimed::Forgotten(pending);
        };
        let before = match group.pending_entry(id) {
            Some(pending) => {
                let idle_ms = self.now_ms.wrapping_sub(pending.delivered_ms);
                if self.idle_ms_min > 0 && idle_ms < self.idle_ms_min {
                    return Claimed::Left;
                }
                pending.deliveries
            }
            // By force: the entry counts as delivered to nobody once.
            None if self.force => 1,
            None => return Claimed::Left,
        };
        let once_more = before.wrapping_add(u64::from(!self.just_id));
        let deliveries = self.deliveries.unwrap_or(once_more);
        let consumer = claimer.number(group, self.now_ms);
        let pending = Pending { delivered_ms: self.delivered_ms, deliveries, consumer };
        group.assign(id, pending);
        if self.just_id {
            bulk_id(reply, id);
        } else {
            write_entry(reply, entry);
        }
        Claimed::Taken(pending)
    }
}

/// What XCLAIM is asked for after its ids.
struct ClaimOptions {
    claim: Claim,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(
        request: &Request<'_>,
        from: usize,
        idle_ms_min: i64,
        now_ms: i64,
    ) -> CommandResult<Self> {
        let claim = Claim {
            idle_ms_min,
            delivered_ms: now_ms,
            deliveries: None,
            force: false,
            just_id: false,
            now_ms,
        };
        let mut options = Self { claim, last_id: StreamId::MIN };
        let mut at = from;
        while at < request.len() {
            at += options.option(request, at)?;
        }
        // A time of delivery in the future, or before all time, is somebody's wrong clock.
        let claim = &mut options.claim;
        if !(0..=now_ms).contains(&claim.delivered_ms) {
            claim.delivered_ms = now_ms;
        }
        Ok(options)
    }

    /// Reads the option at argument `at` and says how many arguments it takes.
    fn option(&mut self, request: &Request<'_>, at: usize) -> CommandResult<usize> {
        let number = |text: &[u8], error| integer(text).map_err(|_| CommandError::text(error));
        let claim = &mut self.claim;
        if request.is_word(at, "force") {
            claim.force = true;
            return Ok(1);
        }
        if request.is_word(at, "justid") {
            claim.just_id = true;
            return Ok(1);
        }
        match request.get(at + 1) {
            Some(text) if request.is_word(at, "idle") => {
                let idle_ms = number(text, "ERR Invalid IDLE option argument for XCLAIM")?;
                claim.delivered_ms = claim.now_ms.wrapping_sub(idle_ms);
            }
            Some(text) if request.is_word(at, "time") => {
                claim.delivered_ms = number(text, "ERR Invalid TIME option argument for XCLAIM")?;
            }
            Some(text) if request.is_word(at, "retrycount") => {
                let count = number(text, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                claim.deliveries = u64::try_from(count).ok();
            }
            Some(text) if request.is_word(at, "lastid") => self.last_id = id_argument(text)?,
            _ => {
                let word = String::from_utf8_lossy(request.arg(at));
                let text = format!("ERR Unrecognized XCLAIM option '{word}'");
                return Err(CommandError::owned(text));
            }
        }
        Ok(2)
    }
}

/// XCLAIM key group consumer min-idle-time id [id …] [IDLE ms] [TIME unix-ms] [RETRYCOUNT count] [FORCE]
/// [JUSTID] [LASTID last-id]
pub(super) fn xclaim(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let (key, group) = (request.key(1), request.arg(2));
    let now_ms = ctx.now_ms();
    check_group(ctx, &key, group)?;
    let text = "ERR Invalid min-idle-time argument for XCLAIM";
    let idle_ms_min = idle_argument(request.arg(4), text)?;
    // The ids end where an argument is none.
    let ids = request.rest(5).iter().map_while(|text| StreamId::parse(text, 0));
    let ids: Vec<StreamId> = ids.collect();
    let options = ClaimOptions::parse(request, 5 + ids.len(), idle_ms_min, now_ms)?;

    let Some(stream) = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)? else { return Ok(()) };
    let mut effects = GroupEffects::new(ctx.journal, ctx.db, key.bytes, group);
    let Some((entries, group)) = stream.entries_and_group(group) else { return Ok(()) };
    let moves_on = options.last_id > group.last_id;
    group.last_id = group.last_id.max(options.last_id);
    let mut claimer = Claimer::new(request.arg(3));
    let array = reply.deferred();
    let (mut taken, mut changes) = (0, 0);
    for (id, text) in ids.into_iter().zip(request.rest(5)) {
        let (consumer, pending) = match options.claim.take(entries, group, &mut claimer, id, reply)
        {
            Claimed::Taken(pending) => {
                taken += 1;
                (claimer.name, pending)
            }
            Claimed::Forgotten(pending) => (group.consumer(pending.consumer).name(), pending),
            Claimed::Left => continue,
        };
        changes += 1;
        effects.claimed(consumer, text, &pending, group.last_id);
    }
    if changes == 0 && moves_on {
        effects.read_up_to(group.last_id, group.entries_read);
    }
    reply.set_array_len(array, taken);
    ctx.changes.dirty += changes.max(u64::from(moves_on));
    if claimer.is_new {
        group_changed(ctx, &key, Some("xgroup-createconsumer"));
    }
    Ok(())
}

/// What XAUTOCLAIM is asked for.
struct AutoClaim {
    start: StreamId,
    count: u64,
    claim: Claim,
}

impl AutoClaim {
    fn parse(request: &Request<'_>, now_ms: i64) -> CommandResult<Self> {
        let text = "ERR Invalid min-idle-time argument for XAUTOCLAIM";
        let idle_ms_min = idle_argument(request.arg(4), text)?;
        let start = start_argument(request.arg(5))?;
        let (mut count, mut just_id) = (AUTOCLAIM_COUNT_DEFAULT, false);
        let mut at = 6;
        while at < request.len() {
            match request.get(at + 1) {
                Some(number) if request.is_word(at, "count") => {
                    let wanted = integer(number).ok().and_then(|count| u64::try_from(count).ok());
                    let wanted = wanted.filter(|count| (1..=AUTOCLAIM_COUNT_MAX).contains(count));
                    count = wanted.ok_or(CommandError::text("ERR COUNT must be > 0"))?;
                    at += 2;
                }
                _ if request.is_word(at, "justid") => {
                    just_id = true;
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        let claim = Claim {
            idle_ms_min,
            delivered_ms: now_ms,
            deliveries: None,
            force: false,
            just_id,
            now_ms,
        };
        Ok(Self { start, count, claim })
    }

    /// Claims what is idle, and says where the next call goes on, how many entries were taken, and
    /// which are gone.
    fn run(
        &self,
        entries: Entries<'_>,
        group: &mut Group,
        claimer: &mut Claimer<'_>,
        effects: &mut GroupEffects<'_>,
        reply: &mut Reply<'_>,
    ) -> (Option<StreamId>, usize, Vec<StreamId>) {
        let mut looks = self.count.saturating_mul(AUTOCLAIM_LOOKS_PER_ENTRY);
        let (mut left, mut taken, mut gone) = (self.count, 0, Vec::new());
        let mut next = group.pending(self.start).next().map(|(id, _)| id);
        while let Some(id) = next.filter(|_| looks > 0 && left > 0) {
            looks -= 1;
            match self.claim.take(entries, group, claimer, id, reply) {
                Claimed::Taken(pending) => {
                    effects.delivered(claimer.name, id, &pending, group.last_id);
                    taken += 1;
                    left -= 1;
                }
                Claimed::Forgotten(pending) => {
                    let consumer = group.consumer(pending.consumer).name();
                    effects.delivered(consumer, id, &pending, group.last_id);
                    gone.push(id);
                    left -= 1;
                }
                Claimed::Left => {}
            }
            next = id.next().and_then(|above| group.pending(above).next()).map(|(id, _)| id);
        }
        (next, taken, gone)
    }
}

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]
pub(super) fn xautoclaim(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let (key, group) = (request.key(1), request.arg(2));
    let now_ms = ctx.now_ms();
    // Redis looks the key up first, which counts, and complains about the arguments first.
    let found = check_group(ctx, &key, group);
    let auto = AutoClaim::parse(request, now_ms)?;
    found?;
    if auto.count > AUTOCLAIM_COUNT_IN_MEMORY_MAX {
        return Err(CommandError::text(
            "ERR Insufficient memory, failed allocating transient memory, COUNT too high.",
        ));
    }
    let Some(stream) = ctx.keyspace[ctx.db].get_mut::<Stream>(&key)? else { return Ok(()) };
    let mut effects = GroupEffects::new(ctx.journal, ctx.db, key.bytes, group);
    let Some((entries, group)) = stream.entries_and_group(group) else { return Ok(()) };
    let mut claimer = Claimer::new(request.arg(3));
    // The cursor stands first but is known last, so the entries wait elsewhere.
    let mut written = Vec::new();
    let mut claimed_reply = Reply::new(&mut written, reply.resp3());
    let (next, taken, gone) =
        auto.run(entries, group, &mut claimer, &mut effects, &mut claimed_reply);
    reply.array(3);
    bulk_id(reply, next.unwrap_or(StreamId::MIN));
    reply.array(taken);
    reply.raw(&written);
    reply.array(gone.len());
    gone.iter().for_each(|id| bulk_id(reply, *id));
    ctx.changes.dirty += (taken + gone.len()) as u64;
    if claimer.is_new {
        group_changed(ctx, &key, Some("xgroup-createconsumer"));
    }
    Ok(())
}
