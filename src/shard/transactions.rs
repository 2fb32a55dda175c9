//! Commands with keys on several shards: who schedules, who lends, who runs.
//!
//! The connection's shard coordinates. It schedules the keys on every shard that owns some
//! ([`crate::transaction`]); a shard on which they are free lends their entries, a pointer each; when
//! all have granted, the command runs here as if all keys were at home, and the entries go back.
//! Three messages for each foreign shard; no value is copied.
//!
//! When an older transaction wants keys that a younger one holds, the younger one is recalled: if it
//! has not run, it gives those keys back and stands in line again.
//!
//! While entries are away their keys are held, so whoever looks for them waits in line. What looks
//! at all keys (SCAN, KEYS, DBSIZE) waits until none is away.

use super::message::{Conclusion, Grant, Loan, Message, Origin, OwnedCommand, Schedule, Wanted};
use super::{Shard, Waiting};
use crate::command::{CommandId, CommandTable, Request, Run};
use crate::keyspace::Key;
use crate::reactor::ConnId;
use crate::shard_map::ShardId;
use crate::transaction::{KeyLock, TxId, Verdict};

/// What a transaction does once it holds everything.
pub(super) enum Purpose {
    /// Runs a command with keys on several shards.
    Command(OwnedCommand),
    /// Has every shard, standing still, do its part of a command.
    Parts(OwnedCommand),
}

/// A transaction that this shard coordinates.
pub(super) struct Transaction {
    conn: ConnId,
    purpose: Purpose,
    /// The keys of each shard that takes part; `None` for the whole shard.
    participants: Vec<(ShardId, Wanted)>,
    /// Participants that have not granted yet.
    missing: usize,
    /// What was lent, by whom.
    granted: Vec<(ShardId, Vec<Loan>)>,
}

impl Shard {
    /// Starts a command with keys on several shards.
    pub(super) fn start_transaction(&mut self, conn: ConnId, id: CommandId, words: &[&[u8]]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (db, resp3) = (session.db, session.resp3);
        let mut participants: Vec<(ShardId, Wanted)> = Vec::new();
        let (command, databases) =
            (CommandTable::get().command(id), self.engine.keyspace.database_count());
        command.for_each_key(words, |at| {
            let owner = self.engine.shards.owner(crate::slot::slot_of(words[at]));
            let key_db = command.database_of_key(words, at, db, databases);
            let key = (key_db, words[at].to_vec());
            match participants.iter_mut().find(|(shard, _)| *shard == owner) {
                Some((_, keys)) => keys.get_or_insert_default().push(key),
                None => participants.push((owner, Some(vec![key]))),
            }
        });
        let args = words.iter().map(|word| word.to_vec()).collect();
        let purpose = Purpose::Command(OwnedCommand { id, db, resp3, args });
        self.schedule_transaction(conn, purpose, participants);
    }

    /// Starts a command that needs every shard to stand still.
    pub(super) fn start_exclusive(&mut self, conn: ConnId, command: OwnedCommand) {
        let participants = self.engine.shards.iter().map(|shard| (shard, None)).collect();
        self.schedule_transaction(conn, Purpose::Parts(command), participants);
    }

    fn schedule_transaction(
        &mut self,
        conn: ConnId,
        purpose: Purpose,
        participants: Vec<(ShardId, Wanted)>,
    ) {
        let me = self.id();
        let tx = self.process.tx();
        let mut missing = participants.len();
        for (shard, keys) in &participants {
            if *shard != me {
                let schedule = Schedule { tx, coordinator: me, keys: keys.clone() };
                self.send(shard.index(), Message::Schedule(Box::new(schedule)));
                continue;
            }
            match self.stand_in_line(tx, keys.as_deref()) {
                Verdict::Granted => missing -= 1,
                Verdict::Queued => _ = self.waiting.insert(tx, Waiting::Own),
            }
        }
        let transaction = Transaction { conn, purpose, participants, missing, granted: Vec::new() };
        self.transactions.insert(tx, transaction);
        self.run_if_complete(tx);
    }

