"""A stock client library works unchanged, over both protocols and with its own connection pool."""

import threading

import pytest
import redis

from harness import covers


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def r(server, request):
    with redis.Redis(port=server.port, protocol=request.param, decode_responses=True) as client:
        yield client


def test_redis_py_strings_and_keys(r):
    assert r.ping() is True
    assert r.set("k", "v") is True
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", get=True) == "v"
    assert r.get("k") == "w" and r.get("nothing") is None
    assert r.mset({"a": 1, "b": 2}) is True and r.mget("a", "b", "c") == ["1", "2", None]
    assert r.incrby("a", 5) == 6 and r.incrbyfloat("a", 0.5) == 6.5
    assert r.expire("k", 100) is True and 99 <= r.ttl("k") <= 100
    assert r.type("k") == "string" and r.exists("a", "b", "c") == 2
    assert sorted(r.scan_iter(count=2)) == ["a", "b", "k"]
    assert r.rename("a", "z") is True and r.delete("z", "b") == 2
    with pytest.raises(redis.ResponseError, match="not an integer"):
        r.incr("k")


def test_redis_py_collections(r):
    assert r.hset("h", mapping={"f": 1, "g": 2}) == 2 and r.hgetall("h") == {"f": "1", "g": "2"}
    assert r.hincrbyfloat("h", "f", 1.5) == 2.5
    assert r.rpush("l", *"abc") == 3 and r.lrange("l", 0, -1) == ["a", "b", "c"]
    assert r.lpop("l", 2) == ["a", "b"]
    assert r.sadd("s", "a", "b") == 2 and r.smembers("s") == {"a", "b"} and r.smismember("s", ["a", "x"]) == [1, 0]
    assert r.zadd("z", {"a": 1, "b": 2.5}) == 2
    assert [tuple(pair) for pair in r.zrange("z", 0, -1, withscores=True)] == [("a", 1.0), ("b", 2.5)]
    assert r.zscore("z", "b") == 2.5 and r.zscore("z", "nobody") is None
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.lpush("z", "x")


def test_redis_py_pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        assert pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]


def test_redis_py_introspection(r):
    assert r.info("server")["redis_version"].startswith("7.")
    assert r.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert any(client["name"] == "" for client in r.client_list())
    commands = r.command()
    assert "get" in commands and commands["get"]["arity"] == 2


def test_redis_py_with_binary_values(server):
    value = bytes(range(256)) * 1000
    with redis.Redis(port=server.port) as client:
        assert client.set(value[:300], value) and client.get(value[:300]) == value


def test_redis_py_pool_with_many_threads(server):
    with redis.Redis(port=server.port) as client:
        threads = [threading.Thread(target=lambda: [client.incr("n") for _ in range(100)]) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("n") == b"2000"


def test_redis_py_pubsub(r):
    with r.pubsub() as pubsub:
        pubsub.subscribe("ch")
        pubsub.psubscribe("p*")
        kinds = [pubsub.get_message(timeout=5)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert r.publish("ch", "hello") == 1 and r.publish("pq", "there") == 1
        messages = [pubsub.get_message(timeout=5) for _ in range(2)]
        assert [(m["type"], m["channel"], m["data"]) for m in messages] == [("message", "ch", "hello"), ("pmessage", "pq", "there")]


def test_redis_cli_runs_a_command_and_its_info(server):
    import subprocess

    def cli(*words):
        done = subprocess.run(["redis-cli", "-p", str(server.port), *words], capture_output=True, text=True, timeout=30)
        return (done.stdout + done.stderr).strip()

    assert cli("SET", "k", "v") == "OK"
    assert cli("GET", "k") == "v"
    assert cli("-3", "HSET", "h", "f", "v") == "1"
    assert cli("--scan") in ("k\nh", "h\nk")
    assert "keys" in cli("--bigkeys")
    assert "redis_version:7." in cli("INFO", "server")


covers(
    "SUBSCRIBE", "PSUBSCRIBE", "PUBLISH", "INFO", "CONFIG", "CONFIG GET", "COMMAND", "INCRBYFLOAT", "HINCRBYFLOAT", "ZSCORE",
)  # fmt: skip
