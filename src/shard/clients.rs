//! CLIENT LIST and CLIENT KILL: which clients, and how they are shown.

use super::sessions::Sessions;
use crate::command::{CommandError, CommandResult, CommandTable};
use crate::datatypes::number::parse_i64;
use crate::reactor::ConnId;
use crate::session::{Hold, Session};

/// Kinds of clients, as CLIENT LIST TYPE names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientType {
    /// Everybody who sends commands.
    Normal,
    /// Subscribers.
    Pubsub,
    /// Links to a master and to replicas: none of them is a session yet.
    Other,
}

/// Which clients; every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    ids: Option<Vec<u64>>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    kind: Option<ClientType>,
    /// Never this one.
    skip: Option<u64>,
    asking: Option<u64>,
}

fn client_type(word: &[u8]) -> CommandResult<ClientType> {
    let word = String::from_utf8_lossy(word).into_owned();
    match word.to_ascii_lowercase().as_str() {
        "normal" => Ok(ClientType::Normal),
        "pubsub" => Ok(ClientType::Pubsub),
        "master" | "replica" | "slave" => Ok(ClientType::Other),
        _ => Err(CommandError::owned(format!("ERR Unknown client type '{word}'"))),
    }
}

fn type_of(session: &Session) -> ClientType {
    if session.subscribed.any() { ClientType::Pubsub } else { ClientType::Normal }
}

impl ClientFilter {
    /// CLIENT LIST [TYPE type | ID id …]: the words after LIST.
    pub fn for_list(words: &[&[u8]]) -> CommandResult<Self> {
        match words {
            [] => Ok(Self::default()),
            [option, kind] if option.eq_ignore_ascii_case(b"type") => {
                Ok(Self { kind: Some(client_type(kind)?), ..Self::default() })
            }
            [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                let id = |word: &&[u8]| {
                    parse_i64(word)
                        .and_then(|id| u64::try_from(id).ok())
                        .ok_or(CommandError::text("ERR Invalid client ID"))
                };
                let ids = ids.iter().map(id).collect::<CommandResult<Vec<_>>>()?;
                Ok(Self { ids: Some(ids), ..Self::default() })
            }
            _ => Err(CommandError::Syntax),
        }
    }

    /// CLIENT KILL addr, or CLIENT KILL option value …: the words after KILL. Also says whether it was
    /// the old form, which answers OK or an error and does not skip the asking client `me`.
    pub fn for_kill(words: &[&[u8]], me: u64) -> CommandResult<(Self, bool)> {
        let mut filter = Self { asking: Some(me), ..Self::default() };
        if let [address] = words {
            filter.address = Some(address.to_vec());
            return Ok((filter, true));
        }
        filter.skip = Some(me);
        if !words.len().is_multiple_of(2) {
            return Err(CommandError::Syntax);
        }
        for pair in words.chunks_exact(2) {
            let value = pair[1];
            match String::from_utf8_lossy(pair[0]).to_ascii_lowercase().as_str() {
                "id" => {
                    let id = parse_i64(value)
                        .ok_or(CommandError::text("ERR client-id should be greater than 0"))?;
                    let id = u64::try_from(id).ok().filter(|id| *id > 0);
                    let id =
                        id.ok_or(CommandError::text("ERR client-id should be greater than 0"))?;
                    filter.ids = Some(vec![id]);
                }
                "type" => filter.kind = Some(client_type(value)?),
                "addr" => filter.address = Some(value.to_vec()),
                "laddr" => filter.local_address = Some(value.to_vec()),
                "user" => {
                    if value != b"default" {
                        let name = String::from_utf8_lossy(value).into_owned();
                        return Err(CommandError::owned(format!("ERR No such user '{name}'")));
                    }
                    filter.user = Some(value.to_vec());
                }
                "skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip = Some(me),
                "skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip = None,
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok((filter, false))
    }

    /// The client that asks to kill: it gets its reply first.
    pub fn asking(&self) -> Option<u64> {
        self.asking
    }

    /// Whether `session` is one of them.
    pub fn matches(&self, session: &Session) -> bool {
        let same = |wanted: &Option<Vec<u8>>, have: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == have.as_bytes())
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.skip != Some(session.id)
            && self.kind.is_none_or(|kind| kind == type_of(session))
            && same(&self.user, "default")
            && same(&self.address, &session.endpoint.remote)
            && same(&self.local_address, &session.endpoint.local)
    }
}

/// The lines of CLIENT LIST for the sessions of one shard, each with its client's number.
pub fn lines(sessions: &Sessions, filter: &ClientFilter, now_ms: i64) -> Vec<(u64, String)> {
    sessions
        .iter()
        .filter(|(_, session)| filter.matches(session))
        .map(|(conn, session)| (session.id, line(conn, session, now_ms)))
        .collect()
}

/// One line of CLIENT LIST, with the fields of Redis 7.0 and the library of 7.2.
pub fn line(conn: ConnId, session: &Session, now_ms: i64) -> String {
    let text = String::from_utf8_lossy;
    let mut flags = String::new();
    let queued = session.multi.as_ref().map(|multi| multi.block.commands.len());
    let multi = session.executing.or(queued);
    for (is_so, flag) in [
        (session.subscribed.any(), 'P'),
        (multi.is_some(), 'x'),
        (session.hold == Hold::Blocked, 'b'),
        (session.watch_broken, 'd'),
        (session.closing, 'c'),
        (session.endpoint.unix, 'U'),
        (session.readonly, 'r'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ] {
        if is_so {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let command = session.last_command.map_or("NULL", |id| CommandTable::get().command(id).name);
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} \
         ssub={} multi={} qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs={} rbp=0 obl={} oll=0 \
         omem={} tot-mem={} events=r cmd={command} user=default redir=-1 resp={} lib-name={} \
         lib-ver={}",
        session.id,
        session.endpoint.remote,
        session.endpoint.local,
        conn.index(),
        text(&session.name),
        (now_ms - session.created_ms).max(0) / 1000,
        (now_ms - session.active_ms).max(0) / 1000,
        session.db,
        session.subscribed.channels,
        session.subscribed.patterns,
        session.subscribed.shard_channels,
        multi.map_or(-1, |count| count as i64),
        session.query.len(),
        session.query.capacity() - session.query.len(),
        session.multi.as_ref().map_or(0, |multi| multi.block.allocated_bytes()),
        session.replies.allocated_bytes(),
        session.replies.len(),
        session.in_flight,
        session.memory_bytes(),
        if session.resp3 { 3 } else { 2 },
        text(&session.library_name),
        text(&session.library_version),
    )
}
