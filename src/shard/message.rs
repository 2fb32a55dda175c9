//! What crosses a lane between two cores.
//!
//! A message is a word or two: what is large is boxed and owned, so that sending moves a pointer and
//! nothing is shared.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::batch::Batch;
use super::forwarding::Stray;
use super::job::Job;
use super::loading::{LoadBatch, RecordsLoaded};
use crate::cluster::slot_moves::MoveName;
use crate::cluster::{SlotMap, SlotSet};
use crate::command::{CommandError, CommandId, CommandResult, Part};
use crate::config::Config;
use crate::journal::{Audience, Parcel, Stamp};
use crate::keyspace::snapshot::Records;
use crate::keyspace::{DbKey, Entry, ScanCursor};
use crate::persistence::snapshot::Sizes;
use crate::pubsub::{Change, MoveId, Publication};
use crate::reactor::{Adoption, ConnId};
use crate::replication::master::Profile;
use crate::scripting::Engine;
use crate::session::{Pass, Place};
use crate::shard_map::ShardId;
use crate::slot::Slot;
use crate::transaction::{TxId, Watcher};

/// Where a reply is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The home shard of the connection.
    pub shard: ShardId,
    /// The connection.
    pub conn: ConnId,
    /// The place among its replies.
    pub place: Place,
}

/// A command with owned arguments: it crosses a lane or waits.
#[derive(Clone, Debug)]
pub struct OwnedCommand {
    /// Which command.
    pub id: CommandId,
    /// The selected database.
    pub db: usize,
    /// Whether the reply is to be in RESP3.
    pub resp3: bool,
    /// On what terms it was let through.
    pub pass: Pass,
    /// Its arguments, the name included.
    pub args: Vec<Vec<u8>>,
}

/// An operation of a coordinator: unique on its shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// "Run this: all its keys are yours." Answered by [`Message::LateReply`].
pub struct JobRequest {
    /// What.
    pub job: Job,
    /// Where its reply is owed.
    pub origin: Origin,
    /// The number that it waits under, if it may have to wait for keys.
    pub number: Option<TxId>,
}

/// Keys of one shard; `None` for the whole shard.
pub type Wanted = Option<Vec<DbKey>>;

/// "Schedule this transaction for these keys of yours."
pub struct Schedule {
    /// The transaction.
    pub tx: TxId,
    /// Who coordinates it.
    pub coordinator: ShardId,
    /// For which keys.
    pub keys: Wanted,
    /// Whose watches have to hold: their keys are held as well.
    pub watcher: Option<Watcher>,
    /// A client waits for this key, and may be served from it now; its shard need not have asked for it.
    pub offered: Option<DbKey>,
    /// Keys of other shards that the same transaction changed before the offered one.
    pub earlier: Vec<DbKey>,
}

/// An entry on loan, and its database.
pub type Loan = (usize, Entry);

/// "The transaction holds its keys here; these are their entries."
pub struct Grant {
    /// The transaction.
    pub tx: TxId,
    /// Who grants.
    pub shard: ShardId,
    /// The entries of those keys that exist.
    pub entries: Vec<Loan>,
    /// A watch of the [`Schedule::watcher`] is broken.
    pub is_broken: bool,
    /// See [`Schedule::offered`].
    pub offered: Option<DbKey>,
    /// See [`Schedule::earlier`].
    pub earlier: Vec<DbKey>,
    /// Somebody waits for one of the keys.
    pub is_awaited: bool,
}

/// How a transaction leaves a shard.
pub enum Ending {
    /// It is over. If a client waited under its number, it does no more.
    Over,
    /// It was recalled and has not run: it stands in line for its keys again.
    Recalled,
    /// It has to wait for these keys of the shard, as this command does.
    Waits(CommandId, Vec<DbKey>),
    /// The key that it was offered did not serve it: it waits on, and others may be served.
    Passed,
    /// It goes on and keeps the shard; it has only borrowed these keys for one of its commands.
    Interlude,
}

/// "Take your entries back."
pub struct Conclusion {
    /// The transaction.
    pub tx: TxId,
    /// The entries as they are now; a key that is not among them is gone.
    pub entries: Vec<Loan>,
    /// Keys that were changed.
    pub changed: Vec<DbKey>,
    /// All that were changed, on whatever shards, in order; empty if nobody waits for some.
    pub order: Vec<DbKey>,
    /// How it goes on.
    pub ending: Ending,
}

/// "Lend me these keys for a command: my transaction holds your shard."
pub struct Fetch {
    /// Whose transaction it is.
    pub coordinator: ShardId,
    /// The connection that it works for.
    pub conn: ConnId,
    /// The keys.
    pub keys: Vec<DbKey>,
}

