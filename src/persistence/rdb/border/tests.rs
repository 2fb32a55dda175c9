//! Borders are where decoding finds them: in what Redis wrote, in random values and in damaged ones, however
//! the bytes are cut.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::keyspace::Value;
use crate::persistence::rdb::read_file::{self, FileReader};
use crate::persistence::rdb::tests::{content, found_in, value};
use crate::persistence::rdb::write_file::{Summed, write_database, write_header};
use crate::persistence::rdb::{Limits, NEWEST_VERSION, encode, payload};

/// What a reader finds in `bytes` when they come in pieces of this size, the keys decoded as their owner does
/// it, and where the file ends.
fn found(bytes: &[u8], piece: usize, verify: bool) -> Result<(Vec<String>, u64), Error> {
    let mut reader = BorderReader::new(verify);
    let (mut pieces, mut all) = (bytes.chunks(piece), Vec::new());
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    loop {
        let version = reader.version();
        all.push(match reader.find()? {
            Found::NeedsMore => {
                reader.feed(pieces.next().ok_or(Error::Truncated)?);
                continue;
            }
            Found::Aux { name, value } => format!("{}={}", text(&name), text(&value)),
            Found::Database(number) => format!("database {number}"),
            Found::Sizes { keys, expiring } => format!("{keys} keys, {expiring} expiring"),
            Found::Function(source) => format!("function {}", text(&source)),
            Found::Key(key) => {
                let mut record = Vec::new();
                key.write(&mut record);
                decoded(record, version.max(reader.version()))?
            }
            Found::End => return Ok((all, reader.offset())),
        });
    }
}

/// The key of one record, as text.
fn decoded(record: Vec<u8>, version: u16) -> Result<String, Error> {
    let mut reader = FileReader::of_records(record, version, Limits::default());
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut decoded = None;
    loop {
        match reader.find(5)? {
            read_file::Found::Progress => {}
            read_file::Found::Key(key) => {
                let (value, name) = (content(&key.value), text(&key.key));
                decoded = Some(format!("{name} {value} {:?} {:?}", key.expiry, key.usage));
            }
            read_file::Found::EmptyKey(key) => decoded = Some(format!("{} is empty", text(&key))),
            read_file::Found::NeedsMore => {
                assert!(reader.unread().is_empty(), "a record is whole");
                return Ok(decoded.expect("a record is of one key"));
            }
            _ => panic!("a record is of a key"),
        }
    }
}

/// A file of the newest version with one key, whose type and value are these bytes.
fn file_of(typed: &[u8]) -> Vec<u8> {
    let version = format!("REDIS{NEWEST_VERSION:04}");
    let (code, value) = typed.split_first().expect("there is a type");
    [version.as_bytes(), &[*code, 1, b'k'], value, &[0xFF], &[0; 8]].concat()
}

fn vectors(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rdb");
    let mut vectors = Vec::new();
    for file in fs::read_dir(folder).expect("the vectors are there") {
        let path = file.expect("a folder can be read").path();
        if path.extension().is_some_and(|extension| extension == kind) {
            vectors.push((path.display().to_string(), fs::read(&path).expect("it can be read")));
        }
    }
    assert!(!vectors.is_empty(), "there are vectors");
    vectors
}

#[test]
fn files_by_redis_fall_into_the_records_that_decoding_finds() {
    for (name, bytes) in vectors("rdb") {
        let expected = found_in(&bytes, 64).unwrap_or_else(|error| panic!("{name}: {error}"));
        for piece in [1, 2, 3, 7, 64, 1000, bytes.len()] {
            let (all, end) = found(&bytes, piece, true).expect("the file is good");
            assert_eq!(all, expected, "{name} in pieces of {piece}");
            assert_eq!(end, bytes.len() as u64, "{name}");
        }
    }
}

