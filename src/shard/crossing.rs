//! Commands on their way to the shards that own their keys, and what came back without having run.
//!
//! A turn's commands for one other shard cross in one batch. The owner stops in the middle of a batch when its
//! replies have become long, for it cannot see whether who asked reads them; or when a command needs
//! memory, there is none, and the owner has no key to evict. It sends the batch back as far as it came, and from
//! then on all batches of this home shard untouched, until one says that it resumes: so no command overtakes
//! another. The home shard waits until nothing is under way, and sends again what may run; commands of clients
//! that do not take their replies ([`super::output`]) stay here until they do.
//!
//! Promise: the commands of a connection for one shard run in their order, each once; and one batch makes at
//! most [`REPLY_BYTES_MAX`] of replies and one reply more.

use super::Shard;
use super::batch::{Batch, Item};
use super::engine::Ran;
use super::eviction::OUT_OF_MEMORY;
use super::forwarding::Stray;
use super::input::{Next, recycle_args};
use super::job::Job;
use super::message::{JobRequest, Message, Origin, OwnedCommand};
use super::room::Room;
use crate::command::spec::DENYOOM;
use crate::command::{CommandId, CommandTable, Request, Run};
use crate::keyspace::Key;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::shard_map::ShardId;
use crate::transaction::KeyLock;

/// Replies of one batch, in bytes, from which on the rest of it waits for the next turn. So much crosses in less
/// time than it takes to send it, so the stop costs a fast reader nothing.
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// What is between this shard and one other.
#[derive(Default)]
pub(super) struct Crossing {
    /// This turn's commands.
    outgoing: Option<Box<Batch>>,
    /// Batches that have not come back.
    under_way: usize,
    /// What came back without having run and has not been sent again, in order.
    returned: Option<Box<Batch>>,
    /// The other shard has stopped, and sends everything back until it is told to go on.
    halted: bool,
    /// It stopped for lack of room.
    lacks_room: bool,
    /// The other way round: this shard has stopped to run what comes from the other.
    has_stopped: bool,
}

impl Crossing {
    /// Whether nothing is under way or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.is_none() && self.under_way == 0 && self.returned.is_none() && !self.halted
    }
}

/// What follows when a command of a batch needs memory.
enum RoomFor {
    /// It runs.
    Yes,
    /// It is refused: there is no room on any shard.
    Nowhere,
    /// The home shard has to ask the others.
    Unknown,
}

impl Shard {
    // ---- at home ----

    /// Puts a command with one key into this turn's batch for the owner of the key.
    pub(super) fn send_across(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        (key_at, key): (u8, Key<'_>),
        owner: ShardId,
    ) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        session.abroad += 1;
        let item = Item {
            conn,
            place: session.keep_place(),
            id,
            db: session.db as u16,
            resp3: session.resp3,
            key_at,
            slot: key.slot,
            hash: key.hash,
            pass: session.pass(self.engine.map_version),
            arg_count: words.len() as u32,
            reply_end: None,
        };
        let spare = &mut self.spare_batches;
        let batch = self.crossings[owner.index()]
            .outgoing
            .get_or_insert_with(|| spare.pop().unwrap_or_default());
        batch.push(item, words);
        Next::Done
    }

    /// Sends this turn's batches off; those that have to wait grow.
    pub(super) fn send_batches(&mut self) {
        for owner in self.engine.shards.iter() {
            if self.crossings[owner.index()].halted && !self.may_resume(owner) {
                continue;
            }
            let crossing = &mut self.crossings[owner.index()];
            if let Some(mut batch) = crossing.outgoing.take() {
                crossing.under_way += 1;
                batch.home = Some(self.id());
                batch.owner = Some(owner);
                self.send(owner.index(), Message::Commands(batch));
            }
        }
    }

    /// Makes ready to go on with an owner that had stopped; false if it is too early.
    #[cold]
    fn may_resume(&mut self, owner: ShardId) -> bool {
        let crossing = &self.crossings[owner.index()];
        if crossing.under_way > 0 {
            return false;
        }
        let mut room = Room::Unknown;
        if crossing.lacks_room && !self.engine.has_room() {
            match self.room_elsewhere() {
                None => return false,
                Some(true) => room = Room::Made,
                Some(false) => room = Room::Nowhere,
            }
        }
        let crossing = &mut self.crossings[owner.index()];
        crossing.halted = false;
        crossing.lacks_room = false;
        let waiting = [crossing.returned.take(), crossing.outgoing.take()];
        let mut batch = self.spare_batches.pop().unwrap_or_default();
        batch.resumes = true;
        batch.room = room;
        for waiting in waiting.into_iter().flatten() {
            waiting.hand_out(0, |item, args| {
                if self.keeps_returned(item.conn) {
                    self.keep_returned(owner, item, args);
                } else if self.sessions.get(item.conn).is_some() {
                    batch.push(item, args);
                }
            });
            self.spare(waiting);
        }
        self.crossings[owner.index()].outgoing = Some(batch);
        true
    }

