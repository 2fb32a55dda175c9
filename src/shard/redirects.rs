//! A data core of a node: which commands run here, and where clients are sent with the others.
//!
//! The shard of the connection asks before it runs a command or sends it to the shard of its keys, and gives it
//! a [`Pass`] on its way. Who has the keys asks again only if the map has changed since, or if the slot is on its
//! way: then it matters which keys are there when the command runs, after whoever held them (MIGRATE holds what
//! it moves). A command that runs nowhere yet, because it is queued by MULTI, or WATCH, waits until the shard of
//! its keys has looked for them.
//!
//! Promise: without cluster mode a command pays one branch for all this; with it, a command for one key of a slot that
//! rests here pays for the look at one bit more, and allocates nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shard;
use super::engine::Engine;
use super::input::Next;
use super::job::{Job, Outcome};
use super::message::{Message, OwnedCommand};
use super::multi::passes_multi;
use super::script_run::Running;
use crate::cluster::SlotMap;
use crate::cluster::redirect::{Found, Route, Terms, Territory};
use crate::command::spec::{ASKING, WRITE};
use crate::command::{
    Command, CommandError, CommandId, CommandTable, Run, ScriptBy, ScriptCommand, SessionCommand,
};
use crate::keyspace::{DbKey, Key};
use crate::pubsub::{Kind, Name};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::scripting::Digest;
use crate::scripting::source::{self, ScriptFlags};
use crate::session::{Block, Hold, Pass, SlotsNamed};
use crate::shard_map::ShardId;
use crate::slot::{Slot, slot_of};
use crate::transaction::KeyLock;

const NOT_LOCAL: CommandError =
    CommandError::text("ERR Script attempted to access a non local key in a cluster node");
const DOWN_FOR_SCRIPT: CommandError =
    CommandError::text("ERR Script attempted to execute a command while the cluster is down");
const READONLY_FOR_SCRIPT: CommandError = CommandError::text(
    "ERR Script attempted to execute a write command while the cluster is down and readonly",
);
const OTHER_SLOT: CommandError =
    CommandError::text("ERR Script attempted to access keys that do not hash to the same slot");
const TRY_AGAIN: CommandError =
    CommandError::text("TRYAGAIN Multiple keys request during rehashing of slot");

/// A command as it was parsed: which, its words, and its key, if it has exactly one.
type Given<'a> = (CommandId, &'a [&'a [u8]], Option<(u8, Key<'a>)>);

pub(super) fn is_exec(command: &Command) -> bool {
    matches!(command.run, Run::Session(SessionCommand::Exec))
}

/// What of `words` is in a slot, in the order of their places in the row of the command.
fn names_of<'w>(command: &Command, words: &[&'w [u8]]) -> Vec<&'w [u8]> {
    let mut names = Vec::new();
    command.for_each_name(words, |at| names.push(words[at]));
    names
}

impl Shard {
    // ---- where the connection lives ----

    /// Whether commands for slots that are served here may be let through without a further look.
    pub(super) fn settle_looking(&mut self) {
        self.looks_closely = !self.askers.is_empty() || self.engine.counts_slots;
    }

    /// Runs a command that is not simply let through.
    pub(super) fn run_with_a_look(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        match self.engine.counts_slots {
            true => self.run_counted(conn, id, words, key),
            false => self.run_as_node(conn, id, words, key),
        }
    }

    /// Runs a command if its keys are this node's, and says where it has to go if not.
    pub(super) fn run_as_node(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        let Some(session) = self.sessions.get(conn) else { return Next::Stop };
        let command = CommandTable::get().command(id);
        let reads = session.readonly && !session.asking && !command.flags.has(WRITE);
        if let (Some((at, key)), true, Some(territory)) = (key, reads, &self.engine.territory)
            && territory.mirrors(key.slot)
        {
            return self.run_admitted(conn, id, words, Some((at, key)));
        }
        let next = match command.keys.is_empty() && !is_exec(command) {
            true => self.run_admitted(conn, id, words, key),
            false => self.run_if_ours(conn, id, words, key),
        };
        if !matches!(next, Next::NotYet)
            && let Some(session) = self.sessions.get_mut(conn)
        {
            session.looks = false;
            let is_asking = matches!(command.run, Run::Session(SessionCommand::Asking));
            session.asking &= is_asking || session.multi.is_some();
            let asks = session.asking;
            self.note_asker(conn, asks);
        }
        next
    }

