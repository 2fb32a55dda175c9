//! What INFO tells beyond the shards' counts: the process, its host, persistence and replication.
//!
//! Why plain data: the parts that know these things (journal, replication, persistence) fill a struct in
//! when they are asked, and INFO needs none of them to be tested.

use std::fs;

/// The process.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// 40 hexadecimal digits, new at each start.
    pub run_id: String,
    /// Path of the program.
    pub executable: String,
    /// Unix time of the start, µs.
    pub started_us: i64,
    /// Unix time now, µs.
    pub now_us: i64,
    /// Data cores.
    pub shards: usize,
}

/// Memory of the process and the host, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryFacts {
    /// Allocated now.
    pub used: u64,
    /// Most that was allocated.
    pub peak: u64,
    /// Allocated at start, before any data.
    pub startup: u64,
    /// Resident, as the kernel sees it.
    pub resident: u64,
    /// Of the host.
    pub system: u64,
    /// Of the Lua interpreters.
    pub lua: u64,
    /// Of cached scripts.
    pub scripts: u64,
    /// Cached scripts.
    pub script_count: u64,
    /// Of function libraries.
    pub functions: u64,
    /// Functions.
    pub function_count: u64,
    /// Function libraries.
    pub library_count: u64,
    /// Replication backlog.
    pub backlog: u64,
    /// Output that waits for replicas.
    pub replicas: u64,
    /// Output that waits for other nodes.
    pub cluster_links: u64,
    /// Writes that wait for the append-only file.
    pub aof_buffer: u64,
}

/// CPU time of the process, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuFacts {
    /// In the kernel.
    pub system_us: u64,
    /// Outside it.
    pub user_us: u64,
    /// Of the thread that answers, in the kernel.
    pub thread_system_us: u64,
    /// Of the thread that answers, outside it.
    pub thread_user_us: u64,
}

/// Whether something went well the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It did, or was not tried yet.
    #[default]
    Ok,
    /// It did not.
    Err,
}

impl Status {
    /// As INFO shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// How far loading is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loading {
    /// Unix time of its start, s.
    pub started: i64,
    /// Bytes of the file.
    pub total_bytes: u64,
    /// Bytes that are read.
    pub loaded_bytes: u64,
    /// Seconds that it will probably take yet.
    pub eta_seconds: u64,
}

/// Snapshots and the append-only file.
#[derive(Clone, Debug, Default)]
pub struct PersistenceFacts {
    /// Set while the server loads.
    pub loading: Option<Loading>,
    /// The old data is served while it loads.
    pub async_loading: bool,
    /// Keys written by the snapshot that runs.
    pub save_keys_processed: u64,
    /// Keys that it will write.
    pub save_keys_total: u64,
    /// Set while a snapshot is written: since how many seconds.
    pub bgsave_seconds: Option<u64>,
    /// Unix time of the last good snapshot, s.
    pub last_save: i64,
    /// How the last one ended.
    pub bgsave_status: Status,
    /// How long the last one took, s.
    pub last_bgsave_seconds: Option<u64>,
    /// Snapshots since the start.
    pub saves: u64,
    /// Keys of the loaded snapshot that had expired.
    pub load_keys_expired: u64,
    /// Keys of the loaded snapshot.
    pub load_keys: u64,
    /// Set while a rewrite runs: since how many seconds.
    pub aof_rewrite_seconds: Option<u64>,
    /// A rewrite will start when the snapshot is done.
    pub aof_rewrite_scheduled: bool,
    /// How long the last rewrite took, s.
    pub last_aof_rewrite_seconds: Option<u64>,
    /// How the last rewrite ended.
    pub aof_rewrite_status: Status,
    /// Rewrites since the start.
    pub aof_rewrites: u64,
    /// Rewrites that failed in a row.
    pub aof_rewrite_failures: u64,
    /// How the last write ended.
    pub aof_write_status: Status,
    /// Bytes of all append-only files.
    pub aof_size: u64,
    /// Bytes after the last rewrite.
    pub aof_base_size: u64,
    /// Writes that wait.
    pub aof_buffer_bytes: u64,
    /// Flushes that wait.
    pub aof_pending_fsync: u64,
    /// Flushes that came late.
    pub aof_delayed_fsync: u64,
}

