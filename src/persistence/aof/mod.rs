//! Append-only files: Redis 7's directory of a base, increments and a manifest.
//!
//! [`manifest`] is the list of the files, [`directory`] decides what happens to them in every event of their
//! life, as steps that [`disk`] carries out; [`record`] finds the borders of records while a file is
//! loaded; [`resp_base`] writes values down as the commands that make them; [`check_aof`] is
//! `corelane check-aof`; [`trigger`] says when a rewrite begins by itself.
//!
//! Promise: whatever step a crash comes after, the directory loads, and holds every record that was
//! synchronised.

pub mod check_aof;
pub mod directory;
pub mod disk;
pub mod manifest;
pub mod record;
pub mod resp_base;
pub mod resp_stream;
pub mod trigger;
pub mod writer;

pub use directory::{Change, Directory, FileAt, Place, Standing, Step, Turn};
pub use disk::Disk;
pub use manifest::{AofFile, FileKind, Manifest, ManifestError, Names};
pub use record::{End, Found, RecordReader};
pub use writer::{AofWriter, Changed, Event, Job};
