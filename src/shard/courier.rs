//! Carries keys to another server: the sockets of MIGRATE, on a thread for each errand.
//!
//! A shard never waits, and the other server may take its time. So the entries go to the thread, which makes
//! payloads of them, sends them, reads what comes back, and brings the entries home with the answers. Connections
//! are kept for [`KEPT_FOR`], for who moves a slot says MIGRATE many times.
//!
//! Promise: entries come back, all of them, whatever becomes of the connection.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;

use crate::clock;
use crate::command::CommandError;
use crate::keyspace::Entry;
use crate::lanes::Doorbell;
use crate::persistence::rdb::{Compression, payload};
use crate::transaction::TxId;

/// How long a connection is kept that nobody uses (Redis 7.0 `cluster.c`, MIGRATE_SOCKET_CACHE_TTL).
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Connections that are kept at most (Redis 7.0 `cluster.c`, MIGRATE_SOCKET_CACHE_ITEMS).
const KEPT_MAX: usize = 64;
/// Longest reply that is understood; none of those that RESTORE gives is longer.
const REPLY_BYTES_MAX: usize = 1024;

/// So much of what is sent goes together with what comes before it (Redis 7.0 writes in chunks of 64 KiB).
const HEAD_BYTES_MAX: usize = 64 * 1024;

const CANNOT_CONNECT: CommandError =
    CommandError::text("IOERR error or timeout connecting to the client");
const CANNOT_WRITE: CommandError =
    CommandError::text("IOERR error or timeout writing to target instance");
const CANNOT_READ: CommandError =
    CommandError::text("IOERR error or timeout reading to target instance");

/// What is to be carried, and where to.
pub struct Errand {
    /// The transaction that holds the keys.
    pub tx: TxId,
    /// The other server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database there.
    pub db: i64,
    /// How long each step may take.
    pub timeout: Duration,
    /// What follows AUTH, if that has to be said.
    pub login: Vec<Vec<u8>>,
    /// The command that makes a key of a payload.
    pub restore: &'static str,
    /// Keys that are there are replaced.
    pub replaces: bool,
    /// How payloads are compressed.
    pub compression: Compression,
    /// The entries, with their databases here.
    pub entries: Vec<(usize, Entry)>,
}

/// What became of an errand.
pub struct Report {
    /// The transaction that holds the keys.
    pub tx: TxId,
    /// The entries, and of each whether the other server has it.
    pub entries: Vec<(usize, Entry, bool)>,
    /// What the client is told.
    pub result: Result<(), CommandError>,
}

/// Where reports wait for their shard.
#[derive(Clone)]
pub struct Desk {
    reports: Arc<SegQueue<Report>>,
    doorbell: Arc<Doorbell>,
}

impl Desk {
    /// The desk of the shard that sleeps by this doorbell.
    pub fn new(doorbell: Arc<Doorbell>) -> Self {
        Self { reports: Arc::default(), doorbell }
    }

    /// Whether a report waits.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The next report.
    pub fn take(&self) -> Option<Report> {
        self.reports.pop()
    }

    fn hand_in(&self, report: Report) {
        self.reports.push(report);
        if let Err(error) = self.doorbell.ring_if_asleep() {
            tracing::error!("A shard cannot be woken: {error}");
        }
    }
}

/// Connections to other servers that nobody uses at the moment.
#[derive(Default)]
pub struct KeptLinks {
    links: Mutex<HashMap<(String, u16), Kept>>,
}

struct Kept {
    link: Link,
    since: Instant,
}

impl KeptLinks {
    fn take(&self, host: &str, port: u16) -> Option<Link> {
        let mut links = self.lock();
        links.retain(|_, kept| kept.since.elapsed() < KEPT_FOR);
        links.remove(&(host.to_owned(), port)).map(|kept| kept.link)
    }

