//! What a run asks for: which keys, in what mix of commands, with which values.
//!
//! Zipf ranks are scattered over the key numbers by a fixed permutation. Without it the popular
//! keys would be the ones that a preload wrote first, side by side in the server's memory, and its
//! caches would look better than they are.
//!
//! Promise: the same specification, thread number and seed give the same requests.

use std::ops::Range;

use crate::random::Random;
use crate::schedule::share;
use crate::template::{Shape, Source, Template, TemplateError};
use crate::zipfian::Zipfian;

/// How keys are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Every key is equally likely.
    Uniform,
    /// By Zipf's law with this exponent.
    Zipfian {
        /// The exponent: 0 is uniform, 0.99 is YCSB's.
        theta: f64,
    },
    /// Each key once, in order: threads take adjoining ranges. For preloading.
    Sequential,
}

/// Which commands are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Commands {
    /// `GET` and `SET` in this proportion.
    Mix {
        /// Parts that read.
        reads: u32,
        /// Parts that write.
        writes: u32,
    },
    /// One command, given as a template.
    Fixed(String),
}

/// The template of a read in [`Commands::Mix`].
pub const READ_TEMPLATE: &str = "GET __key__";
/// The template of a write in [`Commands::Mix`], and of a preload.
pub const WRITE_TEMPLATE: &str = "SET __key__ __value__";

/// A workload as the user gives it.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkloadSpec {
    /// How many keys there are.
    pub keys: u64,
    /// What stands before a key's digits.
    pub key_prefix: String,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Which commands are sent.
    pub commands: Commands,
    /// Where all randomness of the run comes from.
    pub seed: u64,
}

impl WorkloadSpec {
    /// The same keys and values, each key written once.
    pub fn preload(&self) -> Self {
        Self {
            distribution: Distribution::Sequential,
            commands: Commands::Mix { reads: 0, writes: 1 },
            ..self.clone()
        }
    }
}

/// The requests of one thread.
#[derive(Clone, Debug)]
pub struct Workload {
    read: Template,
    write: Template,
    reads: u64,
    parts: u64,
    content: Content,
}

impl Workload {
    /// The requests of thread number `thread` of `threads`.
    pub fn new(spec: &WorkloadSpec, thread: usize, threads: usize) -> Result<Self, TemplateError> {
        let shape =
            Shape { key_prefix: &spec.key_prefix, keys: spec.keys, value_bytes: spec.value_bytes };
        let (read, write, reads, writes) = match &spec.commands {
            Commands::Mix { reads, writes } => (READ_TEMPLATE, WRITE_TEMPLATE, *reads, *writes),
            Commands::Fixed(text) => (text.as_str(), text.as_str(), 0, 1),
        };
        Ok(Self {
            read: Template::parse(read, shape)?,
            write: Template::parse(write, shape)?,
            reads: u64::from(reads),
            parts: u64::from(reads) + u64::from(writes),
            content: Content::new(spec, thread, threads),
        })
    }

    /// Appends the next request to `out`.
    pub fn append_request(&mut self, out: &mut Vec<u8>) {
        let is_read = self.reads > 0 && self.content.random.below(self.parts) < self.reads;
        let template = if is_read { &self.read } else { &self.write };
        template.append(out, &mut self.content);
    }
}

/// What fills the templates' holes.
#[derive(Clone, Debug)]
struct Content {
    random: Random,
    keys: KeyChooser,
    /// Random letters; every value is a stretch of them.
    value_pool: Vec<u8>,
}

/// Letters that values are cut from at a random place, so that no two in a row are equal.
const VALUE_POOL_SLACK_BYTES: usize = 4096;

impl Content {
    fn new(spec: &WorkloadSpec, thread: usize, threads: usize) -> Self {
        let mut random = Random::new(spec.seed.wrapping_add(thread as u64));
        let pool_bytes = spec.value_bytes + VALUE_POOL_SLACK_BYTES;
        let value_pool = (0..pool_bytes).map(|_| b'a' + random.below(26) as u8).collect();
        Self { random, keys: KeyChooser::new(spec, thread, threads), value_pool }
    }
}

impl Source for Content {
    fn key(&mut self) -> u64 {
        self.keys.choose(&mut self.random)
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn value(&mut self, value: &mut [u8]) {
        let start = self.random.below((self.value_pool.len() - value.len()) as u64) as usize;
        value.copy_from_slice(&self.value_pool[start..start + value.len()]);
    }
}

#[derive(Clone, Debug)]
enum KeyChooser {
    Uniform { keys: u64 },
    Zipfian { zipfian: Zipfian, keys: u64 },
    Sequential { range: Range<u64>, next: u64 },
}

impl KeyChooser {
    fn new(spec: &WorkloadSpec, thread: usize, threads: usize) -> Self {
        match spec.distribution {
            Distribution::Uniform => Self::Uniform { keys: spec.keys },
            Distribution::Zipfian { theta } => {
                Self::Zipfian { zipfian: Zipfian::new(spec.keys, theta), keys: spec.keys }
            }
            Distribution::Sequential => {
                let start = (0..thread).map(|before| share(spec.keys, threads, before)).sum();
                let range = start..start + share(spec.keys, threads, thread);
                Self::Sequential { next: range.start, range }
            }
        }
    }

