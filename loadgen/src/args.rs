//! The command line of `corelane-loadgen`, checked into a [`Plan`].
//!
//! Short options are those of redis-benchmark where both have them, since hands know them.
//!
//! Promise: a [`Plan`] from here can run: counts are not zero, there is a key for every draw, and
//! a command template can be read.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::client::{Login, Target};
use crate::engine::Plan;
use crate::failure::Failure;
use crate::template::KEYS_MAX;
use crate::workload::{Commands, Distribution, Workload, WorkloadSpec};

/// Seconds of a run for which neither `--requests` nor `--duration` is given.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// The exponent of `--distribution zipfian` without one: YCSB's.
const DEFAULT_THETA: f64 = 0.99;
/// Largest exponent: beyond it practically every draw is the first key.
const THETA_MAX: f64 = 20.0;
/// Largest value, the default of Redis's proto-max-bulk-len.
const VALUE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Load generator for RESP servers (Corelane, Redis, Valkey) over io_uring.
#[derive(Clone, PartialEq, Debug, Parser)]
#[command(name = "corelane-loadgen", version)]
pub struct Args {
    /// Host to connect to
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Port to connect to
    #[arg(long, short, default_value_t = 6379)]
    pub port: u16,
    /// Unix socket to connect to instead of host and port
    #[arg(long, short = 's', value_name = "PATH", conflicts_with_all = ["host", "port"])]
    pub unixsocket: Option<PathBuf>,
    /// Threads that generate load
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Connections in all, at least one per thread
    #[arg(long, short, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Requests in flight on each connection
    #[arg(long, short = 'P', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub pipeline: u32,
    /// Number of keys
    #[arg(long, short = 'r', default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub keys: u64,
    /// What stands before the twelve digits of a key
    #[arg(long, default_value = "key:")]
    pub key_prefix: String,
    /// How keys are drawn: uniform, zipfian or zipfian:THETA
    #[arg(long, default_value = "uniform", value_parser = parse_distribution)]
    pub distribution: Distribution,
    /// GETs to SETs
    #[arg(long, default_value = "9:1", value_name = "READS:WRITES")]
    pub ratio: Ratio,
    /// Send this command instead; __key__, __value__, __rand__ and __rand:N__ are filled in
    #[arg(long, conflicts_with = "ratio")]
    pub command: Option<String>,
    /// Bytes of a value
    #[arg(long, short = 'd', default_value_t = 32, value_parser = clap::value_parser!(u64).range(0..=VALUE_BYTES_MAX))]
    pub value_size: u64,
    /// Stop after this many requests
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Stop after this many seconds (10 if no end is given)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Send this many requests per second in all; latency then counts from the intended send time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rate: Option<u64>,
    /// ACL user
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Password (or the environment variable REDISCLI_AUTH, which no process list shows)
    #[arg(long, short = 'a')]
    pub password: Option<String>,
    /// Database
    #[arg(long, default_value_t = 0)]
    pub db: u32,
    /// Speak RESP3
    #[arg(long, action = ArgAction::SetTrue)]
    pub resp3: bool,
    /// Write every key once before the run
    #[arg(long, action = ArgAction::SetTrue)]
    pub preload: bool,
    /// Seed of keys, values and the order of reads and writes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the report as JSON to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not print a line each second
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub quiet: bool,
}

impl Args {
    /// The run that these arguments describe. `environment_password` stands in for `--password`.
    pub fn plan(&self, environment_password: Option<String>) -> Result<Plan, Failure> {
        let (threads, connections) = (usize::from(self.threads), self.connections as usize);
        if connections < threads {
            let text = format!("{threads} threads need at least {threads} connections");
            return Err(Failure::Precondition(text));
        }
        let bounded = self.requests.is_some() || self.duration.is_some();
        let plan = Plan {
            target: self.target(),
            login: Login {
                user: self.user.clone(),
                password: self.password.clone().or(environment_password),
                db: self.db,
                resp3: self.resp3,
            },
            threads,
            connections,
            pipeline: self.pipeline as usize,
            requests: self.requests,
            duration: if bounded { self.duration } else { Some(DEFAULT_DURATION) },
            rate: self.rate,
            workload: self.workload(),
        };
        // A template that cannot be read shows before anything is connected.
        Workload::new(&plan.workload, 0, 1)?;
        Ok(plan)
    }

    fn target(&self) -> Target {
        match &self.unixsocket {
            Some(path) => Target::Unix(path.clone()),
            None => Target::Tcp { host: self.host.clone(), port: self.port },
        }
    }

    fn workload(&self) -> WorkloadSpec {
        let Ratio { reads, writes } = self.ratio;
        WorkloadSpec {
            keys: self.keys,
            key_prefix: self.key_prefix.clone(),
            distribution: self.distribution,
            value_bytes: self.value_size as usize,
            commands: match &self.command {
                Some(text) => Commands::Fixed(text.clone()),
                None => Commands::Mix { reads, writes },
            },
            seed: self.seed,
        }
    }
}

