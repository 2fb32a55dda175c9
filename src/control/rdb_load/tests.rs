//! What is read reaches its owners whole and in order, within bounds, and every way to fail is told when nothing is
//! under way.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::keyspace::Key;
use crate::persistence::rdb::read_file::{self, FileReader};
use crate::persistence::rdb::write_file::{
    Header, KeyHead, Summed, write_function, write_header, write_key_head,
};
use crate::persistence::rdb::{Compression, Limits, TypeCode};

/// A load, with shards that note which keys they get.
struct World {
    load: RdbLoad,
    process: Arc<Process>,
    shards: ShardMap,
    sent: VecDeque<(ShardId, LoadBatch)>,
    most_under_way: usize,
    /// By database and key.
    keys: BTreeMap<(u64, Vec<u8>), ShardId>,
}

impl World {
    fn new(file: Vec<u8>, shards: u16) -> Self {
        let process = Arc::new(Process::new("a".repeat(40), 0, None));
        let shards = ShardMap::new(shards).expect("a number of shards");
        let config = Config::default();
        let (length, source) = (file.len() as u64, Box::new(io::Cursor::new(file)));
        let rules = LoadRules::default();
        let load = RdbLoad::of(source, length, rules, &config, shards, Arc::clone(&process));
        let (sent, keys) = (VecDeque::new(), BTreeMap::new());
        Self { load, process, shards, sent, most_under_way: 0, keys }
    }

    fn step(&mut self) -> Result<Progress, LoadError> {
        let sent = &mut self.sent;
        let progress = self.load.step(&mut |shard, message| {
            let Message::LoadRecords(batch) = message else { panic!("only records are sent") };
            sent.push_back((shard, *batch));
        });
        for shard in self.shards.iter() {
            let under_way = self.sent.iter().filter(|(to, _)| *to == shard).count();
            self.most_under_way = self.most_under_way.max(under_way);
        }
        progress
    }

    /// The oldest batch is done.
    fn serve(&mut self, result: Result<(), BadRecord>) {
        let (shard, batch) = self.sent.pop_front().expect("something is under way");
        let count = batch.offsets.len();
        let mut reader = FileReader::of_records(batch.records, batch.version, Limits::default());
        let (mut database, mut keys) = (0, 0);
        loop {
            match reader.find(100).expect("records are whole") {
                read_file::Found::Database(number) => database = number,
                read_file::Found::Key(found) => {
                    assert_eq!(self.shards.owner(Key::new(&found.key).slot), shard);
                    assert_eq!(self.keys.insert((database, found.key), shard), None);
                    keys += 1;
                }
                read_file::Found::NeedsMore => break,
                _ => {}
            }
        }
        assert_eq!(keys, count as u64, "each key has an offset");
        self.load.on_loaded(RecordsLoaded { shard, keys, expired: 0, empty: 0, result });
    }

    fn run(&mut self) -> Result<Outcome, LoadError> {
        loop {
            match self.step()? {
                Progress::Going => {}
                Progress::Waiting => self.serve(Ok(())),
                Progress::Done(outcome) => return Ok(*outcome),
            }
        }
    }
}

/// A file of `count` strings of a hundred bytes, from one database to the next after each hundred.
fn large_file(count: u64) -> Vec<u8> {
    let (mut file, mut out) = (Summed::new(Vec::new(), true), Vec::new());
    let header = Header { created: 1, used_memory: 1, replication: None, aof_base: false };
    write_header(&header, &mut out);
    for number in 0..count {
        if number % 100 == 0 {
            write_database(number / 100 % 16, &mut out);
        }
        let key = format!("key {number}").into_bytes();
        let head = KeyHead { key: &key, code: TypeCode::String, expiry: None, usage: None };
        write_key_head(&head, Compression::NONE, &mut out);
        out.push(100);
        // A length of 14 bits.
        let at = out.len() - 1;
        out.splice(at.., [0x40, 100]);
        out.extend([b'x'; 100]);
    }
    file.write(&out).unwrap();
    file.finish().unwrap()
}

