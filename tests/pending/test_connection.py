"""What waits of test_connection.py: CLIENT GETREDIR."""

from harness import *

test_client_getredir = table(
    ("CLIENT GETREDIR", -1),
)
