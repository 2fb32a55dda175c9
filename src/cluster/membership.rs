//! Who belongs to the cluster, and who copies whom.

use super::event::Effect;
use super::machine::Cluster;
use super::node::Role;
use super::slot_set::SlotSet;
use super::table::{ME, NodeKey};

impl Cluster {
    /// Takes a node out of the cluster, and its key out of every place that has it.
    pub(super) fn remove_node(&mut self, key: NodeKey) {
        self.forget_links(key);
        self.give_up_slots(key);
        self.slots.forget_moves(key);
        self.detach(key);
        for replica in std::mem::take(&mut self.nodes[key].replicas) {
            self.nodes[replica].role = Role::Replica { of: None };
        }
        for other in self.nodes.keys_now() {
            self.nodes[other].reports.retain(|report| report.by != key);
        }
        self.election.votes.remove(&key);
        self.forget_manual_failover_with(key);
        let node = self.nodes.remove(key);
        if !node.in_handshake() {
            tracing::info!("node {} is forgotten", node.id);
            self.topology_changed();
        }
    }

    /// Makes `replica`, which must be one, a replica of `master`.
    pub(super) fn attach(&mut self, replica: NodeKey, master: NodeKey) {
        if self.nodes[replica].master() == Some(master) {
            return;
        }
        self.detach(replica);
        self.nodes[replica].role = Role::Replica { of: Some(master) };
        let master = &mut self.nodes[master];
        master.replicas.push(replica);
        master.wants_replicas = true;
        self.topology_changed();
    }

    /// Takes `key` off the list of its master's replicas, if it has a master.
    fn detach(&mut self, key: NodeKey) {
        let Some(master) = self.nodes[key].master() else { return };
        self.nodes[key].role = Role::Replica { of: None };
        let master = &mut self.nodes[master];
        master.replicas.retain(|replica| *replica != key);
        if master.replicas.is_empty() {
            master.wants_replicas = false;
        }
    }

    /// Makes a node a master, whatever it was.
    pub(super) fn make_master(&mut self, key: NodeKey) {
        if self.nodes[key].is_master() {
            return;
        }
        let had_master = self.nodes[key].master().is_some();
        self.detach(key);
        let node = &mut self.nodes[key];
        node.role = Role::Master;
        // Where there was a failover, there were replicas: the new master will want them back.
        if had_master && key != ME {
            node.wants_replicas = true;
        }
        self.topology_changed();
    }

    /// Makes this node a replica of `master`, which is another node.
    pub(super) fn become_replica_of(&mut self, master: NodeKey) {
        assert_ne!(master, ME, "a node cannot copy itself");
        if !self.nodes[ME].is_replica() {
            let me = &mut self.nodes[ME];
            me.role = Role::Replica { of: None };
            me.wants_replicas = false;
            self.slots.close_all();
        }
        self.forget_staged();
        self.attach(ME, master);
        self.reset_manual_failover();
        tracing::info!("this node becomes a replica of {}", self.nodes[master].id);
    }

    /// Forgets the cluster; with `hard`, itself too.
    pub(super) fn forget_all(&mut self, hard: bool) {
        if !self.i_am_master() {
            self.make_master(ME);
            self.out.push(Effect::FlushAll);
            self.shard_id = self.random.node_id();
        }
        self.slots.close_all();
        self.reset_manual_failover();
        self.election = Default::default();
        for slot in SlotSet::all().iter() {
            self.unassign(slot);
        }
        for key in self.nodes.keys_now() {
            if key != ME {
                self.remove_node(key);
            }
        }
        if hard {
            self.current_epoch = 0;
            self.last_vote_epoch = 0;
            self.nodes[ME].config_epoch = 0;
            let id = self.random.node_id();
            self.nodes.rename(ME, id);
            self.shard_id = self.random.node_id();
            tracing::info!("this node's id is now {id}");
        }
        self.topology_changed();
        self.save_first();
    }
}
