//! The heavy operations during which `corelane-gap` listens for silence.
//!
//! Each is something that a store is tempted to do in one go: grow its table, free a large value,
//! reap many keys that expire together, empty itself. What has to be built first is built before
//! the probe starts, except where the building is the operation.
//!
//! Promise: a scenario starts from an empty server and leaves an empty one; a server that holds
//! keys is not touched unless the caller allowed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use crate::client::{Client, Login, Target};
use crate::engine::{self, Plan};
use crate::failure::Failure;
use crate::probe::{Gaps, Probe};
use crate::workload::{Commands, Distribution, WRITE_TEMPLATE, WorkloadSpec};

/// A heavy operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// Nothing at all for three seconds: what a ping costs here at rest
    Idle,
    /// From no key to ten million, by pipelined SETs
    Grow,
    /// DEL of a sorted set of five million members
    Delzset,
    /// A million keys that expire within one second
    Expire,
    /// FLUSHALL of ten million keys
    Flushall,
}

impl Scenario {
    /// The name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Grow => "grow",
            Self::Delzset => "delzset",
            Self::Expire => "expire",
            Self::Flushall => "flushall",
        }
    }

    /// Keys or members at `scale`.
    pub fn items(self, scale: f64) -> u64 {
        let full = match self {
            Self::Idle => return 0,
            Self::Grow | Self::Flushall => 10_000_000.0,
            Self::Delzset => 5_000_000.0,
            Self::Expire => 1_000_000.0,
        };
        ((full * scale) as u64).max(1)
    }
}

/// The server, and how to burden it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where it listens.
    pub target: Target,
    /// What each connection says first.
    pub login: Login,
    /// Connections that ping.
    pub probes: usize,
    /// Whether keys that are there may be erased.
    pub may_flush: bool,
}

/// What a scenario has shown.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The scenario.
    pub scenario: Scenario,
    /// The server.
    pub target: Target,
    /// Keys or members.
    pub items: u64,
    /// How long the operation took; for `expire`, from the first expiry until no key was left.
    pub took: Duration,
    /// The gaps meanwhile.
    pub gaps: Gaps,
}

/// Connections and depth of the load that builds things.
const LOAD_CONNECTIONS: usize = 8;
const LOAD_PIPELINE: usize = 32;
/// Bytes of a value.
const VALUE_BYTES: usize = 32;
/// The sorted set of `delzset`.
const ZSET_KEY: &str = "gap:zset";
/// How long the probe listens before and after the operation: what a server puts off counts too.
const LEAD: Duration = Duration::from_millis(200);
const SETTLE: Duration = Duration::from_secs(1);
/// How long `idle` listens.
const IDLE: Duration = Duration::from_secs(3);
/// How long expired keys are waited for.
const EXPIRY_WAIT_MAX: Duration = Duration::from_secs(120);
/// How often the number of keys is asked for meanwhile.
const EXPIRY_POLL: Duration = Duration::from_millis(50);

/// Performs `scenario` at `scale` on `subject` and listens. `stop` ends it early, as a failure.
pub fn measure(
    scenario: Scenario,
    scale: f64,
    subject: &Subject,
    stop: &Arc<AtomicBool>,
) -> Result<Finding, Failure> {
    let items = scenario.items(scale);
    let mut run =
        Run { admin: Client::connect(&subject.target, &subject.login)?, subject, items, stop };
    run.empty_server()?;
    let (took, gaps) = match scenario {
        Scenario::Idle => run.listen(|_| {
            thread::sleep(IDLE);
            Ok(())
        }),
        Scenario::Grow => run.listen(|run| run.load(WRITE_TEMPLATE)),
        Scenario::Delzset => {
            run.load(&format!("ZADD {ZSET_KEY} __rand__ __key__"))?;
            run.listen(|run| run.call(&["DEL", ZSET_KEY]))
        }
        Scenario::Expire => run.expire(),
        Scenario::Flushall => {
            run.load(WRITE_TEMPLATE)?;
            run.listen(|run| run.call(&["FLUSHALL"]))
        }
    }?;
    run.call(&["FLUSHALL"])?;
    Ok(Finding { scenario, target: subject.target.clone(), items, took, gaps })
}

/// A scenario under way.
struct Run<'a> {
    admin: Client,
    subject: &'a Subject,
    items: u64,
    stop: &'a Arc<AtomicBool>,
}

