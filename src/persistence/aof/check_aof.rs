//! Says whether append-only files are whole and cuts what is not: `corelane check-aof`, which says what
//! `redis-check-aof` says.
//!
//! It is stricter than loading is ([`super::record`]): what it calls valid, every Redis loads.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use crate::persistence::rdb::Limits;
use crate::persistence::rdb::input::Error as RdbError;
use crate::persistence::rdb::read_file::{FileReader, Found};

mod strict;

use strict::{Annotation, Strict};

/// What opens a file in the RDB format.
const RDB_MAGIC: &[u8; 5] = b"REDIS";
/// Longest line of a manifest that is looked at, in bytes.
const LINE_BYTES_MAX: u64 = 1024;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Elements of a value that are read at a time.
const ELEMENTS: usize = 4096;

/// What to do beside checking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Nothing.
    Check,
    /// Cut the last file where it stops being good.
    Fix,
    /// Cut the last file in front of the first annotation that is later than this unix time.
    TruncateTo(i64),
}

/// What `corelane check-aof` was asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// What to do beside checking.
    pub mode: Mode,
    /// A manifest or an append-only file.
    pub path: PathBuf,
}

impl Arguments {
    /// How it is used.
    pub const USAGE: &str = "Usage: corelane check-aof [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>";

    /// Reads the words after `check-aof`; an error is what to say.
    pub fn parse(words: &[OsString]) -> Result<Self, String> {
        let of = |mode, path: &OsString| Ok(Self { mode, path: path.into() });
        match words {
            [path] => of(Mode::Check, path),
            [option, path] if option == "--fix" => of(Mode::Fix, path),
            [option, time, path] if option == "--truncate-to-timestamp" => {
                let time = time.to_str().and_then(|text| text.parse().ok());
                let time: i64 = time.ok_or("Invalid timestamp, aborting...")?;
                of(if time == 0 { Mode::Check } else { Mode::TruncateTo(time) }, path)
            }
            _ => Err(Self::USAGE.to_owned()),
        }
    }
}

/// Why the check stopped.
enum Stop {
    /// What was found has been said.
    Said,
    /// Neither could it be said.
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// How one file fared.
enum Verdict {
    Valid,
    Empty,
    Truncated,
    TruncatedTo(i64),
    NotValid,
}

/// Checks what `arguments` name and says the outcome on `out`; asks on `answers` before it cuts anything. True if
/// all is well.
pub fn check_aof(
    arguments: &Arguments,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let mut check = Check { mode: arguments.mode, answers, out, line: 1 };
    let outcome = check.run(&arguments.path);
    check.out.flush()?;
    match outcome {
        Ok(()) => Ok(true),
        Err(Stop::Said) => Ok(false),
        Err(Stop::Output(error)) => Err(error),
    }
}

struct Check<'a> {
    mode: Mode,
    answers: &'a mut dyn BufRead,
    out: &'a mut dyn Write,
    /// Counted over all files, as Redis does.
    line: u64,
}

/// A file under check.
struct Subject<'a> {
    /// As it is called in the output.
    shown: &'a str,
    path: &'a Path,
    is_last: bool,
    is_rdb: bool,
}

