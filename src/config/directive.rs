//! What one row of the directive table says, and the macro that turns rows into [`Config`].
//!
//! Why a macro: a row gives a field its type, default, documentation and both directions of its
//! text at once, so no directive can be readable but not settable, or documented but not stored.

use super::table::Config;

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// CONFIG SET may change it.
    Runtime,
    /// Only while `enable-protected-configs` allows it (Redis 7.0 `config.c`, PROTECTED_CONFIG).
    Protected,
    /// Fixed at start.
    Immutable,
}

/// How the words of a directive become its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one word.
    One,
    /// Any number of words; CONFIG SET gives them as one word to be split at spaces.
    Many,
}

/// One directive.
pub struct Directive {
    /// Its name, as CONFIG REWRITE writes it.
    pub name: &'static str,
    /// The name that it had in earlier versions of Redis; still accepted everywhere.
    pub alias: Option<&'static str>,
    /// When it may change.
    pub mutability: Mutability,
    /// How many words its value has.
    pub arity: Arity,
    /// Left out of CONFIG GET with a pattern: a switch for tests.
    pub hidden: bool,
    /// One line for `--help`.
    pub help: &'static str,
    pub(super) render: fn(&Config) -> Vec<u8>,
    pub(super) parse: fn(&mut Config, &[Vec<u8>]) -> Result<(), String>,
    pub(super) lines: fn(&Config) -> Vec<Vec<u8>>,
}

impl Directive {
    /// The value as CONFIG GET shows it.
    pub fn render(&self, config: &Config) -> Vec<u8> {
        (self.render)(config)
    }

    /// Stores the value that `words` spell, or says what is wrong with them.
    pub fn store(&self, config: &mut Config, words: &[Vec<u8>]) -> Result<(), String> {
        match (self.arity, words) {
            (Arity::One, [_]) => (self.parse)(config, words),
            (Arity::One, _) => Err("wrong number of arguments".to_owned()),
            // One word for a directive of many is a list in quotes: `save "3600 1 300 100"`.
            (Arity::Many, [list]) => (self.parse)(config, &split_at_spaces(list)),
            (Arity::Many, _) => (self.parse)(config, words),
        }
    }

    /// The values of the lines that CONFIG REWRITE writes for this directive.
    pub fn file_lines(&self, config: &Config) -> Vec<Vec<u8>> {
        (self.lines)(config)
    }
}

/// Splits at every single space; two spaces leave an empty word between them, as in Redis, and the
/// empty text has no word at all.
fn split_at_spaces(list: &[u8]) -> Vec<Vec<u8>> {
    match list {
        [] => Vec::new(),
        _ => list.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect(),
    }
}

/// Declares `Config` and `DIRECTIVES` from rows of
/// `field: Type, kind, default, MUTABILITY, "name" | "alias", "help";`
macro_rules! directives {
    ($($field:ident: $type:ty, $kind:expr, $default:expr, $flags:expr,
       $name:literal $(| $alias:literal)?, $help:literal;)*) => {
        /// The settings of one server. Each field is the directive of the same name.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $help] pub $field: $type,)*
            /// What the configuration file holds besides directives.
            pub extras: super::values::Extras,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)* extras: super::values::Extras::default() }
            }
        }

        /// Every directive, in the order of `--help`.
        pub static DIRECTIVES: &[super::directive::Directive] = &[$(
            super::directive::Directive {
                name: $name,
                alias: directives!(@alias $($alias)?),
                mutability: $flags.mutability,
                arity: $flags.arity,
                hidden: $flags.hidden,
                help: $help,
                render: |config| super::kind::Kind::<$type>::render(&$kind, &config.$field),
                parse: |config, words| {
                    let value = super::kind::Kind::<$type>::parse(&$kind, &config.$field, words)?;
                    config.$field = value;
                    Ok(())
                },
                lines: |config| super::kind::Kind::<$type>::file_lines(&$kind, &config.$field),
            },
        )*];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
}
pub(super) use directives;

/// The last columns of a row in one word.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub mutability: Mutability,
    pub arity: Arity,
    pub hidden: bool,
}

pub(super) const RUNTIME: Flags =
    Flags { mutability: Mutability::Runtime, arity: Arity::One, hidden: false };
pub(super) const PROTECTED: Flags = Flags { mutability: Mutability::Protected, ..RUNTIME };
pub(super) const IMMUTABLE: Flags = Flags { mutability: Mutability::Immutable, ..RUNTIME };
pub(super) const HIDDEN: Flags = Flags { hidden: true, ..RUNTIME };
pub(super) const RUNTIME_LIST: Flags = Flags { arity: Arity::Many, ..RUNTIME };
pub(super) const IMMUTABLE_LIST: Flags = Flags { arity: Arity::Many, ..IMMUTABLE };
