//! Replica migration: a replica that its master can spare goes to a master that has lost all of its own.

use super::machine::Cluster;
use super::node::{Health, Node};
use super::table::{ME, NodeKey};

/// A master must be without replicas this long, in milliseconds (Redis 7.0 `cluster.h`,
/// CLUSTER_SLAVE_MIGRATION_DELAY): after a failover its own will come back to it.
const ORPHANED_MS_MIN: u64 = 5000;

impl Cluster {
    /// Makes this node a replica of an orphaned master if it is the one to go.
    pub(super) fn migrate_to_orphaned_master(&mut self) {
        let orphans = self.watch_orphans();
        let Some(my_master) = self.nodes[ME].master() else { return };
        if !self.settings.allow_replica_migration || self.verdict.is_down || orphans.is_empty() {
            return;
        }
        let most = self.masters().map(|(key, _)| self.working_replicas(key)).max().unwrap_or(0);
        let mine = self.working_replicas(my_master);
        let can_be_spared = most >= 2 && mine == most && mine > self.settings.migration_barrier;
        if !can_be_spared || !self.has_smallest_id(most) {
            return;
        }
        let target = orphans
            .into_iter()
            .find(|key| self.now.saturating_sub(self.nodes[*key].orphaned_ms) > ORPHANED_MS_MIN);
        if let Some(target) = target {
            tracing::info!("migrating to the orphaned master {}", self.nodes[target].id);
            self.become_replica_of(target);
        }
    }

    /// Notes since when masters are without replicas; returns those that want one.
    fn watch_orphans(&mut self) -> Vec<NodeKey> {
        let now = self.now;
        let mut orphans = Vec::new();
        for key in self.masters().map(|(key, _)| key).collect::<Vec<_>>() {
            let is_served = self.working_replicas(key) > 0;
            let node = &mut self.nodes[key];
            if is_served || node.slots.is_empty() || !node.wants_replicas {
                node.orphaned_ms = 0;
                continue;
            }
            if node.orphaned_ms == 0 {
                node.orphaned_ms = now;
            }
            orphans.push(key);
        }
        orphans
    }

    fn masters(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.is_master() && !node.has_failed())
    }

    fn working_replicas(&self, master: NodeKey) -> usize {
        let works = |key: &&NodeKey| self.nodes[**key].health == Health::Fine;
        self.nodes[master].replicas.iter().filter(works).count()
    }

    /// Whether no replica of a master with `most` working replicas has a smaller id than this node: all of
    /// them see the same orphan, and one is to go.
    fn has_smallest_id(&self, most: usize) -> bool {
        let my_id = self.nodes[ME].id;
        self.masters()
            .filter(|(key, _)| self.working_replicas(*key) == most)
            .flat_map(|(_, master)| &master.replicas)
            .filter(|key| self.nodes[**key].health == Health::Fine)
            .all(|key| self.nodes[*key].id >= my_id)
    }
}
