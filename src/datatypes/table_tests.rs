//! [`Table`](super::Table) against a plain map, with good hashes and with colliding ones.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

type Numbers = Table<(u32, u32)>;

/// How a test hashes: well, into few values (equal hashes), or with a common prefix (which the
/// directory must refuse to follow).
#[derive(Clone, Copy, Debug)]
enum Hashing {
    Good,
    FewValues,
    CommonPrefix,
}

fn hash(hashing: Hashing, key: u32) -> u64 {
    let good = (u64::from(key) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let good = (good ^ (good >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    match hashing {
        Hashing::Good => good,
        Hashing::FewValues => good & (0xF << 60),
        Hashing::CommonPrefix => good >> 30,
    }
}

/// A table with its hash function, checked against a map.
struct Tested {
    table: Numbers,
    model: HashMap<u32, u32>,
    hashing: Hashing,
}

impl Tested {
    fn new(hashing: Hashing) -> Self {
        Self { table: Table::default(), model: HashMap::new(), hashing }
    }

    fn put(&mut self, key: u32, value: u32) {
        let hashing = self.hashing;
        let hasher = |pair: &(u32, u32)| hash(hashing, pair.0);
        let known = self.model.insert(key, value).is_some();
        if !known && key.is_multiple_of(2) {
            self.table.insert_unique(hash(hashing, key), (key, value), hasher);
            return;
        }
        let (pair, is_new) = self.table.find_or_insert_with(
            hash(hashing, key),
            |pair| pair.0 == key,
            || (key, value),
            hasher,
        );
        pair.1 = value;
        assert_eq!(is_new, !known, "key {key}");
    }

    fn remove(&mut self, key: u32) {
        let hashing = self.hashing;
        let removed = self.table.remove(hash(hashing, key), |p| p.0 == key, |p| hash(hashing, p.0));
        assert_eq!(removed.map(|pair| pair.1), self.model.remove(&key), "key {key}");
    }

    fn scan_step(&self, cursor: u64, count: usize, visit: impl FnMut(&(u32, u32))) -> u64 {
        self.table.scan(cursor, count, |p| hash(self.hashing, p.0), visit)
    }

    fn check(&self) {
        self.table.check(|pair| hash(self.hashing, pair.0));
        assert_eq!(self.table.len(), self.model.len());
        let content: HashMap<u32, u32> = self.table.iter().copied().collect();
        assert_eq!(content, self.model);
        for (&key, &value) in &self.model {
            let found = self.table.find(hash(self.hashing, key), |pair| pair.0 == key);
            assert_eq!(found, Some(&(key, value)));
        }
    }
}

impl<T> Table<T> {
    /// Proves the structure: every element is where its hash leads, every slot where it should.
    fn check(&self, hasher: impl Fn(&T) -> u64) {
        let Form::Split(directory) = &self.form else { return };
        assert_eq!(directory.slots.len(), 1 << directory.depth);
        assert!(directory.slots.len() <= 2 * SLOTS_PER_SEGMENT_MAX * directory.segments.len());
        for (slot, &index) in directory.slots.iter().enumerate() {
            let segment = &directory.segments[index as usize];
            assert_eq!(slot >> (directory.depth - segment.depth), segment.prefix as usize);
        }
        let deepest = directory.segments.iter().filter(|s| s.depth == directory.depth).count();
        assert_eq!(directory.deepest, deepest);
        let mut len = 0;
        for segment in &directory.segments {
            assert!(segment.table.num_buckets() <= directory.buckets_max);
            len += segment.table.len();
            for value in &segment.table {
                assert_eq!(hasher(value) >> (64 - segment.depth), u64::from(segment.prefix));
            }
        }
        assert_eq!(self.len, len);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u32),
    Remove(u32, u32),
    Scan(usize),
    PopRandom(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..6000u32, 1..3000u32);
    prop_oneof![
        3 => range().prop_map(|(from, count)| Step::Put(from, count)),
        3 => range().prop_map(|(from, count)| Step::Remove(from, count)),
        4 => (1..2000usize).prop_map(Step::Scan),
        1 => (1..500usize).prop_map(Step::PopRandom),
    ]
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![
        4 => Just(Hashing::Good),
        1 => Just(Hashing::FewValues),
        1 => Just(Hashing::CommonPrefix),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Behaves as a map, and a scan that spans all of it returns what stayed, exactly once.
    #[test]
    fn table_is_a_map_and_a_scan_across_changes_misses_nothing(
        steps in prop::collection::vec(step(), 1..24),
        hashing in hashing(),
        seed in any::<u64>(),
    ) {
        let mut tested = Tested::new(hashing);
        let mut random = seed;
        let mut stayed: Option<BTreeMap<u32, u32>> = None; // key → times visited
        let mut cursor = 0;
        for step in steps {
            match step {
                Step::Put(from, count) => (from..from + count).for_each(|key| tested.put(key, key ^ count)),
                Step::Remove(from, count) => {
                    for key in from..from + count {
                        tested.remove(key);
                        if let Some(stayed) = &mut stayed { stayed.remove(&key); }
                    }
                }
                Step::PopRandom(count) => for _ in 0..count.min(tested.model.len()) {
                    let popped = tested.table.pop_random(|| next(&mut random), |p| hash(hashing, p.0));
                    let (key, value) = popped.expect("there is an element");
                    prop_assert_eq!(tested.model.remove(&key), Some(value));
                    if let Some(stayed) = &mut stayed { stayed.remove(&key); }
                },
                Step::Scan(count) => {
                    let stayed_now = stayed.get_or_insert_with(|| tested.model.keys().map(|&k| (k, 0)).collect());
                    cursor = tested.scan_step(cursor, count, |pair| {
                        stayed_now.entry(pair.0).and_modify(|times| *times += 1);
                    });
                    if cursor == 0 {
                        prop_assert!(stayed_now.values().all(|&times| times == 1), "{:?}", stayed_now);
                        stayed = None;
                    }
                }
            }
            tested.check();
        }
        while !tested.table.free_slice(700) { tested.table.check(|p| hash(hashing, p.0)); }
        prop_assert_eq!(tested.table.len(), 0);
    }
}

/// SplitMix64, so that a failing case repeats.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn filled(count: u32) -> Tested {
    let mut tested = Tested::new(Hashing::Good);
    (0..count).for_each(|key| tested.put(key, 0));
    tested
}

#[test]
fn a_scan_step_visits_about_as_many_elements_as_asked() {
    let tested = filled(20_000);
    for count in [1, 10, 100, 1000, 5000] {
        let mut visited = 0;
        let cursor = tested.scan_step(0, count, |_| visited += 1);
        assert_eq!(visited, count);
        assert_ne!(cursor, 0);
        assert!(cursor < 1 << 53, "a cursor must fit a floating point number");
    }
    let mut visited = 0;
    assert_eq!(tested.scan_step(0, 20_000, |_| visited += 1), 0);
    assert_eq!(visited, 20_000);
    assert_eq!(tested.scan_step(u64::MAX, 10, |_| panic!("nothing is there")), 0);
}

#[test]
fn random_draws_every_element_equally_often() {
    for count in [3, 40, 2000] {
        let tested = filled(count);
        let mut seed = u64::from(count);
        let mut drawn: HashMap<u32, u32> = HashMap::new();
        for _ in 0..count * 200 {
            let pair = tested.table.random(|| next(&mut seed)).expect("there is an element");
            *drawn.entry(pair.0).or_default() += 1;
        }
        assert_eq!(drawn.len(), count as usize);
        // 200 expected draws each, with a deviation of 14: beyond 90 is beyond chance.
        let (low, high) = (drawn.values().min(), drawn.values().max());
        assert!(low >= Some(&110) && high <= Some(&290), "{count}: {low:?} to {high:?}");
    }
    assert_eq!(Numbers::default().random(|| 0), None);
}

#[test]
fn memory_returns_when_elements_go() {
    let mut tested = filled(50_000);
    let full = tested.table.allocation_bytes();
    (100..50_000).for_each(|key| tested.remove(key));
    tested.check();
    let left = tested.table.allocation_bytes();
    assert!(left * 50 < full, "{left} of {full} bytes remain for 100 elements");
}

#[test]
fn free_slice_frees_about_what_it_is_asked_to_and_tolerates_additions() {
    let mut tested = filled(10_000);
    assert!(!tested.table.free_slice(1000));
    let left = tested.table.len();
    assert!((8000..=9000).contains(&left), "{left} remain of 10000");
    let hasher = |pair: &(u32, u32)| hash(Hashing::Good, pair.0);
    for key in 20_000..22_000 {
        tested.table.insert_unique(hash(Hashing::Good, key), (key, 0), hasher);
    }
    let mut slices = 0;
    while !tested.table.free_slice(1000) {
        tested.table.check(hasher);
        slices += 1;
        assert!(slices < 30);
    }
    assert!(tested.table.is_empty() && tested.table.free_slice(1));
}
