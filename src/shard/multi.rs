//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, as a connection meets them.
//!
//! Commands are queued in the session. A block all of whose keys are here and free runs at once, without a
//! number and without a message; any other is a job ([`super::job`]), or a whole run ([`super::whole`]).
//!
//! A watch is known to the shards that own its keys. Their grants say whether it still holds, so
//! that no change can slip between the question and the run.

use super::Shard;
use super::input::Next;
use super::job::Job;
use super::message::{Message, PartWork};
use super::transactions::{Work, key_locks};
use crate::admin::stats::Outcome;
use crate::command::spec::NO_MULTI;
use crate::command::{Command, CommandError, CommandId, CommandTable, Part, Run, SessionCommand};
use crate::keyspace::{DbKey, Key};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::{Hold, ReplyMode, Spread};
use crate::shard_map::ShardId;
use crate::transaction::{KeyLock, Watcher};

const NESTED: CommandError = CommandError::text("ERR MULTI calls can not be nested");
const WATCH_IN_MULTI: CommandError = CommandError::text("ERR WATCH inside MULTI is not allowed");
const EXEC_ALONE: CommandError = CommandError::text("ERR EXEC without MULTI");
const DISCARD_ALONE: CommandError = CommandError::text("ERR DISCARD without MULTI");
const NOT_IN_MULTI: CommandError =
    CommandError::text("ERR Command not allowed inside a transaction");
const SPOILED: CommandError =
    CommandError::text("EXECABORT Transaction discarded because of previous errors.");

/// Why EXEC itself is refused: `error` in the words of EXEC.
pub(super) fn exec_aborted(error: &CommandError) -> CommandError {
    let text = error.to_string();
    let text = text.strip_prefix("ERR ").unwrap_or(&text);
    CommandError::owned(format!("EXECABORT Transaction discarded because of: {text}"))
}

/// Whether a command runs at once although the session queues.
pub(super) fn passes_multi(command: &Command) -> bool {
    use SessionCommand as C;
    let Run::Session(which) = command.run else { return false };
    matches!(which, C::Multi | C::Exec | C::Discard | C::Watch | C::Quit | C::Reset)
}

/// Whether this file is about it.
pub(super) fn is_about_transactions(which: SessionCommand) -> bool {
    use SessionCommand as C;
    matches!(which, C::Multi | C::Exec | C::Discard | C::Watch | C::Unwatch)
}

impl Shard {
    /// Queues a command of a session in MULTI.
    pub(super) fn queue(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        if CommandTable::get().command(id).flags.has(NO_MULTI) {
            return self.refuse(conn, Some(id), &NOT_IN_MULTI);
        }
        if let Err(error) = self.is_debug_allowed(conn, id) {
            return self.refuse(conn, Some(id), &error);
        }
        let shards = self.engine.shards;
        if let Some(multi) = self.sessions.get_mut(conn).and_then(|s| s.multi.as_mut()) {
            multi.block.push(id, words, key, shards);
        }
        self.answer(conn, |reply| reply.simple("QUEUED"))
    }

