//! The journal on the control core: parcels of all shards become one stream, which goes to the append-only
//! files and to replicas.

use super::Control;
use crate::journal::{Merge, Parcel, Stamp};
use crate::shard::message::HoldNumber;

/// What has a place in the stream.
enum Item {
    /// Effects of one shard.
    Effects(Box<Parcel>),
    /// All shards stand still.
    Cut(HoldNumber),
}

/// See the module.
#[derive(Default)]
pub(super) struct Journal {
    merge: Merge<Item>,
}

impl Control {
    /// Effects of a shard.
    pub(super) fn on_effects(&mut self, parcel: Box<Parcel>) {
        self.journal.merge.put(parcel.first, parcel.stamp, Item::Effects(parcel));
    }

    /// All shards stand still; what happened before was stamped before.
    pub(super) fn on_held(&mut self, number: HoldNumber, stamp: Stamp) {
        self.journal.merge.put(stamp, stamp, Item::Cut(number));
    }

    /// Hands on what has come, as far as nothing before it is missing.
    pub(super) fn go_on_with_journal(&mut self) {
        while let Some((stamp, item)) = self.journal.merge.pop() {
            match item {
                Item::Effects(parcel) => {
                    self.replicate(&parcel);
                    self.feed_move(&parcel);
                    self.aof_append(&parcel);
                }
                Item::Cut(number) => {
                    self.aof_flush(stamp);
                    self.on_cut(number);
                }
            }
        }
        self.aof_flush(self.journal.merge.last());
    }

    /// The stamp up to which everything was handed on.
    pub(super) fn last_stamp(&self) -> Stamp {
        self.journal.merge.last()
    }
}
