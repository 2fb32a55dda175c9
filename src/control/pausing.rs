//! What wants writers to stand still: FAILOVER, a manual failover of the cluster, and the end of the process, for
//! replicas that lag behind.
//!
//! Shards let no command begin that writes; then all of them stand still for a moment, so that what had begun is over.
//! From there on the stream does not grow but for what this core says itself.

use std::time::{Duration, Instant};

use super::Control;
use super::saving::Asker;
use super::sockets::SocketId;
use crate::cluster::Event;
use crate::command::CommandError;
use crate::config::values::{ReplicaOf, ShutdownFlags};
use crate::datatypes::number::parse_i64;
use crate::replication::master::Stage;
use crate::shard::message::{HoldNumber, Message};
use crate::shard_map::ShardId;

/// How far writers stand still.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Quiet {
    /// They do not have to.
    #[default]
    No,
    /// Shards are told.
    Asked,
    /// What had begun comes to its end.
    Settling(HoldNumber),
    /// As before, but meanwhile somebody may have begun anew: it says nothing about a pause that begins now.
    Overtaken(HoldNumber),
    /// They do.
    Yes,
}

/// A failover that FAILOVER has begun.
struct Failover {
    target: Option<ReplicaOf>,
    force: bool,
    until: Option<Instant>,
    /// The replica has been asked to take over.
    is_asking: bool,
}

/// The end of the process, for which replicas are waited for.
struct Goodbye {
    flags: ShutdownFlags,
    asker: Option<Asker>,
    until: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pausing {
    quiet: Quiet,
    failover: Option<Failover>,
    goodbye: Option<Goodbye>,
    /// A replica is to take over in the cluster: until when at most, and whether the cluster knows that nobody writes.
    cluster: Option<(Instant, bool)>,
    /// Slots are about to be another node's: until when at most.
    slot_move: Option<Instant>,
    has_asked: bool,
}

const IN_PROGRESS: CommandError = CommandError::text("ERR FAILOVER already in progress.");

impl Pausing {
    /// Whether replicas are waited for before the end.
    pub(super) fn is_saying_goodbye(&self) -> bool {
        self.goodbye.is_some()
    }
}

impl Control {
    /// Whether writers have to wait.
    pub(super) fn pauses_writes(&self) -> bool {
        let Pausing { failover, goodbye, cluster, slot_move, .. } = &self.pausing;
        failover.is_some() || goodbye.is_some() || cluster.is_some() || slot_move.is_some()
    }

    /// Whether FAILOVER is at work.
    pub(super) fn is_failing_over(&self) -> bool {
        self.pausing.failover.is_some()
    }

    /// `master_failover_state` of INFO.
    pub(super) fn failover_state(&self) -> &'static str {
        match &self.pausing.failover {
            None => "no-failover",
            Some(failover) if failover.is_asking => "failover-in-progress",
            Some(_) => "waiting-for-sync",
        }
    }

    /// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]
    pub(super) fn on_failover(&mut self, asker: Asker, words: &[Vec<u8>]) {
        let answer = self.begin_failover(words).map(|()| "OK");
        self.answer(asker, answer);
        self.settle_standing();
    }

    fn begin_failover(&mut self, words: &[Vec<u8>]) -> Result<(), CommandError> {
        let error = |text: &str| Err(CommandError::owned(format!("ERR {text}")));
        if self.config.cluster_enabled {
            return error("FAILOVER not allowed in cluster mode.");
        }
        let Wish { abort, target, timeout_ms, force } = Wish::of(words)?;
        if abort {
            if self.pausing.failover.is_none() {
                return error("No failover in progress.");
            }
            self.abort_failover();
            return Ok(());
        }
        if self.is_failing_over() {
            return Err(IN_PROGRESS);
        }
        if self.replication.upstream.is_some() || self.is_changing_role() {
            return error("FAILOVER is not valid when server is a replica.");
        }
        if !self.replication.master.has_replicas() {
            return error("FAILOVER requires connected replicas.");
        }
        if force && (target.is_none() || timeout_ms.is_none()) {
            return error(
                "FAILOVER with force option requires both a timeout and target HOST and IP.",
            );
        }
        if let Some(target) = &target {
            match self.replica_at(target) {
                None => return error("FAILOVER target HOST and PORT is not a replica."),
                Some((_, Stage::Online, _)) => {}
                Some(_) => return error("FAILOVER target replica is not online."),
            }
        }
        tracing::info!("FAILOVER requested.");
        let until = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        self.pausing.failover = Some(Failover { target, force, until, is_asking: false });
        Ok(())
    }

    fn replica_at(&self, target: &ReplicaOf) -> Option<(SocketId, Stage, u64)> {
        let is_there = |(_, replica): &(SocketId, &crate::replication::master::Replica)| {
            let profile = &replica.profile;
            (profile.shown_address(), profile.port) == (target.host.as_str(), target.port)
        };
        let mut replicas = self.replication.master.replicas();
        replicas.find(is_there).map(|(id, replica)| (id, replica.stage, replica.acked))
    }

