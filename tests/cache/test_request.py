"""Which batches ask for one statement's rows, by their messages, and which of them ask the same."""

from collections.abc import Sequence

import pytest

from middleware.cache.request import MESSAGES_MAX, Request, Scope, request_of
from middleware.session.batch import COMPLETE, Batch
from middleware.session.client import ClientSession
from middleware.session.prepared import StatementRegistry
from middleware.wire.fields import Message
from middleware.wire.frontend import PORTAL, STATEMENT, Bind, Close, Describe, Execute, Flush, Parse, Sync
from parser.shapes import FactsTable

SCOPE = Scope(1, b"app", b"app", ())
TEXT = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1"
UNNAMED = [Parse(b"", TEXT), Bind(b"", b"")]
PREPARED = Parse(b"p", TEXT)


def asked(messages: Sequence[Message], session: ClientSession | None = None) -> Request | None:
    """What a batch of these and a Sync asks."""
    session = session or ClientSession(FactsTable(), StatementRegistry(), 100_000, 2**30 - 1)
    data = b"".join([one.encode() for one in (*messages, Sync())])
    batch = Batch(0)
    session.scan(batch, data)
    assert batch.state == COMPLETE
    return request_of(batch, data, session.statements)


def prepared(text: bytes = TEXT) -> ClientSession:
    """A client's session, with a statement p."""
    session = ClientSession(FactsTable(), StatementRegistry(), 100_000, 2**30 - 1)
    session.scan(Batch(0), Parse(b"p", text).encode() + Sync().encode())
    session.returned()
    return session


BIND = Bind(b"", b"p")
CASES: list[tuple[bytes, list[Message]]] = [
    (b"PBE", [*UNNAMED, Execute()]),
    (b"PBDE", [*UNNAMED, Describe(PORTAL), Execute()]),
    (b"PdBE", [Parse(b"", TEXT), Describe(STATEMENT), Bind(b"", b""), Execute()]),
    (b"PBE", [Parse(b"other", TEXT), Bind(b"", b"other"), Execute()]),
    (b"BDE", [BIND, Describe(PORTAL), Execute()]),
    (b"dBDE", [Describe(STATEMENT, b"p"), BIND, Describe(PORTAL), Execute()]),
    (b"BECC", [BIND, Execute(), Close(PORTAL), Close(STATEMENT, b"other")]),
    (b"dBDECCCC", [Describe(STATEMENT, b"p"), BIND, Describe(PORTAL), Execute(), *[Close(PORTAL)] * 4]),
]


@pytest.mark.parametrize(("pattern", "messages"), CASES)
def test_one_statement_is_asked_whatever_is_described(pattern: bytes, messages: list[Message]) -> None:
    found = asked(messages, prepared())
    assert found is not None
    assert found.pattern == pattern
    first = asked([*UNNAMED, Execute()])
    assert first is not None
    assert found.key(SCOPE) == first.key(SCOPE)


@pytest.mark.parametrize(
    "messages",
    [
        [Parse(b"", TEXT)],
        [*UNNAMED],
        [*UNNAMED, Execute(), Execute()],
        [Parse(b"", TEXT), Bind(b"portal", b""), Execute(b"portal")],
        [Parse(b"", TEXT), BIND, Execute()],
        [*UNNAMED, Describe(STATEMENT), Execute()],
        [*UNNAMED, Describe(PORTAL), Describe(PORTAL), Execute()],
        [BIND, Bind(b"", b"p"), Execute()],
        [Describe(STATEMENT, b"q"), BIND, Execute()],
        [Bind(b"", b"q"), Execute()],
        [PREPARED, BIND, Execute()],
        [BIND, Execute(), Close(STATEMENT, b"p")],
        [BIND, Execute(), *[Close(PORTAL)] * (MESSAGES_MAX - 1)],
    ],
)
def test_nothing_else_is(messages: list[Message]) -> None:
    assert asked(messages, prepared()) is None


def test_nor_is_a_batch_that_ends_before_its_sync() -> None:
    session = prepared()
    data = BIND.encode() + Execute().encode() + Flush().encode()
    batch = Batch(0)
    session.scan(batch, data)
    assert request_of(batch, data, session.statements) is None


def test_what_changes_the_rows_makes_another_question() -> None:
    found = [
        asked([*UNNAMED, Execute()]),
        asked([*UNNAMED, Execute(b"", 1)]),
        asked([Parse(b"", TEXT + b" "), Bind(b"", b""), Execute()]),
        asked([Parse(b"", TEXT, (23,)), Bind(b"", b""), Execute()]),
        asked([Parse(b"", TEXT), Bind(b"", b"", (), (b"1",)), Execute()]),
        asked([Parse(b"", TEXT), Bind(b"", b"", (1,), (b"1",)), Execute()]),
        asked([Parse(b"", TEXT), Bind(b"", b"", (), (None,)), Execute()]),
        asked([Parse(b"", TEXT), Bind(b"", b"", (), (), (1,)), Execute()]),
    ]
    keys = [one.key(SCOPE) for one in found if one is not None]
    assert len(set(keys)) == len(found)
