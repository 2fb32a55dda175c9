//! Replication as the control core drives it: the replicas of this server, and where the server stands.
//!
//! [`crate::replication::master`] decides; here are the sockets, the snapshots, the journal's stream and what
//! shards and INFO are told. The master of this server is in [`super::upstream`].
//!
//! Promise: a replica gets a snapshot and then every byte of the stream behind its cut; what a replica
//! acknowledges is told to who waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Control;
use super::rdb_load::Outcome;
use super::saving::{Asker, Purpose};
use super::sockets::{Owner, SocketId};
use super::upstream::Upstream;
use crate::admin::facts::{ReplicaFacts, ReplicationFacts};
use crate::clock;
use crate::command::CommandError;
use crate::config::Config;
use crate::config::values::ReplicaOf;
use crate::datatypes::number::parse_i64;
use crate::entropy::random_bytes;
use crate::journal::recorder::write_effect;
use crate::journal::{Audience, Parcel, Stamp, Stream};
use crate::persistence::rdb::write_file::ReplicationPoint;
use crate::persistence::snapshot::{Piece, Pipe};
use crate::reactor::peer_of;
use crate::replication::master::{Doing, Master, Request, Settings, Stage};
use crate::replication::{Backlog, History, ReplId};
use crate::shard::message::{HoldNumber, Message, NewReplica, Standing};
use crate::shard_map::ShardId;
use crate::transaction::TxId;

/// How often replicas are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Whether shards record effects for replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recording {
    Off,
    /// So many shards have not said that they do.
    Asked(usize),
    On,
}

/// A client that waits for replicas.
struct Wait {
    shard: ShardId,
    number: TxId,
    wanted: i64,
    /// What it wants to be acknowledged: everything up to this stamp,
    stamp: Stamp,
    /// and where that ends in the stream, once all of it is there.
    position: Option<u64>,
    /// What it was told last.
    told: Option<usize>,
}

/// A master becomes a replica: shards refuse writes, then stand still for a moment so that all that was begun is
/// over, and then its position in its own stream is final.
pub(super) struct Becoming {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) asker: Option<Asker>,
    pub(super) hold: Option<HoldNumber>,
}

/// Another role that is wanted: that of a replica of this master, or of nobody; and who is told.
pub(super) type RoleCall = (Option<ReplicaOf>, Option<Asker>);

/// A replica becomes a master.
enum Promoting {
    /// Shards do not record all they write, so they may not write yet.
    Recording(Option<Asker>),
    /// They are told that they may.
    Telling(Option<Asker>),
}

/// See the module.
pub(super) struct Replication {
    pub(super) master: Master<SocketId>,
    pub(super) upstream: Option<Upstream>,
    stream: Stream,
    buffer: Vec<u8>,
    /// Where the last effect ends in the stream: behind it there are only words about links.
    written: u64,
    /// The snapshot that is made for replicas.
    pipe: Option<Pipe>,
    /// Shards that may send more of it as soon as replicas keep up.
    held_back: Vec<ShardId>,
    /// The database that the stream had selected where the data that was loaded is.
    pub(super) restored_db: i64,
    recording: Recording,
    /// What the shards were told last.
    standing: Standing,
    /// Shards that have not noted it.
    noting: usize,
    pub(super) becoming: Option<Becoming>,
    promoting: Option<Promoting>,
    /// Who wants another role while this one changes.
    calls: VecDeque<RoleCall>,
    waits: Vec<Wait>,
    asks_for_acks: bool,
    /// Masters that hand over to this server, which is about to take over.
    successors: Vec<NewReplica>,
    next_look: Instant,
}

impl Replication {
    /// A server that starts.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let history = History::new(random_id()?);
        Ok(Self {
            master: Master::new(history, settings(config)),
            upstream: None,
            stream: Stream::default(),
            buffer: Vec::new(),
            written: 0,
            pipe: None,
            held_back: Vec::new(),
            restored_db: 0,
            recording: Recording::Off,
            standing: Standing::default(),
            noting: 0,
            becoming: None,
            promoting: None,
            calls: VecDeque::new(),
            waits: Vec::new(),
            asks_for_acks: false,
            successors: Vec::new(),
            next_look: Instant::now(),
        })
    }

    /// Whether there is anything to look at from time to time.
    fn is_active(&self) -> bool {
        self.upstream.is_some() || self.master.has_replicas() || self.master.wants_stream()
    }
}

