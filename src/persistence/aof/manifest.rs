//! The manifest: which files make up the data, in the order in which they are loaded.
//!
//! One line for each file, `file <name> seq <number> type <b|h|i>`: at most one base, increments by rising
//! number, and history, which is what a rewrite has replaced and what is deleted when time allows.
//!
//! Promise: what [`Manifest::to_text`] writes, [`Manifest::parse`] and Redis 7.0 read back as the same; what Redis 7.0
//! refuses is refused here, in its words.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::config::quoting::{quoted, split_words};

/// Longest line, with its line feed, in bytes (Redis 7.0 `aof.c`, MANIFEST_MAX_LINE).
const LINE_BYTES_MAX: usize = 1024;
/// Fewest words of a line: three names and their values.
const WORDS_MIN: usize = 6;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// The data as a whole, at some moment.
    Base,
    /// Replaced by a rewrite, not loaded.
    History,
    /// The writes since the base, or since the increment before.
    Incr,
}

impl FileKind {
    fn letter(self) -> char {
        match self {
            Self::Base => 'b',
            Self::History => 'h',
            Self::Incr => 'i',
        }
    }
}

/// One line of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AofFile {
    /// Its name within the directory.
    pub name: OsString,
    /// Its number among the files of its kind.
    pub seq: i64,
    /// What it is.
    pub kind: FileKind,
}

/// How a base is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BaseFormat {
    /// As a snapshot (`aof-use-rdb-preamble yes`).
    Rdb,
    /// As commands.
    Resp,
}

impl BaseFormat {
    /// What `aof-use-rdb-preamble` asks for.
    pub fn of_setting(aof_use_rdb_preamble: bool) -> Self {
        if aof_use_rdb_preamble { Self::Rdb } else { Self::Resp }
    }
}

/// The names of files, all made from `appendfilename`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    stem: String,
}

impl Names {
    /// Names that begin with `appendfilename`.
    pub fn new(appendfilename: &str) -> Self {
        Self { stem: appendfilename.to_owned() }
    }

    /// The only file of Redis before 7.0.
    pub fn old_file(&self) -> OsString {
        OsString::from(&self.stem)
    }

    /// The manifest.
    pub fn manifest(&self) -> OsString {
        format!("{}.manifest", self.stem).into()
    }

    /// What becomes the manifest.
    pub fn temp_manifest(&self) -> OsString {
        format!("temp-{}.manifest", self.stem).into()
    }

    /// Writes that come while the first base is being made.
    pub fn temp_incr(&self) -> OsString {
        format!("temp-{}.incr", self.stem).into()
    }

    fn base(&self, seq: i64, format: BaseFormat) -> OsString {
        let suffix = match format {
            BaseFormat::Rdb => "rdb",
            BaseFormat::Resp => "aof",
        };
        format!("{}.{seq}.base.{suffix}", self.stem).into()
    }

    fn incr(&self, seq: i64) -> OsString {
        format!("{}.{seq}.incr.aof", self.stem).into()
    }
}

/// The files that make up the data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    base: Option<AofFile>,
    history: Vec<AofFile>,
    incrs: Vec<AofFile>,
    /// The highest numbers that were used.
    base_seq: i64,
    incr_seq: i64,
}