/// Why somebody waits no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unblock {
    /// The time is over, or CLIENT UNBLOCK says so.
    TimedOut,
    /// CLIENT UNBLOCK … ERROR.
    WithError,
    /// The server becomes a replica: nobody who waits to write can be served any more.
    RoleChanged,
    /// What it waits for has happened: enough replicas have acknowledged, or the disk has.
    Acknowledged,
    /// It waits for the disk, and append-only files were switched off.
    NoFile,
    /// The client is gone.
    Gone,
}

/// Whose disks WAITAOF waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskWanted {
    /// That of this server.
    pub local: bool,
    /// Those of replicas.
    pub replicas: bool,
}

/// What one shard is to do for a command that concerns all.
#[derive(Clone)]
pub enum PartWork {
    /// The shard's part of a command of the table.
    Command(Arc<OwnedCommand>),
    /// The shard's stretch of a walk, from this cursor on.
    Stretch(Arc<OwnedCommand>, ScanCursor),
    /// Lines of CLIENT LIST.
    ClientList(Arc<super::clients::ClientFilter>),
    /// Note that these keys are watched.
    Watch(Watcher, Vec<DbKey>),
    /// Count those of these keys that are there.
    CountPresent(Vec<DbKey>),
    /// Tell what there is of each slot.
    FiguresBySlot,
    /// End the busy script, if it is one of this engine.
    KillScript(Engine),
    /// Tell which script is busy.
    BusyScript,
    /// Have clients wait, or go on (CLIENT PAUSE).
    Pause(Option<super::pause::Pause>),
    /// End the waiting of the client with this id, and count it.
    Unblock(u64, Unblock),
    /// Close the matching clients and count them; never the one with this id if it is to be skipped.
    ClientKill(Arc<super::clients::ClientFilter>),
    /// Nothing: the answer says that everything has arrived that was sent before.
    Settle,
}

/// "Do your part."
pub struct PartRequest {
    /// Whose operation.
    pub coordinator: ShardId,
    /// Which one.
    pub ticket: Ticket,
    /// What to do.
    pub work: PartWork,
    /// The transaction that holds this shard for it, and whether it ends with this part.
    pub tx: Option<(TxId, bool)>,
}

/// "My part is done."
pub struct PartDone {
    /// Which operation.
    pub ticket: Ticket,
    /// Whose part.
    pub shard: ShardId,
    /// The outcome.
    pub result: CommandResult<Part>,
}

/// "My connections listen to more, or to less."
pub struct SubscriptionChanges {
    /// Whose.
    pub from: ShardId,
    /// What waits until it is noted, by [`Message::Noted`]; nothing if the connection is gone.
    pub id: Option<MoveId>,
    /// To what.
    pub changes: Arc<[Change]>,
}

/// A time during which all shards stand still for the control core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HoldNumber(pub u64);

/// How a snapshot goes on, as the control core says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotOrder {
    /// It begins with what there is now: all shards stand still. Of these slots, if not of all: the first and the last
    /// of each range.
    Begin(Option<Arc<[(Slot, Slot)]>>),
    /// A chunk is where it belongs: there is room for another one.
    Taken,
    /// Nobody wants it any more. Its end is told nevertheless.
    Abandon,
}

/// How the part of a shard in a snapshot goes on.
pub enum SnapshotNews {
    /// It has begun: keys by database, and the changes that this shard has counted.
    Begun {
        /// By database.
        sizes: Vec<Sizes>,
        /// Since the start.
        changes: u64,
    },
    /// A chunk of it.
    Records(Records),
    /// That was all.
    Ended,
}

/// What a shard asks the control core to do.
pub enum ControlRequest {
    /// CONFIG SET: the words after it.
    ConfigSet(Vec<Vec<u8>>),
    /// CONFIG REWRITE.
    ConfigRewrite,
    /// SHUTDOWN: its options.
    Shutdown(Vec<Vec<u8>>),
    /// SAVE.
    Save,
    /// BGSAVE.
    BackgroundSave {
        /// If it cannot begin now, it may begin later.
        may_wait: bool,
        /// It must not begin now: a block is at work.
        must_wait: bool,
    },
    /// DEBUG RELOAD.
    Reload(ReloadOptions),
    /// DEBUG LOADAOF.
    LoadAof,
    /// BGREWRITEAOF.
    RewriteAof {
        /// It must not begin now: a block is at work.
        must_wait: bool,
    },
    /// REPLICAOF.
    ReplicaOf {
        /// Its arguments.
        words: Vec<Vec<u8>>,
        /// Answer at once: a block is at work, for which all shards stand still.
        at_once: bool,
    },
    /// FAILOVER: the words after it.
    Failover(Vec<Vec<u8>>),
    /// FLUSHALL has emptied all databases: whatever is being saved is of the past.
    Flushed {
        /// Answer when the empty data set is saved, if it is to be; not in a block, which holds all shards.
        waits: bool,
    },
    /// CLUSTER. Answered by [`Message::ClusterDone`].
    Cluster {
        /// The words after it.
        words: Vec<Vec<u8>>,
        /// Whether the reply is to be in RESP3.
        resp3: bool,
    },
}

