//! The file in which a node keeps what it knows of the cluster, in Redis's format.
//!
//! One line per node as CLUSTER NODES shows it, then `vars`. Redis 7.0 reads what is written here, and files of
//! Redis 7.0, 7.2 and Valkey 8 are read.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub(super) use read::read_range;
pub use read::{NodesConf, NodesConfError};
