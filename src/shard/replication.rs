//! The shard's side of replication: who wants to be a replica, what this server is, and what that means here.
//!
//! A connection that asks for the data set leaves the shard when all it is owed has been sent
//! ([`Action::Release`]); the control core has it from then on.

use super::Shard;
use super::message::{ControlRequest, Message, Standing, Unblock};
use crate::admin::facts::ReplicationFacts;
use crate::command::{CommandError, CommandResult};
use crate::datatypes::number::parse_i64;
use crate::reactor::{Action, ConnId};
use crate::replication::master::Profile;
use crate::resp::Reply;
use crate::session::Session;

/// Bytes of an address that a replica may announce (Redis 7.0 `server.h`, NET_HOST_STR_LEN).
const ADDRESS_BYTES_MAX: usize = 256;

impl Shard {
    /// REPLICAOF, SLAVEOF
    pub(super) fn replica_of(&mut self, conn: ConnId, words: &[&[u8]]) {
        let words = words[1..].iter().map(|word| word.to_vec()).collect();
        let at_once = self.runs.contains_key(&conn);
        self.ask_control(conn, ControlRequest::ReplicaOf { words, at_once });
    }

    /// FAILOVER
    pub(super) fn fail_over(&mut self, conn: ConnId, words: &[&[u8]]) {
        let words = words[1..].iter().map(|word| word.to_vec()).collect();
        self.ask_control(conn, ControlRequest::Failover(words));
    }

    /// PSYNC and SYNC: the connection goes to the control core.
    pub(super) fn become_replica(&mut self, conn: ConnId, words: &[&[u8]]) {
        let is_psync = words[0].eq_ignore_ascii_case(b"psync");
        let error = if self.engine.refusals.lacks_link() {
            Some(CommandError::text("NOMASTERLINK Can't SYNC while not connected with my master"))
        } else if is_psync && words.get(2).copied().and_then(parse_i64).is_none() {
            Some(CommandError::NotInteger)
        } else {
            None
        };
        if let Some(error) = error {
            self.engine.count_error(&error);
            return self.complete(conn, |_, reply| reply.error(error));
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.leaves_as_replica = Some(words.iter().map(|word| word.to_vec()).collect());
        self.actions.push(Action::Release(conn));
    }

    /// This server stands so in replication from now on.
    pub(super) fn on_standing(&mut self, standing: Standing) {
        let was_replica = self.engine.refusals.is_replica();
        self.engine.set_standing(standing);
        if standing.is_replica && !was_replica {
            self.unblock_all(Unblock::RoleChanged);
        }
        self.end_pause();
        self.send(self.control_core(), Message::StandingNoted);
    }
}

/// REPLCONF option value …: what a replica says before it asks.
pub(super) fn replconf(
    session: &mut Session,
    words: &[&[u8]],
    reply: &mut Reply<'_>,
) -> CommandResult {
    if words.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let address = || session.endpoint.remote.rsplit_once(':').map(|(host, _)| host.to_owned());
    let fresh = || Profile { address: address().unwrap_or_default(), ..Profile::default() };
    let profile = session.replica.get_or_insert_with(|| Box::new(fresh()));
    for pair in words[1..].chunks_exact(2) {
        let (option, value) = (pair[0].to_ascii_lowercase(), pair[1]);
        match option.as_slice() {
            b"listening-port" => {
                let port = parse_i64(value).ok_or(CommandError::NotInteger)?;
                profile.port = u16::try_from(port).unwrap_or_default();
            }
            b"ip-address" if value.len() < ADDRESS_BYTES_MAX => {
                profile.announced = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"ip-address" => {
                return Err(CommandError::owned(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                )));
            }
            b"capa" if value.eq_ignore_ascii_case(b"eof") => profile.eof = true,
            b"capa" if value.eq_ignore_ascii_case(b"psync2") => profile.psync2 = true,
            // What is not known is not used.
            b"capa" => {}
            b"rdb-only" => {
                profile.rdb_only = parse_i64(value).ok_or(CommandError::NotInteger)? == 1;
            }
            // Only who follows already says these, and they are never answered.
            b"ack" | b"getack" => return Ok(()),
            _ => {
                let option = String::from_utf8_lossy(pair[0]).into_owned();
                return Err(CommandError::owned(format!(
                    "ERR Unrecognized REPLCONF option: {option}"
                )));
            }
        }
    }
    reply.ok();
    Ok(())
}

/// ROLE
pub(super) fn role(facts: &ReplicationFacts, reply: &mut Reply<'_>) {
    if let Some(master) = &facts.master {
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(master.host.as_bytes());
        reply.integer(i64::from(master.port));
        reply.bulk(master.state.as_bytes());
        reply.integer(if master.state == "connected" { facts.offset as i64 } else { -1 });
        return;
    }
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(facts.offset as i64);
    let online = || facts.replicas.iter().filter(|replica| replica.state == "online");
    reply.array(online().count());
    for replica in online() {
        reply.array(3);
        reply.bulk(replica.host.as_bytes());
        reply.bulk(replica.port.to_string().as_bytes());
        reply.bulk(replica.offset.to_string().as_bytes());
    }
}
