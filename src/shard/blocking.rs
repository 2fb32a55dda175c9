//! Clients that wait for keys: BLPOP and its kin, and WAIT.
//!
//! One shard answers a waiting client. If all keys are on one shard, that one does: it keeps the command
//! and runs it as soon as a key can serve it. If they are on several, the client's own shard does: each
//! owner knows only who waits and for what. When a key can serve such a client, its owner puts the client's
//! number in line for the key (it is old, so it goes before whoever came later) and *offers* the
//! key, which is a grant that nobody asked for. The client's shard schedules what else the command needs
//! under the same number, runs it, and is out of all queues; or gives the key back, and the owner goes on
//! with the next in the queue.
//!
//! One transaction may make several of those keys ready, on several shards, and Redis serves from that which was
//! first. So an offer tells what was changed before it, and the client's shard asks for that, too
//! ([`Shard::ask_for_earlier`]). Owners find out when they lend whether anybody waits; nobody else pays for it.
//!
//! So that nothing is lost between an attempt and the waiting, the attempt holds all keys, and it is the
//! conclusion of its transaction that puts the client into the queues.

use super::forwarding::Stray;
use super::message::{
    DiskWanted, Ending, Message, Origin, OwnedCommand, Schedule, Unblock, Wanted,
};
use super::transactions::{Granted, Transaction, Work, awaited_of};
use super::{Shard, Waiting, aftermath::Ready, job::Job};
use crate::admin::stats::Outcome;
use crate::command::spec::WRITE;
use crate::command::{
    Awaits, Blocking, CommandError, CommandId, CommandTable, Request, Run, WAITAOF_WITHOUT_FILE,
};
use crate::datatypes::number::parse_i64;
use crate::keyspace::{DbKey, Key};
use crate::resp::Reply;
use crate::session::Hold;
use crate::shard_map::ShardId;
use crate::slot::slot_of;
use crate::transaction::{KeyLock, TxId};

const UNBLOCKED: CommandError = CommandError::text("UNBLOCKED client unblocked via CLIENT UNBLOCK");

const ROLE_CHANGED: CommandError = CommandError::text(
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
);

/// A client that waits and is answered from here.
pub(super) struct Blocked {
    origin: Origin,
    command: OwnedCommand,
    /// Until when, unix ms.
    until: Option<i64>,
    /// The shards that have it in their queues, if they are several.
    queued_on: Vec<ShardId>,
    /// Replicas that have what was written before.
    acknowledged: usize,
}

/// Who waits for a key of this shard.
pub(super) enum Waiter {
    /// Somebody all of whose keys are here.
    Here(Box<Blocked>),
    /// Somebody with keys on several shards.
    Elsewhere {
        /// The shard that answers it.
        coordinator: ShardId,
        /// What it waits with.
        command: CommandId,
    },
}

/// A client that waits and was offered keys.
pub(super) struct Offer {
    blocked: Blocked,
    /// The keys, in the order in which they became ready, as far as one transaction did that.
    pub(super) offered: Vec<DbKey>,
    /// Shards that were asked to offer a key, and have not yet.
    pub(super) asked: Vec<ShardId>,
}

impl Blocked {
    /// A client that begins to wait.
    pub(super) fn new(origin: Origin, command: OwnedCommand, until: Option<i64>) -> Self {
        Self { origin, command, until, queued_on: Vec::new(), acknowledged: 0 }
    }
}

fn blocking(id: CommandId) -> Blocking {
    match CommandTable::get().command(id).run {
        Run::Blocking(blocking) => blocking,
        _ => unreachable!("only these wait"),
    }
}

impl Shard {
    // ---- who begins to wait ----

    /// A client all of whose keys are here begins to wait.
    pub(super) fn begin_to_wait(&mut self, number: TxId, blocked: Blocked) {
        if let Some(error) = self.refusal_of_waiting(&blocked.command) {
            // It was let through because it might have had its answer at once.
            return self.refuse_waiting(&blocked, error);
        }
        let OwnedCommand { id, db, args, .. } = &blocked.command;
        let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut keys = Vec::new();
        CommandTable::get()
            .command(*id)
            .for_each_awaited_key(&words, |key| keys.push((*db, key.to_vec())));
        self.count_blocked(number, &blocked);
        let number_at = |at| words.get(at).copied().and_then(parse_i64).unwrap_or_default();
        let me = self.id();
        let message = match blocking(*id).awaits {
            Awaits::Keys => None,
            Awaits::Replicas => Some(Message::AwaitReplicas(me, number, number_at(1))),
            Awaits::Disks => {
                let wanted = DiskWanted { local: number_at(1) > 0, replicas: number_at(2) > 0 };
                Some(Message::AwaitDisk(me, number, wanted))
            }
        };
        self.waits.insert(number, keys, Waiter::Here(Box::new(blocked)));
        self.listen();
        if let Some(message) = message {
            self.send(self.control_core(), message);
        }
    }

