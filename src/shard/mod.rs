//! One data core without its sockets: sessions, keys, and the lanes to the other cores.
//!
//! A turn: input is parsed and run ([`input`]); what belongs to other shards goes into a batch for each
//! ([`batch`]) and crosses once ([`crossing`]); commands with keys on several shards become transactions
//! ([`transactions`]); commands that concern all shards are asked in parts ([`parts`]). What commands
//! publish goes out when they have run ([`aftermath`], [`fanout`]). Between turns, slices of background
//! work ([`background`]).
//!
//! Promise: everything here runs to completion and never waits; what is not done yet is an
//! operation with a ticket, and the connection is held until it is.

mod aftermath;
mod at_once;
mod background;
pub mod batch;
mod blocking;
mod busy;
pub mod clients;
mod cluster_calls;
mod connection;
mod courier;
mod crossing;
pub mod engine;
mod eviction;
mod fanout;
mod fed;
pub mod forwarding;
mod group;
mod input;
mod inspect;
pub mod job;
mod journal;
pub mod loading;
mod lost_slots;
pub mod message;
mod migrate;
mod multi;
mod output;
mod parts;
pub mod pause;
mod plain;
mod redirects;
pub mod refusal;
mod replication;
pub mod room;
mod saving;
mod script_calls;
mod script_commands;
mod script_run;
mod script_whole;
mod scripts;
mod server_commands;
mod service;
pub mod sessions;
mod slot_stats;
mod subscriptions;
mod transactions;
mod undo;
mod whole;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub use journal::EFFECT_BYTES_MAX;
pub use scripts::library_of;

use batch::Batch;
use engine::Engine;
use input::Scratch;
use message::{JobRequest, Message, Origin, PartRequest, Schedule, Ticket};
use sessions::Sessions;

use crate::clock;
use crate::config::Config;
use crate::journal::Stamp;
use crate::keyspace::DbKey;
use crate::lanes::Ports;
use crate::process::Process;
use crate::pubsub::{MoveId, Registry};
use crate::reactor::{Action, BufferPool, ConnId};
use crate::session::Hold;
use crate::shard_map::{ShardId, ShardMap};
use crate::transaction::{TxId, Waits, Watches};

/// What stands in a line of the lock table until it is its turn.
enum Waiting {
    /// A job for keys of this shard alone.
    Job(Box<JobRequest>),
    /// A transaction of another coordinator; or an offer, to whomever.
    Scheduled(Box<Schedule>),
    /// A client that waits, and is to be served from this key.
    Serve(DbKey),
    /// A transaction that this shard coordinates.
    Own,
    /// A part that needs some or all keys to be at home.
    Part(Box<PartRequest>),
}

