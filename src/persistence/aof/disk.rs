//! The steps of a [`Change`] on a real disk.
//!
//! These calls block, up to the time that a disk takes to synchronise: a core that serves hands them to a thread
//! that may wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::directory::{Change, FileAt, Place, Standing, Step};
use super::manifest::Names;

/// Where the two places are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    data: PathBuf,
    append: PathBuf,
}

/// What [`Directory::open`](super::Directory::open) is told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    manifest: Option<Vec<u8>>,
    has_old_file: bool,
    has_moved_file: bool,
}

impl Found {
    /// The same, lent.
    pub fn standing(&self) -> Standing<'_> {
        Standing {
            manifest: self.manifest.as_deref(),
            has_old_file: self.has_old_file,
            has_moved_file: self.has_moved_file,
        }
    }
}

impl Disk {
    /// `dir` and `appenddirname`.
    pub fn new(dir: &Path, appenddirname: &str) -> Self {
        Self { data: dir.to_owned(), append: dir.join(appenddirname) }
    }

    /// Where `file` is.
    pub fn path(&self, file: &FileAt) -> PathBuf {
        self.place(file.place).join(&file.name)
    }

    fn place(&self, place: Place) -> &Path {
        match place {
            Place::Data => &self.data,
            Place::Append => &self.append,
        }
    }

    /// Looks at what is there.
    pub fn look(&self, appendfilename: &str) -> io::Result<Found> {
        let names = Names::new(appendfilename);
        let manifest = match fs::read(self.append.join(names.manifest())) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let has_old_file = self.data.join(names.old_file()).is_file();
        let has_moved_file = self.append.join(names.old_file()).is_file();
        Ok(Found { manifest, has_old_file, has_moved_file })
    }

    /// Carries all steps out. If one fails it undoes what was done, as far as that works.
    pub fn carry_out(&self, change: &Change) -> io::Result<()> {
        let outcome = change.steps.iter().try_for_each(|step| self.step(step));
        if outcome.is_err() {
            // The error to report is the first one; what cannot be undone is safe to leave.
            _ = change.undo.iter().try_for_each(|step| self.step(step));
        }
        outcome
    }

    fn step(&self, step: &Step) -> io::Result<()> {
        match step {
            Step::MakeDir => match fs::create_dir(&self.append) {
                Ok(()) => File::open(&self.data)?.sync_all(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            },
            Step::Write(file, bytes) => {
                let mut file = File::create(self.path(file))?;
                file.write_all(bytes)?;
                file.sync_all()
            }
            Step::Sync(file) => File::open(self.path(file))?.sync_data(),
            Step::Create(file) => File::create(self.path(file)).map(drop),
            Step::Rename(from, to) => fs::rename(self.path(from), self.path(to)),
            Step::Unlink(file) => match fs::remove_file(self.path(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Step::SyncDir(place) => File::open(self.place(*place))?.sync_all(),
        }
    }

    /// Opens a file of the directory to append to it.
    pub fn open(&self, file: &FileAt) -> io::Result<File> {
        OpenOptions::new().append(true).open(self.path(file))
    }
}
