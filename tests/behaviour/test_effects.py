"""Which records a command leaves for append-only files and replicas, family by family.

The rows are what redis-server 7.0.15 writes. How to read them: harness/effects.py.
"""

import pytest

from harness import *
from harness import OK
from harness.effects import effects_table, record_agrees, shown, unix_ms

test_effects_of_set = effects_table(
    "SET k v",
    "set k v",
    ("SET k v EX 100", "SET k v PXAT <now+100000>"),
    ("set k v PX 100000", "SET k v PXAT <now+100000>"),
    ("SET k v EXAT 33177117420", "SET k v PXAT 33177117420000"),
    "SET k v PXAT 33177117420000",
    "SET k v2 KEEPTTL",
    ("SET k v GET", "SET k v"),
    ("SET k v XX GET", "SET k v XX"),
    ("SET k v GET KEEPTTL", "SET k v KEEPTTL"),
    ("SET k v GET XX EX 100", "SET k v PXAT <now+100000>"),
    ("SET k v NX",),
    ("SET k v NX GET",),
    ("SET k v EX 100 NX",),
    ("SET n v EX 100 XX",),
    ("SET n v NX EX 100", "SET n v PXAT <now+100000>"),
    ("set n v get px 100000 xx", "SET n v PXAT <now+100000>"),
    ("Set n v Get", "Set n v"),
    ("SET n v EX 0",),
    ("SETEX k 100 v", "SET k v PXAT <now+100000>"),
    ("setex k 100 v", "SET k v PXAT <now+100000>"),
    ("PSETEX k 100000 v", "SET k v PXAT <now+100000>"),
    ("SETNX k v",),
    "SETNX new v",
    ("GETSET k w", "SET k w"),
    ("getset k w", "SET k w"),
    ("GETDEL k", "DEL k"),
    ("GETDEL k",),
    "SET k v",
    "SET k same",
    "SET k same",
)

test_effects_of_getex = effects_table(
    "SET k v",
    ("GETEX k",),
    ("GETEX k EX 100", "PEXPIREAT k <now+100000>"),
    ("getex k PX 100000", "PEXPIREAT k <now+100000>"),
    ("GETEX k EXAT 33177117420", "PEXPIREAT k 33177117420000"),
    ("GETEX k PXAT 33177117420000", "PEXPIREAT k 33177117420000"),
    ("GETEX k PERSIST", "PERSIST k"),
    ("GETEX k PERSIST",),
    ("GETEX k PXAT 1", "DEL k"),
    ("GETEX k EX 100",),
    ("GETEX k PERSIST",),
)

test_effects_of_strings = effects_table(
    "MSET a 1 b 2",
    ("MSETNX a 1 c 2",),
    "MSETNX e 1 f 2",
    "APPEND a x",
    'APPEND a ""',
    'APPEND fresh ""',
    "SETRANGE a 1 zz",
    ('SETRANGE a 1 ""',),
    ('SETRANGE none 1 ""',),
    "SETRANGE sr 5 x",
    "INCR n",
    "INCRBY n 0",
    "DECR n",
    "DECRBY n 5",
    "incrby n 5",
    ("INCR a",),
    ("INCRBYFLOAT n 1.5", "SET n 1.5 KEEPTTL"),
    ("INCRBYFLOAT n 0", "SET n 1.5 KEEPTTL"),
    ("INCRBYFLOAT fresh2 3.0", "SET fresh2 3 KEEPTTL"),
    ("incrbyfloat n 1", "SET n 2.5 KEEPTTL"),
    ("INCRBYFLOAT n x",),
    ("SET t 1 EX 100", "SET t 1 PXAT <now+100000>"),
    ("INCRBYFLOAT t 1e20", "SET t 100000000000000000000 KEEPTTL"),
    ("GET a",),
    ("MGET a b none",),
    ("STRLEN a",),
    ("GETRANGE a 0 1",),
)

test_effects_of_bits = effects_table(
    "SETBIT a 1 1",
    ("SETBIT a 1 1",),
    "SETBIT a 1 0",
    "SETBIT far 100 0",
    "BITOP OR dst a far",
    "BITOP NOT dst none",
    ("BITOP NOT dst none",),
    "BITFIELD bf SET u8 0 5",
    ("BITFIELD bf SET u8 0 5",),
    ("BITFIELD bf GET u8 0",),
    ("BITFIELD bf INCRBY u8 0 0",),
    ("BITFIELD bf OVERFLOW FAIL INCRBY u8 0 255",),
    ("BITFIELD bf2 OVERFLOW FAIL INCRBY u8 0 300",),
    "BITFIELD bf GET u8 0 SET u8 8 1",
    ("BITCOUNT a",),
    ("BITFIELD_RO bf GET u8 0",),
)

test_effects_of_expiries = effects_table(
    "SET k v",
    ("EXPIRE k 100", "PEXPIREAT k <now+100000>"),
    ("PEXPIRE k 100000 XX", "PEXPIREAT k <now+100000> XX"),
    ("EXPIREAT k 33177117420 GT", "PEXPIREAT k 33177117420000 GT"),
    ("PEXPIREAT k 33177117420000 gt",),
    "pexpireat k 33177117420001",
    ("expireat k 33177117420 lt", "PEXPIREAT k 33177117420000 lt"),
    ("EXPIRE k 10 NX",),
    ("EXPIRE none 10",),
    "PERSIST k",
    ("PERSIST k",),
    ("EXPIRE k -5 XX",),
    ("EXPIRE k -1", "DEL k"),
    "SET k v",
    ("EXPIREAT k 1", "DEL k"),
    "SET k v",
    ("PEXPIREAT k 1", "DEL k"),
    "SET k v",
    ("PEXPIRE k 0", "DEL k"),
    ("TTL k",),
    ("PEXPIRETIME k",),
)

