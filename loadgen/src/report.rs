//! What a run prints: a line each second, a table at the end, and JSON.
//!
//! The line goes to standard error and the table to standard output, so that a pipe gets results
//! only; with JSON on standard output, the table gives way to standard error.
//!
//! Promise: the functions that make texts are pure; `main` prints them.

use std::fmt::Write;

use crate::engine::{Interval, Outcome, Plan, per_second};
use crate::json::Object;
use crate::tally::{Latencies, QUANTILES, Tally};

/// The line of one second.
pub fn interval_line(interval: &Interval<'_>) -> String {
    let tally = interval.tally;
    let mut line = format!(
        "{:6.1} s {:>10.0} req/s   p50 {}   p99 {}   max {}",
        interval.elapsed.as_secs_f64(),
        per_second(tally.requests, interval.length),
        micros_text(tally.latency.micros_at(0.5)),
        micros_text(tally.latency.micros_at(0.99)),
        micros_text(tally.latency.max_micros()),
    );
    if tally.errors > 0 {
        let _ = write!(line, "   errors {}", tally.errors);
    }
    line
}

/// A time in five characters or so: microseconds below ten milliseconds, else milliseconds.
fn micros_text(micros: f64) -> String {
    if micros < 10_000.0 {
        format!("{micros:>6.0} µs")
    } else {
        format!("{:>6.0} ms", micros / 1e3)
    }
}

/// The table at the end.
pub fn table(plan: &Plan, outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let seconds = outcome.elapsed.as_secs_f64();
    let mut rows = vec![
        (
            "requests",
            format!(
                "{}{}",
                tally.requests,
                if outcome.interrupted { " (interrupted)" } else { "" }
            ),
        ),
        ("errors", errors_text(tally)),
        ("null replies", tally.nulls.to_string()),
        ("seconds", format!("{seconds:.3}")),
        ("requests/s", format!("{:.0}", outcome.throughput())),
        ("bytes in", bytes_text(tally.bytes_in, outcome)),
        ("bytes out", bytes_text(tally.bytes_out, outcome)),
    ];
    if tally.unanswered > 0 {
        rows.push(("unanswered", tally.unanswered.to_string()));
    }
    if let Some(rate) = plan.rate {
        rows.push(("asked rate", format!("{rate} requests/s")));
        rows.push(("unsent", tally.unsent.to_string()));
        let (p99, max) = (tally.lag.micros_at(0.99), tally.lag.max_micros());
        rows.push(("own lateness", format!("p99 {p99:.0} µs, max {max:.0} µs")));
    }
    let mut text = format!("{}\n", headline(plan));
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<14}{value}");
    }
    text + &latency_rows(&tally.latency)
}

fn headline(plan: &Plan) -> String {
    let Plan { target, threads, connections, pipeline, .. } = plan;
    let mode = if plan.rate.is_some() { "open loop" } else { "closed loop" };
    format!("{target}: {connections} connections on {threads} threads, pipeline {pipeline}, {mode}")
}

fn errors_text(tally: &Tally) -> String {
    match &tally.first_error {
        Some(text) => format!("{} (first: {text})", tally.errors),
        None => tally.errors.to_string(),
    }
}

fn bytes_text(bytes: u64, outcome: &Outcome) -> String {
    let mebibytes = per_second(bytes, outcome.elapsed) / f64::from(1 << 20);
    format!("{bytes} ({mebibytes:.1} MiB/s)")
}

fn latency_rows(latency: &Latencies) -> String {
    let mut text = String::from("latency, µs\n");
    let ends = |name: &str, micros: f64| format!("  {name:<14}{micros:.1}\n");
    text += &ends("min", latency.min_micros());
    text += &ends("mean", latency.mean_micros());
    for (name, quantile) in QUANTILES {
        text += &ends(name, latency.micros_at(quantile));
    }
    text + &ends("max", latency.max_micros())
}

