//! The end of a link that follows: how a node introduces itself to its master, takes a snapshot and then the
//! stream, and what it does when the link breaks.
//!
//! Calls tell what has happened; [`Link::take_doings`] tells what is to be done. The stream is taken with
//! [`Link::next_chunk`], one chunk at a time: whole commands, and blocks between MULTI and EXEC whole, so what
//! is applied always ends where a partial synchronisation may begin.
//!
//! Promise: every byte of the stream is handed out once and in order, and [`Link::position`] counts what was
//! applied and nothing else.

use std::collections::VecDeque;

use super::ids::ReplId;
use super::stream_reader::{Kind, next_command};
use crate::journal::recorder::write_effect;
use crate::resp::{Limits, Parser};

/// Bytes of the stream that are applied in one go.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Longest line of a master that is not the stream.
const LINE_BYTES_MAX: usize = 1024;
/// How long to wait before a lost master is tried again, ms.
const RETRY_MS: i64 = 1000;
/// How often the master is told how far this node has come, ms,
const ACK_MS: i64 = 1000;
/// and how much later if there is something to apply before.
const ACK_PATIENCE_MS: i64 = 500;

/// How this node introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// `masteruser` (may be empty) and `masterauth`.
    pub auth: Option<(String, String)>,
    /// The port that it listens on.
    pub port: u16,
    /// `replica-announce-ip`.
    pub address: Option<String>,
    /// `repl-timeout`, ms.
    pub timeout_ms: i64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Connect to the master.
    Connect,
    /// Close the connection.
    Disconnect,
    /// Send this.
    Write(Vec<u8>),
    /// A snapshot comes: the data of this node will be what it had at this position of this history.
    BeginLoad {
        /// The name of the history.
        id: ReplId,
        /// Where the stream goes on.
        position: u64,
        /// Bytes of the snapshot, if they are known.
        len: Option<u64>,
    },
    /// Bytes of the snapshot.
    Load(Vec<u8>),
    /// The snapshot is whole. Answer with [`Link::loaded`].
    EndLoad,
    /// The link broke within the snapshot.
    AbortLoad,
    /// The master does not take over ([`Link::set_failover`]).
    Refused,
    /// The stream goes on where this node was, perhaps under another name.
    Continue(Option<ReplId>),
}

/// How far the link is (ROLE, INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is no connection.
    Connect,
    /// One is being made.
    Connecting,
    /// The nodes introduce themselves.
    Handshake,
    /// A snapshot comes, or is loaded.
    Sync,
    /// The stream comes.
    Connected,
}

#[derive(Debug)]
enum Stage {
    /// Tries again at this time, unix ms.
    Resting(i64),
    Connecting,
    /// PING was sent.
    Greeting,
    /// The replies that are still to come.
    Introducing(VecDeque<Expected>),
    /// PSYNC was sent.
    Asking,
    /// SYNC was sent to a master that knows nothing better, or a snapshot was promised.
    Header {
        id: ReplId,
        position: u64,
    },
    /// Bytes of the snapshot come; so many are left, or it ends with a mark.
    Payload {
        ends: Ends,
    },
    /// All bytes of the snapshot are here.
    Loading,
    Online,
}

#[derive(Debug)]
enum Ends {
    After(u64),
    With([u8; ReplId::LEN]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Auth,
    Replconf,
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes as they came.
    pub verbatim: Vec<u8>,
    /// The commands among them that are to be applied.
    pub commands: Vec<u8>,
    /// The position behind them.
    end: u64,
    /// The master wants to know when everything up to this position has been applied.
    ack: Option<u64>,
    /// The database that was selected last in it.
    database: Option<i64>,
}

impl Chunk {
    /// Something that is applied beside the stream.
    pub fn aside() -> Self {
        Self { verbatim: Vec::new(), commands: Vec::new(), end: 0, ack: None, database: None }
    }
}

/// How far the stream in `input` has been looked at.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that were looked at, whole commands.
    seen: usize,
    /// Bytes of them that can be applied: no block is open behind them.
    whole: usize,
    /// What is to be applied of those.
    commands: Vec<u8>,
    in_block: bool,
    /// What is to be applied of the block that is open.
    open: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    introduction: Introduction,
    stage: Stage,
    /// What this node has: the history and the position.
    known: Option<(ReplId, u64)>,
    /// Where it will be when the snapshot is loaded.
    promised: Option<(ReplId, u64)>,
    input: Vec<u8>,
    parser: Parser,
    scan: Scan,
    doings: Vec<Doing>,
    /// A chunk is being applied.
    applying: bool,
    /// The connection ended while the snapshot was being loaded.
    is_lost: bool,
    heard_ms: i64,
    acked_ms: i64,
    /// When the link was lost, unix ms.
    down_since_ms: Option<i64>,
    /// Bytes of the snapshot: all, if it is known, and read.
    transfer: (Option<u64>, u64),
    /// The database that is selected behind what was applied.
    stream_db: i64,
    /// The third word of PSYNC when this node hands over to its replica.
    is_failover: bool,
}

