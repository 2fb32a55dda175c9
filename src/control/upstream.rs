//! The master of this server, as the control core follows it.
//!
//! [`crate::replication::replica`] decides; here are the socket, the file that a snapshot is kept in until it is
//! whole, and the way of the stream through the fed session of the first shard.
//!
//! A snapshot that is whole takes the place of all data: all shards stand still, drop their keys, and load
//! the file while clients hear LOADING. Then the stream is fed a chunk at a time. What was applied is appended to
//! this server's own stream byte by byte, so its replicas and its backlog have the master's bytes.
//!
//! Promise: the position that is told to the master is that of what was applied; nothing is applied twice.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::rdb_load::Progress;
use super::replication::Becoming;
use super::saving::Asker;
use super::sockets::{Owner, SocketId};
use super::{Change, Control};
use crate::admin::facts::MasterLink;
use crate::clock;
use crate::command::CommandError;
use crate::config::Config;
use crate::config::values::ReplicaOf;
use crate::datatypes::number::parse_i64;
use crate::journal::recorder::write_effect;
use crate::persistence::snapshot::{FileSink, FileTarget, Sink as _, SinkEvent};
use crate::reactor::Action;
use crate::replication::ReplId;
use crate::replication::replica::{Chunk, Doing, Introduction, Link, Progress as LinkProgress};
use crate::scripting::library::Catalogue;
use crate::shard::loading::LoadRules;
use crate::shard::message::{Fed, HoldNumber, Message};
use crate::shard_map::ShardId;

/// Bytes of a snapshot that may wait for the disk before reading stops.
const UNWRITTEN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The shard with the fed session.
const FED: ShardId = ShardId(0);

/// How far a snapshot is.
enum Stage {
    /// It comes, or its last bytes are on their way to the disk.
    Writing,
    /// It is whole, and waits until no other snapshot is under way.
    Whole,
    /// All shards are about to stand still.
    Holding(HoldNumber),
    /// They have dropped their data, and so many have not noted that other data is loaded.
    Clearing(HoldNumber, usize),
    /// It is being loaded.
    Loading,
    /// It is loaded, well or not; so many shards have not noted it.
    Ending(usize, bool),
}

/// A snapshot of the master.
struct Transfer {
    sink: FileSink,
    path: PathBuf,
    history: (ReplId, u64),
    /// Sizes of what is on its way to the disk.
    unwritten: VecDeque<usize>,
    unwritten_bytes: usize,
    is_paused: bool,
    stage: Stage,
    /// The database that the stream goes on in.
    database: i64,
}

/// See the module.
pub(super) struct Upstream {
    host: String,
    port: u16,
    pub(super) link: Link,
    socket: Option<SocketId>,
    /// The address of the host is being looked up.
    lookup: Option<mpsc::Receiver<Option<SocketAddr>>>,
    transfer: Option<Transfer>,
    /// What is being applied.
    chunk: Option<Chunk>,
    /// What to do instead of following, as soon as nothing is being applied.
    next: Option<Next>,
}

/// What comes after this master.
enum Next {
    Nobody(Option<Asker>),
    Another(String, u16, Option<Asker>),
}

impl Upstream {
    /// Whether a part of the stream is being applied.
    pub(super) fn is_applying(&self) -> bool {
        self.chunk.is_some()
    }

    /// Whether it is followed no more as soon as nothing is being applied.
    pub(super) fn is_left(&self) -> bool {
        self.next.is_some()
    }

    /// What INFO and ROLE tell.
    pub(super) fn facts(&self, now_ms: i64) -> MasterLink {
        let (heard_ms, down_since) = self.link.times();
        let seconds = |since: i64| (now_ms - since).max(0) as u64 / 1000;
        let (total, read) = self.link.transfer();
        let progress = self.link.progress();
        MasterLink {
            host: self.host.clone(),
            port: self.port,
            state: match progress {
                LinkProgress::Connect => "connect",
                LinkProgress::Connecting => "connecting",
                LinkProgress::Handshake => "handshake",
                LinkProgress::Sync => "sync",
                LinkProgress::Connected => "connected",
            },
            up: self.link.is_up(),
            last_io_seconds: self.link.is_up().then(|| seconds(heard_ms)),
            sync: (progress == LinkProgress::Sync).then(|| (total.unwrap_or(0), read)),
            down_seconds: down_since.map(seconds),
            read_offset: self.link.position(),
        }
    }
}

