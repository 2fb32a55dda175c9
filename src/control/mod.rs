//! The control core: accepts connections and deals them to the shards, owns the settings, starts and
//! ends the process. Owns no keys.
//!
//! Promise: every change of the settings goes through here, one after the other, and is answered when
//! it is in force on every shard.

mod admission;
mod aof;
mod cluster;
mod cluster_bus;
mod cluster_conf;
mod cluster_upstream;
mod disk_waits;
mod ending;
mod journal;
mod listeners;
mod load_aof;
mod loading;
mod pausing;
pub mod rdb_load;
mod reload;
mod replication;
mod saving;
mod slot_moves;
mod sockets;
mod upstream;

pub use listeners::Listeners;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use admission::Admission;

use crate::boot::daemon;
use crate::boot::limits;
use crate::boot::signals::{Signals, StopSignal};
use crate::command::CommandError;
use crate::config::Config;
use crate::config::values::ShutdownFlags;
use crate::journal::Audience;
use crate::lanes::{Doorbell, Ports};
use crate::process::Process;
use crate::reactor::{Action, CloseReason, ConnId, Peer, Service, Wait};
use crate::shard::message::{ControlAnswer, ControlCall, ControlRequest, Message, Ticket};
use crate::shard_map::{ShardId, ShardMap};

use sockets::Owner;

/// A change of the settings that waits for the shards.
struct Change {
    call: Option<(ShardId, Ticket)>,
    missing: usize,
    /// What the call is answered.
    result: ControlAnswer,
}

impl Change {
    fn new(call: Option<(ShardId, Ticket)>, missing: usize) -> Self {
        Self { call, missing, result: Ok("OK") }
    }
}

/// See the module.
pub struct Control {
    ports: Ports<Message>,
    shards: ShardMap,
    process: Arc<Process>,
    config: Arc<Config>,
    signals: Signals,
    listeners: Listeners,
    admission: Admission,
    actions: Vec<Action>,
    changing: Option<Change>,
    /// Changes that wait for the one under way.
    queued: VecDeque<ControlCall>,
    journal: journal::Journal,
    aof: aof::Aof,
    disk_waits: disk_waits::DiskWaits,
    ending: ending::Ending,
    loading: Option<loading::Loading>,
    /// Nothing has been done yet.
    starts: bool,
    saver: saving::Saver,
    /// The file that is being loaded.
    rdb_load: Option<rdb_load::RdbLoad>,
    reload: Option<reload::Reload>,
    load_aof: Option<load_aof::LoadAof>,
    /// There is more of it to read at once.
    rdb_goes_on: bool,
    /// Connections of this core's own.
    sockets: sockets::Sockets,
    replication: replication::Replication,
    /// The master of the settings is yet to be followed.
    follows_at_start: bool,
    pausing: pausing::Pausing,
    moves: slot_moves::Moves,
    stopping: bool,
    /// In cluster mode.
    cluster: Option<Box<cluster::ClusterDriver>>,
}

impl Control {
    /// The control core of a process that is starting.
    pub fn new(
        ports: Ports<Message>,
        shards: ShardMap,
        process: Arc<Process>,
        config: Arc<Config>,
        signals: Signals,
        mut listeners: Listeners,
    ) -> Self {
        let mut actions = Vec::new();
        listeners.start(&mut actions);
        let aof = aof::Aof::open(&config).unwrap_or_else(|error| {
            tracing::error!("Bad append-only directory: {error}");
            std::process::exit(1);
        });
        let cluster = cluster::ClusterDriver::open(&config, listeners.shard_ports())
            .unwrap_or_else(|error| {
                tracing::error!("{error}");
                std::process::exit(1);
            });
        let replication = replication::Replication::new(&config).unwrap_or_else(|error| {
            tracing::error!("No random numbers: {error}");
            std::process::exit(1);
        });
        let dump = std::path::Path::new(&config.dbfilename);
        let files = match config.appendonly {
            true => aof.files_to_load(),
            false => dump.exists().then(|| dump.to_owned()).into_iter().collect(),
        };
        let mut control = Self {
            loading: None,
            starts: true,
            journal: journal::Journal::default(),
            aof,
            disk_waits: disk_waits::DiskWaits::default(),
            ending: ending::Ending::default(),
            ports,
            shards,
            process,
            config,
            signals,
            listeners,
            admission: Admission::default(),
            actions,
            changing: None,
            queued: VecDeque::new(),
            saver: saving::Saver::default(),
            rdb_load: None,
            reload: None,
            load_aof: None,
            rdb_goes_on: false,
            sockets: sockets::Sockets::numbered_from(0),
            replication,
            follows_at_start: true,
            pausing: pausing::Pausing::default(),
            moves: slot_moves::Moves::default(),
            stopping: false,
            cluster,
        };
        control.tell_replication_facts();
        // Before the first connection comes.
        control.settle_standing();
        control.start_cluster();
        control.start_loading(files);
        control
    }

