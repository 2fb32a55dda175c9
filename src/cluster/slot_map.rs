//! What a data core must know of the cluster to answer or redirect a command: one immutable snapshot.

use std::collections::BTreeMap;

use super::address::Host;
use super::node_id::NodeId;
use super::shard_ports::ShardPorts;
use super::slot_set::SlotSet;
use crate::shard_map::ShardId;
use crate::slot::{SLOT_COUNT, Slot};

/// Who serves which slot, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotMap {
    /// Whether this node must refuse commands with keys.
    pub is_down: bool,
    /// The node whose data this node has: itself, or its master. An index of `nodes`.
    pub serving: Option<u16>,
    /// Whether this node is a replica.
    pub is_replica: bool,
    /// The owners of slots, and the nodes that slots are moving to or from; the first is this node.
    pub nodes: Vec<SlotOwner>,
    /// For each slot the index of its owner in `nodes`.
    owners: Box<[u16; SLOT_COUNT as usize]>,
    open: BTreeMap<Slot, Move>,
    /// Slots of other nodes whose keys come here as a whole: connections that bring them may write them.
    pub coming: SlotSet,
    /// Slots whose keys here, if there are some, no client sees: those that come, and those that were given up and are
    /// being deleted.
    pub staged: SlotSet,
}

/// A node that slots belong to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotOwner {
    /// Its id.
    pub id: NodeId,
    /// Where clients are told that it is, after `cluster-preferred-endpoint-type`: empty for "where you found
    /// me", `None` (which MOVED writes as `?`) for a host name that is not known.
    pub endpoint: Option<Host>,
    /// Its address.
    pub ip: Host,
    /// Its port for clients; the TLS port if the bus uses TLS.
    pub port: u16,
    /// Its port without TLS if `port` is for TLS, else 0.
    pub plain_port: u16,
    /// The ports of its shards, if they have some.
    pub shard_ports: Option<ShardPorts>,
}

impl SlotOwner {
    /// Where clients find `slot`. It makes no difference at which port they ask: if a client heard of the main port
    /// there and of the shard's port here, its table would never agree with what it is told.
    pub fn port_of(&self, slot: Slot) -> u16 {
        match (self.shard_ports, self.plain_port) {
            (Some(ports), _) => ports.port_of(slot),
            (None, 0) => self.port,
            (None, plain_port) => plain_port,
        }
    }
}

impl SlotOwner {
    /// Whether clients find it at this port.
    pub fn listens_at(&self, port: u16) -> bool {
        let of_shard = self.shard_ports.is_some_and(|ports| ports.shard_at(port).is_some());
        of_shard || port == self.port || (self.plain_port != 0 && port == self.plain_port)
    }

    /// Whether a redirection to it names this host.
    pub fn is_called(&self, host: &str) -> bool {
        match &self.endpoint {
            Some(endpoint) => endpoint.as_str() == host,
            None => host == "?",
        }
    }
}

/// A slot on its way; the node is an index of [`SlotMap::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// From here to that node.
    To(u16),
    /// To here from that node.
    From(u16),
}

/// What this node is to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenure<'a> {
    /// Nobody owns it.
    Unassigned,
    /// It is ours.
    Owned,
    /// It is ours, and its keys are on their way to another node.
    Migrating {
        /// Where to.
        to: &'a SlotOwner,
    },
    /// It belongs to another node (or to nobody, any more), and its keys are on their way to here.
    Importing {
        /// Whose it is.
        owner: Option<&'a SlotOwner>,
    },
    /// It belongs to our master.
    OfMaster {
        /// The master.
        owner: &'a SlotOwner,
    },
    /// It belongs to another node.
    Elsewhere {
        /// Whose it is.
        owner: &'a SlotOwner,
    },
}

/// What stands for no owner in the table of owners.
const NOBODY: u16 = u16::MAX;

impl SlotMap {
    /// A map without owners, of a node in a cluster that is down.
    pub fn new(me: SlotOwner) -> Self {
        Self {
            is_down: true,
            serving: None,
            is_replica: false,
            nodes: vec![me],
            owners: Box::new([NOBODY; SLOT_COUNT as usize]),
            open: BTreeMap::new(),
            coming: SlotSet::new(),
            staged: SlotSet::new(),
        }
    }

    /// `slot` belongs to this one of [`SlotMap::nodes`].
    pub fn set_owner(&mut self, slot: Slot, node: u16) {
        self.owners[slot.index()] = node;
    }

    /// All of `slots` belong to this one of [`SlotMap::nodes`].
    pub fn set_owner_of_all(&mut self, slots: &SlotSet, node: u16) {
        for (first, last) in slots.ranges() {
            self.owners[first.index()..=last.index()].fill(node);
        }
    }

    /// `slot` is on its way.
    pub fn set_move(&mut self, slot: Slot, way: Move) {
        self.open.insert(slot, way);
    }

    /// The owner of `slot`.
    pub fn owner(&self, slot: Slot) -> Option<&SlotOwner> {
        self.nodes.get(usize::from(self.owners[slot.index()]))
    }

    /// Where clients ask for what of `slot` has gone to that node already: at its shard with the most slots. Clients
    /// know only shards that had slots when they last asked for the table, and some cannot ask one that they do
    /// not know: the shard that gets the slot may have got its first ones a moment ago. Any shard of the node will do.
    pub fn port_to_ask(&self, slot: Slot, to: &SlotOwner) -> u16 {
        let (Some(ports), Some(node)) =
            (to.shard_ports, self.nodes.iter().position(|node| node.id == to.id))
        else {
            return to.port_of(slot);
        };
        let mut counts = vec![0_u16; usize::from(ports.count())];
        let slots = (0..SLOT_COUNT).filter_map(Slot::new);
        let theirs = slots.filter(|slot| usize::from(self.owners[slot.index()]) == node);
        theirs.for_each(|slot| counts[ports.shard_of(slot).index()] += 1);
        let most = (0..ports.count()).map(ShardId).max_by_key(|shard| counts[shard.index()]);
        let known = most.filter(|shard| counts[shard.index()] > 0);
        ports.port(known.unwrap_or(ports.shard_of(slot)))
    }

    /// What this node is to `slot`.
    pub fn tenure(&self, slot: Slot) -> Tenure<'_> {
        let index = self.owners[slot.index()];
        let owner = self.nodes.get(usize::from(index));
        match (self.open.get(&slot), owner) {
            (Some(Move::From(_)), owner) => Tenure::Importing { owner },
            (Some(Move::To(to)), Some(owner)) => match self.nodes.get(usize::from(*to)) {
                Some(to) => Tenure::Migrating { to },
                None => Tenure::Elsewhere { owner },
            },
            (None, Some(_)) if index == 0 => Tenure::Owned,
            (None, Some(owner)) if self.is_replica && self.serving == Some(index) => {
                Tenure::OfMaster { owner }
            }
            (None, Some(owner)) => Tenure::Elsewhere { owner },
            (_, None) => Tenure::Unassigned,
        }
    }

    /// Whether `slot` belongs to the node whose data this one has.
    pub fn has_data(&self, slot: Slot) -> bool {
        self.serving == Some(self.owners[slot.index()])
    }

    /// Whether this node owns `slot`, whatever is on its way.
    pub fn owns(&self, slot: Slot) -> bool {
        self.owners[slot.index()] == 0
    }
}
