//! The sockets that clients connect to: made once at start, or again by CONFIG SET bind and port.
//!
//! Promise: either every address that must be listened on is, or the error names the first that is
//! not, in Redis's words. Addresses marked with `-` may be missing, as long as one remains.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::cluster::ShardPorts;
use crate::config::Config;
use crate::shard_map::ShardMap;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Why the server does not listen.
#[derive(Debug)]
pub enum ListenError {
    /// A TCP address.
    Tcp {
        /// Address and port as configured.
        address: String,
        /// The call that failed.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
    /// The unix socket.
    Unix {
        /// Its path.
        path: String,
        /// The error.
        error: io::Error,
    },
    /// All addresses were optional, and none exists.
    NoneLeft,
    /// The shards' ports are not all ports, or one of them is needed for something else.
    ShardPorts {
        /// How many there are.
        count: usize,
        /// The first of them.
        first: u16,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |error: &io::Error| {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        };
        match self {
            Self::Tcp { address, call, error } => write!(
                f,
                "Could not create server TCP listening socket {address}: {call}: {}",
                words(error)
            ),
            Self::Unix { path, error } => {
                write!(f, "Failed opening Unix socket {path}: bind: {}", words(error))
            }
            Self::ShardPorts { count, first } => write!(
                f,
                "shard-ports: {count} ports from {first} on do not fit beside port and the cluster bus; set shard-port-base"
            ),
            Self::NoneLeft => f.write_str("Failed listening on the port: no address is available"),
        }
    }
}

impl std::error::Error for ListenError {}

/// How listening sockets are set up.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// Mark on the socket, for routing and firewalls; 0 for none.
    pub mark: u32,
}

/// The ports of the shards, if they have some: `shard-port-base`, or what follows `port`.
pub fn shard_ports(config: &Config, shards: ShardMap) -> Result<Option<ShardPorts>, ListenError> {
    if !config.shard_ports || !config.cluster_enabled {
        return Ok(None);
    }
    let first = match config.shard_port_base {
        0 => config.port.saturating_add(1),
        base => base,
    };
    let refusal = || ListenError::ShardPorts { count: shards.len(), first };
    let ports = ShardPorts::new(shards.len() as u16, first).ok_or_else(refusal)?;
    let others = [Some(config.port), config.bus_port()];
    let is_taken = others.into_iter().flatten().any(|port| ports.shard_at(port).is_some());
    if is_taken { Err(refusal()) } else { Ok(Some(ports)) }
}

/// One entry of `bind`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BindAddress {
    host: String,
    optional: bool,
}

impl BindAddress {
    fn parse(text: &str) -> Self {
        let (host, optional) = match text.strip_prefix('-') {
            Some(host) => (host, true),
            None => (text, false),
        };
        Self { host: host.to_owned(), optional }
    }

    /// The addresses behind the name; `*` and `::*` are all addresses of IPv4 and IPv6.
    fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.host.as_str() {
            "*" => Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)]),
            "::*" => Ok(vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)]),
            host => Ok((host, port).to_socket_addrs()?.take(1).collect()),
        }
    }
}

/// Listens on every address of `bind` at `port`. An empty `bind` is all addresses.
pub fn listen_tcp(
    bind: &[String],
    port: u16,
    options: ListenOptions,
) -> Result<Vec<TcpListener>, ListenError> {
    let everywhere = ["*".to_owned(), "-::*".to_owned()];
    let bind = if bind.is_empty() { &everywhere[..] } else { bind };
    let mut listeners = Vec::new();
    for address in bind.iter().map(|text| BindAddress::parse(text)) {
        let failed = |(call, error)| ListenError::Tcp {
            address: format!("{}:{port}", address.host),
            call,
            error,
        };
        match listen_at(&address, port, options) {
            Ok(mut found) => listeners.append(&mut found),
            Err((_, error)) if address.optional && is_absence(&error) => {}
            Err(failure) => return Err(failed(failure)),
        }
    }
    if listeners.is_empty() { Err(ListenError::NoneLeft) } else { Ok(listeners) }
}

/// Makes sockets stop listening, whoever else holds them; CONFIG SET bind and port then listen anew.
/// Connections that are accepted already stay.
pub fn stop_listening(sockets: &[TcpListener]) {
    for socket in sockets {
        // It fails only for a socket that does not listen any more, which is what is wanted.
        let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Both);
    }
}

/// The host lacks this address or protocol; anything else is a mistake also for optional ones.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
                | libc::EPFNOSUPPORT
                | libc::ENOPROTOOPT
        )
    )
}

fn listen_at(
    address: &BindAddress,
    port: u16,
    options: ListenOptions,
) -> Result<Vec<TcpListener>, (&'static str, io::Error)> {
    let resolved = address.resolve(port).map_err(|error| ("resolve", error))?;
    resolved.into_iter().map(|at| listen_on(at, options)).collect()
}

fn listen_on(
    at: SocketAddr,
    options: ListenOptions,
) -> Result<TcpListener, (&'static str, io::Error)> {
    let at_call = |call: &'static str| move |error: io::Error| (call, error);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))
        .map_err(at_call("socket"))?;
    if at.is_ipv6() {
        // IPv4 has sockets of its own; sharing one would make `*` and `::*` collide.
        socket.set_only_v6(true).map_err(at_call("setsockopt IPV6_V6ONLY"))?;
    }
    socket.set_reuse_address(true).map_err(at_call("setsockopt SO_REUSEADDR"))?;
    if options.mark != 0 {
        socket.set_mark(options.mark).map_err(at_call("setsockopt SO_MARK"))?;
    }
    socket.set_nonblocking(true).map_err(at_call("fcntl"))?;
    socket.bind(&SockAddr::from(at)).map_err(at_call("bind"))?;
    socket.listen(options.backlog).map_err(at_call("listen"))?;
    Ok(socket.into())
}

