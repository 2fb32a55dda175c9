//! One connection to another node, for the commands of many clients: in order there, in order back.
//!
//! Commands go out when the node has let the link in, so what a connection that fails takes with it is known: what waited
//! was never sent. What was sent and is not answered may have run, and nobody can say.
//!
//! A block goes out as MULTI, its commands and EXEC, and only the last reply is the client's. If one of its commands is
//! refused because the slot is elsewhere, EXEC does nothing, so the block as a whole may follow.

use std::collections::VecDeque;

use super::{FORWARDS, Redirection};
use crate::journal::recorder::write_effect;
use crate::resp::ReplyEnd;
use crate::resp::parse_reply::ReplyError;

/// How often a request follows a redirection: to where a slot has gone, to where it is going from there, and once
/// more because both may have been yesterday's news.
const HOPS_MAX: u8 = 3;
/// Bytes of requests without an answer, from which on clients wait before they send more. Half a second of a
/// network of 100 Mbit/s: more would only wait elsewhere.
const UNANSWERED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A buffer that a long reply has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// What is forwarded, and `T`: for whom.
#[derive(Debug)]
pub struct Request<T> {
    /// As it goes out.
    bytes: Vec<u8>,
    /// Replies to it that no client sees, before the one that counts.
    earlier: usize,
    asking: bool,
    hops: u8,
    /// For whom.
    pub due: T,
}

impl<T> Request<T> {
    /// One command.
    pub fn command(words: &[&[u8]], due: T) -> Self {
        let mut bytes = Vec::new();
        write_effect(&mut bytes, words);
        Self { bytes, earlier: 0, asking: false, hops: 0, due }
    }

    /// The commands of a block.
    pub fn block<'w>(commands: impl Iterator<Item = Vec<&'w [u8]>>, due: T) -> Self {
        let mut request = Self::command(&[b"MULTI"], due);
        request.earlier = 1;
        for words in commands {
            write_effect(&mut request.bytes, &words);
            request.earlier += 1;
        }
        write_effect(&mut request.bytes, &[b"EXEC"]);
        request
    }

    /// It is sent to where this says; false if that has happened often enough.
    pub fn follow(&mut self, to: &Redirection<'_>) -> bool {
        self.asking = to.asks;
        self.hops += 1;
        self.hops <= HOPS_MAX
    }
}

/// How a link introduces itself.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Replies are to be in RESP3.
    pub resp3: bool,
    /// Empty for the default user.
    pub user: &'a [u8],
    /// Empty if there is no password.
    pub password: &'a [u8],
}

/// Why a link is no good any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkError {
    /// The node does not let it in, and says why.
    Refused(String),
    /// What came is no reply.
    Malformed(ReplyError),
    /// A reply came that nobody waits for.
    Unasked,
}

/// What is known of a request whose link is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It never left.
    Unsent,
    /// It may have run.
    Unanswered,
}

struct UnderWay<T> {
    request: Request<T>,
    /// Replies that come before the one that counts.
    earlier: usize,
    /// The first of those that sent it elsewhere.
    elsewhere: Option<Vec<u8>>,
}

/// See the module.
pub struct Link<T> {
    /// Answers to the introduction that are still to come.
    greetings_due: usize,
    waiting: VecDeque<Request<T>>,
    under_way: VecDeque<UnderWay<T>>,
    /// Of all those.
    bytes: usize,
    output: Vec<u8>,
    /// The beginning of a reply, and what is known of its end.
    unread: Vec<u8>,
    end: ReplyEnd,
}

impl<T> Link<T> {
    /// A link whose connection is being made.
    pub fn new(login: &Login<'_>) -> Self {
        let mut output = Vec::new();
        let mut greetings_due = 1;
        let user = if login.user.is_empty() { b"default" } else { login.user };
        let auth: &[&[u8]] =
            if login.password.is_empty() { &[] } else { &[b"AUTH", user, login.password] };
        if login.resp3 {
            let hello: &[&[u8]] = &[b"HELLO", b"3"];
            write_effect(&mut output, &[hello, auth].concat());
            greetings_due += 1;
        } else if !auth.is_empty() {
            write_effect(&mut output, auth);
            greetings_due += 1;
        }
        write_effect(&mut output, &[b"CLIENT", b"SETINFO", FORWARDS.as_bytes(), b"yes"]);
        Self {
            greetings_due,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            bytes: 0,
            output,
            unread: Vec::new(),
            end: ReplyEnd::default(),
        }
    }