    /// Puts a transaction in line whose number has just been taken: nobody is younger.
    pub(super) fn stand_in_line(&mut self, tx: TxId, keys: Option<&[(usize, Vec<u8>)]>) -> Verdict {
        let mut recalled = Vec::new();
        let verdict = self.schedule_keys(tx, keys, &mut recalled);
        assert!(recalled.is_empty(), "numbers grow, and {tx:?} is new");
        verdict
    }

    fn schedule_keys(
        &mut self,
        tx: TxId,
        keys: Option<&[(usize, Vec<u8>)]>,
        recalled: &mut Vec<TxId>,
    ) -> Verdict {
        match keys {
            Some(keys) => self.engine.locks.schedule(tx, key_locks(keys), recalled),
            None => self.engine.locks.schedule_whole(tx, recalled),
        }
    }

    // ---- as a participant ----

    /// Another shard schedules a transaction here.
    pub(super) fn on_schedule(&mut self, schedule: Box<Schedule>) {
        let tx = schedule.tx;
        let mut recalled = Vec::new();
        match self.schedule_keys(tx, schedule.keys.as_deref(), &mut recalled) {
            Verdict::Granted => self.lend(schedule),
            Verdict::Queued => _ = self.waiting.insert(tx, Waiting::Scheduled(schedule)),
        }
        recalled.into_iter().for_each(|younger| self.recall(younger));
    }

