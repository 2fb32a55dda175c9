//! Commands about the connection itself: AUTH, HELLO, SELECT, QUIT, RESET and CLIENT.

use super::Shard;
use super::clients::{self, ClientFilter};
use super::message::{PartWork, Unblock};
use super::script_commands::is_about_scripts;
use crate::cluster::forwarding::FORWARDS;
use crate::command::{
    CommandError, CommandResult, NO_CLUSTER, Part, SessionCommand, selected_database,
};
use crate::config::Config;
use crate::datatypes::number::parse_i64;
use crate::pubsub::Kind;
use crate::reactor::{Action, ConnId};
use crate::resp::Reply;
use crate::session::{ReplyMode, Session};
use crate::shard_map::ShardId;

/// Starts an operation that the connection waits for.
pub(super) type Start = fn(&mut Shard, ConnId, &[&[u8]]);

/// What became of a session command.
pub(super) enum SessionOutcome {
    /// It is answered.
    Done,
    /// It is answered and the connection ends.
    Closing,
    /// It has a wide effect: start it when the connection's earlier replies have come.
    Operation(Start),
}

/// The operation that ends subscriptions of this kind.
fn unsubscribe(kind: Kind) -> Start {
    match kind {
        Kind::Channel => |shard, conn, words| shard.unsubscribe(conn, Kind::Channel, &words[1..]),
        Kind::Pattern => |shard, conn, words| shard.unsubscribe(conn, Kind::Pattern, &words[1..]),
        Kind::Shard => |shard, conn, words| shard.unsubscribe(conn, Kind::Shard, &words[1..]),
    }
}

impl Shard {
    /// Runs a command that is about the connection, other connections or the server.
    pub(super) fn session_command(
        &mut self,
        conn: ConnId,
        which: SessionCommand,
        words: &[&[u8]],
    ) -> SessionOutcome {
        let is_subscriber = self.sessions.get(conn).is_some_and(|s| s.subscribed.any());
        match which {
            SessionCommand::ClientReply => return self.client_reply(conn, words),
            SessionCommand::Subscribe(kind) => {
                self.subscribe(conn, kind, &words[1..]);
                return SessionOutcome::Done;
            }
            SessionCommand::Unsubscribe(kind) => {
                return SessionOutcome::Operation(unsubscribe(kind));
            }
            SessionCommand::Reset if is_subscriber => {
                return SessionOutcome::Operation(Shard::reset_subscriber);
            }
            _ => {}
        }
        if let Some(start) = Self::operation_of(which) {
            return SessionOutcome::Operation(start);
        }
        let made = self.session_reply(conn, which, words);
        let Some(session) = self.sessions.get_mut(conn) else { return SessionOutcome::Closing };
        let out = session.replies.local();
        let before = out.len();
        out.extend_from_slice(&made);
        self.apply_reply_mode(conn, before);
        if which == SessionCommand::Quit {
            self.close_after_replies(conn);
            return SessionOutcome::Closing;
        }
        SessionOutcome::Done
    }

    /// How a command starts that has to ask other shards, or the control core.
    pub(super) fn operation_of(which: SessionCommand) -> Option<Start> {
        use SessionCommand as C;
        Some(match which {
            C::ClientList => Shard::client_list,
            C::Migrate => Shard::migrate,
            C::ClientKill => Shard::client_kill,
            C::ClientUnblock => Shard::client_unblock,
            C::ClientPause => Shard::client_pause,
            C::ClientUnpause => Shard::client_unpause,
            C::Failover => Shard::fail_over,
            C::ConfigSet => Shard::config_set,
            C::ConfigRewrite => Shard::config_rewrite,
            C::Shutdown => Shard::shutdown,
            C::Save => Shard::save,
            C::BackgroundSave => Shard::background_save,
            C::RewriteAof => Shard::rewrite_aof,
            C::Cluster => Shard::cluster_call,
            C::ClusterSlotStats => Shard::slot_stats,
            C::ScriptKill => Shard::script_kill,
            C::FunctionKill => Shard::function_kill,
            C::FunctionStats => Shard::function_stats,
            C::ReplicaOf => Shard::replica_of,
            C::Psync => Shard::become_replica,
            _ => return None,
        })
    }