impl Control {
    // ---- REPLICAOF ----

    /// REPLICAOF host port, NO ONE
    pub(super) fn on_replica_of(&mut self, asker: Asker, words: &[Vec<u8>], at_once: bool) {
        if self.config.cluster_enabled {
            let error = CommandError::text("ERR REPLICAOF not allowed in cluster mode.");
            return self.answer(asker, Err(error));
        }
        let [host, port] = words else { return self.answer(asker, Err(CommandError::Syntax)) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return self.begin_role(None, asker, at_once);
        }
        if self.is_failing_over() {
            let error = CommandError::text("ERR REPLICAOF not allowed while failing over.");
            return self.answer(asker, Err(error));
        }
        let port = parse_i64(port).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else {
            return self.answer(asker, Err(CommandError::text("ERR Invalid master port")));
        };
        let host = String::from_utf8_lossy(host).into_owned();
        if let Some(upstream) = &self.replication.upstream
            && (&upstream.host, upstream.port) == (&host, port)
        {
            return self.answer(asker, Ok("OK Already connected to specified master"));
        }
        self.begin_role(Some(ReplicaOf { host, port }), asker, at_once);
    }

    fn begin_role(&mut self, master: Option<ReplicaOf>, asker: Asker, at_once: bool) {
        self.set_configured_master(master.clone());
        let asker = match at_once {
            true => {
                self.answer(asker, Ok("OK"));
                None
            }
            false => Some(asker),
        };
        self.take_role(master, asker);
    }

    /// CONFIG GET and CONFIG REWRITE show the master that was set last.
    pub(super) fn set_configured_master(&mut self, replicaof: Option<ReplicaOf>) {
        self.config = Arc::new(Config { replicaof, ..Config::clone(&self.config) });
        let config = Arc::clone(&self.config);
        // Nobody waits for it, but another change has to.
        self.changing = Some(Change::new(None, self.shards.len()));
        self.tell_all(|| Message::Settings(Arc::clone(&config)));
    }

    /// This server becomes a master, if it is none.
    pub(super) fn follow_nobody(&mut self, asker: Option<Asker>) {
        match &mut self.replication.upstream {
            Some(upstream) => {
                upstream.next = Some(Next::Nobody(asker));
                self.leave_master();
            }
            None => asker.into_iter().for_each(|asker| self.answer(asker, Ok("OK"))),
        }
    }

    /// This server follows a master from now on.
    pub(super) fn follow_another(&mut self, host: String, port: u16, asker: Option<Asker>) {
        if let Some(upstream) = &mut self.replication.upstream {
            upstream.next = Some(Next::Another(host, port, asker));
            return self.leave_master();
        }
        self.replication.becoming = Some(Becoming { host, port, asker, hold: None });
        self.settle_standing();
        // A server that starts as a replica has told the shards before.
        self.hold_for_role();
    }

    /// Whether all stand still because this server becomes a replica.
    pub(super) fn is_hold_of_role(&self, number: HoldNumber) -> bool {
        self.replication.becoming.as_ref().is_some_and(|becoming| becoming.hold == Some(number))
    }

    /// Nothing is written any more, and all that was is in the stream: this server follows.
    pub(super) fn follow(&mut self) {
        let Some(Becoming { host, port, asker, hold }) = self.replication.becoming.take() else {
            return;
        };
        tracing::info!("Connecting to MASTER {host}:{port}");
        if let Some(number) = hold {
            self.tell(FED, Message::ReleaseAll(number));
        }
        let history = self.replication.master.history;
        // Who has a backlog may be a stretch behind a master that had it as its replica.
        let known = self.replication.master.wants_stream().then_some((history.id, history.end));
        self.begin_to_follow(host, port, known);
        let database = std::mem::take(&mut self.replication.restored_db);
        if database > 0 {
            if let Some(upstream) = &mut self.replication.upstream {
                upstream.link.set_stream_db(database);
            }
            self.select_in_stream(database);
        }
        asker.into_iter().for_each(|asker| self.answer(asker, Ok("OK")));
        self.go_on_with_roles();
    }

