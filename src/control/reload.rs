//! DEBUG RELOAD: the data is saved, dropped and loaded again, while all shards stand still.

use std::path::PathBuf;

use super::Control;
use super::rdb_load::Progress;
use super::saving::{Asker, Purpose};
use crate::clock;
use crate::command::CommandError;
use crate::scripting::library::Catalogue;
use crate::shard::loading::LoadRules;
use crate::shard::message::{HoldNumber, Message, ReloadOptions};
use crate::shard_map::ShardId;

const CANNOT_LOAD: CommandError =
    CommandError::text("ERR Error trying to load the RDB dump, check server logs.");
const IN_PROGRESS: CommandError = CommandError::text("ERR A reload is in progress");

/// A reload under way.
pub(super) struct Reload {
    asker: Asker,
    options: ReloadOptions,
    /// For which all stand still, and who coordinates that.
    hold: (HoldNumber, ShardId),
    is_loading: bool,
}

impl Control {
    /// DEBUG RELOAD
    pub(super) fn on_reload(&mut self, asker: Asker, options: ReloadOptions) {
        if self.reload.is_some() || self.is_saving() || self.loading.is_some() {
            return self.answer(asker, Err(IN_PROGRESS));
        }
        let hold = (HoldNumber(0), asker.0);
        self.reload = Some(Reload { asker, options, hold, is_loading: false });
        if options.saves {
            return self.begin_snapshot(Purpose::Reload);
        }
        let number = self.next_hold();
        if let Some(reload) = &mut self.reload {
            reload.hold.0 = number;
        }
        self.tell(asker.0, Message::HoldAll(number));
    }

    /// Whether all stand still for a reload that saves nothing.
    pub(super) fn is_hold_of_reload(&self, number: HoldNumber) -> bool {
        self.reload.as_ref().is_some_and(|reload| reload.hold.0 == number)
    }

    /// The file is there, and all still stand still.
    pub(super) fn saved_for_reload(
        &mut self,
        result: &Result<(), String>,
        hold: (HoldNumber, ShardId),
    ) {
        let Some(reload) = &mut self.reload else { return };
        reload.hold = hold;
        match result {
            Ok(()) => self.begin_reload(),
            Err(_) => self.end_reload(Err(CANNOT_LOAD)),
        }
    }

    /// All shards stand still, and the file is as it should be.
    pub(super) fn begin_reload(&mut self) {
        let Some(reload) = &mut self.reload else { return };
        reload.is_loading = true;
        let options = reload.options;
        if options.flushes {
            self.tell_all(|| Message::Clear);
            _ = self.process.scripts.change_catalogue(|_| Ok(Catalogue::default()));
        }
        let rules =
            LoadRules { drops_expired_before: Some(clock::unix_ms()), merges: options.merges };
        let path = PathBuf::from(&self.config.dbfilename);
        if let Err(error) = self.open_rdb(&path, rules) {
            tracing::warn!("Failed opening {}: {error}", path.display());
            self.end_reload(Err(CANNOT_LOAD));
        }
    }

    /// Whether there is something to read now.
    pub(super) fn reads_again(&self) -> bool {
        self.rdb_goes_on && self.reload.as_ref().is_some_and(|reload| reload.is_loading)
    }

    /// Loads on.
    pub(super) fn go_on_reloading(&mut self) {
        if self.reload.as_ref().is_none_or(|reload| !reload.is_loading) {
            return;
        }
        match self.step_rdb() {
            Ok(Progress::Going | Progress::Waiting) => {}
            Ok(Progress::Done(_)) => self.end_reload(Ok("OK")),
            Err(error) => {
                tracing::warn!("Failed loading: {error}");
                self.end_reload(Err(CANNOT_LOAD));
            }
        }
    }

    fn end_reload(&mut self, answer: Result<&'static str, CommandError>) {
        let Some(reload) = self.reload.take() else { return };
        let (number, holder) = reload.hold;
        self.tell(holder, Message::ReleaseAll(number));
        self.answer(reload.asker, answer);
    }
}
