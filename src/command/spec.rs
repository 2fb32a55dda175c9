//! What a command is, apart from what it does: arity, flags, groups, and where its keys are.

/// How many arguments, the name included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arity {
    /// This many.
    Exactly(u8),
    /// This many or more.
    AtLeast(u8),
}

impl Arity {
    /// Whether `count` arguments are right.
    pub const fn allows(self, count: usize) -> bool {
        match self {
            Arity::Exactly(n) => count == n as usize,
            Arity::AtLeast(n) => count >= n as usize,
        }
    }

    /// As COMMAND INFO shows it: negative for "at least".
    pub const fn to_wire(self) -> i64 {
        match self {
            Arity::Exactly(n) => n as i64,
            Arity::AtLeast(n) => -(n as i64),
        }
    }
}

/// A set of command flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// Whether all flags of `other` are in this set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Flags {
    /// Both sets together; `const`, for the rows of the table.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $word:literal;)*) => {
        $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*
        /// Flags with the words that COMMAND INFO shows, in its order.
        pub const FLAG_WORDS: &[(Flags, &str)] = &[$(($name, $word)),*];
    };
}

flags! {
    /// May change data.
    WRITE = 0, "write";
    /// Reads data.
    READONLY = 1, "readonly";
    /// Refused when memory is full.
    DENYOOM = 2, "denyoom";
    /// For operators.
    ADMIN = 3, "admin";
    /// About channels.
    PUBSUB = 4, "pubsub";
    /// Not from scripts.
    NOSCRIPT = 5, "noscript";
    /// May wait.
    BLOCKING = 6, "blocking";
    /// Allowed while loading.
    LOADING = 7, "loading";
    /// Allowed on a replica whose data is stale.
    STALE = 8, "stale";
    /// Not shown to MONITOR.
    SKIP_MONITOR = 9, "skip_monitor";
    /// Not in the slow log.
    SKIP_SLOWLOG = 10, "skip_slowlog";
    /// Allowed in an importing slot.
    ASKING = 11, "asking";
    /// Takes constant or logarithmic time.
    FAST = 12, "fast";
    /// Allowed before authentication.
    NO_AUTH = 13, "no_auth";
    /// Keys may be absent.
    NO_MANDATORY_KEYS = 15, "no_mandatory_keys";
    /// Not while an asynchronous load runs.
    NO_ASYNC_LOADING = 16, "no_async_loading";
    /// Not inside MULTI.
    NO_MULTI = 17, "no_multi";
    /// Keys must be found by parsing the arguments.
    MOVABLEKEYS = 18, "movablekeys";
    /// Allowed while a script is busy.
    ALLOW_BUSY = 19, "allow_busy";
}

/// Reaches replicas though it does not write, so read-only scripts may not run it. COMMAND INFO does not show it.
pub const MAY_REPLICATE: Flags = Flags(1 << 30);
/// Needs the permission of `enable-debug-command`. COMMAND INFO does not show it.
pub const PROTECTED: Flags = Flags(1 << 31);

/// No flags.
pub const NO_FLAGS: Flags = Flags(0);

/// The family of a command: its group in COMMAND DOCS, and with it an ACL category.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names of the families
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
    Bitmap,
    /// Only single commands of it have a category.
    Cluster,
    Connection,
    Pubsub,
    Server,
    Transactions,
    Scripting,
    /// "generic", too, in COMMAND DOCS, but about no keys in particular (WAIT): without a category.
    Other,
}

impl Group {
    /// As COMMAND DOCS shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Group::Generic | Group::Other => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Pubsub => "pubsub",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::Scripting => "scripting",
        }
    }

    /// The ACL category that all commands of the group are in, if the group has one.
    pub const fn category(self) -> Option<&'static str> {
        match self {
            Group::Generic => Some("@keyspace"),
            Group::String => Some("@string"),
            Group::List => Some("@list"),
            Group::Set => Some("@set"),
            Group::SortedSet => Some("@sortedset"),
            Group::Hash => Some("@hash"),
            Group::Stream => Some("@stream"),
            Group::Bitmap => Some("@bitmap"),
            Group::Connection => Some("@connection"),
            Group::Transactions => Some("@transaction"),
            Group::Scripting => Some("@scripting"),
            Group::Cluster | Group::Pubsub | Group::Server | Group::Other => None,
        }
    }
}

/// What a command does with a key (Redis 7.0 key specifications: RO, RW, OW, RM).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reads the value.
    ReadOnly,
    /// Reads and changes it.
    ReadWrite,
    /// Overwrites it without looking.
    OverWrite,
    /// Deletes it.
    Remove,
    /// Nothing: it is no key, and only its slot is like one's (shard channels).
    NotKey,
}