/// `READS:WRITES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    /// Parts that read.
    pub reads: u32,
    /// Parts that write.
    pub writes: u32,
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(reads, writes)| {
            Some(Self { reads: reads.parse().ok()?, writes: writes.parse().ok()? })
        });
        parts
            .filter(|ratio| ratio.reads > 0 || ratio.writes > 0)
            .ok_or_else(|| "wants two numbers, not both zero, as in 9:1".to_owned())
    }
}

fn parse_distribution(text: &str) -> Result<Distribution, String> {
    let (name, theta) = text.split_once(':').map_or((text, None), |(name, t)| (name, Some(t)));
    match (name, theta.map(str::parse)) {
        ("uniform", None) => Ok(Distribution::Uniform),
        ("zipfian", None) => Ok(Distribution::Zipfian { theta: DEFAULT_THETA }),
        ("zipfian", Some(Ok(theta))) if (0.0..=THETA_MAX).contains(&theta) => {
            Ok(Distribution::Zipfian { theta })
        }
        _ => Err(format!("wants uniform, zipfian or zipfian:theta with theta 0 to {THETA_MAX}")),
    }
}

/// A positive number of seconds; fractions are fine.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "wants a number of seconds above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("loadgen").chain(line.split('|').filter(|w| !w.is_empty()));
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        args.plan(Some("from environment".into())).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_bare_command_line_is_a_ten_second_mix_on_the_local_default_port() {
        let plan = plan("").unwrap();
        assert_eq!(plan.target.to_string(), "127.0.0.1:6379");
        assert_eq!(plan.duration, Some(Duration::from_secs(10)));
        assert_eq!((plan.requests, plan.rate), (None, None));
        assert_eq!(plan.workload.commands, Commands::Mix { reads: 9, writes: 1 });
        assert_eq!(plan.login.password.as_deref(), Some("from environment"));
    }

    #[test]
    fn options_reach_the_plan() {
        let plan = plan(
            "-p|7000|--threads|2|-c|8|-P|16|--keys|5|--distribution|zipfian:1.2|--ratio|1:3|\
             -d|0|-n|100|--duration|0.5|--rate|1000|-a|secret|--db|3|--resp3|--seed|9",
        )
        .unwrap();
        assert_eq!((plan.threads, plan.connections, plan.pipeline), (2, 8, 16));
        assert_eq!((plan.requests, plan.rate), (Some(100), Some(1000)));
        assert_eq!(plan.duration, Some(Duration::from_millis(500)));
        assert_eq!(plan.login.password.as_deref(), Some("secret"));
        assert_eq!((plan.login.db, plan.login.resp3), (3, true));
        let workload = &plan.workload;
        assert_eq!((workload.keys, workload.value_bytes, workload.seed), (5, 0, 9));
        assert_eq!(workload.distribution, Distribution::Zipfian { theta: 1.2 });
        assert_eq!(workload.commands, Commands::Mix { reads: 1, writes: 3 });
    }

    #[test]
    fn a_fixed_command_and_a_unix_socket_replace_mix_and_port() {
        let plan = plan("--command|ZADD z __rand__ __key__|--unixsocket|/tmp/s").unwrap();
        assert_eq!(plan.target, Target::Unix("/tmp/s".into()));
        assert_eq!(plan.workload.commands, Commands::Fixed("ZADD z __rand__ __key__".into()));
    }

    #[test]
    fn a_preload_writes_each_key_once_without_a_rate() {
        let preload =
            plan("--keys|77|--rate|5|--duration|1|--command|GET __key__").unwrap().preload();
        assert_eq!((preload.requests, preload.rate, preload.duration), (Some(77), None, None));
        assert_eq!(preload.workload.distribution, Distribution::Sequential);
        assert_eq!(preload.workload.commands, Commands::Mix { reads: 0, writes: 1 });
    }

    #[test]
    fn arguments_that_make_no_run_are_refused_with_the_reason() {
        for (line, reason) in [
            ("--keys|0", "0 is not in 1..=1000000000000"),
            ("--threads|0", "0 is not in 1..=1024"),
            ("--threads|3|-c|2", "3 threads need at least 3 connections"),
            ("--ratio|0:0", "not both zero"),
            ("--ratio|9", "two numbers"),
            ("--ratio=-1:2", "two numbers"),
            ("--distribution|zipf", "wants uniform, zipfian"),
            ("--distribution|zipfian:-1", "theta 0 to 20"),
            ("--distribution|zipfian:NaN", "theta 0 to 20"),
            ("--distribution|uniform:1", "wants uniform"),
            ("--duration|0", "seconds above 0"),
            ("--duration|inf", "seconds above 0"),
            ("--command|SET k 'v", "unbalanced quote"),
            ("--command|PING|--ratio|1:1", "cannot be used with"),
            ("--unixsocket|/s|--port|1", "cannot be used with"),
            ("--user|u", "--password"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn the_declaration_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
