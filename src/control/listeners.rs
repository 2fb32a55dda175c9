//! The listening sockets: opened at start, and again when CONFIG SET changes `port` or `bind`.
//!
//! The reactor of the control core owns the sockets and accepts from them. Here is a second
//! descriptor of each TCP socket, because a changed `bind` needs the old addresses free before the
//! new ones can be listened on, and the reactor frees them a turn later.
//!
//! Promise: after a change that failed, what was listened on before is listened on still.

use std::error::Error;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use crate::boot::listen::{ListenOptions, listen_tcp, listen_unix, stop_listening};
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
    /// Those of the cluster's bus, which stay where they are.
    bus: Vec<TcpListener>,
    untold: Vec<OwnedFd>,
}

impl Listeners {
    /// Opens what a starting server listens on.
    pub fn open(config: &Config) -> Result<Self, Box<dyn Error>> {
        let mut listeners = Self::open_tcp(config)?;
        listeners.open_bus(config)?;
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

    /// Listens for other nodes of the cluster.
    fn open_bus(&mut self, config: &Config) -> Result<(), Box<dyn Error>> {
        if let Some(port) = config.bus_port().filter(|_| config.cluster_enabled) {
            let options =
                ListenOptions { backlog: config.tcp_backlog, mark: config.socket_mark_id };
            self.bus = listen_tcp(&config.bind, port, options)?;
            self.untell_bus()?;
        }
        Ok(())
    }

    /// The reactor is to be told of the bus, for the first time or again.
    fn untell_bus(&mut self) -> std::io::Result<()> {
        for socket in &self.bus {
            self.untold.push(socket.try_clone()?.into());
        }
        Ok(())
    }

    fn open_tcp(config: &Config) -> Result<Self, Box<dyn Error>> {
        if config.port == 0 {
            return Ok(Self::default());
        }
        let options = ListenOptions { backlog: config.tcp_backlog, mark: config.socket_mark_id };
        let tcp = listen_tcp(&config.bind, config.port, options)?;
        let second = tcp.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
        Ok(Self { untold: second.collect::<Result<_, _>>()?, tcp, bus: Vec::new() })
    }

    fn open_tcp_or_log(config: &Config) -> Option<Self> {
        Self::open_tcp(config).inspect_err(|error| tracing::warn!("{error}")).ok()
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
        if new.port != old.port {
            // Nothing of the old is in the way, so it goes when the new is there.
            let opened = Self::open_tcp_or_log(new).ok_or(PORT_REFUSED)?;
            self.switch_to(opened, actions);
            return Ok(());
        }
        stop_listening(&self.tcp);
        match Self::open_tcp_or_log(new) {
            Some(opened) => {
                self.switch_to(opened, actions);
                Ok(())
            }
            None => {
                // If someone was faster and took the old addresses, there are none for now.
                let restored = Self::open_tcp_or_log(old).unwrap_or_default();
                self.switch_to(restored, actions);
                Err(BIND_REFUSED)
            }
        }
    }

    fn switch_to(&mut self, mut opened: Self, actions: &mut Vec<Action>) {
        actions.push(Action::StopListening);
        opened.bus = std::mem::take(&mut self.bus);
        *self = opened;
        if let Err(error) = self.untell_bus() {
            tracing::error!("the cluster bus is not listened to any more: {error}");
        }
        self.start(actions);
    }
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
        let mut listeners = Listeners::open(&first).unwrap();
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
        let mut listeners = Listeners::open(&first).unwrap();
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
