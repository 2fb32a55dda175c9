//! `maxclients` against the open files that the system allows.
//!
//! Promise: after [`raise_open_files`] the process may open as many files as the returned number of
//! clients needs; when the system refuses, the number is reduced and the log lines say why, in
//! Redis's words, since operators look for them.

use std::io;

/// Files that the server needs beside its clients: listeners, logs, snapshots, links (Redis 7.0
/// `server.h`, CONFIG_MIN_RESERVED_FDS).
pub const RESERVED_FILES: u64 = 32;

/// The limit of open files, as the kernel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    /// What holds now.
    pub soft: u64,
    /// Up to which an ordinary process may raise it.
    pub hard: u64,
}

/// How many clients there may be, and what to log about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// The number to go on with.
    pub maxclients: u32,
    /// Lines for the log, at warning level unless the limit was simply raised.
    pub log: Vec<String>,
}

/// The limit is too low even for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFewFiles(pub String);

impl std::fmt::Display for TooFewFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooFewFiles {}

/// Raises the limit of this process so that `maxclients` fit, or reduces `maxclients` to what fits.
pub fn raise_open_files(maxclients: u32) -> Result<Clients, TooFewFiles> {
    fit(maxclients, current_limit(), set_soft_limit)
}

/// CONFIG SET maxclients: raises the limit, or says how many would fit, in the words of Redis.
pub fn raise_for_config_set(maxclients: u32) -> Result<(), String> {
    let clients = raise_open_files(maxclients).map_err(|error| error.0)?;
    if clients.maxclients == maxclients {
        return Ok(());
    }
    Err(format!(
        "The operating system is not able to handle the specified number of clients, try with {}",
        clients.maxclients
    ))
}

/// The decision, with the system call as an argument.
fn fit(
    maxclients: u32,
    limit: FileLimit,
    mut set_soft: impl FnMut(u64) -> io::Result<()>,
) -> Result<Clients, TooFewFiles> {
    let wanted = u64::from(maxclients) + RESERVED_FILES;
    if limit.soft >= wanted {
        return Ok(Clients { maxclients, log: Vec::new() });
    }
    let refusal = match set_soft(wanted) {
        Ok(()) => {
            let line = format!(
                "Increased maximum number of open files to {wanted} (it was originally set to {}).",
                limit.soft
            );
            return Ok(Clients { maxclients, log: vec![line] });
        }
        Err(error) => error,
    };
    // An ordinary process may go up to the hard limit, and that may be more than it has now.
    let reached = limit.hard.min(wanted).max(limit.soft);
    let allowed = match set_soft(reached) {
        Ok(()) => reached,
        Err(_) => limit.soft,
    };
    reduced(maxclients, wanted, allowed, &refusal)
}

fn reduced(
    maxclients: u32,
    wanted: u64,
    allowed: u64,
    refusal: &io::Error,
) -> Result<Clients, TooFewFiles> {
    let fitting = allowed.saturating_sub(RESERVED_FILES);
    let Some(fitting) = u32::try_from(fitting).ok().filter(|clients| *clients > 0) else {
        return Err(TooFewFiles(format!(
            "Your current 'ulimit -n' of {allowed} is not enough for the server to start. Please \
             increase your open file limit to at least {wanted}. Exiting."
        )));
    };
    let error = refusal.to_string();
    let error = error.split(" (os error").next().unwrap_or_default();
    let log = vec![
        format!(
            "You requested maxclients of {maxclients} requiring at least {wanted} max file descriptors."
        ),
        format!("Server can't set maximum open files to {wanted} because of OS error: {error}."),
        format!(
            "Current maximum open files is {allowed}. maxclients has been reduced to {fitting} to \
             compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        ),
    ];
    Ok(Clients { maxclients: fitting.min(maxclients), log })
}

#[allow(unsafe_code)]
fn current_limit() -> FileLimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call, which only writes to it.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    // Redis takes 1024 when the limit cannot be read; the call cannot fail with these arguments.
    if result == 0 {
        FileLimit { soft: limit.rlim_cur, hard: limit.rlim_max }
    } else {
        FileLimit { soft: 1024, hard: 1024 }
    }
}

/// Sets the soft limit; the hard limit follows when the process may raise it.
#[allow(unsafe_code)]
fn set_soft_limit(soft: u64) -> io::Result<()> {
    let hard = current_limit().hard.max(soft);
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is a valid rlimit that outlives the call, which only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that lets the soft limit go up to `hard`.
    fn fit_under(maxclients: u32, soft: u64, hard: u64) -> Result<Clients, TooFewFiles> {
        fit(maxclients, FileLimit { soft, hard }, |wanted| {
            if wanted <= hard { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
        })
    }

    #[test]
    fn clients_that_fit_are_left_alone_and_others_raise_the_limit() {
        assert_eq!(fit_under(100, 132, 132).unwrap(), Clients { maxclients: 100, log: vec![] });
        let raised = fit_under(10000, 1024, 20000).unwrap();
        assert_eq!(raised.maxclients, 10000);
        let line =
            "Increased maximum number of open files to 10032 (it was originally set to 1024).";
        assert_eq!(raised.log, [line]);
    }

    #[test]
    fn clients_beyond_the_hard_limit_are_reduced_with_redis_words() {
        let reduced = fit_under(20_000_000, 1024, 20000).unwrap();
        assert_eq!(reduced.maxclients, 19968);
        assert_eq!(
            reduced.log[1..],
            [
                "Server can't set maximum open files to 20000032 because of OS error: Operation not \
                 permitted.",
                "Current maximum open files is 20000. maxclients has been reduced to 19968 to \
                 compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
            ]
        );
    }

    #[test]
    fn too_few_files_for_one_client_stop_the_start() {
        let error = fit_under(100, 32, 32).unwrap_err().to_string();
        assert!(error.contains("'ulimit -n' of 32 is not enough"), "{error}");
    }

    #[test]
    fn the_limit_of_this_process_can_be_read() {
        assert!(current_limit().soft > 0);
    }
}
