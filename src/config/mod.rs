//! What the operator asked for: every directive of Redis 7.0 and Corelane's own.
//!
//! A directive is one row of [`table`]: its field in [`Config`], how its text is read and written,
//! its default, whether it may change while the server runs. The command line, the configuration
//! file, CONFIG GET/SET/REWRITE and `--help` are all computed from that row, so they cannot disagree.
//!
//! Promise: a [`Config`] is a plain value. Nothing here keeps state, so a shard can hold an
//! `Arc<Config>` and CONFIG SET makes a new one ([`Config::set`]) that is sent to all of them.

mod directive;
pub mod file;
pub mod get_set;
mod kind;
pub mod load;
pub mod quoting;
pub mod rewrite;
mod table;
pub mod values;

pub use directive::{Directive, Mutability};
pub use get_set::SetError;
pub use kind::parse_memory;
pub use load::{Invocation, LoadError};
pub use table::{Config, DIRECTIVES, directive_named};
