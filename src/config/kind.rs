//! How the text of a directive becomes a typed value and text again.
//!
//! One type per kind of value (number, memory size, word out of a list, text); the structured
//! directives (`save`, `bind`, …) implement the same trait in their own way.
//!
//! Promise: what [`Kind::render`] gives, [`Kind::parse`] takes back to the same value, and the
//! complaints are Redis's own words, since test suites and configuration tools match on them.

use std::fmt::Display;

use super::quoting::quoted;
use super::values::{
    BufferLimits, BufferLimitsByClass, ClientsMemory, CpuList, KeyspaceEvents, ReplicaOf,
    SavePoint, ShutdownFlags, Words,
};

/// Reads and writes the values of one directive.
pub trait Kind<V> {
    /// The value that `words` spell. `old` is for directives that change only a part of it.
    fn parse(&self, old: &V, words: &[Vec<u8>]) -> Result<V, String>;
    /// The value as CONFIG GET shows it.
    fn render(&self, value: &V) -> Vec<u8>;
    /// The value as lines of a configuration file, without the name of the directive.
    fn file_lines(&self, value: &V) -> Vec<Vec<u8>> {
        vec![self.render(value)]
    }
}

/// The first word; the table promises that a directive of one word gets exactly one.
fn only(words: &[Vec<u8>]) -> &[u8] {
    words.first().map_or(&[], Vec::as_slice)
}

fn utf8(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|_| "argument must be valid UTF-8 text".to_owned())
}

/// A decimal integer in its one canonical spelling: no `+`, no leading zero, no blank.
pub fn parse_integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let canonical = match digits {
        [b'0'] => digits.len() == word.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical { std::str::from_utf8(word).ok()?.parse().ok() } else { None }
}

/// A size in bytes with an optional unit: `k` is 1000 and `kb` is 1024, and so on.
/// Digits beyond 64 bits saturate and no digits at all mean zero, as in Redis.
pub fn parse_memory(word: &[u8]) -> Option<u64> {
    let split = word.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(split);
    let multiplier: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(number.saturating_mul(multiplier))
}

