//! Blocks with commands that concern all shards (DBSIZE, FLUSHALL, CONFIG SET … between MULTI and EXEC).
//!
//! Every shard is held as a whole while such a block runs. Its commands run in order where the
//! connection lives: one that works on keys borrows those of other shards and gives them back at
//! once (they are held, so nobody has to be asked twice), one that concerns all shards is asked in
//! parts, one for the control core is asked there. Whatever comes back lets the block go on.

use super::Shard;
use super::engine::Ran;
use super::forwarding::Stray;
use super::job::Job;
use super::message::{Ending, Fetch, Loan, Message, Origin, OwnedCommand};
use crate::admin::stats::Outcome;
use crate::command::SessionCommand;
use crate::command::{Attempt, CommandId, CommandTable, Request, Run, database_number};
use crate::journal::Unit;
use crate::keyspace::DbKey;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::Block;
use crate::shard_map::ShardId;
use crate::transaction::TxId;

/// A block that runs while all shards stand still.
pub(super) struct WholeRun {
    tx: TxId,
    origin: Origin,
    block: Box<Block>,
    /// The next command, and its first argument.
    next: (usize, usize),
    /// The selected database, and the protocol.
    db: usize,
    resp3: bool,
    /// Its effects so far.
    pub(super) unit: Unit,
    /// The reply of EXEC so far.
    pub(super) out: Vec<u8>,
    /// What the next command has borrowed.
    borrowed: Vec<DbKey>,
    /// Shards that have not sent yet what it borrows.
    fetching: usize,
    /// Somebody is at work on it.
    advancing: bool,
    /// What the last command asked for has come.
    answered: bool,
}

impl WholeRun {
    /// The database that is selected.
    pub(super) fn db(&self) -> usize {
        self.db
    }
}

/// How a command of the block goes on.
enum Step {
    /// It ran.
    Ran,
    /// It waits for others.
    Waits,
    /// There is none.
    Over,
}

impl Shard {
    /// All shards stand still for a block.
    pub(super) fn run_whole(
        &mut self,
        tx: TxId,
        block: Box<Block>,
        origin: Origin,
        is_broken: bool,
    ) {
        let is_broken = self.end_of_watch(block.watcher) || is_broken;
        let (db, resp3, mut out) = (block.db, block.resp3, Vec::new());
        if let Some(error) = self.refusal_of_whole_block(&block) {
            let job = Job::Block(block);
            if self.forwards_job(&job, &error) {
                self.end_stand_still(tx);
                self.send_stray(Stray { origin, job, error });
                return self.release(tx);
            }
            self.engine.rejected(None, &error);
            Reply::new(&mut out, resp3).error(error);
            self.end_stand_still(tx);
            self.deliver(origin, out);
            return self.release(tx);
        }
        if is_broken {
            Reply::new(&mut out, resp3).null_array();
        } else {
            Reply::new(&mut out, resp3).array(block.commands.len());
        }
        let commands = block.commands.len();
        // Whose watch is broken is told so and nothing else.
        let next = if is_broken { (commands, 0) } else { (0, 0) };
        if let Some(session) = self.sessions.get_mut(origin.conn) {
            session.executing = Some(commands);
        }
        let run = WholeRun {
            tx,
            origin,
            block,
            next,
            db,
            resp3,
            unit: Unit::default(),
            out,
            borrowed: Vec::new(),
            fetching: 0,
            advancing: false,
            answered: false,
        };
        self.runs.insert(origin.conn, run);
        self.advance(origin.conn);
    }

    /// Something that a block waited for is there: it goes on. A loop, not a recursion: a block may be
    /// long.
    pub(super) fn advance(&mut self, conn: ConnId) {
        let Some(run) = self.runs.get_mut(&conn) else { return };
        if run.advancing {
            run.answered = true;
            return;
        }
        run.advancing = true;
        loop {
            match self.step(conn) {
                Step::Ran => {}
                Step::Waits => {
                    let Some(run) = self.runs.get_mut(&conn) else { return };
                    if !std::mem::take(&mut run.answered) {
                        run.advancing = false;
                        return;
                    }
                }
                Step::Over => return self.end_whole(conn),
            }
        }
    }

