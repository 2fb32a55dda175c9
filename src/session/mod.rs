//! One connection: what it sent, what it is owed, and who it is.
//!
//! Nothing here knows a socket or a shard: bytes come in through [`Session::parser`] and
//! [`Session::query`], and leave through [`Session::replies`].

pub mod multi;
pub mod replies;

pub use multi::{Block, Multi, SlotsNamed, Spread};
pub use replies::{Place, ReplyQueue};

use crate::cluster::slot_moves::MoveName;
use crate::command::CommandId;
use crate::config::values::{BufferLimits, BufferLimitsByClass};
use crate::journal::Stamp;
use crate::pubsub::Counts;
use crate::replication::master::Profile;
use crate::resp::Parser;
use crate::shard_map::ShardId;
use crate::transaction::TxId;

/// See [`Session::limited_output_bytes`] (Redis 7.0 `server.h`, PROTO_REPLY_CHUNK_BYTES).
const UNCOUNTED_OUTPUT_BYTES: usize = 16 * 1024;

/// Unsent output of a connection, in bytes, from which on its commands wait: more than the sockets of a client
/// on a fast network hold, so that one that reads never waits.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a connection's further commands have to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hold {
    /// They have not.
    #[default]
    None,
    /// The next command waits for the replies of all earlier ones: it has a wide effect, or they have.
    Drain,
    /// A command waits for keys ([`Session::blocked`]) or is on its way to do so.
    Blocked,
    /// A command is at work on several shards or cores.
    Operation,
    /// Memory is full, and the other shards are asked whether they can make room.
    Room,
    /// Clients are paused.
    Paused,
    /// It has much output that it does not read.
    Output,
    /// Its replies wait until what was written is on the disk.
    Disk,
    /// A lane from this core is full: what it feeds waits until there is room again.
    FullLane,
    /// Another node owes answers to much that was forwarded to it.
    FullLink,
}

/// Which replies a client wants (CLIENT REPLY).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not the next command's.
    SkipNext,
}

/// Where a client connects from, as CLIENT LIST shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `addr=`: the client's address, or the path of the unix socket.
    pub remote: String,
    /// `laddr=`: our address.
    pub local: String,
    /// Whether it came through the unix socket.
    pub unix: bool,
}

impl Endpoint {
    /// Whether the client is on this host: through the unix socket or the loopback.
    pub fn is_local(&self) -> bool {
        let loopback = |address: std::net::SocketAddr| address.ip().to_canonical().is_loopback();
        self.unix || self.remote.parse().is_ok_and(loopback)
    }
}

/// Of a session that the control core feeds.
#[derive(Default)]
pub struct FedState {
    /// It has a chunk of commands that has not been reported as run.
    pub owes_report: bool,
    /// Replies that nobody has looked at.
    pub unread: Vec<u8>,
    /// The first error among those of the chunk.
    pub first_error: Option<Vec<u8>>,
}

/// Of a session that brings slots of another node to here (CLUSTER SYNCSLOTS).
pub struct Bringing {
    /// The name of the move.
    pub name: MoveName,
    /// This node has agreed.
    pub is_agreed: bool,
}

/// On what terms a command was let through to the keys of this node. It goes with the command wherever that
/// goes, for who runs it later has to ask again if the map of slots is another one by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pass {
    /// Which map of slots was asked; 0 without cluster mode.
    pub version: u32,
    /// The client has said ASKING.
    pub asking: bool,
    /// The client has said READONLY.
    pub readonly: bool,
    /// The client brings slots of another node to here.
    pub brings: bool,
    /// It was let through as far as that can be said without looking for its keys.
    pub looks: bool,
    /// It may be forwarded to another node: its client did not itself forward it.
    pub forwards: bool,
    /// Nobody asks: it comes from where the data comes from.
    pub is_exempt: bool,
}

impl Pass {
    /// Whether nothing has to be asked again where the map has this version.
    #[inline]
    pub fn holds(&self, version: u32) -> bool {
        self.version == version && !self.looks
    }
}