/// The shortest exact spelling of a size: `64mb`, `3000`.
fn format_memory(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match UNITS.iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// `yes` or `no`.
pub struct YesNo;

impl Kind<bool> for YesNo {
    fn parse(&self, _: &bool, words: &[Vec<u8>]) -> Result<bool, String> {
        match only(words).to_ascii_lowercase().as_slice() {
            b"yes" => Ok(true),
            b"no" => Ok(false),
            _ => Err("argument must be 'yes' or 'no'".to_owned()),
        }
    }

    fn render(&self, value: &bool) -> Vec<u8> {
        if *value { b"yes".to_vec() } else { b"no".to_vec() }
    }
}

/// An integer between two bounds, both included.
pub struct Int {
    min: i64,
    max: i64,
}

/// See [`Int`].
pub const fn int(min: i64, max: i64) -> Int {
    Int { min, max }
}

/// An integer that is not negative and fits a C `int`, the commonest bound in Redis.
pub const COUNT: Int = int(0, i32::MAX as i64);
/// An integer that is not negative.
pub const LONG_COUNT: Int = int(0, i64::MAX);
/// A TCP port, or 0 for none.
pub const PORT: Int = int(0, u16::MAX as i64);

fn out_of_range(min: impl Display, max: impl Display) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

impl<V: Copy + Display + TryFrom<i64>> Kind<V> for Int {
    fn parse(&self, _: &V, words: &[Vec<u8>]) -> Result<V, String> {
        let number =
            parse_integer(only(words)).ok_or("argument couldn't be parsed into an integer")?;
        if number < self.min || number > self.max {
            return Err(out_of_range(self.min, self.max));
        }
        V::try_from(number).map_err(|_| out_of_range(self.min, self.max))
    }

    fn render(&self, value: &V) -> Vec<u8> {
        value.to_string().into_bytes()
    }
}

/// Ticks per second: any count is accepted and brought between 1 and 500 (Redis 7.0 `server.h`,
/// CONFIG_MIN_HZ and CONFIG_MAX_HZ).
pub struct Hertz;

impl Kind<u32> for Hertz {
    fn parse(&self, old: &u32, words: &[Vec<u8>]) -> Result<u32, String> {
        let asked: u32 = COUNT.parse(old, words)?;
        Ok(asked.clamp(1, 500))
    }

    fn render(&self, value: &u32) -> Vec<u8> {
        value.to_string().into_bytes()
    }
}

/// The size of the replication backlog: small ones are brought up to 16 kB (Redis 7.0
/// `replication.c`, CONFIG_REPL_BACKLOG_MIN_SIZE).
pub struct BacklogSize;

impl Kind<u64> for BacklogSize {
    fn parse(&self, old: &u64, words: &[Vec<u8>]) -> Result<u64, String> {
        let asked: u64 = memory(1, BYTES.max).parse(old, words)?;
        Ok(asked.max(16 * 1024))
    }

    fn render(&self, value: &u64) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn file_lines(&self, value: &u64) -> Vec<Vec<u8>> {
        BYTES.file_lines(value)
    }
}

/// A size in bytes between two bounds.
pub struct Memory {
    min: u64,
    max: u64,
}

/// See [`Memory`].
pub const fn memory(min: u64, max: u64) -> Memory {
    Memory { min, max }
}

/// A size that fits a C `long`, the commonest bound in Redis.
pub const BYTES: Memory = memory(0, i64::MAX as u64);

impl<V: Copy + Display + TryFrom<u64> + TryInto<u64>> Kind<V> for Memory {
    fn parse(&self, _: &V, words: &[Vec<u8>]) -> Result<V, String> {
        let bytes = parse_memory(only(words)).ok_or("argument must be a memory value")?;
        if bytes < self.min || bytes > self.max {
            return Err(out_of_range(self.min, self.max));
        }
        V::try_from(bytes).map_err(|_| out_of_range(self.min, self.max))
    }

    fn render(&self, value: &V) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn file_lines(&self, value: &V) -> Vec<Vec<u8>> {
        let text = (*value).try_into().map_or_else(|_| value.to_string(), format_memory);
        vec![text.into_bytes()]
    }
}

/// A size in bytes or a percentage of `maxmemory`.
pub struct MemoryOrPercent;

impl Kind<ClientsMemory> for MemoryOrPercent {
    fn parse(&self, _: &ClientsMemory, words: &[Vec<u8>]) -> Result<ClientsMemory, String> {
        let word = only(words);
        if let Some(number) = word.strip_suffix(b"%") {
            let percent = parse_integer(number).filter(|percent| *percent >= 0);
            return match percent.map(u8::try_from) {
                Some(Ok(percent)) if percent <= 100 => Ok(ClientsMemory::Percent(percent)),
                Some(_) => Err("percentage argument must be less or equal to 100".to_owned()),
                None => Err("argument must be a memory or percent value".to_owned()),
            };
        }
        let bytes = parse_memory(word).ok_or("argument must be a memory or percent value")?;
        match i64::try_from(bytes) {
            Ok(_) => Ok(ClientsMemory::Bytes(bytes)),
            Err(_) => Err(out_of_range(-100, i64::MAX)),
        }
    }

    fn render(&self, value: &ClientsMemory) -> Vec<u8> {
        match value {
            ClientsMemory::Bytes(bytes) => bytes.to_string().into_bytes(),
            ClientsMemory::Percent(percent) => format!("{percent}%").into_bytes(),
        }
    }
}

/// Permission bits in octal.
pub struct Octal;

impl Kind<u32> for Octal {
    fn parse(&self, _: &u32, words: &[Vec<u8>]) -> Result<u32, String> {
        let text = utf8(only(words))?;
        let bits = u32::from_str_radix(text, 8)
            .map_err(|_| "argument couldn't be parsed as an octal number")?;
        if bits > 0o777 {
            Err("argument must be between 0 and 777 inclusive".to_owned())
        } else {
            Ok(bits)
        }
    }

    fn render(&self, value: &u32) -> Vec<u8> {
        format!("{value:o}").into_bytes()
    }
}

/// One word out of a fixed list.
pub struct Word;

impl<V: Words> Kind<V> for Word {
    fn parse(&self, _: &V, words: &[Vec<u8>]) -> Result<V, String> {
        V::from_word(only(words)).ok_or_else(|| {
            let known: Vec<&str> = V::WORDS.iter().map(|(word, _)| *word).collect();
            format!("argument(s) must be one of the following: {}", known.join(", "))
        })
    }

    fn render(&self, value: &V) -> Vec<u8> {
        value.word().as_bytes().to_vec()
    }
}

/// Any text that `check` has nothing against.
pub struct Text {
    check: fn(&str) -> Result<(), &'static str>,
}

/// Any text.
pub const TEXT: Text = Text { check: |_| Ok(()) };

/// Text with a rule of its own.
pub const fn text(check: fn(&str) -> Result<(), &'static str>) -> Text {
    Text { check }
}

impl Kind<String> for Text {
    fn parse(&self, _: &String, words: &[Vec<u8>]) -> Result<String, String> {
        let text = utf8(only(words))?;
        (self.check)(text)?;
        Ok(text.to_owned())
    }

    fn render(&self, value: &String) -> Vec<u8> {
        value.clone().into_bytes()
    }

    fn file_lines(&self, value: &String) -> Vec<Vec<u8>> {
        vec![quoted(value.as_bytes())]
    }
}

/// Any bytes: passwords.
pub struct Secret;

impl Kind<Vec<u8>> for Secret {
    fn parse(&self, _: &Vec<u8>, words: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        Ok(only(words).to_vec())
    }

    fn render(&self, value: &Vec<u8>) -> Vec<u8> {
        value.clone()
    }

    fn file_lines(&self, value: &Vec<u8>) -> Vec<Vec<u8>> {
        vec![quoted(value)]
    }
}

/// A directory that exists, kept as its absolute path.
pub struct Directory;

impl Kind<String> for Directory {
    fn parse(&self, old: &String, words: &[Vec<u8>]) -> Result<String, String> {
        let path = std::path::Path::new(old).join(utf8(only(words))?);
        let absolute = std::fs::canonicalize(path).map_err(|error| os_words(&error))?;
        if !absolute.is_dir() {
            return Err("Not a directory".to_owned());
        }
        absolute.into_os_string().into_string().map_err(|_| "path must be UTF-8 text".to_owned())
    }

    fn render(&self, value: &String) -> Vec<u8> {
        value.clone().into_bytes()
    }

    fn file_lines(&self, value: &String) -> Vec<Vec<u8>> {
        vec![quoted(value.as_bytes())]
    }
}

/// The operating system's words for an error, without the number that Rust appends to them.
pub fn os_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// Addresses to listen on.
pub struct Addresses;

/// Most addresses that `bind` takes (Redis 7.0 `server.h`, CONFIG_BINDADDR_MAX).
pub const BIND_ADDRESSES_MAX: usize = 16;

impl Kind<Vec<String>> for Addresses {
    fn parse(&self, _: &Vec<String>, words: &[Vec<u8>]) -> Result<Vec<String>, String> {
        if words.len() > BIND_ADDRESSES_MAX {
            return Err("Too many bind addresses specified.".to_owned());
        }
        words.iter().map(|word| utf8(word).map(str::to_owned)).collect()
    }

    fn render(&self, value: &Vec<String>) -> Vec<u8> {
        value.join(" ").into_bytes()
    }

    fn file_lines(&self, value: &Vec<String>) -> Vec<Vec<u8>> {
        if value.is_empty() { vec![b"\"\"".to_vec()] } else { vec![self.render(value)] }
    }
}

/// `save`: pairs of seconds and changes.
pub struct SavePoints;

impl Kind<Vec<SavePoint>> for SavePoints {
    fn parse(&self, _: &Vec<SavePoint>, words: &[Vec<u8>]) -> Result<Vec<SavePoint>, String> {
        let pair = |pair: &[Vec<u8>]| match pair {
            [seconds, changes] => Some(SavePoint {
                seconds: parse_integer(seconds)?.try_into().ok().filter(|s| *s > 0)?,
                changes: parse_integer(changes)?.try_into().ok()?,
            }),
            _ => None,
        };
        words.chunks(2).map(pair).collect::<Option<_>>().ok_or("Invalid save parameters".to_owned())
    }

    fn render(&self, value: &Vec<SavePoint>) -> Vec<u8> {
        let pairs: Vec<String> =
            value.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect();
        pairs.join(" ").into_bytes()
    }

    fn file_lines(&self, value: &Vec<SavePoint>) -> Vec<Vec<u8>> {
        if value.is_empty() {
            return vec![b"\"\"".to_vec()];
        }
        value.iter().map(|p| format!("{} {}", p.seconds, p.changes).into_bytes()).collect()
    }
}

/// `client-output-buffer-limit`: groups of class, hard limit, soft limit, soft seconds. Classes
/// that are not named keep their limits.
pub struct OutputBufferLimits;

impl Kind<BufferLimitsByClass> for OutputBufferLimits {
    fn parse(
        &self,
        old: &BufferLimitsByClass,
        words: &[Vec<u8>],
    ) -> Result<BufferLimitsByClass, String> {
        let mut limits = *old;
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        for group in words.chunks_exact(4) {
            let class = limits
                .class_mut(&group[0])
                .ok_or("Invalid client class specified in buffer limit configuration.")?;
            let group = match (
                parse_memory(&group[1]),
                parse_memory(&group[2]),
                parse_integer(&group[3]).map(u32::try_from),
            ) {
                (Some(hard), Some(soft), Some(Ok(soft_seconds))) => {
                    BufferLimits { hard, soft, soft_seconds }
                }
                _ => {
                    return Err("Error in hard, soft or soft_seconds setting in buffer limit \
                                configuration."
                        .to_owned());
                }
            };
            *class = group;
        }
        Ok(limits)
    }

    fn render(&self, value: &BufferLimitsByClass) -> Vec<u8> {
        let group = |(name, limits): (&str, BufferLimits)| {
            format!("{name} {} {} {}", limits.hard, limits.soft, limits.soft_seconds)
        };
        value.classes().map(group).join(" ").into_bytes()
    }

    fn file_lines(&self, value: &BufferLimitsByClass) -> Vec<Vec<u8>> {
        let line = |(name, limits): (&str, BufferLimits)| {
            // The file uses the newer word for a replica, CONFIG GET the older one.
            let name = if name == "slave" { "replica" } else { name };
            let (hard, soft) = (format_memory(limits.hard), format_memory(limits.soft));
            format!("{name} {hard} {soft} {}", limits.soft_seconds).into_bytes()
        };
        value.classes().map(line).into()
    }
}

/// `notify-keyspace-events`.
pub struct EventClasses;

impl Kind<KeyspaceEvents> for EventClasses {
    fn parse(&self, _: &KeyspaceEvents, words: &[Vec<u8>]) -> Result<KeyspaceEvents, String> {
        KeyspaceEvents::from_letters(only(words))
            .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned())
    }

    fn render(&self, value: &KeyspaceEvents) -> Vec<u8> {
        value.letters().into_bytes()
    }

    fn file_lines(&self, value: &KeyspaceEvents) -> Vec<Vec<u8>> {
        vec![quoted(value.letters().as_bytes())]
    }
}

