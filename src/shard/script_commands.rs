//! SCRIPT and FUNCTION: what is kept, for all shards in [`crate::scripting::Store`].

use std::sync::Arc;

use super::Shard;
use crate::command::{CommandError, CommandResult, SessionCommand};
use crate::datatypes::glob::glob_match;
use crate::persistence::rdb::Compression;
use crate::persistence::rdb::payload::{self, Unreadable};
use crate::resp::Reply;
use crate::scripting::Digest;
use crate::scripting::library::{Catalogue, Library, LibraryError};

impl Shard {
    /// Runs SCRIPT LOAD, EXISTS, FLUSH and FUNCTION LOAD, DELETE, FLUSH, LIST.
    pub(super) fn script_command(
        &mut self,
        which: SessionCommand,
        (db, words): (usize, &[&[u8]]),
        reply: &mut Reply<'_>,
    ) -> CommandResult {
        use SessionCommand as C;
        let store = &self.process.scripts;
        match which {
            C::ScriptLoad => {
                reply.bulk(self.scripts.load_script(store, words[2])?.as_bytes());
            }
            C::ScriptExists => {
                reply.array(words.len() - 2);
                for digits in &words[2..] {
                    let known =
                        Digest::parse(digits).is_some_and(|digest| store.has_script(digest));
                    reply.integer(i64::from(known));
                }
            }
            C::ScriptFlush => {
                if !is_flush_option(&words[2..]) {
                    const TEXT: &str = "ERR SCRIPT FLUSH only support SYNC|ASYNC option";
                    return Err(CommandError::text(TEXT));
                }
                store.forget_scripts();
                reply.ok();
            }
            C::FunctionLoad => {
                let (text, replace) = load_options(&words[2..])?;
                let library = self.scripts.new_library(store, text, replace).map_err(in_words)?;
                reply.bulk(library.name.as_bytes());
                let change = |catalogue: &Catalogue| catalogue.with(library, replace);
                self.change_libraries(db, words, change).map_err(in_words)?;
            }
            C::FunctionDelete => {
                let name = String::from_utf8_lossy(words[2]);
                let change = |catalogue: &Catalogue| catalogue.without(&name);
                self.change_libraries(db, words, change).map_err(in_words)?;
                reply.ok();
            }
            C::FunctionFlush => {
                if words.len() > 3 {
                    const TEXT: &str = "ERR unknown subcommand or wrong number of arguments for 'FLUSH'. Try FUNCTION HELP.";
                    return Err(CommandError::text(TEXT));
                }
                if !is_flush_option(&words[2..]) {
                    const TEXT: &str = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option";
                    return Err(CommandError::text(TEXT));
                }
                let change = |_: &Catalogue| Ok(Catalogue::default());
                self.change_libraries(db, words, change).map_err(in_words)?;
                reply.ok();
            }
            C::FunctionList => list(&store.catalogue(), &words[2..], reply)?,
            C::FunctionDump => {
                let compression = Compression::of_setting(self.engine.config.rdbcompression);
                let catalogue = store.catalogue();
                let texts = catalogue.libraries().map(|library| library.text.as_slice());
                reply.bulk(&payload::dump_libraries(texts, compression));
            }
            C::FunctionRestore => {
                self.restore(db, words)?;
                reply.ok();
            }
            _ => unreachable!("not about scripts"),
        }
        self.scripts.note_memory(&self.process.scripts);
        Ok(())
    }

    /// Changes the libraries, and records the command with these words as what does so.
    fn change_libraries(
        &mut self,
        db: usize,
        words: &[&[u8]],
        change: impl FnOnce(&Catalogue) -> Result<Catalogue, LibraryError>,
    ) -> Result<(), LibraryError> {
        let process = Arc::clone(&self.process);
        let journal = &mut self.engine.journal;
        let leaves_at_once = journal.is_on() && !journal.in_unit();
        let mut stamp = None;
        process.scripts.change_catalogue(|catalogue| {
            let changed = change(catalogue)?;
            // Other shards see the change without a message from here. While nobody else can change the
            // libraries, so that who does it next has a later stamp.
            stamp = leaves_at_once.then(|| process.stamp());
            Ok(changed)
        })?;
        if journal.is_on() {
            journal.end_command(db, words, true);
        }
        if let Some(stamp) = stamp {
            self.put_into_outbox(stamp);
        }
        Ok(())
    }