test_effects_of_keys = effects_table(
    "SET a 1",
    "SET b 2",
    "DEL a nothing",
    ("DEL nothing",),
    "UNLINK b nothing",
    ("unlink nothing",),
    "SET a 1",
    "RENAME a b",
    ("RENAME b b",),
    ("RENAMENX b b",),
    ("RENAME none b",),
    "SET c 1",
    ("RENAMENX b c",),
    "RENAMENX b d",
    "COPY d e",
    ("COPY d e",),
    "COPY d e REPLACE",
    ("COPY none e REPLACE",),
    "COPY d d2 DB 1",
    "copy d d2 db 1 replace",
    "MOVE d 1",
    ("MOVE nothing 1",),
    "MOVE e 1",
    "SET e 5",
    ("MOVE e 1",),
    ("TOUCH e",),
    ("EXISTS e",),
    ("OBJECT ENCODING e",),
    ("DUMP e",),
    ("TYPE e",),
    ("RANDOMKEY",),
    ("SCAN 0",),
    ("KEYS *",),
    ("DBSIZE",),
)

test_effects_of_whole_databases = effects_table(
    "SET a 1",
    "SWAPDB 0 1",
    "SWAPDB 0 0",
    "SWAPDB 5 6",
    "SET after swap",
    "FLUSHDB",
    "FLUSHDB",
    "FLUSHDB ASYNC",
    "flushall sync",
    "FLUSHALL",
    ("SWAPDB 0 99",),
    ("FLUSHALL x",),
)

test_select_stands_where_the_database_changes = effects_table(
    "SET a 0",
    ("SELECT 1",),
    ("GET a",),
    ("SET a 1", "SELECT 1", "SET a 1"),
    "SET b 1",
    ("COPY a c DB 2",  "COPY a c DB 2"),
    ("SELECT 0",),
    ("SET a 2", "SELECT 0", "SET a 2"),
    ("MULTI",),
    ("SELECT 2",),
    ("SET m 1",),
    ("EXEC", "SELECT 2", "SET m 1"),
    ("MULTI",),
    ("SELECT 0",),
    ("SET m 1",),
    ("SELECT 2",),
    ("INCR m",),
    ("EXEC", "SELECT 0", "MULTI", "SET m 1", "SELECT 2", "INCR m", "EXEC"),
    ("SELECT 5",),
    ("SWAPDB 0 1", "SELECT 5", "SWAPDB 0 1"),
    ("EVAL \"redis.call('SELECT', 3) redis.call('SET', 'k', 'v')\" 0", "SELECT 3", "SET k v"),
    (
        "EVAL \"redis.call('SET', 'k', 'v') redis.call('SELECT', 4) redis.call('SET', 'k', 'v')\" 0",
        "SELECT 5", "MULTI", "SET k v", "SELECT 4", "SET k v", "EXEC",
    ),
    ("FLUSHALL", "SELECT 5", "FLUSHALL"),
)  # fmt: skip