#[test]
fn values_of_every_type_end_where_redis_ended_them() {
    let mut types = std::collections::BTreeSet::new();
    for (name, bytes) in vectors("bin") {
        let typed = &bytes[..bytes.len() - 10];
        if name.contains("function") {
            continue;
        }
        types.insert(typed[0]);
        let file = file_of(typed);
        for piece in [1, 5, file.len()] {
            let mut reader = BorderReader::new(true);
            let mut pieces = file.chunks(piece);
            let value = loop {
                match reader.find().unwrap_or_else(|error| panic!("{name}: {error}")) {
                    Found::NeedsMore => reader.feed(pieces.next().expect("the value ends")),
                    Found::Key(key) => break key.value.to_vec(),
                    other => panic!("{name}: {other:?}"),
                }
            };
            assert_eq!(value, &typed[1..], "{name} in pieces of {piece}");
        }
        assert_eq!(found(&file, 9, true).map(|(all, _)| all), found_in(&file, 9), "{name}");
    }
    let all = (0..=21).filter(|code| TypeCode::from_byte(*code, NEWEST_VERSION).is_some());
    let missing: Vec<u8> = all.filter(|code| !types.contains(code)).collect();
    assert_eq!(missing, [6, 7], "all but the values of modules");
}

#[test]
fn what_is_said_about_a_key_belongs_to_the_next_one_whatever_stands_between() {
    let file = b"REDIS0004\xFD\x40\x42\x0F\x00\xF9\x07\xFA\x01a\x01b\xFE\x02\x00\x01k\xC0\x05\
        \x00\x01l\xC0\x06\xFFand more";
    for piece in [1, 4, file.len()] {
        let (all, end) = found(file, piece, true).expect("it is good");
        let expected = [
            "a=b",
            "database 2",
            "k string 5 Some(1000000000) Some(Frequency(7))",
            "l string 6 None None",
        ];
        assert_eq!(all, expected, "in pieces of {piece}");
        assert_eq!(end, file.len() as u64 - 8);
    }
}

#[test]
fn a_key_tells_where_it_stands_in_the_file() {
    let file = b"REDIS0004\xFE\x02\x00\x01k\xC0\x05\x00\x01l\xC0\x06\xFF";
    for piece in [1, 4, file.len()] {
        let (mut reader, mut pieces) = (BorderReader::new(true), file.chunks(piece));
        let mut offsets = Vec::new();
        loop {
            match reader.find().expect("it is good") {
                Found::NeedsMore => reader.feed(pieces.next().expect("it ends")),
                Found::Key(key) => offsets.push(key.offset),
                Found::End => break,
                _ => {}
            }
        }
        assert_eq!(offsets, [11, 16], "in pieces of {piece}");
    }
}

#[test]
fn what_has_no_border_is_refused_with_the_error_of_decoding() {
    for bytes in [
        &b"REDIS0012\xFF"[..],
        b"REDIS0000\xFF",
        b"*1\r\n$4\r\nPING\r\n",
        b"REDIS0010\xF3",
        b"REDIS0010\x14\x01k\x00",
        b"REDIS0010\x06\x01k\x00",
        b"REDIS0010\x07\x01k\x81\x04\x10\x41\x04\x10\x41\x04\x01",
        b"REDIS0010\xF7\x81\x04\x10\x41\x04\x10\x41\x04\x01",
        b"REDIS0010\xFF\x01\0\0\0\0\0\0\0",
        b"REDIS0010\x00\x01k\xC4\x00",
        b"REDIS0010\x01\x01k\xC0\x00",
        b"REDIS0010\x01\x01k\x82\x00",
        b"REDIS0010\x00\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"REDIS0010\x02\x01k\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01a",
    ] {
        let expected = found_in(bytes, 64).expect_err("no reader likes it");
        for piece in [1, 64] {
            assert_eq!(
                found(bytes, piece, true),
                Err(expected.clone()),
                "{}",
                bytes.escape_ascii()
            );
        }
    }
}