    /// Whether the next command of `conn` may use a slot that is on its way to here.
    pub(super) fn note_asker(&mut self, conn: ConnId, asks: bool) {
        if asks || !self.askers.is_empty() {
            self.askers.retain(|asker| *asker != conn);
            self.askers.extend(asks.then_some(conn));
            self.settle_looking();
        }
    }

    fn run_if_ours(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        let found = session.keys_found.take();
        let pass = session.pass(self.engine.map_version);
        if !session.authenticated || pass.is_exempt {
            return self.run_admitted(conn, id, words, key);
        }
        let command = CommandTable::get().command(id);
        let block = session.multi.as_ref().map(|multi| &multi.block).filter(|_| is_exec(command));
        let route = match block {
            Some(block) if self.engine.serves_block(block) => Route::Here,
            Some(block) => self.engine.route(&terms_of_block(block, &pass), &block.names()),
            None => self
                .engine
                .route(&self.engine.terms_of(command, words, &pass), &names_of(command, words)),
        };
        match route {
            Route::Here => self.run_admitted(conn, id, words, key),
            Route::Elsewhere(error) => self.send_elsewhere(conn, (id, words, key), &error),
            Route::Look(slot) => self.run_after_look(conn, (id, words, key), slot, found),
        }
    }

    /// The client is told to go elsewhere with its command, or its command goes there without it.
    #[cold]
    fn send_elsewhere(
        &mut self,
        conn: ConnId,
        (id, words, key): Given<'_>,
        error: &CommandError,
    ) -> Next {
        if self.stays_for_now(conn, CommandTable::get().command(id), error) {
            return self.run_admitted(conn, id, words, key);
        }
        if let Some(next) = self.forward(conn, id, words, error) {
            return next;
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.commands += 1;
            session.last_command = Some(id);
        }
        if is_exec(CommandTable::get().command(id)) {
            self.leave_multi(conn);
        }
        self.refuse(conn, Some(id), error)
    }

