//! Host tuning profiles for Corelane. The profiles are not written yet; see the README of this crate.
