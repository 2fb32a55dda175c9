//! Room for a command when this shard has nothing left to evict: the others may have.
//!
//! Redis refuses a write when memory is over the limit and no key may go. Here every shard knows only its own
//! keys, so before a refusal all others are asked to make room. Meanwhile the command waits, and its
//! connection with it; it goes on when somebody made room, and is refused when nobody could.
//!
//! Promise: a write is refused only if no shard had anything to evict when it came; and whoever waits for
//! room is either let through or refused, for each round of asking in which somebody made
//! room lets at least one command through.

use super::Shard;
use super::message::Message;
use crate::reactor::ConnId;
use crate::session::Hold;
use crate::shard_map::ShardId;

/// What is known about room on other shards. An answer holds for the turn in which it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Room {
    /// Nobody was asked.
    #[default]
    Unknown,
    /// Somebody made room: a command may run, whatever the others did with it since.
    Made,
    /// Nobody has anything to evict.
    Nowhere,
}

/// The others are being asked.
struct Asking {
    missing: usize,
    made: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct RoomSearch {
    asking: Option<Asking>,
    known: Room,
    /// Connections whose next command waits for the answer.
    waiting: Vec<ConnId>,
}

impl Shard {
    /// Makes room at the beginning of a turn; if there is more to do than this shard can in its time, the
    /// others are asked to help.
    pub(super) fn refresh_room(&mut self) {
        if self.engine.refresh_room() && self.engine.eviction.goes_on() {
            self.ask_for_room(None);
        }
    }

    /// The end of a turn: what was found out holds no longer.
    pub(super) fn forget_room(&mut self) {
        self.room.known = Room::Unknown;
    }

    /// Whether a command may run for which there is no room on this shard: none if that is not known yet,
    /// then an answer comes with a later turn.
    pub(super) fn room_elsewhere(&mut self) -> Option<bool> {
        match std::mem::take(&mut self.room.known) {
            Room::Made => Some(true),
            Room::Nowhere => {
                self.room.known = Room::Nowhere;
                Some(false)
            }
            Room::Unknown if self.engine.shards.len() == 1 => Some(false),
            Room::Unknown => {
                if self.room.asking.is_none() {
                    let missing = self.engine.shards.len() - 1;
                    self.room.asking = Some(Asking { missing, made: false });
                    self.ask_for_room(Some(self.id()));
                }
                None
            }
        }
    }

    /// Holds `conn` until it is known whether somebody makes room for its next command.
    pub(super) fn hold_for_room(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::Room;
            self.room.waiting.push(conn);
        }
    }

    fn ask_for_room(&mut self, answer_to: Option<ShardId>) {
        let me = self.id();
        for shard in self.engine.shards.iter().filter(|shard| *shard != me) {
            self.send(shard.index(), Message::MakeRoom(answer_to));
        }
    }

    /// Another shard asks for room, and perhaps for an answer.
    pub(super) fn on_make_room(&mut self, answer_to: Option<ShardId>) {
        self.engine.eviction.look();
        let made = self.engine.has_room();
        if let Some(asker) = answer_to {
            self.send(asker.index(), Message::RoomMade(made));
        }
    }

    /// Another shard has answered.
    pub(super) fn on_room_made(&mut self, made: bool) {
        let Some(asking) = &mut self.room.asking else { return };
        asking.missing -= 1;
        asking.made |= made;
        if asking.missing > 0 {
            return;
        }
        self.room.known = if asking.made { Room::Made } else { Room::Nowhere };
        self.room.asking = None;
        self.engine.eviction.look();
        for conn in std::mem::take(&mut self.room.waiting) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.hold == Hold::Room
            {
                session.hold = Hold::None;
                self.resumable.push_back(conn);
            }
        }
    }

    /// Whether nobody waits for room.
    pub(super) fn is_room_settled(&self) -> bool {
        self.room.asking.is_none() && self.room.waiting.is_empty()
    }
}