    fn step(&mut self, conn: ConnId) -> Step {
        let Some(run) = self.runs.get_mut(&conn) else { return Step::Over };
        let (at, first) = run.next;
        let Some(queued) = run.block.commands.get(at).copied() else { return Step::Over };
        let count = queued.arg_count as usize;
        let args: Vec<Vec<u8>> =
            run.block.words(first, count).into_iter().map(<[u8]>::to_vec).collect();
        let command = OwnedCommand {
            id: queued.id,
            db: run.db,
            resp3: run.resp3,
            pass: run.block.pass,
            args,
        };
        let kind = CommandTable::get().command(queued.id).run;
        if let Run::Session(SessionCommand::Migrate) = kind
            && self.fetch_lacking(conn, &command)
        {
            return Step::Waits;
        }
        if matches!(kind, Run::Data(_) | Run::Publish(_) | Run::Blocking(_) | Run::ContainerOr(_))
            && !self.run_borrowing(conn, &command)
        {
            return Step::Waits;
        }
        let Some(run) = self.runs.get_mut(&conn) else { return Step::Over };
        run.next = (at + 1, first + count);
        let tx = run.tx;
        match kind {
            Run::Session(which) => return self.step_of_session(conn, which, &command),
            Run::Script(_) => {
                self.run_script_of_block(tx, conn, &command);
                return Step::Waits;
            }
            Run::EveryShard(_) | Run::Walk(_) => {
                // If all shards have an effect, it is recorded here and at once.
                self.open_unit_of(conn);
                self.start_parts_of(conn, command, Some((tx, false)));
                self.suspend_unit_of(conn);
                return Step::Waits;
            }
            _ => {}
        }
        Step::Ran
    }

    fn step_of_session(
        &mut self,
        conn: ConnId,
        which: SessionCommand,
        command: &OwnedCommand,
    ) -> Step {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        if self.sessions.get(conn).is_none() {
            // Nobody is there to see it; what it selected still counts.
            if let (SessionCommand::Select, Some(run)) = (which, self.runs.get_mut(&conn)) {
                let databases = self.engine.keyspace.database_count();
                run.db = database_number(words[1], databases).unwrap_or(run.db);
            }
            return Step::Ran;
        }
        self.engine.account(command.id, &words, Outcome::Ok);
        if let Some(start) = Self::operation_of(which) {
            start(self, conn, &words);
            return Step::Waits;
        }
        self.open_unit_of(conn);
        let made = self.session_reply(conn, which, &words);
        self.suspend_unit_of(conn);
        if let (Some(run), Some(session)) = (self.runs.get_mut(&conn), self.sessions.get(conn)) {
            run.out.extend(made);
            (run.db, run.resp3) = (session.db, session.resp3);
        }
        Step::Ran
    }

    /// Runs a command that works on keys; false if keys of other shards have to be fetched first.
    fn run_borrowing(&mut self, conn: ConnId, command: &OwnedCommand) -> bool {
        if self.fetch_lacking(conn, command) {
            return false;
        }
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let Some(run) = self.runs.get_mut(&conn) else { return true };
        let (borrowed, mut out) = (std::mem::take(&mut run.borrowed), std::mem::take(&mut run.out));
        self.engine.reach.whole = true;
        self.engine.reach.keys = borrowed.iter().cloned().collect();
        self.set_borrowing(true);
        self.open_unit_of(conn);
        let ran = self.run_one(command.id, &words, (command.db, command.resp3), &mut out);
        self.suspend_unit_of(conn);
        self.set_borrowing(false);
        self.engine.reach.whole = false;
        self.engine.reach.keys = Default::default();
        let missing = std::mem::take(&mut self.engine.reach.missing);
        let Some(run) = self.runs.get_mut(&conn) else { return true };
        run.out = out;
        if ran == Ran::OutOfReach {
            run.borrowed = borrowed;
            self.fetch(conn, missing);
            return false;
        }
        let tx = run.tx;
        self.give_back_borrowed(tx, borrowed);
        true
    }

    /// Asks for the keys of a command that are on other shards; whether there are some.
    fn fetch_lacking(&mut self, conn: ConnId, command: &OwnedCommand) -> bool {
        let Some(run) = self.runs.get(&conn) else { return false };
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let mut lacking: Vec<DbKey> = Vec::new();
        let databases = self.engine.keyspace.database_count();
        let me = self.id();
        CommandTable::get().command(command.id).for_each_db_key(
            &words,
            command.db,
            databases,
            |db, key| {
                let key = (db, key.to_vec());
                if self.owner_of(&key) != me && !run.borrowed.contains(&key) {
                    lacking.push(key);
                }
            },
        );
        if lacking.is_empty() {
            return false;
        }
        self.fetch(conn, lacking);
        true
    }

    /// What the next command of the block of `conn` has borrowed; whoever asks gives it back.
    pub(super) fn take_borrowed(&mut self, conn: ConnId) -> Vec<DbKey> {
        self.runs.get_mut(&conn).map(|run| std::mem::take(&mut run.borrowed)).unwrap_or_default()
    }

    /// What a command of the block of `conn` had borrowed goes home.
    pub(super) fn give_back_borrowed_of(&mut self, conn: ConnId, borrowed: Vec<DbKey>) {
        if let Some(tx) = self.runs.get(&conn).map(|run| run.tx) {
            self.give_back_borrowed(tx, borrowed);
        }
    }

