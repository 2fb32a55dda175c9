//! Scripts against what Redis 7.0.15 answered, and what only a host can show.

use sha1_smol::Sha1;

use super::fake_host::FakeHost;
use super::library::{Catalogue, LibraryError, LoadedLibraries};
use super::*;
use crate::resp::Reply;

/// Rows of `script <tab> reply`, as a fresh Redis 7.0.15 answered them in RESP2, with escapes as in Rust. The
/// key `s` holds "v".
const CAPTURED: &str = include_str!("captured.txt");
/// The same in RESP3.
const CAPTURED_RESP3: &str = include_str!("captured_resp3.txt");

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first().expect("an escape is whole");
        rest = after;
        bytes.push(match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                let digits = std::str::from_utf8(digits).expect("two digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            other => panic!("unknown escape {other}"),
        });
    }
    bytes
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// Runs a script as EVAL does, without keys.
fn eval(vm: &Vm, host: &mut FakeHost, resp3: bool, text: &[u8]) -> Result<Vec<u8>, Abort> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, resp3);
    let script = match source::script(text) {
        Ok(script) => script,
        Err(error) => {
            reply.error(error);
            return Ok(out);
        }
    };
    let function = match vm.compile(script.code) {
        Ok(function) => function,
        Err(error) => {
            reply.error(format!("ERR Error compiling script (new function): {error}"));
            return Ok(out);
        }
    };
    let name = Sha1::from(text).digest().to_string();
    let (function, words) = (&function, &Words::default());
    let call = Invocation { function, name: &name, words, first: 0, key_count: 0 };
    vm.run(&call, (host, &mut Buffers::default()), &mut reply)?;
    Ok(out)
}

fn eval_text(vm: &Vm, host: &mut FakeHost, text: &str) -> String {
    escaped(&eval(vm, host, false, text.as_bytes()).expect("not aborted"))
}

fn check_captured(rows: &str, resp3: bool) {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let mut wrong = String::new();
    for row in rows.lines() {
        let (script, expected) = row.split_once('\t').expect("a row has two columns");
        let got = eval(&vm, &mut FakeHost::default(), resp3, &unescaped(script));
        let got = escaped(&got.expect("not aborted"));
        let expected = escaped(&unescaped(expected));
        if got != expected {
            wrong += &format!("{script}\n  Redis {expected}\n  here  {got}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn scripts_answer_what_redis_answers() {
    check_captured(CAPTURED, false);
}

#[test]
fn scripts_answer_what_redis_answers_in_resp3() {
    check_captured(CAPTURED_RESP3, true);
}

#[test]
fn every_reply_of_a_command_has_its_value_in_lua() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    for (script, expected) in [
        ("return redis.call('PING').ok", "$4\\r\\nPONG\\r\\n"),
        ("return redis.call('GET', 'nothing') == false", ":1\\r\\n"),
        ("redis.setresp(3) return redis.call('GET', 'nothing') == nil", "#t\\r\\n"),
        ("return redis.call('BLPOP', 'l', 0) == false", ":1\\r\\n"),
        (
            "return redis.call('MGET', 's', 'nothing', 's')",
            "*3\\r\\n$1\\r\\nv\\r\\n_\\r\\n$1\\r\\nv\\r\\n",
        ),
        ("redis.setresp(3) return redis.call('HGETALL', 'h').map.f", "$1\\r\\nv\\r\\n"),
        ("redis.setresp(3) return redis.call('SMEMBERS', 'set').set.a", "#t\\r\\n"),
        ("redis.setresp(3) return redis.call('ZSCORE', 'z', 'a').double * 2", ":3\\r\\n"),
        ("redis.setresp(3) return redis.call('DEBUG', 'PROTOCOL', 'true')", "#t\\r\\n"),
        (
            "redis.setresp(3) return redis.call('DEBUG', 'PROTOCOL', 'bignum')",
            "(1234567999999999999999999999999999999\\r\\n",
        ),
        (
            "redis.setresp(3) return redis.call('DEBUG', 'PROTOCOL', 'verbatim')",
            "=29\\r\\ntxt:This is a verbatim\\nstring\\r\\n",
        ),
        ("redis.setresp(3) return redis.call('DEBUG', 'PROTOCOL', 'attrib')", "$4\\r\\nReal\\r\\n"),
        (
            "return redis.call('BROKEN')",
            "-ERR user_script:1: a command answered what is not a reply script: 2f1a9b0c0ff1a6c9d9d4e2a9a3f5f9c4a3b0f6c1, on @user_script:1.\\r\\n",
        ),
    ] {
        let got = eval(&vm, &mut FakeHost::default(), true, script.as_bytes());
        let got = escaped(&got.expect("not aborted"));
        let cut = |text: &str| text.split(" script: ").next().unwrap_or_default().to_string();
        assert_eq!(cut(&got), cut(expected), "{script}");
    }
}

#[test]
fn words_and_protocol_reach_the_host() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let mut host = FakeHost::default();
    let script =
        "redis.pcall('X', 1, 0.1, 5.0, 1e20, -7) redis.setresp(3) return redis.pcall('PING')";
    eval_text(&vm, &mut host, script);
    assert_eq!(host.calls, ["X 1 0.10000000000000001 5 1e+20 -7", "3>PING"]);
    // The next script starts in RESP2.
    eval_text(&vm, &mut host, "redis.call('PING')");
    assert_eq!(host.calls[2], "PING");
}

#[test]
fn the_log_gets_level_and_words() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let mut host = FakeHost::default();
    let script = "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b') redis.log(redis.LOG_DEBUG, 'c')";
    eval_text(&vm, &mut host, script);
    let expected = [(LogLevel::Warning, "a 1 b".to_string()), (LogLevel::Debug, "c".to_string())];
    assert_eq!(host.log, expected);
}

