"""Waiting without sleeping longer than needed."""

import time

DEADLINE_SECONDS = 10.0


def eventually(check, seconds=DEADLINE_SECONDS, every=0.01):
    """Calls check() until it returns something true, and returns that; fails at the deadline.

    An AssertionError inside check() counts as "not yet" and is what the failure shows.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = None
        try:
            value = check()
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {seconds} s") from last
        time.sleep(every)
