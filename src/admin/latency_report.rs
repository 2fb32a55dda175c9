//! LATENCY: what the latency monitor and the histograms of all shards have to say.

use std::collections::BTreeSet;
use std::fmt::Write;

use hdrhistogram::Histogram;

use super::latency::{LatencyEvent, LatencyMonitor, Sample, Spikes};
use super::stats::{CommandStats, ShardStats};
use super::unpack;
use crate::command::help::help;
use crate::command::{
    Command, CommandError, CommandId, CommandResult, CommandTable, Part, Request,
};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::resp::Reply;

const HELP: [&str; 14] = [
    "DOCTOR",
    "    Explain the latency spikes in words.",
    "GRAPH <event>",
    "    Draw the spikes of <event>.",
    "HISTORY <event>",
    "    List the spikes of <event>: unix time and milliseconds.",
    "LATEST",
    "    List the latest and the worst spike of every event.",
    "RESET [<event> ...]",
    "    Forget the spikes of the events, or of all events.",
    "HISTOGRAM [COMMAND ...]",
    "    Count the calls of each command, or of all commands, that took up to",
    "    1, 2, 4, ... microseconds.",
    "    Of a command with subcommands, all of them are shown.",
];

/// The commands whose histograms were asked for.
type Histograms = Vec<(CommandId, CommandStats)>;

/// One shard's half of LATENCY.
pub fn part(stats: &mut ShardStats, keyspace: &Keyspace, request: &Request<'_>) -> Part {
    if request.is_word(1, "help") {
        return Part::Done;
    }
    if request.is_word(1, "reset") {
        return Part::Other(Box::new(reset(&mut stats.latency, request.rest(2))));
    }
    if request.is_word(1, "histogram") {
        return Part::Other(Box::new(histograms(stats, keyspace, request.rest(2))));
    }
    Part::Other(Box::new(stats.latency.clone()))
}

/// Forgets the named events, or all; gives those that there were.
fn reset(monitor: &mut LatencyMonitor, names: &[&[u8]]) -> Vec<LatencyEvent> {
    let named: Vec<LatencyEvent> = match names {
        [] => LatencyEvent::ALL.to_vec(),
        names => names.iter().filter_map(|name| LatencyEvent::named(name)).collect(),
    };
    named.into_iter().filter(|event| monitor.reset(*event)).collect()
}

fn histograms(stats: &ShardStats, keyspace: &Keyspace, names: &[&[u8]]) -> Histograms {
    let commands = stats.snapshot(keyspace, true).commands;
    let with_ids =
        commands.into_iter().enumerate().map(|(id, stats)| (CommandId(id as u16), stats));
    with_ids
        .filter(|(id, stats)| {
            let command = CommandTable::get().command(*id);
            stats.latencies.is_some() && is_asked_for(command, names)
        })
        .collect()
}

/// A command is asked for by its name, by that of its container, or by none at all.
fn is_asked_for(command: &Command, names: &[&[u8]]) -> bool {
    let is = |known: &str| names.iter().any(|name| name.eq_ignore_ascii_case(known.as_bytes()));
    names.is_empty() || is(command.name) || command.container().is_some_and(is)
}

/// The reply of LATENCY from the parts of all shards. `now` is unix time in s.
pub fn merge(
    config: &Config,
    request: &Request<'_>,
    parts: Vec<Part>,
    now: i64,
    reply: &mut Reply<'_>,
) -> CommandResult {
    if request.is_word(1, "help") {
        help(reply, "LATENCY", &HELP);
        return Ok(());
    }
    if request.is_word(1, "reset") {
        // An event that several shards knew is one event.
        let events: BTreeSet<LatencyEvent> = unpack::<Vec<LatencyEvent>>(parts).flatten().collect();
        reply.integer(events.len() as i64);
        return Ok(());
    }
    if request.is_word(1, "histogram") {
        write_histograms(&merge_histograms(parts), request.rest(2), reply);
        return Ok(());
    }
    let mut monitor = LatencyMonitor::default();
    unpack::<LatencyMonitor>(parts).for_each(|part| monitor.merge(&part));
    report(config, &monitor, request, now, reply)
}

