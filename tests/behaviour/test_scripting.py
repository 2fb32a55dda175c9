"""Lua scripts and functions: what they may do, how values cross the border, how errors read."""

import hashlib

from harness import *
from harness import NIL, NIL_ARRAY, OK


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


BUSY = Error("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
FUNCTION_BUSY = Error("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.")


def busy_among(clients, error=BUSY):
    """One of the clients that hear of the busy script: all of Redis's, of Corelane's those on its shard."""
    eventually(lambda: any(client("PING") == error for client in clients))
    return next(client for client in clients if client("PING") == error)


def test_a_script_that_never_ends_can_be_killed(server, c, connect):
    with server.config(busy_reply_threshold=50):
        stuck, others = connect(), [connect() for _ in range(6)]
        assert stuck("PING") == Simple("PONG")
        stuck.send("EVAL", "pcall(function() while true do end end) while true do end", 0)
        other = busy_among(others)
        assert other("GET k") == BUSY
        assert other("NOPE").startswith("ERR unknown command")
        assert other("MULTI") == OK
        assert other("GET k") == BUSY
        assert other("EXEC") == Error(f"EXECABORT Transaction discarded because of: {BUSY}")
        assert other("FUNCTION KILL") == BUSY
        assert other("FUNCTION STATS") == BUSY
        assert others[0]("SCRIPT KILL") == OK
        assert stuck.read().startswith("ERR Script killed by user with SCRIPT KILL... script: ")
        eventually(lambda: other("PING") == Simple("PONG"))
        assert other("SCRIPT KILL") == Error("NOTBUSY No scripts in execution right now.")
        assert stuck("EVAL", "return 1", 0) == 1


def test_a_busy_function_tells_what_it_is(server, c, connect):
    library = "#!lua name=looping\nredis.register_function('loop', function() while true do end end)"
    assert c("FUNCTION", "LOAD", "REPLACE", library) == b"looping"
    with server.config(busy_reply_threshold=50):
        stuck, others = connect(), [connect() for _ in range(6)]
        stuck.send("FCALL", "loop", 0, "a")
        other = busy_among(others, FUNCTION_BUSY)
        stats = other("FUNCTION STATS")
        assert stats[1][:4] == [b"name", b"loop", b"command", [b"FCALL", b"loop", b"0", b"a"]] and stats[1][5] >= 50
        assert other("SCRIPT KILL") == FUNCTION_BUSY
        assert others[0]("FUNCTION KILL") == OK
        assert stuck.read().startswith("ERR Script killed by user with SCRIPT KILL... script: loop, on @user_function:2.")
    c("FUNCTION FLUSH")


def test_a_script_that_has_written_cannot_be_killed(server, private_server):
    lonely = private_server("--busy-reply-threshold", "50")
    stuck, others = lonely.client(), [lonely.client() for _ in range(6)]
    stuck.send("EVAL", "redis.call('SET', KEYS[1], 'v') while true do end", 1, "k")
    other = busy_among(others)
    assert other("SHUTDOWN SAVE") == BUSY
    assert other("SCRIPT KILL").startswith("UNKILLABLE")
    other.send("SHUTDOWN NOSAVE")
    assert other.closed()
    lonely.process.wait(timeout=10)


def test_info_counts_scripts_and_functions(c):
    c("SCRIPT FLUSH"), c("FUNCTION FLUSH")
    assert c("SCRIPT", "LOAD", "return 1") and c("EVAL", "return 2", 0) == 2 and c("FUNCTION", "LOAD", LIBRARY) == b"mylib"
    info = c("INFO memory")
    for line in (b"number_of_cached_scripts:2", b"number_of_libraries:1", b"number_of_functions:3"):
        assert line in info
    assert int(info.split(b"used_memory_lua:")[1].split()[0]) > 10_000
    c("SCRIPT FLUSH"), c("FUNCTION FLUSH")


KEYS = [f"key:{i}" for i in range(12)]  # over three shards, these lie on all of them

test_keys_that_are_not_declared = table(
    *((("SET", key, number), OK) for number, key in enumerate(KEYS)),
    # One after the other is found out about, also after something has been written.
    (ev("local s = 0 for i = 0, 11 do s = s + redis.call('GET', 'key:' .. i) end return s"), 66),
    (ev("for i = 0, 11 do redis.call('INCRBY', 'key:' .. i, 10) end return redis.call('MGET', 'key:0', 'key:11')"), ["10", "21"]),
    (ev("redis.call('INCR', KEYS[1]) return redis.call('INCR', 'key:' .. ARGV[1])", 1, "key:0", 5), 16),
    (ev("redis.call('INCR', KEYS[1]) return redis.call('INCR', 'key:' .. ARGV[1])", 1, "key:0", 6), 17),
    ("GET key:0", "12"),  # each run counts once
    (ev("redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 1, 2) return redis.call('RPOPLPUSH', KEYS[1], 'key:new')", 1, "key:1"), "2"),
    (ev("redis.call('SET', 'key:2', 'x') error('halfway')"), error_like(".*halfway.*")),
    ("GET key:2", "x"),  # what ran before the error stays
    (ev("return redis.call('DBSIZE')"), 13),
    (ev("redis.call('SET', 'key:13', 1) return #redis.call('KEYS', 'key:*')"), 14),
    (ev("redis.call('SET', 'key:13', 2) redis.call('SELECT', 1) redis.call('SET', 'key:13', 3) return redis.call('DBSIZE')"), 1),
    (ev("return redis.call('GET', 'key:13')"), "2"),
    (ev("redis.call('RENAME', 'key:13', 'key:14') return redis.call('EXISTS', 'key:13', 'key:14')"), 1),
    (ev("return #redis.call('SCAN', 0, 'COUNT', 1000)[2]"), 14),
    (ev("redis.call('FLUSHALL') return redis.call('DBSIZE')"), 0),
    ("DBSIZE", 0),
)

test_big_values_are_not_copied_for_nothing = table(
    (("SET", "big", b"x" * 100_000), OK),
    (("SET", "other", 1), OK),
    *[
        row
        for _ in range(3)
        for row in (
            (ev("redis.call('APPEND', KEYS[1], 'y') return redis.call('STRLEN', KEYS[1])", 1, "big"), is_a(int)),
            (ev("redis.call('APPEND', KEYS[1], 'y') return redis.call('INCR', ARGV[1])", 2, "big", "other", "other"), is_a(int)),
        )
    ],
    ("STRLEN big", 100_006),
    ("GET other", "4"),
)

test_scripts_within_a_block = table(
    ("MULTI", OK),
    (ev("return redis.call('SET', KEYS[1], 'v')", 1, "key:0"), Simple("QUEUED")),
    ("APPEND key:0 w", Simple("QUEUED")),
    (ev("return {redis.call('GET', 'key:0'), redis.call('DBSIZE'), redis.pcall('INCR', 'key:0')}"), Simple("QUEUED")),
    (ev("error('x')"), Simple("QUEUED")),
    ("INCR key:1", Simple("QUEUED")),
    (
        "EXEC",
        [OK, 2, ["vw", 1, Error("ERR value is not an integer or out of range")], error_like("ERR user_script:1: x script: .*"), 1],
    ),
)


def test_a_script_breaks_watches_and_serves_who_waits(c, connect):
    watching, waiting = connect(), connect()
    for key in KEYS[:4]:
        watching("WATCH", key)
        assert c("EVAL", "return redis.call('RPUSH', 'key:' .. ARGV[1], 1, 2)", 0, key[4:]) == 2
        watching("MULTI")
        watching("PING")
        assert watching("EXEC") is NIL_ARRAY
        assert c("DEL", key) == 1
        waiting.send("BLPOP", key, 0)
        eventually(lambda: b"blocked_clients:1" in c("INFO clients"))
        # Served after the script, which still has both.
        script = "redis.call('RPUSH', 'key:' .. ARGV[1], 1, 2) return redis.call('LLEN', 'key:' .. ARGV[1])"
        assert c("EVAL", script, 0, key[4:]) == 2
        assert waiting.read() == [key.encode(), b"1"]
        assert c("DEL", key) == 1


def test_scripts_in_resp3(c3):
    check(
        c3,
        (ev("return redis.call('ZRANGE', 'z', 0, -1)"), []),
        (ev("redis.call('ZADD', 'z', 1.5, 'a') redis.setresp(3) return redis.call('ZSCORE', 'z', 'a')"), Double("1.5")),
        (ev("return redis.call('ZSCORE', 'z', 'a')"), "1.5"),
    )


covers("BLPOP", "WATCH", "MULTI", "EXEC", "FUNCTION|STATS", "FUNCTION|DUMP", "FUNCTION|RESTORE", "SCRIPT|KILL", "FUNCTION|KILL")
