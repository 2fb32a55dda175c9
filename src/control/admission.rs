//! Which connections come in, and which shard each is dealt to.
//!
//! A connection counts towards `maxclients` until its shard has closed it, and the shard may not have looked
//! yet when the next one is accepted: a client that closes one and opens another would be turned away though
//! Redis, which does both in one loop, lets it in. So nobody is refused by the count alone. Who is one too
//! many waits until every shard has had a look at its sockets ([`Message::LookForClosed`]), some tens
//! of microseconds, and is judged then.
//!
//! Promise: a connection that its client closed before it opened the next takes no place from it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::Control;
use crate::config::Config;
use crate::process::Process;
use crate::reactor::{Adoption, Peer};
use crate::shard::message::Message;
use crate::shard_map::ShardId;

/// What a client that comes from elsewhere is told in protected mode (the advice of Redis 7.0,
/// in our words where it names its files).
const PROTECTED_TEXT: &[u8] = b"-DENIED Corelane is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers, you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting from the same host the server is running, however MAKE SURE it is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";

/// Words of `ERR max number of clients reached`.
const MAX_CLIENTS_TEXT: &[u8] = b"-ERR max number of clients reached\r\n";

/// Sockets that may wait for the shards' look; further ones are refused at once. As many as the kernel
/// queues for a listener by default.
const WAITING_MAX: usize = 511;

/// A look of all shards at their sockets.
struct Look {
    /// Shards that have not answered.
    missing: usize,
    /// How many of the waiting came before it was asked for.
    judges: usize,
}

/// Those who are one too many, until that is certain.
#[derive(Default)]
pub(super) struct Admission {
    waiting: VecDeque<(OwnedFd, Peer)>,
    look: Option<Look>,
    next_shard: u16,
}

impl Control {
    /// A listener accepted `socket`.
    pub(super) fn on_accepted(&mut self, socket: OwnedFd, peer: Peer) {
        if self.admission.waiting.is_empty() && has_place(&self.process, &self.config) {
            self.admit(socket, peer);
        } else if self.admission.waiting.len() < WAITING_MAX {
            self.admission.waiting.push_back((socket, peer));
        } else {
            self.turn_away(&socket);
        }
    }

    /// Asks the shards to look at their sockets if somebody waits for that; to be called every turn.
    pub(super) fn look_for_places(&mut self) {
        let judges = self.admission.waiting.len();
        if judges == 0 || self.admission.look.is_some() {
            return;
        }
        self.admission.look = Some(Look { missing: self.shards.len(), judges });
        for shard in self.shards.iter() {
            self.ports.to[shard.index()].send(Message::LookForClosed);
        }
    }

    /// A shard has looked.
    pub(super) fn on_looked(&mut self) {
        let Some(look) = &mut self.admission.look else { return };
        look.missing -= 1;
        if look.missing > 0 {
            return;
        }
        let judged = look.judges.min(self.admission.waiting.len());
        self.admission.look = None;
        let judged: Vec<_> = self.admission.waiting.drain(..judged).collect();
        for (socket, peer) in judged {
            if has_place(&self.process, &self.config) {
                self.admit(socket, peer);
            } else {
                self.turn_away(&socket);
            }
        }
    }

    fn turn_away(&self, socket: &OwnedFd) {
        self.process.rejected_connections.fetch_add(1, Ordering::Relaxed);
        say(socket, MAX_CLIENTS_TEXT);
    }

    /// Deals a connection to the shard that was called or else to the next, unless protected mode keeps it out.
    fn admit(&mut self, socket: OwnedFd, peer: Peer) {
        if is_kept_out(&self.config, &peer) {
            return say(&socket, PROTECTED_TEXT);
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
        let shard = self.shard_called(&peer).unwrap_or_else(|| self.next_shard());
        let adoption = Box::new(Adoption { socket, peer, token: self.process.client_id() });
        self.ports.to[shard.index()].send(Message::Connection(adoption));
    }

    /// The shard whose own port a client has called. This core accepts for all: only so `maxclients` counts
    /// all, and one connection costs one message whatever it sends afterwards.
    fn shard_called(&self, peer: &Peer) -> Option<ShardId> {
        match peer {
            Peer::Tcp { local, .. } => self.listeners.shard_ports()?.shard_at(local.port()),
            Peer::Unix => None,
        }
    }

    /// Whose turn it is among the shards.
    fn next_shard(&mut self) -> ShardId {
        let shard = ShardId(self.admission.next_shard);
        self.admission.next_shard = (shard.0 + 1) % self.shards.len() as u16;
        shard
    }
}

fn has_place(process: &Process, config: &Config) -> bool {
    process.clients.load(Ordering::Relaxed) < config.maxclients as usize
}

/// Whether protected mode refuses this peer: it comes from elsewhere, and there is no password.
fn is_kept_out(config: &Config, peer: &Peer) -> bool {
    let outside = match peer {
        Peer::Tcp { remote, .. } => !remote.ip().to_canonical().is_loopback(),
        Peer::Unix => false,
    };
    outside && config.protected_mode && config.requirepass.is_empty()
}

/// Best effort, as in Redis: a fresh socket's buffer has room for a line.
fn say(socket: &OwnedFd, text: &[u8]) {
    _ = SockRef::from(socket).send(text);
}