    fn answer(&mut self, (shard, ticket): (ShardId, Ticket), result: ControlAnswer) {
        self.ports.to[shard.index()].send(Message::ControlDone(Box::new((ticket, result))));
    }

    fn on_call(&mut self, call: ControlCall) {
        if self.changing.is_some() {
            return self.queued.push_back(call);
        }
        let asker = (call.shard, call.ticket);
        match call.request {
            ControlRequest::ConfigSet(words) => match self.config_set(&words) {
                Ok(()) => {
                    self.changing = Some(Change::new(Some(asker), self.shards.len()));
                }
                Err(text) => self.answer(asker, Err(CommandError::owned(text))),
            },
            ControlRequest::ConfigRewrite => {
                let result = self.config.rewrite(&[]);
                let result = result.map_err(|error| CommandError::owned(error.to_string()));
                self.answer(asker, result.map(|()| "OK"));
            }
            ControlRequest::Shutdown(words) => match shutdown_options(&words) {
                Ok(None) => {
                    let answer = self.abort_end();
                    self.answer(asker, answer);
                }
                Ok(Some(flags)) => {
                    tracing::info!("User requested shutdown...");
                    self.stop_when_replicas_are_there(flags, Some(asker));
                }
                Err(error) => self.answer(asker, Err(error)),
            },
            ControlRequest::Save => self.on_save(asker),
            ControlRequest::BackgroundSave { may_wait, must_wait } => {
                self.on_background_save(asker, may_wait, must_wait);
            }
            ControlRequest::ReplicaOf { words, at_once } => {
                self.on_replica_of(asker, &words, at_once);
            }
            ControlRequest::Failover(words) => self.on_failover(asker, &words),
            ControlRequest::Reload(options) => self.on_reload(asker, options),
            ControlRequest::LoadAof => self.on_load_aof(asker),
            ControlRequest::RewriteAof { must_wait } => self.on_rewrite_aof(asker, must_wait),
            ControlRequest::Flushed { waits } => self.on_flushed(asker, waits),
            ControlRequest::Cluster { words, resp3 } => {
                self.on_cluster_call(asker, words, resp3);
            }
        }
    }

    /// Makes the new settings and sends them to all shards.
    fn config_set(&mut self, words: &[Vec<u8>]) -> Result<(), String> {
        let config = self.config.set(words, true).map_err(|error| error.to_string())?;
        if config.maxclients > self.config.maxclients {
            limits::raise_for_config_set(config.maxclients)
                .map_err(|reason| failed("maxclients", &reason))?;
        }
        if (config.port, &config.bind) != (self.config.port, &self.config.bind) {
            self.listeners
                .change(&self.config, &config, &mut self.actions)
                .map_err(|refusal| failed(refusal.directive, refusal.reason))?;
        }
        if config.loglevel != self.config.loglevel {
            daemon::set_log_level(config.loglevel);
        }
        if config.dir != self.config.dir {
            std::env::set_current_dir(&config.dir)
                .map_err(|error| failed("dir", &error.to_string()))?;
        }
        self.config = Arc::new(config);
        for shard in self.shards.iter() {
            self.ports.to[shard.index()].send(Message::Settings(Arc::clone(&self.config)));
        }
        Ok(())
    }

    fn on_settings_done(&mut self) {
        let Some(change) = &mut self.changing else { return };
        change.missing -= 1;
        if change.missing > 0 {
            return;
        }
        // What was written under the old settings belongs where they say; it has come before the answers.
        self.go_on_with_journal();
        self.aof_settings_changed();
        self.replication_settings_changed();
        self.cluster_settings_changed();
        if !self.is_aof_switching_on() {
            self.end_change();
        }
    }

