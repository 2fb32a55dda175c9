//! What goes wrong in a command, in the words that the client will see.

use std::borrow::Cow;
use std::fmt;

use crate::keyspace::WrongType;

/// What follows the `-` on the wire, byte for byte as Redis 7.0 says it: client libraries match on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The key holds a value of another type.
    WrongType,
    /// The options make no sense.
    Syntax,
    /// An argument should be an integer.
    NotInteger,
    /// An argument should be a float.
    NotFloat,
    /// No such key (RENAME, LSET, …).
    NoSuchKey,
    /// An index points outside (LSET).
    IndexOutOfRange,
    /// A value must be positive (LPOP count, …).
    OutOfRangePositive,
    /// The wrong number of arguments for this command; the name in lower case, `config|set` for a
    /// subcommand.
    WrongArity(String),
    /// Never shown: the command needs a key that is not in its reach, and has changed nothing
    /// ([`Ctx::reach`](super::Ctx::reach)); it will be run again when it has that key.
    OutOfReach,
    /// Any other text, with its code: `"ERR offset is out of range"`.
    Text(Cow<'static, str>),
}

impl CommandError {
    /// An error of one command alone; `text` begins with its code.
    pub const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// An error whose text is made up at run time; `text` begins with its code.
    pub fn owned(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => {
                f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value")
            }
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::NotFloat => f.write_str("ERR value is not a valid float"),
            Self::NoSuchKey => f.write_str("ERR no such key"),
            Self::IndexOutOfRange => f.write_str("ERR index out of range"),
            Self::OutOfRangePositive => f.write_str("ERR value is out of range, must be positive"),
            Self::WrongArity(name) => {
                write!(f, "ERR wrong number of arguments for '{name}' command")
            }
            Self::OutOfReach => f.write_str("TRYAGAIN a key is held by somebody else"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<WrongType> for CommandError {
    fn from(_: WrongType) -> Self {
        Self::WrongType
    }
}

/// What a handler returns: its reply is complete, or this error is the reply (what the handler has
/// written so far is taken back).
pub type CommandResult<T = ()> = Result<T, CommandError>;
