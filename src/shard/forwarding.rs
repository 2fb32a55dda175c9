//! `cluster-proxy yes`: the commands that a client would be sent to another node with are sent there for it.
//!
//! [`crate::cluster::forwarding`] is a link without its socket; here are the sockets, and who waits for what. The shard
//! of the connection keeps a link to each node (and port) that it forwards to, one for each protocol, and all its
//! clients share it. A forwarded command has a place among the replies of its connection as one has that is at work
//! on another shard, and later commands go on meanwhile.
//!
//! What is forwarded: commands with keys, scripts and SPUBLISH; a block if all of it is, and nothing is watched. A command
//! that may wait for its keys has a link of its own, which ends with its client, and all else of its connection waits. A
//! client that has to be sent away for anything else hears MOVED as ever: WATCH, SSUBSCRIBE, MIGRATE.
//!
//! The order of a connection's commands is that of the links as long as the map of slots is the same. When it changes,
//! the connection's next command waits for all that is under way ([`Session::settles`](crate::session::Session)).
//! A command that was let through by the old map and is refused where its keys were comes back as a [`Stray`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shard;
use super::input::Next;
use super::job::Job;
use super::message::{Message, Origin};
use super::redirects::is_exec;
use crate::cluster::forwarding::{Fate, Link, LinkError, Login, Redirection, Request};
use crate::command::{
    Command, CommandError, CommandId, CommandTable, Run, ScriptBy, ScriptCommand,
};
use crate::reactor::ConnId;
use crate::reactor::sockets::{SocketId, Sockets};
use crate::resp::Reply;
use crate::scripting::{Digest, Store};
use crate::session::{Block, Hold, Pass, Place};

/// Clients' connections have tokens below this, links above.
pub(super) const LINK_TOKENS_FROM: u64 = 1 << 63;
/// Answers that one client may be owed by other nodes: what they may make for it while it does not read.
const FORWARDED_MAX: u32 = 256;
/// How often links are looked at.
const LINKS_PERIOD: Duration = Duration::from_secs(1);
/// How long a client keeps a link of its own that it does not use.
const SOLE_LINK_IDLE: Duration = Duration::from_secs(10);

/// A command, or a block, that was let through to the shard of its keys and has to go elsewhere after all.
pub struct Stray {
    pub(super) origin: Origin,
    pub(super) job: Job,
    pub(super) error: CommandError,
}

/// Which link a request takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Way {
    to: SocketAddr,
    resp3: bool,
    /// The client that it is for alone.
    sole: Option<ConnId>,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
struct Due {
    conn: ConnId,
    place: Place,
    way: Way,
}

struct Open {
    way: Way,
    link: Link<Due>,
    opened: Instant,
    /// When it was last seen with something to do.
    used: Instant,
    /// Since when there is no node at its end that has slots.
    adrift: Option<Instant>,
}

/// See the module.
pub(super) struct Forwarding {
    sockets: Sockets<()>,
    links: HashMap<SocketId, Open, ahash::RandomState>,
    by_way: HashMap<Way, SocketId, ahash::RandomState>,
    /// Links that may have something to say.
    spoken: Vec<SocketId>,
    /// Connections that wait for room in a link.
    waiting: Vec<ConnId>,
    looked: Option<Instant>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            sockets: Sockets::numbered_from(LINK_TOKENS_FROM),
            links: HashMap::default(),
            by_way: HashMap::default(),
            spoken: Vec::new(),
            waiting: Vec::new(),
            looked: None,
        }
    }
}

impl Forwarding {
    /// When links are to be looked at.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let looked = self.looked.map_or(now, |looked| looked + LINKS_PERIOD);
        (!self.links.is_empty()).then_some(looked)
    }
}

/// Whether another node can run a command for a client of this one.
fn is_forwardable(command: &Command) -> bool {
    matches!(command.run, Run::Data(_) | Run::Publish(_) | Run::Script(_) | Run::Blocking(_))
}

fn is_blocking(command: &Command) -> bool {
    matches!(command.run, Run::Blocking(_))
}

fn is_block_forwardable(block: &Block) -> bool {
    let table = CommandTable::get();
    block.watcher.is_none()
        && block.commands.iter().all(|queued| is_forwardable(table.command(queued.id)))
}

