//! The end of the process: shards stand still, what they have written reaches the disk, then all cores stop.

use std::time::{Duration, Instant};

use super::Control;
use crate::journal::Stamp;
use crate::reactor::Action;
use crate::shard::message::{HoldNumber, Message};
use crate::shard_map::ShardId;

/// How long to wait until all shards stand still: one with an endless script never does. And for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(super) enum Ending {
    /// Nobody wants it.
    #[default]
    No,
    /// A snapshot that nobody wants any more is about to remove its file.
    Abandoning(Instant),
    /// Shards are about to stand still.
    Holding(HoldNumber, Instant),
    /// Everything up to this stamp is on its way to the disk.
    Writing(Stamp),
}

impl Control {
    /// Stops when what is being saved, and was abandoned, has left nothing behind.
    pub(super) fn stop_without_sink(&mut self) {
        self.ending = Ending::Abandoning(Instant::now() + PATIENCE);
        self.go_on_abandoning(Instant::now());
    }

    /// Looks whether it has.
    pub(super) fn go_on_abandoning(&mut self, now: Instant) {
        if let Ending::Abandoning(until) = self.ending
            && (now >= until || !self.is_sink_at_work())
        {
            self.ending = Ending::No;
            self.remove_unfinished();
            self.stop();
        }
    }

    /// Everything is done that was to be done before the end.
    pub(super) fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        if !self.config.appendonly {
            return self.stop_cores();
        }
        let number = self.next_hold();
        self.ending = Ending::Holding(number, Instant::now() + PATIENCE);
        self.tell(ShardId(0), Message::HoldAll(number));
    }

    /// All shards stand still, or it is the end for which they do.
    pub(super) fn on_cut(&mut self, number: HoldNumber) {
        match self.ending {
            Ending::Holding(known, _) if known == number => self.write_last_words(),
            _ if self.is_hold_of_reload(number) => self.begin_reload(),
            _ if self.is_hold_of_load_aof(number) => self.clear_for_load_aof(),
            _ if self.is_hold_of_quiet(number) => self.is_quiet_now(number),
            _ if self.is_hold_of_role(number) => self.follow(),
            _ if self.is_hold_of_upstream(number) => self.clear_for_master(number),
            _ => self.cut_for_snapshot(number),
        }
    }

    fn write_last_words(&mut self) {
        self.ending = Ending::No;
        let stamp = self.last_stamp();
        match self.aof_last_words(stamp) {
            true => self.ending = Ending::Writing(stamp),
            false => self.stop_cores(),
        }
    }

    /// Looks whether it is time.
    pub(super) fn go_on_ending(&mut self, now: Instant) {
        match self.ending {
            Ending::Holding(_, until) if now >= until => self.write_last_words(),
            Ending::Writing(stamp) if self.is_on_disk(stamp) => {
                self.ending = Ending::No;
                self.stop_cores();
            }
            _ => {}
        }
    }

    /// When to look again.
    pub(super) fn next_end_look(&self) -> Option<Instant> {
        match self.ending {
            Ending::Holding(_, until) | Ending::Abandoning(until) => Some(until),
            _ => None,
        }
    }

    fn stop_cores(&mut self) {
        tracing::info!("Corelane is now ready to exit, bye bye...");
        self.tell_all(|| Message::Stop);
        self.actions.push(Action::Stop);
    }
}
