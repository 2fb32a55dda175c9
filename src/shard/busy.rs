//! While a script runs longer than `busy-reply-threshold`: what the shard still does.
//!
//! The script waits on its own stack; between two of its stretches the shard looks at its sockets and its
//! lanes. Its connections, and the commands of others for its keys, are answered BUSY, except for those that may
//! end the script. What belongs to transactions waits until the script is over, in order, so that nobody sees
//! half of what it does.

use super::Shard;
use super::batch::Batch;
use super::job::Job;
use super::message::{JobRequest, Message, PartDone, PartRequest, PartWork};
use super::multi::exec_aborted;
use crate::command::spec::ALLOW_BUSY;
use crate::command::{Command, CommandError, Part, Run, SessionCommand};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::scripting::Engine;

/// What one shard says to SCRIPT KILL or FUNCTION KILL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kill {
    /// No script is busy here.
    NotBusy,
    /// One of the other engine is.
    OtherEngine,
    /// It has written.
    HasWritten,
    /// It will end.
    Killed,
}

/// What one shard says to FUNCTION STATS.
struct BusyScript {
    engine: Engine,
    name: String,
    command: Vec<Vec<u8>>,
    milliseconds: u64,
}

/// The command that ends scripts of this engine.
pub(super) fn kill_command(engine: Engine) -> &'static str {
    match engine {
        Engine::Scripts => "SCRIPT KILL",
        Engine::Functions => "FUNCTION KILL",
    }
}

fn busy_error(engine: Engine) -> CommandError {
    CommandError::text(match engine {
        Engine::Scripts => {
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        }
        Engine::Functions => {
            "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
        }
    })
}

const UNKILLABLE: CommandError = CommandError::text(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);
const NOT_BUSY: CommandError = CommandError::text("NOTBUSY No scripts in execution right now.");

impl Shard {
    /// What a client is told who cannot be served because of a busy script.
    pub(super) fn busy_reply(&self) -> CommandError {
        let engine = self.scripts.running.as_ref().map(|run| run.engine);
        busy_error(engine.unwrap_or(Engine::Scripts))
    }

    /// Whether a command runs although a script is busy.
    pub(super) fn runs_while_busy(command: &Command, words: &[&[u8]]) -> bool {
        match command.run {
            // SHUTDOWN NOSAVE; any other would have to wait for the script.
            Run::Session(SessionCommand::Shutdown) => {
                matches!(words, [_, [b'n' | b'N', ..]])
            }
            _ => command.flags.has(ALLOW_BUSY),
        }
    }

    /// What to do with a message while a script is busy: gives it back if it can be handled now.
    pub(super) fn take_while_busy(&mut self, message: Message) -> Option<Message> {
        match message {
            Message::Connection(_)
            | Message::Replies(_)
            | Message::LateReply(_)
            | Message::Stray(_)
            | Message::PartDone(_)
            | Message::ControlDone(_)
            | Message::ClusterDone(_)
            | Message::WhichHoldKeys(_)
            | Message::SlotsLost(_)
            | Message::PublishHere(_)
            | Message::Settings(_)
            | Message::Subscriptions(_)
            | Message::Noted(..)
            | Message::Publication(_)
            | Message::LookForClosed
            | Message::RoomMade(_)
            | Message::Durable(_)
            | Message::Record(..)
            | Message::Standing(_)
            | Message::Acknowledged(..)
            | Message::Feed(_)
            | Message::FeedOver
            | Message::RoomForEffects
            | Message::SnapshotOrder(_)
            | Message::SaveStatus(_)
            | Message::Stop
            | Message::WatchBroken(_) => return Some(message),
            // No key may go while the script runs.
            Message::MakeRoom(None) => {}
            Message::MakeRoom(Some(asker)) => {
                self.send(asker.index(), Message::RoomMade(false));
            }
            Message::Fetched(ref fetched) if self.script_fetches(fetched.0) => {
                return Some(message);
            }
            Message::Commands(mut batch) => {
                self.refuse_batch(&mut batch);
                let home = batch.home.expect("a batch on its way knows its home");
                self.send(home.index(), Message::Replies(batch));
            }
            Message::Job(request) => self.refuse_while_busy(*request),
            Message::Part(request) => return self.take_part_while_busy(request),
            other => self.scripts.deferred.push_back(other),
        }
        None
    }

    fn refuse_batch(&mut self, batch: &mut Batch) {
        if !self.takes_batch(batch) {
            return;
        }
        let error = self.busy_reply();
        for item in &mut batch.items {
            self.engine.rejected(Some(item.id), &error);
            Reply::new(&mut batch.replies, item.resp3).error(&error);
            item.reply_end = Some(batch.replies.len() as u32);
        }
        batch.handled = batch.items.len();
    }

