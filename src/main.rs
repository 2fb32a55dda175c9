//! The `corelane` server.

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