    /// Runs a command about the connection alone; its reply.
    pub(super) fn session_reply(
        &mut self,
        conn: ConnId,
        which: SessionCommand,
        words: &[&[u8]],
    ) -> Vec<u8> {
        use SessionCommand as C;
        match which {
            C::Reset => self.leave_multi(conn),
            C::Subscribe(kind) => return self.subscribe_at_once(conn, kind, &words[1..]),
            C::Unsubscribe(kind) => return self.unsubscribe_at_once(conn, kind, &words[1..]),
            _ => {}
        }
        let mut made = Vec::new();
        if is_about_scripts(which) {
            let resp3 = self.protocol_of(conn);
            let db = self.sessions.get(conn).map_or(0, |session| session.db);
            let result = self.script_command(which, (db, words), &mut Reply::new(&mut made, resp3));
            if let Err(error) = result {
                made.clear();
                Reply::new(&mut made, resp3).error(&error);
                self.engine.count_error(&error);
            }
            return made;
        }
        let config = std::sync::Arc::clone(&self.engine.config);
        let now_ms = self.engine.keyspace.now_ms();
        let Some(session) = self.sessions.get_mut(conn) else { return made };
        let mut reply = Reply::new(&mut made, session.resp3);
        let result = match which {
            C::Auth => auth(session, &config.requirepass, words, &mut reply),
            C::Asking | C::Readonly | C::Readwrite => {
                set_cluster_mode(session, config.cluster_enabled, which, &mut reply)
            }
            C::Hello => hello(session, &config, words, &mut reply),
            C::Select => select(session, &config, words, &mut reply),
            C::Reset => {
                session.reset(config.requirepass.is_empty());
                reply.simple("RESET");
                Ok(())
            }
            C::ClientInfo => {
                let line = clients::line(conn, session, now_ms);
                reply.verbatim(*b"txt", format!("{line}\n").as_bytes());
                Ok(())
            }
            C::Role => {
                super::replication::role(&self.process.replication(), &mut reply);
                Ok(())
            }
            C::Replconf => super::replication::replconf(session, words, &mut reply),
            C::ClientReply => set_reply_mode(session, words[2]).map(|answers| {
                if answers {
                    reply.ok();
                }
            }),
            // Within MULTI there is nothing to unwatch: EXEC has ended the watch.
            C::Quit | C::Unwatch => {
                reply.ok();
                Ok(())
            }
            _ => client(session, which, words, &mut reply),
        };
        if let Err(error) = result {
            made.clear();
            Reply::new(&mut made, session.resp3).error(&error);
            self.engine.count_error(&error);
        }
        made
    }

    fn client_reply(&mut self, conn: ConnId, words: &[&[u8]]) -> SessionOutcome {
        let Some(session) = self.sessions.get_mut(conn) else { return SessionOutcome::Closing };
        let answers = set_reply_mode(session, words[2]);
        let out = session.replies.local();
        let before = out.len();
        match answers {
            Ok(true) => Reply::new(out, false).ok(),
            Ok(false) => {}
            Err(error) => {
                Reply::new(out, session.resp3).error(&error);
                self.engine.count_error(&error);
                self.apply_reply_mode(conn, before);
                return SessionOutcome::Done;
            }
        }
        session.replies.end_local(before);
        SessionOutcome::Done
    }

