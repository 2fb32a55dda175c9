//! What happens to the files of the append-only directory in each event of their life.
//!
//! [`Directory`] decides and touches no disk: an event gives a [`Change`], steps that a driver carries out one
//! after the other. When all are done the driver commits the change; when one fails it carries out what undoes
//! it and abandons the change, and the directory is what it was. So every order of crashes and faults can be tried on a
//! model of a disk, and is, in the tests beside this.
//!
//! The order of steps is what keeps data: a file is on the disk before a manifest lists it, and
//! listed nowhere before it is deleted. A manifest replaces another in one step.
//!
//! Promise: whatever step a crash comes after, the files that the manifest lists are those of before or those of
//! after the change, and both hold every write that was synchronised.

use std::ffi::OsString;

use super::manifest::{AofFile, BaseFormat, Manifest, ManifestError, Names};

/// Where a file is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// In `dir`.
    Data,
    /// In `appenddirname` within it.
    Append,
}

/// A file by its place and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileAt {
    /// Where it is.
    pub place: Place,
    /// What it is called there.
    pub name: OsString,
}

impl FileAt {
    fn data(name: OsString) -> Self {
        Self { place: Place::Data, name }
    }

    fn append(name: OsString) -> Self {
        Self { place: Place::Append, name }
    }
}

/// One thing to do on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Make the append-only directory unless it is there.
    MakeDir,
    /// Make the file with this content, in place of another if there is one, and synchronise it.
    Write(FileAt, Vec<u8>),
    /// Synchronise what a file holds.
    Sync(FileAt),
    /// Make an empty file, or empty the one that is there.
    Create(FileAt),
    /// Move a file, over another if there is one.
    Rename(FileAt, FileAt),
    /// Delete a file. That it is not there is no failure.
    Unlink(FileAt),
    /// Synchronise what files a directory has.
    SyncDir(Place),
}

/// What an event asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// To be done in this order.
    pub steps: Vec<Step>,
    /// To be done if one of the steps fails, up to the first that fails too: a file is only deleted when
    /// the manifest that lists it is gone for sure.
    pub undo: Vec<Step>,
    /// The file to write to from then on, if that is another one than before.
    pub opens: Option<FileAt>,
    after: Directory,
}

impl Change {
    fn new(steps: Vec<Step>, undo: Vec<Step>, after: Directory) -> Self {
        Self { steps, undo, opens: None, after }
    }

    fn opening(steps: Vec<Step>, undo: Vec<Step>, after: Directory) -> Self {
        Self { steps, undo, opens: after.sink().cloned(), after }
    }
}

/// Where the writes of this process go.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// Nowhere.
    Off,
    /// To a file that the manifest does not list yet, until there is a base for it.
    AwaitsBase(FileAt),
    /// To the last increment.
    On(FileAt),
}

/// An event in the life of the directory, as the methods of [`Directory`] describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The data is loaded; `.1` is a base without any.
    Begin(BaseFormat, Vec<u8>),
    /// AOF is switched on.
    SwitchOn,
    /// AOF is switched off.
    SwitchOff,
    /// The stream is cut for a base.
    RewriteBegins,
    /// The base of this name in `dir` is whole.
    Rewritten(String, BaseFormat),
    /// It never will be.
    RewriteFailed(String),
    /// What was replaced is deleted.
    CleanUp,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    names: Names,
    manifest: Manifest,
    state: State,
}

/// What stands in the directories at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing<'a> {
    /// The content of the manifest, if there is one.
    pub manifest: Option<&'a [u8]>,
    /// `dir` has a file called `appendfilename`.
    pub has_old_file: bool,
    /// So has the append-only directory.
    pub has_moved_file: bool,
}

impl Directory {
    /// The directory at the start of the process, before anything is loaded.
    pub fn open(appendfilename: &str, standing: &Standing<'_>) -> Result<Self, ManifestError> {
        let manifest =
            standing.manifest.map_or_else(|| Ok(Manifest::default()), Manifest::parse)?;
        Ok(Self { names: Names::new(appendfilename), manifest, state: State::Off })
    }