    /// FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]: all of its libraries, or none.
    fn restore(&mut self, db: usize, words: &[&[u8]]) -> CommandResult {
        let (flush, replace) = restore_policy(&words[3..])?;
        let texts = payload::libraries(words[2]).map_err(why_unreadable)?;
        let mut libraries = Vec::new();
        for text in &texts {
            libraries.push(self.scripts.make_library(text).map_err(in_words)?);
        }
        let restored = self.change_libraries(db, words, |catalogue| {
            let mut new = if flush { Catalogue::default() } else { catalogue.clone() };
            for library in &libraries {
                new = new.with(Arc::clone(library), replace)?;
            }
            Ok(new)
        });
        restored.map_err(|error| match error {
            LibraryError::Exists(name) => {
                CommandError::owned(format!("ERR Library {name} already exists"))
            }
            other => in_words(other),
        })
    }
}

/// Whether the libraries there are go first, and whether new ones take the place of old ones.
fn restore_policy(words: &[&[u8]]) -> CommandResult<(bool, bool)> {
    let word = match words {
        [] => return Ok((false, false)),
        [word] => word.to_ascii_lowercase(),
        _ => {
            const TEXT: &str = "ERR unknown subcommand or wrong number of arguments for 'RESTORE'. Try FUNCTION HELP.";
            return Err(CommandError::text(TEXT));
        }
    };
    match word.as_slice() {
        b"flush" => Ok((true, false)),
        b"append" => Ok((false, false)),
        b"replace" => Ok((false, true)),
        _ => {
            const TEXT: &str =
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
            Err(CommandError::text(TEXT))
        }
    }
}

/// What is wrong with a payload of FUNCTION DUMP, in the words of Redis.
fn why_unreadable(reason: Unreadable) -> CommandError {
    CommandError::text(match reason {
        Unreadable::Seal => "ERR DUMP payload version or checksum are wrong",
        Unreadable::NoLibrary => "ERR given type is not a function",
        Unreadable::BeforeRelease => "ERR Pre-GA function format not supported",
        Unreadable::Damaged => "ERR failed to parse payload",
    })
}

/// Whether this file answers the command.
pub(super) fn is_about_scripts(which: SessionCommand) -> bool {
    use SessionCommand as C;
    matches!(
        which,
        C::ScriptLoad
            | C::ScriptExists
            | C::ScriptFlush
            | C::FunctionLoad
            | C::FunctionDelete
            | C::FunctionFlush
            | C::FunctionList
            | C::FunctionDump
            | C::FunctionRestore
    )
}

fn in_words(error: LibraryError) -> CommandError {
    CommandError::owned(error.to_string())
}

/// Memory is freed where it is used, so both do the same.
fn is_flush_option(words: &[&[u8]]) -> bool {
    match words {
        [] => true,
        [word] => word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async"),
        _ => false,
    }
}

/// The options of FUNCTION LOAD: the text, which is the last one, and whether it replaces.
fn load_options<'a>(words: &[&'a [u8]]) -> CommandResult<(&'a [u8], bool)> {
    let Some((text, options)) = words.split_last() else {
        return Err(CommandError::Syntax);
    };
    for option in options {
        if !option.eq_ignore_ascii_case(b"replace") {
            let option = String::from_utf8_lossy(option);
            return Err(CommandError::owned(format!("ERR Unknown option given: {option}")));
        }
    }
    Ok((text, !options.is_empty()))
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]
fn list(catalogue: &Catalogue, words: &[&[u8]], reply: &mut Reply<'_>) -> CommandResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if !with_code && word.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
            const TEXT: &str = "ERR library name argument was not given";
            pattern = Some(*rest.next().ok_or(CommandError::text(TEXT))?);
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(CommandError::owned(format!("ERR Unknown argument {word}")));
        }
    }
    let matches = |library: &&Arc<Library>| {
        pattern.is_none_or(|pattern| glob_match(pattern, library.name.as_bytes(), true))
    };
    let libraries: Vec<_> = catalogue.libraries().filter(matches).collect();
    reply.array(libraries.len());
    libraries.into_iter().for_each(|library| write_library(library, with_code, reply));
    Ok(())
}

fn write_library(library: &Library, with_code: bool, reply: &mut Reply<'_>) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        match &function.description {
            Some(description) => reply.bulk(description),
            None => reply.null(),
        }
        reply.bulk(b"flags");
        reply.set(function.flags.words().count());
        function.flags.words().for_each(|word| reply.simple(word));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.text);
    }
}
