//! The libraries of the server: what FUNCTION LOAD made, as values that every shard can read.
//!
//! A [`Catalogue`] never changes; a change makes a new one. Each shard compiles a library in its own VM
//! when one of its functions is first called there ([`LoadedLibraries`]), so the variables of a library
//! are those of the shard.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::host::Host;
use super::source::{self, ScriptFlags, SourceError};
use super::vm::{Compiled, Vm};

/// A function of a library.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: Option<Vec<u8>>,
    /// What it may do.
    pub flags: ScriptFlags,
}

/// A library.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its whole text, with the first line.
    pub text: Vec<u8>,
    /// What it registered, in its order.
    pub functions: Vec<FunctionInfo>,
}

/// Why a library does not get into the catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LibraryError {
    /// Its first line is wrong.
    Source(SourceError),
    /// There is one of that name.
    Exists(String),
    /// A function of that name is in another library.
    FunctionExists(String),
    /// Its code failed; this is the error reply.
    Failed(Vec<u8>),
    /// There is none of that name.
    NotFound,
}

/// What follows the `-` on the wire.
impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Exists(name) => write!(f, "ERR Library '{name}' already exists"),
            Self::FunctionExists(name) => write!(f, "ERR Function {name} already exists"),
            Self::Failed(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::NotFound => f.write_str("ERR Library not found"),
        }
    }
}

/// All libraries.
#[derive(Clone, Default, Debug)]
pub struct Catalogue {
    libraries: BTreeMap<String, Arc<Library>>,
    /// By the name of the function in lower case: calls do not look at the case.
    functions: HashMap<String, (Arc<Library>, usize)>,
}

impl Catalogue {
    /// The libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    /// The library of this name.
    pub fn library(&self, name: &str) -> Option<&Arc<Library>> {
        self.libraries.get(name)
    }

    /// Number of functions.
    pub fn function_count(&self) -> usize {
        self.libraries.values().map(|library| library.functions.len()).sum()
    }

    /// The function of this name, in any case, and its library.
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &FunctionInfo)> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let (library, at) = self.functions.get(&name)?;
        Some((library, &library.functions[*at]))
    }

    /// This catalogue with `library` in it, in the place of one of the same name if `replace`.
    pub fn with(&self, library: Arc<Library>, replace: bool) -> Result<Self, LibraryError> {
        if !replace && self.libraries.contains_key(&library.name) {
            return Err(LibraryError::Exists(library.name.clone()));
        }
        let mut new = self.clone();
        new.remove(&library.name);
        for function in &library.functions {
            if new.functions.contains_key(&function.name.to_ascii_lowercase()) {
                return Err(LibraryError::FunctionExists(function.name.clone()));
            }
        }
        for (function, at) in library.functions.iter().zip(0..) {
            // Two that differ in case alone: the first one is found.
            let name = function.name.to_ascii_lowercase();
            new.functions.entry(name).or_insert_with(|| (Arc::clone(&library), at));
        }
        new.libraries.insert(library.name.clone(), library);
        Ok(new)
    }

    /// This catalogue without the library of this name.
    pub fn without(&self, name: &str) -> Result<Self, LibraryError> {
        let mut new = self.clone();
        if !new.remove(name) {
            return Err(LibraryError::NotFound);
        }
        Ok(new)
    }

    fn remove(&mut self, name: &str) -> bool {
        self.functions.retain(|_, (library, _)| library.name != name);
        self.libraries.remove(name).is_some()
    }
}

/// The libraries that one VM has compiled.
#[derive(Default)]
pub struct LoadedLibraries {
    loaded: HashMap<String, Loaded>,
}

struct Loaded {
    library: Arc<Library>,
    functions: HashMap<String, Compiled>,
}

impl LoadedLibraries {
    /// Runs the text of a new library: what it is made of. It replaces one of the same name here.
    pub fn make(
        &mut self,
        vm: &Vm,
        text: &[u8],
        host: &mut dyn Host,
    ) -> Result<Arc<Library>, LibraryError> {
        let (name, code) = source::library(text).map_err(LibraryError::Source)?;
        let registered = vm.load(code, host).map_err(LibraryError::Failed)?;
        let (mut infos, mut functions) = (Vec::new(), HashMap::new());
        for function in registered {
            let (name, flags) = (function.name, function.flags);
            let compiled = vm.keep(function.callback);
            let compiled =
                compiled.map_err(|e| LibraryError::Failed(e.to_string().into_bytes()))?;
            functions.insert(name.clone(), compiled);
            infos.push(FunctionInfo { name, description: function.description, flags });
        }
        let library = Arc::new(Library { name, text: text.to_vec(), functions: infos });
        let loaded = Loaded { library: Arc::clone(&library), functions };
        self.loaded.insert(library.name.clone(), loaded);
        Ok(library)
    }

    /// The function `name` of `library`, which is compiled first if it is not, or not this one.
    pub fn function(
        &mut self,
        vm: &Vm,
        library: &Arc<Library>,
        name: &str,
        host: &mut dyn Host,
    ) -> Result<Compiled, LibraryError> {
        let there = self.loaded.get(&library.name);
        if there.is_none_or(|loaded| !Arc::ptr_eq(&loaded.library, library)) {
            self.make(vm, &library.text, host)?;
            let loaded = self.loaded.get_mut(&library.name).ok_or(LibraryError::NotFound)?;
            // Other shards know it by the pointer in the catalogue.
            loaded.library = Arc::clone(library);
        }
        let function = self.loaded.get(&library.name).and_then(|l| l.functions.get(name));
        function.cloned().ok_or(LibraryError::NotFound)
    }

    /// Forgets the libraries that are not in `catalogue`.
    pub fn retain(&mut self, catalogue: &Catalogue) {
        self.loaded.retain(|name, _| catalogue.library(name).is_some());
    }
}
