//! What outlives the process: the formats that values take outside memory.
//!
//! Nothing here knows a socket or a client. Encoders append to a buffer, decoders are fed bytes as they come; who
//! moves the bytes (RESTORE, a snapshot, a full synchronisation) is above. Files are opened only by what
//! checks them (`corelane check-…`) and by [`aof::disk`].

pub mod aof;
pub mod rdb;
pub mod snapshot;