    /// A client with keys on several shards, which `number` holds, begins to wait.
    pub(super) fn wait_on_several(
        &mut self,
        number: TxId,
        origin: Origin,
        (command, until): (OwnedCommand, Option<i64>),
        participants: &[(ShardId, Wanted)],
    ) {
        let mut blocked = Blocked::new(origin, command, until);
        let (id, args) = (blocked.command.id, std::mem::take(&mut blocked.command.args));
        let awaited = |keys: &[DbKey]| awaited_of(id, &args, keys);
        self.send_home(number, participants, |_, keys| match awaited(keys) {
            keys if keys.is_empty() => Ending::Over,
            keys => Ending::Waits(id, keys),
        });
        for (shard, keys) in participants {
            let keys = awaited(keys.as_deref().unwrap_or_default());
            if keys.is_empty() {
                continue;
            }
            blocked.queued_on.push(*shard);
            if *shard == self.id() {
                self.wait_elsewhere(number, *shard, id, keys);
            }
        }
        blocked.command.args = args;
        self.count_blocked(number, &blocked);
        self.blocked.insert(number, blocked);
    }

    /// A client that is answered by `coordinator` waits for keys of this shard.
    pub(super) fn wait_elsewhere(
        &mut self,
        number: TxId,
        coordinator: ShardId,
        command: CommandId,
        keys: Vec<DbKey>,
    ) {
        self.waits.insert(number, keys, Waiter::Elsewhere { coordinator, command });
        self.listen();
    }

    fn count_blocked(&mut self, number: TxId, blocked: &Blocked) {
        let counters = self.engine.stats.counters();
        counters.blocked_clients += 1;
        if let Some(until) = blocked.until {
            counters.clients_with_timeout += 1;
            self.deadlines.insert((until, number));
        }
    }

    fn count_unblocked(&mut self, number: TxId, blocked: &Blocked) {
        let counters = self.engine.stats.counters();
        counters.blocked_clients -= 1;
        if let Some(until) = blocked.until {
            counters.clients_with_timeout -= 1;
            self.deadlines.remove(&(until, number));
        }
    }

    // ---- serving ----

    /// `key` may serve those who wait for it, in their order; only those that come after `last`, if there
    /// is one. `under` holds keys and is about to release them.
    pub(super) fn serve_key(&mut self, key: &DbKey, mut last: Option<TxId>, under: Option<TxId>) {
        let hashed = Key::new(&key.1);
        let lock = KeyLock { hash: hashed.hash };
        while let Some(number) = self.waits.next(key, last) {
            last = Some(number);
            if self.is_offered(number, key) {
                // What the key holds is for it alone until it has had its turn.
                return;
            }
            if self.engine.locks.knows(number) {
                // It is being served from another key. If that fails it will look at this one.
                self.waits.note_missed(number, key.clone());
                continue;
            }
            let is_free = self.engine.locks.is_free(lock, under);
            let found = self.engine.keyspace[key.0].peek(&hashed);
            let found = found.map(|entry| entry.value().type_name());
            let (waiter, waits_with) = match self.waits.get(number) {
                Some(Waiter::Here(blocked)) => (None, blocked.command.id),
                Some(Waiter::Elsewhere { coordinator, command }) => (Some(*coordinator), *command),
                None => unreachable!("who is in a queue is known"),
            };
            if is_free && !(blocking(waits_with).wants)(found) {
                continue;
            }
            if let Some(coordinator) = waiter {
                return self.offer(number, coordinator, key.clone());
            }
            let locks = self.locks_to_serve(number, lock);
            if !locks.iter().all(|lock| self.engine.locks.is_free(*lock, under)) {
                // Whatever the key holds is kept for it until it has what else it needs.
                return self.enter_line(number, Some(locks), Waiting::Serve(key.clone()));
            }
            self.serve_here(number, &hashed);
        }
    }

