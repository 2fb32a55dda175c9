//! The task that writes append-only files.
//!
//! It does one thing after the other, in the order in which it was told: so what is appended after a change of the
//! directory goes to the file that the change has opened. What has come meanwhile is written in one go, which
//! makes `appendfsync always` a group commit. Those whose replies leave with a commit come back within moments; were
//! the first of them committed alone, all others would wait for a commit of little and then for their own. So a
//! commit that is much smaller than the one before waits for the others, no longer than a commit takes.
//!
//! The [`Directory`] is the task's, for what a change does depends on whether those before it were made: a base
//! that is whole takes the place of the files before its cut only if the cut was made.
//!
//! A write that fails is taken back: the file ends with whole units then. Its bytes are kept, and tried
//! again with whatever comes next.
//!
//! Promise: bytes reach the disk in order; [`Event::Durable`] is only told of what is there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::GlommioError;
use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::io::{BufferedFile, OpenOptions};
use glommio::timer::try_timeout;

use super::directory::{Change, Directory, Turn};
use super::disk::Disk;
use crate::journal::Stamp;
use crate::lanes::Doorbell;

/// What is to be done.
pub enum Job {
    /// Append this; it is everything up to the stamp.
    Append {
        /// The bytes.
        bytes: Vec<u8>,
        /// Up to where they are everything.
        stamp: Stamp,
        /// As how many they are counted.
        counted: usize,
    },
    /// Bring what was appended to the disk.
    Synchronise,
    /// As [`Job::Synchronise`], and somebody waits for it.
    Commit,
    /// Change the directory; what was appended is on the disk before.
    Change(u64, Turn),
    /// Nothing is written any more.
    Close,
}

/// The longest that a commit waits for more to commit.
const GATHER_TIME_MAX: Duration = Duration::from_millis(2);

/// A commit, as far as it tells what the next one may be.
#[derive(Clone, Copy, Default, Debug)]
struct Commit {
    /// How long the disk took.
    time: Duration,
    /// Bytes that it had,
    bytes: usize,
    /// and how many appends they were.
    appends: usize,
}

impl Commit {
    /// What `jobs` will commit, if that is all they do.
    fn of(jobs: &VecDeque<Job>) -> Option<Self> {
        let mut commit = Self::default();
        let mut is_wanted = false;
        for job in jobs {
            match job {
                Job::Append { bytes, .. } if bytes.is_empty() => {}
                Job::Append { bytes, .. } => {
                    commit.bytes += bytes.len();
                    commit.appends += 1;
                }
                Job::Commit => is_wanted = true,
                Job::Synchronise => {}
                Job::Change(..) | Job::Close => return None,
            }
        }
        Some(commit).filter(|_| is_wanted)
    }

    /// Whether most of those who have made the commit before are still missing. Who commits alone has nobody to
    /// wait for.
    fn lacks_others(&self, before: &Commit) -> bool {
        before.appends > 1 && self.bytes < before.bytes / 4 * 3
    }
}

/// What was done.
#[derive(Debug)]
pub enum Event {
    /// All up to a stamp was written.
    Written {
        /// Up to which.
        stamp: Stamp,
        /// As how many bytes it counts.
        counted: usize,
        /// The length of the file now.
        end: u64,
    },
    /// Everything up to this stamp is on the disk.
    Durable(Stamp),
    /// Writing has failed, or works again.
    Writes(Result<(), String>),
    /// Synchronising has failed.
    NotSynchronised(String),
    /// A change of the directory was made, or not.
    Changed(Box<Changed>),
}

/// What became of a change.
#[derive(Debug)]
pub struct Changed {
    /// The number that it was given with.
    pub number: u64,
    /// Why it was not made.
    pub result: Result<(), String>,
    /// The directory from then on.
    pub directory: Directory,
    /// The length of the file that is written to.
    pub end: u64,
}

#[derive(Default)]
struct Shared {
    jobs: RefCell<VecDeque<Job>>,
    events: RefCell<VecDeque<Event>>,
    /// Since when the disk is being waited for.
    synchronises_since: Cell<Option<Instant>>,
}

/// The way to the task.
pub struct AofWriter {
    shared: Rc<Shared>,
    wake: LocalSender<()>,
}