    fn keep(&self, host: &str, port: u16, link: Link) {
        let mut links = self.lock();
        if links.len() < KEPT_MAX {
            links.insert((host.to_owned(), port), Kept { link, since: Instant::now() });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u16), Kept>> {
        // Whoever panicked meanwhile has left whole connections in it, or none.
        self.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Sends somebody on an errand. If nobody can go, the report is at the desk at once.
pub fn send_off(errand: Errand, kept: Arc<KeptLinks>, desk: Desk) {
    // The thread takes the errand out, so that it is still here if there is no thread.
    let errand = Arc::new(Mutex::new(Some(errand)));
    let theirs = Arc::clone(&errand);
    let of = |errand: &Mutex<Option<Errand>>| errand.lock().ok().and_then(|mut held| held.take());
    let back = desk.clone();
    let run = move || {
        if let Some(errand) = of(&theirs) {
            back.hand_in(carry(errand, &kept));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("courier".to_owned()).spawn(run) {
        tracing::error!("No thread for MIGRATE: {error}");
        if let Some(errand) = of(&errand) {
            let moved = Moved { keys: Vec::new(), result: Err(CANNOT_CONNECT) };
            desk.hand_in(report(errand, moved));
        }
    }
}

/// Which keys the other server has, and what the client is told.
struct Moved {
    keys: Vec<bool>,
    result: Result<(), CommandError>,
}

fn report(errand: Errand, moved: Moved) -> Report {
    let has_come = moved.keys.into_iter().chain(std::iter::repeat(false));
    let entries = errand.entries.into_iter().zip(has_come);
    let entries = entries.map(|((db, entry), has_come)| (db, entry, has_come)).collect();
    Report { tx: errand.tx, entries, result: moved.result }
}

fn carry(errand: Errand, kept: &KeptLinks) -> Report {
    let (restores, wanted) = restores_of(&errand);
    let mut may_retry = true;
    let moved = loop {
        let link = match kept.take(&errand.host, errand.port) {
            Some(link) => Ok(link),
            None => Link::open(&errand.host, errand.port, errand.timeout),
        };
        let mut link = match link {
            Ok(link) => link,
            Err(error) => break Moved { keys: Vec::new(), result: Err(why_not_open(&error)) },
        };
        match link.exchange(&errand, &restores, wanted.iter().filter(|sent| **sent).count()) {
            Ok(replies) => {
                let (keys, result) = judge(&replies, &wanted);
                link.db = if result.is_ok() { Some(errand.db) } else { None };
                kept.keep(&errand.host, errand.port, link);
                break Moved { keys, result };
            }
            // A connection that was kept may be gone by now.
            Err(broken) if may_retry && broken.may_go_again() => may_retry = false,
            Err(broken) => {
                let (keys, told) = judge(&broken.replies, &wanted);
                let error = if broken.writing { CANNOT_WRITE } else { CANNOT_READ };
                break Moved { keys, result: told.and(Err(error)) };
            }
        }
    };
    report(errand, moved)
}

/// What a client is told who has asked for a server that is not there. Redis waits until the socket is
/// writable, and finds out when it writes that nobody has answered.
fn why_not_open(error: &io::Error) -> CommandError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => CANNOT_WRITE,
        _ => CANNOT_CONNECT,
    }
}

/// The commands that make the keys, and of each entry whether it goes: what has expired does not.
fn restores_of(errand: &Errand) -> (Vec<u8>, Vec<bool>) {
    let (mut out, mut sent, now_ms) = (Vec::new(), Vec::new(), clock::unix_ms());
    for (_, entry) in &errand.entries {
        let ttl = entry.expiry().map(|at| at - now_ms);
        sent.push(ttl.is_none_or(|ttl| ttl >= 0));
        if ttl.is_some_and(|ttl| ttl < 0) {
            continue;
        }
        let ttl = ttl.map_or(0, |ttl| ttl.max(1)).to_string();
        let mut value = Vec::new();
        payload::dump(&entry.value(), errand.compression, &mut value);
        let replace: &[&[u8]] = if errand.replaces { &[b"REPLACE"] } else { &[] };
        let words = [errand.restore.as_bytes(), entry.key(), ttl.as_bytes(), &value];
        write_command(&[&words, replace].concat(), &mut out);
    }
    (out, sent)
}

fn write_command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What came back: one line for each command.
#[derive(Default)]
struct Replies {
    auth: Option<Vec<u8>>,
    select: Option<Vec<u8>>,
    restores: Vec<Vec<u8>>,
}

/// An exchange that did not come to its end.
struct Broken {
    replies: Replies,
    writing: bool,
    timed_out: bool,
}

impl Broken {
    /// Whether nothing can have happened there.
    fn may_go_again(&self) -> bool {
        !self.timed_out && self.replies.restores.is_empty()
    }
}

/// Which entries the other server has, and what it said to the first that it does not have.
fn judge(replies: &Replies, wanted: &[bool]) -> (Vec<bool>, Result<(), CommandError>) {
    let is_error = |line: &&Vec<u8>| line.first() == Some(&b'-');
    let before = replies.auth.iter().chain(&replies.select).find(is_error);
    let first = replies.restores.iter().find_map(|line| before.or(Some(line).filter(is_error)));
    let mut lines = replies.restores.iter();
    let has_come = wanted.iter().map(|sent| {
        let line = if *sent { lines.next() } else { None };
        line.is_some_and(|line| before.is_none() && !is_error(&line))
    });
    let result = first.map_or(Ok(()), |line| {
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        Err(CommandError::owned(format!("ERR Target instance replied with error: {text}")))
    });
    (has_come.collect(), result)
}

/// A connection to another server.
struct Link {
    socket: TcpStream,
    /// The database that is selected there, if that is known.
    db: Option<i64>,
    /// What was read and not used.
    unread: Vec<u8>,
}

impl Link {
    fn open(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    return Ok(Self { socket, db: None, unread: Vec::new() });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Sends what is to be sent, and reads a line for each command; `count` of them are RESTOREs.
    fn exchange(
        &mut self,
        errand: &Errand,
        restores: &[u8],
        count: usize,
    ) -> Result<Replies, Broken> {
        let mut replies = Replies::default();
        let selects = self.db != Some(errand.db);
        let mut first = Vec::new();
        if !errand.login.is_empty() {
            let login = errand.login.iter().map(Vec::as_slice);
            let words: Vec<&[u8]> = std::iter::once(b"AUTH".as_slice()).chain(login).collect();
            write_command(&words, &mut first);
        }
        if selects {
            write_command(&[b"SELECT", errand.db.to_string().as_bytes()], &mut first);
        }
        let timeout = Some(errand.timeout);
        let prepared = self.socket.set_read_timeout(timeout);
        let prepared = prepared.and_then(|()| self.socket.set_write_timeout(timeout));
        // What is short goes out as one segment.
        let (head, tail) = restores.split_at(restores.len().min(HEAD_BYTES_MAX));
        first.extend_from_slice(head);
        let written = prepared
            .and_then(|()| self.socket.write_all(&first))
            .and_then(|()| self.socket.write_all(tail));
        if let Err(error) = written {
            return Err(Broken { replies, writing: true, timed_out: is_timeout(&error) });
        }
        let result = self.read_replies(&mut replies, !errand.login.is_empty(), selects, count);
        match result {
            Ok(()) => Ok(replies),
            Err(error) => Err(Broken { replies, writing: false, timed_out: is_timeout(&error) }),
        }
    }

    fn read_replies(
        &mut self,
        replies: &mut Replies,
        logs_in: bool,
        selects: bool,
        count: usize,
    ) -> io::Result<()> {
        if logs_in {
            replies.auth = Some(self.read_line()?);
        }
        if selects {
            replies.select = Some(self.read_line()?);
        }
        for _ in 0..count {
            replies.restores.push(self.read_line()?);
        }
        Ok(())
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                line.truncate(end);
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            if self.unread.len() > REPLY_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.unread.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(auth: Option<&str>, select: Option<&str>, restores: &[&str]) -> Replies {
        let line = |text: &str| text.as_bytes().to_vec();
        Replies {
            auth: auth.map(line),
            select: select.map(line),
            restores: restores.iter().map(|text| line(text)).collect(),
        }
    }

    #[test]
    fn a_key_has_come_when_its_own_line_and_those_before_all_say_so() {
        let said = |text: &str| format!("ERR Target instance replied with error: {text}");
        for (replies, wanted, has_come, told) in [
            (replies(None, None, &["+OK", "+OK"]), [true, true], [true, true], None),
            // What has expired was not sent, so there is no line for it.
            (replies(None, None, &["+OK"]), [false, true], [false, true], None),
            (
                replies(None, None, &["-BUSYKEY x", "+OK"]),
                [true, true],
                [false, true],
                Some("BUSYKEY x"),
            ),
            (
                replies(Some("-WRONGPASS x"), Some("+OK"), &["+OK", "-E y"]),
                [true, true],
                [false, false],
                Some("WRONGPASS x"),
            ),
            (
                replies(Some("+OK"), Some("-ERR z"), &["+OK", "+OK"]),
                [true, true],
                [false, false],
                Some("ERR z"),
            ),
            // The connection broke before the second line.
            (replies(None, None, &["+OK"]), [true, true], [true, false], None),
        ] {
            let (come, result) = judge(&replies, &wanted);
            assert_eq!(come, has_come, "{told:?}");
            assert_eq!(result.err().map(|error| error.to_string()), told.map(said));
        }
    }

    #[test]
    fn a_connection_is_tried_again_when_nothing_can_have_happened() {
        let broken = |restores: &[&str], timed_out| Broken {
            replies: replies(None, None, restores),
            writing: false,
            timed_out,
        };
        assert!(broken(&[], false).may_go_again());
        assert!(!broken(&[], true).may_go_again());
        assert!(!broken(&["+OK"], false).may_go_again());
    }

    #[test]
    fn connections_are_kept_for_the_next_errand_up_to_a_number() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it has one").port();
        let kept = KeptLinks::default();
        let link = || Link::open("127.0.0.1", port, Duration::from_secs(5)).expect("it listens");
        assert!(kept.take("127.0.0.1", port).is_none());
        kept.keep("127.0.0.1", port, link());
        assert!(kept.take("127.0.0.1", port).is_some());
        assert!(kept.take("127.0.0.1", port).is_none(), "two errands never share one");
        for number in 0..=KEPT_MAX {
            kept.keep(&number.to_string(), port, link());
        }
        assert_eq!(kept.lock().len(), KEPT_MAX);
    }
}
