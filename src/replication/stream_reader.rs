//! Where the commands of a replication stream, or of what a replica says, begin and end.
//!
//! Only arrays of bulk strings are commands here; an inline command is an error, as it is for Redis. A lone line
//! feed between commands is counted and means nothing.

use crate::resp::{Limits, Parser, Step};

/// The stream cannot be understood: the link is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadStream;

/// What a command means for the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing: it is applied.
    Plain,
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// SELECT, which tells the database of what follows.
    Select,
    /// REPLCONF, whatever it says: it is about the link, and not applied.
    Replconf,
    /// A lone line feed.
    KeepAlive,
}

/// Finds the first whole command of `bytes`: its length and kind; `None` if more bytes are needed. `visit` sees its
/// words.
pub fn next_command(
    parser: &mut Parser,
    bytes: &[u8],
    limits: &Limits,
    visit: impl FnOnce(&[&[u8]]),
) -> Result<Option<(usize, Kind)>, BadStream> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'\n') => return Ok(Some((1, Kind::KeepAlive))),
        Some(b'*') => {}
        Some(_) => return Err(BadStream),
    }
    let mut args: Vec<&[u8]> = Vec::new();
    match parser.next(bytes, limits, &mut args) {
        Ok(Step::Command { consumed }) => {
            let kind = match args.first() {
                Some(name) if name.eq_ignore_ascii_case(b"multi") => Kind::Multi,
                Some(name) if name.eq_ignore_ascii_case(b"exec") => Kind::Exec,
                Some(name) if name.eq_ignore_ascii_case(b"select") => Kind::Select,
                Some(name) if name.eq_ignore_ascii_case(b"replconf") => Kind::Replconf,
                _ => Kind::Plain,
            };
            visit(&args);
            Ok(Some((consumed, kind)))
        }
        Ok(_) => Ok(None),
        Err(_) => Err(BadStream),
    }
}