impl AofWriter {
    /// Starts the task in the executor that this runs in. Whenever something has happened `doorbell` is rung, once:
    /// who sleeps there is of the same thread, and looks for all events when it wakes.
    pub fn start(disk: Disk, directory: Directory, doorbell: Arc<Doorbell>) -> Self {
        let shared = Rc::new(Shared::default());
        let (wake, woken) = local_channel::new_unbounded();
        let task = Task {
            disk,
            directory,
            is_cut: false,
            shared: Rc::clone(&shared),
            doorbell,
            file: None,
            end: 0,
            unwritten: Vec::new(),
            unwritten_stamp: Stamp::default(),
            counted: 0,
            written: Stamp::default(),
            durable: Stamp::default(),
            is_failing: false,
            last: Commit::default(),
        };
        glommio::spawn_local(task.run(woken)).detach();
        Self { shared, wake }
    }

    /// Something is to be done, after everything else.
    pub fn give(&self, job: Job) {
        let mut jobs = self.shared.jobs.borrow_mut();
        if jobs.is_empty() {
            // The task listens as long as there is somebody to tell it something.
            _ = self.wake.try_send(());
        }
        jobs.push_back(job);
    }

    /// Since when what was written is being synchronised, if it is; what comes meanwhile is written afterwards.
    pub fn synchronises_since(&self) -> Option<Instant> {
        self.shared.synchronises_since.get()
    }

    /// What has been done, if that was not told yet.
    pub fn event(&self) -> Option<Event> {
        self.shared.events.borrow_mut().pop_front()
    }
}

struct Task {
    disk: Disk,
    directory: Directory,
    /// What is written now goes behind the base that is being made.
    is_cut: bool,
    shared: Rc<Shared>,
    doorbell: Arc<Doorbell>,
    file: Option<BufferedFile>,
    /// Bytes of the file that are good.
    end: u64,
    unwritten: Vec<u8>,
    unwritten_stamp: Stamp,
    /// As how much what is unwritten is counted.
    counted: usize,
    written: Stamp,
    durable: Stamp,
    is_failing: bool,
    /// The commit before.
    last: Commit,
}

impl Task {
    async fn run(mut self, woken: LocalReceiver<()>) {
        while woken.recv().await.is_some() {
            loop {
                let mut jobs = self.shared.jobs.take();
                if jobs.is_empty() {
                    break;
                }
                self.gather(&mut jobs, &woken).await;
                let commit = Commit::of(&jobs);
                self.work(jobs).await;
                if let Some(commit) = commit {
                    self.last = Commit { time: self.last.time, ..commit };
                }
            }
        }
        self.close().await;
    }

    /// Lets those come who were committed together the last time.
    async fn gather(&self, jobs: &mut VecDeque<Job>, woken: &LocalReceiver<()>) {
        let deadline = Instant::now() + self.last.time.min(GATHER_TIME_MAX);
        while Commit::of(jobs).is_some_and(|commit| commit.lacks_others(&self.last)) {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = async { Ok::<_, GlommioError<()>>(woken.recv().await) };
            if left.is_zero() || !matches!(try_timeout(left, more).await, Ok(Some(()))) {
                return;
            }
            jobs.append(&mut self.shared.jobs.take());
        }
    }

    async fn work(&mut self, jobs: VecDeque<Job>) {
        let mut synchronises = false;
        for job in jobs {
            match job {
                Job::Append { bytes, stamp, counted } => {
                    self.counted += counted;
                    match self.unwritten.is_empty() {
                        true => self.unwritten = bytes,
                        false => self.unwritten.extend_from_slice(&bytes),
                    }
                    self.unwritten_stamp = stamp;
                }
                Job::Synchronise | Job::Commit => synchronises = true,
                Job::Change(number, turn) => {
                    self.write().await;
                    let result = self.change(&turn).await;
                    let result = result.map_err(|error| words_of(&error));
                    let (directory, end) = (self.directory.clone(), self.end);
                    self.tell(Event::Changed(Box::new(Changed { number, result, directory, end })));
                }
                Job::Close => {
                    self.write().await;
                    self.close().await;
                }
            }
        }
        self.write().await;
        if synchronises {
            self.synchronise().await;
        }
    }

    async fn write(&mut self) {
        let Some(file) = self.file.as_ref() else {
            // Nobody wants it: it was appended before the file was closed for good.
            self.written = self.unwritten_stamp;
            self.unwritten.clear();
            return self.tell_written();
        };
        if self.unwritten.is_empty() {
            self.written = self.unwritten_stamp;
            return;
        }
        let bytes = std::mem::take(&mut self.unwritten);
        let length = bytes.len();
        let result = file.write_at(bytes.clone(), self.end).await;
        let result = match result {
            // The disk takes a part, and no more after it.
            Ok(written) if written < length => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        };
        match result {
            Ok(()) => {
                self.end += length as u64;
                self.written = self.unwritten_stamp;
                self.tell_written();
                if std::mem::take(&mut self.is_failing) {
                    self.tell(Event::Writes(Ok(())));
                }
            }
            Err(error) => {
                self.unwritten = bytes;
                // What was written of it must not be followed by the whole of it.
                _ = file.truncate(self.end).await;
                if !std::mem::replace(&mut self.is_failing, true) {
                    self.tell(Event::Writes(Err(words_of(&error))));
                }
            }
        }
    }

