//! The commands of a script that runs: which it may run, and how each finds its keys.
//!
//! With keys that are out of reach, see [`super::script_run`].

use std::collections::HashSet;

use super::Shard;
use super::connection::Start;
use super::engine::Ran;
use super::eviction::OUT_OF_MEMORY;
use super::group::{identify, why_unidentified};
use super::message::{Fetch, Message, OwnedCommand};
use super::script_run::{Parked, Running, Scope, Verdict, WaitsFor};
use super::scripts::AwaitedParts;
use crate::admin::stats;
use crate::command::spec::{DENYOOM, MAY_REPLICATE, NOSCRIPT, WRITE};
use crate::command::{
    Attempt, Command, CommandError, CommandId, CommandResult, CommandTable, Ctx, Request, Run,
    SessionCommand, selected_database,
};
use crate::keyspace::{DbKey, Key};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::scripting::{Abort, Answer, Words};

const CANNOT_UNDO: CommandError = CommandError::text(
    "ERR Script attempted to access a non declared key after it wrote to a value too big to be undone",
);

/// Keys that a job may find out about one after the other; then it runs with all.
const LEARNED_KEYS_MAX: usize = 4;

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
    /// Others have to do it: it starts so.
    Elsewhere(Start),
}

impl Shard {
    /// Runs a command for a script.
    pub(super) fn call_of_script(
        &mut self,
        run: &mut Running,
        words: Words,
        resp3: bool,
        mut wire: Vec<u8>,
    ) -> Result<Answer, Parked> {
        match words.with_list(|list| self.run_call(run, list, resp3, &mut wire)) {
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
            called @ (Called::Lacks(_) | Called::NeedsAll | Called::TooBig) => {
                let always = !matches!(called, Called::TooBig);
                run.verdict = Some(Verdict::NeedsAll { always });
                Ok(Answer::Abort(Abort::Again))
            }
            Called::Parts(command) => self.call_in_parts(run, words, command),
            Called::Elsewhere(start) => self.call_elsewhere(run, words, resp3, start),
        }
    }

    /// Whether the job may find out about one more key by running again.
    fn may_learn(&self, run: &Running) -> bool {
        let words: Vec<&[u8]> = run.call.words.iter().collect();
        let mut declared = HashSet::new();
        let command = CommandTable::get().command(run.call.id);
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
                        let pass = run.call.pass;
                        Called::Parts(OwnedCommand { id, db: run.db, resp3, pass, args })
                    }
                }
            }
            Run::Session(SessionCommand::Select) => {
                self.select_of_script(run, id, words, resp3, out);
                Called::Replied
            }
            Run::Session(which) if let Some(start) = Self::operation_of(which) => {
                self.prepare_call_elsewhere(run, (id, start), words, resp3, out)
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
        if matches!(called, Called::Replied | Called::Parts(_) | Called::Elsewhere(_)) {
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
        let OwnedCommand { db, resp3, .. } = command;
        self.scripts.awaited = Some(AwaitedParts { conn, db, resp3, wire: None });
        self.start_parts_of(conn, command, Some((tx, false)));
        self.await_call(run, words)
    }

    /// The reply of a command that others do, if it is there.
    fn await_call(&mut self, run: &mut Running, words: Words) -> Result<Answer, Parked> {
        match self.scripts.awaited.take() {
            Some(AwaitedParts { wire: Some(wire), .. }) => Ok(Answer::Replied(words, wire)),
            waiting => {
                self.scripts.awaited = waiting;
                run.waits = WaitsFor::Parts(words);
                Err(Parked)
            }
        }
    }

    /// A command that others do (CLUSTER, MIGRATE): the script waits for them, and nobody must see what it has done so
    /// far. Either all shards stand still for it, or there is one, which is free to be held.
    fn prepare_call_elsewhere(
        &mut self,
        run: &mut Running,
        (id, start): (CommandId, Start),
        words: &[&[u8]],
        resp3: bool,
        out: &mut Vec<u8>,
    ) -> Called {
        let command = CommandTable::get().command(id);
        // MIGRATE moves what is there, in slots on their way as well.
        if let Err(error) = self.route_of_call(run, command, words) {
            return self.refuse_call(Some(id), error, resp3, out);
        }
        let may_hold = self.engine.shards.len() == 1 && self.engine.locks.is_idle();
        if matches!(run.scope, Scope::Keys) && !(may_hold && run.client.is_some()) {
            return Called::NeedsAll;
        }
        let lacking = self.out_of_reach(command, words, run.db);
        if !lacking.is_empty() {
            return Called::Lacks(lacking);
        }
        self.engine.account(id, words, stats::Outcome::Ok);
        Called::Elsewhere(start)
    }

    fn call_elsewhere(
        &mut self,
        run: &mut Running,
        words: Words,
        resp3: bool,
        start: Start,
    ) -> Result<Answer, Parked> {
        let conn = match (&run.scope, run.client) {
            (Scope::Whole { conn, .. }, _) => *conn,
            (Scope::Keys, Some(conn)) => conn,
            (Scope::Keys, None) => unreachable!("such a script has all shards stand still"),
        };
        self.scripts.awaited = Some(AwaitedParts { conn, db: run.db, resp3, wire: None });
        words.with_list(|words| start(self, conn, words));
        let answer = self.await_call(run, words);
        if answer.is_err() && matches!(run.scope, Scope::Keys) {
            self.hold_shard(run, conn);
        }
        answer
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
}

impl Running {
    /// Whether the script may run this command (Redis 7.0 `script.c`, scriptCall).
    fn may_run(&self, command: &Command, has_room: bool) -> CommandResult {
        if command.flags.has(NOSCRIPT) {
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
