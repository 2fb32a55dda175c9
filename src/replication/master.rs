//! The end of the links that has the data: who follows, how far each has come, and what is to be sent.
//!
//! `K` names a connection. Calls tell what has happened; [`Master::take_doings`] tells what is to be done; output is
//! taken with [`Master::take_output`] whenever the connection can send. A node that follows a master itself
//! uses the same struct for its own replicas: then the stream is what it receives.
//!
//! A full synchronisation: the replica waits until a snapshot begins at a cut of the stream
//! ([`Master::snapshot_begins`]); all that wait then share it; the stream from the cut on stays in the backlog
//! until the slowest of them has read it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::backlog::Backlog;
use super::ids::{History, ReplId};
use super::stream_reader::{Kind, next_command};
use crate::journal::recorder::write_effect;
use crate::resp::{Limits, Parser};

/// Bytes of output that are handed out at once.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes of a snapshot that may wait for one replica before the snapshot is held up.
const SNAPSHOT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a command that a replica may say; none is longer than a few words.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// What a replica has said about itself before it asked for data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where it connects from.
    pub address: String,
    /// `REPLCONF listening-port`.
    pub port: u16,
    /// `REPLCONF ip-address`: shown in place of the address.
    pub announced: Option<String>,
    /// `capa eof`: it can take a snapshot whose length is not known.
    pub eof: bool,
    /// `capa psync2`: it can change to another history.
    pub psync2: bool,
    /// `rdb-only`: it wants nothing but a snapshot.
    pub rdb_only: bool,
}

impl Profile {
    /// The address that others are told.
    pub fn shown_address(&self) -> &str {
        self.announced.as_deref().unwrap_or(&self.address)
    }
}

/// What a replica asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `PSYNC id offset`: the history that it is in, and the offset of the first byte that it lacks.
    Psync(&'a [u8], i64),
    /// `SYNC`: a snapshot, without any line before it; it will never acknowledge anything.
    Sync,
}

/// How far a replica has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a snapshot.
    Waits,
    /// It gets one.
    Snapshot,
    /// It has one, whose end it has to confirm.
    Confirms,
    /// It gets the stream.
    Online,
    /// It goes when all is sent.
    Leaves,
}

/// One replica.
#[derive(Debug)]
pub struct Replica {
    /// What it has said about itself.
    pub profile: Profile,
    /// How far it has come.
    pub stage: Stage,
    /// Position up to which it has acknowledged.
    pub acked: u64,
    /// The same for its append-only file.
    pub acked_on_disk: u64,
    /// When it was heard last, unix ms.
    pub heard_ms: i64,
    /// It never acknowledges.
    is_mute: bool,
    /// Position of the next byte of the stream that it gets.
    position: u64,
    /// What goes out before that.
    queue: VecDeque<Arc<[u8]>>,
    queued_bytes: usize,
    since_ms: i64,
    over_soft_limit_since: Option<i64>,
    parser: Parser,
    input: Vec<u8>,
}

impl Replica {
    fn push(&mut self, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        self.queued_bytes += bytes.len();
        self.queue.push_back(bytes);
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing<K> {
    /// This connection has output.
    Send(K),
    /// Close this connection.
    Close(K),
    /// Somebody has acknowledged more: who waits for that may look.
    Acknowledged,
}

/// What the settings say.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `repl-backlog-size`.
    pub backlog_bytes: u64,
    /// `repl-backlog-ttl`, ms; 0 for ever.
    pub backlog_ttl_ms: i64,
    /// `repl-ping-replica-period`, ms.
    pub ping_period_ms: i64,
    /// `repl-timeout`, ms.
    pub timeout_ms: i64,
    /// `repl-diskless-sync-delay`, ms; 0 if `repl-diskless-sync` is off.
    pub snapshot_delay_ms: i64,
    /// `repl-diskless-sync-max-replicas`; 0 for none.
    pub snapshot_replicas: usize,
    /// `repl-diskless-sync`: snapshots of unknown length are sent to those who can take them.
    pub diskless: bool,
    /// Output limits of the class `replica`: hard and soft bytes, soft ms; 0 for none.
    pub output_limits: (u64, u64, i64),
}

/// Counters of INFO stats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `sync_full`.
    pub full: u64,
    /// `sync_partial_ok`.
    pub partial: u64,
    /// `sync_partial_err`.
    pub refused: u64,
}

