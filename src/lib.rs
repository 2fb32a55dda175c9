//! Corelane: a Redis-Cluster-compatible in-memory storage engine for bare-metal Linux.
//!
//! ARCHITECTURE.md follows one request through these modules.

pub mod admin;
pub mod boot;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod config;
pub mod control;
pub mod datatypes;
pub mod entropy;
pub mod journal;
pub mod keyspace;
pub mod lanes;
pub mod memory;
pub mod persistence;
pub mod process;
pub mod pubsub;
pub mod reactor;
pub mod replication;
pub mod resp;
pub mod scripting;
#[cfg(test)]
mod seeds;
pub mod session;
pub mod shard;
pub mod shard_map;
pub mod slot;
pub mod transaction;