/// See the module.
pub struct Session {
    /// The number that CLIENT ID shows: unique in the process, greater for later connections.
    pub id: u64,
    /// Where it connects from.
    pub endpoint: Endpoint,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO lib-name.
    pub library_name: Vec<u8>,
    /// CLIENT SETINFO lib-ver.
    pub library_version: Vec<u8>,
    /// The selected database.
    pub db: usize,
    /// Whether it speaks RESP3.
    pub resp3: bool,
    /// Whether it may run commands that need authentication.
    pub authenticated: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// ASKING: its next command, or block, may use slots that are on their way to here.
    pub asking: bool,
    /// READONLY: it reads from a replica.
    pub readonly: bool,
    /// Its command is let through, but who owns the keys has to look whether they are there.
    pub looks: bool,
    /// So many keys of its next command are there, as their owner has said.
    pub keys_found: Option<u64>,
    /// How many subscriptions it has.
    pub subscribed: Counts,
    /// Which replies it wants.
    pub reply_mode: ReplyMode,
    /// Where the parser stands in the command that begins `query`, or in the next input.
    pub parser: Parser,
    /// Input that is not run yet.
    pub query: Vec<u8>,
    /// What it is owed.
    pub replies: ReplyQueue,
    /// Why its next commands wait.
    pub hold: Hold,
    /// Unsent output from which on they wait.
    pub output_max: usize,
    /// It has more than that, or had and has not taken it.
    pub reads_slowly: bool,
    /// For that reason some of its commands are kept that came back from another shard without having run.
    pub has_returned: bool,
    /// What comes from it is forwarded by another node, and is not forwarded again.
    pub is_forwarder: bool,
    /// Its commands that other nodes owe answers to.
    pub forwarded: u32,
    /// The map of slots has changed since its last commands were sent to where their keys are: the next one waits until
    /// all of them are answered, for it may go another way and overtake them.
    pub settles: bool,
    /// Its commands that are batched for other shards or came back from there, and have not been handled.
    pub abroad: u32,
    /// Nothing more is run; it is closed as soon as its replies are out.
    pub closing: bool,
    /// The peer sends no more.
    pub input_ended: bool,
    /// Reading is stopped because too much input waits.
    pub paused: bool,
    /// It is in the list of sessions that the end of the turn looks at.
    pub touched: bool,
    /// Its output may be sent when all effects up to this stamp are on the disk.
    pub gate: Option<Stamp>,
    /// It brings slots of another node to here, or wants to.
    pub brings: Option<Box<Bringing>>,
    /// It has no socket: the control core feeds it.
    pub fed: Option<Box<FedState>>,
    /// What it has said about itself by REPLCONF.
    pub replica: Option<Box<Profile>>,
    /// It becomes a replica, and these are the words of its PSYNC or SYNC.
    pub leaves_as_replica: Option<Vec<Vec<u8>>>,
    /// Bytes that were handed to the kernel and are not sent yet.
    pub in_flight: usize,
    /// Since when, in unix ms, its output has been over the soft limit.
    pub over_soft_limit_since: Option<i64>,
    /// When it connected, unix ms.
    pub created_ms: i64,
    /// When it last sent or was sent something, unix ms.
    pub active_ms: i64,
    /// What it queues since MULTI.
    pub multi: Option<Box<Multi>>,
    /// The buffers of the last MULTI, for the next one.
    pub spare_multi: Option<Box<Multi>>,
    /// How many commands the block has that is being run.
    pub executing: Option<usize>,
    /// Shards on which it watches keys.
    pub watching: Vec<ShardId>,
    /// See [`crate::transaction::Watcher`].
    pub watch_round: u32,
    /// A watched key has changed: EXEC will do nothing.
    pub watch_broken: bool,
    /// The shard that answers its blocking command, and the number of that.
    pub blocked: Option<(ShardId, TxId)>,
    /// What it ran last.
    pub last_command: Option<CommandId>,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes of replies handed out for sending.
    pub sent_bytes: u64,
    /// Commands run.
    pub commands: u64,
}

