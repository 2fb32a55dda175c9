//! `corelane-gap`: the longest time that a server leaves a ping without a reply while it grows,
//! frees a large value, expires many keys at once or empties itself.
//!
//! Throughput hides such silences and percentiles blur them; here the longest one is the result,
//! next to how long this machine made a thread wait that asked for nothing (the control).
//!
//! Exit code 0 if every scenario was measured, 1 if not, 2 for a wrong command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::{ArgAction, Parser};
use corelane_loadgen::client::{Login, Target};
use corelane_loadgen::failure::Failure;
use corelane_loadgen::interrupt;
use corelane_loadgen::json::Object;
use corelane_loadgen::report::latency_object;
use corelane_loadgen::scenario::{self, Finding, Scenario, Subject};

/// Measures the longest silence of a RESP server during heavy operations. Erases its data.
#[derive(Parser)]
#[command(name = "corelane-gap", version)]
struct Args {
    /// Host of both servers
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port of the server
    #[arg(long, short)]
    port: u16,
    /// Port of a second server to compare with
    #[arg(long)]
    versus_port: Option<u16>,
    /// What to do
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["idle", "grow", "delzset", "expire", "flushall"])]
    scenarios: Vec<Scenario>,
    /// Part of the full number of keys
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// Connections that ping; several reach several cores of a sharded server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    probes: u16,
    /// Allow to erase the keys that the server holds
    #[arg(long, action = ArgAction::SetTrue)]
    flush: bool,
    /// Password of both servers (or the environment variable REDISCLI_AUTH)
    #[arg(long, short = 'a')]
    password: Option<String>,
    /// Write the findings as JSON to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    fn subjects(&self) -> Vec<Subject> {
        let password = self.password.clone().or_else(|| env::var("REDISCLI_AUTH").ok());
        let subject = |port| Subject {
            target: Target::Tcp { host: self.host.clone(), port },
            login: Login { password: password.clone(), ..Login::default() },
            probes: usize::from(self.probes),
            may_flush: self.flush,
        };
        std::iter::once(self.port).chain(self.versus_port).map(subject).collect()
    }

    fn json_to_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|&scale: &f64| scale > 0.0 && scale <= 1000.0);
    scale.ok_or_else(|| "wants a number above 0 and up to 1000".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut findings = Vec::new();
    let measured = measure_all(&args, &mut findings);
    // What was found before a failure is still worth its file.
    match measured.and(write_json(&args, &findings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corelane-gap: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(args: &Args, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let stop = interrupt::stop_flag()?;
    let subjects = args.subjects();
    print_line(args, &HEADINGS.map(str::to_owned));
    for &scenario in &args.scenarios {
        for subject in &subjects {
            let finding = scenario::measure(scenario, args.scale, subject, &stop)?;
            print_line(args, &columns(&finding));
            findings.push(finding);
        }
    }
    Ok(())
}

const HEADINGS: [&str; 8] =
    ["scenario", "server", "items", "took s", "longest ms", "p99.99 ms", "pings", "control ms"];

fn columns(finding: &Finding) -> [String; 8] {
    let millis = |micros: f64| format!("{:.3}", micros / 1e3);
    let pings = &finding.gaps.pings;
    [
        finding.scenario.name().to_owned(),
        finding.target.to_string(),
        finding.items.to_string(),
        format!("{:.3}", finding.took.as_secs_f64()),
        millis(pings.max_micros()),
        millis(pings.micros_at(0.9999)),
        pings.count().to_string(),
        millis(finding.gaps.control.max_micros()),
    ]
}

fn print_line(args: &Args, columns: &[String; 8]) {
    let [scenario, server, items, took, longest, quantile, pings, control] = columns;
    let line = format!(
        "{scenario:<9} {server:<21} {items:>9} {took:>9} {longest:>11} {quantile:>10} {pings:>9} \
         {control:>11}"
    );
    if args.json_to_stdout() { eprintln!("{line}") } else { println!("{line}") }
}

fn write_json(args: &Args, findings: &[Finding]) -> Result<(), Failure> {
    let Some(path) = &args.json else { return Ok(()) };
    let findings = findings.iter().map(finding_object).collect();
    let text = Object::new().number("scale", args.scale).array("findings", findings).finish();
    if args.json_to_stdout() {
        println!("{text}");
        return Ok(());
    }
    fs::write(path, text + "\n").map_err(|source| Failure::Write { path: path.clone(), source })
}

fn finding_object(finding: &Finding) -> Object {
    let (pings, control) = (&finding.gaps.pings, &finding.gaps.control);
    Object::new()
        .text("scenario", Some(finding.scenario.name()))
        .text("target", Some(&finding.target.to_string()))
        .integer("items", finding.items)
        .number("took_seconds", finding.took.as_secs_f64())
        .number("longest_gap_ms", pings.max_micros() / 1e3)
        .number("control_longest_ms", control.max_micros() / 1e3)
        .integer("pings", pings.count())
        .object("ping_us", latency_object(pings))
        .object("control_us", latency_object(control))
}
