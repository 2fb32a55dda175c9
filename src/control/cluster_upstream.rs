//! Where the cluster and replication meet: the node decides whose data is copied, replication copies it.
//!
//! Replication changes its role in steps, and one change has to be over before the next begins. So what the node
//! wants is kept until then; only its last word counts.

use std::time::Duration;

use super::Control;
use crate::clock;
use crate::cluster::Event;
use crate::cluster::event::{MasterLink, Replication, Upstream};

impl Control {
    /// Copies the data of this node from now on, or nobody's.
    pub(super) fn set_upstream(&mut self, upstream: Upstream) {
        if let Some(cluster) = &mut self.cluster {
            cluster.wanted = Some(upstream);
        }
    }

    /// Does what the node wants as soon as it can be done; to be called every turn.
    pub(super) fn follow_as_wanted(&mut self) {
        if self.loading.is_some() || self.is_changing_role() {
            return;
        }
        let Some(wanted) = self.cluster.as_mut().and_then(|cluster| cluster.wanted.take()) else {
            return;
        };
        if let Some(cluster) = &mut self.cluster {
            cluster.has_data = false;
        }
        match wanted {
            Upstream::None => self.follow_nobody(None),
            Upstream::Node { id, ip, port } => {
                tracing::info!("following {id} at {ip}:{port}");
                self.follow_another(ip.to_string(), port, None);
            }
            // Its address comes with a ping of somebody who knows it.
            Upstream::Unreachable => tracing::warn!("nobody knows where the master is"),
        }
    }

    /// How replication stands.
    pub(super) fn replication_facts(&mut self) -> Replication {
        let Some(upstream) = &self.replication.upstream else {
            let offset = self.replication.master.history.end;
            return Replication { offset, master_link: MasterLink::Never };
        };
        let link = &upstream.link;
        let (heard_ms, down_since_ms) = link.times();
        let Some(cluster) = &mut self.cluster else { return Replication::default() };
        cluster.has_data |= link.is_up();
        let master_link = match down_since_ms {
            _ if link.is_up() => MasterLink::Up { heard_ms: heard_ms.max(0) as u64 },
            Some(since_ms) if cluster.has_data => {
                MasterLink::Down { since_ms: since_ms.max(0) as u64 }
            }
            _ => MasterLink::Never,
        };
        let offset = if cluster.has_data { link.position() } else { 0 };
        Replication { offset, master_link }
    }

    /// A replica that takes over by hand waits for a position: it is told of each step.
    pub(super) fn go_on_with_takeover(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.node.takes_over_by_hand() {
            let facts = self.replication_facts();
            self.cluster_step(Event::Replication(facts));
        }
    }

    // ---- writes stand still ----

    /// Lets no client write until this time, for a manual failover.
    pub(super) fn pause_writes(&mut self, until_ms: u64) {
        let ms = until_ms.saturating_sub(clock::unix_ms() as u64);
        tracing::info!("writes pause for {ms} ms at most, for a manual failover");
        self.pause_for_cluster(Duration::from_millis(ms));
    }

    /// Lets clients write again, or be sent to whom they may.
    pub(super) fn resume_writes(&mut self) {
        self.resume_for_cluster();
    }
}
