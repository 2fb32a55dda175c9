"""What waits of test_eviction.py: HyperLogLogs and places without memory."""

from harness import *
from harness import OK


OOM = Error("OOM command not allowed when used memory > 'maxmemory'.")


def test_noeviction_refuses_what_could_grow_of_the_other_kinds(server, c):
    c("RPUSH l a b")
    with server.config(maxmemory_policy="noeviction", maxmemory=1):
        check(
            c,
            ("PFADD p a", OOM),
            ("GEOADD g 1 1 a", OOM),
        )
        c("MULTI")
        assert c("SET k w") == OOM
        assert c("EXEC") == Error("EXECABORT Transaction discarded because of previous errors.")
    assert c("SET k w") == OK


covers("PFADD", "GEOADD", "MULTI", "EXEC")
