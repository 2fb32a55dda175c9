//! The scripts and libraries of the process: one text for all shards.
//!
//! A shard keeps what it has compiled; here is what another shard has to look up once. So the mutexes are
//! taken when something is new, and a generation, which everybody reads, tells when something old is
//! gone.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha1_smol::Sha1;

use super::library::{Catalogue, LibraryError};
use super::sandbox::Engine;

/// The SHA-1 of a script's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Of this text.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha1::from(text).digest().bytes())
    }

    /// The one of these 40 digits, in any case.
    pub fn parse(digits: &[u8]) -> Option<Self> {
        let mut digest = [0; 20];
        if digits.len() != 2 * digest.len() {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Self(digest))
    }

    /// Its 40 digits, in lower case.
    pub fn to_hex(self) -> String {
        let mut hex = String::with_capacity(40);
        for byte in self.0 {
            // Writing to a string does not fail.
            _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

/// See the module.
#[derive(Default)]
pub struct Store {
    scripts: Mutex<HashMap<Digest, Arc<[u8]>>>,
    script_generation: AtomicU64,
    catalogue: Mutex<Arc<Catalogue>>,
    catalogue_generation: AtomicU64,
    /// Bytes of the Lua of all shards: for scripts, for functions.
    memory: [AtomicI64; 2],
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a map that is whole: each change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Grows when scripts are forgotten.
    pub fn script_generation(&self) -> u64 {
        self.script_generation.load(Ordering::Acquire)
    }

    /// The text of a script.
    pub fn script(&self, digest: Digest) -> Option<Arc<[u8]>> {
        locked(&self.scripts).get(&digest).cloned()
    }

    /// Whether the script is known.
    pub fn has_script(&self, digest: Digest) -> bool {
        locked(&self.scripts).contains_key(&digest)
    }

    /// Notes a script that compiles.
    pub fn add_script(&self, digest: Digest, text: &[u8]) {
        locked(&self.scripts).entry(digest).or_insert_with(|| text.into());
    }

    /// Forgets all scripts.
    pub fn forget_scripts(&self) {
        let mut scripts = locked(&self.scripts);
        self.script_generation.fetch_add(1, Ordering::Release);
        scripts.clear();
    }

    /// How many scripts there are, and their bytes.
    pub fn script_sizes(&self) -> (usize, usize) {
        let scripts = locked(&self.scripts);
        (scripts.len(), scripts.values().map(|text| text.len()).sum())
    }

    /// The Lua of a shard has grown by so many bytes.
    pub fn note_memory(&self, engine: Engine, grown: i64) {
        self.memory[engine as usize].fetch_add(grown, Ordering::Relaxed);
    }

    /// Bytes of the Lua of all shards.
    pub fn memory(&self, engine: Engine) -> u64 {
        self.memory[engine as usize].load(Ordering::Relaxed).max(0) as u64
    }

    /// Grows with every change of the libraries.
    pub fn catalogue_generation(&self) -> u64 {
        self.catalogue_generation.load(Ordering::Acquire)
    }

    /// The libraries.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&locked(&self.catalogue))
    }

    /// Replaces the libraries by what `change` makes of them. Two changes at a time come one after the
    /// other.
    pub fn change_catalogue(
        &self,
        change: impl FnOnce(&Catalogue) -> Result<Catalogue, LibraryError>,
    ) -> Result<(), LibraryError> {
        let mut catalogue = locked(&self.catalogue);
        *catalogue = Arc::new(change(&catalogue)?);
        self.catalogue_generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_any_case_and_shown_in_lower_case() {
        let digest = Digest::of(b"return 1");
        let hex = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(digest.to_hex(), hex);
        assert_eq!(Digest::parse(hex.to_ascii_uppercase().as_bytes()), Some(digest));
        for wrong in ["", "e0", &hex[1..], &format!("{hex}0"), &hex.replace('e', "x")] {
            assert_eq!(Digest::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn forgetting_is_seen_by_who_knew_the_generation() {
        let store = Store::default();
        let (digest, before) = (Digest::of(b"x"), store.script_generation());
        store.add_script(digest, b"x");
        assert_eq!(store.script(digest).as_deref(), Some(&b"x"[..]));
        assert_eq!((store.script_generation(), store.script_sizes()), (before, (1, 1)));
        store.forget_scripts();
        assert!(store.script_generation() > before && !store.has_script(digest));
    }
}