#[test]
fn a_damaged_file_is_noticed_wherever_it_is_cut_or_changed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rdb/all-types-v10.rdb");
    let bytes = fs::read(path).expect("the vector is there");
    for length in 0..bytes.len() {
        assert_eq!(found(&bytes[..length], 500, true), Err(Error::Truncated), "{length}");
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x11;
        assert!(found(&damaged, 500, true).is_err(), "byte {at}");
    }
}

proptest! {
    #[test]
    fn borders_of_random_values_are_found(
        values in prop::collection::vec((value(), prop::option::of(any::<i64>())), 1..6),
        piece in 1..300usize,
    ) {
        let mut file = Summed::new(Vec::new(), true);
        let mut out = Vec::new();
        let header = crate::persistence::rdb::write_file::Header {
            created: 1, used_memory: 1, replication: None, aof_base: false,
        };
        write_header(&header, &mut out);
        write_database(3, &mut out);
        let mut bodies = Vec::new();
        for (number, (value, expiry)) in values.iter().enumerate() {
            let (key, code) = (number.to_string().into_bytes(), encode::type_code(&value.as_ref()));
            let head = KeyHead { key: &key, code, expiry: *expiry, usage: Some(Usage::Idle(9)) };
            write_key_head(&head, Compression::ALL, &mut out);
            let before = out.len();
            encode::write_value(&value.as_ref(), Compression::ALL, &mut out);
            bodies.push((key, *expiry, out[before..].to_vec()));
        }
        file.write(&out).unwrap();
        let file = file.finish().unwrap();
        let (mut reader, mut pieces, mut keys) = (BorderReader::new(true), file.chunks(piece), Vec::new());
        loop {
            match reader.find().unwrap() {
                Found::NeedsMore => reader.feed(pieces.next().unwrap()),
                Found::Key(raw) => {
                    keys.push((raw.head.key.to_vec(), raw.head.expiry, raw.value.to_vec()));
                }
                Found::End => break,
                _ => {}
            }
        }
        prop_assert_eq!(keys, bodies);
        prop_assert_eq!(found(&file, piece, true).map(|(all, _)| all), found_in(&file, piece));
    }

    #[test]
    fn damage_makes_no_panic_and_what_decodes_has_the_same_borders(
        value in value(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        code in prop::option::of(0..24u8),
        piece in 1..100usize,
    ) {
        let mut typed = Vec::new();
        payload::dump(&value.as_ref(), Compression::ALL, &mut typed);
        typed.truncate(typed.len() - 10);
        // Another type, perhaps, but no opcode: that would be another file.
        let code = code.unwrap_or(typed[0]);
        for (at, byte) in damage {
            *at.get_mut(&mut typed) = byte;
        }
        typed[0] = code;
        let file = file_of(&typed);
        // Damage may bring the end forward, and what follows is then a wrong sum: both look at it.
        if let Ok(expected) = found_in(&file, piece) {
            prop_assert_eq!(found(&file, piece, true).map(|(all, _)| all), Ok(expected));
        } else {
            prop_assert!(found(&file, piece, true).is_err());
        }
    }
}

#[test]
fn a_large_value_leaves_no_large_buffer_behind() {
    let text = vec![b'x'; 3 * SPARE_BYTES_MAX];
    let mut typed = Vec::new();
    let value = Value::Str(text);
    payload::dump(&value.as_ref(), Compression::NONE, &mut typed);
    let mut file = file_of(&typed[..typed.len() - 10]);
    file.truncate(file.len() - 9);
    file.extend_from_slice(b"\x00\x01l\xC0\x06");
    let (mut reader, mut keys) = (BorderReader::new(true), 0);
    for piece in file.chunks(100_000).chain([&b"\xFF"[..], &[0; 8]]) {
        reader.feed(piece);
        while let Found::Key(_) = reader.find().expect("it is good") {
            keys += 1;
        }
    }
    assert_eq!(keys, 2);
    assert!(reader.buffer.capacity() <= SPARE_BYTES_MAX + 100_000);
}
