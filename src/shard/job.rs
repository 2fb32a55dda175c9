//! What is run as one: a command, or a block of commands between MULTI and EXEC.
//!
//! A job whose keys all live on one shard goes there whole and runs there, after a wait in line
//! if somebody holds one of them. A job with keys on several shards is a transaction
//! ([`super::transactions`]): it runs on the shard that coordinates it, and borrows.

use super::Shard;
use super::forwarding::Stray;
use super::input::recycle_args;
use super::message::{JobRequest, Message, Origin, OwnedCommand};
use super::script_run::{Scope, Then};
use super::{Waiting, blocking::Blocked};
use crate::command::{
    Attempt, Command, CommandError, CommandTable, Request, Run, SessionCommand, database_number,
};
use crate::journal::Unit;
use crate::keyspace::{DbKey, Key};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::{Block, Hold, Pass, ReplyMode, Spread};
use crate::shard_map::ShardId;
use crate::slot::slot_of;
use crate::transaction::{KeyLock, TxId, Watcher};

/// See the module.
pub enum Job {
    /// One command of the table that works on keys.
    Command(OwnedCommand),
    /// The commands between MULTI and EXEC.
    Block(Box<Block>),
}

/// What became of a job.
pub(super) enum Outcome {
    /// It is done, and this is the reply.
    Reply(Vec<u8>),
    /// It has to wait for keys: the command as it is to be kept, and until when.
    Waits(OwnedCommand, Option<i64>),
    /// Nothing happened: it needs these keys as well.
    Lacks(Vec<DbKey>),
    /// Nothing happened: all shards have to stand still for it.
    NeedsAll,
    /// Nothing happened: its keys are another node's, which runs it for the client.
    Elsewhere(CommandError),
    /// It is a script that is not over; somebody says with [`Shard::then`] what follows.
    RunsOn,
}

impl Job {
    /// Calls `visit` with each key that it names; there are `databases` in all.
    pub fn for_each_db_key(&self, databases: usize, mut visit: impl FnMut(usize, &[u8])) {
        let table = CommandTable::get();
        match self {
            Job::Command(command) => {
                let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                table.command(command.id).for_each_db_key(&words, command.db, databases, visit);
            }
            Job::Block(block) => {
                let mut args = Vec::new();
                block.args(&mut args);
                let (mut db, mut first) = (block.db, 0);
                for queued in &block.commands {
                    let words = &args[first..first + queued.arg_count as usize];
                    first += queued.arg_count as usize;
                    let command = table.command(queued.id);
                    if let Run::Session(SessionCommand::Select) = command.run {
                        db = database_number(words[1], databases).unwrap_or(db);
                    } else {
                        command.for_each_db_key(words, db, databases, &mut visit);
                    }
                }
            }
        }
    }

    /// Whose watches have to hold.
    pub fn watcher(&self) -> Option<Watcher> {
        match self {
            Job::Command(_) => None,
            Job::Block(block) => block.watcher,
        }
    }

    /// On what terms it was let through.
    pub fn pass(&self) -> Pass {
        match self {
            Job::Command(command) => command.pass,
            Job::Block(block) => block.pass,
        }
    }

    /// Whether it may have to wait for keys.
    pub fn is_blocking(&self) -> bool {
        match self {
            Job::Command(command) => {
                matches!(CommandTable::get().command(command.id).run, Run::Blocking(_))
            }
            Job::Block(_) => false,
        }
    }

    /// Whether it is a script.
    pub fn is_script(&self) -> bool {
        match self {
            Job::Command(command) => {
                matches!(CommandTable::get().command(command.id).run, Run::Script(_))
            }
            Job::Block(_) => false,
        }
    }

    /// Whether it may touch keys that it does not name.
    pub fn reaches_further(&self) -> bool {
        match self {
            Job::Command(command) => {
                let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                CommandTable::get().command(command.id).reaches_further(&words)
            }
            Job::Block(block) => block.reaches_further,
        }
    }
}

impl Shard {
    /// Where the keys of a command live.
    pub(super) fn spread_of(&self, command: &Command, words: &[&[u8]]) -> Spread {
        let (mut spread, me) = (Spread::Nowhere, self.id());
        if self.engine.shards.len() == 1 {
            return Spread::On(me);
        }
        command.for_each_key(words, |at| {
            spread = spread.and(self.engine.shards.owner(slot_of(words[at])));
        });
        spread
    }

    /// Keeps a place for a reply that is made elsewhere or later; the connection has to be there.
    pub(super) fn owe_reply(&mut self, conn: ConnId) -> Option<Origin> {
        let shard = self.id();
        let session = self.sessions.get_mut(conn)?;
        // Others may hold the keys, or it waits for them: what is ready must not wait as well.
        session.replies.expect_delay();
        Some(Origin { shard, conn, place: session.keep_place() })
    }