/// Why a manifest cannot be used; its text is what Redis logs before it exits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    /// The line, counted from 1; 0 if there is none.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// What is wrong, in the words of Redis 7.0.
    pub reason: &'static str,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n*** FATAL AOF MANIFEST FILE ERROR ***")?;
        if self.line > 0 {
            writeln!(f, "Reading the manifest file, at line {}", self.line)?;
            writeln!(f, ">>> '{}'", self.text)?;
        }
        f.write_str(self.reason)
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads what is in the file.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        if text.is_empty() {
            let reason = "Found an empty AOF manifest";
            return Err(ManifestError { line: 0, text: String::new(), reason });
        }
        let mut manifest = Self::default();
        for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let added = if line.first() == Some(&b'#') {
                comment(line)
            } else {
                parse_line(line).and_then(|file| manifest.add(file))
            };
            added.map_err(|reason| {
                let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
                ManifestError { line: number + 1, text, reason }
            })?;
        }
        Ok(manifest)
    }

    fn add(&mut self, file: AofFile) -> Result<(), &'static str> {
        match file.kind {
            FileKind::Base if self.base.is_some() => {
                return Err("Found duplicate base file information");
            }
            FileKind::Base => {
                self.base_seq = file.seq;
                self.base = Some(file);
            }
            FileKind::History => self.history.push(file),
            FileKind::Incr if file.seq <= self.incr_seq => {
                return Err("Found a non-monotonic sequence number");
            }
            FileKind::Incr => {
                self.incr_seq = file.seq;
                self.incrs.push(file);
            }
        }
        Ok(())
    }

    /// The text of the file.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for file in self.base.iter().chain(&self.history).chain(&self.incrs) {
            text.extend_from_slice(b"file ");
            text.extend_from_slice(&shown_name(&file.name));
            let (seq, kind) = (file.seq, file.kind.letter());
            text.extend_from_slice(format!(" seq {seq} type {kind}\n").as_bytes());
        }
        text
    }

    /// The base, if there is one.
    pub fn base(&self) -> Option<&AofFile> {
        self.base.as_ref()
    }

    /// The increments in the order of their numbers.
    pub fn incrs(&self) -> &[AofFile] {
        &self.incrs
    }

    /// What waits for its deletion.
    pub fn history(&self) -> &[AofFile] {
        &self.history
    }

    /// What is loaded, in order.
    pub fn to_load(&self) -> impl Iterator<Item = &AofFile> {
        self.base.iter().chain(&self.incrs)
    }

    /// Whether it lists nothing to load.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incrs.is_empty()
    }

    /// Makes the only file of Redis before 7.0 the base.
    pub fn adopt(&mut self, names: &Names) {
        self.base_seq = 1;
        self.base = Some(AofFile { name: names.old_file(), seq: 1, kind: FileKind::Base });
    }

    /// A base follows; the one before becomes history. Says its name.
    pub fn next_base(&mut self, names: &Names, format: BaseFormat) -> OsString {
        if let Some(before) = self.base.take() {
            self.history.push(AofFile { kind: FileKind::History, ..before });
        }
        let name = loop {
            self.base_seq = self.base_seq.saturating_add(1);
            let name = names.base(self.base_seq, format);
            if self.is_free(&name) {
                break name;
            }
        };
        self.base = Some(AofFile { name: name.clone(), seq: self.base_seq, kind: FileKind::Base });
        name
    }

    /// An increment follows. Says its name.
    pub fn next_incr(&mut self, names: &Names) -> OsString {
        let name = loop {
            self.incr_seq = self.incr_seq.saturating_add(1);
            let name = names.incr(self.incr_seq);
            if self.is_free(&name) {
                break name;
            }
        };
        let file = AofFile { name: name.clone(), seq: self.incr_seq, kind: FileKind::Incr };
        self.incrs.push(file);
        name
    }

    /// Whether no file is called so. The numbers of history are not remembered in a manifest (Redis begins again
    /// at one), and a new file must not be deleted as an old one.
    fn is_free(&self, name: &OsString) -> bool {
        let mut files = self.to_load().chain(&self.history);
        files.all(|file| file.name != *name)
    }

    /// A base holds what is in all increments but the last `kept`: they become history.
    pub fn retire_incrs(&mut self, kept: usize) {
        let retired = self.incrs.len().saturating_sub(kept);
        let retired = self.incrs.drain(..retired);
        self.history.extend(retired.map(|file| AofFile { kind: FileKind::History, ..file }));
    }

    /// Numbers that `other` has given are not given again.
    pub fn use_up_numbers(&mut self, other: &Self) {
        self.base_seq = self.base_seq.max(other.base_seq);
        self.incr_seq = self.incr_seq.max(other.incr_seq);
    }

    /// The history is deleted.
    pub fn forget_history(&mut self) {
        self.history.clear();
    }
}

/// Redis reads lines in pieces of [`LINE_BYTES_MAX`]; of a longer comment the second piece is judged as a line.
fn comment(line: &[u8]) -> Result<(), &'static str> {
    match line.len() {
        0..=LINE_BYTES_MAX => Ok(()),
        _ => Err("The AOF manifest file contains too long line"),
    }
}

fn parse_line(line: &[u8]) -> Result<AofFile, &'static str> {
    const BAD_FORMAT: &str = "Invalid AOF manifest file format";
    if line.len() > LINE_BYTES_MAX || line.last() != Some(&b'\n') {
        return Err("The AOF manifest file contains too long line");
    }
    let words = split_words(line).ok_or(BAD_FORMAT)?;
    if words.len() < WORDS_MIN || words.len() % 2 != 0 {
        return Err(BAD_FORMAT);
    }
    let (mut name, mut seq, mut letter) = (None, 0, None);
    for pair in words.chunks_exact(2) {
        let (key, value) = (&pair[0], &pair[1]);
        if key.eq_ignore_ascii_case(b"file") {
            if value.iter().any(|byte| matches!(byte, b'/' | b'\\')) {
                return Err("File can't be a path, just a filename");
            }
            name = Some(OsString::from_vec(value.clone()));
        } else if key.eq_ignore_ascii_case(b"seq") {
            seq = leading_integer(value);
        } else if key.eq_ignore_ascii_case(b"type") {
            letter = value.first().copied();
        }
    }
    let (Some(name), Some(letter), true) = (name, letter, seq != 0) else {
        return Err(BAD_FORMAT);
    };
    let kind = match letter {
        b'b' => FileKind::Base,
        b'h' => FileKind::History,
        b'i' => FileKind::Incr,
        _ => return Err("Unknown AOF file type"),
    };
    Ok(AofFile { name, seq, kind })
}

