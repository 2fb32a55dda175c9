//! Files that this crate writes are loaded by redis-server 7.0, and files that redis-server saves are read here,
//! key for key the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use corelane::datatypes::hash::Hash;
use corelane::datatypes::list::{End, List};
use corelane::datatypes::set::Set;
use corelane::datatypes::zset::ZSet;
use corelane::keyspace::Value;
use corelane::persistence::rdb::read_file::{FileReader, Found};
use corelane::persistence::rdb::write_file::{
    Header, KeyHead, Summed, write_database, write_header, write_key_head, write_sizes,
};
use corelane::persistence::rdb::{Compression, Limits, ValueEncoder, encode, payload};

use super::redis::Redis;

/// Values of every type and encoding, by key.
fn values() -> BTreeMap<Vec<u8>, Value> {
    let limits = Limits::default();
    let texts = |count: u32| (0..count).map(|n| format!("{n} and {}", n * 7 % 5).into_bytes());
    let list = |count| {
        let mut list = List::new(limits.list);
        texts(count).for_each(|text| list.push(End::Tail, &text));
        Value::List(Box::new(list))
    };
    let set = |count, ints| {
        let mut set = Set::default();
        for (number, text) in texts(count).enumerate() {
            let number = number.to_string();
            set.insert(if ints { number.as_bytes() } else { &text }, limits.set);
        }
        Value::Set(Box::new(set))
    };
    let hash = |count| {
        let mut hash = Hash::default();
        texts(count).for_each(|text| {
            hash.set(&text, &text, limits.hash);
        });
        Value::Hash(Box::new(hash))
    };
    let zset = |count: u32| {
        let mut zset = ZSet::default();
        for (number, text) in texts(count).enumerate() {
            zset.insert(&text, number as f64 / 3.0 - 5.0, limits.zset);
        }
        Value::ZSet(Box::new(zset))
    };
    [
        ("12345", Value::Int(-7)),
        ("text", Value::Str(b"some text".to_vec())),
        ("long text", Value::Str(b"again and again ".repeat(20_000))),
        ("list", list(3)),
        ("long list", list(20_000)),
        ("ints", set(100, true)),
        ("set", set(20_000, false)),
        ("hash", hash(10)),
        ("table", hash(20_000)),
        ("zset", zset(10)),
        ("skiplist", zset(20_000)),
    ]
    .map(|(key, value)| (key.as_bytes().to_vec(), value))
    .into()
}

fn write(values: &BTreeMap<Vec<u8>, Value>) -> Vec<u8> {
    let header =
        Header { created: 1_700_000_000, used_memory: 1, replication: None, aof_base: false };
    let (mut file, mut out) = (Summed::new(Vec::new(), true), Vec::new());
    write_header(&header, &mut out);
    write_database(0, &mut out);
    write_sizes(values.len() as u64, 1, &mut out);
    for (key, value) in values {
        let value = value.as_ref();
        let code = encode::type_code(&value);
        let expiry = (key == b"text").then_some(4_000_000_000_000);
        write_key_head(&KeyHead { key, code, expiry, usage: None }, Compression::ALL, &mut out);
        let mut encoder = ValueEncoder::new(Compression::BRIEF);
        while !encoder.slice(&value, 100, &mut out) {
            file.write(&std::mem::take(&mut out)).unwrap();
        }
    }
    file.write(&out).unwrap();
    file.finish().unwrap()
}

fn read(path: &Path) -> BTreeMap<Vec<u8>, (Value, Option<i64>)> {
    let bytes = fs::read(path).unwrap();
    let mut reader = FileReader::new(Limits::default(), true);
    let (mut pieces, mut keys) = (bytes.chunks(1000), BTreeMap::new());
    loop {
        match reader.find(50).expect("the file is good") {
            Found::NeedsMore => reader.feed(pieces.next().expect("the file has an end")),
            Found::Key(found) => drop(keys.insert(found.key, (found.value, found.expiry))),
            Found::End => return keys,
            _ => {}
        }
    }
}

/// A value as bytes that do not depend on the order of a hash table.
fn content(value: &Value) -> Vec<Vec<u8>> {
    let mut parts = match value {
        Value::Set(set) => set.iter().map(|member| member.to_vec()).collect(),
        Value::Hash(hash) => {
            hash.iter().map(|(field, value)| [field.to_vec(), value.to_vec()].concat()).collect()
        }
        other => {
            let mut out = Vec::new();
            payload::dump(&other.as_ref(), Compression::NONE, &mut out);
            vec![out]
        }
    };
    parts.sort();
    parts
}

#[test]
fn redis_loads_our_files_and_we_load_what_it_saves() {
    let values = values();
    let redis =
        Redis::start("no", |folder| fs::write(folder.join("dump.rdb"), write(&values)).unwrap());
    assert_eq!(redis.ask("DBSIZE"), format!(":{}\r\n", values.len()));
    assert_eq!(redis.ask("PEXPIRETIME text"), ":4000000000000\r\n");
    for (key, value) in &values {
        let dump = redis.dump(key);
        let (body, version) = payload::open(&dump).expect("Redis seals what it dumps");
        let theirs = payload::restore(body, version, Limits::default()).expect("and dumps values");
        assert!(content(&theirs) == content(value), "{}", key.escape_ascii());
    }
    assert_eq!(redis.ask("SAVE"), "+OK\r\n");
    let saved = read(&redis.folder.join("dump.rdb"));
    assert_eq!(saved.len(), values.len());
    for (key, (value, expiry)) in &saved {
        assert!(content(value) == content(&values[key]), "{}", key.escape_ascii());
        assert_eq!(expiry.is_some(), key == b"text");
    }
}
