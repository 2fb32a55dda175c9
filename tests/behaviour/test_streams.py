"""Streams: entries, consumer groups, pending entries, and what XINFO tells of them."""

import pytest

from harness import *
from harness import NIL, NIL_ARRAY, OK

E11, E12, E13 = ["1-1", ["f", "1"]], ["1-2", ["f", "2"]], ["1-3", ["f", "3"]]
NO_GROUP = Error("NOGROUP No such key 'x' or consumer group 'nope'")

THREE = (("XADD x 1-1 f 1", "1-1"), ("XADD x 1-2 f 2", "1-2"), ("XADD x 1-3 f 3", "1-3"))


def streams(name, entries):
    """A reply of XREAD for one stream."""
    return by_protocol(r2=[[name, entries]], r3=Map({name: entries}))


test_xadd_ids_and_errors = table(
    ("XADD x 5-1 f v g w", "5-1"),
    ("XADD x 5-1 f v", Error("ERR The ID specified in XADD is equal or smaller than the target stream top item")),
    ("XADD x 4 f v", Error("ERR The ID specified in XADD is equal or smaller than the target stream top item")),
    ("XADD x 5-* f v", "5-2"),
    ("XADD x 6 f v", "6-0"),
    ("XADD x 0-0 f v", Error("ERR The ID specified in XADD must be greater than 0-0")),
    ("XADD y 0-* f v", "0-1"),
    ("XADD x nope f v", Error("ERR Invalid stream ID specified as stream command argument")),
    ("XADD x * f", wrong_arity("xadd")),
    ("XADD x *", wrong_arity("xadd")),
    ("XADD nothing NOMKSTREAM * f v", NIL),
    ("XADD x * f v", matching(r"\d{13}-0")),
    ("XADD x MAXLEN 2 * f v", matching(r"\d{13}-\d+")),
    ("XLEN x", 2),
    ("XADD x MAXLEN = -1 * f v", Error("ERR The MAXLEN argument must be >= 0.")),
    ("XADD x MAXLEN 5 LIMIT 3 * f v", Error("ERR syntax error, LIMIT cannot be used without the special ~ option")),
    ("XADD z 18446744073709551615-18446744073709551615 f v", "18446744073709551615-18446744073709551615"),
    ("XADD z * f v", Error("ERR The stream has exhausted the last possible ID, unable to add more items")),
    ("SET s v", OK),
    ("XADD s * f v", WRONGTYPE),
)

test_xrange_and_xrevrange = table(
    *THREE,
    ("XRANGE x - +", [E11, E12, E13]),
    ("XRANGE x 1 1", [E11, E12, E13]),
    ("XRANGE x 1-2 1-2", [E12]),
    ("XRANGE x (1-1 +", [E12, E13]),
    ("XRANGE x - (1-3 COUNT 1", [E11]),
    ("XRANGE x - + COUNT 0", NIL_ARRAY),
    ("XREVRANGE x + -", [E13, E12, E11]),
    ("XREVRANGE x 1-2 -", [E12, E11]),
    ("XRANGE nothing - +", []),
    ("XRANGE x nope +", Error("ERR Invalid stream ID specified as stream command argument")),
    ("XRANGE x - + COUNT", SYNTAX_ERROR),
    ("XDEL x 1-2 9-9", 1),
    ("XRANGE x - +", [E11, E13]),
    ("XTRIM x MAXLEN 1", 1),
    ("XTRIM x MINID 5", 1),
    ("XLEN x", 0),
    ("EXISTS x", 1),
    ("XTRIM x NOPE 1", SYNTAX_ERROR),
    ("XSETID x 9-9", OK),
    ("XSETID x 9-9 ENTRIESADDED 100 MAXDELETEDID 1-3", OK),
    ("XADD x 9-9 f v", Error("ERR The ID specified in XADD is equal or smaller than the target stream top item")),
    ("XSETID nothing 1-1", Error("ERR no such key")),
)

