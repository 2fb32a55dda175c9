//! Why a run ended early.
//!
//! One enum with the data that its words need: every text names what was tried and what to do or
//! to look at, because the reader sees only this line and exit code 1.

use std::path::PathBuf;
use std::{fmt, io};

use crate::client::Target;
use crate::protocol::ProtocolError;
use crate::template::TemplateError;

/// Why a run ended early.
#[derive(Debug)]
pub enum Failure {
    /// The server could not be reached.
    Connect {
        /// Where it should be.
        target: Target,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered a command with an error where the run needs success.
    Refused {
        /// The command's name.
        command: String,
        /// The server's words.
        text: String,
    },
    /// The kernel gave no ring.
    Ring(io::Error),
    /// A connection broke during the run; `None` if the server closed it in good order.
    Lost(Option<io::Error>),
    /// The server sent something that is not RESP.
    Protocol(ProtocolError),
    /// The command to send cannot be read.
    Template(TemplateError),
    /// The report could not be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or signal handler could not be set up, or a thread ended without a result.
    Thread(String),
    /// The server is not in the state that the measurement needs.
    Precondition(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { target, source } => write!(f, "cannot connect to {target}: {source}"),
            Self::Refused { command, text } => write!(f, "the server refused {command}: {text}"),
            Self::Ring(source) => write!(
                f,
                "cannot use io_uring: {source} (needs Linux 6.1 or newer, the sysctl \
                 kernel.io_uring_disabled at 0, and a container that allows io_uring)"
            ),
            Self::Lost(None) => f.write_str("the server closed a connection during the run"),
            Self::Lost(Some(source)) => write!(f, "lost a connection during the run: {source}"),
            Self::Protocol(source) => write!(f, "the server does not speak RESP: {source}"),
            Self::Template(source) => write!(f, "{source}"),
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::Thread(text) | Self::Precondition(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ProtocolError> for Failure {
    fn from(source: ProtocolError) -> Self {
        Self::Protocol(source)
    }
}

impl From<TemplateError> for Failure {
    fn from(source: TemplateError) -> Self {
        Self::Template(source)
    }
}
