//! CLUSTER SLOT-STATS (Valkey 8): which of this node's slots have how many keys.
//!
//! Each shard counts its own slots, the shard of the connection knows whose slots they are. The counts of two shards are
//! not of one moment, and keys that a transaction holds are not counted: this is to find the large slots, not to add up.

use super::Shard;
use super::message::PartWork;
use crate::command::{CommandError, CommandResult, NO_CLUSTER, Part};
use crate::datatypes::number::parse_i64;
use crate::reactor::ConnId;
use crate::resp::Reply;
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
    /// So many with the most keys, or the fewest.
    Ordered { limit: usize, ascending: bool },
}

/// How many keys a slot has.
type Count = (Slot, u64);

impl Shard {
    /// CLUSTER SLOT-STATS SLOTSRANGE first last | ORDERBY key-count [LIMIT limit] [ASC | DESC]
    pub(super) fn slot_stats(&mut self, conn: ConnId, words: &[&[u8]]) {
        let is_node = self.engine.config.cluster_enabled;
        let parsed = if is_node { Wanted::parse(words) } else { Err(NO_CLUSTER) };
        let wanted = match parsed {
            Ok(wanted) => wanted,
            Err(error) => {
                self.engine.count_error(&error);
                return self.complete(conn, |_, reply| reply.error(error));
            }
        };
        let merge = move |shard: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            let mut counts = shard.counts_of_own_slots(parts);
            wanted.choose(&mut counts);
            write(&counts, reply);
        };
        self.gather(conn, PartWork::CountBySlot, Box::new(merge));
    }

    /// This shard's part: its slots with keys. A cluster has one database.
    pub(super) fn slots_with_counts(&self) -> Vec<Count> {
        let db = &self.engine.keyspace[0];
        let slots = (0..SLOT_COUNT).filter_map(Slot::new);
        let counts = slots.map(|slot| (slot, db.slot_len(slot) as u64));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// All slots that this node, or its master, owns.
    fn counts_of_own_slots(&self, parts: Vec<Part>) -> Vec<Count> {
        let mut by_slot = vec![0; usize::from(SLOT_COUNT)];
        for part in parts {
            let Part::Other(part) = part else { continue };
            let Ok(counts) = part.downcast::<Vec<Count>>() else { continue };
            counts.iter().for_each(|(slot, count)| by_slot[slot.index()] = *count);
        }
        let Some(territory) = &self.engine.territory else { return Vec::new() };
        let slots = (0..SLOT_COUNT).filter_map(Slot::new).filter(|slot| territory.has_data(*slot));
        slots.map(|slot| (slot, by_slot[slot.index()])).collect()
    }
}

fn write(counts: &[Count], reply: &mut Reply<'_>) {
    reply.array(counts.len());
    for (slot, count) in counts {
        reply.array(2);
        reply.integer(i64::from(slot.get()));
        reply.map(1);
        reply.bulk(b"key-count");
        reply.integer(*count as i64);
    }
}

impl Wanted {
    fn parse(words: &[&[u8]]) -> CommandResult<Self> {
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
                if !metric.eq_ignore_ascii_case(b"key-count") {
                    return Err(BAD_METRIC);
                }
                Self::parse_options(options)
            }
            _ => {
                let word = String::from_utf8_lossy(words[1]);
                Err(CommandError::owned(format!(
                    "ERR unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP."
                )))
            }
        }
    }

    fn parse_options(mut options: &[&[u8]]) -> CommandResult<Self> {
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
        Ok(Self::Ordered { limit, ascending: ascending.unwrap_or(false) })
    }

    /// Leaves what is wanted, in the order in which it is. Equals stand in the order of their slots.
    fn choose(self, counts: &mut Vec<Count>) {
        match self {
            Self::Range(first, last) => counts.retain(|(slot, _)| (first..=last).contains(slot)),
            Self::Ordered { limit, ascending } => {
                match ascending {
                    true => counts.sort_by_key(|(slot, count)| (*count, *slot)),
                    false => counts.sort_by_key(|(slot, count)| (u64::MAX - count, *slot)),
                }
                counts.truncate(limit);
            }
        }
    }
}

fn slot(word: &[u8]) -> CommandResult<Slot> {
    let number = parse_i64(word).and_then(|number| u16::try_from(number).ok());
    number.and_then(Slot::new).ok_or(BAD_SLOT)
}

fn limit_of(word: &[u8]) -> CommandResult<usize> {
    let number = parse_i64(word).ok_or(BAD_LIMIT)?;
    let fits = (1..=i64::from(SLOT_COUNT)).contains(&number);
    if fits { Ok(number as usize) } else { Err(BAD_LIMIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandResult<Wanted> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        Wanted::parse(&words)
    }

    fn at(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn arguments_are_understood_or_refused_in_the_words_of_valkey() {
        let ordered = |limit, ascending| Ok(Wanted::Ordered { limit, ascending });
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
            let found = parse(&format!("cluster slot-stats {words}"));
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{words}");
        }
    }

    #[test]
    fn equals_stand_in_the_order_of_their_slots() {
        let counts = [(at(1), 5), (at(2), 0), (at(3), 9), (at(4), 5)];
        for (wanted, expected) in [
            (Wanted::Range(at(2), at(3)), &[2, 3][..]),
            (Wanted::Ordered { limit: 3, ascending: false }, &[3, 1, 4]),
            (Wanted::Ordered { limit: 9, ascending: true }, &[2, 1, 4, 3]),
        ] {
            let mut found = counts.to_vec();
            wanted.choose(&mut found);
            let slots: Vec<u16> = found.iter().map(|(slot, _)| slot.get()).collect();
            assert_eq!(slots, expected, "{wanted:?}");
        }
    }
}
