//! CLUSTER SLOT-STATS (Valkey 8): which of this node's slots have how many keys, and what their commands cost.
//!
//! Each shard tells what it has of each slot, the shard of the connection knows whose slots they are. The counts of two
//! shards are not of one moment, and keys that a transaction holds are not counted: this is to find the large and the
//! busy slots, not to add up.
//!
//! With `cluster-slot-stats-enabled` every command takes the way of those that are not simply let through
//! ([`super::redirects`]), where its bytes are counted; its time and its reply are counted where it is accounted for, and
//! each one is timed by itself. Without, nothing of this is on the way of a command.

use super::Shard;
use super::input::Next;
use super::message::PartWork;
use super::redirects::is_exec;
use crate::admin::slot_usage::{SlotCost, slot_named};
use crate::command::{
    Command, CommandError, CommandId, CommandResult, CommandTable, NO_CLUSTER, Part,
};
use crate::datatypes::number::{parse_i64, parse_slot};
use crate::keyspace::Key;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::SlotsNamed;
use crate::slot::{SLOT_COUNT, Slot};

const BAD_SLOT: CommandError = CommandError::text("ERR Invalid or out of range slot");
const BAD_METRIC: CommandError = CommandError::text("ERR Unrecognized sort metric for ORDERBY.");
const BAD_LIMIT: CommandError =
    CommandError::text("ERR Limit has to lie in between 1 and 16384 (maximum number of slots).");
const TWICE: CommandError =
    CommandError::text("ERR Multiple filters of the same type are disallowed.");

/// Which slots are to be told of, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// Those from here to there, in their order.
    Range(Slot, Slot),
    /// So many of which this is the most, or the least.
    Ordered { by: Metric, limit: usize, ascending: bool },
}

/// What is told of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Metric {
    KeyCount,
    CpuUsec,
    NetworkBytesIn,
    NetworkBytesOut,
}

/// All metrics, in the order in which they are told; the first one always is.
const METRICS: [(Metric, &str); 4] = [
    (Metric::KeyCount, "key-count"),
    (Metric::CpuUsec, "cpu-usec"),
    (Metric::NetworkBytesIn, "network-bytes-in"),
    (Metric::NetworkBytesOut, "network-bytes-out"),
];

/// How many metrics there are.
fn metrics(counts_cost: bool) -> &'static [(Metric, &'static str)] {
    if counts_cost { &METRICS } else { &METRICS[..1] }
}

/// What there is to tell of a slot.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Figures {
    keys: u64,
    cost: SlotCost,
}

impl Figures {
    fn get(&self, metric: Metric) -> u64 {
        match metric {
            Metric::KeyCount => self.keys,
            Metric::CpuUsec => self.cost.nanos / 1000,
            Metric::NetworkBytesIn => self.cost.bytes_in,
            Metric::NetworkBytesOut => self.cost.bytes_out,
        }
    }
}

type OfSlot = (Slot, Figures);

/// MULTI as it crosses the wire, which is counted with its EXEC.
const MULTI_BYTES: u64 = b"*1\r\n$5\r\nmulti\r\n".len() as u64;
/// What a command that is queued is answered.
const QUEUED_BYTES: u64 = b"+QUEUED\r\n".len() as u64;

