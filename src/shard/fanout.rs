//! Messages on their way to the subscribers of this shard.
//!
//! A message is serialised once and appended to the output of each subscriber. What other shards say comes
//! in the order of their lanes and is taken in that order: messages, and word that a shard has noted
//! a move, which must not overtake the messages before it.
//!
//! Promise: a turn delivers a bounded number of messages, so that a thousand subscribers of a busy channel
//! do not keep the other clients waiting. A subscriber that does not read is cut off at its output limit, and
//! the others go on.

use std::sync::Arc;

use super::Shard;
use crate::pubsub::{Kind, MoveId, Name, Publication};
use crate::reactor::ConnId;
use crate::resp::Reply;
use crate::session::Session;
use crate::shard_map::ShardId;
use crate::slot::slot_of;

/// Deliveries of one turn, in messages of up to [`DELIVERY_BYTES`]: at most half a millisecond.
pub(super) const DELIVERIES_PER_TURN: usize = 4096;
/// What copying this many bytes costs is about what the rest of a delivery does.
const DELIVERY_BYTES: usize = 512;
/// Subscribers that are looked up at a time.
const RECEIVERS_AT_A_TIME: usize = 256;
/// Messages and words that may wait. Beyond, deliveries are made at once: the shard falls behind with
/// everything else, which slows down those who publish.
const INCOMING_MAX: usize = 1024;

/// Turns that what is delivered may wait for what the next turn delivers: sending it costs more than all else about
/// it, and a pipeline of messages to many is more than one turn takes.
const HELD_TURNS_MAX: u32 = 4;
/// Output that does not wait: nobody is spared a send by it.
const HELD_BYTES_MAX: usize = 4096;

/// Whether the output of this connection may wait for further messages.
pub(super) fn may_be_held(session: &Session) -> bool {
    session.subscribed.any()
        && session.replies.ready_bytes() < HELD_BYTES_MAX
        && !(session.closing || session.input_ended)
}

/// What waits to be taken, in order.
pub(super) enum Incoming {
    /// A message.
    Publication(Fanout),
    /// This shard has noted the move.
    Noted(MoveId, ShardId),
}

/// How far the delivery of a message is.
pub(super) struct Fanout {
    publication: Arc<Publication>,
    /// The channel and the patterns here whose subscribers get it.
    topics: Vec<(Kind, Name)>,
    /// The topic at hand.
    at: usize,
    /// Its subscribers that are left; who came later gets nothing.
    left: std::ops::Range<u64>,
    /// The message, as subscribers of this topic get it in RESP2.
    frame: Vec<u8>,
}

impl Fanout {
    fn new(publication: Arc<Publication>, topics: Vec<(Kind, Name)>, now: u64) -> Self {
        let mut fanout = Self { publication, topics, at: 0, left: 0..now, frame: Vec::new() };
        fanout.make_frame();
        fanout
    }

    fn make_frame(&mut self) {
        self.frame.clear();
        let Some((kind, name)) = self.topics.get(self.at) else { return };
        let mut reply = Reply::new(&mut self.frame, false);
        match kind {
            Kind::Channel => {
                reply.push(3);
                reply.bulk(b"message");
            }
            Kind::Shard => {
                reply.push(3);
                reply.bulk(b"smessage");
            }
            Kind::Pattern => {
                reply.push(4);
                reply.bulk(b"pmessage");
                reply.bulk(name);
            }
        }
        reply.bulk(&self.publication.channel);
        reply.bulk(&self.publication.message);
    }

    fn next_topic(&mut self) {
        self.at += 1;
        self.left.start = 0;
        self.make_frame();
    }
}

impl Shard {
    /// A message was published, here or on another shard, and this shard has receivers.
    pub(super) fn take_publication(&mut self, publication: Arc<Publication>) {
        let topics = self.registry.topics_of(&publication);
        let fanout = Fanout::new(publication, topics, self.registry.now());
        self.incoming.push_back(Incoming::Publication(fanout));
        self.fan_out();
    }

    /// A shard has noted a move.
    pub(super) fn take_noted(&mut self, id: MoveId, shard: ShardId) {
        self.incoming.push_back(Incoming::Noted(id, shard));
        self.fan_out();
    }

    /// Takes what waits, as much as this turn may; true if more is left.
    pub(super) fn fan_out(&mut self) -> bool {
        while let Some(incoming) = self.incoming.pop_front() {
            match incoming {
                Incoming::Noted(id, shard) => self.on_noted(id, shard),
                Incoming::Publication(mut fanout) => {
                    if !self.deliver_some(&mut fanout) {
                        self.incoming.push_front(Incoming::Publication(fanout));
                        return true;
                    }
                }
            }
        }
        false
    }

    /// At the end of a turn: whether its messages wait for those that the next one delivers.
    pub(super) fn note_held_turn(&mut self, delivers_on: bool) {
        let waits = delivers_on && self.held_turns < HELD_TURNS_MAX;
        self.held_turns = if waits { self.held_turns + 1 } else { 0 };
    }

    /// Delivers a message as far as this turn may; true if all have it.
    fn deliver_some(&mut self, fanout: &mut Fanout) -> bool {
        let mut receivers = std::mem::take(&mut self.receivers);
        let cost = 1 + fanout.publication.message.len() / DELIVERY_BYTES;
        let over = loop {
            let Some((kind, name)) = fanout.topics.get(fanout.at) else { break true };
            if self.deliveries_left == 0 && self.incoming.len() < INCOMING_MAX {
                break false;
            }
            let (from, left) = (fanout.publication.from, fanout.left.clone());
            let topic = (*kind, &name[..]);
            let most = RECEIVERS_AT_A_TIME;
            let next = self.registry.receivers(topic, from, left, most, &mut receivers);
            let spent = cost.saturating_mul(receivers.len());
            self.deliveries_left = self.deliveries_left.saturating_sub(spent);
            if *kind == Kind::Shard {
                self.count_messages(slot_of(name), fanout.frame.len() * receivers.len());
            }
            for conn in receivers.drain(..) {
                self.deliver_message(conn, &fanout.frame);
            }
            match next {
                Some(next) => fanout.left.start = next,
                None => fanout.next_topic(),
            }
        };
        self.receivers = receivers;
        over
    }

    fn deliver_message(&mut self, conn: ConnId, frame: &[u8]) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        // Behind its last reply, nothing is sent any more.
        if session.closing {
            return;
        }
        session.replies.lend(|| self.buffers.take());
        session.push(frame);
        let unsent = session.limited_output_bytes();
        self.touch(conn);
        let hard = self.engine.config.client_output_buffer_limit.pubsub.hard as usize;
        if hard > 0 && unsent > hard {
            self.cut_for_output(conn);
        }
    }
}
