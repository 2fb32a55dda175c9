//! What a shard and the cluster's driver on the control core ask of each other, redirections aside.

use super::Shard;
use super::message::{ControlRequest, Message, Ticket};
use super::parts::Operation;
use crate::cluster::SlotSet;
use crate::cluster::slot_moves::MoveName;
use crate::command::{CommandResult, NO_CLUSTER};
use crate::pubsub::Publication;
use crate::reactor::ConnId;
use crate::session::Bringing;
use crate::slot::Slot;

impl Shard {
    /// CLUSTER subcommand [argument …]
    pub(super) fn cluster_call(&mut self, conn: ConnId, words: &[&[u8]]) {
        if !self.engine.config.cluster_enabled {
            self.engine.count_error(&NO_CLUSTER);
            return self.complete(conn, |_, reply| reply.error(NO_CLUSTER));
        }
        if is_word(words, 1, "syncslots") && is_word(words, 2, "establish") {
            let name = words.get(3).and_then(|name| MoveName::parse(name));
            self.note_bringing(conn, name);
        }
        let resp3 = self.protocol_of(conn);
        let words = words[1..].iter().map(|word| word.to_vec()).collect();
        self.ask_control(conn, ControlRequest::Cluster { words, resp3 });
    }

    /// The reply to it.
    pub(super) fn on_cluster_done(&mut self, ticket: Ticket, result: CommandResult<Vec<u8>>) {
        let Some(Operation::Control { conn }) = self.operations.remove(&ticket) else { return };
        if let Err(error) = &result {
            self.engine.count_error(error);
        }
        self.settle_bringing(conn, result.is_ok());
        self.complete(conn, |_, reply| match result {
            Ok(bytes) => reply.raw(&bytes),
            Err(error) => reply.error(error),
        });
    }

    /// The connection asks to bring slots to here, by a move of this name. One that brings some already goes on with
    /// them, whatever the answer.
    fn note_bringing(&mut self, conn: ConnId, name: Option<MoveName>) {
        if let (Some(session), Some(name)) = (self.sessions.get_mut(conn), name)
            && session.brings.is_none()
        {
            session.brings = Some(Box::new(Bringing { name, is_agreed: false }));
        }
    }

    /// The control core has answered: if that was what the connection asked, it may, or may not.
    fn settle_bringing(&mut self, conn: ConnId, is_good: bool) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let Some(brings) = session.brings.as_mut().filter(|brings| !brings.is_agreed) {
            brings.is_agreed = true;
            if !is_good {
                session.brings = None;
            }
        }
    }

    /// Tells the control core which of these slots hold keys here, those that a courier has among them. A cluster has one database.
    pub(super) fn tell_slots_with_keys(&mut self, slots: &SlotSet) {
        let db = &self.engine.keyspace[0];
        let is_kept = |slot: &Slot| db.slot_len(*slot) > 0 || self.couriers.has_keys_of(*slot);
        let kept = slots.iter().filter(is_kept).collect();
        self.send(self.control_core(), Message::SlotsWithKeys(kept));
    }

    /// A client of another node has published this.
    pub(super) fn publish_here(&mut self, publication: &Publication) {
        let Publication { kind, channel, message, .. } = publication;
        self.engine.pubsub.publish(*kind, channel, message);
        self.send_what_is_published();
    }
}

fn is_word(words: &[&[u8]], at: usize, word: &str) -> bool {
    words.get(at).is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
}