    /// What is to be done before loading: the single file of Redis before 7.0 becomes the base, unless there
    /// are newer ones. A crash between the steps leaves a manifest whose only file is still outside; that is
    /// taken up where it stopped.
    pub fn upgrade(&self, standing: &Standing<'_>) -> Option<Change> {
        let is_half_done = self.manifest.incrs().is_empty()
            && !standing.has_moved_file
            && self.manifest.base().is_some_and(|base| base.name == self.names.old_file());
        if !standing.has_old_file || !(self.manifest.is_empty() || is_half_done) {
            return None;
        }
        let mut after = self.clone();
        after.manifest.adopt(&self.names);
        let mut steps = vec![Step::MakeDir];
        steps.extend(after.write_manifest());
        let (from, to) = (self.names.old_file(), self.names.old_file());
        steps.push(Step::Rename(FileAt::data(from), FileAt::append(to)));
        steps.extend([Step::SyncDir(Place::Append), Step::SyncDir(Place::Data)]);
        Some(Change::new(steps, Vec::new(), after))
    }

    /// What is loaded, in order.
    pub fn to_load(&self) -> impl Iterator<Item = &AofFile> {
        self.manifest.to_load()
    }

    /// The file that writes go to.
    pub fn sink(&self) -> Option<&FileAt> {
        match &self.state {
            State::Off => None,
            State::AwaitsBase(file) | State::On(file) => Some(file),
        }
    }

    /// Whether writes go to a file that is not loaded before a rewrite is done.
    pub fn awaits_base(&self) -> bool {
        matches!(self.state, State::AwaitsBase(_))
    }

    /// The data is loaded, or there was none: writes go to the last increment from now on. Without any file a base
    /// is made that holds `empty_base`, the data as it is, namely none.
    pub fn begin(&self, format: BaseFormat, empty_base: &[u8]) -> Change {
        let mut after = self.clone();
        let mut steps = vec![Step::MakeDir];
        // A process that was killed may have left what no disk has yet: in files that nobody will write to
        // again, and a manifest that was put in its place.
        steps.extend(self.to_load().map(|file| Step::Sync(FileAt::append(file.name.clone()))));
        steps.push(Step::SyncDir(Place::Append));
        if self.manifest.is_empty() {
            let base = after.manifest.next_base(&self.names, format);
            steps.push(Step::Write(FileAt::append(base), empty_base.to_vec()));
        }
        let incr = match self.manifest.incrs().last() {
            Some(last) => FileAt::append(last.name.clone()),
            None => {
                // Whatever a file of this name holds is not what was loaded.
                let incr = FileAt::append(after.manifest.next_incr(&self.names));
                steps.push(Step::Create(incr.clone()));
                incr
            }
        };
        if after.manifest != self.manifest {
            steps.extend(after.write_manifest());
        }
        after.state = State::On(incr);
        Change::opening(steps, Vec::new(), after)
    }

    /// AOF is switched on in a running process: writes go to a file of their own until there is a base. A rewrite
    /// under way, which knows no such file, has been given up. It is followed by [`Directory::rewritten`] or [`Directory::switch_off`].
    pub fn switch_on(&self) -> Change {
        debug_assert_eq!(self.state, State::Off, "it is switched on once");
        let mut after = self.clone();
        let temp = FileAt::append(self.names.temp_incr());
        let steps = vec![Step::MakeDir, Step::Create(temp.clone())];
        after.state = State::AwaitsBase(temp.clone());
        Change::opening(steps, vec![Step::Unlink(temp)], after)
    }

    /// AOF is switched off, and what was written stays. The driver has synchronised it.
    pub fn switch_off(&self) -> Change {
        let steps = match &self.state {
            State::AwaitsBase(temp) => vec![Step::Unlink(temp.clone())],
            State::Off | State::On(_) => Vec::new(),
        };
        Change::new(steps, Vec::new(), Self { state: State::Off, ..self.clone() })
    }

