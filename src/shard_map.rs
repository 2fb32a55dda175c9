//! Which shard of this process owns which slots.
//!
//! Blocks of neighbouring slots go round the shards. In a cluster a node owns runs of slots (redis-cli deals them so), which
//! are to be spread over all of its cores; one run for each shard would leave most of them idle. SCAN walks shard after
//! shard, and the owner of a slot is two multiplications away.

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

/// Blocks that each shard has, at least, as far as there are slots for that: the more, the more evenly are the slots of a
/// node of a cluster spread, and the more rows have CLUSTER SLOTS and CLUSTER SHARDS with ports of shards.
const BLOCKS_EACH: u16 = 64;

/// The owners of all slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardMap {
    shards: u16,
    /// Binary logarithm of the slots in a block.
    block_bits: u8,
    /// 2^32 / shards, rounded up: a division by a number that is known only here costs more than all else.
    reciprocal: u64,
}

impl ShardMap {
    /// The map of `shards` shards; `None` unless there are 1 to [`SHARDS_MAX`].
    pub const fn new(shards: u16) -> Option<Self> {
        if shards < 1 || shards > SHARDS_MAX {
            return None;
        }
        // One shard has one block of all slots.
        let block = if shards == 1 { SLOT_COUNT } else { SLOT_COUNT / shards / BLOCKS_EACH };
        let block_bits = if block == 0 { 0 } else { block.ilog2() as u8 };
        Some(Self { shards, block_bits, reciprocal: (1_u64 << 32).div_ceil(shards as u64) })
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
        let block = (slot.get() >> self.block_bits) as u64;
        // Exact, for block * shards is below 2^32 (Granlund and Montgomery, "Division by Invariant Integers", 1994).
        let rounds = (block * self.reciprocal) >> 32;
        ShardId((block - rounds * self.shards as u64) as u16)
    }

    /// The last slot of the block that `slot` is in.
    pub const fn block_end(self, slot: Slot) -> u16 {
        slot.get() | ((1 << self.block_bits) - 1)
    }

    /// The first slot of `shard`, or `None` if there is no such shard.
    pub fn first_slot(self, shard: ShardId) -> Option<Slot> {
        if shard.0 < self.shards { Slot::new(shard.0 << self.block_bits) } else { None }
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
                let block = number >> map.block_bits;
                assert_eq!(owner, ShardId(block % shards), "{shards} {number}");
                assert_eq!(map.block_end(slot) >> map.block_bits, block);
                counts[owner.index()] += 1;
                if counts[owner.index()] == 1 {
                    assert_eq!(map.first_slot(owner), Some(slot), "{shards} {owner:?}");
                }
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            let block = 1 << map.block_bits;
            assert!(*least >= 1 && most - least <= block, "{shards}: {least}..{most}");
            assert_eq!(map.first_slot(ShardId(shards)), None);
        }
    }

    #[test]
    fn the_run_of_a_node_in_a_cluster_is_spread_over_its_shards() {
        for (masters, shards) in [(3, 2), (3, 3), (3, 16), (6, 8), (10, 4)] {
            let map = ShardMap::new(shards).unwrap();
            let run = SLOT_COUNT / masters;
            for first in (0..masters).map(|master| master * run) {
                let mut counts = vec![0_u16; map.len()];
                for slot in (first..first + run).filter_map(Slot::new) {
                    counts[map.owner(slot).index()] += 1;
                }
                let most = *counts.iter().max().unwrap();
                let fair = f64::from(run) / f64::from(shards);
                assert!(f64::from(most) <= 1.1 * fair, "{masters} {shards}: {counts:?}");
            }
        }
    }
}
