//! From the arguments of the process to a [`Config`], with Redis's grammar:
//! `corelane [FILE] [--directive value …] [-]`.
//!
//! Not clap's grammar: a directive takes every word up to the next `--name`, may come several times,
//! and the word after a name is a value even if it starts with dashes. All three are what existing
//! start scripts rely on.
//!
//! Promise: the last word on a directive wins, in the order file, standard input, arguments, and
//! the first mistake is reported with its place and, for a misspelt name, the nearest one.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::file::{Line, Origin, read_file, read_text};
use super::quoting::{quoted, split_words};
use super::values::ExtraLine;
use super::{Config, DIRECTIVES, directive_named};

/// What the arguments ask for.
#[derive(Debug)]
pub enum Invocation {
    /// Run with this configuration.
    Run(Box<Config>),
    /// Print this and stop.
    Print(String),
    /// Say whether this snapshot is good, and stop.
    CheckRdb(PathBuf),
    /// Say whether append-only files are good, as these words ask for, and stop.
    CheckAof(Vec<OsString>),
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line is wrong.
    BadLine {
        /// Where it stands.
        origin: Origin,
        /// The line.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Each line is right, but not all of them together.
    Conflict(String),
}

impl LoadError {
    pub(super) fn bad_line(origin: Origin, text: &[u8], reason: impl Into<String>) -> Self {
        let text = String::from_utf8_lossy(text).into_owned();
        Self::BadLine { origin, text, reason: reason.into() }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headline = |f: &mut fmt::Formatter<'_>| {
            writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Corelane {VERSION}) ***")
        };
        match self {
            Self::Unreadable { path, error } => {
                let why = super::kind::os_words(error);
                write!(f, "Fatal error, can't open config file '{}': {why}", path.display())
            }
            Self::BadLine { origin, text, reason } => {
                headline(f)?;
                write!(f, "{origin}\n>>> '{text}'\n{reason}")
            }
            Self::Conflict(reason) => {
                headline(f)?;
                f.write_str(reason)
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Config {
    /// Reads the arguments of the process; the first is the name of the program.
    pub fn from_args(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Invocation, LoadError> {
        let mut words = arguments.into_iter().map(OsStringExt::into_vec);
        let program = words.next().unwrap_or_default();
        let words: Vec<Vec<u8>> = words.collect();
        match words.first().map(Vec::as_slice) {
            Some(b"--help" | b"-h") => return Ok(Invocation::Print(help())),
            Some(b"--version" | b"-v") => return Ok(Invocation::Print(version())),
            Some(b"check-aof") => {
                let words = words.into_iter().skip(1).map(OsString::from_vec);
                return Ok(Invocation::CheckAof(words.collect()));
            }
            Some(b"check-rdb") if words.len() == 2 => {
                let path = OsString::from_vec(words.into_iter().next_back().unwrap_or_default());
                return Ok(Invocation::CheckRdb(path.into()));
            }
            _ => {}
        }
        let arguments = Arguments::split(&words);
        let mut loader = Loader::default();
        // Started under a sentinel's name, as distributions do with a link, it is one.
        loader.config.extras.sentinel_mode = program.ends_with(b"-sentinel");
        if let Some(path) = &arguments.file {
            let path = std::path::absolute(path)
                .map_err(|error| LoadError::Unreadable { path: path.clone(), error })?;
            loader.apply_all(&read_file(&path)?)?;
            loader.config.extras.file = Some(path);
        }
        if arguments.stdin {
            loader.apply_all(&read_stdin()?)?;
        }
        loader.apply_all(&arguments.lines)?;
        let extras = &loader.config.extras;
        if !extras.sentinel_mode && !extras.sentinel.is_empty() {
            let reason = "sentinel directive while not in sentinel mode";
            return Err(LoadError::Conflict(reason.to_owned()));
        }
        loader.config.check().map_err(LoadError::Conflict)?;
        Ok(Invocation::Run(Box::new(loader.config)))
    }

    /// The configuration that a file's text describes, over the defaults.
    pub fn from_text(text: &[u8]) -> Result<Self, LoadError> {
        let mut loader = Loader::default();
        loader.apply_all(&read_text(text, Origin::Stdin)?)?;
        loader.config.check().map_err(LoadError::Conflict)?;
        Ok(loader.config)
    }
}

/// One line that names the build.
pub fn version() -> String {
    format!("Corelane server v={VERSION} (speaks Redis 7.0.15) bits={}", usize::BITS)
}

fn read_stdin() -> Result<Vec<Line>, LoadError> {
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .map_err(|error| LoadError::Unreadable { path: PathBuf::from("-"), error })?;
    read_text(&text, Origin::Stdin)
}

/// The arguments, taken apart but not yet understood.
struct Arguments {
    file: Option<PathBuf>,
    stdin: bool,
    lines: Vec<Line>,
}

impl Arguments {
    fn split(words: &[Vec<u8>]) -> Self {
        let mut rest = words;
        let mut file = None;
        if let [first, after @ ..] = rest
            && !first.starts_with(b"-")
        {
            file = Some(Path::new(&OsString::from_vec(first.clone())).to_owned());
            rest = after;
        }
        let stdin = rest.last().is_some_and(|last| last == b"-");
        if stdin {
            rest = &rest[..rest.len() - 1];
        }
        Self { file, stdin, lines: argument_lines(rest) }
    }
}

/// Groups words into lines: a name and all values up to the next name.
fn argument_lines(mut words: &[Vec<u8>]) -> Vec<Line> {
    let mut lines = Vec::new();
    while let [first, rest @ ..] = words {
        let mut line = match first.strip_prefix(b"--") {
            Some(name) => split_words(name).unwrap_or_else(|| vec![name.to_vec()]),
            None => vec![first.clone()],
        };
        words = rest;
        if let Some(name) = line.first_mut() {
            name.make_ascii_lowercase();
        }
        // The word after a bare name is its value, whatever it looks like.
        if line.len() == 1 && takes_value(&line[0], words) {
            line.push(words[0].clone());
            words = &words[1..];
        }
        let more = words.iter().position(|w| w.starts_with(b"--")).unwrap_or(words.len());
        let (values, after) = words.split_at(more);
        line.extend_from_slice(values);
        words = after;
        lines.push(complete_argument(line));
    }
    lines
}

/// Whether the next word belongs to `name` even if it starts with dashes. `--save --port 1` is
/// Redis's exception: start scripts write `--save $EMPTY` without quotes.
fn takes_value(name: &[u8], rest: &[Vec<u8>]) -> bool {
    let dashes = rest.first().is_some_and(|next| next.starts_with(b"--"));
    match name {
        b"no-pin" => false,
        b"save" | b"sentinel" => !dashes && !rest.is_empty(),
        _ => !rest.is_empty(),
    }
}

/// Spells out the arguments that are short for a directive.
fn complete_argument(mut words: Vec<Vec<u8>>) -> Line {
    let name = words.first().map_or(&b""[..], Vec::as_slice);
    match (name, words.len()) {
        (b"no-pin", 1) => words = vec![b"pin".to_vec(), b"no".to_vec()],
        (b"save", 1) => words.push(Vec::new()),
        _ => {}
    }
    let mut text = words.first().cloned().unwrap_or_default();
    for word in words.iter().skip(1) {
        text.push(b' ');
        text.extend(quoted(word));
    }
    Line { origin: Origin::Arguments, words, text }
}

/// Builds a configuration line by line.
#[derive(Default)]
struct Loader {
    config: Config,
    /// All words of the `save` lines so far: the first one replaces the default, later ones add.
    save_words: Vec<Vec<u8>>,
}

/// Directives of older versions that take one word and do nothing.
const FORGOTTEN: [&str; 3] =
    ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

impl Loader {
    fn apply_all(&mut self, lines: &[Line]) -> Result<(), LoadError> {
        for line in lines {
            let wrong = |reason| LoadError::bad_line(line.origin.clone(), &line.text, reason);
            self.apply(line).map_err(wrong)?;
        }
        Ok(())
    }

    fn apply(&mut self, line: &Line) -> Result<(), String> {
        let Some((name, values)) = line.words.split_first() else { return Ok(()) };
        match (name.as_slice(), values) {
            (b"save", values) => self.add_save_points(values),
            (b"include", [path]) => {
                let path = OsString::from_vec(path.clone());
                let lines = read_file(Path::new(&path)).map_err(|error| error.to_string())?;
                self.apply_all(&lines).map_err(|error| error.to_string())
            }
            (b"sentinel", []) if line.origin == Origin::Arguments => {
                self.config.extras.sentinel_mode = true;
                Ok(())
            }
            (b"sentinel", _) => {
                self.config.extras.sentinel.push(extra_line(line));
                Ok(())
            }
            (b"user", [_, ..]) => {
                self.config.extras.users.push(extra_line(line));
                Ok(())
            }
            (b"rename-command", [old, new]) => {
                self.config.extras.renamed_commands.push((old.clone(), new.clone()));
                Ok(())
            }
            (b"loadmodule", [_, ..]) => Err("Corelane does not load modules".to_owned()),
            (name, [_]) if FORGOTTEN.iter().any(|known| known.as_bytes() == name) => Ok(()),
            (name, values) => match directive_named(name) {
                Some(directive) => directive.store(&mut self.config, values),
                None => Err(unknown_directive(name)),
            },
        }
    }

    fn add_save_points(&mut self, values: &[Vec<u8>]) -> Result<(), String> {
        let directive = directive_named(b"save").ok_or("save is no directive")?;
        // `save ""` forgets all points, also those of lines before it.
        let forgets = values.len() == 1 && values[0].is_empty();
        let mut words = if forgets { Vec::new() } else { std::mem::take(&mut self.save_words) };
        match values {
            [list] => words.extend(list.split(|&byte| byte == b' ').map(<[u8]>::to_vec)),
            values => words.extend_from_slice(values),
        }
        words.retain(|word| !word.is_empty());
        if values.is_empty() {
            return Err("wrong number of arguments".to_owned());
        }
        directive.store(&mut self.config, &words)?;
        self.save_words = words;
        Ok(())
    }
}

fn extra_line(line: &Line) -> ExtraLine {
    let number = match line.origin {
        Origin::File(_, number) | Origin::Stdin(number) => number,
        Origin::Arguments => 0,
    };
    ExtraLine { line: number, words: line.words.iter().skip(1).cloned().collect() }
}

/// Farthest misspelling, in edits, that is worth a suggestion.
const SUGGESTION_EDITS_MAX: usize = 4;

fn unknown_directive(name: &[u8]) -> String {
    const TEXT: &str = "Bad directive or wrong number of arguments";
    let name = String::from_utf8_lossy(name);
    let known = DIRECTIVES.iter().flat_map(|d| std::iter::once(d.name).chain(d.alias));
    let nearest = known.map(|known| (strsim::damerau_levenshtein(&name, known), known)).min();
    match nearest {
        Some((edits, nearest)) if edits <= SUGGESTION_EDITS_MAX.min(name.len() / 2) => {
            format!("{TEXT}; did you mean '{nearest}'?")
        }
        _ => TEXT.to_owned(),
    }
}

/// The text of `--help`: usage, and every directive with its default.
fn help() -> String {
    let mut text = String::from(
        "Usage: corelane [/path/to/corelane.conf] [--directive value ...] [-]\n       \
         corelane - (read the configuration from standard input)\n       \
         corelane check-rdb dump.rdb (say whether a snapshot is good, and what is in it)\n       \
         corelane check-aof [--fix|--truncate-to-timestamp time] file.manifest|file.aof\n       \
         corelane -v or --version\n       corelane -h or --help\n\n\
         Examples:\n       corelane --port 7777 --shards 4 --cpus 0-3 --control-cpu 4\n       \
         corelane --port 7777 --replicaof 127.0.0.1 8888\n       \
         corelane /etc/corelane.conf --loglevel verbose\n       \
         corelane /etc/sentinel.conf --sentinel\n\n\
         --no-pin is short for --pin no. Directives, with their defaults:\n",
    );
    let defaults = Config::default();
    for directive in DIRECTIVES.iter().filter(|directive| !directive.hidden) {
        let value =
            if directive.name == "dir" { b".".to_vec() } else { directive.render(&defaults) };
        let value = String::from_utf8_lossy(&value).into_owned();
        let value = if value.is_empty() { "\"\"".to_owned() } else { value };
        text.push_str(&format!("  --{} {value}\n        {}\n", directive.name, directive.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::{LogLevel, Pinning, SavePoint};

    fn run(arguments: &[&str]) -> Result<Config, String> {
        let words = std::iter::once("corelane").chain(arguments.iter().copied());
        match Config::from_args(words.map(OsString::from)) {
            Ok(Invocation::Run(config)) => Ok(*config),
            Ok(Invocation::Print(text)) => Err(text),
            Ok(Invocation::CheckRdb(path)) => Err(format!("checks {}", path.display())),
            Ok(Invocation::CheckAof(words)) => Err(format!("checks {words:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn points(pairs: &[(u64, u64)]) -> Vec<SavePoint> {
        pairs.iter().map(|&(seconds, changes)| SavePoint { seconds, changes }).collect()
    }

    #[test]
    fn arguments_are_directives_with_any_number_of_values() {
        let config = run(&[
            "--port",
            "7000",
            "--bind",
            "127.0.0.1",
            "::1",
            "--save",
            "3600",
            "1",
            "--save",
            "60",
            "100",
            "--loglevel verbose",
            "--no-pin",
            "--MAXMEMORY",
            "1gb",
            "--client-output-buffer-limit",
            "pubsub",
            "1mb",
            "1mb",
            "5",
        ])
        .unwrap();
        assert_eq!(config.port, 7000);
        assert_eq!(config.bind, ["127.0.0.1", "::1"]);
        assert_eq!(config.save, points(&[(3600, 1), (60, 100)]));
        assert_eq!(config.loglevel, LogLevel::Verbose);
        assert_eq!(config.pin, Pinning::No);
        assert_eq!(config.maxmemory, 1 << 30);
        assert_eq!(config.client_output_buffer_limit.pubsub.soft_seconds, 5);
    }

    #[test]
    fn save_may_be_empty_listed_or_in_one_word() {
        for (arguments, expected) in [
            (&["--save", ""][..], &[][..]),
            (&["--save"], &[]),
            (&["--save", "--hz", "5"], &[]),
            (&["--save", "3600 1 300 100"], &[(3600, 1), (300, 100)]),
            (&["--save", "1", "2", "--save", ""], &[]),
            (&["--save", "", "--save", "1", "2"], &[(1, 2)]),
        ] {
            assert_eq!(run(arguments).unwrap().save, points(expected), "{arguments:?}");
        }
    }

    #[test]
    fn a_value_may_start_with_dashes() {
        assert_eq!(run(&["--requirepass", "--secret"]).unwrap().requirepass, b"--secret");
    }

    #[test]
    fn mistakes_are_reported_in_words_with_their_place() {
        for (arguments, expected) in [
            (
                &["--maxmemroy", "1"][..],
                ">>> 'maxmemroy \"1\"'\nBad directive or wrong number of arguments; did you mean 'maxmemory'?",
            ),
            (&["--zzzzzz", "1"], "'\nBad directive or wrong number of arguments"),
            (&["--port"], ">>> 'port'\nwrong number of arguments"),
            (&["--port", "1", "2"], ">>> 'port \"1\" \"2\"'\nwrong number of arguments"),
            (&["--port", "99999"], "argument must be between 0 and 65535 inclusive"),
            (&["--daemonize", "maybe"], "argument must be 'yes' or 'no'"),
            (&["--unixsocketperm", "9"], "argument couldn't be parsed as an octal number"),
            (&["--save", "1"], "Invalid save parameters"),
            (&["--replicaof", "host"], "wrong number of arguments"),
            (&["--replicaof", "h", "1", "--cluster-enabled", "yes"], "not allowed in cluster mode"),
            (
                &["/nonexistent.conf"],
                "can't open config file '/nonexistent.conf': No such file or directory",
            ),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(
                error.ends_with(expected) || error.contains(&format!("{expected}\n")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_is_read_before_the_arguments() {
        let path = std::env::temp_dir().join(format!("corelane-load-{}.conf", std::process::id()));
        std::fs::write(&path, "port 1\nhz 20\nsave 1 1\nuser al on\nrename-command KEYS \"\"\n")
            .unwrap();
        let config = run(&[path.to_str().unwrap(), "--port", "2"]).unwrap();
        assert_eq!((config.port, config.hz), (2, 20));
        assert_eq!(config.extras.file.as_deref(), Some(path.as_path()));
        assert_eq!(config.extras.users[0].words, [b"al".to_vec(), b"on".to_vec()]);
        assert_eq!(config.extras.users[0].line, 4);
        assert_eq!(config.extras.renamed_commands, [(b"KEYS".to_vec(), Vec::new())]);

        std::fs::write(&path, "port 1\n\nhz x\n").unwrap();
        let error = run(&[path.to_str().unwrap()]).unwrap_err();
        let place = format!("configuration file {}, at line 3\n>>> 'hz x'\n", path.display());
        assert!(error.contains(&place), "{error}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn help_lists_every_directive_and_version_names_the_build() {
        let help = run(&["--help"]).unwrap_err();
        for directive in DIRECTIVES.iter().filter(|directive| !directive.hidden) {
            assert!(help.contains(&format!("\n  --{} ", directive.name)), "{}", directive.name);
        }
        assert!(run(&["-v"]).unwrap_err().contains(VERSION));
    }

    #[test]
    fn a_snapshot_to_check_is_one_file() {
        assert_eq!(run(&["check-rdb", "a.rdb"]).unwrap_err(), "checks a.rdb");
        assert!(
            run(&["check-rdb", "a.rdb", "b.rdb"]).is_err_and(|text| !text.starts_with("checks"))
        );
    }

    #[test]
    fn sentinel_lines_are_kept_for_the_sentinel() {
        let config = Config::from_text(b"port 26379\nsentinel monitor m 127.0.0.1 1 2\n").unwrap();
        assert_eq!(config.extras.sentinel[0].words.len(), 5);
        assert!(run(&["--sentinel", "--port", "1"]).unwrap().extras.sentinel_mode);
    }
}
