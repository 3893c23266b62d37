"""Conversations with the endpoint in words: what is answered, in which state, and by which node.

What a client hears is told as a word for each row (a node's name as `primary` or `standby`), an error as `!SQLSTATE`,
a suspended portal as `..`, and the state of each ReadyForQuery: I idle, T in a transaction, E in a failed one.
"""

from collections.abc import Iterable
from typing import Final, Self

from middleware.wire.backend import DataRow, ErrorResponse, PortalSuspended, ReadyForQuery
from middleware.wire.fields import Message
from middleware.wire.frontend import Bind, Describe, Execute, Parse, Query, StartupMessage, Sync
from tests.differential.raw_client import Address, Ending, RawClient

SYNC: Final = Sync().encode()


def run(*statements: str) -> bytes:
    """Parse, Bind, Describe and Execute of each; no Sync."""
    return b"".join(
        Parse(b"", sql.encode()).encode() + Bind().encode() + Describe(b"P").encode() + Execute().encode()
        for sql in statements
    )


def queries(*statements: str) -> bytes:
    """A Query of each, in one write."""
    return b"".join(Query(sql.encode()).encode() for sql in statements)


class Talk:
    """A client that tells what it hears in words. A context manager."""

    def __init__(self, address: Address, **settings: str) -> None:
        self._client = RawClient(address)
        parameters = {"user": address.user, "database": address.database, **settings}
        self._startup = StartupMessage(tuple((name.encode(), value.encode()) for name, value in parameters.items()))

    def __enter__(self) -> Self:
        _, ending = self._client.log_in(self._startup.encode())
        assert ending is Ending.ENOUGH
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__(None, None, None)

    def say(self, what: str | bytes) -> str:
        """Send a Query, or bytes that hold as many batches as they say; everything up to the last ReadyForQuery."""
        data = queries(what) if isinstance(what, str) else what
        return words(self.hear(data, batches_in(data)))

    def hear(self, data: bytes, batches: int) -> list[Message]:
        """Send bytes; all messages up to and with so many ReadyForQuery."""
        self._client.send(data)
        came, ending = self._client.read(batches)
        assert ending is Ending.ENOUGH, [*came, ending]
        return came

    def send(self, data: bytes) -> None:
        """Send bytes, and wait for nothing."""
        self._client.send(data)


def batches_in(data: bytes) -> int:
    """How many ReadyForQuery messages are due: one for each Sync and Query."""
    batches = position = 0
    while position < len(data):
        batches += data[position : position + 1] in (b"Q", b"S")
        position += 1 + int.from_bytes(data[position + 1 : position + 5], "big")
    return batches


def words(came: Iterable[Message]) -> str:
    return " ".join(word for message in came if (word := word_for(message)))


def word_for(message: Message) -> str:
    if isinstance(message, ReadyForQuery):
        return message.status.decode()
    if isinstance(message, ErrorResponse):
        return f"!{message.field(b'C').decode()}"
    if isinstance(message, PortalSuspended):
        return ".."
    if isinstance(message, DataRow):
        values = ["NULL" if value is None else value.decode() for value in message.values]
        return ",".join({"db1": "primary", "db2": "standby", "db3": "standby"}.get(value, value) for value in values)
    return ""
