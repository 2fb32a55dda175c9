//! How a replica takes the place of its failed master, and who may vote for it.
//!
//! Promise: a node votes at most once per epoch, also across restarts, for its vote is on disk before it is
//! sent; so at most one replica wins an epoch.

use std::collections::BTreeSet;

use super::bus::{Header, MessageFlags};
use super::event::MasterLink;
use super::machine::Cluster;
use super::outgoing::Audience;
use super::table::{ME, NodeKey};

/// A replica waits this long before it asks for votes, in milliseconds, so that the failure is known to
/// those who vote, and at most as long again at random, so that not all ask at once.
const ELECTION_DELAY_MS: u64 = 500;
/// A replica waits this much longer, in milliseconds, for each one that has newer data.
const RANK_DELAY_MS: u64 = 1000;
/// Shortest time that votes are waited for, in milliseconds.
const VOTING_MS_MIN: u64 = 2000;
/// Votes are waited for during so many node timeouts.
const VOTING_TIMEOUTS: u64 = 2;
/// After so many times the time for votes, another attempt begins.
const RETRY_VOTINGS: u64 = 2;
/// A node votes for replicas of one master once within so many node timeouts, so that the winner has time to
/// be heard of.
const VOTE_AGAIN_TIMEOUTS: u64 = 2;

/// The attempt of this replica to be elected.
#[derive(Debug, Default)]
pub(super) struct Election {
    /// When votes are to be asked for.
    scheduled_ms: Option<u64>,
    /// Whether they were.
    requested: bool,
    /// The epoch that they are for.
    epoch: u64,
    /// How many replicas have newer data.
    rank: u64,
    /// Who voted for this node.
    pub(super) votes: BTreeSet<NodeKey>,
}

impl Cluster {
    /// Goes on with the election if this node has reason to stand for it.
    pub(super) fn advance_election(&mut self) {
        let is_manual = self.manual_failover_is_ready();
        let Some(master) = self.master_to_replace(is_manual) else { return };
        let voting = (VOTING_TIMEOUTS * self.settings.node_timeout_ms).max(VOTING_MS_MIN);
        let age = self.election.scheduled_ms.map(|start_ms| self.now.saturating_sub(start_ms));
        if age.is_none_or(|age| age > RETRY_VOTINGS * voting) {
            self.schedule_election(master, is_manual);
            if !is_manual {
                return;
            }
        }
        if !self.election.requested && !is_manual {
            self.fall_back_behind_newer(master);
        }
        let Some(scheduled_ms) = self.election.scheduled_ms else { return };
        let age = self.now.saturating_sub(scheduled_ms);
        if self.now < scheduled_ms || age > voting {
            return;
        }
        if !self.election.requested {
            self.stand_for_election(is_manual);
        }
        if self.election.votes.len() >= self.quorum() {
            self.win_election(master);
        }
    }

    /// The master that this node would replace now, if it may.
    fn master_to_replace(&self, is_manual: bool) -> Option<NodeKey> {
        let key = self.nodes[ME].master()?;
        let master = &self.nodes[key];
        let may = is_manual
            || (master.has_failed() && !self.settings.replica_no_failover && self.data_is_fresh());
        (may && !master.slots.is_empty()).then_some(key)
    }

    /// Whether the data are not older than `cluster-replica-validity-factor` allows.
    fn data_is_fresh(&self) -> bool {
        if self.settings.replica_validity_factor == 0 {
            return true;
        }
        let timeout = self.settings.node_timeout_ms;
        let last_ms = match self.replication.master_link {
            MasterLink::Never => return false,
            MasterLink::Up { heard_ms } => heard_ms,
            MasterLink::Down { since_ms } => since_ms,
        };
        // The time that it takes to find out about the failure does not count.
        let age = self.now.saturating_sub(last_ms).saturating_sub(timeout);
        let factor = self.settings.replica_validity_factor;
        age <= self.settings.repl_ping_period_ms.saturating_add(timeout.saturating_mul(factor))
    }

    fn schedule_election(&mut self, master: NodeKey, is_manual: bool) {
        let rank = if is_manual { 0 } else { self.rank(master) };
        let delay = if is_manual {
            0
        } else {
            ELECTION_DELAY_MS + self.random.below(ELECTION_DELAY_MS) + rank * RANK_DELAY_MS
        };
        let scheduled_ms = Some(self.now + delay);
        self.election = Election { scheduled_ms, rank, ..Election::default() };
        tracing::info!("election in {delay} ms, rank {rank}, offset {}", self.nodes[ME].offset);
        // The other replicas must know how new our data are, to find their own rank.
        self.broadcast_pong(Audience::Shard);
    }

