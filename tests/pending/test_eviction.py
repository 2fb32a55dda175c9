"""What waits of test_eviction.py: HyperLogLogs, places and scripts without memory."""

from harness import *
from harness import NIL, OK


OOM = Error("OOM command not allowed when used memory > 'maxmemory'.")


def test_a_script_that_writes_is_refused_with_the_script_named(server, c):
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        reply = c("EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "k")
        assert isinstance(reply, Error) and reply.startswith("OOM command not allowed when used memory > 'maxmemory'"), reply
    assert c("EXISTS k") == 0


def test_noeviction_refuses_what_could_grow_of_the_other_kinds(server, c):
    c("RPUSH l a b")
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        check(
            c,
            ("PFADD p a", OOM),
            ("GEOADD g 1 1 a", OOM),
            ("EVAL \"return redis.call('GET', 'nothing')\" 0", NIL),
        )
        c("MULTI")
        assert c("SET k w") == OOM
        assert c("EXEC") == Error("EXECABORT Transaction discarded because of previous errors.")
    assert c("SET k w") == OK


covers("PFADD", "GEOADD", "EVAL", "MULTI", "EXEC")
