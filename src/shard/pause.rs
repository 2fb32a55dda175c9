//! Commands that wait because somebody wants the data to stand still: CLIENT PAUSE, and the control core before a
//! change of roles or the end.
//!
//! Nothing expires and nothing is evicted meanwhile (Redis 7.0 `server.c`, isSafeToPerformEvictions).

use super::Shard;
use super::input::Next;
use super::message::PartWork;
use crate::command::{CommandError, CommandResult, Part};
use crate::datatypes::number::parse_i64;
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::Hold;

/// CLIENT PAUSE, while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// Until when, unix ms.
    pub until_ms: i64,
    /// All commands wait, not only those that write.
    pub all: bool,
}

impl Shard {
    /// CLIENT PAUSE timeout [WRITE | ALL]
    pub(super) fn client_pause(&mut self, conn: ConnId, words: &[&[u8]]) {
        match pause_options(&words[2..], self.engine.keyspace.now_ms()) {
            Ok(pause) => self.pause_everywhere(conn, Some(pause)),
            Err(error) => {
                self.engine.count_error(&error);
                self.complete(conn, |_, reply| reply.error(error));
            }
        }
    }

    /// CLIENT UNPAUSE
    pub(super) fn client_unpause(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.pause_everywhere(conn, None);
    }

    fn pause_everywhere(&mut self, conn: ConnId, pause: Option<Pause>) {
        let merge = |_: &mut Shard, _: ConnId, _: Vec<Part>, reply: &mut Reply<'_>| reply.ok();
        self.gather(conn, PartWork::Pause(pause), Box::new(merge));
    }

    /// Clients are paused, or not any more.
    pub(super) fn set_pause(&mut self, pause: Option<Pause>) {
        self.engine.set_pause(pause);
        self.end_pause();
    }

    /// Holds `conn` until the pause is over.
    pub(super) fn hold_for_pause(&mut self, conn: ConnId) -> Next {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::Paused;
            self.paused.push(conn);
        }
        Next::NotYet
    }

    /// Ends a pause whose time is over.
    pub(super) fn check_pause(&mut self) {
        let now_ms = self.engine.keyspace.now_ms();
        if self.engine.refusals.pause().is_some_and(|pause| pause.until_ms <= now_ms) {
            self.set_pause(None);
        }
    }

    /// Whoever waits may look again whether there is still a pause.
    pub(super) fn end_pause(&mut self) {
        for conn in self.paused.drain(..) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.hold == Hold::Paused
            {
                session.hold = Hold::None;
                self.resumable.push_back(conn);
            }
        }
    }
}

fn pause_options(words: &[&[u8]], now_ms: i64) -> CommandResult<Pause> {
    let all = match words {
        [_] => true,
        [_, mode] if mode.eq_ignore_ascii_case(b"all") => true,
        [_, mode] if mode.eq_ignore_ascii_case(b"write") => false,
        _ => return Err(CommandError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let ms = parse_i64(words[0])
        .ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(CommandError::text("ERR timeout is negative"));
    }
    Ok(Pause { until_ms: now_ms.saturating_add(ms), all })
}
