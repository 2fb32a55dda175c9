"""Lua scripts and functions: what they may do, how values cross the border, how errors read."""

import hashlib

from harness import *
from harness import NIL, OK


def ev(script, *words):
    """EVAL with the number of keys 0, unless words begin with it."""
    return ("EVAL", script, *(words or (0,)))


test_lua_values_become_replies = table(
    (ev("return 1"), 1),
    (ev("return 3.99"), 3),
    (ev("return -3.99"), -3),
    (ev("return 'text'"), "text"),
    (ev("return true"), 1),
    (ev("return false"), NIL),
    (ev("return nil"), NIL),
    (ev("return {}"), []),
    (ev("return {1, 'a', {2, {}}, 3.5}"), [1, "a", [2, []], 3]),
    (ev("return {1, nil, 3}"), [1]),
    (ev("return {ok = 'fine'}"), Simple("fine")),
    (ev("return {err = 'MY error'}"), Error("MY error")),
    (ev("return redis.status_reply('fine')"), Simple("fine")),
    (ev("return redis.error_reply('MY error')"), Error("MY error")),
    (ev("return redis.error_reply('bare')"), error_like("(ERR )?bare")),
    (ev("return {double = 3.5}"), Double("3.5")),
    (ev("redis.setresp(3) return {map = {a = 1}}"), Map({"a": 1})),
    (ev("redis.setresp(3) return {set = {a = true}}"), Set(["a"])),
    (ev("redis.setresp(3) return true"), by_protocol(r2=1, r3=Boolean(True))),
    (ev("return KEYS[1] .. ARGV[1] .. #KEYS .. #ARGV", 1, "k", "v"), "kv11"),
    (ev("return 9007199254740993"), is_a(int)),
)

test_replies_become_lua_values = table(
    (ev("return type(redis.call('SET', 'k', 'v'))"), "table"),
    (ev("return redis.call('SET', 'k', 'v')['ok']"), "OK"),
    (ev("return type(redis.call('GET', 'nothing'))"), "boolean"),
    (ev("return type(redis.call('INCR', 'n'))"), "number"),
    (ev("return type(redis.call('GET', 'k'))"), "string"),
    (ev("return redis.pcall('INCR', 'k')['err']"), "ERR value is not an integer or out of range"),
    (ev("redis.call('RPUSH', 'l', 1, 2, 3) return redis.call('LRANGE', 'l', 0, -1)"), ["1", "2", "3"]),
    (ev("return redis.call('MGET', 'k', 'nothing', 'k')"), ["v", NIL, "v"]),
    (ev("redis.setresp(3) redis.call('HSET', 'h', 'f', 'v') return redis.call('HGETALL', 'h')"), Map({"f": "v"})),
    (ev("return redis.call('HGETALL', 'h')"), ["f", "v"]),
    (ev("return redis.call('EXISTS', unpack(KEYS))", 2, "k", "l"), 2),
    (ev("redis.call('SET', 'x', 10) return redis.call('INCRBY', 'x', 5.0)"), 15),
    (ev("return {redis.pcall('NOPE'), 1}"), meeting("an error and 1", lambda r: isinstance(r[0], Error) and r[1] == 1)),
)

test_script_errors = table(
    ("EVAL", wrong_arity("eval")),
    ("EVAL x", wrong_arity("eval")),
    (("EVAL", "return 1", "x"), NOT_AN_INTEGER),
    (("EVAL", "return 1", -1), Error("ERR Number of keys can't be negative")),
    (("EVAL", "return 1", 2, "k"), Error("ERR Number of keys can't be greater than number of args")),
    (("EVAL", "return (", 0), error_like(r"ERR Error compiling script \(new function\): user_script:1: .*")),
    (("EVAL", "error('boom')", 0), error_like(r"ERR user_script:1: boom script: [0-9a-f]{40}, on @user_script:1\.")),
    (("EVAL", "return nope()", 0), error_like(r"ERR user_script:1: Script attempted to access nonexistent global variable 'nope' .*")),
    (("EVAL", "a = 1", 0), error_like(r"ERR user_script:1: Attempt to modify a readonly table .*|ERR .*global variable.*")),
    (("EVAL", "return redis.call('INCR')", 0), error_like(r"ERR Wrong number of args calling Redis command from script script: .*")),
    (("EVAL", "return redis.call('NOPE')", 0), error_like(r"ERR Unknown Redis command called from script script: .*")),
    (("EVAL", "return redis.call()", 0), error_like(r"ERR Please specify at least one argument for this redis lib call script: .*")),
    (("EVAL", "return redis.call({})", 0), error_like(r"ERR Lua redis lib command arguments must be strings or integers.*")),
    (
        ("EVAL", "redis.call('SET', 's', 'v') return redis.call('LPUSH', 's', 'x')", 0),
        error_like(r"WRONGTYPE Operation against a key holding the wrong kind of value script: [0-9a-f]{40}, on @user_script:1\."),
    ),
    ("GET s", "v"),  # what ran before the error stays
    (("EVALSHA", "f" * 40, 0), Error("NOSCRIPT No matching script. Please use EVAL.")),
    (("EVALSHA", "short", 0), Error("NOSCRIPT No matching script. Please use EVAL.")),
    (("EVAL_RO", "return redis.call('SET', 'k', 'v')", 0), error_like(r"ERR Write commands are not allowed from read-only scripts\. .*")),
    (("EVAL_RO", "return redis.call('GET', 's')", 0), "v"),
    (("EVAL", "return redis.call('BLPOP', 'l', 0)", 0), error_like("ERR This Redis command is not allowed from script .*")),
    (("EVAL", "return redis.call('MULTI')", 0), error_like("ERR This Redis command is not allowed from script .*")),
    (("EVAL", "return redis.call('EVAL', 'return 1', 0)", 0), error_like("ERR This Redis command is not allowed from script .*")),
)

