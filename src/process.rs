//! What all cores of the process share: a handful of atomic counters and facts fixed at the start.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::clock;
use crate::memory;
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
    /// Allocated at the start, before any data.
    pub startup_bytes: usize,
    /// The configuration file, for INFO and CONFIG REWRITE.
    pub config_file: Option<String>,
    /// The TCP port in use.
    pub port: u16,
    next_client: AtomicU64,
    next_tx: AtomicU64,
    /// Connections of all shards.
    pub clients: AtomicUsize,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: AtomicU64,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: AtomicBool,
}

impl Process {
    /// The facts of a process that starts now.
    pub fn new(run_id: String, port: u16, config_file: Option<String>) -> Self {
        let executable =
            std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_ms: clock::unix_ms(),
            executable,
            startup_bytes: memory::used_bytes(),
            run_id,
            config_file,
            port,
            next_client: AtomicU64::new(1),
            next_tx: AtomicU64::new(1),
            clients: AtomicUsize::new(0),
            rejected_connections: AtomicU64::new(0),
            active_expire: AtomicBool::new(true),
        }
    }

    /// A number for a new client.
    pub fn client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new transaction, greater than all that were given out before.
    pub fn tx(&self) -> TxId {
        TxId(self.next_tx.fetch_add(1, Ordering::Relaxed))
    }
}
