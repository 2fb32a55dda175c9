//! The shard as its reactor sees it: sockets come and go, bytes come in, replies go out, turns end.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shard;
use super::fanout::{self, DELIVERIES_PER_TURN};
use super::forwarding::LINK_TOKENS_FROM;
use super::message::{JobRequest, Message, NewReplica};
use crate::reactor::{Action, CloseReason, ConnId, Peer, Service, Wait};
use crate::session::{Endpoint, Hold, Session};

/// The end of a connection that reached its socket before a message was read is among the completions of the
/// next turn, and is acted upon after it: only the turn after that has it behind itself.
const TURNS_TO_CLOSE: u8 = 2;

/// Messages taken from one lane before the others get their turn.
const MESSAGES_PER_LANE_MAX: usize = 256;

fn endpoint(peer: Peer, unixsocket: &str) -> Endpoint {
    match peer {
        Peer::Tcp { remote, local } => {
            Endpoint { remote: remote.to_string(), local: local.to_string(), unix: false }
        }
        Peer::Unix => {
            let name = format!("{unixsocket}:0");
            Endpoint { remote: name.clone(), local: name, unix: true }
        }
    }
}

impl Service for Shard {
    fn opened(&mut self, conn: ConnId, peer: Peer, token: u64) {
        self.open_turn();
        if token > LINK_TOKENS_FROM {
            return self.link_opened(conn, token);
        }
        let config = &self.engine.config;
        let session = Session::new(
            token,
            endpoint(peer, &config.unixsocket),
            self.engine.keyspace.now_ms(),
            config.requirepass.is_empty(),
        );
        let counters = self.engine.stats.counters();
        counters.connections_received += 1;
        counters.connected_clients += 1;
        self.sessions.insert(conn, session);
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        self.feed(conn, bytes);
    }

    fn half_closed(&mut self, conn: ConnId) {
        self.open_turn();
        if let Some(session) = self.sessions.get_mut(conn) {
            session.input_ended = true;
            if session.hold == Hold::Blocked {
                // Redis takes the end of input for the end of the client, and so nothing is lost to it.
                self.cut(conn);
            } else {
                self.note_leaving(conn);
            }
        } else {
            // It answers no more.
            self.actions.push(Action::Abort(conn));
        }
        self.touch(conn);
    }

    fn closed(&mut self, conn: ConnId, why: CloseReason) {
        let follows = |session: &Session| session.blocked.is_some() || !session.watching.is_empty();
        if self.sessions.get(conn).is_some_and(follows) {
            self.open_turn();
            self.abandon(conn);
        }
        self.note_asker(conn, false);
        if let Some(session) = self.sessions.remove(conn) {
            tracing::debug!(client = session.id, ?why, "client gone");
            if session.subscribed.any() {
                self.forget_subscriber(conn);
            }
            if session.has_returned {
                self.drop_returned(conn);
            }
            if let Some(brings) = session.brings {
                self.send(self.control_core(), Message::ImportLost(brings.name));
            }
            self.close_sole_links(conn);
            self.process.clients.fetch_sub(1, Ordering::Relaxed);
            self.engine.stats.counters().connected_clients -= 1;
        } else {
            self.open_turn();
            self.link_closed(conn);
        }
    }

    fn released(&mut self, conn: ConnId, socket: OwnedFd) {
        let departure = self.sessions.get_mut(conn).and_then(|session| {
            let words = session.leaves_as_replica.take()?;
            let profile = session.replica.take().map(|profile| *profile).unwrap_or_default();
            Some((words, profile, std::mem::take(&mut session.query)))
        });
        self.closed(conn, CloseReason::Asked);
        if let Some((words, profile, rest)) = departure {
            let replica = NewReplica { socket, profile, words, rest };
            self.send(self.control_core(), Message::NewReplica(Box::new(replica)));
        }
    }

