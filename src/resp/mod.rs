//! RESP2 and RESP3: requests in, replies out. It knows no socket, key or command.
//!
//! Both directions work on the connection's own buffers. A request's arguments are slices of the
//! bytes that came from the socket, a reply is appended where the socket will take it from.

pub mod parse;
pub mod parse_reply;
pub mod reply_end;
pub mod write;

pub use parse::{Limits, Opening, Parser, ProtocolError, Step};
pub use reply_end::ReplyEnd;
pub use write::{Reply, request_bytes};