/// What DEBUG RELOAD does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReloadOptions {
    /// The data is saved before (not with NOSAVE).
    pub saves: bool,
    /// It is dropped before the file is loaded (not with NOFLUSH).
    pub flushes: bool,
    /// Keys that are there are replaced (MERGE).
    pub merges: bool,
}

/// What the control core answers: a status, or an error.
pub type ControlAnswer = Result<&'static str, CommandError>;

/// A request to the control core, with the operation that waits for it.
pub struct ControlCall {
    /// Who asks.
    pub shard: ShardId,
    /// For which operation.
    pub ticket: Ticket,
    /// What.
    pub request: ControlRequest,
}

/// What replication lets clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The server has a master.
    pub is_replica: bool,
    /// The link to it is up.
    pub has_link: bool,
    /// `min-replicas-to-write` wants more replicas than there are.
    pub lacks_replicas: bool,
    /// Who writes has to wait: the role is about to change, or the process to end.
    pub pauses_writes: bool,
}

/// "A client of mine wants to be a replica."
pub struct NewReplica {
    /// Its connection.
    pub socket: OwnedFd,
    /// What it has said about itself.
    pub profile: Profile,
    /// PSYNC or SYNC, with its arguments.
    pub words: Vec<Vec<u8>>,
    /// What it sent after that.
    pub rest: Vec<u8>,
}

/// "The commands that I was fed with have run."
pub struct Fed {
    /// What the first one that failed was answered.
    pub error: Option<Vec<u8>>,
}