    fn turn(&mut self, now: Instant) -> Wait {
        self.open_turn();
        self.go_on_looking_for_closed();
        self.go_on_with_slow_readers(now);
        self.take_messages();
        self.take_reports();
        if !self.ports.is_congested() {
            self.end_slowness();
        }
        while let Some(conn) = self.resumable.pop_front() {
            self.resume(conn);
        }
        self.check_clients(now);
        self.look_at_links(now);
        self.close_leaving(now);
        self.check_deadlines();
        self.check_pause();
        self.continue_busy_script();
        let waits = self.scripts.running.is_some();
        let mut more = (!waits && self.background_slice()) || self.scripts.is_busy;
        self.send_what_is_published();
        let delivers_on = self.fan_out();
        more |= delivers_on;
        self.deliveries_left = DELIVERIES_PER_TURN;
        self.note_held_turn(delivers_on);
        self.send_batches();
        if self.engine.journal.has_parcel() {
            // Before any reply leaves.
            self.stamp_parcel();
        }
        self.send_parcels_if_due(now);
        self.flush_links();
        self.settle_touched();
        self.resume_ungated();
        let actions = &mut self.actions;
        self.ports.flush(|core| actions.push(Action::Ring(core)));
        self.engine.end_brief_run();
        self.tell_changes();
        self.turn_open = false;
        self.forget_room();
        // A connection is opened after the turn that adopts it. Only the next turn knows its deadlines,
        // and a turn that its opening began must not last, for then its time would be old.
        let adopting = std::mem::take(&mut self.adopting);
        let looking = self.looking_for_closed > 0;
        if more || adopting || looking || self.ports.is_congested() || !self.resumable.is_empty() {
            return Wait::Poll;
        }
        Wait::Until(self.next_deadline(now))
    }

    fn has_incoming(&self) -> bool {
        self.ports.has_incoming() || self.couriers.desk.has_reports()
    }

    fn drain_actions(&mut self, actions: &mut Vec<Action>) {
        actions.append(&mut self.actions);
    }

    fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(conn) else { return self.take_link_output(conn) };
        if session.gate.is_some() {
            // Asked for before the gate was closed.
            return Vec::new();
        }
        let output = session.replies.take_output();
        session.in_flight += output.len();
        session.sent_bytes += output.len() as u64;
        output
    }

    fn sent(&mut self, conn: ConnId, bytes: usize) {
        let counters = self.engine.stats.counters();
        counters.net_output_bytes += bytes as u64;
        counters.writes_processed += 1;
        let limits = &self.engine.config.client_output_buffer_limit;
        if let Some(session) = self.sessions.get_mut(conn) {
            let soft = session.output_limits(limits).soft as usize;
            session.in_flight = session.in_flight.saturating_sub(bytes);
            // Sending counts as activity, as in Redis 7.0 (`networking.c`, writeToClient).
            session.active_ms = self.engine.keyspace.now_ms();
            if session.replies.wants_sending() && session.gate.is_none() {
                // Long output goes out in chunks: the next one.
                self.actions.push(Action::Send(conn));
            }
            if session.limited_output_bytes() <= soft {
                session.over_soft_limit_since = None;
            }
        } else {
            return self.link_sent(conn);
        }
        self.output_taken(conn);
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }
}

impl Shard {
    fn take_messages(&mut self) {
        for core in 0..self.ports.from.len() {
            for _ in 0..MESSAGES_PER_LANE_MAX {
                let Some(message) = self.ports.from[core].pop() else { break };
                self.on_message(message);
            }
        }
    }

