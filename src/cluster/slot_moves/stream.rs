//! What goes over the connection of a move: the keys of the slots, and then what was written to them.
//!
//! Keys come as records of a snapshot and leave as RESTORE, byte for byte the value that was recorded; nothing is
//! decoded. Effects are those of the journal, of which only commands for the slots go on. Units stay whole: what is
//! left of a block stands between MULTI and EXEC, if it is more than one command.

use crate::cluster::slot_set::SlotSet;
use crate::command::CommandTable;
use crate::journal::recorder::write_effect;
use crate::persistence::rdb::Error;
use crate::persistence::rdb::border::{BorderReader, Found, RawKey};
use crate::persistence::rdb::payload::seal;
use crate::persistence::rdb::write_file::Usage;
use crate::resp::{Limits, Parser, Step};
use crate::slot::slot_of;

/// Bytes for the target, and how many commands they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Commands {
    /// In RESP, one behind the other.
    pub bytes: Vec<u8>,
    /// Each is answered.
    pub count: u64,
}

impl Commands {
    /// Appends one.
    pub fn add(&mut self, words: &[&[u8]]) {
        write_effect(&mut self.bytes, words);
        self.count += 1;
    }

    /// Appends others.
    pub fn append(&mut self, mut other: Self) {
        self.bytes.append(&mut other.bytes);
        self.count += other.count;
    }
}

/// Makes RESTORE commands of a snapshot in the form of an RDB file.
pub struct KeyStream {
    reader: BorderReader,
}

impl Default for KeyStream {
    fn default() -> Self {
        Self { reader: BorderReader::new(false) }
    }
}

impl KeyStream {
    /// Takes the next bytes of the snapshot; the commands for those keys that they complete.
    pub fn feed(&mut self, bytes: &[u8], slots: &SlotSet) -> Result<Commands, Error> {
        self.reader.feed(bytes);
        let mut commands = Commands::default();
        loop {
            match self.reader.find()? {
                Found::NeedsMore | Found::End => return Ok(commands),
                Found::Key(raw) if slots.contains(slot_of(raw.head.key)) => {
                    add_restore(&raw, &mut commands);
                }
                _ => {}
            }
        }
    }
}

fn add_restore(raw: &RawKey<'_>, commands: &mut Commands) {
    let mut payload = Vec::with_capacity(raw.value.len() + 16);
    payload.push(raw.head.code.byte());
    payload.extend_from_slice(raw.value);
    seal(0, &mut payload);
    // Zero would mean that it does not expire.
    let expiry = raw.head.expiry.map_or(0, |at| at.max(1)).to_string();
    let mut words: Vec<&[u8]> =
        vec![b"RESTORE", raw.head.key, expiry.as_bytes(), &payload, b"REPLACE", b"ABSTTL"];
    let number;
    match raw.head.usage {
        Some(Usage::Idle(seconds)) => {
            number = seconds.to_string();
            words.extend([&b"IDLETIME"[..], number.as_bytes()]);
        }
        Some(Usage::Frequency(count)) => {
            number = count.to_string();
            words.extend([&b"FREQ"[..], number.as_bytes()]);
        }
        None => {}
    }
    commands.add(&words);
}

/// A command that empties the whole data set: no move goes on after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Emptied;

/// What of some effects, whole units, is for these slots.
pub fn effects_for(slots: &SlotSet, bytes: &[u8]) -> Result<Commands, Emptied> {
    let (mut commands, mut block) = (Commands::default(), None::<Commands>);
    let (mut parser, mut at) = (Parser::default(), 0);
    let limits = Limits { bulk_bytes_max: usize::MAX, ..Limits::default() };
    let mut words = Vec::new();
    while let Ok(Step::Command { consumed }) = parser.next(&bytes[at..], &limits, &mut words) {
        let effect = &bytes[at..at + consumed];
        at += consumed;
        match kind_of(&words, slots) {
            Kind::Begin => block = Some(Commands::default()),
            Kind::End => {
                if let Some(block) = block.take() {
                    close_block(block, &mut commands);
                }
            }
            Kind::Empties => return Err(Emptied),
            Kind::Wanted => {
                let into = block.as_mut().unwrap_or(&mut commands);
                into.bytes.extend_from_slice(effect);
                into.count += 1;
            }
            Kind::Elsewhere => {}
        }
        words.clear();
    }
    debug_assert!(at == bytes.len() && block.is_none(), "parcels hold whole units");
    Ok(commands)
}