    fn abort_failover(&mut self) {
        let Some(failover) = self.pausing.failover.take() else { return };
        tracing::info!("Failover aborted");
        self.pausing.has_asked = false;
        if failover.is_asking {
            self.take_role(None, None);
        }
        self.settle_quiet();
    }

    /// The replica that was asked to take over has refused.
    pub(super) fn failover_refused(&mut self) {
        if self.is_failing_over() {
            self.abort_failover();
        }
    }

    /// The server is to stop; replicas that lag behind are waited for, if that is wanted.
    pub(super) fn stop_when_replicas_are_there(
        &mut self,
        flags: ShutdownFlags,
        asker: Option<Asker>,
    ) {
        let seconds = u64::from(self.config.shutdown_timeout);
        let is_master = self.replication.upstream.is_none();
        let lags = is_master && self.lagging_replicas() > 0;
        if flags.now || seconds == 0 || !lags {
            return self.stop_as_asked(flags, asker);
        }
        tracing::info!("{} replicas lag behind: waiting for them", self.lagging_replicas());
        let until = Instant::now() + Duration::from_secs(seconds);
        self.pausing.goodbye = Some(Goodbye { flags, asker, until });
        self.settle_standing();
    }

    /// SHUTDOWN ABORT while replicas are waited for; whoever asked for the end is told.
    pub(super) fn abort_goodbye(&mut self) -> Option<Option<Asker>> {
        let goodbye = self.pausing.goodbye.take()?;
        self.signals.forget();
        self.settle_quiet();
        Some(goodbye.asker)
    }

    fn lagging_replicas(&self) -> usize {
        let end = self.replication.master.history.end;
        let online = self.replication.master.replicas().filter(|(_, replica)| {
            matches!(replica.stage, Stage::Online | Stage::Confirms) && replica.acked < end
        });
        online.count()
    }

    /// A replica is to take over in the cluster.
    pub(super) fn pause_for_cluster(&mut self, time: Duration) {
        self.pausing.cluster = Some((Instant::now() + time, false));
        self.settle_quiet();
    }

    /// It has, or will not.
    pub(super) fn resume_for_cluster(&mut self) {
        self.pausing.cluster = None;
        self.pausing.has_asked = self.pauses_writes() && self.pausing.has_asked;
        self.settle_quiet();
    }

    /// Slots are about to be another node's.
    pub(super) fn pause_for_move(&mut self, time: Duration) {
        self.pausing.slot_move = Some(Instant::now() + time);
        self.settle_quiet();
    }

    /// They are, or will not be.
    pub(super) fn resume_for_move(&mut self) {
        self.pausing.slot_move = None;
        self.pausing.has_asked = self.pauses_writes() && self.pausing.has_asked;
        self.settle_quiet();
    }

    fn tell_cluster_of_quiet(&mut self) {
        if let Some((_, knows)) = &mut self.pausing.cluster
            && !std::mem::replace(knows, true)
        {
            let offset = self.replication.master.history.end;
            self.cluster_step(Event::WritesPaused { offset });
        }
    }

    // ---- standing still ----

    /// All shards have noted where this server stands.
    pub(super) fn standing_was_noted(&mut self) {
        if self.pauses_writes() && self.pausing.quiet == Quiet::Asked {
            let number = self.next_hold();
            self.pausing.quiet = Quiet::Settling(number);
            self.tell(ShardId(0), Message::HoldAll(number));
        }
    }

    /// The shards are told that writers have to wait, or that they need not any more.
    pub(super) fn settle_quiet(&mut self) {
        match (self.pauses_writes(), self.pausing.quiet) {
            (true, Quiet::No) => self.pausing.quiet = Quiet::Asked,
            (false, Quiet::Asked | Quiet::Yes) => self.pausing.quiet = Quiet::No,
            (false, Quiet::Settling(number)) => self.pausing.quiet = Quiet::Overtaken(number),
            _ => {}
        }
        self.settle_standing();
    }

    /// Whether all stand still so that nobody writes any more.
    pub(super) fn is_hold_of_quiet(&self, number: HoldNumber) -> bool {
        [Quiet::Settling(number), Quiet::Overtaken(number)].contains(&self.pausing.quiet)
    }

    /// What had begun is over.
    pub(super) fn is_quiet_now(&mut self, number: HoldNumber) {
        self.pausing.quiet = match self.pausing.quiet {
            Quiet::Overtaken(_) => Quiet::No,
            _ => Quiet::Yes,
        };
        self.tell(ShardId(0), Message::ReleaseAll(number));
        self.settle_quiet();
    }

