//! What one shard records of its writes.
//!
//! Effects are formatted as they are stored and sent: RESP arrays of bulk strings. A *unit* is what one
//! command, one block between MULTI and EXEC, or one script does; units of two effects or more
//! are wrapped in MULTI and EXEC (specs: Redis 7.0 `server.c`, propagatePendingCommands).
//!
//! Promise: while nobody wants effects, nothing is recorded, at the cost of a branch per command.

/// The number of what a shard did until it let others know: dense over all shards, from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp(pub u64);

/// Whom effects are for. A script can leave some out (`redis.set_repl`), in these numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audience(u8);

impl Audience {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Append-only files.
    pub const FILE: Self = Self(1);
    /// Replicas.
    pub const REPLICAS: Self = Self(2);
    /// Append-only files and replicas.
    pub const ALL: Self = Self(3);

    /// The one of this number.
    pub fn new(number: i64) -> Option<Self> {
        u8::try_from(number).ok().map(Self).filter(|audience| audience.0 <= Self::ALL.0)
    }

    /// Those who belong to both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those who do not belong to the other.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those who belong to either.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Default for Audience {
    /// What redis.set_repl starts with.
    fn default() -> Self {
        Self::ALL
    }
}

/// Effects in a row that were made in one database, for the same readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The database.
    pub db: u16,
    /// Where the stretch ends in the bytes.
    pub end: usize,
    /// Whom it is for.
    pub audience: Audience,
}

/// Effects of one command, block or script.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    effects: usize,
    bytes: Vec<u8>,
    stretches: Vec<Stretch>,
}

impl Unit {
    /// Whether it has no effect.
    pub fn is_empty(&self) -> bool {
        self.effects == 0
    }

    fn add(&mut self, db: usize, audience: Audience, words: &[&[u8]]) {
        self.effects += 1;
        write_effect(&mut self.bytes, words);
        let end = self.bytes.len();
        note_stretch(&mut self.stretches, Stretch { db: db as u16, end, audience });
    }

    /// Appends what `further` did after it.
    pub fn extend(&mut self, further: &Unit) {
        let from = self.bytes.len();
        self.effects += further.effects;
        self.bytes.extend_from_slice(&further.bytes);
        for stretch in &further.stretches {
            note_stretch(&mut self.stretches, stretch.moved(from));
        }
    }

    fn clear(&mut self) {
        self.effects = 0;
        self.bytes.clear();
        self.stretches.clear();
    }
}

/// What a shard sends to the control core.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// The first of the stamps that it has, which follow each other;
    pub first: Stamp,
    /// and the last.
    pub stamp: Stamp,
    /// Effects, whole units only.
    pub bytes: Vec<u8>,
    /// Their databases.
    pub stretches: Vec<Stretch>,
}

/// See the module.
pub struct Recorder {
    /// Who wants effects.
    readers: Audience,
    /// A block or a script is at work: what it does is one unit.
    in_unit: bool,
    /// The command at work has said itself what its effects are.
    is_told: bool,
    /// The command at work is an effect even if it has changed nothing.
    is_forced: bool,
    /// Whom the effects of commands are for.
    audience: Audience,
    unit: Unit,
    /// Finished units that have not left the shard.
    parcel: Parcel,
}

impl Default for Recorder {
    /// One that nobody reads.
    fn default() -> Self {
        Self {
            readers: Audience::NONE,
            in_unit: false,
            is_told: false,
            is_forced: false,
            audience: Audience::ALL,
            unit: Unit::default(),
            parcel: Parcel::default(),
        }
    }
}