impl Session {
    /// A fresh connection.
    pub fn new(id: u64, endpoint: Endpoint, now_ms: i64, authenticated: bool) -> Self {
        Self {
            id,
            endpoint,
            name: Vec::new(),
            library_name: Vec::new(),
            library_version: Vec::new(),
            db: 0,
            resp3: false,
            authenticated,
            no_evict: false,
            no_touch: false,
            asking: false,
            readonly: false,
            looks: false,
            keys_found: None,
            subscribed: Counts::default(),
            reply_mode: ReplyMode::On,
            parser: Parser::default(),
            query: Vec::new(),
            replies: ReplyQueue::default(),
            hold: Hold::None,
            output_max: OUTPUT_BYTES_MAX,
            reads_slowly: false,
            has_returned: false,
            is_forwarder: false,
            forwarded: 0,
            settles: false,
            abroad: 0,
            closing: false,
            input_ended: false,
            paused: false,
            touched: false,
            gate: None,
            brings: None,
            fed: None,
            replica: None,
            leaves_as_replica: None,
            in_flight: 0,
            over_soft_limit_since: None,
            created_ms: now_ms,
            active_ms: now_ms,
            multi: None,
            spare_multi: None,
            executing: None,
            watching: Vec::new(),
            watch_round: 0,
            watch_broken: false,
            blocked: None,
            last_command: None,
            received_bytes: 0,
            sent_bytes: 0,
            commands: 0,
        }
    }

    /// RESET: back to how a fresh connection is, but for its subscriptions, which others know of.
    pub fn reset(&mut self, authenticated: bool) {
        self.name.clear();
        self.db = 0;
        self.resp3 = false;
        self.authenticated = authenticated;
        self.no_evict = false;
        self.no_touch = false;
        self.asking = false;
        self.readonly = false;
        self.reply_mode = ReplyMode::On;
    }

    /// Appends a message out of turn, one or several, whatever replies the client wants. `message` is an
    /// array, which RESP3 calls a push.
    pub fn push(&mut self, message: &[u8]) {
        let out = self.replies.local();
        let before = out.len();
        out.extend_from_slice(message);
        if self.resp3
            && let Some(sigil) = out.get_mut(before)
        {
            *sigil = b'>';
        }
        self.replies.end_local(before);
    }

    /// On what terms its command goes on, with the map of this version.
    #[inline]
    pub fn pass(&self, version: u32) -> Pass {
        let is_exempt = self.fed.is_some();
        let brings = self.brings.as_ref().is_some_and(|brings| brings.is_agreed);
        let Self { asking, readonly, looks, .. } = *self;
        let forwards = !self.is_forwarder;
        Pass { version, asking, readonly, brings, looks, forwards, is_exempt }
    }

    /// Keeps a place for a reply that is made elsewhere or later.
    pub fn keep_place(&mut self) -> Place {
        let wanted = self.reply_mode == ReplyMode::On;
        if self.reply_mode == ReplyMode::SkipNext {
            self.reply_mode = ReplyMode::On;
        }
        self.replies.expect(wanted)
    }

    /// Whether input may be run now.
    pub fn may_run(&self) -> bool {
        self.hold == Hold::None && !self.settles && !self.closing
    }

    /// Bytes of output that the client has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.in_flight + self.replies.len()
    }

    /// The part of it that could be sent now: that waits for no other reply.
    pub fn sendable_bytes(&self) -> usize {
        self.in_flight + self.replies.ready_bytes()
    }

    /// The part of it that `client-output-buffer-limit` counts: Redis 7.0 does not count the first
    /// [`UNCOUNTED_OUTPUT_BYTES`], its static buffer, so that no limit cuts off small replies.
    pub fn limited_output_bytes(&self) -> usize {
        self.unsent_bytes().saturating_sub(UNCOUNTED_OUTPUT_BYTES)
    }

    /// Which of the limits apply to it.
    pub fn output_limits(&self, limits: &BufferLimitsByClass) -> BufferLimits {
        if self.subscribed.any() { limits.pubsub } else { limits.normal }
    }

    /// Memory that the connection holds, in bytes (CLIENT LIST tot-mem).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.query.capacity()
            + self.multi.as_ref().map_or(0, |multi| multi.block.allocated_bytes())
            + self.replies.allocated_bytes()
            + self.in_flight
            + self.name.capacity()
            + self.library_name.capacity()
            + self.library_version.capacity()
            + self.endpoint.remote.capacity()
            + self.endpoint.local.capacity()
    }
}
