//! A script that runs: from its command to its reply.
//!
//! It runs on a stack of its own ([`crate::scripting::Fiber`]) and stops for each command, which is run
//! here by the rules of scripts, with the keys that are in reach: those of this shard, unless others hold
//! them, and those on loan. For any other key,
//! - a script that has written nothing is aborted, and its job runs again with that key;
//! - one that has written is undone ([`super::undo`]) and runs again while all shards stand still;
//! - one for which all shards stand still waits until the key has been fetched, as a block does
//!   ([`super::whole`]).
//!
//! A script that runs on without needing anything stops now and then, and after `busy-reply-threshold` the
//! shard looks at its sockets before it lets the script go on ([`super::busy`]).

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Shard;
use super::engine::Ran;
use super::eviction::OUT_OF_MEMORY;
use super::group::{identify, why_unidentified};
use super::job::{Job, Outcome};
use super::message::{Fetch, JobRequest, Message, Origin, OwnedCommand};
use super::scripts::{self, AwaitedParts, Resolved};
use super::undo::Undo;
use crate::admin::stats;
use crate::clock::Ticks;
use crate::command::spec::{DENYOOM, MAY_REPLICATE, NOSCRIPT, WRITE};
use crate::command::{
    Attempt, Command, CommandError, CommandId, CommandResult, CommandTable, Ctx, Request, Run,
    ScriptCommand, SessionCommand, selected_database,
};
use crate::journal::{Audience, Unit};
use crate::keyspace::{DbKey, Key};
use crate::pubsub::Outgoing;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::scripting::source::ScriptFlags;
use crate::scripting::{
    Abort, Answer, Ask, Ended, Engine, Fiber, Outcome as Ending, Program, Turn, Words,
};
use crate::shard_map::ShardId;
use crate::slot::{Slot, slot_of};
use crate::transaction::TxId;

const KILLED: Abort = Abort::Killed("Script killed by user with SCRIPT KILL...");
const CANNOT_UNDO: CommandError = CommandError::text(
    "ERR Script attempted to access a non declared key after it wrote to a value too big to be undone",
);

/// Keys that a job may find out about one after the other; then it runs with all.
const LEARNED_KEYS_MAX: usize = 4;

/// A script, while it runs.
pub(super) struct Running {
    fiber: Fiber,
    /// The command that runs it.
    pub(super) command: OwnedCommand,
    pub(super) name: Rc<str>,
    pub(super) engine: Engine,
    /// The connection, if it lives here.
    client: Option<ConnId>,
    read_only: bool,
    allows_oom: bool,
    /// All its keys have to be in one slot.
    pub(super) keeps_to_slot: bool,
    /// That slot, as soon as it has named a key.
    pub(super) slot: Option<Slot>,
    /// The database that it has selected.
    db: usize,
    scope: Scope,
    /// Keys of other shards are here: which are changed has to be known.
    borrows: bool,
    /// So it was already when the script went on.
    found_borrowing: bool,
    /// Its effects, while it waits.
    unit: Unit,
    /// Whom they are for.
    audience: Audience,
    /// What it has published, while it waits.
    published: Vec<Outgoing>,
    /// Keys in reach besides those that are free, while the script waits.
    reach: HashSet<DbKey>,
    undo: Undo,
    /// It has run a command that writes.
    pub(super) has_written: bool,
    /// Why it was aborted.
    verdict: Option<Verdict>,
    pub(super) began: Instant,
    began_ticks: Ticks,
    waits: WaitsFor,
    /// Somebody wants its end.
    pub(super) is_killed: bool,
    /// What follows its end.
    then: Option<Then>,
}

/// What a script may touch.
pub(super) enum Scope {
    /// Keys in reach.
    Keys,
    /// Everything: all shards stand still for this transaction, on behalf of this connection.
    Whole { tx: TxId, conn: ConnId, borrowed: Vec<DbKey> },
}

/// Why a script was aborted to run again.
enum Verdict {
    /// It needs these keys.
    Lacks(Vec<DbKey>),
    /// It needs all shards; and will need them every time, as far as one can tell.
    NeedsAll { always: bool },
}

