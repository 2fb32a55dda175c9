//! One connection: what it sent, what it is owed, and who it is.

pub mod replies;

pub use replies::{Place, ReplyQueue};
