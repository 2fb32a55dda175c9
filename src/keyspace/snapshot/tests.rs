//! Random work between the slices of a walk: the records are the keyspace at the mark.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::datatypes::list::{End, List, NodeLimits};
use crate::datatypes::zset::ZSet;
use crate::keyspace::{DbKey, NewExpiry, Value};
use crate::persistence::rdb::payload;
use crate::persistence::rdb::read_file::{FileReader, Found};
use crate::persistence::rdb::write_file::{Header, Summed, write_database, write_header};
use crate::persistence::rdb::{Limits, VERSION};

const DATABASES: usize = 3;
const NOW_MS: i64 = 1_700_000_000_000;
const RECORDING: Recording =
    Recording { compression: Compression::BRIEF, usage: UsageWanted::Nothing, ranges: None };

/// A key with what it holds, as DUMP writes it, and when it expires.
type State = BTreeMap<DbKey, (Vec<u8>, Option<i64>)>;

#[derive(Clone, Debug)]
enum Step {
    Set {
        at: DbKey,
        length: usize,
        expires: bool,
    },
    Append {
        at: DbKey,
    },
    Push {
        at: DbKey,
        elements: usize,
    },
    Score {
        at: DbKey,
        members: usize,
    },
    Expire {
        at: DbKey,
        after_ms: Option<i64>,
    },
    Remove {
        at: DbKey,
    },
    /// Taken out, changed elsewhere perhaps, and put back.
    Lend {
        at: DbKey,
        changes: bool,
    },
    Rename {
        at: DbKey,
        to: usize,
    },
    Clear {
        database: usize,
    },
    Swap {
        databases: (usize, usize),
    },
    Wait {
        ms: i64,
    },
    Walk {
        slices: usize,
    },
    Take,
}

fn any_key() -> impl Strategy<Value = DbKey> {
    // Keys of one tag share a slot, and a slot of more than one segment has to be among them.
    let name = prop_oneof![
        (0..40_usize).prop_map(|number| format!("key:{number}")),
        (0..600_usize).prop_map(|number| format!("{{tag}}:{number}")),
    ];
    (0..DATABASES, name.prop_map(String::into_bytes))
}

fn any_step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![8 => 0..60_usize, 1 => 3990..4010_usize, 1 => 16_000..200_000_usize];
    prop_oneof![
        12 => (any_key(), length, any::<bool>())
            .prop_map(|(at, length, expires)| Step::Set { at, length, expires }),
        4 => any_key().prop_map(|at| Step::Append { at }),
        4 => (any_key(), 1..3000_usize).prop_map(|(at, elements)| Step::Push { at, elements }),
        4 => (any_key(), 1..900_usize).prop_map(|(at, members)| Step::Score { at, members }),
        4 => (any_key(), proptest::option::of(-10..100_000_i64))
            .prop_map(|(at, after_ms)| Step::Expire { at, after_ms }),
        6 => any_key().prop_map(|at| Step::Remove { at }),
        6 => (any_key(), any::<bool>()).prop_map(|(at, changes)| Step::Lend { at, changes }),
        3 => (any_key(), 0..40_usize).prop_map(|(at, to)| Step::Rename { at, to }),
        1 => (0..DATABASES).prop_map(|database| Step::Clear { database }),
        1 => (0..DATABASES, 0..DATABASES).prop_map(|databases| Step::Swap { databases }),
        2 => (1..50_000_i64).prop_map(|ms| Step::Wait { ms }),
        12 => (1..20_usize).prop_map(|slices| Step::Walk { slices }),
        6 => Just(Step::Take),
    ]
}

/// A slice whose time is over as soon as it has done something.
fn brief() -> Budget {
    Budget::new(Duration::ZERO)
}

fn list_of(elements: usize) -> List {
    let mut list = List::new(NodeLimits::default());
    for number in 0..elements {
        list.push(End::Tail, format!("element:{number}").as_bytes());
    }
    list
}

fn score(zset: &mut ZSet, members: usize) {
    for number in 0..members {
        let member = format!("member:{number:020}");
        zset.insert(member.as_bytes(), number as f64 * 0.5, Default::default());
    }
}

struct World {
    keyspace: Keyspace,
    now_ms: i64,
    taken: Vec<Records>,
}