#[test]
fn all_keys_reach_their_owners_and_no_shard_gets_more_than_it_can_do() {
    for shards in [1, 3] {
        let file = large_file(30_000);
        let length = file.len() as u64;
        let mut world = World::new([file, b"*1\r\n$4\r\nPING\r\n".to_vec()].concat(), shards);
        let outcome = world.run().expect("it is good");
        assert_eq!((outcome.keys, world.keys.len()), (30_000, 30_000));
        for number in 0..30_000_u64 {
            let key = (number / 100 % 16, format!("key {number}").into_bytes());
            assert!(world.keys.contains_key(&key), "{number}");
        }
        assert!(world.most_under_way > 1 && world.most_under_way <= BATCHES_UNDER_WAY_MAX + 1);
        assert_eq!(outcome.end, length, "what follows the checksum is somebody else's");
        assert_eq!(world.load.loaded_bytes(), length);
        assert_eq!(world.process.persistence().load_keys, 30_000);
    }
}

#[test]
fn a_file_by_redis_is_loaded_with_what_it_says_about_itself() {
    let file = include_bytes!("../../../tests/vectors/rdb/all-types-v10.rdb").to_vec();
    let mut world = World::new(file.clone(), 3);
    let outcome = world.run().expect("it is good");
    assert_eq!((outcome.keys, outcome.libraries, outcome.end), (29, 1, file.len() as u64));
    assert_eq!(outcome.facts.server.as_deref(), Some("7.0.15"));
    assert!(!outcome.facts.is_aof_base && outcome.facts.created.is_some());
    assert_eq!(world.process.scripts.catalogue().libraries().count(), 1);
    assert_eq!(world.keys.keys().filter(|(database, _)| *database == 9).count(), 1);
}

#[test]
fn the_place_in_a_replication_stream_is_taken_from_the_file() {
    let point = ReplicationPoint { database: 3, id: "b".repeat(40), offset: 1234 };
    let header =
        Header { created: 1, used_memory: 1, replication: Some(point.clone()), aof_base: true };
    let (mut file, mut out) = (Summed::new(Vec::new(), true), Vec::new());
    write_header(&header, &mut out);
    file.write(&out).unwrap();
    let outcome = World::new(file.finish().unwrap(), 1).run().expect("it is good");
    assert_eq!(outcome.facts.replication(), Some(point));
    assert!(outcome.facts.is_aof_base);
    let mut facts = FileFacts::default();
    facts.note(b"repl-id", b"too short");
    facts.note(b"repl-offset", b"7");
    assert_eq!(facts.replication(), None);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_when_nothing_is_under_way() {
    let good = large_file(5000);
    let mut damaged = good.clone();
    damaged[1000] ^= 1;
    let mut library = Vec::new();
    write_function(b"#!lua name=x\nerror('no')", Compression::NONE, &mut library);
    for (file, expected) in [
        (good[..300_000].to_vec(), "] Short read loading DB"),
        (damaged, "Wrong RDB checksum expected: ("),
        (Vec::new(), "[offset 0] Short read loading DB"),
        (b"REDIS0012\xFF".to_vec(), "[offset 0] Can't handle RDB format version 12"),
        (b"RUDIS0010\xFF".to_vec(), "[offset 0] Wrong signature trying to load DB from file"),
        (
            b"REDIS0010\xFE\x10\x00\x01k\x01v\xFF".to_vec(),
            "[offset 9] FATAL: Data file was created with a Redis server configured to handle more than 16 databases",
        ),
        ([b"REDIS0010", &library[..], b"\xFF"].concat(), "[offset 9] Failed loading library, "),
        (b"REDIS0010\x07\x01k\x01".to_vec(), "[offset 9] data of the module "),
    ] {
        let mut world = World::new(file, 2);
        let error = world.run().expect_err("it is bad").to_string();
        assert!(error.contains(expected), "{error} has not {expected}");
        assert!(world.sent.is_empty(), "{error}");
    }
}

#[test]
fn what_a_shard_cannot_load_ends_the_load() {
    let mut world = World::new(large_file(20_000), 2);
    while world.step().expect("it is good so far") == Progress::Going {}
    assert!(world.sent.len() > 2);
    let fault = Fault::Duplicate(b"k".to_vec(), 4);
    world.serve(Err(BadRecord { offset: 77, fault }));
    while !world.sent.is_empty() {
        assert_eq!(world.step().expect("others are at work"), Progress::Waiting);
        world.serve(Ok(()));
    }
    let error = world.step().expect_err("it was told").to_string();
    assert_eq!(error, "[offset 77] RDB has duplicated key 'k' in DB 4");
}
