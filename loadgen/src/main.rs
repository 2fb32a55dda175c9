//! `corelane-loadgen`: drives a RESP server over io_uring and reports throughput and latency.
//!
//! Exit code 0 if the run ended as asked or by Ctrl-C, 1 if it failed, 2 for a wrong command line.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use corelane_loadgen::args::Args;
use corelane_loadgen::engine::{self, Interval, Plan};
use corelane_loadgen::failure::Failure;
use corelane_loadgen::{interrupt, report};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corelane-loadgen: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let plan = args.plan(std::env::var("REDISCLI_AUTH").ok())?;
    let stop = interrupt::stop_flag()?;
    let on_interval = |interval: &Interval<'_>| {
        if !args.quiet {
            eprintln!("{}", report::interval_line(interval));
        }
    };
    if args.preload {
        preload(&plan, &stop, on_interval)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    let outcome = engine::run(&plan, &stop, on_interval)?;
    let table = report::table(&plan, &outcome);
    let json = args.json.as_deref().map(|path| (path, report::json(&plan, &outcome)));
    match json {
        Some((path, json)) if path == Path::new("-") => {
            eprint!("{table}");
            println!("{json}");
        }
        Some((path, json)) => {
            print!("{table}");
            let written = fs::write(path, json + "\n");
            written.map_err(|source| Failure::Write { path: path.to_owned(), source })?;
        }
        None => print!("{table}"),
    }
    outcome.failure.map_or(Ok(()), Err)
}

fn preload(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    on_interval: impl FnMut(&Interval<'_>),
) -> Result<(), Failure> {
    let outcome = engine::run(&plan.preload(), stop, on_interval)?;
    let (keys, seconds) = (outcome.tally.requests, outcome.elapsed.as_secs_f64());
    eprintln!("preload: {keys} keys in {seconds:.1} s ({:.0} keys/s)", outcome.throughput());
    match (outcome.failure, outcome.tally.first_error) {
        (Some(failure), _) => Err(failure),
        // A store that refuses some keys is not what the run is meant to measure.
        (None, Some(text)) => Err(Failure::Refused { command: "SET".to_owned(), text }),
        (None, None) => Ok(()),
    }
}
