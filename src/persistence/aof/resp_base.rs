//! A base as commands (`aof-use-rdb-preamble no`): for each key those that make it.
//!
//! Promise: the same commands with the same words as Redis 7.0 writes, at most [`ITEMS_MAX`] elements in one, so
//! that loading never holds a command much larger than its elements.

use crate::datatypes::listpack::Element;
use crate::datatypes::number::format_f64_17g;
use crate::datatypes::stream::{Group, Stream, StreamId};
use crate::journal::recorder::write_effect;
use crate::keyspace::ValueRef;

/// Most elements of one command (Redis 7.0 `server.h`, AOF_REWRITE_ITEMS_PER_CMD).
const ITEMS_MAX: usize = 64;

/// Appends the unix time in seconds, as `aof-timestamp-enabled` asks for.
pub fn write_timestamp(seconds: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"#TS:");
    out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends what makes a library of functions.
pub fn write_function(source: &[u8], out: &mut Vec<u8>) {
    write_effect(out, &[b"FUNCTION", b"LOAD", source]);
}

/// Appends that the keys to come are of this database.
pub fn write_database(database: u64, out: &mut Vec<u8>) {
    write_effect(out, &[b"SELECT", itoa::Buffer::new().format(database).as_bytes()]);
}

/// Appends the commands that make `key`. It may expire, at `expiry` unix ms.
pub fn write_key(key: &[u8], value: &ValueRef<'_>, expiry: Option<i64>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Str(value) => {
            write_effect(out, &[b"SET", key, value.as_bytes(&mut itoa::Buffer::new())]);
        }
        ValueRef::List(list) => {
            let mut items = Items::new(b"RPUSH", key, 1);
            list.iter().for_each(|item| items.push(item, out));
            items.end(out);
        }
        ValueRef::Set(set) => {
            let mut items = Items::new(b"SADD", key, 1);
            set.iter().for_each(|item| items.push(item, out));
            items.end(out);
        }
        ValueRef::ZSet(zset) => {
            let mut items = Items::new(b"ZADD", key, 2);
            let mut score_text = Vec::new();
            for (member, score) in zset.iter_all() {
                score_text.clear();
                format_f64_17g(score, &mut score_text);
                items.push(Element::Bytes(&score_text), out);
                items.push(member, out);
            }
            items.end(out);
        }
        ValueRef::Hash(hash) => {
            let mut items = Items::new(b"HMSET", key, 2);
            for (field, value) in hash.iter() {
                items.push(field, out);
                items.push(value, out);
            }
            items.end(out);
        }
        ValueRef::Stream(stream) => write_stream(key, stream, out),
    }
    if let Some(at) = expiry {
        write_effect(out, &[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
    }
}

/// Words that are gathered into commands of [`ITEMS_MAX`] elements.
struct Items<'a> {
    command: &'static [u8],
    key: &'a [u8],
    words_max: usize,
    /// The words one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl<'a> Items<'a> {
    fn new(command: &'static [u8], key: &'a [u8], words_each: usize) -> Self {
        let words_max = ITEMS_MAX * words_each;
        Self { command, key, words_max, bytes: Vec::new(), ends: Vec::new() }
    }

    fn push(&mut self, word: Element<'_>, out: &mut Vec<u8>) {
        self.bytes.extend_from_slice(word.as_bytes(&mut itoa::Buffer::new()));
        self.ends.push(self.bytes.len());
        if self.ends.len() == self.words_max {
            self.write(out);
        }
    }

    fn end(mut self, out: &mut Vec<u8>) {
        if !self.ends.is_empty() {
            self.write(out);
        }
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let mut words = vec![self.command, self.key];
        let mut from = 0;
        for end in &self.ends {
            words.push(&self.bytes[from..*end]);
            from = *end;
        }
        write_effect(out, &words);
        self.bytes.clear();
        self.ends.clear();
    }
}

