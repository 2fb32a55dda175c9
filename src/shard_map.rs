//! Which shard of this process owns which slots.
//!
//! Shards own runs of slots that differ in length by at most one, so that the owner of a slot is one
//! multiplication away and SCAN walks shard after shard.

use crate::slot::{SLOT_COUNT, Slot};

/// One data core's share of the process, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The number as an array index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Most shards of one process.
pub const SHARDS_MAX: u16 = 1024;

/// The owners of all slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardMap {
    shards: u16,
}

impl ShardMap {
    /// The map of `shards` shards; `None` unless there are 1 to [`SHARDS_MAX`].
    pub const fn new(shards: u16) -> Option<Self> {
        if shards >= 1 && shards <= SHARDS_MAX { Some(Self { shards }) } else { None }
    }

    /// Number of shards.
    pub const fn len(self) -> usize {
        self.shards as usize
    }

    /// Never: there is at least one shard.
    pub const fn is_empty(self) -> bool {
        self.shards == 0
    }

    /// All shards.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId)
    }

    /// The shard that owns `slot`.
    #[inline]
    pub const fn owner(self, slot: Slot) -> ShardId {
        ShardId((slot.get() as u32 * self.shards as u32 / SLOT_COUNT as u32) as u16)
    }

    /// The first slot of `shard`, or `None` if there is no such shard.
    pub fn first_slot(self, shard: ShardId) -> Option<Slot> {
        let start = u32::from(shard.0) * u32::from(SLOT_COUNT);
        (shard.0 < self.shards)
            .then(|| start.div_ceil(u32::from(self.shards)))
            .and_then(|number| Slot::new(number as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_owner_and_the_shares_are_even() {
        for shards in [1, 2, 3, 7, 16, 1000, SHARDS_MAX] {
            let map = ShardMap::new(shards).unwrap();
            let mut counts = vec![0_u32; map.len()];
            for number in 0..SLOT_COUNT {
                let slot = Slot::new(number).unwrap();
                let owner = map.owner(slot);
                counts[owner.index()] += 1;
                if counts[owner.index()] == 1 {
                    assert_eq!(map.first_slot(owner), Some(slot), "{shards} {owner:?}");
                }
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least >= 1 && most - least <= 1, "{shards}: {least}..{most}");
            assert_eq!(map.first_slot(ShardId(shards)), None);
        }
    }
}
