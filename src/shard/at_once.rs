//! Scripts, and commands that may have to wait, whose keys are all here and free: they run within their connection's
//! turn, as any other command.
//!
//! Nothing is copied for a wait that does not happen: what a job needs ([`super::job`]) is made when a command has to
//! wait, or a script to run again with other keys.

use std::rc::Rc;

use super::Shard;
use super::blocking::Blocked;
use super::input::{Next, after_reply};
use super::job::{Job, Outcome};
use super::message::{JobRequest, OwnedCommand};
use super::script_run::{Scope, ScriptCall, Then};
use crate::command::{Attempt, Blocking, CommandId, Request, ScriptCommand};
use crate::reactor::ConnId;
use crate::scripting::Words;
use crate::session::{Hold, Pass, ReplyMode, Spread};

impl From<&OwnedCommand> for ScriptCall {
    fn from(command: &OwnedCommand) -> Self {
        let mut words = Words::default();
        words.set(command.args.iter().map(Vec::as_slice));
        let OwnedCommand { id, db, resp3, pass, .. } = *command;
        Self { id, db, resp3, pass, words: Rc::new(words) }
    }
}

impl Shard {
    /// Whether nothing stands in the way of a command with these keys: its database, whether it is to be answered in
    /// RESP3, and on what terms it was let through.
    fn may_run_at_once(&self, conn: ConnId, spread: Spread) -> Option<(usize, bool, Pass)> {
        let is_here = match spread {
            Spread::Nowhere => true,
            Spread::On(owner) => owner == self.id(),
            Spread::Several => false,
        };
        let session = self.sessions.get(conn)?;
        let pass = session.pass(self.engine.map_version);
        let is_plain = session.replies.is_clear() && session.reply_mode == ReplyMode::On;
        let may = is_here
            && is_plain
            && self.engine.locks.is_idle()
            && pass.holds(self.engine.map_version);
        may.then_some((session.db, session.resp3, pass))
    }

    // ---- commands that may have to wait ----

    /// Runs a command that may have to wait, if nothing stands in its way.
    pub(super) fn run_blocking_at_once(
        &mut self,
        conn: ConnId,
        (id, blocking): (CommandId, Blocking),
        words: &[&[u8]],
        spread: Spread,
    ) -> Option<Next> {
        let (db, resp3, pass) = self.may_run_at_once(conn, spread)?;
        let session = self.sessions.get_mut(conn)?;
        let out = session.replies.local();
        let (before, request) = (out.len(), Request::new(words));
        match self.engine.attempt(id, &blocking, &request, (db, resp3), out) {
            Attempt::Done => {
                let next = after_reply(out.len());
                if self.engine.pubsub.has_outgoing() {
                    let reply = session.replies.take_local(before);
                    return Some(self.answer_with_messages(conn, reply));
                }
                session.replies.end_local(before);
                self.settle_changes(None);
                Some(next)
            }
            Attempt::Wait(until) => {
                out.truncate(before);
                let args = match blocking.keep {
                    Some(keep) => keep(&mut self.engine.ctx(db), &request),
                    None => words.iter().map(|word| word.to_vec()).collect(),
                };
                self.wait_from_now(conn, OwnedCommand { id, db, resp3, pass, args }, until);
                Some(Next::Stop)
            }
        }
    }

    /// The command has to wait: its connection does so from now on.
    fn wait_from_now(&mut self, conn: ConnId, command: OwnedCommand, until: Option<i64>) {
        let (me, number) = (self.id(), self.process.tx());
        let Some(origin) = self.owe_reply(conn) else { return };
        if let Some(session) = self.sessions.get_mut(conn) {
            (session.hold, session.blocked) = (Hold::Blocked, Some((me, number)));
        }
        self.begin_to_wait(number, Blocked::new(origin, command, until));
    }

    /// What the command has published finds the reply in its place.
    fn answer_with_messages(&mut self, conn: ConnId, reply: Vec<u8>) -> Next {
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::Drain;
        }
        self.settle_changes(None);
        self.deliver(origin, reply);
        self.next_of(conn)
    }

    fn next_of(&self, conn: ConnId) -> Next {
        match self.sessions.get(conn) {
            Some(session) if session.may_run() => Next::Done,
            _ => Next::Stop,
        }
    }

    // ---- scripts ----

    /// Runs a script, if nothing stands in its way.
    pub(super) fn run_script_at_once(
        &mut self,
        conn: ConnId,
        (id, script): (CommandId, ScriptCommand),
        words: &[&[u8]],
        spread: Spread,
    ) -> Option<Next> {
        let (db, resp3, pass) = self.may_run_at_once(conn, spread)?;
        if self.scripts.running.is_some() {
            return None;
        }
        let mut own = self.scripts.words.take().unwrap_or_default();
        match Rc::get_mut(&mut own) {
            Some(own) => own.set(words.iter().copied()),
            None => own = Rc::new(Words::of(words)),
        }
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
        self.next_of(conn)
    }
}
