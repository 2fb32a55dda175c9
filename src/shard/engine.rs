//! What runs commands on one shard: its keys, its settings, its lines of transactions, and the
//! statistics of what ran. Knows no connection and no lane.

use std::sync::Arc;

use crate::clock::{self, Ticks, ticks_per_us};
use crate::command::{
    Changes, CommandError, CommandId, CommandResult, CommandTable, Ctx, EveryShard, Handler, Part,
    Request,
};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::resp::Reply;
use crate::shard_map::{ShardId, ShardMap};
use crate::transaction::LockTable;

/// What ran of one command.
#[derive(Clone, Copy, Default, Debug)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: u64,
    /// Time it took in all, in ticks of the core.
    pub ticks: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and answered an error.
    pub failed: u64,
}

/// See the module.
pub struct Engine {
    /// Which shard this is.
    pub id: ShardId,
    /// Who owns which slots.
    pub shards: ShardMap,
    /// The keys.
    pub keyspace: Keyspace,
    /// The settings; a new snapshot replaces the old one between turns.
    pub config: Arc<Config>,
    /// Who may touch which keys.
    pub locks: LockTable,
    /// Changes since the start.
    pub changes: Changes,
    /// By command number.
    pub stats: Vec<CommandStats>,
    /// Errors that clients got, by their first word.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// Memory is full and nothing can be evicted.
    pub out_of_memory: bool,
    /// When the last command ended: the next one's start.
    last: Ticks,
    slow_ticks: u64,
}

/// A command that took longer than `slowlog-log-slower-than`.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    /// Unix time in seconds.
    pub unix_seconds: i64,
    /// How long it took.
    pub duration_us: u64,
    /// Its arguments, shortened as Redis shortens them.
    pub args: Vec<Vec<u8>>,
}

/// Slow commands that the session layer has not collected yet; it knows the client.
#[derive(Default, Debug)]
pub struct Slowlog {
    /// The last one, until it is collected.
    pub fresh: Vec<SlowCommand>,
}

/// Most arguments that a slow log entry keeps, and most bytes of each (Redis 7.0 `slowlog.h`).
const SLOWLOG_ARGS_MAX: usize = 32;
const SLOWLOG_ARG_BYTES_MAX: usize = 128;

impl Engine {
    /// An empty shard.
    pub fn new(id: ShardId, shards: ShardMap, config: Arc<Config>, seed: u64) -> Self {
        let keyspace = Keyspace::new(config.databases, clock::unix_ms(), seed);
        let mut engine = Self {
            id,
            shards,
            keyspace,
            config,
            locks: LockTable::default(),
            changes: Changes::default(),
            stats: vec![CommandStats::default(); CommandTable::get().commands().len()],
            errors: std::collections::BTreeMap::new(),
            slowlog: Slowlog::default(),
            out_of_memory: false,
            last: Ticks::now(),
            slow_ticks: u64::MAX,
        };
        engine.settings_changed();
        engine
    }

    /// Takes over what the settings say; to be called after `config` was replaced.
    pub fn settings_changed(&mut self) {
        let config = &self.config;
        self.slow_ticks = match u64::try_from(config.slowlog_log_slower_than) {
            Ok(us) => (us as f64 * ticks_per_us()) as u64,
            Err(_) => u64::MAX,
        };
        self.keyspace.set_access_policy(
            config.maxmemory_policy.is_lfu(),
            config.lfu_log_factor as u32,
            config.lfu_decay_time as u32,
        );
    }

    /// The commands that follow are timed from here.
    #[inline]
    pub fn start_timing(&mut self) {
        self.last = Ticks::now();
    }

    /// Runs a command and appends its reply, or its error, to `out`.
    #[inline]
    pub fn run(
        &mut self,
        id: CommandId,
        handler: Handler,
        request: &Request<'_>,
        (db, resp3): (usize, bool),
        out: &mut Vec<u8>,
    ) {
        let mut reply = Reply::new(out, resp3);
        let mark = reply.mark();
        let mut ctx = Ctx {
            keyspace: &mut self.keyspace,
            db,
            config: &self.config,
            shard: self.id,
            shards: self.shards,
            changes: &mut self.changes,
        };
        if let Err(error) = handler(&mut ctx, request, &mut reply) {
            reply.truncate(mark);
            reply.error(&error);
            self.failed(id, &error);
        }
        self.account(id, request.args());
    }

