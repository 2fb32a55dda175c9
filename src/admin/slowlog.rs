//! SLOWLOG: the commands that took longest to notice, remembered on the shard that ran them.
//!
//! Promise: an entry's size is bounded whatever the command was, and the number of every entry of the
//! process is unique: a shard numbers its entries in steps of the number of shards.

use std::collections::VecDeque;

use super::unpack;
use crate::command::help::help;
use crate::command::{CommandError, CommandResult, Part, Request};
use crate::config::Config;
use crate::datatypes::number::parse_i64;
use crate::resp::Reply;
use crate::shard_map::{ShardId, ShardMap};

/// Most arguments of an entry (Redis 7.0 `slowlog.h`, SLOWLOG_ENTRY_MAX_ARGC).
const ARGUMENTS_MAX: usize = 32;
/// Most bytes of an argument (Redis 7.0 `slowlog.h`, SLOWLOG_ENTRY_MAX_STRING).
const ARGUMENT_BYTES_MAX: usize = 128;
/// Entries that GET shows unless asked for more.
const GET_DEFAULT: usize = 10;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// Its number, unique in the process.
    pub id: u64,
    /// Unix time of its end, µs.
    pub at_us: i64,
    /// How long it took.
    pub duration_us: u64,
    /// What was called, shortened.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address and port.
    pub client: String,
    /// The name that the client gave itself.
    pub client_name: Vec<u8>,
}

/// The slow commands of one shard, the latest first.
#[derive(Debug, Default)]
pub struct Slowlog {
    entries: VecDeque<SlowEntry>,
    recorded: u64,
}

/// Whose command was slow.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Address and port.
    pub address: &'a str,
    /// Its name, or nothing.
    pub name: &'a [u8],
}

impl Slowlog {
    /// Whether a command of this duration belongs here.
    #[inline]
    pub fn is_slow(config: &Config, duration_us: u64) -> bool {
        let limit = config.slowlog_log_slower_than;
        // Below zero nothing is slow, not even what takes for ever.
        u64::try_from(limit).is_ok_and(|limit| duration_us >= limit)
    }

    /// Remembers a command that took `duration_us` and ended at `at_us` (unix time).
    #[cold]
    pub fn record(
        &mut self,
        (shard, shards): (ShardId, ShardMap),
        config: &Config,
        arguments: &[&[u8]],
        (at_us, duration_us): (i64, u64),
        caller: Caller<'_>,
    ) {
        let entry = SlowEntry {
            id: self.recorded * shards.len() as u64 + u64::from(shard.0),
            at_us,
            duration_us,
            arguments: shorten(arguments),
            client: caller.address.to_owned(),
            client_name: caller.name.to_vec(),
        };
        self.recorded += 1;
        self.entries.push_front(entry);
        self.trim(config);
    }

    /// `slowlog-max-len` may have been lowered.
    fn trim(&mut self, config: &Config) {
        let max = usize::try_from(config.slowlog_max_len).unwrap_or(usize::MAX);
        self.entries.truncate(max);
    }
}

/// The arguments as an entry keeps them, with notes about what was left out.
fn shorten(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = if arguments.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { arguments.len() };
    let shorten_one = |argument: &&[u8]| match argument.get(..ARGUMENT_BYTES_MAX) {
        Some(start) if argument.len() > ARGUMENT_BYTES_MAX => {
            let more = argument.len() - ARGUMENT_BYTES_MAX;
            [start, format!("... ({more} more bytes)").as_bytes()].concat()
        }
        _ => argument.to_vec(),
    };
    let mut shortened: Vec<Vec<u8>> = arguments[..kept].iter().map(shorten_one).collect();
    if kept < arguments.len() {
        let more = arguments.len() - kept;
        shortened.push(format!("... ({more} more arguments)").into_bytes());
    }
    shortened
}

const HELP: [&str; 7] = [
    "GET [<count>]",
    "    Show the latest <count> slow commands (10 if not given, -1 for all): number,",
    "    unix time, microseconds, arguments, address and name of the client.",
    "LEN",
    "    Show how many slow commands are remembered.",
    "RESET",
    "    Forget them.",
];

/// What a subcommand of SLOWLOG asks for.
enum Wanted {
    Get(usize),
    Len,
    Reset,
    Help,
}

fn wanted(request: &Request<'_>) -> CommandResult<Wanted> {
    let is = |word| request.is_word(1, word);
    match request.len() {
        2 if is("get") => Ok(Wanted::Get(GET_DEFAULT)),
        3 if is("get") => {
            let count = parse_i64(request.arg(2)).filter(|count| *count >= -1);
            let count = count
                .ok_or(CommandError::text("ERR count should be greater than or equal to -1"))?;
            Ok(Wanted::Get(usize::try_from(count).unwrap_or(usize::MAX)))
        }
        2 if is("len") => Ok(Wanted::Len),
        2 if is("reset") => Ok(Wanted::Reset),
        2 if is("help") => Ok(Wanted::Help),
        _ => {
            let word = String::from_utf8_lossy(request.get(1).unwrap_or_default());
            Err(CommandError::owned(format!(
                "ERR unknown subcommand or wrong number of arguments for '{word}'. Try SLOWLOG HELP."
            )))
        }
    }
}

/// One shard's half of SLOWLOG.
pub fn part(slowlog: &mut Slowlog, config: &Config, request: &Request<'_>) -> CommandResult<Part> {
    slowlog.trim(config);
    Ok(match wanted(request)? {
        Wanted::Get(count) => {
            let entries: Vec<SlowEntry> = slowlog.entries.iter().take(count).cloned().collect();
            Part::Other(Box::new(entries))
        }
        Wanted::Len => Part::Count(slowlog.entries.len() as u64),
        Wanted::Reset => {
            slowlog.entries.clear();
            Part::Done
        }
        Wanted::Help => Part::Done,
    })
}