    fn client_list(&mut self, conn: ConnId, words: &[&[u8]]) {
        let filter = match ClientFilter::for_list(&words[2..]) {
            Ok(filter) => filter,
            Err(error) => return self.complete(conn, |_, reply| reply.error(error)),
        };
        let work = PartWork::ClientList(std::sync::Arc::new(filter));
        let merge = |_: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            let mut lines: Vec<(u64, String)> = Vec::new();
            for part in parts {
                if let Part::Other(part) = part
                    && let Ok(part) = part.downcast::<Vec<(u64, String)>>()
                {
                    lines.extend(*part);
                }
            }
            lines.sort_unstable();
            let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
            reply.verbatim(*b"txt", text.as_bytes());
        };
        self.gather(conn, work, Box::new(merge));
    }

    fn client_kill(&mut self, conn: ConnId, words: &[&[u8]]) {
        let Some(session) = self.sessions.get(conn) else { return };
        let (filter, old_form) = match ClientFilter::for_kill(&words[2..], session.id) {
            Ok(parsed) => parsed,
            Err(error) => return self.complete(conn, |_, reply| reply.error(error)),
        };
        let work = PartWork::ClientKill(std::sync::Arc::new(filter));
        let merge = move |_: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| match (
            old_form,
            Part::sum(&parts),
        ) {
            (true, 0) => reply.error("ERR No such client"),
            (true, _) => reply.ok(),
            (false, killed) => reply.integer(killed as i64),
        };
        self.gather(conn, work, Box::new(merge));
    }

    /// CLIENT UNBLOCK id [TIMEOUT | ERROR]
    fn client_unblock(&mut self, conn: ConnId, words: &[&[u8]]) {
        let (id, why) = match unblock_options(&words[2..]) {
            Ok(options) => options,
            Err(error) => {
                self.engine.count_error(&error);
                return self.complete(conn, |_, reply| reply.error(error));
            }
        };
        let merge = |_: &mut Shard, _: ConnId, parts: Vec<Part>, reply: &mut Reply<'_>| {
            reply.integer(Part::sum(&parts) as i64);
        };
        self.gather(conn, PartWork::Unblock(id, why), Box::new(merge));
    }

    /// Closes the clients of this shard that match; returns how many, and the shards that have to know of it before
    /// anybody relies on it. One that waits for this very command is closed after its reply.
    pub(super) fn kill_clients(&mut self, filter: &ClientFilter) -> (u64, Vec<ShardId>) {
        let matching: Vec<(ConnId, bool)> = self
            .sessions
            .iter()
            .filter(|(_, session)| filter.matches(session))
            .map(|(conn, session)| (conn, Some(session.id) == filter.asking()))
            .collect();
        let mut concerned = Vec::new();
        for (conn, asks) in &matching {
            if *asks {
                self.close_after_replies(*conn);
            } else {
                let waits = self.sessions.get(*conn).and_then(|session| session.blocked);
                concerned.extend(waits.map(|(shard, _)| shard));
                self.cut(*conn);
                // Now, and not when the connection has ended: no PUBLISH behind the reply counts this client.
                if self.forget_subscriber(*conn) {
                    concerned.extend(self.engine.shards.iter());
                }
            }
        }
        (matching.len() as u64, concerned)
    }

    /// Runs nothing more of `conn`, and closes it when all that is due has been sent.
    pub(super) fn close_after_replies(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.closing = true;
            session.query = Vec::new();
        }
        self.touch(conn);
    }

    /// Output of `conn` as `client-output-buffer-limit` counts it.
    pub(super) fn output_bytes(&self, conn: ConnId) -> usize {
        self.sessions.get(conn).map_or(0, Session::limited_output_bytes)
    }

    /// Closes `conn` because it does not read what it asked for.
    #[cold]
    pub(super) fn cut_for_output(&mut self, conn: ConnId) {
        let unsent = self.output_bytes(conn);
        tracing::warn!(?conn, unsent, "closing client: over its output buffer limit");
        if let Some(session) = self.sessions.get_mut(conn) {
            session.replies.clear();
        }
        self.cut(conn);
    }

    /// Closes `conn` now; what is due is lost.
    pub(super) fn cut(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.closing = true;
            session.query = Vec::new();
            self.actions.push(Action::Abort(conn));
        }
        self.abandon(conn);
    }

    /// The client of `conn` is gone, or as good as: it waits for nothing and watches nothing.
    pub(super) fn abandon(&mut self, conn: ConnId) {
        self.close_sole_links(conn);
        self.end_watch(conn);
        let blocked = self.sessions.get_mut(conn).and_then(|session| session.blocked.take());
        if let Some((shard, number)) = blocked {
            self.unblock_on(shard, number, Unblock::Gone);
        }
    }
}