    /// Counts a command that has just run, from the end of the one before.
    #[inline]
    pub fn account(&mut self, id: CommandId, args: &[&[u8]]) {
        let now = Ticks::now();
        let spent = now.since(self.last);
        self.last = now;
        let stats = &mut self.stats[usize::from(id.0)];
        stats.calls += 1;
        stats.ticks += spent;
        if spent >= self.slow_ticks {
            self.note_slow(id, spent, args);
        }
    }

    #[cold]
    fn note_slow(&mut self, id: CommandId, spent: u64, args: &[&[u8]]) {
        use crate::command::spec::SKIP_SLOWLOG;
        if CommandTable::get().command(id).flags.has(SKIP_SLOWLOG) {
            return;
        }
        self.slowlog.fresh.push(SlowCommand {
            unix_seconds: clock::unix_ms() / 1000,
            duration_us: clock::ticks_to_us(spent) as u64,
            args: shortened(args),
        });
    }

    /// Counts an error that a command answered.
    #[cold]
    pub fn failed(&mut self, id: CommandId, error: &CommandError) {
        self.stats[usize::from(id.0)].failed += 1;
        self.count_error(error);
    }

    /// Counts a command that was refused before it ran.
    #[cold]
    pub fn rejected(&mut self, id: Option<CommandId>, error: &CommandError) {
        if let Some(id) = id {
            self.stats[usize::from(id.0)].rejected += 1;
        }
        self.count_error(error);
    }

    fn count_error(&mut self, error: &CommandError) {
        let text = error.to_string();
        let code = text.split(' ').next().unwrap_or("ERR");
        *self.errors.entry(code.to_owned()).or_default() += 1;
    }

    /// This shard's part of a command that concerns all.
    pub fn part(
        &mut self,
        every: &EveryShard,
        request: &Request<'_>,
        db: usize,
    ) -> CommandResult<Part> {
        (every.part)(&mut self.ctx(db), request)
    }

    /// A context to run handlers in.
    pub fn ctx(&mut self, db: usize) -> Ctx<'_> {
        Ctx {
            keyspace: &mut self.keyspace,
            db,
            config: &self.config,
            shard: self.id,
            shards: self.shards,
            changes: &mut self.changes,
        }
    }
}

/// The arguments as the slow log keeps them: at most 32, each of at most 128 bytes, with a word on what
/// was left out (Redis 7.0 `slowlogCreateEntry`).
fn shortened(args: &[&[u8]]) -> Vec<Vec<u8>> {
    let cut = |arg: &&[u8]| {
        if arg.len() <= SLOWLOG_ARG_BYTES_MAX {
            return arg.to_vec();
        }
        let mut text = arg[..SLOWLOG_ARG_BYTES_MAX].to_vec();
        let more = arg.len() - SLOWLOG_ARG_BYTES_MAX;
        text.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
        text
    };
    if args.len() <= SLOWLOG_ARGS_MAX {
        return args.iter().map(cut).collect();
    }
    let mut kept: Vec<_> = args[..SLOWLOG_ARGS_MAX - 1].iter().map(cut).collect();
    let more = args.len() - (SLOWLOG_ARGS_MAX - 1);
    kept.push(format!("... ({more} more arguments)").into_bytes());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_log_shortens_long_and_many_arguments() {
        let long = vec![b'x'; 130];
        let args: Vec<&[u8]> = std::iter::once(&long[..]).chain([&b"a"[..]; 40]).collect();
        let kept = shortened(&args);
        assert_eq!(kept.len(), 32);
        assert!(kept[0].ends_with(b"x... (2 more bytes)"), "{:?}", kept[0]);
        assert_eq!(kept[31], b"... (10 more arguments)");
    }
}
