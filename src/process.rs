//! What all cores of the process share: a handful of atomic counters and facts fixed at the start.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::utils::CachePadded;

use crate::admin::facts::{PersistenceFacts, ReplicationFacts};
use crate::clock;
use crate::journal::Stamp;
use crate::memory;
use crate::scripting::Store;
use crate::shard_map::ShardId;
use crate::transaction::TxId;

/// See the module. The counters are touched once per connection or transaction, never per command.
pub struct Process {
    /// `run_id` of INFO: 40 hex digits, new at each start.
    pub run_id: String,
    /// When the process started.
    pub started: Instant,
    /// When the process started, unix ms.
    pub started_ms: i64,
    /// Path of the executable, for INFO.
    pub executable: String,
    /// Bytes allocated when the process was set up.
    pub startup_memory: u64,
    /// The configuration file, for INFO and CONFIG REWRITE.
    pub config_file: Option<String>,
    /// The TCP port in use.
    pub port: u16,
    next_client: AtomicU64,
    next_tx: AtomicU64,
    /// The stamp that was given last.
    last_stamp: CachePadded<AtomicU64>,
    /// The stamp behind the last one that is on the disk; 0 if there is no file to be there.
    durable: AtomicU64,
    /// Bytes of effects that have left their shard and are not where they belong.
    pub effects_under_way: CachePadded<AtomicUsize>,
    /// A shard waits for those bytes to become fewer.
    pub awaits_effects: AtomicBool,
    /// Connections of all shards.
    pub clients: AtomicUsize,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: AtomicU64,
    /// Connections of the cluster bus, as Redis counts them: two for every other node.
    pub cluster_connections: AtomicU64,
    /// Bytes that wait on them.
    pub cluster_link_bytes: AtomicU64,
    /// Until when the slots of this node are its own if it hears nothing more of its cluster, as Unix time in ms.
    pub cluster_lease_ms: AtomicU64,
    memory_peak: AtomicU64,
    /// Scripts and libraries.
    pub scripts: Store,
    /// What the control core tells of snapshots and files; INFO and LASTSAVE look at it.
    persistence: Mutex<PersistenceFacts>,
    /// What the control core tells of replication.
    replication: Mutex<ReplicationFacts>,
    /// Changes of the data set since the start, each shard in a place that others rarely use.
    changes: [CachePadded<AtomicU64>; CHANGE_PLACES],
    /// Changes that are in the last snapshot.
    saved_changes: AtomicU64,
}

const CHANGE_PLACES: usize = 64;

impl Process {
    /// The facts of a process that starts now.
    pub fn new(run_id: String, port: u16, config_file: Option<String>) -> Self {
        let executable =
            std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        Self {
            run_id,
            started: Instant::now(),
            started_ms: clock::unix_ms(),
            executable,
            startup_memory: memory::used_bytes() as u64,
            config_file,
            port,
            next_client: AtomicU64::new(1),
            next_tx: AtomicU64::new(1),
            last_stamp: CachePadded::new(AtomicU64::new(0)),
            durable: AtomicU64::new(0),
            effects_under_way: CachePadded::new(AtomicUsize::new(0)),
            awaits_effects: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            rejected_connections: AtomicU64::new(0),
            cluster_connections: AtomicU64::new(0),
            cluster_link_bytes: AtomicU64::new(0),
            cluster_lease_ms: AtomicU64::new(u64::MAX),
            memory_peak: AtomicU64::new(0),
            scripts: Store::default(),
            persistence: Mutex::new(PersistenceFacts {
                last_save: clock::unix_ms() / 1000,
                ..PersistenceFacts::default()
            }),
            replication: Mutex::new(ReplicationFacts::default()),
            changes: [const { CachePadded::new(AtomicU64::new(0)) }; CHANGE_PLACES],
            saved_changes: AtomicU64::new(0),
        }
    }

    /// A shard has changed so much; told once a turn.
    pub fn add_changes(&self, shard: ShardId, count: u64) {
        self.changes[shard.index() % CHANGE_PLACES].fetch_add(count, Ordering::Relaxed);
    }

    /// Changes of all shards since the start, and how many of them are in the last snapshot.
    pub fn changes(&self) -> (u64, u64) {
        let all = self.changes.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        (all, self.saved_changes.load(Ordering::Relaxed))
    }

    /// The first `count` changes are in the last snapshot, or were undone by loading one.
    pub fn note_saved_changes(&self, count: u64) {
        self.saved_changes.store(count, Ordering::Relaxed);
    }

    /// What is told of snapshots and files, to look at or to change.
    pub fn persistence(&self) -> std::sync::MutexGuard<'_, PersistenceFacts> {
        // Plain data: whoever panicked meanwhile has left it as good as it was.
        self.persistence.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What is told of replication, to look at or to change.
    pub fn replication(&self) -> std::sync::MutexGuard<'_, ReplicationFacts> {
        self.replication.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Connections refused so far.
    pub fn rejected_connections(&self) -> u64 {
        self.rejected_connections.load(Ordering::Relaxed)
    }

    /// Sets the counts of the process to zero (CONFIG RESETSTAT).
    pub fn reset_counts(&self) {
        self.rejected_connections.store(0, Ordering::Relaxed);
    }

    /// Notes how much memory is in use; returns the most that was ever noted.
    pub fn note_memory_peak(&self, used: u64) -> u64 {
        self.memory_peak.fetch_max(used, Ordering::Relaxed).max(used)
    }

    /// A number for a new client.
    pub fn client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new transaction, greater than all that were given out before.
    pub fn tx(&self) -> TxId {
        TxId(self.next_tx.fetch_add(1, Ordering::Relaxed))
    }

    /// The next stamp of the journal. To be taken before anything is sent or answered that follows from what it
    /// is for, which has to be sent to the control core soon.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.last_stamp.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Everything up to this stamp is in an append-only file on the disk, of which that can be said.
    pub fn note_durable(&self, stamp: Option<Stamp>) {
        self.durable.store(stamp.map_or(0, |stamp| stamp.0 + 1), Ordering::Release);
    }

    /// Whether everything that was stamped is in an append-only file on the disk.
    pub fn is_durable(&self) -> bool {
        let last = self.last_stamp();
        self.durable.load(Ordering::Acquire) > last.0
    }

    /// The stamp that was given last, by whichever core.
    pub fn last_stamp(&self) -> Stamp {
        Stamp(self.last_stamp.load(Ordering::Acquire))
    }
}