const WRONG_PASSWORD: CommandError =
    CommandError::text("WRONGPASS invalid username-password pair or user is disabled.");

/// Compares without telling by its time how much of the password was right.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

fn check_password(password: &[u8], user: &[u8], given: &[u8]) -> CommandResult {
    // Without a password the default user accepts any (Redis 7.0 "nopass").
    if user == b"default" && (password.is_empty() || same_secret(password, given)) {
        return Ok(());
    }
    Err(WRONG_PASSWORD)
}

/// AUTH [username] password
fn auth(
    session: &mut Session,
    password: &[u8],
    words: &[&[u8]],
    reply: &mut Reply<'_>,
) -> CommandResult {
    let (user, given): (&[u8], &[u8]) = match words {
        [_, given] if password.is_empty() => {
            let _ = given;
            return Err(CommandError::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ));
        }
        [_, given] => (b"default", given),
        [_, user, given] => (user, given),
        _ => return Err(CommandError::Syntax),
    };
    check_password(password, user, given)?;
    session.authenticated = true;
    reply.ok();
    Ok(())
}

/// SELECT index
fn select(
    session: &mut Session,
    config: &Config,
    words: &[&[u8]],
    reply: &mut Reply<'_>,
) -> CommandResult {
    session.db = selected_database(words[1], config)?;
    reply.ok();
    Ok(())
}