#[test]
fn rights_are_the_hosts_to_tell() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    for (command, expected) in [("GET", ":1\\r\\n"), ("SET", "$-1\\r\\n")] {
        let script = format!("return redis.acl_check_cmd('{command}', 'k')");
        assert_eq!(eval_text(&vm, &mut FakeHost::default(), &script), expected);
    }
}

/// Scripts that try to survive an abort.
const STUBBORN: &[&str] = &[
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "xpcall(function() while true do end end, function() while true do end end) return 1",
    "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "local f = coroutine.wrap(function() while true do end end) while true do pcall(f) end",
    "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
    "local t = setmetatable({}, {__index = function() while true do end end}) pcall(function() return t.x end) return 1",
];

#[test]
fn a_killed_script_ends_whatever_it_catches() {
    for script in STUBBORN {
        let vm = Vm::new(Engine::Scripts, &Random::default());
        let abort_at = Some((3, Abort::Killed("Script killed by user with SCRIPT KILL...")));
        let mut host = FakeHost { abort_at, ..FakeHost::default() };
        let got = eval_text(&vm, &mut host, script);
        let sha = Sha1::from(script).digest();
        assert_eq!(
            got,
            format!(
                "-ERR Script killed by user with SCRIPT KILL... script: {sha}, on @user_script:1.\\r\\n"
            ),
            "{script}"
        );
        // The VM is as good as new.
        assert_eq!(eval_text(&vm, &mut FakeHost::default(), "return #KEYS"), ":0\\r\\n");
    }
}

#[test]
fn a_run_that_has_to_be_repeated_ends_at_once_and_leaves_no_reply() {
    for script in [
        "redis.call('GET', 'again') redis.call('PING') return 1",
        "redis.pcall('GET', 'again') redis.call('PING') return 1",
        "pcall(redis.call, 'GET', 'again') redis.call('PING') return 1",
        "xpcall(function() redis.call('GET', 'again') end, function() redis.call('PING') end) redis.call('PING') return 1",
        "coroutine.resume(coroutine.create(function() redis.call('GET', 'again') end)) redis.call('PING') return 1",
    ] {
        let vm = Vm::new(Engine::Scripts, &Random::default());
        let mut host = FakeHost { aborts: 1, ..FakeHost::default() };
        assert_eq!(eval(&vm, &mut host, false, script.as_bytes()), Err(Abort::Again), "{script}");
        assert_eq!(host.calls, ["GET again"], "{script}");
    }
}