    fn take_part_while_busy(&mut self, request: Box<PartRequest>) -> Option<Message> {
        match (&request.work, request.tx) {
            (PartWork::Command(_) | PartWork::Stretch(..), None) => {
                let result = Err(self.busy_reply());
                let done = PartDone { ticket: request.ticket, shard: self.id(), result };
                self.send(request.coordinator.index(), Message::PartDone(Box::new(done)));
                None
            }
            (_, Some(_)) | (PartWork::Watch(..), None) => {
                self.scripts.deferred.push_back(Message::Part(request));
                None
            }
            _ => Some(Message::Part(request)),
        }
    }

    /// Answers a job that would have to wait for a busy script.
    pub(super) fn refuse_while_busy(&mut self, request: JobRequest) {
        let mut error = self.busy_reply();
        let resp3 = match &request.job {
            Job::Command(command) => command.resp3,
            Job::Block(block) => {
                error = exec_aborted(&error);
                self.end_of_watch(block.watcher);
                block.resp3
            }
        };
        self.engine.rejected(None, &error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, resp3).error(&error);
        self.deliver(request.origin, reply);
    }

    // ---- SCRIPT KILL, FUNCTION KILL, FUNCTION STATS ----

    /// SCRIPT KILL
    pub(super) fn script_kill(&mut self, conn: ConnId, _: &[&[u8]]) {
        self.start_kill(conn, Engine::Scripts);
    }

    /// FUNCTION KILL
    pub(super) fn function_kill(&mut self, conn: ConnId, _: &[&[u8]]) {
        self.start_kill(conn, Engine::Functions);
    }

    fn start_kill(&mut self, conn: ConnId, engine: Engine) {
        let merge = move |shard: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            let answers = parts.into_iter().filter_map(other::<Kill>);
            let error = match answers.max().unwrap_or(Kill::NotBusy) {
                Kill::Killed => return reply.ok(),
                Kill::HasWritten => UNKILLABLE,
                Kill::OtherEngine if engine == Engine::Scripts => busy_error(Engine::Functions),
                Kill::OtherEngine => busy_error(Engine::Scripts),
                Kill::NotBusy => NOT_BUSY,
            };
            shard.engine.count_error(&error);
            reply.error(error);
        };
        self.gather(conn, PartWork::KillScript(engine), Box::new(merge));
    }

    /// Ends the busy script of this shard, if it is one of `engine`.
    pub(super) fn kill_script(&mut self, engine: Engine) -> Part {
        let answer = match self.scripts.running.as_mut().filter(|_| self.scripts.is_busy) {
            None => Kill::NotBusy,
            Some(run) if run.engine != engine => Kill::OtherEngine,
            Some(run) if run.has_written => Kill::HasWritten,
            Some(run) => {
                run.is_killed = true;
                Kill::Killed
            }
        };
        Part::Other(Box::new(answer))
    }

    /// FUNCTION STATS
    pub(super) fn function_stats(&mut self, conn: ConnId, _: &[&[u8]]) {
        let merge = |shard: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            let busy: Vec<_> = parts.into_iter().filter_map(other::<Option<BusyScript>>).collect();
            let busy: Vec<BusyScript> = busy.into_iter().flatten().collect();
            if busy.iter().any(|script| script.engine == Engine::Scripts) {
                return reply.error(busy_error(Engine::Scripts));
            }
            reply.map(2);
            reply.bulk(b"running_script");
            match busy.first() {
                Some(script) => write_busy(script, reply),
                None => reply.null(),
            }
            let catalogue = shard.process.scripts.catalogue();
            reply.bulk(b"engines");
            reply.map(1);
            reply.bulk(b"LUA");
            reply.map(2);
            reply.bulk(b"libraries_count");
            reply.integer(catalogue.libraries().count() as i64);
            reply.bulk(b"functions_count");
            reply.integer(catalogue.function_count() as i64);
        };
        self.gather(conn, PartWork::BusyScript, Box::new(merge));
    }

    /// What is busy on this shard.
    pub(super) fn busy_script(&self) -> Part {
        let running = self.scripts.running.as_ref().filter(|_| self.scripts.is_busy);
        let busy = running.map(|run| BusyScript {
            engine: run.engine,
            name: run.name.to_string(),
            command: run.call.words.iter().map(<[u8]>::to_vec).collect(),
            milliseconds: run.began.elapsed().as_millis() as u64,
        });
        Part::Other(Box::new(busy))
    }
}

fn other<T: 'static>(part: Part) -> Option<T> {
    match part {
        Part::Other(part) => part.downcast().ok().map(|part| *part),
        _ => None,
    }
}

fn write_busy(script: &BusyScript, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(script.name.as_bytes());
    reply.bulk(b"command");
    reply.array(script.command.len());
    script.command.iter().for_each(|word| reply.bulk(word));
    reply.bulk(b"duration_ms");
    reply.integer(script.milliseconds as i64);
}