/// `shutdown-on-sigterm` and `shutdown-on-sigint`: several words of one list.
pub struct ShutdownWords;

impl Kind<ShutdownFlags> for ShutdownWords {
    fn parse(&self, _: &ShutdownFlags, words: &[Vec<u8>]) -> Result<ShutdownFlags, String> {
        let flags = ShutdownFlags::from_words(words).ok_or_else(|| {
            "argument(s) must be one of the following: default, save, nosave, now, force".to_owned()
        })?;
        if flags.save && flags.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned());
        }
        Ok(flags)
    }

    fn render(&self, value: &ShutdownFlags) -> Vec<u8> {
        value.words().into_bytes()
    }
}

/// `oom-score-adj-values`: one for a master, one for a replica, one for background children.
pub struct OomScores;

impl Kind<[i32; 3]> for OomScores {
    fn parse(&self, _: &[i32; 3], words: &[Vec<u8>]) -> Result<[i32; 3], String> {
        let [master, replica, child] = words else {
            return Err("wrong number of arguments".to_owned());
        };
        let score = |word: &[u8]| {
            parse_integer(word)
                .and_then(|score| i32::try_from(score).ok())
                .filter(|score| (-2000..=2000).contains(score))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
        };
        Ok([score(master)?, score(replica)?, score(child)?])
    }

