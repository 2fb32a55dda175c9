//! The listening sockets: opened at start, and again when CONFIG SET changes `port` or `bind`.
//!
//! The reactor of the control core owns the sockets and accepts from them. Here is a second
//! descriptor of each TCP socket, because a changed `bind` needs the old addresses free before the
//! new ones can be listened on, and the reactor frees them a turn later.
//!
//! Promise: after a change that failed, what was listened on before is listened on still.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use crate::boot::listen::{ListenError, ListenOptions, listen_tcp, listen_unix, stop_listening};
use crate::cluster::ShardPorts;
use crate::config::Config;
use crate::reactor::Action;

/// Why the listeners could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// The directive that failed.
    pub directive: &'static str,
    /// Redis's words for it (Redis 7.0 `config.c`).
    pub reason: &'static str,
}

const PORT_REFUSED: Refusal =
    Refusal { directive: "port", reason: "Unable to listen on this port. Check server logs." };
const BIND_REFUSED: Refusal =
    Refusal { directive: "bind", reason: "Failed to bind to specified addresses." };

/// What is listened on, and which sockets the reactor has yet to be told of.
#[derive(Default)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
    /// Those of the shards' own ports, which stay where they are when `port` changes.
    shards: Vec<TcpListener>,
    shard_ports: Option<ShardPorts>,
    /// Those of the cluster's bus, which stay where they are.
    bus: Vec<TcpListener>,
    untold: Vec<OwnedFd>,
}

impl Listeners {
    /// Opens what a starting server listens on.
    pub fn open(config: &Config, shard_ports: Option<ShardPorts>) -> Result<Self, Box<dyn Error>> {
        let mut listeners = Self {
            tcp: listen_to_main_port(config)?,
            shards: listen_to_shard_ports(config, shard_ports)?,
            shard_ports,
            bus: listen_to_bus(config)?,
            untold: Vec::new(),
        };
        listeners.untell()?;
        if !config.unixsocket.is_empty() {
            let socket =
                listen_unix(&config.unixsocket, config.unixsocketperm, config.tcp_backlog)?;
            listeners.untold.push(socket.into());
        }
        if listeners.untold.is_empty() {
            return Err("Configured to not listen anywhere, exiting.".into());
        }
        Ok(listeners)
    }

    /// The ports of the shards, if they have some.
    pub(super) fn shard_ports(&self) -> Option<ShardPorts> {
        self.shard_ports
    }

    /// The reactor is to be told of all, for the first time or again.
    fn untell(&mut self) -> io::Result<()> {
        for socket in self.tcp.iter().chain(&self.shards).chain(&self.bus) {
            self.untold.push(socket.try_clone()?.into());
        }
        Ok(())
    }

    /// Has the reactor accept from what was opened.
    pub(super) fn start(&mut self, actions: &mut Vec<Action>) {
        actions.extend(self.untold.drain(..).map(Action::Listen));
    }

    /// Listens on TCP as `new` says instead of `old`.
    pub(super) fn change(
        &mut self,
        old: &Config,
        new: &Config,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let result = match (new.port != old.port, new.bind != old.bind) {
            (true, moves) => {
                // Nothing of the old is in the way, so it goes when the new is there.
                let opened = or_log(listen_to_main_port(new)).ok_or(PORT_REFUSED)?;
                match moves {
                    true if !self.move_shard_ports(old, new) => Err(BIND_REFUSED),
                    _ => {
                        self.tcp = opened;
                        Ok(())
                    }
                }
            }
            (false, _) => self.rebind(old, new),
        };
        self.tell_again(actions);
        result
    }

    /// Listens at other addresses; at the old ones, if that fails. If someone was faster and took those, there are
    /// none for now.
    fn rebind(&mut self, old: &Config, new: &Config) -> Result<(), Refusal> {
        stop_listening(&self.tcp);
        let opened = or_log(listen_to_main_port(new));
        if let Some(opened) = opened
            && self.move_shard_ports(old, new)
        {
            self.tcp = opened;
            return Ok(());
        }
        self.tcp = or_log(listen_to_main_port(old)).unwrap_or_default();
        Err(BIND_REFUSED)
    }