/// What a script waits for.
enum WaitsFor {
    /// To be told to go on.
    Tick,
    /// Keys that so many shards have not sent yet, to run this command.
    Keys { left: usize, words: Words, resp3: bool, wire: Vec<u8> },
    /// The reply of this command of all shards ([`super::scripts::Scripts::awaited`]).
    Parts(Words),
}

/// What follows the end of a script that did not end at once.
pub(super) enum Then {
    /// It was a job all of whose keys are here; the transaction held them, if there was one.
    Job(Box<JobRequest>, Option<TxId>),
    /// It was a transaction with keys on several shards.
    Loans(TxId, Job, Origin, Vec<(ShardId, super::message::Wanted)>),
    /// All shards stood still for it.
    Whole(TxId, Origin),
    /// It was a command of a block for which all shards stand still.
    Block(ConnId),
}

/// What became of a command of a script.
enum Called {
    /// It is answered.
    Replied,
    /// It needs these keys.
    Lacks(Vec<DbKey>),
    /// It needs all shards.
    NeedsAll,
    /// It changes a value that is too big to be undone.
    TooBig,
    /// All shards have to do their part of it.
    Parts(OwnedCommand),
}

/// The script waits; [`Running::waits`] says for what.
struct Parked;

impl Shard {
    // ---- from the command to the script ----

