"""As much of a PostgreSQL backend as decides who has which statement: a model, outside transactions, without rows.

What it leaves out (COPY, transactions, portals with row limits) the differential tests do with PostgreSQL itself.
A text with `bad_parse` in it fails when parsed, one with `bad_run` when executed; execution yields the text.
"""

from typing import Final

from middleware.wire.backend import (
    BindComplete,
    CloseComplete,
    CommandComplete,
    DataRow,
    ErrorResponse,
    NoData,
    ParseComplete,
    ReadyForQuery,
)
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import (
    STATEMENT,
    Bind,
    Close,
    Describe,
    Execute,
    Flush,
    Parse,
    Query,
    Sync,
    decode_frontend,
)

READY: Final = ReadyForQuery(b"I")


class RefusedError(Exception):
    """The backend answers with an error."""


class Backend:
    def __init__(self, keeps_unnamed: bool = True) -> None:
        self.statements: dict[bytes, bytes] = {}
        """The text of each prepared statement, the unnamed one's under no name."""
        self.parses: list[bytes] = []
        """The name in every Parse that was not skipped."""
        self.statements_most = 0
        self._keeps_unnamed: Final = keeps_unnamed
        """As PostgreSQL does, when a Parse or Close of the unnamed statement is skipped."""
        self._portals: dict[bytes, bytes] = {}
        self._skipping = False
        self._framer: Final = Framer(100_000)

    def feed(self, data: bytes) -> bytes:
        """What it answers."""
        return b"".join(
            reply.encode()
            for code, body in self._framer.feed(data)
            for reply in self._take(decode_frontend(code, body))
        )

    def _take(self, asked: Message) -> list[Message]:
        if isinstance(asked, Sync):
            self._skipping = False
            self._portals.clear()
            return [READY]
        if self._skipping or isinstance(asked, Flush):
            if not self._keeps_unnamed and asked in (Close(STATEMENT), Parse(b"", getattr(asked, "text", b""))):
                self.statements.pop(b"", None)
            return []
        try:
            if isinstance(asked, Query):
                return self._query(asked)
            replies = self._extended(asked)
        except RefusedError as refused:
            error = ErrorResponse(((b"S", b"ERROR"), (b"V", b"ERROR"), (b"M", str(refused).encode())))
            self._portals.clear()
            if isinstance(asked, Query):
                return [error, READY]
            self._skipping = True
            return [error]
        self.statements_most = max(self.statements_most, len(self.statements.keys() - {b""}))
        return replies

    def _query(self, query: Query) -> list[Message]:
        self.statements.pop(b"", None)
        self._portals.clear()
        return [*self._run(query.text), READY]

    def _run(self, text: bytes) -> list[Message]:
        if b"bad" in text:
            raise RefusedError("it is bad")
        return [DataRow((text,)), CommandComplete(b"SELECT 1")]

    def _extended(self, asked: Message) -> list[Message]:
        if isinstance(asked, Parse):
            return self._parse(asked)
        if isinstance(asked, Bind):
            text = self._text(asked.statement)
            if asked.portal and asked.portal in self._portals:
                raise RefusedError(f'cursor "{asked.portal.decode()}" already exists')
            self._portals[asked.portal] = text
            return [BindComplete()]
        if isinstance(asked, Execute):
            return self._run(self._portal(asked.portal))
        if isinstance(asked, Describe):
            text = self._text(asked.name) if asked.kind == STATEMENT else self._portal(asked.name)
            return [DataRow((b"described", text)), NoData()]
        assert isinstance(asked, Close)
        (self.statements if asked.kind == STATEMENT else self._portals).pop(asked.name, None)
        return [CloseComplete()]

    def _parse(self, parse: Parse) -> list[Message]:
        self.parses.append(parse.name)
        if not parse.name:
            self.statements.pop(b"", None)
        if b"bad_parse" in parse.text:
            raise RefusedError("syntax error")
        if parse.name in self.statements:
            raise RefusedError(f'prepared statement "{parse.name.decode()}" already exists')
        self.statements[parse.name] = parse.text
        return [ParseComplete()]

    def _text(self, name: bytes) -> bytes:
        if name not in self.statements:
            raise RefusedError(f'prepared statement "{name.decode()}" does not exist' if name else "unnamed is gone")
        return self.statements[name]

    def _portal(self, name: bytes) -> bytes:
        if name not in self._portals:
            raise RefusedError(f'portal "{name.decode()}" does not exist')
        return self._portals[name]