test_consumer_groups = table(
    *THREE,
    ("XGROUP CREATE x g 0", OK),
    ("XGROUP CREATE x g 0", Error("BUSYGROUP Consumer Group name already exists")),
    (
        "XGROUP CREATE nothing g 0",
        Error(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create "
            "an empty stream automatically."
        ),
    ),
    ("XGROUP CREATE made g $ MKSTREAM", OK),
    ("XREADGROUP GROUP g alice COUNT 2 STREAMS x >", streams("x", [E11, E12])),
    ("XREADGROUP GROUP g bob STREAMS x >", streams("x", [E13])),
    ("XREADGROUP GROUP g bob STREAMS x >", NIL_ARRAY),
    ("XREADGROUP GROUP g alice STREAMS x 0", streams("x", [E11, E12])),
    ("XREADGROUP GROUP g alice STREAMS x 1-1", streams("x", [E12])),
    (
        "XREADGROUP GROUP nope alice STREAMS x >",
        Error("NOGROUP No such key 'x' or consumer group 'nope' in XREADGROUP with GROUP option"),
    ),
    (
        "XREADGROUP GROUP g alice STREAMS x $",
        Error(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper "
            "ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
        ),
    ),
    ("XREAD STREAMS x >", Error("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")),
    ("XREAD STREAMS x", wrong_arity("xread")),
    ("XREAD STREAMS x y 0", Error("ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.")),
    ("XREADGROUP STREAMS x y z 0 0 0", Error("ERR Missing GROUP option for XREADGROUP")),
    ("XPENDING x g", [3, "1-1", "1-3", [["alice", "2"], ["bob", "1"]]]),
    ("XPENDING x g - + 10 bob", [["1-3", "bob", is_a(int), 1]]),
    ("XPENDING x g IDLE 100000 - + 10", []),
    ("XPENDING x nope", NO_GROUP),
    ("XACK x g 1-1 1-1 9-9", 1),
    ("XACK x nope 1-1", 0),
    ("XCLAIM x g carol 0 1-2", [E12]),
    ("XCLAIM x g carol 0 1-2 JUSTID", ["1-2"]),
    ("XCLAIM x g carol 100000 1-3", []),
    ("XCLAIM x g carol 0 9-9", []),
    ("XCLAIM x g carol x 1-2", Error("ERR Invalid min-idle-time argument for XCLAIM")),
    ("XCLAIM x nope carol 0 1-2", NO_GROUP),
    ("XPENDING x g - + 10 carol", [["1-2", "carol", is_a(int), 4]]),
    ("XAUTOCLAIM x g dave 0 0 COUNT 1", ["1-3", [E12], []]),
    ("XAUTOCLAIM x g dave 0 1-3", ["0-0", [E13], []]),
    ("XDEL x 1-3", 1),
    ("XAUTOCLAIM x g dave 0 0 JUSTID", ["0-0", ["1-2"], ["1-3"]]),
    ("XGROUP SETID x g 0", OK),
    ("XREADGROUP GROUP g erin NOACK STREAMS x >", streams("x", [E11, E12])),
    ("XGROUP CREATECONSUMER x g fred", 1),
    ("XGROUP CREATECONSUMER x g fred", 0),
    ("XGROUP DELCONSUMER x g dave", 1),
    ("XGROUP DELCONSUMER x g nobody", 0),
    ("XGROUP DESTROY x g", 1),
    ("XGROUP DESTROY x g", 0),
    ("XGROUP SETID x nope 0", Error("NOGROUP No such consumer group 'nope' for key name 'x'")),
    ("XGROUP HELP", help_of("XGROUP")),
    ("XGROUP NOPE", Error("ERR unknown subcommand 'NOPE'. Try XGROUP HELP.")),
)

test_reading_that_would_wait_has_a_time_limit = table(
    ("XREAD BLOCK 10 STREAMS x $", NIL_ARRAY),
    ("XREAD BLOCK -1 STREAMS x $", Error("ERR timeout is negative")),
    ("XREAD BLOCK x STREAMS x $", Error("ERR timeout is not an integer or out of range")),
    ("XREAD BLOCK 1.5 STREAMS x $", Error("ERR timeout is not an integer or out of range")),
    ("XADD x 1-1 f v", "1-1"),
    ("XREAD BLOCK 10 STREAMS x y $ $", NIL_ARRAY),
    ("XREAD BLOCK 0 STREAMS x 0", streams("x", [E11[:1] + [["f", "v"]]])),
    ("XREADGROUP GROUP g me BLOCK 10 STREAMS nothing >", Error("NOGROUP No such key 'nothing' or consumer group 'g' in XREADGROUP with GROUP option")),
    ("XGROUP CREATE x g $", OK),
    ("XREADGROUP GROUP g me BLOCK 10 STREAMS x >", NIL_ARRAY),
    ("XINFO CONSUMERS x g", []),
)

