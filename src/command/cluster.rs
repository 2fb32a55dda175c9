//! CLUSTER: the node, its cluster, and who serves which slot.
//!
//! The control core has the state, so nearly all of it is asked there ([`crate::cluster`] has the subcommands).

use super::help::help;
use super::spec::*;
use super::{Command, CommandResult, Ctx, NO_CLUSTER, Request, Run, SessionCommand};
use crate::resp::Reply;

/// Tells something.
const TELLS: Flags = STALE;
/// Tells something to operators.
const OPERATOR_READS: Flags = ADMIN.with(STALE);
/// Changes something.
const CHANGES: Flags = ADMIN.with(STALE).with(NO_ASYNC_LOADING);
const ON_CONTROL: Run = Run::Session(SessionCommand::Cluster);

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "cluster", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "cluster|addslots", arity: Arity::AtLeast(3), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|addslotsrange", arity: Arity::AtLeast(4), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|bumpepoch", arity: Arity::Exactly(2), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|cancelslotmigrations", arity: Arity::AtLeast(2), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|count-failure-reports", arity: Arity::Exactly(3), flags: OPERATOR_READS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|delslots", arity: Arity::AtLeast(3), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|delslotsrange", arity: Arity::AtLeast(4), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|failover", arity: Arity::AtLeast(2), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|flushslots", arity: Arity::Exactly(2), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|forget", arity: Arity::Exactly(3), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|getslotmigrations", arity: Arity::Exactly(2), flags: OPERATOR_READS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Data(show_help) },
    Command { name: "cluster|info", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|links", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|meet", arity: Arity::AtLeast(4), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|migrate", arity: Arity::AtLeast(7), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|migrateslots", arity: Arity::AtLeast(7), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|myid", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|myshardid", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|nodes", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|replicas", arity: Arity::Exactly(3), flags: OPERATOR_READS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|replicate", arity: Arity::Exactly(3), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|reset", arity: Arity::AtLeast(2), flags: OPERATOR_READS.with(NOSCRIPT), group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|saveconfig", arity: Arity::Exactly(2), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|set-config-epoch", arity: Arity::Exactly(3), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|setslot", arity: Arity::AtLeast(4), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|shards", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|slaves", arity: Arity::Exactly(3), flags: OPERATOR_READS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    // Of Valkey 8.
    Command { name: "cluster|slot-stats", arity: Arity::AtLeast(4), flags: TELLS.with(LOADING), group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClusterSlotStats) },
    Command { name: "cluster|slots", arity: Arity::Exactly(2), flags: TELLS, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
    Command { name: "cluster|syncslots", arity: Arity::AtLeast(4), flags: CHANGES, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: ON_CONTROL },
];

const HELP: [&str; 62] = [
    "ADDSLOTS <slot> [<slot> ...]",
    "    Take over slots that nobody owns.",
    "ADDSLOTSRANGE <first slot> <last slot> [<first slot> <last slot> ...]",
    "    Take over ranges of slots that nobody owns.",
    "BUMPEPOCH",
    "    Raise the epoch of this node above all others.",
    "CANCELSLOTMIGRATIONS [ALL]",
    "    Stop moving slots away from this node.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Count the nodes that say that one has failed.",
    "COUNTKEYSINSLOT <slot>",
    "    Count the keys of a slot.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Forget who owns slots.",
    "DELSLOTSRANGE <first slot> <last slot> [<first slot> <last slot> ...]",
    "    Forget who owns ranges of slots.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Take over from the master of this replica.",
    "FLUSHSLOTS",
    "    Give up all slots of this node.",
    "FORGET <node-id>",
    "    Take a node out of the cluster, as this one sees it.",
    "GETKEYSINSLOT <slot> <count>",
    "    List keys of a slot.",
    "GETSLOTMIGRATIONS",
    "    Tell how slots move, and have moved, from and to this node.",
    "INFO",
    "    Tell the state of the cluster.",
    "KEYSLOT <key>",
    "    Tell the slot of a key.",
    "LINKS",
    "    List the links between this node and the others.",
    "MEET <ip> <port> [<bus-port>]",
    "    Join this node with the cluster of another.",
    "MIGRATESLOTS SLOTSRANGE <first slot> <last slot> [<first slot> <last slot> ...] NODE <node-id> [SLOTSRANGE ...]",
    "    Move slots with all their keys to another master.",
    "    MIGRATE means the same.",
    "MYID",
    "    Tell the id of this node.",
    "MYSHARDID",
    "    Tell the id that this node shares with those that have the same data.",
    "NODES",
    "    List the nodes, as they stand in the file of the node.",
    "REPLICAS <node-id>",
    "    List the replicas of a master.",
    "REPLICATE <node-id>",
    "    Make this node a replica of a master.",
    "RESET [HARD|SOFT]",
    "    Forget the cluster; with HARD, the id and the epochs, too.",
    "SAVECONFIG",
    "    Write the file of the node.",
    "SET-CONFIG-EPOCH <epoch>",
    "    Give a new node its first epoch.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Say where a slot is going, or whose it is.",
    "SHARDS",
    "    List the shards with their slots and nodes.",
    "SLOT-STATS (SLOTSRANGE <first slot> <last slot> | ORDERBY <metric> [LIMIT <limit>] [ASC|DESC])",
    "    Tell of the slots of this node: key-count and, with cluster-slot-stats-enabled,",
    "    cpu-usec, network-bytes-in and network-bytes-out.",
    "SLOTS",
    "    List ranges of slots with the nodes that serve them.",
];

/// CLUSTER HELP
fn show_help(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    if !ctx.config.cluster_enabled {
        return Err(NO_CLUSTER);
    }
    help(reply, "CLUSTER", &HELP);
    Ok(())
}
