//! The conversation of a move from the source's side: what is said to the target, what its answers mean, and when
//! patience ends.
//!
//! Everything that is said is a command, and the target answers all of them in their order; so an answer to a word of
//! ours ([`Word`]) tells that all before it has been applied there. What was written since the snapshot is kept
//! until the snapshot has gone, for a key must not come after what was written to it.
//!
//! The end: writers stand still, READY tells that all has come, TAKE makes the slots the target's. The target takes
//! them only within the time that READY gives, counted from when it answers; that is before the answer is here,
//! so when this end has waited as long, the slots are taken or will never be. If nobody has heard by then
//! that they are (the connection may have broken just before), this node keeps them, with an epoch above any that the
//! target can have taken ([`Doing::KeepSlots`]).
//!
//! Writers are stopped for a moment only: who does not come to rest in time, or is not ready, or takes the slots too
//! late (a disk or a whole machine may stand still for seconds), has delayed the end and not prevented it: writers go on, and
//! the end is tried again, up to [`PAUSES_MAX`] times.
//!
//! Promise: writers that were stopped go on, however it ends; and as long as the target may take the slots, they
//! do not.

use std::collections::VecDeque;

use super::exporting::Order;
use super::stream::Commands;
use super::{State, ranges_of};
use crate::resp::parse_reply::{Value, parse_reply};

/// How long the target may take to agree, in milliseconds.
const AGREE_MS_MAX: u64 = 5_000;
/// How long it is waited for that it deletes what a former move has left there.
const CLEANING_MS_MAX: u64 = 30_000;
/// How often it is asked meanwhile.
const CLEANING_PERIOD_MS: u64 = 100;
/// How often the target hears of this end, so that it does not give the move up.
const PING_MS: u64 = 1_000;
/// How long it may be silent (Redis 7.0 waits as long for a replica: `repl-timeout`).
const SILENCE_MS_MAX: u64 = 60_000;
/// An answer that comes so soon tells that little is under way: writers may be stopped for the rest.
const CLOSE_MS: u64 = 50;
/// After so many answers that took longer, they are stopped all the same; that time is bounded.
const ROUNDS_MAX: u32 = 20;
/// How often writers are stopped until all has come in time.
const PAUSES_MAX: u32 = 5;
/// How long the news of a taken slot may be on its way over the bus, in milliseconds: each node pings another in
/// every second.
const NEWS_MS: u64 = 1_500;
/// Bytes that are written to the slots while their keys are on their way, before the move is given up (Redis 7.0
/// `client-output-buffer-limit` for replicas).
pub const KEPT_BYTES_MAX: usize = 256 << 20;

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Connect to the target; what is written meanwhile waits.
    Connect,
    /// Send this.
    Write(Vec<u8>),
    /// Make a snapshot of the slots. [`Export::cut`] and then [`Export::keys`] and [`Export::snapshot_over`] follow.
    Snapshot,
    /// Nobody wants it any more.
    AbandonSnapshot,
    /// Let writers stand still until [`Doing::Resume`], and at most for so many milliseconds. [`Export::quiet`] follows.
    Pause(u64),
    /// Let them go on.
    Resume,
    /// The target has taken the slots, with this epoch.
    HandOver(u64),
    /// It was asked to, and nobody knows whether it has: see [`super::super::Cluster::keep_after_all`].
    KeepSlots,
    /// It is over: close the connection.
    Close,
}

/// What the target is told besides keys and effects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    Auth,
    Establish,
    Ping { asked_ms: u64 },
    Ready,
    Take,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The target has not agreed; when it is asked again, and until when.
    Agreeing {
        again_ms: Option<u64>,
        until: u64,
    },
    /// The snapshot is asked for, or on its way; whether it has begun.
    Snapshot {
        is_cut: bool,
    },
    /// So many answers have taken too long.
    Streaming {
        rounds: u32,
    },
    /// Writers are about to stand still.
    Pausing {
        until: u64,
    },
    /// They do, and the target is asked whether all has come.
    Settling {
        until: u64,
    },
    /// It is asked to take the slots.
    Taking {
        until: u64,
    },
    /// It was asked, and nobody knows what it has done.
    Unsure {
        until: u64,
    },
    Over,
}