    /// Starts a job for a connection, which waits for its reply.
    pub(super) fn start_job(&mut self, conn: ConnId, job: Job, spread: Spread) {
        let me = self.id();
        let Some(origin) = self.owe_reply(conn) else { return };
        let number = job.is_blocking().then(|| self.process.tx());
        let needs_session = matches!(&job, Job::Block(block) if block.needs_session);
        let runs_on = match spread {
            Spread::Nowhere => Some(me),
            Spread::On(owner) if owner == me || !needs_session => Some(owner),
            Spread::On(_) | Spread::Several => None,
        };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = if number.is_some() { Hold::Blocked } else { Hold::Drain };
            session.blocked = number.map(|number| (runs_on.unwrap_or(me), number));
        }
        let request = JobRequest { job, origin, number };
        match runs_on {
            Some(owner) if owner == me => self.on_job(request),
            Some(owner) => self.send_job(owner, request),
            None => self.coordinate(request, Vec::new()),
        }
    }

    /// Sends a job to the owner of its keys. It may overtake what was batched for that shard, so none of that is
    /// its connection's.
    pub(super) fn send_job(&mut self, owner: ShardId, request: JobRequest) {
        let abroad = self.sessions.get(request.origin.conn).map_or(0, |session| session.abroad);
        assert_eq!(abroad, 0, "a job overtakes no command of its connection");
        self.send(owner.index(), Message::Job(Box::new(request)));
    }

    /// A job whose keys are all here.
    pub(super) fn on_job(&mut self, request: JobRequest) {
        if !self.engine.locks.is_idle() {
            let locks = self.locks_of(&request.job);
            if locks.iter().any(|lock| self.engine.locks.is_wanted(*lock)) {
                let tx = request.number.unwrap_or_else(|| self.process.tx());
                return self.enter_line(tx, Some(locks), Waiting::Job(Box::new(request)));
            }
        }
        self.run_request(request, None);
    }

    /// The locks that a job needs on this shard.
    fn locks_of(&self, job: &Job) -> Vec<KeyLock> {
        let mut locks = Vec::new();
        job.for_each_db_key(self.engine.keyspace.database_count(), |_, key| {
            locks.push(KeyLock { hash: Key::new(key).hash });
        });
        locks.extend(self.watch_locks(job.watcher()));
        locks
    }

    /// Runs a job whose keys are all here, and free or held by `under`; false if it is not over.
    pub(super) fn run_request(&mut self, request: JobRequest, under: Option<TxId>) -> bool {
        if self.scripts.running.is_some() && request.job.is_script() {
            // The Lua is taken. Who holds keys must not wait for it, and never has to: no transaction
            // runs while a script waits.
            match under {
                None if !self.scripts.is_busy => self.scripts.queue.push_back(request),
                _ => self.refuse_while_busy(request),
            }
            return true;
        }
        match self.run_job(&request.job, request.origin) {
            Outcome::RunsOn => {
                self.then(Then::Job(Box::new(request), under));
                false
            }
            outcome => {
                self.end_request(request, outcome, under);
                true
            }
        }
    }

    /// A job whose keys are all here has run.
    pub(super) fn end_request(
        &mut self,
        request: JobRequest,
        outcome: Outcome,
        under: Option<TxId>,
    ) {
        let JobRequest { job, origin, number } = request;
        match outcome {
            Outcome::Reply(reply) => {
                self.settle_changes(under);
                self.deliver(origin, reply);
            }
            Outcome::Waits(command, until) => {
                let number = number.expect("what may wait has a number");
                self.begin_to_wait(number, Blocked::new(origin, command, until));
            }
            Outcome::Lacks(keys) => {
                self.coordinate(JobRequest { job, origin, number: None }, keys);
            }
            Outcome::NeedsAll => self.start_with_all(job, origin),
            Outcome::Elsewhere(error) => self.send_stray(Stray { origin, job, error }),
            Outcome::RunsOn => unreachable!("it is not over"),
        }
    }

    /// Runs a job that has all its keys.
    pub(super) fn run_job(&mut self, job: &Job, origin: Origin) -> Outcome {
        // The connection, if it lives on this shard.
        let client = (origin.shard == self.id()).then_some(origin.conn);
        if !job.pass().holds(self.engine.map_version)
            && let Some(error) = self.refusal_of_job(job)
        {
            return self.refuse_job(job, error);
        }
        let outcome = match job {
            Job::Command(command) => self.run_owned(command, client),
            Job::Block(block) => {
                let mut reply = Vec::new();
                if self.end_of_watch(block.watcher) {
                    Reply::new(&mut reply, block.resp3).null_array();
                } else {
                    self.run_block(block, client, &mut reply);
                }
                Outcome::Reply(reply)
            }
        };
        if !self.engine.slow.is_empty() {
            self.log_slow_commands(client);
        }
        outcome
    }

    fn run_owned(&mut self, command: &OwnedCommand, client: Option<ConnId>) -> Outcome {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let (request, state) = (Request::new(&words), (command.db, command.resp3));
        let (id, mut reply) = (command.id, Vec::new());
        match CommandTable::get().command(id).run {
            Run::Data(handler) | Run::Publish(handler) | Run::ContainerOr(handler) => {
                if self.engine.run(id, handler, &request, state, &mut reply)
                    == super::engine::Ran::OutOfReach
                {
                    return Outcome::Lacks(std::mem::take(&mut self.engine.reach.missing));
                }
            }
            Run::Blocking(blocking) => {
                let attempt = self.engine.attempt(id, &blocking, &request, state, &mut reply);
                if let Attempt::Wait(until) = attempt {
                    let mut kept = command.clone();
                    if let Some(keep) = blocking.keep {
                        kept.args = keep(&mut self.engine.ctx(command.db), &request);
                    }
                    return Outcome::Waits(kept, until);
                }
            }
            Run::Script(script) => {
                return self.begin_script(script, command.into(), (client, Scope::Keys));
            }
            _ => unreachable!("only commands that work on keys are jobs"),
        }
        Outcome::Reply(reply)
    }

    /// Runs the commands of a block whose keys are all here and appends the reply of EXEC. `client` is the
    /// connection, if it lives here.
    pub(super) fn run_block(&mut self, block: &Block, client: Option<ConnId>, out: &mut Vec<u8>) {
        let mut args = recycle_args(std::mem::take(&mut self.scratch.block_args));
        block.args(&mut args);
        let (mut db, mut resp3, mut first, mut muted) = (block.db, block.resp3, 0, false);
        Reply::new(out, resp3).array(block.commands.len());
        self.set_executing(client, Some(block.commands.len()));
        self.engine.journal.open(Unit::default());
        for queued in &block.commands {
            let words = &args[first..first + queued.arg_count as usize];
            first += queued.arg_count as usize;
            let before = out.len();
            let request = match queued.key {
                Some((at, slot, hash)) => {
                    let at = usize::from(at);
                    Request::with_key(words, at, Key { bytes: words[at], hash, slot })
                }
                None => Request::new(words),
            };
            match CommandTable::get().command(queued.id).run {
                Run::Session(which) => {
                    if let Some(client) = client {
                        out.extend(self.session_reply(client, which, words));
                        if let Some(session) = self.sessions.get(client) {
                            (db, resp3) = (session.db, session.resp3);
                            muted = session.reply_mode == ReplyMode::Off;
                        }
                    }
                    self.engine.account(queued.id, words, crate::admin::stats::Outcome::Ok);
                }
                _ => self.run_queued(queued.id, &request, (db, resp3), out),
            }
            if muted {
                out.truncate(before);
            }
        }
        self.engine.journal.close_unit();
        self.set_executing(client, None);
        self.scratch.block_args = recycle_args(args);
    }

    /// Runs a queued command that works on keys or on nothing but its arguments.
    fn run_queued(
        &mut self,
        id: crate::command::CommandId,
        request: &Request<'_>,
        state: (usize, bool),
        out: &mut Vec<u8>,
    ) {
        let ran = match CommandTable::get().command(id).run {
            Run::Data(handler) | Run::Publish(handler) | Run::ContainerOr(handler) => {
                self.engine.run(id, handler, request, state, out)
            }
            Run::Blocking(blocking) => {
                if self.engine.attempt(id, &blocking, request, state, out) != Attempt::Done {
                    (blocking.nothing)(&self.process, &mut Reply::new(out, state.1));
                    self.engine.account(id, request.args(), crate::admin::stats::Outcome::Ok);
                }
                super::engine::Ran::Done
            }
            _ => unreachable!("a block with such a command has all shards stand still"),
        };
        if ran == super::engine::Ran::OutOfReach {
            // Such blocks have everything in reach; who runs them otherwise learns of it here.
            debug_assert!(false, "a block runs with all it may reach");
            self.engine.reach.missing.clear();
            Reply::new(out, state.1).error(CommandError::OutOfReach);
        }
    }

    fn set_executing(&mut self, client: Option<ConnId>, commands: Option<usize>) {
        if let Some(session) = client.and_then(|conn| self.sessions.get_mut(conn)) {
            session.executing = commands;
        }
    }
}
