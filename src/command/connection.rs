//! Commands about the connection: PING and ECHO run anywhere; the rest is the session's.

use super::spec::*;
use super::{Command, CommandResult, Ctx, Request, Run, SessionCommand};
use crate::resp::Reply;

/// Flags of what is allowed at any time: before a login ([`NO_AUTH`]), while loading, while busy.
const ANY_TIME: Flags =
    NOSCRIPT.with(LOADING).with(STALE).with(FAST).with(NO_AUTH).with(ALLOW_BUSY);
/// Flags of CLIENT subcommands.
const CLIENT: Flags = NOSCRIPT.with(LOADING).with(STALE);
/// ACL categories of CLIENT subcommands that look at or act on others.
const DANGEROUS: &[&str] = &["@dangerous"];

/// The rows of this family.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "ping", arity: Arity::AtLeast(1), flags: FAST, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Data(ping) },
    Command { name: "echo", arity: Arity::Exactly(2), flags: LOADING.with(STALE).with(FAST), group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Data(echo) },
    Command { name: "auth", arity: Arity::AtLeast(2), flags: ANY_TIME, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Auth) },
    Command { name: "hello", arity: Arity::AtLeast(1), flags: ANY_TIME, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Hello) },
    Command { name: "select", arity: Arity::Exactly(2), flags: LOADING.with(STALE).with(FAST), group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Select) },
    Command { name: "quit", arity: Arity::AtLeast(1), flags: ANY_TIME, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Quit) },
    Command { name: "reset", arity: Arity::Exactly(1), flags: ANY_TIME, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::Reset) },
    Command { name: "client", arity: Arity::AtLeast(2), flags: NO_FLAGS, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Container },
    Command { name: "client|id", arity: Arity::Exactly(2), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientId) },
    Command { name: "client|getname", arity: Arity::Exactly(2), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientGetname) },
    Command { name: "client|setname", arity: Arity::Exactly(3), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientSetname) },
    Command { name: "client|setinfo", arity: Arity::Exactly(4), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientSetinfo) },
    Command { name: "client|info", arity: Arity::Exactly(2), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientInfo) },
    Command { name: "client|list", arity: Arity::AtLeast(2), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientList) },
    Command { name: "client|kill", arity: Arity::AtLeast(3), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientKill) },
    Command { name: "client|no-evict", arity: Arity::Exactly(3), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientNoEvict) },
    Command { name: "client|no-touch", arity: Arity::Exactly(3), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientNoTouch) },
    Command { name: "client|reply", arity: Arity::Exactly(3), flags: CLIENT, group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientReply) },
    Command { name: "client|unblock", arity: Arity::AtLeast(3), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientUnblock) },
    Command { name: "client|pause", arity: Arity::AtLeast(3), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientPause) },
    Command { name: "client|unpause", arity: Arity::Exactly(2), flags: ADMIN.with(CLIENT), group: Group::Connection, keys: NO_KEYS, categories: DANGEROUS, run: Run::Session(SessionCommand::ClientUnpause) },
    Command { name: "client|help", arity: Arity::Exactly(2), flags: LOADING.with(STALE), group: Group::Connection, keys: NO_KEYS, categories: &[], run: Run::Session(SessionCommand::ClientHelp) },
];

/// PING [message]
fn ping(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    match request.rest(1) {
        [] => reply.simple("PONG"),
        [message] => reply.bulk(message),
        _ => return Err(super::CommandError::WrongArity("ping".to_owned())),
    }
    Ok(())
}

/// ECHO message
fn echo(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> CommandResult {
    reply.bulk(request.arg(1));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::TestShard;

    #[test]
    fn ping_and_echo_answer_what_they_are_given() {
        let mut shard = TestShard::new();
        for (words, expected) in [
            ("PING", "+PONG\r\n"),
            ("PING hello", "$5\r\nhello\r\n"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
            ("ECHO x", "$1\r\nx\r\n"),
        ] {
            assert_eq!(shard.run(words), expected, "{words}");
        }
    }
}