/// See the module.
pub struct Export {
    order: Order,
    /// The highest epoch that this node knows.
    epoch: u64,
    stage: Stage,
    /// Answers that are not whole.
    unread: Vec<u8>,
    sent: u64,
    answered: u64,
    /// What was said, by its place among all commands.
    words: VecDeque<(u64, Word)>,
    /// What was written to the slots since the snapshot.
    kept: Commands,
    heard_ms: u64,
    pinged_ms: u64,
    is_paused: bool,
    /// How often writers were stopped.
    pauses: u32,
    doings: Vec<Doing>,
    outcome: Option<(State, String)>,
}

impl Export {
    /// A move that begins now; `login` is what follows AUTH, if that has to be said.
    pub fn new(now_ms: u64, order: Order, login: &[Vec<u8>]) -> Self {
        let mut export = Self {
            order,
            epoch: 0,
            stage: Stage::Agreeing { again_ms: None, until: now_ms + AGREE_MS_MAX },
            unread: Vec::new(),
            sent: 0,
            answered: 0,
            words: VecDeque::new(),
            kept: Commands::default(),
            heard_ms: now_ms,
            pinged_ms: now_ms,
            is_paused: false,
            pauses: 0,
            doings: vec![Doing::Connect],
            outcome: None,
        };
        if !login.is_empty() {
            let words: Vec<&[u8]> =
                std::iter::once(&b"AUTH"[..]).chain(login.iter().map(Vec::as_slice)).collect();
            export.say(Word::Auth, &words);
        }
        export.establish();
        export
    }

    /// What moves.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// What is to be done, in this order.
    pub fn take_doings(&mut self) -> Vec<Doing> {
        std::mem::take(&mut self.doings)
    }

    /// How far it is, and what there is to say about it.
    pub fn state(&self) -> (State, &str) {
        if let Some((state, message)) = &self.outcome {
            return (*state, message);
        }
        let state = match self.stage {
            Stage::Agreeing { .. } => State::Connecting,
            Stage::Snapshot { .. } => State::Snapshot,
            Stage::Streaming { .. } => State::Streaming,
            Stage::Pausing { .. } | Stage::Settling { .. } => State::Pausing,
            Stage::Taking { .. } | Stage::Unsure { .. } | Stage::Over => State::HandingOver,
        };
        (state, "")
    }

