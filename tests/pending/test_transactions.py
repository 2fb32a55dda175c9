"""What waits of test_transactions.py: subscriptions and MONITOR."""

from harness import *
from harness import OK

QUEUED = Simple("QUEUED")

test_what_may_not_be_queued = table(
    ("MULTI", OK),
    ("SUBSCRIBE ch", QUEUED),
    ("DISCARD", OK),
    ("MULTI", OK),
    ("MONITOR", one_of(QUEUED, error_like("ERR .*"))),
    ("DISCARD", OK),
)
