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
use super::eviction::OUT_OF_MEMORY;
use super::group::identify;
use super::job::{Job, Outcome};
use super::message::{JobRequest, Origin};
use super::scripts::{self, Resolved};
use super::undo::Undo;
use crate::admin::stats;
use crate::clock::Ticks;
use crate::command::{
    CommandError, CommandId, CommandResult, CommandTable, ScriptBy, ScriptCommand,
};
use crate::journal::{Audience, Unit};
use crate::keyspace::DbKey;
use crate::pubsub::Outgoing;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::scripting::source::ScriptFlags;
use crate::scripting::{
    Abort, Answer, Ask, Ended, Engine, Fiber, Outcome as Ending, Program, Turn, Words,
};
use crate::session::Pass;
use crate::shard_map::ShardId;
use crate::slot::{Slot, slot_of};
use crate::transaction::{TxId, Verdict as LineVerdict};

const KILLED: Abort = Abort::Killed("Script killed by user with SCRIPT KILL...");
/// The command that runs a script.
pub(super) struct ScriptCall {
    pub(super) id: CommandId,
    pub(super) db: usize,
    pub(super) resp3: bool,
    pub(super) pass: Pass,
    /// The script has them as well.
    pub(super) words: Rc<Words>,
}

/// A script, while it runs.
pub(super) struct Running {
    fiber: Fiber,
    pub(super) call: ScriptCall,
    pub(super) name: Rc<str>,
    pub(super) engine: Engine,
    /// The connection, if it lives here.
    pub(super) client: Option<ConnId>,
    pub(super) read_only: bool,
    pub(super) allows_oom: bool,
    /// All its keys have to be in one slot.
    pub(super) keeps_to_slot: bool,
    /// That slot, as soon as it has named a key.
    pub(super) slot: Option<Slot>,
    /// The database that it has selected.
    pub(super) db: usize,
    pub(super) scope: Scope,
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
    pub(super) undo: Undo,
    /// It has run a command that writes.
    pub(super) has_written: bool,
    /// Why it was aborted.
    pub(super) verdict: Option<Verdict>,
    pub(super) began: Instant,
    began_ticks: Ticks,
    pub(super) waits: WaitsFor,
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
pub(super) enum Verdict {
    /// It needs these keys.
    Lacks(Vec<DbKey>),
    /// It needs all shards; and will need them every time, as far as one can tell.
    NeedsAll { always: bool },
}

/// What a script waits for.
pub(super) enum WaitsFor {
    /// To be told to go on.
    Tick,
    /// Keys that so many shards have not sent yet, to run this command.
    Keys { left: usize, words: Words, resp3: bool, wire: Vec<u8> },
    /// The reply of this command, which others do ([`super::scripts::Scripts::awaited`]).
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

/// The script waits; [`Running::waits`] says for what.
pub(super) struct Parked;

impl Shard {
    // ---- from the command to the script ----