impl Shard {
    /// CLUSTER SLOT-STATS SLOTSRANGE first last | ORDERBY metric [LIMIT limit] [ASC | DESC]
    pub(super) fn slot_stats(&mut self, conn: ConnId, words: &[&[u8]]) {
        let is_node = self.engine.config.cluster_enabled;
        let told = metrics(self.engine.counts_slots);
        let parsed = if is_node { Wanted::parse(words, told) } else { Err(NO_CLUSTER) };
        let wanted = match parsed {
            Ok(wanted) => wanted,
            Err(error) => {
                self.engine.count_error(&error);
                return self.complete(conn, |_, reply| reply.error(error));
            }
        };
        let merge = move |shard: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            let mut slots = shard.figures_of_own_slots(parts);
            wanted.choose(&mut slots);
            write(&slots, told, reply);
        };
        self.gather(conn, PartWork::FiguresBySlot, Box::new(merge));
    }

    /// This shard's part: what it has of the slots of which it has something. A cluster has one database.
    pub(super) fn figures_by_slot(&self) -> Part {
        let (db, usage) = (&self.engine.keyspace[0], &self.engine.stats.slot_usage);
        let of_slot = |slot| {
            let cost = usage.as_ref().map(|usage| usage.of(slot)).unwrap_or_default();
            (slot, Figures { keys: db.slot_len(slot) as u64, cost })
        };
        let slots = (0..SLOT_COUNT).filter_map(Slot::new).map(of_slot);
        let slots: Vec<OfSlot> = slots.filter(|(_, found)| *found != Figures::default()).collect();
        Part::Other(Box::new(slots))
    }

    /// All slots that this node, or its master, owns.
    fn figures_of_own_slots(&self, parts: Vec<Part>) -> Vec<OfSlot> {
        let mut by_slot = vec![Figures::default(); usize::from(SLOT_COUNT)];
        for part in parts {
            let Part::Other(part) = part else { continue };
            let Ok(slots) = part.downcast::<Vec<OfSlot>>() else { continue };
            for (slot, found) in slots.iter() {
                let sum = &mut by_slot[slot.index()];
                sum.keys += found.keys;
                sum.cost.add(&found.cost);
            }
        }
        let Some(territory) = &self.engine.territory else { return Vec::new() };
        let slots = (0..SLOT_COUNT).filter_map(Slot::new).filter(|slot| territory.has_data(*slot));
        slots.map(|slot| (slot, by_slot[slot.index()])).collect()
    }

    // ---- counting ----

    /// As [`Shard::run_as_node`], and counts the bytes of the request.
    #[cold]
    pub(super) fn run_counted(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        let command = CommandTable::get().command(id);
        let (slot, queued) = (self.slot_of_request(conn, command, words), self.queued_by(conn));
        let next = self.run_as_node(conn, id, words, key);
        let is_queued = self.queued_by(conn) > queued;
        if let Some(usage) = &mut self.engine.stats.slot_usage {
            let mut bytes = usage.size_of_request(words);
            if let Some(slot) = slot.filter(|_| !matches!(next, Next::NotYet)) {
                bytes += if is_exec(command) { MULTI_BYTES } else { 0 };
                let cost = usage.of_mut(slot);
                cost.bytes_in += bytes;
                cost.bytes_out += if is_queued { QUEUED_BYTES } else { 0 };
            }
        }
        next
    }

    /// The slot that a command of a client is about; EXEC is about that of its block.
    fn slot_of_request(&self, conn: ConnId, command: &Command, words: &[&[u8]]) -> Option<Slot> {
        let session = self.sessions.get(conn)?;
        match &session.multi {
            _ if session.pass(self.engine.map_version).is_exempt => None,
            Some(multi) if is_exec(command) => match multi.block.slots {
                SlotsNamed::One(slot) => Some(slot),
                SlotsNamed::None | SlotsNamed::Several => None,
            },
            _ => slot_named(command, words),
        }
    }

    fn queued_by(&self, conn: ConnId) -> usize {
        let multi = self.sessions.get(conn).and_then(|session| session.multi.as_ref());
        multi.map_or(0, |multi| multi.block.commands.len())
    }

    /// The next command came as one line of so many bytes.
    pub(super) fn note_inline(&mut self, bytes: usize) {
        if self.engine.counts_slots
            && let Some(usage) = &mut self.engine.stats.slot_usage
        {
            usage.expect_inline(bytes);
        }
    }

    /// Bytes of messages went to subscribers of a shard channel in `slot`.
    pub(super) fn count_messages(&mut self, slot: Slot, bytes: usize) {
        if self.engine.counts_slots
            && let Some(usage) = &mut self.engine.stats.slot_usage
        {
            usage.of_mut(slot).bytes_out += bytes as u64;
        }
    }
}

fn write(slots: &[OfSlot], told: &[(Metric, &str)], reply: &mut Reply<'_>) {
    reply.array(slots.len());
    for (slot, figures) in slots {
        reply.array(2);
        reply.integer(i64::from(slot.get()));
        reply.map(told.len());
        for (metric, name) in told {
            reply.bulk(name.as_bytes());
            reply.integer(figures.get(*metric) as i64);
        }
    }
}

impl Wanted {
    fn parse(words: &[&[u8]], told: &[(Metric, &str)]) -> CommandResult<Self> {
        let variant = words[2].to_ascii_lowercase();
        match (variant.as_slice(), &words[3..]) {
            (b"slotsrange", [first, last]) => {
                let (first, last) = (slot(first)?, slot(last)?);
                if first > last {
                    return Err(CommandError::owned(format!(
                        "ERR Start slot number {} is greater than end slot number {}",
                        first.get(),
                        last.get()
                    )));
                }
                Ok(Self::Range(first, last))
            }
            (b"orderby", [metric, options @ ..]) => {
                let is_meant = |name: &str| metric.eq_ignore_ascii_case(name.as_bytes());
                let by = told.iter().find(|(_, name)| is_meant(name)).ok_or(BAD_METRIC)?;
                Self::parse_options(by.0, options)
            }
            _ => {
                let word = String::from_utf8_lossy(words[1]);
                Err(CommandError::owned(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP."
                )))
            }
        }
    }

    fn parse_options(by: Metric, mut options: &[&[u8]]) -> CommandResult<Self> {
        let (mut limit, mut ascending) = (None, None);
        while let [option, rest @ ..] = options {
            let is_given = match (option.to_ascii_lowercase().as_slice(), rest) {
                (b"limit", [number, after @ ..]) => {
                    options = after;
                    limit.replace(limit_of(number)?).is_some()
                }
                (order @ (b"asc" | b"desc"), _) => {
                    options = rest;
                    ascending.replace(order == b"asc").is_some()
                }
                _ => return Err(CommandError::Syntax),
            };
            if is_given {
                return Err(TWICE);
            }
        }
        let limit = limit.unwrap_or(usize::from(SLOT_COUNT));
        Ok(Self::Ordered { by, limit, ascending: ascending.unwrap_or(false) })
    }

    /// Leaves what is wanted, in the order in which it is. Equals stand in the order of their slots.
    fn choose(self, slots: &mut Vec<OfSlot>) {
        match self {
            Self::Range(first, last) => slots.retain(|(slot, _)| (first..=last).contains(slot)),
            Self::Ordered { by, limit, ascending } => {
                let rank = |found: &Figures| match ascending {
                    true => found.get(by),
                    false => u64::MAX - found.get(by),
                };
                slots.sort_by_key(|(slot, found)| (rank(found), *slot));
                slots.truncate(limit);
            }
        }
    }
}

