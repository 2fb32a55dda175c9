//! MIGRATE: its row and what its words mean. The shard moves the keys ([`crate::shard`]).

use std::ops::Range;
use std::time::Duration;

use super::spec::*;
use super::{Command, CommandError, CommandResult, Run, SessionCommand};
use crate::datatypes::number::parse_i64;

/// Where the keys are: one at its place, or the last words, after KEYS.
const KEYS: &[KeySpec] = &[
    KeySpec {
        access: Access::ReadWrite,
        flags: &["ACCESS", "DELETE"],
        begin: Begin::MigrateKey,
        find: Find::Range { last: 0, step: 1 },
    },
    KeySpec {
        access: Access::ReadWrite,
        flags: &["ACCESS", "DELETE", "INCOMPLETE"],
        begin: Begin::MigrateKeys,
        find: Find::Range { last: -1, step: 1 },
    },
];

/// The row of MIGRATE.
#[rustfmt::skip] // a table: one row is one command
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "migrate", arity: Arity::AtLeast(6), flags: WRITE.with(MOVABLEKEYS), group: Group::Generic, keys: KEYS, categories: &["@dangerous"], run: Run::Session(SessionCommand::Migrate) },
];

const KEY_AND_KEYS: CommandError = CommandError::text(
    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
);

/// How long the other server may take for each step, unless told otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// Where the key is.
pub(super) const KEY_AT: usize = 3;
/// Where the options begin.
const OPTIONS_AT: usize = 6;

/// What MIGRATE is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MigrateRequest {
    /// The other server.
    pub host: String,
    /// Its port; 0, where nobody listens, if that makes no sense.
    pub port: u16,
    /// The database there.
    pub db: i64,
    /// How long each step may take.
    pub timeout: Duration,
    /// The keys stay here, too.
    pub copies: bool,
    /// Keys that are there are replaced.
    pub replaces: bool,
    /// What follows AUTH to log in there, if that has to be.
    pub login: Vec<Vec<u8>>,
    /// Where the keys are among the words.
    pub keys: Range<usize>,
}

impl MigrateRequest {
    /// What these words ask for.
    pub fn parse(words: &[&[u8]]) -> CommandResult<Self> {
        let mut request = Self {
            host: String::from_utf8_lossy(words[1]).into_owned(),
            port: port_of(words[2]),
            db: 0,
            timeout: TIMEOUT_DEFAULT,
            copies: false,
            replaces: false,
            login: Vec::new(),
            keys: KEY_AT..KEY_AT + 1,
        };
        request.parse_options(words)?;
        let timeout_ms = parse_i64(words[5]).ok_or(CommandError::NotInteger)?;
        request.db = parse_i64(words[4]).ok_or(CommandError::NotInteger)?;
        if let Ok(timeout_ms @ 1..) = u64::try_from(timeout_ms) {
            request.timeout = Duration::from_millis(timeout_ms);
        }
        Ok(request)
    }

    fn parse_options(&mut self, words: &[&[u8]]) -> CommandResult {
        let mut at = OPTIONS_AT;
        while at < words.len() {
            let is = |word: &str| words[at].eq_ignore_ascii_case(word.as_bytes());
            let rest = &words[at + 1..];
            if is("copy") {
                self.copies = true;
            } else if is("replace") {
                self.replaces = true;
            } else if is("auth") && !rest.is_empty() {
                self.login = vec![rest[0].to_vec()];
                at += 1;
            } else if is("auth2") && rest.len() >= 2 {
                self.login = vec![rest[0].to_vec(), rest[1].to_vec()];
                at += 2;
            } else if is("keys") {
                if !words[KEY_AT].is_empty() {
                    return Err(KEY_AND_KEYS);
                }
                self.keys = at + 1..words.len();
                return Ok(());
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(())
    }
}

/// The number at the start of `text`, as C reads it.
fn port_of(text: &[u8]) -> u16 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&text[..digits]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Where the keys after KEYS begin, if the key before it is empty.
pub(super) fn listed_keys_in(words: &[&[u8]]) -> Option<usize> {
    if !words.get(KEY_AT)?.is_empty() {
        return None;
    }
    let options = words.get(OPTIONS_AT..)?;
    let at = options.iter().position(|word| word.eq_ignore_ascii_case(b"keys"))?;
    Some(OPTIONS_AT + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandTable;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(|word| if word == "''" { b"" } else { word.as_bytes() }).collect()
    }

    #[test]
    fn its_words_are_read_as_redis_reads_them() {
        let keys = |line: &str| MigrateRequest::parse(&words(line)).map(|request| request.keys);
        let syntax = Err(CommandError::Syntax);
        for (line, expected) in [
            ("migrate h 7000 k 0 10", Ok(3..4)),
            ("migrate h 7000 '' 0 10 COPY replace KEYS a b", Ok(9..11)),
            ("migrate h 7000 '' 0 10 keys", Ok(7..7)),
            ("migrate h 7000 k 0 10 keys a", Err(KEY_AND_KEYS)),
            ("migrate h 7000 k 0 10 auth", syntax.clone()),
            ("migrate h 7000 k 0 10 auth2 u", syntax.clone()),
            ("migrate h 7000 k 0 10 what", syntax),
            ("migrate h 7000 k 0 x", Err(CommandError::NotInteger)),
            ("migrate h 7000 k x 10", Err(CommandError::NotInteger)),
        ] {
            assert_eq!(keys(line), expected, "{line}");
        }
        let request = MigrateRequest::parse(&words("migrate h 70x k 5 -1 auth2 u p copy"));
        let request = request.expect("it is right");
        assert_eq!((request.port, request.db, request.timeout), (70, 5, TIMEOUT_DEFAULT));
        assert_eq!(request.login, [b"u", b"p"]);
        assert!(request.copies && !request.replaces);
    }

    #[test]
    fn its_keys_are_where_it_says() {
        let table = CommandTable::get();
        let command = table.command(table.find(b"migrate").expect("a command"));
        for (line, expected) in [
            ("migrate h 7000 k 0 10", vec![3]),
            ("migrate h 7000 k 0 10 keys a", vec![3]),
            ("migrate h 7000 '' 0 10 copy keys a b", vec![8, 9]),
            ("migrate h 7000 '' 0 10 keys", vec![]),
            ("migrate h 7000 '' 0 10", vec![3]),
        ] {
            let mut keys = Vec::new();
            command.for_each_key(&words(line), |at| keys.push(at));
            assert_eq!(keys, expected, "{line}");
        }
    }
}