/// The text of the script that a command names by its digest, if this node knows it. It is sent instead: SCRIPT LOAD
/// reaches the node that is asked, and a client that does not know of the others cannot load it there.
fn text_named(scripts: &Store, id: CommandId, words: &[&[u8]]) -> Option<Arc<[u8]>> {
    match CommandTable::get().command(id).run {
        Run::Script(ScriptCommand { by: ScriptBy::Digest, .. }) => {
            scripts.script(Digest::parse(words[1])?)
        }
        _ => None,
    }
}

/// The command as it is sent, see [`text_named`].
fn spelled_out<'w>(
    id: CommandId,
    mut words: Vec<&'w [u8]>,
    text: Option<&'w [u8]>,
) -> Vec<&'w [u8]> {
    if let (Some(text), Run::Script(script)) = (text, CommandTable::get().command(id).run) {
        words[0] = if script.read_only { b"EVAL_RO" } else { b"EVAL" };
        words[1] = text;
    }
    words
}

fn request_for_command(
    scripts: &Store,
    id: CommandId,
    words: Vec<&[u8]>,
    due: Due,
) -> Request<Due> {
    let text = text_named(scripts, id, &words);
    Request::command(&spelled_out(id, words, text.as_deref()), due)
}

fn request_for_block(scripts: &Store, block: &Block, due: Due) -> Request<Due> {
    let mut first = 0;
    let mut commands = Vec::with_capacity(block.commands.len());
    for queued in &block.commands {
        let words = block.words(first, queued.arg_count as usize);
        first += queued.arg_count as usize;
        let text = text_named(scripts, queued.id, &words);
        commands.push((queued.id, words, text));
    }
    let spelled =
        commands.iter().map(|(id, words, text)| spelled_out(*id, words.clone(), text.as_deref()));
    Request::block(spelled, due)
}

fn unsent(to: SocketAddr) -> CommandError {
    CommandError::owned(format!("CLUSTERDOWN The node at {to} cannot be reached"))
}

fn refused(to: SocketAddr, why: &str) -> CommandError {
    CommandError::owned(format!("CLUSTERDOWN The node at {to} does not let this one in: {why}"))
}

fn unanswered(to: SocketAddr) -> CommandError {
    CommandError::owned(format!(
        "ERR The connection to the node at {to} was lost before it answered, the command may have been executed"
    ))
}

impl Shard {
    // ---- what a client says ----

    /// Forwards a command, or queues it for a block that may be forwarded; `None` if its client has to go elsewhere
    /// itself, as `error` says.
    #[cold]
    pub(super) fn forward(
        &mut self,
        conn: ConnId,
        id: CommandId,
        words: &[&[u8]],
        error: &CommandError,
    ) -> Option<Next> {
        let session = self.sessions.get(conn)?;
        let resp3 = session.resp3;
        let hears_messages_only = session.subscribed.any() && !resp3;
        if !self.engine.config.cluster_proxy || session.is_forwarder || hears_messages_only {
            return None;
        }
        let command = CommandTable::get().command(id);
        let text = error.to_string();
        let to = Redirection::parse(&text)?;
        let address = self.engine.territory.as_ref()?.address_of(&to)?;
        let is_block = match &session.multi {
            Some(multi) => {
                let is_free = is_exec(command) && session.watching.is_empty();
                (is_free && is_block_forwardable(&multi.block)).then_some(true)?
            }
            None => is_forwardable(command).then_some(false)?,
        };
        let waits = !is_block && is_blocking(command);
        let way = Way { to: address, resp3, sole: waits.then_some(conn) };
        if let Some(hold) = self.obstacle(conn, &way) {
            let session = self.sessions.get_mut(conn)?;
            session.hold = hold;
            return Some(Next::NotYet);
        }
        let origin = self.owe_reply(conn)?;
        let due = Due { conn, place: origin.place, way };
        let session = self.sessions.get_mut(conn)?;
        session.commands += 1;
        session.last_command = Some(id);
        session.forwarded += 1;
        let mut request = match session.multi.as_ref().filter(|_| is_block) {
            Some(multi) => request_for_block(&self.process.scripts, &multi.block, due),
            None => request_for_command(&self.process.scripts, id, words.to_vec(), due),
        };
        if waits {
            session.hold = Hold::Blocked;
        }
        if is_block {
            self.leave_multi(conn);
        }
        request.follow(&to);
        self.send_by(way, request);
        Some(self.after_forwarding(conn))
    }

