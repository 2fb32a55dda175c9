//! Where the cluster and replication meet: the node decides whose data is copied, replication copies it.
//!
//! Replication changes its role in steps, and one change has to be over before the next begins. So what the node
//! wants is kept until then; only its last word counts.

use super::Control;
use crate::clock;
use crate::cluster::Event;
use crate::cluster::event::{MasterLink, Replication, Upstream};
use crate::shard::message::{HoldNumber, Message};
use crate::shard_map::ShardId;

/// A time in which nobody writes.
pub(super) struct Pause {
    /// When it ends at the latest, in milliseconds since 1970.
    until_ms: u64,
    stage: Stage,
}

/// How far that is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Shards are told.
    Telling,
    /// They stand still for a moment.
    Holding(HoldNumber),
    /// The last write is in the stream.
    Still,
}

impl Control {
    /// Copies the data of this node from now on, or nobody's.
    pub(super) fn set_upstream(&mut self, upstream: Upstream) {
        if let Some(cluster) = &mut self.cluster {
            cluster.wanted = Some(upstream);
        }
    }

    /// Does what the node wants as soon as it can be done; to be called every turn.
    pub(super) fn follow_as_wanted(&mut self) {
        if self.loading.is_some() || self.is_changing_role() {
            return;
        }
        let Some(wanted) = self.cluster.as_mut().and_then(|cluster| cluster.wanted.take()) else {
            return;
        };
        if let Some(cluster) = &mut self.cluster {
            cluster.has_data = false;
        }
        match wanted {
            Upstream::None => self.follow_nobody(None),
            Upstream::Node { id, ip, port } => {
                tracing::info!("following {id} at {ip}:{port}");
                self.follow_another(ip.to_string(), port, None);
            }
            // Its address comes with a ping of somebody who knows it.
            Upstream::Unreachable => tracing::warn!("nobody knows where the master is"),
        }
    }

    /// How replication stands.
    pub(super) fn replication_facts(&mut self) -> Replication {
        let Some(upstream) = &self.replication.upstream else {
            let offset = self.replication.master.history.end;
            return Replication { offset, master_link: MasterLink::Never };
        };
        let link = &upstream.link;
        let (heard_ms, down_since_ms) = link.times();
        let Some(cluster) = &mut self.cluster else { return Replication::default() };
        cluster.has_data |= link.is_up();
        let master_link = match down_since_ms {
            _ if link.is_up() => MasterLink::Up { heard_ms: heard_ms.max(0) as u64 },
            Some(since_ms) if cluster.has_data => {
                MasterLink::Down { since_ms: since_ms.max(0) as u64 }
            }
            _ => MasterLink::Never,
        };
        let offset = if cluster.has_data { link.position() } else { 0 };
        Replication { offset, master_link }
    }

    /// A replica that takes over by hand waits for a position: it is told of each step.
    pub(super) fn go_on_with_takeover(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if cluster.node.takes_over_by_hand() {
            let facts = self.replication_facts();
            self.cluster_step(Event::Replication(facts));
        }
        let now_ms = clock::unix_ms() as u64;
        let pause = self.cluster.as_ref().and_then(|cluster| cluster.pause.as_ref());
        if pause.is_some_and(|pause| now_ms >= pause.until_ms) {
            self.resume_writes();
        }
    }

    // ---- writes stand still ----

    /// Lets no client write until this time, for a manual failover.
    pub(super) fn pause_writes(&mut self, until_ms: u64) {
        if let Some(cluster) = &mut self.cluster {
            cluster.pause = Some(Pause { until_ms, stage: Stage::Telling });
            self.settle_standing();
        }
    }

    /// Lets clients write again, or be sent to whom they may.
    pub(super) fn resume_writes(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.pause = None;
            self.settle_standing();
        }
    }

    /// Whether writes have to wait.
    pub(super) fn pauses_writes(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.pauses_writes())
    }

    /// No shard begins a write any more. When all stand still for a moment, those that were begun are over.
    pub(super) fn await_last_writes(&mut self) {
        let number = self.next_hold();
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(pause) = &mut cluster.pause
            && pause.stage == Stage::Telling
        {
            pause.stage = Stage::Holding(number);
            cluster.holds.push(number);
            self.tell(ShardId(0), Message::HoldAll(number));
        }
    }

    /// Whether all stand still because writes are paused.
    pub(super) fn is_hold_of_pause(&self, number: HoldNumber) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.holds.contains(&number))
    }

    /// All that was written is in the stream: its position is final.
    pub(super) fn end_last_writes(&mut self, number: HoldNumber) {
        self.tell(ShardId(0), Message::ReleaseAll(number));
        let Some(cluster) = &mut self.cluster else { return };
        cluster.holds.retain(|known| *known != number);
        if let Some(pause) = &mut cluster.pause
            && pause.stage == Stage::Holding(number)
        {
            pause.stage = Stage::Still;
            let offset = self.replication.master.history.end;
            self.cluster_step(Event::WritesPaused { offset });
        }
    }
}
