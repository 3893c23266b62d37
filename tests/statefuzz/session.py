"""One connection, and what it hears in words that can be compared.

Left out of the words: what names a backend (process ids), tables' OIDs, what Pointsman says in its own name. What may
come at any moment (ParameterStatus, NotificationResponse) is gathered beside them.
"""

import contextlib
import re
import time
from typing import Final

from middleware.wire.backend import (
    CommandComplete,
    DataRow,
    ErrorResponse,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
)
from middleware.wire.fields import Message
from middleware.wire.frontend import Query, StartupMessage, Terminate
from tests.differential.raw_client import Address, Ending, RawClient

LOST: Final = b"X"
"""In place of a transaction status: the connection ended."""
NODE_SETTINGS: Final = frozenset({b"in_hot_standby"})
"""Reported settings that are the node's, not the session's."""
OWN_SQLSTATES: Final = b"01PS"
"""How SQLSTATEs of Pointsman's own warnings begin."""
DEADLINE_S: Final = 20.0

Startup = tuple[tuple[str, str], ...]
Note = tuple[str, str]


def is_error(word: str) -> bool:
    """Whether a word of Session.ask() is an error."""
    return re.match(r"[0-9A-Z]{5}: ", word) is not None


class Session:
    """A logged-in connection."""

    def __init__(self, address: Address, startup: Startup) -> None:
        self._client: Final = RawClient(address)
        parameters = (("user", address.user), ("database", address.database), *startup)
        packet = StartupMessage(tuple((name.encode(), value.encode()) for name, value in parameters)).encode()
        self.parameters: dict[bytes, bytes] = {}
        """What ParameterStatus said last."""
        self.notes: list[Note] = []
        """Notifications since they were taken."""
        self.status = LOST
        came, _ = self._client.log_in(packet)
        self.greeting: Final = self._words(came)
        key = self._client.key
        self.process_id: Final = 0 if key is None else key.process_id

    def ask(self, data: bytes, readies: int = 1) -> list[str]:
        """Send messages; what came until so many ReadyForQuery."""
        self._client.send(data)
        came, ending = self._client.read(readies, deadline_s=DEADLINE_S)
        words = self._words(came)
        if ending is not Ending.ENOUGH:
            words.append(ending.name)
            self.status = LOST
        return words

    def rows(self, sql: str) -> list[str]:
        """The words of a Query."""
        return self.ask(Query(sql.encode()).encode())

    def wait_for_note(self, note: Note, timeout_s: float) -> bool:
        """Whether it came in time; it and all before it are in `notes`."""
        until = time.monotonic() + timeout_s
        while note not in self.notes:
            came, ending = self._client.read(1, NotificationResponse, until - time.monotonic())
            if words := self._words(came):
                # Nothing was asked: it would be compared with nothing.
                self.notes.append(("out of turn", " ".join(words)))
            if ending is not Ending.ENOUGH:
                return note in self.notes
        return True

    def close(self, *, politely: bool, last_words: bytes = b"") -> None:
        """End it, with something still under way or not."""
        data = last_words + (Terminate().encode() if politely else b"")
        if data:
            with contextlib.suppress(OSError):
                self._client.send(data)
        self._client.__exit__(None, None, None)
        self.status = LOST

    def _words(self, came: list[Message]) -> list[str]:
        return [word for message in came if (word := self._word(message))]

    def _word(self, message: Message) -> str:
        if isinstance(message, DataRow):
            return "|".join(["" if value is None else value.decode() for value in message.values]) or "-"
        if isinstance(message, ReadyForQuery):
            self.status = message.status
            return f"<{message.status.decode()}>"
        if isinstance(message, CommandComplete):
            return f"({message.tag.decode()})"
        if isinstance(message, ErrorResponse):
            return f"{message.field(b'C').decode()}: {message.field(b'M').decode()}"
        if isinstance(message, RowDescription):
            return ",".join([f"{column.name.decode()}:{column.type_oid}" for column in message.columns]) + "="
        if isinstance(message, NoticeResponse):
            code = message.field(b"C")
            return "" if code.startswith(OWN_SQLSTATES) else f"notice {code.decode()}"
        if isinstance(message, ParameterStatus):
            if message.name not in NODE_SETTINGS:
                self.parameters[message.name] = message.value
            return ""
        if isinstance(message, NotificationResponse):
            self.notes.append((message.channel.decode(), message.payload.decode()))
            return ""
        if isinstance(message, ParameterDescription):
            return f"types {message.types}"
        return type(message).__name__
