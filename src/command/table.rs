//! The command table: every command is one row in the file of its family.
//!
//! Arity check, key extraction, routing, ACL categories, COMMAND INFO and the word list of the fuzzers
//! are all computed from these rows. A fact about a command written elsewhere is a bug waiting.

use std::sync::OnceLock;

use super::context::Ctx;
use super::error::CommandResult;
use super::part::{Part, Stretch};
use super::request::Request;
use super::scripts::ScriptCommand;
use super::spec::{Access, Arity, DENYOOM, Flags, Group, KeySpec};
use crate::keyspace::{Key, ScanCursor, TypeName};
use crate::process::Process;
use crate::pubsub::Kind;
use crate::resp::Reply;

/// What runs a command that works on keys, or on nothing but its arguments.
pub type Handler = fn(&mut Ctx<'_>, &Request<'_>, &mut Reply<'_>) -> CommandResult;

/// How a command is run.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the shard that owns its keys; without keys, where the connection lives.
    Data(Handler),
    /// As [`Run::Data`] without keys; it publishes. What it publishes goes out before its own reply, and
    /// not before the earlier commands of its connection have been answered.
    Publish(Handler),
    /// As [`Run::Data`], and waits for one of its keys if there is nothing to answer with (BLPOP).
    Blocking(Blocking),
    /// By a script, where its keys are.
    Script(ScriptCommand),
    /// On every shard, and the parts are put together where the connection lives.
    EveryShard(EveryShard),
    /// From shard to shard, beginning where the arguments say, until enough has been looked at (SCAN).
    Walk(Walk),
    /// By the session or the process: it is about the connection, other connections, or the server.
    Session(SessionCommand),
    /// Never itself: its subcommands are rows of their own (`config|get`).
    Container,
    /// Its subcommands are rows of their own; without one, this runs where the connection lives
    /// (COMMAND).
    ContainerOr(Handler),
}

