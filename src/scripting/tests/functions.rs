//! Libraries and functions.

use std::sync::Arc;

use super::*;

struct Server {
    vm: Vm,
    loaded: LoadedLibraries,
    catalogue: Catalogue,
    host: FakeHost,
}

impl Server {
    fn new() -> Self {
        Self {
            vm: Vm::new(Engine::Functions, &Random::default()),
            loaded: LoadedLibraries::default(),
            catalogue: Catalogue::default(),
            host: FakeHost::default(),
        }
    }

    fn load(&mut self, text: &str, replace: bool) -> Result<String, LibraryError> {
        let library = self.loaded.make(&self.vm, text.as_bytes(), &mut self.host)?;
        self.catalogue = self.catalogue.with(Arc::clone(&library), replace)?;
        Ok(library.name.clone())
    }

    fn call(&mut self, name: &str, keys: &[&[u8]], args: &[&[u8]]) -> String {
        let Some((library, function)) = self.catalogue.function(name.as_bytes()) else {
            return "-ERR Function not found".into();
        };
        let function = function.name.clone();
        let host = &mut self.host;
        let compiled = self.loaded.function(&self.vm, library, &function, host);
        let compiled = compiled.expect("it was loaded before");
        let (words, key_count) = (Words::of(&[keys, args].concat()), keys.len());
        let (name, words) = (function.as_str(), &words);
        let call = Invocation { function: &compiled, name, words, first: 0, key_count };
        let mut out = Vec::new();
        let host = (host as &mut dyn Host, &mut Buffers::default());
        let outcome = self.vm.run(&call, host, &mut Reply::new(&mut out, false));
        outcome.expect("not aborted");
        escaped(&out)
    }
}

const BOTH_FORMS: &str = "#!lua name=lib
redis.register_function('echo', function(keys, args) return {keys, args} end)
redis.register_function{function_name='reader', description='reads', flags={'no-writes'},
  callback=function(keys) return redis.call('GET', keys[1]) end}
local count = 0
redis.register_function('count', function() count = count + 1 return count end)
redis.register_function('wrong', function() return redis.call('INCR', 's') end)
redis.register_function('global', function() leak = 1 end)
redis.register_function('keys', function() return KEYS end)
redis.register_function('random', function() return tostring(math.random()) end)
redis.register_function('again', function() return redis.register_function end)
";

#[test]
fn functions_are_registered_and_called() {
    let mut server = Server::new();
    assert_eq!(server.load(BOTH_FORMS, false), Ok("lib".into()));
    for (name, expected) in [
        ("echo", "*2\\r\\n*1\\r\\n$1\\r\\ns\\r\\n*1\\r\\n$1\\r\\na\\r\\n"),
        ("ECHO", "*2\\r\\n*1\\r\\n$1\\r\\ns\\r\\n*1\\r\\n$1\\r\\na\\r\\n"),
        ("reader", "$1\\r\\nv\\r\\n"),
        ("count", ":1\\r\\n"),
        ("count", ":2\\r\\n"),
        (
            "wrong",
            "-ERR value is not an integer or out of range script: wrong, on @user_function:7.\\r\\n",
        ),
        (
            "global",
            "-ERR user_function:8: Attempt to modify a readonly table script: global, on @user_function:8.\\r\\n",
        ),
        (
            "keys",
            "-ERR user_function:9: Script attempted to access nonexistent global variable 'KEYS' script: keys, on @user_function:9.\\r\\n",
        ),
        ("random", "$16\\r\\n0.39646477363839\\r\\n"),
        ("again", "$-1\\r\\n"),
        ("nope", "-ERR Function not found"),
    ] {
        assert_eq!(server.call(name, &[b"s"], &[b"a"]), expected, "{name}");
    }
    let (library, reader) = server.catalogue.function(b"Reader").expect("it is there");
    assert_eq!(
        (library.name.as_str(), reader.description.as_deref()),
        ("lib", Some(&b"reads"[..]))
    );
    assert_eq!(reader.flags, source::ScriptFlags::NO_WRITES);
}