    pub(super) fn on_message(&mut self, message: Message) {
        let message =
            if self.scripts.is_busy { self.take_while_busy(message) } else { Some(message) };
        let Some(message) = message else { return };
        match message {
            Message::Connection(adoption) => {
                self.adopting = true;
                self.actions.push(Action::Adopt(adoption));
            }
            Message::Commands(mut batch) => {
                self.run_batch(&mut batch);
                let home = batch.home.expect("a batch on its way knows its home");
                self.send(home.index(), Message::Replies(batch));
            }
            Message::Replies(batch) => self.take_replies(batch),
            Message::LateReply(reply) => {
                let (origin, reply) = *reply;
                self.deliver(origin, reply);
            }
            Message::Job(request) => self.on_job(*request),
            Message::Stray(stray) => self.on_stray(*stray),
            Message::JobForAll(request) => {
                let JobRequest { job, origin, .. } = *request;
                self.start_with_all(job, origin);
            }
            Message::Unblock(number, why) => self.unblock(number, why),
            Message::Forget(number) => self.on_forget(number),
            Message::Unwatch(watcher) => self.on_unwatch(watcher),
            Message::WatchBroken(watcher) => self.on_watch_broken(watcher),
            Message::Fetch(fetch) => self.on_fetch(*fetch),
            Message::Fetched(fetched) => {
                let (conn, entries) = *fetched;
                self.on_fetched(conn, entries);
            }
            Message::Schedule(schedule) => self.on_schedule(schedule),
            Message::Grant(grant) => self.on_grant(*grant),
            Message::Recall(tx, shard) => self.on_recall(tx, shard),
            Message::Conclusion(conclusion) => self.on_conclusion(*conclusion),
            Message::Part(request) => self.on_part(request),
            Message::PartDone(done) => self.on_part_done(*done),
            Message::Subscriptions(told) => self.on_subscriptions(&told),
            Message::Noted(id, shard) => self.take_noted(id, shard),
            Message::Publication(publication) => self.take_publication(publication),
            Message::ControlDone(done) => {
                let (ticket, result) = *done;
                self.on_control_done(ticket, result);
            }
            Message::ClusterDone(done) => {
                let (ticket, result) = *done;
                self.on_cluster_done(ticket, result);
            }
            Message::SlotsLost(slots) => self.on_slots_lost(&slots),
            Message::WhichHoldKeys(slots) => self.tell_slots_with_keys(&slots),
            Message::PublishHere(publication) => self.publish_here(&publication),
            Message::Settings(config) => {
                self.engine.config = config;
                self.engine.settings_changed();
                self.journal_settings_changed();
                self.settle_looking();
                self.refresh_room();
                let control = self.control_core();
                self.send(control, Message::SettingsDone(self.id()));
            }
            Message::Stop => {
                self.stopping = true;
                self.actions.push(Action::Stop);
            }
            Message::LookForClosed => self.looking_for_closed = TURNS_TO_CLOSE,
            Message::MakeRoom(answer_to) => self.on_make_room(answer_to),
            Message::RoomMade(made) => self.on_room_made(made),
            Message::Record(reader, on) => {
                self.engine.set_recording(reader, on);
                self.send(self.control_core(), Message::Recording(reader, on));
            }
            Message::Acknowledged(number, count, is_enough) => {
                self.on_acknowledged(number, count, is_enough);
            }
            Message::Standing(standing) => self.on_standing(standing),
            Message::Feed(commands) => self.on_feed(&commands),
            Message::FeedOver => self.on_feed_over(),
            Message::Durable(stamp) => self.on_durable(stamp),
            Message::RoomForEffects => self.end_slowness(),
            Message::HoldAll(number) => self.on_hold_all(number),
            Message::ReleaseAll(number) => self.on_release_all(number),
            Message::SnapshotOrder(order) => self.on_snapshot_order(order),
            Message::Loading(is_loading) => {
                self.engine.set_loading(is_loading);
                self.send(self.control_core(), Message::LoadingNoted);
            }
            Message::AofStatus(error) => self.engine.set_aof_status(error),
            Message::SaveStatus(good) => self.engine.set_save_status(good),
            Message::SlotMap(map) => self.on_slot_map(map),
            Message::Clear => self.clear_all(),
            Message::LoadRecords(batch) => self.on_load_records(*batch),
            Message::Control(_)
            | Message::SlotMapNoted(_)
            | Message::SlotsWithKeys(_)
            | Message::ImportLost(_)
            | Message::PublishOnBus(_)
            | Message::RecordsLoaded(_)
            | Message::SettingsDone(_)
            | Message::LookedForClosed
            | Message::Held(..)
            | Message::Snapshot(_)
            | Message::Effects(_)
            | Message::Recording(..)
            | Message::NewReplica(_)
            | Message::AwaitReplicas(..)
            | Message::AwaitNoReplicas(_)
            | Message::AwaitDisk(..)
            | Message::AwaitNoDisk(_)
            | Message::StandingNoted
            | Message::LoadingNoted
            | Message::Fed(_) => {
                unreachable!("meant for the control core")
            }
        }
    }

