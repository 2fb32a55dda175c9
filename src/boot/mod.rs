//! From a configuration to a running server: what is checked, opened and started, in small steps.

pub mod banner;
pub mod daemon;
pub mod kernel_check;
pub mod limits;
pub mod listen;
pub mod placement;
pub mod signals;
