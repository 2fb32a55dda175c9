//! What a shard and the cluster's driver on the control core ask of each other, redirections aside.

use super::Shard;
use super::message::{ControlRequest, Message, Ticket};
use super::parts::Operation;
use crate::cluster::SlotSet;
use crate::command::{CommandResult, NO_CLUSTER};
use crate::pubsub::Publication;
use crate::reactor::ConnId;
use crate::slot::Slot;

impl Shard {
    /// CLUSTER subcommand [argument …]
    pub(super) fn cluster_call(&mut self, conn: ConnId, words: &[&[u8]]) {
        if !self.engine.config.cluster_enabled {
            self.engine.count_error(&NO_CLUSTER);
            return self.complete(conn, |_, reply| reply.error(NO_CLUSTER));
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
        self.complete(conn, |_, reply| match result {
            Ok(bytes) => reply.raw(&bytes),
            Err(error) => reply.error(error),
        });
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