test_the_sandbox = table(
    (ev("return os.execute == nil"), one_of(1, error_like("ERR .*nonexistent global variable 'os'.*"))),  # some builds have os.clock alone
    (ev("return io == nil and 1 or 0"), one_of(1, error_like("ERR .*nonexistent global variable 'io'.*"))),
    (ev("return require == nil"), one_of(1, error_like("ERR .*nonexistent global variable 'require'.*"))),
    (ev("return cjson.encode({1, 'a', {b = true}})"), '[1,"a",{"b":true}]'),
    (ev("return cjson.decode('{\"a\": [1, 2]}')['a'][2]"), 2),
    (ev("return cmsgpack.unpack(cmsgpack.pack({1, 2, 3}))"), [1, 2, 3]),
    (ev("return struct.unpack('>I2', struct.pack('>I2', 258))"), 258),
    (ev("return bit.band(12, 10)"), 8),
    (ev("return redis.sha1hex('')"), hashlib.sha1(b"").hexdigest()),
    (ev("return redis.log(redis.LOG_DEBUG, 'x')"), NIL),
    (ev("return redis.REDIS_VERSION"), matching(r"7\.\d+\.\d+")),
    (ev("return math.floor(3.7) + table.getn({1, 2}) + string.len('abc')"), 8),
    (ev("return tostring(loadstring('return 5')())"), "5"),
    (ev("return pcall(function() error('x') end) and 1 or 0"), 0),
    (ev("local t = {3, 1, 2} table.sort(t) return t"), [1, 2, 3]),
    (ev("return string.format('%.17g %d %s', 0.1, 5, 'x')"), "0.10000000000000001 5 x"),
    (ev("#!lua flags=no-writes\nreturn redis.call('GET', 'k')"), NIL),
    (ev("#!lua flags=no-writes\nreturn redis.call('SET', 'k', 'v')"), error_like("ERR Write commands are not allowed from read-only scripts.*")),
    (ev("#!lua flags=nope\nreturn 1"), error_like("ERR Unexpected flag in script shebang: nope")),
    (ev("#!python\nreturn 1"), error_like("ERR .*engine.*")),
)

_SHA = hashlib.sha1(b"return ARGV[1]").hexdigest()