    /// A command for a slot on its way: whether it runs depends on which of its keys are here. `found` of them are, if
    /// that is known.
    fn run_after_look(
        &mut self,
        conn: ConnId,
        (id, words, key): Given<'_>,
        slot: Slot,
        found: Option<u64>,
    ) -> Next {
        let command = CommandTable::get().command(id);
        let Some(session) = self.sessions.get(conn) else { return Next::Stop };
        let is_watch = matches!(command.run, Run::Session(SessionCommand::Watch));
        let is_queued = session.multi.is_some() && !passes_multi(command);
        let names: Vec<&[u8]> = match &session.multi {
            Some(multi) if is_exec(command) => multi.block.names(),
            _ => names_of(command, words),
        };
        let owner = self.engine.shards.owner(slot);
        let is_known = owner == self.id() && self.are_free(&names);
        let found = match found {
            Some(present) => Found::counted(&names, names.len().min(present as usize)),
            None if is_known => self.look_for(&names),
            None if is_watch || is_queued => {
                let keys = names.iter().map(|name| (0, name.to_vec())).collect();
                return self.look_elsewhere(conn, owner, keys);
            }
            None => {
                // It goes to the shard of its keys, or stands in line for them, and is asked there.
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.looks = true;
                }
                return self.run_admitted(conn, id, words, key);
            }
        };
        match self.after_look(slot, found) {
            Ok(()) => self.run_admitted(conn, id, words, key),
            Err(error) => self.send_elsewhere(conn, (id, words, key), &error),
        }
    }

    fn are_free(&self, names: &[&[u8]]) -> bool {
        let locks = &self.engine.locks;
        let is_wanted = |name: &&[u8]| locks.is_wanted(KeyLock { hash: Key::new(name).hash });
        locks.is_idle() || !names.iter().any(is_wanted)
    }

    fn look_for(&self, names: &[&[u8]]) -> Found {
        Found::among(names, |name| self.engine.keyspace[0].peek(&Key::new(name)).is_some())
    }

    fn after_look(&self, slot: Slot, found: Found) -> Result<(), CommandError> {
        match &self.engine.territory {
            Some(territory) => territory.after_look(slot, found),
            None => Ok(()),
        }
    }

    /// The next command of `conn` waits until the shard of its keys has looked for them.
    fn look_elsewhere(&mut self, conn: ConnId, owner: ShardId, keys: Vec<DbKey>) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        if !session.replies.is_clear() {
            session.hold = Hold::Drain;
            return Next::NotYet;
        }
        session.hold = Hold::Operation;
        self.ask_for_presence(conn, owner, keys);
        Next::NotYet
    }

    /// The shard of the keys has looked.
    pub(super) fn note_presence(&mut self, conn: ConnId, present: u64) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.keys_found = Some(present);
            session.hold = Hold::None;
            self.resumable.push_back(conn);
        }
    }

    // ---- where the keys are ----

    /// Why a command does not run here after all; its keys are here, as far as they exist.
    #[cold]
    pub(super) fn refusal_of_command(
        &self,
        id: CommandId,
        words: &[&[u8]],
        pass: &Pass,
    ) -> Option<CommandError> {
        let command = CommandTable::get().command(id);
        let terms = self.engine.terms_of(command, words, pass);
        self.refusal_of_names(&terms, &names_of(command, words), pass)
    }

    /// As [`Shard::refusal_of_command`], of a job.
    #[cold]
    pub(super) fn refusal_of_job(&self, job: &Job) -> Option<CommandError> {
        match job {
            Job::Command(command) => {
                let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                self.refusal_of_command(command.id, &words, &command.pass)
            }
            Job::Block(block) => {
                let terms = terms_of_block(block, &block.pass);
                self.refusal_of_names(&terms, &block.names(), &block.pass)
            }
        }
    }

    fn refusal_of_names(
        &self,
        terms: &Terms,
        names: &[&[u8]],
        pass: &Pass,
    ) -> Option<CommandError> {
        if pass.is_exempt {
            return None;
        }
        match self.engine.route(terms, names) {
            Route::Here => None,
            Route::Elsewhere(error) => Some(error),
            Route::Look(slot) => self.after_look(slot, self.look_for(names)).err(),
        }
    }

    /// Why a block does not run for which all shards stand still. In a slot on its way that another shard has, its
    /// keys are not looked for: that the client comes again is as right as anything.
    #[cold]
    pub(super) fn refusal_of_whole_block(&self, block: &Block) -> Option<CommandError> {
        if block.pass.holds(self.engine.map_version) {
            return None;
        }
        let elsewhere = |slot: &Slot| self.engine.shards.owner(*slot) != self.id();
        let names = block.names();
        match names.first().map(|name| slot_of(name)).filter(elsewhere) {
            None => self.refusal_of_job_names(block, &names),
            Some(_) => match self.engine.route(&terms_of_block(block, &block.pass), &names) {
                _ if block.pass.is_exempt => None,
                Route::Here => None,
                Route::Elsewhere(error) => Some(error),
                Route::Look(_) => Some(TRY_AGAIN),
            },
        }
    }

    fn refusal_of_job_names(&self, block: &Block, names: &[&[u8]]) -> Option<CommandError> {
        self.refusal_of_names(&terms_of_block(block, &block.pass), names, &block.pass)
    }

    /// Why a script does not run for which all shards stand still. Which of its keys are there is asked when it
    /// names them.
    #[cold]
    pub(super) fn refusal_of_whole_script(&self, command: &OwnedCommand) -> Option<CommandError> {
        if command.pass.holds(self.engine.map_version) || command.pass.is_exempt {
            return None;
        }
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let row = CommandTable::get().command(command.id);
        match self
            .engine
            .route(&self.engine.terms_of(row, &words, &command.pass), &names_of(row, &words))
        {
            Route::Here | Route::Look(_) => None,
            Route::Elsewhere(error) => Some(error),
        }
    }

    /// The reply of a job that does not run here after all.
    #[cold]
    pub(super) fn refuse_job(&mut self, job: &Job, error: CommandError) -> Outcome {
        if self.forwards_job(job, &error) {
            return Outcome::Elsewhere(error);
        }
        let (id, resp3) = match job {
            Job::Command(command) => (Some(command.id), command.resp3),
            Job::Block(block) => {
                self.end_of_watch(block.watcher);
                (None, block.resp3)
            }
        };
        self.engine.rejected(id, &error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, resp3).error(error);
        Outcome::Reply(reply)
    }

    // ---- scripts ----

    /// Whether a command of a script may run here, as far as that can be said without looking for its keys (Redis 7.0
    /// `script.c`, scriptVerifyClusterState); the slot if one has to look.
    #[inline]
    pub(super) fn route_of_call(
        &self,
        run: &mut Running,
        command: &Command,
        words: &[&[u8]],
    ) -> Result<Option<Slot>, CommandError> {
        if self.engine.territory.is_none() || run.call.pass.is_exempt {
            return Ok(None);
        }
        self.route_of_call_in_cluster(run, command, words)
    }

    fn route_of_call_in_cluster(
        &self,
        run: &mut Running,
        command: &Command,
        words: &[&[u8]],
    ) -> Result<Option<Slot>, CommandError> {
        use crate::cluster::redirect::{DOWN, DOWN_FOR_WRITES};
        let names = names_of(command, words);
        let Some(first) = names.first() else { return Ok(None) };
        let slot = slot_of(first);
        let looks = match self
            .engine
            .route(&self.engine.terms_of(command, words, &run.call.pass), &names)
        {
            Route::Here => None,
            Route::Look(slot) => Some(slot),
            Route::Elsewhere(error) if error == DOWN => return Err(DOWN_FOR_SCRIPT),
            Route::Elsewhere(error) if error == DOWN_FOR_WRITES => return Err(READONLY_FOR_SCRIPT),
            Route::Elsewhere(_) => return Err(NOT_LOCAL),
        };
        if run.keeps_to_slot && *run.slot.get_or_insert(slot) != slot {
            return Err(OTHER_SLOT);
        }
        Ok(looks)
    }

    /// Whether the keys of a script's command, all of which are in reach, are there as they have to be in a slot on
    /// its way.
    pub(super) fn check_presence_for_script(
        &self,
        slot: Slot,
        command: &Command,
        words: &[&[u8]],
    ) -> Result<(), CommandError> {
        let found = self.look_for(&names_of(command, words));
        self.after_look(slot, found).map_err(|_| NOT_LOCAL)
    }

    // ---- a new map ----

    /// Who owns which slots has changed.
    pub(super) fn on_slot_map(&mut self, map: Arc<SlotMap>) {
        self.engine.keyspace.set_staged(map.staged.iter());
        let territory = Territory::new(Some(map));
        let moved = |slot: Slot| {
            let before = self.engine.territory.as_ref().and_then(|before| before.owner(slot));
            before.is_some_and(|owner| territory.owner(slot).map(|now| now.id) != Some(owner.id))
        };
        let leaving = self.channels_in(moved);
        if let Some(usage) = &mut self.engine.stats.slot_usage {
            let before = self.engine.territory.as_ref();
            let owner = |territory: &Territory, slot| territory.owner(slot).map(|owner| owner.id);
            usage.reset(|slot| before.and_then(|b| owner(b, slot)) != owner(&territory, slot));
        }
        self.lost_slots.keep_those_of(&territory);
        self.engine.set_territory(territory);
        self.redirect_blocked();
        self.settle_sessions();
        for (conn, channels) in leaving {
            self.end_shard_channels(conn, &channels);
        }
        self.send(self.control_core(), Message::SlotMapNoted(self.id()));
    }

    /// Whether the slots are still ours: with the turn's first look at the clock, before anything that a client sent.
    pub(super) fn look_at_lease(&mut self) {
        let Some(territory) = &self.engine.territory else { return };
        let lease_ms = self.process.cluster_lease_ms.load(Ordering::Relaxed);
        let lapsed = lease_ms < self.engine.keyspace.now_ms() as u64;
        if let Some(territory) = territory.when_lease(lapsed) {
            self.engine.set_territory(territory);
        }
    }

    /// Who listens here to shard channels of such slots, and to which.
    fn channels_in(&self, is_in: impl Fn(Slot) -> bool) -> Vec<(ConnId, Vec<Name>)> {
        let listens = |conn: &ConnId| self.registry.counts(*conn).shard_channels > 0;
        let conns = self.sessions.iter().map(|(conn, _)| conn).filter(listens);
        let channels = |conn| {
            let mut names = self.registry.names(conn, Kind::Shard);
            names.retain(|name| is_in(slot_of(name)));
            (conn, names)
        };
        conns.map(channels).filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Subscriptions end because their slots have left.
    fn end_shard_channels(&mut self, conn: ConnId, channels: &[Name]) {
        let names: Vec<&[u8]> = channels.iter().map(|name| &name[..]).collect();
        let confirmations = self.unsubscribe_at_once(conn, Kind::Shard, &names);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.push(&confirmations);
        }
        self.touch(conn);
    }
}