    /// Whether a client is about to be served from `key`.
    fn is_offered(&self, number: TxId, key: &DbKey) -> bool {
        let in_line = match self.waiting.get(&number) {
            Some(Waiting::Scheduled(schedule)) => schedule.offered.as_ref() == Some(key),
            Some(Waiting::Serve(known)) => known == key,
            _ => false,
        };
        let lent = self.lent.get(&number).and_then(|schedule| schedule.offered.as_ref());
        let own = match self.transactions.get(&number).map(|transaction| &transaction.work) {
            Some(Work::Serve(offer)) => offer.offered.contains(key),
            _ => false,
        };
        in_line || lent == Some(key) || own
    }

    /// What a client needs to be served from a key, all of whose keys are here: the key, and those that it
    /// does not wait for (the destination of BLMOVE).
    fn locks_to_serve(&self, number: TxId, key: KeyLock) -> Vec<KeyLock> {
        let Some(Waiter::Here(blocked)) = self.waits.get(number) else { return vec![key] };
        let further = self.further_keys(&blocked.command);
        let further = further.iter().map(|(_, key)| KeyLock { hash: Key::new(key).hash });
        std::iter::once(key).chain(further).collect()
    }

    /// The keys of a blocking command that it does not wait for.
    fn further_keys(&self, command: &OwnedCommand) -> Vec<DbKey> {
        let mut further = Vec::new();
        let databases = self.engine.keyspace.database_count();
        Job::Command(command.clone())
            .for_each_db_key(databases, |db, key| further.push((db, key.to_vec())));
        let awaited = awaited_of(command.id, &command.args, &further);
        further.retain(|key| !awaited.contains(key));
        further
    }

    /// Serves a client all of whose keys are here and free; false if it has to wait on.
    fn serve_here(&mut self, number: TxId, key: &Key<'_>) -> bool {
        let Some(Waiter::Here(blocked)) = self.waits.get(number) else { return false };
        let (origin, command) = (blocked.origin, blocked.command.clone());
        let Some(reply) = self.serve_command(&command, key) else { return false };
        if let Some(Waiter::Here(blocked)) = self.waits.remove(number) {
            self.count_unblocked(number, &blocked);
        }
        self.listen();
        if !self.engine.slow.is_empty() {
            self.log_slow_commands((origin.shard == self.id()).then_some(origin.conn));
        }
        self.deliver(origin, reply);
        true
    }

    fn serve_command(&mut self, command: &OwnedCommand, key: &Key<'_>) -> Option<Vec<u8>> {
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let (request, state) = (Request::new(&words), (command.db, command.resp3));
        let mut reply = Vec::new();
        let served = self.engine.serve(
            command.id,
            &blocking(command.id),
            (&request, key),
            state,
            &mut reply,
        );
        served.then_some(reply)
    }

    /// A client that stood in line to be served from `key` holds all it needs.
    pub(super) fn serve_in_turn(&mut self, number: TxId, key: DbKey) {
        let hashed = Key::new(&key.1);
        let found = self.engine.keyspace[key.0].peek(&hashed);
        let found = found.map(|entry| entry.value().type_name());
        let mut ready: Vec<Ready> = self.waits.take_missed(number);
        let wanted = match self.waits.get(number) {
            Some(Waiter::Here(blocked)) => (blocking(blocked.command.id).wants)(found),
            _ => false,
        };
        if wanted {
            self.serve_here(number, &hashed);
        }
        ready.push((key, Some(number)));
        self.settle(Vec::new(), ready, Some(number));
    }

    /// Offers `key` to a client that is answered by `coordinator`.
    fn offer(&mut self, number: TxId, coordinator: ShardId, key: DbKey) {
        let lock = KeyLock { hash: Key::new(&key.1).hash };
        let me = self.id();
        let at = self.order.iter().position(|changed| *changed == key).unwrap_or_default();
        let elsewhere = self.order[..at].iter().filter(|changed| self.owner_of(changed) != me);
        let earlier = elsewhere.cloned().collect();
        let schedule = offer_of(number, coordinator, key, earlier);
        self.enter_line(number, Some(vec![lock]), Waiting::Scheduled(Box::new(schedule)));
    }

    /// An offer is over: the keys of this shard that may serve somebody else now, or the same client.
    pub(super) fn after_turn(&mut self, number: TxId) -> Vec<Ready> {
        let mut ready = self.waits.take_missed(number);
        if let Some(key) = self.lent.get(&number).and_then(|schedule| schedule.offered.clone()) {
            ready.push((key, Some(number)));
        }
        ready
    }