/// Listens on a unix socket. A socket file left by a server that is gone is replaced, one that
/// answers is not. `permissions` of 0 leaves them to the umask.
pub fn listen_unix(
    path: &str,
    permissions: u32,
    backlog: i32,
) -> Result<UnixListener, ListenError> {
    let failed = |error| ListenError::Unix { path: path.to_owned(), error };
    remove_stale_socket(Path::new(path)).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
    if permissions != 0 {
        let mode = std::fs::Permissions::from_mode(permissions);
        std::fs::set_permissions(path, mode).map_err(failed)?;
    }
    socket.listen(backlog).map_err(failed)?;
    Ok(socket.into())
}

fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let answered = std::os::unix::net::UnixStream::connect(path).is_ok();
    if !found.file_type().is_socket() || answered {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: ListenOptions = ListenOptions { backlog: 16, mark: 0 };

    fn bind(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn every_address_gets_a_listener_and_missing_optional_ones_are_skipped() {
        // 192.0.2.1 is reserved for documentation: no host has it.
        let listeners = listen_tcp(&bind(&["127.0.0.1", "-192.0.2.1"]), 0, OPTIONS).unwrap();
        assert_eq!(listeners.len(), 1);
        let at = listeners[0].local_addr().unwrap();
        assert!(at.ip().is_loopback());
        std::net::TcpStream::connect(at).unwrap();
    }

    #[test]
    fn failures_name_the_address_and_the_call() {
        let taken = listen_tcp(&bind(&["127.0.0.1"]), 0, OPTIONS).unwrap();
        let port = taken[0].local_addr().unwrap().port();
        for (addresses, port, expected) in [
            (&["127.0.0.1"][..], port, format!("127.0.0.1:{port}: bind: Address already in use")),
            (&["-127.0.0.1"], port, format!("127.0.0.1:{port}: bind: Address already in use")),
            (&["192.0.2.1"], 1, "192.0.2.1:1: bind: Cannot assign requested address".to_owned()),
        ] {
            let error = listen_tcp(&bind(addresses), port, OPTIONS).unwrap_err().to_string();
            assert_eq!(error, format!("Could not create server TCP listening socket {expected}"));
        }
        let error = listen_tcp(&bind(&["-192.0.2.1"]), 1, OPTIONS).unwrap_err();
        assert!(matches!(error, ListenError::NoneLeft));
    }

    #[test]
    fn shards_have_ports_of_their_own_where_nothing_else_listens() {
        let shards = ShardMap::new(3).unwrap();
        let enabled = Config { cluster_enabled: true, shard_ports: true, ..Config::default() };
        for (port, base, first) in [
            (7000, 0, Some(7001)),
            (7000, 7100, Some(7100)),
            (0, 7100, Some(7100)),
            (7000, 6998, None),  // the last one is the main port
            (7000, 16999, None), // the second is that of the bus
            (7000, 65534, None),
            (65535, 0, None),
        ] {
            let config = Config { port, shard_port_base: base, ..enabled.clone() };
            let found = shard_ports(&config, shards).ok().flatten().map(ShardPorts::first);
            assert_eq!(found, first, "{port} {base}");
        }
        let error = shard_ports(&Config { port: 65535, ..enabled.clone() }, shards).unwrap_err();
        assert!(error.to_string().starts_with("shard-ports: 3 ports from 65535 on"), "{error}");
        for config in [
            Config { cluster_enabled: false, ..enabled.clone() },
            Config { shard_ports: false, ..enabled },
        ] {
            assert!(shard_ports(&config, shards).unwrap().is_none());
        }
    }

    #[test]
    fn a_socket_that_stopped_listening_makes_room_for_another() {
        let first = listen_tcp(&bind(&["127.0.0.1"]), 0, OPTIONS).unwrap();
        let at = first[0].local_addr().unwrap();
        let open = std::net::TcpStream::connect(at).unwrap();
        stop_listening(&first);
        assert!(std::net::TcpStream::connect(at).is_err());
        let second = listen_tcp(&bind(&["127.0.0.1"]), at.port(), OPTIONS).unwrap();
        std::net::TcpStream::connect(at).unwrap();
        drop((open, second));
    }

    #[test]
    fn a_unix_socket_is_made_with_its_permissions_and_replaces_a_dead_one() {
        let path = std::env::temp_dir().join(format!("corelane-{}.sock", std::process::id()));
        let path = path.to_str().unwrap();
        let first = listen_unix(path, 0o700, 16).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(listen_unix(path, 0, 16).is_err(), "the first one still answers");
        drop(first);
        drop(listen_unix(path, 0, 16).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let path = std::env::temp_dir().join(format!("corelane-file-{}", std::process::id()));
        std::fs::write(&path, "data").unwrap();
        let error = listen_unix(path.to_str().unwrap(), 0, 16).unwrap_err().to_string();
        assert!(error.ends_with("bind: Address already in use"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        std::fs::remove_file(&path).unwrap();
    }
}