impl Link {
    /// A link that is about to connect. `known` is what this node has already.
    pub fn new(introduction: Introduction, known: Option<(ReplId, u64)>) -> Self {
        Self {
            introduction,
            stage: Stage::Resting(i64::MIN),
            known,
            promised: None,
            input: Vec::new(),
            parser: Parser::default(),
            scan: Scan::default(),
            doings: Vec::new(),
            applying: false,
            is_lost: false,
            heard_ms: 0,
            acked_ms: 0,
            down_since_ms: None,
            transfer: (None, 0),
            stream_db: 0,
            is_failover: false,
        }
    }

    /// The master is asked to promote itself.
    pub fn set_failover(&mut self) {
        self.is_failover = true;
    }

    /// Takes over the settings.
    pub fn set_introduction(&mut self, introduction: Introduction) {
        self.introduction = introduction;
    }

    /// Takes what is to be done.
    pub fn take_doings(&mut self) -> Vec<Doing> {
        std::mem::take(&mut self.doings)
    }

    /// The history and position that this node has, if it has any.
    pub fn known(&self) -> Option<(ReplId, u64)> {
        self.known
    }

    /// Position up to which the stream has been applied.
    pub fn position(&self) -> u64 {
        self.known.map_or(0, |(_, position)| position)
    }

    /// The database that is selected in the stream where this node is.
    pub fn stream_db(&self) -> i64 {
        self.stream_db
    }

    /// The stream goes on in this database behind the snapshot.
    pub fn set_stream_db(&mut self, database: i64) {
        self.stream_db = database;
    }

    /// How far the link is.
    pub fn progress(&self) -> Progress {
        match self.stage {
            Stage::Resting(_) => Progress::Connect,
            Stage::Connecting => Progress::Connecting,
            Stage::Greeting | Stage::Introducing(_) | Stage::Asking => Progress::Handshake,
            Stage::Header { .. } | Stage::Payload { .. } | Stage::Loading => Progress::Sync,
            Stage::Online => Progress::Connected,
        }
    }

