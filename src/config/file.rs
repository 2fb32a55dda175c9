//! The syntax of a configuration file: lines of words, comments, and other files included.
//!
//! Why apart from the meaning of the words ([`super::load`]): the same reader serves files, standard
//! input and `include`, and CONFIG REWRITE needs the lines as they are.
//!
//! Promise: every line knows where it stands, so that a complaint can point at it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::load::LoadError;
use super::quoting::split_words;
use crate::datatypes::glob::glob_match;

/// Depth of files that include files. Redis has no bound and a cycle ends it with a full stack.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Where a line was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line counted from 1.
    File(PathBuf, usize),
    /// On standard input, at a line counted from 1.
    Stdin(usize),
    /// Among the arguments.
    Arguments,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => {
                write!(f, "Reading the configuration file {}, at line {line}", path.display())
            }
            Self::Stdin(line) => {
                write!(f, "Reading the configuration from standard input, at line {line}")
            }
            Self::Arguments => f.write_str("Reading the command line"),
        }
    }
}

/// One directive as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub origin: Origin,
    /// The name, in lower case, and the words after it.
    pub words: Vec<Vec<u8>>,
    /// The text, for complaints.
    pub text: Vec<u8>,
}

/// Reads the lines of the file at `path` and of all that it includes, in their order.
pub fn read_file(path: &Path) -> Result<Vec<Line>, LoadError> {
    let mut lines = Vec::new();
    append_file(path, 0, &mut lines)?;
    Ok(lines)
}

fn append_file(path: &Path, depth: usize, lines: &mut Vec<Line>) -> Result<(), LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    if depth > INCLUDE_DEPTH_MAX {
        return Err(unreadable(std::io::Error::other("too many files include each other")));
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    append_text(&text, |number| Origin::File(path.to_owned(), number), depth, lines)
}

/// Reads the lines of `text`; `origin` names the place of a line number.
pub fn read_text(text: &[u8], origin: impl Fn(usize) -> Origin) -> Result<Vec<Line>, LoadError> {
    let mut lines = Vec::new();
    append_text(text, origin, 0, &mut lines)?;
    Ok(lines)
}

fn append_text(
    text: &[u8],
    origin: impl Fn(usize) -> Origin,
    depth: usize,
    lines: &mut Vec<Line>,
) -> Result<(), LoadError> {
    for (index, text) in text.split(|&byte| byte == b'\n').enumerate() {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        let origin = origin(index + 1);
        let Some(mut words) = split_words(text) else {
            return Err(LoadError::bad_line(
                origin,
                text,
                "Unbalanced quotes in configuration line",
            ));
        };
        let Some(name) = words.first_mut() else { continue };
        name.make_ascii_lowercase();
        match words.as_slice() {
            [name, pattern] if name == b"include" => include(pattern, depth, lines)?,
            _ => lines.push(Line { origin, words, text: text.to_vec() }),
        }
    }
    Ok(())
}

/// Includes one file, or all files that a pattern matches. A pattern may match none, a plain name must exist.
fn include(pattern: &[u8], depth: usize, lines: &mut Vec<Line>) -> Result<(), LoadError> {
    let pattern = String::from_utf8_lossy(pattern).into_owned();
    if !pattern.contains(['*', '?', '[']) {
        return append_file(Path::new(&pattern), depth + 1, lines);
    }
    for path in expand(&pattern) {
        append_file(&path, depth + 1, lines)?;
    }
    Ok(())
}

/// The paths that a glob pattern matches, sorted. Each component of it may hold wildcards.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let start = if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() };
    let mut paths = vec![start];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        paths = paths.iter().flat_map(|path| expand_component(path, component)).collect();
    }
    paths
}

fn expand_component(directory: &Path, component: &str) -> Vec<PathBuf> {
    if !component.contains(['*', '?', '[']) {
        let path = directory.join(component);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // As in a shell, a wildcard does not find hidden files.
    names.retain(|name| {
        name.starts_with('.') == component.starts_with('.')
            && glob_match(component.as_bytes(), name.as_bytes(), false)
    });
    names.sort_unstable();
    names.iter().map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<Vec<String>>, String> {
        let lines = read_text(text.as_bytes(), Origin::Stdin).map_err(|error| error.to_string())?;
        let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
        Ok(lines.iter().map(|line| line.words.iter().map(text).collect()).collect())
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_names_are_lower_cased() {
        let text = "# note\n\n  PORT 1 \r\nsave \"\"\n\t#x\nuser Al on >p#w";
        let expected: Vec<Vec<String>> =
            [vec!["port", "1"], vec!["save", ""], vec!["user", "Al", "on", ">p#w"]]
                .map(|words| words.into_iter().map(str::to_owned).collect())
                .into();
        assert_eq!(words(text), Ok(expected));
    }

    #[test]
    fn an_open_quote_is_reported_with_its_line() {
        let error = words("port 1\nlogfile \"x").unwrap_err();
        assert!(error.contains("at line 2\n>>> 'logfile \"x'\nUnbalanced quotes"), "{error}");
    }

    #[test]
    fn include_reads_matching_files_in_order_and_a_missing_file_is_an_error() {
        let dir = std::env::temp_dir().join(format!("corelane-include-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        std::fs::write(dir.join("b.conf"), "hz 2").unwrap();
        std::fs::write(dir.join("a.conf"), "hz 1").unwrap();
        std::fs::write(dir.join("self.inc"), format!("include {}", at("self.inc"))).unwrap();

        let read = words(&format!("include {}\nhz 3", at("?.conf"))).unwrap();
        let values: Vec<&str> = read.iter().map(|line| line[1].as_str()).collect();
        assert_eq!(values, ["1", "2", "3"]);
        assert_eq!(words(&format!("include {}", at("*.none"))), Ok(vec![]));
        assert!(words(&format!("include {}", at("none"))).unwrap_err().contains("can't open"));
        assert!(words(&format!("include {}", at("self.inc"))).unwrap_err().contains("too many"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