test_script_cache = table(
    ("SCRIPT FLUSH", OK),
    (("EVALSHA", _SHA, 0, "x"), Error("NOSCRIPT No matching script. Please use EVAL.")),
    (("SCRIPT", "LOAD", "return ARGV[1]"), _SHA),
    (("EVALSHA", _SHA, 0, "x"), "x"),
    (("EVALSHA", _SHA.upper(), 0, "x"), "x"),
    (("EVALSHA_RO", _SHA, 0, "x"), "x"),
    (("SCRIPT", "EXISTS", _SHA, "f" * 40), [1, 0]),
    ("SCRIPT FLUSH ASYNC", OK),
    (("SCRIPT", "EXISTS", _SHA), [0]),
    ("SCRIPT FLUSH NOPE", Error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
    (("EVAL", "return ARGV[1]", 0, "y"), "y"),  # EVAL loads as well
    (("SCRIPT", "EXISTS", _SHA), [1]),
    (("SCRIPT", "LOAD", "return ("), error_like("ERR Error compiling script .*")),
    ("SCRIPT KILL", Error("NOTBUSY No scripts in execution right now.")),
    ("SCRIPT DEBUG NO", OK),
    ("SCRIPT HELP", help_of("SCRIPT")),
    ("SCRIPT NOPE", Error("ERR unknown subcommand 'NOPE'. Try SCRIPT HELP.")),
)

LIBRARY = """#!lua name=mylib
redis.register_function('echo', function(keys, args) return args[1] end)
redis.register_function{function_name='reader', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}
redis.register_function('writer', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
"""

test_functions = table(
    ("FUNCTION FLUSH", OK),
    (("FUNCTION", "LOAD", LIBRARY), "mylib"),
    (("FUNCTION", "LOAD", LIBRARY), Error("ERR Library 'mylib' already exists")),
    (("FUNCTION", "LOAD", "REPLACE", LIBRARY), "mylib"),
    (("FCALL", "echo", 0, "hello"), "hello"),
    (("FCALL", "writer", 1, "k", "v"), OK),
    (("FCALL", "reader", 1, "k"), "v"),
    (("FCALL_RO", "reader", 1, "k"), "v"),
    (("FCALL_RO", "writer", 1, "k", "v"), Error("ERR Can not execute a script with write flag using *_ro command.")),
    (("FCALL", "nope", 0), Error("ERR Function not found")),
    (("FCALL", "echo", -1), Error("ERR Number of keys can't be negative")),
    (("FCALL", "echo", 2, "x"), Error("ERR Number of keys can't be greater than number of args")),
    (("FUNCTION", "LOAD", "return 1"), Error("ERR Missing library metadata")),
    (("FUNCTION", "LOAD", "#!lua name=bad-name\nreturn 1"), error_like("ERR Library names can only contain letters, numbers, or underscores.*")),
    (("FUNCTION", "LOAD", "#!lua name=empty\nlocal x = 1"), Error("ERR No functions registered")),
    (
        "FUNCTION LIST LIBRARYNAME my*",
        [
            Map({
                "library_name": "mylib",
                "engine": "LUA",
                "functions": unordered(
                    Map({"name": "echo", "description": NIL, "flags": Set([])}),
                    Map({"name": "reader", "description": NIL, "flags": Set([Simple("no-writes")])}),
                    Map({"name": "writer", "description": NIL, "flags": Set([])}),
                ),
            })
        ],
    ),  # fmt: skip
    ("FUNCTION STATS", is_a(list, Map)),
    ("FUNCTION KILL", Error("NOTBUSY No scripts in execution right now.")),
    ("FUNCTION HELP", help_of("FUNCTION")),
    ("FUNCTION DELETE nope", Error("ERR Library not found")),
    ("FUNCTION DELETE mylib", OK),
    (("FCALL", "echo", 0, "x"), Error("ERR Function not found")),
    ("FUNCTION LIST", []),
    ("FUNCTION NOPE", Error("ERR unknown subcommand 'NOPE'. Try FUNCTION HELP.")),
)


def test_functions_can_be_dumped_and_restored(c):
    c("FUNCTION FLUSH")
    assert c("FUNCTION", "LOAD", LIBRARY) == b"mylib"
    payload = c("FUNCTION DUMP")
    assert c("FUNCTION", "RESTORE", payload) == Error("ERR Library mylib already exists")
    check(
        c,
        ("FUNCTION FLUSH", OK),
        (("FUNCTION", "RESTORE", payload), OK),
        (("FCALL", "echo", 0, "x"), "x"),
        (("FUNCTION", "RESTORE", payload, "REPLACE"), OK),
        (("FUNCTION", "RESTORE", payload, "FLUSH"), OK),
        (("FUNCTION", "RESTORE", payload[:-3]), error_like("ERR DUMP payload version or checksum are wrong")),
        ("FUNCTION FLUSH", OK),
    )


def test_a_script_runs_alone(c, connect):
    """Between two commands of a script nobody else's command runs."""
    other = connect()
    script = "redis.call('SET', KEYS[1], ARGV[1]) for i = 1, 50 do if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'torn' end end return 'whole'"
    for i in range(50):
        c.send("EVAL", script, 1, "k", i)
        other.pipeline(*[("SET", "k", "foreign")] * 20)
        assert c.read() == b"whole"


def test_a_script_that_never_ends_can_be_killed(server, c, connect):
    with server.config(busy_reply_threshold=50):
        stuck, other = connect(), connect()
        stuck.send("EVAL", "while true do end", 0)
        eventually(lambda: str(other("PING")).startswith("BUSY"))
        assert other("GET k") == Error(
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        )
        assert other("SCRIPT KILL") == OK
        assert stuck.read().startswith("ERR Script killed by user with SCRIPT KILL...")
        eventually(lambda: other("PING") == Simple("PONG"))


def test_a_script_that_has_written_cannot_be_killed(server, private_server):
    lonely = private_server("--busy-reply-threshold", "50")
    stuck, other = lonely.client(), lonely.client()
    stuck.send("EVAL", "redis.call('SET', 'k', 'v') while true do end", 0)
    eventually(lambda: str(other("PING")).startswith("BUSY"))
    assert other("SCRIPT KILL").startswith("UNKILLABLE")
    other.send("SHUTDOWN NOSAVE")
    assert other.closed()
    lonely.process.wait(timeout=10)


def test_scripts_in_resp3(c3):
    check(
        c3,
        (ev("return redis.call('ZRANGE', 'z', 0, -1)"), []),
        (ev("redis.call('ZADD', 'z', 1.5, 'a') redis.setresp(3) return redis.call('ZSCORE', 'z', 'a')"), Double("1.5")),
        (ev("return redis.call('ZSCORE', 'z', 'a')"), "1.5"),
    )


covers("FUNCTION|DUMP", "FUNCTION|RESTORE", "SCRIPT|KILL", "FUNCTION|KILL")
