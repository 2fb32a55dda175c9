//! Jobs with keys on several shards: who schedules, who lends, who runs.
//!
//! The connection's shard coordinates. It schedules the keys on every shard that owns some
//! ([`crate::transaction`]); a shard on which they are free lends their entries, a pointer each; when
//! all have granted, the job runs here as if all keys were at home, and the entries go back, with
//! the names of those that were changed. Three messages for each foreign shard; no value is copied.
//!
//! When an older transaction wants keys that a younger one holds, the younger one is recalled: if it
//! has not run, it gives those keys back and stands in line again.
//!
//! While entries are away their keys are held, so whoever looks for them waits in line. What looks
//! at all keys (SCAN, KEYS, DBSIZE) waits until none is away.

use super::blocking::Offer;
use super::forwarding::Stray;
use super::job::{Job, Outcome};
use super::message::{
    Conclusion, Ending, Grant, HoldNumber, JobRequest, Loan, Message, Origin, OwnedCommand,
    Schedule, Unblock, Wanted,
};
use super::script_run::Then;
use super::{Shard, Waiting};
use crate::command::{CommandId, CommandTable};
use crate::keyspace::{DbKey, Key};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::Block;
use crate::shard_map::ShardId;
use crate::transaction::{KeyLock, TxId, Verdict, Watcher};

/// What a transaction does once it holds everything.
pub(super) enum Work {
    /// Runs a job with keys on several shards.
    Job(Job, Origin),
    /// Serves a client that waits, from keys that were offered.
    Serve(Box<Offer>),
    /// Has every shard, standing still, do its part of a command.
    Parts(ConnId, OwnedCommand),
    /// Runs a script while all shards stand still.
    Script(Job, Origin),
    /// Has all shards stand still until the control core lets them go on.
    Hold(HoldNumber),
    /// Moves keys to another server.
    Migrate(Box<super::migrate::Migration>),
    /// Runs a block with commands that concern all shards, while all stand still.
    Whole(Box<Block>, Origin),
}

/// What a participant has granted.
pub(super) struct Granted {
    pub(super) shard: ShardId,
    pub(super) entries: Vec<Loan>,
    pub(super) is_broken: bool,
}

/// A transaction that this shard coordinates.
pub(super) struct Transaction {
    pub(super) work: Work,
    /// The keys of each shard that takes part; `None` for the whole shard.
    pub(super) participants: Vec<(ShardId, Wanted)>,
    /// Participants that have not granted yet.
    pub(super) missing: usize,
    /// What was lent, by whom.
    pub(super) granted: Vec<Granted>,
    /// The client does not wait for it any more.
    pub(super) cancelled: Option<Unblock>,
}

impl Transaction {
    /// One that nobody has granted anything yet.
    pub(super) fn new(work: Work, participants: Vec<(ShardId, Wanted)>) -> Self {
        let missing = participants.len();
        Self { work, participants, missing, granted: Vec::new(), cancelled: None }
    }

    /// Serves a client, which was offered one more key.
    pub(super) fn take_offer(&mut self, granted: Granted, key: DbKey) {
        let shard = granted.shard;
        let Work::Serve(offer) = &mut self.work else {
            unreachable!("only who waits is offered something")
        };
        if let Some(at) = offer.asked.iter().position(|asked| *asked == shard) {
            offer.asked.swap_remove(at);
            self.missing -= 1;
        }
        self.granted.push(granted);
        if offer.offered.contains(&key) {
            return; // it was asked for
        }
        offer.offered.push(key.clone());
        match self.participants.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, keys)) => keys.get_or_insert_default().push(key),
            None => self.participants.push((shard, Some(vec![key]))),
        }
    }
}

impl Shard {
    /// Coordinates a job, which needs `further` keys besides those that it names.
    pub(super) fn coordinate(&mut self, request: JobRequest, further: Vec<DbKey>) {
        let JobRequest { job, origin, number } = request;
        let mut participants: Vec<(ShardId, Wanted)> = Vec::new();
        job.for_each_db_key(self.engine.keyspace.database_count(), |db, key| {
            self.add_participant(&mut participants, (db, key.to_vec()));
        });
        further.into_iter().for_each(|key| self.add_participant(&mut participants, key));
        if let Job::Block(block) = &job {
            for shard in &block.watched_on {
                if participants.iter().all(|(known, _)| known != shard) {
                    participants.push((*shard, Some(Vec::new())));
                }
            }
        }
        let tx = number.unwrap_or_else(|| self.process.tx());
        self.schedule_transaction(tx, Work::Job(job, origin), participants);
    }