fn report(
    config: &Config,
    monitor: &LatencyMonitor,
    request: &Request<'_>,
    now: i64,
    reply: &mut Reply<'_>,
) -> CommandResult {
    let event = request.get(2).unwrap_or_default();
    let spikes = LatencyEvent::named(event).and_then(|event| Some((event, monitor.spikes(event)?)));
    if request.is_word(1, "latest") {
        write_latest(monitor, reply);
    } else if request.is_word(1, "history") {
        write_history(spikes.map(|(_, spikes)| spikes), reply);
    } else if request.is_word(1, "graph") {
        let (event, spikes) = spikes.ok_or_else(|| {
            let event = String::from_utf8_lossy(event);
            CommandError::owned(format!("ERR No samples available for event '{event}'"))
        })?;
        reply.verbatim(*b"txt", graph(event, spikes, now).as_bytes());
    } else {
        reply.verbatim(*b"txt", doctor(config, monitor, now).as_bytes());
    }
    Ok(())
}

fn write_latest(monitor: &LatencyMonitor, reply: &mut Reply<'_>) {
    let array = reply.deferred();
    let mut count = 0;
    for (event, spikes) in monitor.events() {
        let Some(last) = spikes.samples.back() else { continue };
        reply.array(4);
        reply.bulk(event.as_str().as_bytes());
        reply.integer(last.at);
        reply.integer(last.ms as i64);
        reply.integer(spikes.max_ms as i64);
        count += 1;
    }
    reply.set_array_len(array, count);
}

fn write_history(spikes: Option<&Spikes>, reply: &mut Reply<'_>) {
    let samples = spikes.iter().flat_map(|spikes| &spikes.samples);
    reply.array(samples.clone().count());
    for sample in samples {
        reply.array(2);
        reply.integer(sample.at);
        reply.integer(sample.ms as i64);
    }
}

// ---- histograms ----

fn merge_histograms(parts: Vec<Part>) -> Histograms {
    let mut all: Histograms = Vec::new();
    for (id, stats) in unpack::<Histograms>(parts).flatten() {
        match all.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => known.add(&stats),
            None => all.push((id, stats)),
        }
    }
    all
}

