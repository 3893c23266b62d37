"""Which of its timeouts a client has passed that has a server. Decides; what is done about it is the client's part.

Times are those of the worker's ticks, so a timeout may come a tick late or early.
"""

from typing import Final

from middleware.config import ClientPolicy
from middleware.errors import TimedOut
from middleware.sqlstate import (
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    IDLE_SESSION_TIMEOUT,
    QUERY_CANCELED,
    TRANSACTION_TIMEOUT,
)

NOTHING: Final = 0
IDLE_FOR_TOO_LONG: Final = 1
QUERY_TOO_LONG: Final = 2
TRANSACTION_TOO_LONG: Final = 3
TRANSACTION_IDLE_FOR_TOO_LONG: Final = 4


def passed(
    limits: ClientPolicy,
    now: float,
    since: float,
    asked_at: float,
    sent_at: float,
    answered_at: float,
    awaited: bool,
    open_: bool,
) -> int:
    """The timeout that a client with a server has passed.

    since: when its transaction began, or its statement outside one. asked_at: when the statement that runs was sent, or
    the one before it was answered. sent_at, answered_at: when it last sent something,
    and last had all its answers. awaited: it waits for an answer. open_: in a transaction.
    """
    if (open_ or awaited) and limits.transaction_s and now - since >= limits.transaction_s:
        return TRANSACTION_TOO_LONG
    if awaited:
        return QUERY_TOO_LONG if limits.query_s and now - asked_at >= limits.query_s else NOTHING
    idle_s = now - max(sent_at, answered_at)
    if open_:
        over = limits.idle_transaction_s and idle_s >= limits.idle_transaction_s
        return TRANSACTION_IDLE_FOR_TOO_LONG if over else NOTHING
    return IDLE_FOR_TOO_LONG if limits.idle_s and idle_s >= limits.idle_s else NOTHING


def idle_too_long(limits: ClientPolicy) -> TimedOut:
    return TimedOut(
        "terminating connection due to client_idle_timeout",
        detail=f"Nothing was sent for {limits.idle_s:g} s.",
        sqlstate=IDLE_SESSION_TIMEOUT,
    )


def query_too_long(limits: ClientPolicy) -> TimedOut:
    """A statement that was canceled, and has not ended."""
    return TimedOut(
        "terminating connection due to query_timeout",
        detail=f"The statement has run for more than {limits.query_s:g} s, and could not be canceled.",
        sqlstate=QUERY_CANCELED,
    )


def transaction_too_long(limits: ClientPolicy) -> TimedOut:
    return TimedOut(
        "terminating connection due to transaction_timeout",
        detail=f"The transaction has lasted for {limits.transaction_s:g} s, and is rolled back.",
        sqlstate=TRANSACTION_TIMEOUT,
    )


def transaction_idle_too_long(limits: ClientPolicy) -> TimedOut:
    return TimedOut(
        "terminating connection due to idle_transaction_timeout",
        detail=f"Nothing was sent for {limits.idle_transaction_s:g} s within a transaction, which is rolled back.",
        sqlstate=IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    )
