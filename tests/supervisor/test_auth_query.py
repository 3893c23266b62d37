"""auth_query against a real node, and one that accepts connections and says nothing: who waits for whom."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import pytest

from healthcheck.line import Credentials
from healthcheck.topology import Node, Role, Topology
from middleware.auth.made_up import ASKED_NONE, derived
from middleware.control import SetSecret
from middleware.sandbox import Sandbox
from middleware.supervisor.auth_query import LINES, AuthQuery

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

SEED: Final = b"seed"
SCRAM: Final = "SCRAM-SHA-256$10000:AAAAAAAAAAAAAAAAAAAAAA==$" + ":".join(["A" * 43 + "="] * 2)
QUERY: Final = f"""
SELECT name, CASE WHEN name LIKE 'plain%' THEN 'pencil' ELSE '{SCRAM}' END
FROM (SELECT $1::text AS name, CASE WHEN $1 LIKE 'slow%' THEN pg_sleep(4) END) asked WHERE name NOT LIKE 'nobody%'
"""
TIMEOUT_S: Final = 8.0


class Asked:
    """An AuthQuery, the nodes that it may ask, and what it has answered."""

    def __init__(self, cluster: Sandbox, timeout_s: float) -> None:
        self.nodes: tuple[Node, ...] = ()
        self.answers: dict[str, SetSecret] = {}
        credentials = Credentials("app", cluster.passwords["app"], "app")
        self.query = AuthQuery(lambda: credentials, QUERY, lambda: Topology(1, self.nodes), self._take, timeout_s, SEED)

    def _take(self, answer: SetSecret) -> None:
        assert answer.user not in self.answers
        self.answers[answer.user] = answer

    def ask(self, *users: str) -> None:
        for user in users:
            self.query.wanted(user)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(30):
            while not condition():
                await anyio.sleep(0.005)

    async def answers_to(self, *users: str) -> list[SetSecret]:
        self.ask(*users)
        await self.until(lambda: self.answers.keys() >= set(users))
        return [self.answers.pop(user) for user in users]


@asynccontextmanager
async def asking(cluster: Sandbox, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Asked]:
    asked = Asked(cluster, timeout_s)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked.query.run)
        yield asked
        tasks.cancel_scope.cancel()


def real(cluster: Sandbox, role: Role = Role.PRIMARY, name: str = "real") -> Node:
    return Node(name, cluster.primary.host, cluster.primary.port, role, True)


class Hung:
    """Accepts connections, and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._socket.setblocking(False)
        self._accepted: list[socket.socket] = []

    def node(self) -> Node:
        return Node("hung", "127.0.0.1", self._socket.getsockname()[1], Role.PRIMARY, True)

    def connections(self) -> int:
        """How many there were."""
        while True:
            try:
                self._accepted.append(self._socket.accept()[0])
            except BlockingIOError:
                return len(self._accepted)

    def close(self) -> None:
        for one in (self._socket, *self._accepted):
            one.close()


@pytest.fixture
def hung() -> Iterator[Hung]:
    made = Hung()
    yield made
    made.close()


async def test_a_slow_answer_keeps_nobody_waiting(cluster: Sandbox) -> None:
    async with asking(cluster) as asked:
        asked.nodes = (real(cluster),)
        asked.ask(*(f"slow{number}" for number in range(LINES - 1)))
        (ann,) = await asked.answers_to("ann")
        assert (ann.exists, ann.failed) == (True, False)
        assert not asked.answers
        await asked.until(lambda: len(asked.answers) == LINES - 1)
        assert not any(answer.failed for answer in asked.answers.values())


async def test_a_question_that_is_not_answered_is_asked_once(cluster: Sandbox, hung: Hung) -> None:
    """And those behind it fail with it, not one after the other; then the node speaks again."""
    async with asking(cluster, 1.0) as asked:
        asked.nodes = (hung.node(),)
        begun = time.monotonic()
        users = [f"user{number}" for number in range(50)]
        assert all(answer.failed for answer in await asked.answers_to(*users))
        # One after the other, they would take 50 s, and in fours 12.
        assert time.monotonic() - begun < 6
        # One of those that came later finds out whether it speaks again.
        assert LINES <= hung.connections() <= 2 * LINES
        asked.nodes = (real(cluster, name="hung"),)
        assert [answer.failed for answer in await asked.answers_to("ann")] == [False]
        assert not any(answer.failed for answer in await asked.answers_to(*users))


async def test_a_standby_is_asked_in_place_of_a_silent_primary(cluster: Sandbox, hung: Hung) -> None:
    async with asking(cluster, 1.0) as asked:
        asked.nodes = (hung.node(), real(cluster, Role.STANDBY))
        users = [f"user{number}" for number in range(50)]
        answers = await asked.answers_to(*users)
        assert [answer.failed for answer in answers] == [True] * LINES + [False] * (50 - LINES)
        assert hung.connections() == LINES


async def test_nobody_looks_as_most_who_were_asked_for(cluster: Sandbox) -> None:
    async with asking(cluster) as asked:
        asked.nodes = (real(cluster),)
        (nobody,) = await asked.answers_to("nobody")
        assert (nobody.exists, nobody.nobody) == (False, ASKED_NONE)
        (ann,) = await asked.answers_to("ann")
        assert ann.nobody is not None
        assert (ann.nobody.kind, ann.nobody.iterations, ann.verifier) == ("scram", 10_000, None)
        plain = [f"plain{number}" for number in range(3)]
        answers = await asked.answers_to(*plain)
        assert [answer.verifier for answer in answers] == [derived(SEED, user, "pencil") for user in plain]
        (later,) = await asked.answers_to("nobody")
        assert later.nobody is not None
        assert (later.nobody.kind, later.nobody.derives, later.verifier) == ("plain", True, None)
