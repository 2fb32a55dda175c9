//! The format as a whole: what Redis wrote is read and written again as it was, random values survive the
//! round trip however they are cut, and damage never panics.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::check_file::{CheckError, check};
use super::read_file::{FileReader, Found};
use super::write_file::{
    Header, KeyHead, ReplicationPoint, Summed, Usage, write_database, write_function, write_header,
    write_key_head, write_sizes,
};
use super::*;
use crate::datatypes::list::{End, List, NodeLimits};
use crate::datatypes::stream::{
    Delivery, Group, NewId, NodeLimits as StreamLimits, Stream, StreamId,
};
use crate::datatypes::zset::ZSet;
use crate::datatypes::{hash::Hash, set::Set};
use crate::keyspace::{Value, ValueRef};

macro_rules! vector {
    ($name:literal) => {
        (
            $name,
            &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rdb/", $name))[..],
        )
    };
}

/// A value as text, for comparing: its encoding, and its content in an order of its own.
pub(super) fn content(value: &Value) -> String {
    let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
    match value.as_ref() {
        ValueRef::Str(string) => format!("string {}", text(string.to_vec())),
        ValueRef::List(list) => {
            let elements: Vec<_> = list.iter().map(|element| text(element.to_vec())).collect();
            format!("list {elements:?}")
        }
        ValueRef::Set(set) => {
            let members: BTreeSet<_> = set.iter().map(|member| text(member.to_vec())).collect();
            format!("{} {members:?}", set.encoding())
        }
        ValueRef::Hash(hash) => {
            let fields: BTreeMap<_, _> =
                hash.iter().map(|(f, v)| (text(f.to_vec()), text(v.to_vec()))).collect();
            format!("hash {} {fields:?}", hash.encoding())
        }
        ValueRef::ZSet(zset) => {
            let members: Vec<_> =
                zset.iter_all().map(|(m, s)| (text(m.to_vec()), s.to_string())).collect();
            format!("zset {} {members:?}", zset.encoding())
        }
        ValueRef::Stream(_) => {
            let mut bytes = Vec::new();
            encode::write_value(&value.as_ref(), Compression::NONE, &mut bytes);
            format!("stream {}", text(bytes))
        }
    }
}

fn restore(payload: &[u8]) -> Result<Value, Error> {
    let (body, version) = payload::open(payload).expect("the frame is good");
    payload::restore(body, version, Limits::default())
}

fn dump(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    payload::dump(&value.as_ref(), Compression::ALL, &mut out);
    out
}