/// What FUNCTION LOAD answers to a library of this code, after its first line; captured from Redis 7.0.15.
#[test]
fn a_library_that_fails_says_why() {
    for (code, expected) in [
        ("return 1", "ERR No functions registered"),
        (
            "return (",
            "ERR Error compiling function: user_function:2: unexpected symbol near '<eof>'",
        ),
        (
            "x=1",
            "ERR Error registering functions: ERR user_function:2: Attempt to modify a readonly table",
        ),
        (
            "return pairs",
            "ERR Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'pairs'",
        ),
        (
            "redis.call('GET','x')",
            "ERR Error registering functions: ERR user_function:2: Script attempted to access nonexistent global variable 'call'",
        ),
        (
            "redis.register_function('f')",
            "ERR Error registering functions: ERR calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        ),
        (
            "redis.register_function()",
            "ERR Error registering functions: ERR wrong number of arguments to redis.register_function",
        ),
        (
            "redis.register_function({})",
            "ERR Error registering functions: ERR redis.register_function must get a function name argument",
        ),
        (
            "redis.register_function{function_name='f3'}",
            "ERR Error registering functions: ERR redis.register_function must get a callback argument",
        ),
        (
            "redis.register_function{function_name='f3',callback=1}",
            "ERR Error registering functions: ERR callback argument given to redis.register_function must be a function",
        ),
        (
            "redis.register_function{function_name={},callback=function() end}",
            "ERR Error registering functions: ERR function_name argument given to redis.register_function must be a string",
        ),
        (
            "redis.register_function{function_name='f3',callback=function() end, foo=1}",
            "ERR Error registering functions: ERR unknown argument given to redis.register_function",
        ),
        (
            "redis.register_function{function_name='f3',callback=function() end, flags=1}",
            "ERR Error registering functions: ERR flags argument to redis.register_function must be a table representing function flags",
        ),
        (
            "redis.register_function{function_name='f3',callback=function() end, flags={'x'}}",
            "ERR Error registering functions: ERR unknown flag given",
        ),
        (
            "redis.register_function('f-3', function() end)",
            "ERR Error registering functions: ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ),
        (
            "redis.register_function('f', function() end) redis.register_function('f', function() end)",
            "ERR Error registering functions: ERR Function already exists in the library",
        ),
        (
            "redis.register_function('f', 1)",
            "ERR Error registering functions: ERR second argument to redis.register_function must be a function",
        ),
        (
            "redis.register_function({}, 1)",
            "ERR Error registering functions: ERR first argument to redis.register_function must be a string",
        ),
    ] {
        let got = Server::new().load(&format!("#!lua name=l\n{code}"), false);
        assert_eq!(got.map_err(|error| error.to_string()), Err(expected.to_string()), "{code}");
    }
}

#[test]
fn numbers_will_do_as_names() {
    let mut server = Server::new();
    let text = "#!lua name=l\nredis.register_function(5, function() return 6 end)";
    assert_eq!(server.load(text, false), Ok("l".into()));
    assert_eq!(server.call("5", &[], &[]), ":6\\r\\n");
}

#[test]
fn a_captured_register_function_is_refused_later() {
    let mut server = Server::new();
    let text = "#!lua name=l\nlocal register = redis.register_function\nredis.register_function('f', function() register('g', function() end) end)";
    server.load(text, false).expect("a library");
    assert_eq!(
        server.call("f", &[], &[]),
        "-ERR redis.register_function can only be called on FUNCTION LOAD command script: f, on @user_function:3.\\r\\n"
    );
}

#[test]
fn the_catalogue_keeps_names_apart() {
    let mut server = Server::new();
    let library = |name: &str, function: &str, value: u8| {
        format!(
            "#!lua name={name}\nredis.register_function('{function}', function() return {value} end)"
        )
    };
    let text = |error: LibraryError| error.to_string();
    server.load(&library("a", "f", 1), false).expect("a library");
    let again = server.load(&library("a", "f", 2), false).map_err(text);
    assert_eq!(again, Err("ERR Library 'a' already exists".into()));
    let other = server.load(&library("b", "F", 3), false).map_err(text);
    assert_eq!(other, Err("ERR Function F already exists".into()));
    // What failed to get in changes nothing: the old one is compiled again.
    assert_eq!(server.call("f", &[], &[]), ":1\\r\\n");
    server.load(&library("a", "g", 4), true).expect("replaced");
    assert_eq!(server.call("f", &[], &[]), "-ERR Function not found");
    assert_eq!(server.call("g", &[], &[]), ":4\\r\\n");
    server.load(&library("b", "f", 5), false).expect("the name is free now");
    assert_eq!(server.catalogue.function_count(), 2);
    assert_eq!(
        server.catalogue.without("nope").map_err(text).err(),
        Some("ERR Library not found".into())
    );
    server.catalogue = server.catalogue.without("a").expect("it is there");
    server.loaded.retain(&server.catalogue);
    assert_eq!(server.call("g", &[], &[]), "-ERR Function not found");
    assert_eq!(server.call("f", &[], &[]), ":5\\r\\n");
}

#[test]
fn another_shard_compiles_a_library_when_it_needs_it() {
    let (mut first, mut second) = (Server::new(), Server::new());
    first.load(BOTH_FORMS, false).expect("a library");
    second.catalogue = first.catalogue.clone();
    assert_eq!(second.call("count", &[], &[]), ":1\\r\\n");
    assert_eq!(second.call("count", &[], &[]), ":2\\r\\n", "it is compiled once");
}

#[test]
fn a_library_that_never_ends_is_stopped() {
    let mut server = Server::new();
    server.host.abort_at = Some((2, Abort::Killed("FUNCTION LOAD timeout")));
    let got = server.load("#!lua name=l\nwhile true do end", false);
    let got = got.map_err(|error| error.to_string());
    assert_eq!(got, Err("ERR Error registering functions: ERR FUNCTION LOAD timeout".into()));
}