/// A command that asks or tells every shard.
#[derive(Clone, Copy)]
pub struct EveryShard {
    /// The work of one shard.
    pub part: fn(&mut Ctx<'_>, &Request<'_>) -> CommandResult<Part>,
    /// Puts the parts of all shards, in the order of the shards, together. Never gets an error: the
    /// first failing part is the reply.
    pub merge: fn(&mut Ctx<'_>, &Request<'_>, Vec<Part>, &mut Reply<'_>) -> CommandResult,
    /// Whether all shards must stand still meanwhile, so that no transaction sees one shard before
    /// and another after (FLUSHALL).
    pub exclusive: bool,
}

/// A command that walks over the keys in the order of their slots. A full shard answers alone; from
/// one that ends before enough was looked at, the walk goes on to the next, so that a small data set is
/// seen at one go however many shards there are.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Where the arguments let the walk begin.
    pub start: fn(&Request<'_>) -> CommandResult<ScanCursor>,
    /// The part of the walk on the shard that owns the slot of the cursor.
    pub stretch: fn(&mut Ctx<'_>, &Request<'_>, ScanCursor) -> CommandResult<Stretch>,
    /// Writes the reply.
    pub finish: fn(&Stretch, &mut Reply<'_>),
}

/// Makes the arguments that a command waits with.
pub type Keep = fn(&mut Ctx<'_>, &Request<'_>) -> Vec<Vec<u8>>;

/// What a [`Blocking`] command waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaits {
    /// One of its keys.
    Keys,
    /// Replicas, as many as its first argument says.
    Replicas,
    /// Disks: of this server, if its first argument is 1, and of as many replicas as its second one says.
    Disks,
}

/// A command that may wait until others make one of its keys.
#[derive(Clone, Copy)]
pub struct Blocking {
    /// Runs it, or says that it has to wait; then it has changed nothing and written nothing.
    pub attempt: fn(&mut Ctx<'_>, &Request<'_>, &mut Reply<'_>) -> CommandResult<Attempt>,
    /// Runs it for a client that waits, with what this one of its keys holds, whatever the others do
    /// (as Redis serves by the key that was made first). False if there is still nothing to answer with.
    pub serve: fn(&mut Ctx<'_>, &Request<'_>, &Key<'_>, &mut Reply<'_>) -> CommandResult<bool>,
    /// Whether a key that holds this type, or nothing, may serve it.
    pub wants: fn(Option<TypeName>) -> bool,
    /// What it answers where nothing may wait (within MULTI) and it would have to.
    pub nothing: fn(&Process, &mut Reply<'_>),
    /// What it answers when its time is over; so many replicas, or disks, have what was written before it.
    pub timed_out: fn(usize, &mut Reply<'_>),
    /// What it waits for.
    pub awaits: Awaits,
    /// The arguments to wait with, if they mean something else by the time it is served
    /// (`$` of XREAD: what was the last entry when it began to wait).
    pub keep: Option<Keep>,
}

/// What became of the attempt to run a [`Blocking`] command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It ran.
    Done,
    /// It has to wait, until this unix time in ms or for ever.
    Wait(Option<i64>),
}

/// Commands that the session layer runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names of the commands
pub enum SessionCommand {
    Asking,
    Migrate,
    Readonly,
    Readwrite,
    Auth,
    Hello,
    Select,
    Quit,
    Reset,
    ClientId,
    ClientGetname,
    ClientSetname,
    ClientSetinfo,
    ClientInfo,
    ClientList,
    ClientKill,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientUnblock,
    ClientPause,
    ClientUnpause,
    ClientHelp,
    Subscribe(Kind),
    Unsubscribe(Kind),
    ConfigSet,
    ConfigRewrite,
    Shutdown,
    Save,
    BackgroundSave,
    RewriteAof,
    Cluster,
    ClusterSlotStats,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    ScriptLoad,
    ScriptExists,
    ScriptFlush,
    ScriptKill,
    FunctionLoad,
    FunctionDelete,
    FunctionFlush,
    FunctionList,
    FunctionStats,
    FunctionKill,
    FunctionDump,
    FunctionRestore,
    ReplicaOf,
    Role,
    Replconf,
    Psync,
    Failover,
}

impl SessionCommand {
    /// Whether it has to ask other shards, or the control core, and is answered later.
    pub fn concerns_others(self) -> bool {
        use SessionCommand as C;
        matches!(
            self,
            C::ClientList
                | C::Migrate
                | C::ClientKill
                | C::ClientUnblock
                | C::ClientPause
                | C::ClientUnpause
                | C::Failover
                | C::ConfigSet
                | C::ConfigRewrite
                | C::Shutdown
                | C::Save
                | C::BackgroundSave
                | C::RewriteAof
                | C::Cluster
                | C::ClusterSlotStats
                | C::ScriptKill
                | C::FunctionStats
                | C::FunctionKill
                | C::ReplicaOf
                | C::Psync
        )
    }
}

/// One command.
pub struct Command {
    /// Lower case; `config|get` for a subcommand.
    pub name: &'static str,
    /// How many arguments; of a subcommand both words count.
    pub arity: Arity,
    /// Its flags.
    pub flags: Flags,
    /// Its family.
    pub group: Group,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// ACL categories that do not follow from flags and group, e.g. `&["@dangerous"]`.
    pub categories: &'static [&'static str],
    /// How it is run.
    pub run: Run,
}

/// A command's number in the table: fits a lane message and indexes statistics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommandId(pub u16);

/// How many keys a command can have, for routing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyShape {
    /// None.
    None,
    /// Exactly one, at this argument.
    One(u8),
    /// Several, or at places to be looked for.
    Several,
}

/// All commands, found by name.
pub struct CommandTable {
    commands: Vec<&'static Command>,
    shapes: Vec<KeyShape>,
    /// Open addressing by [`Folded::hash`], a power of two long, at most a quarter full.
    places: Vec<Option<Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    name: Folded,
    /// Names of up to eight letters are equal if their folded forms are.
    is_short_word: bool,
    id: CommandId,
}

/// Longest command name, subcommand included; longer words are unknown commands.
const NAME_BYTES_MAX: usize = 64;

impl CommandTable {
    /// The table of this build.
    pub fn get() -> &'static CommandTable {
        static TABLE: OnceLock<CommandTable> = OnceLock::new();
        TABLE.get_or_init(|| CommandTable::new(super::FAMILIES.iter().copied().flatten()))
    }