    /// Append-only files were switched on, or could not be: who has asked for that is told.
    fn aof_was_switched_on(&mut self, is_done: bool) {
        let Some(change) = self.changing.as_mut().filter(|change| change.missing == 0) else {
            return;
        };
        if is_done {
            return self.end_change();
        }
        let words = [b"appendonly".to_vec(), b"no".to_vec()];
        let Ok(config) = self.config.set(&words, true) else { return self.end_change() };
        let reason = "Unable to turn on AOF. Check server logs.";
        change.result = Err(CommandError::owned(failed("appendonly", reason)));
        change.missing = self.shards.len();
        self.config = Arc::new(config);
        let config = Arc::clone(&self.config);
        self.tell_all(|| Message::Settings(Arc::clone(&config)));
    }

    fn end_change(&mut self) {
        if let Some(Change { call: Some(asker), result, .. }) = self.changing.take() {
            self.answer(asker, result);
        }
        while self.changing.is_none() {
            let Some(call) = self.queued.pop_front() else { break };
            self.on_call(call);
        }
    }

    fn stop_as_asked(&mut self, flags: ShutdownFlags, asker: Option<(ShardId, Ticket)>) {
        let saves = flags.save || (!flags.nosave && !self.config.save.is_empty());
        self.stop_after(saves, flags.force, asker);
    }

    /// SHUTDOWN ABORT
    fn abort_end(&mut self) -> ControlAnswer {
        match self.abort_goodbye() {
            Some(asker) => {
                asker.into_iter().for_each(|asker| self.answer(asker, Err(saving::CANNOT_STOP)));
                Ok("OK")
            }
            None => self.abort_stop(),
        }
    }

    fn tell(&mut self, shard: ShardId, message: Message) {
        self.ports.to[shard.index()].send(message);
    }

    fn tell_all(&mut self, message: impl Fn() -> Message) {
        for shard in self.shards.iter() {
            self.ports.to[shard.index()].send(message());
        }
    }

    /// The doorbell of this core.
    fn bell(&self) -> &Arc<Doorbell> {
        &self.ports.doorbells[self.shards.len()]
    }
}

fn failed(directive: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{directive}') - {reason}")
}

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]; nothing for ABORT.
fn shutdown_options(words: &[Vec<u8>]) -> Result<Option<ShutdownFlags>, CommandError> {
    let (mut flags, mut abort) = (ShutdownFlags::default(), false);
    for word in words {
        match word.to_ascii_lowercase().as_slice() {
            b"save" => flags.save = true,
            b"nosave" => flags.nosave = true,
            b"abort" => abort = true,
            b"now" => flags.now = true,
            b"force" => flags.force = true,
            _ => return Err(CommandError::Syntax),
        }
    }
    if (abort && words.len() > 1) || (flags.save && flags.nosave) {
        return Err(CommandError::Syntax);
    }
    Ok((!abort).then_some(flags))
}

impl Service for Control {
    fn accepted(&mut self, socket: OwnedFd, peer: Peer) {
        if self.is_for_bus(&peer) {
            self.accept_link(socket, peer);
        } else {
            self.on_accepted(socket, peer);
        }
    }

    fn opened(&mut self, conn: ConnId, _peer: Peer, token: u64) {
        self.sockets.opened(conn, token, &mut self.actions);
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.sockets.owner(conn) {
            Some((id, Owner::Replica)) => self.on_replica_bytes(id, bytes),
            Some((id, Owner::Master)) => self.on_master_bytes(id, bytes),
            Some((id, Owner::Bus)) => self.on_bus_bytes(id, bytes),
            Some((id, Owner::Move)) => self.on_move_bytes(id, bytes),
            None => {}
        }
    }

    fn half_closed(&mut self, conn: ConnId) {
        // Nobody here has anything to say to who says no more.
        self.actions.push(Action::Abort(conn));
    }

    fn closed(&mut self, conn: ConnId, _why: CloseReason) {
        match self.sockets.closed(conn) {
            Some((id, Owner::Replica)) => self.on_replica_closed(id),
            Some((id, Owner::Master)) => self.on_master_closed(id),
            Some((id, Owner::Bus)) => self.on_bus_lost(id),
            Some((id, Owner::Move)) => self.on_move_closed(id),
            None => {}
        }
    }