impl Check<'_> {
    fn run(&mut self, path: &Path) -> Result<(), Stop> {
        match is_manifest(path) {
            Err(error) => {
                self.stop(&format!("Cannot open file {}: {}", path.display(), reason(&error)))
            }
            Ok(true) => self.multi_part(path),
            Ok(false) => {
                self.say("Start checking Old-Style AOF")?;
                let is_rdb = self.is_rdb(path)?;
                let shown = path.display().to_string();
                let subject = Subject { shown: &shown, path, is_last: true, is_rdb };
                let verdict = self.single(&subject)?;
                self.judge(verdict, "AOF", &shown)
            }
        }
    }

    fn multi_part(&mut self, path: &Path) -> Result<(), Stop> {
        self.say("Start checking Multi Part AOF")?;
        let manifest = match std::fs::read(path).map_err(|error| reason(&error)) {
            Ok(text) => Manifest::parse(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => return self.stop(&error),
        };
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let last = manifest.to_load().count();
        let mut number = 0;
        let mut file = |name: &OsString| {
            number += 1;
            (name.to_string_lossy().into_owned(), folder.join(name), number == last)
        };
        if let Some(base) = manifest.base() {
            let (shown, path, is_last) = file(&base.name);
            let is_rdb = self.is_rdb(&path)?;
            let format = if is_rdb { "RDB" } else { "RESP" };
            self.say(&format!("Start to check BASE AOF ({format} format)."))?;
            let verdict = self.single(&Subject { shown: &shown, path: &path, is_last, is_rdb })?;
            self.judge(verdict, "BASE AOF", &shown)?;
        }
        if !manifest.incrs().is_empty() {
            self.say("Start to check INCR files.")?;
        }
        for incr in manifest.incrs() {
            let (shown, path, is_last) = file(&incr.name);
            let subject = Subject { shown: &shown, path: &path, is_last, is_rdb: false };
            let verdict = self.single(&subject)?;
            self.judge(verdict, "INCR AOF", &shown)?;
        }
        self.say("All AOF files and manifest are valid")
    }

    fn judge(&mut self, verdict: Verdict, kind: &str, shown: &str) -> Result<(), Stop> {
        match verdict {
            Verdict::Valid => self.say(&format!("{kind} {shown} is valid")),
            Verdict::Empty => self.say(&format!("{kind} {shown} is empty")),
            Verdict::Truncated => self.say(&format!("Successfully truncated AOF {shown}")),
            Verdict::TruncatedTo(time) => {
                self.say(&format!("Successfully truncated AOF {shown} to timestamp {time}"))
            }
            Verdict::NotValid => self
                .stop(&format!("AOF {shown} is not valid. Use the --fix option to try fixing it.")),
        }
    }

    fn single(&mut self, subject: &Subject<'_>) -> Result<Verdict, Stop> {
        let path = subject.path;
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) => {
                let (path, error) = (path.display(), reason(&error));
                return self.stop(&format!("Cannot open file {path}: {error}, aborting..."));
            }
        };
        let size = match file.metadata() {
            Ok(facts) => facts.len(),
            Err(error) => {
                return self.stop(&format!("Cannot stat file: {}, aborting...", reason(&error)));
            }
        };
        if size == 0 {
            return Ok(Verdict::Empty);
        }
        let tail = if subject.is_rdb { self.rdb_preamble(subject.shown, &file)? } else { 0 };
        match self.records(subject, &file, tail)? {
            Checked::CutTo(verdict) => Ok(verdict),
            Checked::Good(good) => self.weigh(subject, &file, size, good),
        }
    }

    /// Reads all records behind the RDB part.
    fn records(&mut self, subject: &Subject<'_>, file: &File, tail: u64) -> Result<Checked, Stop> {
        let shown = subject.shown;
        let mut source = BufReader::with_capacity(CHUNK_BYTES, file);
        if source.seek(SeekFrom::Start(tail)).is_err() {
            return self.stop(&format!("Failed to fseek in AOF {shown}, aborting..."));
        }
        let mut strict = Strict::new(source, tail, self.line);
        let mut good = tail;
        loop {
            if !strict.in_multi() {
                good = strict.offset();
            }
            let first = match strict.peek() {
                Ok(first) => first,
                Err(_) => {
                    return self.stop(&format!("Failed to read from AOF {shown}, aborting..."));
                }
            };
            match first {
                None => break,
                Some(b'#') => match (strict.annotation(), self.mode) {
                    (Annotation::Time(time), Mode::TruncateTo(limit)) if time > limit => {
                        return self.cut_at_time(subject, file, strict.mark(), limit);
                    }
                    (Annotation::BadTime, Mode::TruncateTo(_)) => {
                        return self.stop("Invalid timestamp annotation");
                    }
                    _ => {}
                },
                Some(b'*') => {
                    if !strict.record(shown) {
                        break;
                    }
                }
                Some(_) => {
                    self.say(&format!("AOF {shown} format error"))?;
                    break;
                }
            }
        }
        strict.note_open_multi();
        self.line = strict.line();
        if let Some(error) = strict.error() {
            self.say(error)?;
        }
        Ok(Checked::Good(good))
    }

    fn cut_at_time(
        &mut self,
        subject: &Subject<'_>,
        file: &File,
        offset: u64,
        limit: i64,
    ) -> Result<Checked, Stop> {
        let path = subject.path.display();
        if offset == 0 {
            return self
                .stop(&format!("AOF {path} has nothing before timestamp {limit}, aborting..."));
        }
        if !subject.is_last {
            self.say(&format!(
                "Failed to truncate AOF {path} to timestamp {limit} to offset {offset} because it is \
                 not the last file."
            ))?;
            return self.stop(
                "If you insist, please delete all files after this file according to the manifest \
                 file and delete the corresponding records in manifest file manually. Then re-run \
                 redis-check-aof.",
            );
        }
        match file.set_len(offset).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(Checked::CutTo(Verdict::TruncatedTo(limit))),
            Err(_) => self.stop(&format!("Failed to truncate AOF {path} to timestamp {limit}")),
        }
    }

    fn weigh(
        &mut self,
        subject: &Subject<'_>,
        file: &File,
        size: u64,
        good: u64,
    ) -> Result<Verdict, Stop> {
        let (shown, line, diff) = (subject.shown, self.line, size.saturating_sub(good));
        if let (0, Mode::TruncateTo(limit)) = (diff, self.mode) {
            self.say(&format!("Truncate nothing in AOF {shown} to timestamp {limit}"))?;
            return Ok(Verdict::Valid);
        }
        self.say(&format!(
            "AOF analyzed: filename={shown}, size={size}, ok_up_to={good}, ok_up_to_line={line}, \
             diff={diff}"
        ))?;
        match self.mode {
            _ if diff == 0 => Ok(Verdict::Valid),
            Mode::Check | Mode::TruncateTo(_) => Ok(Verdict::NotValid),
            Mode::Fix if !subject.is_last => self
                .stop(&format!("Failed to truncate AOF {shown} because it is not the last file")),
            Mode::Fix => {
                self.say(&format!(
                    "This will shrink the AOF {shown} from {size} bytes, with {diff} bytes, to {good} \
                     bytes"
                ))?;
                self.confirm()?;
                match file.set_len(good).and_then(|()| file.sync_all()) {
                    Ok(()) => Ok(Verdict::Truncated),
                    Err(_) => self.stop(&format!("Failed to truncate AOF {shown}")),
                }
            }
        }
    }

    fn confirm(&mut self) -> Result<(), Stop> {
        self.out.write_all(b"Continue? [y/N]: ")?;
        self.out.flush()?;
        let mut answer = Vec::new();
        self.answers.take(LINE_BYTES_MAX).read_until(b'\n', &mut answer)?;
        match answer.first() {
            Some(b'y' | b'Y') => Ok(()),
            _ => self.stop("Aborting..."),
        }
    }

    fn is_rdb(&mut self, path: &Path) -> Result<bool, Stop> {
        let mut magic = [0; RDB_MAGIC.len()];
        match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
            Ok(()) => Ok(magic == *RDB_MAGIC),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => {
                self.stop(&format!("Cannot open file {}: {}", path.display(), reason(&error)))
            }
        }
    }

    /// Reads the RDB part of a file; where it ends.
    fn rdb_preamble(&mut self, shown: &str, mut file: &File) -> Result<u64, Stop> {
        let mut reader = FileReader::new(Limits::default(), true);
        let (mut keys, mut expires) = (0u64, 0u64);
        self.say(&format!("[offset 0] Checking RDB file {shown}"))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let error = loop {
            match reader.find(ELEMENTS) {
                Ok(Found::NeedsMore) => match file.read(&mut chunk) {
                    Ok(0) => break RdbError::Truncated.to_string(),
                    Ok(count) => reader.feed(&chunk[..count]),
                    Err(error) => break reason(&error),
                },
                Ok(Found::Aux { name, value }) => {
                    let (name, value) = (name.escape_ascii(), value.escape_ascii());
                    let offset = reader.offset();
                    self.say(&format!("[offset {offset}] AUX FIELD {name} = '{value}'"))?;
                }
                Ok(Found::Database(number)) => {
                    self.say(&format!("[offset {}] Selecting DB ID {number}", reader.offset()))?;
                }
                Ok(Found::Key(found)) => {
                    keys += 1;
                    expires += u64::from(found.expiry.is_some());
                }
                Ok(Found::End) => {
                    let offset = reader.offset();
                    self.say(&format!("[offset {offset}] Checksum OK"))?;
                    self.say(&format!("[offset {offset}] \\o/ RDB looks OK! \\o/"))?;
                    self.say(&format!("[info] {keys} keys read\n[info] {expires} expires"))?;
                    self.say("RDB preamble is OK, proceeding with AOF tail...")?;
                    return Ok(offset);
                }
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        self.say("--- RDB ERROR DETECTED ---")?;
        self.say(&format!("[offset {}] {error}", reader.offset()))?;
        self.say(&format!("[info] {keys} keys read\n[info] {expires} expires"))?;
        self.stop("RDB preamble of AOF file is not sane, aborting.")
    }

    fn say(&mut self, line: &str) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{line}")?)
    }

    fn stop<T>(&mut self, line: &str) -> Result<T, Stop> {
        self.say(line)?;
        Err(Stop::Said)
    }
}

/// What came of the records of a file.
enum Checked {
    /// They are good up to here.
    Good(u64),
    /// The file was cut.
    CutTo(Verdict),
}

/// Whether the first line that is no comment begins as those of manifests do.
fn is_manifest(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    loop {
        let mut line = Vec::new();
        (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.first() != Some(&b'#') {
            return Ok(line.starts_with(b"file"));
        }
    }
}

/// The operating system's words, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
