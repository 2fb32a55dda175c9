//! Batches become keys, once and as the rules say; faults are told with their place in the file.

use super::*;
use crate::persistence::rdb::write_file::{KeyHead, Usage, write_database, write_key_head};
use crate::persistence::rdb::{Compression, NEWEST_VERSION, TypeCode};

const NOW_MS: i64 = 1_700_000_000_000;
const SHARD: ShardId = ShardId(3);

/// Records of strings; the offset of each is a hundred times its number, from 1.
fn batch(keys: &[(usize, &[u8], Option<i64>)], rules: LoadRules) -> LoadBatch {
    let (mut records, mut offsets) = (Vec::new(), Vec::new());
    for (number, (database, key, expiry)) in (1..).zip(keys) {
        write_database(*database as u64, &mut records);
        let usage = Some(Usage::Idle(50));
        let head = KeyHead { key, code: TypeCode::String, expiry: *expiry, usage };
        write_key_head(&head, Compression::NONE, &mut records);
        records.extend_from_slice(b"\x01v");
        offsets.push(number * 100);
    }
    LoadBatch { version: NEWEST_VERSION, records, offsets, rules }
}

/// Loads what is waiting, in slices as short as can be.
fn load(loading: &mut Loading, keyspace: &mut Keyspace) -> Vec<RecordsLoaded> {
    let mut reports = Vec::new();
    while !loading.is_idle() {
        let mut budget = Budget::new(Duration::ZERO);
        let limits = Limits::default();
        reports.extend(loading.slice((SHARD, keyspace), limits, &mut budget));
    }
    reports
}

fn report(keys: u64, expired: u64, empty: u64) -> RecordsLoaded {
    RecordsLoaded { shard: SHARD, keys, expired, empty, result: Ok(()) }
}

#[test]
fn every_batch_is_answered_and_its_keys_are_in_their_databases() {
    let (mut loading, mut keyspace) = (Loading::default(), Keyspace::new(16, NOW_MS, 1));
    let names: Vec<Vec<u8>> = (0..500).map(|n: u32| n.to_string().into_bytes()).collect();
    let keys: Vec<_> =
        names.iter().enumerate().map(|(n, key)| (n % 3, key.as_slice(), None)).collect();
    loading.batches.push_back(batch(&keys[..400], LoadRules::default()));
    loading.batches.push_back(batch(&keys[400..], LoadRules::default()));
    let mut budget = Budget::new(Duration::ZERO);
    let place = (SHARD, &mut keyspace);
    assert_eq!(loading.slice(place, Limits::default(), &mut budget), None, "it takes its time");
    assert_eq!(load(&mut loading, &mut keyspace), [report(400, 0, 0), report(100, 0, 0)]);
    for (database, key, _) in keys {
        let entry = keyspace[database].peek(&Key::new(key)).expect("it was loaded");
        let clock = entry.clock();
        assert_eq!(keyspace.access().idle_seconds(clock), 50);
    }
    keyspace.databases().iter().for_each(crate::keyspace::Database::check);
}

#[test]
fn expired_keys_are_left_out_or_kept_as_the_rules_say() {
    let keys: [(usize, &[u8], _); 4] = [
        (0, b"long ago", Some(1)),
        (0, b"just now", Some(NOW_MS)),
        (0, b"later", Some(NOW_MS + 1)),
        (0, b"never", None),
    ];
    for (limit, expected) in [(None, report(4, 0, 0)), (Some(NOW_MS), report(3, 1, 0))] {
        let (mut loading, mut keyspace) = (Loading::default(), Keyspace::new(1, NOW_MS, 1));
        let rules = LoadRules { drops_expired_before: limit, merges: false };
        loading.batches.push_back(batch(&keys, rules));
        assert_eq!(load(&mut loading, &mut keyspace), [expected]);
        assert_eq!(keyspace[0].len(), if limit.is_some() { 3 } else { 4 });
    }
}

#[test]
fn a_key_twice_is_a_fault_unless_files_are_merged() {
    let keys: [(usize, &[u8], _); 3] = [(0, b"k", None), (1, b"k", None), (0, b"k", Some(5))];
    let (mut loading, mut keyspace) = (Loading::default(), Keyspace::new(2, NOW_MS, 1));
    loading.batches.push_back(batch(&keys, LoadRules::default()));
    let fault = Fault::Duplicate(b"k".to_vec(), 0);
    assert_eq!(fault.to_string(), "RDB has duplicated key 'k' in DB 0");
    let result = Err(BadRecord { offset: 300, fault });
    assert_eq!(load(&mut loading, &mut keyspace), [RecordsLoaded { result, ..report(2, 0, 0) }]);

    let rules = LoadRules { merges: true, ..LoadRules::default() };
    loading.batches.push_back(batch(&keys[1..], rules));
    assert_eq!(load(&mut loading, &mut keyspace), [report(2, 0, 0)]);
    assert_eq!((keyspace[0].len(), keyspace[0].expiring(), keyspace[1].len()), (1, 1, 1));
}

#[test]
fn a_bad_value_ends_its_batch_and_an_empty_one_is_left_out() {
    let (mut loading, mut keyspace) = (Loading::default(), Keyspace::new(1, NOW_MS, 1));
    let mut bad = batch(&[(0, b"k", None)], LoadRules::default());
    // An empty list, a set with a member twice, and a string that is never looked at.
    bad.records.extend_from_slice(b"\x01\x01e\x00\x02\x01s\x02\x01a\x01a\x00\x01n\x01v");
    bad.offsets.extend([200, 300, 400]);
    loading.batches.push_back(bad);
    loading.batches.push_back(batch(&[(0, b"other", None)], LoadRules::default()));
    let reports = load(&mut loading, &mut keyspace);
    let Err(BadRecord { offset: 300, fault: Fault::Value(Error::Corrupt(_)) }) = reports[0].result
    else {
        panic!("{reports:?}")
    };
    assert_eq!((reports[0].keys, reports[0].empty), (1, 1));
    assert_eq!(reports[1], report(1, 0, 0));
}
