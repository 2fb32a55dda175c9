//! How long a master may serve without word from the others.
//!
//! A replica is elected one node timeout after its master fell silent, at the earliest. So a master that has had no
//! answer from a majority for as long stops: nobody else serves its slots yet. It also stops the moment it goes
//! on after having been stopped itself (SIGSTOP, a machine that was moved): data cores look at the clock
//! before they look at what clients sent, and whether there is a new master comes out before they go on.
//!
//! Promise: an answer counts from when its question was asked. One that lay in a socket while this process
//! stood still says nothing about now.

use super::machine::Cluster;
use super::node::Node;
use super::table::ME;

/// Who decides is asked again when this part of the node timeout has passed since the last question that they
/// answered; the rest is time for the answer.
const ASK_AGAIN_PART: u64 = 4;

impl Cluster {
    /// Until when this node may serve if it hears nothing more, in milliseconds since 1970. No limit for who has no
    /// slots of its own, and for the only one who has.
    pub fn lease_ms(&self) -> u64 {
        if !self.nodes[ME].votes() {
            return u64::MAX;
        }
        let Some(others_needed) = self.quorum().checked_sub(2) else { return u64::MAX };
        let others = self.nodes.iter().filter(|(key, node)| *key != ME && node.votes());
        let mut answered: Vec<u64> = others.map(|(_, node)| self.answered_ms(node)).collect();
        answered.sort_unstable_by(|a, b| b.cmp(a));
        let since_ms = answered.get(others_needed).copied().unwrap_or(0);
        since_ms.saturating_add(self.settings.node_timeout_ms)
    }

    /// When this node last asked what the other has answered. Becoming one of those who decide, on either side, counts
    /// as an answer: that it came about is news from a majority, or the will of an operator.
    fn answered_ms(&self, node: &Node) -> u64 {
        let times = [node.answered_ms, node.voter_since_ms, self.nodes[ME].voter_since_ms];
        // After the clock was put back, what lies ahead is not known to have been.
        times.into_iter().filter(|ms| *ms <= self.now).max().unwrap_or(0)
    }

    /// Notes since when nodes decide.
    pub(super) fn note_voters(&mut self) {
        for key in self.nodes.keys_now() {
            let node = &mut self.nodes[key];
            match (node.votes(), node.voter_since_ms) {
                (true, 0) => node.voter_since_ms = self.now,
                (false, _) => node.voter_since_ms = 0,
                (true, _) => {}
            }
        }
    }

    /// Asks those who decide while there is time for their answers. The usual pings do not see to that: they
    /// spare nodes of which others say that they live.
    pub(super) fn renew_lease(&mut self) {
        let patience = self.settings.node_timeout_ms / ASK_AGAIN_PART;
        let rest = self.settings.node_timeout_ms - patience;
        if self.lease_ms() > self.now.saturating_add(rest) {
            return;
        }
        for key in self.nodes.keys_now() {
            let node = &self.nodes[key];
            let is_old = self.now.saturating_sub(self.answered_ms(node)) >= patience;
            if key != ME && node.votes() && node.ping_sent_ms == 0 && is_old {
                self.send_ping(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Event, NodesConf, Settings};

    const NOW: u64 = 1_700_000_000_000;
    const TIMEOUT_MS: u64 = 2000;

    /// A node that has slots with so many other masters; none of them has ever been reached.
    fn among(others: usize) -> Cluster {
        let mut text =
            format!("{:040x} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-9999\n", 1);
        for n in 0..others {
            let (id, slot) = (n + 2, 10_000 + n);
            let slots = if n + 1 == others { format!("{slot}-16383") } else { slot.to_string() };
            text +=
                &format!("{id:040x} 10.0.0.{id}:7001@17001 master - 0 0 {id} connected {slots}\n");
        }
        text += "vars currentEpoch 9 lastVoteEpoch 0\n";
        let conf = NodesConf::parse(&text).unwrap().unwrap();
        let settings = Settings {
            node_timeout_ms: TIMEOUT_MS,
            require_full_coverage: false,
            ..Settings::default()
        };
        let mut cluster = Cluster::restore(&conf, settings, [7; 4], NOW).unwrap();
        tick(&mut cluster, NOW);
        cluster
    }

    /// Others live and send their pings, but answer none.
    fn tick(cluster: &mut Cluster, at_ms: u64) {
        for key in cluster.nodes.keys_now() {
            cluster.nodes[key].data_received_ms = at_ms;
        }
        cluster.step(at_ms, Event::Tick, &mut Vec::new());
    }

    /// The n-th of the other masters has answered what it was asked then.
    fn answer(cluster: &mut Cluster, n: usize, asked_ms: u64) {
        let key = cluster.nodes.keys_now().into_iter().filter(|key| *key != ME).nth(n).unwrap();
        cluster.nodes[key].answered_ms = asked_ms;
    }

    #[test]
    fn a_lease_lasts_one_timeout_from_the_question_that_a_majority_answered() {
        // How many others there are, when those who answered were asked last, and since when the lease counts.
        for (others, asked, since) in [
            (1, &[] as &[u64], 0),
            (1, &[700], 700),
            (2, &[700], 700), // one of two is a majority together with this node
            (2, &[700, 900], 900),
            (3, &[700], 0),
            (3, &[700, 900], 700),
            (4, &[700, 900, 800], 800),
        ] {
            let mut cluster = among(others);
            asked.iter().enumerate().for_each(|(n, ms)| answer(&mut cluster, n, NOW + ms));
            cluster.begin(NOW + 1000);
            assert_eq!(cluster.lease_ms(), NOW + since + TIMEOUT_MS, "{others} {asked:?}");
        }
        assert_eq!(among(0).lease_ms(), u64::MAX);
    }

    #[test]
    fn who_hears_nothing_serves_for_one_timeout_and_not_longer() {
        let mut cluster = among(2);
        answer(&mut cluster, 0, NOW + 1000);
        tick(&mut cluster, NOW + 2100); // after the delay that follows a start
        assert!(!cluster.verdict.is_down);
        tick(&mut cluster, NOW + 1000 + TIMEOUT_MS);
        assert!(!cluster.verdict.is_down);
        tick(&mut cluster, NOW + 1001 + TIMEOUT_MS);
        assert!(cluster.verdict.is_down);
        // An answer alone does not bring it back: whoever took over must have time to say so.
        answer(&mut cluster, 0, NOW + 1001 + TIMEOUT_MS);
        tick(&mut cluster, NOW + 1100 + TIMEOUT_MS);
        assert!(cluster.verdict.is_down);
    }
}