    fn turn(&mut self, now: Instant) -> Wait {
        for core in 0..self.ports.from.len() {
            while let Some(message) = self.ports.from[core].pop() {
                match message {
                    Message::Control(call) => self.on_call(*call),
                    Message::SettingsDone(_) => self.on_settings_done(),
                    Message::LookedForClosed => self.on_looked(),
                    Message::Effects(parcel) => self.on_effects(parcel),
                    Message::Recording(Audience::FILE, _) => self.on_recording(),
                    Message::Recording(Audience::REPLICAS, on) => {
                        self.on_recording_for_replicas(on)
                    }
                    Message::NewReplica(replica) => self.on_new_replica(*replica),
                    Message::AwaitReplicas(shard, number, wanted) => {
                        self.on_await_replicas(shard, number, wanted);
                    }
                    Message::AwaitNoReplicas(number) => self.on_await_no_replicas(number),
                    Message::AwaitDisk(shard, number, wanted) => {
                        self.on_await_disk(shard, number, wanted);
                    }
                    Message::AwaitNoDisk(number) => self.on_await_no_disk(number),
                    Message::StandingNoted => self.on_standing_noted(),
                    Message::LoadingNoted if self.loading.is_some() => self.on_loading_noted(),
                    Message::LoadingNoted if self.load_aof.is_some() => {
                        self.on_noted_for_load_aof();
                    }
                    Message::LoadingNoted => self.on_loading_from_master_noted(),
                    Message::Fed(fed) if self.loading.is_some() => self.on_fed(*fed),
                    Message::Fed(fed) => self.on_fed_from_master(*fed),
                    Message::Held(number, stamp) => self.on_held(number, stamp),
                    Message::Snapshot(told) => {
                        let (shard, news) = *told;
                        self.on_snapshot_news(shard, news);
                    }
                    Message::RecordsLoaded(loaded) => {
                        if let Some(load) = &mut self.rdb_load {
                            load.on_loaded(*loaded);
                        }
                    }
                    Message::SlotMapNoted(shard) => self.on_slot_map_noted(shard),
                    Message::SlotsWithKeys(slots) => self.on_slots_with_keys(&slots),
                    Message::ImportLost(name) => self.on_import_lost(&name),
                    Message::PublishOnBus(publication) => self.publish_on_bus(&publication),
                    _ => unreachable!("meant for a shard"),
                }
            }
        }
        self.go_on_loading();
        self.go_on_reloading();
        if self.loading.is_none() && std::mem::take(&mut self.follows_at_start) {
            self.follow_configured_master();
        }
        self.go_on_with_journal();
        self.go_on_with_upstream();
        self.go_on_with_replication(now);
        self.go_on_with_pause(now);
        self.go_on_with_aof(now);
        self.look_at_disk_waits();
        self.go_on_with_load_aof();
        self.go_on_ending(now);
        self.go_on_with_cluster(now);
        self.go_on_with_moves();
        if let Some(signal) = self.signals.received()
            && !self.saver.is_stopping()
            && !self.pausing.is_saying_goodbye()
        {
            tracing::info!(?signal, "User requested shutdown...");
            let flags = match signal {
                StopSignal::Term => self.config.shutdown_on_sigterm,
                StopSignal::Interrupt => self.config.shutdown_on_sigint,
            };
            self.stop_when_replicas_are_there(flags, None);
        }
        self.go_on_saving(now);
        self.look_for_places();
        let actions = &mut self.actions;
        self.ports.flush(|core| actions.push(Action::Ring(core)));
        let is_congested = self.ports.is_congested();
        let looks = [
            self.next_look(),
            self.next_aof_look(),
            self.next_end_look(),
            self.next_replication_look(),
            self.next_pause_look(),
            self.next_cluster_look(),
            self.next_move_look(),
        ];
        let next = looks.into_iter().flatten().min();
        let reads = self.reads_files() || self.reads_again() || self.reads_from_master();
        if self.saver.has_tasks() || self.aof.has_tasks() || self.is_receiving() {
            let polls = is_congested || reads;
            return Wait::WithExecutor(if polls { Some(now) } else { next });
        }
        if is_congested || reads { Wait::Poll } else { Wait::Until(next) }
    }

    fn has_incoming(&self) -> bool {
        self.ports.has_incoming()
            || (!self.saver.is_stopping()
                && !self.pausing.is_saying_goodbye()
                && self.signals.received().is_some())
    }

    fn drain_actions(&mut self, actions: &mut Vec<Action>) {
        actions.append(&mut self.actions);
    }

    fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        let Some((id, owner)) = self.sockets.owner(conn) else { return Vec::new() };
        match owner {
            Owner::Replica => self.replication.master.take_output(id),
            Owner::Master | Owner::Bus | Owner::Move => self.sockets.take_output(id),
        }
    }

    fn sent(&mut self, conn: ConnId, _bytes: usize) {
        // There may be more by now.
        self.actions.push(Action::Send(conn));
    }

    fn recycle(&mut self, _buffer: Vec<u8>) {}
}