    fn keep_returned(&mut self, owner: ShardId, item: Item, args: &[&[u8]]) {
        let crossing = &mut self.crossings[owner.index()];
        let returned = &mut crossing.returned;
        returned
            .get_or_insert_with(|| self.spare_batches.pop().unwrap_or_default())
            .push(item, args);
    }

    fn spare(&mut self, mut batch: Box<Batch>) {
        if batch.reset() {
            self.spare_batches.push(batch);
        }
    }

    /// The commands of `conn` that came back go again, before any new one of it.
    pub(super) fn send_returned(&mut self, conn: ConnId) {
        for owner in self.engine.shards.iter() {
            let crossing = &mut self.crossings[owner.index()];
            if crossing.halted {
                continue; // they go when it resumes
            }
            let Some(returned) = crossing.returned.take() else { continue };
            returned.hand_out(0, |item, args| {
                if item.conn != conn {
                    return self.keep_returned(owner, item, args);
                }
                let outgoing = &mut self.crossings[owner.index()].outgoing;
                outgoing
                    .get_or_insert_with(|| self.spare_batches.pop().unwrap_or_default())
                    .push(item, args);
            });
            self.spare(returned);
        }
    }

    /// `conn` is gone: what came back of it will never run.
    pub(super) fn drop_returned(&mut self, conn: ConnId) {
        for owner in self.engine.shards.iter() {
            let Some(returned) = self.crossings[owner.index()].returned.take() else { continue };
            returned.hand_out(0, |item, args| {
                if item.conn != conn {
                    self.keep_returned(owner, item, args);
                }
            });
            self.spare(returned);
        }
    }

    /// Hands the replies of a batch that came home to their connections.
    pub(super) fn take_replies(&mut self, mut batch: Box<Batch>) {
        let owner = batch.owner.expect("a batch that comes home knows where it was");
        let crossing = &mut self.crossings[owner.index()];
        crossing.under_way -= 1;
        for (conn, slow) in batch.slow.drain(..) {
            self.engine.slow.push(slow);
            self.log_slow_commands(Some(conn));
        }
        let mut start = 0;
        for item in &batch.items[..batch.handled] {
            let reply = item.reply_end.map(|end| {
                let from = std::mem::replace(&mut start, end as usize);
                &batch.replies[from..start]
            });
            let Some(session) = self.sessions.get_mut(item.conn) else { continue };
            session.abroad -= 1;
            match reply {
                Some(reply) => {
                    session.replies.lend(|| self.buffers.take());
                    session.replies.fill(item.place, reply);
                    self.after_fill(item.conn);
                }
                None => {
                    session.replies.expect_delay();
                    self.touch(item.conn);
                }
            }
        }
        if batch.handled < batch.items.len() {
            self.take_returned(owner, &batch);
        }
        self.spare(batch);
    }

    #[cold]
    fn take_returned(&mut self, owner: ShardId, batch: &Batch) {
        let crossing = &mut self.crossings[owner.index()];
        crossing.halted = true;
        crossing.lacks_room |= batch.lacks_room;
        batch.hand_out(batch.handled, |item, args| {
            if let Some(session) = self.sessions.get_mut(item.conn) {
                session.replies.expect_delay();
                self.touch(item.conn);
            }
            self.keep_returned(owner, item, args);
        });
    }

    // ---- at the owner ----

