//! Why a node does not do what an operator asks, in Redis's words.

use std::fmt;

use super::node_id::NodeId;
use crate::shard_map::ShardId;
use crate::slot::Slot;

/// What follows the `-` on the wire, byte for byte as Redis 7.0 says it (`cluster.c`): tools match on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The options make no sense.
    Syntax,
    /// A number was expected.
    NotInteger,
    /// No such subcommand, or not with so many arguments.
    Unknown(String),
    /// Ranges of slots come in pairs; the subcommand.
    HalfRange(String),
    /// That is no slot.
    BadSlot,
    /// The slot has an owner already.
    SlotBusy(Slot),
    /// It has none.
    SlotUnassigned(Slot),
    /// It was named more than once.
    SlotTwice(Slot),
    /// The range ends before it begins.
    RangeReversed(Slot, Slot),
    /// FLUSHSLOTS with keys.
    FlushWithKeys,
    /// SETSLOT on a replica.
    SetSlotOnReplica,
    /// SETSLOT with anything else.
    BadSetSlot,
    /// A slot to be given away that belongs to others.
    NotOwner(Slot),
    /// A slot to be taken that belongs to this node.
    AlreadyOwner(Slot),
    /// SETSLOT names a node that nobody knows.
    UnknownPeer(String),
    /// Another command does.
    UnknownNode(String),
    /// The id is that of a shard of this node, which only clients know as a node.
    IdOfShard(ShardId, NodeId),
    /// Slots go to masters only.
    TargetIsReplica,
    /// The slot has keys here.
    SlotHasKeys(Slot),
    /// MEET: the port.
    BadPort(String),
    /// MEET: the port of the bus.
    BadBusPort(String),
    /// MEET: the address as a whole.
    BadAddress(String, String),
    /// SET-CONFIG-EPOCH with a negative number.
    BadEpoch(i64),
    /// SET-CONFIG-EPOCH when it is too late: others are known.
    EpochAmongOthers,
    /// SET-CONFIG-EPOCH when it is too late: there is one.
    EpochIsSet,
    /// FORGET of this node.
    ForgetMyself,
    /// FORGET of its master.
    ForgetMaster,
    /// REPLICATE of this node.
    ReplicateMyself,
    /// REPLICATE of a replica.
    ReplicateReplica,
    /// REPLICATE on a master with slots or keys.
    ReplicateWithData,
    /// REPLICAS of a replica.
    NotMaster,
    /// RESET of a master with keys.
    ResetWithKeys,
    /// Slots move as a whole between masters.
    MoveOnReplica,
    /// They are this node's already.
    MoveToMyself,
    /// The slot is on its way.
    SlotMoves(Slot),
    /// Nothing moves.
    NoMoves,
    /// Nobody knows the move.
    UnknownMove,
    /// Only replicas are told what is staged.
    StagedOnMaster,
    /// The source may have given it up.
    MoveIsLate,
    /// The slot is not that of the source, as the target knows.
    NotSources(Slot),
    /// Keys of the slot are about to be deleted.
    SlotKeepsKeys(Slot),
    /// Only a replica can take over.
    FailoverOnMaster,
    /// A replica does not know its master.
    FailoverOfUnknown,
    /// The master cannot help with its own replacement.
    FailoverOfFailed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR ")?;
        match self {
            Self::Unknown(word) => write!(
                f,
                "unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP."
            ),
            Self::HalfRange(word) => {
                write!(f, "wrong number of arguments for 'cluster|{word}' command")
            }
            Self::SlotBusy(slot) => write!(f, "Slot {} is already busy", slot.get()),
            Self::SlotUnassigned(slot) => write!(f, "Slot {} is already unassigned", slot.get()),
            Self::SlotTwice(slot) => write!(f, "Slot {} specified multiple times", slot.get()),
            Self::RangeReversed(first, last) => write!(
                f,
                "start slot number {} is greater than end slot number {}",
                first.get(),
                last.get()
            ),
            Self::NotOwner(slot) => write!(f, "I'm not the owner of hash slot {}", slot.get()),
            Self::SlotMoves(slot) => write!(f, "Slot {} is being migrated already", slot.get()),
            Self::NotSources(slot) => write!(f, "Slot {} is not the source's", slot.get()),
            Self::SlotKeepsKeys(slot) => {
                write!(f, "Slot {} still holds keys here that are being deleted", slot.get())
            }
            Self::AlreadyOwner(slot) => {
                write!(f, "I'm already the owner of hash slot {}", slot.get())
            }
            Self::UnknownPeer(id) => write!(f, "I don't know about node {id}"),
            Self::UnknownNode(id) => write!(f, "Unknown node {id}"),
            Self::IdOfShard(shard, node) => {
                write!(f, "That is the id of shard {} of node {node}; name the node", shard.0)
            }
            Self::SlotHasKeys(slot) => write!(
                f,
                "Can't assign hashslot {} to a different node while I still hold keys for this hash slot.",
                slot.get()
            ),
            Self::BadPort(word) => write!(f, "Invalid TCP base port specified: {word}"),
            Self::BadBusPort(word) => write!(f, "Invalid TCP bus port specified: {word}"),
            Self::BadAddress(ip, port) => {
                write!(f, "Invalid node address specified: {ip}:{port}")
            }
            Self::BadEpoch(epoch) => write!(f, "Invalid config epoch specified: {epoch}"),
            plain => f.write_str(plain.fixed_text()),
        }
    }
}

impl Refusal {
    /// The text of those that say the same every time.
    fn fixed_text(&self) -> &'static str {
        match self {
            Self::Syntax => "syntax error",
            Self::NotInteger => "value is not an integer or out of range",
            Self::BadSlot => "Invalid or out of range slot",
            Self::FlushWithKeys => "DB must be empty to perform CLUSTER FLUSHSLOTS.",
            Self::SetSlotOnReplica => "Please use SETSLOT only with masters.",
            Self::BadSetSlot => {
                "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"
            }
            Self::TargetIsReplica => "Target node is not a master",
            Self::EpochAmongOthers => {
                "The user can assign a config epoch only when the node does not know any other node."
            }
            Self::EpochIsSet => "Node config epoch is already non-zero",
            Self::ForgetMyself => "I tried hard but I can't forget myself...",
            Self::ForgetMaster => "Can't forget my master!",
            Self::ReplicateMyself => "Can't replicate myself",
            Self::ReplicateReplica => "I can only replicate a master, not a replica.",
            Self::ReplicateWithData => {
                "To set a master the node must be empty and without assigned slots."
            }
            Self::NotMaster => "The specified node is not a master",
            Self::ResetWithKeys => {
                "CLUSTER RESET can't be called with master nodes containing keys"
            }
            Self::MoveOnReplica => "Slots are migrated from master to master",
            Self::MoveToMyself => "I'm the target of this migration myself",
            Self::NoMoves => "No migrations ongoing",
            Self::UnknownMove => "No such slot migration",
            Self::StagedOnMaster => "Only a master tells its replicas what is staged",
            Self::MoveIsLate => "It is too late to take the slots",
            Self::FailoverOnMaster => "You should send CLUSTER FAILOVER to a replica",
            Self::FailoverOfUnknown => "I'm a replica but my master is unknown to me",
            Self::FailoverOfFailed => "Master is down or failed, please use CLUSTER FAILOVER FORCE",
            _ => "",
        }
    }
}