/// A replica of this server.
#[derive(Clone, Debug)]
pub struct ReplicaFacts {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `online`, `wait_bgsave` or `send_bulk`.
    pub state: &'static str,
    /// How far it says it is.
    pub offset: u64,
    /// Seconds since it said so.
    pub lag: u64,
}

/// The link to the master.
#[derive(Clone, Debug)]
pub struct MasterLink {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How far the link is, in the words of ROLE.
    pub state: &'static str,
    /// The link is up.
    pub up: bool,
    /// Seconds since the last byte; `None` while there is no link.
    pub last_io_seconds: Option<u64>,
    /// A full sync runs: bytes in all and bytes that came.
    pub sync: Option<(u64, u64)>,
    /// Seconds since the link fell.
    pub down_seconds: Option<u64>,
    /// Offset up to which the stream was read.
    pub read_offset: u64,
}

/// Replication.
#[derive(Clone, Debug, Default)]
pub struct ReplicationFacts {
    /// Set on a replica.
    pub master: Option<MasterLink>,
    /// Replicas of this server.
    pub replicas: Vec<ReplicaFacts>,
    /// Replicas that have acknowledged all there is.
    pub in_sync: usize,
    /// Replicas that are good in the sense of `min-replicas-max-lag`.
    pub good_replicas: u64,
    /// `no-failover`, `waiting-for-sync` or `failover-in-progress`; empty is the first.
    pub failover_state: &'static str,
    /// The stream's id.
    pub id: String,
    /// The id before the last promotion.
    pub id2: String,
    /// Length of the stream so far.
    pub offset: u64,
    /// Up to which `id2` holds.
    pub second_offset: Option<u64>,
    /// There is a backlog.
    pub backlog_active: bool,
    /// Offset of its first byte.
    pub backlog_first: u64,
    /// Bytes in it.
    pub backlog_bytes: u64,
    /// Full syncs given.
    pub sync_full: u64,
    /// Partial syncs given.
    pub sync_partial_ok: u64,
    /// Partial syncs refused.
    pub sync_partial_err: u64,
    /// Bytes read from the master.
    pub input_bytes: u64,
    /// Bytes sent to replicas.
    pub output_bytes: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The process.
    pub process: ProcessFacts,
    /// Memory.
    pub memory: MemoryFacts,
    /// CPU time.
    pub cpu: CpuFacts,
    /// Snapshots and append-only file.
    pub persistence: PersistenceFacts,
    /// Replication.
    pub replication: ReplicationFacts,
    /// Connections of the cluster bus.
    pub cluster_connections: u64,
    /// Cached connections of MIGRATE.
    pub migrate_sockets: u64,
}

impl MemoryFacts {
    /// Reads what the kernel knows; the rest is for the caller to fill in.
    pub fn read_host(&mut self) {
        self.resident = status_bytes("/proc/self/status", "VmRSS:").unwrap_or(self.used);
        self.system = status_bytes("/proc/meminfo", "MemTotal:").unwrap_or(0);
    }
}

/// A line such as `VmRSS:  1234 kB` of a file under /proc.
fn status_bytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Microseconds in a clock tick of /proc (Linux `USER_HZ`, 100 on every platform it runs on here).
const TICK_US: u64 = 10_000;

impl CpuFacts {
    /// The CPU time so far, to a hundredth of a second.
    pub fn read() -> Self {
        let (user_us, system_us) = cpu_times("/proc/self/stat").unwrap_or_default();
        let (thread_user_us, thread_system_us) =
            cpu_times("/proc/thread-self/stat").unwrap_or_default();
        Self { system_us, user_us, thread_system_us, thread_user_us }
    }
}

/// User and system time out of a `stat` file: its fields 14 and 15.
fn cpu_times(path: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(path).ok()?;
    // The name of the program, field 2, may hold blanks and brackets: count from behind it.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    Some((fields.next()?? * TICK_US, fields.next()?? * TICK_US))
}

/// The kernel as INFO names it: `Linux 6.1.0 x86_64`.
pub fn os_name() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_proc() {
        let mut memory = MemoryFacts::default();
        memory.read_host();
        assert!(memory.resident > 0 && memory.system >= memory.resident, "{memory:?}");
        assert!(
            cpu_times("/proc/self/stat").is_some() && cpu_times("/proc/thread-self/stat").is_some()
        );
        assert!(os_name().starts_with("Linux ") && os_name().len() > 12);
    }
}
