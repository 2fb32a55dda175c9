//! Several keys on several shards, one command or block: what keeps it atomic.
//!
//! [`locks`] decides on each shard who may go; the shard layer moves the messages. A transaction that
//! holds its keys everywhere borrows the entries of the other shards (a pointer each), runs its
//! commands where its connection lives, and gives the entries back. So every handler works over any
//! number of shards without knowing it, and the cost does not depend on the size of the values.
//!
//! [`watches`] and [`waits`] remember who wants to know of changes: WATCH, and clients that wait.

pub mod locks;
pub mod waits;
pub mod watches;

pub use locks::{KeyLock, LockTable, TxId, Verdict};
pub use waits::Waits;
pub use watches::{Watcher, Watches};