fn terms_of_block(block: &Block, pass: &Pass) -> Terms {
    let Pass { asking, readonly, brings, .. } = *pass;
    Terms { block_writes: block.writes, asking, readonly, brings, ..Terms::default() }
}

impl Engine {
    /// What decides about a command besides its keys.
    fn terms_of(&self, command: &Command, words: &[&[u8]], pass: &Pass) -> Terms {
        let writes = match command.run {
            Run::Script(script) => self.says_that_it_writes(script, words),
            _ => command.flags.has(WRITE),
        };
        Terms {
            writes,
            block_writes: false,
            is_channel: command.is_about_channels(),
            asking: pass.asking || command.flags.has(ASKING),
            readonly: pass.readonly,
            brings: pass.brings,
            is_migrate: command.name == "migrate",
            ..Terms::default()
        }
    }

    /// Whether a script says of itself that it may write. One without a first line says nothing (Redis 7.0 `eval.c`,
    /// evalGetCommandFlags).
    fn says_that_it_writes(&self, script: ScriptCommand, words: &[&[u8]]) -> bool {
        let of_text = |text: &[u8]| source::script(text).ok().and_then(|script| script.flags);
        let store = &self.process.scripts;
        let flags = match (script.by, words.get(1)) {
            (_, None) => None,
            (ScriptBy::Text, Some(text)) if text.starts_with(b"#!") => of_text(text),
            (ScriptBy::Text, Some(_)) => None,
            // Where it makes no difference, nobody who shares the store is held up.
            _ if self.territory.as_ref().is_none_or(|territory| territory.serves_alike()) => None,
            (ScriptBy::Digest, Some(digest)) => Digest::parse(digest)
                .and_then(|digest| store.script(digest))
                .and_then(|t| of_text(&t)),
            (ScriptBy::Function, Some(name)) => {
                store.catalogue().function(name).map(|(_, info)| info.flags)
            }
        };
        flags.is_some_and(|flags| !flags.has(ScriptFlags::NO_WRITES))
    }

    /// Where a command with these keys runs.
    fn route(&self, terms: &Terms, names: &[&[u8]]) -> Route {
        let Some(territory) = &self.territory else { return Route::Here };
        let terms = Terms {
            reads_when_down: self.config.cluster_allow_reads_when_down,
            channels_when_down: self.config.cluster_allow_pubsubshard_when_down,
            ..*terms
        };
        territory.route(&terms, names)
    }

    /// Whether a block runs here whatever its keys.
    fn serves_block(&self, block: &Block) -> bool {
        match (block.slots, &self.territory) {
            (SlotsNamed::One(slot), Some(territory)) => territory.serves(slot),
            (SlotsNamed::None, _) | (_, None) => true,
            (SlotsNamed::Several, _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