    /// Whether a command that this node does not run is queued nevertheless, because its block may be forwarded; or is
    /// EXEC of a block that will not run anywhere.
    pub(super) fn stays_for_now(
        &self,
        conn: ConnId,
        command: &Command,
        error: &CommandError,
    ) -> bool {
        let Some(session) = self.sessions.get(conn) else { return false };
        let stays = session.multi.as_ref().is_some_and(|multi| match is_exec(command) {
            true => multi.spoiled,
            false => session.watching.is_empty() && is_forwardable(command),
        });
        stays
            && self.engine.config.cluster_proxy
            && !session.is_forwarder
            && Redirection::parse(&error.to_string()).is_some()
    }

    /// Why a command cannot be forwarded yet.
    fn obstacle(&mut self, conn: ConnId, way: &Way) -> Option<Hold> {
        let session = self.sessions.get(conn)?;
        let is_clear = session.replies.is_clear();
        if session.forwarded >= FORWARDED_MAX || (way.sole.is_some() && !is_clear) {
            return Some(Hold::Drain);
        }
        let id = self.forwarding.by_way.get(way)?;
        if !self.forwarding.links.get(id)?.link.is_full() {
            return None;
        }
        self.forwarding.waiting.push(conn);
        Some(Hold::FullLink)
    }

    fn after_forwarding(&mut self, conn: ConnId) -> Next {
        match self.sessions.get(conn) {
            Some(session) if session.hold == Hold::Blocked && session.input_ended => {
                self.cut(conn);
                Next::Stop
            }
            Some(session) if session.may_run() => Next::Done,
            _ => Next::Stop,
        }
    }

    // ---- what was let through and has to go elsewhere ----

    /// Whether what was let through like this goes to another node if that is what `error` says.
    pub(super) fn forwards_strays(&self, pass: &Pass, error: &CommandError) -> bool {
        self.engine.config.cluster_proxy
            && pass.forwards
            && Redirection::parse(&error.to_string()).is_some()
    }

    /// Whether this job goes to another node if that is what `error` says.
    pub(super) fn forwards_job(&self, job: &Job, error: &CommandError) -> bool {
        let is_forwardable = match job {
            Job::Command(command) => is_forwardable(CommandTable::get().command(command.id)),
            Job::Block(block) => is_block_forwardable(block),
        };
        is_forwardable && self.forwards_strays(&job.pass(), error)
    }

    /// Tells the shard of the connection that a job has to go to another node.
    pub(super) fn send_stray(&mut self, stray: Stray) {
        let home = stray.origin.shard;
        if home == self.id() {
            self.on_stray(stray);
        } else {
            self.send(home.index(), Message::Stray(Box::new(stray)));
        }
    }

    /// A job of a connection of this shard has to go to another node; its reply has a place.
    pub(super) fn on_stray(&mut self, stray: Stray) {
        let Stray { origin: Origin { conn, place, .. }, job, error } = stray;
        let text = error.to_string();
        let to = Redirection::parse(&text);
        let territory = self.engine.territory.as_ref();
        let Some((to, address)) = to.and_then(|to| Some((to, territory?.address_of(&to)?))) else {
            return self.deliver_error(stray.origin, &error);
        };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.forwarded += 1;
        session.blocked = None;
        let (sole, resp3) = match &job {
            Job::Command(command) => {
                let waits = is_blocking(CommandTable::get().command(command.id));
                (waits.then_some(conn), command.resp3)
            }
            Job::Block(block) => (None, block.resp3),
        };
        let way = Way { to: address, resp3, sole };
        let due = Due { conn, place, way };
        let mut request = match &job {
            Job::Command(command) => {
                let words: Vec<&[u8]> = command.args.iter().map(Vec::as_slice).collect();
                request_for_command(&self.process.scripts, command.id, words, due)
            }
            Job::Block(block) => request_for_block(&self.process.scripts, block, due),
        };
        request.follow(&to);
        self.send_by(way, request);
    }

