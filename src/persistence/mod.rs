//! What outlives the process: the formats that values take outside memory.
//!
//! Nothing here knows a file, a socket or a client: encoders append to a buffer, decoders are fed bytes
//! as they come. Who moves the bytes (RESTORE, a snapshot, a full synchronisation) is above.

pub mod rdb;
pub mod snapshot;
