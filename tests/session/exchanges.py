"""What servers answer, generated: replies, what a client is to see of them, and what was asked to get them."""

from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st

from middleware.session.expected import (
    HIDDEN,
    MARKER,
    PASS,
    SYNC,
    SYNC_UNSEEN,
    UNNAMED,
    Expect,
)
from middleware.session.prepared import Statement
from middleware.wire.backend import (
    BindComplete,
    CloseComplete,
    CommandComplete,
    CopyInResponse,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    NoData,
    NoticeResponse,
    NotificationResponse,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
)
from middleware.wire.fields import Message
from parser.facts import EMPTY


class Reply(msgspec.Struct, frozen=True):
    """One message from the server, what the client sees of it, and what was asked for it where that is booked."""

    sent: Message
    shown: bytes
    entry: Expect | None = None


class Exchange(msgspec.Struct, frozen=True):
    """What was asked, all of it, and what was answered: after an error some is not."""

    entries: tuple[Expect, ...]
    replies: tuple[Reply, ...]


def _pass(sent: Message) -> Reply:
    return Reply(sent, sent.encode())


NAMES = st.sampled_from([b"TimeZone", b"application_name", b"search_path"])
WORDS = st.text("abc", max_size=5).map(str.encode)
PARAMETER = st.builds(ParameterStatus, NAMES, WORDS)
ERROR = st.builds(
    lambda code, text: ErrorResponse(((b"S", b"ERROR"), (b"V", b"ERROR"), (b"C", code), (b"M", text))),
    st.sampled_from([b"42601", b"0A000", b"57014"]),
    WORDS,
)
ROW: st.SearchStrategy[Message] = st.builds(
    DataRow, st.lists(st.none() | st.binary(max_size=80), max_size=3).map(tuple)
)
ASIDE: st.SearchStrategy[Message] = st.one_of(
    ROW,
    ROW,
    PARAMETER,
    st.builds(lambda text: NoticeResponse(((b"M", text),)), WORDS),
    st.just(NotificationResponse(7, b"channel", b"payload")),
    st.just(RowDescription()),
    st.builds(CommandComplete, st.sampled_from([b"SELECT 1", b"SET", b"DISCARD ALL", b"DEALLOCATE ALL"])),
)
STATUS = st.sampled_from([b"I", b"T", b"E"])


@st.composite
def queries(draw: st.DrawFn) -> Exchange:
    """A simple query's answer, with a COPY in it now and then."""
    replies = [_pass(reply) for reply in draw(st.lists(ASIDE, max_size=5))]
    if draw(st.booleans()):
        replies.append(_pass(CopyInResponse(0, (0,))))
    if draw(st.booleans()):
        replies.append(_pass(draw(ERROR)))
    ready = ReadyForQuery(draw(STATUS))
    return Exchange((SYNC,), (*replies, Reply(ready, ready.encode(), SYNC)))


@st.composite
def hidden(draw: st.DrawFn) -> Exchange:
    """An exchange of the proxy's own: nothing of it is shown, but what comes whenever it likes."""
    told: list[Message] = draw(st.lists(ASIDE | ERROR, max_size=5))
    ready = ReadyForQuery(draw(STATUS))
    shown = [Reply(sent, sent.encode() if isinstance(sent, NotificationResponse) else b"") for sent in told]
    return Exchange((HIDDEN,), (*shown, Reply(ready, b"", HIDDEN)))


def _statement(number: int) -> Statement:
    return Statement(b"select %d\0\0\0" % number, b"_pointsman_%d" % number, EMPTY)


@st.composite
def _completions(draw: st.DrawFn) -> Reply:
    """A reply that is booked."""
    kind = draw(st.integers(0, 7))
    parse, close = ParseComplete(), CloseComplete()
    if kind == 0:
        return Reply(parse, parse.encode(), PASS)
    if kind == 1:
        return Reply(close, close.encode(), PASS)
    if kind == 2:
        return Reply(close, b"", MARKER)
    if kind == 3:
        return Reply(draw(st.sampled_from([parse, close])), b"", UNNAMED)
    if kind == 4:
        return Reply(close, b"", Expect(b""))
    if kind == 5:
        return Reply(close, parse.encode(), Expect(parse.encode()))
    if kind == 6:
        return Reply(parse, parse.encode(), Expect(None, _statement(draw(st.integers(1, 99)))))
    return Reply(parse, b"", Expect(b"", _statement(draw(st.integers(1, 99)))))


@st.composite
def pipelines(draw: st.DrawFn) -> Exchange:
    """Extended-query messages up to Sync; an error may come in the middle, and the rest is skipped."""
    plain = st.sampled_from([BindComplete(), NoData(), PortalSuspended(), EmptyQueryResponse()])
    replies: list[Reply] = draw(st.lists(_completions() | (plain | ASIDE).map(_pass), max_size=8))
    entries = [reply.entry for reply in replies if reply.entry is not None]
    if draw(st.booleans()):
        replies = [*replies[: draw(st.integers(0, len(replies)))], _pass(draw(ERROR))]
    ready = ReadyForQuery(draw(STATUS))
    sync = draw(st.sampled_from([SYNC, SYNC_UNSEEN]))
    replies.append(Reply(ready, ready.encode() if sync is SYNC else b"", sync))
    return Exchange((*entries, sync), tuple(replies))


EXCHANGES = st.lists(queries() | hidden() | pipelines(), max_size=6)


def sent(replies: Iterable[Reply]) -> bytes:
    return b"".join(reply.sent.encode() for reply in replies)


def shown(replies: Iterable[Reply]) -> bytes:
    return b"".join(reply.shown for reply in replies)