    pub(super) fn begin_to_follow(
        &mut self,
        host: String,
        port: u16,
        known: Option<(ReplId, u64)>,
    ) {
        let link = Link::new(self.introduction(), known);
        self.replication.upstream = Some(Upstream {
            host,
            port,
            link,
            socket: None,
            lookup: None,
            transfer: None,
            chunk: None,
            next: None,
        });
        self.tell_replication_facts();
    }

    /// How this server introduces itself to a master.
    pub(super) fn introduction(&self) -> Introduction {
        let config = &self.config;
        let password = || String::from_utf8_lossy(&config.masterauth).into_owned();
        let announced = &config.replica_announce_ip;
        Introduction {
            auth: (!config.masterauth.is_empty()).then(|| (config.masteruser.clone(), password())),
            port: match config.replica_announce_port {
                0 => config.port,
                port => port,
            },
            address: (!announced.is_empty()).then(|| announced.clone()),
            timeout_ms: i64::from(config.repl_timeout) * 1000,
        }
    }

    /// The master is left as soon as nothing of it is being applied or loaded.
    fn leave_master(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        if let Some(socket) = upstream.socket.take() {
            self.sockets.close(socket, &mut self.actions);
        }
        if let Some(transfer) = &mut upstream.transfer
            && matches!(transfer.stage, Stage::Writing | Stage::Whole)
        {
            transfer.sink.abandon();
            upstream.transfer = None;
        }
        self.take_next_master();
    }

    /// Goes on with what comes after the master, if it is time.
    fn take_next_master(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        if upstream.chunk.is_some() || upstream.transfer.is_some() {
            return;
        }
        let known = upstream.link.known();
        match upstream.next.take() {
            None => {}
            Some(Next::Nobody(asker)) => self.promote(asker),
            Some(Next::Another(host, port, asker)) => {
                self.begin_to_follow(host, port, known);
                asker.into_iter().for_each(|asker| self.answer(asker, Ok("OK")));
            }
        }
        self.go_on_with_roles();
    }

    // ---- the link ----

    /// Bytes of the master.
    pub(super) fn on_master_bytes(&mut self, id: SocketId, bytes: &[u8]) {
        if let Some(upstream) = &mut self.replication.upstream
            && upstream.socket == Some(id)
        {
            upstream.link.received(clock::unix_ms(), bytes);
        }
    }

    /// The link is broken, or could not be made.
    pub(super) fn on_master_closed(&mut self, id: SocketId) {
        if let Some(upstream) = &mut self.replication.upstream
            && upstream.socket == Some(id)
        {
            tracing::warn!("Connection with master lost.");
            upstream.socket = None;
            upstream.link.closed(clock::unix_ms());
        }
    }

    /// Looks what is to be done for the link, at what was looked up and written, and at the clock.
    pub(super) fn go_on_with_upstream(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        let now_ms = clock::unix_ms();
        if upstream.next.is_none() {
            upstream.link.tick(now_ms);
        }
        self.take_lookup();
        while let Some(upstream) = &mut self.replication.upstream {
            let doings = upstream.link.take_doings();
            if doings.is_empty() {
                break;
            }
            for doing in doings {
                self.do_for_link(doing);
            }
        }
        self.go_on_with_transfer();
        self.feed_next();
        self.settle_standing();
    }

