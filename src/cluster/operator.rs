//! What an operator does to a node and its cluster: MEET, FORGET, REPLICATE, RESET, FAILOVER and epochs.

use std::net::IpAddr;

use super::address::{Address, BUS_PORT_OFFSET};
use super::command::quoted;
use super::event::Effect;
use super::machine::Cluster;
use super::manual_failover::FailoverKind;
use super::node_id::NodeId;
use super::refusal::Refusal;
use super::slot_set::SlotSet;
use super::table::{ME, NodeKey};
use crate::datatypes::number::parse_i64;

/// A forgotten node must not come back by gossip for so long, in milliseconds (Redis 7.0 `cluster.c`,
/// CLUSTER_BLACKLIST_TTL): time to tell all others to forget it.
pub(super) const FORGOTTEN_MS: u64 = 60_000;

impl Cluster {
    /// CLUSTER MEET: asks the node at this address to let this one in.
    pub fn meet(&mut self, now_ms: u64, address: Address, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        self.start_handshake(address, true);
        self.finish(effects);
    }

    /// CLUSTER FAILOVER: takes over from the master.
    pub fn fail_over(
        &mut self,
        now_ms: u64,
        kind: FailoverKind,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.begin(now_ms);
        let begun = self.begin_failover(kind);
        self.finish(effects);
        begun
    }

    pub(super) fn begin_failover(&mut self, kind: FailoverKind) -> Result<(), Refusal> {
        if self.i_am_master() {
            return Err(Refusal::FailoverOnMaster);
        }
        let master = self.nodes[ME].master().ok_or(Refusal::FailoverOfUnknown)?;
        let node = &self.nodes[master];
        if kind == FailoverKind::Plain && (node.has_failed() || node.link.is_none()) {
            return Err(Refusal::FailoverOfFailed);
        }
        self.start_manual_failover(kind, master);
        Ok(())
    }

    /// MEET ip port [bus port]; host names are not looked up.
    pub(super) fn meet_by_words(
        &mut self,
        ip: &[u8],
        port_word: &[u8],
        bus_word: Option<&Vec<u8>>,
    ) -> Result<(), Refusal> {
        let port = parse_i64(port_word).ok_or_else(|| Refusal::BadPort(quoted(port_word)))?;
        let bus_port = match bus_word {
            Some(word) => parse_i64(word).ok_or_else(|| Refusal::BadBusPort(quoted(word)))?,
            None => port.saturating_add(i64::from(BUS_PORT_OFFSET)),
        };
        let fits = |port: i64| u16::try_from(port).ok().filter(|port| *port != 0);
        let parsed = str::from_utf8(ip).ok().and_then(|ip| ip.parse::<IpAddr>().ok());
        let (Some(ip), Some(port), Some(bus_port)) = (parsed, fits(port), fits(bus_port)) else {
            return Err(Refusal::BadAddress(quoted(ip), quoted(port_word)));
        };
        self.start_handshake(Address { ip: ip.into(), port, plain_port: 0, bus_port }, true);
        Ok(())
    }

    /// The node that an argument names.
    pub(super) fn named(&self, word: &[u8]) -> Result<NodeKey, Refusal> {
        let known = NodeId::parse(word).and_then(|id| self.nodes.find(&id));
        known.ok_or_else(|| Refusal::UnknownNode(quoted(word)))
    }

    /// FORGET: takes a node out, and keeps it out for a while.
    pub(super) fn forget(&mut self, node: &[u8]) -> Result<(), Refusal> {
        let key = self.named(node)?;
        if key == ME {
            return Err(Refusal::ForgetMyself);
        }
        if self.nodes[ME].master() == Some(key) {
            return Err(Refusal::ForgetMaster);
        }
        let id = self.nodes[key].id;
        self.is_forgotten(&id); // Lets go of those whose time is over.
        self.forgotten.insert(id, self.now + FORGOTTEN_MS);
        self.remove_node(key);
        self.topology_changed();
        Ok(())
    }

    /// REPLICATE: copies that master from now on.
    pub(super) fn replicate(&mut self, node: &[u8], kept: &SlotSet) -> Result<(), Refusal> {
        let key = self.named(node)?;
        if key == ME {
            return Err(Refusal::ReplicateMyself);
        }
        if self.nodes[key].is_replica() {
            return Err(Refusal::ReplicateReplica);
        }
        let has_data = !self.nodes[ME].slots.is_empty() || !kept.is_empty();
        if self.i_am_master() && has_data {
            return Err(Refusal::ReplicateWithData);
        }
        self.become_replica_of(key);
        self.topology_changed();
        Ok(())
    }

    /// CLUSTER RESET: forgets the cluster; with `hard`, itself too.
    pub(super) fn reset_without_keys(&mut self, hard: bool, kept: &SlotSet) -> Result<(), Refusal> {
        if self.i_am_master() && !kept.is_empty() {
            return Err(Refusal::ResetWithKeys);
        }
        self.forget_all(hard);
        Ok(())
    }

    /// SET-CONFIG-EPOCH: the epochs of a new cluster are dealt out, so that none collide.
    pub(super) fn set_config_epoch(&mut self, word: &[u8]) -> Result<(), Refusal> {
        let epoch = parse_i64(word).ok_or(Refusal::NotInteger)?;
        let valid = u64::try_from(epoch).map_err(|_| Refusal::BadEpoch(epoch))?;
        if self.nodes.len() > 1 {
            return Err(Refusal::EpochAmongOthers);
        }
        if self.nodes[ME].config_epoch != 0 {
            return Err(Refusal::EpochIsSet);
        }
        self.nodes[ME].config_epoch = valid;
        self.current_epoch = self.current_epoch.max(valid);
        self.topology_changed();
        self.save_first();
        Ok(())
    }

    /// The epoch of the claim that this node, or its master, has to its slots.
    pub(super) fn my_epoch(&self) -> u64 {
        self.nodes[self.nodes[ME].master().unwrap_or(ME)].config_epoch
    }
}