    fn new(rows: impl Iterator<Item = &'static Command>) -> Self {
        let commands: Vec<_> = rows.collect();
        let shapes = commands.iter().map(|command| shape_of(command.keys)).collect();
        let mut places = vec![None; (commands.len() * 4).next_power_of_two()];
        for (number, command) in commands.iter().enumerate() {
            let name = Folded::new(command.name.as_bytes());
            let mut at = name.hash() & (places.len() - 1);
            while let Some(Place { id: CommandId(other), .. }) = places[at] {
                let other = commands[usize::from(other)].name;
                assert_ne!(other, command.name, "a command is declared once");
                at = (at + 1) & (places.len() - 1);
            }
            // Folding maps other characters to letters, too, but letters alone to letters of names.
            let is_short_word = command.name.len() <= FOLDED_BYTES
                && command.name.bytes().all(|byte| byte.is_ascii_lowercase());
            places[at] = Some(Place { name, is_short_word, id: CommandId(number as u16) });
        }
        Self { commands, shapes, places }
    }

    /// All commands, subcommands included, in the order of their families.
    pub fn commands(&self) -> &[&'static Command] {
        &self.commands
    }

    /// The command with this number.
    pub fn command(&self, id: CommandId) -> &'static Command {
        self.commands[usize::from(id.0)]
    }

    /// How many keys the command with this number can have.
    pub fn shape(&self, id: CommandId) -> KeyShape {
        self.shapes[usize::from(id.0)]
    }

    /// The command of this name, in any case; `config|get` finds a subcommand.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let folded = Folded::new(name);
        let mut at = folded.hash() & (self.places.len() - 1);
        loop {
            let place = self.places[at]?;
            if place.name == folded && (place.is_short_word || self.is_name(place.id, name)) {
                return Some(place.id);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    fn is_name(&self, id: CommandId, name: &[u8]) -> bool {
        self.command(id).name.as_bytes().eq_ignore_ascii_case(name)
    }

    /// The subcommand of `container` that `word` names.
    pub fn find_subcommand(&self, container: &Command, word: &[u8]) -> Option<CommandId> {
        let mut name = [0_u8; NAME_BYTES_MAX];
        let length = container.name.len() + 1 + word.len();
        let name = name.get_mut(..length)?;
        name[..container.name.len()].copy_from_slice(container.name.as_bytes());
        name[container.name.len()] = b'|';
        name[container.name.len() + 1..].copy_from_slice(word);
        self.find(name)
    }

    /// The subcommands of `container`.
    pub fn subcommands<'t>(
        &'t self,
        container: &'t Command,
    ) -> impl Iterator<Item = (CommandId, &'static Command)> + 't {
        self.commands.iter().enumerate().filter_map(move |(number, command)| {
            let (parent, _) = command.name.split_once('|')?;
            (parent == container.name).then_some((CommandId(number as u16), *command))
        })
    }
}

fn shape_of(keys: &[KeySpec]) -> KeyShape {
    use super::spec::{Begin, Find};
    match keys {
        keys if keys.iter().all(|spec| spec.access == Access::NotKey) => KeyShape::None,
        [KeySpec { begin: Begin::Index(at), find: Find::Range { last: 0, .. }, .. }] => {
            KeyShape::One(*at)
        }
        _ => KeyShape::Several,
    }
}

/// Bytes of a name that its folded form keeps.
const FOLDED_BYTES: usize = 8;

/// A name in lower case, as far as that is one operation: its first eight bytes, its last and its
/// length. Different commands differ in those; equal folded forms are yet to be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Folded {
    head: u64,
    last_and_length: u64,
}

impl Folded {
    #[inline]
    fn new(name: &[u8]) -> Self {
        let head = match name.first_chunk::<FOLDED_BYTES>() {
            Some(head) => u64::from_le_bytes(*head),
            // Overlapping halves agree where they overlap.
            None => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(low), Some(high)) => {
                    let (low, high) = (u32::from_le_bytes(*low), u32::from_le_bytes(*high));
                    u64::from(low) | u64::from(high) << (8 * (name.len() - 4))
                }
                _ => name.iter().rev().fold(0, |head, byte| head << 8 | u64::from(*byte)),
            },
        };
        let last = u64::from(name.last().copied().unwrap_or(0) | 0x20);
        Self {
            head: head | 0x2020_2020_2020_2020,
            last_and_length: last | (name.len() as u64) << 8,
        }
    }

    #[inline]
    fn hash(self) -> usize {
        let mixed = (self.head ^ self.last_and_length << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize
    }
}

