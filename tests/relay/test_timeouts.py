"""Which timeout has been passed."""

import pytest

from middleware.config import ClientPolicy
from middleware.relay.timeouts import (
    IDLE_FOR_TOO_LONG,
    NOTHING,
    QUERY_TOO_LONG,
    TRANSACTION_IDLE_FOR_TOO_LONG,
    TRANSACTION_TOO_LONG,
    passed,
)

LIMITS = ClientPolicy(idle_s=50.0, query_s=10.0, transaction_s=30.0, idle_transaction_s=5.0)


@pytest.mark.parametrize(
    ("since", "asked_at", "sent_at", "answered_at", "awaited", "open_", "expected"),
    [
        (95.0, 95.0, 95.0, 0.0, True, False, NOTHING),
        (90.0, 90.0, 90.0, 0.0, True, False, QUERY_TOO_LONG),
        # It goes on sending while its statement runs.
        (90.0, 90.0, 99.0, 0.0, True, False, QUERY_TOO_LONG),
        # The one before was answered meanwhile.
        (90.0, 95.0, 90.0, 95.0, True, True, NOTHING),
        (70.0, 95.0, 95.0, 0.0, True, True, TRANSACTION_TOO_LONG),
        (70.0, 70.0, 70.0, 0.0, True, False, TRANSACTION_TOO_LONG),
        (90.0, 90.0, 90.0, 96.0, False, True, NOTHING),
        (90.0, 90.0, 90.0, 95.0, False, True, TRANSACTION_IDLE_FOR_TOO_LONG),
        (90.0, 90.0, 96.0, 95.0, False, True, NOTHING),
        (70.0, 70.0, 99.0, 99.0, False, True, TRANSACTION_TOO_LONG),
        (10.0, 10.0, 10.0, 51.0, False, False, NOTHING),
        (10.0, 10.0, 10.0, 50.0, False, False, IDLE_FOR_TOO_LONG),
    ],
)
def test_a_timeout_is_passed(
    since: float, asked_at: float, sent_at: float, answered_at: float, awaited: bool, open_: bool, expected: int
) -> None:
    assert passed(LIMITS, 100.0, since, asked_at, sent_at, answered_at, awaited, open_) == expected
    assert passed(ClientPolicy(), 100.0, since, asked_at, sent_at, answered_at, awaited, open_) == NOTHING
