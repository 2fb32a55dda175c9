//! INFO, CONFIG RESETSTAT, SLOWLOG, LATENCY and MEMORY STATS: what the shards count, put together.
//!
//! The texts are made in [`crate::admin`]; here each command is split into the part of one shard
//! and the merging of all parts.

use std::sync::atomic::Ordering;

use crate::admin::facts::{CpuFacts, Facts, MemoryFacts, ProcessFacts};
use crate::admin::{info, latency_report, memory_report, slowlog};
use crate::clock;
use crate::command::{CommandResult, Ctx, EveryShard, Part, Request, Run};
use crate::memory;
use crate::pubsub::Kind;
use crate::resp::Reply;
use crate::scripting::Engine;

/// INFO [section …]
pub(super) const INFO: Run =
    Run::EveryShard(EveryShard { part: info_part, merge: info_merge, exclusive: false });
/// CONFIG RESETSTAT
pub(super) const RESETSTAT: Run =
    Run::EveryShard(EveryShard { part: resetstat_part, merge: answer_ok, exclusive: false });
/// SLOWLOG GET, LEN, RESET and HELP
pub(super) const SLOWLOG: Run =
    Run::EveryShard(EveryShard { part: slowlog_part, merge: slowlog_merge, exclusive: false });
/// All LATENCY subcommands
pub(super) const LATENCY: Run =
    Run::EveryShard(EveryShard { part: latency_part, merge: latency_merge, exclusive: false });
/// MEMORY STATS and MEMORY DOCTOR
pub(super) const MEMORY: Run =
    Run::EveryShard(EveryShard { part: memory_part, merge: memory_merge, exclusive: false });

fn info_part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    let histograms = info::needs_histograms(request.rest(1));
    ctx.stats.counters().dirty = ctx.changes.dirty;
    Ok(Part::Other(Box::new(ctx.stats.snapshot(ctx.keyspace, histograms))))
}

fn info_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let mut stats = info::sum(parts);
    // Counted turn by turn, and this one is not over.
    let saved = ctx.process.changes().1;
    stats.counters.dirty = stats.counters.dirty.saturating_sub(saved);
    stats.counters.connections_rejected = ctx.process.rejected_connections();
    // Every shard knows the channels of all.
    stats.counters.pubsub_channels = ctx.pubsub.len(Kind::Channel) as u64;
    stats.counters.pubsub_patterns = ctx.pubsub.len(Kind::Pattern) as u64;
    stats.counters.pubsub_shard_channels = ctx.pubsub.len(Kind::Shard) as u64;
    let text = info::text(request.rest(1), ctx.config, &facts(ctx), &stats);
    reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// What INFO tells of the process.
fn facts(ctx: &Ctx<'_>) -> Facts {
    let process = ctx.process;
    Facts {
        process: ProcessFacts {
            run_id: process.run_id.clone(),
            executable: process.executable.clone(),
            started_us: process.started_ms * 1000,
            now_us: clock::unix_us(),
            shards: ctx.shards.len(),
        },
        memory: memory_facts(ctx),
        cpu: CpuFacts::read(),
        persistence: process.persistence().clone(),
        replication: process.replication().clone(),
        cluster_connections: process.cluster_connections.load(Ordering::Relaxed),
        ..Facts::default()
    }
}

fn memory_facts(ctx: &Ctx<'_>) -> MemoryFacts {
    let used = memory::used_bytes() as u64;
    let (scripts, catalogue) = (&ctx.process.scripts, ctx.process.scripts.catalogue());
    let (script_count, script_bytes) = scripts.script_sizes();
    let mut facts = MemoryFacts {
        lua: scripts.memory(Engine::Scripts),
        functions: scripts.memory(Engine::Functions),
        scripts: script_bytes as u64,
        script_count: script_count as u64,
        function_count: catalogue.function_count() as u64,
        library_count: catalogue.libraries().count() as u64,
        used,
        peak: ctx.process.note_memory_peak(used),
        startup: ctx.process.startup_memory,
        cluster_links: ctx.process.cluster_link_bytes.load(Ordering::Relaxed),
        ..MemoryFacts::default()
    };
    facts.read_host();
    facts
}

fn resetstat_part(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    ctx.stats.reset(ctx.keyspace);
    Ok(Part::Done)
}

fn answer_ok(
    ctx: &mut Ctx<'_>,
    _: &Request<'_>,
    _: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    ctx.process.reset_counts();
    reply.ok();
    Ok(())
}

fn slowlog_part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    slowlog::part(&mut ctx.stats.slowlog, ctx.config, request)
}

fn slowlog_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    slowlog::merge(ctx.config, request, parts, reply)
}

fn latency_part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    Ok(latency_report::part(ctx.stats, ctx.keyspace, request))
}

fn latency_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    latency_report::merge(ctx.config, request, parts, clock::unix_ms() / 1000, reply)
}

fn memory_part(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    Ok(Part::Other(Box::new(ctx.stats.snapshot(ctx.keyspace, false))))
}

fn memory_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let (memory, stats) = (memory_facts(ctx), info::sum(parts));
    memory_report::write(request, &memory, &stats, reply);
    Ok(())
}