    /// Adds a key to the participant that owns it.
    pub(super) fn add_participant(&self, participants: &mut Vec<(ShardId, Wanted)>, key: DbKey) {
        let owner = self.owner_of(&key);
        match participants.iter_mut().find(|(shard, _)| *shard == owner) {
            Some((_, keys)) => keys.get_or_insert_default().push(key),
            None => participants.push((owner, Some(vec![key]))),
        }
    }

    pub(super) fn owner_of(&self, key: &DbKey) -> ShardId {
        self.engine.shards.owner(crate::slot::slot_of(&key.1))
    }

    /// Starts what needs every shard to stand still.
    pub(super) fn start_exclusive(&mut self, work: Work) {
        let participants = self.engine.shards.iter().map(|shard| (shard, None)).collect();
        let tx = self.process.tx();
        self.schedule_transaction(tx, work, participants);
    }

    /// Starts what needs these keys and nothing of the shards besides.
    pub(super) fn start_transaction(&mut self, work: Work, participants: Vec<(ShardId, Wanted)>) {
        let tx = self.process.tx();
        self.schedule_transaction(tx, work, participants);
    }

    fn schedule_transaction(&mut self, tx: TxId, work: Work, participants: Vec<(ShardId, Wanted)>) {
        let watcher = match &work {
            Work::Job(job, _) => job.watcher(),
            Work::Whole(block, _) => block.watcher,
            Work::Parts(..)
            | Work::Serve(_)
            | Work::Script(..)
            | Work::Migrate(_)
            | Work::Hold(_) => None,
        };
        let wanted = participants.clone();
        self.transactions.insert(tx, Transaction::new(work, participants));
        self.ask_participants(tx, wanted, watcher);
        self.run_if_complete(tx);
    }

    /// Schedules a transaction of this shard's on those that take part.
    pub(super) fn ask_participants(
        &mut self,
        tx: TxId,
        wanted: Vec<(ShardId, Wanted)>,
        watcher: Option<Watcher>,
    ) {
        let me = self.id();
        for (shard, keys) in wanted {
            if shard == me {
                let locks = keys.as_deref().map(key_locks);
                let locks = locks.map(|locks| [locks, self.watch_locks(watcher)].concat());
                self.enter_line(tx, locks, Waiting::Own);
            } else {
                let schedule = Schedule {
                    tx,
                    coordinator: me,
                    keys,
                    watcher,
                    offered: None,
                    earlier: Vec::new(),
                };
                self.send(shard.index(), Message::Schedule(Box::new(schedule)));
            }
        }
    }

    /// Puts somebody in line for keys of this shard (all of it without `locks`); when it is its turn, which
    /// may be at once, what waits is done.
    pub(super) fn enter_line(&mut self, tx: TxId, locks: Option<Vec<KeyLock>>, waiting: Waiting) {
        self.waiting.insert(tx, waiting);
        let mut recalled = Vec::new();
        let verdict = match locks {
            Some(locks) => self.engine.locks.schedule(tx, locks, &mut recalled),
            None => self.engine.locks.schedule_whole(tx, &mut recalled),
        };
        if verdict == Verdict::Granted {
            self.granted.push_back(tx);
        }
        recalled.into_iter().for_each(|younger| self.recall(younger));
        self.go_on_granted();
    }

    // ---- as a participant ----

    /// Another shard schedules a transaction here.
    pub(super) fn on_schedule(&mut self, schedule: Box<Schedule>) {
        if schedule.offered.is_some() && self.engine.locks.knows(schedule.tx) {
            // The client is being offered a key of this shard anyway.
            return;
        }
        let locks = schedule.keys.as_deref().map(key_locks);
        let locks = locks.map(|locks| [locks, self.watch_locks(schedule.watcher)].concat());
        self.enter_line(schedule.tx, locks, Waiting::Scheduled(schedule));
    }

    /// An older transaction wants what `tx` holds here.
    fn recall(&mut self, tx: TxId) {
        if self.waiting.contains_key(&tx) {
            // It was granted a moment ago and has not gone on.
            self.granted.retain(|granted| *granted != tx);
            self.engine.locks.give_back(tx, &mut self.granted);
        } else if let Some(schedule) = self.lent.get(&tx) {
            let coordinator = schedule.coordinator.index();
            self.send(coordinator, Message::Recall(tx, self.id()));
        } else if let Some(own) = self.transactions.get_mut(&tx) {
            own.missing += 1;
            self.give_back(tx, Waiting::Own);
        }
    }

