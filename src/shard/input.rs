//! From the bytes of a connection to commands that run.
//!
//! The commands of one read are parsed first, as many as [`GROUP_COMMANDS_MAX`]; then the places of
//! their keys are prefetched in three steps (slot table, bucket, entry), so that the cache misses of
//! a pipeline overlap; then they run in order.

use super::Shard;
use super::connection::SessionOutcome;
use super::engine::{Engine, Ran};
use super::eviction::OUT_OF_MEMORY;
use super::group::{
    Familiar, Parsed, Why, identify, is_http, parse_group, prefetch, single_key, why_unidentified,
};
use super::job::Job;
use super::message::{JobRequest, OwnedCommand};
use super::multi::{exec_aborted, is_about_transactions, passes_multi};
use crate::admin::slowlog::Caller;
use crate::admin::stats::Outcome;
use crate::command::spec::{DENYOOM, NO_AUTH, PROTECTED};
use crate::command::{
    Blocking, Command, CommandError, CommandId, CommandResult, CommandTable, Handler, KeyShape,
    Request, Run, ScriptCommand, SessionCommand, debug_is_allowed,
};
use crate::keyspace::Key;
use crate::reactor::ConnId;
use crate::resp::{ProtocolError, Reply};
use crate::session::{Hold, ReplyMode, Session, Spread};
use crate::transaction::KeyLock;

/// Keys of one command that are prefetched: what more there is would push the first out of the cache again.
const PREFETCHED_KEYS_MAX: usize = 64;
/// Input that may wait behind a held command before reading stops.
pub(super) const HELD_INPUT_BYTES_MAX: usize = 256 * 1024;

/// Replies go on in a new buffer from this length on, so looking how much a client has by now costs next to
/// nothing if it is done when the last one is so long.
const LONG_OUTPUT_BYTES: usize = 64 * 1024;