    /// Runs one of the commands that this file is about.
    pub(super) fn transaction_command(
        &mut self,
        conn: ConnId,
        id: CommandId,
        which: SessionCommand,
        words: &[&[u8]],
    ) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        let result = match which {
            SessionCommand::Multi if session.multi.is_some() => Err(NESTED),
            SessionCommand::Multi => {
                session.multi = Some(session.spare_multi.take().unwrap_or_default());
                Ok(())
            }
            SessionCommand::Exec if session.multi.is_none() => Err(EXEC_ALONE),
            SessionCommand::Exec => return self.exec(conn, id),
            SessionCommand::Discard if session.multi.is_none() => Err(DISCARD_ALONE),
            SessionCommand::Discard => {
                self.leave_multi(conn);
                Ok(())
            }
            SessionCommand::Watch if session.multi.is_some() => Err(WATCH_IN_MULTI),
            SessionCommand::Watch => return self.watch(conn, id, words),
            _ => {
                self.end_watch(conn);
                Ok(())
            }
        };
        if let Err(error) = result {
            self.engine.count_error(&error);
            self.engine.account(id, words, Outcome::Failed);
            return self.answer(conn, |reply| reply.error(&error));
        }
        self.engine.account(id, words, Outcome::Ok);
        self.answer(conn, |reply| reply.ok())
    }

    /// Appends a reply that is made here.
    fn answer(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) -> Next {
        self.run_here(conn, |_, (_, resp3), out| write(&mut Reply::new(out, resp3)))
    }

    /// Forgets what is queued and what is watched.
    pub(super) fn leave_multi(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && let Some(multi) = session.multi.take()
        {
            session.spare_multi = multi.recycled();
        }
        self.end_watch(conn);
    }

    // ---- EXEC ----

    fn exec(&mut self, conn: ConnId, id: CommandId) -> Next {
        let me = self.id();
        let Some(session) = self.sessions.get(conn) else { return Next::Stop };
        let Some(multi) = &session.multi else { return Next::Stop };
        if multi.spoiled {
            self.leave_multi(conn);
            self.engine.count_error(&SPOILED);
            self.engine.account(id, &[b"exec"], Outcome::Failed);
            return self.answer(conn, |reply| reply.error(&SPOILED));
        }
        if session.watch_broken {
            self.leave_multi(conn);
            self.engine.account(id, &[b"exec"], Outcome::Ok);
            return self.answer(conn, |reply| reply.null_array());
        }
        let spread = session.watching.iter().fold(multi.block.spread, |all, at| all.and(*at));
        let is_here = matches!(spread, Spread::Nowhere) || spread == Spread::On(me);
        if is_here && !multi.block.needs_all && self.is_block_free(conn) {
            return self.exec_here(conn, id);
        }
        self.when_drained(conn, |shard| {
            shard.engine.account(id, &[b"exec"], Outcome::Ok);
            shard.start_exec(conn, spread);
        })
    }

    /// Whether nobody holds or wants the keys of a block or those that it watches, all of which are here.
    fn is_block_free(&self, conn: ConnId) -> bool {
        let locks = &self.engine.locks;
        let multi = self.sessions.get(conn).and_then(|session| session.multi.as_ref());
        let Some(multi) = multi else { return false };
        if multi.block.reaches_further && (self.engine.shards.len() > 1 || !locks.is_idle()) {
            return false; // Nobody knows which keys it will look at, and whose they are.
        }
        if locks.is_idle() {
            return true;
        }
        let table = CommandTable::get();
        let (mut free, mut first) = (true, 0);
        for queued in &multi.block.commands {
            match queued.key {
                Some((_, _, hash)) => free &= !locks.is_wanted(KeyLock { hash }),
                None => {
                    let words = multi.block.words(first, queued.arg_count as usize);
                    table.command(queued.id).for_each_key(&words, |at| {
                        free &= !locks.is_wanted(KeyLock { hash: Key::new(words[at]).hash });
                    });
                }
            }
            first += queued.arg_count as usize;
        }
        let watched = self.watch_locks(self.watcher_of(conn));
        free && watched.iter().all(|lock| !locks.is_wanted(*lock))
    }

    /// Runs a block whose keys are all here and free.
    fn exec_here(&mut self, conn: ConnId, id: CommandId) -> Next {
        let watcher = self.leave_watch(conn).map(|(watcher, _)| watcher);
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        let Some(mut multi) = session.multi.take() else { return Next::Stop };
        (multi.block.db, multi.block.resp3) = (session.db, session.resp3);
        let wanted = session.reply_mode == ReplyMode::On;
        if session.reply_mode == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::On;
        }
        // Commands of the block may look at the session, so its output is with us meanwhile.
        let mut out = std::mem::take(session.replies.local());
        let before = out.len();
        if self.end_of_watch(watcher) {
            Reply::new(&mut out, multi.block.resp3).null_array();
        } else {
            self.run_block(&multi.block, Some(conn), &mut out);
        }
        if !wanted {
            out.truncate(before);
        }
        self.engine.account(id, &[b"exec"], Outcome::Ok);
        if let Some(session) = self.sessions.get_mut(conn) {
            *session.replies.local() = out;
            session.replies.end_local(before);
            session.spare_multi = multi.recycled();
        }
        self.settle_changes(None);
        Next::Done
    }

    /// Starts a block that cannot run at once; the connection waits.
    fn start_exec(&mut self, conn: ConnId, spread: Spread) {
        let watched = self.leave_watch(conn);
        let is_alone = self.engine.shards.len() == 1 && self.engine.locks.is_idle();
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let Some(multi) = session.multi.take() else { return };
        let mut block = Box::new(multi.block);
        (block.db, block.resp3) = (session.db, session.resp3);
        block.pass = session.pass(self.engine.map_version);
        if let Some((watcher, owners)) = watched {
            (block.watcher, block.watched_on) = (Some(watcher), owners);
        }
        if block.needs_all || (block.reaches_further && !is_alone) {
            let Some(origin) = self.owe_reply(conn) else { return };
            if let Some(session) = self.sessions.get_mut(conn) {
                session.hold = Hold::Drain;
            }
            return self.start_exclusive(Work::Whole(block, origin));
        }
        self.start_job(conn, Job::Block(block), spread);
    }

    // ---- WATCH ----

    /// WATCH key [key …]
    fn watch(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let Some(session) = self.sessions.get(conn) else { return Next::Stop };
        if session.watch_broken {
            self.engine.account(id, words, Outcome::Ok);
            return self.answer(conn, |reply| reply.ok());
        }
        let db = session.db;
        let keys: Vec<DbKey> = words[1..].iter().map(|word| (db, word.to_vec())).collect();
        let locks = key_locks(&keys);
        let is_here = keys.iter().all(|key| self.owner_of(key) == self.id());
        let is_wanted = |lock: &KeyLock| self.engine.locks.is_wanted(*lock);
        if is_here && (self.engine.locks.is_idle() || !locks.iter().any(is_wanted)) {
            let me = self.id();
            if let Some(watcher) = self.note_watching(conn, me) {
                self.watch_keys(watcher, keys);
            }
            self.engine.account(id, words, Outcome::Ok);
            return self.answer(conn, |reply| reply.ok());
        }
        self.when_drained(conn, |shard| {
            shard.engine.account(id, &[b"watch"], Outcome::Ok);
            shard.start_watch(conn, keys);
        })
    }

    /// Has the owners of these keys note that they are watched, and answers when all have.
    fn start_watch(&mut self, conn: ConnId, keys: Vec<DbKey>) {
        let mut by_owner = Vec::new();
        keys.into_iter().for_each(|key| self.add_participant(&mut by_owner, key));
        let mut works = Vec::new();
        let mut told = None;
        for (owner, keys) in by_owner {
            let Some(watcher) = self.note_watching(conn, owner) else { return };
            works.push((owner, PartWork::Watch(watcher, keys.unwrap_or_default())));
            told = Some(watcher);
        }
        let owners: Vec<_> = works.iter().map(|(owner, _)| *owner).collect();
        let merge = move |shard: &mut Shard, conn: ConnId, _: Vec<Part>, reply: &mut Reply<'_>| {
            // Who left meanwhile has told the owners before they noted it.
            if let (None, Some(watcher)) = (shard.sessions.get(conn), told) {
                owners.iter().for_each(|owner| shard.tell_unwatch(*owner, watcher));
            }
            reply.ok();
        };
        self.gather_from(conn, works, Box::new(merge));
    }

    /// The connection watches keys on `owner`; as whom.
    fn note_watching(&mut self, conn: ConnId, owner: ShardId) -> Option<Watcher> {
        let session = self.sessions.get_mut(conn)?;
        if !session.watching.contains(&owner) {
            session.watching.push(owner);
        }
        self.watcher_of(conn)
    }

    /// Notes that keys of this shard, which are free, are watched.
    pub(super) fn watch_keys(&mut self, watcher: Watcher, keys: Vec<DbKey>) {
        for key in keys {
            let is_there = self.is_there(&key);
            self.watches.watch(watcher, key, is_there);
        }
        self.listen();
    }

    /// Whether a key of this shard exists.
    pub(super) fn is_there(&self, (db, key): &DbKey) -> bool {
        self.engine.keyspace[*db].peek(&Key::new(key)).is_some()
    }

    /// As whom a connection watches, if it does.
    fn watcher_of(&self, conn: ConnId) -> Option<Watcher> {
        let session = self.sessions.get(conn).filter(|session| !session.watching.is_empty())?;
        Some(Watcher { shard: self.id(), conn, round: session.watch_round })
    }

    /// A connection watches no more: who it was, and the shards that know.
    fn leave_watch(&mut self, conn: ConnId) -> Option<(Watcher, Vec<ShardId>)> {
        let watcher = self.watcher_of(conn)?;
        let session = self.sessions.get_mut(conn)?;
        session.watch_broken = false;
        session.watch_round = session.watch_round.wrapping_add(1);
        Some((watcher, std::mem::take(&mut session.watching)))
    }

    /// Ends the watch of a connection without an EXEC.
    pub(super) fn end_watch(&mut self, conn: ConnId) {
        let Some((watcher, owners)) = self.leave_watch(conn) else { return };
        owners.into_iter().for_each(|owner| self.tell_unwatch(owner, watcher));
    }

    fn tell_unwatch(&mut self, owner: ShardId, watcher: Watcher) {
        if owner == self.id() {
            self.on_unwatch(watcher);
        } else {
            self.send(owner.index(), Message::Unwatch(watcher));
        }
    }

    /// A watch is over.
    pub(super) fn on_unwatch(&mut self, watcher: Watcher) {
        self.watches.forget(watcher);
        self.listen();
    }

    /// A key that a connection of this shard watches has changed.
    pub(super) fn on_watch_broken(&mut self, watcher: Watcher) {
        if let Some(session) = self.sessions.get_mut(watcher.conn)
            && session.watch_round == watcher.round
        {
            session.watch_broken = true;
        }
    }

    /// Whether a watch on keys of this shard, all of which are at home, is broken.
    pub(super) fn is_watch_broken(&self, watcher: Option<Watcher>) -> bool {
        let is_broken = |watcher| self.watches.is_broken(watcher, |key| self.is_there(key));
        watcher.is_some_and(is_broken)
    }

    /// As [`Shard::is_watch_broken`], and forgets it.
    pub(super) fn end_of_watch(&mut self, watcher: Option<Watcher>) -> bool {
        let is_broken = self.is_watch_broken(watcher);
        watcher.into_iter().for_each(|watcher| self.on_unwatch(watcher));
        is_broken
    }

    /// The locks of the keys of this shard that are watched.
    pub(super) fn watch_locks(&self, watcher: Option<Watcher>) -> Vec<KeyLock> {
        let keys = watcher.into_iter().flat_map(|watcher| self.watches.keys_of(watcher));
        keys.map(|(_, key)| KeyLock { hash: Key::new(key).hash }).collect()
    }
}