impl Command {
    /// The container that a subcommand belongs to, e.g. `config`.
    pub fn container(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(container, _)| container)
    }

    /// Where the arguments have a member that the command looks up in the collection at its key, if it is that
    /// kind of command. A hint for prefetching: it may point at something else.
    pub fn likely_member(&self) -> Option<u8> {
        match self.group {
            Group::Set | Group::Hash => Some(2),
            // ZADD and ZINCRBY have the score before the member.
            Group::SortedSet if self.flags.has(DENYOOM) => Some(3),
            Group::SortedSet => Some(2),
            _ => None,
        }
    }

    /// Calls `visit` with the place of each key in `args`.
    pub fn for_each_key(&self, args: &[&[u8]], mut visit: impl FnMut(usize)) {
        for spec in self.keys.iter().filter(|spec| spec.access != Access::NotKey) {
            spec.for_each(args, &mut visit);
        }
    }

    /// Calls `visit` with the place of each key and each shard channel in `args`: all that is in a slot.
    pub fn for_each_name(&self, args: &[&[u8]], mut visit: impl FnMut(usize)) {
        self.keys.iter().for_each(|spec| spec.for_each(args, &mut visit));
    }

    /// Whether all that it names are shard channels, which are in slots but hold nothing.
    pub fn is_about_channels(&self) -> bool {
        !self.keys.is_empty() && self.keys.iter().all(|spec| spec.access == Access::NotKey)
    }

    /// Calls `visit` with each key in `args` and its database: the selected one, unless the destination
    /// of COPY or MOVE has one of its own. Who locks or lends keys asks this; there are `databases` in all.
    pub fn for_each_db_key<'a>(
        &self,
        args: &[&'a [u8]],
        selected: usize,
        databases: usize,
        mut visit: impl FnMut(usize, &'a [u8]),
    ) {
        self.for_each_key(args, |at| match self.name {
            "copy" if at == 2 => {
                let db = super::relocate::copy_destination_db(args, selected, databases);
                visit(db, args[at]);
            }
            "move" => {
                visit(selected, args[at]);
                if let Ok(db) = super::database_number(args[2], databases) {
                    visit(db, args[at]);
                }
            }
            _ => visit(selected, args[at]),
        });
    }

    /// Calls `visit` with each key in `args` that a blocking command waits for. (The destination of
    /// BLMOVE is a key, too, but nothing comes from it.)
    pub fn for_each_awaited_key<'a>(&self, args: &[&'a [u8]], mut visit: impl FnMut(&'a [u8])) {
        for spec in self.keys.iter().filter(|spec| spec.flags.contains(&"ACCESS")) {
            spec.for_each(args, |at| visit(args[at]));
        }
    }

    /// Whether the command, with these arguments, may touch keys that they do not name (SORT … BY …,
    /// scripts).
    pub fn reaches_further(&self, args: &[&[u8]]) -> bool {
        let is_pattern =
            |word: &&[u8]| word.eq_ignore_ascii_case(b"by") || word.eq_ignore_ascii_case(b"get");
        matches!(self.run, Run::Script(_))
            || matches!(self.name, "sort" | "sort_ro") && args.iter().skip(2).any(is_pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec::{READONLY, WRITE};

    #[test]
    fn commands_are_found_in_any_case_and_others_are_not() {
        let table = CommandTable::get();
        for (number, command) in table.commands().iter().enumerate() {
            let id = CommandId(number as u16);
            assert_eq!(table.find(command.name.as_bytes()), Some(id), "{}", command.name);
            let upper = command.name.to_ascii_uppercase();
            assert_eq!(table.find(upper.as_bytes()), Some(id), "{upper}");
        }
        for name in ["", "nosuch", "get ", "getx", "g", "\0\0\0"] {
            assert_eq!(table.find(name.as_bytes()), None, "{name:?}");
        }
    }

    #[test]
    fn every_row_makes_sense() {
        let table = CommandTable::get();
        for command in table.commands() {
            let name = command.name;
            assert_eq!(name, name.to_ascii_lowercase(), "names are in lower case");
            assert!(
                !(command.flags.has(WRITE) && command.flags.has(READONLY)),
                "{name} cannot both write and not write"
            );
            if let Some(container) = command.container() {
                let id = table.find(container.as_bytes()).expect("the container is a row");
                let run = table.command(id).run;
                assert!(matches!(run, Run::Container | Run::ContainerOr(_)), "{name}");
            }
            if shape_of(command.keys) != KeyShape::None {
                let by_data =
                    matches!(command.run, Run::Data(_) | Run::Blocking(_) | Run::Script(_));
                let by_session = matches!(name, "watch" | "migrate");
                assert!(by_data || by_session, "{name}: keys need a data handler");
            }
        }
    }
}
