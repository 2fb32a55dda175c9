//! SUBSCRIBE and its kin: subscriptions of this shard's connections begin and end, and the other shards
//! get to know.
//!
//! A change is confirmed to the client when all shards have noted it, one round trip: then every PUBLISH
//! that begins after the confirmation counts right, on whichever shard. A new subscription keeps a
//! place among the replies, so that messages which come before the last shard's word wait behind the
//! confirmation. A subscription that ends holds its connection instead: what comes meanwhile was counted,
//! and goes out before the confirmation.

use std::sync::Arc;

use super::Shard;
use super::input::Next;
use super::message::{Message, SubscriptionChanges};
use crate::admin::stats::Outcome;
use crate::command::{Command, CommandError, CommandId, CommandTable, Run, SessionCommand};
use crate::pubsub::{Change, Kind, MoveId, Name, Stay};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::{Hold, Place, ReplyMode, Session};
use crate::shard_map::ShardId;

/// What a connection is told when all shards have noted a move.
pub(super) enum Awaited {
    /// These confirmations, at the place that was kept.
    Begun { conn: ConnId, place: Place, confirmations: Vec<u8> },
    /// That these subscriptions are over, in the words of `farewell`.
    Ended { conn: ConnId, farewell: Farewell },
}

/// What ends subscriptions.
pub(super) enum Farewell {
    /// A command that names them: each is confirmed.
    Unsubscribe(Kind, Vec<Vec<u8>>),
    /// RESET, which ends all.
    Reset,
}

/// What a subscriber may send in RESP2, where a reply and a message look alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Allowance {
    /// As always.
    Free,
    /// PING, answered so that it is no message.
    Ping,
    /// Not at all.
    Refused,
}

impl Allowance {
    /// For `command` (Redis 7.0 `server.c`, processCommand).
    fn of(command: &Command) -> Self {
        use SessionCommand as C;
        match command.run {
            Run::Session(C::Subscribe(_) | C::Unsubscribe(_) | C::Quit | C::Reset) => Self::Free,
            _ if command.name == "ping" => Self::Ping,
            _ => Self::Refused,
        }
    }
}

