//! Runs commands on one shard without sockets, for the tests of the handlers.

use super::{Attempt, Changes, CommandError, CommandTable, Ctx, Reach, Request, Run};
use crate::admin::stats::ShardStats;
use crate::config::Config;
use crate::journal::{Audience, Recorder, Stamp};
use crate::keyspace::Keyspace;
use crate::process::Process;
use crate::pubsub::Directory;
use crate::resp::Reply;
use crate::shard_map::{ShardId, ShardMap};
use crate::transaction::LockTable;

/// A shard with nothing around it.
pub struct TestShard {
    /// Its keys.
    pub keyspace: Keyspace,
    /// Its settings.
    pub config: Config,
    /// Whether replies are in RESP3.
    pub resp3: bool,
    /// The selected database.
    pub db: usize,
    /// What the commands changed so far.
    pub changes: Changes,
    /// What the shard counts.
    pub stats: ShardStats,
    /// Who listens to what.
    pub pubsub: Directory,
    /// What it records.
    pub journal: Recorder,
    /// The process around it.
    pub process: Process,
}

impl Default for TestShard {
    fn default() -> Self {
        Self::new()
    }
}

impl TestShard {
    /// An empty shard with default settings; it is 2023-11-14 there.
    pub fn new() -> Self {
        Self {
            keyspace: Keyspace::new(16, 1_700_000_000_000, 1),
            config: Config::default(),
            resp3: false,
            db: 0,
            changes: Changes::default(),
            stats: ShardStats::default(),
            journal: Recorder::default(),
            pubsub: Directory::new(ShardId(0), ShardMap::new(1).expect("one shard is allowed")),
            process: Process::new("0".repeat(40), 6379, None),
        }
    }

    /// The reply, as text, to a command of words divided by spaces.
    pub fn run(&mut self, words: &str) -> String {
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run_args(&args)).into_owned()
    }

    /// The reply to a command.
    pub fn run_args(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, self.resp3);
        let mark = reply.mark();
        let dirty = self.changes.dirty;
        match self.execute(args, &mut reply) {
            Ok(()) => self.journal.end_command(self.db, args, self.changes.dirty != dirty),
            Err(error) => {
                self.journal.end_failed_command();
                reply.truncate(mark);
                reply.error(error);
            }
        }
        if cfg!(debug_assertions) {
            self.keyspace.databases().iter().for_each(|database| database.check());
        }
        out
    }

    /// Runs a command and returns the effects that it has, words divided by spaces and commands by `; `.
    pub fn effects(&mut self, words: &str) -> String {
        self.journal.set_readers(Audience::ALL);
        self.run(words);
        let parcel = self.journal.take_parcel(Stamp::default());
        self.journal.set_readers(Audience::NONE);
        let text = String::from_utf8_lossy(&parcel.bytes).into_owned();
        let commands = text.split('*').filter(|command| !command.is_empty());
        let words = |command: &str| {
            let lines = command.split("\r\n").skip(1).filter(|line| !line.starts_with('$'));
            lines.collect::<Vec<_>>().join(" ").trim().to_owned()
        };
        commands.map(words).collect::<Vec<_>>().join("; ")
    }

    /// Runs commands and checks which effects each has, as [`TestShard::effects`] returns them.
    pub(super) fn check_effects(&mut self, commands: &[(&str, &str)]) {
        for (command, effects) in commands {
            assert_eq!(self.effects(command), *effects, "{command}");
        }
    }

    /// Runs commands and checks by how much each moves the count of changes.
    pub(super) fn check_changes(&mut self, commands: &[(&str, u64)]) {
        for (command, changes) in commands {
            let before = self.changes.dirty;
            self.run(command);
            assert_eq!(self.changes.dirty - before, *changes, "{command}");
        }
    }

    fn execute(&mut self, args: &[&[u8]], reply: &mut Reply<'_>) -> Result<(), CommandError> {
        let table = CommandTable::get();
        let id = table.find(args[0]).expect("tests call commands that there are");
        let mut command = table.command(id);
        let contains = matches!(command.run, Run::Container | Run::ContainerOr(_));
        if contains && args.len() > 1 {
            let id = table.find_subcommand(command, args[1]);
            command = table.command(id.expect("tests call subcommands that there are"));
        }
        if !command.arity.allows(args.len()) {
            return Err(CommandError::WrongArity(command.name.to_owned()));
        }
        let request = Request::new(args);
        let mut ctx = Ctx {
            keyspace: &mut self.keyspace,
            db: self.db,
            config: &self.config,
            shard: ShardId(0),
            shards: ShardMap::new(1).expect("one shard is allowed"),
            changes: &mut self.changes,
            reach: &mut Reach::default(),
            journal: &mut self.journal,
            locks: &LockTable::default(),
            stats: &mut self.stats,
            pubsub: &mut self.pubsub,
            process: &self.process,
        };
        match command.run {
            Run::Data(handler) | Run::Publish(handler) | Run::ContainerOr(handler) => {
                handler(&mut ctx, &request, reply)
            }
            Run::Blocking(blocking) => {
                if let Attempt::Wait(_) = (blocking.attempt)(&mut ctx, &request, reply)? {
                    (blocking.nothing)(ctx.process, reply);
                }
                Ok(())
            }
            Run::Walk(walk) => {
                let start = (walk.start)(&request)?;
                (walk.finish)(&(walk.stretch)(&mut ctx, &request, start)?, reply);
                Ok(())
            }
            Run::EveryShard(every) => {
                let part = (every.part)(&mut ctx, &request)?;
                (every.merge)(&mut ctx, &request, vec![part], reply)
            }
            Run::Session(_) | Run::Script(_) | Run::Container => {
                unreachable!("needs a session")
            }
        }
    }
}