/// The snapshot that replicas wait for or get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    None,
    /// It was asked for.
    Asked,
    /// It has begun; how it ends for those who take it without a length.
    Running([u8; ReplId::LEN]),
}

/// See the module.
pub struct Master<K> {
    /// The history that this node is in.
    pub history: History,
    /// Counters.
    pub counts: Counts,
    settings: Settings,
    backlog: Option<Backlog>,
    replicas: BTreeMap<K, Replica>,
    doings: Vec<Doing<K>>,
    sending: Sending,
    /// The snapshot for those who need to know its length.
    spool: Vec<u8>,
    pinged_ms: i64,
    ticked_ms: i64,
    /// Since when there has been no replica, unix ms.
    alone_since_ms: Option<i64>,
}

impl<K: Copy + Ord> Master<K> {
    /// A node without replicas.
    pub fn new(history: History, settings: Settings) -> Self {
        Self {
            history,
            counts: Counts::default(),
            settings,
            backlog: None,
            replicas: BTreeMap::new(),
            doings: Vec::new(),
            sending: Sending::None,
            spool: Vec::new(),
            pinged_ms: 0,
            ticked_ms: 0,
            alone_since_ms: None,
        }
    }

    /// Takes over the settings.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        if let Some(backlog) = &mut self.backlog {
            backlog.set_size(settings.backlog_bytes);
        }
    }

    /// Takes what is to be done.
    pub fn take_doings(&mut self) -> Vec<Doing<K>> {
        std::mem::take(&mut self.doings)
    }

    /// The replicas.
    pub fn replicas(&self) -> impl Iterator<Item = (K, &Replica)> {
        self.replicas.iter().map(|(key, replica)| (*key, replica))
    }

    /// Whether there are any.
    pub fn has_replicas(&self) -> bool {
        !self.replicas.is_empty()
    }

    /// The backlog, if there is one.
    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()
    }

    /// Whether what is written has to be handed to [`Master::append`].
    pub fn wants_stream(&self) -> bool {
        self.backlog.is_some()
    }

    // ---- replicas come and go ----

    /// A connection asks for data.
    pub fn attach(&mut self, now_ms: i64, key: K, profile: Profile, request: Request<'_>) {
        let mut replica = Replica {
            profile,
            stage: Stage::Waits,
            acked: 0,
            acked_on_disk: 0,
            heard_ms: now_ms,
            is_mute: request == Request::Sync,
            position: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            since_ms: now_ms,
            over_soft_limit_since: None,
            parser: Parser::default(),
            input: Vec::new(),
        };
        self.alone_since_ms = None;
        match self.continued(request) {
            Some(position) => {
                self.counts.partial += 1;
                replica.position = position;
                replica.acked = position;
                replica.stage = Stage::Online;
                let line = match replica.profile.psync2 {
                    true => format!("+CONTINUE {}\r\n", self.history.id),
                    false => "+CONTINUE\r\n".to_owned(),
                };
                replica.push(line.into_bytes());
                self.doings.push(Doing::Send(key));
            }
            None => {
                self.counts.full += 1;
                if matches!(request, Request::Psync(id, _) if id != b"?") {
                    self.counts.refused += 1;
                }
            }
        }
        self.replicas.insert(key, replica);
    }

    /// From where on a replica can have the stream, if that is all that it needs.
    fn continued(&self, request: Request<'_>) -> Option<u64> {
        let Request::Psync(id, offset) = request else { return None };
        let position = u64::try_from(offset).ok()?.checked_sub(1)?;
        let backlog = self.backlog.as_ref()?;
        (self.history.includes(id, position) && backlog.first() <= position).then_some(position)
    }

    /// A connection is gone.
    pub fn detach(&mut self, now_ms: i64, key: K) {
        self.replicas.remove(&key);
        if self.replicas.is_empty() {
            self.alone_since_ms = Some(now_ms);
        }
    }

    /// Closes all connections: the replicas ask again.
    pub fn close_all(&mut self) {
        self.doings.extend(self.replicas.keys().map(|key| Doing::Close(*key)));
        self.spool = Vec::new();
    }

    /// Something came from a replica.
    pub fn received(&mut self, now_ms: i64, key: K, bytes: &[u8]) {
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        replica.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut replica.input);
        let mut used = 0;
        loop {
            let mut said = Said::Nothing;
            let parsed =
                next_command(&mut replica.parser, &input[used..], &Limits::default(), |words| {
                    said = Said::of(words);
                });
            let Ok(parsed) = parsed else { return self.doings.push(Doing::Close(key)) };
            let Some((length, kind)) = parsed else { break };
            used += length;
            replica.heard_ms = now_ms;
            match said {
                Said::Ack { position, on_disk } => {
                    replica.acked = replica.acked.max(position);
                    replica.acked_on_disk = replica.acked_on_disk.max(on_disk);
                    if replica.stage == Stage::Confirms {
                        replica.stage = Stage::Online;
                        self.doings.push(Doing::Send(key));
                    }
                    self.doings.push(Doing::Acknowledged);
                }
                Said::Nothing => {}
                Said::Other if kind == Kind::Replconf => {}
                Said::Other => {
                    replica.push(&b"-ERR Replica can't interact with the keyspace\r\n"[..]);
                    self.doings.push(Doing::Send(key));
                }
            }
        }
        if input.len() - used > INPUT_BYTES_MAX {
            return self.doings.push(Doing::Close(key));
        }
        replica.input = input[used..].to_vec();
    }

    // ---- the stream ----

    /// The stream goes on.
    pub fn append(&mut self, bytes: &[u8]) {
        let Some(backlog) = &mut self.backlog else { return };
        backlog.append(bytes);
        self.history.end = backlog.end();
        for (key, replica) in &mut self.replicas {
            if replica.stage == Stage::Online {
                self.doings.push(Doing::Send(*key));
            }
        }
    }

    /// Everybody is asked how far they have come.
    pub fn ask_for_acks(&mut self) {
        let mut command = Vec::new();
        write_effect(&mut command, &[b"REPLCONF", b"GETACK", b"*"]);
        self.append(&command);
    }

    /// The next bytes for a connection; empty if there are none now.
    pub fn take_output(&mut self, key: K) -> Vec<u8> {
        let Some(replica) = self.replicas.get_mut(&key) else { return Vec::new() };
        let mut out = Vec::new();
        while out.len() < OUTPUT_BYTES
            && let Some(chunk) = replica.queue.pop_front()
        {
            replica.queued_bytes -= chunk.len();
            out.extend_from_slice(&chunk);
        }
        if replica.stage == Stage::Online
            && let Some(backlog) = &self.backlog
        {
            while out.len() < OUTPUT_BYTES {
                let bytes = backlog.read(replica.position);
                if bytes.is_empty() {
                    break;
                }
                replica.position += bytes.len() as u64;
                out.extend_from_slice(bytes);
            }
        }
        if out.is_empty() && replica.stage == Stage::Leaves {
            self.doings.push(Doing::Close(key));
        }
        out
    }

    /// How many replicas have acknowledged everything up to `position`.
    pub fn acknowledged(&self, position: u64) -> usize {
        self.online().filter(|replica| replica.acked >= position).count()
    }

    /// As [`Master::acknowledged`], what is on their disks.
    pub fn acknowledged_on_disk(&self, position: u64) -> usize {
        self.online().filter(|replica| replica.acked_on_disk >= position).count()
    }

    /// Replicas that were heard within `lag_ms`.
    pub fn good_replicas(&self, now_ms: i64, lag_ms: i64) -> usize {
        self.online().filter(|replica| now_ms - replica.heard_ms <= lag_ms).count()
    }

    fn online(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values().filter(|replica| replica.stage == Stage::Online)
    }

    // ---- snapshots ----

    /// Whether a snapshot has to be begun now.
    pub fn wants_snapshot(&self, now_ms: i64) -> bool {
        if self.sending != Sending::None {
            return false;
        }
        let waiting = || self.replicas.values().filter(|replica| replica.stage == Stage::Waits);
        let Some(first) = waiting().map(|replica| replica.since_ms).min() else { return false };
        let enough = self.settings.snapshot_replicas;
        now_ms - first >= self.settings.snapshot_delay_ms
            || (enough > 0 && waiting().count() >= enough)
    }

    /// One was asked for.
    pub fn snapshot_asked(&mut self) {
        self.sending = Sending::Asked;
    }

    /// The stream is cut here: whoever waits gets this snapshot, and the stream from here on. `new_id` names the
    /// history if it begins with this; `mark` ends the snapshot.
    pub fn snapshot_begins(&mut self, new_id: ReplId, mark: [u8; ReplId::LEN]) {
        if self.backlog.is_none() {
            self.history = History { id: new_id, end: self.history.end, former: None };
            self.backlog = Some(Backlog::new(self.history.end, self.settings.backlog_bytes));
        }
        self.sending = Sending::Running(mark);
        self.spool.clear();
        for (key, replica) in &mut self.replicas {
            if replica.stage != Stage::Waits {
                continue;
            }
            replica.stage = Stage::Snapshot;
            replica.position = self.history.end;
            if !replica.is_mute {
                let line = format!("+FULLRESYNC {} {}\r\n", self.history.id, self.history.end);
                replica.push(line.into_bytes());
            }
            if self.settings.diskless && replica.profile.eof {
                replica.push([b"$EOF:", &mark[..], b"\r\n"].concat());
            }
            self.doings.push(Doing::Send(*key));
        }
    }

    /// The next bytes of the snapshot.
    pub fn snapshot_bytes(&mut self, bytes: Arc<[u8]>) {
        let mut spools = false;
        for (key, replica) in &mut self.replicas {
            if replica.stage != Stage::Snapshot {
                continue;
            }
            if self.settings.diskless && replica.profile.eof {
                replica.push(Arc::clone(&bytes));
                self.doings.push(Doing::Send(*key));
            } else {
                spools = true;
            }
        }
        if spools {
            self.spool.extend_from_slice(&bytes);
        }
    }

    /// Whether the snapshot may go on: nobody is too far behind.
    pub fn takes_snapshot_bytes(&self) -> bool {
        let mut taking = self.replicas.values().filter(|replica| replica.stage == Stage::Snapshot);
        taking.all(|replica| replica.queued_bytes < SNAPSHOT_BYTES_MAX)
    }

    /// Whether anybody still wants the snapshot that is running.
    pub fn wants_snapshot_bytes(&self) -> bool {
        self.replicas.values().any(|replica| replica.stage == Stage::Snapshot)
    }

    /// The snapshot is over, well or not.
    pub fn snapshot_ends(&mut self, now_ms: i64, is_whole: bool) {
        let Sending::Running(mark) = std::mem::replace(&mut self.sending, Sending::None) else {
            return;
        };
        let spool: Arc<[u8]> = std::mem::take(&mut self.spool).into();
        for (key, replica) in &mut self.replicas {
            if replica.stage != Stage::Snapshot {
                continue;
            }
            if !is_whole {
                self.doings.push(Doing::Close(*key));
                continue;
            }
            replica.heard_ms = now_ms;
            if self.settings.diskless && replica.profile.eof {
                replica.push(&mark[..]);
                replica.stage = Stage::Confirms;
            } else {
                replica.push(format!("${}\r\n", spool.len()).into_bytes());
                replica.push(Arc::clone(&spool));
                replica.stage = Stage::Online;
            }
            if replica.profile.rdb_only {
                replica.stage = Stage::Leaves;
            }
            self.doings.push(Doing::Send(*key));
        }
    }

    /// A snapshot that was asked for does not come.
    pub fn snapshot_refused(&mut self) {
        if self.sending == Sending::Asked {
            self.sending = Sending::None;
        }
    }

    // ---- time ----

    /// Time passes; to be called a few times a second.
    pub fn tick(&mut self, now_ms: i64, is_replica: bool) {
        let is_ping_due = now_ms - self.pinged_ms >= self.settings.ping_period_ms;
        if !is_replica && !self.replicas.is_empty() && is_ping_due {
            self.pinged_ms = now_ms;
            self.append(b"*1\r\n$4\r\nping\r\n");
        }
        let is_second = now_ms - self.ticked_ms >= 1000;
        if is_second {
            self.ticked_ms = now_ms;
        }
        let end = self.history.end;
        let mut slowest: Option<u64> = None;
        for (key, replica) in &mut self.replicas {
            let waits = match replica.stage {
                Stage::Waits => true,
                Stage::Snapshot => !self.settings.diskless || !replica.profile.eof,
                _ => false,
            };
            if is_second && waits && !replica.is_mute {
                replica.push(&b"\n"[..]);
                self.doings.push(Doing::Send(*key));
            }
            let is_silent = now_ms - replica.heard_ms > self.settings.timeout_ms;
            let must_speak = matches!(replica.stage, Stage::Online | Stage::Confirms);
            if (is_silent && must_speak && !replica.is_mute)
                || over_limits(replica, end, self.settings.output_limits, now_ms)
            {
                self.doings.push(Doing::Close(*key));
            }
            if !matches!(replica.stage, Stage::Waits | Stage::Leaves) {
                let position = replica.position;
                slowest = Some(slowest.map_or(position, |slowest| slowest.min(position)));
            }
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.trim(slowest);
        }
        let ttl = self.settings.backlog_ttl_ms;
        let is_over = self.alone_since_ms.is_some_and(|since| now_ms - since > ttl);
        if is_over && ttl > 0 && !is_replica && self.sending == Sending::None {
            self.backlog = None;
            self.alone_since_ms = None;
        }
    }

    // ---- roles ----

    /// The node goes on by itself, under another name; replicas have to ask again.
    pub fn promote(&mut self, id: ReplId) {
        self.history.rename(id);
        self.close_all();
    }

    /// The master of this node has sent a snapshot: it is at `position` of the history `id` now.
    pub fn resynchronised(&mut self, id: ReplId, position: u64) {
        self.history = History { id, end: position, former: None };
        self.backlog = Some(Backlog::new(position, self.settings.backlog_bytes));
        self.close_all();
    }

    /// The master of this node goes on with the stream, perhaps under another name.
    pub fn continued_as(&mut self, id: Option<ReplId>) {
        if self.backlog.is_none() {
            self.backlog = Some(Backlog::new(self.history.end, self.settings.backlog_bytes));
        }
        if let Some(id) = id.filter(|id| *id != self.history.id) {
            self.history.rename(id);
            self.close_all();
        }
    }
}

