//! Slots that leave as a whole, as the control core drives it: the connection to the target, the snapshot of
//! the slots, the journal behind it, and the pause of writers at the end.
//!
//! [`Export`] decides. One move at a time; the node of the cluster has the list of all ([`crate::cluster::slot_moves`]).
//! While a move needs effects, shards record them as for replicas.
//!
//! Promise: whatever becomes of a move, its connection is closed, its snapshot ends and writers go on.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Control;
use super::saving::Purpose;
use super::sockets::{Owner, SocketId};
use crate::clock;
use crate::cluster::slot_moves::export::{Doing, Export};
use crate::cluster::slot_moves::stream::{KeyStream, effects_for};
use crate::cluster::slot_moves::{Order, Standing, State};
use crate::journal::{Audience, Parcel, Stream};
use crate::persistence::snapshot::{Piece, Pipe};
use crate::shard::message::SnapshotOrder;
use crate::shard_map::ShardId;
use crate::slot::Slot;

/// How often a move is looked at while nothing happens.
const PERIOD: Duration = Duration::from_millis(20);
/// Unsent bytes from which on shards have to wait with more of the snapshot.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Unsent bytes with which the target is given up.
const UNSENT_BYTES_LIMIT: usize = 256 << 20;

/// A move under way.
struct Active {
    export: Export,
    socket: Option<SocketId>,
    /// A snapshot is wanted and not begun.
    awaits_snapshot: bool,
    pipe: Option<Pipe>,
    /// Shards that may send more of the snapshot as soon as the target keeps up.
    held_back: Vec<ShardId>,
    keys: KeyStream,
    stream: Stream,
    /// What was told of it last.
    told: Option<State>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Moves {
    active: Option<Box<Active>>,
}

impl Moves {
    /// Whether effects are recorded for a move.
    pub(super) fn wants_effects(&self) -> bool {
        self.active.is_some()
    }

    /// Whether the snapshot that is about to begin is the move's: of these slots.
    pub(super) fn ranges(&self) -> Option<std::sync::Arc<[(Slot, Slot)]>> {
        self.active.as_ref().map(|active| active.export.order().slots.ranges().collect())
    }
}

impl Control {
    /// Looks what is to be done for the move under way, and whether one is to begin; to be called every turn.
    pub(super) fn go_on_with_moves(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if self.moves.active.is_none() {
            let may_begin = self.loading.is_none() && !self.saver.is_stopping();
            if let Some(order) = may_begin.then(|| cluster.node.next_move()).flatten() {
                self.begin_move(order);
            }
        }
        self.look_at_standing_of_move();
        self.take_keys_of_move();
        self.begin_snapshot_for_move();
        self.perform_for_move();
    }

    fn begin_move(&mut self, order: Order) {
        let mut login = Vec::new();
        if !self.config.masterauth.is_empty() {
            if !self.config.masteruser.is_empty() {
                login.push(self.config.masteruser.clone().into_bytes());
            }
            login.push(self.config.masterauth.clone());
        }
        tracing::info!(name = %order.name, slots = ?order.slots, "Slots begin to move");
        let export = Export::new(clock::unix_ms() as u64, order, &login);
        self.moves.active = Some(Box::new(Active {
            export,
            socket: None,
            awaits_snapshot: false,
            pipe: None,
            held_back: Vec::new(),
            keys: KeyStream::default(),
            stream: Stream::default(),
            told: None,
        }));
        self.record_for_replicas();
    }

    fn look_at_standing_of_move(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let Some(active) = &mut self.moves.active else { return };
        let export = &mut active.export;
        export.tick(clock::unix_ms() as u64, cluster.node.highest_epoch());
        let unsent = active.socket.map_or(0, |socket| self.sockets.unsent(socket));
        match cluster.node.standing_of_move(&export.order().name) {
            Standing::Goes if unsent > UNSENT_BYTES_LIMIT => export.fail("the target is too slow"),
            Standing::Goes => {}
            Standing::Cancelled => export.cancel(),
            Standing::Taken => export.taken(),
            Standing::Lost(why) => export.lost(why),
        }
    }

    fn perform_for_move(&mut self) {
        loop {
            let Some(active) = &mut self.moves.active else { return };
            let doings = active.export.take_doings();
            if doings.is_empty() {
                break;
            }
            for doing in doings {
                self.do_for_move(doing);
            }
        }
        self.tell_state_of_move();
    }

    fn do_for_move(&mut self, doing: Doing) {
        let now_ms = clock::unix_ms() as u64;
        let Some(active) = &mut self.moves.active else { return };
        match doing {
            Doing::Connect => self.connect_for_move(),
            Doing::Write(bytes) => {
                if let Some(socket) = active.socket {
                    self.sockets.write(socket, &bytes, &mut self.actions);
                }
            }
            Doing::Snapshot => active.awaits_snapshot = true,
            Doing::AbandonSnapshot => {
                active.awaits_snapshot = false;
                self.abandon_snapshot_for(Purpose::Move);
            }
            Doing::Pause(ms) => self.pause_for_move(Duration::from_millis(ms)),
            Doing::Resume => self.resume_for_move(),
            Doing::HandOver(epoch) => {
                let name = active.export.order().name;
                let Some(cluster) = &mut self.cluster else { return };
                let mut effects = Vec::new();
                cluster.node.hand_over(now_ms, &name, epoch, &mut effects);
                self.perform(effects);
            }
            Doing::KeepSlots => {
                let Some(cluster) = &mut self.cluster else { return };
                let mut effects = Vec::new();
                cluster.node.keep_after_all(now_ms, &mut effects);
                self.perform(effects);
            }
            Doing::Close => {
                if let Some(socket) = active.socket.take() {
                    self.sockets.close(socket, &mut self.actions);
                }
            }
        }
    }