#[test]
fn what_redis_dumped_is_dumped_again_as_it_was() {
    for (name, bytes) in [
        vector!("dump-bm.bin"),
        vector!("dump-e_ms.bin"),
        vector!("dump-geo.bin"),
        vector!("dump-h_ht.bin"),
        vector!("dump-h_lp.bin"),
        vector!("dump-hll.bin"),
        vector!("dump-i_16.bin"),
        vector!("dump-i_32.bin"),
        vector!("dump-i_64.bin"),
        vector!("dump-l_multi.bin"),
        vector!("dump-l_plain.bin"),
        vector!("dump-l_small.bin"),
        vector!("dump-s_bin.bin"),
        vector!("dump-s_empty.bin"),
        vector!("dump-s_int16.bin"),
        vector!("dump-s_int32.bin"),
        vector!("dump-s_int64.bin"),
        vector!("dump-s_int8.bin"),
        vector!("dump-s_len14.bin"),
        vector!("dump-s_lzf.bin"),
        vector!("dump-s_lzf2.bin"),
        vector!("dump-s_raw.bin"),
        vector!("dump-s_zeros00.bin"),
        vector!("dump-st_1.bin"),
        vector!("dump-st_empty.bin"),
        vector!("dump-z_lp.bin"),
        vector!("dump-z_sl.bin"),
    ] {
        let value = restore(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(dump(&value), bytes, "{name}");
    }
}

#[test]
fn payloads_of_every_type_become_the_value_that_redis_makes_of_them() {
    let bs = "B".repeat(300);
    let ziplist = format!(
        "list {:?}",
        ["a", "1", "12", "13", "-5", "300", "-70000", "5000000", "1099511627776", &bs, "after-big"]
    );
    for ((name, bytes), expected) in [
        (vector!("dump-set_ht.bin"), r#"hashtable {"1", "a", "b"}"#),
        (
            vector!("dump-z_lp.bin"),
            r#"zset listpack [("c", "-inf"), ("a", "1"), ("b", "2.5"), ("e", "3"), ("d", "inf")]"#,
        ),
        (vector!("restore-accepted-hash_4.bin"), r#"hash listpack {"f": "v"}"#),
        (vector!("restore-accepted-hash_ziplist_13.bin"), r#"hash listpack {"f": "1", "g": "v"}"#),
        (
            vector!("restore-accepted-hash_zipmap_9.bin"),
            r#"hash listpack {"foo": "bar", "hello": "world"}"#,
        ),
        (vector!("restore-accepted-list_1.bin"), r#"list ["a", "b"]"#),
        (vector!("restore-accepted-list_quicklist_14.bin"), r#"list ["a", "1", "b", "2"]"#),
        (vector!("restore-accepted-list_ziplist_10.bin"), &ziplist),
        (vector!("restore-accepted-set_2.bin"), r#"hashtable {"5", "a"}"#),
        (
            vector!("restore-accepted-zset_3.bin"),
            r#"zset listpack [("c", "-inf"), ("a", "1.5"), ("d", "17"), ("b", "inf")]"#,
        ),
        (
            vector!("restore-accepted-zset_ziplist_12.bin"),
            r#"zset listpack [("a", "1"), ("b", "2.5")]"#,
        ),
    ] {
        let value = restore(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(content(&value), expected, "{name}");
        assert_eq!(restore(&dump(&value)).map(|again| content(&again)).as_deref(), Ok(expected));
    }
}

#[test]
fn types_of_version_11_are_read_in_files_of_that_version_only() {
    let (_, bytes) = vector!("valkey801-dump-set_listpack_20.bin");
    assert!(payload::open(bytes).is_none(), "its version is a newer one");
    let body = &bytes[..bytes.len() - 10];
    let value = payload::restore(body, 11, Limits::default()).map(|value| content(&value));
    assert_eq!(value.as_deref(), Ok(r#"hashtable {"1", "a", "b"}"#));
    let refused = payload::restore(body, VERSION, Limits::default()).err();
    assert_eq!(refused, Some(Error::UnknownType(20)));

    let (_, bytes) = vector!("valkey801-dump-stream_listpacks3_21.bin");
    let body = &bytes[..bytes.len() - 10];
    let refused = payload::restore(body, VERSION, Limits::default()).err();
    assert_eq!(refused, Some(Error::UnknownType(21)));
    let value = payload::restore(body, 11, Limits::default()).expect("version 11 has this type");
    let Value::Stream(stream) = &value else { panic!("it is a stream") };
    assert!(!stream.is_empty() && stream.group_count() > 0);
    let again = restore(&dump(&value)).map(|again| content(&again));
    assert_eq!(
        again,
        Ok(content(&value)),
        "in our version it only loses when consumers were active"
    );
}

#[test]
fn a_stream_of_the_first_kind_gets_the_counters_that_redis_gives_it() {
    let (_, bytes) = vector!("restore-accepted-stream_15.bin");
    let Ok(Value::Stream(stream)) = restore(bytes) else { panic!("it is a stream") };
    let counters = stream.counters();
    assert!(counters.len > 0);
    assert_eq!(counters.entries_added, counters.len);
    assert_eq!(Some(counters.first_id), stream.nodes().next().map(|(first, _)| first));
}

#[test]
fn encodings_follow_the_limits_of_the_reader() {
    let strict = Limits {
        hash: crate::datatypes::hash::HashLimits {
            listpack_entries_max: 1,
            listpack_value_bytes_max: 64,
        },
        set: crate::datatypes::set::SetLimits { intset_entries_max: 1 },
        zset: crate::datatypes::zset::ZSetLimits { entries_max: 1, value_bytes_max: 64 },
        list: NodeLimits::new(1),
    };
    for ((name, bytes), encoding) in [
        (vector!("dump-h_lp.bin"), "hash hashtable"),
        (vector!("restore-accepted-hash_ziplist_13.bin"), "hash hashtable"),
        (vector!("restore-accepted-hash_zipmap_9.bin"), "hash hashtable"),
        (vector!("dump-i_16.bin"), "hashtable"),
        (vector!("dump-z_lp.bin"), "zset skiplist"),
        (vector!("restore-accepted-zset_3.bin"), "zset skiplist"),
        (vector!("restore-accepted-zset_ziplist_12.bin"), "zset skiplist"),
    ] {
        let (body, version) = payload::open(bytes).unwrap();
        let value = payload::restore(body, version, strict).unwrap();
        assert!(content(&value).starts_with(encoding), "{name}: {}", content(&value));
    }
    let (_, bytes) = vector!("restore-accepted-list_ziplist_10.bin");
    let Ok(Value::List(list)) = payload::restore(&bytes[..bytes.len() - 10], 10, strict) else {
        panic!("it is a list")
    };
    assert_eq!(list.nodes().len(), list.len(), "each element has a node of its own");
}

#[test]
fn what_no_server_writes_is_refused() {
    let listpack = |texts: &[&str]| {
        let mut pack = crate::datatypes::listpack::Listpack::new();
        texts.iter().for_each(|text| pack.push_back(text.as_bytes()));
        let mut out = Vec::new();
        encode::write_text(pack.as_bytes(), Compression::NONE, &mut out);
        out
    };
    let with_code = |code: u8, body: &[u8]| [&[code], body].concat();
    // "1" as a string, beside 1 as an integer.
    let twins = b"\x17\x17\0\0\0\x04\0\x01\x01\x01\x01\x811\x02\x01\x01\x81a\x02\x81b\x02\xff";
    for (bytes, why) in [
        (vec![], "nothing"),
        (vec![8], "a type that there never was"),
        (vec![20, 0], "a type of a later version"),
        (vec![7, 0], "a module's value"),
        (vec![1, 0], "an empty list"),
        (vec![2, 0], "an empty set"),
        (vec![4, 0], "an empty hash"),
        (vec![5, 0], "an empty sorted set"),
        (vec![18, 0], "a list without nodes"),
        (with_code(18, &[&[1, 2][..], &listpack(&[])].concat()), "a list of an empty node"),
        (vec![18, 1, 1, 0], "a node of one empty element"),
        (vec![18, 1, 3, 1, b'a'], "a node of an unknown kind"),
        (b"\x01\x02\x01a".to_vec(), "fewer elements than promised"),
        (b"\x02\x02\x01a\x01a".to_vec(), "a member twice"),
        (b"\x02\x02\xC0\x05\x015".to_vec(), "a member twice, written in two ways"),
        (b"\x04\x02\x01f\x01v\x01f\x01w".to_vec(), "a field twice"),
        (b"\x05\x02\x01a\0\0\0\0\0\0\0\0\x01a\0\0\0\0\0\0\xF0\x3F".to_vec(), "a member twice"),
        (b"\x05\x01\x01a\0\0\0\0\0\0\xF8\x7F".to_vec(), "a score that is no number"),
        (b"\x03\x01\x01a\xFD".to_vec(), "a score that is no number"),
        (b"\x03\x01\x01a\x01x".to_vec(), "a score that is no number"),
        (with_code(16, &listpack(&["f"])), "a field without a value"),
        (with_code(16, &listpack(&["f", "v", "f", "w"])), "a field twice"),
        (with_code(16, twins), "a field twice, written in two ways"),
        (with_code(16, &listpack(&[])), "a hash without fields"),
        (with_code(17, &listpack(&["a", "1", "a", "2"])), "a member twice"),
        (with_code(17, &listpack(&["a", "x"])), "a score that is no number"),
        (with_code(17, &listpack(&["a", "2", "b", "1"])), "members out of order"),
        (with_code(17, &listpack(&["b", "1", "a", "1"])), "members out of order"),
        (b"\x0B\x08\x02\0\0\0\0\0\0\0".to_vec(), "an empty intset"),
        (b"\x0B\x0C\x02\0\0\0\x02\0\0\0\x02\0\x01\0".to_vec(), "an intset out of order"),
        (b"\x10\x07\x07\0\0\0\0\0\0".to_vec(), "a listpack without an end"),
        (b"\x01\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01a".to_vec(), "a length beyond memory"),
        (
            b"\x00\xC3\x02\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00a".to_vec(),
            "a length beyond memory",
        ),
    ] {
        let restored = payload::restore(&bytes, VERSION, Limits::default());
        assert!(restored.is_err(), "{why}: {}", content(&restored.unwrap()));
    }
}

// ---- random values ----

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<i64>().prop_map(|value| (value >> (value & 63)).to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (0..400usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    let list = (prop::collection::vec(text(), 1..60), -5..20i64, prop::option::of(50..300u32));
    prop_oneof![
        text().prop_map(|text| match crate::datatypes::number::parse_i64(&text) {
            Some(value) => Value::Int(value),
            None => Value::Str(text),
        }),
        list.prop_map(|(texts, size, plain)| {
            let limits = NodeLimits::new(size);
            let limits = plain.map_or(limits, |bytes| limits.with_plain_bytes_min(bytes));
            let mut list = List::new(limits);
            texts.iter().for_each(|text| list.push(End::Tail, text));
            Value::List(Box::new(list))
        }),
        (prop::collection::vec(text(), 1..60), any::<bool>()).prop_map(|(texts, ints)| {
            let mut set = Set::default();
            let limits = Limits::default().set;
            for (number, text) in texts.iter().enumerate() {
                let number = number.to_string().into_bytes();
                set.insert(if ints { &number } else { text }, limits);
            }
            Value::Set(Box::new(set))
        }),
        prop::collection::vec((text(), text()), 1..60).prop_map(|pairs| {
            let mut hash = Hash::default();
            for (field, value) in &pairs {
                hash.set(field, value, Limits::default().hash);
            }
            Value::Hash(Box::new(hash))
        }),
        prop::collection::vec((text(), -1e9..1e9f64), 1..160).prop_map(|pairs| {
            let longest = pairs.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
            let limits = Limits::default().zset;
            let mut zset = ZSet::for_members(pairs.len(), longest, limits);
            for (member, score) in &pairs {
                zset.insert(member, *score, limits);
            }
            Value::ZSet(Box::new(zset))
        }),
        stream(),
    ]
}

/// A stream with some entries deleted and some delivered to two groups.
fn stream() -> impl Strategy<Value = Value> {
    let entries = prop::collection::vec((1..5_u64, prop::collection::vec(text(), 2)), 1..200);
    let reads = prop::collection::vec((0..3_usize, 0..4_usize, 0..50_usize), 0..8);
    (entries, prop::collection::vec(0..400_u64, 0..10), reads).prop_map(|(entries, gone, reads)| {
        let limits = StreamLimits { bytes_max: 4096, entries_max: 100 };
        let (mut stream, mut ms) = (Stream::default(), 0);
        for (step, texts) in &entries {
            ms += step;
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let id = NewId::Exact(StreamId::new(ms, 7));
            stream.append(id, &texts, &limits, 1).expect("ids grow");
        }
        gone.iter().for_each(|ms| _ = stream.remove(StreamId::new(*ms, 7)));
        for (group, consumer, count) in reads {
            let name = format!("group {group}").into_bytes();
            stream.add_group(&name, Group::new(StreamId::MIN, Some(0)));
            let Some((_, known)) = stream.entries_and_group(&name) else { continue };
            let consumer = format!("consumer {consumer}");
            let (consumer, _) = known.consumer_or_new(consumer.as_bytes(), ms as i64);
            let after = known.last_id;
            let delivery = Delivery {
                after,
                entries_max: count,
                consumer,
                no_acknowledgement: false,
                now_ms: ms as i64,
            };
            stream.deliver(&name, delivery, |_| {});
        }
        Value::Stream(Box::new(stream))
    })
}

/// Feeds a decoder of one value in pieces of these sizes, and takes so many elements at a time.
fn decode_in_pieces(code: TypeCode, bytes: &[u8], piece: usize, elements: usize) -> Value {
    let mut decoder = ValueDecoder::new(code, Limits::default());
    let (mut start, mut end) = (0, 0);
    loop {
        let mut input = input::Input::new(&bytes[start..end]);
        let found = decoder.slice(&mut input, elements);
        start += input.mark();
        match found {
            Ok(Some(value)) => return value,
            Ok(None) => {}
            Err(Error::Truncated) if end < bytes.len() => end = (end + piece).min(bytes.len()),
            Err(error) => panic!("{error}"),
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&content(self))
    }
}

proptest! {
    #[test]
    fn values_survive_the_round_trip(value in value(), slice in 1..40usize, piece in 1..200usize) {
        let payload = dump(&value);
        let again = restore(&payload).unwrap();
        prop_assert_eq!(content(&again), content(&value));
        // Where there is no hash table, whose order is its own, the very bytes come back.
        let code = encode::type_code(&value.as_ref());
        if !matches!(code, TypeCode::Set | TypeCode::Hash) {
            prop_assert_eq!(dump(&again), payload.clone());
        }
        let mut sliced = vec![code.byte()];
        let mut encoder = ValueEncoder::new(Compression::ALL);
        while !encoder.slice(&value.as_ref(), slice, &mut sliced) {}
        prop_assert_eq!(content(&decode_in_pieces(code, &sliced[1..], piece, slice)), content(&value));
        payload::seal(0, &mut sliced);
        prop_assert!(sliced == payload || matches!(code, TypeCode::Set | TypeCode::Hash));
    }

    #[test]
    fn damaged_payloads_are_answered_without_a_panic(
        value in value(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        code in 0..24u8,
        keep_code in any::<bool>(),
    ) {
        let mut payload = dump(&value);
        payload.truncate(payload.len() - 10);
        for (at, byte) in damage {
            *at.get_mut(&mut payload) = byte;
        }
        if !keep_code {
            payload[0] = code;
        }
        if let Ok(value) = payload::restore(&payload, NEWEST_VERSION, Limits::default()) {
            prop_assert!(restore(&dump(&value)).is_ok(), "what is accepted is a value like others");
        }
    }
}

// ---- whole files ----

#[test]
fn files_by_redis_are_read_to_their_end() {
    let (_, bytes) = vector!("all-types-v10.rdb");
    let summary = check(bytes).expect("redis-check-rdb likes it, too");
    assert_eq!((summary.version, summary.keys, summary.expires, summary.functions), (10, 29, 1, 1));
    assert_eq!(summary.databases, BTreeMap::from([(0, 28), (9, 1)]));
    let types = [("string", 15), ("list", 3), ("set", 4), ("hash", 2), ("zset", 3), ("stream", 2)];
    assert_eq!(summary.types, BTreeMap::from(types));
    assert_eq!(summary.aux[0], ("redis-ver".to_owned(), "7.0.15".to_owned()));

    for ((name, bytes), keys, usages) in [
        (vector!("empty.rdb"), 0, 0),
        (vector!("rdbchecksum-no.rdb"), 1, 0),
        (vector!("lfu-freq.rdb"), 1, 1),
        (vector!("lru-idle.rdb"), 1, 1),
    ] {
        let summary = check(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((summary.keys, summary.usages), (keys, usages), "{name}");
    }
}

#[test]
fn a_damaged_file_is_noticed_wherever_it_is_cut_or_changed() {
    let (_, bytes) = vector!("all-types-v10.rdb");
    for length in 0..bytes.len() {
        let error = check(&bytes[..length]).expect_err("its end is missing");
        assert!(matches!(error, CheckError::Bad { error: Error::Truncated, .. }), "{length}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x11;
        assert!(check(&damaged[..]).is_err(), "byte {at}");
    }
}

/// What a reader finds in `bytes` when they come in pieces of this size.
pub(super) fn found_in(bytes: &[u8], piece: usize) -> Result<Vec<String>, Error> {
    let mut reader = FileReader::new(Limits::default(), true);
    let (mut pieces, mut found) = (bytes.chunks(piece), Vec::new());
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    loop {
        found.push(match reader.find(3)? {
            Found::NeedsMore => {
                reader.feed(pieces.next().ok_or(Error::Truncated)?);
                continue;
            }
            Found::Progress => continue,
            Found::Aux { name, value } => format!("{}={}", text(&name), text(&value)),
            Found::Database(number) => format!("database {number}"),
            Found::Sizes { keys, expiring } => format!("{keys} keys, {expiring} expiring"),
            Found::Function(source) => format!("function {}", text(&source)),
            Found::Key(key) => {
                let (value, name) = (content(&key.value), text(&key.key));
                format!("{name} {value} {:?} {:?}", key.expiry, key.usage)
            }
            Found::EmptyKey(key) => format!("{} is empty", text(&key)),
            Found::End => return Ok(found),
        });
    }
}

#[test]
fn old_records_are_read_as_their_version_means_them() {
    // Version 1: no checksum, expiry in seconds, no database named.
    let old = b"REDIS0001\xFD\x40\x42\x0F\x00\x00\x01k\x01v\xFF";
    assert_eq!(found_in(old, 1), Ok(vec!["k string v Some(1000000000) None".to_owned()]));
    // Version 11 with the slot hints of 7.4, a function of a release candidate, and an empty list.
    let mut new =
        b"REDIS0011\xF4\x05\x01\x00\xF6\x03lib\x03LUA\x00\x03abc\x01\x01l\x00\xFF".to_vec();
    new.extend_from_slice(&[0; 8]);
    let expected = vec!["function #!LUA name=lib\\nabc".to_owned(), "l is empty".to_owned()];
    assert_eq!(found_in(&new, 2), Ok(expected));
}

#[test]
fn what_is_no_file_of_a_known_version_is_refused() {
    for (bytes, error) in [
        (&b"REDIS0012\xFF"[..], Error::Version(12)),
        (b"REDIS0000\xFF", Error::Version(0)),
        (b"REDISabcd\xFF", Error::NotRdb),
        (b"*1\r\n$4\r\nPING\r\n", Error::NotRdb),
        (b"REDIS0010\xF3", Error::UnknownRecord(0xF3)),
        (b"REDIS0010\x14\x01k\x00", Error::UnknownRecord(20)),
        (
            b"REDIS0010\xFF\x01\0\0\0\0\0\0\0",
            Error::Checksum { expected: 1, computed: crc64::crc64(b"REDIS0010\xFF") },
        ),
        (
            b"REDIS0010\xF7\x81\x04\x10\x41\x04\x10\x41\x04\x01",
            Error::Module("BBBBBBBBB".to_owned()),
        ),
    ] {
        assert_eq!(found_in(bytes, 64), Err(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_written_is_read_again() {
    let replication = ReplicationPoint { database: 3, id: "a".repeat(40), offset: 1234 };
    let header = Header {
        created: 1_700_000_000,
        used_memory: 4096,
        replication: Some(replication),
        aof_base: true,
    };
    let mut file = Summed::new(Vec::new(), true);
    let mut out = Vec::new();
    write_header(&header, &mut out);
    write_function(b"#!lua name=x", Compression::ALL, &mut out);
    write_database(7, &mut out);
    write_sizes(2, 1, &mut out);
    file.write(&out).unwrap();
    for (key, expiry, usage) in [
        (&b"12"[..], Some(1_800_000_000_123), Some(Usage::Idle(70_000))),
        (b"k", None, Some(Usage::Frequency(9))),
    ] {
        let value = Value::Str(b"v".to_vec());
        let code = encode::type_code(&value.as_ref());
        out.clear();
        write_key_head(&KeyHead { key, code, expiry, usage }, Compression::ALL, &mut out);
        encode::write_value(&value.as_ref(), Compression::ALL, &mut out);
        file.write(&out).unwrap();
    }
    let mut bytes = file.finish().unwrap();
    bytes.extend_from_slice(b"what follows on the same connection");
    for piece in [1, 7, bytes.len()] {
        assert_eq!(
            found_in(&bytes, piece).unwrap(),
            [
                "redis-ver=7.0.15",
                "redis-bits=64",
                "ctime=1700000000",
                "used-mem=4096",
                "repl-stream-db=3",
                &format!("repl-id={}", "a".repeat(40)),
                "repl-offset=1234",
                "aof-base=1",
                "function #!lua name=x",
                "database 7",
                "2 keys, 1 expiring",
                "12 string v Some(1800000000123) Some(Idle(70000))",
                "k string v None Some(Frequency(9))",
            ],
            "in pieces of {piece}"
        );
    }
}