fn over_limits(replica: &mut Replica, end: u64, limits: (u64, u64, i64), now_ms: i64) -> bool {
    let (hard, soft, soft_ms) = limits;
    // A snapshot is held up for those who are slow; what counts is the stream.
    let unsent = match replica.stage {
        Stage::Waits | Stage::Leaves => 0,
        _ => end.saturating_sub(replica.position),
    };
    if soft == 0 || unsent <= soft {
        replica.over_soft_limit_since = None;
    } else {
        let since = *replica.over_soft_limit_since.get_or_insert(now_ms);
        if now_ms - since > soft_ms {
            return true;
        }
    }
    hard > 0 && unsent > hard
}

/// What a replica says.
enum Said {
    Nothing,
    Ack { position: u64, on_disk: u64 },
    Other,
}

impl Said {
    fn of(words: &[&[u8]]) -> Self {
        let is = |at: usize, word: &str| {
            words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
        };
        let number = |at: usize| {
            let text = std::str::from_utf8(words.get(at).copied().unwrap_or_default()).ok()?;
            text.parse::<u64>().ok()
        };
        if is(0, "replconf") && is(1, "ack") {
            let on_disk = if is(3, "fack") { number(4) } else { None };
            return match number(2) {
                Some(position) => Said::Ack { position, on_disk: on_disk.unwrap_or(0) },
                None => Said::Nothing,
            };
        }
        Said::Other
    }
}

#[cfg(test)]
#[path = "master_tests.rs"]
mod tests;
