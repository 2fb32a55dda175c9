//! The values of directives that are more than a number or a text.
//!
//! A state that a directive cannot have has no spelling here: a policy is an enum, a port is
//! a `u16`, and "no master" is `None` and not an empty host.

use std::fmt;
use std::path::PathBuf;

/// An enum whose variants have names in the configuration.
pub trait Words: Copy + PartialEq + 'static {
    /// Every accepted word, in the order in which complaints list them.
    const WORDS: &'static [(&'static str, Self)];

    /// The variant of a word, in any case.
    fn from_word(word: &[u8]) -> Option<Self> {
        let mut known = Self::WORDS.iter();
        known.find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)).map(|(_, v)| *v)
    }

    /// The name of this variant; the first one if it has several.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $other:literal)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Words for $name {
            const WORDS: &'static [(&'static str, Self)] =
                &[$(($word, Self::$variant), $(($other, Self::$variant),)?)*];
        }
    };
}

word_enum! {
    /// How much the log says.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// What is rarely useful, but not as much as debug.
        Verbose = "verbose",
        /// What a production server should say.
        Notice = "notice",
        /// Only what is critical.
        Warning = "warning",
    }
}

word_enum! {
    /// What to evict when `maxmemory` is reached.
    MaxmemoryPolicy {
        /// The least recently used among keys with an expiry.
        VolatileLru = "volatile-lru",
        /// The least frequently used among keys with an expiry.
        VolatileLfu = "volatile-lfu",
        /// Any key with an expiry.
        VolatileRandom = "volatile-random",
        /// The key that expires soonest.
        VolatileTtl = "volatile-ttl",
        /// The least recently used key.
        AllkeysLru = "allkeys-lru",
        /// The least frequently used key.
        AllkeysLfu = "allkeys-lfu",
        /// Any key.
        AllkeysRandom = "allkeys-random",
        /// Nothing: writes are refused instead.
        Noeviction = "noeviction",
    }
}

impl MaxmemoryPolicy {
    /// Entries keep a frequency instead of a time of last use.
    pub fn is_lfu(self) -> bool {
        matches!(self, Self::VolatileLfu | Self::AllkeysLfu)
    }

    /// Only keys with an expiry may be evicted.
    pub fn is_volatile(self) -> bool {
        match self {
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl => {
                true
            }
            Self::AllkeysLru | Self::AllkeysLfu | Self::AllkeysRandom | Self::Noeviction => false,
        }
    }
}

word_enum! {
    /// When the append-only file is flushed to the disk.
    AppendFsync {
        /// Once per second.
        Everysec = "everysec",
        /// Before a reply leaves.
        Always = "always",
        /// When the kernel likes to.
        No = "no",
    }
}

word_enum! {
    /// Who may use something risky.
    Permission {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Connections from this host.
        Local = "local",
    }
}

word_enum! {
    /// Which payloads of RESTORE and snapshots are checked in depth.
    SanitizePayload {
        /// None.
        No = "no",
        /// All of them.
        Yes = "yes",
        /// Those that clients send.
        Clients = "clients",
    }
}

word_enum! {
    /// Whether TLS clients must show a certificate.
    TlsAuthClients {
        /// No.
        No = "no",
        /// Yes.
        Yes = "yes",
        /// Only if they have one.
        Optional = "optional",
    }
}

word_enum! {
    /// Whether a replica loads the snapshot straight from the socket.
    DisklessLoad {
        /// Never: through a file.
        Disabled = "disabled",
        /// When there is no data to lose.
        OnEmptyDb = "on-empty-db",
        /// Keeping the old data beside the new until it is complete.
        SwapDb = "swapdb",
    }
}

word_enum! {
    /// Channels that a new ACL user may use.
    PubsubDefault {
        /// All of them.
        AllChannels = "allchannels",
        /// None of them.
        ResetChannels = "resetchannels",
    }
}

word_enum! {
    /// How a node names itself to cluster clients.
    EndpointType {
        /// By its address.
        Ip = "ip",
        /// By its host name.
        Hostname = "hostname",
        /// Not at all: clients reuse the address they know.
        UnknownEndpoint = "unknown-endpoint",
    }
}

word_enum! {
    /// What an error in a replicated command leads to.
    PropagationErrorBehavior {
        /// Nothing.
        Ignore = "ignore",
        /// The end of the process.
        Panic = "panic",
        /// The end of the process, on replicas only.
        PanicOnReplicas = "panic-on-replicas",
    }
}

