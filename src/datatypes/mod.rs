//! The values that keys hold, and the formats that they are kept in. Below the keyspace: nothing
//! here knows a key, a client or a command.

pub mod glob;