    /// Whether effects are wanted.
    pub fn wants_effects(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Agreeing { .. } | Stage::Snapshot { is_cut: false } | Stage::Over
        )
    }

    // ---- what happens ----

    /// Time passes; `epoch` is the highest that this node knows.
    pub fn tick(&mut self, now_ms: u64, epoch: u64) {
        self.epoch = epoch;
        match self.stage {
            Stage::Over => return,
            Stage::Agreeing { until, .. } if now_ms > until => {
                return self.fail("the target did not agree in time");
            }
            Stage::Agreeing { again_ms: Some(at), until } if now_ms >= at => {
                self.stage = Stage::Agreeing { again_ms: None, until };
                self.establish();
            }
            Stage::Pausing { until } if now_ms > until => {
                return self.pause_again(now_ms, "writers did not come to rest in time");
            }
            Stage::Settling { until } if now_ms > until => {
                return self.pause_again(now_ms, "the target was not ready in time");
            }
            Stage::Taking { until } if now_ms > until => self.be_unsure(now_ms),
            Stage::Unsure { until } if now_ms > until => {
                self.doings.push(Doing::KeepSlots);
                return self.fail("the target did not tell whether it has taken the slots");
            }
            _ => {}
        }
        let streams = matches!(self.stage, Stage::Snapshot { .. } | Stage::Streaming { .. });
        if streams && now_ms.saturating_sub(self.heard_ms) > SILENCE_MS_MAX {
            return self.fail("the target is silent");
        }
        if streams && now_ms.saturating_sub(self.pinged_ms) >= PING_MS {
            self.ping(now_ms);
        }
    }

    /// Bytes of the target.
    pub fn received(&mut self, now_ms: u64, bytes: &[u8]) {
        self.heard_ms = now_ms;
        self.unread.extend_from_slice(bytes);
        let mut used = 0;
        while self.stage != Stage::Over {
            match parse_reply(&self.unread[used..]) {
                Ok(Some((reply, length))) => {
                    used += length;
                    self.answer(now_ms, &reply);
                }
                Ok(None) => break,
                Err(_) => self.fail("the target does not speak as a server"),
            }
        }
        self.unread.drain(..used);
    }

    /// The connection is gone, or could not be made.
    pub fn closed(&mut self, now_ms: u64) {
        match self.stage {
            Stage::Over | Stage::Unsure { .. } => {}
            Stage::Taking { until } => {
                self.stage = Stage::Unsure { until: until.max(now_ms) + NEWS_MS }
            }
            Stage::Agreeing { .. } => self.fail("the target cannot be reached"),
            _ => self.fail("the connection to the target was lost"),
        }
    }

    /// The snapshot has what was written before, and nothing of what is written from now on.
    pub fn cut(&mut self) {
        if let Stage::Snapshot { is_cut } = &mut self.stage {
            *is_cut = true;
        }
    }

    /// Keys of the snapshot.
    pub fn keys(&mut self, keys: Commands) {
        if self.stage != Stage::Over {
            self.send(keys);
        }
    }

    /// There are no more of them, or never will be.
    pub fn snapshot_over(&mut self, now_ms: u64, is_whole: bool) {
        if !matches!(self.stage, Stage::Snapshot { .. }) {
            return;
        }
        if !is_whole {
            return self.fail("the snapshot was given up");
        }
        self.stage = Stage::Streaming { rounds: 0 };
        let kept = std::mem::take(&mut self.kept);
        self.send(kept);
        self.ping(now_ms);
    }

    /// What was written to the slots.
    pub fn effects(&mut self, effects: Commands) {
        if matches!(self.stage, Stage::Snapshot { .. }) {
            self.kept.append(effects);
            if self.kept.bytes.len() > KEPT_BYTES_MAX {
                self.fail("too much is written to the slots while they move");
            }
        } else if self.wants_effects() {
            self.send(effects);
        }
    }

    /// Writers stand still, and all that they have written has been handed over here.
    pub fn quiet(&mut self, now_ms: u64) {
        if !matches!(self.stage, Stage::Pausing { .. }) {
            return;
        }
        self.stage = Stage::Settling { until: now_ms + self.pause_ms() };
        let (name, lease) = (self.order.name, self.lease_ms().to_string());
        let words: &[&[u8]] =
            &[b"CLUSTER", b"SYNCSLOTS", b"READY", name.as_bytes(), lease.as_bytes()];
        self.say(Word::Ready, words);
    }

    /// This node knows that the target has the slots.
    pub fn taken(&mut self) {
        self.end(State::Success, "");
    }

    /// It makes no sense any more.
    pub fn fail(&mut self, why: &str) {
        self.end(State::Failed, why);
    }

    /// The node sees no sense in it any more. When the target is asked to take the slots, only its answer counts.
    pub fn lost(&mut self, why: &str) {
        if !matches!(self.stage, Stage::Taking { .. } | Stage::Unsure { .. }) {
            self.fail(why);
        }
    }

    /// Somebody has cancelled it. When the target is asked to take the slots, it is too late for that.
    pub fn cancel(&mut self) {
        if !matches!(self.stage, Stage::Taking { .. } | Stage::Unsure { .. }) {
            self.end(State::Cancelled, "");
        }
    }

    // ---- answers ----

    fn answer(&mut self, now_ms: u64, reply: &Value) {
        self.answered += 1;
        let is_for = |(place, _): &(u64, Word)| *place == self.answered;
        let word = self.words.front().copied().filter(is_for);
        if word.is_some() {
            self.words.pop_front();
        }
        let error = first_error(reply);
        match (word.map(|(_, word)| word), error) {
            (Some(Word::Establish), Some(error)) => self.refused(now_ms, &error),
            (Some(Word::Take), Some(error)) => {
                // It was asked and says that it has not.
                self.pause_again(now_ms, &format!("the target does not take the slots: {error}"));
            }
            (Some(word), Some(error)) => self.fail(&format!("{}: {error}", word.trouble())),
            (None, Some(error)) => self.fail(&format!("the target cannot apply a write: {error}")),
            (Some(Word::Establish), None) => self.agreed(),
            (Some(Word::Ping { asked_ms }), None) => self.is_close(now_ms, now_ms - asked_ms),
            (Some(Word::Ready), None) => self.ready(now_ms),
            (Some(Word::Take), None) => self.has_taken(reply),
            (Some(Word::Auth) | None, None) => {}
        }
    }

    fn refused(&mut self, now_ms: u64, error: &str) {
        if let Stage::Agreeing { until, .. } = self.stage
            && error.contains("still holds keys")
        {
            let until = until.max(self.pinged_ms + CLEANING_MS_MAX);
            let again_ms = Some(now_ms + CLEANING_PERIOD_MS);
            self.stage = Stage::Agreeing { again_ms, until };
            return;
        }
        if error.contains("unknown subcommand") {
            return self
                .fail(&format!("the target is no server that takes slots as a whole: {error}"));
        }
        self.fail(&format!("the target refuses: {error}"));
    }

    fn agreed(&mut self) {
        if matches!(self.stage, Stage::Agreeing { .. }) {
            self.stage = Stage::Snapshot { is_cut: false };
            self.doings.push(Doing::Snapshot);
        }
    }

    fn is_close(&mut self, now_ms: u64, took_ms: u64) {
        let Stage::Streaming { rounds } = self.stage else { return };
        if took_ms > CLOSE_MS && rounds < ROUNDS_MAX {
            self.stage = Stage::Streaming { rounds: rounds + 1 };
            return self.ping(now_ms);
        }
        self.stage = Stage::Pausing { until: now_ms + self.pause_ms() };
        self.is_paused = true;
        self.pauses += 1;
        let in_all = 2 * self.pause_ms() + self.lease_ms() + 2 * NEWS_MS;
        self.doings.push(Doing::Pause(in_all));
    }

    /// The pause has taken too long, and the target has not taken the slots and will not: nobody asks it to.
    fn pause_again(&mut self, now_ms: u64, why: &str) {
        if self.pauses >= PAUSES_MAX {
            return self.fail(why);
        }
        tracing::info!(name = %self.order.name, why, "Writers go on; the slots move a little later");
        self.is_paused = false;
        self.doings.push(Doing::Resume);
        self.stage = Stage::Streaming { rounds: 0 };
        self.ping(now_ms);
    }

    fn ready(&mut self, now_ms: u64) {
        if !matches!(self.stage, Stage::Settling { .. }) {
            return;
        }
        self.stage = Stage::Taking { until: now_ms + self.lease_ms() };
        let (name, epoch) = (self.order.name, self.epoch.to_string());
        let words: &[&[u8]] =
            &[b"CLUSTER", b"SYNCSLOTS", b"TAKE", name.as_bytes(), epoch.as_bytes()];
        self.say(Word::Take, words);
    }

    fn has_taken(&mut self, reply: &Value) {
        match reply {
            Value::Integer(epoch @ 1..) => {
                self.doings.push(Doing::HandOver(*epoch as u64));
                self.end(State::Success, "");
            }
            _ => self.fail("the target answers nonsense"),
        }
    }

    fn be_unsure(&mut self, now_ms: u64) {
        self.stage = Stage::Unsure { until: now_ms + NEWS_MS };
    }

    // ---- words ----

    fn establish(&mut self) {
        let (name, source) = (self.order.name, self.order.source);
        let ranges: Vec<String> = ranges_of(&self.order.slots);
        let numbers: Vec<&[u8]> =
            ranges.iter().flat_map(|range| range.split('-')).map(str::as_bytes).collect();
        let words: [&[u8]; 5] =
            [b"CLUSTER", b"SYNCSLOTS", b"ESTABLISH", name.as_bytes(), source.as_bytes()];
        self.say(Word::Establish, &[&words[..], &numbers].concat());
    }

    fn ping(&mut self, now_ms: u64) {
        self.pinged_ms = now_ms;
        let name = self.order.name;
        let words: &[&[u8]] = &[b"CLUSTER", b"SYNCSLOTS", b"PING", name.as_bytes()];
        self.say(Word::Ping { asked_ms: now_ms }, words);
    }

    fn say(&mut self, word: Word, words: &[&[u8]]) {
        let mut commands = Commands::default();
        commands.add(words);
        self.send(commands);
        self.words.push_back((self.sent, word));
    }

    fn send(&mut self, commands: Commands) {
        self.sent += commands.count;
        if !commands.bytes.is_empty() {
            self.doings.push(Doing::Write(commands.bytes));
        }
    }

    // ---- the end ----

    fn end(&mut self, state: State, message: &str) {
        if self.stage == Stage::Over {
            return;
        }
        if matches!(self.stage, Stage::Snapshot { .. }) {
            self.doings.push(Doing::AbandonSnapshot);
        }
        self.stage = Stage::Over;
        self.outcome = Some((state, message.to_owned()));
        self.kept = Commands::default();
        if std::mem::take(&mut self.is_paused) {
            self.doings.push(Doing::Resume);
        }
        self.doings.push(Doing::Close);
    }

    /// How long writers may be on their way to rest, and how long the target may then lag behind. Both together are
    /// half of the time after which the cluster would miss this node.
    fn pause_ms(&self) -> u64 {
        (self.order.node_timeout_ms / 4).max(1)
    }

    /// How long the target may take the slots after it was ready.
    fn lease_ms(&self) -> u64 {
        (self.order.node_timeout_ms / 4).max(1)
    }
}