    fn connect_for_move(&mut self) {
        let Some(active) = &mut self.moves.active else { return };
        let Order { ip, port, .. } = active.export.order();
        let source = self.config.bind_source_addr.parse().ok();
        let connected = ip.parse::<IpAddr>().ok().and_then(|ip| {
            let address = SocketAddr::new(ip, *port);
            self.sockets.connect(address, source, Owner::Move, &mut self.actions).ok()
        });
        match connected {
            Some(socket) => active.socket = Some(socket),
            None => active.export.closed(clock::unix_ms() as u64),
        }
    }

    fn tell_state_of_move(&mut self) {
        let (Some(active), Some(cluster)) = (&mut self.moves.active, &mut self.cluster) else {
            return;
        };
        let (state, message) = active.export.state();
        let name = active.export.order().name;
        if active.told.replace(state) != Some(state) {
            cluster.node.note_move(clock::unix_ms() as u64, &name, state, message);
        }
        if state.is_over() {
            tracing::info!(%name, ?state, message, "The move of slots is over");
            let pipe = active.pipe.take();
            self.moves.active = None;
            if let Some(pipe) = pipe {
                pipe.over(Err("abandoned".to_owned()));
            }
            self.record_for_replicas();
        }
    }

    // ---- the connection ----

    /// Bytes of the target.
    pub(super) fn on_move_bytes(&mut self, id: SocketId, bytes: &[u8]) {
        if let Some(active) = &mut self.moves.active
            && active.socket == Some(id)
        {
            active.export.received(clock::unix_ms() as u64, bytes);
        }
    }

    /// The connection is gone, or could not be made.
    pub(super) fn on_move_closed(&mut self, id: SocketId) {
        if let Some(active) = &mut self.moves.active
            && active.socket == Some(id)
        {
            active.socket = None;
            active.export.closed(clock::unix_ms() as u64);
        }
    }

    // ---- the snapshot ----

    fn begin_snapshot_for_move(&mut self) {
        let is_ready = self.records_for_replicas() && !self.is_saving() && self.reload.is_none();
        let Some(active) = &mut self.moves.active else { return };
        if active.awaits_snapshot && is_ready {
            active.awaits_snapshot = false;
            self.begin_snapshot(Purpose::Move);
        }
    }

    /// The way that the snapshot takes.
    pub(super) fn new_pipe_of_move(&mut self) -> Pipe {
        let pipe = Pipe::default();
        if let Some(active) = &mut self.moves.active {
            active.pipe = Some(pipe.clone());
        }
        pipe
    }

    /// The journal is cut: the snapshot has what was before.
    pub(super) fn cut_for_move(&mut self) {
        if let Some(active) = &mut self.moves.active {
            active.stream.begin_anew();
            active.export.cut();
        }
    }

    /// What shards are told of the snapshot that begins.
    pub(super) fn beginning_of_snapshot(&self, purpose: Purpose) -> SnapshotOrder {
        let is_moves = purpose == Purpose::Move;
        SnapshotOrder::Begin(is_moves.then(|| self.moves.ranges()).flatten())
    }

    fn take_keys_of_move(&mut self) {
        let Some(active) = &mut self.moves.active else { return };
        let Some(pipe) = active.pipe.clone() else { return };
        let now_ms = clock::unix_ms() as u64;
        while let Some(piece) = pipe.take() {
            match piece {
                Piece::Bytes(bytes, from) => {
                    let slots = &active.export.order().slots;
                    match active.keys.feed(&bytes, slots) {
                        Ok(keys) => active.export.keys(keys),
                        Err(error) => active.export.fail(&format!("a bad snapshot: {error}")),
                    }
                    active.held_back.extend(from);
                }
                Piece::Finished | Piece::Abandoned => {
                    let is_whole = piece == Piece::Finished;
                    active.pipe = None;
                    pipe.over(is_whole.then_some(()).ok_or_else(|| "abandoned".to_owned()));
                    active.export.snapshot_over(now_ms, is_whole);
                    break;
                }
            }
        }
        let unsent = active.socket.map_or(0, |socket| self.sockets.unsent(socket));
        if unsent < UNSENT_BYTES_MAX || active.pipe.is_none() {
            for shard in active.held_back.drain(..) {
                pipe.taken(shard);
            }
        }
    }

    // ---- the journal ----

    /// The next effects.
    pub(super) fn feed_move(&mut self, parcel: &Parcel) {
        let Some(active) =
            self.moves.active.as_mut().filter(|active| active.export.wants_effects())
        else {
            return;
        };
        let mut effects = Vec::new();
        active.stream.append(parcel, Audience::REPLICAS, &mut effects);
        match effects_for(&active.export.order().slots, &effects) {
            Ok(commands) if commands.count > 0 => active.export.effects(commands),
            Ok(_) => {}
            Err(_) => active.export.fail("the data set was emptied"),
        }
    }

    /// Writers stand still, and the journal has all that they have written.
    pub(super) fn tell_move_of_quiet(&mut self) {
        if let Some(active) = &mut self.moves.active {
            active.export.quiet(clock::unix_ms() as u64);
        }
    }

    /// When to look again.
    pub(super) fn next_move_look(&self) -> Option<Instant> {
        self.moves.active.as_ref().map(|_| Instant::now() + PERIOD)
    }
}