    /// Starts the script that `command` runs: its outcome, if it is over at once; [`Outcome::RunsOn`] if
    /// not.
    pub(super) fn begin_script(
        &mut self,
        script: ScriptCommand,
        command: &OwnedCommand,
        (client, scope): (Option<ConnId>, Scope),
    ) -> Outcome {
        let began_ticks = Ticks::now();
        self.engine.start_timing();
        if self.scripts.running.is_some() {
            // Two scripts must never take turns in one Lua. Nobody gets here: who holds keys or shards
            // does so while no script waits.
            debug_assert!(false, "a script begins while another one waits");
            return self.refuse_script(command, &self.busy_reply(), began_ticks);
        }
        self.scripts.has_room = self.engine.has_room();
        let prepared = self.prepare_script(script, command);
        let (resolved, key_count) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse_script(command, &error, began_ticks),
        };
        let is_whole = matches!(scope, Scope::Whole { .. });
        if !is_whole && self.starts_with_all(&resolved.name) {
            return Outcome::NeedsAll;
        }
        self.extend_reach(command);
        let mut run = self.new_run(script, command, resolved, key_count);
        (run.client, run.scope, run.began_ticks) = (client, scope, began_ticks);
        run.borrows |= is_whole;
        // What is published from here on is the script's.
        self.send_what_is_published();
        match self.drive(run, Answer::GoOn) {
            Some((outcome, _)) => outcome,
            None => Outcome::RunsOn,
        }
    }

    fn starts_with_all(&self, name: &str) -> bool {
        self.engine.shards.len() > 1 && self.scripts.habit(name).reaches_far
    }

    /// What the command runs, and how many keys it declares.
    fn prepare_script(
        &mut self,
        script: ScriptCommand,
        command: &OwnedCommand,
    ) -> CommandResult<(Resolved, usize)> {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        use crate::command::ScriptBy;
        let store = &self.process.scripts;
        // Each looks at its first argument, or at its second, before the other.
        let (resolved, count) = if script.by == ScriptBy::Text {
            let count = script.key_count(&words)?;
            (self.scripts.resolve(store, script, &command.args)?, count)
        } else {
            let resolved = self.scripts.resolve(store, script, &command.args)?;
            (resolved, script.key_count(&words)?)
        };
        if let Some(flags) = resolved.flags {
            self.check_flags(flags, script.read_only)?;
        }
        Ok((resolved, count))
    }

    fn check_flags(&self, flags: ScriptFlags, read_only: bool) -> CommandResult {
        let writes = !flags.has(ScriptFlags::NO_WRITES);
        if flags.has(ScriptFlags::NO_CLUSTER) && self.engine.config.cluster_enabled {
            const TEXT: &str = "ERR Can not run script on cluster, 'no-cluster' flag is set.";
            return Err(CommandError::text(TEXT));
        }
        if writes && read_only {
            const TEXT: &str = "ERR Can not execute a script with write flag using *_ro command.";
            return Err(CommandError::text(TEXT));
        }
        if !self.scripts.has_room && writes && !flags.has(ScriptFlags::ALLOW_OOM) {
            return Err(OUT_OF_MEMORY);
        }
        Ok(())
    }

    pub(super) fn refuse_script(
        &mut self,
        command: &OwnedCommand,
        error: &CommandError,
        began: Ticks,
    ) -> Outcome {
        let mut reply = Vec::new();
        Reply::new(&mut reply, command.resp3).error(error);
        self.engine.count_error(error);
        self.engine.account_since(command.id, &command.args, began, stats::Outcome::Failed);
        Outcome::Reply(reply)
    }

    /// The keys that the command declares are held, if others want some.
    fn extend_reach(&mut self, command: &OwnedCommand) {
        if self.engine.locks.is_idle() {
            return;
        }
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let databases = self.engine.keyspace.database_count();
        let (shards, me) = (self.engine.shards, self.engine.id);
        let reach = &mut self.engine.reach;
        CommandTable::get().command(command.id).for_each_db_key(
            &words,
            command.db,
            databases,
            |db, key| {
                if shards.owner(crate::slot::slot_of(key)) == me {
                    reach.keys.insert((db, key.to_vec()));
                }
            },
        );
    }

    fn new_run(
        &mut self,
        script: ScriptCommand,
        command: &OwnedCommand,
        resolved: Resolved,
        key_count: usize,
    ) -> Box<Running> {
        let Resolved { engine, vm, function, name, flags } = resolved;
        let (keys, args) = ScriptCommand::split(&command.args, key_count);
        let program = Program {
            vm,
            function,
            name: Rc::clone(&name),
            keys: keys.to_vec(),
            args: args.to_vec(),
            resp3: command.resp3,
        };
        let is_declared = flags.is_some();
        let flags = flags.unwrap_or_default();
        let slot = keys.first().map(|key| slot_of(key));
        Box::new(Running {
            fiber: Fiber::new(program, self.scripts.spare.take()),
            command: command.clone(),
            undo: Undo::new(&self.engine.changes, self.scripts.habit(&name).keeps_to_its_keys),
            name,
            engine,
            client: None,
            read_only: script.read_only || flags.has(ScriptFlags::NO_WRITES),
            allows_oom: flags.has(ScriptFlags::ALLOW_OOM),
            keeps_to_slot: is_declared && !flags.has(ScriptFlags::ALLOW_CROSS_SLOT_KEYS),
            slot,
            db: command.db,
            scope: Scope::Keys,
            borrows: self.borrowing,
            found_borrowing: false,
            unit: Unit::default(),
            audience: Audience::ALL,
            published: Vec::new(),
            reach: HashSet::new(),
            has_written: false,
            verdict: None,
            began: Instant::now(),
            began_ticks: Ticks::now(),
            waits: WaitsFor::Tick,
            is_killed: false,
            then: None,
        })
    }

    /// Says what follows the end of the script that runs on.
    pub(super) fn then(&mut self, then: Then) {
        let running = self.scripts.running.as_mut();
        running.expect("a script that is not over is kept").then = Some(then);
    }

    // ---- while it runs ----

    /// Lets a script go on until it is over, or has to wait; then it is kept.
    fn drive(&mut self, mut run: Box<Running>, answer: Answer) -> Option<(Outcome, Option<Then>)> {
        let mut answer = answer;
        self.enter(&mut run);
        let ended = loop {
            match run.fiber.resume(answer) {
                Turn::Ended(ended) => break Some(ended),
                Turn::Asks(ask) => match self.serve_script(&mut run, ask) {
                    Ok(next) => answer = next,
                    Err(Parked) => break None,
                },
            }
        };
        self.leave(&mut run);
        match ended {
            Some(ended) => Some(self.conclude_script(*run, ended)),
            None => {
                self.scripts.running = Some(run);
                None
            }
        }
    }

    /// A script goes on: what it holds is in reach, and if some of it is borrowed, what changes is noted.
    fn enter(&mut self, run: &mut Running) {
        self.engine.reach.keys.extend(std::mem::take(&mut run.reach));
        self.engine.reach.whole = matches!(run.scope, Scope::Whole { .. });
        self.engine.pubsub.put_back(std::mem::take(&mut run.published));
        self.engine.journal.open(std::mem::take(&mut run.unit));
        self.engine.journal.set_audience(run.audience);
        run.found_borrowing = self.borrowing;
        self.set_borrowing(run.borrows);
    }

    /// It waits, or is over. What it publishes is held back until it is over.
    fn leave(&mut self, run: &mut Running) {
        run.reach = std::mem::take(&mut self.engine.reach.keys);
        self.engine.reach.whole = false;
        self.engine.publish_notes();
        run.unit = self.engine.journal.suspend();
        self.engine.journal.set_audience(Audience::ALL);
        run.published = self.engine.pubsub.take_outgoing();
        self.set_borrowing(run.found_borrowing);
    }

    /// What a script waited for is there.
    fn resume_script(&mut self, answer: Answer) {
        let Some(run) = self.scripts.running.take() else { return };
        if let Some((outcome, then)) = self.drive(run, answer) {
            self.script_is_over(outcome, then);
        }
    }

    fn serve_script(&mut self, run: &mut Running, ask: Ask) -> Result<Answer, Parked> {
        match ask {
            Ask::Call { words, resp3, wire } => self.call_of_script(run, words, resp3, wire),
            Ask::Tick => self.tick_of_script(run),
            Ask::Log(level, text) => {
                scripts::log(level, &text);
                Ok(Answer::GoOn)
            }
            Ask::RecordFor(audience) => {
                run.audience = audience;
                self.engine.journal.set_audience(audience);
                Ok(Answer::GoOn)
            }
            Ask::MayCall(words) => {
                // Every user may run everything.
                let may = identify(CommandTable::get(), &words.list()).map(|_| true);
                Ok(Answer::May(words, may))
            }
        }
    }

    fn tick_of_script(&mut self, run: &mut Running) -> Result<Answer, Parked> {
        if run.is_killed {
            return Ok(Answer::Abort(KILLED));
        }
        let threshold = self.engine.config.busy_reply_threshold;
        if threshold == 0 || run.began.elapsed() < Duration::from_millis(threshold) {
            return Ok(Answer::GoOn);
        }
        if !std::mem::replace(&mut self.scripts.is_busy, true) {
            tracing::warn!(
                "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the {} command. Script name is: {}.",
                run.began.elapsed().as_millis(),
                super::busy::kill_command(run.engine),
                run.name
            );
        }
        run.waits = WaitsFor::Tick;
        Err(Parked)
    }

    /// The shard has looked at its sockets: a busy script goes on.
    pub(super) fn continue_busy_script(&mut self) {
        let running = self.scripts.running.as_ref();
        let answer = match running {
            Some(run) if matches!(run.waits, WaitsFor::Tick) && run.is_killed => {
                Answer::Abort(KILLED)
            }
            Some(run) if matches!(run.waits, WaitsFor::Tick) => Answer::GoOn,
            _ => return,
        };
        self.resume_script(answer);
    }

    fn call_of_script(
        &mut self,
        run: &mut Running,
        words: Words,
        resp3: bool,
        mut wire: Vec<u8>,
    ) -> Result<Answer, Parked> {
        let list = words.list();
        let called = self.run_call(run, &list, resp3, &mut wire);
        drop(list);
        match called {
            Called::Replied => Ok(Answer::Replied(words, wire)),
            Called::Lacks(keys) if matches!(run.scope, Scope::Whole { .. }) => {
                let left = self.fetch_for_script(run, keys);
                run.waits = WaitsFor::Keys { left, words, resp3, wire };
                Err(Parked)
            }
            Called::Lacks(_) | Called::NeedsAll | Called::TooBig if !run.undo.is_possible() => {
                self.engine.count_error(&CANNOT_UNDO);
                Reply::new(&mut wire, resp3).error(&CANNOT_UNDO);
                Ok(Answer::Replied(words, wire))
            }
            Called::Lacks(keys) if !run.has_written && self.may_learn(run) => {
                run.verdict = Some(Verdict::Lacks(keys));
                Ok(Answer::Abort(Abort::Again))
            }
            Called::Lacks(_) | Called::NeedsAll | Called::TooBig => {
                let always = !matches!(called, Called::TooBig);
                run.verdict = Some(Verdict::NeedsAll { always });
                Ok(Answer::Abort(Abort::Again))
            }
            Called::Parts(command) => self.call_in_parts(run, words, command),
        }
    }

    /// Whether the job may find out about one more key by running again.
    fn may_learn(&self, run: &Running) -> bool {
        let words: Vec<&[u8]> = run.command.args.iter().map(Vec::as_slice).collect();
        let mut declared = HashSet::new();
        let command = CommandTable::get().command(run.command.id);
        command.for_each_key(&words, |at| _ = declared.insert(words[at]));
        let further = self.engine.reach.keys.iter().filter(|key| !declared.contains(&*key.1));
        further.count() < LEARNED_KEYS_MAX
    }

    fn run_call(
        &mut self,
        run: &mut Running,
        words: &[&[u8]],
        resp3: bool,
        out: &mut Vec<u8>,
    ) -> Called {
        let table = CommandTable::get();
        let Some(id) = identify(table, words) else {
            let error = match why_unidentified(words) {
                CommandError::WrongArity(_) => {
                    "ERR Wrong number of args calling Redis command from script"
                }
                _ => "ERR Unknown Redis command called from script",
            };
            return self.refuse_call(None, CommandError::text(error), resp3, out);
        };
        let command = table.command(id);
        if let Err(error) = run.may_run(command, self.scripts.has_room) {
            return self.refuse_call(Some(id), error, resp3, out);
        }
        if command.flags.has(WRITE)
            && let Some(error) = self.engine.refusals.of_writes()
        {
            let error = error.clone();
            return self.refuse_call(Some(id), error, resp3, out);
        }
        let is_alone = self.engine.shards.len() == 1;
        let called = match command.run {
            Run::Data(_) | Run::Publish(_) | Run::Blocking(_) | Run::ContainerOr(_) => {
                self.call_on_keys(run, id, words, resp3, out)
            }
            Run::EveryShard(_) | Run::Walk(_) if is_alone => {
                self.call_here(id, words, (run.db, resp3), out);
                Called::Replied
            }
            Run::EveryShard(_) | Run::Walk(_) => {
                let args = words.iter().map(|word| word.to_vec()).collect();
                match run.scope {
                    Scope::Keys => Called::NeedsAll,
                    Scope::Whole { .. } => {
                        let pass = run.command.pass;
                        Called::Parts(OwnedCommand { id, db: run.db, resp3, pass, args })
                    }
                }
            }
            Run::Session(SessionCommand::Select) => {
                self.select_of_script(run, id, words, resp3, out);
                Called::Replied
            }
            Run::Session(which) => {
                match run.client.filter(|client| self.sessions.get(*client).is_some()) {
                    Some(client) => out.extend(self.session_reply(client, which, words)),
                    None => Reply::new(out, resp3).ok(),
                }
                Called::Replied
            }
            Run::Script(_) | Run::Container => unreachable!("not from scripts; resolved"),
        };
        if matches!(called, Called::Replied | Called::Parts(_)) {
            run.has_written |= command.flags.has(WRITE);
        }
        called
    }

    fn refuse_call(
        &mut self,
        id: Option<CommandId>,
        error: CommandError,
        resp3: bool,
        out: &mut Vec<u8>,
    ) -> Called {
        self.engine.rejected(id, &error);
        Reply::new(out, resp3).error(&error);
        Called::Replied
    }

    /// A command that works on keys, or on nothing but its arguments.
    fn call_on_keys(
        &mut self,
        run: &mut Running,
        id: CommandId,
        words: &[&[u8]],
        resp3: bool,
        out: &mut Vec<u8>,
    ) -> Called {
        let command = CommandTable::get().command(id);
        let looks = match self.route_of_call(run, command, words) {
            Ok(looks) => looks,
            Err(error) => return self.refuse_call(Some(id), error, resp3, out),
        };
        if self.engine.shards.len() > 1 || !self.engine.locks.is_idle() {
            let lacking = self.out_of_reach(command, words, run.db);
            if !lacking.is_empty() {
                return Called::Lacks(lacking);
            }
            let may_have_to_undo = matches!(run.scope, Scope::Keys) && command.flags.has(WRITE);
            if may_have_to_undo && !self.save_for_undo(run, command, words) {
                return Called::TooBig;
            }
        }
        if let Some(slot) = looks
            && let Err(error) = self.check_presence_for_script(slot, command, words)
        {
            return self.refuse_call(Some(id), error, resp3, out);
        }
        let (request, state) = (Request::new(words), (run.db, resp3));
        match command.run {
            Run::Data(handler) | Run::Publish(handler) | Run::ContainerOr(handler) => {
                if self.engine.run(id, handler, &request, state, out) == Ran::OutOfReach {
                    return Called::Lacks(std::mem::take(&mut self.engine.reach.missing));
                }
            }
            Run::Blocking(blocking) => {
                if self.engine.attempt(id, &blocking, &request, state, out) != Attempt::Done {
                    (blocking.nothing)(&self.process, &mut Reply::new(out, resp3));
                    self.engine.account(id, words, stats::Outcome::Ok);
                }
            }
            _ => unreachable!("the caller has looked"),
        }
        Called::Replied
    }

    fn out_of_reach(&mut self, command: &Command, words: &[&[u8]], db: usize) -> Vec<DbKey> {
        let databases = self.engine.keyspace.database_count();
        let mut ctx = self.engine.ctx(db);
        command.for_each_db_key(words, db, databases, |db, key| {
            // What is missing is noted.
            _ = ctx.reach(db, &Key::new(key));
        });
        std::mem::take(&mut self.engine.reach.missing)
    }

    /// Keeps what the command may change; false if that is too much.
    fn save_for_undo(&mut self, run: &mut Running, command: &Command, words: &[&[u8]]) -> bool {
        let databases = self.engine.keyspace.database_count();
        let (keyspace, mut saved) = (&mut self.engine.keyspace, true);
        command.for_each_db_key(words, run.db, databases, |db, key| {
            saved &= run.undo.save(keyspace, db, key);
        });
        saved
    }

    /// A command of all shards, where there is one.
    fn call_here(
        &mut self,
        id: CommandId,
        words: &[&[u8]],
        state: (usize, bool),
        out: &mut Vec<u8>,
    ) {
        let run = CommandTable::get().command(id).run;
        let ran = self.engine.run(
            id,
            |ctx, request, reply| match run {
                Run::EveryShard(every) => {
                    let part = (every.part)(ctx, request)?;
                    (every.merge)(ctx, request, vec![part], reply)
                }
                Run::Walk(walk) => {
                    let mut found = (walk.stretch)(ctx, request, (walk.start)(request)?)?;
                    while let Some(next) = found.goes_on() {
                        found.extend((walk.stretch)(ctx, request, next)?);
                    }
                    (walk.finish)(&found, reply);
                    Ok(())
                }
                _ => unreachable!("the caller has looked"),
            },
            &Request::new(words),
            state,
            out,
        );
        debug_assert_eq!(ran, Ran::Done, "they touch keys without asking");
    }

    /// A command of all shards, which stand still: what was borrowed goes home first.
    fn call_in_parts(
        &mut self,
        run: &mut Running,
        words: Words,
        command: OwnedCommand,
    ) -> Result<Answer, Parked> {
        let Scope::Whole { tx, conn, borrowed } = &mut run.scope else {
            unreachable!("only with all shards")
        };
        let (tx, conn, borrowed) = (*tx, *conn, std::mem::take(borrowed));
        self.engine.reach.keys.clear();
        self.give_back_borrowed(tx, borrowed);
        self.scripts.awaited = Some(AwaitedParts { conn, resp3: command.resp3, wire: None });
        self.start_parts_of(conn, command, Some((tx, false)));
        match self.scripts.awaited.take() {
            Some(AwaitedParts { wire: Some(wire), .. }) => Ok(Answer::Replied(words, wire)),
            waiting => {
                self.scripts.awaited = waiting;
                run.waits = WaitsFor::Parts(words);
                Err(Parked)
            }
        }
    }

    /// The reply of a command of all shards is made: it is for the script, if that waits for one of `conn`.
    pub(super) fn answer_parts_to_script(
        &mut self,
        conn: ConnId,
        write: impl FnOnce(&mut super::engine::Engine, &mut Reply<'_>),
    ) {
        let Some(awaited) = self.scripts.awaited.as_mut().filter(|a| a.conn == conn) else {
            return;
        };
        let mut wire = Vec::new();
        write(&mut self.engine, &mut Reply::new(&mut wire, awaited.resp3));
        let Some(run) = self.scripts.running.as_mut() else {
            // It is being driven, and looks here next.
            awaited.wire = Some(wire);
            return;
        };
        self.scripts.awaited = None;
        if let WaitsFor::Parts(words) = std::mem::replace(&mut run.waits, WaitsFor::Tick) {
            self.resume_script(Answer::Replied(words, wire));
        }
    }

    fn select_of_script(
        &mut self,
        run: &mut Running,
        id: CommandId,
        words: &[&[u8]],
        resp3: bool,
        out: &mut Vec<u8>,
    ) {
        let select = |ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>| {
            run.db = selected_database(words[1], ctx.config)?;
            reply.ok();
            Ok(())
        };
        _ = self.engine.run(id, select, &Request::new(words), (0, resp3), out);
    }

    /// Asks the owners of these keys for their entries; how many owners there are.
    fn fetch_for_script(&mut self, run: &mut Running, mut keys: Vec<DbKey>) -> usize {
        let Scope::Whole { conn, borrowed, .. } = &mut run.scope else {
            unreachable!("only with all shards")
        };
        keys.sort_unstable();
        keys.dedup();
        self.engine.reach.keys.extend(keys.iter().cloned());
        borrowed.extend(keys.iter().cloned());
        let (mut by_owner, conn, coordinator) = (Vec::new(), *conn, self.id());
        keys.into_iter().for_each(|key| self.add_participant(&mut by_owner, key));
        let owners = by_owner.len();
        for (owner, keys) in by_owner {
            let fetch = Fetch { coordinator, conn, keys: keys.unwrap_or_default() };
            self.send(owner.index(), Message::Fetch(Box::new(fetch)));
        }
        owners
    }

    /// Whether the script that runs here for `conn` waits for keys.
    pub(super) fn script_fetches(&self, conn: ConnId) -> bool {
        self.scripts.running.as_ref().is_some_and(|run| {
            let is_its = matches!(run.scope, Scope::Whole { conn: its, .. } if its == conn);
            is_its && matches!(run.waits, WaitsFor::Keys { .. })
        })
    }

    /// One more shard has sent what the script waits for.
    pub(super) fn on_fetched_for_script(&mut self) {
        let Some(mut run) = self.scripts.running.take() else { return };
        match std::mem::replace(&mut run.waits, WaitsFor::Tick) {
            WaitsFor::Keys { left, words, resp3, wire } if left > 1 => {
                run.waits = WaitsFor::Keys { left: left - 1, words, resp3, wire };
                self.scripts.running = Some(run);
            }
            WaitsFor::Keys { words, resp3, wire, .. } => {
                self.retry_call(run, words, resp3, wire);
            }
            other => unreachable!("it waits for keys, not for {}", other.name()),
        }
    }

    /// The keys of a command are here: it runs, and the script goes on.
    fn retry_call(&mut self, mut run: Box<Running>, words: Words, resp3: bool, wire: Vec<u8>) {
        // As within `drive`, which goes on with the answer.
        self.enter(&mut run);
        let answer = self.call_of_script(&mut run, words, resp3, wire);
        self.leave(&mut run);
        match answer {
            Ok(answer) => {
                if let Some((outcome, then)) = self.drive(run, answer) {
                    self.script_is_over(outcome, then);
                }
            }
            Err(Parked) => self.scripts.running = Some(run),
        }
    }

    // ---- its end ----

    /// A script is over, or aborted: what it answers, and what follows.
    fn conclude_script(&mut self, run: Running, ended: Ended) -> (Outcome, Option<Then>) {
        self.scripts.is_busy = false;
        let Running { fiber, command, name, scope, mut undo, verdict, published, unit, .. } = run;
        let (began_ticks, then) = (run.began_ticks, run.then);
        self.scripts.spare = fiber.into_stack();
        self.scripts.note_memory(&self.process.scripts);
        let outcome = match ended.outcome {
            Err(_) => {
                undo.restore(&mut self.engine.keyspace, &mut self.engine.changes);
                match verdict {
                    Some(Verdict::Lacks(keys)) => Outcome::Lacks(keys),
                    Some(Verdict::NeedsAll { always: true }) => {
                        self.scripts.learn(&name, |habit| habit.reaches_far = true);
                        Outcome::NeedsAll
                    }
                    Some(Verdict::NeedsAll { always: false }) | None => Outcome::NeedsAll,
                }
            }
            Ok(ending) => {
                self.record_script(&scope, unit);
                self.engine.pubsub.put_back(published);
                let mut result = stats::Outcome::Ok;
                if let Ending::Failed { error, counted } = ending {
                    result = stats::Outcome::Failed;
                    if !counted {
                        self.engine.stats.record_error(&error);
                    }
                }
                self.engine.account_since(command.id, &command.args, began_ticks, result);
                if matches!(scope, Scope::Keys) && self.engine.shards.len() > 1 {
                    self.scripts.learn(&name, |habit| habit.keeps_to_its_keys = true);
                }
                Outcome::Reply(ended.reply)
            }
        };
        if let Scope::Whole { tx, borrowed, .. } = scope {
            self.give_back_borrowed(tx, borrowed);
        }
        (outcome, then)
    }

    /// What a script did is a unit of its own, or belongs to the block that it is a command of.
    fn record_script(&mut self, scope: &Scope, unit: Unit) {
        match scope {
            Scope::Whole { conn, .. } if let Some(block) = self.runs.get_mut(conn) => {
                block.unit.extend(&unit);
            }
            _ => self.engine.journal.close_suspended(unit),
        }
    }

    /// A script that did not end at once is over.
    fn script_is_over(&mut self, outcome: Outcome, then: Option<Then>) {
        match then.expect("who waited knows what follows") {
            Then::Job(request, under) => {
                self.end_request(*request, outcome, under);
                if let Some(tx) = under {
                    self.release(tx);
                }
            }
            Then::Loans(tx, job, origin, participants) => {
                self.conclude_job(tx, (job, origin), participants, outcome);
            }
            Then::Whole(tx, origin) => self.end_whole_script(tx, origin, outcome),
            Then::Block(conn) => self.end_script_of_block(conn, outcome),
        }
        self.after_script();
    }

    /// The Lua is free: who waited for that goes on.
    fn after_script(&mut self) {
        while !self.scripts.is_busy
            && let Some(message) = self.scripts.deferred.pop_front()
        {
            self.on_message(message);
        }
        while self.scripts.running.is_none()
            && let Some(request) = self.scripts.queue.pop_front()
        {
            self.on_job(request);
        }
    }
}

impl Running {
    /// Whether the script may run this command (Redis 7.0 `script.c`, scriptCall).
    fn may_run(&self, command: &Command, has_room: bool) -> CommandResult {
        // What MIGRATE waits for takes longer than a script may.
        let waits = matches!(command.run, Run::Session(SessionCommand::Migrate));
        if command.flags.has(NOSCRIPT) || waits {
            return Err(CommandError::text("ERR This Redis command is not allowed from script"));
        }
        let writes = command.flags.has(WRITE) || command.flags.has(MAY_REPLICATE);
        if self.read_only && writes {
            const TEXT: &str = "ERR Write commands are not allowed from read-only scripts.";
            return Err(CommandError::text(TEXT));
        }
        // A script that has begun to write may go on: half of it would be worse.
        let refuses = !has_room && !self.allows_oom && !self.has_written;
        if refuses && command.flags.has(DENYOOM) {
            return Err(OUT_OF_MEMORY);
        }
        Ok(())
    }
}

impl WaitsFor {
    fn name(&self) -> &'static str {
        match self {
            WaitsFor::Tick => "a tick",
            WaitsFor::Keys { .. } => "keys",
            WaitsFor::Parts(_) => "parts",
        }
    }
}
