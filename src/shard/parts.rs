//! Commands that concern all shards: each does its part, and the parts are put together where the
//! connection lives.

use std::sync::Arc;

use super::clients;
use super::message::{Message, OwnedCommand, PartDone, PartRequest, PartWork, Ticket};
use super::{Shard, Waiting};
use crate::admin::stats::Outcome;
use crate::command::{
    CommandError, CommandId, CommandResult, CommandTable, Part, Request, Run, Stretch,
};
use crate::keyspace::ScanCursor;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::shard_map::ShardId;
use crate::transaction::{TxId, Verdict};

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
    Walk { conn: ConnId, command: Arc<OwnedCommand>, found: Option<Stretch> },
    /// The control core's word.
    Control { conn: ConnId },
}

impl Shard {
    /// Starts a command of the table that concerns all shards, or walks over them.
    pub(super) fn start_parts(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let command = OwnedCommand {
            id,
            db: session.db,
            resp3: session.resp3,
            args: words.iter().map(|word| word.to_vec()).collect(),
        };
        match CommandTable::get().command(id).run {
            Run::EveryShard(every) if every.exclusive && self.engine.shards.len() > 1 => {
                self.start_exclusive(conn, command);
            }
            Run::EveryShard(_) => self.ask_every_shard(conn, command, None),
            Run::Walk(walk) => match (walk.start)(&Request::new(words)) {
                Ok(start) => {
                    let ticket = self.ticket();
                    let command = Arc::new(command);
                    let operation =
                        Operation::Walk { conn, command: Arc::clone(&command), found: None };
                    self.operations.insert(ticket, operation);
                    self.walk_from(start, ticket, command);
                }
                Err(error) => {
                    self.engine.count_error(&error);
                    self.complete(conn, |_, reply| reply.error(error));
                }
            },
            _ => unreachable!("only these run in parts"),
        }
    }

    fn walk_from(&mut self, cursor: ScanCursor, ticket: Ticket, command: Arc<OwnedCommand>) {
        let owner = self.engine.shards.owner(cursor.slot);
        self.ask(owner, ticket, PartWork::Stretch(command, cursor), None);
    }

    /// All shards stand still for `tx`: they do their parts.
    pub(super) fn run_exclusive_parts(&mut self, conn: ConnId, command: OwnedCommand, tx: TxId) {
        self.ask_every_shard(conn, command, Some(tx));
    }

    fn ask_every_shard(&mut self, conn: ConnId, command: OwnedCommand, tx: Option<TxId>) {
        let ticket = self.ticket();
        let command = Arc::new(command);
        let parts = self.engine.shards.iter().map(|_| None).collect();
        let operation =
            Operation::Parts { conn, command: Arc::clone(&command), parts, failed: None };
        self.operations.insert(ticket, operation);
        for shard in self.engine.shards.iter() {
            self.ask(shard, ticket, PartWork::Command(Arc::clone(&command)), tx);
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

    fn ask(&mut self, shard: ShardId, ticket: Ticket, work: PartWork, tx: Option<TxId>) {
        let request = Box::new(PartRequest { coordinator: self.id(), ticket, work, tx });
        if shard == self.id() {
            self.on_part(request);
        } else {
            self.send(shard.index(), Message::Part(request));
        }
    }

    /// A part is asked of this shard.
    pub(super) fn on_part(&mut self, request: Box<PartRequest>) {
        if let Some(tx) = request.tx {
            self.run_part(&request);
            return self.release(tx);
        }
        let looks_at_keys = matches!(request.work, PartWork::Command(_) | PartWork::Stretch(..));
        if !looks_at_keys || self.engine.locks.is_idle() {
            return self.run_part(&request);
        }
        // Some keys may be away on loan: wait until all are at home.
        let tx = self.process.tx();
        match self.stand_in_line(tx, None) {
            Verdict::Queued => _ = self.waiting.insert(tx, Waiting::Part(request)),
            Verdict::Granted => {
                self.run_part(&request);
                self.release(tx);
            }
        }
    }

    /// Does a part and sends it to who asked.
    pub(super) fn run_part(&mut self, request: &PartRequest) {
        let result = match &request.work {
            PartWork::Command(command) => self.command_part(command, None),
            PartWork::Stretch(command, cursor) => self.command_part(command, Some(*cursor)),
            PartWork::ClientList(filter) => Ok(Part::Other(Box::new(self.client_lines(filter)))),
            PartWork::ClientKill(filter) => Ok(Part::Count(self.kill_clients(filter))),
        };
        self.settle_changes();
        let done = PartDone { ticket: request.ticket, shard: self.id(), result };
        if request.coordinator == self.id() {
            self.on_part_done(done);
        } else {
            let coordinator = request.coordinator.index();
            self.send(coordinator, Message::PartDone(Box::new(done)));
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
            Some(Operation::Control { .. }) => unreachable!("the control core sends no parts"),
        }
        self.finish_parts(done.ticket);
    }

    /// A shard has done its stretch of a walk: on to the next one, or the reply.
    fn on_stretch_done(&mut self, done: PartDone) {
        let Some(Operation::Walk { conn, command, found }) = self.operations.remove(&done.ticket)
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
            self.operations.insert(done.ticket, Operation::Walk { conn, command, found });
            return self.walk_from(cursor, done.ticket, next);
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
                let Some(session) = self.sessions.get(conn) else { return };
                let mut bytes = Vec::new();
                let resp3 = session.resp3;
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
    pub(super) fn on_control_done(&mut self, ticket: Ticket, result: Result<(), CommandError>) {
        let Some(Operation::Control { conn }) = self.operations.remove(&ticket) else { return };
        self.complete(conn, |_, reply| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        });
    }

    fn client_lines(&self, filter: &clients::ClientFilter) -> Vec<(u64, String)> {
        clients::lines(&self.sessions, filter, self.engine.keyspace.now_ms())
    }
}
