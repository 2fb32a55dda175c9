"""redis-benchmark, unchanged, gets through all its tests."""

import re
import subprocess

import pytest

from harness import covers

DEFAULT_TESTS = [
    "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN",
    "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        "-n 2000",
        "-n 2000 -P 16",
        "-n 2000 --threads 2",
        "-n 2000 -r 1000 -P 8",
        "-n 200 -d 4096",
        "-n 1000 -c 200 -r 100000",
        "-n 2000 -3",
        "-n 500 -k 0 -c 10",
    ],
)
def test_redis_benchmark_gets_through_all_default_tests(server, options):
    command = ["redis-benchmark", "-p", str(server.port), "-q", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"error|could not|failed", said, re.I), said
    finished = re.findall(r"(?:^|[\r\n])([A-Z][^:\r\n]*): [\d.]+ requests per second", said)
    assert finished == DEFAULT_TESTS, said


def test_redis_benchmark_runs_a_command_of_ones_own(server):
    command = ["redis-benchmark", "-p", str(server.port), "-q", "-n", "1000", "-r", "100", "-P", "4"]
    done = subprocess.run([*command, "hset", "h:__rand_int__", "f", "v"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "requests per second" in done.stdout, done.stdout + done.stderr
    with server.client() as client:
        assert 90 < client("DBSIZE") <= 100


covers("HSET", "SPOP", "ZPOPMIN", "ZADD", "SADD", "INCR", "MSET", "LRANGE")
