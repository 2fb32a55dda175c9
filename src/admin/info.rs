//! INFO: the text, section by section, from the shards' counts and the facts of the process.
//!
//! Field names and their order are those of Redis 7.0, because exporters and client libraries parse
//! them. A field whose mechanism does not exist here (fork, defragmentation) says zero.
//!
//! Promise: `text` depends on its arguments alone.

use std::fmt::Write;

use super::facts::{Facts, MasterLink, os_name};
use super::stats::{CommandStats, Counters, Stats};
use crate::command::{CommandTable, Part};
use crate::config::Config;
use crate::config::values::Words;

/// The version of Redis whose behaviour the server shows. Clients choose features by it.
pub const REDIS_VERSION: &str = "7.0.15";

/// A part of INFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Section {
    Server,
    Clients,
    Memory,
    Persistence,
    Stats,
    Replication,
    Cpu,
    Modules,
    CommandStats,
    ErrorStats,
    LatencyStats,
    Cluster,
    Keyspace,
}

/// When a section is shown without being named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// Always.
    ByDefault,
    /// With `all` and `everything`.
    WithAll,
}

/// Every section in order: its word, its title, when it is shown.
#[rustfmt::skip] // a table: one row is one section
const SECTIONS: [(Section, &str, &str, Shown); 13] = [
    (Section::Server, "server", "Server", Shown::ByDefault),
    (Section::Clients, "clients", "Clients", Shown::ByDefault),
    (Section::Memory, "memory", "Memory", Shown::ByDefault),
    (Section::Persistence, "persistence", "Persistence", Shown::ByDefault),
    (Section::Stats, "stats", "Stats", Shown::ByDefault),
    (Section::Replication, "replication", "Replication", Shown::ByDefault),
    (Section::Cpu, "cpu", "CPU", Shown::ByDefault),
    (Section::Modules, "modules", "Modules", Shown::ByDefault),
    (Section::CommandStats, "commandstats", "Commandstats", Shown::WithAll),
    (Section::ErrorStats, "errorstats", "Errorstats", Shown::ByDefault),
    (Section::LatencyStats, "latencystats", "Latencystats", Shown::WithAll),
    (Section::Cluster, "cluster", "Cluster", Shown::ByDefault),
    (Section::Keyspace, "keyspace", "Keyspace", Shown::ByDefault),
];

/// Whether `words`, the arguments of INFO, ask for this section.
fn is_asked_for(word: &str, shown: Shown, words: &[&[u8]]) -> bool {
    let is = |wanted: &str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted.as_bytes()));
    let default = words.is_empty() || is("default");
    let all = is("all") || is("everything");
    is(word) || all || (default && shown == Shown::ByDefault)
}

/// Whether the arguments of INFO need the histograms of latencies, which are big.
pub fn needs_histograms(words: &[&[u8]]) -> bool {
    is_asked_for("latencystats", Shown::WithAll, words)
}

/// The figures of all shards from their parts, each a boxed [`Stats`].
pub fn sum(parts: Vec<Part>) -> Stats {
    let mut sum = Stats::default();
    super::unpack::<Stats>(parts).for_each(|stats| sum.add(&stats));
    sum
}

/// The text of INFO with the arguments `words`.
pub fn text(words: &[&[u8]], config: &Config, facts: &Facts, stats: &Stats) -> String {
    let mut text = String::with_capacity(6 * 1024);
    let page = Page { config, facts, stats };
    for (section, word, title, shown) in SECTIONS {
        if !is_asked_for(word, shown, words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        line(&mut text, format_args!("# {title}"));
        page.write(section, &mut text);
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(content);
    text.push_str("\r\n");
}

/// Writes `name:value` lines: `fields!(text, name = value, …)`.
macro_rules! fields {
    ($text:expr, $($name:ident = $value:expr,)*) => {
        $(line($text, format_args!(concat!(stringify!($name), ":{}"), $value));)*
    };
}

/// Bytes for people: `1.50M`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u32, char); 5] = [(50, 'P'), (40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    match UNITS.iter().find(|(shift, _)| bytes >= 1 << shift) {
        Some((shift, unit)) => format!("{:.2}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes}B"),
    }
}

