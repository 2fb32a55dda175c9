//! From the bytes of a connection to commands that run.
//!
//! The commands of one read are parsed first, as many as [`GROUP_COMMANDS_MAX`]; then the places of
//! their keys are prefetched in three steps (slot table, bucket, entry), so that the cache misses of
//! a pipeline overlap; then they run in order.

use super::Shard;
use super::batch::{Batch, Item};
use super::engine::{Engine, Ran};
use super::job::Job;
use super::message::{JobRequest, Origin, OwnedCommand};
use super::multi::{exec_aborted, is_about_transactions, passes_multi};
use crate::admin::slowlog::Caller;
use crate::admin::stats::Outcome;
use crate::command::spec::{DENYOOM, NO_AUTH};
use crate::command::{
    Command, CommandError, CommandId, CommandResult, CommandTable, Handler, KeyShape, Request, Run,
    SessionCommand, debug_is_allowed,
};
use crate::keyspace::{Database, Key};
use crate::reactor::ConnId;
use crate::resp::{Limits, ProtocolError, Reply, Step};
use crate::session::{Hold, ReplyMode, Session, Spread};
use crate::shard_map::ShardId;
use crate::transaction::KeyLock;

/// Commands that are parsed before the first of them runs: enough to overlap cache misses, few enough
/// that what was prefetched is still in the first-level cache when it is used.
const GROUP_COMMANDS_MAX: usize = 64;
/// Keys of one command that are prefetched: what more there is would push the first out of the cache again.
const PREFETCHED_KEYS_MAX: usize = 64;
/// Input that may wait behind a held command before reading stops.
const HELD_INPUT_BYTES_MAX: usize = 256 * 1024;

/// One parsed command of a group.
#[derive(Clone, Copy)]
struct Parsed<'a> {
    /// Its arguments in the group's.
    first_arg: usize,
    end_arg: usize,
    /// Where it ends in the input of the group.
    end: usize,
    /// `None` if there is no such command, or not with so many arguments.
    id: Option<CommandId>,
    /// Its only key, for commands that have exactly one.
    key: Option<(u8, Key<'a>)>,
}