/// The same as JSON, with the run's parameters.
pub fn json(plan: &Plan, outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let workload = &plan.workload;
    let failure = outcome.failure.as_ref().map(ToString::to_string);
    let mut object = Object::new()
        .text("target", Some(&plan.target.to_string()))
        .integer("threads", plan.threads as u64)
        .integer("connections", plan.connections as u64)
        .integer("pipeline", plan.pipeline as u64)
        .integer("keys", workload.keys)
        .integer("value_size", workload.value_bytes as u64)
        .integer("seed", workload.seed)
        .text("mode", Some(if plan.rate.is_some() { "open" } else { "closed" }));
    if let Some(rate) = plan.rate {
        object = object.integer("rate", rate);
    }
    object
        .boolean("interrupted", outcome.interrupted)
        .text("failure", failure.as_deref())
        .integer("requests", tally.requests)
        .integer("errors", tally.errors)
        .text("first_error", tally.first_error.as_deref())
        .integer("null_replies", tally.nulls)
        .integer("unanswered", tally.unanswered)
        .integer("unsent", tally.unsent)
        .number("seconds", outcome.elapsed.as_secs_f64())
        .number("requests_per_second", outcome.throughput())
        .integer("bytes_in", tally.bytes_in)
        .integer("bytes_out", tally.bytes_out)
        .object("latency_us", latency_object(&tally.latency))
        .object("own_lateness_us", latency_object(&tally.lag))
        .finish()
}

/// The quantiles of `latencies` by name, in microseconds.
pub fn latency_object(latencies: &Latencies) -> Object {
    let mut object =
        Object::new().number("min", latencies.min_micros()).number("mean", latencies.mean_micros());
    for (name, quantile) in QUANTILES {
        object = object.number(name, latencies.micros_at(quantile));
    }
    object.number("max", latencies.max_micros())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::{Login, Target};
    use crate::failure::Failure;
    use crate::workload::{Commands, Distribution, WorkloadSpec};

    fn run(rate: Option<u64>) -> (Plan, Outcome) {
        let workload = WorkloadSpec {
            keys: 10,
            key_prefix: String::new(),
            distribution: Distribution::Uniform,
            value_bytes: 3,
            commands: Commands::Fixed("PING".into()),
            seed: 1,
        };
        let plan = Plan {
            target: Target::Tcp { host: "h".into(), port: 1 },
            login: Login::default(),
            threads: 1,
            connections: 2,
            pipeline: 4,
            requests: None,
            duration: None,
            rate,
            workload,
        };
        let mut tally = Tally { requests: 1000, errors: 1, unsent: 7, ..Tally::default() };
        tally.first_error = Some("ERR no".into());
        (1..=1000).for_each(|micros| tally.latency.record_nanos(micros * 1000));
        let elapsed = Duration::from_millis(500);
        (plan, Outcome { tally, elapsed, interrupted: false, failure: Some(Failure::Lost(None)) })
    }

    #[test]
    fn the_table_names_the_run_its_errors_and_its_percentiles() {
        let (plan, outcome) = run(None);
        let text = table(&plan, &outcome);
        for part in [
            "h:1: 2 connections on 1 threads, pipeline 4, closed loop\n",
            "  errors        1 (first: ERR no)\n",
            "  requests/s    2000\n",
            "  p50           500.2\n",
            "  p99.99        1000.4\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("own lateness"), "{text}");
    }

    #[test]
    fn an_open_loop_shows_what_it_did_not_keep_up_with() {
        let (plan, outcome) = run(Some(5000));
        let text = table(&plan, &outcome);
        for part in ["open loop", "asked rate    5000 requests/s", "unsent        7\n"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_json_carries_the_same_numbers() {
        let (plan, outcome) = run(Some(5000));
        let text = json(&plan, &outcome);
        for part in [
            r#""mode": "open", "rate": 5000"#,
            r#""failure": "the server closed a connection during the run""#,
            r#""requests": 1000, "errors": 1, "first_error": "ERR no""#,
            r#""requests_per_second": 2000,"#,
            r#""p99.9": 999.423"#,
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
