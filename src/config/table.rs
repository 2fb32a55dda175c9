//! Every directive, one row each: field and type, kind, default, mutability, name and older name,
//! one line of help.
//!
//! Names, bounds and defaults are those that redis-server 7.0.15 reports and accepts. Where
//! Corelane's default differs, the row says why. Directives of features that Corelane does not
//! need (io-threads, defragmentation, TLS, …) are kept as well: tools set them, and a tool that
//! reads back what it wrote works.

use super::directive::{
    Directive, HIDDEN, IMMUTABLE, IMMUTABLE_LIST, PROTECTED, RUNTIME, RUNTIME_LIST, directives,
};
use super::kind::{
    Addresses, BYTES, BacklogSize, COUNT, Cpu, Cpus, Directory, EventClasses, Hertz, LONG_COUNT,
    Master, MemoryOrPercent, Octal, OomScores, OutputBufferLimits, PORT, Percentiles, SavePoints,
    Secret, ShutdownWords, TEXT, Word, YesNo, int, memory, text,
};
use super::values::*;

const INT_MIN: i64 = i32::MIN as i64;
const INT_MAX: i64 = i32::MAX as i64;
const UINT_MAX: i64 = u32::MAX as i64;
const LONG_MAX: u64 = i64::MAX as u64;
const MB: u64 = 1 << 20;

/// The directive of this name or older name, in any case.
pub fn directive_named(name: &[u8]) -> Option<&'static Directive> {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    DIRECTIVES.iter().find(|directive| is(directive.name) || directive.alias.is_some_and(is))
}