/// Vectors that are used again for every group.
#[derive(Default)]
pub struct Scratch {
    args: Vec<&'static [u8]>,
    keys: Vec<(usize, Key<'static>)>,
    pub(super) block_args: Vec<&'static [u8]>,
    group: Vec<Parsed<'static>>,
}

/// The same allocation for elements of another lifetime. The vector is empty, so there is nothing to
/// convert, and the standard library reuses the allocation of such an iterator.
pub(super) fn recycle_args<'b>(mut args: Vec<&[u8]>) -> Vec<&'b [u8]> {
    args.clear();
    args.into_iter().map(|_| -> &'b [u8] { unreachable!("it is empty") }).collect()
}

fn recycle_keys<'b>(mut keys: Vec<(usize, Key<'_>)>) -> Vec<(usize, Key<'b>)> {
    keys.clear();
    keys.into_iter().map(|_| -> (usize, Key<'b>) { unreachable!("it is empty") }).collect()
}

fn recycle_group<'b>(mut group: Vec<Parsed<'_>>) -> Vec<Parsed<'b>> {
    group.clear();
    group.into_iter().map(|_| -> Parsed<'b> { unreachable!("it is empty") }).collect()
}

/// What became of one command.
pub(super) enum Next {
    /// It ran, or its reply is under way: go on.
    Done,
    /// It ran, or is at work, and the next one has to wait or will never run.
    Stop,
    /// It has not started; it is the first to go on with.
    NotYet,
}

impl Shard {
    /// Bytes came from `conn`.
    pub(super) fn feed(&mut self, conn: ConnId, bytes: &[u8]) {
        self.open_turn();
        let now_ms = self.engine.keyspace.now_ms();
        let query_limit = self.engine.config.client_query_buffer_limit as usize;
        let counters = self.engine.stats.counters();
        counters.net_input_bytes += bytes.len() as u64;
        counters.reads_processed += 1;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.active_ms = now_ms;
        session.received_bytes += bytes.len() as u64;
        if session.closing {
            return;
        }
        if session.may_run() && self.ports.is_congested() {
            // A full lane must slow those who fill it, and not grow its overflow queue without end.
            session.hold = Hold::FullLane;
            self.slowed.push(conn);
        }
        if session.query.is_empty() && session.may_run() {
            let used = self.run_input(conn, bytes);
            if let Some(session) = self.sessions.get_mut(conn)
                && !session.closing
            {
                session.query.extend_from_slice(&bytes[used..]);
            }
        } else {
            session.query.extend_from_slice(bytes);
            self.run_query(conn);
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.query.len() > query_limit {
            tracing::warn!(client = session.id, "closing client: query buffer limit reached");
            self.cut(conn);
        } else if session.hold != Hold::None
            && session.query.len() > HELD_INPUT_BYTES_MAX
            && !session.paused
        {
            session.paused = true;
            self.actions.push(crate::reactor::Action::PauseReading(conn));
        }
    }

    /// Runs what the query buffer of `conn` holds, as far as it goes.
    pub(super) fn run_query(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.query.is_empty() || !session.may_run() {
            return;
        }
        let mut query = std::mem::take(&mut session.query);
        let used = self.run_input(conn, &query);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.closing || used == query.len() {
            return;
        }
        query.drain(..used);
        session.query = query;
    }

    /// Runs the commands at the start of `input` and returns how many bytes they took.
    fn run_input(&mut self, conn: ConnId, input: &[u8]) -> usize {
        let mut args = recycle_args(std::mem::take(&mut self.scratch.args));
        let mut group = recycle_group(std::mem::take(&mut self.scratch.group));
        let mut used = 0;
        while used < input.len() {
            let Some(session) = self.sessions.get_mut(conn).filter(|s| s.may_run()) else { break };
            args.clear();
            group.clear();
            session.replies.lend(|| self.buffers.take());
            let rest = &input[used..];
            let stop = parse_group(&self.engine, session, rest, &mut args, &mut group);
            let db = session.db;
            if group.len() > 1 {
                prefetch(&self.engine, db, &args, &group);
            }
            match self.run_group(conn, &args, &group) {
                Some(taken) => {
                    used += taken;
                    if let Some(session) = self.sessions.get_mut(conn) {
                        session.parser = Default::default();
                    }
                    continue;
                }
                None => used += group.last().map_or(0, |last| last.end).max(stop.skipped),
            }
            match stop.why {
                Why::Full => {}
                Why::NeedsMore => break,
                Why::Inline(consumed, words) => {
                    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                    match self.run_alone(conn, &words) {
                        Next::NotYet => break,
                        Next::Done | Next::Stop => used += consumed,
                    }
                }
                Why::Error(error) => {
                    self.protocol_error(conn, error);
                    used = input.len();
                }
            }
        }
        self.scratch.args = recycle_args(args);
        self.scratch.group = recycle_group(group);
        self.touch(conn);
        used
    }

    /// Runs a group; `Some(bytes)` if it stopped early after so many bytes of input.
    fn run_group(&mut self, conn: ConnId, args: &[&[u8]], group: &[Parsed<'_>]) -> Option<usize> {
        let stopped = self.run_in_order(conn, args, group);
        self.engine.end_brief_run();
        if !self.engine.slow.is_empty() {
            self.log_slow_commands(Some(conn));
        }
        stopped
    }

    fn run_in_order(
        &mut self,
        conn: ConnId,
        args: &[&[u8]],
        group: &[Parsed<'_>],
    ) -> Option<usize> {
        let mut start = 0;
        let hard = self.engine.config.client_output_buffer_limit.normal.hard as usize;
        for parsed in group {
            let words = &args[parsed.first_arg..parsed.end_arg];
            let outcome = match parsed.id {
                Some(id) => self.run_command(conn, id, words, parsed.key),
                None => self.run_unidentified(conn, words),
            };
            match outcome {
                Next::Done => start = parsed.end,
                Next::Stop => return Some(parsed.end),
                Next::NotYet => return Some(start),
            }
            if hard > 0 && self.output_bytes(conn) > hard {
                // Waiting for the end of the turn would let one read of small requests make any
                // amount of large replies.
                self.cut_for_output(conn);
                return Some(start);
            }
        }
        None
    }

    /// Puts what was slow into the slow log, under the name of the client that asked for it.
    #[cold]
    pub(super) fn log_slow_commands(&mut self, conn: Option<ConnId>) {
        let session = conn.and_then(|conn| self.sessions.get(conn));
        let caller = Caller {
            address: session.map_or("?:0", |session| &session.endpoint.remote),
            name: session.map_or(b"", |session| &session.name),
        };
        let engine = &mut self.engine;
        for slow in std::mem::take(&mut engine.slow) {
            let args: Vec<&[u8]> = slow.args.iter().map(Vec::as_slice).collect();
            let place = (engine.id, engine.shards);
            let times = (slow.at_us, slow.duration_us);
            engine.stats.slowlog.record(place, &engine.config, &args, times, caller);
        }
    }

    /// Answers what is no command, or not in this form.
    #[cold]
    fn run_unidentified(&mut self, conn: ConnId, words: &[&[u8]]) -> Next {
        if is_http(words) {
            // A web page makes a browser send this; to go on would run the commands that it hid
            // in the body (Redis 7.0 `networking.c`, securityWarningCommand).
            tracing::warn!("Possible SECURITY ATTACK detected: POST or Host: sent");
            self.cut(conn);
            return Next::Stop;
        }
        let error = why_unidentified(words);
        if words[0].eq_ignore_ascii_case(b"exec") {
            // Whoever sends EXEC must learn that nothing was executed.
            self.leave_multi(conn);
            return self.refuse(conn, None, &exec_aborted(&error));
        }
        self.refuse(conn, None, &error)
    }

    fn run_alone(&mut self, conn: ConnId, words: &[&[u8]]) -> Next {
        let table = CommandTable::get();
        match identify(table, words) {
            Some(id) => {
                let key = single_key(table, id, words);
                self.run_command(conn, id, words, key)
            }
            None => self.run_unidentified(conn, words),
        }
    }

    fn run_command(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        let table = CommandTable::get();
        let command = table.command(id);
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        session.commands += 1;
        session.last_command = Some(id);
        if !session.authenticated && !command.flags.has(NO_AUTH) {
            let error = CommandError::text("NOAUTH Authentication required.");
            return self.refuse(conn, Some(id), &error);
        }
        let queues = session.multi.is_some() && !passes_multi(command);
        if self.engine.out_of_memory
            && (queues || command.flags.has(DENYOOM) || is_oom_exec(command, session))
        {
            return self.refuse_for_memory(conn, id);
        }
        if queues {
            return self.queue(conn, id, words, key);
        }
        match (command.run, key) {
            (Run::Data(handler), Some((at, key))) => {
                let owner = self.engine.shards.owner(key.slot);
                if owner != self.engine.id {
                    return self.send_across(conn, id, words, (at, key), owner);
                }
                let lock = KeyLock { hash: key.hash };
                if !self.engine.locks.is_idle() && self.engine.locks.is_wanted(lock) {
                    return self.wait_in_line(conn, id, words);
                }
                let request = Request::with_key(words, usize::from(at), key);
                let state = (session.db, session.resp3);
                let plain = session.reply_mode == ReplyMode::On;
                let out = session.replies.local();
                let before = out.len();
                if self.engine.run(id, handler, &request, state, out) == Ran::OutOfReach {
                    return self.reach_further(conn, id, words);
                }
                if plain {
                    session.replies.end_local(before);
                } else {
                    self.apply_reply_mode(conn, before);
                }
                self.settle_changes(None);
                Next::Done
            }
            (Run::Data(handler), None) if table.shape(id) == KeyShape::None => {
                self.run_here(conn, |engine, state, out| {
                    _ = engine.run(id, handler, &Request::new(words), state, out);
                })
            }
            (Run::Data(_), None) => self.run_many_keys(conn, id, words),
            (Run::Blocking(_), _) => self.run_blocking(conn, id, words),
            (Run::Walk(_) | Run::EveryShard(_), _) => self.run_in_parts(conn, id, words),
            (Run::Session(which), _) if is_about_transactions(which) => {
                self.transaction_command(conn, id, which, words)
            }
            (Run::Session(which), _) => self.run_session_command(conn, id, which, words),
            (Run::ContainerOr(handler), _) => self.run_here(conn, |engine, state, out| {
                _ = engine.run(id, handler, &Request::new(words), state, out);
            }),
            (Run::Container, _) => unreachable!("identify resolves containers"),
        }
    }

    /// Runs something that appends one reply to the output of `conn`.
    pub(super) fn run_here(
        &mut self,
        conn: ConnId,
        run: impl FnOnce(&mut Engine, (usize, bool), &mut Vec<u8>),
    ) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        let state = (session.db, session.resp3);
        let out = session.replies.local();
        let before = out.len();
        run(&mut self.engine, state, out);
        self.apply_reply_mode(conn, before);
        Next::Done
    }

    /// Answers an error to a command that does not run.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        id: Option<CommandId>,
        error: &CommandError,
    ) -> Next {
        self.engine.rejected(id, error);
        if let Some(multi) = self.sessions.get_mut(conn).and_then(|s| s.multi.as_mut()) {
            multi.spoiled = true;
        }
        self.run_here(conn, |_, (_, resp3), out| Reply::new(out, resp3).error(error))
    }

    /// A local reply was appended behind `before` bytes: drops it if the client does not want it.
    pub(super) fn apply_reply_mode(&mut self, conn: ConnId, before: usize) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        match session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => session.replies.drop_local(before),
            ReplyMode::SkipNext => {
                session.replies.drop_local(before);
                session.reply_mode = ReplyMode::On;
            }
        }
        session.replies.end_local(before);
    }

    /// Puts a command with one key into this turn's batch for the owner of the key.
    fn send_across(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        (key_at, key): (u8, Key<'_>),
        owner: ShardId,
    ) -> Next {
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        let Some(session) = self.sessions.get(conn) else { return Next::Stop };
        let item = Item {
            conn,
            place: origin.place,
            id,
            db: session.db as u16,
            resp3: session.resp3,
            key_at,
            slot: key.slot,
            hash: key.hash,
            arg_count: words.len() as u32,
            reply_end: None,
        };
        let spare = &mut self.spare_batches;
        let batch = self.outgoing[owner.index()]
            .get_or_insert_with(|| spare.pop().unwrap_or_else(|| Box::new(Batch::default())));
        batch.push(item, words);
        Next::Done
    }

    /// A command for keys of this shard has to wait for a transaction that holds some of them.
    fn wait_in_line(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        self.on_job(JobRequest { job, origin, number: None });
        Next::Done
    }

    /// The command needs keys that it does not name and that are not free here: it becomes a transaction.
    #[cold]
    fn reach_further(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let missing = std::mem::take(&mut self.engine.reach.missing);
        let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        self.coordinate(JobRequest { job, origin, number: None }, missing);
        Next::Done
    }

    fn owned(&self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Option<Job> {
        let session = self.sessions.get(conn)?;
        Some(Job::Command(OwnedCommand {
            id,
            db: session.db,
            resp3: session.resp3,
            args: words.iter().map(|word| word.to_vec()).collect(),
        }))
    }

    /// A command with several keys: where they all are, or as a transaction.
    fn run_many_keys(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let command = CommandTable::get().command(id);
        let Run::Data(handler) = command.run else { unreachable!("only data commands have keys") };
        let spread = self.spread_of(command, words);
        if self.engine.shards.len() > 1 && command.reaches_further(words) {
            // The keys that it will ask for are unknown yet, and may be those of the commands before and
            // after it, on any shard: they keep their order because nothing else is under way.
            let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
            return self.when_drained(conn, |shard| shard.start_job(conn, job, spread));
        }
        match spread {
            Spread::On(owner) if owner != self.id() => {
                let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
                let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
                self.send_job(owner, JobRequest { job, origin, number: None });
                return Next::Done;
            }
            Spread::Several => {
                let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
                return self.when_drained(conn, |shard| {
                    shard.start_job(conn, job, Spread::Several);
                });
            }
            Spread::On(_) | Spread::Nowhere => {}
        }
        let mut keys = recycle_keys(std::mem::take(&mut self.scratch.keys));
        command.for_each_key(words, |at| keys.push((at, Key::new(words[at]))));
        let next = self.run_hashed_keys(conn, id, (words, &keys), handler);
        self.scratch.keys = recycle_keys(keys);
        next
    }

    fn run_hashed_keys(
        &mut self,
        conn: ConnId,
        id: CommandId,
        (words, keys): (&[&[u8]], &[(usize, Key<'_>)]),
        handler: Handler,
    ) -> Next {
        let locks = &self.engine.locks;
        let is_wanted = |(_, key): &(usize, Key<'_>)| locks.is_wanted(KeyLock { hash: key.hash });
        if !locks.is_idle() && keys.iter().any(is_wanted) {
            return self.wait_in_line(conn, id, words);
        }
        if let Some(session) = self.sessions.get(conn)
            && let Some(database) = self.engine.keyspace.databases().get(session.db)
        {
            database.prefetch(|| keys.iter().map(|(_, key)| key).take(PREFETCHED_KEYS_MAX));
        }
        // Some commands have their destination behind their sources, or before them.
        let in_order = keys.is_sorted_by_key(|(at, _)| *at);
        let mut ran = Ran::Done;
        let next = self.run_here(conn, |engine, state, out| {
            let request =
                if in_order { Request::with_keys(words, keys) } else { Request::new(words) };
            ran = engine.run(id, handler, &request, state, out);
        });
        if ran == Ran::OutOfReach {
            return self.reach_further(conn, id, words);
        }
        self.settle_changes(None);
        next
    }

    /// A command that may wait: all that is further said on its connection waits as well.
    fn run_blocking(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let spread = self.spread_of(CommandTable::get().command(id), words);
        let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
        let next = self.when_drained(conn, |shard| shard.start_job(conn, job, spread));
        if let Some(session) = self.sessions.get(conn)
            && session.input_ended
            && session.hold == Hold::Blocked
        {
            self.cut(conn);
        }
        next
    }

    /// What a command of DEBUG may not do here, if it is one.
    pub(super) fn is_debug_allowed(&self, conn: ConnId, id: CommandId) -> CommandResult {
        if CommandTable::get().command(id).name != "debug" {
            return Ok(());
        }
        let Some(session) = self.sessions.get(conn) else { return Ok(()) };
        debug_is_allowed(self.engine.config.enable_debug_command, session.endpoint.is_local())
    }

    #[cold]
    fn refuse_for_memory(&mut self, conn: ConnId, id: CommandId) -> Next {
        let error = CommandError::text("OOM command not allowed when used memory > 'maxmemory'.");
        if let Run::Session(SessionCommand::Exec) = CommandTable::get().command(id).run {
            self.leave_multi(conn);
            return self.refuse(conn, Some(id), &exec_aborted(&error));
        }
        self.refuse(conn, Some(id), &error)
    }

    fn run_in_parts(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        if let Err(error) = self.is_debug_allowed(conn, id) {
            return self.refuse(conn, Some(id), &error);
        }
        self.when_drained(conn, |shard| shard.start_parts(conn, id, words))
    }

    fn run_session_command(
        &mut self,
        conn: ConnId,
        id: CommandId,
        which: crate::command::SessionCommand,
        words: &[&[u8]],
    ) -> Next {
        let outcome = self.session_command(conn, which, words);
        self.engine.account(id, words, Outcome::Ok);
        match outcome {
            super::connection::SessionOutcome::Done => Next::Done,
            super::connection::SessionOutcome::Closing => Next::Stop,
            super::connection::SessionOutcome::Operation(start) => {
                self.when_drained(conn, |shard| start(shard, conn, words))
            }
        }
    }

    /// Starts a command with a wide effect once all earlier replies of the connection have come.
    pub(super) fn when_drained(&mut self, conn: ConnId, start: impl FnOnce(&mut Self)) -> Next {
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
        if !session.replies.is_clear() {
            session.hold = Hold::Drain;
            return Next::NotYet;
        }
        session.hold = Hold::Operation;
        start(self);
        // Many operations are over at once: those that found all they need on this shard.
        match self.sessions.get_mut(conn) {
            Some(session) if session.may_run() => Next::Done,
            _ => Next::Stop,
        }
    }

    fn protocol_error(&mut self, conn: ConnId, error: ProtocolError) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let resp3 = session.resp3;
        let out = session.replies.local();
        let before = out.len();
        Reply::new(out, resp3).error_bytes(&error.text());
        self.apply_reply_mode(conn, before);
        self.close_after_replies(conn);
    }

    // ---- batches from other shards ----

    /// Runs the commands of a batch and leaves their replies in it.
    pub(super) fn run_batch(&mut self, batch: &mut Batch) {
        let home = batch.home.expect("a batch on its way knows its home");
        let mut args = recycle_args(std::mem::take(&mut self.scratch.args));
        let mut replies = std::mem::take(&mut batch.replies);
        let mut items = std::mem::take(&mut batch.items);
        let mut slow = std::mem::take(&mut batch.slow);
        batch.args(&mut args);
        self.prefetch_items(&items, &args);
        let mut first_arg = 0;
        for item in &mut items {
            let words = &args[first_arg..first_arg + item.arg_count as usize];
            first_arg += item.arg_count as usize;
            let lock = KeyLock { hash: item.hash };
            let (db, resp3) = (usize::from(item.db), item.resp3);
            let owned = || {
                let args = words.iter().map(|word| word.to_vec()).collect();
                let job = Job::Command(OwnedCommand { id: item.id, db, resp3, args });
                let origin = Origin { shard: home, conn: item.conn, place: item.place };
                JobRequest { job, origin, number: None }
            };
            if !self.engine.locks.is_idle() && self.engine.locks.is_wanted(lock) {
                self.on_job(owned());
                continue;
            }
            let Run::Data(handler) = CommandTable::get().command(item.id).run else {
                unreachable!("only data commands cross in batches")
            };
            let at = usize::from(item.key_at);
            let key = Key { bytes: words[at], hash: item.hash, slot: item.slot };
            let request = Request::with_key(words, at, key);
            let ran = self.engine.run(item.id, handler, &request, (db, resp3), &mut replies);
            if ran == Ran::OutOfReach {
                let missing = std::mem::take(&mut self.engine.reach.missing);
                self.coordinate(owned(), missing);
                continue;
            }
            self.settle_changes(None);
            item.reply_end = Some(replies.len() as u32);
            if !self.engine.slow.is_empty() {
                slow.extend(self.engine.slow.drain(..).map(|slow| (item.conn, slow)));
            }
        }
        self.engine.end_brief_run();
        self.scratch.args = recycle_args(args);
        batch.items = items;
        batch.replies = replies;
        batch.slow = slow;
    }

    fn prefetch_items(&self, items: &[Item], args: &[&[u8]]) {
        let keyspace = &self.engine.keyspace;
        let keys = |visit: &dyn Fn(usize, &Key<'_>)| {
            let mut first_arg = 0;
            for item in items {
                let bytes = args[first_arg + usize::from(item.key_at)];
                visit(usize::from(item.db), &Key { bytes, hash: item.hash, slot: item.slot });
                first_arg += item.arg_count as usize;
            }
        };
        keys(&|db, key| keyspace[db].prefetch_slot(key));
        keys(&|db, key| keyspace[db].prefetch_bucket(key));
        keys(&|db, key| keyspace[db].prefetch_entry(key));
    }

    /// Hands the replies of a batch that came home to their connections.
    pub(super) fn take_replies(&mut self, mut batch: Box<Batch>) {
        let mut start = 0;
        for (conn, slow) in batch.slow.drain(..) {
            self.engine.slow.push(slow);
            self.log_slow_commands(Some(conn));
        }
        for item in std::mem::take(&mut batch.items) {
            let Some(end) = item.reply_end else {
                if let Some(session) = self.sessions.get_mut(item.conn) {
                    session.replies.expect_delay();
                    self.touch(item.conn);
                }
                continue;
            };
            let reply = &batch.replies[start..end as usize];
            start = end as usize;
            if let Some(session) = self.sessions.get_mut(item.conn) {
                session.replies.lend(|| self.buffers.take());
                session.replies.fill(item.place, reply);
                self.after_fill(item.conn);
            }
        }
        if batch.reset() {
            self.spare_batches.push(batch);
        }
    }
}

/// Why parsing a group ended.
enum Why {
    /// The group is full.
    Full,
    /// The next command is not whole.
    NeedsMore,
    /// An inline command follows, of so many bytes and these words.
    Inline(usize, Vec<Vec<u8>>),
    /// What follows is no command.
    Error(ProtocolError),
}

struct Stop {
    why: Why,
    /// Input taken by the group and by empty lines after it.
    skipped: usize,
}

fn parse_group<'b>(
    engine: &Engine,
    session: &mut Session,
    input: &'b [u8],
    args: &mut Vec<&'b [u8]>,
    group: &mut Vec<Parsed<'b>>,
) -> Stop {
    let limits = Limits {
        bulk_bytes_max: engine.config.proto_max_bulk_len as usize,
        unauthenticated: !session.authenticated,
    };
    // AUTH lifts limits that apply to what follows it, so until then one command at a time.
    let most = if session.authenticated { GROUP_COMMANDS_MAX } else { 1 };
    let table = CommandTable::get();
    let mut end = 0;
    while group.len() < most {
        if end == input.len() {
            return Stop { why: Why::NeedsMore, skipped: end };
        }
        let first_arg = args.len();
        match session.parser.next(&input[end..], &limits, args) {
            Ok(Step::Command { consumed }) => {
                end += consumed;
                let words = &args[first_arg..];
                let id = identify(table, words);
                let key = id.and_then(|id| single_key(table, id, words));
                group.push(Parsed { first_arg, end_arg: args.len(), end, id, key });
            }
            Ok(Step::Nothing { consumed }) => end += consumed,
            Ok(Step::Inline { consumed, args }) => {
                return Stop { why: Why::Inline(consumed, args), skipped: end };
            }
            Ok(Step::Incomplete { .. }) => return Stop { why: Why::NeedsMore, skipped: end },
            Err(error) => return Stop { why: Why::Error(error), skipped: end },
        }
    }
    Stop { why: Why::Full, skipped: end }
}

/// Whether this is EXEC of a block that needs memory.
#[cold]
fn is_oom_exec(command: &Command, session: &Session) -> bool {
    matches!(command.run, Run::Session(SessionCommand::Exec))
        && session.multi.as_ref().is_some_and(|multi| multi.block.denies_oom)
}

/// Which command this is, if it exists and its arity is right; [`why_unidentified`] if not.
#[inline(always)]
fn identify(table: &CommandTable, words: &[&[u8]]) -> Option<CommandId> {
    let mut id = table.find(words[0])?;
    let mut command = table.command(id);
    if wants_subcommand(command, words) {
        id = table.find_subcommand(command, words.get(1)?)?;
        command = table.command(id);
    }
    command.arity.allows(words.len()).then_some(id)
}

/// Whether the next word decides what this command is.
#[inline(always)]
fn wants_subcommand(command: &Command, words: &[&[u8]]) -> bool {
    match command.run {
        Run::Container => true,
        Run::ContainerOr(_) => words.len() > 1,
        _ => false,
    }
}

/// What is wrong with a command that [`identify`] does not know.
#[cold]
fn why_unidentified(words: &[&[u8]]) -> CommandError {
    let table = CommandTable::get();
    let Some(id) = table.find(words[0]) else { return unknown_command(words) };
    let command = table.command(id);
    let name = match (wants_subcommand(command, words), words.get(1)) {
        (true, Some(word)) => match table.find_subcommand(command, word) {
            Some(id) => table.command(id).name,
            None => return unknown_subcommand(command.name, word),
        },
        _ => command.name,
    };
    CommandError::WrongArity(name.to_owned())
}

#[inline(always)]
fn single_key<'b>(
    table: &CommandTable,
    id: CommandId,
    words: &[&'b [u8]],
) -> Option<(u8, Key<'b>)> {
    match table.shape(id) {
        KeyShape::One(at) => words.get(usize::from(at)).map(|bytes| (at, Key::new(bytes))),
        KeyShape::None | KeyShape::Several => None,
    }
}

/// Whether this is how an HTTP request begins that a browser can be made to send.
#[cold]
fn is_http(words: &[&[u8]]) -> bool {
    words[0].eq_ignore_ascii_case(b"post") || words[0].eq_ignore_ascii_case(b"host:")
}

/// Most bytes of the arguments that an unknown command's error repeats (Redis 7.0 `server.c`).
const UNKNOWN_ARGS_BYTES_MAX: usize = 128;

#[cold]
fn unknown_command(words: &[&[u8]]) -> CommandError {
    let text = |bytes: &[u8]| {
        let cut = &bytes[..bytes.len().min(UNKNOWN_ARGS_BYTES_MAX)];
        String::from_utf8_lossy(cut).into_owned()
    };
    let mut args = String::new();
    for word in &words[1..] {
        if args.len() >= UNKNOWN_ARGS_BYTES_MAX {
            break;
        }
        let left = UNKNOWN_ARGS_BYTES_MAX - args.len();
        let cut = &word[..word.len().min(left)];
        args.push_str(&format!("'{}' ", String::from_utf8_lossy(cut)));
    }
    let name = text(words[0]);
    CommandError::owned(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}

#[cold]
fn unknown_subcommand(container: &str, word: &[u8]) -> CommandError {
    let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
    let container = container.to_ascii_uppercase();
    CommandError::owned(format!("ERR unknown subcommand '{word}'. Try {container} HELP."))
}

/// Asks for what the commands of the group will look at, level by level.
fn prefetch(engine: &Engine, db: usize, args: &[&[u8]], group: &[Parsed<'_>]) {
    let Some(database) = engine.keyspace.databases().get(db) else { return };
    let alone = engine.shards.len() == 1;
    let keys = || {
        let keys = group.iter().filter_map(|parsed| parsed.key.as_ref().map(|(_, key)| key));
        keys.filter(|key| alone || engine.shards.owner(key.slot) == engine.id)
    };
    database.prefetch(keys);
    prefetch_members(database, args, group);
}

/// Of commands in a row for the same collection, asks for the members too.
fn prefetch_members(database: &Database, args: &[&[u8]], group: &[Parsed<'_>]) {
    let table = CommandTable::get();
    let key = |parsed: &Parsed<'_>| parsed.key.map(|(_, key)| (key.hash, key.slot));
    for run in group.chunk_by(|a, b| a.id == b.id && key(a) == key(b)) {
        let [Parsed { id: Some(id), key: Some((_, key)), .. }, _, ..] = run else { continue };
        let Some(at) = table.command(*id).likely_member() else { continue };
        let member = |parsed: &Parsed<'_>| {
            args[parsed.first_arg..parsed.end_arg].get(usize::from(at)).copied()
        };
        database.prefetch_members(key, run.iter().filter_map(member));
    }
}