impl Run<'_> {
    fn call(&mut self, words: &[&str]) -> Result<(), Failure> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.admin.call_ok(&words).map(drop)
    }

    /// The number of keys.
    fn key_count(&mut self) -> Result<u64, Failure> {
        let text = self.admin.call_ok(&[b"DBSIZE"])?.text();
        text.parse().map_err(|_| Failure::Precondition(format!("DBSIZE answered '{text}'")))
    }

    fn empty_server(&mut self) -> Result<(), Failure> {
        let (keys, target) = (self.key_count()?, &self.subject.target);
        match (keys, self.subject.may_flush) {
            (0, _) => Ok(()),
            (_, true) => self.call(&["FLUSHALL"]),
            (keys, false) => Err(Failure::Precondition(format!(
                "{target} holds {keys} keys; --flush allows to erase everything in it"
            ))),
        }
    }

    /// Sends the template once for each item, keys in order.
    fn load(&mut self, template: &str) -> Result<(), Failure> {
        let workload = WorkloadSpec {
            keys: self.items,
            key_prefix: "gap:".to_owned(),
            distribution: Distribution::Sequential,
            value_bytes: VALUE_BYTES,
            commands: Commands::Fixed(template.to_owned()),
            seed: 1,
        };
        let plan = Plan {
            target: self.subject.target.clone(),
            login: self.subject.login.clone(),
            threads: 1,
            connections: LOAD_CONNECTIONS,
            pipeline: LOAD_PIPELINE,
            requests: Some(self.items),
            duration: None,
            rate: None,
            workload,
        };
        let outcome = engine::run(&plan, self.stop, |_| ())?;
        self.check_interrupt()?;
        match (outcome.failure, outcome.tally.first_error) {
            (Some(failure), _) => Err(failure),
            (None, Some(text)) => Err(Failure::Refused { command: template.to_owned(), text }),
            (None, None) => Ok(()),
        }
    }

    fn check_interrupt(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Precondition("interrupted".to_owned()));
        }
        Ok(())
    }

    /// Pings around `operation`; also says how long it took.
    fn listen(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(Duration, Gaps), Failure> {
        let probe = Probe::start(&self.subject.target, &self.subject.login, self.subject.probes)?;
        thread::sleep(LEAD);
        let start = Instant::now();
        let result = operation(self);
        let took = start.elapsed();
        thread::sleep(SETTLE);
        let gaps = probe.finish();
        result?;
        Ok((took, gaps?))
    }

    /// Writes the keys, gives each a random moment of the same second, and listens from a little
    /// before that second until no key is left.
    fn expire(&mut self) -> Result<(Duration, Gaps), Failure> {
        let start = Instant::now();
        self.load(WRITE_TEMPLATE)?;
        // Giving a key its moment takes about as long as writing it took.
        let now = unix_time();
        let second = (now + start.elapsed() * 2 + LEAD * 2).as_secs() + 2;
        self.load(&format!("PEXPIREAT __key__ {second}__rand:1000__"))?;
        let lead = Duration::from_secs(second).checked_sub(unix_time() + LEAD * 2);
        let lead = lead.ok_or_else(|| {
            let text = "the keys began to expire before all had their time: lower --scale";
            Failure::Precondition(text.to_owned())
        })?;
        thread::sleep(lead);
        let mut emptied = Duration::ZERO;
        let (_, gaps) = self.listen(|run| run.wait_until_empty(second, &mut emptied))?;
        Ok((emptied, gaps))
    }

    fn wait_until_empty(&mut self, second: u64, emptied: &mut Duration) -> Result<(), Failure> {
        loop {
            let keys = self.key_count()?;
            self.check_interrupt()?;
            let since = unix_time().saturating_sub(Duration::from_secs(second));
            *emptied = since;
            if keys == 0 {
                return Ok(());
            }
            if since > EXPIRY_WAIT_MAX {
                let text = format!("{keys} expired keys are still counted after {since:.0?}");
                return Err(Failure::Precondition(text));
            }
            thread::sleep(EXPIRY_POLL);
        }
    }
}

fn unix_time() -> Duration {
    // A clock before 1970 would expire every key at once, which `expire` then reports.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_shrinks_every_operation_but_never_to_nothing() {
        for (scenario, full) in [
            (Scenario::Grow, 10_000_000),
            (Scenario::Delzset, 5_000_000),
            (Scenario::Expire, 1_000_000),
            (Scenario::Flushall, 10_000_000),
        ] {
            assert_eq!(scenario.items(1.0), full, "{scenario:?}");
            assert_eq!(scenario.items(0.1), full / 10, "{scenario:?}");
            assert_eq!(scenario.items(1e-12), 1, "{scenario:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
