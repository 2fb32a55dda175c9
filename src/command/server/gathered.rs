//! Commands about the figures of all shards: INFO, SLOWLOG, LATENCY, MEMORY STATS, CONFIG RESETSTAT.
//!
//! [`crate::admin`] knows what each shard contributes and how the reply is made of it; here it gets
//! what it asks for out of the context.

use crate::admin::facts::{CpuFacts, Facts, MemoryFacts, ProcessFacts};
use crate::admin::{info, latency_report, memory_report, slowlog};
use crate::clock;
use crate::command::{CommandResult, Ctx, EveryShard, Part, Request, Run};
use crate::memory;
use crate::resp::Reply;

/// INFO [section …]
pub const INFO: Run = gather(info_part, info_merge);
/// SLOWLOG GET|LEN|RESET|HELP
pub const SLOWLOG: Run = gather(slowlog_part, slowlog_merge);
/// LATENCY DOCTOR|GRAPH|HISTOGRAM|HISTORY|LATEST|RESET|HELP
pub const LATENCY: Run = gather(latency_part, latency_merge);
/// MEMORY STATS|DOCTOR
pub const MEMORY: Run = gather(memory_part, memory_merge);
/// CONFIG RESETSTAT
pub const RESETSTAT: Run = gather(resetstat_part, resetstat_merge);

type PartOf = fn(&mut Ctx<'_>, &Request<'_>) -> CommandResult<Part>;
type MergeOf = fn(&mut Ctx<'_>, &Request<'_>, Vec<Part>, &mut Reply<'_>) -> CommandResult;

const fn gather(part: PartOf, merge: MergeOf) -> Run {
    Run::EveryShard(EveryShard { part, merge, exclusive: false })
}

/// This shard's figures, with the changes that its handlers counted.
fn figures(ctx: &Ctx<'_>, histograms: bool) -> Part {
    let mut stats = ctx.stats.snapshot(ctx.keyspace, histograms);
    stats.counters.dirty = ctx.changes.dirty;
    Part::Other(Box::new(stats))
}

/// What the process and its host look like now.
fn facts(ctx: &Ctx<'_>) -> Facts {
    let process = ctx.process;
    let mut memory = MemoryFacts {
        used: memory::used_bytes() as u64,
        peak: memory::peak_bytes() as u64,
        startup: process.startup_bytes as u64,
        ..MemoryFacts::default()
    };
    memory.read_host();
    let mut facts = Facts {
        process: ProcessFacts {
            run_id: process.run_id.clone(),
            executable: process.executable.clone(),
            started_us: process.started_ms * 1000,
            now_us: clock::unix_us(),
            shards: ctx.shards.len(),
        },
        memory,
        cpu: CpuFacts::read(),
        ..Facts::default()
    };
    facts.persistence.last_save = process.started_ms / 1000;
    facts.replication.id.clone_from(&process.run_id);
    facts
}

fn info_part(ctx: &mut Ctx<'_>, request: &Request<'_>) -> CommandResult<Part> {
    Ok(figures(ctx, info::needs_histograms(request.rest(1))))
}

fn info_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let mut stats = info::sum(parts);
    stats.counters.connections_rejected +=
        ctx.process.rejected_connections.load(std::sync::atomic::Ordering::Relaxed);
    let text = info::text(request.rest(1), ctx.config, &facts(ctx), &stats);
    reply.verbatim(*b"txt", text.as_bytes());
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
    latency_report::merge(ctx.config, request, parts, ctx.now_ms() / 1000, reply)
}

fn memory_part(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    Ok(figures(ctx, false))
}

fn memory_merge(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    memory_report::write(request, &facts(ctx).memory, &info::sum(parts), reply);
    Ok(())
}

fn resetstat_part(ctx: &mut Ctx<'_>, _: &Request<'_>) -> CommandResult<Part> {
    ctx.stats.reset(ctx.keyspace);
    ctx.process.rejected_connections.store(0, std::sync::atomic::Ordering::Relaxed);
    Ok(Part::Done)
}

fn resetstat_merge(
    _: &mut Ctx<'_>,
    _: &Request<'_>,
    _: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::admin::stats::Outcome;
    use crate::command::CommandTable;
    use crate::command::testing::TestShard;

    #[test]
    fn info_shows_process_keys_and_counts_until_resetstat() {
        let mut shard = TestShard::new();
        shard.run("set k v");
        let get = CommandTable::get().find(b"get").unwrap();
        shard.stats.record_call(get, 1000, Outcome::Ok, true);
        let info = shard.run("info everything");
        for line in [
            "redis_version:7.0.15",
            "tcp_port:6379",
            "rdb_changes_since_last_save:1",
            "total_commands_processed:1",
            "db0:keys=1,expires=0,avg_ttl=0",
            "cmdstat_get:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0",
        ] {
            assert!(info.contains(&format!("\r\n{line}\r\n")), "{line} in {info}");
        }
        assert_eq!(shard.run("config resetstat"), "+OK\r\n");
        assert!(!shard.run("info commandstats").contains("cmdstat_get"));
    }

    #[test]
    fn memory_stats_count_the_keys() {
        let mut shard = TestShard::new();
        shard.run("set k v");
        assert!(shard.run("memory stats").contains("$10\r\nkeys.count\r\n:1\r\n"));
        assert!(shard.run("memory doctor").starts_with('$'));
        assert_eq!(shard.run("slowlog len"), ":0\r\n");
        assert_eq!(shard.run("latency latest"), "*0\r\n");
    }
}