fn slot(word: &[u8]) -> CommandResult<Slot> {
    parse_slot(word).ok_or(BAD_SLOT)
}

fn limit_of(word: &[u8]) -> CommandResult<usize> {
    let number = parse_i64(word).ok_or(BAD_LIMIT)?;
    let fits = (1..=i64::from(SLOT_COUNT)).contains(&number);
    if fits { Ok(number as usize) } else { Err(BAD_LIMIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, counts_cost: bool) -> CommandResult<Wanted> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        Wanted::parse(&words, metrics(counts_cost))
    }

    fn at(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn arguments_are_understood_or_refused_in_the_words_of_valkey() {
        let by = |by, limit, ascending| Ok(Wanted::Ordered { by, limit, ascending });
        let ordered = |limit, ascending| by(Metric::KeyCount, limit, ascending);
        let unknown = "ERR unknown subcommand or wrong number of arguments for 'slot-stats'. Try CLUSTER HELP.";
        let refused = |text: &str| Err(text.to_owned());
        for (words, expected) in [
            ("slotsrange 0 16383", Ok(Wanted::Range(at(0), at(16383)))),
            ("SLOTSRANGE 7 7", Ok(Wanted::Range(at(7), at(7)))),
            (
                "slotsrange 8 7",
                refused("ERR Start slot number 8 is greater than end slot number 7"),
            ),
            ("slotsrange 0 16384", refused("ERR Invalid or out of range slot")),
            ("slotsrange x 1", refused("ERR Invalid or out of range slot")),
            ("slotsrange 0", refused(unknown)),
            ("foo bar", refused(unknown)),
            ("orderby key-count", ordered(16384, false)),
            ("orderby KEY-COUNT asc limit 3", ordered(3, true)),
            ("orderby key-count limit 16384 desc", ordered(16384, false)),
            ("orderby cpu-usec", refused("ERR Unrecognized sort metric for ORDERBY.")),
            ("orderby key-count limit", refused("ERR syntax error")),
            ("orderby key-count up", refused("ERR syntax error")),
            (
                "orderby key-count limit 0",
                refused("ERR Limit has to lie in between 1 and 16384 (maximum number of slots)."),
            ),
            (
                "orderby key-count asc desc",
                refused("ERR Multiple filters of the same type are disallowed."),
            ),
        ] {
            let found = parse(&format!("cluster slot-stats {words}"), false);
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{words}");
        }
        for (metric, expected) in METRICS.map(|(metric, name)| (name, by(metric, 2, true))) {
            let found = parse(&format!("cluster slot-stats orderby {metric} limit 2 asc"), true);
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{metric}");
        }
    }

    #[test]
    fn equals_stand_in_the_order_of_their_slots() {
        let of =
            |keys, bytes_in| Figures { keys, cost: SlotCost { bytes_in, ..Default::default() } };
        let counts = [(at(1), of(5, 0)), (at(2), of(0, 7)), (at(3), of(9, 0)), (at(4), of(5, 8))];
        let by = |by, limit, ascending| Wanted::Ordered { by, limit, ascending };
        for (wanted, expected) in [
            (Wanted::Range(at(2), at(3)), &[2, 3][..]),
            (by(Metric::KeyCount, 3, false), &[3, 1, 4]),
            (by(Metric::KeyCount, 9, true), &[2, 1, 4, 3]),
            (by(Metric::NetworkBytesIn, 3, false), &[4, 2, 1]),
        ] {
            let mut found = counts.to_vec();
            wanted.choose(&mut found);
            let slots: Vec<u16> = found.iter().map(|(slot, _)| slot.get()).collect();
            assert_eq!(slots, expected, "{wanted:?}");
        }
    }
}