/// See the module.
pub struct Shard {
    engine: Engine,
    sessions: Sessions,
    ports: Ports<Message>,
    process: Arc<Process>,
    actions: Vec<Action>,
    buffers: BufferPool,
    /// Connections with something to send or to decide at the end of the turn.
    touched: Vec<ConnId>,
    /// Connections that wait for room in a lane.
    slowed: Vec<ConnId>,
    /// Connections that wait for the end of a pause.
    paused: Vec<ConnId>,
    /// Connections whose replies wait for the disk.
    gated: Vec<ConnId>,
    /// Connections whose replies need not wait any more, and that may run on.
    ungated: Vec<ConnId>,
    /// Replies wait for the disk (`appendfsync always`).
    awaits_disk: bool,
    /// All effects up to this stamp are on the disk.
    durable: Stamp,
    /// Effects that are stamped and have not left.
    outbox: journal::Outbox,
    /// Connections whose held input may go on.
    resumable: VecDeque<ConnId>,
    /// What is under way to each shard and from it.
    crossings: Vec<crossing::Crossing>,
    #[allow(clippy::vec_box)] // a batch crosses the lanes in its box, and comes back in it
    spare_batches: Vec<Box<Batch>>,
    waiting: HashMap<TxId, Waiting, ahash::RandomState>,
    operations: HashMap<Ticket, parts::Operation, ahash::RandomState>,
    transactions: HashMap<TxId, transactions::Transaction, ahash::RandomState>,
    /// Blocks that run while all shards stand still.
    runs: HashMap<ConnId, whole::WholeRun, ahash::RandomState>,
    /// Scripts: their Lua, and the one that runs.
    scripts: scripts::Scripts,
    /// Who watches keys of this shard.
    watches: Watches,
    /// Who waits for keys of this shard.
    waits: Waits<blocking::Waiter>,
    /// Clients of this shard that wait for keys of several.
    blocked: HashMap<TxId, blocking::Blocked, ahash::RandomState>,
    /// When those who wait and are answered by this shard wait no more, unix ms.
    deadlines: BTreeSet<(i64, TxId)>,
    /// A command is at work on keys of other shards.
    borrowing: bool,
    /// Transactions of other shards that hold keys here.
    lent: HashMap<TxId, Box<Schedule>, ahash::RandomState>,
    /// Those that hold all they want since somebody else left, and have not gone on yet.
    granted: VecDeque<TxId>,
    /// Somebody is at work on `granted`.
    granting: bool,
    /// Transactions of this shard's for whose keys somebody waits on another shard.
    waited_for: HashSet<TxId>,
    /// What the transaction changed, on all shards, of which this shard does now what follows; in order.
    order: Vec<DbKey>,
    /// The subscriptions of the sessions that live here.
    registry: Registry,
    /// Who is told when all shards have noted a change of subscriptions.
    awaited: HashMap<MoveId, subscriptions::Awaited, ahash::RandomState>,
    /// Connections that have said ASKING and no command yet that it is for.
    askers: Vec<ConnId>,
    /// Some have, or what slots cost is counted: no command is simply let through.
    looks_closely: bool,
    /// Slots whose keys are to go.
    lost_slots: lost_slots::LostSlots,
    /// Who carries keys to other servers.
    couriers: migrate::Couriers,
    /// Links to other nodes, which run what is theirs for clients of this one.
    forwarding: forwarding::Forwarding,
    /// What waits for the subscribers here, in order.
    incoming: VecDeque<fanout::Incoming>,
    /// Turns in a row in which subscribers got messages that were not sent.
    held_turns: u32,
    /// Those subscribers, within [`Shard::settle_touched`].
    held: Vec<ConnId>,
    /// Deliveries that this turn may still make.
    deliveries_left: usize,
    /// Kept for its allocation.
    receivers: Vec<ConnId>,
    next_ticket: u64,
    scratch: Scratch,
    background: background::Background,
    room: room::RoomSearch,
    /// Its part of a snapshot.
    saving: saving::Saving,
    /// Its part of a file that is loaded.
    loading: loading::Loading,
    slow_readers: output::SlowReaders,
    /// The time was taken for this turn.
    turn_open: bool,
    /// Turns until the control core is told that closed connections were looked for.
    looking_for_closed: u8,
    /// This turn adopts a connection, which is opened when the turn is over.
    adopting: bool,
    stopping: bool,
}

impl Shard {
    /// An empty shard at the end of its lanes; `seed` for everything that it draws at random.
    pub fn new(
        id: ShardId,
        shards: ShardMap,
        config: Arc<Config>,
        process: Arc<Process>,
        ports: Ports<Message>,
        seed: u64,
    ) -> Self {
        let mut shard = Self {
            engine: Engine::new(id, shards, config, Arc::clone(&process), seed),
            sessions: Sessions::default(),
            crossings: (0..shards.len()).map(|_| crossing::Crossing::default()).collect(),
            askers: Vec::new(),
            looks_closely: false,
            lost_slots: lost_slots::LostSlots::default(),
            couriers: migrate::Couriers::new(Arc::clone(&ports.doorbells[id.index()])),
            ports,
            process,
            actions: Vec::new(),
            buffers: BufferPool::default(),
            touched: Vec::new(),
            slowed: Vec::new(),
            paused: Vec::new(),
            gated: Vec::new(),
            ungated: Vec::new(),
            awaits_disk: false,
            durable: Stamp::default(),
            outbox: journal::Outbox::default(),
            resumable: VecDeque::new(),
            spare_batches: Vec::new(),
            waiting: HashMap::default(),
            operations: HashMap::default(),
            transactions: HashMap::default(),
            runs: HashMap::default(),
            scripts: scripts::Scripts::default(),
            watches: Watches::default(),
            waits: Waits::default(),
            blocked: HashMap::default(),
            deadlines: BTreeSet::new(),
            borrowing: false,
            lent: HashMap::default(),
            granted: VecDeque::new(),
            granting: false,
            waited_for: HashSet::new(),
            order: Vec::new(),
            registry: Registry::default(),
            awaited: HashMap::default(),
            forwarding: forwarding::Forwarding::default(),
            incoming: VecDeque::new(),
            held_turns: 0,
            held: Vec::new(),
            deliveries_left: fanout::DELIVERIES_PER_TURN,
            receivers: Vec::new(),
            next_ticket: 0,
            scratch: Scratch::default(),
            background: background::Background::default(),
            room: room::RoomSearch::default(),
            saving: saving::Saving::default(),
            loading: loading::Loading::default(),
            slow_readers: output::SlowReaders::default(),
            turn_open: false,
            looking_for_closed: 0,
            adopting: false,
            stopping: false,
        };
        shard.journal_settings_changed();
        shard.settle_looking();
        shard
    }

