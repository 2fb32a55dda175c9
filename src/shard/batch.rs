//! The single-shard commands of one turn for one other shard.
//!
//! They cross the lane together, in one allocation that comes back with the replies and is used again:
//! per command the crossing costs copying the arguments there and the reply back.

use super::engine::SlowCommand;
use super::room::Room;
use crate::command::CommandId;
use crate::reactor::ConnId;
use crate::session::{Pass, Place};
use crate::shard_map::ShardId;
use crate::slot::Slot;

/// One command of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// The connection at the home shard.
    pub conn: ConnId,
    /// The place of its reply.
    pub place: Place,
    /// Which command.
    pub id: CommandId,
    /// The selected database.
    pub db: u16,
    /// Whether the reply is to be in RESP3.
    pub resp3: bool,
    /// Which argument is the key, its slot and its hash.
    pub key_at: u8,
    /// The slot of the key.
    pub slot: Slot,
    /// The hash of the key.
    pub hash: u64,
    /// On what terms it was let through.
    pub pass: Pass,
    /// Number of arguments.
    pub arg_count: u32,
    /// Where its reply ends in `replies`; `None` if the command had to wait and answers later.
    pub reply_end: Option<u32>,
}

/// See the module.
#[derive(Default)]
pub struct Batch {
    /// The shard that sent it; replies go back there.
    pub home: Option<ShardId>,
    /// The shard that it is for.
    pub owner: Option<ShardId>,
    /// Goes on after the owner had stopped; see [`super::crossing`].
    pub resumes: bool,
    /// What the home shard found out about room elsewhere.
    pub room: Room,
    /// Commands that the owner has handled; the others come back as they went.
    pub handled: usize,
    /// The owner stopped because it has no room for the next command and nothing to evict.
    pub lacks_room: bool,
    /// The commands, in the order in which they are to run.
    pub items: Vec<Item>,
    /// The bytes of all arguments, one after the other.
    bytes: Vec<u8>,
    /// Where each argument ends in `bytes`.
    ends: Vec<usize>,
    /// The replies, one after the other.
    pub replies: Vec<u8>,
    /// Which of them were slow, by connection: the slow log names clients, and home knows them.
    pub slow: Vec<(ConnId, SlowCommand)>,
}

/// A batch that grew beyond this is not kept for the next turn.
const KEPT_BYTES_MAX: usize = 256 * 1024;

impl Batch {
    /// Adds a command with these arguments.
    pub fn push(&mut self, item: Item, args: &[&[u8]]) {
        debug_assert_eq!(item.arg_count as usize, args.len());
        self.items.push(item);
        for arg in args {
            self.bytes.extend_from_slice(arg);
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

    /// Calls `take` with each command from `first` on and its arguments.
    pub fn hand_out(&self, first: usize, mut take: impl FnMut(Item, &[&[u8]])) {
        let mut args = Vec::new();
        self.args(&mut args);
        let mut start = 0;
        for (index, item) in self.items.iter().enumerate() {
            let end = start + item.arg_count as usize;
            if index >= first {
                take(*item, &args[start..end]);
            }
            start = end;
        }
    }

    /// Empties it for another turn; false if it is too large to keep.
    pub fn reset(&mut self) -> bool {
        self.home = None;
        self.owner = None;
        self.resumes = false;
        self.room = Room::Unknown;
        self.handled = 0;
        self.lacks_room = false;
        self.items.clear();
        self.bytes.clear();
        self.ends.clear();
        self.replies.clear();
        self.slow.clear();
        self.bytes.capacity() + self.replies.capacity() <= KEPT_BYTES_MAX
    }
}