/// Where the keys begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument.
    Index(u8),
    /// After the word, looked for from argument `from` on.
    Keyword {
        /// The word, in upper case.
        word: &'static str,
        /// Where to start looking.
        from: u8,
    },
    /// Where only the command itself can tell.
    Unknown {
        /// Why, as COMMAND INFO shows it.
        notes: &'static str,
    },
    /// At the key of MIGRATE, unless that is empty and a list follows.
    MigrateKey,
    /// At the list of MIGRATE, if there is one.
    MigrateKeys,
    /// After the word STREAMS that ends the options of XREAD and XREADGROUP. As a keyword it would be found
    /// too early where a group or a consumer has that name, so the options are walked over.
    Streams {
        /// Where COMMAND INFO says that one has to look for the word.
        from: u8,
    },
}

/// How the keys go on from where they begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// Every `step` arguments up to `last` (relative to the first; negative counts from the end).
    Range {
        /// The last key, relative to the first, or from the end if negative.
        last: i8,
        /// Arguments from one key to the next.
        step: u8,
    },
    /// The argument at the beginning says how many; the keys follow `first` arguments later.
    Keynum {
        /// From the number to the first key.
        first: u8,
    },
    /// The arguments do not tell which they are.
    Unknown,
    /// The destination of SORT, wherever among its options that is.
    SortDestination,
    /// The first half of what is left; the other half belongs to them one by one (XREAD).
    HalfOfRest,
}

/// One group of keys in the arguments of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySpec {
    /// What is done with them.
    pub access: Access,
    /// Further flags as COMMAND INFO shows them, e.g. `["ACCESS", "UPDATE"]`.
    pub flags: &'static [&'static str],
    /// Where they begin.
    pub begin: Begin,
    /// How they go on.
    pub find: Find,
}

impl KeySpec {
    /// One key, at argument `at`.
    pub const fn one(at: u8, access: Access, flags: &'static [&'static str]) -> Self {
        Self { access, flags, begin: Begin::Index(at), find: Find::Range { last: 0, step: 1 } }
    }

    /// Keys from argument `at` to the end, every `step` arguments.
    pub const fn all(at: u8, step: u8, access: Access, flags: &'static [&'static str]) -> Self {
        Self { access, flags, begin: Begin::Index(at), find: Find::Range { last: -1, step } }
    }

    /// A number at argument `at`, then that many keys.
    pub const fn counted(at: u8, access: Access, flags: &'static [&'static str]) -> Self {
        Self { access, flags, begin: Begin::Index(at), find: Find::Keynum { first: 1 } }
    }

    /// The first half of what follows the word STREAMS.
    pub const fn streams(from: u8, access: Access, flags: &'static [&'static str]) -> Self {
        Self { access, flags, begin: Begin::Streams { from }, find: Find::HalfOfRest }
    }

    /// Calls `visit` with the place of each key in `args`. Stops at what is not there: bad arguments
    /// are for the handler to answer.
    pub fn for_each(&self, args: &[&[u8]], mut visit: impl FnMut(usize)) {
        if self.find == Find::SortDestination {
            super::sort::destination_in(args).into_iter().for_each(visit);
            return;
        }
        let Some(begin) = self.begin_in(args) else { return };
        match self.find {
            Find::Range { last, step } => {
                let last = if last < 0 {
                    args.len().checked_sub(usize::from(last.unsigned_abs()))
                } else {
                    Some(begin + usize::from(last.unsigned_abs()))
                };
                let last = last.map(|last| last.min(args.len().saturating_sub(1)));
                let (Some(last), step) = (last, usize::from(step)) else { return };
                (begin..=last).step_by(step).filter(|at| *at < args.len()).for_each(visit);
            }
            Find::Keynum { first } => {
                let count = args.get(begin).and_then(|text| std::str::from_utf8(text).ok());
                let Some(count) = count.and_then(|text| text.parse::<usize>().ok()) else { return };
                let start = begin + usize::from(first);
                (start..args.len()).take(count).for_each(&mut visit);
            }
            Find::Unknown | Find::SortDestination => {}
            Find::HalfOfRest => {
                (begin..begin + args.len().saturating_sub(begin) / 2).for_each(visit);
            }
        }
    }

    fn begin_in(&self, args: &[&[u8]]) -> Option<usize> {
        match self.begin {
            Begin::Index(at) => Some(usize::from(at)),
            Begin::Keyword { word, from } => {
                let rest = args.get(usize::from(from)..)?;
                let found = rest.iter().position(|a| a.eq_ignore_ascii_case(word.as_bytes()))?;
                Some(usize::from(from) + found + 1)
            }
            Begin::Unknown { .. } => None,
            Begin::MigrateKey if super::migrate::listed_keys_in(args).is_some() => None,
            Begin::MigrateKey => Some(super::migrate::KEY_AT),
            Begin::MigrateKeys => super::migrate::listed_keys_in(args),
            Begin::Streams { from } => Some(streams_word(args, usize::from(from))? + 1),
        }
    }
}