    fn do_for_link(&mut self, doing: Doing) {
        let now_ms = clock::unix_ms();
        let Some(upstream) = &mut self.replication.upstream else { return };
        match doing {
            Doing::Connect => self.look_up_master(),
            Doing::Disconnect => {
                if let Some(socket) = upstream.socket.take() {
                    self.sockets.close(socket, &mut self.actions);
                }
            }
            Doing::Write(bytes) => {
                if let Some(socket) = upstream.socket {
                    self.sockets.write(socket, &bytes, &mut self.actions);
                }
            }
            Doing::BeginLoad { id, position, .. } => self.begin_transfer((id, position)),
            Doing::Load(bytes) => {
                if let Some(transfer) = &mut upstream.transfer {
                    transfer.unwritten.push_back(bytes.len());
                    transfer.unwritten_bytes += bytes.len();
                    transfer.sink.write(bytes, Some(FED));
                }
            }
            Doing::EndLoad => {
                if let Some(transfer) = &mut upstream.transfer {
                    transfer.sink.finish();
                }
            }
            Doing::AbortLoad => {
                if let Some(mut transfer) = upstream.transfer.take() {
                    transfer.sink.abandon();
                }
            }
            Doing::Refused => self.failover_refused(),
            Doing::Continue(id) => {
                tracing::info!("Successful partial resynchronization with master.");
                self.replication.master.continued_as(id);
                self.settle_replicas();
            }
        }
        if let Some(upstream) = &mut self.replication.upstream
            && upstream.lookup.is_none()
            && upstream.socket.is_none()
            && upstream.link.progress() == LinkProgress::Connecting
        {
            upstream.link.closed(now_ms);
        }
    }