    fn id(&self) -> ShardId {
        self.engine.id
    }

    fn control_core(&self) -> usize {
        self.engine.shards.len()
    }

    fn send(&mut self, core: usize, message: Message) {
        if self.engine.journal.has_parcel() {
            // Whoever gets the message may depend on what was done here.
            self.stamp_parcel();
        }
        if core == self.control_core() {
            self.send_parcels();
        }
        self.ports.to[core].send(message);
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Takes the time, once a turn.
    fn open_turn(&mut self) {
        if !self.turn_open {
            self.turn_open = true;
            if self.scripts.running.is_none() {
                // For a script, time stands still.
                self.engine.keyspace.set_now(clock::unix_ms());
                self.look_at_lease();
            }
            self.engine.start_timing();
            let now_ms = self.engine.keyspace.now_ms();
            self.engine.stats.sample_rates(now_ms);
            if self.scripts.running.is_none() {
                self.refresh_room();
            }
        }
    }

    /// Notes that the end of the turn has to look at `conn`.
    fn touch(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.touched
        {
            session.touched = true;
            self.touched.push(conn);
        }
    }

    /// The reply at `origin` is made: delivers it, here or to the home shard.
    fn deliver(&mut self, origin: Origin, reply: Vec<u8>) {
        // Who has the reply may count on the messages being under way.
        self.send_what_is_published();
        if origin.shard != self.id() {
            self.send(origin.shard.index(), Message::LateReply(Box::new((origin, reply))));
            return;
        }
        if let Some(session) = self.sessions.get_mut(origin.conn) {
            session.replies.fill(origin.place, &reply);
            self.after_fill(origin.conn);
        }
    }

    /// A reply came in for `conn`: what waited for it may go on.
    fn after_fill(&mut self, conn: ConnId) {
        self.touch(conn);
        if let Some(session) = self.sessions.get_mut(conn)
            && (matches!(session.hold, Hold::Drain | Hold::Blocked) || session.settles)
            && session.replies.is_clear()
        {
            session.settles = false;
            if matches!(session.hold, Hold::Drain | Hold::Blocked) {
                session.hold = Hold::None;
                session.blocked = None;
            }
            // Who has waited was not idle, and its reply is yet to be sent.
            session.active_ms = self.engine.keyspace.now_ms();
            self.resumable.push_back(conn);
        }
    }

    /// An operation of `conn` is over: `write` appends its reply, and its input goes on.
    fn complete(
        &mut self,
        conn: ConnId,
        write: impl FnOnce(&mut Engine, &mut crate::resp::Reply<'_>),
    ) {
        if self.scripts.awaited.as_ref().is_some_and(|awaited| awaited.conn == conn) {
            return self.answer_parts_to_script(conn, write);
        }
        if let Some(run) = self.runs.get_mut(&conn) {
            // It was a command of a block.
            let resp3 = self.sessions.get(conn).is_some_and(|session| session.resp3);
            write(&mut self.engine, &mut crate::resp::Reply::new(&mut run.out, resp3));
            return self.advance(conn);
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let resp3 = session.resp3;
        let out = session.replies.local();
        let before = out.len();
        write(&mut self.engine, &mut crate::resp::Reply::new(out, resp3));
        let before = self.send_before_reply(conn, before);
        self.apply_reply_mode(conn, before);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.hold = Hold::None;
            self.resumable.push_back(conn);
        }
        self.touch(conn);
    }
}
