"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable

POLL_S = 0.02
WAIT_S = 40.0
"""Longer than WAL may stay unflushed that no commit follows (docs/decisions/0004), and than a standby waits for its
readers before it replays on (max_standby_streaming_delay): what ran before may have left it at that."""


def eventually(condition: Callable[[], bool], timeout_s: float = WAIT_S, told: Callable[[], object] = str) -> None:
    """Return when the condition holds; fail when it does not within the time, with what is `told` then."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s:g} s: {told()}"
        time.sleep(POLL_S)