    fn deliver_error(&mut self, origin: Origin, error: &CommandError) {
        self.engine.count_error(error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, false).error(error);
        self.deliver(origin, reply);
    }

    /// The map of slots is another one: what is under way by the old one ends before anything goes by the new one.
    pub(super) fn settle_sessions(&mut self) {
        if self.engine.config.cluster_proxy {
            for session in self.sessions.iter_mut() {
                session.settles |= !session.replies.is_clear() && session.fed.is_none();
            }
        }
    }

    // ---- links ----

    fn send_by(&mut self, way: Way, request: Request<Due>) {
        let known = self.forwarding.by_way.get(&way).copied();
        let Some(id) = known.or_else(|| self.open_link(way)) else {
            return self.take_error(&request.due, &unsent(way.to));
        };
        if let Some(open) = self.forwarding.links.get_mut(&id) {
            open.link.send(request);
            self.forwarding.spoken.push(id);
        }
    }

    fn open_link(&mut self, way: Way) -> Option<SocketId> {
        let config = &self.engine.config;
        let source = config.bind_source_addr.parse().ok();
        let sockets = &mut self.forwarding.sockets;
        let connected = sockets.connect(way.to, source, (), &mut self.actions);
        let id = connected
            .inspect_err(|error| tracing::debug!(to = %way.to, %error, "cannot connect"))
            .ok()?;
        let link = Link::new(&Login {
            resp3: way.resp3,
            user: config.masteruser.as_bytes(),
            password: &config.masterauth,
        });
        let now = Instant::now();
        let open = Open { way, link, opened: now, used: now, adrift: None };
        self.forwarding.links.insert(id, open);
        self.forwarding.by_way.insert(way, id);
        Some(id)
    }

    /// Hands to the sockets what links have to say. To be called when no more of this turn can follow.
    pub(super) fn flush_links(&mut self) {
        let Forwarding { spoken, links, sockets, .. } = &mut self.forwarding;
        for id in spoken.drain(..) {
            let Some(open) = links.get_mut(&id) else { continue };
            let output = open.link.take_output();
            if !output.is_empty() {
                sockets.write(id, &output, &mut self.actions);
            }
        }
    }

    /// A connection is a link.
    pub(super) fn link_opened(&mut self, conn: ConnId, token: u64) {
        self.forwarding.sockets.opened(conn, token, &mut self.actions);
    }

    /// What a link has to send.
    pub(super) fn take_link_output(&mut self, conn: ConnId) -> Vec<u8> {
        match self.forwarding.sockets.owner(conn) {
            Some((id, ())) => self.forwarding.sockets.take_output(id),
            None => Vec::new(),
        }
    }

    /// A link has sent something, and may have more.
    pub(super) fn link_sent(&mut self, conn: ConnId) {
        if let Some((id, ())) = self.forwarding.sockets.owner(conn) {
            self.forwarding.sockets.wake(id, &mut self.actions);
        }
    }

    /// Bytes came from another node.
    pub(super) fn link_received(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some((id, ())) = self.forwarding.sockets.owner(conn) else { return };
        let Some(mut open) = self.forwarding.links.remove(&id) else { return };
        let mut elsewhere = Vec::new();
        let result = open.link.received(bytes, |request, reply| {
            if Redirection::of_reply(reply).is_some() {
                elsewhere.push((request, reply.to_vec()));
            } else {
                self.take_answer(&request.due, reply);
            }
        });
        self.forwarding.links.insert(id, open);
        self.forwarding.spoken.push(id);
        for (request, reply) in elsewhere {
            self.follow(request, &reply);
        }
        if let Err(error) = result {
            self.forwarding.sockets.close(id, &mut self.actions);
            self.link_lost(id, Some(&error));
        }
        self.end_waiting_for_links();
    }

    /// The node has not run the request, and says where it belongs.
    fn follow(&mut self, mut request: Request<Due>, reply: &[u8]) {
        let Due { conn, way, .. } = request.due;
        if self.sessions.get(conn).is_none() {
            // Nobody wants it any more.
            return;
        }
        let territory = self.engine.territory.as_ref();
        let address = Redirection::of_reply(reply).and_then(|to| {
            let address = territory?.address_of(&to)?;
            request.follow(&to).then_some(address)
        });
        match address {
            Some(to) => {
                request.due.way.to = to;
                self.send_by(Way { to, ..way }, request);
            }
            None => self.take_answer(&request.due, reply),
        }
    }

