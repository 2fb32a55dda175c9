//! Scripts for which all shards stand still: those that reach further than they say, and those between MULTI and
//! EXEC. They run where their connection lives, and fetch keys as they need them ([`super::script_run`]).

use super::Shard;
use super::forwarding::Stray;
use super::job::{Job, Outcome};
use super::message::{JobRequest, Message, Origin, OwnedCommand};
use super::script_run::{Scope, Then};
use super::transactions::Work;
use crate::clock::Ticks;
use crate::command::{CommandTable, Run};
use crate::reactor::ConnId;
use crate::transaction::TxId;

impl Shard {
    /// Has all shards stand still for a job that is a script. The connection's shard sees to it.
    pub(super) fn start_with_all(&mut self, job: Job, origin: Origin) {
        if origin.shard == self.id() {
            return self.start_exclusive(Work::Script(job, origin));
        }
        let request = JobRequest { job, origin, number: None };
        self.send(origin.shard.index(), Message::JobForAll(Box::new(request)));
    }

    /// All shards stand still for a script.
    pub(super) fn run_script_with_all(&mut self, tx: TxId, job: Job, origin: Origin) {
        let Job::Command(command) = &job else { unreachable!("a script is one command") };
        if let Some(error) = self.refusal_of_whole_script(command) {
            if self.forwards_job(&job, &error) {
                self.end_stand_still(tx);
                self.send_stray(Stray { origin, job, error });
                return self.release(tx);
            }
            let outcome = self.refuse_script(&command.into(), &error, Ticks::now());
            return self.end_whole_script(tx, origin, outcome);
        }
        let scope = Scope::Whole { tx, conn: origin.conn, borrowed: Vec::new() };
        match self.begin_script_of(command, (Some(origin.conn), scope)) {
            Outcome::RunsOn => self.then(Then::Whole(tx, origin)),
            outcome => self.end_whole_script(tx, origin, outcome),
        }
    }

    pub(super) fn end_whole_script(&mut self, tx: TxId, origin: Origin, outcome: Outcome) {
        let Outcome::Reply(reply) = outcome else {
            unreachable!("with all shards there is nothing that it lacks")
        };
        self.end_stand_still(tx);
        self.deliver(origin, reply);
        self.release(tx);
    }

    /// A command of a block for which all shards stand still.
    pub(super) fn run_script_of_block(&mut self, tx: TxId, conn: ConnId, command: &OwnedCommand) {
        let scope = Scope::Whole { tx, conn, borrowed: Vec::new() };
        match self.begin_script_of(command, (Some(conn), scope)) {
            Outcome::RunsOn => self.then(Then::Block(conn)),
            outcome => self.end_script_of_block(conn, outcome),
        }
    }

    pub(super) fn end_script_of_block(&mut self, conn: ConnId, outcome: Outcome) {
        let Outcome::Reply(reply) = outcome else {
            unreachable!("with all shards there is nothing that it lacks")
        };
        if let Some(run) = self.runs.get_mut(&conn) {
            run.out.extend(reply);
        }
        self.advance(conn);
    }

    fn begin_script_of(
        &mut self,
        command: &OwnedCommand,
        place: (Option<ConnId>, Scope),
    ) -> Outcome {
        let Run::Script(script) = CommandTable::get().command(command.id).run else {
            unreachable!("only these run scripts")
        };
        self.begin_script(script, command.into(), place)
    }
}