    async fn synchronise(&mut self) {
        if self.durable == self.written {
            return;
        }
        if let Some(file) = &self.file {
            let since = Instant::now();
            self.shared.synchronises_since.set(Some(since));
            let result = file.fdatasync().await;
            self.shared.synchronises_since.set(None);
            self.last.time = since.elapsed();
            if let Err(error) = result {
                return self.tell(Event::NotSynchronised(words_of(&io::Error::from(error))));
            }
        }
        self.durable = self.written;
        self.tell(Event::Durable(self.durable));
    }

    async fn change(&mut self, turn: &Turn) -> io::Result<()> {
        self.synchronise().await;
        let result = match turn {
            Turn::Rewritten(..) if !self.is_cut => Err(io::Error::other("its cut was not made")),
            // The file that follows must not be there without what was to be in this one.
            Turn::RewriteBegins if self.durable != self.unwritten_stamp => {
                Err(io::Error::other("what was written before is not on the disk"))
            }
            _ => self.carry_out(turn).await,
        };
        match turn {
            Turn::RewriteBegins => self.is_cut = result.is_ok(),
            Turn::RewriteFailed(_) | Turn::CleanUp => {}
            _ => self.is_cut = false,
        }
        result
    }

    async fn carry_out(&mut self, turn: &Turn) -> io::Result<()> {
        let Some(change) = self.directory.change_for(turn) else { return Ok(()) };
        // It may take as long as the disk does: another thread waits for it.
        let (disk, steps) = (self.disk.clone(), change.clone());
        let outcome = glommio::executor().spawn_blocking(move || disk.carry_out(&steps)).await;
        let outcome = match (outcome, &change.opens) {
            (Ok(()), Some(_)) => self.open(&change).await,
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(()) => self.directory.commit(change),
            Err(_) => self.directory.abandon(&change),
        }
        outcome
    }

    async fn open(&mut self, change: &Change) -> io::Result<()> {
        let Some(opens) = &change.opens else { return Ok(()) };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let file = options.buffered_open(&self.disk.path(opens)).await?;
        let end = file.file_size().await?;
        self.close().await;
        (self.file, self.end) = (Some(file), end);
        Ok(())
    }

    async fn close(&mut self) {
        self.synchronise().await;
        if let Some(file) = self.file.take() {
            _ = file.close().await;
        }
    }

    fn tell_written(&mut self) {
        let counted = std::mem::take(&mut self.counted);
        let end = if self.file.is_some() { self.end } else { 0 };
        self.tell(Event::Written { stamp: self.written, counted, end });
    }

    fn tell(&self, event: Event) {
        self.shared.events.borrow_mut().push_back(event);
        // A bell that cannot be rung has rung too often already.
        _ = self.doorbell.ring_if_asleep();
    }
}

/// The words of the C library for an error of the system, without its number: clients see them.
fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => text.trim_end_matches(&format!(" (os error {code})")).to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(sizes: &[usize]) -> Option<Commit> {
        let append = |size: &usize| Job::Append {
            bytes: vec![b'x'; *size],
            stamp: Stamp::default(),
            counted: *size,
        };
        Commit::of(&sizes.iter().map(append).chain([Job::Commit]).collect())
    }

    #[test]
    fn a_commit_waits_for_others_only_if_there_were_some_and_most_are_missing() {
        for (before, now, waits) in [
            (&[100, 100][..], &[100][..], true),
            (&[100, 100], &[149], true),
            (&[100, 100], &[150], false),
            (&[100, 0, 100], &[100, 0], true),
            // Somebody who is alone says sometimes more and sometimes less.
            (&[1000], &[10], false),
            (&[1000, 0], &[10], false),
            (&[], &[10], false),
        ] {
            let (before, now) = (commit(before), commit(now));
            let lacks = now.zip(before).map(|(now, before)| now.lacks_others(&before));
            assert_eq!(lacks, Some(waits), "{before:?} {now:?}");
        }
    }

    #[test]
    fn nobody_waits_for_others_with_a_change_of_the_files() {
        assert!(Commit::of(&[Job::Commit, Job::Close].into()).is_none());
        assert!(Commit::of(&[Job::Synchronise].into()).is_none(), "nor if nobody waits for it");
    }
}
