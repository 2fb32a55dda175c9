//! The control core: accepts connections and deals them to the shards, owns the settings, starts and
//! ends the process. Owns no keys.
//!
//! Promise: every change of the settings goes through here, one after the other, and is answered when
//! it is in force on every shard.

mod listeners;

pub use listeners::Listeners;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::boot::daemon;
use crate::boot::limits;
use crate::boot::signals::Signals;
use crate::command::CommandError;
use crate::config::Config;
use crate::lanes::Ports;
use crate::process::Process;
use crate::reactor::{Action, Adoption, CloseReason, ConnId, Peer, Service, Wait};
use crate::shard::message::{ControlCall, ControlRequest, Message, Ticket};
use crate::shard_map::{ShardId, ShardMap};

/// What a client that comes from elsewhere is told in protected mode (the advice of Redis 7.0,
/// in our words where it names its files).
const PROTECTED_TEXT: &[u8] = b"-DENIED Corelane is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers, you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting from the same host the server is running, however MAKE SURE it is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";

/// Words of `ERR max number of clients reached`.
const MAX_CLIENTS_TEXT: &[u8] = b"-ERR max number of clients reached\r\n";

/// A change of the settings that waits for the shards.
struct Change {
    call: Option<(ShardId, Ticket)>,
    missing: usize,
}

/// See the module.
pub struct Control {
    ports: Ports<Message>,
    shards: ShardMap,
    process: Arc<Process>,
    config: Arc<Config>,
    signals: Signals,
    listeners: Listeners,
    next_shard: u16,
    actions: Vec<Action>,
    changing: Option<Change>,
    /// Changes that wait for the one under way.
    queued: VecDeque<ControlCall>,
    stopping: bool,
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
        Self {
            ports,
            shards,
            process,
            config,
            signals,
            listeners,
            next_shard: 0,
            actions,
            changing: None,
            queued: VecDeque::new(),
            stopping: false,
        }
    }

    fn answer(&mut self, (shard, ticket): (ShardId, Ticket), result: Result<(), CommandError>) {
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
                    self.changing = Some(Change { call: Some(asker), missing: self.shards.len() });
                }
                Err(text) => self.answer(asker, Err(CommandError::owned(text))),
            },
            ControlRequest::ConfigRewrite => {
                let result = self.config.rewrite(&[]);
                let result = result.map_err(|error| CommandError::owned(error.to_string()));
                self.answer(asker, result);
            }
            ControlRequest::Shutdown(words) => match shutdown_options(&words) {
                Ok(()) => self.stop(),
                Err(error) => self.answer(asker, Err(error)),
            },
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
        if let Some(asker) = self.changing.take().and_then(|change| change.call) {
            self.answer(asker, Ok(()));
        }
        while self.changing.is_none() {
            let Some(call) = self.queued.pop_front() else { break };
            self.on_call(call);
        }
    }

    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        tracing::info!("Corelane is now ready to exit, bye bye...");
        for shard in self.shards.iter() {
            self.ports.to[shard.index()].send(Message::Stop);
        }
        self.actions.push(Action::Stop);
    }

    /// Why a new connection is turned away, as the bytes to send it.
    fn refusal(&self, peer: &Peer) -> Option<&'static [u8]> {
        if self.process.clients.load(Ordering::Relaxed) >= self.config.maxclients as usize {
            self.process.rejected_connections.fetch_add(1, Ordering::Relaxed);
            return Some(MAX_CLIENTS_TEXT);
        }
        let outside = match peer {
            Peer::Tcp { remote, .. } => !remote.ip().to_canonical().is_loopback(),
            Peer::Unix => false,
        };
        let open = self.config.protected_mode && self.config.requirepass.is_empty();
        (open && outside).then_some(PROTECTED_TEXT)
    }
}

fn failed(directive: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{directive}') - {reason}")
}

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
fn shutdown_options(words: &[Vec<u8>]) -> Result<(), CommandError> {
    let (mut save, mut nosave, mut abort) = (false, false, false);
    for word in words {
        match word.to_ascii_lowercase().as_slice() {
            b"save" => save = true,
            b"nosave" => nosave = true,
            b"abort" => abort = true,
            b"now" | b"force" => {}
            _ => return Err(CommandError::Syntax),
        }
    }
    if (abort && words.len() > 1) || (save && nosave) {
        return Err(CommandError::Syntax);
    }
    if abort {
        return Err(CommandError::text("ERR No shutdown in progress."));
    }
    if save {
        return Err(CommandError::text("ERR Errors trying to SHUTDOWN. Check logs."));
    }
    Ok(())
}

impl Service for Control {
    fn accepted(&mut self, socket: OwnedFd, peer: Peer) {
        if let Some(text) = self.refusal(&peer) {
            // Best effort, as in Redis: a fresh socket's buffer has room for a line.
            _ = SockRef::from(&socket).send(text);
            return;
        }
        if self.config.tcp_keepalive > 0
            && let Peer::Tcp { .. } = peer
        {
            let idle = Duration::from_secs(u64::from(self.config.tcp_keepalive));
            let keepalive = TcpKeepalive::new()
                .with_time(idle)
                .with_interval((idle / 3).max(Duration::from_secs(1)))
                .with_retries(3);
            _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
        }
        self.process.clients.fetch_add(1, Ordering::Relaxed);
        let shard = self.next_shard;
        self.next_shard = (shard + 1) % self.shards.len() as u16;
        let adoption = Box::new(Adoption { socket, peer, token: self.process.client_id() });
        self.ports.to[usize::from(shard)].send(Message::Connection(adoption));
    }

    fn opened(&mut self, _conn: ConnId, _peer: Peer, _token: u64) {}

    fn received(&mut self, _conn: ConnId, _bytes: &[u8]) {}

    fn half_closed(&mut self, _conn: ConnId) {}

    fn closed(&mut self, _conn: ConnId, _why: CloseReason) {}

    fn released(&mut self, _conn: ConnId, _socket: OwnedFd) {}

    fn turn(&mut self, now: Instant) -> Wait {
        for core in 0..self.ports.from.len() {
            while let Some(message) = self.ports.from[core].pop() {
                match message {
                    Message::Control(call) => self.on_call(*call),
                    Message::SettingsDone(_) => self.on_settings_done(),
                    _ => unreachable!("meant for a shard"),
                }
            }
        }
        if let Some(signal) = self.signals.received()
            && !self.stopping
        {
            tracing::info!(?signal, "User requested shutdown...");
            self.stop();
        }
        let actions = &mut self.actions;
        self.ports.flush(|core| actions.push(Action::Ring(core)));
        if self.ports.is_congested() {
            Wait::Poll
        } else {
            Wait::Until(Some(now + crate::shard::LONGEST_SLEEP))
        }
    }

    fn has_incoming(&self) -> bool {
        self.ports.has_incoming() || (!self.stopping && self.signals.received().is_some())
    }

    fn drain_actions(&mut self, actions: &mut Vec<Action>) {
        actions.append(&mut self.actions);
    }

    fn take_output(&mut self, _conn: ConnId) -> Vec<u8> {
        Vec::new()
    }

    fn sent(&mut self, _conn: ConnId, _bytes: usize) {}

    fn recycle(&mut self, _buffer: Vec<u8>) {}
}