    /// `number` waits for no key of this shard any more.
    pub(super) fn forget_waiter(&mut self, number: TxId) {
        if self.waits.remove(number).is_some() {
            self.listen();
        }
    }

    /// The client is answered, or gone: it is in no queue any more.
    pub(super) fn on_forget(&mut self, number: TxId) {
        self.forget_waiter(number);
        // An offer that is on its way comes back; one that was still in line is not made.
        if let Some(Waiting::Scheduled(schedule)) = self.waiting.remove(&number) {
            let key = schedule.offered.expect("who is in a queue is in line only for an offer");
            self.release(number);
            self.settle(Vec::new(), vec![(key, None)], None);
        }
    }

    // ---- as the shard that answers a client with keys on several shards ----

    /// A key that a client waits for may serve it now.
    pub(super) fn on_offer(
        &mut self,
        number: TxId,
        granted: Granted,
        key: DbKey,
        earlier: &[DbKey],
    ) {
        let shard = granted.shard;
        if let Some(transaction) = self.transactions.get_mut(&number) {
            transaction.take_offer(granted, key);
            return self.run_if_complete(number);
        }
        let Some(blocked) = self.blocked.remove(&number) else {
            if shard == self.id() {
                return self.release(number);
            }
            return self.conclude(shard, number, granted.entries, Vec::new(), Ending::Over);
        };
        let mut further = Vec::new();
        for key in self.further_keys(&blocked.command) {
            self.add_participant(&mut further, key);
        }
        let mut first: Vec<DbKey> = Vec::new();
        for key in self.awaited_by(&blocked, earlier) {
            let owner = self.owner_of(&key);
            let is_coming = owner == self.id() && self.engine.locks.knows(number);
            if !is_coming && first.iter().all(|known| self.owner_of(known) != owner) {
                first.push(key);
            }
        }
        let asked = first.iter().map(|key| self.owner_of(key)).collect();
        let offered = first.iter().chain([&key]).cloned().collect();
        let offer = Offer { blocked, offered, asked };
        let mut transaction = Transaction::new(Work::Serve(Box::new(offer)), further.clone());
        transaction.missing += first.len();
        for key in &first {
            transaction.participants.push((self.owner_of(key), Some(vec![key.clone()])));
        }
        transaction.participants.push((shard, Some(vec![key])));
        transaction.granted.push(granted);
        self.transactions.insert(number, transaction);
        self.ask_participants(number, further, None);
        self.ask_for_earlier(number, first);
        self.run_if_complete(number);
    }

    /// Those of `keys` that a client waits for.
    fn awaited_by(&self, blocked: &Blocked, keys: &[DbKey]) -> Vec<DbKey> {
        let command = &blocked.command;
        let mut awaited = Vec::new();
        for key in keys.iter().filter(|key| key.0 == command.db) {
            awaited.extend(awaited_of(command.id, &command.args, std::slice::from_ref(key)));
        }
        awaited
    }

    /// Has the owners of these keys, one of each shard, offer them to a client that was offered one that was ready
    /// later.
    fn ask_for_earlier(&mut self, number: TxId, keys: Vec<DbKey>) {
        let me = self.id();
        for key in keys {
            let owner = self.owner_of(&key);
            if owner != me {
                let schedule = offer_of(number, me, key, Vec::new());
                self.send(owner.index(), Message::Schedule(Box::new(schedule)));
            } else {
                self.offer(number, me, key);
            }
        }
    }

    /// All that a client needs to be served from the keys that it was offered is here.
    pub(super) fn serve_offer(
        &mut self,
        number: TxId,
        offer: Offer,
        participants: Vec<(ShardId, Wanted)>,
        cancelled: Option<Unblock>,
    ) {
        let Offer { blocked, offered, .. } = offer;
        let is_gone = self.sessions.get(blocked.origin.conn).is_none();
        let cancelled = cancelled.or(is_gone.then_some(Unblock::Gone));
        self.set_borrowing(true);
        let reply = match cancelled {
            Some(why) => Some(unblocked_reply(&blocked.command, why, 0)),
            None => offered.iter().find_map(|key| {
                let hashed = Key::new(&key.1);
                let found = self.engine.keyspace[key.0].peek(&hashed);
                let found = found.map(|entry| entry.value().type_name());
                let wants = (blocking(blocked.command.id).wants)(found);
                wants.then(|| self.serve_command(&blocked.command, &hashed)).flatten()
            }),
        };
        self.set_borrowing(false);
        let own: Vec<Ready> = self.own_offers(number, &offered);
        match reply {
            Some(reply) => {
                self.send_home(number, &participants, |_, _| Ending::Over);
                self.leave_queues(number, &blocked, &participants);
                self.count_unblocked(number, &blocked);
                self.deliver(blocked.origin, reply);
            }
            None => {
                let queued_on = blocked.queued_on.clone();
                self.send_home(number, &participants, |shard, _| {
                    if queued_on.contains(&shard) { Ending::Passed } else { Ending::Over }
                });
                // A time limit that passed meanwhile has not been noticed.
                if let Some(until) = blocked.until {
                    self.deadlines.insert((until, number));
                }
                self.blocked.insert(number, blocked);
            }
        }
        self.settle(Vec::new(), own, Some(number));
        self.release(number);
    }