test_effects_of_restore = effects_table(
    "SET a 1",
    (("RESTORE", "r", 0, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc"),
     ("RESTORE", "r", 0, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc")),
    (("restore", "r", 100000, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "REPLACE"),
     ("restore", "r", "<now+100000>", b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "REPLACE", "ABSTTL")),
    (("RESTORE", "r", 33177117420000, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "ABSTTL", "REPLACE"),
     ("RESTORE", "r", 33177117420000, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "ABSTTL", "REPLACE")),
    (("RESTORE", "r", 0, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc"),),
    (("RESTORE", "r", 0, b"x", "REPLACE"),),
    (("RESTORE", "r", 1, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "ABSTTL", "REPLACE"), "DEL r"),
    (("RESTORE", "r", 1, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "ABSTTL", "REPLACE"),),
    (("RESTORE", "r", 0, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "IDLETIME", 5),
     ("RESTORE", "r", 0, b"\x00\xc0\x01\x0a\x00\x26\x78\xe7\xb6\xd1\x01\x11\xfc", "IDLETIME", 5)),
)  # fmt: skip

test_effects_of_sort = effects_table(
    "RPUSH l 3 1 2",
    "SORT l STORE dst",
    ("SORT l",),
    ("SORT_RO l",),
    "SORT none STORE dst",
    ("SORT none STORE dst",),
    "sort l by nosort store dst",
)

test_effects_of_lists = effects_table(
    "LPUSH l a b",
    "LPUSHX l c",
    ("LPUSHX none c",),
    ("RPUSHX none c",),
    "LPOP l",
    "LPOP l 2",
    "RPUSH l a b c",
    ("lpop l 0",),
    "RPOP l 100",
    ("LPOP l",),
    ("RPOP l 5",),
    "RPUSH l a b c a b c",
    "LSET l 0 a",
    "LSET l 0 z",
    ("LSET l 100 z",),
    ("LREM l 0 nothing",),
    "LREM l 0 b",
    ("LTRIM l 0 -1",),
    ("LTRIM l 0 100",),
    ("LTRIM none 0 100",),
    "LTRIM l 1 2",
    "LTRIM l 5 1",
    ("LTRIM l 0 0",),
    "RPUSH l a b c",
    "LINSERT l BEFORE b x",
    ("LINSERT l BEFORE q x",),
    ("LINSERT none BEFORE q x",),
    "RPOPLPUSH l l",
    "RPOPLPUSH l m",
    ("RPOPLPUSH none m",),
    "LMOVE l m LEFT RIGHT",
    "lmove l l left right",
    ("LMPOP 1 l LEFT", "LPOP l 1"),
    ("LMPOP 2 none m RIGHT COUNT 5", "RPOP m 2"),
    ("LMPOP 1 none LEFT",),
    "RPUSH one a",
    "RPOPLPUSH one one",
    ("LRANGE l 0 -1",),
)

test_effects_of_hashes = effects_table(
    "HSET h f 1 g 2",
    "HSET h f 1",
    "HSET h f 2",
    "HMSET h f 2",
    ("HSETNX h f 3",),
    "HSETNX h n 3",
    ("HDEL h nothing",),
    "HDEL h n nothing",
    ("HDEL none n",),
    "HINCRBY h f 1",
    "HINCRBY h f 0",
    ("HINCRBYFLOAT h f 1.5", "HSET h f 4.5"),
    ("hincrbyfloat h f 0", "HSET h f 4.5"),
    ("HINCRBYFLOAT h new 3.0", "HSET h new 3"),
    ("HINCRBYFLOAT h f x",),
    "HDEL h f g new",
    ("HGETALL h",),
)

test_effects_of_sets = effects_table(
    "SADD s a b c",
    ("SADD s a",),
    "SADD s a d",
    ("SREM s nothing",),
    "SREM s d nothing",
    "SMOVE s t a",
    ("SMOVE s t nothing",),
    ("SMOVE s s b",),
    ("SMOVE none t b",),
    "SADD t b",
    "SMOVE s t b",
    ("SPOP s", "SREM s <reply>"),
    "SADD s a b",
    ("SINTERSTORE dst s none",),
    "SUNIONSTORE dst s t",
    "SINTERSTORE dst s none",
    "SUNIONSTORE dst s",
    "SDIFFSTORE dst s s",
    ("SDIFFSTORE dst s s",),
    ("SUNIONSTORE dst none",),
    ("SRANDMEMBER s",),
)

test_effects_of_spop = effects_table(
    "SADD s a b c d e f g",
    ("SPOP s", "SREM s <reply>"),
    ("SPOP s 2", "MULTI", "SREM s <0>", "SREM s <1>", "EXEC"),
    ("SPOP s 0",),
    ("SPOP s 1", "SREM s <0>"),
    ("SPOP s 100", "DEL s"),
    ("SPOP s",),
    ("SPOP s 1",),
    "SADD i 1 2 3 4 5 6 7 8",
    ("spop i", "SREM i <reply>"),
    ("SPOP i 2", "MULTI", "SREM i <0>", "SREM i <1>", "EXEC"),
    ("SPOP i 4", "MULTI", "SREM i <0>", "SREM i <1>", "SREM i <2>", "SREM i <3>", "EXEC"),
    ("SPOP i 1", "DEL i"),
    "SADD i 1",
    ("SPOP i", "SREM i 1"),
    "SADD i 1",
    ("SPOP i 3", "DEL i"),
)

test_effects_of_zsets = effects_table(
    "ZADD z 1 a 2 b",
    ("ZADD z 1 a",),
    ("ZADD z XX 1 nothing",),
    ("ZADD z NX 5 a",),
    ("ZADD z GT 0 a",),
    "ZADD z CH 5 a",
    "ZADD z INCR 1 a",
    ("ZADD z INCR 0 a",),
    ("ZADD z NX INCR 1 a",),
    "ZINCRBY z 1 a",
    ("zincrby z 0 a",),
    ("ZREM z nothing",),
    "ZREM z a nothing",
    "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h",
    "ZPOPMIN z",
    "ZPOPMAX z 2",
    ("zpopmin z 0",),
    ("ZPOPMIN none",),
    ("ZMPOP 1 z MIN", "ZPOPMIN z 1"),
    ("ZMPOP 2 none z MAX COUNT 2", "ZPOPMAX z 2"),
    ("ZMPOP 1 none MIN",),
    "ZPOPMIN z 100",
    "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h",
    ("ZREMRANGEBYRANK z 10 11",),
    "ZREMRANGEBYRANK z 0 0",
    ("ZREMRANGEBYSCORE z 100 200",),
    "ZREMRANGEBYSCORE z 0 5",
    ("ZREMRANGEBYLEX z [x [y",),
    "ZREMRANGEBYLEX z - +",
    "ZADD z 1 a 2 b",
    "ZRANGESTORE d z 0 -1",
    "ZRANGESTORE d z 5 6",
    ("ZRANGESTORE d z 5 6",),
    "ZUNIONSTORE d 1 z",
    "ZINTERSTORE d 2 z none",
    ("ZINTERSTORE d 2 z none",),
    "ZDIFFSTORE d 2 z none",
    "zdiffstore d 2 z z",
    ("ZRANGE z 0 -1",),
)

test_effects_of_xadd_and_xtrim = effects_table(
    "XADD x 1-1 f v",
    ("XADD x 1-* f v", "XADD x <reply> f v"),
    ("XADD x * f v", "XADD x <reply> f v"),
    ("xadd x nomkstream * f v", "xadd x nomkstream <reply> f v"),
    ("XADD none NOMKSTREAM * f v",),
    ("XADD x MAXLEN 3 * f v", "XADD x MAXLEN 3 <reply> f v"),
    ("XADD x MAXLEN = 3 * f v", "XADD x MAXLEN = 3 <reply> f v"),
    ("XADD x MAXLEN ~ 2 * f v", "XADD x MAXLEN = 4 <reply> f v"),
    ("xadd x maxlen ~ 2 * f v", "xadd x maxlen = 5 <reply> f v"),
    ("XADD x MINID ~ 1-2 * f v", "XADD x MINID = <id> <reply> f v"),
    ("XADD x MINID 1-2 * f v", "XADD x MINID 1-2 <reply> f v"),
    ("XADD x NOMKSTREAM MAXLEN ~ 2 * f v", "XADD x NOMKSTREAM MAXLEN = 8 <reply> f v"),
    "XADD y 5 f v",
    "XADD y 6 f v",
    ("XADD y 7-* f v", "XADD y 7-0 f v"),
    ("XTRIM y MAXLEN 100",),
    ("XTRIM y MAXLEN ~ 1",),
    "XTRIM y MAXLEN 2",
    "XTRIM y MINID 6-5",
    "XADD y 8 f v",
    ("XDEL y 100",),
    "XDEL y 8 100",
    "XSETID y 9-5",
    "XSETID y 9-5",
    "XSETID y 9-5 ENTRIESADDED 50 MAXDELETEDID 8",
    ("CONFIG SET stream-node-max-entries 2",),
    "XADD t 1 f v",
    "XADD t 2 f v",
    "XADD t 3 f v",
    "XADD t 4 f v",
    "XADD t 5 f v",
    ("XTRIM t MAXLEN ~ 2", "XTRIM t MAXLEN = 3"),
    ("XTRIM t MAXLEN ~ 2",),
    ("XTRIM t MINID ~ 5", "XTRIM t MINID = 5-0"),
    ("XTRIM t MINID ~ 5",),
    "XADD t 6 f v",
    "XADD t 7 f v",
    "XADD t 8 f v",
    ("xtrim t minid ~ 7", "xtrim t minid = 7-0"),
    ("XADD t MAXLEN ~ 1 200 f v", "XADD t MAXLEN = 1 200 f v"),
    ("XADD t MINID ~ 200 201 f v", "XADD t MINID = 200-0 201 f v"),
    ("XADD t MINID ~ 300 202 f v", "XADD t MINID = <id> 202 f v"),
    ("XADD t MINID ~ 300 203 f v", "XADD t MINID = 18446744073709551615-18446744073709551615 203 f v"),
    ("XADD t MAXLEN ~ 0 203-* f v", "XADD t MAXLEN = 0 <reply> f v"),
    "XADD t 204 f v",
    "XTRIM t MAXLEN 0",
    ("XTRIM t MAXLEN = 0",),
)

test_effects_of_groups = effects_table(
    "XADD y 1 f v",
    "XADD y 2 f v",
    "XGROUP CREATE y g 0",
    ("XGROUP CREATE y g 0",),
    "XGROUP CREATE mk g $ MKSTREAM",
    "XGROUP CREATE y g2 $ ENTRIESREAD 3",
    "XGROUP SETID y g2 0",
    "XGROUP SETID y g2 $ ENTRIESREAD 2",
    "XGROUP SETID y g2 $ ENTRIESREAD 2",
    "XGROUP CREATECONSUMER y g me",
    ("XGROUP CREATECONSUMER y g me",),
    "XGROUP DELCONSUMER y g me",
    ("XGROUP DELCONSUMER y g me",),
    "xgroup destroy y g2",
    ("XGROUP DESTROY y g2",),
    ("XACK y g 1",),
)

_ONCE = "TIME <now> RETRYCOUNT 1 FORCE JUSTID LASTID"

test_effects_of_xreadgroup = effects_table(
    *(f"XADD y {number} f v" for number in range(1, 8)),
    "XGROUP CREATE y g 0",
    ("XREADGROUP GROUP g me COUNT 1 STREAMS y >", f"XCLAIM y g me 0 1-0 {_ONCE} 1-0"),
    (
        "XREADGROUP GROUP g me COUNT 2 STREAMS y >",
        "MULTI", f"XCLAIM y g me 0 2-0 {_ONCE} 2-0", f"XCLAIM y g me 0 3-0 {_ONCE} 3-0", "EXEC",
    ),
    ("XREADGROUP GROUP g me STREAMS y 0",),
    ("XREADGROUP GROUP g me NOACK COUNT 1 STREAMS y >", "XGROUP SETID y g 4-0 ENTRIESREAD 4"),
    (
        "XREADGROUP GROUP g new NOACK COUNT 2 STREAMS y >",
        "MULTI", "XGROUP CREATECONSUMER y g new", "XGROUP SETID y g 6-0 ENTRIESREAD 6", "EXEC",
    ),
    ("XREADGROUP GROUP g fresh STREAMS y >", f"XCLAIM y g fresh 0 7-0 {_ONCE} 7-0"),
    ("XREADGROUP GROUP g me STREAMS y >",),
    ("XREADGROUP GROUP g me NOACK STREAMS y >",),
    ("XREADGROUP GROUP g me NOACK STREAMS y 0",),
    ("XREADGROUP GROUP g history NOACK STREAMS y 0", "XGROUP CREATECONSUMER y g history"),
    "XADD x 1 f v",
    "XGROUP CREATE x g 0",
    "XADD y 8 f v",
    (
        "XREADGROUP GROUP g me STREAMS x y > >",
        "MULTI", f"XCLAIM x g me 0 1-0 {_ONCE} 1-0", f"XCLAIM y g me 0 8-0 {_ONCE} 8-0", "EXEC",
    ),
    ("XGROUP SETID y g 0", "XGROUP SETID y g 0"),
    ("XREADGROUP GROUP g me NOACK COUNT 1 STREAMS y >", "XGROUP SETID y g 1-0 ENTRIESREAD 1"),
    ("XREADGROUP GROUP g me COUNT 1 STREAMS y >", f"XCLAIM y g me 0 2-0 {_ONCE} 2-0"),
    "XACK y g 1 2",
    ("XACK y g 1 2",),
    ("XREAD STREAMS y 0",),
    ("XPENDING y g",),
)  # fmt: skip

_CLAIMED = "RETRYCOUNT {} FORCE JUSTID LASTID 3-0"

test_effects_of_xclaim = effects_table(
    *(f"XADD y {number} f v" for number in range(1, 5)),
    "XGROUP CREATE y g 3",
    ("XCLAIM y g me 0 1 FORCE", f"XCLAIM y g me 0 1 TIME <now> {_CLAIMED.format(2)}"),
    ("XCLAIM y g you 0 1", f"XCLAIM y g you 0 1 TIME <now> {_CLAIMED.format(3)}"),
    ("XCLAIM y g you 0 1 2 JUSTID", f"XCLAIM y g you 0 1 TIME <now> {_CLAIMED.format(3)}"),
    ("XCLAIM y g you 100000 1",),
    ("XCLAIM y g you 0 1 IDLE 5000 RETRYCOUNT 7", f"XCLAIM y g you 0 1 TIME <now-5000> {_CLAIMED.format(7)}"),
    ("XCLAIM y g nobody 100000 1",),
    ("XCLAIM y g you 0 1-0 TIME 1000", f"XCLAIM y g you 0 1-0 TIME 1000 {_CLAIMED.format(8)}"),
    ("XCLAIM y g you 0 99 FORCE",),
    (
        "XCLAIM y g me 0 1-0 2 FORCE JUSTID",
        "MULTI", f"XCLAIM y g me 0 1-0 TIME <now> {_CLAIMED.format(8)}",
        f"XCLAIM y g me 0 2 TIME <now> {_CLAIMED.format(1)}", "EXEC",
    ),
    ("XCLAIM y g me 0 1 LASTID 2", f"XCLAIM y g me 0 1 TIME <now> {_CLAIMED.format(9)}"),
    ("XCLAIM y g me 0 1 LASTID 4", "XCLAIM y g me 0 1 TIME <now> RETRYCOUNT 10 FORCE JUSTID LASTID 4-0"),
    ("XGROUP SETID y g 3", "XGROUP SETID y g 3"),
    ("XCLAIM y g nobody 100000 1 LASTID 5", "XGROUP SETID y g 5-0 ENTRIESREAD -1"),
    "XGROUP SETID y g 3",
    "XDEL y 1",
    ("XCLAIM y g nobody 0 1", f"XCLAIM y g me 0 1 TIME <now> {_CLAIMED.format(10)}"),
    ("XCLAIM y g nobody 0 1",),
)  # fmt: skip

test_effects_of_xautoclaim = effects_table(
    *(f"XADD y {number} f v" for number in range(1, 5)),
    "XGROUP CREATE y g 0",
    ("XREADGROUP GROUP g me COUNT 1 STREAMS y >", f"XCLAIM y g me 0 1-0 {_ONCE} 1-0"),
    ("XAUTOCLAIM y g you 100000 0",),
    ("XAUTOCLAIM y g you 0 0", "XCLAIM y g you 0 1-0 TIME <now> RETRYCOUNT 2 FORCE JUSTID LASTID 1-0"),
    ("XAUTOCLAIM y g me 0 0 JUSTID", "XCLAIM y g me 0 1-0 TIME <now> RETRYCOUNT 2 FORCE JUSTID LASTID 1-0"),
    (
        "XREADGROUP GROUP g me COUNT 2 STREAMS y >",
        "MULTI", f"XCLAIM y g me 0 2-0 {_ONCE} 2-0", f"XCLAIM y g me 0 3-0 {_ONCE} 3-0", "EXEC",
    ),
    "XDEL y 1 2",
    (
        "XAUTOCLAIM y g you 0 0",
        "MULTI", "XCLAIM y g me 0 1-0 TIME <now> RETRYCOUNT 2 FORCE JUSTID LASTID 3-0",
        f"XCLAIM y g me 0 2-0 {_ONCE} 3-0",
        "XCLAIM y g you 0 3-0 TIME <now> RETRYCOUNT 2 FORCE JUSTID LASTID 3-0", "EXEC",
    ),
    ("XAUTOCLAIM y g other 100000 0",),
)  # fmt: skip

test_effects_of_blocking_commands_that_need_not_wait = effects_table(
    "RPUSH l a b c d e f g h",
    ("BLPOP l 0", "LPOP l"),
    ("brpop none l 0", "RPOP l"),
    ("BLMOVE l m LEFT RIGHT 0", "LMOVE l m LEFT RIGHT"),
    ("blmove l l left right 0", "LMOVE l l left right"),
    ("BRPOPLPUSH l m 0", "RPOPLPUSH l m"),
    ("blmpop 0 2 none l left count 2", "LPOP l 2"),
    ("BLMPOP 0.01 1 none LEFT",),
    ("BLPOP none 0.01",),
    "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f",
    ("BZPOPMIN z 0", "ZPOPMIN z"),
    ("BZPOPMAX none z 0", "ZPOPMAX z"),
    ("bzmpop 0 2 none z min count 2", "ZPOPMIN z 2"),
    ("BZMPOP 0.01 1 none MIN",),
)

test_effects_of_blocks = effects_table(
    ("MULTI",),
    ("SET m 1",),
    ("EXEC", "SET m 1"),
    ("MULTI",),
    ("SET m 1",),
    ("INCR m",),
    ("GET m",),
    ("EXEC", "MULTI", "SET m 1", "INCR m", "EXEC"),
    ("MULTI",),
    ("GET m",),
    ("EXEC",),
    ("MULTI",),
    ("EXEC",),
    ("MULTI",),
    ("SET m x",),
    ("INCR m",),
    ("EXEC", "SET m x"),
    ("MULTI",),
    ("SET m x",),
    ("DISCARD",),
    ("MULTI",),
    ("EVAL \"redis.call('SET', 'a', 'v') redis.call('SET', 'b', 'v')\" 0",),
    ("EXEC", "MULTI", "SET a v", "SET b v", "EXEC"),
    ("MULTI",),
    ("SADD s a",),
    ("SPOP s 2",),
    ("BLPOP none 0",),
    ("EXEC", "MULTI", "SADD s a", "DEL s", "EXEC"),
    ("MULTI",),
    ("FLUSHALL",),
    ("SET a b",),
    ("EXEC", "MULTI", "FLUSHALL", "SET a b", "EXEC"),
    ("MULTI",),
    ("FLUSHALL",),
    ("EXEC", "FLUSHALL"),
    ("MULTI",),
    ("PUBLISH channel message",),
    ("EXEC",),
    ("PUBLISH channel message",),
)

test_effects_of_scripts = effects_table(
    ('EVAL "return 1" 0',),
    ("EVAL \"return redis.call('set', KEYS[1], 'v')\" 1 k", "set k v"),
    ("EVAL \"redis.call('SET', KEYS[1], 'v') redis.call('incr', 'n')\" 1 k", "MULTI", "SET k v", "incr n", "EXEC"),
    ("EVAL \"redis.call('SET', KEYS[1], 'v', 'EX', 100)\" 1 k", "SET k v PXAT <now+100000>"),
    (
        "EVAL \"redis.call('SADD', 's', 'a', 'b', 'c') return redis.call('SPOP', 's', 2)\" 0",
        "MULTI", "SADD s a b c", "SREM s <0>", "SREM s <1>", "EXEC",
    ),
    ("EVAL \"redis.call('SET', 'k', 'v') error('x')\" 0", "SET k v"),
    ("EVAL \"return redis.pcall('INCR', 'k')\" 0",),
    ("EVAL \"redis.call('FLUSHALL') redis.call('SET', 'a', 'b')\" 0", "MULTI", "FLUSHALL", "SET a b", "EXEC"),
    ("EVAL \"redis.call('PUBLISH', 'c', 'm') redis.call('SET', 'm', 'x')\" 0", "SET m x"),
    ("SCRIPT LOAD \"return redis.call('SET', 'loaded', 'v')\"",),
    ("EVALSHA 43c2e3cfa8e3e8e28f2ac6f3e15b0cf05a9ac6b4 0",),
    ("SCRIPT FLUSH",),
)  # fmt: skip

test_scripts_may_choose_whom_their_effects_reach = effects_table(
    ("EVAL \"redis.set_repl(redis.REPL_NONE) redis.call('SET', 'k', 'v')\" 0",),
    ("EVAL \"redis.set_repl(redis.REPL_AOF) redis.call('SET', 'k', 'v')\" 0", "SET k v"),
    ("EVAL \"redis.set_repl(redis.REPL_SLAVE) redis.call('SET', 'k', 'v')\" 0",),
    (
        "EVAL \"redis.call('SET', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('SET', 'b', 1) "
        "redis.set_repl(redis.REPL_ALL) redis.call('SET', 'c', 1)\" 0",
        "MULTI", "SET a 1", "SET c 1", "EXEC",
    ),
    ("EVAL \"redis.set_repl(redis.REPL_NONE) redis.call('SPOP', 'none') redis.call('INCRBYFLOAT', 'f', 1)\" 0",),
    ("EVAL \"return redis.replicate_commands()\" 0",),
    ("EVAL \"redis.replicate_commands() redis.call('SET', 'k', 'v')\" 0", "SET k v"),
)  # fmt: skip

_LIBRARY = "#!lua name=one\\nredis.register_function('w', function(k, a) return redis.call('SET', k[1], a[1]) end)"

test_effects_of_functions = effects_table(
    f'FUNCTION LOAD "{_LIBRARY}"',
    (f'FUNCTION LOAD "{_LIBRARY}"',),
    f'function load replace "{_LIBRARY}"',
    ("FCALL w 1 k v", "SET k v"),
    ("FUNCTION LIST",),
    ("FUNCTION DUMP",),
    "FUNCTION DELETE one",
    ("FUNCTION DELETE one",),
    "FUNCTION FLUSH",
    "function flush async",
)


def test_effects_of_function_restore(effects):
    with effects.client() as client:
        client("FUNCTION", "LOAD", "#!lua name=one\nredis.register_function('w', function() return 1 end)")
        payload = client("FUNCTION DUMP")
        effects.take()
        for command in (("FUNCTION", "RESTORE", payload, "FLUSH"), ("FUNCTION", "RESTORE", payload, "REPLACE")):
            assert client(*command) == OK
            assert effects.take(1) == [words_of(command)]
        assert isinstance(client("FUNCTION", "RESTORE", payload), Error)
        assert effects.take() == []


test_effects_when_memory_is_freed_lazily = effects_table(
    ("CONFIG SET lazyfree-lazy-user-del yes",),
    "SET k v",
    ("GETDEL k", "UNLINK k"),
    "SET k v",
    "DEL k",
    "SET k v",
    ("EXPIRE k -1", "DEL k"),
    "SADD s a b",
    ("SPOP s 2", "DEL s"),
    ("CONFIG SET lazyfree-lazy-user-del no lazyfree-lazy-expire yes",),
    "SET k v",
    ("GETDEL k", "DEL k"),
    "SET k v",
    ("EXPIRE k -1", "UNLINK k"),
    "SET k v",
    ("GETEX k PXAT 1", "UNLINK k"),
    "SET k v",
    ("CONFIG SET lazyfree-lazy-expire no lazyfree-lazy-server-del yes",),
    ("GETEX k PXAT 1", "DEL k"),
    "SADD s a b",
    ("SPOP s 2", "DEL s"),
)


# ---- what happens beside commands, and to those who wait ----


def expect(effects, *lines, since=None, reply=None):
    """Fails unless these, and no others, are the next records."""
    wanted = [words_of(line) for line in lines]
    found = effects.take(len(wanted))
    since = since or unix_ms()
    agree = [record_agrees(*pair, reply, since, unix_ms()) for pair in zip(wanted, found)]
    assert len(found) == len(wanted) and all(agree), (
        "".join(f"\n    expected {line}" for line in lines or ["nothing"])
        + "".join(f"\n    got      {line}" for line in map(shown, found) or ["nothing"])
    )


def expired(client, *keys):
    """Sets these keys, waits until their time is over, and keeps the server from noticing by itself."""
    assert client("DEBUG SET-ACTIVE-EXPIRE 0") == OK
    for key in keys:
        assert client("SET", key, "v", "PX", "5") == OK
    until = unix_ms() + 20
    eventually(lambda: unix_ms() > until)


E, F, G = "{one}e", "{one}f", "{one}g"
"""Keys of one slot: what is found expired on its way to another shard is recorded before the command as a whole."""


@pytest.mark.parametrize(
    "command, records",
    [
        (f"GET {E}", [f"DEL {E}"]),
        (f"EXISTS {E}", [f"DEL {E}"]),
        (f"TTL {E}", [f"DEL {E}"]),
        (f"TYPE {E}", [f"DEL {E}"]),
        (f"DEL {E}", [f"DEL {E}"]),
        (f"GETDEL {E}", [f"DEL {E}"]),
        (f"SET {E} w", ["MULTI", f"DEL {E}", f"SET {E} w", "EXEC"]),
        (f"SET {E} w EX 100", ["MULTI", f"DEL {E}", f"SET {E} w PXAT <now+100000>", "EXEC"]),
        (f"SET {E} w XX", [f"DEL {E}"]),
        (f"SETNX {E} w", ["MULTI", f"DEL {E}", f"SETNX {E} w", "EXEC"]),
        (f"GETSET {E} w", ["MULTI", f"DEL {E}", f"SET {E} w", "EXEC"]),
        (f"INCR {E}", ["MULTI", f"DEL {E}", f"INCR {E}", "EXEC"]),
        (f"INCRBYFLOAT {E} 1", ["MULTI", f"DEL {E}", f"SET {E} 1 KEEPTTL", "EXEC"]),
        (f"SADD {E} a", ["MULTI", f"DEL {E}", f"SADD {E} a", "EXEC"]),
        (f"HINCRBYFLOAT {E} f 1", ["MULTI", f"DEL {E}", f"HSET {E} f 1", "EXEC"]),
        (f"XADD {E} 5-* f v", ["MULTI", f"DEL {E}", f"XADD {E} 5-0 f v", "EXEC"]),
        (f"MGET {E} {F}", ["MULTI", f"DEL {E}", f"DEL {F}", "EXEC"]),
        (f"MSET {E} 1 {F} 1", ["MULTI", f"DEL {E}", f"DEL {F}", f"MSET {E} 1 {F} 1", "EXEC"]),
        (f"RENAME {E} {F}", [f"DEL {E}"]),
        (f"EXPIRE {E} 10", [f"DEL {E}"]),
        (f"LPOP {E}", [f"DEL {E}"]),
        (f"EVAL \"return redis.call('GET', KEYS[1])\" 1 {E}", [f"DEL {E}"]),
        (
            f"EVAL \"redis.call('SET', KEYS[2], 'v') return redis.call('GET', KEYS[1])\" 2 {E} {G}",
            ["MULTI", f"SET {G} v", f"DEL {E}", "EXEC"],
        ),
        (f"EVAL \"redis.set_repl(redis.REPL_NONE) return redis.call('GET', KEYS[1])\" 1 {E}", [f"DEL {E}"]),
    ],
)
def test_a_key_that_a_command_finds_expired_is_deleted_before_it(effects, command, records):
    with effects.client() as client:
        expired(client, E, F)
        expect(effects, f"SET {E} v PXAT <now>", f"SET {F} v PXAT <now>")
        client(command)
        expect(effects, *records)


def test_keys_that_a_block_finds_expired_are_deleted_in_its_place(effects):
    with effects.client() as client:
        expired(client, E, F)
        effects.take(2)
        client.pipeline("MULTI", f"GET {E}", f"INCR {G}", f"GET {F}", "EXEC")
        expect(effects, "MULTI", f"DEL {E}", f"INCR {G}", f"DEL {F}", "EXEC")


def test_keys_that_a_command_finds_expired_on_several_shards_are_deleted_before_it(effects):
    with effects.client() as client:
        expired(client, "a", "b", "c")
        effects.take(3)
        assert client("MSET a 1 b 1 c 1") == OK
        records = [shown(record) for record in effects.take()]
        records = [record for record in records if record not in ("MULTI", "EXEC")]
        assert sorted(records[:3]) == ["DEL a", "DEL b", "DEL c"]
        assert records[3:] == ["MSET a 1 b 1 c 1"]


@pytest.mark.parametrize("lazily, verb", [("no", "DEL"), ("yes", "UNLINK")])
def test_a_key_whose_time_is_over_is_deleted_without_any_command(effects, lazily, verb):
    with effects.client() as client:
        assert client("CONFIG", "SET", "lazyfree-lazy-expire", lazily) == OK
        client("SET e v PX 5")
        expect(effects, "SET e v PXAT <now>", f"{verb} e")


@pytest.mark.parametrize("lazily, verb", [("no", "DEL"), ("yes", "UNLINK")])
def test_evicted_keys_are_deleted_before_the_command_that_needs_their_room(effects, lazily, verb):
    with effects.client() as client:
        client("CONFIG", "SET", "lazyfree-lazy-eviction", lazily)
        keys = {b"key:%d" % number for number in range(50)}
        for key in keys:
            client("SET", key, "x" * 1000)
        effects.take(50)
        assert client("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1") == OK
        client("SET new v")
        evicted = eventually(lambda: effects.take() or None)
        client("CONFIG", "SET", "maxmemory", "0")
        evicted += effects.take()
        alone = [record for record in evicted if record not in ([b"MULTI"], [b"EXEC"], [b"SET", b"new", b"v"])]
        assert alone, evicted
        for record in alone:
            assert record[0] == verb.encode() and len(record) == 2 and record[1] in keys | {b"new"}, evicted
        left = {key for key in keys if client("EXISTS", key)}
        assert {record[1] for record in alone} - {b"new"} == keys - left


def waiting(effects, *commands):
    """Clients that wait, one for each command."""
    clients = []
    for number, command in enumerate(commands, 1):
        clients.append(effects.client())
        clients[-1].send(command)
        eventually(lambda: effects.server.info("clients")["blocked_clients"] == str(number))
    return clients


@pytest.mark.parametrize(
    "waits, push, records",
    [
        (["BLPOP a l 0"], "RPUSH l x y", ["RPUSH l x y", "LPOP l"]),
        (["BRPOP l 0"], "rpush l x", ["rpush l x", "RPOP l"]),
        (["BLPOP l 0", "BLPOP l 0"], "RPUSH l x y z", ["RPUSH l x y z", "LPOP l", "LPOP l"]),
        (["BRPOPLPUSH l m 0"], "RPUSH l x", ["RPUSH l x", "RPOPLPUSH l m"]),
        (["BLMOVE l m LEFT RIGHT 0"], "RPUSH l x", ["RPUSH l x", "LMOVE l m left right"]),
        (["BLMOVE l m RIGHT LEFT 0"], "RPUSH l x", ["RPUSH l x", "LMOVE l m right left"]),
        (
            ["BRPOPLPUSH l m 0", "BLMOVE m n LEFT RIGHT 0"], "RPUSH l x y",
            ["RPUSH l x y", "RPOPLPUSH l m", "LMOVE m n left right"],
        ),
        (["BLMPOP 0 2 a l LEFT COUNT 2"], "LPUSH l x y z", ["LPUSH l x y z", "LPOP l 2"]),
        (["BLMPOP 0 1 l RIGHT"], "LPUSH l x", ["LPUSH l x", "RPOP l 1"]),
        (["BLMPOP 0 1 l RIGHT COUNT 5"], "LPUSH l x y", ["LPUSH l x y", "RPOP l 2"]),
        (
            ["BZPOPMIN a z 0", "BZMPOP 0 1 z MAX COUNT 3", "BZPOPMAX z 0"], "ZADD z 1 x 2 y 3 v",
            ["ZADD z 1 x 2 y 3 v", "ZPOPMIN z", "ZPOPMAX z 2"],
        ),
        (["BZPOPMAX z 0"], "ZADD z 1 x", ["ZADD z 1 x", "ZPOPMAX z"]),
        (["XREAD BLOCK 0 STREAMS x $"], "XADD x 5-* f v", ["XADD x 5-0 f v"]),
        (
            ["BLPOP l 0"], "EVAL \"redis.call('RPUSH', 'l', 'a', 'b')\" 0",
            ["RPUSH l a b", "LPOP l"],
        ),
        (
            ["BLPOP l 0"], "EVAL \"redis.call('RPUSH', 'l', 'a', 'b') redis.call('SET', 'x', 'y')\" 0",
            ["MULTI", "RPUSH l a b", "SET x y", "EXEC", "LPOP l"],
        ),
    ],
)  # fmt: skip
def test_who_waited_is_served_behind_the_command_that_serves(effects, waits, push, records):
    clients = waiting(effects, *waits)
    expect(effects)
    with effects.client() as client:
        client(push)
        expect(effects, *records)
    for client in clients:
        client.close()


def test_who_waited_is_served_behind_the_block_that_serves(effects):
    clients = waiting(effects, "BLPOP l 0")
    with effects.client() as client:
        client.pipeline("MULTI", "RPUSH l a", "RPUSH l b", "SET in block", "EXEC")
        expect(effects, "MULTI", "RPUSH l a", "RPUSH l b", "SET in block", "EXEC", "LPOP l")
    clients[0].close()


def test_who_waited_for_entries_is_served_behind_the_entry(effects):
    with effects.client() as client:
        client.pipeline("XADD y 1 f v", "XGROUP CREATE y g $")
        expect(effects, "XADD y 1 f v", "XGROUP CREATE y g $")
        clients = waiting(effects, "XREADGROUP GROUP g me BLOCK 0 STREAMS y >", "XREADGROUP GROUP g you BLOCK 0 NOACK STREAMS y >")
        client("XADD y 4 f v")
        expect(effects, "XADD y 4 f v", f"XCLAIM y g me 0 4-0 {_ONCE} 4-0")
        client("XADD y 5 f v")
        expect(effects, "XADD y 5 f v", "MULTI", "XGROUP CREATECONSUMER y g you", "XGROUP SETID y g 5-0 ENTRIESREAD 3", "EXEC")
        for waiter in clients:
            waiter.close()


def test_who_waited_is_served_in_its_own_database(effects):
    clients = waiting(effects, "BLPOP l 0")
    with effects.client() as client:
        client.pipeline("SELECT 3", "RPUSH l a", "MOVE l 0")
        expect(effects, "SELECT 3", "RPUSH l a", "MOVE l 0", "SELECT 0", "LPOP l")
    clients[0].close()


def test_who_gets_nothing_leaves_no_record(effects):
    clients = waiting(effects, "BLMOVE l wrong LEFT LEFT 0", "BZPOPMIN k 0")
    with effects.client() as client:
        for command in ("SET wrong v", "RPUSH l x", "RPUSH other x", "RENAME other k"):
            client(command)
        expect(effects, "SET wrong v", "RPUSH l x", "RPUSH other x", "RENAME other k")
    for waiter in clients:
        waiter.close()
