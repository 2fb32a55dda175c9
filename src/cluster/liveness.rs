//! Who is reached and who is not: pings, suspicion, and failure by majority.

use super::bus::Kind;
use super::event::LinkId;
use super::machine::Cluster;
use super::manual_failover::ManualFailover;
use super::node::{Contact, FailureReport, Health, Node};
use super::node_id::NodeId;
use super::table::{ME, NodeKey};

/// A random node is pinged every so many ticks, that is, every second.
const TICKS_PER_RANDOM_PING: u64 = 10;
/// Of so many random nodes, the one that was silent for longest is pinged.
const RANDOM_PING_CANDIDATES: usize = 5;
/// Ticks come every 100 ms. If there was none for so long, in milliseconds, this process stood still, and there may be
/// answers that it has not read.
const STALL_MS: u64 = 1000;
/// A handshake may take this long at least, in milliseconds, whatever the node timeout is.
const HANDSHAKE_MS_MIN: u64 = 1000;
/// A report of failure counts for so many node timeouts.
const REPORT_TIMEOUTS: u64 = 2;
/// A failed master with slots may come back when nobody took them for so many node timeouts.
const UNDO_TIMEOUTS: u64 = 2;
/// A new suspicion is told at once to all masters with slots if these are at most so many. With more, the
/// usual pings do it in time, and N nodes that all tell all masters would be a storm.
const TOLD_AT_ONCE_MAX: usize = 32;

impl Cluster {
    pub(super) fn on_tick(&mut self) {
        self.ticks += 1;
        let stood_still = self.now.saturating_sub(self.ticked_ms) >= STALL_MS;
        self.ticked_ms = self.now;
        self.keep_links(stood_still);
        if self.ticks.is_multiple_of(TICKS_PER_RANDOM_PING) {
            self.ping_random();
        }
        for key in self.nodes.keys_now() {
            let node = &self.nodes[key];
            if key != ME && node.contact == Contact::Known {
                self.watch(key);
            }
        }
        self.renew_lease();
        self.migrate_to_orphaned_master();
        // Time alone may bring the cluster back (see the delays there), or end this node's lease.
        self.todo.judge = true;
    }

    /// Opens missing links, and gives up handshakes that take too long. Who was met and has never called back has given up
    /// on his side, and would never do so: he is asked again (as Valkey 8.1 does).
    fn keep_links(&mut self, stood_still: bool) {
        let patience = self.settings.node_timeout_ms.max(HANDSHAKE_MS_MIN);
        for key in self.nodes.keys_now() {
            let node = &self.nodes[key];
            if key == ME || node.contact == Contact::Lost {
                continue;
            }
            let is_late =
                |since_ms: u64| self.now.saturating_sub(since_ms) > patience && !stood_still;
            if node.in_handshake() && is_late(node.created_ms) {
                self.remove_node(key);
            } else if node.contact == Contact::Known
                && node.uncalled_since_ms.is_some_and(is_late)
                && let Some(link) = node.link
            {
                self.send_meet(LinkId::To(link.number));
                self.nodes[key].uncalled_since_ms = Some(self.now);
            } else if node.link.is_none() && !node.address.ip.is_empty() {
                self.connect(key);
            }
        }
    }

    fn ping_random(&mut self) {
        let mut oldest: Option<NodeKey> = None;
        for _ in 0..RANDOM_PING_CANDIDATES {
            let place = self.random.below(self.nodes.len() as u64) as usize;
            let key = self.nodes.nth(place);
            let node = &self.nodes[key];
            let fits = key != ME
                && node.contact == Contact::Known
                && node.link.is_some()
                && node.ping_sent_ms == 0;
            let is_older = oldest
                .is_none_or(|other| node.pong_received_ms < self.nodes[other].pong_received_ms);
            if fits && is_older {
                oldest = Some(key);
            }
        }
        if let Some(key) = oldest {
            self.send_ping(key);
        }
    }

    /// Keeps an eye on one node.
    fn watch(&mut self, key: NodeKey) {
        let timeout = self.settings.node_timeout_ms;
        if self.link_is_stuck(&self.nodes[key]) {
            self.disconnect(key); // The next tick opens another: perhaps only the link is bad.
        }
        let node = &self.nodes[key];
        let silence = self.now.saturating_sub(node.pong_received_ms);
        if node.link.is_some() && node.ping_sent_ms == 0 && silence > timeout / 2 {
            return self.send_ping(key);
        }
        if let ManualFailover::Yielding { to, paused: true, .. } = self.manual
            && to == key
        {
            return self.send_ping(key);
        }
        if node.ping_sent_ms == 0 || node.health != Health::Fine {
            return;
        }
        let waited = self.now.saturating_sub(node.ping_sent_ms);
        let silence = self.now.saturating_sub(node.data_received_ms);
        if waited.min(silence) > timeout {
            self.suspect(key);
        }
    }