/// Vectors that are used again for every group.
#[derive(Default)]
pub struct Scratch {
    pub(super) args: Vec<&'static [u8]>,
    keys: Vec<(usize, Key<'static>)>,
    pub(super) block_args: Vec<&'static [u8]>,
    group: Vec<Parsed<'static>>,
    familiar: Familiar,
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
    /// As `Done`, and the client may have more output by now than is good.
    DoneAndLong,
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
        let is_full = self.ports.is_congested() || self.is_journal_full();
        let Some(session) = self.sessions.get_mut(conn) else {
            return self.link_received(conn, bytes);
        };
        session.active_ms = now_ms;
        session.received_bytes += bytes.len() as u64;
        if session.closing {
            return;
        }
        if is_full && session.may_run() {
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
        if session.fed.is_some() {
            // What it is fed with has a bound of its own.
        } else if session.query.len() > query_limit {
            tracing::warn!(client = session.id, "closing client: query buffer limit reached");
            self.cut(conn);
        } else if session.hold == Hold::Output {
            // Its input is always read, see there.
            self.input_behind_output(conn);
        } else if (session.hold != Hold::None || session.settles)
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
        if self.reads_too_slowly(conn) {
            return 0;
        }
        let mut args = recycle_args(std::mem::take(&mut self.scratch.args));
        let mut group = recycle_group(std::mem::take(&mut self.scratch.group));
        let mut used = 0;
        while used < input.len() {
            let Some(session) = self.sessions.get_mut(conn).filter(|s| s.may_run()) else { break };
            args.clear();
            group.clear();
            session.replies.lend(|| self.buffers.take());
            let rest = &input[used..];
            let familiar = &mut self.scratch.familiar;
            let stop = parse_group(&self.engine, session, familiar, rest, &mut args, &mut group);
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
                    self.note_inline(consumed);
                    match self.run_alone(conn, &words) {
                        Next::NotYet => break,
                        Next::Done | Next::DoneAndLong | Next::Stop => used += consumed,
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
        let limits = &self.engine.config.client_output_buffer_limit;
        let hard = self.sessions.get(conn).map_or(0, |s| s.output_limits(limits).hard as usize);
        let mut at = 0;
        loop {
            if hard == 0 {
                let (ran, next) = self.run_plain(conn, args, &group[at..]);
                at += ran;
                start = if ran == 0 { start } else { group[at - 1].end };
                match next {
                    Next::DoneAndLong if self.reads_too_slowly(conn) => return Some(start),
                    Next::Stop => return Some(start),
                    Next::Done | Next::DoneAndLong | Next::NotYet => {}
                }
            }
            let parsed = group.get(at)?;
            at += 1;
            let words = &args[parsed.first_arg..parsed.end_arg];
            let outcome = match parsed.id {
                Some(id) => self.run_command(conn, id, words, parsed.key),
                None => self.run_unidentified(conn, words),
            };
            match outcome {
                Next::Done => start = parsed.end,
                Next::DoneAndLong if self.reads_too_slowly(conn) => return Some(parsed.end),
                Next::DoneAndLong => start = parsed.end,
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

    #[inline]
    fn run_command(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        key: Option<(u8, Key<'_>)>,
    ) -> Next {
        let is_ours = match (&self.engine.territory, key) {
            (None, _) => true,
            (Some(territory), Some((_, key))) => territory.serves(key.slot),
            (Some(_), None) => false,
        };
        if is_ours && !self.looks_closely {
            return self.run_admitted(conn, id, words, key);
        }
        self.run_with_a_look(conn, id, words, key)
    }

    /// Runs a command whose keys, if it has some, are this node's.
    pub(super) fn run_admitted(
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
        if self.scripts.is_busy && !Self::runs_while_busy(command, words) {
            return self.refuse_busy(conn, id);
        }
        let listens = session.subscribed.any() && !session.resp3;
        if !self.engine.has_no_limit()
            && session.fed.is_none()
            && (queues || command.flags.has(DENYOOM) || is_oom_exec(command, session))
            && let Some(next) = self.stopped_by_lack_of_room(conn, id, key.filter(|_| !queues))
        {
            return next;
        }
        if self.engine.refusals.any()
            && let Some(next) = self.refused_for_files(conn, id)
        {
            return next;
        }
        if listens && let Some(next) = self.run_for_subscriber(conn, id, words) {
            return next;
        }
        if queues {
            return self.queue(conn, id, words, key);
        }
        let Some(session) = self.sessions.get_mut(conn) else { return Next::Stop };
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
                let next = after_reply(out.len());
                if self.engine.pubsub.has_outgoing() {
                    let before = self.send_before_reply(conn, before);
                    self.apply_reply_mode(conn, before);
                } else if plain {
                    session.replies.end_local(before);
                } else {
                    self.apply_reply_mode(conn, before);
                }
                self.settle_changes(None);
                next
            }
            (Run::Data(handler), None) if table.shape(id) == KeyShape::None => {
                self.run_here(conn, |engine, state, out| {
                    _ = engine.run(id, handler, &Request::new(words), state, out);
                })
            }
            (Run::Data(_), None) => self.run_many_keys(conn, id, words),
            (Run::Publish(_), _) if !session.replies.is_clear() => {
                session.hold = Hold::Drain;
                Next::NotYet
            }
            (Run::Publish(handler), _) => self.run_here(conn, |engine, state, out| {
                _ = engine.run(id, handler, &Request::new(words), state, out);
            }),
            (Run::Blocking(blocking), _) => self.run_blocking(conn, (id, blocking), words),
            (Run::Script(script), _) => self.run_script(conn, (id, script), words),
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
        let next = after_reply(out.len());
        let before = self.send_before_reply(conn, before);
        self.apply_reply_mode(conn, before);
        next
    }

    /// A command that may take memory waits or is refused if there is none; `None` if it may go on. What
    /// another shard runs is that shard's to decide.
    #[inline]
    fn stopped_by_lack_of_room(
        &mut self,
        conn: ConnId,
        id: CommandId,
        key: Option<(u8, Key<'_>)>,
    ) -> Option<Next> {
        let is_foreign = |(_, key): (u8, Key<'_>)| self.engine.shards.owner(key.slot) != self.id();
        if key.is_some_and(is_foreign) || self.engine.has_room() {
            return None;
        }
        match self.room_elsewhere() {
            Some(true) => None,
            Some(false) => Some(self.refuse_for_memory(conn, id)),
            None => {
                self.hold_for_room(conn);
                Some(Next::NotYet)
            }
        }
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

    /// A command for keys of this shard has to wait for a transaction that holds some of them.
    fn wait_in_line(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
        let Some(origin) = self.owe_reply(conn) else { return Next::Stop };
        self.on_job(JobRequest { job, origin, number: None });
        Next::Done
    }

    /// The command needs keys that it does not name and that are not free here: it becomes a transaction.
    #[cold]
    pub(super) fn reach_further(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
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
            pass: session.pass(self.engine.map_version),
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
                if self.sessions.get(conn).is_some_and(|session| session.abroad > 0) {
                    // It would overtake what comes back from its owner without having run.
                    return self.when_drained(conn, |shard| {
                        shard.start_job(conn, job, Spread::On(owner));
                    });
                }
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
    fn run_blocking(
        &mut self,
        conn: ConnId,
        (id, blocking): (CommandId, Blocking),
        words: &[&[u8]],
    ) -> Next {
        let spread = self.spread_of(CommandTable::get().command(id), words);
        let next = match self.run_blocking_at_once(conn, (id, blocking), words, spread) {
            Some(next) => next,
            None => {
                let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
                self.when_drained(conn, |shard| shard.start_job(conn, job, spread))
            }
        };
        if let Some(session) = self.sessions.get(conn)
            && session.input_ended
            && session.hold == Hold::Blocked
        {
            self.cut(conn);
        }
        next
    }

    /// A script: where its keys are, after all that its connection has sent before.
    fn run_script(
        &mut self,
        conn: ConnId,
        (id, script): (CommandId, ScriptCommand),
        words: &[&[u8]],
    ) -> Next {
        let spread = self.spread_of(CommandTable::get().command(id), words);
        if let Some(next) = self.run_script_at_once(conn, (id, script), words, spread) {
            return next;
        }
        let Some(job) = self.owned(conn, id, words) else { return Next::Stop };
        self.when_drained(conn, |shard| shard.start_job(conn, job, spread))
    }

    /// Whether this client may run a command that needs a permission of its own (DEBUG).
    pub(super) fn is_debug_allowed(&self, conn: ConnId, id: CommandId) -> CommandResult {
        if !CommandTable::get().command(id).flags.has(PROTECTED) {
            return Ok(());
        }
        let Some(session) = self.sessions.get(conn) else { return Ok(()) };
        debug_is_allowed(self.engine.config.enable_debug_command, session.endpoint.is_local())
    }

    #[cold]
    fn refuse_busy(&mut self, conn: ConnId, id: CommandId) -> Next {
        let error = self.busy_reply();
        if let Run::Session(SessionCommand::Exec) = CommandTable::get().command(id).run {
            self.leave_multi(conn);
            return self.refuse(conn, Some(id), &exec_aborted(&error));
        }
        self.refuse(conn, Some(id), &error)
    }

    #[cold]
    fn refuse_for_memory(&mut self, conn: ConnId, id: CommandId) -> Next {
        if let Run::Session(SessionCommand::Exec) = CommandTable::get().command(id).run {
            self.leave_multi(conn);
            return self.refuse(conn, Some(id), &exec_aborted(&OUT_OF_MEMORY));
        }
        self.refuse(conn, Some(id), &OUT_OF_MEMORY)
    }

    fn run_in_parts(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) -> Next {
        if let Err(error) = self.is_debug_allowed(conn, id) {
            return self.refuse(conn, Some(id), &error);
        }
        let is_debug = |word: &[u8]| {
            words.len() > 1
                && words[0].eq_ignore_ascii_case(b"debug")
                && words[1].eq_ignore_ascii_case(word)
        };
        if is_debug(b"reload") {
            return self.when_drained(conn, |shard| shard.reload(conn, words));
        }
        if is_debug(b"loadaof") && words.len() == 2 {
            return self.when_drained(conn, |shard| shard.load_aof(conn));
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
        let next = match self.session_command(conn, which, words) {
            SessionOutcome::Done => Next::Done,
            SessionOutcome::Closing => Next::Stop,
            SessionOutcome::Operation(start) => {
                self.when_drained(conn, |shard| start(shard, conn, words))
            }
        };
        if !matches!(next, Next::NotYet) {
            self.engine.account(id, words, Outcome::Ok);
        }
        next
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
}

/// Whether to look how much output there is, now that the buffer of replies is so long.
#[inline]
pub(super) fn after_reply(length: usize) -> Next {
    if length >= LONG_OUTPUT_BYTES { Next::DoneAndLong } else { Next::Done }
}

/// Whether this is EXEC of a block that needs memory.
#[cold]
fn is_oom_exec(command: &Command, session: &Session) -> bool {
    matches!(command.run, Run::Session(SessionCommand::Exec))
        && session.multi.as_ref().is_some_and(|multi| multi.block.denies_oom)
}
