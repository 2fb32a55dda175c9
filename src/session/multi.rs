//! The commands between MULTI and EXEC.
//!
//! They are kept as in a batch: the bytes of all arguments in one buffer, so that queueing a command
//! allocates nothing once the buffers have grown, and a block crosses a lane as one pointer.

use super::Pass;
use crate::command::spec::{DENYOOM, WRITE};
use crate::command::{CommandId, CommandTable, Run};
use crate::keyspace::Key;
use crate::shard_map::{ShardId, ShardMap};
use crate::slot::{Slot, slot_of};
use crate::transaction::Watcher;

/// Where the keys of a block live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spread {
    /// There are none.
    #[default]
    Nowhere,
    /// All on this shard.
    On(ShardId),
    /// On several.
    Several,
}

impl Spread {
    /// As this one, and a key of `owner`.
    pub fn and(self, owner: ShardId) -> Self {
        match self {
            Spread::Nowhere => Spread::On(owner),
            Spread::On(known) if known == owner => self,
            Spread::On(_) | Spread::Several => Spread::Several,
        }
    }
}

/// In which slots the keys and shard channels of a block are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlotsNamed {
    /// There are none.
    #[default]
    None,
    /// All in this one.
    One(Slot),
    /// In several.
    Several,
}

impl SlotsNamed {
    fn and(self, slot: Slot) -> Self {
        match self {
            Self::None => Self::One(slot),
            Self::One(known) if known == slot => self,
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// One queued command.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// Which command.
    pub id: CommandId,
    /// Number of arguments.
    pub arg_count: u32,
    /// Its only key, for commands that have exactly one: which argument, its slot and its hash.
    pub key: Option<(u8, Slot, u64)>,
}

/// See the module.
#[derive(Default, Debug)]
pub struct Block {
    /// The database that is selected when the block begins.
    pub db: usize,
    /// Whether replies are in RESP3 when the block begins.
    pub resp3: bool,
    /// On what terms it was let through.
    pub pass: Pass,
    /// Who watches keys and wants nothing done if one of them has changed.
    pub watcher: Option<Watcher>,
    /// The shards that know of those watches.
    pub watched_on: Vec<ShardId>,
    /// The commands.
    pub commands: Vec<Queued>,
    /// The bytes of all arguments, one after the other.
    bytes: Vec<u8>,
    /// Where each argument ends in `bytes`.
    ends: Vec<usize>,
    /// Where the keys live.
    pub spread: Spread,
    /// In which slots they are.
    pub slots: SlotsNamed,
    /// A command may need memory.
    pub denies_oom: bool,
    /// Some command writes.
    pub writes: bool,
    /// A command is about the connection: the block runs where that lives.
    pub needs_session: bool,
    /// A command concerns all shards: all stand still while the block runs.
    pub needs_all: bool,
    /// A command may touch keys that it does not name.
    pub reaches_further: bool,
}

/// A block that grew beyond this is not kept for the next MULTI.
const KEPT_BYTES_MAX: usize = 64 * 1024;

impl Block {
    /// Adds a command; `key` is its only key, if it is one that has exactly one.
    pub fn push(
        &mut self,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
        shards: ShardMap,
    ) {
        let command = CommandTable::get().command(id);
        match key {
            Some((_, key)) => self.slots = self.slots.and(key.slot),
            None => command.for_each_name(words, |at| {
                self.slots = self.slots.and(slot_of(words[at]));
            }),
        }
        match (key, command.run) {
            (Some((_, key)), _) => self.spread = self.spread.and(shards.owner(key.slot)),
            (None, Run::Data(_) | Run::Blocking(_) | Run::Script(_)) => {
                command.for_each_key(words, |at| {
                    self.spread = self.spread.and(shards.owner(slot_of(words[at])));
                });
                // A script may touch anything, and may run long.
                self.needs_all |= matches!(command.run, Run::Script(_));
            }
            (None, Run::Session(which)) => {
                self.needs_session = true;
                self.needs_all |= which.concerns_others();
            }
            (None, Run::EveryShard(_) | Run::Walk(_)) => self.needs_all = true,
            (None, Run::Publish(_) | Run::Container | Run::ContainerOr(_)) => {}
        }
        self.writes |= command.flags.has(WRITE);
        self.denies_oom |= command.flags.has(DENYOOM);
        self.reaches_further |= command.reaches_further(words);
        let key = key.map(|(at, key)| (at, key.slot, key.hash));
        self.commands.push(Queued { id, arg_count: words.len() as u32, key });
        for word in words {
            self.bytes.extend_from_slice(word);
            self.ends.push(self.bytes.len());
        }
    }

    /// Puts the arguments of all commands into `args`.
    pub fn args<'b>(&'b self, args: &mut Vec<&'b [u8]>) {
        let mut start = 0;
        for end in &self.ends {
            args.push(&self.bytes[start..*end]);
            start = *end;
        }
    }

    /// Its keys and shard channels, in their order.
    pub fn names(&self) -> Vec<&[u8]> {
        let (mut names, mut first) = (Vec::new(), 0);
        for queued in &self.commands {
            let words = self.words(first, queued.arg_count as usize);
            first += queued.arg_count as usize;
            CommandTable::get()
                .command(queued.id)
                .for_each_name(&words, |at| names.push(words[at]));
        }
        names
    }

    /// The `count` arguments from number `first` of all on.
    pub fn words(&self, first: usize, count: usize) -> Vec<&[u8]> {
        let start_of = |at: usize| if at == 0 { 0 } else { self.ends[at - 1] };
        (first..first + count).map(|at| &self.bytes[start_of(at)..self.ends[at]]).collect()
    }

    /// Bytes that it holds allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.commands.capacity() * size_of::<Queued>()
    }
}