fn close_block(block: Commands, commands: &mut Commands) {
    if block.count > 1 {
        commands.add(&[b"MULTI"]);
        commands.append(block);
        commands.add(&[b"EXEC"]);
    } else {
        commands.append(block);
    }
}

enum Kind {
    Begin,
    End,
    Empties,
    Wanted,
    Elsewhere,
}

fn kind_of(words: &[&[u8]], slots: &SlotSet) -> Kind {
    let table = CommandTable::get();
    let Some(id) = words.first().and_then(|name| table.find(name)) else { return Kind::Elsewhere };
    let mut row = table.command(id);
    match row.name {
        "multi" => return Kind::Begin,
        "exec" => return Kind::End,
        "flushall" | "flushdb" | "swapdb" => return Kind::Empties,
        _ => {}
    }
    if let Some(id) = words.get(1).and_then(|word| table.find_subcommand(row, word)) {
        row = table.command(id);
    }
    let mut is_wanted = false;
    row.for_each_key(words, |at| {
        is_wanted |= words.get(at).is_some_and(|key| slots.contains(slot_of(key)));
    });
    if is_wanted { Kind::Wanted } else { Kind::Elsewhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::rdb::Compression;
    use crate::persistence::rdb::TypeCode;
    use crate::persistence::rdb::payload;
    use crate::persistence::rdb::write_file::{
        Header, KeyHead, write_database, write_end, write_header, write_key_head,
    };

    fn words_of(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        lines.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    fn effects(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            write_effect(&mut out, &words);
        }
        out
    }

    fn slots(keys: &[&str]) -> SlotSet {
        keys.iter().map(|key| slot_of(key.as_bytes())).collect()
    }

    #[test]
    fn only_what_is_written_to_the_slots_goes_on_and_blocks_stay_whole() {
        let mine = slots(&["a"]);
        for (lines, expected, count) in [
            (&["SELECT 0", "SET a 1", "SET b 2"][..], "SET a 1", 1),
            (&["MULTI", "INCR {a}x", "INCR {a}y", "EXEC"], "MULTI INCR {a}x INCR {a}y EXEC", 4),
            (&["MULTI", "DEL b", "INCR a", "EXEC"], "INCR a", 1),
            (&["MULTI", "DEL b", "EXEC", "PUBLISH a m"], "", 0),
            (&["XGROUP CREATE a g 0", "XGROUP CREATE b g 0"], "XGROUP CREATE a g 0", 1),
            (&["RENAME {a}1 {a}2"], "RENAME {a}1 {a}2", 1),
            (&["FUNCTION LOAD x", "SPUBLISH a m"], "", 0),
        ] {
            let commands = effects_for(&mine, &effects(lines)).expect("nothing is emptied");
            assert_eq!((words_of(&commands.bytes).as_str(), commands.count), (expected, count));
        }
        assert_eq!(effects_for(&mine, &effects(&["FLUSHALL"])), Err(Emptied));
    }

    #[test]
    fn keys_of_the_slots_become_payloads_however_the_snapshot_is_cut() {
        let mut file = Vec::new();
        let header = Header { created: 1, used_memory: 2, replication: None, aof_base: false };
        write_header(&header, &mut file);
        write_database(0, &mut file);
        for (key, expiry) in [(&b"a"[..], Some(5000)), (b"b", None), (b"{a}2", None)] {
            let head = KeyHead { key, code: TypeCode::String, expiry, usage: None };
            write_key_head(&head, Compression::NONE, &mut file);
            crate::persistence::rdb::encode::write_text(b"value", Compression::NONE, &mut file);
        }
        write_end(&mut file);
        file.extend_from_slice(&[0; 8]);
        let mut sealed = vec![TypeCode::String.byte()];
        crate::persistence::rdb::encode::write_text(b"value", Compression::NONE, &mut sealed);
        payload::seal(0, &mut sealed);
        let mut expected = Commands::default();
        expected.add(&[b"RESTORE", b"a", b"5000", &sealed, b"REPLACE", b"ABSTTL"]);
        expected.add(&[b"RESTORE", b"{a}2", b"0", &sealed, b"REPLACE", b"ABSTTL"]);
        for length in [1, 7, file.len()] {
            let (mut stream, mut commands) = (KeyStream::default(), Commands::default());
            for piece in file.chunks(length) {
                commands.append(stream.feed(piece, &slots(&["a"])).expect("a good file"));
            }
            assert_eq!(commands, expected, "{length}");
        }
    }
}