/// A name that nobody else has.
pub(super) fn random_id() -> io::Result<ReplId> {
    random_bytes().map(ReplId::from_random)
}

/// Best effort: a line fits into the buffer of a socket that has nothing to send.
fn refuse(socket: &OwnedFd, text: &[u8]) {
    _ = SockRef::from(socket).send(text);
}

fn settings(config: &Config) -> Settings {
    let ms = |seconds: u32| i64::from(seconds) * 1000;
    let limits = config.client_output_buffer_limit.replica;
    Settings {
        backlog_bytes: config.repl_backlog_size,
        backlog_ttl_ms: (config.repl_backlog_ttl as i64).saturating_mul(1000),
        ping_period_ms: ms(config.repl_ping_replica_period),
        timeout_ms: ms(config.repl_timeout),
        snapshot_delay_ms: match config.repl_diskless_sync {
            true => ms(config.repl_diskless_sync_delay),
            false => 0,
        },
        snapshot_replicas: config.repl_diskless_sync_max_replicas as usize,
        diskless: config.repl_diskless_sync,
        output_limits: (limits.hard, limits.soft, limits.soft_seconds as i64 * 1000),
    }
}

impl Control {
    // ---- replicas ----

    /// A client asks for the data set.
    pub(super) fn on_new_replica(&mut self, replica: NewReplica) {
        let NewReplica { socket, profile, words, rest } = replica;
        let Ok(peer) = peer_of(&socket) else { return };
        if words.get(3).is_some_and(|word| word.eq_ignore_ascii_case(b"failover")) {
            if let Some(error) = self.refuses_to_take_over(&words) {
                return refuse(&socket, error);
            }
            if self.replication.upstream.is_some() {
                // It is the master's: this server is a master before it answers.
                self.take_role(None, None);
                self.replication.successors.push(NewReplica { socket, profile, words, rest });
                return;
            }
        }
        if let Some(error) = self.refuses_replicas() {
            return refuse(&socket, error);
        }
        let id = self.sockets.adopt(socket, peer, Owner::Replica, &mut self.actions);
        let request = match words.as_slice() {
            [_, history, offset, ..] => Request::Psync(history, parse_i64(offset).unwrap_or(-1)),
            _ => Request::Sync,
        };
        tracing::info!(address = profile.shown_address(), "Replica asks for synchronization");
        let now_ms = clock::unix_ms();
        self.replication.master.attach(now_ms, id, profile, request);
        self.replication.master.received(now_ms, id, &rest);
        self.record_for_replicas();
        self.settle_replicas();
    }