    /// The keys of this shard among those that were offered, and those that were missed meanwhile.
    fn own_offers(&mut self, number: TxId, offered: &[DbKey]) -> Vec<Ready> {
        let mut ready = self.waits.take_missed(number);
        let me = self.id();
        let own = offered.iter().filter(|key| self.owner_of(key) == me);
        ready.extend(own.map(|key| (key.clone(), Some(number))));
        ready
    }

    /// Takes a client out of the queues of all shards but those whose transaction says so.
    fn leave_queues(
        &mut self,
        number: TxId,
        blocked: &Blocked,
        participants: &[(ShardId, Wanted)],
    ) {
        for shard in &blocked.queued_on {
            if *shard == self.id() {
                self.forget_waiter(number);
            } else if participants.iter().all(|(told, _)| told != shard) {
                self.send(shard.index(), Message::Forget(number));
            }
        }
    }

    // ---- who waits no more without being served ----

    /// The client that waits under `number` is answered without being served, or not at all.
    pub(super) fn unblock(&mut self, number: TxId, why: Unblock) {
        if let Some(blocked) = self.end_waiting(number) {
            let message = match blocking(blocked.command.id).awaits {
                _ if matches!(why, Unblock::Acknowledged | Unblock::NoFile) => None,
                Awaits::Keys => None,
                Awaits::Replicas => Some(Message::AwaitNoReplicas(number)),
                Awaits::Disks => Some(Message::AwaitNoDisk(number)),
            };
            if let Some(message) = message {
                self.send(self.control_core(), message);
            }
            let Blocked { origin, command, acknowledged, .. } = blocked;
            self.deliver(origin, unblocked_reply(&command, why, acknowledged));
        } else if let Some(transaction) = self.transactions.get_mut(&number) {
            transaction.cancelled = Some(why);
        } else if let Some(Waiting::Job(request)) = self.waiting.remove(&number) {
            self.release(number);
            let reply = self.cancelled_reply(&request.job, why);
            self.deliver(request.origin, reply);
        }
    }

    /// The client that waits under `number`, and is answered from here and not being served, waits no more.
    fn end_waiting(&mut self, number: TxId) -> Option<Blocked> {
        if let Some(Waiter::Here(_)) = self.waits.get(number) {
            let Some(Waiter::Here(blocked)) = self.waits.remove(number) else { return None };
            self.listen();
            self.count_unblocked(number, &blocked);
            if let Some(Waiting::Serve(key)) = self.waiting.remove(&number) {
                self.release(number);
                self.settle(Vec::new(), vec![(key, None)], None);
            }
            return Some(*blocked);
        }
        let blocked = self.blocked.remove(&number)?;
        self.leave_queues(number, &blocked, &[]);
        self.count_unblocked(number, &blocked);
        // If this shard was about to offer it a key of its own, somebody else may have it.
        self.on_forget(number);
        Some(blocked)
    }

    /// Clients wait in vain whose slots are another node's now: they are told. (Redis 7.0 finds out within a second.)
    pub(super) fn redirect_blocked(&mut self) {
        let here = self.waits.numbers().filter_map(|number| match self.waits.get(number) {
            Some(Waiter::Here(blocked)) => Some((number, &**blocked)),
            _ => None,
        });
        let everybody = here.chain(self.blocked.iter().map(|(number, blocked)| (*number, blocked)));
        let refused = everybody.filter_map(|(number, blocked)| {
            self.refusal_of_waiting(&blocked.command).map(|error| (number, error))
        });
        let mut refused: Vec<_> = refused.collect();
        refused.sort_unstable_by_key(|(number, _)| *number);
        for (number, error) in refused {
            let Some(blocked) = self.end_waiting(number) else { continue };
            self.refuse_waiting(&blocked, error);
        }
    }

