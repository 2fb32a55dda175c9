//! A script whose keys are all here and free: it runs within its connection's turn, as any other command.
//!
//! Nothing is copied for a wait that does not happen: what a job needs ([`super::job`]) is made when the script has to
//! wait, or to run again with other keys.

use std::rc::Rc;

use super::Shard;
use super::input::{Next, after_reply};
use super::job::{Job, Outcome};
use super::message::{JobRequest, OwnedCommand};
use super::script_run::{Scope, ScriptCall, Then};
use crate::command::{CommandId, CommandTable, Run, ScriptCommand};
use crate::reactor::ConnId;
use crate::scripting::Words;
use crate::session::{Hold, ReplyMode, Spread};

impl From<&OwnedCommand> for ScriptCall {
    fn from(command: &OwnedCommand) -> Self {
        let mut words = Words::default();
        words.set(command.args.iter().map(Vec::as_slice));
        let OwnedCommand { id, db, resp3, pass, .. } = *command;
        Self { id, db, resp3, pass, words: Rc::new(words) }
    }
}

impl Shard {
    /// Runs a script, if nothing stands in its way.
    pub(super) fn run_script_here(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        spread: Spread,
    ) -> Option<Next> {
        let Run::Script(script) = CommandTable::get().command(id).run else { return None };
        let is_here = match spread {
            Spread::Nowhere => true,
            Spread::On(owner) => owner == self.id(),
            Spread::Several => false,
        };
        let session = self.sessions.get(conn)?;
        let pass = session.pass(self.engine.map_version);
        let is_plain = session.replies.is_clear() && session.reply_mode == ReplyMode::On;
        let is_free = self.engine.locks.is_idle() && self.scripts.running.is_none();
        if !(is_here && is_plain && is_free && pass.holds(self.engine.map_version)) {
            return None;
        }
        let mut own = self.scripts.words.take().unwrap_or_default();
        match Rc::get_mut(&mut own) {
            Some(own) => own.set(words.iter().copied()),
            None => own = Rc::new(Words::of(words)),
        }
        let (db, resp3) = (session.db, session.resp3);
        let call = ScriptCall { id, db, resp3, pass, words: Rc::clone(&own) };
        let next = self.run_free_script(conn, script, call);
        if let Some(own) = Rc::get_mut(&mut own) {
            own.trim();
        }
        self.scripts.words = Some(own);
        Some(next)
    }

    fn run_free_script(&mut self, conn: ConnId, script: ScriptCommand, call: ScriptCall) -> Next {
        let ScriptCall { id, db, resp3, pass, .. } = call;
        let words = Rc::clone(&call.words);
        let outcome = self.begin_script(script, call, (Some(conn), Scope::Keys));
        match outcome {
            // What it has published goes before a reply that has a place.
            Outcome::Reply(reply) if !self.engine.pubsub.has_outgoing() => {
                self.settle_changes(None);
                self.answer_at_once(conn, reply)
            }
            outcome => {
                let args = words.iter().map(<[u8]>::to_vec).collect();
                let job = Job::Command(OwnedCommand { id, db, resp3, pass, args });
                self.go_on_as_job(conn, job, outcome)
            }
        }
    }

    fn answer_at_once(&mut self, conn: ConnId, reply: Vec<u8>) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        let out = session.replies.local();
        let before = out.len();
        out.extend_from_slice(&reply);
        let next = after_reply(out.len());
        session.replies.end_local(before);
        self.scripts.buffers.keep_reply(reply);
        next
    }

    /// It is not over, or not done by its end: from here on it is as any other job.
    fn go_on_as_job(&mut self, conn: ConnId, job: Job, outcome: Outcome) -> Next {
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::Drain;
        }
        let request = JobRequest { job, origin, number: None };
        match outcome {
            Outcome::RunsOn => self.then(Then::Job(Box::new(request), None)),
            outcome => self.end_request(request, outcome, None),
        }
        match self.sessions.get_mut(conn) {
            Some(session) if session.may_run() => Next::Done,
            _ => Next::Stop,
        }
    }
}
