"""What two output plugins of logical decoding say, as far as the cache needs it: which tables a commit has changed.

In: the payload of each message of a slot's stream, in order, with its WAL position; it may lack its end. Out: one
Committed per transaction. test_decoding (contrib) names tables in text, pgoutput (built in, protocol version 1) by
their oids. Nothing of a row is looked at. What cannot be read counts as a change of everything.
"""

import re
from typing import Final, Protocol

import msgspec

TABLES_MAX: Final = 10_000
"""Beyond it a transaction has changed the whole database."""

Name = tuple[bytes, bytes]
"""Schema and relation, in the database's own encoding."""


class Committed(msgspec.Struct, frozen=True):
    """A transaction that has committed. With nothing in it, it has changed no row of a table: DDL, say."""

    xid: int
    """32 bits of it."""
    lsn: int
    """The end of its commit record."""
    names: frozenset[Name] = frozenset()
    oids: frozenset[int] = frozenset()
    whole: bool = False
    """It has changed more than can be told."""
    reshaped: bool = False
    """A table that it has changed looks different than before."""


class Decoder(Protocol):
    """The state of one stream: not to be used for another."""

    def take(self, payload: bytes, lsn: int) -> Committed | None:
        """Take the next message; the transaction that it ends."""


# quote_identifier() leaves alone what needs no quotes; in them a quote is doubled, and all else is itself.
_IDENTIFIER: Final = rb'("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)'
_RELATION: Final = _IDENTIFIER + rb"\." + _IDENTIFIER
_ROW: Final = re.compile(rb"table " + _RELATION + rb": (?:INSERT|UPDATE|DELETE):")
_TRUNCATE: Final = re.compile(rb"table (?:" + _RELATION + rb"(?:, |(?=: TRUNCATE:)))+: TRUNCATE:")
_EACH: Final = re.compile(_RELATION + rb"(?:, |: TRUNCATE:)")
_XID: Final = re.compile(rb"(?:BEGIN|COMMIT) (\d+)")
_NO_ROW: Final = b"\0"
"""No message begins so."""


class TestDecoding:
    """Of test_decoding, with its default options. It tells of transactions in which no table was changed, too."""

    __test__ = False  # for pytest: the name is PostgreSQL's

    def __init__(self) -> None:
        self._names: set[Name] = set()
        self._whole = False
        self._last = _NO_ROW
        """How the last message about a row begins: the next is mostly of the same table."""

    def take(self, payload: bytes, lsn: int) -> Committed | None:
        """See Decoder."""
        if payload.startswith(self._last):
            return None
        if payload.startswith(b"table "):
            self._table(payload)
        elif payload.startswith((b"BEGIN ", b"COMMIT ")):
            found = _XID.match(payload)
            if payload.startswith(b"COMMIT ") and found is not None:
                ended = Committed(int(found[1]), lsn, frozenset(self._names), whole=self._whole)
                self._clear(whole=False)
                return ended
            self._clear(whole=found is None)
        elif not payload.startswith(b"message: "):
            self._whole = True
        return None

    def _table(self, payload: bytes) -> None:
        found = _ROW.match(payload)
        if found is not None:
            self._names.add((_plain(found[1]), _plain(found[2])))
            self._last = found[0]
        else:
            found = _TRUNCATE.match(payload)
            if found is None:
                self._whole = True
                return
            for one in _EACH.finditer(found[0], len(b"table ")):
                self._names.add((_plain(one[1]), _plain(one[2])))
        if len(self._names) > TABLES_MAX:
            self._names.clear()
            self._whole = True

    def _clear(self, *, whole: bool) -> None:
        self._names.clear()
        self._whole = whole
        self._last = _NO_ROW


def _plain(identifier: bytes) -> bytes:
    return identifier[1:-1].replace(b'""', b'"') if identifier.startswith(b'"') else identifier


class PgOutput:
    """Of pgoutput, protocol version 1 ("Logical Replication Message Formats"). From version 15 on it says nothing of a
    transaction in which no published table was changed."""

    def __init__(self) -> None:
        self._oids: set[int] = set()
        self._whole = False
        self._reshaped = False
        self._xid = 0
        self._last = _NO_ROW
        """How the last message about a row begins."""
        self._shapes: dict[int, bytes] = {}
        """How each relation was described."""

    def take(self, payload: bytes, lsn: int) -> Committed | None:
        """See Decoder."""
        if payload.startswith(self._last):
            return None
        kind = payload[:1]
        if kind in (b"I", b"U", b"D") and len(payload) >= 5:
            self._last = payload[:5]
            self._add(int.from_bytes(payload[1:5], "big"))
        elif kind == b"B" and len(payload) >= 21:
            self._oids.clear()
            self._whole = self._reshaped = False
            self._last = _NO_ROW
            self._xid = int.from_bytes(payload[17:21], "big")
        elif kind == b"C":
            return Committed(self._xid, lsn, oids=frozenset(self._oids), whole=self._whole, reshaped=self._reshaped)
        elif kind == b"T" and len(payload) >= 6:
            count = int.from_bytes(payload[1:5], "big")
            if len(payload) < 6 + 4 * count:
                self._whole = True
            else:
                for at in range(6, 6 + 4 * count, 4):
                    self._add(int.from_bytes(payload[at : at + 4], "big"))
        elif kind == b"R" and len(payload) >= 5:
            oid = int.from_bytes(payload[1:5], "big")
            self._reshaped |= self._shapes.get(oid, payload) != payload
            self._shapes[oid] = payload
        elif kind not in (b"O", b"Y", b"M"):
            self._whole = True
        return None

    def _add(self, oid: int) -> None:
        self._oids.add(oid)
        if len(self._oids) > TABLES_MAX:
            self._oids.clear()
            self._whole = True