    /// A rewrite begins: writes from the cut on go to an increment of their own. The driver has written those
    /// before the cut to the file before and synchronised it: a loss at the end of one file must not be
    /// followed by what the next one holds. While the first base is being made, the file for the writes
    /// after it begins anew.
    pub fn rewrite_begins(&self) -> Change {
        let mut after = self.clone();
        match &self.state {
            State::Off => Change::new(vec![Step::MakeDir], Vec::new(), after),
            State::AwaitsBase(temp) => {
                Change::opening(vec![Step::Create(temp.clone())], Vec::new(), after)
            }
            State::On(_) => {
                let incr = FileAt::append(after.manifest.next_incr(&self.names));
                let mut steps = vec![Step::Create(incr.clone())];
                steps.extend(after.write_manifest());
                // The manifest of before is written again: nobody knows which of the two is on the disk.
                let mut undo = self.write_manifest();
                undo.push(Step::Unlink(incr.clone()));
                after.state = State::On(incr);
                Change::opening(steps, undo, after)
            }
        }
    }

    /// The base is written and synchronised, as `temp` in `dir`: it takes the place of all files before the cut.
    pub fn rewritten(&self, temp: &str, format: BaseFormat) -> Change {
        let mut after = self.clone();
        let temp = FileAt::data(temp.into());
        let base = FileAt::append(after.manifest.next_base(&self.names, format));
        let mut steps = vec![Step::Rename(temp.clone(), base.clone())];
        let mut undo = self.write_manifest();
        undo.extend([Step::Unlink(base), Step::Unlink(temp)]);
        match &self.state {
            // Nothing is written any more: the base replaces all there is.
            State::Off => after.manifest.retire_incrs(0),
            State::On(_) => after.manifest.retire_incrs(1),
            State::AwaitsBase(incr) => {
                let name = FileAt::append(after.manifest.next_incr(&self.names));
                steps.push(Step::Rename(incr.clone(), name.clone()));
                undo.push(Step::Rename(name.clone(), incr.clone()));
                after.state = State::On(name);
                after.manifest.retire_incrs(1);
            }
        }
        steps.extend(after.write_manifest());
        Change::new(steps, undo, after)
    }

    /// The rewrite that made `temp` in `dir` is given up. All increments stay.
    pub fn rewrite_failed(&self, temp: &str) -> Change {
        let steps = vec![Step::Unlink(FileAt::data(temp.into()))];
        Change::new(steps, Vec::new(), self.clone())
    }

    /// What rewrites have replaced is deleted, if there is any (not with `aof-disable-auto-gc`).
    pub fn clean_up(&self) -> Option<Change> {
        if self.manifest.history().is_empty() {
            return None;
        }
        let mut after = self.clone();
        after.manifest.forget_history();
        let history = self.manifest.history().iter();
        let mut steps: Vec<_> =
            history.map(|file| Step::Unlink(FileAt::append(file.name.clone()))).collect();
        steps.extend(after.write_manifest());
        Some(Change::new(steps, Vec::new(), after))
    }

    /// Whether there is something to clean up.
    pub fn has_history(&self) -> bool {
        !self.manifest.history().is_empty()
    }

    /// What is to be done now that this has come; nothing if there is nothing to do.
    pub fn change_for(&self, turn: &Turn) -> Option<Change> {
        match turn {
            Turn::Begin(format, empty_base) => Some(self.begin(*format, empty_base)),
            Turn::SwitchOn => Some(self.switch_on()),
            Turn::SwitchOff => Some(self.switch_off()),
            Turn::RewriteBegins => Some(self.rewrite_begins()),
            Turn::Rewritten(temp, format) => Some(self.rewritten(temp, *format)),
            Turn::RewriteFailed(temp) => Some(self.rewrite_failed(temp)),
            Turn::CleanUp => self.clean_up(),
        }
    }

    /// All steps of the change are done.
    pub fn commit(&mut self, change: Change) {
        *self = change.after;
    }

    /// A step of the change has failed. Which manifest is on the disk, that of before or that of after, nobody knows
    /// for sure: names that stand in either must not be given to other files, so their numbers are used up.
    pub fn abandon(&mut self, change: &Change) {
        self.manifest.use_up_numbers(&change.after.manifest);
    }

    fn write_manifest(&self) -> Vec<Step> {
        let temp = FileAt::append(self.names.temp_manifest());
        let manifest = FileAt::append(self.names.manifest());
        vec![
            Step::Write(temp.clone(), self.manifest.to_text()),
            Step::Rename(temp, manifest),
            Step::SyncDir(Place::Append),
        ]
    }
}

#[cfg(test)]
mod tests;