/// In the order in which the commands were named, or of the table.
fn write_histograms(all: &Histograms, names: &[&[u8]], reply: &mut Reply<'_>) {
    let place = |command: &Command| {
        let named = |name: &&[u8]| is_asked_for(command, &[*name]);
        names.iter().position(named).unwrap_or(0)
    };
    let mut ordered: Vec<_> =
        all.iter().map(|(id, stats)| (CommandTable::get().command(*id), stats)).collect();
    ordered.sort_by_key(|(command, _)| place(command));
    reply.map(ordered.len());
    for (command, stats) in ordered {
        let buckets =
            stats.latencies.as_ref().map_or_else(Vec::new, |latencies| buckets(latencies));
        reply.bulk(command.name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(stats.latencies.as_ref().map_or(0, |latencies| latencies.len() as i64));
        reply.bulk(b"histogram_usec");
        reply.map(buckets.len());
        for (usec, count) in buckets {
            reply.integer(usec as i64);
            reply.integer(count as i64);
        }
    }
}

/// Nanoseconds of the first bucket; each further one is twice as wide (Redis 7.0 `latency.c`).
const FIRST_BUCKET_NANOS: u64 = 1024;

/// For each power of two in which there are calls: its µs, and the calls that took no longer.
fn buckets(latencies: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    let mut level = latencies.highest_equivalent(FIRST_BUCKET_NANOS);
    let mut shown = 0;
    let mut bound = FIRST_BUCKET_NANOS;
    while shown < latencies.len() {
        let count = latencies.count_between(0, level);
        if count > shown {
            buckets.push((level / 1000, count));
            shown = count;
        }
        bound = bound.saturating_mul(2);
        level = latencies.highest_equivalent(bound);
    }
    buckets
}

// ---- graph ----

/// Rows of a graph.
const GRAPH_ROWS: u64 = 4;

/// The spikes as columns, the latest at the right, with how long ago each was below it.
fn graph(event: LatencyEvent, spikes: &Spikes, now: i64) -> String {
    let low = spikes.samples.iter().map(|sample| sample.ms).min().unwrap_or(0);
    let high = spikes.samples.iter().map(|sample| sample.ms).max().unwrap_or(0);
    let mut text = format!(
        "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.as_str(),
        spikes.max_ms,
        "-".repeat(80)
    );
    let height = |sample: &Sample| match high - low {
        0 => 1,
        range => (sample.ms - low) * (GRAPH_ROWS - 1) / range,
    };
    for row in (0..GRAPH_ROWS).rev() {
        let symbol = |sample: &Sample| match height(sample) {
            top if top == row => {
                if row == 0 {
                    '_'
                } else {
                    '#'
                }
            }
            top if top > row => '|',
            _ => ' ',
        };
        text.extend(spikes.samples.iter().map(symbol));
        text.push('\n');
    }
    text.push('\n');
    let ages: Vec<String> = spikes.samples.iter().map(|sample| age(now - sample.at)).collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    for row in 0..longest {
        text.extend(ages.iter().map(|age| age.chars().nth(row).unwrap_or(' ')));
        text.push('\n');
    }
    text
}

/// A time span in its largest unit: `15s`, `2m`, `3h`, `4d`.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3600 => format!("{}m", seconds / 60),
        seconds @ ..86400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

// ---- doctor ----

fn doctor(config: &Config, monitor: &LatencyMonitor, now: i64) -> String {
    if config.latency_monitor_threshold == 0 {
        return "Latency monitoring is off. Turn it on with \
                \"CONFIG SET latency-monitor-threshold <milliseconds>\" and ask again later.\n"
            .to_owned();
    }
    let mut text = String::new();
    for (event, spikes) in monitor.events() {
        let count = spikes.samples.len().max(1) as u64;
        let mean = spikes.samples.iter().map(|sample| sample.ms).sum::<u64>() / count;
        let deviation =
            spikes.samples.iter().map(|sample| sample.ms.abs_diff(mean)).sum::<u64>() / count;
        let span = spikes.samples.front().map_or(0, |first| now - first.at);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {count} spikes in {}, mean {mean} ms (deviation {deviation} ms), worst {} ms.\n    {}",
            event.as_str(),
            age(span),
            spikes.max_ms,
            advice(event)
        );
    }
    if text.is_empty() {
        let threshold = config.latency_monitor_threshold;
        return format!("No event took {threshold} ms or longer. There is nothing to cure.\n");
    }
    text
}