impl World {
    fn new() -> Self {
        let keyspace = Keyspace::new(DATABASES, NOW_MS, 7);
        Self { keyspace, now_ms: NOW_MS, taken: Vec::new() }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Set { at: (db, name), length, expires } => {
                let expiry =
                    if *expires { NewExpiry::At(self.now_ms + 5000) } else { NewExpiry::None };
                let text: Vec<u8> = (0..*length).map(|at| (at * at % 251) as u8).collect();
                self.keyspace[*db].set_str(&Key::new(name), &text, expiry);
            }
            Step::Append { at: (db, name) } => {
                if let Ok(Some(bytes)) = self.keyspace[*db].str_mut(&Key::new(name)) {
                    bytes.extend_from_slice(b"more");
                }
            }
            Step::Push { at: (db, name), elements } => {
                if let Ok(Some(list)) = self.keyspace[*db].get_mut::<List>(&Key::new(name)) {
                    list.push(End::Tail, b"one more");
                } else {
                    let value = Value::List(Box::new(list_of(*elements)));
                    self.keyspace[*db].set(&Key::new(name), value, NewExpiry::Keep);
                }
            }
            Step::Score { at: (db, name), members } => {
                if let Ok(zset) = self.keyspace[*db].get_or_insert::<ZSet>(&Key::new(name)) {
                    score(zset, *members);
                }
            }
            Step::Expire { at: (db, name), after_ms } => {
                let expiry = after_ms.map(|ms| self.now_ms + ms);
                self.keyspace[*db].set_expiry(&Key::new(name), expiry);
            }
            Step::Remove { at: (db, name) } => {
                self.keyspace[*db].remove(&Key::new(name));
            }
            Step::Lend { at: (db, name), changes } => {
                let Some(mut entry) = self.keyspace[*db].take(&Key::new(name)) else { return };
                // Meanwhile the walk passes the place where it was.
                self.keyspace.save_slice(&mut brief());
                if *changes {
                    entry.replace_int(1);
                }
                self.keyspace[*db].put_back(entry);
            }
            Step::Rename { at: (db, name), to } => {
                let Some(entry) = self.keyspace[*db].take(&Key::new(name)) else { return };
                let to = format!("key:{to}");
                let renamed = Entry::new(to.as_bytes(), entry.into_value(), None, 0);
                self.keyspace[*db].adopt(renamed);
            }
            Step::Clear { database } => self.keyspace[*database].clear(),
            Step::Swap { databases: (a, b) } => self.keyspace.swap(*a, *b),
            Step::Wait { ms } => {
                self.now_ms += ms;
                self.keyspace.set_now(self.now_ms);
                self.keyspace.expire_slice(&mut brief());
            }
            Step::Walk { slices } => {
                for _ in 0..*slices {
                    self.keyspace.save_slice(&mut brief());
                }
                self.keyspace.free_slice(&mut brief());
            }
            Step::Take => self.taken.extend(self.keyspace.take_records()),
        }
    }

    /// What the keyspace holds, expired keys included: they are saved like others.
    fn state(&self) -> State {
        let mut state = State::new();
        for (number, database) in self.keyspace.databases().iter().enumerate() {
            let entries = database.slots.iter().flat_map(SlotTable::iter);
            state.extend(entries.map(|entry| {
                let mut dump = Vec::new();
                payload::dump(&entry.value(), Compression::NONE, &mut dump);
                ((number, entry.key().to_vec()), (dump, entry.expiry()))
            }));
        }
        state
    }

    fn finish(&mut self) -> Vec<Records> {
        while self.keyspace.is_saving() {
            self.keyspace.save_slice(&mut brief());
            self.taken.extend(self.keyspace.take_records());
        }
        std::mem::take(&mut self.taken)
    }
}