impl Word {
    fn trouble(self) -> &'static str {
        match self {
            Self::Auth => "the target does not know the user",
            Self::Ready => "the target is not ready",
            Self::Establish | Self::Ping { .. } | Self::Take => "the target has given up",
        }
    }
}

/// The first error in a reply or in what it contains: EXEC answers for the whole block.
fn first_error(reply: &Value) -> Option<String> {
    match reply {
        Value::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::Array(parts) => parts.iter().find_map(first_error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node_id::NodeId;

    const NOW: u64 = 1_700_000_000_000;
    const EPOCH: u64 = 7;

    fn order() -> Order {
        let id = |letter: u8| NodeId::new([letter; 40]).expect("an id");
        Order {
            name: id(b'e'),
            source: id(b'a'),
            slots: (3..=5).filter_map(crate::slot::Slot::new).collect(),
            ip: "127.0.0.1".to_owned(),
            port: 7000,
            node_timeout_ms: 2000,
        }
    }

    fn export() -> Export {
        let mut export = Export::new(NOW, order(), &[]);
        export.tick(NOW, EPOCH);
        export
    }

    /// What is done, with commands as their verbs.
    fn done(export: &mut Export) -> Vec<String> {
        let verb = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let words: Vec<&str> =
                text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect();
            let at = if words[0] == "CLUSTER" { 2 } else { 0 };
            words[at].to_owned()
        };
        let doings = export.take_doings();
        doings
            .iter()
            .map(|doing| match doing {
                Doing::Write(bytes) => verb(bytes),
                Doing::Pause(_) => "Pause".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn written(words: &[&[u8]]) -> Commands {
        let mut commands = Commands::default();
        commands.add(words);
        commands
    }

    /// An export whose writers stand still, and that has asked whether all has come.
    fn settling() -> Export {
        let mut export = export();
        export.received(NOW, b"+OK\r\n");
        export.cut();
        export.snapshot_over(NOW, true);
        export.received(NOW + 1, b"+OK\r\n");
        export.quiet(NOW + 2);
        done(&mut export);
        export
    }

    #[test]
    fn a_move_goes_its_way_and_effects_come_behind_the_keys() {
        let mut export = export();
        assert_eq!(done(&mut export), ["Connect", "ESTABLISH"]);
        export.received(NOW, b"+O");
        export.received(NOW, b"K\r\n");
        assert_eq!(done(&mut export), ["Snapshot"]);
        assert!(!export.wants_effects());
        export.cut();
        assert!(export.wants_effects());
        export.effects(written(&[b"INCR", b"a"]));
        export.keys(written(&[b"RESTORE", b"a", b"0", b"payload"]));
        export.snapshot_over(NOW, true);
        assert_eq!(done(&mut export), ["RESTORE", "INCR", "PING"]);
        // The answer to the ping comes late: writers have to be waited for.
        export.received(NOW + CLOSE_MS + 1, b"+OK\r\n:1\r\n+OK\r\n");
        assert_eq!(done(&mut export), ["PING"]);
        export.received(NOW + CLOSE_MS + 2, b"+OK\r\n");
        assert_eq!(done(&mut export), ["Pause"]);
        export.effects(written(&[b"INCR", b"a"]));
        export.quiet(NOW + 60);
        assert_eq!(done(&mut export), ["INCR", "READY"]);
        export.received(NOW + 61, b":2\r\n+OK\r\n");
        assert_eq!(done(&mut export), ["TAKE"]);
        export.received(NOW + 62, b":9\r\n");
        assert_eq!(done(&mut export), ["HandOver(9)", "Resume", "Close"]);
        assert_eq!(export.state(), (State::Success, ""));
    }

    #[test]
    fn whatever_goes_wrong_before_the_slots_may_be_taken_lets_writers_go_on() {
        for (trouble, reason) in [
            (
                Box::new(|export: &mut Export| export.closed(NOW + 3)) as Box<dyn Fn(&mut Export)>,
                "lost",
            ),
            (Box::new(|export: &mut Export| export.received(NOW + 3, b"-ERR no\r\n")), "ERR no"),
            (Box::new(|export: &mut Export| export.received(NOW + 3, b"?")), "speak"),
            (Box::new(Export::cancel), ""),
        ] {
            let mut export = settling();
            trouble(&mut export);
            assert_eq!(done(&mut export), ["Resume", "Close"], "{reason}");
            assert!(export.state().1.contains(reason), "{:?}", export.state());
        }
    }

    #[test]
    fn as_long_as_the_target_may_take_the_slots_writers_stand_still() {
        let lease = order().node_timeout_ms / 4;
        let taking = || {
            let mut export = settling();
            export.received(NOW + 10, b"+OK\r\n");
            assert_eq!(done(&mut export), ["TAKE"]);
            export
        };
        let mut broken = taking();
        broken.closed(NOW + 11);
        let mut silent = taking();
        for export in [&mut broken, &mut silent] {
            export.cancel();
            export.tick(NOW + 10 + lease, EPOCH);
            assert!(done(export).is_empty());
            export.tick(NOW + 11 + lease, EPOCH);
            assert!(done(export).is_empty(), "the news may be on its way");
            export.tick(NOW + 12 + lease + NEWS_MS, EPOCH);
            assert_eq!(done(export), ["KeepSlots", "Resume", "Close"]);
        }
        let mut told = taking();
        told.closed(NOW + 11);
        told.taken();
        assert_eq!(
            (done(&mut told), told.state()),
            (vec!["Resume".into(), "Close".into()], (State::Success, ""))
        );
    }

    #[test]
    fn what_takes_too_long_is_tried_again_and_not_for_ever() {
        let lease = order().node_timeout_ms / 4;
        let mut export = settling();
        export.tick(NOW + 3 + lease, EPOCH);
        assert_eq!(done(&mut export), ["Resume", "PING"], "not ready in time");
        // The answer to READY comes now, too late to mean anything.
        export.received(NOW + 520, b"+OK\r\n+OK\r\n");
        assert_eq!(done(&mut export), ["Pause"]);
        export.tick(NOW + 521 + lease, EPOCH);
        assert_eq!(done(&mut export), ["Resume", "PING"], "writers are busy");
        export.quiet(NOW + 522 + lease);
        assert!(done(&mut export).is_empty(), "that pause is over");
        let mut now = NOW + 523 + lease;
        for pause in 3..=PAUSES_MAX {
            export.received(now, b"+OK\r\n");
            assert_eq!(done(&mut export), ["Pause"]);
            export.quiet(now + 1);
            export.received(now + 2, b"+OK\r\n");
            assert_eq!(done(&mut export), ["READY", "TAKE"]);
            export.received(now + 3, b"-ERR It is too late to take the slots\r\n");
            match pause {
                PAUSES_MAX => assert_eq!(done(&mut export), ["Resume", "Close"]),
                _ => assert_eq!(done(&mut export), ["Resume", "PING"]),
            }
            now += 10;
        }
        assert!(export.state().1.contains("too late"), "{:?}", export.state());
    }

    #[test]
    fn a_write_that_fails_at_the_target_ends_the_move_also_within_a_block() {
        for replies in ["-OOM no room\r\n", "*2\r\n:1\r\n-OOM no room\r\n"] {
            let mut export = export();
            export.received(NOW, b"+OK\r\n");
            export.cut();
            export.keys(written(&[b"RESTORE", b"a"]));
            done(&mut export);
            export.received(NOW, replies.as_bytes());
            assert_eq!(done(&mut export), ["AbandonSnapshot", "Close"]);
            let message = "the target cannot apply a write: OOM no room";
            assert_eq!(export.state(), (State::Failed, message));
        }
    }

    #[test]
    fn a_target_that_is_cleaning_is_asked_again_and_another_server_is_not() {
        let mut export = export();
        done(&mut export);
        export.received(NOW, b"-ERR Slot 3 still holds keys here that are being deleted\r\n");
        export.tick(NOW + CLEANING_PERIOD_MS, EPOCH);
        assert_eq!(done(&mut export), ["ESTABLISH"]);
        export.received(NOW + 1, b"-ERR unknown subcommand or wrong number of arguments\r\n");
        assert_eq!(done(&mut export), ["Close"]);
        assert!(export.state().1.contains("no server that takes slots as a whole"));
    }

    #[test]
    fn the_user_is_told_first_and_a_silent_target_is_left() {
        let mut export = Export::new(NOW, order(), &[b"user".to_vec(), b"word".to_vec()]);
        assert_eq!(done(&mut export), ["Connect", "AUTH", "ESTABLISH"]);
        export.received(NOW, b"+OK\r\n+OK\r\n");
        assert_eq!(done(&mut export), ["Snapshot"]);
        export.tick(NOW + PING_MS, EPOCH);
        assert_eq!(done(&mut export), ["PING"]);
        export.tick(NOW + SILENCE_MS_MAX + 1, EPOCH);
        assert_eq!(done(&mut export), ["AbandonSnapshot", "Close"]);
    }
}
