//! Commands that concern all shards: each does its part, and the parts are put together where the
//! connection lives.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::clients;
use super::message::{
    ControlAnswer, Message, OwnedCommand, PartDone, PartRequest, PartWork, Ticket,
};
use super::transactions::{Work, key_locks};
use super::{Shard, Waiting};
use crate::admin::stats::Outcome;
use crate::command::spec::WRITE;
use crate::command::{
    CommandError, CommandId, CommandResult, CommandTable, Part, Request, Run, Stretch,
};
use crate::keyspace::{DbKey, ScanCursor};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::shard_map::ShardId;
use crate::transaction::{KeyLock, TxId};

/// The transaction that holds the shards meanwhile, if there is one, and whether it ends with the parts.
type Under = Option<(TxId, bool)>;

/// Puts the parts of a session command together into a reply.
pub(super) type Merge = Box<dyn FnOnce(&mut Shard, ConnId, Vec<Part>, &mut Reply<'_>)>;

/// Something that a connection waits for.
pub(super) enum Operation {
    /// The parts of a command of the table.
    Parts {
        conn: ConnId,
        command: Arc<OwnedCommand>,
        parts: Vec<Option<Part>>,
        failed: Option<CommandError>,
    },
    /// The parts of a session command.
    Merged { conn: ConnId, merge: Merge, parts: Vec<Option<Part>> },
    /// One shard after the other looks at its keys (SCAN).
    Walk { conn: ConnId, command: Arc<OwnedCommand>, found: Option<Stretch>, under: Under },
    /// The control core's word.
    Control { conn: ConnId },
    /// How many keys of its next command there are.
    Presence { conn: ConnId },
    /// So many shards have yet to say that they have all that was sent to them before; then `part` goes to
    /// the shard that asked for it.
    Settling { asker: ShardId, ticket: Ticket, part: Part, left: usize },
}

impl Shard {
    /// Starts a command of the table that concerns all shards, or walks over them.
    pub(super) fn start_parts(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let command = OwnedCommand {
            id,
            db: session.db,
            resp3: session.resp3,
            pass: session.pass(self.engine.map_version),
            args: words.iter().map(|word| word.to_vec()).collect(),
        };
        match CommandTable::get().command(id).run {
            Run::EveryShard(every) if every.exclusive && self.engine.shards.len() > 1 => {
                self.start_exclusive(Work::Parts(conn, command));
            }
            _ => self.start_parts_of(conn, command, None),
        }
    }

    /// As [`Shard::start_parts`], while `under` holds all shards.
    pub(super) fn start_parts_of(&mut self, conn: ConnId, command: OwnedCommand, under: Under) {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        match CommandTable::get().command(command.id).run {
            Run::EveryShard(_) => self.ask_every_shard(conn, command, under),
            Run::Walk(walk) => match (walk.start)(&Request::new(&words)) {
                Ok(start) => {
                    let (ticket, command) = (self.ticket(), Arc::new(command));
                    let known = Arc::clone(&command);
                    let operation = Operation::Walk { conn, command: known, found: None, under };
                    self.operations.insert(ticket, operation);
                    self.walk_from(start, ticket, command, under);
                }
                Err(error) => {
                    self.engine.count_error(&error);
                    self.complete(conn, |_, reply| reply.error(error));
                }
            },
            _ => unreachable!("only these run in parts"),
        }
    }

    fn walk_from(
        &mut self,
        cursor: ScanCursor,
        ticket: Ticket,
        command: Arc<OwnedCommand>,
        under: Under,
    ) {
        let owner = self.engine.shards.owner(cursor.slot);
        self.ask(owner, ticket, PartWork::Stretch(command, cursor), under);
    }

    /// All shards stand still for `tx`: they do their parts.
    pub(super) fn run_exclusive_parts(&mut self, conn: ConnId, command: OwnedCommand, tx: TxId) {
        self.ask_every_shard(conn, command, Some((tx, true)));
    }

    fn ask_every_shard(&mut self, conn: ConnId, command: OwnedCommand, under: Under) {
        let ticket = self.ticket();
        let command = Arc::new(command);
        let parts = self.engine.shards.iter().map(|_| None).collect();
        let operation =
            Operation::Parts { conn, command: Arc::clone(&command), parts, failed: None };
        self.operations.insert(ticket, operation);
        // This one first: it records the effect, before anything that another shard does afterwards.
        let me = self.id();
        let others = self.engine.shards.iter().filter(|shard| *shard != me);
        for shard in std::iter::once(me).chain(others) {
            self.ask(shard, ticket, PartWork::Command(Arc::clone(&command)), under);
        }
    }

    /// Asks all shards for parts of a session command; `merge` makes the reply of them.
    pub(super) fn gather(&mut self, conn: ConnId, work: PartWork, merge: Merge) {
        let ticket = self.ticket();
        let parts = self.engine.shards.iter().map(|_| None).collect();
        self.operations.insert(ticket, Operation::Merged { conn, merge, parts });
        for shard in self.engine.shards.iter() {
            self.ask(shard, ticket, work.clone(), None);
        }
    }

    /// Asks each of these shards for its own part of a session command.
    pub(super) fn gather_from(
        &mut self,
        conn: ConnId,
        works: Vec<(ShardId, PartWork)>,
        merge: Merge,
    ) {
        let ticket = self.ticket();
        let is_asked = |shard: &ShardId| works.iter().any(|(asked, _)| asked == shard);
        let shards = self.engine.shards.iter();
        let parts = shards.map(|shard| (!is_asked(&shard)).then_some(Part::Done)).collect();
        self.operations.insert(ticket, Operation::Merged { conn, merge, parts });
        works.into_iter().for_each(|(shard, work)| self.ask(shard, ticket, work, None));
    }

    /// Asks the owner of these keys how many of them there are, for the next command of `conn`.
    pub(super) fn ask_for_presence(&mut self, conn: ConnId, owner: ShardId, keys: Vec<DbKey>) {
        let ticket = self.ticket();
        self.operations.insert(ticket, Operation::Presence { conn });
        self.ask(owner, ticket, PartWork::CountPresent(keys), None);
    }

    fn ask(&mut self, shard: ShardId, ticket: Ticket, work: PartWork, tx: Under) {
        let request = Box::new(PartRequest { coordinator: self.id(), ticket, work, tx });
        if shard == self.id() {
            self.on_part(request);
        } else {
            self.send(shard.index(), Message::Part(request));
        }
    }

    /// A part is asked of this shard.
    pub(super) fn on_part(&mut self, request: Box<PartRequest>) {
        if let Some((tx, is_last)) = request.tx {
            self.run_part(&request);
            self.settle_changes(is_last.then_some(tx));
            if is_last {
                self.release(tx);
            }
            return;
        }
        let locks = match &request.work {
            PartWork::Command(_) | PartWork::Stretch(..) => None,
            PartWork::Watch(_, keys) | PartWork::CountPresent(keys) => Some(key_locks(keys)),
            _ => {
                return self.run_part(&request);
            }
        };
        let is_wanted = |lock: &KeyLock| self.engine.locks.is_wanted(*lock);
        let waits = match &locks {
            // Some keys may be away on loan: wait until all are at home.
            None => !self.engine.locks.is_idle(),
            Some(locks) => !self.engine.locks.is_idle() && locks.iter().any(is_wanted),
        };
        if waits {
            let tx = self.process.tx();
            return self.enter_line(tx, locks, Waiting::Part(request));
        }
        self.run_part(&request);
        self.settle_changes(None);
    }

    /// Does a part and sends it to who asked.
    pub(super) fn run_part(&mut self, request: &PartRequest) {
        let result = match &request.work {
            PartWork::Command(command) => {
                let result = self.command_part(command, None);
                if result.is_ok() && request.coordinator == self.id() {
                    self.record_of_all(command);
                }
                result
            }
            PartWork::Stretch(command, cursor) => self.command_part(command, Some(*cursor)),
            PartWork::ClientList(filter) => Ok(Part::Other(Box::new(self.client_lines(filter)))),
            PartWork::ClientKill(filter) => {
                let (killed, concerned) = self.kill_clients(filter);
                return self.part_after(request, Part::Count(killed), &concerned);
            }
            PartWork::Pause(pause) => {
                self.set_pause(*pause);
                Ok(Part::Done)
            }
            PartWork::Unblock(id, why) => {
                let waited_on = self.unblock_client(*id, *why);
                let found = Part::Count(u64::from(waited_on.is_some()));
                return self.part_after(request, found, waited_on.as_slice());
            }
            PartWork::Settle => Ok(Part::Done),
            PartWork::CountPresent(keys) => {
                let present = keys.iter().filter(|key| self.is_there(key)).count();
                Ok(Part::Count(present as u64))
            }
            PartWork::FiguresBySlot => Ok(self.figures_by_slot()),
            PartWork::KillScript(engine) => Ok(self.kill_script(*engine)),
            PartWork::BusyScript => Ok(self.busy_script()),
            PartWork::Watch(watcher, keys) => {
                self.watch_keys(*watcher, keys.clone());
                Ok(Part::Done)
            }
        };
        self.send_what_is_published();
        self.part_done(request.coordinator, request.ticket, result);
    }

    fn part_done(&mut self, asker: ShardId, ticket: Ticket, result: CommandResult<Part>) {
        let done = PartDone { ticket, shard: self.id(), result };
        if asker == self.id() {
            self.on_part_done(done);
        } else {
            self.send(asker.index(), Message::PartDone(Box::new(done)));
        }
    }

    /// Sends `part` when the shards `others` have taken what this one has sent them so far. Who is told that a
    /// client waits no more may rely on it: what it does next reaches those shards on other lanes.
    fn part_after(&mut self, request: &PartRequest, part: Part, others: &[ShardId]) {
        let (me, asker) = (self.id(), request.coordinator);
        let others: BTreeSet<ShardId> =
            others.iter().copied().filter(|shard| *shard != me).collect();
        if others.is_empty() {
            return self.part_done(asker, request.ticket, Ok(part));
        }
        let (ticket, left) = (self.ticket(), others.len());
        let operation = Operation::Settling { asker, ticket: request.ticket, part, left };
        self.operations.insert(ticket, operation);
        others.into_iter().for_each(|shard| self.ask(shard, ticket, PartWork::Settle, None));
    }

    /// A shard has all that was sent to it before it was asked.
    fn on_settled(&mut self, settling: Ticket) {
        if let Some(Operation::Settling { left, .. }) = self.operations.get_mut(&settling)
            && *left > 1
        {
            *left -= 1;
        } else if let Some(Operation::Settling { asker, ticket, part, .. }) =
            self.operations.remove(&settling)
        {
            self.part_done(asker, ticket, Ok(part));
        }
    }

    /// Records a command that all shards do their part of.
    fn record_of_all(&mut self, command: &OwnedCommand) {
        if CommandTable::get().command(command.id).flags.has(WRITE) {
            let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
            self.engine.journal.end_command(command.db, &words, true);
        }
    }

    fn command_part(
        &mut self,
        command: &OwnedCommand,
        cursor: Option<ScanCursor>,
    ) -> CommandResult<Part> {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let request = Request::new(&words);
        match (CommandTable::get().command(command.id).run, cursor) {
            (Run::EveryShard(every), None) => self.engine.part(&every, &request, command.db),
            (Run::Walk(walk), Some(cursor)) => {
                (walk.stretch)(&mut self.engine.ctx(command.db), &request, cursor)
                    .map(Part::Stretch)
            }
            _ => unreachable!("only these run in parts"),
        }
    }

    /// A part is done.
    pub(super) fn on_part_done(&mut self, done: PartDone) {
        let index = done.shard.index();
        match self.operations.get_mut(&done.ticket) {
            None => unreachable!("an operation stays until its last part"),
            Some(Operation::Parts { parts, failed, .. }) => {
                let (part, error) = match done.result {
                    Ok(part) => (part, None),
                    Err(error) => (Part::Done, Some(error)),
                };
                parts[index] = Some(part);
                *failed = failed.take().or(error);
                if parts.iter().any(Option::is_none) {
                    return;
                }
            }
            Some(Operation::Merged { parts, .. }) => {
                parts[index] = Some(done.result.unwrap_or(Part::Done));
                if parts.iter().any(Option::is_none) {
                    return;
                }
            }
            Some(Operation::Walk { .. }) => return self.on_stretch_done(done),
            Some(Operation::Presence { conn }) => {
                let (conn, parts) = (*conn, done.result.map_or(0, |part| Part::sum(&[part])));
                self.operations.remove(&done.ticket);
                return self.note_presence(conn, parts);
            }
            Some(Operation::Settling { .. }) => return self.on_settled(done.ticket),
            Some(Operation::Control { .. }) => unreachable!("the control core sends no parts"),
        }
        self.finish_parts(done.ticket);
    }

    /// A shard has done its stretch of a walk: on to the next one, or the reply.
    fn on_stretch_done(&mut self, done: PartDone) {
        let Some(Operation::Walk { conn, command, found, under }) =
            self.operations.remove(&done.ticket)
        else {
            unreachable!("the caller has seen it")
        };
        let result = done.result.map(|part| match (found, part) {
            (Some(mut found), Part::Stretch(further)) => {
                found.extend(further);
                found
            }
            (None, Part::Stretch(stretch)) => stretch,
            (_, _) => unreachable!("a walk is made of stretches"),
        });
        if let Ok(stretch) = &result
            && let Some(cursor) = stretch.goes_on()
        {
            let (found, next) = (result.ok(), Arc::clone(&command));
            let operation = Operation::Walk { conn, command, found, under };
            self.operations.insert(done.ticket, operation);
            return self.walk_from(cursor, done.ticket, next, under);
        }
        self.complete(conn, |engine, reply| {
            let outcome = match result {
                Ok(stretch) => {
                    let Run::Walk(walk) = CommandTable::get().command(command.id).run else {
                        unreachable!("only these walk")
                    };
                    (walk.finish)(&stretch, reply);
                    Outcome::Ok
                }
                Err(error) => {
                    reply.error(&error);
                    engine.count_error(&error);
                    Outcome::Failed
                }
            };
            let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
            engine.account(command.id, &words, outcome);
        });
    }

    fn finish_parts(&mut self, ticket: Ticket) {
        match self.operations.remove(&ticket) {
            Some(Operation::Parts { conn, command, parts, failed }) => {
                let parts: Vec<Part> = parts.into_iter().flatten().collect();
                let id = command.id;
                if failed.is_none() && self.tells_of_flush(conn, id) {
                    let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                    return self.engine.account(id, &words, Outcome::Ok);
                }
                self.complete(conn, |engine, reply| {
                    let Run::EveryShard(every) = CommandTable::get().command(id).run else {
                        unreachable!("only these have parts")
                    };
                    let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                    let request = Request::new(&words);
                    let mark = reply.mark();
                    let result = match failed {
                        Some(error) => Err(error),
                        None => (every.merge)(&mut engine.ctx(command.db), &request, parts, reply),
                    };
                    let mut outcome = Outcome::Ok;
                    if let Err(error) = result {
                        reply.truncate(mark);
                        reply.error(&error);
                        engine.count_error(&error);
                        outcome = Outcome::Failed;
                    }
                    engine.account(id, &words, outcome);
                });
            }
            Some(Operation::Merged { conn, merge, parts }) => {
                let parts: Vec<Part> = parts.into_iter().flatten().collect();
                let mut bytes = Vec::new();
                let resp3 = self.protocol_of(conn);
                merge(self, conn, parts, &mut Reply::new(&mut bytes, resp3));
                self.complete(conn, |_, reply| reply.raw(&bytes));
            }
            _ => unreachable!("only these have parts"),
        }
    }

    /// Asks the control core for something.
    pub(super) fn ask_control(&mut self, conn: ConnId, request: super::message::ControlRequest) {
        let ticket = self.ticket();
        self.operations.insert(ticket, Operation::Control { conn });
        let call = super::message::ControlCall { shard: self.id(), ticket, request };
        let control = self.control_core();
        self.send(control, Message::Control(Box::new(call)));
    }

    /// The control core has answered.
    pub(super) fn on_control_done(&mut self, ticket: Ticket, result: ControlAnswer) {
        let Some(Operation::Control { conn }) = self.operations.remove(&ticket) else { return };
        self.complete(conn, |_, reply| match result {
            Ok(status) => reply.simple(status),
            Err(error) => reply.error(error),
        });
    }

    fn client_lines(&self, filter: &clients::ClientFilter) -> Vec<(u64, String)> {
        clients::lines(&self.sessions, filter, self.engine.keyspace.now_ms())
    }
}
