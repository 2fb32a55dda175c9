//! The short way of commands that need nothing but a key of this shard.
//!
//! Nearly everything that [`Shard::run_admitted`] looks at is the same for all commands of a group: whether the
//! connection is in a block, subscribed or muted, whether a script is busy, memory limited or a key locked.
//! Here it is looked at once, and the commands behind it cost little more than their handlers.
//!
//! Promise: what runs here does and answers what it would on the long way. Whatever could change one of the answers
//! above ends the run; the caller looks again.

use super::Shard;
use super::engine::Ran;
use super::group::Parsed;
use super::input::{Next, after_reply};
use crate::command::{CommandTable, KeyShape, Request, Run};
use crate::reactor::ConnId;
use crate::session::{ReplyMode, Session};

/// Whether commands of this session are answered one after the other and nobody asks further.
fn is_plain(session: &Session) -> bool {
    session.authenticated
        && session.multi.is_none()
        && session.replies.is_clear()
        && session.reply_mode == ReplyMode::On
        && (session.resp3 || !session.subscribed.any())
}

impl Shard {
    /// Whether commands for this shard's keys run without further questions.
    fn is_plain(&self) -> bool {
        !self.scripts.is_busy
            && self.engine.has_no_limit()
            && !self.engine.refusals.any()
            && self.engine.locks.is_idle()
            && !self.looks_closely
    }

    /// Runs commands from the start of `group` and returns how many, 0 if the first has to go the long way; it stops behind
    /// one with which the output has become long. The output of `conn` has no hard limit.
    pub(super) fn run_plain(
        &mut self,
        conn: ConnId,
        args: &[&[u8]],
        group: &[Parsed<'_>],
    ) -> (usize, Next) {
        if !self.is_plain() {
            return (0, Next::Done);
        }
        let Some(session) = self.sessions.get_mut(conn).filter(|session| is_plain(session)) else {
            return (0, Next::Done);
        };
        let table = CommandTable::get();
        let engine = &mut self.engine;
        let alone = engine.shards.len() == 1;
        let state = (session.db, session.resp3);
        let out = session.replies.local();
        for (ran, parsed) in group.iter().enumerate() {
            let Some(id) = parsed.id else { return (ran, Next::Done) };
            let Run::Data(handler) = table.command(id).run else { return (ran, Next::Done) };
            let words = &args[parsed.first_arg..parsed.end_arg];
            let request = match parsed.key {
                Some((at, key)) => {
                    let is_ours = (alone || engine.shards.owner(key.slot) == engine.id)
                        && engine.territory.as_ref().is_none_or(|map| map.serves(key.slot));
                    if !is_ours {
                        return (ran, Next::Done);
                    }
                    Request::with_key(words, usize::from(at), key)
                }
                None if engine.territory.is_none() && table.shape(id) == KeyShape::None => {
                    Request::new(words)
                }
                None => return (ran, Next::Done),
            };
            let before = out.len();
            session.commands += 1;
            session.last_command = Some(id);
            if engine.run(id, handler, &request, state, out) == Ran::OutOfReach {
                return (ran + 1, self.reach_further(conn, id, words));
            }
            engine.publish_notes();
            let next = after_reply(out.len());
            if engine.pubsub.has_outgoing() || !engine.changes.is_settled() {
                self.end_plain(conn, before);
                return (ran + 1, next);
            }
            if matches!(next, Next::DoneAndLong) {
                return (ran + 1, next);
            }
        }
        (group.len(), Next::Done)
    }

    /// The reply behind `before` bytes belongs to a command that others hear of.
    #[cold]
    fn end_plain(&mut self, conn: ConnId, before: usize) {
        self.send_before_reply(conn, before);
        self.settle_changes(None);
    }
}
