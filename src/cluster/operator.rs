//! What an operator asks of a node: the CLUSTER subcommands that change something.

use std::fmt;

use super::address::Address;
use super::event::Effect;
use super::machine::Cluster;
use super::manual_failover::FailoverKind;
use super::table::ME;

/// Why a node does not do what it is asked, in Redis's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Only a replica can take over.
    FailoverOnMaster,
    /// A replica does not know its master.
    FailoverOfUnknown,
    /// The master cannot help with its own replacement.
    FailoverOfFailed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR ")?;
        f.write_str(match self {
            Self::FailoverOnMaster => "You should send CLUSTER FAILOVER to a replica",
            Self::FailoverOfUnknown => "I'm a replica but my master is unknown to me",
            Self::FailoverOfFailed => "Master is down or failed, please use CLUSTER FAILOVER FORCE",
        })
    }
}

impl Cluster {
    /// CLUSTER MEET: asks the node at this address to let this one in.
    pub fn meet(&mut self, now_ms: u64, address: Address, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        self.start_handshake(address, true);
        self.finish(effects);
    }

    /// CLUSTER FAILOVER: takes over from the master.
    pub fn fail_over(
        &mut self,
        now_ms: u64,
        kind: FailoverKind,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.i_am_master() {
            return Err(Refusal::FailoverOnMaster);
        }
        let master = self.nodes[ME].master().ok_or(Refusal::FailoverOfUnknown)?;
        let node = &self.nodes[master];
        if kind == FailoverKind::Plain && (node.has_failed() || node.link.is_none()) {
            return Err(Refusal::FailoverOfFailed);
        }
        self.begin(now_ms);
        self.start_manual_failover(kind, master);
        self.finish(effects);
        Ok(())
    }

    /// CLUSTER RESET: forgets the cluster; with `hard`, itself too.
    pub fn reset(&mut self, now_ms: u64, hard: bool, effects: &mut Vec<Effect>) {
        self.begin(now_ms);
        self.forget_all(hard);
        self.finish(effects);
    }
}
