"""An order to a real node is carried out while its giver may give it, and not later."""

import math
import time
from collections.abc import Callable

import pytest

from healthcheck.line import Credentials
from healthcheck.promote import Hand, NotAsked
from healthcheck.topology import Node
from middleware.sandbox import Sandbox, SandboxNode

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def hand(sandbox: Sandbox) -> Hand:
    return Hand(lambda: Credentials("postgres", sandbox.passwords["postgres"], "postgres"), 5.0)


def as_node(one: SandboxNode) -> Node:
    return Node(one.name, one.host, one.port)


def stopped_after_it_had_looked() -> float:
    """As if we were stopped between the look at the lease and the order."""
    time.sleep(1.0)
    return 0.5


@pytest.mark.parametrize("left_s", [lambda: 0.0, stopped_after_it_had_looked])
async def test_an_order_that_comes_too_late_is_not_carried_out(sandbox: Sandbox, left_s: Callable[[], float]) -> None:
    standby = sandbox.node("db2")
    with pytest.raises(NotAsked, match="the order came too late"):
        await hand(sandbox).promote(as_node(standby), 10, left_s)
    assert sandbox.query("SELECT pg_is_in_recovery()", standby) == [["t"]]
    # In time it is: within seconds, or whenever where nobody else may.
    await hand(sandbox).promote(
        as_node(standby), 10, lambda: math.inf if left_s is stopped_after_it_had_looked else 30.0
    )
    assert sandbox.query("SELECT pg_is_in_recovery()", standby) == [["f"]]


async def test_who_cannot_be_reached_was_not_asked(sandbox: Sandbox) -> None:
    standby = as_node(sandbox.node("db2"))
    sandbox.node("db2").kill()
    with pytest.raises(NotAsked, match="connection refused"):
        await hand(sandbox).promote(standby, 10, lambda: math.inf)