/// The reply of SLOWLOG from the parts of all shards.
pub fn merge(
    config: &Config,
    request: &Request<'_>,
    parts: Vec<Part>,
    reply: &mut Reply<'_>,
) -> CommandResult {
    match wanted(request)? {
        Wanted::Get(count) => {
            let mut entries: Vec<SlowEntry> = unpack::<Vec<SlowEntry>>(parts).flatten().collect();
            entries.sort_by_key(|entry| std::cmp::Reverse((entry.at_us, entry.id)));
            entries.truncate(count.min(length_max(config)));
            reply.array(entries.len());
            entries.iter().for_each(|entry| write_entry(entry, reply));
        }
        Wanted::Len => {
            let length = Part::sum(&parts).min(length_max(config) as u64);
            reply.integer(i64::try_from(length).unwrap_or(i64::MAX));
        }
        Wanted::Reset => reply.ok(),
        Wanted::Help => help(reply, "SLOWLOG", &HELP),
    }
    Ok(())
}

/// Each shard may hold `slowlog-max-len`; together they show no more than that.
fn length_max(config: &Config) -> usize {
    usize::try_from(config.slowlog_max_len).unwrap_or(usize::MAX)
}

fn write_entry(entry: &SlowEntry, reply: &mut Reply<'_>) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    reply.array(6);
    reply.integer(number(entry.id));
    reply.integer(entry.at_us / 1_000_000);
    reply.integer(number(entry.duration_us));
    reply.array(entry.arguments.len());
    entry.arguments.iter().for_each(|argument| reply.bulk(argument));
    reply.bulk(entry.client.as_bytes());
    reply.bulk(&entry.client_name);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards and what asks them.
    struct Shards {
        logs: [Slowlog; 2],
        config: Config,
    }

    impl Shards {
        fn new() -> Self {
            Self { logs: Default::default(), config: Config::default() }
        }

        fn record(&mut self, shard: u16, at_us: i64, arguments: &[&[u8]]) {
            let place = (ShardId(shard), ShardMap::new(2).unwrap());
            let caller = Caller { address: "127.0.0.1:1", name: b"me" };
            let log = &mut self.logs[usize::from(shard)];
            log.record(place, &self.config, arguments, (at_us, 20_000), caller);
        }

        fn run(&mut self, words: &str) -> Result<String, String> {
            let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
            let request = Request::new(&args);
            let config = &self.config;
            let parts = self.logs.iter_mut().map(|log| part(log, config, &request));
            let parts: Result<Vec<Part>, _> = parts.collect();
            let mut out = Vec::new();
            parts
                .and_then(|parts| merge(config, &request, parts, &mut Reply::new(&mut out, false)))
                .map_err(|error| error.to_string())?;
            Ok(String::from_utf8(out).unwrap())
        }
    }

    #[test]
    fn entries_of_all_shards_are_shown_latest_first() {
        let mut shards = Shards::new();
        shards.record(1, 1_000_000, &[b"a"]);
        shards.record(0, 3_000_000, &[b"c"]);
        shards.record(1, 2_000_000, &[b"b"]);
        let entry = |id, at, name| {
            format!(
                "*6\r\n:{id}\r\n:{at}\r\n:20000\r\n*1\r\n$1\r\n{name}\r\n$11\r\n127.0.0.1:1\r\n$2\r\nme\r\n"
            )
        };
        let expected = format!("*2\r\n{}{}", entry(0, 3, "c"), entry(3, 2, "b"));
        assert_eq!(shards.run("slowlog get 2"), Ok(expected));
        assert_eq!(shards.run("slowlog len"), Ok(":3\r\n".to_owned()));
        shards.config.slowlog_max_len = 2;
        assert_eq!(shards.run("slowlog len"), Ok(":2\r\n".to_owned()));
        assert!(shards.run("slowlog get -1").unwrap().starts_with("*2\r\n"));
        assert_eq!(shards.run("slowlog reset"), Ok("+OK\r\n".to_owned()));
        assert_eq!(shards.run("slowlog get"), Ok("*0\r\n".to_owned()));
    }

    #[test]
    fn wrong_requests_are_refused_in_the_words_of_redis() {
        for (words, expected) in [
            ("slowlog get a", "ERR count should be greater than or equal to -1"),
            ("slowlog get -2", "ERR count should be greater than or equal to -1"),
            (
                "slowlog get 1 2",
                "ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.",
            ),
        ] {
            assert_eq!(Shards::new().run(words), Err(expected.to_owned()));
        }
    }

    #[test]
    fn long_commands_are_shortened_with_a_note() {
        let long = [b'x'; 200];
        let arguments: Vec<&[u8]> = vec![&long; 40];
        let kept = shorten(&arguments);
        assert_eq!(kept.len(), 32);
        assert_eq!(kept[0], [&[b'x'; 128][..], b"... (72 more bytes)"].concat());
        assert_eq!(kept[31], b"... (9 more arguments)");
        assert_eq!(shorten(&arguments[..32]).len(), 32);
    }

    #[test]
    fn what_is_slow_is_set_by_the_directive() {
        for (limit, duration, slow) in
            [(-1, u64::MAX, false), (0, 0, true), (10, 9, false), (10, 10, true)]
        {
            let config = Config { slowlog_log_slower_than: limit, ..Config::default() };
            assert_eq!(Slowlog::is_slow(&config, duration), slow, "{limit} {duration}");
        }
    }
}
