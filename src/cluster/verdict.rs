//! Whether this node may serve: not without a majority, and not with holes unless that is wanted.

use super::machine::Cluster;
use super::node::Health;
use super::table::ME;
use crate::slot::SLOT_COUNT;

/// A master that starts refuses commands this long, in milliseconds (Redis 7.0 `cluster.c`,
/// CLUSTER_WRITABLE_DELAY): others may have replaced it, and must have time to say so.
const WRITABLE_DELAY_MS: u64 = 2000;
/// Shortest time that a master refuses commands after it was in a minority, in milliseconds.
const REJOIN_DELAY_MS_MIN: u64 = 500;
/// Longest time.
const REJOIN_DELAY_MS_MAX: u64 = 5000;

/// What this node thinks of the cluster as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Whether commands with keys are refused.
    pub is_down: bool,
    /// Masters with slots: those who decide.
    pub size: usize,
    /// When this was first thought about.
    first_ms: Option<u64>,
    /// When this node was last in a minority.
    minority_ms: Option<u64>,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { is_down: true, size: 0, first_ms: None, minority_ms: None }
    }
}

impl Cluster {
    /// Thinks again about the cluster.
    pub(super) fn judge(&mut self) {
        let voters = || self.nodes.iter().filter(|(_, node)| node.votes());
        self.verdict.size = voters().count();
        let reached = voters().filter(|(_, node)| node.health == Health::Fine).count();
        self.note_voters();
        let in_minority = reached < self.quorum() || self.lease_ms() < self.now;
        let has_hole = self.settings.require_full_coverage && self.has_hole();
        if in_minority {
            self.verdict.minority_ms = Some(self.now);
        }
        let first_ms = *self.verdict.first_ms.get_or_insert(self.now);
        let is_down = in_minority || has_hole;
        if is_down == self.verdict.is_down || (!is_down && self.must_wait(first_ms)) {
            return;
        }
        tracing::info!("the cluster is {}", if is_down { "down" } else { "up" });
        self.verdict.is_down = is_down;
        self.todo.slot_map = true;
    }

    /// Whether a slot has no owner, or one that has failed.
    fn has_hole(&self) -> bool {
        let working = self.nodes.iter().filter(|(_, node)| !node.has_failed());
        let served: u16 = working.map(|(_, node)| node.slots.len()).sum();
        served < SLOT_COUNT
    }

    /// Whether a master that could serve must refuse for some time yet.
    fn must_wait(&self, first_ms: u64) -> bool {
        let rejoin = self.settings.node_timeout_ms.clamp(REJOIN_DELAY_MS_MIN, REJOIN_DELAY_MS_MAX);
        // A start that lies ahead, because the clock was put back, must not stop this node until then.
        let is_within = |start_ms: u64, delay_ms| {
            self.now.checked_sub(start_ms).is_some_and(|age_ms| age_ms < delay_ms)
        };
        self.nodes[ME].is_master()
            && (is_within(first_ms, WRITABLE_DELAY_MS)
                || self.verdict.minority_ms.is_some_and(|start_ms| is_within(start_ms, rejoin)))
    }
}
