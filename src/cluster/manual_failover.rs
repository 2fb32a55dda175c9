//! CLUSTER FAILOVER: a replica takes its master's place although the master lives, and no write is lost.
//!
//! The master stops its writers and tells its last offset; when the replica has got there, it asks for votes.
//!
//! Promise: writers go on only when the replica cannot win any more. It stops trying
//! [`WIN_MARGIN_MS`] before the master's pause ends, which is time for the news of a win to arrive.

use super::bus::{Header, MessageFlags};
use super::event::{Effect, LinkId};
use super::machine::Cluster;
use super::table::{ME, NodeKey};

/// How long a manual failover may take, in milliseconds (Redis 7.0 `cluster.h`, CLUSTER_MF_TIMEOUT).
const FAILOVER_MS: u64 = 5000;
/// How long writers are stopped at most, in milliseconds: of use only if the node itself hangs.
const PAUSE_MS: u64 = 2 * FAILOVER_MS;
/// The replica gives up this much earlier than the master, in milliseconds.
const WIN_MARGIN_MS: u64 = 500;

/// A manual failover, as the two that it concerns see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ManualFailover {
    /// There is none.
    None,
    /// This node is the master and waits to be replaced.
    Yielding {
        /// By this replica.
        to: NodeKey,
        /// When it gives up waiting.
        deadline_ms: u64,
        /// Whether all writers stand still, so that the offset is final.
        paused: bool,
    },
    /// This node is the replica.
    Taking {
        /// When it gives up.
        deadline_ms: u64,
        /// What it waits for.
        stage: Stage,
    },
}

/// What a replica waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// To hear the master's last offset.
    Offset,
    /// To have processed as much.
    Data {
        /// The master's last offset.
        offset: u64,
    },
    /// For votes.
    Votes,
}

/// How a replica is to take over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailoverKind {
    /// With the master's help.
    Plain,
    /// Without the master, with the votes of a majority (FORCE).
    Force,
    /// Without anybody (TAKEOVER).
    Takeover,
}

impl Cluster {
    /// Begins to take over from `master`, which is this node's.
    pub(super) fn start_manual_failover(&mut self, kind: FailoverKind, master: NodeKey) {
        self.reset_manual_failover();
        self.forget_election();
        let deadline_ms = self.now + FAILOVER_MS - WIN_MARGIN_MS;
        match kind {
            FailoverKind::Takeover => {
                tracing::info!("taking over from the master, nobody is asked");
                self.bump_epoch();
                self.replace_master(master);
            }
            FailoverKind::Force => {
                self.manual = ManualFailover::Taking { deadline_ms, stage: Stage::Votes };
            }
            FailoverKind::Plain => {
                self.manual = ManualFailover::Taking { deadline_ms, stage: Stage::Offset };
                self.send_manual_failover_start(master);
            }
        }
    }

    /// A replica asks this node to step back.
    pub(super) fn on_manual_failover_start(&mut self, replica: NodeKey) {
        if !self.i_am_master() || self.nodes[replica].master() != Some(ME) {
            return;
        }
        self.reset_manual_failover();
        tracing::info!("replica {} asks to take over", self.nodes[replica].id);
        let deadline_ms = self.now + FAILOVER_MS;
        self.manual = ManualFailover::Yielding { to: replica, deadline_ms, paused: false };
        self.out.push(Effect::PauseWrites { until_ms: self.now + PAUSE_MS });
    }

    /// The writers stand still: the replica may hear the offset.
    pub(super) fn on_writes_paused(&mut self, offset: u64) {
        let ManualFailover::Yielding { to, paused, .. } = &mut self.manual else { return };
        *paused = true;
        let replica = *to;
        self.replication.offset = offset;
        self.nodes[ME].offset = offset;
        // As Redis does, on the link that the replica opened if there is one.
        let inbound = self.nodes[replica].inbound.map(LinkId::From);
        if let Some(link) = inbound.or(self.link_to(replica)) {
            self.send_ping_on(link, replica);
        } // Otherwise the next tick opens a link and pings again.
    }

    /// A header that a paused master sent has its last offset.
    pub(super) fn hear_paused_master(&mut self, sender: NodeKey, header: &Header) {
        let is_master = self.nodes[ME].master() == Some(sender);
        let is_paused = header.message_flags.has(MessageFlags::PAUSED);
        if let ManualFailover::Taking { stage: stage @ Stage::Offset, .. } = &mut self.manual
            && is_master
            && is_paused
        {
            *stage = Stage::Data { offset: header.offset };
        }
    }

    pub(super) fn advance_manual_failover(&mut self) {
        let processed = self.replication.offset;
        if let ManualFailover::Taking { stage, .. } = &mut self.manual
            && *stage == (Stage::Data { offset: processed })
        {
            *stage = Stage::Votes;
        }
    }

    /// Whether this replica is to be elected although its master lives.
    pub(super) fn manual_failover_is_ready(&self) -> bool {
        matches!(self.manual, ManualFailover::Taking { stage: Stage::Votes, .. })
    }

    pub(super) fn end_manual_failover_in_time(&mut self) {
        let (ManualFailover::Yielding { deadline_ms, .. }
        | ManualFailover::Taking { deadline_ms, .. }) = self.manual
        else {
            return;
        };
        if self.now > deadline_ms {
            tracing::warn!("the manual failover took too long");
            if self.takes_over_by_hand() {
                self.forget_election(); // Votes that still come would be too late.
            }
            self.reset_manual_failover();
        }
    }

    /// Whether this node is a replica in a manual failover.
    pub fn takes_over_by_hand(&self) -> bool {
        matches!(self.manual, ManualFailover::Taking { .. })
    }

    /// Ends a manual failover, whatever came of it.
    pub(super) fn reset_manual_failover(&mut self) {
        let before = std::mem::replace(&mut self.manual, ManualFailover::None);
        if matches!(before, ManualFailover::Yielding { .. }) {
            self.out.push(Effect::ResumeWrites);
        }
    }

    /// The other side of a manual failover is gone.
    pub(super) fn forget_manual_failover_with(&mut self, node: NodeKey) {
        if matches!(self.manual, ManualFailover::Yielding { to, .. } if to == node) {
            self.reset_manual_failover();
        }
    }
}
