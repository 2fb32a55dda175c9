//! The first line of a script or library: `#!lua name=lib flags=no-writes,allow-oom`.

use std::fmt;

use crate::config::quoting::split_words;

/// What a script says about itself in its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScriptFlags(u8);

impl ScriptFlags {
    /// It does not write.
    pub const NO_WRITES: Self = Self(1);
    /// It may run when memory is full.
    pub const ALLOW_OOM: Self = Self(2);
    /// It may run on a replica whose data is stale.
    pub const ALLOW_STALE: Self = Self(4);
    /// It may not run in cluster mode.
    pub const NO_CLUSTER: Self = Self(8);
    /// It may touch keys of several slots.
    pub const ALLOW_CROSS_SLOT_KEYS: Self = Self(16);

    /// The flags with their words, in the order in which FUNCTION LIST shows them.
    pub const WORDS: [(Self, &str); 5] = [
        (Self::NO_WRITES, "no-writes"),
        (Self::ALLOW_OOM, "allow-oom"),
        (Self::ALLOW_STALE, "allow-stale"),
        (Self::NO_CLUSTER, "no-cluster"),
        (Self::ALLOW_CROSS_SLOT_KEYS, "allow-cross-slot-keys"),
    ];

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flag of this word.
    pub fn of_word(word: &[u8]) -> Option<Self> {
        Self::WORDS.iter().find(|(_, text)| text.as_bytes() == word).map(|(flag, _)| *flag)
    }

    /// The words of the flags that are set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, word)| word)
    }
}

/// The text of a script, split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Script<'a> {
    /// Its flags; `None` without a first line that says so: such a script runs by the old rules, where
    /// only its commands tell what it does.
    pub flags: Option<ScriptFlags>,
    /// What Lua compiles. The line break of the first line is part of it, so lines keep their numbers.
    pub code: &'a [u8],
}

/// Why the first line is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceError {
    /// A script's `#!` line has no end.
    InvalidShebang,
    /// A script's `#!` line has an open quote.
    InvalidEngine,
    /// Not `#!lua`.
    UnexpectedEngine(String),
    /// An option that scripts do not have.
    UnknownOption(String),
    /// A flag that does not exist.
    UnexpectedFlag(String),
    /// A library without `#!`.
    MissingMetadata,
    /// A library's `#!` line has no end.
    InvalidMetadata,
    /// An engine that does not exist.
    EngineNotFound(String),
    /// An option that libraries do not have.
    InvalidMetadataValue(String),
    /// Two names.
    NameGivenTwice,
    /// No name.
    NameMissing,
    /// A name with other characters than letters, digits and underscores.
    BadName,
}

/// What follows the `-` on the wire.
impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR ")?;
        match self {
            Self::InvalidShebang => f.write_str("Invalid script shebang"),
            Self::InvalidEngine => f.write_str("Invalid engine in script shebang"),
            Self::UnexpectedEngine(word) => {
                write!(f, "Unexpected engine in script shebang: {word}")
            }
            Self::UnknownOption(word) => write!(f, "Unknown lua shebang option: {word}"),
            Self::UnexpectedFlag(word) => write!(f, "Unexpected flag in script shebang: {word}"),
            Self::MissingMetadata => f.write_str("Missing library metadata"),
            Self::InvalidMetadata => f.write_str("Invalid library metadata"),
            Self::EngineNotFound(name) => write!(f, "Engine '{name}' not found"),
            Self::InvalidMetadataValue(word) => {
                write!(f, "Invalid metadata value given: {word}")
            }
            Self::NameGivenTwice => {
                f.write_str("Invalid metadata value, name argument was given multiple times")
            }
            Self::NameMissing => f.write_str("Library name was not given"),
            Self::BadName => f.write_str(BAD_NAME),
        }
    }
}

/// What is wrong with a name of a library or function.
pub const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Splits a script.
pub fn script(text: &[u8]) -> Result<Script<'_>, SourceError> {
    if !text.starts_with(b"#!") {
        return Ok(Script { flags: None, code: text });
    }
    let (line, code) = split_line(text).ok_or(SourceError::InvalidShebang)?;
    let words = split_words(line).ok_or(SourceError::InvalidEngine)?;
    let (engine, options) = words.split_first().ok_or(SourceError::InvalidEngine)?;
    if engine != b"#!lua" {
        return Err(SourceError::UnexpectedEngine(lossy(engine)));
    }
    let mut flags = ScriptFlags::default();
    for option in options {
        let list = option.strip_prefix(b"flags=");
        let list = list.ok_or_else(|| SourceError::UnknownOption(lossy(option)))?;
        for name in list.split(|byte| *byte == b',').filter(|_| !list.is_empty()) {
            let flag = ScriptFlags::of_word(name);
            flags = flags.with(flag.ok_or_else(|| SourceError::UnexpectedFlag(lossy(name)))?);
        }
    }
    Ok(Script { flags: Some(flags), code })
}