#[rustfmt::skip] // a table: one row is one directive
directives! {
    // Cores.
    shards: usize, int(0, 1024), 0, IMMUTABLE, "shards", "Data cores, each with its share of the slots; 0 takes all CPUs but one";
    cpus: CpuList, Cpus, CpuList::default(), IMMUTABLE, "cpus", "CPUs of the data cores, such as 0-5,8; empty chooses them";
    control_cpu: Option<usize>, Cpu, None, IMMUTABLE, "control-cpu", "CPU of the control core; empty chooses it";
    pin: Pinning, Word, Pinning::Auto, IMMUTABLE, "pin", "Bind each core's thread to its CPU: yes, no, or auto (no on one or two CPUs)";
    busy_poll: u64, int(0, 1_000_000), 0, RUNTIME, "busy-poll", "Microseconds that an idle data core spins before it sleeps in the kernel";
    shard_ports: bool, YesNo, false, IMMUTABLE, "shard-ports", "In cluster mode, give each shard a port of its own";
    shard_port_base: u16, PORT, 0, IMMUTABLE, "shard-port-base", "Port of the first shard, with shard-ports; 0 for the one behind port";
    cluster_proxy: bool, YesNo, false, RUNTIME, "cluster-proxy", "Forward commands for slots of other nodes instead of answering MOVED";

    // Network.
    // Redis listens on every interface; Corelane on loopback until told otherwise.
    bind: Vec<String>, Addresses, vec!["127.0.0.1".to_owned(), "-::1".to_owned()], RUNTIME_LIST, "bind", "Addresses to listen on; a leading - makes one optional, * is all";
    port: u16, PORT, 6379, RUNTIME, "port", "TCP port; 0 for none";
    unixsocket: String, TEXT, String::new(), IMMUTABLE, "unixsocket", "Path of a unix socket to listen on";
    unixsocketperm: u32, Octal, 0, IMMUTABLE, "unixsocketperm", "Permissions of the unix socket, in octal; 0 leaves them to the umask";
    tcp_backlog: i32, COUNT, 511, IMMUTABLE, "tcp-backlog", "Connections that may wait to be accepted";
    tcp_keepalive: u32, COUNT, 300, RUNTIME, "tcp-keepalive", "Seconds between keepalive probes to idle clients; 0 for none";
    timeout: u64, COUNT, 0, RUNTIME, "timeout", "Seconds after which an idle client is closed; 0 for never";
    bind_source_addr: String, TEXT, String::new(), RUNTIME, "bind-source-addr", "Local address of outgoing connections";
    protected_mode: bool, YesNo, true, RUNTIME, "protected-mode", "Without a password, answer only to loopback";
    socket_mark_id: u32, int(0, UINT_MAX), 0, IMMUTABLE, "socket-mark-id", "Mark put on listening sockets (SO_MARK)";

    // Clients and their limits.
    maxclients: u32, int(1, UINT_MAX), 10000, RUNTIME, "maxclients", "Connections at a time";
    requirepass: Vec<u8>, Secret, Vec::new(), RUNTIME, "requirepass", "Password of the default user";
    proto_max_bulk_len: u64, memory(MB, LONG_MAX), 512 * MB, RUNTIME, "proto-max-bulk-len", "Longest single argument";
    client_query_buffer_limit: u64, memory(MB, LONG_MAX), 1024 * MB, RUNTIME, "client-query-buffer-limit", "Most input that one client may have waiting";
    client_output_buffer_limit: BufferLimitsByClass, OutputBufferLimits, BufferLimitsByClass::DEFAULT, RUNTIME_LIST, "client-output-buffer-limit", "Per class: hard limit, soft limit, seconds over the soft limit";
    maxmemory_clients: ClientsMemory, MemoryOrPercent, ClientsMemory::Bytes(0), RUNTIME, "maxmemory-clients", "Memory of all clients together, in bytes or % of maxmemory";
    tracking_table_max_keys: u64, LONG_COUNT, 1_000_000, RUNTIME, "tracking-table-max-keys", "Keys remembered for client-side caching";

    // The server.
    databases: usize, int(1, INT_MAX), 16, IMMUTABLE, "databases", "Databases for SELECT";
    daemonize: bool, YesNo, false, IMMUTABLE, "daemonize", "Run in the background";
    pidfile: String, TEXT, String::new(), IMMUTABLE, "pidfile", "File that holds the process id while the server runs";
    loglevel: LogLevel, Word, LogLevel::Notice, RUNTIME, "loglevel", "How much is logged";
    logfile: String, TEXT, String::new(), IMMUTABLE, "logfile", "Log file; empty for standard output";
    dir: String, Directory, current_dir(), PROTECTED, "dir", "Where snapshots, append-only files and nodes.conf live";
    hz: u32, Hertz, 10, RUNTIME, "hz", "Rounds of background work per second";
    dynamic_hz: bool, YesNo, true, RUNTIME, "dynamic-hz", "More rounds with more clients";
    always_show_logo: bool, YesNo, false, IMMUTABLE, "always-show-logo", "Show the logo also when the log is a file";
    supervised: Supervised, Word, Supervised::No, IMMUTABLE, "supervised", "Supervisor to tell when the server is ready";
    set_proc_title: bool, YesNo, true, IMMUTABLE, "set-proc-title", "Show state in the process list";
    proc_title_template: String, text(proc_title), "{title} {listen-addr} {server-mode}".to_owned(), RUNTIME, "proc-title-template", "What the process list shows";
    syslog_enabled: bool, YesNo, false, IMMUTABLE, "syslog-enabled", "Log to syslog";
    syslog_ident: String, TEXT, "corelane".to_owned(), IMMUTABLE, "syslog-ident", "Name in syslog";
    syslog_facility: SyslogFacility, Word, SyslogFacility::Local0, IMMUTABLE, "syslog-facility", "Facility in syslog";
    crash_log_enabled: bool, YesNo, true, RUNTIME, "crash-log-enabled", "Log a report when the server crashes";
    crash_memcheck_enabled: bool, YesNo, true, RUNTIME, "crash-memcheck-enabled", "Test memory when the server crashes";
    use_exit_on_panic: bool, YesNo, false, HIDDEN, "use-exit-on-panic", "Exit instead of abort when the server crashes";
    watchdog_period: u32, COUNT, 0, HIDDEN, "watchdog-period", "Milliseconds after which a stall is logged";
    oom_score_adj: OomScoreAdj, Word, OomScoreAdj::No, RUNTIME, "oom-score-adj", "Adjust the score of the kernel's OOM killer";
    oom_score_adj_values: [i32; 3], OomScores, [0, 200, 800], RUNTIME_LIST, "oom-score-adj-values", "Scores of a master, a replica and background work";
    disable_thp: bool, YesNo, true, IMMUTABLE, "disable-thp", "Turn transparent huge pages off for this process";
    shutdown_timeout: u32, COUNT, 10, RUNTIME, "shutdown-timeout", "Seconds that a shutdown waits for replicas";
    shutdown_on_sigint: ShutdownFlags, ShutdownWords, ShutdownFlags::default(), RUNTIME_LIST, "shutdown-on-sigint", "How SIGINT stops the server";
    shutdown_on_sigterm: ShutdownFlags, ShutdownWords, ShutdownFlags::default(), RUNTIME_LIST, "shutdown-on-sigterm", "How SIGTERM stops the server";
    ignore_warnings: String, TEXT, String::new(), RUNTIME, "ignore-warnings", "Warnings at start that do not stop it";
    enable_protected_configs: Permission, Word, Permission::No, IMMUTABLE, "enable-protected-configs", "Who may CONFIG SET dir and dbfilename";
    enable_debug_command: Permission, Word, Permission::No, IMMUTABLE, "enable-debug-command", "Who may use DEBUG";
    enable_module_command: Permission, Word, Permission::No, IMMUTABLE, "enable-module-command", "Who may use MODULE";
    io_threads: u32, int(1, 128), 1, IMMUTABLE, "io-threads", "Kept for tools; every shard does its own I/O";
    io_threads_do_reads: bool, YesNo, false, IMMUTABLE, "io-threads-do-reads", "Kept for tools; every shard does its own I/O";
    server_cpulist: String, TEXT, String::new(), IMMUTABLE, "server_cpulist", "Kept for tools; see cpus";
    bio_cpulist: String, TEXT, String::new(), IMMUTABLE, "bio_cpulist", "Kept for tools; see cpus";
    aof_rewrite_cpulist: String, TEXT, String::new(), IMMUTABLE, "aof_rewrite_cpulist", "Kept for tools; see cpus";
    bgsave_cpulist: String, TEXT, String::new(), IMMUTABLE, "bgsave_cpulist", "Kept for tools; see cpus";
    jemalloc_bg_thread: bool, YesNo, true, RUNTIME, "jemalloc-bg-thread", "Kept for tools; the allocator is another one";

    // Memory.
    maxmemory: u64, memory(0, u64::MAX), 0, RUNTIME, "maxmemory", "Memory for data; 0 for no limit";
    maxmemory_policy: MaxmemoryPolicy, Word, MaxmemoryPolicy::Noeviction, RUNTIME, "maxmemory-policy", "What to evict when memory is full";
    maxmemory_samples: u32, int(1, INT_MAX), 5, RUNTIME, "maxmemory-samples", "Keys compared to choose one for eviction";
    maxmemory_eviction_tenacity: u32, int(0, 100), 10, RUNTIME, "maxmemory-eviction-tenacity", "How long one round of eviction may last";
    lfu_log_factor: u32, COUNT, 10, RUNTIME, "lfu-log-factor", "How slowly the frequency counter grows";
    lfu_decay_time: u32, COUNT, 1, RUNTIME, "lfu-decay-time", "Minutes after which the frequency counter falls";
    active_expire_effort: u32, int(1, 10), 1, RUNTIME, "active-expire-effort", "How much work removing expired keys may be";
    lazyfree_lazy_eviction: bool, YesNo, false, RUNTIME, "lazyfree-lazy-eviction", "Free evicted values in the background";
    lazyfree_lazy_expire: bool, YesNo, false, RUNTIME, "lazyfree-lazy-expire", "Free expired values in the background";
    lazyfree_lazy_server_del: bool, YesNo, false, RUNTIME, "lazyfree-lazy-server-del", "Free overwritten values in the background";
    lazyfree_lazy_user_del: bool, YesNo, false, RUNTIME, "lazyfree-lazy-user-del", "DEL frees in the background, as UNLINK";
    lazyfree_lazy_user_flush: bool, YesNo, false, RUNTIME, "lazyfree-lazy-user-flush", "FLUSHALL frees in the background, as with ASYNC";
    activerehashing: bool, YesNo, true, RUNTIME, "activerehashing", "Grow tables also while idle";
    activedefrag: bool, YesNo, false, RUNTIME, "activedefrag", "Kept for tools; the allocator does not need it";
    active_defrag_cycle_min: u32, int(1, 99), 1, RUNTIME, "active-defrag-cycle-min", "Least effort of defragmentation, in %";
    active_defrag_cycle_max: u32, int(1, 99), 25, RUNTIME, "active-defrag-cycle-max", "Most effort of defragmentation, in %";
    active_defrag_threshold_lower: u32, int(0, 1000), 10, RUNTIME, "active-defrag-threshold-lower", "Fragmentation at which it starts, in %";
    active_defrag_threshold_upper: u32, int(0, 1000), 100, RUNTIME, "active-defrag-threshold-upper", "Fragmentation of the most effort, in %";
    active_defrag_ignore_bytes: u64, memory(1, LONG_MAX), 100 * MB, RUNTIME, "active-defrag-ignore-bytes", "Fragmentation that is not worth it";
    active_defrag_max_scan_fields: u64, int(1, i64::MAX), 1000, RUNTIME, "active-defrag-max-scan-fields", "Fields handled in one step";

    // Encodings of values.
    hash_max_listpack_entries: usize, LONG_COUNT, 512, RUNTIME, "hash-max-listpack-entries" | "hash-max-ziplist-entries", "Fields up to which a hash is a listpack";
    hash_max_listpack_value: usize, BYTES, 64, RUNTIME, "hash-max-listpack-value" | "hash-max-ziplist-value", "Longest field or value of a hash that is a listpack";
    list_max_listpack_size: i32, int(INT_MIN, INT_MAX), -2, RUNTIME, "list-max-listpack-size" | "list-max-ziplist-size", "Elements per list node, or -1 to -5 for 4 to 64 kB";
    list_compress_depth: u32, COUNT, 0, RUNTIME, "list-compress-depth", "List nodes at each end that are not compressed; 0 compresses none";
    set_max_intset_entries: usize, LONG_COUNT, 512, RUNTIME, "set-max-intset-entries", "Members up to which a set of integers is an intset";
    zset_max_listpack_entries: usize, LONG_COUNT, 128, RUNTIME, "zset-max-listpack-entries" | "zset-max-ziplist-entries", "Members up to which a sorted set is a listpack";
    zset_max_listpack_value: usize, BYTES, 64, RUNTIME, "zset-max-listpack-value" | "zset-max-ziplist-value", "Longest member of a sorted set that is a listpack";
    stream_node_max_bytes: usize, BYTES, 4096, RUNTIME, "stream-node-max-bytes", "Bytes per node of a stream; 0 for no limit";
    stream_node_max_entries: u64, LONG_COUNT, 100, RUNTIME, "stream-node-max-entries", "Entries per node of a stream; 0 for no limit";
    hll_sparse_max_bytes: usize, BYTES, 3000, RUNTIME, "hll-sparse-max-bytes", "Bytes up to which a HyperLogLog is sparse";

    // Watching the server.
    slowlog_log_slower_than: i64, int(-1, i64::MAX), 10000, RUNTIME, "slowlog-log-slower-than", "Microseconds that make a command slow; -1 for none";
    slowlog_max_len: u64, LONG_COUNT, 128, RUNTIME, "slowlog-max-len", "Slow commands that are remembered";
    latency_monitor_threshold: u64, LONG_COUNT, 0, RUNTIME, "latency-monitor-threshold", "Milliseconds that make an event a latency spike; 0 for none";
    latency_tracking: bool, YesNo, true, RUNTIME, "latency-tracking", "Keep a histogram of latencies per command";
    latency_tracking_info_percentiles: Vec<f64>, Percentiles, vec![50.0, 99.0, 99.9], RUNTIME_LIST, "latency-tracking-info-percentiles", "Percentiles that INFO latencystats shows";
    notify_keyspace_events: KeyspaceEvents, EventClasses, KeyspaceEvents::NONE, RUNTIME, "notify-keyspace-events", "Which changes of keys are published";

    // ACL and scripts.
    aclfile: String, TEXT, String::new(), IMMUTABLE, "aclfile", "File of ACL users";
    acllog_max_len: u64, LONG_COUNT, 128, RUNTIME, "acllog-max-len", "Refusals that ACL LOG remembers";
    acl_pubsub_default: PubsubDefault, Word, PubsubDefault::ResetChannels, RUNTIME, "acl-pubsub-default", "Channels that a new ACL user may use";
    busy_reply_threshold: u64, LONG_COUNT, 5000, RUNTIME, "busy-reply-threshold" | "lua-time-limit", "Milliseconds after which other clients hear that a script runs";

    // Snapshots.
    save: Vec<SavePoint>, SavePoints, default_save_points(), RUNTIME_LIST, "save", "Seconds and changes after which a snapshot is written; \"\" for never";
    dbfilename: String, text(db_file_name), "dump.rdb".to_owned(), PROTECTED, "dbfilename", "Name of the snapshot file";
    rdbcompression: bool, YesNo, true, RUNTIME, "rdbcompression", "Compress strings in snapshots";
    rdbchecksum: bool, YesNo, true, IMMUTABLE, "rdbchecksum", "End snapshots with a checksum";
    rdb_del_sync_files: bool, YesNo, false, RUNTIME, "rdb-del-sync-files", "Delete snapshots made for replicas when no persistence is on";
    rdb_save_incremental_fsync: bool, YesNo, true, RUNTIME, "rdb-save-incremental-fsync", "Flush snapshots to the disk piece by piece";
    stop_writes_on_bgsave_error: bool, YesNo, true, RUNTIME, "stop-writes-on-bgsave-error", "Refuse writes after a snapshot failed";
    sanitize_dump_payload: SanitizePayload, Word, SanitizePayload::No, RUNTIME, "sanitize-dump-payload", "Check payloads of RESTORE and snapshots in depth";
    key_load_delay: i32, int(INT_MIN, INT_MAX), 0, HIDDEN, "key-load-delay", "Microseconds to wait after each loaded key, for tests";
    rdb_key_save_delay: i32, int(INT_MIN, INT_MAX), 0, HIDDEN, "rdb-key-save-delay", "Microseconds to wait after each saved key, for tests";
    loading_process_events_interval_bytes: u32, int(1024, INT_MAX), 2 << 20, HIDDEN, "loading-process-events-interval-bytes", "Bytes loaded between two looks at clients";

    // Append-only file.
    appendonly: bool, YesNo, false, RUNTIME, "appendonly", "Keep an append-only file";
    appendfilename: String, text(append_file_name), "appendonly.aof".to_owned(), IMMUTABLE, "appendfilename", "Base name of append-only files";
    appenddirname: String, text(append_dir_name), "appendonlydir".to_owned(), IMMUTABLE, "appenddirname", "Directory of append-only files";
    appendfsync: AppendFsync, Word, AppendFsync::Everysec, RUNTIME, "appendfsync", "When the append-only file reaches the disk";
    no_appendfsync_on_rewrite: bool, YesNo, false, RUNTIME, "no-appendfsync-on-rewrite", "Do not flush while a rewrite runs";
    auto_aof_rewrite_percentage: u32, COUNT, 100, RUNTIME, "auto-aof-rewrite-percentage", "Growth that starts a rewrite, in %; 0 for never";
    auto_aof_rewrite_min_size: u64, BYTES, 64 * MB, RUNTIME, "auto-aof-rewrite-min-size", "Smallest file worth a rewrite";
    aof_load_truncated: bool, YesNo, true, RUNTIME, "aof-load-truncated", "Start although the last file ends too early";
    aof_use_rdb_preamble: bool, YesNo, true, RUNTIME, "aof-use-rdb-preamble", "Write the base as a snapshot";
    aof_timestamp_enabled: bool, YesNo, false, RUNTIME, "aof-timestamp-enabled", "Write times into the append-only file";
    aof_rewrite_incremental_fsync: bool, YesNo, true, RUNTIME, "aof-rewrite-incremental-fsync", "Flush rewrites to the disk piece by piece";
    aof_disable_auto_gc: bool, YesNo, false, RUNTIME, "aof-disable-auto-gc", "Keep files that a rewrite has replaced";

    // Replication.
    replicaof: Option<ReplicaOf>, Master, None, IMMUTABLE_LIST, "replicaof" | "slaveof", "Host and port of the master";
    masterauth: Vec<u8>, Secret, Vec::new(), RUNTIME, "masterauth", "Password for the master";
    masteruser: String, TEXT, String::new(), RUNTIME, "masteruser", "User for the master";
    replica_serve_stale_data: bool, YesNo, true, RUNTIME, "replica-serve-stale-data" | "slave-serve-stale-data", "Answer while the link to the master is down";
    replica_read_only: bool, YesNo, true, RUNTIME, "replica-read-only" | "slave-read-only", "Refuse writes on a replica";
    replica_priority: u32, COUNT, 100, RUNTIME, "replica-priority" | "slave-priority", "Lower is promoted sooner; 0 is never";
    replica_announced: bool, YesNo, true, RUNTIME, "replica-announced", "Be listed by sentinels";
    replica_announce_ip: String, TEXT, String::new(), RUNTIME, "replica-announce-ip" | "slave-announce-ip", "Address that the master shows for this replica";
    replica_announce_port: u16, PORT, 0, RUNTIME, "replica-announce-port" | "slave-announce-port", "Port that the master shows for this replica";
    replica_lazy_flush: bool, YesNo, false, RUNTIME, "replica-lazy-flush" | "slave-lazy-flush", "Free old data in the background on a full sync";
    replica_ignore_maxmemory: bool, YesNo, true, RUNTIME, "replica-ignore-maxmemory" | "slave-ignore-maxmemory", "Leave eviction to the master";
    replica_ignore_disk_write_errors: bool, YesNo, false, RUNTIME, "replica-ignore-disk-write-errors", "Go on replicating when the disk fails";
    repl_diskless_sync: bool, YesNo, true, RUNTIME, "repl-diskless-sync", "Send full syncs without a file";
    repl_diskless_sync_delay: u32, COUNT, 5, RUNTIME, "repl-diskless-sync-delay", "Seconds to wait for more replicas";
    repl_diskless_sync_max_replicas: u32, COUNT, 0, RUNTIME, "repl-diskless-sync-max-replicas", "Replicas that end the wait; 0 for none";
    repl_diskless_load: DisklessLoad, Word, DisklessLoad::Disabled, RUNTIME, "repl-diskless-load", "Load full syncs without a file";
    repl_disable_tcp_nodelay: bool, YesNo, false, RUNTIME, "repl-disable-tcp-nodelay", "Fewer, larger packets to replicas";
    repl_ping_replica_period: u32, int(1, INT_MAX), 10, RUNTIME, "repl-ping-replica-period" | "repl-ping-slave-period", "Seconds between pings to replicas";
    repl_timeout: u32, int(1, INT_MAX), 60, RUNTIME, "repl-timeout", "Seconds of silence that end a replication link";
    repl_backlog_size: u64, BacklogSize, MB, RUNTIME, "repl-backlog-size", "Bytes of the stream kept for partial syncs";
    repl_backlog_ttl: u64, LONG_COUNT, 3600, RUNTIME, "repl-backlog-ttl", "Seconds without replicas after which the backlog is freed";
    min_replicas_to_write: u32, COUNT, 0, RUNTIME, "min-replicas-to-write" | "min-slaves-to-write", "Good replicas that a write needs";
    min_replicas_max_lag: u32, COUNT, 10, RUNTIME, "min-replicas-max-lag" | "min-slaves-max-lag", "Seconds of silence of a good replica";
    propagation_error_behavior: PropagationErrorBehavior, Word, PropagationErrorBehavior::Ignore, RUNTIME, "propagation-error-behavior", "What an error in a replicated command leads to";

    // Cluster.
    cluster_enabled: bool, YesNo, false, IMMUTABLE, "cluster-enabled", "Be a node of a cluster";
    cluster_config_file: String, TEXT, "nodes.conf".to_owned(), IMMUTABLE, "cluster-config-file", "File of the node's own state";
    cluster_port: u16, PORT, 0, IMMUTABLE, "cluster-port", "Port of the cluster bus; 0 is port + 10000";
    cluster_node_timeout: u64, LONG_COUNT, 15000, RUNTIME, "cluster-node-timeout", "Milliseconds of silence that make a node suspect";
    cluster_migration_barrier: u32, COUNT, 1, RUNTIME, "cluster-migration-barrier", "Replicas that a master keeps when one migrates";
    cluster_replica_validity_factor: u32, COUNT, 10, RUNTIME, "cluster-replica-validity-factor" | "cluster-slave-validity-factor", "How old data of a replica may be to fail over; 0 for any age";
    cluster_replica_no_failover: bool, YesNo, false, RUNTIME, "cluster-replica-no-failover" | "cluster-slave-no-failover", "Never fail over by itself";
    cluster_require_full_coverage: bool, YesNo, true, RUNTIME, "cluster-require-full-coverage", "Stop answering when a slot has no node";
    cluster_allow_reads_when_down: bool, YesNo, false, RUNTIME, "cluster-allow-reads-when-down", "Answer reads while the cluster is down";
    cluster_allow_pubsubshard_when_down: bool, YesNo, true, RUNTIME, "cluster-allow-pubsubshard-when-down", "Deliver shard messages while the cluster is down";
    cluster_allow_replica_migration: bool, YesNo, true, RUNTIME, "cluster-allow-replica-migration", "Move to masters that lost all replicas";
    cluster_slot_stats_enabled: bool, YesNo, false, RUNTIME, "cluster-slot-stats-enabled", "Count what the commands for each slot cost";
    cluster_link_sendbuf_limit: u64, memory(0, u64::MAX), 0, RUNTIME, "cluster-link-sendbuf-limit", "Bytes waiting on a bus link that end it; 0 for no limit";
    cluster_announce_ip: String, TEXT, String::new(), RUNTIME, "cluster-announce-ip", "Address that other nodes and clients should use";
    cluster_announce_port: u16, PORT, 0, RUNTIME, "cluster-announce-port", "Port that other nodes and clients should use";
    cluster_announce_tls_port: u16, PORT, 0, RUNTIME, "cluster-announce-tls-port", "TLS port that other nodes and clients should use";
    cluster_announce_bus_port: u16, PORT, 0, RUNTIME, "cluster-announce-bus-port", "Bus port that other nodes should use";
    cluster_announce_shard_port_base: u16, PORT, 0, RUNTIME, "cluster-announce-shard-port-base", "Port of the first shard that clients should use; the others follow it";
    cluster_announce_hostname: String, text(host_name), String::new(), RUNTIME, "cluster-announce-hostname", "Host name that clients should use";
    cluster_preferred_endpoint_type: EndpointType, Word, EndpointType::Ip, RUNTIME, "cluster-preferred-endpoint-type", "How the node names itself to clients";

    // TLS: the directives are kept, but a server with tls-port does not start.
    tls_port: u16, PORT, 0, RUNTIME, "tls-port", "Not supported; only 0";
    tls_cluster: bool, YesNo, false, RUNTIME, "tls-cluster", "TLS on the cluster bus";
    tls_replication: bool, YesNo, false, RUNTIME, "tls-replication", "TLS to the master";
    tls_auth_clients: TlsAuthClients, Word, TlsAuthClients::Yes, RUNTIME, "tls-auth-clients", "Ask clients for a certificate";
    tls_prefer_server_ciphers: bool, YesNo, false, RUNTIME, "tls-prefer-server-ciphers", "Prefer the server's order of ciphers";
    tls_session_caching: bool, YesNo, true, RUNTIME, "tls-session-caching", "Cache TLS sessions";
    tls_session_cache_size: u32, COUNT, 20480, RUNTIME, "tls-session-cache-size", "TLS sessions that are cached";
    tls_session_cache_timeout: u32, COUNT, 300, RUNTIME, "tls-session-cache-timeout", "Seconds that a TLS session is cached";
    tls_cert_file: String, TEXT, String::new(), RUNTIME, "tls-cert-file", "Certificate";
    tls_key_file: String, TEXT, String::new(), RUNTIME, "tls-key-file", "Private key";
    tls_key_file_pass: Vec<u8>, Secret, Vec::new(), RUNTIME, "tls-key-file-pass", "Password of the private key";
    tls_client_cert_file: String, TEXT, String::new(), RUNTIME, "tls-client-cert-file", "Certificate for outgoing links";
    tls_client_key_file: String, TEXT, String::new(), RUNTIME, "tls-client-key-file", "Private key for outgoing links";
    tls_client_key_file_pass: Vec<u8>, Secret, Vec::new(), RUNTIME, "tls-client-key-file-pass", "Password of that key";
    tls_dh_params_file: String, TEXT, String::new(), RUNTIME, "tls-dh-params-file", "Diffie-Hellman parameters";
    tls_ca_cert_file: String, TEXT, String::new(), RUNTIME, "tls-ca-cert-file", "Certificate of the authority";
    tls_ca_cert_dir: String, TEXT, String::new(), RUNTIME, "tls-ca-cert-dir", "Certificates of the authorities";
    tls_protocols: String, TEXT, String::new(), RUNTIME, "tls-protocols", "TLS versions";
    tls_ciphers: String, TEXT, String::new(), RUNTIME, "tls-ciphers", "Ciphers up to TLS 1.2";
    tls_ciphersuites: String, TEXT, String::new(), RUNTIME, "tls-ciphersuites", "Ciphers of TLS 1.3";
}

