//! What this node knows of one node of the cluster, itself included.

use super::address::{Address, Host};
use super::bus::NodeFlags;
use super::node_id::NodeId;
use super::shard_ports::ShardPorts;
use super::slot_set::SlotSet;
use super::table::NodeKey;

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id; random as long as it is in handshake.
    pub id: NodeId,
    /// Whether it is this node.
    pub is_me: bool,
    /// What it is to the data.
    pub role: Role,
    /// Whether it can be reached.
    pub health: Health,
    /// Whether it has been met.
    pub contact: Contact,
    /// Where it is.
    pub address: Address,
    /// Its host name, possibly empty.
    pub hostname: Host,
    /// The ports of its shards, if they have some and this node has heard of them.
    pub shard_ports: Option<ShardPorts>,
    /// Whether it reads in pings which ports the shards of others have; nothing before it is heard.
    pub reads_shard_ports: Option<bool>,
    /// Whether it is a master that had replicas, so that some may migrate to it.
    pub wants_replicas: bool,
    /// Whether it is a replica that does not stand for election.
    pub no_failover: bool,
    /// The epoch of its claim to its slots; of a replica, meaningless.
    pub config_epoch: u64,
    /// The slots that it owns.
    pub slots: SlotSet,
    /// Its replicas.
    pub replicas: Vec<NodeKey>,
    /// The replication offset that it last told.
    pub offset: u64,
    /// Since when a pong is due, in milliseconds since 1970; 0 if none is.
    pub ping_sent_ms: u64,
    /// When the last ping that was answered had been sent; 0 if none was.
    pub answered_ms: u64,
    /// Since when its vote counts; 0 if it does not.
    pub voter_since_ms: u64,
    /// When it was last asked to let this node in (MEET), as long as it has not called back.
    pub uncalled_since_ms: Option<u64>,
    /// When the last pong came.
    pub pong_received_ms: u64,
    /// When anything last came.
    pub data_received_ms: u64,
    /// When it became known.
    pub created_ms: u64,
    /// When this node last voted for a replica of it; 0 for never.
    pub voted_ms: u64,
    /// Since when it has slots and no working replica; 0 if it has one.
    pub orphaned_ms: u64,
    /// The link to it.
    pub link: Option<Outbound>,
    /// The number of the link from it.
    pub inbound: Option<u64>,
    /// Who says that it cannot be reached.
    pub reports: Vec<FailureReport>,
}

/// What a node is to the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Not known yet.
    Unknown,
    /// It may own slots.
    Master,
    /// It copies a master.
    Replica {
        /// The master, if it is known.
        of: Option<NodeKey>,
    },
}

/// Whether a node can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// As far as known.
    Fine,
    /// Not from here (PFAIL).
    Suspect,
    /// A majority says no (FAIL).
    Failed {
        /// Since when.
        since_ms: u64,
    },
}

/// Whether a node has been met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contact {
    /// Its id is not known yet.
    Handshake {
        /// Whether it must be asked to let this node in (MEET).
        meet: bool,
    },
    /// It is known.
    Known,
    /// It is known, but not where it is (NOADDR).
    Lost,
}

/// A link to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// Its number.
    pub number: u64,
    /// When it was asked for.
    pub created_ms: u64,
}

/// Somebody says that a node cannot be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailureReport {
    /// Who says so.
    pub by: NodeKey,
    /// When it last said so.
    pub at_ms: u64,
}

impl Node {
    /// A node of which nothing is known but where it is.
    pub fn new(id: NodeId, contact: Contact, address: Address, now_ms: u64) -> Self {
        Self {
            id,
            is_me: false,
            role: Role::Unknown,
            health: Health::Fine,
            contact,
            address,
            hostname: Host::default(),
            shard_ports: None,
            reads_shard_ports: None,
            wants_replicas: false,
            no_failover: false,
            config_epoch: 0,
            slots: SlotSet::new(),
            replicas: Vec::new(),
            offset: 0,
            ping_sent_ms: 0,
            answered_ms: 0,
            voter_since_ms: 0,
            uncalled_since_ms: None,
            pong_received_ms: 0,
            data_received_ms: 0,
            created_ms: now_ms,
            voted_ms: 0,
            orphaned_ms: 0,
            link: None,
            inbound: None,
            reports: Vec::new(),
        }
    }

    /// Whether it is a master.
    pub fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    /// Whether it is a replica.
    pub fn is_replica(&self) -> bool {
        matches!(self.role, Role::Replica { .. })
    }

    /// Whether its vote counts: masters with slots decide.
    pub fn votes(&self) -> bool {
        self.is_master() && !self.slots.is_empty()
    }

    /// Its master, if it is a replica and the master is known.
    pub fn master(&self) -> Option<NodeKey> {
        match self.role {
            Role::Replica { of } => of,
            Role::Master | Role::Unknown => None,
        }
    }

    /// Whether its id is not known yet.
    pub fn in_handshake(&self) -> bool {
        matches!(self.contact, Contact::Handshake { .. })
    }

    /// Whether a majority has lost it.
    pub fn has_failed(&self) -> bool {
        matches!(self.health, Health::Failed { .. })
    }

    /// What it is, in bits.
    pub fn flags(&self) -> NodeFlags {
        let meets = self.contact == Contact::Handshake { meet: true };
        NodeFlags::MASTER.when(self.is_master())
            | NodeFlags::REPLICA.when(self.is_replica())
            | NodeFlags::PFAIL.when(self.health == Health::Suspect)
            | NodeFlags::FAIL.when(self.has_failed())
            | NodeFlags::MYSELF.when(self.is_me)
            | NodeFlags::HANDSHAKE.when(self.in_handshake())
            | NodeFlags::NO_ADDRESS.when(self.contact == Contact::Lost)
            | NodeFlags::MEET.when(meets)
            | NodeFlags::MIGRATE_TO.when(self.wants_replicas)
            | NodeFlags::NO_FAILOVER.when(self.no_failover)
    }
}