fn write_stream(key: &[u8], stream: &Stream, out: &mut Vec<u8>) {
    let counters = stream.counters();
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        let id = entry.id.to_string();
        let mut texts = Vec::new();
        for (field, value) in entry.fields {
            texts.push(field.as_bytes(&mut itoa::Buffer::new()).to_vec());
            texts.push(value.as_bytes(&mut itoa::Buffer::new()).to_vec());
        }
        let mut words: Vec<&[u8]> = vec![b"XADD", key, id.as_bytes()];
        words.extend(texts.iter().map(Vec::as_slice));
        write_effect(out, &words);
    }
    if stream.is_empty() {
        // An entry that is trimmed as soon as it is there leaves a stream without any.
        write_effect(out, &[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]);
    }
    write_effect(
        out,
        &[
            b"XSETID",
            key,
            counters.last_id.to_string().as_bytes(),
            b"ENTRIESADDED",
            counters.entries_added.to_string().as_bytes(),
            b"MAXDELETEDID",
            counters.max_deleted_id.to_string().as_bytes(),
        ],
    );
    for (name, group) in stream.groups() {
        write_group(key, name, group, out);
    }
}

fn write_group(key: &[u8], name: &[u8], group: &Group, out: &mut Vec<u8>) {
    // Redis writes -1 where the number is not known, and reads it back.
    let entries_read = group.entries_read.unwrap_or(-1).to_string();
    write_effect(
        out,
        &[
            b"XGROUP",
            b"CREATE",
            key,
            name,
            group.last_id.to_string().as_bytes(),
            b"ENTRIESREAD",
            entries_read.as_bytes(),
        ],
    );
    for consumer in group.consumers() {
        if consumer.pending_len() == 0 {
            write_effect(out, &[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
            continue;
        }
        for id in consumer.pending(StreamId::MIN) {
            let Some(pending) = group.pending_entry(id) else { continue };
            write_effect(
                out,
                &[
                    b"XCLAIM",
                    key,
                    name,
                    consumer.name(),
                    b"0",
                    id.to_string().as_bytes(),
                    b"TIME",
                    pending.delivered_ms.to_string().as_bytes(),
                    b"RETRYCOUNT",
                    pending.deliveries.to_string().as_bytes(),
                    b"JUSTID",
                    b"FORCE",
                ],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datatypes::list::{End, List};
    use crate::datatypes::zset::{ZSet, ZSetLimits};
    use crate::keyspace::Value;
    use crate::persistence::aof::{Found, RecordReader};

    fn vector(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/persistence/");
        std::fs::read(format!("{folder}{name}")).expect("the vector is there")
    }

    /// The records as words with blanks.
    fn records(bytes: &[u8]) -> Vec<String> {
        let mut reader = RecordReader::new(0);
        reader.feed(bytes);
        let mut records = Vec::new();
        loop {
            match reader.find().unwrap() {
                Found::NeedsMore => return records,
                Found::Annotation(_) => {}
                Found::Record => {
                    let words = reader.words().map(String::from_utf8_lossy);
                    records.push(words.collect::<Vec<_>>().join(" "));
                }
            }
        }
    }

    #[test]
    fn elements_come_in_commands_of_at_most_64() {
        let mut list = List::new(Default::default());
        (0..130).for_each(|number| list.push(End::Tail, number.to_string().as_bytes()));
        let mut out = Vec::new();
        write_key(b"l", &Value::List(Box::new(list)).as_ref(), Some(5), &mut out);
        let lengths: Vec<_> =
            records(&out).iter().map(|record| record.split(' ').count()).collect();
        assert_eq!(lengths, [66, 66, 4, 3]);
        let mut zset = ZSet::for_members(65, 3, ZSetLimits::default());
        for number in 0..65u32 {
            let score = f64::from(number) / 10.0;
            zset.insert(number.to_string().as_bytes(), score, ZSetLimits::default());
        }
        out.clear();
        write_key(b"z", &Value::ZSet(Box::new(zset)).as_ref(), None, &mut out);
        let records = records(&out);
        assert_eq!(records.len(), 2);
        assert!(records[0].starts_with("ZADD z 0 0 0.10000000000000001 1 "), "{}", records[0]);
        assert_eq!(records[1], "ZADD z 6.4000000000000004 64");
    }

    #[test]
    fn annotations_and_libraries_are_as_redis_writes_them() {
        let mut out = Vec::new();
        write_timestamp(1795356194, &mut out);
        write_function(
            b"#!lua name=l\nredis.register_function('f', function(k,a) return 1 end)",
            &mut out,
        );
        write_database(0, &mut out);
        assert!(vector("appendonly.aof.4.base.aof-resp-base").starts_with(&out));
    }
}
