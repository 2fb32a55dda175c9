//! The `corelane` server: arguments to configuration, configuration to a running process. All else is
//! in the library, where tests reach it.

use std::process::ExitCode;

use corelane::config::{Config, Invocation};

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match corelane::boot::run(*config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane: {error}");
            ExitCode::FAILURE
        }
    }
}
