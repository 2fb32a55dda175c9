//! Ctrl-C and SIGTERM: the first one ends the run with the report so far, the second one kills.
//!
//! A run that hangs because the server does must still end, so the handler only sets a flag that
//! every loop looks at at least each [`CHECK_INTERVAL`], and the second signal does not ask.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// Longest time that a loop sleeps before it looks at the flag again.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Exit code of a run that a second signal killed: 128 and the number of SIGINT, as shells say it.
const KILLED_EXIT_CODE: i32 = 130;

/// A flag that the first SIGINT or SIGTERM sets.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: on the first signal the flag is still down, so nothing is killed.
        flag::register_conditional_shutdown(signal, KILLED_EXIT_CODE, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::Thread(format!("cannot handle signals: {error}")))?;
    }
    Ok(stop)
}