test_xinfo = table(
    *THREE,
    ("XGROUP CREATE x g 1-1 ENTRIESREAD 1", OK),
    ("XREADGROUP GROUP g alice COUNT 1 STREAMS x >", streams("x", [E12])),
    (
        "XINFO GROUPS x",
        [Map({"name": "g", "consumers": 1, "pending": 1, "last-delivered-id": "1-2", "entries-read": 2, "lag": 1})],
    ),
    ("XINFO CONSUMERS x g", [Map({"name": "alice", "pending": 1, "idle": is_a(int)})]),
    (
        "XINFO STREAM x",
        Map({
            "length": 3, "radix-tree-keys": 1, "radix-tree-nodes": 2, "last-generated-id": "1-3", "max-deleted-entry-id": "0-0",
            "entries-added": 3, "recorded-first-entry-id": "1-1", "groups": 1, "first-entry": E11, "last-entry": E13,
        }),
    ),  # fmt: skip
    (
        "XINFO STREAM x FULL",
        Map({
            "length": 3, "radix-tree-keys": 1, "radix-tree-nodes": 2, "last-generated-id": "1-3", "max-deleted-entry-id": "0-0",
            "entries-added": 3, "recorded-first-entry-id": "1-1", "entries": [E11, E12, E13],
            "groups": [
                Map({
                    "name": "g", "last-delivered-id": "1-2", "entries-read": 2, "lag": 1, "pel-count": 1,
                    "pending": [["1-2", "alice", is_a(int), 1]],
                    "consumers": [Map({"name": "alice", "seen-time": is_a(int), "pel-count": 1, "pending": [["1-2", is_a(int), 1]]})],
                })
            ],
        }),
    ),  # fmt: skip
    ("XINFO STREAM nothing", Error("ERR no such key")),
    ("XINFO GROUPS nothing", Error("ERR no such key")),
    ("XINFO CONSUMERS x nope", Error("NOGROUP No such consumer group 'nope' for key name 'x'")),
    ("XINFO HELP", help_of("XINFO")),
)

test_a_stream_is_a_key_like_others = table(
    ("XADD x 1-1 f v", "1-1"),
    ("TYPE x", Simple("stream")),
    ("OBJECT ENCODING x", "stream"),
    ("SCAN 0 TYPE stream", ["0", ["x"]]),
    ("RANDOMKEY", "x"),
    ("MEMORY USAGE x", between(50, 10_000)),
    ("DEBUG DIGEST-VALUE x", [Simple("2ed9a7a81688084b1f7eae33456ef7727d357031")]),
    ("XGROUP CREATE x g 0", OK),
    ("XREADGROUP GROUP g alice STREAMS x >", streams("x", [["1-1", ["f", "v"]]])),
    ("RENAME x y", OK),
    ("COPY y z", 1),
    ("XRANGE y - +", [["1-1", ["f", "v"]]]),
    ("XRANGE z - +", [["1-1", ["f", "v"]]]),
    ("XPENDING z g", [1, "1-1", "1-1", [["alice", "1"]]]),
    ("XACK z g 1-1", 1),
    ("XPENDING y g", [1, "1-1", "1-1", [["alice", "1"]]]),
    ("MOVE z 3", 1),
    ("DBSIZE", 1),
    ("SADD s a", 1),
    ("XLEN s", WRONGTYPE),
    ("XREAD STREAMS y s 0 0", WRONGTYPE),
    ("GET y", WRONGTYPE),
    ("ZUNION 1 y", WRONGTYPE),
)

test_keys_of_stream_commands_are_found = table(
    ("COMMAND GETKEYS XADD x * f v", ["x"]),
    ("COMMAND GETKEYS XREAD COUNT 1 STREAMS a b 0 0", ["a", "b"]),
    ("COMMAND GETKEYS XREADGROUP GROUP g c BLOCK 0 STREAMS a b > >", ["a", "b"]),
    ("COMMAND GETKEYS XREAD COUNT 1 a b", Error("ERR Invalid arguments specified for command")),
    ("COMMAND GETKEYS XGROUP CREATE x g 0", ["x"]),
    ("COMMAND GETKEYS XINFO STREAM x", ["x"]),
    ("XADD x 1-1 f v", "1-1"),
    ("XGROUP CREATE x streams 0", OK),
    ("XREADGROUP COUNT 1 GROUP streams streams STREAMS x >", streams("x", [["1-1", ["f", "v"]]])),
)