word_enum! {
    /// Whether `oom_score_adj` of the process is set.
    OomScoreAdj {
        /// Not touched.
        No = "no",
        /// Relative to the score at start.
        Relative = "yes" | "relative",
        /// Exactly as given.
        Absolute = "absolute",
    }
}

word_enum! {
    /// Which supervisor hears about the start.
    Supervised {
        /// upstart.
        Upstart = "upstart",
        /// systemd.
        Systemd = "systemd",
        /// Whichever the environment names.
        Auto = "auto",
        /// None.
        No = "no",
    }
}

word_enum! {
    /// The facility of messages to syslog.
    SyslogFacility {
        /// user
        User = "user",
        /// local0
        Local0 = "local0",
        /// local1
        Local1 = "local1",
        /// local2
        Local2 = "local2",
        /// local3
        Local3 = "local3",
        /// local4
        Local4 = "local4",
        /// local5
        Local5 = "local5",
        /// local6
        Local6 = "local6",
        /// local7
        Local7 = "local7",
    }
}

word_enum! {
    /// Whether each core's thread is bound to its CPU.
    Pinning {
        /// Bound, except on hosts of one or two CPUs.
        Auto = "auto",
        /// Bound.
        Yes = "yes",
        /// Left to the kernel: for shared hosts and tests.
        No = "no",
    }
}

/// The memory that all clients together may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientsMemory {
    /// So many bytes; 0 is no limit.
    Bytes(u64),
    /// A share of `maxmemory`.
    Percent(u8),
}

/// A snapshot is due after `seconds` if `changes` or more keys changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: u64,
    /// Changes since the last snapshot.
    pub changes: u64,
}

/// How much output may wait for a client. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Bytes beyond which the client is closed at once.
    pub hard: u64,
    /// Bytes beyond which it is closed after `soft_seconds` without a break.
    pub soft: u64,
    /// See `soft`.
    pub soft_seconds: u32,
}

/// [`BufferLimits`] for each class of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimitsByClass {
    /// Clients that are neither of the others.
    pub normal: BufferLimits,
    /// Replicas.
    pub replica: BufferLimits,
    /// Subscribers.
    pub pubsub: BufferLimits,
}

impl BufferLimitsByClass {
    /// Redis 7.0's defaults.
    pub const DEFAULT: Self = Self {
        normal: BufferLimits { hard: 0, soft: 0, soft_seconds: 0 },
        replica: BufferLimits { hard: 256 << 20, soft: 64 << 20, soft_seconds: 60 },
        pubsub: BufferLimits { hard: 32 << 20, soft: 8 << 20, soft_seconds: 60 },
    };

    /// The limits of the class of this name.
    pub(super) fn class_mut(&mut self, name: &[u8]) -> Option<&mut BufferLimits> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }

    /// Each class under the name that CONFIG GET gives it.
    pub fn classes(&self) -> [(&'static str, BufferLimits); 3] {
        [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)]
    }
}

/// Which keyspace events are published: a set of the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `K`: publish to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// `E`: publish to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: commands of no type, such as DEL.
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`: strings.
    pub const STRING: Self = Self(1 << 3);
    /// `l`: lists.
    pub const LIST: Self = Self(1 << 4);
    /// `s`: sets.
    pub const SET: Self = Self(1 << 5);
    /// `h`: hashes.
    pub const HASH: Self = Self(1 << 6);
    /// `z`: sorted sets.
    pub const ZSET: Self = Self(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: a key was evicted.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`: streams.
    pub const STREAM: Self = Self(1 << 10);
    /// `m`: a key was looked up in vain.
    pub const KEY_MISS: Self = Self(1 << 11);
    /// `d`: module types.
    pub const MODULE: Self = Self(1 << 13);
    /// `n`: a key was created.
    pub const NEW: Self = Self(1 << 14);

    /// Letters in the order in which they are shown; `A` stands for the first ten together.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    /// What the letter `A` means.
    pub const ALL: Self = {
        let mut all = 0;
        let mut index = 0;
        while index < 10 {
            all |= Self::LETTERS[index].1.0;
            index += 1;
        }
        Self(all)
    };

    /// Every class of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set that `letters` spell; `None` if one of them means nothing.
    pub fn from_letters(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self::NONE, |set, &letter| {
            let class = match letter {
                b'A' => Self::ALL,
                _ => Self::LETTERS.iter().find(|(known, _)| *known == letter)?.1,
            };
            Some(set.union(class))
        })
    }

    /// The letters of this set. Beside `A`, Redis 7.0 does not show `n`; neither does this.
    pub fn letters(self) -> String {
        let all = self.contains(Self::ALL);
        let rest = if all { &Self::LETTERS[11..] } else { &Self::LETTERS[..] };
        let letters = rest.iter().filter(|(_, class)| self.contains(*class));
        let shown = letters.map(|(letter, _)| char::from(*letter));
        all.then_some('A').into_iter().chain(shown).collect()
    }
}