    /// Tells the control core when the turns have passed in which those who are gone are noticed.
    fn go_on_looking_for_closed(&mut self) {
        if self.looking_for_closed > 0 {
            self.looking_for_closed -= 1;
            if self.looking_for_closed == 0 {
                self.send(self.control_core(), Message::LookedForClosed);
            }
        }
    }

    /// The lanes have room again: who waited for it goes on.
    fn end_slowness(&mut self) {
        if self.slowed.is_empty() || self.is_journal_full() {
            return;
        }
        for conn in self.slowed.drain(..) {
            if let Some(session) = self.sessions.get_mut(conn)
                && session.hold == Hold::FullLane
            {
                session.hold = Hold::None;
                self.resumable.push_back(conn);
            }
        }
    }

    /// Goes on with the input of a connection that was held.
    fn resume(&mut self, conn: ConnId) {
        self.run_query(conn);
        if let Some(session) = self.sessions.get_mut(conn)
            && session.paused
            && session.may_run()
        {
            session.paused = false;
            self.actions.push(Action::ResumeReading(conn));
        }
        self.touch(conn);
    }

    /// Decides for every connection that something happened to: send, close, or cut off.
    fn settle_touched(&mut self) {
        let config = std::sync::Arc::clone(&self.engine.config);
        let now_ms = self.engine.keyspace.now_ms();
        let gate = self.gate();
        let mut touched = std::mem::take(&mut self.touched);
        let mut held = std::mem::take(&mut self.held);
        for conn in touched.drain(..) {
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            if self.held_turns > 0 && fanout::may_be_held(session) {
                held.push(conn);
                continue;
            }
            session.touched = false;
            if session.fed.is_some() {
                self.settle_fed();
                continue;
            }
            if session.replies.wants_sending() {
                match gate {
                    None if session.gate.is_none() => self.actions.push(Action::Send(conn)),
                    None => {}
                    Some(stamp) => {
                        if session.gate.replace(stamp).is_none() {
                            self.gated.push(conn);
                        }
                        if session.hold == Hold::None {
                            session.hold = Hold::Disk;
                        }
                    }
                }
            } else if !session.replies.has_output() {
                // A buffer that was lent and not needed.
                self.buffers.give(session.replies.take_output());
            }
            let limits = session.output_limits(&config.client_output_buffer_limit);
            let unsent = session.limited_output_bytes();
            let (hard, soft) = (limits.hard as usize, limits.soft as usize);
            if soft > 0 && unsent > soft {
                session.over_soft_limit_since.get_or_insert(now_ms);
            }
            // A client that killed itself is closed only when all shards have done their part.
            let owed_nothing = session.hold == Hold::None && session.replies.is_clear();
            if hard > 0 && unsent > hard {
                self.cut_for_output(conn);
            } else if owed_nothing && (session.closing || session.input_ended) {
                session.closing = true;
                self.actions.push(Action::Close(conn));
                self.abandon(conn);
            }
        }
        // Nothing is touched meanwhile; what is kept is the allocation.
        touched.append(&mut self.touched);
        touched.append(&mut held);
        (self.touched, self.held) = (touched, held);
    }
}
