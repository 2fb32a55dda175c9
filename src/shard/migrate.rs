//! MIGRATE: the keys are held as by any transaction, their entries go with a courier ([`super::courier`]), and when
//! they come back, those that the other server has are deleted here.
//!
//! Meanwhile nobody finds the keys, and whoever wants one stands in line; in a slot that is leaving it is sent
//! after the key when the line moves on ([`super::redirects`]). All other keys of the shard are served, so a slow
//! target slows nobody but those.

use std::collections::HashMap;
use std::sync::Arc;

use super::Shard;
use super::courier::{self, Desk, Errand, KeptLinks, Report};
use super::engine::Removal;
use super::message::{Ending, Wanted};
use super::transactions::Work;
use super::whole::WholeRun;
use crate::command::{CommandResult, MigrateRequest};
use crate::keyspace::{DbKey, Key};
use crate::lanes::Doorbell;
use crate::persistence::rdb::Compression;
use crate::reactor::ConnId;
use crate::shard_map::ShardId;
use crate::slot::{Slot, slot_of};
use crate::transaction::TxId;

/// Those who carry keys of this shard's clients to other servers.
pub(super) struct Couriers {
    away: HashMap<TxId, Away, ahash::RandomState>,
    pub(super) desk: Desk,
    links: Arc<KeptLinks>,
}

impl Couriers {
    /// Those of the shard that sleeps by this doorbell.
    pub(super) fn new(doorbell: Arc<Doorbell>) -> Self {
        Self { away: HashMap::default(), desk: Desk::new(doorbell), links: Arc::default() }
    }

    /// Whether keys of this slot are under way, and may come back.
    pub(super) fn has_keys_of(&self, slot: Slot) -> bool {
        self.away.values().any(|away| away.slots.contains(&slot))
    }

    /// Whether one is away for a script.
    fn carry_for_script(&self) -> bool {
        self.away.values().any(|away| matches!(away.due, Due::Script))
    }
}

/// A MIGRATE whose keys are held.
pub(super) struct Migration {
    conn: ConnId,
    request: MigrateRequest,
    /// The keys, as they were named.
    keys: Vec<DbKey>,
}

/// What is due when a courier comes back.
pub(super) struct Away {
    conn: ConnId,
    copies: bool,
    /// Where its keys are from.
    slots: Vec<Slot>,
    due: Due,
}

/// Where the keys go then.
enum Due {
    /// The transaction ends.
    Transaction(Vec<(ShardId, Wanted)>),
    /// It was a command of a block for which all shards stand still.
    Block(Vec<DbKey>),
    /// It was a command of a script, which holds them and waits.
    Script,
}

impl Shard {
    /// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p | AUTH2 u p] [KEYS key …]
    pub(super) fn migrate(&mut self, conn: ConnId, words: &[&[u8]]) {
        let of_script = self.scripts.awaited.as_ref().filter(|awaited| awaited.conn == conn);
        let of_script = of_script.map(|awaited| awaited.db);
        let of_block = || self.runs.get(&conn).map(WholeRun::db);
        let of_session = || self.sessions.get(conn).map(|session| session.db);
        let Some(db) = of_script.or_else(of_block).or_else(of_session) else { return };
        let request = match MigrateRequest::parse(words) {
            Ok(request) => request,
            Err(error) => return self.end_migration(conn, Err(error)),
        };
        let keys: Vec<DbKey> =
            words[request.keys.clone()].iter().map(|key| (db, key.to_vec())).collect();
        let migration = Migration { conn, request, keys };
        if of_script.is_some() {
            let tx = self.process.tx();
            return self.send_courier(tx, migration, Due::Script);
        }
        if self.runs.contains_key(&conn) {
            // The block has borrowed them.
            let borrowed = self.take_borrowed(conn);
            let tx = self.process.tx();
            return self.send_courier(tx, migration, Due::Block(borrowed));
        }
        let mut participants = Vec::new();
        for key in &migration.keys {
            self.add_participant(&mut participants, key.clone());
        }
        if participants.is_empty() {
            return self.say_nothing_to_migrate(conn);
        }
        self.start_transaction(Work::Migrate(Box::new(migration)), participants);
    }

    /// The keys are held, and those of other shards are here.
    pub(super) fn run_migration(
        &mut self,
        tx: TxId,
        migration: Migration,
        participants: Vec<(ShardId, Wanted)>,
    ) {
        if self.sessions.get(migration.conn).is_none() {
            // Nobody wants it any more.
            self.send_home(tx, &participants, |_, _| Ending::Over);
            return self.release(tx);
        }
        self.send_courier(tx, migration, Due::Transaction(participants));
    }