/// What a signal to stop asks for, as the words of SHUTDOWN. None of them is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    /// Write a snapshot even without save points.
    pub save: bool,
    /// Write no snapshot even with save points.
    pub nosave: bool,
    /// Do not wait for replicas.
    pub now: bool,
    /// Stop even if the snapshot fails.
    pub force: bool,
}

impl ShutdownFlags {
    /// The flags that `words` name; `None` if one is unknown, or there is none.
    pub(super) fn from_words(words: &[Vec<u8>]) -> Option<Self> {
        let mut flags = Self::default();
        if words.is_empty() {
            return None;
        }
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => flags.save = true,
                b"nosave" => flags.nosave = true,
                b"now" => flags.now = true,
                b"force" => flags.force = true,
                _ => return None,
            }
        }
        Some(flags)
    }

    pub(super) fn words(self) -> String {
        let named = [
            (self.save, "save"),
            (self.nosave, "nosave"),
            (self.now, "now"),
            (self.force, "force"),
        ];
        let set: Vec<&str> =
            named.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        if set.is_empty() { "default".to_owned() } else { set.join(" ") }
    }
}

/// The master that this server replicates from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOf {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A list of CPU numbers, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Highest CPU number that a list may name (Linux `CONFIG_NR_CPUS` is at most 8192).
const CPU_NUMBER_MAX: usize = 8191;

impl CpuList {
    /// Parses `0-5,8`. `None` if it is malformed, names a CPU twice or runs backwards.
    pub fn from_ranges(text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for range in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last > CPU_NUMBER_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        let mut sorted = cpus.clone();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.len() == cpus.len()).then_some(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let follows = |a: &usize, b: &usize| *b == a + 1;
        for (index, run) in self.0.chunk_by(follows).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// One line of a configuration file that is no directive but is kept for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraLine {
    /// Its number in the file, from 1.
    pub line: usize,
    /// Its words after the first.
    pub words: Vec<Vec<u8>>,
}

/// What a configuration file says besides directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The file that the server was started with; CONFIG REWRITE writes it.
    pub file: Option<PathBuf>,
    /// The server runs as a sentinel.
    pub sentinel_mode: bool,
    /// `sentinel …` lines.
    pub sentinel: Vec<ExtraLine>,
    /// `user …` lines: ACL users.
    pub users: Vec<ExtraLine>,
    /// `rename-command OLD NEW` lines; an empty new name removes the command.
    pub renamed_commands: Vec<(Vec<u8>, Vec<u8>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_letters_are_shown_as_redis_shows_them() {
        for (given, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("AKE", "AKE"),
            ("Kg$lshzxetmdn", "AKm"),
            ("g", "g"),
            ("Elgn", "glnE"),
            ("xKm", "xKm"),
        ] {
            let events = KeyspaceEvents::from_letters(given.as_bytes());
            assert_eq!(events.map(KeyspaceEvents::letters).as_deref(), Some(shown), "{given}");
        }
        assert_eq!(KeyspaceEvents::from_letters(b"KEy"), None);
    }

    #[test]
    fn a_cpu_list_reads_ranges_and_refuses_nonsense() {
        for (text, cpus) in [
            ("", Some(vec![])),
            ("3", Some(vec![3])),
            ("0-2,7", Some(vec![0, 1, 2, 7])),
            ("2,0", Some(vec![2, 0])),
            ("2-1", None),
            ("1,1", None),
            ("0-99999999999", None),
            ("a", None),
            ("1,", None),
        ] {
            assert_eq!(CpuList::from_ranges(text), cpus.map(CpuList), "{text}");
        }
        assert_eq!(CpuList(vec![0, 1, 2, 7, 9, 10]).to_string(), "0-2,7,9-10");
    }

    #[test]
    fn a_variant_with_two_words_is_shown_by_the_first() {
        assert_eq!(OomScoreAdj::from_word(b"RELATIVE"), Some(OomScoreAdj::Relative));
        assert_eq!(OomScoreAdj::Relative.word(), "yes");
    }
}