    fn link_is_stuck(&self, node: &Node) -> bool {
        let timeout = self.settings.node_timeout_ms;
        let since = |then_ms: u64| self.now.saturating_sub(then_ms);
        node.link.is_some_and(|link| since(link.created_ms) > timeout)
            && node.ping_sent_ms != 0
            && since(node.ping_sent_ms) > timeout / 2
            // Whose own link to us works may be heard all the time, and not get a word of ours on this one.
            && (since(node.data_received_ms) > timeout / 2 || since(node.ping_sent_ms) > timeout)
    }

    fn suspect(&mut self, key: NodeKey) {
        tracing::debug!("node {} does not answer", self.nodes[key].id);
        self.nodes[key].health = Health::Suspect;
        self.topology_changed();
        self.fail_if_agreed(key);
        if self.nodes[key].health == Health::Suspect && self.nodes[ME].votes() {
            self.tell_suspicion();
        }
    }

    /// Pings carry the suspicion. Without this, a majority would learn of it only with the pings that are due
    /// within the next half of the node timeout.
    fn tell_suspicion(&mut self) {
        let voters: Vec<_> = self
            .nodes
            .iter()
            .filter(|(key, node)| *key != ME && node.votes() && node.health == Health::Fine)
            .map(|(key, _)| key)
            .collect();
        if voters.len() <= TOLD_AT_ONCE_MAX {
            voters.into_iter().for_each(|voter| self.send_ping(voter));
        }
    }

    /// `by` says that `key` does not answer.
    pub(super) fn report_failure(&mut self, key: NodeKey, by: NodeKey) {
        let at_ms = self.now;
        let reports = &mut self.nodes[key].reports;
        match reports.iter_mut().find(|report| report.by == by) {
            Some(report) => report.at_ms = at_ms,
            None => reports.push(FailureReport { by, at_ms }),
        }
    }

    /// Whether a report of failure still counts.
    pub(super) fn is_fresh(&self, report: &FailureReport) -> bool {
        let age_max = REPORT_TIMEOUTS * self.settings.node_timeout_ms;
        self.now.saturating_sub(report.at_ms) <= age_max
    }

    pub(super) fn forget_old_reports(&mut self, key: NodeKey) {
        let (now, age_max) = (self.now, REPORT_TIMEOUTS * self.settings.node_timeout_ms);
        self.nodes[key].reports.retain(|report| now.saturating_sub(report.at_ms) <= age_max);
    }

    /// A suspect has failed when a majority of the masters with slots does not reach it either.
    pub(super) fn fail_if_agreed(&mut self, key: NodeKey) {
        if self.nodes[key].health != Health::Suspect {
            return;
        }
        self.forget_old_reports(key);
        let voices = self.nodes[key].reports.len() + usize::from(self.i_am_master());
        if voices < self.quorum() {
            return;
        }
        tracing::warn!("node {} has failed", self.nodes[key].id);
        self.mark_failed(key);
        self.broadcast_fail(key);
    }

    fn mark_failed(&mut self, key: NodeKey) {
        self.nodes[key].health = Health::Failed { since_ms: self.now };
        self.topology_changed();
    }

    /// A majority has lost this node, says one who counted.
    pub(super) fn on_fail(&mut self, id: &NodeId) {
        let Some(key) = self.nodes.find(id).filter(|key| *key != ME) else { return };
        if !self.nodes[key].has_failed() {
            tracing::warn!("node {id} has failed, another node says");
            self.mark_failed(key);
        }
    }

    /// A failed node answers. A master with slots has to wait: another may be about to replace it.
    pub(super) fn undo_failure(&mut self, key: NodeKey, since_ms: u64) {
        let delay = UNDO_TIMEOUTS * self.settings.node_timeout_ms;
        let node = &mut self.nodes[key];
        if !node.votes() || self.now.saturating_sub(since_ms) > delay {
            tracing::info!("node {} answers again", node.id);
            node.health = Health::Fine;
            self.topology_changed();
        }
    }

    /// Masters with slots that are needed to decide.
    pub(super) fn quorum(&self) -> usize {
        self.verdict.size / 2 + 1
    }

    /// Who says that this node does not answer: CLUSTER COUNT-FAILURE-REPORTS.
    pub fn failure_reports(&mut self, key: NodeKey) -> usize {
        self.forget_old_reports(key);
        self.nodes[key].reports.len()
    }

    /// Packets of a type that came and went.
    pub fn packets(&self, kind: Kind) -> (u64, u64) {
        (self.stats.sent(kind), self.stats.received(kind))
    }
}