    /// A command of the block of `conn` is at work.
    pub(super) fn open_unit_of(&mut self, conn: ConnId) {
        let unit = self.runs.get_mut(&conn).map(|run| std::mem::take(&mut run.unit));
        self.engine.journal.open(unit.unwrap_or_default());
    }

    /// It is over, or waits.
    pub(super) fn suspend_unit_of(&mut self, conn: ConnId) {
        let unit = self.engine.journal.suspend();
        if let Some(run) = self.runs.get_mut(&conn) {
            run.unit = unit;
        }
    }

    fn run_one(
        &mut self,
        id: CommandId,
        words: &[&[u8]],
        state: (usize, bool),
        out: &mut Vec<u8>,
    ) -> Ran {
        let request = Request::new(words);
        match CommandTable::get().command(id).run {
            Run::Data(handler) | Run::Publish(handler) | Run::ContainerOr(handler) => {
                self.engine.run(id, handler, &request, state, out)
            }
            Run::Blocking(blocking) => {
                if self.engine.attempt(id, &blocking, &request, state, out) != Attempt::Done {
                    (blocking.nothing)(&self.process, &mut Reply::new(out, state.1));
                    self.engine.account(id, words, Outcome::Ok);
                }
                Ran::Done
            }
            _ => unreachable!("only these work on keys"),
        }
    }

    /// Asks the owners of these keys for their entries.
    fn fetch(&mut self, conn: ConnId, mut keys: Vec<DbKey>) {
        keys.sort_unstable();
        keys.dedup();
        let (mut by_owner, coordinator) = (Vec::new(), self.id());
        keys.iter().for_each(|key| self.add_participant(&mut by_owner, key.clone()));
        if let Some(run) = self.runs.get_mut(&conn) {
            run.fetching = by_owner.len();
            run.borrowed.extend(keys);
        }
        for (owner, keys) in by_owner {
            let fetch = Fetch { coordinator, conn, keys: keys.unwrap_or_default() };
            self.send(owner.index(), Message::Fetch(Box::new(fetch)));
        }
    }

    /// Another shard's block borrows keys; its transaction holds this shard.
    pub(super) fn on_fetch(&mut self, fetch: Fetch) {
        let entries = self.take_entries(fetch.keys.iter());
        let fetched = Message::Fetched(Box::new((fetch.conn, entries)));
        self.send(fetch.coordinator.index(), fetched);
    }

    /// Keys that a block borrows have come.
    pub(super) fn on_fetched(&mut self, conn: ConnId, entries: Vec<Loan>) {
        self.adopt_entries(entries);
        if self.script_fetches(conn) {
            return self.on_fetched_for_script();
        }
        let Some(run) = self.runs.get_mut(&conn) else {
            unreachable!("a block stays until its last command")
        };
        run.fetching -= 1;
        if run.fetching == 0 {
            self.advance(conn);
        }
    }

    /// What was borrowed for a command goes home, and the others stand still further on.
    pub(super) fn give_back_borrowed(&mut self, tx: TxId, borrowed: Vec<DbKey>) {
        let (me, (mut changed, _)) = (self.id(), self.engine.changes.take());
        let mut by_owner = Vec::new();
        borrowed.into_iter().for_each(|key| self.add_participant(&mut by_owner, key));
        for (owner, keys) in by_owner {
            let entries = self.take_entries(keys.iter().flatten());
            let theirs = changed.extract_if(.., |key| self.owner_of(key) == owner).collect();
            self.conclude(owner, tx, entries, theirs, Ending::Interlude);
        }
        debug_assert!(changed.iter().all(|key| self.owner_of(key) == me), "the rest is ours");
        self.settle(changed, Vec::new(), None);
    }

    fn end_whole(&mut self, conn: ConnId) {
        let Some(run) = self.runs.remove(&conn) else { return };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.executing = None;
        }
        self.engine.journal.close_suspended(run.unit);
        self.end_stand_still(run.tx);
        self.deliver(run.origin, run.out);
        self.release(run.tx);
    }

    /// The other shards need not stand still for `tx` any more.
    pub(super) fn end_stand_still(&mut self, tx: TxId) {
        let others: Vec<ShardId> =
            self.engine.shards.iter().filter(|shard| *shard != self.engine.id).collect();
        for shard in others {
            self.conclude(shard, tx, Vec::new(), Vec::new(), Ending::Over);
        }
    }

    /// The protocol that a script that waits, a block, or else the session of `conn` speaks at the moment.
    pub(super) fn protocol_of(&self, conn: ConnId) -> bool {
        if let Some(awaited) = self.scripts.awaited.as_ref().filter(|a| a.conn == conn) {
            return awaited.resp3;
        }
        let of_session = || self.sessions.get(conn).is_some_and(|session| session.resp3);
        self.runs.get(&conn).map_or_else(of_session, |run| run.resp3)
    }
}