/// What a file of these records holds.
fn read(records: &[Records]) -> State {
    let (mut bytes, mut sum) = (Vec::new(), Summed::new(Vec::new(), true));
    let header = Header { created: 0, used_memory: 0, replication: None, aof_base: false };
    write_header(&header, &mut bytes);
    for records in records {
        write_database(records.database as u64, &mut bytes);
        bytes.extend_from_slice(&records.bytes);
    }
    sum.write(&bytes).unwrap();
    let mut reader = FileReader::new(Limits::default(), true);
    reader.feed(&sum.finish().unwrap());
    let (mut state, mut database) = (State::new(), 0);
    loop {
        match reader.find(usize::MAX).expect("what was written can be read") {
            Found::Database(number) => database = number as usize,
            Found::Key(found) => {
                let mut dump = Vec::new();
                payload::dump(&found.value.as_ref(), Compression::NONE, &mut dump);
                let key = (database, found.key);
                assert!(!state.contains_key(&key), "{key:?} was written twice");
                state.insert(key, (dump, found.expiry));
            }
            Found::End => return state,
            Found::NeedsMore => panic!("the file ends too early"),
            _ => assert_eq!(reader.version(), VERSION),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 48 }, ..Default::default() })]
    #[test]
    fn a_snapshot_is_the_keyspace_at_the_mark(
        before in prop::collection::vec(any_step(), 0..400),
        rounds in prop::collection::vec(prop::collection::vec(any_step(), 0..200), 1..3),
    ) {
        let mut world = World::new();
        before.iter().for_each(|step| world.run(step));
        for steps in rounds {
            let expected = world.state();
            world.keyspace.mark_snapshot(&RECORDING);
            steps.iter().for_each(|step| world.run(step));
            let records = world.finish();
            prop_assert_eq!(records.iter().map(|r| r.keys).sum::<u64>(), expected.len() as u64);
            prop_assert!(read(&records) == expected);
            world.keyspace.databases().iter().for_each(Database::check);
            while world.keyspace.free_slice(&mut brief()) {}
        }
    }

    #[test]
    fn an_abandoned_snapshot_leaves_nothing_behind_and_the_next_one_is_whole(
        before in prop::collection::vec(any_step(), 0..200),
        steps in prop::collection::vec(any_step(), 0..60),
        more in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut world = World::new();
        before.iter().for_each(|step| world.run(step));
        world.keyspace.mark_snapshot(&RECORDING);
        steps.iter().for_each(|step| world.run(step));
        world.keyspace.abandon_snapshot();
        world.taken.clear();
        more.iter().for_each(|step| world.run(step));
        prop_assert!(world.finish().is_empty());
        let expected = world.state();
        world.keyspace.mark_snapshot(&RECORDING);
        prop_assert!(read(&world.finish()) == expected);
    }
}

#[test]
fn a_large_value_is_written_in_slices_and_in_one_go_when_it_is_written_to() {
    let mut zset = ZSet::default();
    score(&mut zset, 20_000);
    let mut world = World::new();
    let key = Key::new(b"large");
    world.keyspace[0].insert(&key, Value::ZSet(Box::new(zset)), None);
    for touched in [false, true] {
        let expected = world.state();
        world.keyspace.mark_snapshot(&RECORDING);
        let mut slices = 0;
        while world.keyspace.save_slice(&mut brief()) {
            slices += 1;
            if touched && slices == 10 {
                let zset = world.keyspace[0].get_mut::<ZSet>(&key).unwrap().expect("it is there");
                zset.remove(b"member:00000000000000000001");
            }
        }
        assert!(if touched { slices < 20 } else { slices > 1000 }, "{slices} slices");
        assert!(read(&world.finish()) == expected);
    }
}

#[test]
fn a_walk_waits_while_nobody_takes_its_records() {
    let mut world = World::new();
    for number in 0..10_000 {
        let name = format!("key:{number}");
        world.keyspace[1].set_str(&Key::new(name.as_bytes()), &[b'v'; 100], NewExpiry::None);
    }
    world.keyspace.mark_snapshot(&Recording { compression: Compression::NONE, ..RECORDING });
    let mut chunks = 0;
    while world.keyspace.is_saving() {
        while world.keyspace.save_slice(&mut brief()) {}
        assert!(world.keyspace.record_bytes() < RECORD_BYTES_MAX + 200);
        let records = world.keyspace.take_records();
        chunks += records.len();
        assert!(records.iter().all(|records| records.database == 1));
    }
    assert!(chunks >= 10_000 * 100 / RECORD_BYTES_MAX, "{chunks} chunks");
}