/// Splits a library: its name, and what Lua compiles.
pub fn library(text: &[u8]) -> Result<(String, &[u8]), SourceError> {
    if !text.starts_with(b"#!") {
        return Err(SourceError::MissingMetadata);
    }
    let (line, code) = split_line(text).ok_or(SourceError::InvalidMetadata)?;
    let words = split_words(line).ok_or(SourceError::InvalidMetadata)?;
    let (engine, options) = words.split_first().ok_or(SourceError::InvalidMetadata)?;
    let engine = engine.get(2..).unwrap_or_default();
    let mut name = None;
    for option in options {
        match strip_prefix_any_case(option, b"name=") {
            Some(_) if name.is_some() => return Err(SourceError::NameGivenTwice),
            Some(value) => name = Some(value),
            None => return Err(SourceError::InvalidMetadataValue(lossy(option))),
        }
    }
    let name = name.ok_or(SourceError::NameMissing)?;
    if !is_name(name) {
        return Err(SourceError::BadName);
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(SourceError::EngineNotFound(lossy(engine)));
    }
    Ok((lossy(name), code))
}

/// Whether a library or function may be called so.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The first line, and the rest with the line break before it.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr(b'\n', text).map(|end| text.split_at(end))
}

fn strip_prefix_any_case<'a>(word: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = word.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_its_flags_in_its_first_line() {
        for (text, expected) in [
            ("return 1", Ok((None, "return 1"))),
            ("#!lua\nreturn 1", Ok((Some(""), "\nreturn 1"))),
            ("#!lua flags=\nx", Ok((Some(""), "\nx"))),
            ("#!lua  flags=allow-oom,no-writes\nx", Ok((Some("no-writes allow-oom"), "\nx"))),
            (
                "#!lua flags=no-cluster flags=allow-stale\nx",
                Ok((Some("allow-stale no-cluster"), "\nx")),
            ),
            ("#!lua", Err("ERR Invalid script shebang")),
            ("#!\nx", Err("ERR Unexpected engine in script shebang: #!")),
            ("#!luax\nx", Err("ERR Unexpected engine in script shebang: #!luax")),
            ("#!lua name=x\nx", Err("ERR Unknown lua shebang option: name=x")),
            ("#!lua flags= no-writes\nx", Err("ERR Unknown lua shebang option: no-writes")),
            ("#!lua flags=a,b\nx", Err("ERR Unexpected flag in script shebang: a")),
            ("#!lua flags=,\nx", Err("ERR Unexpected flag in script shebang: ")),
            ("#!lua 'flags=allow-oom'\nx", Ok((Some("allow-oom"), "\nx"))),
            ("#!lua '\nx", Err("ERR Invalid engine in script shebang")),
        ] {
            let got = script(text.as_bytes());
            let got = got.as_ref().map_err(ToString::to_string).map(|script| {
                let words = |flags: ScriptFlags| flags.words().collect::<Vec<_>>().join(" ");
                (script.flags.map(words), script.code)
            });
            let expected = expected
                .map(|(flags, code)| (flags.map(String::from), code.as_bytes()))
                .map_err(String::from);
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn a_library_says_its_name_in_its_first_line() {
        const BAD: &str = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";
        for (text, expected) in [
            ("#!lua name=a_1\nx", Ok(("a_1", "\nx"))),
            ("#!LUA NAME=zz\n", Ok(("zz", "\n"))),
            ("return 1", Err("ERR Missing library metadata")),
            ("", Err("ERR Missing library metadata")),
            ("#!lua name=a", Err("ERR Invalid library metadata")),
            ("#!lua\nx", Err("ERR Library name was not given")),
            ("#!lua name=\nx", Err(BAD)),
            ("#!lua name=a-b\nx", Err(BAD)),
            ("#!lua name=a foo=b\nx", Err("ERR Invalid metadata value given: foo=b")),
            (
                "#!lua name=a name=b\nx",
                Err("ERR Invalid metadata value, name argument was given multiple times"),
            ),
            ("#!lua name='a'\nx", Ok(("a", "\nx"))),
            ("#!lua name='a\nx", Err("ERR Invalid library metadata")),
            ("#!py name=a\nx", Err("ERR Engine 'py' not found")),
            ("#! name=a\nx", Err("ERR Engine '' not found")),
        ] {
            let got = library(text.as_bytes()).map_err(|error| error.to_string());
            let expected = expected.map(|(name, code)| (name.to_string(), code.as_bytes()));
            assert_eq!(got, expected.map_err(String::from), "{text}");
        }
    }
}
