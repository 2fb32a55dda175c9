"""What waits of test_same_as_redis.py: templates of commands to come, run by that file's own test."""

import pytest
import test_same_as_redis as present
from test_same_as_redis import reference  # noqa: F401 (a fixture)

from harness.grammar import parse

FAMILIES = {
    "geo": """
        GEOADD <kg> [NX|XX] [CH] (<lon> <lat> <place>)*
        GEOADD <kg> 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
        GEOPOS <kg> (<place>)*
        GEODIST <kg> <place> <place> [<unit>]
        GEOHASH <kg> (<place>)*
        GEOSEARCH <kg> {FROMMEMBER <place>|FROMLONLAT <lon> <lat>} {BYRADIUS <d> <unit>|BYBOX <d> <d> <unit>} {ASC|DESC} [COUNT <i> [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
        GEOSEARCHSTORE <kg> <kg> {FROMMEMBER <place>|FROMLONLAT <lon> <lat>} BYRADIUS <d> <unit> [ASC] [STOREDIST]
        {GEORADIUS|GEORADIUS_RO} <kg> <lon> <lat> <d> <unit> {ASC|DESC} [WITHDIST] [WITHCOORD] [COUNT <c>]
        {GEORADIUSBYMEMBER|GEORADIUSBYMEMBER_RO} <kg> <place> <d> <unit> ASC [WITHHASH]
        ZRANGE <kg> 0 -1 WITHSCORES
        DEL <kg>
    """,
    "hyperloglogs": """
        PFADD <kp> (<m>)*
        PFADD <kp>
        PFCOUNT (<kp>)*
        PFMERGE <kp> (<kp>)*
        GET <kp>
        SET <kp> <v>
        DEL <kp>
    """,
}  # fmt: skip

for _family, _text in FAMILIES.items():
    present.TEMPLATES[_family] = [parse(line) for line in _text.strip().splitlines()]


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_commands_to_come_are_answered_as_by_redis(server, reference, family, protocol):  # noqa: F811
    present.test_random_commands_are_answered_as_by_redis(server, reference, family, protocol)