    /// Starts the script that `call` runs: its outcome, if it is over at once; [`Outcome::RunsOn`] if
    /// not.
    pub(super) fn begin_script(
        &mut self,
        script: ScriptCommand,
        call: ScriptCall,
        (client, scope): (Option<ConnId>, Scope),
    ) -> Outcome {
        let began_ticks = Ticks::now();
        self.engine.start_timing();
        if self.scripts.running.is_some() {
            // Two scripts must never take turns in one Lua. Nobody gets here: who holds keys or shards
            // does so while no script waits.
            debug_assert!(false, "a script begins while another one waits");
            return self.refuse_script(&call, &self.busy_reply(), began_ticks);
        }
        self.scripts.has_room = self.engine.has_room();
        let prepared = call.words.with_list(|words| self.prepare_script(script, words));
        let (resolved, key_count) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse_script(&call, &error, began_ticks),
        };
        let is_whole = matches!(scope, Scope::Whole { .. });
        if !is_whole && self.starts_with_all(&resolved.name) {
            return Outcome::NeedsAll;
        }
        self.extend_reach(&call);
        let mut run = self.new_run(script, call, resolved, key_count);
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
        words: &[&[u8]],
    ) -> CommandResult<(Resolved, usize)> {
        let store = &self.process.scripts;
        // Each looks at its first argument, or at its second, before the other.
        let (resolved, count) = if script.by == ScriptBy::Text {
            let count = script.key_count(words)?;
            (self.scripts.resolve(store, script, words)?, count)
        } else {
            let resolved = self.scripts.resolve(store, script, words)?;
            (resolved, script.key_count(words)?)
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
        call: &ScriptCall,
        error: &CommandError,
        began: Ticks,
    ) -> Outcome {
        let mut reply = Vec::new();
        Reply::new(&mut reply, call.resp3).error(error);
        self.engine.count_error(error);
        let (what, failed) = ((call.id, &*call.words), stats::Outcome::Failed);
        self.engine.account_since(what, began, failed, reply.len());
        Outcome::Reply(reply)
    }

    /// The keys that the command declares are held, if others want some.
    fn extend_reach(&mut self, call: &ScriptCall) {
        if self.engine.locks.is_idle() {
            return;
        }
        let databases = self.engine.keyspace.database_count();
        let (shards, me) = (self.engine.shards, self.engine.id);
        let reach = &mut self.engine.reach;
        let command = CommandTable::get().command(call.id);
        call.words.with_list(|words| {
            command.for_each_db_key(words, call.db, databases, |db, key| {
                if shards.owner(slot_of(key)) == me {
                    reach.keys.insert((db, key.to_vec()));
                }
            });
        });
    }

    fn new_run(
        &mut self,
        script: ScriptCommand,
        call: ScriptCall,
        resolved: Resolved,
        key_count: usize,
    ) -> Box<Running> {
        let Resolved { engine, vm, function, name, flags } = resolved;
        let (words, first) = (Rc::clone(&call.words), ScriptCommand::ARGUMENTS_AT);
        let slot = words.iter().nth(first).filter(|_| key_count > 0).map(slot_of);
        let program = Program {
            vm,
            function,
            name: Rc::clone(&name),
            words,
            first,
            key_count,
            resp3: call.resp3,
            spare: std::mem::take(&mut self.scripts.buffers),
        };
        let is_declared = flags.is_some();
        let flags = flags.unwrap_or_default();
        Box::new(Running {
            fiber: Fiber::new(program, self.scripts.spare.take()),
            undo: Undo::new(&self.engine.changes, self.keeps_to_its_keys(&name)),
            name,
            engine,
            client: None,
            read_only: script.read_only || flags.has(ScriptFlags::NO_WRITES),
            allows_oom: flags.has(ScriptFlags::ALLOW_OOM),
            keeps_to_slot: is_declared && !flags.has(ScriptFlags::ALLOW_CROSS_SLOT_KEYS),
            slot,
            db: call.db,
            call,
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

    /// Whether a run of this script was over with the keys that it had declared. Where all keys are here, nobody
    /// needs to know.
    fn keeps_to_its_keys(&self, name: &str) -> bool {
        self.engine.shards.len() > 1 && self.scripts.habit(name).keeps_to_its_keys
    }

    /// Says what follows the end of the script that runs on.
    pub(super) fn then(&mut self, then: Then) {
        let running = self.scripts.running.as_mut().expect("a script that is not over is kept");
        running.then = Some(match (then, &running.scope) {
            // It has taken its shard while it ran, see `hold_shard`.
            (Then::Job(request, None), Scope::Whole { tx, .. }) => Then::Job(request, Some(*tx)),
            (then, _) => then,
        });
    }

    /// A script that had keys at hand waits for others: nobody else touches the keys of this shard, which is the only
    /// one, until it is over. Nobody holds any at the moment.
    pub(super) fn hold_shard(&mut self, run: &mut Running, conn: ConnId) {
        let (tx, mut recalled) = (self.process.tx(), Vec::new());
        let verdict = self.engine.locks.schedule_whole(tx, &mut recalled);
        assert_eq!(verdict, LineVerdict::Granted, "a shard is held for a script when it is free");
        run.scope = Scope::Whole { tx, conn, borrowed: Vec::new() };
    }

    // ---- while it runs ----

    /// Lets a script go on until it is over, or has to wait; then it is kept.
    pub(super) fn drive(
        &mut self,
        mut run: Box<Running>,
        answer: Answer,
    ) -> Option<(Outcome, Option<Then>)> {
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
    pub(super) fn enter(&mut self, run: &mut Running) {
        self.engine.reach.keys.extend(std::mem::take(&mut run.reach));
        self.engine.reach.whole = matches!(run.scope, Scope::Whole { .. });
        self.engine.pubsub.put_back(std::mem::take(&mut run.published));
        self.engine.journal.open(std::mem::take(&mut run.unit));
        self.engine.journal.set_audience(run.audience);
        run.found_borrowing = self.borrowing;
        self.set_borrowing(run.borrows);
        self.engine.in_script = true;
    }

    /// It waits, or is over. What it publishes is held back until it is over.
    pub(super) fn leave(&mut self, run: &mut Running) {
        run.reach = std::mem::take(&mut self.engine.reach.keys);
        self.engine.reach.whole = false;
        self.engine.publish_notes();
        run.unit = self.engine.journal.suspend();
        self.engine.journal.set_audience(Audience::ALL);
        run.published = self.engine.pubsub.take_outgoing();
        self.set_borrowing(run.found_borrowing);
        self.engine.in_script = false;
    }

    /// What a script waited for is there.
    pub(super) fn resume_script(&mut self, answer: Answer) {
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
                let may = words.with_list(|list| identify(CommandTable::get(), list));
                let may = may.map(|_| true);
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

    // ---- its end ----

    /// A script is over, or aborted: what it answers, and what follows.
    fn conclude_script(&mut self, run: Running, ended: Ended) -> (Outcome, Option<Then>) {
        self.scripts.is_busy = false;
        let Running { fiber, call, name, scope, mut undo, verdict, published, unit, .. } = run;
        let (began_ticks, then) = (run.began_ticks, run.then);
        self.scripts.spare = fiber.into_stack();
        self.scripts.buffers = ended.spare;
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
                let what = (call.id, &*call.words);
                self.engine.account_since(what, began_ticks, result, ended.reply.len());
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
    pub(super) fn script_is_over(&mut self, outcome: Outcome, then: Option<Then>) {
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

impl WaitsFor {
    /// In words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            WaitsFor::Tick => "a tick",
            WaitsFor::Keys { .. } => "keys",
            WaitsFor::Parts(_) => "parts",
        }
    }
}
