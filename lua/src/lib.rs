//! Builds Lua 5.1.5 with Corelane's changes, for mlua's build script.
//!
//! Redis 7.0 runs scripts on a Lua with read-only tables, without bytecode. Neither can be had from outside, so this
//! crate takes the place of `lua-src`, with the same face. README.md lists what differs from the original.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The versions of Lua that mlua may ask for: only one is here.
pub enum Version {
    /// Lua 5.1.5.
    Lua51,
}
pub use self::Version::Lua51;

/// How to build.
#[derive(Default)]
pub struct Build;

/// What was built.
pub struct Artifacts {
    include: PathBuf,
    lib: PathBuf,
}

const NAME: &str = "lua5.1";

impl Build {
    /// A build for the target that cargo names in the environment.
    pub fn new() -> Self {
        Self
    }

    /// Compiles the library. Runs in a build script only, so failure is a panic with its reason.
    pub fn build(&self, _version: Version) -> Artifacts {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("a build script has OUT_DIR"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-5.1.5");
        let artifacts = Artifacts { include: out.join("include"), lib: out.join("lib") };
        artifacts.make(&source).unwrap_or_else(|error| panic!("Lua was not built: {error}"));
        artifacts
    }
}

impl Artifacts {
    fn make(&self, source: &Path) -> io::Result<()> {
        println!("cargo:rerun-if-changed={}", source.display());
        fs::create_dir_all(&self.include)?;
        for header in ["lauxlib.h", "lua.h", "luaconf.h", "lualib.h"] {
            fs::copy(source.join(header), self.include.join(header))?;
        }
        let mut build = cc::Build::new();
        build.define("LUA_USE_LINUX", None).include(source).out_dir(&self.lib);
        build.warnings(false).cargo_metadata(false).flag_if_supported("-fno-common");
        for entry in fs::read_dir(source)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "c") {
                build.file(path);
            }
        }
        build.try_compile(NAME).map_err(io::Error::other)
    }

    /// Where the headers are.
    pub fn include_dir(&self) -> &Path {
        &self.include
    }

    /// Where the library is.
    pub fn lib_dir(&self) -> &Path {
        &self.lib
    }

    /// Tells cargo to link the library.
    pub fn print_cargo_metadata(&self) {
        println!("cargo:rustc-link-search=native={}", self.lib.display());
        println!("cargo:rustc-link-lib=static={NAME}");
        println!("cargo:include={}", self.include.display());
        println!("cargo:lib={}", self.lib.display());
    }
}
