"""Clients that come, work and go, in every way there is, over far fewer servers."""

import asyncio
import enum
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from middleware.control import slot_of
from middleware.wire.frontend import Query
from tests.load.client import LOGINS_MAX, Account, Answer, Client, Lost, connect
from tests.load.order import Service

STUCK_S: Final = 60.0
"""A client that has no answer by then has been forgotten."""
UNITS_MAX: Final = 12
"""Statements and transactions of a client before it goes."""
TRANSACTIONS: Final = 0.4
"""The share of them that are transactions."""
SLEEPS_MS: Final = (0, 1, 2, 3, 5, 8)


class Way(enum.StrEnum):
    """How a client goes; all but the first without a word, by FIN or RST."""

    TERMINATE = "with Terminate"
    IDLE = "idle"
    TRANSACTION = "in a transaction"
    STATEMENT = "in a statement"
    MESSAGE = "in a message"
    MESSAGE_OF_TRANSACTION = "in a message of a transaction"
    WAITING = "waiting for a server"


class Wrong(Exception):
    """An answer that must not be."""


class Tally:
    """What has happened."""

    def __init__(self) -> None:
        self.logins = 0
        self.services: dict[tuple[int, str, str], list[Service]] = {}
        """By worker, account and port of the node: those of one queue."""
        self.left: Counter[Way] = Counter()
        self.failures: Counter[str] = Counter()

    def count(self) -> int:
        return sum(map(len, self.services.values()))


class Crowd:
    """Clients of some accounts, until `stop` is called."""

    def __init__(self, accounts: Sequence[tuple[str, Account]], clients: int, seed: int) -> None:
        self._accounts: Final = accounts
        self._clients: Final = clients
        self._seed: Final = seed
        self._logins: Final = asyncio.Semaphore(LOGINS_MAX)
        self._over = False
        self.tally: Final = Tally()

    def stop(self) -> None:
        """Let each go at its next turn."""
        self._over = True

    async def run(self) -> None:
        """Until stopped, and all have gone."""
        await asyncio.gather(*[self._live(number) for number in range(self._clients)])

    async def _live(self, number: int) -> None:
        draw = random.Random(self._seed + number)
        name, account = self._accounts[number % len(self._accounts)]
        while not self._over:
            client: Client | None = None
            try:
                async with self._logins, asyncio.timeout(STUCK_S):
                    client = await connect(account)
                self.tally.logins += 1
                await self._work(client, name, number, draw)
            except Lost as lost:
                self.tally.failures[f"connection lost ({lost})"] += 1
            except OSError as error:
                # TimeoutError is one.
                self.tally.failures[f"{type(error).__name__}: {error}"] += 1
            except Wrong as wrong:
                self.tally.failures[str(wrong)] += 1
            finally:
                if client is not None:
                    client.vanish()

    async def _work(self, client: Client, name: str, number: int, draw: random.Random) -> None:
        for _ in range(draw.randint(1, UNITS_MAX)):
            if self._over:
                break
            async with asyncio.timeout(STUCK_S):
                sent = time.time()
                if draw.random() < TRANSACTIONS:
                    await _expect(client, b"BEGIN", b"T")
                    answer = await _expect(client, _read(number, draw), b"T")
                    await _expect(client, b"COMMIT" if draw.random() < 0.8 else b"ROLLBACK", b"I")
                else:
                    answer = await _expect(client, _read(number, draw), b"I")
            self._note(answer, client, name, number, sent)
        async with asyncio.timeout(STUCK_S):
            await self._leave(client, number, draw)

    def _note(self, answer: Answer, client: Client, name: str, number: int, sent: float) -> None:
        _, token, began, port = answer.row
        assert token is not None
        assert began is not None
        assert port is not None
        if int(token) != number:
            raise Wrong("an answer was another client's")
        queue = self.tally.services.setdefault((slot_of(client.process_id), name, port.decode()), [])
        queue.append(Service(sent, float(began)))

    async def _leave(self, client: Client, number: int, draw: random.Random) -> None:
        way = draw.choice(list(Way))
        self.tally.left[way] += 1
        statement = _read(number, draw)
        if way is Way.TERMINATE:
            client.terminate()
            return
        if way in (Way.TRANSACTION, Way.STATEMENT, Way.MESSAGE_OF_TRANSACTION):
            await _expect(client, b"BEGIN", b"T")
        if way is Way.TRANSACTION:
            await _expect(client, statement, b"T")
        elif way is Way.STATEMENT:
            client.begin(b"SELECT pg_sleep(0.2)")
        elif way is Way.WAITING:
            client.begin(statement)
        elif way is not Way.IDLE:
            message = Query(statement).encode()
            client.send(message[: draw.randrange(1, len(message))])
        # Not before it is sent; and long enough for some to have arrived.
        await asyncio.sleep(draw.uniform(0.001, 0.03))
        client.vanish(reset=draw.random() < 0.5)


def _read(number: int, draw: random.Random) -> bytes:
    """A statement that takes its time, and tells when its transaction began and where."""
    sleep_s = draw.choice(SLEEPS_MS) / 1000
    return b"SELECT pg_sleep(%g), %d, extract(epoch FROM now()), inet_server_port()" % (sleep_s, number)


async def _expect(client: Client, sql: bytes, status: bytes) -> Answer:
    answer = await client.query(sql)
    if answer.error:
        raise Wrong(f"ERROR {answer.error}")
    if answer.status != status:
        raise Wrong(f"status {answer.status!r} where {status!r} is due")
    return answer
