//! CONFIG GET and CONFIG SET as functions of values: nothing here touches the running server.
//!
//! Promise: [`Config::set`] changes all of its directives or none, and the caller learns from the new
//! `Config` what it has to apply (ports, limits of the process). The texts are Redis 7.0.15's.

use std::fmt;

use super::directive::{Directive, Mutability};
use super::values::Permission;
use super::{Config, DIRECTIVES, directive_named};
use crate::datatypes::glob::glob_match;

/// Why CONFIG SET changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// A name without a value.
    Syntax,
    /// No such directive.
    Unknown(String),
    /// A directive refuses its value, or to be changed at all.
    Refused {
        /// Its name.
        name: String,
        /// Its reason.
        reason: String,
    },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::Unknown(name) => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            Self::Refused { name, reason } => {
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
                )
            }
        }
    }
}

/// A directive under the name that the client used: its own or the older one.
struct Named {
    directive: &'static Directive,
    name: &'static str,
}

impl Named {
    fn find(name: &[u8]) -> Option<Self> {
        let directive = directive_named(name)?;
        let own = directive.name.as_bytes().eq_ignore_ascii_case(name);
        let name = if own { directive.name } else { directive.alias.unwrap_or(directive.name) };
        Some(Self { directive, name })
    }
}

impl Config {
    /// CONFIG GET: every directive that one of the patterns names, once, with its value. A name
    /// without wildcards is given back as the client wrote it.
    pub fn get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let mut add = |name: String, directive: &Directive| {
            if found.iter().all(|(known, _)| *known != name) {
                found.push((name, directive.render(self)));
            }
        };
        for pattern in patterns.iter().map(AsRef::as_ref) {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some(directive) = directive_named(pattern) {
                    add(String::from_utf8_lossy(pattern).into_owned(), directive);
                }
                continue;
            }
            for directive in DIRECTIVES.iter().filter(|directive| !directive.hidden) {
                for name in std::iter::once(directive.name).chain(directive.alias) {
                    if glob_match(pattern, name.as_bytes(), true) {
                        add(name.to_owned(), directive);
                    }
                }
            }
        }
        found
    }

    /// CONFIG SET: this configuration with all pairs of name and value changed. `local` says that
    /// the client is on this host, for `enable-protected-configs local`.
    pub fn set<W: AsRef<[u8]>>(&self, pairs: &[W], local: bool) -> Result<Self, SetError> {
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(SetError::Syntax);
        }
        let mut chosen: Vec<Named> = Vec::new();
        let mut refused = None;
        for pair in pairs.chunks_exact(2) {
            let name = pair[0].as_ref();
            // An unknown name is reported before any other mistake, even one to its left.
            let Some(named) = Named::find(name) else {
                return Err(SetError::Unknown(String::from_utf8_lossy(name).into_owned()));
            };
            if refused.is_none()
                && let Some(reason) = self.refusal(&named, &chosen, local)
            {
                refused = Some(SetError::Refused { name: named.name.to_owned(), reason });
            }
            chosen.push(named);
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let mut changed = self.clone();
        for (named, pair) in chosen.iter().zip(pairs.chunks_exact(2)) {
            let words = [pair[1].as_ref().to_vec()];
            named
                .directive
                .store(&mut changed, &words)
                .map_err(|reason| SetError::Refused { name: named.name.to_owned(), reason })?;
        }
        Ok(changed)
    }

    /// Why `named` may not be changed now, if so. Redis counts a directive and its older name as
    /// two, so both may be set at once; the last one wins.
    fn refusal(&self, named: &Named, chosen: &[Named], local: bool) -> Option<String> {
        let protected = match self.enable_protected_configs {
            Permission::Yes => false,
            Permission::No => true,
            Permission::Local => !local,
        };
        match named.directive.mutability {
            Mutability::Immutable => return Some("can't set immutable config".to_owned()),
            Mutability::Protected if protected => {
                return Some("can't set protected config".to_owned());
            }
            Mutability::Protected | Mutability::Runtime => {}
        }
        let twice = chosen.iter().any(|other| other.name == named.name);
        twice.then(|| "duplicate parameter".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Vec<String> {
        Config::default().get(patterns).into_iter().map(|(name, _)| name).collect()
    }

    fn value(config: &Config, name: &str) -> String {
        let found = config.get(&[name]);
        String::from_utf8(found[0].1.clone()).unwrap()
    }

    fn set(pairs: &[&str]) -> Result<Config, String> {
        Config::default().set(pairs, true).map_err(|error| error.to_string())
    }

    #[test]
    fn get_matches_names_older_names_and_patterns_once_each() {
        assert_eq!(names(&["MAXMEMORY"]), ["MAXMEMORY"]);
        assert_eq!(names(&["hz", "hz", "HZ"]), ["hz", "HZ"]);
        assert_eq!(names(&["*-priority"]), ["replica-priority", "slave-priority"]);
        assert_eq!(names(&["slave-priority"]), ["slave-priority"]);
        assert_eq!(names(&["key-load-delay"]), ["key-load-delay"]);
        assert_eq!(names(&["key-load*", "nothing"]), Vec::<String>::new());
        assert!(names(&["*"]).len() > 190);
    }

    #[test]
    fn set_shows_what_get_gives_back() {
        for (name, given, shown) in [
            ("maxmemory", "10k", "10000"),
            ("maxmemory", "18446744073709551615", "18446744073709551615"),
            ("maxmemory-clients", "50%", "50%"),
            ("save", "3600 1 300 100", "3600 1 300 100"),
            ("save", "", ""),
            ("hz", "501", "500"),
            ("hz", "0", "1"),
            ("notify-keyspace-events", "KEA", "AKE"),
            ("shutdown-on-sigint", "nosave now", "nosave now"),
            ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
            ("latency-tracking-info-percentiles", "50 0.1 99.99999 100", "50 0.1 99.99999 100"),
            ("latency-tracking-info-percentiles", "", ""),
            ("slave-priority", "7", "7"),
            ("maxmemory-policy", "ALLKEYS-LRU", "allkeys-lru"),
            ("oom-score-adj", "relative", "yes"),
            (
                "client-output-buffer-limit",
                "normal 1 2 3 replica 1mb 2mb 60",
                "normal 1 2 3 slave 1048576 2097152 60 pubsub 33554432 8388608 60",
            ),
        ] {
            assert_eq!(value(&set(&[name, given]).unwrap(), name), shown, "{name}");
        }
    }

    #[test]
    fn refusals_have_the_words_of_redis() {
        let failed = "ERR CONFIG SET failed (possibly related to argument";
        for (pairs, expected) in [
            (&["a"][..], "ERR syntax error".to_owned()),
            (
                &["hz", "1", "foo", "2"],
                "ERR Unknown option or number of arguments for CONFIG SET - 'foo'".to_owned(),
            ),
            (
                &["port", "x", "FOO", "2"],
                "ERR Unknown option or number of arguments for CONFIG SET - 'FOO'".to_owned(),
            ),
            (&["hz", "1", "HZ", "2"], format!("{failed} 'hz') - duplicate parameter")),
            (
                &["hz", "1", "port", "abc"],
                format!("{failed} 'port') - argument couldn't be parsed into an integer"),
            ),
            (&["daemonize", "yes"], format!("{failed} 'daemonize') - can't set immutable config")),
            (&["dir", "/"], format!("{failed} 'dir') - can't set protected config")),
            (
                &["MAXMEMORY", "x"],
                format!("{failed} 'maxmemory') - argument must be a memory value"),
            ),
            (
                &["slave-priority", "-1"],
                format!(
                    "{failed} 'slave-priority') - argument must be between 0 and 2147483647 inclusive"
                ),
            ),
            (
                &["appendonly", "si"],
                format!("{failed} 'appendonly') - argument must be 'yes' or 'no'"),
            ),
            (
                &["loglevel", "zz"],
                format!(
                    "{failed} 'loglevel') - argument(s) must be one of the following: debug, verbose, notice, warning"
                ),
            ),
            (
                &["maxmemory-clients", "101%"],
                format!(
                    "{failed} 'maxmemory-clients') - percentage argument must be less or equal to 100"
                ),
            ),
            (&["save", "3600 1 300"], format!("{failed} 'save') - Invalid save parameters")),
            (&["save", "0 1"], format!("{failed} 'save') - Invalid save parameters")),
            (
                &["client-output-buffer-limit", "zz"],
                format!(
                    "{failed} 'client-output-buffer-limit') - Wrong number of arguments in buffer limit configuration."
                ),
            ),
            (
                &["client-output-buffer-limit", "master 1 2 3"],
                format!(
                    "{failed} 'client-output-buffer-limit') - Invalid client class specified in buffer limit configuration."
                ),
            ),
            (
                &["client-output-buffer-limit", "normal 1 2 x"],
                format!(
                    "{failed} 'client-output-buffer-limit') - Error in hard, soft or soft_seconds setting in buffer limit configuration."
                ),
            ),
            (
                &["oom-score-adj-values", "0 200 8000"],
                format!(
                    "{failed} 'oom-score-adj-values') - Invalid oom-score-adj-values, elements must be between -2000 and 2000."
                ),
            ),
            (
                &["latency-tracking-info-percentiles", "150"],
                format!(
                    "{failed} 'latency-tracking-info-percentiles') - latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                ),
            ),
            (
                &["shutdown-on-sigint", "save nosave"],
                format!(
                    "{failed} 'shutdown-on-sigint') - shutdown options SAVE and NOSAVE can't be used simultaneously"
                ),
            ),
            (
                &["cluster-announce-hostname", "a!b"],
                format!(
                    "{failed} 'cluster-announce-hostname') - Hostnames may only contain alphanumeric characters, hyphens or dots"
                ),
            ),
            (
                &["proc-title-template", "{x}"],
                format!(
                    "{failed} 'proc-title-template') - template format is invalid or contains unknown variables"
                ),
            ),
        ] {
            assert_eq!(set(pairs).unwrap_err(), expected);
        }
    }

    #[test]
    fn protected_directives_obey_enable_protected_configs() {
        for (permission, local, allowed) in [
            (Permission::Yes, false, true),
            (Permission::Local, true, true),
            (Permission::Local, false, false),
            (Permission::No, true, false),
        ] {
            let config = Config { enable_protected_configs: permission, ..Config::default() };
            let set = config.set(&["dbfilename", "x.rdb"], local);
            assert_eq!(set.is_ok(), allowed, "{permission:?} {local}");
        }
        let open = Config { enable_protected_configs: Permission::Yes, ..Config::default() };
        for (pair, reason) in [
            (["dbfilename", "a/b"], "dbfilename can't be a path, just a filename"),
            (["dir", "/nonexistent"], "No such file or directory"),
        ] {
            let error = open.set(&pair, false).unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }

    #[test]
    fn both_names_of_a_directive_may_be_set_at_once() {
        let config = set(&["replica-priority", "1", "slave-priority", "2"]).unwrap();
        assert_eq!(config.replica_priority, 2);
    }
}