    fn look_up_master(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        let (host, port) = (upstream.host.clone(), upstream.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.connect_to_master(SocketAddr::new(ip, port));
        }
        // Looking a name up may take long, and nothing here waits.
        let (sender, receiver) = mpsc::channel();
        upstream.lookup = Some(receiver);
        let bell = Arc::clone(self.bell());
        std::thread::spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().ok();
            _ = sender.send(found.and_then(|mut addresses| addresses.next()));
            _ = bell.ring();
        });
    }

    fn take_lookup(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        let Some(found) = upstream.lookup.as_ref().and_then(|lookup| lookup.try_recv().ok()) else {
            return;
        };
        upstream.lookup = None;
        match found {
            Some(address) => self.connect_to_master(address),
            None => {
                tracing::warn!("Unable to connect to MASTER: no address for {}", upstream.host);
                upstream.link.closed(clock::unix_ms());
            }
        }
    }

    fn connect_to_master(&mut self, address: SocketAddr) {
        let source = self.config.bind_source_addr.parse().ok();
        let connected = self.sockets.connect(address, source, Owner::Master, &mut self.actions);
        let Some(upstream) = &mut self.replication.upstream else { return };
        match connected {
            Ok(socket) => {
                upstream.socket = Some(socket);
                upstream.link.connected(clock::unix_ms());
            }
            Err(error) => {
                tracing::warn!("Unable to connect to MASTER: {error}");
                upstream.link.closed(clock::unix_ms());
            }
        }
    }

    // ---- a snapshot ----

    fn begin_transfer(&mut self, history: (ReplId, u64)) {
        tracing::info!("MASTER <-> REPLICA sync: receiving the data set");
        let directory = std::env::current_dir().unwrap_or_else(|_| ".".into());
        let seconds = clock::unix_ms() / 1000;
        let target = FileTarget {
            directory: directory.clone(),
            temporary: format!("temp-{seconds}.{}.rdb", std::process::id()),
            name: self.config.dbfilename.clone(),
            flushes: self.config.rdb_save_incremental_fsync,
        };
        let path = directory.join(&target.name);
        let sink = FileSink::start(target, Arc::clone(self.bell()));
        let Some(upstream) = &mut self.replication.upstream else { return };
        upstream.transfer = Some(Transfer {
            sink,
            path,
            history,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            is_paused: false,
            stage: Stage::Writing,
            database: 0,
        });
    }

    fn go_on_with_transfer(&mut self) {
        let is_saving = self.is_saving();
        let Some(upstream) = &mut self.replication.upstream else { return };
        let Some(transfer) = &mut upstream.transfer else { return };
        while let Some(event) = transfer.sink.event() {
            match event {
                SinkEvent::Taken(_) => {
                    transfer.unwritten_bytes -= transfer.unwritten.pop_front().unwrap_or(0);
                }
                SinkEvent::Over(Ok(())) => transfer.stage = Stage::Whole,
                SinkEvent::Over(Err(error)) => {
                    tracing::warn!("Write error while receiving the data set: {error}");
                    upstream.transfer = None;
                    upstream.link.loaded(clock::unix_ms(), false);
                    return;
                }
            }
        }
        let pauses = transfer.unwritten_bytes > UNWRITTEN_BYTES_MAX;
        if std::mem::replace(&mut transfer.is_paused, pauses) != pauses
            && let Some(conn) = upstream.socket.and_then(|socket| self.sockets.conn(socket))
        {
            self.actions.push(match pauses {
                true => Action::PauseReading(conn),
                false => Action::ResumeReading(conn),
            });
        }
        match transfer.stage {
            Stage::Whole if is_saving => self.abandon_snapshot(),
            Stage::Whole => {
                let number = self.next_hold();
                if let Some(transfer) = self.transfer() {
                    transfer.stage = Stage::Holding(number);
                }
                self.tell(FED, Message::HoldAll(number));
            }
            Stage::Loading => self.load_on(),
            _ => {}
        }
    }

    fn transfer(&mut self) -> Option<&mut Transfer> {
        self.replication.upstream.as_mut()?.transfer.as_mut()
    }

    /// Whether all stand still for the master's data.
    pub(super) fn is_hold_of_upstream(&self, number: HoldNumber) -> bool {
        let transfer = self.replication.upstream.as_ref().and_then(|up| up.transfer.as_ref());
        transfer.is_some_and(
            |transfer| matches!(transfer.stage, Stage::Holding(known) if known == number),
        )
    }

    /// Whether the master's data is about to take the place of what there is.
    pub(super) fn is_loading_from_master(&self) -> bool {
        let transfer = self.replication.upstream.as_ref().and_then(|up| up.transfer.as_ref());
        transfer.is_some_and(|transfer| !matches!(transfer.stage, Stage::Writing))
    }

    /// Whether a task writes what comes.
    pub(super) fn is_receiving(&self) -> bool {
        self.replication.upstream.as_ref().is_some_and(|upstream| upstream.transfer.is_some())
    }

    /// All shards stand still: the old data goes.
    pub(super) fn clear_for_master(&mut self, number: HoldNumber) {
        tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        let count = self.shards.len();
        if let Some(transfer) = self.transfer() {
            transfer.stage = Stage::Clearing(number, count);
        }
        self.suspend_aof();
        self.tell_all(|| Message::Loading(true));
        self.tell_all(|| Message::Clear);
        _ = self.process.scripts.change_catalogue(|_| Ok(Catalogue::default()));
    }

    /// A shard has noted that data is loaded, or was.
    pub(super) fn on_loading_from_master_noted(&mut self) {
        let Some(transfer) = self.transfer() else { return };
        match &mut transfer.stage {
            Stage::Clearing(number, missing) => {
                *missing -= 1;
                if *missing > 0 {
                    return;
                }
                let (number, path) = (*number, transfer.path.clone());
                transfer.stage = Stage::Loading;
                self.tell(FED, Message::ReleaseAll(number));
                let rules = LoadRules { drops_expired_before: None, merges: false };
                if let Err(error) = self.open_rdb(&path, rules) {
                    tracing::error!("Failed opening {}: {error}", path.display());
                    self.end_load_from_master(false);
                }
            }
            Stage::Ending(missing, is_good) => {
                *missing -= 1;
                if *missing == 0 {
                    let is_good = *is_good;
                    self.loaded_from_master(is_good);
                }
            }
            _ => {}
        }
    }

    /// Whether there is something to read now.
    pub(super) fn reads_from_master(&self) -> bool {
        let transfer = self.replication.upstream.as_ref().and_then(|up| up.transfer.as_ref());
        let is_loading = transfer.is_some_and(|transfer| matches!(transfer.stage, Stage::Loading));
        is_loading && self.rdb_goes_on
    }

    fn load_on(&mut self) {
        match self.step_rdb() {
            Ok(Progress::Going | Progress::Waiting) => {}
            Ok(Progress::Done(outcome)) => {
                if let Some(transfer) = self.transfer() {
                    transfer.database = outcome.facts.replication_database.unwrap_or(0);
                }
                self.end_load_from_master(true);
            }
            Err(error) => {
                tracing::error!("Failed trying to load the MASTER synchronization DB: {error}");
                self.tell_all(|| Message::Clear);
                self.end_load_from_master(false);
            }
        }
    }

    fn end_load_from_master(&mut self, is_good: bool) {
        let count = self.shards.len();
        if let Some(transfer) = self.transfer() {
            transfer.stage = Stage::Ending(count, is_good);
        }
        self.tell_all(|| Message::Loading(false));
    }

    fn loaded_from_master(&mut self, is_good: bool) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        let Some(transfer) = upstream.transfer.take() else { return };
        let now_ms = clock::unix_ms();
        let (id, position) = transfer.history;
        if is_good {
            tracing::info!("MASTER <-> REPLICA sync: Finished with success");
            self.replication.master.resynchronised(id, position);
            self.tell(FED, Message::FeedOver);
            if transfer.database > 0 {
                self.select_in_stream(transfer.database);
            }
        }
        let keeps_file = !self.config.rdb_del_sync_files
            || self.config.appendonly
            || !self.config.save.is_empty();
        if !keeps_file {
            _ = std::fs::remove_file(&transfer.path);
        }
        if let Some(upstream) = &mut self.replication.upstream {
            upstream.link.set_stream_db(transfer.database);
            upstream.link.loaded(now_ms, is_good);
        }
        self.settle_replicas();
        self.resume_aof();
        self.take_next_master();
    }

    // ---- the stream ----

    /// The stream of a replica that follows a replica goes on in the middle: in this database.
    fn select_in_stream(&mut self, database: i64) {
        let mut select = Vec::new();
        write_effect(&mut select, &[b"SELECT", database.to_string().as_bytes()]);
        if let Some(upstream) = &mut self.replication.upstream {
            // It is no part of the stream: it moves no position.
            upstream.chunk = Some(Chunk::aside());
        }
        self.tell(FED, Message::Feed(select));
    }

    /// Has the next part of the stream applied, if none is.
    fn feed_next(&mut self) {
        if self.is_marking() {
            // A snapshot begins, and what it has must be whole chunks.
            return;
        }
        loop {
            let Some(upstream) = &mut self.replication.upstream else { return };
            if upstream.chunk.is_some() || upstream.next.is_some() {
                return;
            }
            let Some(mut chunk) = upstream.link.next_chunk(clock::unix_ms()) else { return };
            let commands = std::mem::take(&mut chunk.commands);
            upstream.chunk = Some(chunk);
            if !commands.is_empty() {
                return self.tell(FED, Message::Feed(commands));
            }
            self.chunk_applied();
        }
    }

    /// The first shard has run what it was fed with.
    pub(super) fn on_fed_from_master(&mut self, fed: Fed) {
        if let Some(error) = fed.error {
            let error = String::from_utf8_lossy(&error);
            tracing::error!("== CRITICAL == a command of the master failed: {error}");
        }
        self.chunk_applied();
        self.take_next_master();
        self.feed_next();
    }

    fn chunk_applied(&mut self) {
        let Some(upstream) = &mut self.replication.upstream else { return };
        let Some(chunk) = upstream.chunk.take() else { return };
        if chunk.verbatim.is_empty() {
            return;
        }
        self.replication.master.append(&chunk.verbatim);
        upstream.link.applied(&chunk);
        for doing in upstream.link.take_doings() {
            self.do_for_link(doing);
        }
    }

    /// Whether this server starts as a replica, and has yet to load its data.
    pub(super) fn has_yet_to_follow(&self) -> bool {
        self.follows_at_start && self.config.replicaof.is_some()
    }

    /// At the start: the master that the settings name.
    pub(super) fn follow_configured_master(&mut self) {
        if let Some(master) = self.config.replicaof.clone() {
            self.take_role(Some(master), None);
        }
    }
}