/// Where the word STREAMS is in XREAD or XREADGROUP: after the options, or, where these make no sense,
/// the first one from `from` on.
fn streams_word(args: &[&[u8]], from: usize) -> Option<usize> {
    let is = |at: usize, word: &str| {
        args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    let mut at = 1;
    loop {
        at += match () {
            () if is(at, "streams") => return Some(at),
            () if is(at, "noack") => 1,
            () if is(at, "block") || is(at, "count") => 2,
            () if is(at, "group") => 3,
            () => return (from..args.len()).find(|at| is(*at, "streams")),
        };
    }
}

/// No keys.
pub const NO_KEYS: &[KeySpec] = &[];
/// The first argument is a key that is read (GET).
pub const KEY_READ: &[KeySpec] = &[KeySpec::one(1, Access::ReadOnly, &["ACCESS"])];
/// The first argument is a key of which only metadata is read (TTL, TYPE, STRLEN).
pub const KEY_LOOK: &[KeySpec] = &[KeySpec::one(1, Access::ReadOnly, &[])];
/// The first argument is a key that is read and changed (INCR).
pub const KEY_ACCESS_UPDATE: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadWrite, &["ACCESS", "UPDATE"])];
/// The first argument is a key that is changed and not read out (EXPIRE, APPEND…).
pub const KEY_UPDATE: &[KeySpec] = &[KeySpec::one(1, Access::ReadWrite, &["UPDATE"])];
/// The first argument is a key that gets more content (LPUSH, SADD).
pub const KEY_INSERT: &[KeySpec] = &[KeySpec::one(1, Access::ReadWrite, &["INSERT"])];
/// The first argument is a key that loses content that is read out (LPOP, SPOP).
pub const KEY_ACCESS_DELETE: &[KeySpec] =
    &[KeySpec::one(1, Access::ReadWrite, &["ACCESS", "DELETE"])];
/// The first argument is a key that loses content (HDEL, ZREM).
pub const KEY_DELETE: &[KeySpec] = &[KeySpec::one(1, Access::ReadWrite, &["DELETE"])];
/// The first argument is a key that is overwritten (SETEX).
pub const KEY_OVERWRITE: &[KeySpec] = &[KeySpec::one(1, Access::OverWrite, &["UPDATE"])];
/// All arguments are keys that are read (MGET, SINTER).
pub const KEYS_READ: &[KeySpec] = &[KeySpec::all(1, 1, Access::ReadOnly, &["ACCESS"])];
/// All arguments are keys of which only metadata is read (EXISTS, TOUCH).
pub const KEYS_LOOK: &[KeySpec] = &[KeySpec::all(1, 1, Access::ReadOnly, &[])];
/// All arguments are keys that are deleted (DEL).
pub const KEYS_REMOVE: &[KeySpec] = &[KeySpec::all(1, 1, Access::Remove, &["DELETE"])];
/// Keys and values take turns (MSET).
pub const KEYS_ODD: &[KeySpec] = &[KeySpec::all(1, 2, Access::OverWrite, &["UPDATE"])];

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(spec: &KeySpec, words: &str) -> Vec<usize> {
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let mut found = Vec::new();
        spec.for_each(&args, |at| found.push(at));
        found
    }

    #[test]
    fn keys_are_found_as_the_specification_says() {
        let store = KeySpec {
            access: Access::OverWrite,
            flags: &["UPDATE"],
            begin: Begin::Keyword { word: "STORE", from: 2 },
            find: Find::Range { last: 0, step: 1 },
        };
        for (spec, words, expected) in [
            (&KEY_READ[0], "get k", vec![1]),
            (&KEYS_READ[0], "mget a b c", vec![1, 2, 3]),
            (&KEYS_ODD[0], "mset a 1 b 2", vec![1, 3]),
            (&KeySpec::counted(1, Access::ReadOnly, &[]), "zunion 2 a b weights 1 2", vec![2, 3]),
            (&KeySpec::counted(1, Access::ReadOnly, &[]), "zunion 9 a b", vec![2, 3]),
            (&KeySpec::counted(1, Access::ReadOnly, &[]), "zunion x a b", vec![]),
            (&KeySpec::streams(1, Access::ReadOnly, &[]), "xread streams a b 0 0", vec![2, 3]),
            (&KeySpec::streams(1, Access::ReadOnly, &[]), "xread count streams a 0", vec![3]),
            (&KeySpec::streams(1, Access::ReadOnly, &[]), "xread x streams a 0", vec![3]),
            (&KeySpec::streams(1, Access::ReadOnly, &[]), "xread streams a b 0", vec![2]),
            (&KeySpec::streams(1, Access::ReadOnly, &[]), "xread count 1 streams", vec![]),
            (
                &KeySpec::streams(4, Access::ReadOnly, &[]),
                "xreadgroup group streams streams block 0 noack STREAMS a b > >",
                vec![8, 9],
            ),
            (&store, "sort k limit 0 1 store d", vec![6]),
            (&store, "sort k store", vec![]),
            (&store, "sort k", vec![]),
        ] {
            assert_eq!(keys(spec, words), expected, "{words}");
        }
    }
}