def test_command_info_of_streams_is_that_of_redis(c, connect):
    """Names, arity, flags, legacy keys and key specifications, without the notes of the latter."""
    specifications = {row[0]: row for row in c("COMMAND INFO XREAD XREADGROUP XTRIM")}
    for name, arity, words, start in ((b"xread", -4, ["readonly", "blocking"], 1), (b"xreadgroup", -7, ["write", "blocking"], 4)):
        row = specifications[name]
        assert row[1:6] == [arity, [*map(Simple, words), Simple("movablekeys")], 0, 0, 0]
        ((_, flags, _, begin, _, find),) = row[8]
        assert flags == [Simple("RO"), Simple("access")]
        assert begin == [b"type", b"keyword", b"spec", [b"keyword", b"STREAMS", b"startfrom", start]]
        assert find == [b"type", b"range", b"spec", [b"lastkey", -1, b"keystep", 1, b"limit", 2]]
    assert specifications[b"xtrim"][1:6] == [-4, [Simple("write")], 1, 1, 1]


@pytest.mark.parametrize("protocol", [2, 3])
def test_consumers_of_a_group_wait_and_share(server, c, connect, protocol):
    c("XGROUP CREATE x g $ MKSTREAM")
    consumers = [connect(protocol) for _ in range(3)]
    for number, consumer in enumerate(consumers, 1):
        consumer.send("XREADGROUP", "GROUP", "g", f"c{number}", "BLOCK", 0, "STREAMS", "x", ">")
        eventually(lambda: server.info("clients")["blocked_clients"] == str(number))
    for number, consumer in enumerate(consumers, 1):
        assert c("XADD", "x", f"1-{number}", "f", number) == f"1-{number}".encode()
        entries = [[f"1-{number}".encode(), [b"f", str(number).encode()]]]
        assert consumer.read() == (Map([(b"x", entries)]) if protocol == 3 else [[b"x", entries]])
    consumers[0].send("XREADGROUP", "GROUP", "g", "c1", "BLOCK", 0, "STREAMS", "x", ">")
    eventually(lambda: server.info("clients")["blocked_clients"] == "1")
    assert c("XGROUP DESTROY x g") == 1
    assert consumers[0].read().startswith("NOGROUP")
    consumers[1].send("XREADGROUP", "GROUP", "g", "c1", "BLOCK", 0, "STREAMS", "x", ">")
    assert consumers[1].read().startswith("NOGROUP")


def test_readers_of_a_stream_all_hear_it(server, c, connect):
    readers = [connect() for _ in range(4)]
    for reader in readers:
        reader.send("XREAD BLOCK 0 STREAMS a x b $ $ $")
    eventually(lambda: server.info("clients")["blocked_clients"] == "4")
    c("XADD x 1-1 f v")
    assert [reader.read() for reader in readers] == [[[b"x", [[b"1-1", [b"f", b"v"]]]]]] * 4

GONE = Error("UNBLOCKED the stream key no longer exists")
NO_GROUP_ANY_MORE = Error("NOGROUP the consumer group this client was blocked on no longer exists")


@pytest.mark.parametrize(
    "change, expected",
    [
        ("DEL x", GONE),
        ("SET x v", GONE),
        ("RENAME x z", GONE),
        ("COPY l x REPLACE", GONE),
        ("FLUSHALL", GONE),
        ("SWAPDB 0 1", GONE),
        ("DEL y", GONE),
        ("XGROUP DESTROY x g", NO_GROUP_ANY_MORE),
    ],
)
def test_who_waits_for_a_group_hears_of_its_end(server, c, connect, change, expected):
    check(c, ("RPUSH l a", 1), ("XGROUP CREATE x g $ MKSTREAM", OK), ("XGROUP CREATE y g $ MKSTREAM", OK))
    waiting, reader = connect(), connect()
    waiting.send("XREADGROUP GROUP g me BLOCK 0 STREAMS x y > >")
    reader.send("XREAD BLOCK 0 STREAMS x y $ $")
    eventually(lambda: server.info("clients")["blocked_clients"] == "2")
    c(change)
    assert waiting.read() == expected
    assert server.info("clients")["blocked_clients"] == "1"  # XREAD waits on, for whatever comes
    c("DEL x")
    c("XADD x 7-7 f v")
    assert reader.read() == [[b"x", [[b"7-7", [b"f", b"v"]]]]]