    fn choose(&mut self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform { keys } => random.below(*keys),
            Self::Zipfian { zipfian, keys } => scatter(zipfian.rank(random), *keys),
            Self::Sequential { range, next } => {
                let key = *next;
                *next = if key + 1 < range.end { key + 1 } else { range.start };
                key
            }
        }
    }
}

/// A prime above [`crate::template::KEYS_MAX`] (the 64-bit FNV prime), hence coprime to every
/// possible number of keys: multiplying by it permutes them.
const SCATTER_PRIME: u64 = 1_099_511_628_211;

const _: () = assert!(SCATTER_PRIME > crate::template::KEYS_MAX);

fn scatter(rank: u64, keys: u64) -> u64 {
    if keys == 0 {
        return 0;
    }
    ((u128::from(rank) * u128::from(SCATTER_PRIME)) % u128::from(keys)) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn spec(distribution: Distribution, commands: Commands) -> WorkloadSpec {
        let key_prefix = "key:".to_owned();
        WorkloadSpec { keys: 1000, key_prefix, distribution, value_bytes: 8, commands, seed: 5 }
    }

    fn requests(spec: &WorkloadSpec, thread: usize, threads: usize, count: usize) -> Vec<String> {
        let mut workload = Workload::new(spec, thread, threads).unwrap();
        let request = |_| {
            let mut out = Vec::new();
            workload.append_request(&mut out);
            String::from_utf8(out).unwrap()
        };
        (0..count).map(request).collect()
    }

    #[test]
    fn reads_and_writes_come_in_the_asked_proportion() {
        for (reads, writes) in [(9, 1), (1, 1), (0, 1), (1, 0)] {
            let spec = spec(Distribution::Uniform, Commands::Mix { reads, writes });
            let got = requests(&spec, 0, 1, 10_000);
            let read = got.iter().filter(|request| request.contains("GET")).count();
            let expected = 10_000 * reads as usize / (reads + writes) as usize;
            assert!(read.abs_diff(expected) < 300, "{read} reads at {reads}:{writes}");
        }
    }

    #[test]
    fn a_preload_writes_every_key_once_whatever_the_threads() {
        for threads in [1, 3, 7] {
            let spec = spec(Distribution::Uniform, Commands::Fixed("PING".into())).preload();
            let mut written = HashMap::new();
            for thread in 0..threads {
                let mine = share(spec.keys, threads, thread) as usize;
                for request in requests(&spec, thread, threads, mine) {
                    let key = request.split("\r\n").nth(4).unwrap().to_owned();
                    *written.entry(key).or_insert(0) += 1;
                }
            }
            assert_eq!(written.len(), 1000, "{threads} threads");
            assert!(written.values().all(|&times| times == 1), "{threads} threads");
            assert!(written.contains_key("key:000000000999"));
        }
    }

    #[test]
    fn scattering_permutes_the_keys() {
        for keys in [1, 2, 1000, 1024, 9973] {
            let mut seen = vec![false; keys as usize];
            (0..keys).for_each(|rank| seen[scatter(rank, keys) as usize] = true);
            assert!(seen.iter().all(|&hit| hit), "{keys} keys");
        }
    }

    #[test]
    fn a_zipfian_workload_asks_for_few_keys_far_more_often() {
        let commands = Commands::Mix { reads: 1, writes: 0 };
        let share_of_top_ten = |distribution| {
            let mut counts = HashMap::new();
            for request in requests(&spec(distribution, commands.clone()), 0, 1, 20_000) {
                *counts.entry(request).or_insert(0) += 1;
            }
            let mut counts: Vec<u32> = counts.into_values().collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            f64::from(counts[..10].iter().sum::<u32>()) / 20_000.0
        };
        assert!(share_of_top_ten(Distribution::Uniform) < 0.03);
        // Zipf's law over 1000 keys at 0.99 gives the first ten 38.4 %.
        let top = share_of_top_ten(Distribution::Zipfian { theta: 0.99 });
        assert!((0.36..0.41).contains(&top), "{top}");
    }

    #[test]
    fn a_seed_repeats_a_thread_and_threads_differ() {
        let spec = spec(Distribution::Uniform, Commands::Mix { reads: 1, writes: 1 });
        assert_eq!(requests(&spec, 0, 2, 20), requests(&spec, 0, 2, 20));
        assert_ne!(requests(&spec, 0, 2, 20), requests(&spec, 1, 2, 20));
    }
}