    fn take_answer(&mut self, due: &Due, reply: &[u8]) {
        let Some(session) = self.sessions.get_mut(due.conn) else { return };
        session.forwarded -= 1;
        session.replies.lend(|| self.buffers.take());
        session.replies.fill(due.place, reply);
        self.after_fill(due.conn);
    }

    fn take_error(&mut self, due: &Due, error: &CommandError) {
        self.engine.count_error(error);
        let mut reply = Vec::new();
        Reply::new(&mut reply, due.way.resp3).error(error);
        self.take_answer(due, &reply);
    }

    /// A connection that no client has is gone: if it was a link, whoever waits for answers hears that none will come.
    pub(super) fn link_closed(&mut self, conn: ConnId) {
        if let Some((id, ())) = self.forwarding.sockets.closed(conn) {
            self.link_lost(id, None);
            self.end_waiting_for_links();
        }
    }

    fn link_lost(&mut self, id: SocketId, why: Option<&LinkError>) {
        let Some(Open { way, link, .. }) = self.forwarding.links.remove(&id) else { return };
        self.forwarding.by_way.remove(&way);
        if let Some(why) = why {
            tracing::warn!(to = %way.to, ?why, "A link to another node is closed");
        }
        for (request, fate) in link.lose() {
            let error = match (fate, why) {
                (Fate::Unanswered, _) => unanswered(way.to),
                (Fate::Unsent, Some(LinkError::Refused(text))) => refused(way.to, text),
                (Fate::Unsent, _) => unsent(way.to),
            };
            self.take_error(&request.due, &error);
        }
    }

    /// Whoever waits for room in a link looks again.
    fn end_waiting_for_links(&mut self) {
        for conn in std::mem::take(&mut self.forwarding.waiting) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.hold == Hold::FullLink
            {
                session.hold = Hold::None;
                self.resumable.push_back(conn);
            }
        }
    }

    /// A client is gone, or as good as, and so are the links that it had for itself: what it waited for at other
    /// nodes must not happen any more.
    pub(super) fn close_sole_links(&mut self, conn: ConnId) {
        if self.forwarding.links.is_empty() {
            return;
        }
        let is_its = |(id, open): (&SocketId, &Open)| (open.way.sole == Some(conn)).then_some(*id);
        let theirs: Vec<SocketId> = self.forwarding.links.iter().filter_map(is_its).collect();
        for id in theirs {
            self.forwarding.sockets.close(id, &mut self.actions);
            if let Some(open) = self.forwarding.links.remove(&id) {
                self.forwarding.by_way.remove(&open.way);
            }
        }
    }

    /// Gives up links that cannot be made, that lead nowhere any more, or that nobody needs.
    pub(super) fn look_at_links(&mut self, now: Instant) {
        if self.forwarding.deadline(now).is_none_or(|at| at > now) {
            return;
        }
        self.forwarding.looked = Some(now);
        let patience = Duration::from_millis(self.engine.config.cluster_node_timeout);
        let territory = self.engine.territory.as_ref();
        let mut given_up = Vec::new();
        for (id, open) in &mut self.forwarding.links {
            let has_node = territory.is_some_and(|territory| territory.has_node_at(open.way.to));
            let adrift = (!has_node).then(|| *open.adrift.get_or_insert(now));
            open.adrift = adrift;
            let is_idle = open.link.is_idle();
            if !is_idle {
                open.used = now;
            }
            let is_late = !open.link.is_in() && now - open.opened > patience;
            let is_left = adrift.is_some_and(|since| is_idle || now - since > patience);
            let is_spare = open.way.sole.is_some() && now - open.used > SOLE_LINK_IDLE;
            if is_late || is_left || is_spare {
                given_up.push(*id);
            }
        }
        for id in given_up {
            self.forwarding.sockets.close(id, &mut self.actions);
            self.link_lost(id, None);
        }
        self.end_waiting_for_links();
    }
}