impl Recorder {
    /// Whether effects are wanted. A handler that rewrites its effect asks this before it takes the trouble.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.readers != Audience::NONE
    }

    /// Who wants effects.
    pub fn readers(&self) -> Audience {
        self.readers
    }

    /// Who wants effects from now on.
    pub fn set_readers(&mut self, readers: Audience) {
        self.readers = readers;
    }

    /// Records an effect of the command at work in place of its own words; to be called for each, if there are
    /// several.
    pub fn instead(&mut self, db: usize, words: &[&[u8]]) {
        if self.is_on() {
            self.is_told = true;
            if self.is_wanted() {
                self.unit.add(db, self.audience, words);
            }
        }
    }

    /// Records an effect of the command at work that matters to clients of replicas and to no data.
    pub fn for_replicas(&mut self, db: usize, words: &[&[u8]]) {
        let audience = self.audience.and(Audience::REPLICAS);
        if self.readers.and(audience) != Audience::NONE {
            self.unit.add(db, audience, words);
        }
    }

    /// Whether anybody reads the effects of the command at work.
    fn is_wanted(&self) -> bool {
        self.readers.and(self.audience) != Audience::NONE
    }

    /// The effects of the commands that follow are for these; what happens beside commands is for all.
    pub fn set_audience(&mut self, audience: Audience) {
        self.audience = audience;
    }

    /// The command at work has no effect, whatever it has changed, unless it was told already.
    pub fn nothing(&mut self) {
        // While nothing is recorded nobody ends commands, and the next one recorded would be silenced.
        self.is_told = self.is_on();
    }

    /// The command at work is an effect, as it is, even if it has changed nothing.
    pub fn anyway(&mut self) {
        self.is_forced = self.is_on();
    }

    /// Records what happened beside the command at work, or without any: a key that has expired or was evicted.
    pub fn beside(&mut self, db: usize, words: &[&[u8]]) {
        if self.is_on() {
            self.unit.add(db, Audience::ALL, words);
        }
    }

    /// A command is over that was run with these words, and that has changed something if `changed`.
    pub fn end_command(&mut self, db: usize, words: &[&[u8]], changed: bool) {
        if !self.is_on() {
            return;
        }
        let is_told = std::mem::take(&mut self.is_told);
        let is_forced = std::mem::take(&mut self.is_forced);
        if (changed || is_forced) && !is_told && self.is_wanted() {
            if !self.in_unit && self.unit.is_empty() {
                write_effect(&mut self.parcel.bytes, words);
                let end = self.parcel.bytes.len();
                let stretch = Stretch { db: db as u16, end, audience: self.audience };
                return note_stretch(&mut self.parcel.stretches, stretch);
            }
            self.unit.add(db, self.audience, words);
        }
        self.close_unless_in_unit();
    }

    /// A command has failed, or has to be run again: what it said does not count.
    pub fn end_failed_command(&mut self) {
        (self.is_told, self.is_forced) = (false, false);
        self.close_unless_in_unit();
    }

    fn close_unless_in_unit(&mut self) {
        if !self.in_unit && !self.unit.is_empty() {
            self.close();
        }
    }

    /// What was recorded beside commands while none was at work: each effect stands for itself.
    pub fn end_beside(&mut self) {
        if self.in_unit || self.unit.is_empty() {
            return;
        }
        let from = self.parcel.bytes.len();
        self.parcel.bytes.append(&mut self.unit.bytes);
        for stretch in &self.unit.stretches {
            note_stretch(&mut self.parcel.stretches, stretch.moved(from));
        }
        self.unit.clear();
    }

    /// A block or a script begins, or goes on: what it did before is its unit so far.
    pub fn open(&mut self, unit: Unit) {
        debug_assert!(!self.in_unit, "a unit does not begin in another one");
        self.end_beside();
        self.in_unit = true;
        self.unit = unit;
    }

    /// It waits: what it did so far is kept elsewhere.
    pub fn suspend(&mut self) -> Unit {
        self.in_unit = false;
        std::mem::take(&mut self.unit)
    }

    /// Whether a block or a script is at work.
    pub fn in_unit(&self) -> bool {
        self.in_unit
    }

    /// The block or script at work is over.
    pub fn close_unit(&mut self) {
        self.in_unit = false;
        self.close();
    }

    /// The unit is whole, and one of the stream.
    pub fn close_suspended(&mut self, unit: Unit) {
        debug_assert!(!self.in_unit && self.unit.is_empty(), "nothing is at work");
        self.unit = unit;
        self.close();
    }

    fn close(&mut self) {
        let Unit { effects, bytes, stretches } = &mut self.unit;
        let (Some(first), Some(last)) = (stretches.first().copied(), stretches.last().copied())
        else {
            return;
        };
        let (out, runs) = (&mut self.parcel.bytes, &mut self.parcel.stretches);
        let is_wrapped = *effects > 1;
        let audiences = stretches.iter().map(|stretch| stretch.audience);
        let audience = audiences.fold(Audience::NONE, Audience::or);
        if is_wrapped {
            write_effect(out, &[b"MULTI"]);
            note_stretch(runs, Stretch { end: out.len(), audience, ..first });
        }
        let from = out.len();
        out.append(bytes);
        for stretch in stretches.iter() {
            note_stretch(runs, stretch.moved(from));
        }
        if is_wrapped {
            write_effect(out, &[b"EXEC"]);
            note_stretch(runs, Stretch { end: out.len(), audience, ..last });
        }
        self.unit.clear();
    }

    /// Whether something has to leave the shard before anything else does.
    #[inline]
    pub fn has_parcel(&self) -> bool {
        !self.parcel.bytes.is_empty()
    }

    /// Takes what has to leave the shard.
    pub fn take_parcel(&mut self, stamp: Stamp) -> Parcel {
        Parcel { first: stamp, stamp, ..std::mem::take(&mut self.parcel) }
    }

    /// Appends what has to leave the shard to a parcel that has not left and whose stamp is the one before.
    pub fn extend_parcel(&mut self, earlier: &mut Parcel, stamp: Stamp) {
        debug_assert_eq!(earlier.stamp.0 + 1, stamp.0, "no other shard's stamp is in between");
        earlier.stamp = stamp;
        let from = earlier.bytes.len();
        earlier.bytes.append(&mut self.parcel.bytes);
        for stretch in self.parcel.stretches.drain(..) {
            note_stretch(&mut earlier.stretches, stretch.moved(from));
        }
    }
}

