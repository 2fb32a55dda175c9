//! Corelane: a Redis-Cluster-compatible in-memory storage engine for bare-metal Linux.
//!
//! ARCHITECTURE.md follows one request through these modules.

pub mod boot;
pub mod config;
pub mod slot;
