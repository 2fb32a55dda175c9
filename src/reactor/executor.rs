//! The executor that a reactor runs in: glommio's, without its preemption timer and most of its memory.
//!
//! glommio-ng 0.12 (`run_task_queues`) looks whether that timer has fired before it looks for something to
//! run. On a busy host a thread may lose its CPU for that long just between arming and looking: then nothing
//! runs, the executor takes that for idleness and sleeps with a task that is ready, and since the timer's
//! completion wakes nobody, the core stays silent until the next event. Nothing here needs the timer: the
//! reactor gives way by itself, and background work has budgets.
//!
//! The price is a rule: a task waits for files, timers or other tasks, and never yields in a loop, for as long as
//! some task is ready the executor does not look at its rings. Work in slices belongs into the turns of a service.
//!
//! Promise: a task that is ready runs, however late its thread gets its CPU.

use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};

/// Registered memory for file I/O. What needs more takes it from the heap; glommio's own 10 MiB for each core,
/// pinned from the start, would be most of what an empty server holds.
const IO_MEMORY_BYTES: usize = 256 * 1024;
/// Longer than any process runs.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An executor for the calling thread.
pub fn executor(name: &str, placement: Placement) -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(placement)
        .name(name)
        .preempt_timer(NEVER)
        .io_memory(IO_MEMORY_BYTES)
        .make()
}

/// A task queue of the executor that this runs in. It has no latency requirement, which would bring the
/// timer back.
pub fn task_queue(name: &str, shares: usize) -> TaskQueueHandle {
    let latency = glommio::Latency::NotImportant;
    glommio::executor().create_task_queue(Shares::Static(shares), latency, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Before, the timer of a queue had fired after a millisecond, and a yield then could last for ever.
    #[test]
    fn nothing_asks_for_the_cpu_however_long_a_task_runs() {
        executor("test", Placement::Unbound).unwrap().run(async {
            let busy = async {
                for _ in 0..3 {
                    // glommio's own timer would fire after 100 ms.
                    let end = Instant::now() + Duration::from_millis(150);
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                    assert!(!glommio::executor().need_preempt());
                    glommio::executor().yield_now().await;
                }
            };
            glommio::spawn_local_into(busy, task_queue("clients", 1000)).unwrap().await;
        });
    }
}
