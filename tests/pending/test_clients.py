"""What waits of test_clients.py: streams, transactions, scripts, blocking pops."""

import pytest
import redis

from harness import covers


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def r(server, request):
    with redis.Redis(port=server.port, protocol=request.param, decode_responses=True) as client:
        yield client


def test_redis_py_streams(r):
    first = r.xadd("x", {"f": "v"})
    assert r.xlen("x") == 1 and r.xrange("x") == [(first, {"f": "v"})]
    assert r.xgroup_create("x", "g", id="0") is True
    assert len(r.xreadgroup("g", "me", {"x": ">"})) == 1
    assert r.xpending("x", "g")["pending"] == 1 and r.xack("x", "g", first) == 1


def test_redis_py_pipelines_transactions_and_scripts(r):
    with r.pipeline() as pipe:
        assert pipe.set("a", 1).incr("a").execute() == [True, 2]
        pipe.watch("a")
        r.set("a", 10)
        pipe.multi()
        pipe.set("a", 99)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert r.get("a") == "10"
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["a"], args=[5]) == 15


def test_redis_py_blocking_pops(r):
    assert r.rpush("l", *"ab") == 2 and r.blpop(["l"], 1) in (("l", "a"), ["l", "a"])


covers(
    "XADD", "XLEN", "XRANGE", "XGROUP", "XGROUP CREATE", "XREADGROUP", "XPENDING", "XACK", "WATCH",
    "EVALSHA", "SCRIPT", "SCRIPT LOAD", "BLPOP",
)  # fmt: skip