    /// Sends a request, or keeps it until the node has let the link in.
    pub fn send(&mut self, request: Request<T>) {
        self.bytes += request.bytes.len();
        if self.greetings_due > 0 {
            self.waiting.push_back(request);
        } else {
            self.send_now(request);
        }
    }

    fn send_now(&mut self, request: Request<T>) {
        if request.asking {
            write_effect(&mut self.output, &[b"ASKING"]);
        }
        self.output.extend_from_slice(&request.bytes);
        let earlier = request.earlier + usize::from(request.asking);
        self.under_way.push_back(UnderWay { request, earlier, elsewhere: None });
    }

    /// What is to be written to the connection.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether so much waits for answers that nothing should be added.
    pub fn is_full(&self) -> bool {
        self.bytes >= UNANSWERED_BYTES_MAX
    }

    /// Whether nothing waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Whether the node has let it in.
    pub fn is_in(&self) -> bool {
        self.greetings_due == 0
    }

    /// Bytes came. `answered` gets each request whose answer is whole, in order, and the answer.
    pub fn received(
        &mut self,
        bytes: &[u8],
        mut answered: impl FnMut(Request<T>, &[u8]),
    ) -> Result<(), LinkError> {
        let mut unread = std::mem::take(&mut self.unread);
        let has_begun = !unread.is_empty();
        if has_begun {
            unread.extend_from_slice(bytes);
        }
        // What came whole is read where it is.
        let input = if has_begun { &unread[..] } else { bytes };
        let mut used = 0;
        while let Some(length) = self.end.find(&input[used..]).map_err(LinkError::Malformed)? {
            self.take_reply(&input[used..used + length], &mut answered)?;
            used += length;
        }
        if !has_begun {
            unread.extend_from_slice(&bytes[used..]);
        } else if used == unread.len() && unread.capacity() > KEPT_BYTES_MAX {
            unread = Vec::new();
        } else {
            unread.drain(..used);
        }
        self.unread = unread;
        Ok(())
    }

    fn take_reply(
        &mut self,
        reply: &[u8],
        answered: &mut impl FnMut(Request<T>, &[u8]),
    ) -> Result<(), LinkError> {
        if reply.starts_with(b">") {
            // Out of turn, so it answers nothing.
            return Ok(());
        }
        if self.greetings_due > 0 {
            return self.take_greeting(reply);
        }
        let first = self.under_way.front_mut().ok_or(LinkError::Unasked)?;
        if first.earlier > 0 {
            first.earlier -= 1;
            if first.elsewhere.is_none() && Redirection::of_reply(reply).is_some() {
                first.elsewhere = Some(reply.to_vec());
            }
            return Ok(());
        }
        let Some(UnderWay { request, elsewhere, .. }) = self.under_way.pop_front() else {
            return Err(LinkError::Unasked);
        };
        self.bytes -= request.bytes.len();
        // A block that ran after all needs to go nowhere.
        let elsewhere = elsewhere.filter(|_| reply.starts_with(b"-"));
        answered(request, elsewhere.as_deref().unwrap_or(reply));
        Ok(())
    }

    fn take_greeting(&mut self, reply: &[u8]) -> Result<(), LinkError> {
        self.greetings_due -= 1;
        // The last word is our own: whoever does not know it does not forward either.
        let is_refusal = match self.greetings_due {
            0 => reply.starts_with(b"-NOAUTH"),
            _ => reply.starts_with(b"-"),
        };
        if is_refusal {
            let text = reply.strip_prefix(b"-").unwrap_or(reply).trim_ascii_end();
            return Err(LinkError::Refused(String::from_utf8_lossy(text).into_owned()));
        }
        if self.greetings_due == 0 {
            for request in std::mem::take(&mut self.waiting) {
                self.send_now(request);
            }
        }
        Ok(())
    }

    /// The connection is gone: what was to be answered by it, in order.
    pub fn lose(self) -> impl Iterator<Item = (Request<T>, Fate)> {
        let under_way = self.under_way.into_iter().map(|under| (under.request, Fate::Unanswered));
        under_way.chain(self.waiting.into_iter().map(|request| (request, Fate::Unsent)))
    }
}

#[cfg(test)]
mod tests;