    /// The same for the ports of the shards.
    fn move_shard_ports(&mut self, old: &Config, new: &Config) -> bool {
        stop_listening(&self.shards);
        let opened = or_log(listen_to_shard_ports(new, self.shard_ports));
        let is_done = opened.is_some();
        self.shards = opened
            .or_else(|| or_log(listen_to_shard_ports(old, self.shard_ports)))
            .unwrap_or_default();
        is_done
    }

    fn tell_again(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::StopListening);
        if let Err(error) = self.untell() {
            tracing::error!("some ports are not listened to any more: {error}");
        }
        self.start(actions);
    }
}

fn listen_to_main_port(config: &Config) -> Result<Vec<TcpListener>, ListenError> {
    match config.port {
        0 => Ok(Vec::new()),
        port => listen_to(config, port),
    }
}

fn listen_to_shard_ports(
    config: &Config,
    ports: Option<ShardPorts>,
) -> Result<Vec<TcpListener>, ListenError> {
    let mut sockets = Vec::new();
    for port in ports.iter().flat_map(|ports| ports.iter()) {
        sockets.append(&mut listen_to(config, port)?);
    }
    Ok(sockets)
}

/// Listens for other nodes of the cluster.
fn listen_to_bus(config: &Config) -> Result<Vec<TcpListener>, ListenError> {
    match config.bus_port().filter(|_| config.cluster_enabled) {
        Some(port) => listen_to(config, port),
        None => Ok(Vec::new()),
    }
}

fn listen_to(config: &Config, port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let options = ListenOptions { backlog: config.tcp_backlog, mark: config.socket_mark_id };
    listen_tcp(&config.bind, port, options)
}

fn or_log<T>(opened: Result<T, ListenError>) -> Option<T> {
    opened.inspect_err(|error| tracing::warn!("{error}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn config(bind: &[&str], port: u16) -> Config {
        let bind = bind.iter().map(|address| (*address).to_owned()).collect();
        Config { bind, port, ..Config::default() }
    }

    /// A port that is free now.
    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn answers(at: &str, port: u16) -> bool {
        TcpStream::connect((at, port)).is_ok()
    }

    #[test]
    fn a_changed_bind_frees_the_old_addresses_first_and_takes_them_back_if_it_fails() {
        let port = free_port();
        let mut actions = Vec::new();
        let first = config(&["127.0.0.1"], port);
        let mut listeners = Listeners::open(&first, None).unwrap();
        listeners.start(&mut actions);
        // All addresses include the old one, so they conflict as long as that is listened on.
        let wide = config(&["0.0.0.0"], port);
        listeners.change(&first, &wide, &mut actions).unwrap();
        assert!(answers("127.0.0.1", port) && answers("127.0.0.2", port));
        // No host has 192.0.2.1, which is reserved for documentation.
        let absent = config(&["127.0.0.1", "192.0.2.1"], port);
        assert_eq!(listeners.change(&wide, &absent, &mut actions), Err(BIND_REFUSED));
        assert!(answers("127.0.0.1", port) && answers("127.0.0.2", port));
        let told = actions.iter().map(|action| matches!(action, Action::StopListening));
        assert_eq!(told.collect::<Vec<_>>(), [false, true, false, true, false]);
    }

    #[test]
    fn a_port_that_is_taken_changes_nothing_and_port_zero_stops() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut actions = Vec::new();
        let first = config(&["127.0.0.1"], free_port());
        let mut listeners = Listeners::open(&first, None).unwrap();
        listeners.start(&mut actions);
        let other = config(&["127.0.0.1"], taken.local_addr().unwrap().port());
        assert_eq!(listeners.change(&first, &other, &mut actions), Err(PORT_REFUSED));
        assert!(answers("127.0.0.1", first.port));
        assert_eq!(actions.len(), 1, "the reactor hears of no change");
        listeners.change(&first, &config(&[], 0), &mut actions).unwrap();
        drop(actions); // with the sockets that the reactor would have closed
        assert!(!answers("127.0.0.1", first.port));
    }
}
