//! The journal on the control core: parcels of all shards become one stream, which goes to the append-only
//! file.
//!
//! A first, plain driver: one incremental file behind an empty base, written and synchronised within the turn.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Control;
use crate::config::Config;
use crate::config::values::AppendFsync;
use crate::journal::{Merge, Parcel, Stamp, Stream};
use crate::shard::EFFECT_BYTES_MAX;
use crate::shard::message::Message;

/// See the module.
#[derive(Default)]
pub(super) struct Journal {
    merge: Merge<Box<Parcel>>,
    stream: Stream,
    file: Option<File>,
    /// What is to be written.
    buffer: Vec<u8>,
    /// Parcels up to this one are on the disk, and the shards know.
    told: Stamp,
}

impl Journal {
    /// The journal of a process that starts with these settings.
    pub(super) fn open(config: &Config) -> std::io::Result<Self> {
        let mut journal = Self::default();
        if config.appendonly {
            let dir = Path::new(&config.dir).join(&config.appenddirname);
            std::fs::create_dir_all(&dir)?;
            let name = format!("{}.1.incr.aof", config.appendfilename);
            let manifest = dir.join(format!("{}.manifest", config.appendfilename));
            std::fs::write(manifest, format!("file {name} seq 1 type i\n"))?;
            let file = OpenOptions::new().append(true).create(true).open(dir.join(name))?;
            journal.file = Some(file);
        }
        Ok(journal)
    }
}

impl Control {
    pub(super) fn on_effects(&mut self, parcel: Box<Parcel>) {
        self.journal.merge.put(parcel.stamp, parcel);
    }

    /// Writes what has come in this turn.
    pub(super) fn write_effects(&mut self) -> std::io::Result<()> {
        let journal = &mut self.journal;
        let mut bytes = 0;
        while let Some((_, parcel)) = journal.merge.pop() {
            bytes += parcel.bytes.len();
            if journal.file.is_some() {
                journal.stream.append(&parcel, &mut journal.buffer);
            }
        }
        if let Some(file) = &mut journal.file
            && !journal.buffer.is_empty()
        {
            file.write_all(&journal.buffer)?;
            journal.buffer.clear();
            if self.config.appendfsync == AppendFsync::Always {
                file.sync_data()?;
            }
        }
        let last = journal.merge.last();
        if self.config.appendfsync == AppendFsync::Always && journal.told < last {
            journal.told = last;
            self.tell_shards(|| Message::Durable(last));
        }
        let left = self.process.effects_under_way.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if left < EFFECT_BYTES_MAX / 2 && self.process.awaits_effects.swap(false, Ordering::SeqCst)
        {
            self.tell_shards(|| Message::RoomForEffects);
        }
        Ok(())
    }

    fn tell_shards(&mut self, message: impl Fn() -> Message) {
        for shard in self.shards.iter() {
            self.ports.to[shard.index()].send(message());
        }
    }
}