    /// An older transaction wants what `tx` holds here.
    fn recall(&mut self, tx: TxId) {
        if let Some(schedule) = self.lent.get(&tx) {
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

    fn lend(&mut self, schedule: Box<Schedule>) {
        let mut entries = Vec::new();
        for (db, bytes) in schedule.keys.iter().flatten() {
            if let Some(entry) = self.engine.keyspace[*db].take(&Key::new(bytes)) {
                entries.push((*db, entry));
            }
        }
        let grant = Grant { tx: schedule.tx, shard: self.id(), entries };
        self.send(schedule.coordinator.index(), Message::Grant(Box::new(grant)));
        self.lent.insert(schedule.tx, schedule);
    }

    /// A transaction is over, or was recalled: its entries come back.
    pub(super) fn on_conclusion(&mut self, conclusion: Conclusion) {
        for (db, entry) in conclusion.entries {
            self.engine.keyspace[db].put_back(entry);
        }
        let tx = conclusion.tx;
        if conclusion.again {
            let schedule = self.lent.remove(&tx).expect("what comes back was lent");
            self.give_back(tx, Waiting::Scheduled(schedule));
        } else {
            self.release(tx);
        }
    }

    /// Ends a transaction on this shard and lets those go on that hold all they want now.
    pub(super) fn release(&mut self, tx: TxId) {
        self.lent.remove(&tx);
        self.engine.locks.release(tx, &mut self.granted);
        self.go_on_granted();
    }

    /// Lets those go on that were granted. What they do grants others; a line may be as long as there
    /// are clients, so this is a loop and never calls itself.
    fn go_on_granted(&mut self) {
        if std::mem::replace(&mut self.granting, true) {
            return;
        }
        while let Some(tx) = self.granted.pop_front() {
            match self.waiting.remove(&tx) {
                Some(Waiting::Command(command, origin)) => {
                    let reply = self.run_owned(&command, self.client_here(origin));
                    self.engine.locks.release(tx, &mut self.granted);
                    self.deliver(origin, reply);
                }
                Some(Waiting::Part(request)) => {
                    self.run_part(&request);
                    self.engine.locks.release(tx, &mut self.granted);
                }
                Some(Waiting::Scheduled(schedule)) => self.lend(schedule),
                Some(Waiting::Own) => {
                    if let Some(transaction) = self.transactions.get_mut(&tx) {
                        transaction.missing -= 1;
                    }
                    self.run_if_complete(tx);
                }
                None => unreachable!("who is in line waits"),
            }
        }
        self.granting = false;
    }

    /// Puts a command in line for keys that are held, or that others wait for.
    pub(super) fn line_up(&mut self, command: OwnedCommand, origin: Origin, locks: Vec<KeyLock>) {
        let tx = self.process.tx();
        match self.engine.locks.schedule(tx, locks, &mut Vec::new()) {
            Verdict::Queued => _ = self.waiting.insert(tx, Waiting::Command(command, origin)),
            Verdict::Granted => {
                let reply = self.run_owned(&command, self.client_here(origin));
                self.deliver(origin, reply);
                self.release(tx);
            }
        }
    }

    /// The connection that a command came from, if this is its home.
    fn client_here(&self, origin: Origin) -> Option<ConnId> {
        (origin.shard == self.id()).then_some(origin.conn)
    }

    /// Runs a command whose keys are all here, and returns its reply. `client` is who asked, if it
    /// lives on this shard.
    fn run_owned(&mut self, command: &OwnedCommand, client: Option<ConnId>) -> Vec<u8> {
        let Run::Data(handler) = CommandTable::get().command(command.id).run else {
            unreachable!("only data commands wait in line")
        };
        let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
        let mut reply = Vec::new();
        let state = (command.db, command.resp3);
        self.engine.run(command.id, handler, &Request::new(&words), state, &mut reply);
        self.settle_changes();
        if !self.engine.slow.is_empty() {
            self.log_slow_commands(client);
        }
        reply
    }

    // ---- as the coordinator ----

    /// A participant granted.
    pub(super) fn on_grant(&mut self, grant: Grant) {
        let transaction = self.transactions.get_mut(&grant.tx);
        let transaction = transaction.expect("a transaction waits for all its grants");
        transaction.granted.push((grant.shard, grant.entries));
        transaction.missing -= 1;
        self.run_if_complete(grant.tx);
    }

    /// A participant wants back what it granted, for an older transaction.
    pub(super) fn on_recall(&mut self, tx: TxId, shard: ShardId) {
        // It has run: what was lent is on its way home.
        let Some(transaction) = self.transactions.get_mut(&tx) else { return };
        let at = transaction.granted.iter().position(|(granting, _)| *granting == shard);
        let (_, entries) = transaction.granted.swap_remove(at.expect("a grant, then its recall"));
        transaction.missing += 1;
        let conclusion = Conclusion { tx, entries, again: true };
        self.send(shard.index(), Message::Conclusion(Box::new(conclusion)));
    }

    fn run_if_complete(&mut self, tx: TxId) {
        if self.transactions.get(&tx).is_none_or(|transaction| transaction.missing > 0) {
            return;
        }
        let Some(transaction) = self.transactions.remove(&tx) else { return };
        match transaction.purpose {
            Purpose::Parts(command) => self.run_exclusive_parts(transaction.conn, command, tx),
            Purpose::Command(command) => {
                let Transaction { conn, participants, granted, .. } = transaction;
                for (db, entry) in granted.into_iter().flat_map(|(_, entries)| entries) {
                    self.engine.keyspace[db].put_back(entry);
                }
                let reply = self.run_owned(&command, Some(conn));
                self.send_home(tx, &participants);
                self.complete(conn, |_, out| out.raw(&reply));
                self.release(tx);
            }
        }
    }

    /// Sends every foreign key home, with whatever it holds now.
    fn send_home(&mut self, tx: TxId, participants: &[(ShardId, Wanted)]) {
        let me = self.id();
        for (shard, keys) in participants.iter().filter(|(shard, _)| *shard != me) {
            let mut entries = Vec::new();
            for (db, bytes) in keys.iter().flatten() {
                if let Some(entry) = self.engine.keyspace[*db].take(&Key::new(bytes)) {
                    entries.push((*db, entry));
                }
            }
            let conclusion = Conclusion { tx, entries, again: false };
            self.send(shard.index(), Message::Conclusion(Box::new(conclusion)));
        }
    }
}

fn key_locks(keys: &[(usize, Vec<u8>)]) -> Vec<KeyLock> {
    keys.iter().map(|(_, key)| KeyLock { hash: Key::new(key).hash }).collect()
}