/// `[verb, name, count]`
fn confirm(reply: &mut Reply<'_>, verb: &str, name: Option<&[u8]>, count: u32) {
    reply.push(3);
    reply.bulk(verb.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.integer(i64::from(count));
}

/// A confirmation is no reply, so CLIENT REPLY does not silence it, but its command is the next one for SKIP.
fn end_skipping(session: &mut Session) {
    if session.reply_mode == ReplyMode::SkipNext {
        session.reply_mode = ReplyMode::On;
    }
}

impl Shard {
    /// A command of a subscriber in RESP2; `None` if it runs as always.
    #[cold]
    pub(super) fn run_for_subscriber(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
    ) -> Option<Next> {
        let command = CommandTable::get().command(id);
        match (Allowance::of(command), words) {
            (Allowance::Free, _) | (Allowance::Ping, [_, _, _, ..]) => None,
            (Allowance::Ping, _) => Some(self.run_here(conn, |engine, _, out| {
                let mut reply = Reply::new(out, false);
                reply.array(2);
                reply.bulk(b"pong");
                reply.bulk(words.get(1).copied().unwrap_or_default());
                engine.account(id, words, Outcome::Ok);
            })),
            (Allowance::Refused, _) => {
                let error = CommandError::owned(format!(
                    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                    command.name
                ));
                Some(self.refuse(conn, Some(id), &error))
            }
        }
    }

    /// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE: the names after the verb.
    pub(super) fn subscribe(&mut self, conn: ConnId, kind: Kind, names: &[&[u8]]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let mut confirmations = Vec::new();
        let reply = &mut Reply::new(&mut confirmations, session.resp3);
        let moving = self.begin_subscriptions(conn, kind, names, reply);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        end_skipping(session);
        match moving {
            None => {
                session.push(&confirmations);
                self.touch(conn);
            }
            Some(id) => {
                let place = session.replies.expect(true);
                self.awaited.insert(id, Awaited::Begun { conn, place, confirmations });
            }
        }
    }

    /// `conn` listens to these names from now on; writes the confirmations. Returns the move that others
    /// have yet to note, if there is one.
    fn begin_subscriptions(
        &mut self,
        conn: ConnId,
        kind: Kind,
        names: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> Option<MoveId> {
        let (me, shards) = (self.id(), self.engine.shards);
        let noted = shards.iter().map(|shard| shard == me).collect();
        let moving = (shards.len() > 1).then(|| self.registry.begin_move(Stay::Begins, noted));
        let mut changes = Vec::new();
        for name in names {
            if let Some(name) = self.registry.add(conn, kind, name, moving) {
                let change = Change { kind, name, joined: true };
                self.engine.pubsub.note(me, &change);
                changes.push(change);
            }
            let count = self.registry.counts(conn).confirmed(kind);
            confirm(reply, kind.subscribed(), Some(name), count);
        }
        self.count_subscriptions(conn);
        let id = moving?;
        if changes.is_empty() {
            self.registry.cancel_move(id);
            return None;
        }
        self.tell_others(Some(id), changes);
        Some(id)
    }

    /// SUBSCRIBE and its kin within a block of commands, which does not wait: the confirmations.
    pub(super) fn subscribe_at_once(
        &mut self,
        conn: ConnId,
        kind: Kind,
        names: &[&[u8]],
    ) -> Vec<u8> {
        let mut confirmations = Vec::new();
        let resp3 = self.sessions.get(conn).is_some_and(|session| session.resp3);
        let reply = &mut Reply::new(&mut confirmations, resp3);
        self.begin_subscriptions(conn, kind, names, reply);
        confirmations
    }

    /// UNSUBSCRIBE and its kin within a block of commands: the confirmations.
    pub(super) fn unsubscribe_at_once(
        &mut self,
        conn: ConnId,
        kind: Kind,
        names: &[&[u8]],
    ) -> Vec<u8> {
        let names = self.names_or_all(conn, kind, names);
        let subscribed = self.registry.names(conn, kind).into_iter();
        let left = subscribed.filter(|name| names.iter().any(|left| left[..] == name[..]));
        self.tell_of_end(left.map(|name| (kind, name)).collect());
        self.confirm_ends(conn, kind, &names)
    }

    fn names_or_all(&self, conn: ConnId, kind: Kind, names: &[&[u8]]) -> Vec<Vec<u8>> {
        match names {
            [] => self.registry.names(conn, kind).iter().map(|name| name.to_vec()).collect(),
            names => names.iter().map(|name| name.to_vec()).collect(),
        }
    }

    /// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE: the names after the verb, or none for all.
    pub(super) fn unsubscribe(&mut self, conn: ConnId, kind: Kind, names: &[&[u8]]) {
        let names = self.names_or_all(conn, kind, names);
        let ending = names.iter().map(|name| (kind, Name::from(&name[..]))).collect();
        self.end_subscriptions(conn, ending, Farewell::Unsubscribe(kind, names));
    }

    /// RESET of a subscriber.
    pub(super) fn reset_subscriber(&mut self, conn: ConnId, _words: &[&[u8]]) {
        self.leave_multi(conn);
        let all = self.subscriptions_of(conn);
        self.end_subscriptions(conn, all, Farewell::Reset);
    }

    fn subscriptions_of(&self, conn: ConnId) -> Vec<(Kind, Name)> {
        let of_kind = |kind| self.registry.names(conn, kind).into_iter().map(move |n| (kind, n));
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }

    /// Ends those subscriptions among `topics` that `conn` has. The connection is held until it is told.
    fn end_subscriptions(&mut self, conn: ConnId, topics: Vec<(Kind, Name)>, farewell: Farewell) {
        let (me, shards) = (self.id(), self.engine.shards);
        let id = self.registry.begin_move(Stay::Ends, shards.iter().map(|_| false).collect());
        let mut changes = Vec::new();
        for (kind, name) in topics {
            if let Some(name) = self.registry.leave(conn, kind, &name, id) {
                let change = Change { kind, name, joined: false };
                self.engine.pubsub.note(me, &change);
                changes.push(change);
            }
        }
        if changes.is_empty() {
            self.registry.cancel_move(id);
            return self.say_farewell(conn, farewell);
        }
        self.awaited.insert(id, Awaited::Ended { conn, farewell });
        self.tell_others(Some(id), changes);
        // Behind the messages that this shard has counted it for and not delivered yet.
        self.take_noted(id, me);
    }

    fn tell_others(&mut self, id: Option<MoveId>, changes: Vec<Change>) {
        let (me, shards) = (self.id(), self.engine.shards);
        let changes: Arc<[Change]> = changes.into();
        for shard in shards.iter().filter(|shard| *shard != me) {
            let told = SubscriptionChanges { from: me, id, changes: Arc::clone(&changes) };
            self.send(shard.index(), Message::Subscriptions(Box::new(told)));
        }
    }

    /// Subscriptions of another shard began or ended.
    pub(super) fn on_subscriptions(&mut self, told: &SubscriptionChanges) {
        for change in told.changes.iter() {
            self.engine.pubsub.note(told.from, change);
        }
        if let Some(id) = told.id {
            self.send(told.from.index(), Message::Noted(id, self.id()));
        }
    }

    /// A shard has noted a move, and all messages that it sent before have been delivered.
    pub(super) fn on_noted(&mut self, id: MoveId, shard: ShardId) {
        if !self.registry.noted(id, shard) {
            return;
        }
        match self.awaited.remove(&id) {
            Some(Awaited::Begun { conn, place, confirmations }) => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.replies.fill(place, &confirmations);
                    self.after_fill(conn);
                }
            }
            Some(Awaited::Ended { conn, farewell }) => self.say_farewell(conn, farewell),
            // Nobody waits for it.
            None => {}
        }
    }

    fn say_farewell(&mut self, conn: ConnId, farewell: Farewell) {
        match farewell {
            Farewell::Reset => {
                for (kind, name) in self.subscriptions_of(conn) {
                    self.registry.remove(conn, kind, &name);
                }
                self.count_subscriptions(conn);
                let is_open = self.engine.config.requirepass.is_empty();
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.reset(is_open);
                }
                self.complete(conn, |_, reply| reply.simple("RESET"));
            }
            Farewell::Unsubscribe(kind, names) => {
                let confirmations = self.confirm_ends(conn, kind, &names);
                let Some(session) = self.sessions.get_mut(conn) else { return };
                end_skipping(session);
                session.push(&confirmations);
                session.hold = Hold::None;
                self.resumable.push_back(conn);
                self.touch(conn);
            }
        }
    }

    /// `conn` does not listen to these names any more: the confirmations.
    fn confirm_ends(&mut self, conn: ConnId, kind: Kind, names: &[Vec<u8>]) -> Vec<u8> {
        let mut confirmations = Vec::new();
        let resp3 = self.sessions.get(conn).is_some_and(|session| session.resp3);
        let reply = &mut Reply::new(&mut confirmations, resp3);
        for name in names {
            self.registry.remove(conn, kind, name);
            let count = self.registry.counts(conn).confirmed(kind);
            confirm(reply, kind.unsubscribed(), Some(name), count);
        }
        if names.is_empty() {
            let count = self.registry.counts(conn).confirmed(kind);
            confirm(reply, kind.unsubscribed(), None, count);
        }
        self.count_subscriptions(conn);
        confirmations
    }

    /// `conn` is gone, or as good as; whether it had subscriptions, of whose end other shards are told.
    pub(super) fn forget_subscriber(&mut self, conn: ConnId) -> bool {
        let had_some = !self.subscriptions_of(conn).is_empty();
        let left = self.registry.forget(conn);
        self.tell_of_end(left);
        had_some
    }

    /// Subscriptions of this shard are over, and nobody waits until all have noted that.
    fn tell_of_end(&mut self, topics: Vec<(Kind, Name)>) {
        let me = self.id();
        let topics = topics.into_iter();
        let changes: Vec<Change> =
            topics.map(|(kind, name)| Change { kind, name, joined: false }).collect();
        if changes.is_empty() {
            return;
        }
        changes.iter().for_each(|change| self.engine.pubsub.note(me, change));
        self.tell_others(None, changes);
    }

    fn count_subscriptions(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.subscribed = self.registry.counts(conn);
        }
    }
}