    /// Runs the commands of a batch, as far as it should, and leaves their replies in it.
    pub(super) fn run_batch(&mut self, batch: &mut Batch) {
        let home = batch.home.expect("a batch on its way knows its home");
        if !self.takes_batch(batch) {
            return;
        }
        let mut args = recycle_args(std::mem::take(&mut self.scratch.args));
        let mut replies = std::mem::take(&mut batch.replies);
        let mut items = std::mem::take(&mut batch.items);
        let mut slow = std::mem::take(&mut batch.slow);
        let (mut room, mut lacks_room) = (batch.room, false);
        batch.args(&mut args);
        self.prefetch_items(&items, &args);
        let (mut first_arg, mut handled) = (0, 0);
        for item in &mut items {
            let words = &args[first_arg..first_arg + item.arg_count as usize];
            first_arg += item.arg_count as usize;
            if replies.len() >= REPLY_BYTES_MAX {
                break;
            }
            match self.room_for(item.id, &mut room) {
                RoomFor::Yes => self.run_item(home, item, words, &mut replies),
                RoomFor::Nowhere => {
                    self.engine.rejected(Some(item.id), &OUT_OF_MEMORY);
                    Reply::new(&mut replies, item.resp3).error(OUT_OF_MEMORY);
                    item.reply_end = Some(replies.len() as u32);
                }
                RoomFor::Unknown => {
                    lacks_room = true;
                    break;
                }
            }
            handled += 1;
            if !self.engine.slow.is_empty() {
                slow.extend(self.engine.slow.drain(..).map(|slow| (item.conn, slow)));
            }
        }
        self.engine.end_brief_run();
        self.crossings[home.index()].has_stopped = handled < items.len();
        self.scratch.args = recycle_args(args);
        batch.handled = handled;
        batch.lacks_room = lacks_room;
        batch.items = items;
        batch.replies = replies;
        batch.slow = slow;
    }

    /// Whether the commands of a batch may be handled: not if those before it went back.
    #[inline]
    pub(super) fn takes_batch(&mut self, batch: &Batch) -> bool {
        let home = batch.home.expect("a batch on its way knows its home");
        let has_stopped = &mut self.crossings[home.index()].has_stopped;
        *has_stopped &= !batch.resumes;
        !*has_stopped
    }

    #[inline]
    fn room_for(&mut self, id: CommandId, elsewhere: &mut Room) -> RoomFor {
        if !CommandTable::get().command(id).flags.has(DENYOOM) || self.engine.has_room() {
            return RoomFor::Yes;
        }
        match *elsewhere {
            Room::Nowhere => RoomFor::Nowhere,
            Room::Unknown if self.engine.shards.len() > 1 => RoomFor::Unknown,
            Room::Unknown => RoomFor::Nowhere,
            Room::Made => {
                *elsewhere = Room::Unknown;
                RoomFor::Yes
            }
        }
    }

    #[inline]
    fn run_item(&mut self, home: ShardId, item: &mut Item, words: &[&[u8]], replies: &mut Vec<u8>) {
        let lock = KeyLock { hash: item.hash };
        let (db, resp3) = (usize::from(item.db), item.resp3);
        let owned = || {
            let args = words.iter().map(|word| word.to_vec()).collect();
            let job = Job::Command(OwnedCommand { id: item.id, db, resp3, pass: item.pass, args });
            let origin = Origin { shard: home, conn: item.conn, place: item.place };
            JobRequest { job, origin, number: None }
        };
        if !self.engine.locks.is_idle() && self.engine.locks.is_wanted(lock) {
            return self.on_job(owned());
        }
        if !item.pass.holds(self.engine.map_version)
            && let Some(error) = self.refusal_of_command(item.id, words, &item.pass)
        {
            if self.forwards_strays(&item.pass, &error) {
                let JobRequest { job, origin, .. } = owned();
                return self.send_stray(Stray { origin, job, error });
            }
            self.engine.rejected(Some(item.id), &error);
            Reply::new(replies, resp3).error(error);
            item.reply_end = Some(replies.len() as u32);
            return;
        }
        let Run::Data(handler) = CommandTable::get().command(item.id).run else {
            unreachable!("only data commands cross in batches")
        };
        let at = usize::from(item.key_at);
        let key = Key { bytes: words[at], hash: item.hash, slot: item.slot };
        let request = Request::with_key(words, at, key);
        if self.engine.run(item.id, handler, &request, (db, resp3), replies) == Ran::OutOfReach {
            let missing = std::mem::take(&mut self.engine.reach.missing);
            return self.coordinate(owned(), missing);
        }
        self.settle_changes(None);
        item.reply_end = Some(replies.len() as u32);
    }

    fn prefetch_items(&self, items: &[Item], args: &[&[u8]]) {
        let keyspace = &self.engine.keyspace;
        let keys = |visit: &dyn Fn(usize, &Key<'_>)| {
            let mut first_arg = 0;
            for item in items {
                let bytes = args[first_arg + usize::from(item.key_at)];
                visit(usize::from(item.db), &Key { bytes, hash: item.hash, slot: item.slot });
                first_arg += item.arg_count as usize;
            }
        };
        keys(&|db, key| keyspace[db].prefetch_slot(key));
        keys(&|db, key| keyspace[db].prefetch_bucket(key));
        keys(&|db, key| keyspace[db].prefetch_entry(key));
    }
}