fn current_dir() -> String {
    std::env::current_dir().map_or_else(|_| "/".to_owned(), |dir| dir.display().to_string())
}

fn default_save_points() -> Vec<SavePoint> {
    [(3600, 1), (300, 100), (60, 10000)]
        .map(|(seconds, changes)| SavePoint { seconds, changes })
        .into()
}

fn db_file_name(name: &str) -> Result<(), &'static str> {
    if name.contains('/') { Err("dbfilename can't be a path, just a filename") } else { Ok(()) }
}

fn append_file_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("appendfilename can't be empty"),
        name if name.contains('/') => Err("appendfilename can't be a path, just a filename"),
        _ => Ok(()),
    }
}

fn append_dir_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("appenddirname can't be empty"),
        name if name.contains('/') => Err("appenddirname can't be a path, just a dirname"),
        _ => Ok(()),
    }
}

/// Longest host name, in bytes (Redis 7.0 `cluster.h`, NET_HOST_STR_LEN).
const HOST_NAME_BYTES_MAX: usize = 256;

fn host_name(name: &str) -> Result<(), &'static str> {
    if name.len() >= HOST_NAME_BYTES_MAX {
        return Err("Hostnames must be less than 256 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return Err("Hostnames may only contain alphanumeric characters, hyphens or dots");
    }
    Ok(())
}