def test_who_waits_gets_what_came_after_it_began_to_wait(server, c, connect):
    c("XADD x 5-5 f v")
    readers = [connect() for _ in range(3)]
    readers[0].send("XREAD BLOCK 0 STREAMS nothing x $ 5-5")
    readers[1].send("XREAD COUNT 1 BLOCK 0 STREAMS x $")
    readers[2].send("XREAD BLOCK 30 STREAMS x $")
    assert readers[2].read() == NIL_ARRAY
    eventually(lambda: server.info("clients")["blocked_clients"] == "2")
    # Removing and trimming wake nobody; a block is seen as a whole.
    c.pipeline("XDEL x 5-5", "MULTI", "XADD x 6-1 a 1", "XADD x 6-2 a 2", "XADD nothing 1-1 b 1", "EXEC")
    one, two = [b"6-1", [b"a", b"1"]], [b"6-2", [b"a", b"2"]]
    assert readers[0].read() == [[b"x", [one, two]]]
    assert readers[1].read() == [[b"x", [one]]]


def test_within_a_block_nobody_waits(c):
    c.pipeline("XADD x 1-1 f v", "XGROUP CREATE x g $", "MULTI", "XREAD BLOCK 0 STREAMS x $", "XREADGROUP GROUP g me BLOCK 0 STREAMS x >")
    assert c("EXEC") == [NIL_ARRAY, NIL_ARRAY]


def test_a_stream_is_dumped_and_restored_with_its_groups(c):
    c.pipeline(*[("XADD", "x", f"{i}-1", "n", i, *(["odd", ""] if i % 2 else [])) for i in range(1, 301)])
    check(
        c,
        ("XDEL x 3-1 150-1 300-1", 3),
        ("XGROUP CREATE x g 0", OK),
        ("XGROUP CREATE x 12345 $", OK),
        ("XGROUP CREATECONSUMER x g idle", 1),
    )
    c("XREADGROUP GROUP g alice COUNT 120 STREAMS x >")
    c("XREADGROUP GROUP g bob COUNT 7 STREAMS x >")
    c("XACK x g 1-1 99-1")
    before, payload = c("XINFO STREAM x FULL COUNT 0"), c("DUMP x")
    for _ in range(2):
        assert c("RESTORE", "x", 0, payload, "REPLACE") == OK
        assert c("XINFO STREAM x FULL COUNT 0") == before
        assert c("DUMP x") == payload
    assert c("XADD x 300-1 f v") == Error("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    assert len(c("XREADGROUP GROUP g alice STREAMS x 0")[0][1]) == 118


def test_a_long_stream_is_walked_and_trimmed(c):
    count = 20_000
    c.pipeline(*[("XADD", "x", f"{i // 10 + 1}-{i % 10}", "n", i, "even" if i % 2 else "odd", "x" * (i % 50)) for i in range(1, count + 1)])
    assert c("XLEN x") == count
    seen, cursor = [], "-"
    while entries := c("XRANGE", "x", cursor, "+", "COUNT", 777):
        seen += [int(entry[1][1]) for entry in entries]
        cursor = b"(" + entries[-1][0]
    assert seen == list(range(1, count + 1))
    assert c("XDEL", "x", *[f"{i // 10 + 1}-{i % 10}" for i in range(1, count + 1, 3)]) == len(range(1, count + 1, 3))
    assert c("XTRIM x MAXLEN 5000") == count - len(range(1, count + 1, 3)) - 5000
    assert [int(entry[1][1]) for entry in c("XREVRANGE x + - COUNT 3")] == [20_000, 19_998, 19_997]
    trimmed = c("XTRIM x MAXLEN ~ 100")
    assert 0 < trimmed <= 4900 and c("XLEN x") == 5000 - trimmed


covers("XGROUP|SETID", "XREADGROUP", "XREAD")