#[test]
fn what_a_script_leaves_behind_does_not_reach_the_next() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let mut host = FakeHost::default();
    for script in [
        "KEYS.leak = 1 ARGV.leak = 1 return 1",
        "return pcall(rawset, _G, 'leak', 1)",
        "return pcall(rawset, string, 'leak', 1)",
        "return pcall(rawset, getmetatable(''), 'leak', 1)",
        "return pcall(table.insert, redis, 1)",
        "return pcall(setmetatable, string, {})",
        "return pcall(function() getmetatable(_G).__index = nil end)",
        "return loadstring('leak = 1')",
    ] {
        eval_text(&vm, &mut host, script);
        let probe = "return {KEYS.leak or 0, ARGV.leak or 0, rawget(_G, 'leak') or 0, string.leak or 0, getmetatable('').leak or 0, redis[1] or 0, getmetatable(string) == nil, type(getmetatable(_G).__index)}";
        let expected = "*8\\r\\n:0\\r\\n:0\\r\\n:0\\r\\n:0\\r\\n:0\\r\\n:0\\r\\n:1\\r\\n$8\\r\\nfunction\\r\\n";
        assert_eq!(eval_text(&vm, &mut host, probe), expected, "{script}");
    }
}

#[test]
fn bytecode_is_not_loaded() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let script = "return loadstring(string.dump(function() return 1 end)) == nil";
    assert_eq!(eval_text(&vm, &mut FakeHost::default(), script), ":1\\r\\n");
    assert!(vm.compile(b"\x1bLua").is_err());
}

#[test]
fn an_error_table_without_text_is_an_error_all_the_same() {
    // Redis 7.0.15 crashes.
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let got = eval_text(&vm, &mut FakeHost::default(), "error({})");
    assert!(got.starts_with("-ERR unknown error script: "), "{got}");
}

#[test]
fn a_table_nested_without_end_ends_somewhere() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    let got = eval_text(&vm, &mut FakeHost::default(), "local t = {} t[1] = t return t");
    assert!(got.ends_with("*1\\r\\n-ERR reached lua stack limit\\r\\n"), "{}", got.len());
}

#[test]
fn no_nesting_exhausts_the_stack() {
    let vm = Vm::new(Engine::Scripts, &Random::default());
    for (script, expected) in [
        (
            "local t = {} t[1] = t return cjson.encode(t)",
            "Cannot serialise, excessive nesting (1001)",
        ),
        (
            "cjson.encode_max_depth(1e6) local t = {} t[1] = t return cjson.encode(t)",
            "Cannot serialise, excessive nesting (1001)",
        ),
        (
            "cjson.decode_max_depth(1e6) return cjson.decode(string.rep('[', 1e6))",
            "Found too many nested data structures (1001)",
        ),
        (r"return cmsgpack.unpack(string.rep('\145', 1e6))", "stack overflow"),
        ("return string.find(string.rep('a', 1e5), string.rep('a?', 1e5))", "pattern too complex"),
        ("return unpack({}, -2147483648, 2147483647)", "too many results to unpack"),
        ("return unpack({}, 1, 1e6)", "too many results to unpack"),
        ("local function f() return pcall(f) end return f()", ""),
        ("local function f() return f() + 1 end return f()", "stack overflow"),
    ] {
        let got = eval_text(&vm, &mut FakeHost::default(), script);
        assert!(got.contains(expected), "{script}: {got}");
    }
}

mod codecs;
mod functions;