/// Every `{…}` of the template is a variable that the server knows.
fn proc_title(template: &str) -> Result<(), &'static str> {
    const KNOWN: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let known = |piece: &str| piece.split_once('}').is_some_and(|(name, _)| KNOWN.contains(&name));
    if !template.is_empty() && template.split('{').skip(1).all(known) {
        Ok(())
    } else {
        Err("template format is invalid or contains unknown variables")
    }
}

impl Config {
    /// What no single directive can see: that some of them do not go together.
    pub fn check(&self) -> Result<(), String> {
        if self.cluster_enabled && self.replicaof.is_some() {
            return Err("replicaof directive not allowed in cluster mode".to_owned());
        }
        if self.tls_port != 0 {
            return Err(
                "tls-port: this server has no TLS; put a TLS proxy in front of it".to_owned()
            );
        }
        if self.port != 0 && self.cluster_enabled && self.bus_port().is_none() {
            return Err("port + 10000 is no port for the cluster bus; set cluster-port".to_owned());
        }
        Ok(())
    }

    /// The port of the cluster bus.
    pub fn bus_port(&self) -> Option<u16> {
        match self.cluster_port {
            0 => self.port.checked_add(10000),
            port => Some(port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<&str> =
            DIRECTIVES.iter().flat_map(|d| std::iter::once(d.name).chain(d.alias)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_default_is_read_back_from_its_own_text() {
        let defaults = Config::default();
        for directive in DIRECTIVES.iter().filter(|d| d.name != "replicaof") {
            let mut config = defaults.clone();
            let stored = directive.store(&mut config, &[directive.render(&defaults)]);
            assert_eq!(stored, Ok(()), "{}", directive.name);
            assert_eq!(config, defaults, "{}", directive.name);
        }
    }

    #[test]
    fn a_directive_is_found_by_either_name_in_any_case() {
        for name in ["hash-max-listpack-entries", "HASH-MAX-ziplist-entries"] {
            let found = directive_named(name.as_bytes()).map(|directive| directive.name);
            assert_eq!(found, Some("hash-max-listpack-entries"));
        }
        assert!(directive_named(b"hash-max").is_none());
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let replica = Some(ReplicaOf { host: "a".to_owned(), port: 1 });
        for config in [
            Config { cluster_enabled: true, replicaof: replica, ..Config::default() },
            Config { tls_port: 1, ..Config::default() },
            Config { cluster_enabled: true, port: 60000, ..Config::default() },
        ] {
            assert!(config.check().is_err());
        }
        assert_eq!(Config::default().check(), Ok(()));
    }
}
