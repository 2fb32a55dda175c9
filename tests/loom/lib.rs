//! The lanes as they ship, in a crate of their own, so that `--cfg loom` replaces their atomics and nothing else.
//!
//! Without that cfg this is an empty crate.

#[cfg(loom)]
#[path = "../../src/lanes/mod.rs"]
pub mod lanes;
