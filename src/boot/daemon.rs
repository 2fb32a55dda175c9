//! Running in the background, the process id file, and the log.
//!
//! Promise: a log line looks like Redis's (`123:M 23 Nov 2026 04:07:30.660 # text`), so that
//! existing collectors read it; the process id file is gone after a clean end.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::config::values::LogLevel;

/// Leaves the terminal: forks, ends the parent, starts a session, and points the standard streams
/// at /dev/null. To be called while there is one thread.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: the process has one thread, so the child has all it had; no lock is held by another.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: _exit ends the parent without running the child's destructors twice.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: no arguments. It fails only for a group leader, which a fresh child is not.
    if unsafe { libc::setsid() } < 0 {
        return Err(io::Error::last_os_error());
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in 0..=2 {
        // SAFETY: both descriptors are open; dup2 replaces the stream at once.
        if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Where the process id goes when the server is in the background and nothing else is asked.
pub const DEFAULT_PIDFILE: &str = "/var/run/corelane.pid";

/// A file that holds the process id for as long as this value lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // At the end of the process there is nobody left to hear that this failed.
        let _ = fs::remove_file(&self.path);
    }
}

/// What this process is, as the letter in its log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRole {
    /// `M`: a master.
    Master,
    /// `S`: a replica.
    Replica,
    /// `X`: a sentinel.
    Sentinel,
}

static ROLE: AtomicU8 = AtomicU8::new(b'M');
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Notice as u8);

/// Changes the letter of the log lines that follow.
pub fn set_log_role(role: LogRole) {
    let letter = match role {
        LogRole::Master => b'M',
        LogRole::Replica => b'S',
        LogRole::Sentinel => b'X',
    };
    ROLE.store(letter, Ordering::Relaxed);
}

/// Changes how much is logged from now on: `CONFIG SET loglevel`.
pub fn set_log_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Starts logging, to the file of this name or to standard output if it is empty. The log is opened
/// anew for every line, as Redis does, so that logrotate needs no signal.
pub fn start_log(logfile: &str, level: LogLevel) -> io::Result<()> {
    set_log_level(level);
    let output = if logfile.is_empty() {
        Output::Stdout
    } else {
        open_log(Path::new(logfile))?;
        // The server changes its directory later; the log stays where it was asked for.
        Output::File(std::path::absolute(logfile)?)
    };
    let layer = LogLayer { output: Mutex::new(output) };
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

enum Output {
    Stdout,
    File(PathBuf),
}

impl Output {
    fn write(&self, line: &str) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(line.as_bytes()),
            // One write per line: with O_APPEND, lines of several threads do not mix.
            Self::File(path) => open_log(path)?.write_all(line.as_bytes()),
        }
    }
}

/// Turns events into lines. A log is rare and off the path of requests, so a lock is fine here.
struct LogLayer {
    output: Mutex<Output>,
}

/// The four levels of Redis over the levels of tracing: warning is WARN and ERROR, notice is INFO, verbose is
/// DEBUG, debug is TRACE.
fn redis_level(level: Level) -> LogLevel {
    match level {
        Level::ERROR | Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Notice,
        Level::DEBUG => LogLevel::Verbose,
        Level::TRACE => LogLevel::Debug,
    }
}

fn is_shown(level: LogLevel) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

fn level_sign(level: LogLevel) -> char {
    match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning => '#',
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Asked again each time: CONFIG SET loglevel changes the answer.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries below speak of their own inner life; only their complaints are for operators.
        let own = metadata.target().starts_with("corelane");
        is_shown(redis_level(*metadata.level())) && (own || *metadata.level() <= Level::WARN)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = redis_level(*event.metadata().level());
        let role = char::from(ROLE.load(Ordering::Relaxed));
        let now = SystemTime::now();
        let line = log_line(std::process::id(), role, now, level_sign(level), &text.finish());
        // A log that cannot be written must not stop the server, nor a thread that panicked
        // while it held the lock.
        let output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = output.write(&line);
    }
}

/// The message of an event, then its other fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push_str(&format!(" {name}={value}")),
        }
    }
}

fn log_line(pid: u32, role: char, now: SystemTime, sign: char, text: &str) -> String {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = local_time(since_epoch.as_secs());
    format!("{pid}:{role} {time}.{:03} {sign} {text}\n", since_epoch.subsec_millis())
}

/// `23 Nov 2026 04:07:30` in the time zone of the host.
fn local_time(seconds: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // SAFETY: all-zero bytes are a valid tm: numbers, and a null pointer that is not followed.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    let seconds = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: both pointers are to valid values that outlive the call; localtime_r keeps neither.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    let month = usize::try_from(tm.tm_mon).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
    format!(
        "{:02} {month} {} {:02}:{:02}:{:02}",
        tm.tm_mday,
        tm.tm_year + 1900,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    )
}

/// Whether the log goes to a terminal, where the banner is welcome.
pub fn logs_to_terminal(logfile: &str) -> bool {
    logfile.is_empty() && io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_has_the_form_of_redis() {
        let noon = UNIX_EPOCH + Duration::from_millis(86_400_000 * 45 + 43_200_000 + 7);
        let line = log_line(12, 'M', noon, '*', "Ready to accept connections");
        // The hour depends on the time zone of the host, the rest of the day hardly.
        assert!(line.starts_with("12:M 15 Feb 1970 ") || line.starts_with("12:M 16 Feb 1970 "));
        assert!(line.ends_with("00.007 * Ready to accept connections\n"), "{line}");
    }

    #[test]
    fn levels_are_those_of_redis() {
        for (level, sign) in [
            (Level::ERROR, '#'),
            (Level::WARN, '#'),
            (Level::INFO, '*'),
            (Level::DEBUG, '-'),
            (Level::TRACE, '.'),
        ] {
            assert_eq!(level_sign(redis_level(level)), sign);
        }
    }

    #[test]
    fn events_go_to_the_file_from_the_asked_level_up() {
        let path = std::env::temp_dir().join(format!("corelane-log-{}", std::process::id()));
        let layer = LogLayer { output: Mutex::new(Output::File(path.clone())) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            set_log_level(LogLevel::Notice);
            tracing::info!(port = 6379, "ready");
            tracing::debug!("hidden");
            tracing::warn!("bad");
            for level in [LogLevel::Notice, LogLevel::Verbose] {
                set_log_level(level);
                tracing::debug!("only the second time");
            }
        });
        let log = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 3, "{log}");
        assert!(lines[0].ends_with(" * ready port=6379") && lines[1].ends_with(" # bad"), "{log}");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_process_id_file_lives_as_long_as_its_value() {
        let path = std::env::temp_dir().join(format!("corelane-pid-{}", std::process::id()));
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