    /// Why this server does not take over from the master that asks.
    fn refuses_to_take_over(&self, words: &[Vec<u8>]) -> Option<&'static [u8]> {
        let upstream = self.replication.upstream.as_ref();
        let Some(upstream) = upstream else {
            return Some(b"-ERR PSYNC FAILOVER can't be sent to a master.\r\n");
        };
        let known = upstream.link.known().map(|(id, _)| id.to_string());
        let is_mine =
            words.get(1).is_some_and(|id| known.is_some_and(|known| known.as_bytes() == id));
        (!is_mine).then_some(b"-ERR PSYNC FAILOVER replid must match my replid.\r\n")
    }

    /// Masters that have handed over are answered when this server is one.
    fn go_on_with_successors(&mut self) {
        if self.replication.upstream.is_some() || self.replication.successors.is_empty() {
            return;
        }
        for mut replica in std::mem::take(&mut self.replication.successors) {
            replica.words.truncate(3);
            self.on_new_replica(replica);
        }
    }

    /// Bytes of a replica.
    pub(super) fn on_replica_bytes(&mut self, id: SocketId, bytes: &[u8]) {
        self.replication.master.received(clock::unix_ms(), id, bytes);
    }

    /// A replica is gone.
    pub(super) fn on_replica_closed(&mut self, id: SocketId) {
        tracing::info!("Connection with replica lost.");
        self.replication.master.detach(clock::unix_ms(), id);
    }

    /// Does what the master's end wants done.
    pub(super) fn settle_replicas(&mut self) {
        for doing in self.replication.master.take_doings() {
            match doing {
                Doing::Send(id) => self.sockets.wake(id, &mut self.actions),
                Doing::Close(id) => {
                    self.sockets.close(id, &mut self.actions);
                    self.replication.master.detach(clock::unix_ms(), id);
                }
                Doing::Acknowledged => {}
            }
        }
    }

    /// Shards record for replicas as long as there are any, or a backlog.
    pub(super) fn record_for_replicas(&mut self) {
        let replication = &mut self.replication;
        let has_use = replication.master.has_replicas()
            || replication.master.wants_stream()
            || self.moves.wants_effects();
        let wanted = replication.upstream.is_none() && has_use;
        match (replication.recording, wanted) {
            (Recording::Off, true) => {
                replication.recording = Recording::Asked(self.shards.len());
                self.tell_all(|| Message::Record(Audience::REPLICAS, true));
            }
            (Recording::On, false) => {
                replication.recording = Recording::Off;
                self.tell_all(|| Message::Record(Audience::REPLICAS, false));
            }
            _ => {}
        }
    }

    /// Whether all shards do.
    pub(super) fn records_for_replicas(&self) -> bool {
        self.replication.recording == Recording::On
    }

    /// A shard records for replicas.
    pub(super) fn on_recording_for_replicas(&mut self, on: bool) {
        if let Recording::Asked(missing) = &mut self.replication.recording
            && on
        {
            *missing -= 1;
            if *missing == 0 {
                self.replication.recording = Recording::On;
                self.go_on_promoting();
            }
        }
    }

    /// Looks at the snapshot for replicas, at who waits, and at the clock.
    pub(super) fn go_on_with_replication(&mut self, now: Instant) {
        self.go_on_with_successors();
        self.go_on_with_pipe();
        if now >= self.replication.next_look {
            self.replication.next_look = now + PERIOD;
            if self.replication.is_active() {
                let is_replica = self.replication.upstream.is_some();
                // While a replica is to catch up, nothing moves the end of the stream.
                let adds_nothing = is_replica || self.pauses_writes();
                self.replication.master.tick(clock::unix_ms(), adds_nothing);
                self.record_for_replicas();
            }
            self.settle_standing();
        }
        self.begin_snapshot_for_replicas();
        self.look_at_waits();
        self.settle_replicas();
        if self.replication.is_active() {
            self.tell_replication_facts();
        }
    }

    /// When to look again.
    pub(super) fn next_replication_look(&self) -> Option<Instant> {
        let looks = self.replication.is_active() || self.config.min_replicas_to_write > 0;
        looks.then_some(self.replication.next_look)
    }

    /// The settings have changed.
    pub(super) fn replication_settings_changed(&mut self) {
        self.replication.master.set_settings(settings(&self.config));
        let introduction = self.introduction();
        if let Some(upstream) = &mut self.replication.upstream {
            upstream.link.set_introduction(introduction);
        }
        self.settle_standing();
    }

    // ---- the stream ----

    /// The next part of the stream, if this server makes it.
    pub(super) fn replicate(&mut self, parcel: &Parcel) {
        let Replication { master, upstream, stream, buffer, written, .. } = &mut self.replication;
        if upstream.is_none() && master.wants_stream() && !parcel.bytes.is_empty() {
            stream.append(parcel, Audience::REPLICAS, buffer);
            master.append(buffer);
            buffer.clear();
            *written = master.history.end;
        }
    }

    /// Tells replicas which slots of this node of a cluster are staged: a promoted replica has to delete their keys.
    pub(super) fn tell_replicas_of_staged(&mut self, ranges: &str) {
        let Replication { master, upstream, .. } = &mut self.replication;
        if upstream.is_none() && master.wants_stream() {
            let mut words = Vec::new();
            write_effect(&mut words, &[b"CLUSTER", b"SYNCSLOTS", b"STAGED", ranges.as_bytes()]);
            master.append(&words);
        }
    }

    /// Where the stream is, for a file that is a state of it.
    pub(super) fn replication_point(&self) -> Option<ReplicationPoint> {
        let Replication { master, upstream, stream, .. } = &self.replication;
        if !master.wants_stream() {
            return None;
        }
        let database = match upstream {
            Some(upstream) if upstream.is_applying() => return None,
            Some(upstream) => upstream.link.stream_db(),
            None => stream.db().map_or(0, i64::from),
        };
        let History { id, end, .. } = master.history;
        Some(ReplicationPoint { database, id: id.to_string(), offset: end as i64 })
    }

    /// The data that was loaded at the start is a state of a stream: this server is in its history, so that
    /// whoever was its master or its replica has to send or to get the rest only.
    pub(super) fn restore_history(&mut self, outcome: &Outcome) {
        let Some(ReplicationPoint { database, id, offset }) = outcome.facts.replication() else {
            return;
        };
        let names = (ReplId::parse(id.as_bytes()), random_id());
        let ((Some(id), Ok(new_id)), Ok(position)) = (names, u64::try_from(offset)) else { return };
        if self.has_yet_to_follow() {
            self.replication.master.resynchronised(id, position);
            self.replication.restored_db = database;
        } else if outcome.expired == 0 {
            // A key that was left out would have to be deleted by an effect, too.
            self.replication.master.resynchronised(id, position);
            self.replication.master.promote(new_id);
            // Before anything can be written, for shards are loading.
            self.record_for_replicas();
        }
        self.tell_replication_facts();
    }

    // ---- snapshots ----

    fn begin_snapshot_for_replicas(&mut self) {
        let is_wanted = self.replication.master.wants_snapshot(clock::unix_ms());
        let is_ready = match &self.replication.upstream {
            Some(upstream) => upstream.link.is_up() && !upstream.is_applying(),
            None => self.replication.recording == Recording::On,
        };
        let is_busy = self.is_saving() || self.loading.is_some() || self.reload.is_some();
        if is_wanted && is_ready && !is_busy && !self.saver.is_stopping() {
            tracing::info!("Starting a snapshot for replicas");
            self.replication.master.snapshot_asked();
            self.begin_snapshot(Purpose::Replicas);
        }
    }

    /// The way that a snapshot for replicas takes.
    pub(super) fn new_pipe(&mut self) -> Pipe {
        let pipe = Pipe::default();
        self.replication.pipe = Some(pipe.clone());
        pipe
    }

    /// The stream is cut: the snapshot for replicas has what was before.
    pub(super) fn cut_stream(&mut self) {
        let names = (random_id(), random_id());
        let (Ok(id), Ok(mark)) = names else {
            return self.abandon_snapshot_for(Purpose::Replicas);
        };
        if self.replication.upstream.is_none() {
            self.replication.stream.begin_anew();
        }
        self.replication.master.snapshot_begins(id, mark.to_bytes());
        // The snapshot has the keys, and not that they are staged.
        if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.node.has_staged()) {
            let ranges = cluster.node.staged_text();
            self.tell_replicas_of_staged(&ranges);
        }
    }

    fn go_on_with_pipe(&mut self) {
        let Some(pipe) = self.replication.pipe.clone() else { return };
        let now_ms = clock::unix_ms();
        let master = &mut self.replication.master;
        while let Some(piece) = pipe.take() {
            match piece {
                Piece::Bytes(bytes, from) => {
                    master.snapshot_bytes(Arc::from(bytes));
                    self.replication.held_back.extend(from);
                }
                Piece::Finished | Piece::Abandoned => {
                    let is_whole = piece == Piece::Finished;
                    master.snapshot_ends(now_ms, is_whole);
                    master.snapshot_refused();
                    self.replication.pipe = None;
                    pipe.over(is_whole.then_some(()).ok_or_else(|| "abandoned".to_owned()));
                    break;
                }
            }
        }
        let master = &self.replication.master;
        if master.takes_snapshot_bytes() || self.replication.pipe.is_none() {
            for shard in self.replication.held_back.drain(..) {
                pipe.taken(shard);
            }
        }
        if self.replication.pipe.is_some() && self.is_walking() && !self.replicas_want_it() {
            self.abandon_snapshot_for(Purpose::Replicas);
        }
    }

    fn replicas_want_it(&self) -> bool {
        self.replication.master.wants_snapshot_bytes()
    }

    // ---- WAIT ----

    /// A client waits until replicas have what was written before.
    pub(super) fn on_await_replicas(&mut self, shard: ShardId, number: TxId, wanted: i64) {
        let stamp = self.process.last_stamp();
        let wait = Wait { shard, number, wanted, stamp, position: None, told: None };
        self.replication.waits.push(wait);
    }

    /// It waits no more.
    pub(super) fn on_await_no_replicas(&mut self, number: TxId) {
        self.replication.waits.retain(|wait| wait.number != number);
    }

    fn look_at_waits(&mut self) {
        if self.replication.waits.is_empty() {
            return;
        }
        let merged = self.last_stamp();
        let mut told = Vec::new();
        let Replication { master, waits, asks_for_acks, written, .. } = &mut self.replication;
        waits.retain_mut(|wait| {
            if wait.stamp > merged {
                return true;
            }
            let is_new = wait.position.is_none();
            let count = master.acknowledged(*wait.position.get_or_insert(*written));
            let is_enough = count as i64 >= wait.wanted;
            *asks_for_acks |= is_new && !is_enough;
            if wait.told.replace(count) != Some(count) || is_enough {
                told.push((wait.shard, Message::Acknowledged(wait.number, count, is_enough)));
            }
            !is_enough
        });
        let may_ask = self.replication.upstream.is_none() && !self.pauses_writes();
        let has_waits = !self.replication.waits.is_empty();
        if may_ask && std::mem::take(&mut self.replication.asks_for_acks) && has_waits {
            self.replication.master.ask_for_acks();
        }
        for (shard, message) in told {
            self.tell(shard, message);
        }
    }

    // ---- where this server stands ----

    /// Tells the shards if something of it has changed.
    pub(super) fn settle_standing(&mut self) {
        let standing = self.standing_now();
        if self.replication.noting == 0 && standing != self.replication.standing {
            self.replication.standing = standing;
            self.replication.noting = self.shards.len();
            self.tell_all(|| Message::Standing(standing));
        }
    }

    fn standing_now(&self) -> Standing {
        let Replication { master, upstream, becoming, promoting, .. } = &self.replication;
        let must_record = matches!(promoting, Some(Promoting::Recording(_)));
        let wanted = self.config.min_replicas_to_write as usize;
        let lag_ms = i64::from(self.config.min_replicas_max_lag) * 1000;
        let good = || master.good_replicas(clock::unix_ms(), lag_ms);
        Standing {
            is_replica: upstream.is_some()
                || becoming.is_some()
                || must_record
                || self.has_yet_to_follow(),
            has_link: upstream.as_ref().is_some_and(|upstream| upstream.link.is_up()),
            lacks_replicas: upstream.is_none() && wanted > 0 && lag_ms > 0 && good() < wanted,
            pauses_writes: self.pauses_writes(),
        }
    }

    /// A shard has noted where this server stands.
    pub(super) fn on_standing_noted(&mut self) {
        self.replication.noting -= 1;
        if self.replication.noting > 0 {
            return;
        }
        let is_replica = self.replication.standing.is_replica;
        self.hold_for_role();
        let promoting = &mut self.replication.promoting;
        if let Some(Promoting::Telling(asker)) =
            promoting.take_if(|promoting| matches!(promoting, Promoting::Telling(_)) && !is_replica)
        {
            asker.into_iter().for_each(|asker| self.answer(asker, Ok("OK")));
        }
        self.standing_was_noted();
        self.settle_standing();
        self.go_on_with_roles();
    }

    /// All shards refuse writes if this server becomes a replica: they stand still for a moment.
    pub(super) fn hold_for_role(&mut self) {
        let is_noted = self.replication.noting == 0 && self.replication.standing.is_replica;
        let number = self.next_hold();
        if let Some(becoming) = self.replication.becoming.as_mut().filter(|_| is_noted)
            && becoming.hold.is_none()
        {
            becoming.hold = Some(number);
            self.tell(ShardId(0), Message::HoldAll(number));
        }
    }

    /// Whether the role of this server is changing.
    pub(super) fn is_changing_role(&self) -> bool {
        let Replication { becoming, promoting, upstream, .. } = &self.replication;
        let leaves = upstream.as_ref().is_some_and(Upstream::is_left);
        becoming.is_some() || promoting.is_some() || leaves
    }

    /// Takes another role, as soon as none is being taken.
    pub(super) fn take_role(&mut self, master: Option<ReplicaOf>, asker: Option<Asker>) {
        self.replication.calls.push_back((master, asker));
        self.go_on_with_roles();
    }

    pub(super) fn go_on_with_roles(&mut self) {
        while !self.is_changing_role()
            && let Some((master, asker)) = self.replication.calls.pop_front()
        {
            match master {
                Some(ReplicaOf { host, port }) => self.follow_another(host, port, asker),
                None => self.follow_nobody(asker),
            }
        }
    }

    /// This server makes the stream itself from now on.
    pub(super) fn promote(&mut self, asker: Option<Asker>) {
        match random_id() {
            Ok(id) => self.replication.master.promote(id),
            Err(error) => {
                let text = format!("ERR no name for the new history: {error}");
                asker.into_iter().for_each(|asker| {
                    self.answer(asker, Err(CommandError::owned(text.clone())));
                });
                return;
            }
        }
        self.replication.upstream = None;
        self.replication.stream.begin_anew();
        self.settle_replicas();
        self.replication.promoting = Some(Promoting::Recording(asker));
        self.record_for_replicas();
        self.go_on_promoting();
    }

    /// When all is recorded that is written from now on, it may be written.
    fn go_on_promoting(&mut self) {
        let promoting = &mut self.replication.promoting;
        if !matches!(self.replication.recording, Recording::Asked(_))
            && let Some(Promoting::Recording(asker)) = promoting
        {
            tracing::info!("MASTER MODE enabled");
            *promoting = Some(Promoting::Telling(asker.take()));
            self.tell_replication_facts();
            self.settle_standing();
        }
    }

    // ---- what INFO and ROLE tell ----

    pub(super) fn tell_replication_facts(&self) {
        let now_ms = clock::unix_ms();
        let Replication { master, upstream, .. } = &self.replication;
        let history = &master.history;
        let lag_ms = i64::from(self.config.min_replicas_max_lag) * 1000;
        let replicas = master.replicas().map(|(_, replica)| ReplicaFacts {
            host: replica.profile.shown_address().to_owned(),
            port: replica.profile.port,
            state: match replica.stage {
                Stage::Waits => "wait_bgsave",
                Stage::Snapshot => "send_bulk",
                Stage::Confirms | Stage::Online | Stage::Leaves => "online",
            },
            offset: replica.acked,
            lag: match replica.stage {
                Stage::Online => (now_ms - replica.heard_ms).max(0) as u64 / 1000,
                _ => 0,
            },
        });
        let backlog = master.backlog();
        let facts = ReplicationFacts {
            master: upstream.as_ref().map(|upstream| upstream.facts(now_ms)),
            replicas: replicas.collect(),
            in_sync: master.acknowledged(history.end),
            good_replicas: master.good_replicas(now_ms, lag_ms) as u64,
            failover_state: self.failover_state(),
            id: history.id.to_string(),
            id2: history.former.map_or(ReplId::NONE, |(id, _)| id).to_string(),
            offset: history.end,
            second_offset: u64::try_from(history.second_offset()).ok(),
            backlog_active: backlog.is_some(),
            backlog_first: backlog.map_or(0, |backlog| backlog.first() + 1),
            backlog_bytes: backlog.map_or(0, Backlog::len),
            sync_full: master.counts.full,
            sync_partial_ok: master.counts.partial,
            sync_partial_err: master.counts.refused,
            ..ReplicationFacts::default()
        };
        *self.process.replication() = facts;
    }
}