    /// Whether the stream comes.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Online)
    }

    /// When the master was heard last, and since when the link has been down, unix ms.
    pub fn times(&self) -> (i64, Option<i64>) {
        (self.heard_ms, self.down_since_ms)
    }

    /// Bytes of the snapshot under way: all, if that is known, and read.
    pub fn transfer(&self) -> (Option<u64>, u64) {
        self.transfer
    }

    // ---- what happens ----

    /// The connection is made.
    pub fn connected(&mut self, now_ms: i64) {
        self.heard_ms = now_ms;
        self.stage = Stage::Greeting;
        self.write(&[b"PING"]);
    }

    /// It cannot be made, or has ended.
    pub fn closed(&mut self, now_ms: i64) {
        let was_up = self.is_up();
        if matches!(self.stage, Stage::Payload { .. }) {
            self.doings.push(Doing::AbortLoad);
        }
        if was_up || self.down_since_ms.is_none() {
            self.down_since_ms = Some(now_ms);
        }
        if matches!(self.stage, Stage::Loading) {
            self.is_lost = true;
            // The snapshot is loaded all the same; the stream is asked for again from there.
            return;
        }
        self.rest(if was_up { now_ms } else { now_ms + RETRY_MS });
    }

    fn rest(&mut self, until_ms: i64) {
        self.is_lost = false;
        self.stage = Stage::Resting(until_ms);
        self.input.clear();
        self.parser = Parser::default();
        self.scan = Scan::default();
        self.promised = None;
    }

    /// Gives the connection up and tries again a little later.
    fn give_up(&mut self, now_ms: i64) {
        if matches!(self.stage, Stage::Payload { .. }) {
            self.doings.push(Doing::AbortLoad);
        }
        if self.is_up() {
            self.down_since_ms = Some(now_ms);
        }
        self.doings.push(Doing::Disconnect);
        self.rest(now_ms + RETRY_MS);
    }

    /// Time passes; to be called a few times a second.
    pub fn tick(&mut self, now_ms: i64) {
        match self.stage {
            Stage::Resting(until) if now_ms >= until && !self.applying => {
                self.stage = Stage::Connecting;
                self.heard_ms = now_ms;
                self.doings.push(Doing::Connect);
            }
            Stage::Resting(_) => {}
            Stage::Loading if now_ms - self.acked_ms >= ACK_MS => {
                self.acked_ms = now_ms;
                self.doings.push(Doing::Write(b"\n".to_vec()));
            }
            Stage::Loading => {}
            _ if now_ms - self.heard_ms > self.introduction.timeout_ms => self.give_up(now_ms),
            Stage::Online if self.is_ack_due(now_ms) => {
                self.acked_ms = now_ms;
                self.acknowledge(self.position());
            }
            _ => {}
        }
    }

    /// A master that hands over waits for an acknowledgement of all that it has sent, and pings once a second:
    /// who acknowledged just before each ping would never let it go on. So what is here is applied first.
    fn is_ack_due(&self, now_ms: i64) -> bool {
        let waited = now_ms - self.acked_ms;
        let is_behind = self.applying || !self.input.is_empty();
        waited >= ACK_MS + if is_behind { ACK_PATIENCE_MS } else { 0 }
    }

    /// Bytes came from the master.
    pub fn received(&mut self, now_ms: i64, bytes: &[u8]) {
        self.heard_ms = now_ms;
        self.input.extend_from_slice(bytes);
        while self.step(now_ms) {}
    }

    /// The snapshot was loaded; or it could not be, which may be known before all of it has come.
    pub fn loaded(&mut self, now_ms: i64, well: bool) {
        let is_due = matches!(self.stage, Stage::Loading)
            || (!well && matches!(self.stage, Stage::Payload { .. }));
        if !is_due {
            return;
        }
        if !well {
            self.known = None;
            return self.give_up(now_ms);
        }
        self.known = self.promised.take();
        if self.is_lost {
            // The master went away meanwhile.
            return self.rest(now_ms);
        }
        self.stage = Stage::Online;
        self.down_since_ms = None;
        self.acked_ms = now_ms;
        self.acknowledge(self.position());
    }

    // ---- before the stream ----

    /// Takes the next thing from the input; false if it has to wait for more.
    fn step(&mut self, now_ms: i64) -> bool {
        match &mut self.stage {
            Stage::Greeting | Stage::Introducing(_) | Stage::Asking | Stage::Header { .. } => {
                match self.input.iter().position(|byte| *byte == b'\n') {
                    None if self.input.len() > LINE_BYTES_MAX => {
                        self.give_up(now_ms);
                        false
                    }
                    None => false,
                    Some(end) => {
                        let mut line: Vec<u8> = self.input.drain(..=end).collect();
                        line.pop();
                        if line.last() == Some(&b'\r') {
                            line.pop();
                        }
                        // An empty line keeps the link alive.
                        if !line.is_empty() {
                            self.on_line(now_ms, &line);
                        }
                        true
                    }
                }
            }
            Stage::Payload { .. } => self.take_payload(),
            Stage::Resting(_) | Stage::Connecting | Stage::Loading | Stage::Online => false,
        }
    }

    fn on_line(&mut self, now_ms: i64, line: &[u8]) {
        let is_error = line.first() == Some(&b'-');
        match &mut self.stage {
            Stage::Greeting => {
                let may_go_on: [&[u8]; 4] =
                    [b"+", b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"];
                if !may_go_on.iter().any(|start| line.starts_with(start)) {
                    return self.give_up(now_ms);
                }
                self.introduce();
            }
            Stage::Introducing(expected) => {
                let is_auth = expected.pop_front() == Some(Expected::Auth);
                let is_last = expected.is_empty();
                if is_error && is_auth {
                    return self.give_up(now_ms);
                }
                if is_last {
                    self.ask();
                }
            }
            Stage::Asking => self.on_answer(now_ms, line),
            Stage::Header { id, position } => {
                let (id, position) = (*id, *position);
                match header(line) {
                    Some(ends) => {
                        let len = match ends {
                            Ends::After(len) => Some(len),
                            Ends::With(_) => None,
                        };
                        self.transfer = (len, 0);
                        self.promised = Some((id, position));
                        self.doings.push(Doing::BeginLoad { id, position, len });
                        self.stage = Stage::Payload { ends };
                    }
                    None => self.give_up(now_ms),
                }
            }
            _ => {}
        }
    }

    fn introduce(&mut self) {
        let mut expected = VecDeque::new();
        let mut out = Vec::new();
        if let Some((user, password)) = &self.introduction.auth {
            let (user, password) = (user.as_bytes(), password.as_bytes());
            match user {
                b"" => write_effect(&mut out, &[b"AUTH", password]),
                _ => write_effect(&mut out, &[b"AUTH", user, password]),
            }
            expected.push_back(Expected::Auth);
        }
        let port = self.introduction.port.to_string();
        write_effect(&mut out, &[b"REPLCONF", b"listening-port", port.as_bytes()]);
        expected.push_back(Expected::Replconf);
        if let Some(address) = &self.introduction.address {
            write_effect(&mut out, &[b"REPLCONF", b"ip-address", address.as_bytes()]);
            expected.push_back(Expected::Replconf);
        }
        write_effect(&mut out, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
        expected.push_back(Expected::Replconf);
        self.doings.push(Doing::Write(out));
        self.stage = Stage::Introducing(expected);
    }

    fn ask(&mut self) {
        let (id, offset) = match &self.known {
            Some((id, position)) => (id.as_bytes().to_vec(), (position + 1).to_string()),
            None => (b"?".to_vec(), "-1".to_owned()),
        };
        let mut words: Vec<&[u8]> = vec![b"PSYNC", &id, offset.as_bytes()];
        if self.is_failover {
            words.push(b"FAILOVER");
        }
        let mut out = Vec::new();
        write_effect(&mut out, &words);
        self.doings.push(Doing::Write(out));
        self.stage = Stage::Asking;
    }

    fn on_answer(&mut self, now_ms: i64, line: &[u8]) {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let is_failover = std::mem::take(&mut self.is_failover);
        match words.first().copied().unwrap_or_default() {
            b"+FULLRESYNC" => {
                let id = words.get(1).and_then(|id| ReplId::parse(id));
                let position = words.get(2).and_then(|word| decimal(word));
                match id.zip(position) {
                    Some((id, position)) => self.stage = Stage::Header { id, position },
                    None => self.give_up(now_ms),
                }
            }
            b"+CONTINUE" if self.known.is_some() => {
                let id = words.get(1).and_then(|id| ReplId::parse(id));
                if let (Some(id), Some((known, _))) = (id, &mut self.known) {
                    *known = id;
                }
                self.doings.push(Doing::Continue(id));
                self.stage = Stage::Online;
                self.down_since_ms = None;
                self.acked_ms = now_ms;
                self.acknowledge(self.position());
            }
            word if is_failover && word.starts_with(b"-") => {
                self.give_up(now_ms);
                self.doings.push(Doing::Refused);
            }
            b"-NOMASTERLINK" | b"-LOADING" | b"+CONTINUE" => self.give_up(now_ms),
            word if word.starts_with(b"-") => {
                // It knows no PSYNC: what it sends has no name, and no position that could be asked for again.
                self.doings.push(Doing::Write(b"SYNC\r\n".to_vec()));
                self.stage = Stage::Header { id: ReplId::NONE, position: 0 };
            }
            _ => self.give_up(now_ms),
        }
    }

    fn take_payload(&mut self) -> bool {
        let Stage::Payload { ends } = &mut self.stage else { return false };
        let input = &mut self.input;
        let (bytes, is_over) = match ends {
            Ends::After(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= now as u64;
                (input.drain(..now).collect::<Vec<u8>>(), *left == 0)
            }
            Ends::With(mark) => match find(input, mark) {
                Some(at) => {
                    let bytes = input.drain(..at).collect();
                    input.drain(..ReplId::LEN);
                    (bytes, true)
                }
                // The mark may have begun.
                None => {
                    let sure = input.len().saturating_sub(ReplId::LEN);
                    (input.drain(..sure).collect(), false)
                }
            },
        };
        self.transfer.1 += bytes.len() as u64;
        let moved = !bytes.is_empty();
        if moved {
            self.doings.push(Doing::Load(bytes));
        }
        if is_over {
            self.stage = Stage::Loading;
            self.doings.push(Doing::EndLoad);
        }
        is_over
    }

    // ---- the stream ----

    /// The next piece of the stream, if there is one and the last one has been applied.
    pub fn next_chunk(&mut self, now_ms: i64) -> Option<Chunk> {
        if self.applying || !self.is_up() {
            return None;
        }
        match self.cut_chunk() {
            Ok(chunk) => {
                self.applying = chunk.is_some();
                chunk
            }
            Err(()) => {
                // Nothing that follows can be trusted, nor what is known of this master.
                self.known = None;
                self.give_up(now_ms);
                None
            }
        }
    }

    fn cut_chunk(&mut self) -> Result<Option<Chunk>, ()> {
        let limits = Limits { bulk_bytes_max: usize::MAX, unauthenticated: false };
        let (mut ack, mut database) = (None, None);
        let scan = &mut self.scan;
        while ack.is_none() && (scan.seen < CHUNK_BYTES || scan.in_block) {
            let (mut asks, mut number) = (false, None);
            let rest = &self.input[scan.seen..];
            let parsed = next_command(&mut self.parser, rest, &limits, |words| {
                asks = words.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"getack"));
                number = words.get(1).and_then(|word| decimal(word)).map(|number| number as i64);
            });
            let Some((length, kind)) = parsed.map_err(|_| ())? else { break };
            let from = scan.seen;
            scan.seen += length;
            match kind {
                Kind::Multi => scan.in_block = true,
                Kind::Exec => scan.in_block = false,
                Kind::Select => database = number.or(database),
                Kind::Plain | Kind::Replconf | Kind::KeepAlive => {}
            }
            if !matches!(kind, Kind::Replconf | Kind::KeepAlive) {
                scan.open.extend_from_slice(&self.input[from..scan.seen]);
            }
            if !scan.in_block {
                scan.commands.append(&mut scan.open);
                scan.whole = scan.seen;
                let position = self.known.map_or(0, |(_, position)| position);
                ack = (kind == Kind::Replconf && asks).then_some(position + from as u64);
            }
        }
        if scan.whole == 0 {
            return Ok(None);
        }
        let whole = std::mem::take(&mut scan.whole);
        scan.seen -= whole;
        let commands = std::mem::take(&mut scan.commands);
        let verbatim: Vec<u8> = self.input.drain(..whole).collect();
        let end = self.position() + whole as u64;
        Ok(Some(Chunk { verbatim, commands, end, ack, database }))
    }

    /// The chunk has been applied.
    pub fn applied(&mut self, chunk: &Chunk) {
        self.applying = false;
        if let Some((_, position)) = &mut self.known {
            *position = chunk.end;
        }
        self.stream_db = chunk.database.unwrap_or(self.stream_db);
        if let Some(position) = chunk.ack
            && self.is_up()
        {
            self.acknowledge(position);
        }
    }

    fn acknowledge(&mut self, position: u64) {
        self.write(&[b"REPLCONF", b"ACK", position.to_string().as_bytes()]);
    }

    fn write(&mut self, words: &[&[u8]]) {
        let mut out = Vec::new();
        write_effect(&mut out, words);
        self.doings.push(Doing::Write(out));
    }
}

/// `$<bytes>` or `$EOF:<mark>`.
fn header(line: &[u8]) -> Option<Ends> {
    let text = line.strip_prefix(b"$")?;
    match text.strip_prefix(b"EOF:") {
        Some(mark) => mark.try_into().ok().map(Ends::With),
        None => decimal(text).map(Ends::After),
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, mark)
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
