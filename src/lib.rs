//! Corelane: a Redis-Cluster-compatible in-memory storage engine for bare-metal Linux.
//!
//! ARCHITECTURE.md follows one request through these modules.

pub mod lanes;
pub mod reactor;
pub mod slot;
