//! The cluster: which node owns which slots, who is alive, and who takes over from whom.
//!
//! [`Cluster`] is a state machine without I/O: packets, ticks and commands go in, [`Effect`]s come out, and a
//! driver performs them in their order. `bus/` is the wire format, `nodes_conf/` the file, `simulator/` a world
//! in which hundreds of nodes are tried against loss, partitions and crashes.
//!
//! Imports: packets, election, … → machine → table, node → bus → address, node_id, slot_set.

pub mod address;
mod assignment;
pub mod bus;
mod command;
#[cfg(test)]
mod command_tests;
mod election;
pub mod event;
pub mod forwarding;
mod gossip;
mod lease;
mod links;
mod liveness;
mod machine;
#[cfg(test)]
mod machine_tests;
mod manual_failover;
mod membership;
mod migration;
pub mod node;
pub mod node_id;
mod nodes_conf;
mod operator;
mod outgoing;
mod ownership;
mod packets;
pub mod random;
pub mod redirect;
mod refusal;
mod report;
pub mod settings;
pub mod shard_ports;
#[cfg(test)]
mod simulator;
pub mod slot_map;
pub mod slot_moves;
pub mod slot_set;
mod snapshot;
mod stats;
pub mod table;
mod verdict;

pub use command::{LinkQueue, Surroundings, slots_in_question};
pub use event::{Effect, Event, LinkId};
pub use links::LinkInfo;
pub use machine::Cluster;
pub use manual_failover::FailoverKind;
pub use node_id::NodeId;
pub use nodes_conf::{NodesConf, NodesConfError};
pub use refusal::Refusal;
pub use settings::Settings;
pub use shard_ports::ShardPorts;
pub use slot_map::{SlotMap, Tenure};
pub use slot_set::SlotSet;
