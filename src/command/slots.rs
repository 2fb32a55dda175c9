//! What clients of a cluster ask a data core: ASKING, READONLY and READWRITE, and which keys are in a slot. The rest of CLUSTER
//! is in `cluster.rs`.
//!
//! The keys of a slot are on one shard, so the commands about a slot are walks of one step, which go there.

use super::spec::*;
use super::{
    Command, CommandError, CommandResult, Ctx, Request, Run, SessionCommand, Stretch, Walk,
};
use crate::datatypes::number::{parse_i64, parse_slot};
use crate::keyspace::ScanCursor;
use crate::resp::Reply;
use crate::slot::{Slot, slot_of};

/// What every command of the cluster is answered where there is none.
pub const NO_CLUSTER: CommandError =
    CommandError::text("ERR This instance has cluster support disabled");
const INVALID_SLOT: CommandError = CommandError::text("ERR Invalid slot");
const INVALID_SLOT_OR_COUNT: CommandError =
    CommandError::text("ERR Invalid slot or number of keys");

const MODE: Flags = FAST.with(LOADING).with(STALE);
const OF_CLIENTS: &[&str] = &["@connection"];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "asking", arity: Arity::Exactly(1), flags: FAST, group: Group::Cluster, keys: NO_KEYS, categories: OF_CLIENTS, run: Run::Session(SessionCommand::Asking) },
    Command { name: "readonly", arity: Arity::Exactly(1), flags: MODE, group: Group::Cluster, keys: NO_KEYS, categories: OF_CLIENTS, run: Run::Session(SessionCommand::Readonly) },
    Command { name: "readwrite", arity: Arity::Exactly(1), flags: MODE, group: Group::Cluster, keys: NO_KEYS, categories: OF_CLIENTS, run: Run::Session(SessionCommand::Readwrite) },
    Command { name: "cluster|keyslot", arity: Arity::Exactly(3), flags: STALE, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Data(keyslot) },
    Command { name: "cluster|countkeysinslot", arity: Arity::Exactly(3), flags: STALE, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Walk(COUNT_KEYS) },
    Command { name: "cluster|getkeysinslot", arity: Arity::Exactly(4), flags: STALE, group: Group::Cluster, keys: NO_KEYS, categories: &[], run: Run::Walk(GET_KEYS) },
];

const COUNT_KEYS: Walk = Walk { start: slot_asked, stretch: count_keys, finish: the_number };
const GET_KEYS: Walk = Walk { start: slot_asked, stretch: get_keys, finish: the_keys };

/// CLUSTER KEYSLOT key
fn keyslot(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    check_mode(ctx)?;
    reply.integer(i64::from(slot_of(request.arg(2)).get()));
    Ok(())
}

fn check_mode(ctx: &Ctx<'_>) -> CommandResult {
    if ctx.config.cluster_enabled { Ok(()) } else { Err(NO_CLUSTER) }
}

/// Where a command about a slot goes. A slot that does not exist is told where it arrives, after what else is wrong.
fn slot_asked(request: &Request<'_>) -> CommandResult<ScanCursor> {
    let slot = parse_slot(request.arg(2));
    Ok(slot.map_or_else(|| ScanCursor::from_wire(0), ScanCursor::at_slot))
}

fn stretch_of(elements: Vec<u8>, length: usize) -> Stretch {
    Stretch { next: None, visited: length, wanted: 0, elements, length }
}

/// CLUSTER COUNTKEYSINSLOT slot
fn count_keys(ctx: &mut Ctx<'_>, request: &Request<'_>, _: ScanCursor) -> CommandResult<Stretch> {
    check_mode(ctx)?;
    let number = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    let slot = Slot::numbered(number).ok_or(INVALID_SLOT)?;
    Ok(stretch_of(Vec::new(), ctx.keyspace[0].slot_len(slot)))
}

fn the_number(found: &Stretch, reply: &mut Reply<'_>) {
    reply.integer(found.length as i64);
}

/// CLUSTER GETKEYSINSLOT slot count
fn get_keys(ctx: &mut Ctx<'_>, request: &Request<'_>, _: ScanCursor) -> CommandResult<Stretch> {
    check_mode(ctx)?;
    let number = parse_i64(request.arg(2)).ok_or(CommandError::NotInteger)?;
    let count = parse_i64(request.arg(3)).ok_or(CommandError::NotInteger)?;
    let (Some(slot), Ok(count)) = (Slot::numbered(number), usize::try_from(count)) else {
        return Err(INVALID_SLOT_OR_COUNT);
    };
    let (mut elements, mut length) = (Vec::new(), 0);
    let mut reply = Reply::new(&mut elements, false);
    for entry in ctx.keyspace[0].iter_slot(slot).take(count) {
        reply.bulk(entry.key());
        length += 1;
    }
    Ok(stretch_of(elements, length))
}

fn the_keys(found: &Stretch, reply: &mut Reply<'_>) {
    reply.array(found.length);
    reply.raw(&found.elements);
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;
    use crate::config::Config;

    #[test]
    fn the_keys_of_a_slot_are_counted_and_listed() {
        let mut shard = TestShard::new();
        let no_cluster = "-ERR This instance has cluster support disabled\r\n";
        for words in ["KEYSLOT a", "COUNTKEYSINSLOT 0", "GETKEYSINSLOT 0 1"] {
            assert_eq!(shard.run(&format!("CLUSTER {words}")), no_cluster, "{words}");
        }
        shard.config = Config { cluster_enabled: true, ..Config::default() };
        let not_integer = "-ERR value is not an integer or out of range\r\n";
        for (command, reply) in [
            ("MSET {a}1 x {a}2 y b z", "+OK\r\n"),
            ("CLUSTER KEYSLOT a", ":15495\r\n"),
            ("CLUSTER KEYSLOT {a}1", ":15495\r\n"),
            ("CLUSTER COUNTKEYSINSLOT 15495", ":2\r\n"),
            ("CLUSTER COUNTKEYSINSLOT 0", ":0\r\n"),
            ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\r\n"),
            ("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot\r\n"),
            ("CLUSTER COUNTKEYSINSLOT x", not_integer),
            ("CLUSTER GETKEYSINSLOT 3300 10", "*1\r\n$1\r\nb\r\n"),
            ("CLUSTER GETKEYSINSLOT 15495 0", "*0\r\n"),
            ("CLUSTER GETKEYSINSLOT 15495 -1", "-ERR Invalid slot or number of keys\r\n"),
            ("CLUSTER GETKEYSINSLOT 16384 1", "-ERR Invalid slot or number of keys\r\n"),
            ("CLUSTER GETKEYSINSLOT 0 x", not_integer),
        ] {
            assert_eq!(shard.run(command), reply, "{command}");
        }
        assert!(shard.run("CLUSTER GETKEYSINSLOT 15495 10").starts_with("*2\r\n$4\r\n{a}"));
    }
}
