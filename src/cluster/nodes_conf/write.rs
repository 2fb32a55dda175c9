//! Nodes as lines, for nodes.conf and CLUSTER NODES.

use std::fmt::Write;

use crate::cluster::bus::NodeFlags;
use crate::cluster::machine::Cluster;
use crate::cluster::ownership::OpenSlot;
use crate::cluster::table::{ME, NodeKey};

/// The flags that have a name, in the order in which they are written.
pub(super) const FLAG_NAMES: [(NodeFlags, &str); 8] = [
    (NodeFlags::MYSELF, "myself"),
    (NodeFlags::MASTER, "master"),
    (NodeFlags::REPLICA, "slave"),
    (NodeFlags::PFAIL, "fail?"),
    (NodeFlags::FAIL, "fail"),
    (NodeFlags::HANDSHAKE, "handshake"),
    (NodeFlags::NO_ADDRESS, "noaddr"),
    (NodeFlags::NO_FAILOVER, "nofailover"),
];

/// What stands for no flag.
pub(super) const NO_FLAGS: &str = "noflags";

impl Cluster {
    /// The content of nodes.conf.
    pub fn nodes_conf(&self) -> String {
        let mut out = String::new();
        for (key, node) in self.nodes.iter() {
            if !node.in_handshake() {
                self.write_node_line(key, &mut out);
                out.push('\n');
            }
        }
        let (epoch, voted) = (self.current_epoch, self.last_vote_epoch);
        // Redis 7.0 skips variables that it does not know; in the line of a node it would take the id for a host name.
        let shard = self.shard_id;
        let _ = write!(out, "vars shardId {shard} currentEpoch {epoch} lastVoteEpoch {voted}");
        for (at, (first, last)) in self.moves.staged().ranges().enumerate() {
            out.push_str(if at == 0 { " staged " } else { "," });
            let _ = write!(out, "{}-{}", first.get(), last.get());
        }
        out.push('\n');
        out
    }

    /// The lines of CLUSTER NODES.
    pub fn node_lines(&self) -> String {
        let mut out = String::new();
        for key in self.nodes.keys() {
            self.write_node_line(key, &mut out);
            out.push('\n');
        }
        out
    }

    /// The line of one node, without its end. Writing to a string does not fail.
    pub(in crate::cluster) fn write_node_line(&self, key: NodeKey, out: &mut String) {
        let node = &self.nodes[key];
        let _ = write!(out, "{} {}", node.id, node.address);
        if !node.hostname.is_empty() {
            let _ = write!(out, ",{}", node.hostname);
        }
        out.push(' ');
        write_flags(node.flags(), out);
        match node.master() {
            Some(master) => {
                let _ = write!(out, " {}", self.nodes[master].id);
            }
            None => out.push_str(" -"),
        }
        let epoch = self.nodes[node.master().unwrap_or(key)].config_epoch;
        let is_connected = node.is_me || node.link.is_some();
        let _ = write!(
            out,
            " {} {} {epoch} {}",
            node.ping_sent_ms,
            node.pong_received_ms,
            if is_connected { "connected" } else { "disconnected" }
        );
        self.write_slots(key, out);
    }

    fn write_slots(&self, key: NodeKey, out: &mut String) {
        for (first, last) in self.nodes[key].slots.ranges() {
            let _ = match (first.get(), last.get()) {
                (first, last) if first == last => write!(out, " {first}"),
                (first, last) => write!(out, " {first}-{last}"),
            };
        }
        if key != ME {
            return;
        }
        for (slot, open) in self.slots.open() {
            let slot = slot.get();
            let _ = match open {
                OpenSlot::MigratingTo(node) => write!(out, " [{slot}->-{}]", self.nodes[node].id),
                OpenSlot::ImportingFrom(node) => {
                    write!(out, " [{slot}-<-{}]", self.nodes[node].id)
                }
            };
        }
    }
}

fn write_flags(flags: NodeFlags, out: &mut String) {
    let start = out.len();
    for (flag, name) in FLAG_NAMES {
        if flags.has(flag) {
            if out.len() > start {
                out.push(',');
            }
            out.push_str(name);
        }
    }
    if out.len() == start {
        out.push_str(NO_FLAGS);
    }
}