/// ASKING, READONLY, READWRITE: what a client of a cluster wants of its next command, or of all.
fn set_cluster_mode(
    session: &mut Session,
    is_cluster: bool,
    which: SessionCommand,
    reply: &mut Reply<'_>,
) -> CommandResult {
    if !is_cluster {
        return Err(NO_CLUSTER);
    }
    match which {
        SessionCommand::Asking => session.asking = true,
        SessionCommand::Readonly => session.readonly = true,
        _ => session.readonly = false,
    }
    reply.ok();
    Ok(())
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
fn hello(
    session: &mut Session,
    config: &Config,
    words: &[&[u8]],
    reply: &mut Reply<'_>,
) -> CommandResult {
    let mut version = None;
    if let Some(word) = words.get(1) {
        let number = parse_i64(word)
            .ok_or(CommandError::text("ERR Protocol version is not an integer or out of range"))?;
        if number != 2 && number != 3 {
            return Err(CommandError::text("NOPROTO unsupported protocol version"));
        }
        version = Some(number);
    }
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < words.len() {
        let (word, left) = (words[at], words.len() - at - 1);
        if word.eq_ignore_ascii_case(b"auth") && left >= 2 {
            login = Some((words[at + 1], words[at + 2]));
            at += 3;
        } else if word.eq_ignore_ascii_case(b"setname") && left >= 1 {
            name = Some(words[at + 1]);
            at += 2;
        } else {
            let word = String::from_utf8_lossy(word).into_owned();
            return Err(CommandError::owned(format!("ERR Syntax error in HELLO option '{word}'")));
        }
    }
    if let Some((user, given)) = login {
        check_password(&config.requirepass, user, given)?;
        session.authenticated = true;
    }
    if !session.authenticated {
        return Err(CommandError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        set_name(session, name)?;
    }
    if let Some(version) = version {
        session.resp3 = version == 3;
    }
    reply.set_resp3(session.resp3);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(super::server_commands::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if session.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(if config.cluster_enabled { b"cluster" } else { b"standalone" });
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// CLIENT REPLY: sets the mode, and says whether there is a reply to it.
fn set_reply_mode(session: &mut Session, word: &[u8]) -> CommandResult<bool> {
    if word.eq_ignore_ascii_case(b"on") {
        session.reply_mode = ReplyMode::On;
        return Ok(true);
    }
    if word.eq_ignore_ascii_case(b"off") {
        session.reply_mode = ReplyMode::Off;
    } else if word.eq_ignore_ascii_case(b"skip") {
        if session.reply_mode == ReplyMode::On {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(false)
}

/// The words after CLIENT UNBLOCK.
fn unblock_options(words: &[&[u8]]) -> CommandResult<(u64, Unblock)> {
    let why = match words {
        [_] => Unblock::TimedOut,
        [_, word] if word.eq_ignore_ascii_case(b"timeout") => Unblock::TimedOut,
        [_, word] if word.eq_ignore_ascii_case(b"error") => Unblock::WithError,
        [_, _] => {
            return Err(CommandError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
        _ => {
            return Err(CommandError::text(
                "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
            ));
        }
    };
    let id = parse_i64(words[0]).ok_or(CommandError::NotInteger)?;
    // No client has a negative number.
    Ok((u64::try_from(id).unwrap_or(0), why))
}

/// A name may have no spaces and no control characters: CLIENT LIST divides its fields by them.
fn check_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn set_name(session: &mut Session, name: &[u8]) -> CommandResult {
    if !check_name(name) {
        return Err(CommandError::text(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    session.name = name.to_vec();
    Ok(())
}

fn on_or_off(word: &[u8]) -> CommandResult<bool> {
    if word.eq_ignore_ascii_case(b"on") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"off") {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}

/// The CLIENT subcommands that concern the connection alone.
fn client(
    session: &mut Session,
    which: SessionCommand,
    words: &[&[u8]],
    reply: &mut Reply<'_>,
) -> CommandResult {
    use SessionCommand as C;
    match which {
        C::ClientId => reply.integer(session.id as i64),
        C::ClientGetname if session.name.is_empty() => reply.null(),
        C::ClientGetname => reply.bulk(&session.name),
        C::ClientSetname => {
            set_name(session, words[2])?;
            reply.ok();
        }
        C::ClientSetinfo => {
            set_info(session, words[2], words[3])?;
            reply.ok();
        }
        C::ClientNoEvict => {
            session.no_evict = on_or_off(words[2])?;
            reply.ok();
        }
        C::ClientNoTouch => {
            session.no_touch = on_or_off(words[2])?;
            reply.ok();
        }
        C::ClientHelp => {
            reply.array(CLIENT_HELP.len());
            CLIENT_HELP.iter().for_each(|line| reply.simple(line));
        }
        _ => unreachable!("dispatched before"),
    }
    Ok(())
}

/// CLIENT SETINFO LIB-NAME|LIB-VER value, or from another node what it is (as Redis 7.2: stock clients send it and ignore an error,
/// but operators like to see it in CLIENT LIST).
fn set_info(session: &mut Session, attribute: &[u8], value: &[u8]) -> CommandResult {
    let name = String::from_utf8_lossy(attribute).to_ascii_lowercase();
    if name == FORWARDS {
        session.is_forwarder = true;
        return Ok(());
    }
    let field = match name.as_str() {
        "lib-name" => &mut session.library_name,
        "lib-ver" => &mut session.library_version,
        _ => {
            let word = String::from_utf8_lossy(attribute).into_owned();
            return Err(CommandError::owned(format!("ERR Unrecognized option '{word}'")));
        }
    };
    if !check_name(value) {
        return Err(CommandError::owned(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = value.to_vec();
    Ok(())
}

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are ADDR, LADDR, TYPE, USER, SKIPME and ID.",
    "LIST [options ...]",
    "    Return information about client connections. Options are TYPE and ID.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Whether commands of the connection leave the access time of keys as it is.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Note which library the client uses.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    End the waiting of a blocked client.",
    "HELP",
    "    Print this help.",
];