    fn refuse_waiting(&mut self, blocked: &Blocked, error: CommandError) {
        if self.forwards_strays(&blocked.command.pass, &error) {
            let job = Job::Command(blocked.command.clone());
            return self.send_stray(Stray { origin: blocked.origin, job, error });
        }
        self.engine.count_error(&error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, blocked.command.resp3).error(error);
        self.deliver(blocked.origin, reply);
    }

    fn refusal_of_waiting(&self, command: &OwnedCommand) -> Option<CommandError> {
        let territory = self.engine.territory.as_ref().filter(|_| !command.pass.is_exempt)?;
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let (row, mut slot) = (CommandTable::get().command(command.id), None);
        row.for_each_awaited_key(&words, |key| slot = slot.or(Some(slot_of(key))));
        territory.refusal_of_waiting(slot?, command.pass.readonly && !row.flags.has(WRITE))
    }

    /// The reply to a blocking job that ends before it ran.
    pub(super) fn cancelled_reply(&mut self, job: &Job, why: Unblock) -> Vec<u8> {
        match job {
            Job::Command(command) => unblocked_reply(command, why, 0),
            Job::Block(_) => unreachable!("a block never waits"),
        }
    }

    /// Answers those whose time is over.
    pub(super) fn check_deadlines(&mut self) {
        let now_ms = self.engine.keyspace.now_ms();
        while let Some((at, number)) = self.deadlines.first().copied()
            && at <= now_ms
        {
            self.deadlines.pop_first();
            if let Some(Waiter::Here(blocked)) = self.waits.get(number) {
                let (id, args) = (blocked.command.id, blocked.command.args.clone());
                let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                self.engine.account(id, &words, Outcome::Ok);
            }
            self.unblock(number, Unblock::TimedOut);
        }
    }

    /// So many replicas, or disks, have what was written before a client began to wait for that.
    pub(super) fn on_acknowledged(&mut self, number: TxId, count: usize, is_enough: bool) {
        let Some(Waiter::Here(blocked)) = self.waits.get_mut(number) else { return };
        blocked.acknowledged = count;
        if is_enough {
            self.unblock(number, Unblock::Acknowledged);
        }
    }

    /// Ends the waiting of all who are answered by this shard.
    pub(super) fn unblock_all(&mut self, why: Unblock) {
        let here = self
            .waits
            .numbers()
            .filter(|number| matches!(self.waits.get(*number), Some(Waiter::Here(_))));
        let mut numbers: Vec<TxId> = here.chain(self.blocked.keys().copied()).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.unblock(number, why);
        }
    }

    /// CLIENT UNBLOCK: ends the waiting of the client with this id; returns the shard that answers it, if it waits.
    pub(super) fn unblock_client(&mut self, id: u64, why: Unblock) -> Option<ShardId> {
        let waits =
            |session: &crate::session::Session| session.id == id && session.hold == Hold::Blocked;
        let found = self.sessions.iter().find(|(_, session)| waits(session));
        let (shard, number) = found.and_then(|(_, session)| session.blocked)?;
        self.unblock_on(shard, number, why);
        Some(shard)
    }

    /// Ends the waiting of a client that is answered by `shard`.
    pub(super) fn unblock_on(&mut self, shard: ShardId, number: TxId, why: Unblock) {
        if shard == self.id() {
            self.unblock(number, why);
        } else {
            self.send(shard.index(), Message::Unblock(number, why));
        }
    }
}

/// Puts `key` in line for a client that waits for it and is answered by `coordinator`.
fn offer_of(number: TxId, coordinator: ShardId, key: DbKey, earlier: Vec<DbKey>) -> Schedule {
    Schedule {
        tx: number,
        coordinator,
        keys: Some(vec![key.clone()]),
        watcher: None,
        offered: Some(key),
        earlier,
    }
}

fn unblocked_reply(command: &OwnedCommand, why: Unblock, acknowledged: usize) -> Vec<u8> {
    let mut reply = Vec::new();
    let mut out = Reply::new(&mut reply, command.resp3);
    match why {
        Unblock::TimedOut | Unblock::Acknowledged => {
            (blocking(command.id).timed_out)(acknowledged, &mut out);
        }
        Unblock::WithError => out.error(&UNBLOCKED),
        Unblock::RoleChanged => out.error(&ROLE_CHANGED),
        Unblock::NoFile => out.error(&WAITAOF_WITHOUT_FILE),
        Unblock::Gone => {}
    }
    reply
}
