//! A snapshot as a file.
//!
//! A task writes under a name of its own, synchronises, and gives the file its name only when all is on the disk;
//! then the directory is synchronised. So whenever the process ends, there is the old file or the
//! new one, whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::io::{BufferedFile, Directory};

use super::{Sink, SinkEvent};
use crate::lanes::Doorbell;
use crate::shard_map::ShardId;

/// Bytes that are written before they are flushed to the disk, so that the last flush does not take long (Redis
/// 7.0 `rdb.c`, REDIS_AUTOSYNC_BYTES).
const FLUSHED_BYTES: u64 = 4 << 20;

/// Where a file is written, and what it is called then.
#[derive(Clone, Debug)]
pub struct FileTarget {
    /// The directory of both names.
    pub directory: PathBuf,
    /// While it is written.
    pub temporary: String,
    /// When it is whole.
    pub name: String,
    /// Flush it piece by piece.
    pub flushes: bool,
}

enum Job {
    Bytes(Vec<u8>, Option<ShardId>),
    Finish,
}

/// See the module.
pub struct FileSink {
    /// `None` when it was told to stop.
    jobs: Option<LocalSender<Job>>,
    events: Rc<RefCell<VecDeque<SinkEvent>>>,
}

impl FileSink {
    /// Begins to write, in a task of the executor that this runs in. Whenever something has happened
    /// `doorbell` is rung.
    pub fn start(target: FileTarget, doorbell: Arc<Doorbell>) -> Self {
        let (jobs, receiver) = local_channel::new_unbounded();
        let events = Rc::new(RefCell::new(VecDeque::new()));
        let writer = Writer { target, jobs: receiver, events: Rc::clone(&events), doorbell };
        glommio::spawn_local(writer.run()).detach();
        Self { jobs: Some(jobs), events }
    }

    fn give(&mut self, job: Job) {
        // Who has stopped writing has said so, and takes what it is given until then.
        let refused = self.jobs.as_ref().map(|jobs| jobs.try_send(job).is_err());
        debug_assert!(refused != Some(true), "a writer listens until it is told to stop");
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: Vec<u8>, from: Option<ShardId>) {
        match (&self.jobs, from) {
            (Some(_), _) => self.give(Job::Bytes(bytes, from)),
            (None, Some(shard)) => self.events.borrow_mut().push_back(SinkEvent::Taken(shard)),
            (None, None) => {}
        }
    }

    fn finish(&mut self) {
        self.give(Job::Finish);
    }

    fn abandon(&mut self) {
        self.jobs = None;
    }

    fn event(&mut self) -> Option<SinkEvent> {
        self.events.borrow_mut().pop_front()
    }
}

/// The task.
struct Writer {
    target: FileTarget,
    jobs: LocalReceiver<Job>,
    events: Rc<RefCell<VecDeque<SinkEvent>>>,
    doorbell: Arc<Doorbell>,
}

impl Writer {
    async fn run(self) {
        let result = self.write().await;
        if result.is_err() {
            // What is left of it is of no use; it may not even be there.
            _ = std::fs::remove_file(self.target.directory.join(&self.target.temporary));
        }
        self.tell(SinkEvent::Over(result.map_err(|error| error.to_string())));
        // What is still given is disposed of.
        while let Some(job) = self.jobs.recv().await {
            if let Job::Bytes(_, Some(shard)) = job {
                self.tell(SinkEvent::Taken(shard));
            }
        }
    }

    fn tell(&self, event: SinkEvent) {
        self.events.borrow_mut().push_back(event);
        // A bell that cannot be rung has rung too often already.
        _ = self.doorbell.ring();
    }

    async fn write(&self) -> io::Result<()> {
        let FileTarget { directory, temporary, name, flushes } = &self.target;
        let mut file = BufferedFile::create(directory.join(temporary)).await?;
        let written = self.write_all(&file, *flushes).await;
        if written.is_ok() {
            file.fdatasync().await?;
            file.rename(directory.join(name)).await?;
        }
        file.close().await?;
        written?;
        let directory = Directory::open(directory).await?;
        directory.sync().await?;
        directory.close().await?;
        Ok(())
    }

    async fn write_all(&self, file: &BufferedFile, flushes: bool) -> io::Result<()> {
        let (mut end, mut flushed) = (0, 0);
        loop {
            let Some(job) = self.jobs.recv().await else {
                return Err(io::Error::other("abandoned"));
            };
            let (bytes, from) = match job {
                Job::Finish => return Ok(()),
                Job::Bytes(bytes, from) => (bytes, from),
            };
            let length = bytes.len();
            let written = if length == 0 { Ok(0) } else { file.write_at(bytes, end).await };
            if let Some(shard) = from {
                self.tell(SinkEvent::Taken(shard));
            }
            if written? < length {
                // A disk that takes a part takes no more after it.
                return Err(io::ErrorKind::StorageFull.into());
            }
            end += length as u64;
            if flushes && end - flushed >= FLUSHED_BYTES {
                flushed = end;
                file.fdatasync().await?;
            }
        }
    }
}
