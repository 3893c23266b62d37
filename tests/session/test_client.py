"""A client's messages on their way to servers: whatever server takes a batch, the client sees one PostgreSQL."""

import random
import re

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from middleware.wire.fields import Message
from middleware.wire.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    Close,
    Describe,
    Execute,
    Flush,
    Parse,
    Query,
    Sync,
)
from tests.chunks import CUTS, cut
from tests.session.model import Backend
from tests.session.proxy import Proxy

NAMES = st.sampled_from([b"a", b"b", b"c"])
TEXTS = st.sampled_from([b"select 1", b"select 2", b"select 3", b"select bad_parse", b"select bad_run"])
PORTALS = st.sampled_from([b"", b"", b"p"])

NAMED: st.SearchStrategy[Message] = st.one_of(
    st.builds(Parse, NAMES, TEXTS),
    st.builds(Parse, NAMES, TEXTS),
    st.builds(Bind, PORTALS, NAMES),
    st.builds(Bind, PORTALS, NAMES),
    st.builds(Execute, PORTALS),
    st.builds(Describe, st.just(STATEMENT), NAMES),
    st.builds(Describe, st.just(PORTAL), PORTALS),
    st.builds(Close, st.just(STATEMENT), NAMES),
    st.builds(Close, st.just(PORTAL), PORTALS),
    st.just(Flush()),
    st.just(Sync()),
    st.just(Sync()),
    st.builds(Query, TEXTS),
)
UNNAMED: st.SearchStrategy[Message] = st.one_of(
    st.builds(Parse, st.just(b""), TEXTS),
    st.builds(Bind, PORTALS, st.just(b"")),
    st.just(Describe(STATEMENT)),
    st.just(Close(STATEMENT)),
)


def as_postgresql(stream: bytes) -> tuple[Backend, bytes]:
    backend = Backend()
    return backend, backend.feed(stream)


def hangs_on_a_skipped_parse(stream: bytes) -> bool:
    """Whether it matters that PostgreSQL keeps the unnamed statement when its successor's Parse is skipped."""
    return Backend(keeps_unnamed=False).feed(stream) != Backend().feed(stream)


def texts_of(proxy: Proxy) -> dict[bytes, bytes]:
    return {name: kept.body.partition(b"\0")[0] for name, kept in proxy.session.statements.named.items()}


def encoded(messages: list[Message]) -> bytes:
    return b"".join(message.encode() for message in messages) + Sync().encode()


def same_names(answers: bytes) -> bytes:
    """Of two names for one statement an error may tell the other."""
    return re.sub(b'"[abc]" already exists', b'"a" already exists', answers)


def converse(messages: list[Message], cuts: list[int], servers: int, statements_max: int, seed: int) -> Proxy:
    stream = encoded(messages)
    proxy = Proxy(servers, statements_max, random.Random(seed).randrange)
    for piece in cut(stream, cuts):
        proxy.feed(piece)
    proxy.deliver()
    backend, answers = as_postgresql(stream)
    assert same_names(proxy.out) == same_names(answers)
    backend.statements.pop(b"", None)
    assert texts_of(proxy) == backend.statements
    return proxy


# What was to make room, and was skipped, is there still.
@example(
    [Flush(), Parse(b"a", b"select 1"), Execute(), Parse(b"b", b"select 1"), Sync(), Describe(STATEMENT, b"a")],
    [],
    1,
    1,
    0,
)
# What was to make room is not there: its own Parse was skipped, too.
@example(
    [Execute(), Parse(b"b", b"select 1"), Sync(), Execute(), Parse(b"a", b"select 1")],
    [],
    1,
    1,
    1,
)
# A Parse of ours is skipped because of a message in front of it, and the next batch was sent before that was known.
@example(
    [Parse(b"c", b"select 1"), Query(b"select 1"), Execute(), Bind(b"", b"c"), Sync(), Bind(b"", b"c")],
    [],
    1,
    1,
    3,
)
@settings(max_examples=500, deadline=None)
@given(
    messages=st.lists(NAMED, max_size=25),
    cuts=CUTS,
    servers=st.integers(1, 3),
    statements_max=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_named_statements_look_as_on_one_server(
    messages: list[Message], cuts: list[int], servers: int, statements_max: int, seed: int
) -> None:
    proxy = converse(messages, cuts, servers, statements_max, seed)
    for server in proxy.servers:
        # One too many is closed right behind the Parse that made it so, unless an error comes between.
        assert server.backend.statements_most <= statements_max + 1 + proxy.out.count(b"SERROR\0")
        unproven = server.session.unproven.keys() & server.session.statements._names.keys()
        assert len(server.session.statements) - len(unproven) <= statements_max


# It was skipped, and the next batch is sent before that is answered.
@example(
    [Execute(), Sync(), Execute(), Parse(b"", b"select 1"), Query(b"select 1"), Sync(), Bind(b"", b"")],
    [],
    1,
    193,
)
@example(
    [
        Execute(),
        Sync(),
        Describe(STATEMENT),
        Parse(b"", b"select 1"),
        Parse(b"a", b"select 1"),
        Sync(),
        Bind(b"", b""),
    ],
    [],
    1,
    8,
)
@settings(max_examples=500, deadline=None)
@given(messages=st.lists(NAMED | UNNAMED, max_size=25), cuts=CUTS, servers=st.integers(1, 3), seed=st.integers(0, 1000))
def test_the_unnamed_statement_follows_its_client(
    messages: list[Message], cuts: list[int], servers: int, seed: int
) -> None:
    assume(not hangs_on_a_skipped_parse(encoded(messages)))
    converse(messages, cuts, servers, 2, seed)
