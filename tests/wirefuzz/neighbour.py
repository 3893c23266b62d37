"""Clients that do nothing wrong, beside those that do: what they must be answered is known beforehand."""

from collections.abc import Callable
from typing import Final

from middleware.wire.backend import BindComplete, CommandComplete, DataRow, ParseComplete, ReadyForQuery
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import Bind, Execute, Parse, Query, Sync
from tests.wirefuzz.client import MESSAGE_BYTES_MAX, UNHEARD, MemoryClient
from tests.wirefuzz.corpus import startup

ZONES: Final = ("Asia/Tokyo", "America/Lima")


class Neighbour:
    """One of them, with settings of its own."""

    def __init__(self, enter: Callable[[MemoryClient], MemoryClient], number: int) -> None:
        self._client: Final = MemoryClient()
        self._enter: Final = enter
        self._number: Final = number
        self._asked = 0
        self._from = 0
        self._expected = b""
        self.asking = False

    def begin(self) -> None:
        """Log in."""
        self._enter(self._client)
        self._client.send(
            startup(application_name=f"neighbour {self._number}", timezone=ZONES[self._number % len(ZONES)])
        )

    def ask(self) -> None:
        """Send the next statements, unless some are not answered."""
        if self.asking:
            return
        self.asking = True
        self._asked += 1
        self._from = len(self._client.heard)
        sent, expected = self._exchange()
        self._expected = b"".join(one.encode() for one in expected)
        self._client.send(b"".join(one.encode() for one in sent))

    def _exchange(self) -> tuple[list[Message], list[Message]]:
        number, who = self._asked, b"neighbour %d" % self._number
        zone = ZONES[self._number % len(ZONES)].encode()
        turn = number % 4
        if turn == 0:
            return [Query(b"show application_name")], _rows(who)
        if turn == 1:
            text = b"select '%s says %d'" % (who, number % 500)
            return [Parse(b"mine", text), Bind(b"", b"mine"), Execute(), Sync()], [
                ParseComplete(),
                BindComplete(),
                *_answer(text),
                ReadyForQuery(b"I"),
            ]
        if turn == 2:
            # What was parsed as "mine" is closed in the same batch, for the next round to parse it anew.
            text = b"select '%s says %d'" % (who, (number - 1) % 500)
            return [Bind(b"", b"mine"), Execute(), Sync(), Query(b"deallocate mine")], [
                BindComplete(),
                *_answer(text),
                ReadyForQuery(b"I"),
                CommandComplete(b"DEALLOCATE"),
                ReadyForQuery(b"I"),
            ]
        return [Query(b"begin"), Query(b"show timezone"), Query(b"commit")], [
            CommandComplete(b"BEGIN"),
            ReadyForQuery(b"T"),
            *_rows(zone, b"T"),
            CommandComplete(b"COMMIT"),
            ReadyForQuery(b"I"),
        ]

    def waits(self) -> bool:
        """Whether its answer is still due."""
        return not self._client.closed and len(self._heard()) < len(self._expected)

    def _heard(self) -> bytes:
        """The answer so far, without what is told at any time and what describes rows."""
        found = Framer(MESSAGE_BYTES_MAX).feed(bytes(self._client.heard[self._from :]))
        return b"".join(
            bytes([code]) + (len(body) + 4).to_bytes(4, "big") + body
            for code, body in found
            if code not in UNHEARD and code != ord("T")
        )

    def check(self) -> str:
        """What is wrong with the answer; "" if nothing is. It may ask again then."""
        self.asking = False
        heard = self._heard()
        del self._client.heard[:]
        if heard == self._expected and not self._client.closed:
            return ""
        state = ", and is closed" if self._client.closed else ""
        return f"number {self._number} asked for {self._expected!r} and was told {heard!r}{state}"


def _answer(row: bytes) -> list[Message]:
    return [DataRow((row,)), CommandComplete(b"SELECT 1")]


def _rows(row: bytes, status: bytes = b"I") -> list[Message]:
    return [*_answer(row), ReadyForQuery(status)]