    /// Looks whether replicas are where they are waited for.
    pub(super) fn go_on_with_pause(&mut self, now: Instant) {
        if !self.pauses_writes() {
            return;
        }
        self.settle_quiet();
        if self.pausing.quiet == Quiet::Yes {
            if !std::mem::replace(&mut self.pausing.has_asked, true)
                && self.replication.upstream.is_none()
            {
                self.replication.master.ask_for_acks();
            }
            self.look_at_failover(now);
            self.tell_cluster_of_quiet();
            self.tell_move_of_quiet();
        }
        self.pausing.cluster.take_if(|(until, _)| now >= *until);
        self.pausing.slot_move.take_if(|until| now >= *until);
        self.look_at_goodbye(now);
        if !self.pauses_writes() {
            self.pausing.has_asked = false;
            self.settle_quiet();
        }
    }

    fn look_at_goodbye(&mut self, now: Instant) {
        let Some(goodbye) = &self.pausing.goodbye else { return };
        let is_late = now >= goodbye.until;
        let are_there = self.pausing.quiet == Quiet::Yes && self.lagging_replicas() == 0;
        if is_late || are_there {
            if is_late {
                tracing::warn!("{} replicas still lag behind", self.lagging_replicas());
            }
            // Writers go on waiting: there will be nobody to answer them.
            if let Some(Goodbye { flags, asker, .. }) = self.pausing.goodbye.take() {
                self.stop_as_asked(flags, asker);
            }
        }
    }

    fn look_at_failover(&mut self, now: Instant) {
        let Some(failover) = &self.pausing.failover else { return };
        let is_late = failover.until.is_some_and(|until| now >= until);
        if failover.is_asking {
            let is_up = self.replication.upstream.as_ref().is_some_and(|up| up.link.is_up());
            if is_up {
                tracing::info!("Failover succeeded");
                self.pausing.failover = None;
            } else if is_late && !failover.force {
                self.abort_failover();
            }
            return;
        }
        let end = self.replication.master.history.end;
        let is_there = |stage: Stage, acked: u64| stage == Stage::Online && acked >= end;
        let chosen = match &failover.target {
            Some(target) => self
                .replica_at(target)
                .filter(|(_, stage, acked)| is_there(*stage, *acked) || (is_late && failover.force))
                .map(|_| target.clone()),
            None => self
                .replication
                .master
                .replicas()
                .find(|(_, replica)| is_there(replica.stage, replica.acked))
                .map(|(_, replica)| ReplicaOf {
                    host: replica.profile.shown_address().to_owned(),
                    port: replica.profile.port,
                }),
        };
        match chosen {
            Some(target) => self.hand_over(target),
            None if is_late => self.abort_failover(),
            None => {}
        }
    }

    /// This server becomes a replica of its replica, which is asked to take over.
    fn hand_over(&mut self, target: ReplicaOf) {
        tracing::info!(
            "Failover target is {}:{}, asking it to take over",
            target.host,
            target.port
        );
        if let Some(failover) = &mut self.pausing.failover {
            failover.is_asking = true;
        }
        let history = self.replication.master.history;
        if self.changing.is_none() {
            self.set_configured_master(Some(target.clone()));
        }
        self.begin_to_follow(target.host, target.port, Some((history.id, history.end)));
        if let Some(upstream) = &mut self.replication.upstream {
            upstream.link.set_failover();
        }
        self.settle_standing();
    }

    /// When to look again.
    pub(super) fn next_pause_look(&self) -> Option<Instant> {
        let soon = || Instant::now() + Duration::from_millis(10);
        self.pauses_writes().then(soon)
    }

    /// Why a connection cannot become a replica now.
    pub(super) fn refuses_replicas(&self) -> Option<&'static [u8]> {
        let is_asking = self.pausing.failover.as_ref().is_some_and(|failover| failover.is_asking);
        is_asking.then_some(b"-NOMASTERLINK Can't SYNC while failing over\r\n")
    }
}

/// What FAILOVER wants.
#[derive(Default)]
struct Wish {
    abort: bool,
    target: Option<ReplicaOf>,
    timeout_ms: Option<u64>,
    force: bool,
}

impl Wish {
    fn of(words: &[Vec<u8>]) -> Result<Self, CommandError> {
        let mut wish = Self::default();
        if let [word] = words
            && word.eq_ignore_ascii_case(b"abort")
        {
            wish.abort = true;
            return Ok(wish);
        }
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let left = words.len() - at - 1;
            match word.to_ascii_lowercase().as_slice() {
                b"timeout" if left >= 1 && wish.timeout_ms.is_none() => {
                    let ms = parse_i64(&words[at + 1]).ok_or(CommandError::NotInteger)?;
                    wish.timeout_ms = Some(u64::try_from(ms).ok().filter(|ms| *ms > 0).ok_or(
                        CommandError::text("ERR FAILOVER timeout must be greater than 0"),
                    )?);
                    at += 2;
                }
                b"to" if left >= 2 && wish.target.is_none() => {
                    let host = String::from_utf8_lossy(&words[at + 1]).into_owned();
                    let port = parse_i64(&words[at + 2]).ok_or(CommandError::NotInteger)?;
                    let port = u16::try_from(port).unwrap_or_default();
                    wish.target = Some(ReplicaOf { host, port });
                    at += 3;
                }
                b"force" if wish.target.is_some() => {
                    wish.force = true;
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(wish)
    }
}