/// See the module.
pub enum Message {
    /// Control core to shard: a connection that is yours.
    Connection(Box<Adoption>),
    /// Run these commands.
    Commands(Box<Batch>),
    /// They have run.
    Replies(Box<Batch>),
    /// A reply that was left out of its batch because the command had to wait.
    LateReply(Box<(Origin, Vec<u8>)>),
    /// See [`JobRequest`].
    Job(Box<JobRequest>),
    /// "Have all shards stand still for this script." To the shard of the connection.
    JobForAll(Box<JobRequest>),
    /// The client who waits under this number waits no more.
    Unblock(TxId, Unblock),
    /// The transaction of this number waits no more for keys of this shard.
    Forget(TxId),
    /// A watch is over.
    Unwatch(Watcher),
    /// A key of this watch was changed.
    WatchBroken(Watcher),
    /// See [`Fetch`].
    Fetch(Box<Fetch>),
    /// See [`Stray`]. To the shard of the connection.
    Stray(Box<Stray>),
    /// The answer to [`Fetch`]: the entries of those keys that exist.
    Fetched(Box<(ConnId, Vec<Loan>)>),
    /// See [`Schedule`].
    Schedule(Box<Schedule>),
    /// See [`Grant`].
    Grant(Box<Grant>),
    /// An older transaction wants what this shard granted to this one: give it back unless it has run.
    Recall(TxId, ShardId),
    /// See [`Conclusion`].
    Conclusion(Box<Conclusion>),
    /// See [`PartRequest`].
    Part(Box<PartRequest>),
    /// See [`PartDone`].
    PartDone(Box<PartDone>),
    /// See [`SubscriptionChanges`].
    Subscriptions(Box<SubscriptionChanges>),
    /// The shard has noted these changes of yours.
    Noted(MoveId, ShardId),
    /// A message for subscribers of yours.
    Publication(Arc<Publication>),
    /// Shard to control core.
    Control(Box<ControlCall>),
    /// Control core to shard: the outcome of a [`ControlCall`].
    ControlDone(Box<(Ticket, ControlAnswer)>),
    /// Control core to shard: the settings from now on. Answered by [`Message::SettingsDone`].
    Settings(Arc<Config>),
    /// Shard to control core: the settings are in force here.
    SettingsDone(ShardId),
    /// Control core to shard: notice which clients are gone. Answered by [`Message::LookedForClosed`].
    LookForClosed,
    /// Shard to control core: whoever had closed before the question is not counted any more.
    LookedForClosed,
    /// Memory is over the limit: evict keys of yours, and tell this shard if you could.
    MakeRoom(Option<ShardId>),
    /// The answer: whether memory is below the limit, or will be for what is evicted.
    RoomMade(bool),
    /// Control core to shard: record effects for these from now on, or no more. Answered by
    /// [`Message::Recording`].
    Record(Audience, bool),
    /// Shard to control core: so it is.
    Recording(Audience, bool),
    /// Shard to control core: a connection asks for the data set.
    NewReplica(Box<NewReplica>),
    /// Shard to control core: the client that waits under this number wants so many replicas to have all that was
    /// written before. Answered by [`Message::Acknowledged`], whenever more of them have it.
    AwaitReplicas(ShardId, TxId, i64),
    /// Shard to control core: the client that waits under this number wants what was written before to be on the disk.
    /// Answered by [`Message::Acknowledged`], with 1, when it is.
    AwaitDisk(ShardId, TxId, DiskWanted),
    /// Shard to control core: nobody waits under this number any more.
    AwaitNoDisk(TxId),
    /// Control core to shard: so many have it; if they are enough, it waits no more.
    Acknowledged(TxId, usize, bool),
    /// Shard to control core: nobody waits under this number any more.
    AwaitNoReplicas(TxId),
    /// Control core to shard: where this server stands in replication. Answered by [`Message::StandingNoted`].
    Standing(Standing),
    /// Shard to control core: it is noted.
    StandingNoted,
    /// Shard to control core: effects of writes.
    Effects(Box<Parcel>),
    /// Control core to the first shard: run these commands ([`super::fed`]). Answered by [`Message::Fed`].
    Feed(Vec<u8>),
    /// First shard to control core: they have run.
    Fed(Box<Fed>),
    /// Control core to the first shard: what follows is another stream of commands.
    FeedOver,
    /// Control core to shard: all effects up to this stamp are on the disk.
    Durable(Stamp),
    /// Control core to shard: there is room for effects again.
    RoomForEffects,
    /// Control core to shard: have all shards stand still. Answered by [`Message::Held`].
    HoldAll(HoldNumber),
    /// Shard to control core: all shards stand still; what happened before was stamped before.
    Held(HoldNumber, Stamp),
    /// Control core to the shard that holds all: let them go on.
    ReleaseAll(HoldNumber),
    /// Control core to shard: see [`SnapshotOrder`].
    SnapshotOrder(SnapshotOrder),
    /// Shard to control core: see [`SnapshotNews`].
    Snapshot(Box<(ShardId, SnapshotNews)>),
    /// Control core to shard: data is being loaded, or not any more. Answered by [`Message::LoadingNoted`].
    Loading(bool),
    /// Shard to control core: it is noted.
    LoadingNoted,
    /// Control core to shard: why append-only files cannot be written, if they cannot.
    AofStatus(Option<Arc<str>>),
    /// Control core to shard: whether the last snapshot was good.
    SaveStatus(bool),
    /// Control core to shard: drop all keys, and record nothing of it.
    Clear,
    /// Control core to shard: load these records of a file. Answered by [`Message::RecordsLoaded`].
    LoadRecords(Box<LoadBatch>),
    /// Shard to control core: what became of them.
    RecordsLoaded(Box<RecordsLoaded>),
    /// Control core to shard: who owns which slots from now on. Answered by [`Message::SlotMapNoted`]; when all
    /// shards have, no command runs by an older map.
    SlotMap(Arc<SlotMap>),
    /// Shard to control core: the newest map is in force here.
    SlotMapNoted(ShardId),
    /// Control core to shard: which of these slots hold keys of yours? Answered by [`Message::SlotsWithKeys`].
    WhichHoldKeys(SlotSet),
    /// Control core to shard: other nodes have these slots, so their keys are to go.
    SlotsLost(SlotSet),
    /// Shard to control core: those.
    SlotsWithKeys(SlotSet),
    /// Shard to control core: the connection is gone that brought the slots of this move.
    ImportLost(MoveName),
    /// Control core to shard: the reply to a CLUSTER command.
    ClusterDone(Box<(Ticket, CommandResult<Vec<u8>>)>),
    /// Shard to control core: a client published this, and other nodes may have subscribers.
    PublishOnBus(Arc<Publication>),
    /// Control core to shard: a client of another node published this.
    PublishHere(Box<Publication>),
    /// Control core to shard: end.
    Stop,
}

const _: () = assert!(size_of::<Message>() <= 64, "a lane message is at most one cache line");
