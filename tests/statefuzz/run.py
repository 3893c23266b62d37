"""One run from beginning to end: databases, endpoint, clients and their steps, over a cluster that is there."""

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from middleware.sandbox import Sandbox
from tests.conftest import pointsman
from tests.differential.raw_client import Address
from tests.statefuzz import world
from tests.statefuzz.pair import Difference
from tests.statefuzz.phrase import Phrase, Speaker, Weighted
from tests.statefuzz.play import WAIT_TIMEOUT_S, Players
from tests.statefuzz.shrink import shrink
from tests.statefuzz.step import Step, next_step
from tests.statefuzz.tally import Tally

SPARE_SERVERS: Final = 2
"""Servers that no client keeps: one for the others, and one that is being cleaned."""
REPLAYED: Final = 2_000
"""Steps in front of a difference that it is looked for in."""


class Plant(Enum):
    """A leak to be found."""

    NONE = "none"
    ALLOW = "allow"
    """The setting session_state.settings: what was SET is lost."""
    HIDDEN = "hidden"
    """A function that sets what neither its text nor pg_settings shows."""


class Plan(NamedTuple):
    """What to run. The same seed makes the same choices, as long as the answers are the same."""

    operations: int
    clients: int = 12
    pool_size: int = 8
    seed: int = 0
    differences_max: int = 1
    """Stop there."""
    plant: Plant = Plant.NONE
    self_check: bool = False
    """The direct connection in place of the endpoint."""
    shrink: bool = False
    """Look for the fewest steps that lead to a difference."""


def run(
    cluster: Sandbox,
    directory: Path,
    plan: Plan,
    done: Callable[[], None] = lambda: None,
    found: Callable[[Difference], None] = lambda _: None,
) -> Tally:
    """Run the operations; `done` is called after each, `found` at a difference. The cluster is left as it was."""
    with (
        world.databases(cluster, plan.clients),
        endpoint_for(cluster, directory, plan) as endpoint,
        contextlib.closing(world.Observer(cluster)) as observer,
    ):
        players = Players(cluster, observer, endpoint, plan.clients)
        try:
            return _run(players, plan, done, found)
        finally:
            players.close()


@contextlib.contextmanager
def endpoint_for(cluster: Sandbox, directory: Path, plan: Plan) -> Iterator[Address]:
    if plan.self_check:
        yield world.address(cluster, world.SHARED, cluster.user)
        return
    settings: dict[str, Any] = {"session_state.settings": "allow"} if plan.plant is Plant.ALLOW else {}
    # One worker: the bound on servers is then one for all clients.
    settings |= {"workers": 1, "default_pool_size": plan.pool_size, "query_wait_timeout": WAIT_TIMEOUT_S}
    with pointsman(cluster, directory, **settings) as running:
        yield Address(running.host, running.port, running.user, running.password, world.SHARED)


def _leave(by: Speaker) -> Phrase:
    return Phrase("planted", f"SELECT leave('fuzz.b', '{by.rng.randint(1, 9)}')")


def _run(players: Players, plan: Plan, done: Callable[[], None], found: Callable[[Difference], None]) -> Tally:
    tally, rng, began = Tally(plan.seed), random.Random(plan.seed), time.monotonic()
    plant: Weighted = ((_leave, 1),) if plan.plant is Plant.HIDDEN else ()
    lately: deque[Step] = deque(maxlen=REPLAYED)
    fresh = players.start(rng, lately)
    while fresh is None and tally.operations < plan.operations and len(tally.differences) < plan.differences_max:
        pair = rng.choice(players.pairs)
        pinned, occupied = players.pinned(), players.occupied()
        tally.look(len(players.pairs), pinned, occupied - pinned)
        may_occupy = pair.occupied or occupied < plan.pool_size - SPARE_SERVERS
        step = next_step(rng, pair, may_occupy=may_occupy, plant=plant)
        lately.append(step)
        tally.count(step, pair)
        difference = players.play(step)
        tally.errors += pair.failed
        if difference is not None:
            tally.differences.append(_looked_into(players, list(lately), difference) if plan.shrink else difference)
            found(tally.differences[-1])
            lately.clear()
            fresh = players.start(rng, lately)
        done()
    tally.servers = players.observer.servers()
    players.close()
    left = players.observer.locks_left()
    for last in (fresh, Difference("locks", -1, "the end of all sessions", (left,), (), ()) if left else None):
        if last is not None:
            tally.differences.append(last)
            found(last)
    tally.notifications = players.notifications()
    tally.wall_s = time.monotonic() - began
    return tally


def _looked_into(players: Players, steps: list[Step], difference: Difference) -> Difference:
    """With the fewest steps in place of the client's history, if they can be found."""
    fewest = shrink(players, steps, difference)
    return difference._replace(fewest=tuple(f"client {step.client}: {step.shown}" for step in fewest))
