//! The byte before a value that says of what type it is and how it is written.

use super::NEWEST_VERSION;

macro_rules! type_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, since $version:literal;)*) => {
        /// The byte before a value. The numbers are those of `rdb.h`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum TypeCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl TypeCode {
            /// The type that a file or payload of this version means with `byte`, if there is one.
            pub fn from_byte(byte: u8, version: u16) -> Option<Self> {
                match byte {
                    $($code if version >= $version => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

type_codes! {
    /// A string.
    String = 0, since 1;
    /// A list, text by text.
    List = 1, since 1;
    /// A set, text by text.
    Set = 2, since 1;
    /// A sorted set whose scores are decimal texts.
    ZSet = 3, since 1;
    /// A hash, text by text.
    Hash = 4, since 1;
    /// A sorted set whose scores are doubles.
    ZSet2 = 5, since 1;
    /// The value of a module, of a form that only the module understands.
    Module = 6, since 1;
    /// The value of a module, its parts marked.
    Module2 = 7, since 1;
    /// A hash as a zipmap.
    HashZipmap = 9, since 1;
    /// A list as one ziplist.
    ListZiplist = 10, since 1;
    /// A set as an intset.
    SetIntset = 11, since 1;
    /// A sorted set as a ziplist.
    ZSetZiplist = 12, since 1;
    /// A hash as a ziplist.
    HashZiplist = 13, since 1;
    /// A list of ziplists.
    ListQuicklist = 14, since 1;
    /// A stream without what Redis 7.0 added.
    Stream = 15, since 1;
    /// A hash as a listpack.
    HashListpack = 16, since 1;
    /// A sorted set as a listpack.
    ZSetListpack = 17, since 1;
    /// A list of listpacks and of large elements by themselves.
    ListQuicklist2 = 18, since 1;
    /// A stream as Redis 7.0 writes it.
    Stream2 = 19, since 1;
    /// A set as a listpack, of Redis 7.2.
    SetListpack = 20, since 11;
    /// A stream as Redis 7.2 writes it.
    Stream3 = 21, since 11;
}

impl TypeCode {
    /// As it is written.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

const _: () = assert!(NEWEST_VERSION == 11, "a newer version has types that are not listed here");
