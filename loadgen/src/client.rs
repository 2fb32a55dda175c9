//! A blocking connection: logging in, and the few questions outside the measured load.
//!
//! The load itself goes through [`crate::ring`]; this is the connection before it is handed there,
//! and the one that `corelane-gap` pings with, where one request at a time is the point.
//!
//! Promise: a [`Client`] that was returned by [`Client::connect`] has been greeted: the server
//! answered it, so a wrong password, a full server or protected mode is told before the run starts.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::failure::Failure;
use crate::protocol::{ReplyKind, ReplyScanner, encode_command};

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A host name or address, and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a connection says before the run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Login {
    /// The ACL user; the default user if only a password is given.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The database.
    pub db: u32,
    /// Whether to switch to RESP3.
    pub resp3: bool,
}

impl Login {
    /// The commands in order. `PING` comes last, so that even a plain login asks something.
    fn commands(&self) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        let mut command = |words: &[&str]| {
            commands.push(words.iter().map(|&word| word.to_owned()).collect());
        };
        let user = self.user.as_deref();
        match (self.resp3, self.password.as_deref()) {
            (true, None) => command(&["HELLO", "3"]),
            (true, Some(password)) => {
                command(&["HELLO", "3", "AUTH", user.unwrap_or("default"), password]);
            }
            (false, None) => {}
            (false, Some(password)) => match user {
                Some(user) => command(&["AUTH", user, password]),
                None => command(&["AUTH", password]),
            },
        }
        if self.db != 0 {
            command(&["SELECT", &self.db.to_string()]);
        }
        command(&["PING"]);
        commands
    }
}

/// Longest wait for a connection to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the reply to a login command.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read at once; replies here are short.
const READ_BYTES: usize = 4096;

/// A reply as it came, and what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Value, null or error.
    pub kind: ReplyKind,
    /// All its bytes, type byte and line ends included.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The reply's first line without the type byte.
    pub fn text(&self) -> String {
        let line = self.bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned()
    }
}

/// A blocking connection.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    request: Vec<u8>,
}

impl Client {
    /// Connects and logs in.
    pub fn connect(target: &Target, login: &Login) -> Result<Self, Failure> {
        let in_connect = |source| Failure::Connect { target: target.clone(), source };
        let socket = open_socket(target).map_err(in_connect)?;
        socket.set_read_timeout(Some(LOGIN_TIMEOUT)).map_err(in_connect)?;
        let mut client = Self { socket, request: Vec::new() };
        for words in login.commands() {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            client.call_ok(&words)?;
        }
        client.socket.set_read_timeout(None).map_err(in_connect)?;
        Ok(client)
    }

    /// Sends one command and waits for its reply.
    pub fn call(&mut self, arguments: &[&[u8]]) -> Result<Reply, Failure> {
        self.request.clear();
        encode_command(&mut self.request, arguments);
        self.socket.write_all(&self.request).map_err(|error| Failure::Lost(Some(error)))?;
        let (mut scanner, mut kind, mut bytes) = (ReplyScanner::new(), None, Vec::new());
        loop {
            let mut chunk = [0; READ_BYTES];
            let count = match self.socket.read(&mut chunk) {
                Ok(0) => return Err(Failure::Lost(None)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Lost(Some(error))),
            };
            bytes.extend_from_slice(&chunk[..count]);
            scanner.scan(&chunk[..count], |found| kind = Some(found))?;
            if let Some(kind) = kind {
                return Ok(Reply { kind, bytes });
            }
        }
    }

    /// Like [`Self::call`], and an error reply is a failure.
    pub fn call_ok(&mut self, arguments: &[&[u8]]) -> Result<Reply, Failure> {
        let reply = self.call(arguments)?;
        match reply.kind {
            ReplyKind::Error => {
                let command = arguments.first().copied().unwrap_or_default();
                let command = String::from_utf8_lossy(command).into_owned();
                Err(Failure::Refused { command, text: reply.text() })
            }
            ReplyKind::Value | ReplyKind::Null => Ok(reply),
        }
    }

    /// The socket, for the ring.
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

fn open_socket(target: &Target) -> io::Result<Socket> {
    match target {
        Target::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok(socket)
        }
        Target::Tcp { host, port } => {
            let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match open_tcp(address) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last_error = error,
                }
            }
            Err(last_error)
        }
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A small request must not wait for the acknowledgement of the one before it.
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: Option<&str>, password: Option<&str>, db: u32, resp3: bool) -> Vec<String> {
        let owned = |text: &str| text.to_owned();
        let login = Login { user: user.map(owned), password: password.map(owned), db, resp3 };
        login.commands().iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn a_login_says_what_was_asked_and_pings_last() {
        assert_eq!(login(None, None, 0, false), ["PING"]);
        assert_eq!(login(None, Some("p"), 3, false), ["AUTH p", "SELECT 3", "PING"]);
        assert_eq!(login(Some("u"), Some("p"), 0, false), ["AUTH u p", "PING"]);
        assert_eq!(login(None, None, 0, true), ["HELLO 3", "PING"]);
        assert_eq!(login(None, Some("p"), 0, true), ["HELLO 3 AUTH default p", "PING"]);
    }

    #[test]
    fn an_absent_server_is_named_in_the_failure() {
        let target = Target::Unix("/nonexistent/socket".into());
        let failure = Client::connect(&target, &Login::default()).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with("cannot connect to /nonexistent/socket: "), "{text}");
    }
}
