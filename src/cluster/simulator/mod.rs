//! A world of nodes on one thread: no socket, no clock, no file. A seed decides what is lost, delayed, cut and
//! killed, so a run that fails fails again.
//!
//! After every step: no two nodes take writes for one slot in one epoch, nobody votes twice in an epoch,
//! no epoch goes back. When the faults end, all agree within a bounded time. `crate::seeds` says how to run
//! one seed again, and millions.

mod checks;
mod host;
mod scenarios;
mod world;

/// A rule of the protocol that is broken on purpose: the checks must find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BrokenRule {
    /// A node votes although it has voted in this epoch.
    VoteTwice,
}
