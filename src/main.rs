//! The `corelane` server: arguments to configuration, configuration to a running process. All else is
//! in the library, where tests reach it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use corelane::config::{Config, Invocation};
use corelane::persistence::aof::check_aof::{self, check_aof};
use corelane::persistence::rdb::check_file::check_file;

#[global_allocator]
static GLOBAL: corelane::memory::Allocator = corelane::memory::Allocator;

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::CheckRdb(path)) => return check_rdb(&path),
        Ok(Invocation::CheckAof(words)) => return check_append_only(&words),
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

fn check_rdb(path: &Path) -> ExitCode {
    match check_file(path) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn check_append_only(words: &[OsString]) -> ExitCode {
    let arguments = match check_aof::Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(text) => {
            println!("{text}");
            return ExitCode::FAILURE;
        }
    };
    match check_aof(&arguments, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", arguments.path.display());
            ExitCode::FAILURE
        }
    }
}