    fn render(&self, value: &[i32; 3]) -> Vec<u8> {
        format!("{} {} {}", value[0], value[1], value[2]).into_bytes()
    }
}

/// `latency-tracking-info-percentiles`.
pub struct Percentiles;

impl Kind<Vec<f64>> for Percentiles {
    fn parse(&self, _: &Vec<f64>, words: &[Vec<u8>]) -> Result<Vec<f64>, String> {
        let percentile = |word: &Vec<u8>| {
            let number: f64 = utf8(word)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if (0.0..=100.0).contains(&number) {
                Ok(number)
            } else {
                Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .to_owned())
            }
        };
        words.iter().map(percentile).collect()
    }

    fn render(&self, value: &Vec<f64>) -> Vec<u8> {
        let numbers: Vec<String> = value.iter().map(f64::to_string).collect();
        numbers.join(" ").into_bytes()
    }

    fn file_lines(&self, value: &Vec<f64>) -> Vec<Vec<u8>> {
        if value.is_empty() { vec![b"\"\"".to_vec()] } else { vec![self.render(value)] }
    }
}

/// `replicaof`: host and port, or `no one`.
pub struct Master;

impl Kind<Option<ReplicaOf>> for Master {
    fn parse(&self, _: &Option<ReplicaOf>, words: &[Vec<u8>]) -> Result<Option<ReplicaOf>, String> {
        let [host, port] = words else { return Err("wrong number of arguments".to_owned()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            return Ok(None);
        }
        let port = parse_integer(port).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| "Invalid master port".to_owned())?;
        Ok(Some(ReplicaOf { host: utf8(host)?.to_owned(), port }))
    }