    /// `tx` was recalled and stands in line again.
    fn give_back(&mut self, tx: TxId, waiting: Waiting) {
        self.waiting.insert(tx, waiting);
        self.engine.locks.give_back(tx, &mut self.granted);
        self.go_on_granted();
    }

    /// `schedule` holds its keys: their entries go to its coordinator.
    fn lend(&mut self, schedule: Box<Schedule>) {
        let (tx, shard) = (schedule.tx, self.id());
        if schedule.coordinator == shard {
            let offered = schedule.offered.expect("of its own a shard only schedules offers");
            let granted = Granted { shard, entries: Vec::new(), is_broken: false };
            return self.on_offer(tx, granted, offered, &schedule.earlier);
        }
        // Before the entries go: a watched key that is not there breaks its watch.
        let is_broken = self.is_watch_broken(schedule.watcher);
        let entries = self.take_entries(schedule.keys.iter().flatten());
        let is_awaited = !self.waits.is_empty()
            && schedule.keys.iter().flatten().any(|key| self.waits.is_awaited(key));
        let (offered, earlier) = (schedule.offered.clone(), schedule.earlier.clone());
        let grant = Grant { tx, shard, entries, is_broken, offered, earlier, is_awaited };
        self.send(schedule.coordinator.index(), Message::Grant(Box::new(grant)));
        self.lent.insert(tx, schedule);
    }

