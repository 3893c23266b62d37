"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable

POLL_S = 0.02


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return when the condition holds; fail when it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s:g} s"
        time.sleep(POLL_S)