impl Stretch {
    /// The same, behind so many bytes more.
    fn moved(self, by: usize) -> Self {
        Self { end: by + self.end, ..self }
    }
}

fn note_stretch(stretches: &mut Vec<Stretch>, stretch: Stretch) {
    match stretches.last_mut() {
        Some(last) if (last.db, last.audience) == (stretch.db, stretch.audience) => {
            last.end = stretch.end;
        }
        _ => stretches.push(stretch),
    }
}

/// Appends a command as RESP: an array of bulk strings.
pub fn write_effect(out: &mut Vec<u8>, words: &[&[u8]]) {
    let mut digits = itoa::Buffer::new();
    let payload: usize = words.iter().map(|word| word.len() + 16).sum();
    out.reserve(payload + 8);
    out.push(b'*');
    out.extend_from_slice(digits.format(words.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for word in words {
        out.push(b'$');
        out.extend_from_slice(digits.format(word.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        lines.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    fn recorder() -> Recorder {
        let mut recorder = Recorder::default();
        recorder.set_readers(Audience::ALL);
        recorder
    }

    #[test]
    fn a_command_with_one_effect_is_bare_and_one_with_several_is_wrapped() {
        let mut recorder = recorder();
        recorder.end_command(0, &[b"SET", b"k", b"v"], true);
        recorder.end_command(0, &[b"GET", b"k"], false);
        recorder.instead(0, &[b"SREM", b"s", b"a"]);
        recorder.instead(0, &[b"SREM", b"s", b"b"]);
        recorder.end_command(0, &[b"SPOP", b"s", b"2"], true);
        recorder.beside(0, &[b"DEL", b"old"]);
        recorder.end_command(0, &[b"INCR", b"old"], true);
        recorder.nothing();
        recorder.end_command(0, &[b"X"], true);
        let parcel = recorder.take_parcel(Stamp(1));
        assert_eq!(
            words(&parcel.bytes),
            "SET k v MULTI SREM s a SREM s b EXEC MULTI DEL old INCR old EXEC"
        );
        let audience = Audience::ALL;
        let end = parcel.bytes.len();
        assert_eq!(parcel.stretches, [Stretch { db: 0, end, audience }]);
        assert!(!recorder.has_parcel());
    }

    #[test]
    fn a_parcel_grows_by_what_has_the_next_stamp() {
        let mut recorder = recorder();
        recorder.end_command(0, &[b"INCR", b"a"], true);
        let mut parcel = recorder.take_parcel(Stamp(7));
        recorder.end_command(0, &[b"INCR", b"b"], true);
        recorder.extend_parcel(&mut parcel, Stamp(8));
        let in_first = parcel.bytes.len();
        recorder.end_command(3, &[b"INCR", b"c"], true);
        recorder.extend_parcel(&mut parcel, Stamp(9));
        assert!(!recorder.has_parcel());
        assert_eq!(words(&parcel.bytes), "INCR a INCR b INCR c");
        assert_eq!((parcel.first, parcel.stamp), (Stamp(7), Stamp(9)));
        let (first, second) = (
            Stretch { db: 0, end: in_first, audience: Audience::ALL },
            Stretch { db: 3, end: parcel.bytes.len(), audience: Audience::ALL },
        );
        assert_eq!(parcel.stretches, [first, second]);
    }

    #[test]
    fn a_block_is_one_unit_and_what_happens_beside_stands_for_itself() {
        let mut recorder = recorder();
        recorder.beside(3, &[b"DEL", b"a"]);
        recorder.beside(3, &[b"DEL", b"b"]);
        recorder.end_beside();
        recorder.open(Unit::default());
        recorder.end_command(1, &[b"INCR", b"x"], true);
        let unit = recorder.suspend();
        recorder.end_command(0, &[b"INCR", b"between"], true);
        recorder.open(unit);
        recorder.end_command(2, &[b"INCR", b"y"], true);
        recorder.close_unit();
        recorder.open(Unit::default());
        recorder.end_command(2, &[b"INCR", b"z"], true);
        recorder.close_unit();
        let parcel = recorder.take_parcel(Stamp(1));
        assert_eq!(
            words(&parcel.bytes),
            "DEL a DEL b INCR between MULTI INCR x INCR y EXEC INCR z"
        );
        let dbs: Vec<u16> = parcel.stretches.iter().map(|stretch| stretch.db).collect();
        assert_eq!(dbs, [3, 0, 1, 2]);
    }

    #[test]
    fn what_is_not_for_files_is_left_out_and_what_happens_beside_is_for_all() {
        let mut recorder = Recorder::default();
        recorder.set_readers(Audience::FILE);
        for number in 0..4 {
            recorder.set_audience(Audience::new(number).unwrap());
            recorder.beside(0, &[b"DEL", b"old"]);
            recorder.end_command(
                0,
                &[b"INCR", itoa::Buffer::new().format(number).as_bytes()],
                true,
            );
            recorder.instead(0, &[b"instead"]);
            recorder.end_command(0, &[b"SPOP", b"s"], true);
        }
        assert_eq!(
            words(&recorder.take_parcel(Stamp(1)).bytes),
            "DEL old MULTI DEL old INCR 1 EXEC instead DEL old MULTI DEL old INCR 3 EXEC instead"
        );
        assert_eq!([-1, 4, 257].map(Audience::new), [None; 3]);
    }

    #[test]
    fn who_is_off_records_nothing_and_forgets_what_it_was_told() {
        let mut recorder = Recorder::default();
        recorder.instead(0, &[b"SET", b"k", b"v"]);
        recorder.beside(0, &[b"DEL", b"k"]);
        recorder.nothing();
        recorder.anyway();
        recorder.end_command(0, &[b"INCR", b"k"], true);
        assert!(!recorder.has_parcel());
        recorder.nothing();
        recorder.anyway();
        recorder.set_readers(Audience::ALL);
        recorder.end_command(0, &[b"GET", b"k"], false);
        recorder.end_command(0, &[b"INCR", b"k"], true);
        assert_eq!(words(&recorder.take_parcel(Stamp(1)).bytes), "INCR k");
    }

    #[test]
    fn nothing_is_recorded_before_somebody_reads() {
        let mut recorder = Recorder::default();
        recorder.end_command(0, &[b"INCR", b"a"], true);
        recorder.beside(0, &[b"DEL", b"a"]);
        recorder.for_replicas(0, &[b"PUBLISH", b"c", b"m"]);
        assert!(!recorder.is_on() && !recorder.has_parcel() && recorder.unit.is_empty());
    }
}
