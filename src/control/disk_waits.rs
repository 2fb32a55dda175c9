//! WAITAOF: clients that wait until what was written before them is on the disk.
//!
//! What they wait for is a stamp, as with `appendfsync always`; only that the disk takes the time that the settings give
//! it. Replicas of Redis 7.0 do not tell what they have on their disks, so none of them counts.
//!
//! Promise: who waits is told once, when its stamp is durable or cannot become so any more.

use super::Control;
use crate::journal::Stamp;
use crate::shard::message::{DiskWanted, Message, Unblock};
use crate::shard_map::ShardId;
use crate::transaction::TxId;

/// A client that waits.
struct DiskWait {
    shard: ShardId,
    number: TxId,
    wanted: DiskWanted,
    /// Everything up to this is to be on the disk.
    stamp: Stamp,
}

/// See the module.
#[derive(Default)]
pub(super) struct DiskWaits(Vec<DiskWait>);

impl DiskWaits {
    /// The last of the stamps that are waited for.
    pub(super) fn last(&self) -> Option<Stamp> {
        self.0.iter().map(|wait| wait.stamp).max()
    }
}

impl Control {
    /// A client waits for the disk.
    pub(super) fn on_await_disk(&mut self, shard: ShardId, number: TxId, wanted: DiskWanted) {
        let stamp = self.process.last_stamp();
        self.disk_waits.0.push(DiskWait { shard, number, wanted, stamp });
    }

    /// It waits no more.
    pub(super) fn on_await_no_disk(&mut self, number: TxId) {
        self.disk_waits.0.retain(|wait| wait.number != number);
    }

    /// Answers those whose writes are on the disk, and those who wait in vain.
    pub(super) fn look_at_disk_waits(&mut self) {
        if self.disk_waits.0.is_empty() {
            return;
        }
        let (durable, is_on) = (self.aof_durable(), self.writes_aof());
        let mut told = Vec::new();
        self.disk_waits.0.retain(|wait| {
            let DiskWait { shard, number, wanted, stamp } = *wait;
            let is_durable = durable.is_some_and(|durable| durable >= stamp);
            if wanted.local && !is_on {
                told.push((shard, Message::Unblock(number, Unblock::NoFile)));
                return false;
            }
            let is_enough = is_durable && !wanted.replicas;
            if is_durable {
                told.push((shard, Message::Acknowledged(number, 1, is_enough)));
            }
            !is_durable
        });
        for (shard, message) in told {
            self.tell(shard, message);
        }
    }
}