    /// Takes the entries of these keys out, as far as they exist.
    pub(super) fn take_entries<'k>(&mut self, keys: impl Iterator<Item = &'k DbKey>) -> Vec<Loan> {
        let mut entries = Vec::new();
        for (db, bytes) in keys {
            if let Some(entry) = self.engine.keyspace[*db].take_on_loan(&Key::new(bytes)) {
                entries.push((*db, entry));
            }
        }
        entries
    }

    /// Puts entries into this shard's tables.
    pub(super) fn adopt_entries(&mut self, entries: impl IntoIterator<Item = Loan>) {
        for (db, entry) in entries {
            self.engine.keyspace[db].put_back(entry);
        }
    }

    /// A transaction is over, or was recalled: its entries come back.
    pub(super) fn on_conclusion(&mut self, conclusion: Conclusion) {
        let Conclusion { tx, entries, changed, order, ending } = conclusion;
        self.adopt_entries(entries);
        let ready = match ending {
            Ending::Interlude => return self.settle(changed, Vec::new(), None),
            Ending::Recalled => {
                let schedule = self.lent.remove(&tx).expect("what comes back was lent");
                return self.give_back(tx, Waiting::Scheduled(schedule));
            }
            Ending::Waits(command, keys) => {
                let coordinator = self.lent.get(&tx).map(|schedule| schedule.coordinator);
                let coordinator = coordinator.expect("what comes back was lent");
                self.wait_elsewhere(tx, coordinator, command, keys);
                Vec::new()
            }
            Ending::Passed => self.after_turn(tx),
            Ending::Over => {
                let ready = self.after_turn(tx);
                self.forget_waiter(tx);
                ready
            }
        };
        if let Some(watcher) = self.lent.remove(&tx).and_then(|schedule| schedule.watcher) {
            self.watches.forget(watcher);
            self.listen();
        }
        self.settle_in_order(changed, order, ready, tx);
        self.release(tx);
    }

    /// Ends a transaction on this shard and lets those go on that hold all they want now.
    pub(super) fn release(&mut self, tx: TxId) {
        self.lent.remove(&tx);
        self.engine.locks.release(tx, &mut self.granted);
        self.go_on_granted();
    }

    /// Lets those go on that were granted. What they do grants others; a line may be as long as there
    /// are clients, so this is a loop and never calls itself.
    pub(super) fn go_on_granted(&mut self) {
        if std::mem::replace(&mut self.granting, true) {
            return;
        }
        while let Some(tx) = self.granted.pop_front() {
            match self.waiting.remove(&tx) {
                Some(Waiting::Job(request)) => {
                    let is_over = self.run_request(*request, Some(tx));
                    if is_over {
                        self.engine.locks.release(tx, &mut self.granted);
                    }
                }
                Some(Waiting::Part(request)) => {
                    self.run_part(&request);
                    self.settle_changes(Some(tx));
                    self.engine.locks.release(tx, &mut self.granted);
                }
                Some(Waiting::Serve(key)) => {
                    self.serve_in_turn(tx, key);
                    self.engine.locks.release(tx, &mut self.granted);
                }
                Some(Waiting::Scheduled(schedule)) => self.lend(schedule),
                Some(Waiting::Own) => {
                    if let Some(transaction) = self.transactions.get_mut(&tx) {
                        transaction.missing -= 1;
                    }
                    self.run_if_complete(tx);
                }
                // It was granted, and then its client went.
                None => {}
            }
        }
        self.granting = false;
    }

    // ---- as the coordinator ----

    /// A participant granted.
    pub(super) fn on_grant(&mut self, grant: Grant) {
        let Grant { tx, shard, entries, is_broken, offered, earlier, is_awaited } = grant;
        let granted = Granted { shard, entries, is_broken };
        let known = match self.transactions.get(&tx).map(|transaction| &transaction.work) {
            // What was offered, recalled and is granted again was counted as missing.
            Some(Work::Serve(offer)) => {
                offered.as_ref().is_none_or(|key| offer.offered.contains(key))
            }
            Some(_) => true,
            None => false,
        };
        match offered {
            Some(key) if !known => self.on_offer(tx, granted, key, &earlier),
            _ => {
                let transaction = self.transactions.get_mut(&tx);
                let transaction = transaction.expect("a transaction waits for all its grants");
                if let Work::Serve(offer) = &mut transaction.work {
                    offer.asked.retain(|asked| *asked != shard);
                } else if is_awaited {
                    self.waited_for.insert(tx);
                }
                transaction.granted.push(granted);
                transaction.missing -= 1;
                self.run_if_complete(tx);
            }
        }
    }

    /// A participant wants back what it granted, for an older transaction.
    pub(super) fn on_recall(&mut self, tx: TxId, shard: ShardId) {
        // It has run: what was lent is on its way home.
        let Some(transaction) = self.transactions.get_mut(&tx) else { return };
        let granted = &mut transaction.granted;
        let Some(at) = granted.iter().position(|granted| granted.shard == shard) else {
            // What this is about has gone home; the number works on other offers.
            return;
        };
        let entries = granted.swap_remove(at).entries;
        transaction.missing += 1;
        self.conclude(shard, tx, entries, Vec::new(), Ending::Recalled);
    }

    /// Sends entries home.
    pub(super) fn conclude(
        &mut self,
        shard: ShardId,
        tx: TxId,
        entries: Vec<Loan>,
        changed: Vec<DbKey>,
        ending: Ending,
    ) {
        let conclusion = Conclusion { tx, entries, changed, order: Vec::new(), ending };
        self.send(shard.index(), Message::Conclusion(Box::new(conclusion)));
    }

    pub(super) fn run_if_complete(&mut self, tx: TxId) {
        if self.transactions.get(&tx).is_none_or(|transaction| transaction.missing > 0) {
            return;
        }
        let Some(mut transaction) = self.transactions.remove(&tx) else { return };
        let granted = std::mem::take(&mut transaction.granted);
        let is_broken = granted.iter().any(|granted| granted.is_broken);
        self.adopt_entries(granted.into_iter().flat_map(|granted| granted.entries));
        let Transaction { work, participants, cancelled, .. } = transaction;
        match work {
            Work::Hold(number) => self.held(tx, number),
            Work::Parts(conn, command) => self.run_exclusive_parts(conn, command, tx),
            Work::Migrate(migration) => self.run_migration(tx, *migration, participants),
            Work::Whole(block, origin) => self.run_whole(tx, block, origin, is_broken),
            Work::Script(job, origin) => self.run_script_with_all(tx, job, origin),
            Work::Serve(offer) => self.serve_offer(tx, *offer, participants, cancelled),
            Work::Job(job, origin) => {
                let is_gone = job.is_blocking() && self.sessions.get(origin.conn).is_none();
                let outcome = match cancelled.or(is_gone.then_some(Unblock::Gone)) {
                    Some(why) => Outcome::Reply(self.cancelled_reply(&job, why)),
                    None => self.run_with_loans(&job, origin, &participants, is_broken),
                };
                if let Outcome::RunsOn = outcome {
                    return self.then(Then::Loans(tx, job, origin, participants));
                }
                self.conclude_job(tx, (job, origin), participants, outcome);
            }
        }
    }

    /// Runs a job that has borrowed the keys of others; which keys it changes is noted.
    fn run_with_loans(
        &mut self,
        job: &Job,
        origin: Origin,
        participants: &[(ShardId, Wanted)],
        is_broken: bool,
    ) -> Outcome {
        if let (Job::Block(block), true) = (job, is_broken) {
            let mut reply = Vec::new();
            Reply::new(&mut reply, block.resp3).null_array();
            self.end_of_watch(block.watcher);
            return Outcome::Reply(reply);
        }
        if job.reaches_further() {
            let keys = participants.iter().flat_map(|(_, keys)| keys.iter().flatten());
            self.engine.reach.keys = keys.cloned().collect();
        }
        self.set_borrowing(true);
        let outcome = self.run_job(job, origin);
        self.set_borrowing(false);
        self.engine.reach.keys = Default::default();
        outcome
    }

    /// A transaction has run: everything goes home, and what follows from its outcome is done.
    pub(super) fn conclude_job(
        &mut self,
        tx: TxId,
        (job, origin): (Job, Origin),
        participants: Vec<(ShardId, Wanted)>,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Reply(reply) => {
                self.send_home(tx, &participants, |_, _| Ending::Over);
                self.deliver(origin, reply);
            }
            Outcome::Waits(command, until) => {
                self.wait_on_several(tx, origin, (command, until), &participants);
            }
            Outcome::Lacks(keys) => {
                let held = participants.iter().flat_map(|(_, keys)| keys.iter().flatten());
                let further = held.cloned().chain(keys).collect();
                self.send_home(tx, &participants, |_, _| Ending::Over);
                // Under a new number: this one is about to be over.
                self.coordinate(JobRequest { job, origin, number: None }, further);
            }
            Outcome::NeedsAll => {
                self.send_home(tx, &participants, |_, _| Ending::Over);
                self.start_with_all(job, origin);
            }
            Outcome::Elsewhere(error) => {
                self.send_home(tx, &participants, |_, _| Ending::Over);
                self.send_stray(Stray { origin, job, error });
            }
            Outcome::RunsOn => unreachable!("it is not over"),
        }
        self.release(tx);
    }

    /// Sends every foreign key home, with whatever it holds now, and does for those at home what follows
    /// from their changes.
    pub(super) fn send_home(
        &mut self,
        tx: TxId,
        participants: &[(ShardId, Wanted)],
        ending: impl Fn(ShardId, &[DbKey]) -> Ending,
    ) {
        let (me, (mut changed, databases)) = (self.id(), self.engine.changes.take());
        debug_assert!(databases.is_empty(), "a job changes keys, not databases");
        let is_awaited = self.waited_for.remove(&tx) || !self.waits.is_empty();
        // Who waits for keys on several shards is served from that which was changed first.
        let order = if is_awaited { changed.clone() } else { Vec::new() };
        for (shard, keys) in participants.iter().filter(|(shard, _)| *shard != me) {
            let keys = keys.as_deref().unwrap_or_default();
            let entries = self.take_entries(keys.iter());
            let changed = changed.extract_if(.., |key| self.owner_of(key) == *shard).collect();
            let (order, ending) = (order.clone(), ending(*shard, keys));
            let conclusion = Conclusion { tx, entries, changed, order, ending };
            self.send(shard.index(), Message::Conclusion(Box::new(conclusion)));
        }
        self.settle_in_order(changed, order, Vec::new(), tx);
    }

    /// As [`Shard::settle`], for some of the keys that a transaction has changed in this `order`.
    fn settle_in_order(
        &mut self,
        changed: Vec<DbKey>,
        order: Vec<DbKey>,
        ready: Vec<super::aftermath::Ready>,
        tx: TxId,
    ) {
        self.order = order;
        self.settle(changed, ready, Some(tx));
        self.order.clear();
    }
}

/// The locks of these keys.
pub(super) fn key_locks(keys: &[DbKey]) -> Vec<KeyLock> {
    keys.iter().map(|(_, key)| KeyLock { hash: Key::new(key).hash }).collect()
}

/// Those of `keys` that a command with these arguments waits for.
pub(super) fn awaited_of(command: CommandId, args: &[Vec<u8>], keys: &[DbKey]) -> Vec<DbKey> {
    let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let mut awaited = Vec::new();
    CommandTable::get().command(command).for_each_awaited_key(&words, |bytes| {
        awaited.extend(keys.iter().filter(|key| key.1 == bytes).cloned());
    });
    awaited
}
