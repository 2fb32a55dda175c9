//! Random numbers that are the same for the same seed.
//!
//! The driver seeds it from the kernel, the simulator from its own seed. Node ids come from here, so the
//! seed has more bits than an id.

use super::node_id::NodeId;

/// Where the random numbers of a node come from.
pub type Seed = [u64; 4];

/// The xoshiro256** generator of Blackman and Vigna.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// The generator with this seed.
    pub fn new(seed: Seed) -> Self {
        // The state of this generator must not be all zero; any seed is allowed here.
        Self([seed[0] | 1, seed[1], seed[2], seed[3]])
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        let state = &mut self.0;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// A number below `end`, which is not 0. The bias of the remainder is far below what gossip could notice.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// An id that no node has.
    pub fn node_id(&mut self) -> NodeId {
        let mut bits = [0; 20];
        for chunk in bits.chunks_mut(8) {
            let word = self.draw().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        NodeId::from_bits(bits)
    }
}