/// `part` in percent of `whole`.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn kilobytes_per_second(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// Seconds, or -1 for "never".
fn or_never(seconds: Option<u64>) -> i64 {
    seconds.map_or(-1, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What the sections are written from.
struct Page<'a> {
    config: &'a Config,
    facts: &'a Facts,
    stats: &'a Stats,
}

impl Page<'_> {
    fn write(&self, section: Section, text: &mut String) {
        match section {
            Section::Server => self.server(text),
            Section::Clients => self.clients(text),
            Section::Memory => self.memory(text),
            Section::Persistence => self.persistence(text),
            Section::Stats => self.stats(text),
            Section::Replication => self.replication(text),
            Section::Cpu => self.cpu(text),
            Section::Modules => {}
            Section::CommandStats => self.command_stats(text),
            Section::ErrorStats => self.error_stats(text),
            Section::LatencyStats => self.latency_stats(text),
            Section::Cluster => {
                fields!(text, cluster_enabled = u8::from(self.config.cluster_enabled),);
            }
            Section::Keyspace => self.keyspace(text),
        }
    }

    fn server(&self, text: &mut String) {
        let process = &self.facts.process;
        let mode = match (self.config.extras.sentinel_mode, self.config.cluster_enabled) {
            (true, _) => "sentinel",
            (false, true) => "cluster",
            (false, false) => "standalone",
        };
        let uptime = (process.now_us - process.started_us).max(0) / 1_000_000;
        let file = self.config.extras.file.as_ref().map(|path| path.display().to_string());
        fields!(
            text,
            redis_version = REDIS_VERSION,
            redis_git_sha1 = "00000000",
            redis_git_dirty = 0,
            redis_build_id = "0000000000000000",
            redis_mode = mode,
            corelane_version = env!("CARGO_PKG_VERSION"),
            corelane_shards = process.shards,
            os = os_name(),
            arch_bits = usize::BITS,
            monotonic_clock = "POSIX clock_gettime",
            multiplexing_api = "io_uring",
            atomicvar_api = "none",
            gcc_version = "0.0.0",
            process_id = std::process::id(),
            process_supervised = self.config.supervised.word(),
            run_id = process.run_id,
            tcp_port = self.config.port,
            server_time_usec = process.now_us,
            uptime_in_seconds = uptime,
            uptime_in_days = uptime / 86400,
            hz = self.config.hz,
            configured_hz = self.config.hz,
            lru_clock = (process.now_us / 1_000_000) & 0xff_ffff,
            executable = process.executable,
            config_file = file.unwrap_or_default(),
            io_threads_active = 0,
        );
    }

    fn clients(&self, text: &mut String) {
        let counters = &self.stats.counters;
        fields!(
            text,
            connected_clients = counters.connected_clients,
            cluster_connections = self.facts.cluster_connections,
            maxclients = self.config.maxclients,
            client_recent_max_input_buffer = counters.client_input_buffer_max,
            client_recent_max_output_buffer = counters.client_output_buffer_max,
            blocked_clients = counters.blocked_clients,
            tracking_clients = counters.tracking_clients,
            clients_in_timeout_table = counters.clients_with_timeout,
        );
    }

    fn memory(&self, text: &mut String) {
        let memory = &self.facts.memory;
        let peak = memory.peak.max(memory.used);
        let overhead = super::memory_report::overhead(memory, self.stats);
        let dataset = memory.used.saturating_sub(overhead);
        let net = memory.used.saturating_sub(memory.startup);
        let lua_functions = memory.lua + memory.functions;
        let fragmentation = memory.resident as i64 - memory.used as i64;
        fields!(
            text,
            used_memory = memory.used,
            used_memory_human = human_bytes(memory.used),
            used_memory_rss = memory.resident,
            used_memory_rss_human = human_bytes(memory.resident),
            used_memory_peak = peak,
            used_memory_peak_human = human_bytes(peak),
            used_memory_peak_perc = format_args!("{:.2}%", percent(memory.used, peak)),
            used_memory_overhead = overhead,
            used_memory_startup = memory.startup,
            used_memory_dataset = dataset,
            used_memory_dataset_perc = format_args!("{:.2}%", percent(dataset, net).min(100.0)),
            allocator_allocated = memory.used,
            allocator_active = memory.used,
            allocator_resident = memory.resident,
            total_system_memory = memory.system,
            total_system_memory_human = human_bytes(memory.system),
            used_memory_lua = memory.lua,
            used_memory_vm_eval = memory.lua,
            used_memory_lua_human = human_bytes(memory.lua),
            used_memory_scripts_eval = memory.scripts,
            number_of_cached_scripts = memory.script_count,
            number_of_functions = memory.function_count,
            number_of_libraries = memory.library_count,
            used_memory_vm_functions = memory.functions,
            used_memory_vm_total = lua_functions,
            used_memory_vm_total_human = human_bytes(lua_functions),
            used_memory_functions = memory.functions,
            used_memory_scripts = memory.scripts,
            used_memory_scripts_human = human_bytes(memory.scripts),
            maxmemory = self.config.maxmemory,
            maxmemory_human = human_bytes(self.config.maxmemory),
            maxmemory_policy = self.config.maxmemory_policy.word(),
            allocator_frag_ratio = "1.00",
            allocator_frag_bytes = 0,
            allocator_rss_ratio = format_args!("{:.2}", ratio(memory.resident, memory.used)),
            allocator_rss_bytes = fragmentation,
            rss_overhead_ratio = "1.00",
            rss_overhead_bytes = 0,
            mem_fragmentation_ratio = format_args!("{:.2}", ratio(memory.resident, memory.used)),
            mem_fragmentation_bytes = fragmentation,
            mem_not_counted_for_evict = memory.replicas + memory.aof_buffer,
            mem_replication_backlog = memory.backlog,
            mem_total_replication_buffers = memory.backlog + memory.replicas,
            mem_clients_slaves = memory.replicas,
            mem_clients_normal = self.stats.counters.clients_bytes,
            mem_cluster_links = memory.cluster_links,
            mem_aof_buffer = memory.aof_buffer,
            mem_allocator = "mimalloc",
            active_defrag_running = 0,
            lazyfree_pending_objects = self.stats.counters.lazyfree_pending,
            lazyfreed_objects = self.stats.counters.lazyfreed,
        );
    }

    fn persistence(&self, text: &mut String) {
        let facts = &self.facts.persistence;
        fields!(
            text,
            loading = u8::from(facts.loading.is_some() && !facts.async_loading),
            async_loading = u8::from(facts.async_loading),
            current_cow_peak = 0,
            current_cow_size = 0,
            current_cow_size_age = 0,
            current_fork_perc =
                format_args!("{:.2}", percent(facts.save_keys_processed, facts.save_keys_total)),
            current_save_keys_processed = facts.save_keys_processed,
            current_save_keys_total = facts.save_keys_total,
            rdb_changes_since_last_save = self.stats.counters.dirty,
            rdb_bgsave_in_progress = u8::from(facts.bgsave_seconds.is_some()),
            rdb_last_save_time = facts.last_save,
            rdb_last_bgsave_status = facts.bgsave_status.as_str(),
            rdb_last_bgsave_time_sec = or_never(facts.last_bgsave_seconds),
            rdb_current_bgsave_time_sec = or_never(facts.bgsave_seconds),
            rdb_saves = facts.saves,
            rdb_last_cow_size = 0,
            rdb_last_load_keys_expired = facts.load_keys_expired,
            rdb_last_load_keys_loaded = facts.load_keys,
            aof_enabled = u8::from(self.config.appendonly),
            aof_rewrite_in_progress = u8::from(facts.aof_rewrite_seconds.is_some()),
            aof_rewrite_scheduled = u8::from(facts.aof_rewrite_scheduled),
            aof_last_rewrite_time_sec = or_never(facts.last_aof_rewrite_seconds),
            aof_current_rewrite_time_sec = or_never(facts.aof_rewrite_seconds),
            aof_last_bgrewrite_status = facts.aof_rewrite_status.as_str(),
            aof_rewrites = facts.aof_rewrites,
            aof_rewrites_consecutive_failures = facts.aof_rewrite_failures,
            aof_last_write_status = facts.aof_write_status.as_str(),
            aof_last_cow_size = 0,
            module_fork_in_progress = 0,
            module_fork_last_cow_size = 0,
        );
        if self.config.appendonly {
            fields!(
                text,
                aof_current_size = facts.aof_size,
                aof_base_size = facts.aof_base_size,
                aof_pending_rewrite = u8::from(facts.aof_rewrite_scheduled),
                aof_buffer_length = facts.aof_buffer_bytes,
                aof_pending_bio_fsync = facts.aof_pending_fsync,
                aof_delayed_fsync = facts.aof_delayed_fsync,
            );
        }
        if let Some(loading) = &facts.loading {
            fields!(
                text,
                loading_start_time = loading.started,
                loading_total_bytes = loading.total_bytes,
                loading_rdb_used_mem = 0,
                loading_loaded_bytes = loading.loaded_bytes,
                loading_loaded_perc =
                    format_args!("{:.2}", percent(loading.loaded_bytes, loading.total_bytes)),
                loading_eta_seconds = loading.eta_seconds,
            );
        }
    }

    fn stats(&self, text: &mut String) {
        let replication = &self.facts.replication;
        let c: &Counters = &self.stats.counters;
        fields!(
            text,
            total_connections_received = c.connections_received,
            total_commands_processed = c.commands_processed,
            instantaneous_ops_per_sec = self.stats.ops_per_second,
            total_net_input_bytes = c.net_input_bytes + replication.input_bytes,
            total_net_output_bytes = c.net_output_bytes + replication.output_bytes,
            total_net_repl_input_bytes = replication.input_bytes,
            total_net_repl_output_bytes = replication.output_bytes,
            instantaneous_input_kbps = kilobytes_per_second(self.stats.input_per_second),
            instantaneous_output_kbps = kilobytes_per_second(self.stats.output_per_second),
            instantaneous_input_repl_kbps = "0.00",
            instantaneous_output_repl_kbps = "0.00",
            rejected_connections = c.connections_rejected,
            sync_full = replication.sync_full,
            sync_partial_ok = replication.sync_partial_ok,
            sync_partial_err = replication.sync_partial_err,
            expired_keys = c.expired_keys,
            expired_stale_perc = "0.00",
            expired_time_cap_reached_count = c.expire_slices_cut,
            expire_cycle_cpu_milliseconds = c.expire_ms,
            evicted_keys = c.evicted_keys,
            evicted_clients = c.evicted_clients,
            total_eviction_exceeded_time = c.eviction_exceeded_ms,
            current_eviction_exceeded_time = 0,
            keyspace_hits = c.keyspace_hits,
            keyspace_misses = c.keyspace_misses,
            pubsub_channels = c.pubsub_channels,
            pubsub_patterns = c.pubsub_patterns,
            pubsubshard_channels = c.pubsub_shard_channels,
            latest_fork_usec = 0,
            total_forks = 0,
            migrate_cached_sockets = self.facts.migrate_sockets,
            slave_expires_tracked_keys = 0,
            active_defrag_hits = 0,
            active_defrag_misses = 0,
            active_defrag_key_hits = 0,
            active_defrag_key_misses = 0,
            total_active_defrag_time = 0,
            current_active_defrag_time = 0,
            tracking_total_keys = c.tracking_keys,
            tracking_total_items = c.tracking_items,
            tracking_total_prefixes = c.tracking_prefixes,
            unexpected_error_replies = c.unexpected_error_replies,
            total_error_replies = c.error_replies,
            dump_payload_sanitizations = c.payloads_checked,
            total_reads_processed = c.reads_processed,
            total_writes_processed = c.writes_processed,
            io_threaded_reads_processed = 0,
            io_threaded_writes_processed = 0,
            reply_buffer_shrinks = 0,
            reply_buffer_expands = 0,
        );
    }

    fn replication(&self, text: &mut String) {
        let facts = &self.facts.replication;
        fields!(text, role = if facts.master.is_some() { "slave" } else { "master" },);
        if let Some(master) = &facts.master {
            self.master_link(master, text);
        }
        fields!(text, connected_slaves = facts.replicas.len(),);
        if self.config.min_replicas_to_write > 0 && self.config.min_replicas_max_lag > 0 {
            fields!(text, min_slaves_good_slaves = facts.good_replicas,);
        }
        for (number, replica) in facts.replicas.iter().enumerate() {
            line(
                text,
                format_args!(
                    "slave{number}:ip={},port={},state={},offset={},lag={}",
                    replica.host, replica.port, replica.state, replica.offset, replica.lag
                ),
            );
        }
        let failover =
            if facts.failover_state.is_empty() { "no-failover" } else { facts.failover_state };
        let id2 = if facts.id2.is_empty() { "0".repeat(40) } else { facts.id2.clone() };
        fields!(
            text,
            master_failover_state = failover,
            master_replid = facts.id,
            master_replid2 = id2,
            master_repl_offset = facts.offset,
            second_repl_offset = or_never(facts.second_offset),
            repl_backlog_active = u8::from(facts.backlog_active),
            repl_backlog_size = self.config.repl_backlog_size,
            repl_backlog_first_byte_offset = facts.backlog_first,
            repl_backlog_histlen = facts.backlog_bytes,
        );
    }

    fn master_link(&self, master: &MasterLink, text: &mut String) {
        fields!(
            text,
            master_host = master.host,
            master_port = master.port,
            master_link_status = if master.up { "up" } else { "down" },
            master_last_io_seconds_ago = or_never(master.last_io_seconds),
            master_sync_in_progress = u8::from(master.sync.is_some()),
            slave_read_repl_offset = master.read_offset,
            slave_repl_offset = self.facts.replication.offset,
        );
        if let Some((total, read)) = master.sync {
            fields!(
                text,
                master_sync_total_bytes = total,
                master_sync_read_bytes = read,
                master_sync_left_bytes = total.saturating_sub(read),
                master_sync_perc = format_args!("{:.2}", percent(read, total)),
                master_sync_last_io_seconds_ago = or_never(master.last_io_seconds),
            );
        }
        if !master.up {
            fields!(text, master_link_down_since_seconds = or_never(master.down_seconds),);
        }
        fields!(
            text,
            slave_priority = self.config.replica_priority,
            slave_read_only = u8::from(self.config.replica_read_only),
            replica_announced = u8::from(self.config.replica_announced),
        );
    }

    fn cpu(&self, text: &mut String) {
        let cpu = &self.facts.cpu;
        let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
        fields!(
            text,
            used_cpu_sys = seconds(cpu.system_us),
            used_cpu_user = seconds(cpu.user_us),
            used_cpu_sys_children = seconds(0),
            used_cpu_user_children = seconds(0),
            used_cpu_sys_main_thread = seconds(cpu.thread_system_us),
            used_cpu_user_main_thread = seconds(cpu.thread_user_us),
        );
    }

    /// The used commands with their names, in the order of their names.
    fn used_commands(&self) -> Vec<(&'static str, &CommandStats)> {
        let names = CommandTable::get().commands().iter().map(|command| command.name);
        let mut used: Vec<_> =
            names.zip(&self.stats.commands).filter(|(_, stats)| stats.is_used()).collect();
        used.sort_unstable_by_key(|(name, _)| *name);
        used
    }

    fn command_stats(&self, text: &mut String) {
        for (name, stats) in self.used_commands() {
            let usec = stats.nanos / 1000;
            line(
                text,
                format_args!(
                    "cmdstat_{name}:calls={},usec={usec},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                    stats.calls,
                    ratio(usec, stats.calls),
                    stats.rejected,
                    stats.failed
                ),
            );
        }
    }

    fn error_stats(&self, text: &mut String) {
        for (code, count) in &self.stats.errors {
            line(text, format_args!("errorstat_{code}:count={count}"));
        }
    }

    fn latency_stats(&self, text: &mut String) {
        for (name, stats) in self.used_commands() {
            let Some(latencies) = &stats.latencies else { continue };
            let percentiles = self.config.latency_tracking_info_percentiles.iter();
            let shown: Vec<String> = percentiles
                .map(|percentile| {
                    let nanos = latencies.value_at_percentile(*percentile);
                    format!("p{percentile}={:.3}", nanos as f64 / 1000.0)
                })
                .collect();
            line(text, format_args!("latency_percentiles_usec_{name}:{}", shown.join(",")));
        }
    }

    fn keyspace(&self, text: &mut String) {
        for (number, size) in self.stats.databases.iter().enumerate().filter(|(_, s)| s.keys > 0) {
            line(
                text,
                format_args!(
                    "db{number}:keys={},expires={},avg_ttl={}",
                    size.keys,
                    size.expires,
                    size.avg_ttl_ms()
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::facts::ReplicaFacts;
    use crate::admin::stats::{DatabaseSize, Outcome, ShardStats};
    use crate::command::CommandId;
    use crate::keyspace::Keyspace;

    fn info(words: &str, config: &Config, facts: &Facts, stats: &Stats) -> String {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        text(&words, config, facts, stats)
    }

    fn titles(words: &str) -> Vec<String> {
        let text = info(words, &Config::default(), &Facts::default(), &Stats::default());
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    }

    #[test]
    fn sections_are_chosen_by_name_default_all_and_everything() {
        const DEFAULT: [&str; 11] = [
            "Server",
            "Clients",
            "Memory",
            "Persistence",
            "Stats",
            "Replication",
            "CPU",
            "Modules",
            "Errorstats",
            "Cluster",
            "Keyspace",
        ];
        assert_eq!(titles(""), DEFAULT);
        assert_eq!(titles("default"), DEFAULT);
        assert_eq!(titles("all").len(), 13);
        assert_eq!(titles("EVERYTHING"), titles("all"));
        assert_eq!(titles("cpu Keyspace foo"), ["CPU", "Keyspace"]);
        assert_eq!(titles("foo"), Vec::<String>::new());
        assert_eq!(titles("default commandstats").len(), 12);
        assert!(needs_histograms(&[b"all"]) && !needs_histograms(&[]));
    }

    #[test]
    fn every_line_is_a_title_a_field_or_empty_and_ends_with_crlf() {
        let text = info("all", &Config::default(), &Facts::default(), &Stats::default());
        assert!(text.ends_with("\r\n"));
        for line in text.split_terminator("\r\n") {
            let field = line.split_once(':').is_some_and(|(name, _)| {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            });
            assert!(field || line.is_empty() || line.starts_with("# "), "{line:?}");
        }
    }

    #[test]
    fn commands_errors_latencies_and_databases_have_lines_of_their_own() {
        let get = CommandTable::get().find(b"get").unwrap();
        let mut shard = ShardStats::default();
        shard.record_call(get, Outcome::Ok);
        shard.record_time(get, 1_000, 1, true);
        shard.record_call(get, Outcome::Failed);
        shard.record_time(get, 2_000, 1, true);
        shard.record_rejection(CommandTable::get().find(b"del").unwrap());
        shard.record_error(b"ERR x");
        let mut stats = shard.snapshot(&Keyspace::new(2, 1, 1), true);
        stats.databases[1] =
            DatabaseSize { keys: 3, expires: 2, ttl_ms: 300, ttl_samples: 2, overhead_bytes: 0 };
        let text = info(
            "commandstats errorstats latencystats keyspace",
            &Config::default(),
            &Facts::default(),
            &stats,
        );
        assert_eq!(
            text,
            "# Commandstats\r\n\
             cmdstat_del:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n\
             cmdstat_get:calls=2,usec=3,usec_per_call=1.50,rejected_calls=0,failed_calls=1\r\n\r\n\
             # Errorstats\r\nerrorstat_ERR:count=1\r\n\r\n\
             # Latencystats\r\nlatency_percentiles_usec_get:p50=1.003,p99=2.007,p99.9=2.007\r\n\r\n\
             # Keyspace\r\ndb1:keys=3,expires=2,avg_ttl=150\r\n"
        );
        assert_ne!(get, CommandId(u16::MAX));
    }

    #[test]
    fn replication_tells_master_and_replica_apart() {
        let mut facts = Facts::default();
        facts.replication.id = "a".repeat(40);
        let config = Config { min_replicas_to_write: 1, ..Config::default() };
        facts.replication.replicas.push(ReplicaFacts {
            host: "::1".to_owned(),
            port: 6380,
            state: "online",
            offset: 14,
            lag: 1,
        });
        let text = info("replication", &config, &facts, &Stats::default());
        assert!(text.starts_with(
            "# Replication\r\nrole:master\r\nconnected_slaves:1\r\nmin_slaves_good_slaves:0\r\n\
             slave0:ip=::1,port=6380,state=online,offset=14,lag=1\r\n\
             master_failover_state:no-failover\r\nmaster_replid:aaaa"
        ));
        facts.replication.master = Some(MasterLink {
            state: "connected",
            host: "h".to_owned(),
            port: 1,
            up: false,
            last_io_seconds: None,
            sync: Some((200, 50)),
            down_seconds: Some(9),
            read_offset: 7,
        });
        let text = info("replication", &config, &facts, &Stats::default());
        for line in [
            "role:slave",
            "master_link_status:down",
            "master_last_io_seconds_ago:-1",
            "master_sync_left_bytes:150",
            "master_sync_perc:25.00",
            "master_link_down_since_seconds:9",
            "slave_priority:100",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in {text}");
        }
    }

    #[test]
    fn bytes_for_people_have_two_decimals() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (916_536, "895.05K"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
