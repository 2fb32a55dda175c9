//! nodes.conf on the disk: this process alone has it, and it is whole at every moment.
//!
//! Redis writes the file in place and locks it. A crash in the middle of that leaves a file that no node starts
//! with, so here a new file takes the place of the old one; the lock goes with it, for whoever opens the
//! path finds either the old file, which is locked, or the new one, which was locked before it got there.
//!
//! These calls block for as long as the disk takes: nothing that was decided may be told before.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why nodes.conf cannot be used.
#[derive(Debug)]
pub(super) enum ConfError {
    /// Another process has it.
    Locked,
    /// The system says no.
    System(io::Error),
}

impl From<io::Error> for ConfError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// See the module.
pub(super) struct ConfFile {
    path: PathBuf,
    /// Keeps the lock.
    file: File,
}

impl ConfFile {
    /// Takes the file, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, ConfError> {
        let path = std::path::absolute(path)?;
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
            lock(&file)?;
            // Between opening and locking, its owner may have put a new file in its place and ended.
            let (ours, there) = (file.metadata()?, fs::metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, file });
            }
        }
    }

    /// What is in it.
    pub(super) fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Puts a file with this content in its place; with `sync`, for good.
    pub(super) fn write(&mut self, text: &str, sync: bool) -> Result<(), ConfError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".tmp");
        let new = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).open(&new)?;
        lock(&file)?;
        file.write_all(text.as_bytes())?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&new, &self.path)?;
        if sync && let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.file = file;
        Ok(())
    }
}

fn lock(file: &File) -> Result<(), ConfError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ConfError::Locked),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_and_locked_before_and_after_it_is_replaced() {
        let name = format!("corelane-nodes-{}.conf", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut conf = ConfFile::open(&path).unwrap();
        assert_eq!(conf.read().unwrap(), "");
        assert!(matches!(ConfFile::open(&path), Err(ConfError::Locked)));
        for (text, sync) in [("one", true), ("a longer one", false), ("two", true)] {
            conf.write(text, sync).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(matches!(ConfFile::open(&path), Err(ConfError::Locked)), "{text}");
        }
        drop(conf);
        assert_eq!(ConfFile::open(&path).unwrap().read().unwrap(), "two");
        fs::remove_file(&path).unwrap();
    }
}