fn advice(event: LatencyEvent) -> &'static str {
    match event {
        LatencyEvent::Command => {
            "Look at SLOWLOG GET for commands over many elements, and take them in pieces (SCAN, \
             ranges). LATENCY HISTOGRAM shows which commands are slow."
        }
        LatencyEvent::FastCommand => {
            "Commands of constant time took long, so the core itself was away: check for other \
             processes on its CPU, for swapping, and for a virtual machine short of CPU time."
        }
        LatencyEvent::ExpireCycle | LatencyEvent::ExpireDel => {
            "Many keys expire together, or big ones do: spread their times, or set \
             lazyfree-lazy-expire."
        }
        LatencyEvent::EvictionCycle | LatencyEvent::EvictionDel => {
            "Memory is full: raise maxmemory, write less, or set lazyfree-lazy-eviction."
        }
        LatencyEvent::AofWrite
        | LatencyEvent::AofWritePendingFsync
        | LatencyEvent::AofFsyncAlways => {
            "The disk is slow: use a faster one, appendfsync everysec, or no-appendfsync-on-rewrite."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::stats::Outcome;

    const NOW: i64 = 10_000;

    /// Two shards; the first saw two spikes, the second one.
    fn shards() -> [ShardStats; 2] {
        let config = config();
        let mut shards = [ShardStats::default(), ShardStats::default()];
        for (shard, event, ms, at) in [
            (0, LatencyEvent::Command, 300, NOW - 60),
            (1, LatencyEvent::Command, 500, NOW - 30),
            (0, LatencyEvent::ExpireCycle, 20, NOW - 1),
        ] {
            shards[shard].latency.record(&config, event, ms, at);
        }
        shards
    }

    fn config() -> Config {
        Config { latency_monitor_threshold: 10, ..Config::default() }
    }

    fn run(shards: &mut [ShardStats; 2], words: &str) -> Result<String, String> {
        let keyspace = Keyspace::new(1, NOW * 1000, 1);
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let request = Request::new(&args);
        let parts = shards.iter_mut().map(|shard| part(shard, &keyspace, &request)).collect();
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, false);
        merge(&config(), &request, parts, NOW, &mut reply).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn spikes_of_all_shards_are_told_together() {
        let mut shards = shards();
        for (words, expected) in [
            (
                "latency latest",
                "*2\r\n*4\r\n$7\r\ncommand\r\n:9970\r\n:500\r\n:500\r\n\
                 *4\r\n$12\r\nexpire-cycle\r\n:9999\r\n:20\r\n:20\r\n",
            ),
            ("latency history command", "*2\r\n*2\r\n:9940\r\n:300\r\n*2\r\n:9970\r\n:500\r\n"),
            ("latency history nothing", "*0\r\n"),
            ("latency reset command nothing", ":1\r\n"),
            ("latency reset", ":1\r\n"),
            ("latency reset", ":0\r\n"),
        ] {
            assert_eq!(run(&mut shards, words).as_deref(), Ok(expected), "{words}");
        }
    }

    #[test]
    fn the_graph_has_a_column_for_each_spike() {
        let graph = run(&mut shards(), "latency graph command").unwrap();
        assert!(graph.contains("command - high 500 ms, low 300 ms (all time high 500 ms)\n"));
        assert!(graph.contains("\n #\n |\n |\n_|\n\n13\nm0\n s\n"), "{graph}");
        let missing = run(&mut shards(), "latency graph foo");
        assert_eq!(missing, Err("ERR No samples available for event 'foo'".to_owned()));
    }

    #[test]
    fn the_doctor_names_events_and_cures() {
        let text = run(&mut shards(), "latency doctor").unwrap();
        assert!(
            text.contains("command: 2 spikes in 1m, mean 400 ms (deviation 100 ms), worst 500")
        );
        assert!(text.contains("lazyfree-lazy-expire"));
        let quiet = doctor(&config(), &LatencyMonitor::default(), NOW);
        assert!(quiet.contains("No event took 10 ms"));
        assert!(doctor(&Config::default(), &LatencyMonitor::default(), NOW).contains("is off"));
    }

    #[test]
    fn histograms_count_calls_up_to_each_power_of_two() {
        let get = CommandTable::get().find(b"get").unwrap();
        let mut shards = shards();
        for (shard, nanos) in [(0, 900), (1, 1900), (1, 2000), (0, 33_000)] {
            shards[shard].record_call(get, Outcome::Ok);
            shards[shard].record_time(get, nanos, 1, true);
        }
        let expected = "*2\r\n$3\r\nget\r\n*4\r\n$5\r\ncalls\r\n:4\r\n$14\r\nhistogram_usec\r\n\
                        *6\r\n:1\r\n:1\r\n:2\r\n:3\r\n:33\r\n:4\r\n";
        assert_eq!(run(&mut shards, "latency histogram foo GET").as_deref(), Ok(expected));
        assert_eq!(run(&mut shards, "latency histogram").as_deref(), Ok(expected));
        assert_eq!(run(&mut shards, "latency histogram del").as_deref(), Ok("*0\r\n"));
    }
}
