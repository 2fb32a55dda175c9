//! DEBUG LOADAOF: what was written reaches the append-only files, all keys are dropped, and the files are loaded.
//!
//! All shards stand still until each of them knows that data is being loaded; from then on it is as at the start
//! ([`super::loading`]): clients hear LOADING, and a fault in the files ends the process.

use super::Control;
use super::saving::Asker;
use crate::command::CommandError;
use crate::journal::Stamp;
use crate::scripting::library::Catalogue;
use crate::shard::message::{HoldNumber, Message};

const CANNOT_LOAD: CommandError =
    CommandError::text("ERR Error trying to load the AOF files, check server logs.");

/// How far it is.
enum Stage {
    /// Shards are about to stand still.
    Holding,
    /// So many have not noted that data is being loaded; everything up to the stamp is on its way to the disk.
    Clearing(usize, Stamp),
}

/// See the module.
pub(super) struct LoadAof {
    asker: Asker,
    hold: HoldNumber,
    stage: Stage,
}

impl Control {
    /// DEBUG LOADAOF
    pub(super) fn on_load_aof(&mut self, asker: Asker) {
        let is_busy = self.load_aof.is_some()
            || self.reload.is_some()
            || self.loading.is_some()
            || self.is_saving()
            || self.is_changing_role()
            || self.replication.upstream.is_some();
        if is_busy || self.aof_files().is_empty() {
            tracing::warn!("There is no append-only file to load, or something else is under way");
            return self.answer(asker, Err(CANNOT_LOAD));
        }
        let hold = self.next_hold();
        self.load_aof = Some(LoadAof { asker, hold, stage: Stage::Holding });
        self.tell(asker.0, Message::HoldAll(hold));
    }

    /// Whether all stand still for this.
    pub(super) fn is_hold_of_load_aof(&self, number: HoldNumber) -> bool {
        self.load_aof.as_ref().is_some_and(|load| load.hold == number)
    }

    /// All shards stand still, and what was written before has been handed on.
    pub(super) fn clear_for_load_aof(&mut self) {
        let (stamp, count) = (self.last_stamp(), self.shards.len());
        let Some(load) = &mut self.load_aof else { return };
        load.stage = Stage::Clearing(count, stamp);
        self.aof_last_words(stamp);
        self.tell_all(|| Message::Loading(true));
        self.tell_all(|| Message::Clear);
        _ = self.process.scripts.change_catalogue(|_| Ok(Catalogue::default()));
    }

    /// A shard has noted that data is being loaded.
    pub(super) fn on_noted_for_load_aof(&mut self) {
        if let Some(LoadAof { stage: Stage::Clearing(missing, _), .. }) = &mut self.load_aof {
            *missing -= 1;
        }
    }

    /// Loads when everything is ready for it.
    pub(super) fn go_on_with_load_aof(&mut self) {
        let Some(LoadAof { asker, hold, stage: Stage::Clearing(0, stamp) }) = self.load_aof else {
            return;
        };
        if self.is_on_disk(stamp) {
            self.load_aof = None;
            self.tell(asker.0, Message::ReleaseAll(hold));
            self.load_again(asker);
        }
    }
}