/// A session between MULTI and EXEC.
#[derive(Default, Debug)]
pub struct Multi {
    /// What is queued.
    pub block: Block,
    /// A command was refused: EXEC will refuse all of them.
    pub spoiled: bool,
}

impl Multi {
    /// Empties it for the next MULTI; `None` if it is too large to keep.
    pub fn recycled(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.block.allocated_bytes() > KEPT_BYTES_MAX {
            return None;
        }
        let block = &mut self.block;
        block.commands.clear();
        block.bytes.clear();
        block.ends.clear();
        let kept = Block {
            commands: std::mem::take(&mut block.commands),
            bytes: std::mem::take(&mut block.bytes),
            ends: std::mem::take(&mut block.ends),
            ..Block::default()
        };
        *self = Self { block: kept, spoiled: false };
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_knows_where_its_keys_are_and_what_it_needs() {
        let (one, three) = (ShardMap::new(1).unwrap(), ShardMap::new(3).unwrap());
        let block = |lines: &[&str], shards: ShardMap| {
            let mut block = Block::default();
            for line in lines {
                let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
                let id = CommandTable::get().find(words[0]).unwrap();
                block.push(id, &words, None, shards);
            }
            block
        };
        let needs = |lines: &[&str]| {
            let block = block(lines, one);
            (block.needs_session, block.needs_all, block.reaches_further, block.denies_oom)
        };
        assert_eq!(block(&["ping"], three).spread, Spread::Nowhere);
        assert_eq!(block(&["mget a b c"], one).spread, Spread::On(ShardId(0)));
        assert_eq!(block(&["mget {a}1 {a}2", "del {a}"], three).spread, {
            Spread::On(three.owner(slot_of(b"a")))
        });
        assert_eq!(block(&["mget a b c"], three).spread, Spread::Several);
        assert_eq!(needs(&["get a", "del b"]), (false, false, false, false));
        assert_eq!(needs(&["set a b"]), (false, false, false, true));
        assert_eq!(needs(&["select 3"]), (true, false, false, false));
        assert_eq!(needs(&["get a", "dbsize"]), (false, true, false, false));
        assert_eq!(needs(&["shutdown"]), (true, true, false, false));
    }

    #[test]
    fn arguments_come_back_in_order_and_a_recycled_block_is_empty() {
        let mut multi = Box::new(Multi::default());
        let id = CommandTable::get().find(b"set").unwrap();
        let shards = ShardMap::new(1).unwrap();
        multi.block.push(id, &[b"set", b"", b"value"], None, shards);
        multi.block.push(id, &[b"set", b"k", b"w"], None, shards);
        let mut args = Vec::new();
        multi.block.args(&mut args);
        let expected: [&[u8]; 6] = [b"set", b"", b"value", b"set", b"k", b"w"];
        assert_eq!(args, expected);
        assert_eq!(multi.block.words(0, 6), expected);
        assert_eq!(multi.block.words(3, 2), expected[3..5]);
        multi.spoiled = true;
        let multi = multi.recycled().unwrap();
        assert!(multi.block.commands.is_empty() && multi.block.ends.is_empty() && !multi.spoiled);
        assert_eq!(multi.block.spread, Spread::Nowhere);
    }
}