    fn send_courier(&mut self, tx: TxId, migration: Migration, due: Due) {
        let Migration { conn, request, keys } = migration;
        let mut entries = Vec::new();
        for (db, bytes) in &keys {
            let key = Key::new(bytes);
            let database = &mut self.engine.keyspace[*db];
            if database.read_entry(&key).is_some() {
                entries.extend(database.take(&key).map(|entry| (*db, entry)));
            }
        }
        if entries.is_empty() {
            self.end_errand(tx, conn, due);
            return self.say_nothing_to_migrate(conn);
        }
        let config = &self.engine.config;
        let errand = Errand {
            tx,
            host: request.host,
            port: request.port,
            db: request.db,
            timeout: request.timeout,
            login: request.login,
            restore: if config.cluster_enabled { "RESTORE-ASKING" } else { "RESTORE" },
            replaces: request.replaces,
            compression: Compression::of_setting(config.rdbcompression),
            entries,
        };
        let slots = errand.entries.iter().map(|(_, entry)| slot_of(entry.key())).collect();
        let away = Away { conn, copies: request.copies, slots, due };
        self.couriers.away.insert(tx, away);
        courier::send_off(errand, self.couriers.links.clone(), self.couriers.desk.clone());
    }

    /// Couriers have come back.
    pub(super) fn take_reports(&mut self) {
        // A script that waits must find the keys as it left them, but for those that it waits for: while one does,
        // nobody else's are away.
        while (self.scripts.running.is_none() || self.couriers.carry_for_script())
            && let Some(report) = self.couriers.desk.take()
        {
            self.on_report(report);
        }
    }

    fn on_report(&mut self, report: Report) {
        let Report { tx, entries, result } = report;
        let away = self.couriers.away.remove(&tx).expect("who reports was sent");
        // What is done for a script is done within it.
        let mut script = match away.due {
            Due::Script => self.scripts.running.take(),
            Due::Transaction(_) | Due::Block(_) => None,
        };
        if let Some(run) = &mut script {
            self.enter(run);
        }
        let mut moved: Vec<DbKey> = Vec::new();
        for (db, entry, has_come) in entries {
            if has_come && !away.copies {
                moved.push((db, entry.key().to_vec()));
            }
            self.engine.keyspace[db].put_back(entry);
        }
        match &mut script {
            Some(run) => {
                self.delete_moved(&moved);
                self.leave(run);
            }
            None => self.delete_moved_of(away.conn, &moved),
        }
        self.scripts.running = script.or(self.scripts.running.take());
        self.end_errand(tx, away.conn, away.due);
        self.end_migration(away.conn, result);
    }

    /// As [`Shard::delete_moved`], for a connection or the block that it runs.
    fn delete_moved_of(&mut self, conn: ConnId, moved: &[DbKey]) {
        let in_block = self.runs.contains_key(&conn);
        if in_block {
            self.open_unit_of(conn);
        }
        self.set_borrowing(true);
        self.delete_moved(moved);
        self.set_borrowing(false);
        if in_block {
            self.suspend_unit_of(conn);
        }
    }

    /// The other server has these keys: they are deleted here, which is what replicas and files hear of MIGRATE.
    fn delete_moved(&mut self, moved: &[DbKey]) {
        let Some((db, _)) = moved.first() else { return };
        let keys: Vec<&[u8]> = moved.iter().map(|(_, key)| key.as_slice()).collect();
        self.engine.remove_keys(*db, &keys, Removal { word: b"DEL", is_event: true });
    }

    fn end_errand(&mut self, tx: TxId, conn: ConnId, due: Due) {
        match due {
            Due::Transaction(participants) => {
                self.send_home(tx, &participants, |_, _| Ending::Over);
                self.release(tx);
            }
            Due::Block(borrowed) => self.give_back_borrowed_of(conn, borrowed),
            // What it publishes goes out at its end.
            Due::Script => return,
        }
        self.send_what_is_published();
    }

    fn end_migration(&mut self, conn: ConnId, result: CommandResult) {
        self.complete(conn, |engine, reply| match result {
            Ok(()) => reply.ok(),
            Err(error) => {
                engine.count_error(&error);
                reply.error(error);
            }
        });
    }

    fn say_nothing_to_migrate(&mut self, conn: ConnId) {
        self.complete(conn, |_, reply| reply.simple("NOKEY"));
    }
}