/// As C's `atoll`: the number that the text begins with, or 0.
pub(super) fn leading_integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    if is_negative { -value } else { value }
}

/// The name as it stands in the file: in quotes if it would be read as something else without them.
fn shown_name(name: &OsStr) -> Vec<u8> {
    let bytes = name.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'\'');
    if !bytes.is_empty() && bytes.iter().all(is_plain) { bytes.to_vec() } else { quoted(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/persistence/");
        std::fs::read(format!("{folder}{name}")).expect("the vector is there")
    }

    fn reason(text: &str) -> Option<&'static str> {
        Manifest::parse(text.as_bytes()).err().map(|error| error.reason)
    }

    #[test]
    fn what_redis_wrote_is_read_and_written_back_as_it_was() {
        for name in ["manifest-fresh", "manifest-during-rewrite", "manifest-after-rewrite"] {
            let text = vector(name);
            assert_eq!(Manifest::parse(&text).unwrap().to_text(), text, "{name}");
        }
    }

    #[test]
    fn what_redis_refuses_is_refused_in_its_words() {
        let long = format!("file {} seq 1 type b\n", "x".repeat(1024));
        for (text, expected) in [
            ("", Some("Found an empty AOF manifest")),
            ("# nothing else\n", None),
            ("\n", Some("Invalid AOF manifest file format")),
            ("file a seq 0 type b\n", Some("Invalid AOF manifest file format")),
            ("file a seq x type b\n", Some("Invalid AOF manifest file format")),
            ("file a seq 1 typo b\n", Some("Invalid AOF manifest file format")),
            ("file a seq 1 type b more\n", Some("Invalid AOF manifest file format")),
            ("file \"a seq 1 type b\n", Some("Invalid AOF manifest file format")),
            ("file a seq 1 type b", Some("The AOF manifest file contains too long line")),
            (&long, Some("The AOF manifest file contains too long line")),
            ("file d/a seq 1 type b\n", Some("File can't be a path, just a filename")),
            (
                "file a seq 1 type b\nfile b seq 2 type b\n",
                Some("Found duplicate base file information"),
            ),
            (
                "file a seq 2 type i\nfile b seq 2 type i\n",
                Some("Found a non-monotonic sequence number"),
            ),
            ("file a seq 1 type z\n", Some("Unknown AOF file type")),
            ("FILE a Seq 7 TYPE base extra 1\nfile b seq 12 type i\n", None),
            ("file b seq 12 type i\n", None), // an increment needs no base
        ] {
            assert_eq!(reason(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_line() {
        let error = Manifest::parse(b"#\nfile a seq 1 type z\n").unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "file a seq 1 type z"));
        let text = error.to_string();
        assert!(text.contains("at line 2\n>>> 'file a seq 1 type z'\nUnknown"), "{text}");
    }

    #[test]
    fn bases_and_increments_are_numbered_apart() {
        let mut manifest = Manifest::parse(b"file a seq 7 type b\nfile b seq 12 type i\n").unwrap();
        let names = Names::new("f");
        assert_eq!(manifest.next_incr(&names), "f.13.incr.aof");
        assert_eq!(manifest.next_base(&names, BaseFormat::Resp), "f.8.base.aof");
        manifest.retire_incrs(1);
        assert_eq!(
            String::from_utf8(manifest.to_text()).unwrap(),
            "file f.8.base.aof seq 8 type b\nfile a seq 7 type h\nfile b seq 12 type h\n\
             file f.13.incr.aof seq 13 type i\n"
        );
        manifest.forget_history();
        assert_eq!(manifest.to_load().count(), 2);
    }

    #[test]
    fn a_new_file_is_never_called_like_one_that_waits_for_its_deletion() {
        let text = b"file f.2.base.rdb seq 2 type b\nfile f.1.incr.aof seq 1 type h\n\
                     file f.3.base.rdb seq 3 type h\n";
        let mut manifest = Manifest::parse(text).unwrap();
        let names = Names::new("f");
        assert_eq!(manifest.next_incr(&names), "f.2.incr.aof");
        assert_eq!(manifest.next_base(&names, BaseFormat::Rdb), "f.4.base.rdb");
    }

    proptest! {
        #[test]
        fn any_name_is_read_back(name in "[^/\\\\\0]{1,40}", seq in 1..i64::MAX) {
            let base = AofFile { name: name.into(), seq, kind: FileKind::Base };
            let manifest = Manifest { base: Some(base), base_seq: seq, ..Manifest::default() };
            prop_assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