    fn render(&self, value: &Option<ReplicaOf>) -> Vec<u8> {
        value.as_ref().map_or_else(Vec::new, |m| format!("{} {}", m.host, m.port).into_bytes())
    }

    fn file_lines(&self, value: &Option<ReplicaOf>) -> Vec<Vec<u8>> {
        if value.is_none() { Vec::new() } else { vec![self.render(value)] }
    }
}

/// A list of CPUs such as `0-5,8`; empty means "choose for me".
pub struct Cpus;

impl Kind<CpuList> for Cpus {
    fn parse(&self, _: &CpuList, words: &[Vec<u8>]) -> Result<CpuList, String> {
        CpuList::from_ranges(utf8(only(words))?)
            .ok_or_else(|| "argument must be a list of CPUs such as 0-5,8".to_owned())
    }

    fn render(&self, value: &CpuList) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn file_lines(&self, value: &CpuList) -> Vec<Vec<u8>> {
        vec![quoted(value.to_string().as_bytes())]
    }
}

/// One CPU, or nothing for "choose for me".
pub struct Cpu;

impl Kind<Option<usize>> for Cpu {
    fn parse(&self, _: &Option<usize>, words: &[Vec<u8>]) -> Result<Option<usize>, String> {
        match only(words) {
            b"" => Ok(None),
            word => match parse_integer(word).map(usize::try_from) {
                Some(Ok(cpu)) => Ok(Some(cpu)),
                _ => Err("argument must be the number of a CPU".to_owned()),
            },
        }
    }

    fn render(&self, value: &Option<usize>) -> Vec<u8> {
        value.map_or_else(Vec::new, |cpu| cpu.to_string().into_bytes())
    }

    fn file_lines(&self, value: &Option<usize>) -> Vec<Vec<u8>> {
        vec![quoted(&self.render(value))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_decimal_and_binary_units_of_any_case() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("1b", Some(1)),
            ("10k", Some(10_000)),
            ("10KB", Some(10_240)),
            ("3m", Some(3_000_000)),
            ("3Mb", Some(3 << 20)),
            ("2g", Some(2_000_000_000)),
            ("2GB", Some(2 << 30)),
            ("99999999999999999999", Some(u64::MAX)),
            ("1gbb", None),
            ("-1", None),
            ("1.5gb", None),
        ] {
            assert_eq!(parse_memory(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn an_integer_has_one_spelling() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), number, "{text}");
        }
    }

    #[test]
    fn a_size_is_written_in_its_largest_exact_unit() {
        for (bytes, text) in [(0, "0"), (3000, "3000"), (1024, "1kb"), (64 << 20, "64mb")] {
            assert_eq!(format_memory(bytes), text);
        }
    }
}