    /// How many replicas of this master are better candidates: with newer data, or with equal ones and a
    /// smaller id, so that no two have the same rank.
    fn rank(&self, master: NodeKey) -> u64 {
        let me = &self.nodes[ME];
        let is_better = |key: &&NodeKey| {
            let other = &self.nodes[**key];
            let can = **key != ME && !other.no_failover && !other.has_failed();
            let is_newer = other.offset > me.offset;
            can && (is_newer || (other.offset == me.offset && other.id < me.id))
        };
        self.nodes[master].replicas.iter().filter(is_better).count() as u64
    }

    /// Waits longer if others turn out to have newer data.
    fn fall_back_behind_newer(&mut self, master: NodeKey) {
        let rank = self.rank(master);
        let added = rank.saturating_sub(self.election.rank);
        if added > 0 {
            self.election.rank = rank;
            let later = |at_ms: u64| at_ms + added * RANK_DELAY_MS;
            self.election.scheduled_ms = self.election.scheduled_ms.map(later);
        }
    }

    fn stand_for_election(&mut self, is_manual: bool) {
        self.current_epoch += 1;
        self.election.epoch = self.current_epoch;
        self.election.requested = true;
        self.save_first();
        tracing::info!("asking for votes in epoch {}", self.current_epoch);
        self.request_votes(is_manual);
    }

    /// Somebody voted for this node.
    pub(super) fn on_vote(&mut self, voter: NodeKey, header: &Header) {
        let counts = self.election.requested
            && self.nodes[voter].votes()
            && header.current_epoch >= self.election.epoch;
        if counts {
            self.election.votes.insert(voter);
        }
    }

    fn win_election(&mut self, master: NodeKey) {
        tracing::info!("elected in epoch {}", self.election.epoch);
        let me = &mut self.nodes[ME];
        me.config_epoch = me.config_epoch.max(self.election.epoch);
        self.replace_master(master);
    }

    /// Takes the place of this node's master; the epoch is already its own.
    pub(super) fn replace_master(&mut self, master: NodeKey) {
        self.make_master(ME);
        let slots = self.nodes[master].slots.clone();
        self.assign_all(&slots, ME);
        self.reset_manual_failover();
        self.election = Election::default();
        self.save_first();
        self.broadcast_pong(Audience::All);
    }

    /// Lets a new reason for an election start afresh.
    pub(super) fn forget_election(&mut self) {
        self.election = Election::default();
    }

    /// A replica asks for this node's vote.
    pub(super) fn on_vote_requested(&mut self, candidate: NodeKey, header: &Header) {
        let Some(master) = self.nodes[candidate].master() else { return };
        if !self.may_vote(master, header) {
            return;
        }
        self.nodes[master].voted_ms = self.now;
        self.last_vote_epoch = self.current_epoch;
        self.save_first();
        tracing::info!("vote for {} in epoch {}", header.sender, self.current_epoch);
        self.send_vote(candidate);
    }

    fn may_vote(&self, master: NodeKey, header: &Header) -> bool {
        let is_forced = header.message_flags.has(MessageFlags::FORCE_ACK);
        let pause = VOTE_AGAIN_TIMEOUTS * self.settings.node_timeout_ms;
        let node = &self.nodes[master];
        let voted_lately = self.now.saturating_sub(node.voted_ms) < pause;
        self.nodes[ME].votes()
            && header.current_epoch >= self.current_epoch
            && !self.has_voted_in_this_epoch()
            && (node.has_failed() || is_forced)
            && !voted_lately
            && !self.claim_is_outdated(header)
    }

    fn has_voted_in_this_epoch(&self) -> bool {
        #[cfg(test)]
        if self.broken_rule == Some(super::simulator::BrokenRule::VoteTwice) {
            return false;
        }
        self.last_vote_epoch >= self.current_epoch
    }

    /// Whether somebody owns a slot that the candidate claims, with a higher epoch than it knows of.
    fn claim_is_outdated(&self, header: &Header) -> bool {
        header.slots.iter().any(|slot| {
            let owner = self.slots.owner(slot).filter(|_| !self.slots.is_unclaimed(slot));
            owner.is_some_and(|owner| self.nodes[owner].config_epoch > header.config_epoch)
        })
    }
}
