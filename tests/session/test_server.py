"""What a server answers, however the network cuts it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from middleware.session.batch import Batch
from middleware.session.client import ClientSession
from middleware.session.expected import (
    HIDDEN,
    MARKER,
    PASS,
    SYNC,
    SYNC_UNSEEN,
    UNNAMED,
    Expect,
)
from middleware.session.prepared import ClientStatements, StatementRegistry
from middleware.session.server import (
    FAILED,
    FATAL,
    HOLD_FOR_EXECUTE,
    HOLD_FOR_MARKER,
    HOLD_FOR_QUERY,
    HOLD_NONE,
    READ_WHOLE_MAX,
    SETUP_FAILED,
    STALE_PLAN,
    ServerSession,
)
from middleware.wire.backend import (
    CloseComplete,
    DataRow,
    ErrorResponse,
    NoticeResponse,
    ParameterStatus,
    ParseComplete,
    ReadyForQuery,
)
from middleware.wire.frontend import Bind, Parse, Query, Sync
from parser.facts import EMPTY
from parser.shapes import FactsTable, table_for
from tests.chunks import CUTS, cut
from tests.session.exchanges import EXCHANGES, Exchange, sent, shown

HOLDS = st.sampled_from([HOLD_NONE, HOLD_FOR_MARKER, HOLD_FOR_EXECUTE, HOLD_FOR_QUERY])
SYNC_REPLY = ReadyForQuery(b"I").encode()


def session(entries: list[Expect] | None = None) -> ServerSession:
    made = ServerSession(statements_max=1000, reported={})
    made.expected.extend(entries or [])
    return made


def asked(exchanges: list[Exchange]) -> ServerSession:
    made = session([entry for exchange in exchanges for entry in exchange.entries])
    for entry in made.expected:
        if entry.on_server is not None:
            made.statements.add(entry.on_server)
    return made


def books(server: ServerSession) -> tuple[object, ...]:
    """All that the rest of the proxy reads of it."""
    return (
        server.status,
        server.events,
        list(server.expected),
        server.hold,
        server.copy_in,
        server.uncertain,
        server.reported,
        server.setup_error,
        list(server.statements._names),
        server.mid_message(),
        server.at_rest(),
    )


@given(exchanges=EXCHANGES, cuts=CUTS)
def test_the_client_sees_what_it_asked_for(exchanges: list[Exchange], cuts: list[int]) -> None:
    replies = [reply for exchange in exchanges for reply in exchange.replies]
    server = asked(exchanges)
    assert b"".join(map(server.feed, cut(sent(replies), cuts))) == shown(replies)
    assert not server.expected
    assert not server.mid_message()
    statuses = [reply.sent.status for reply in replies if isinstance(reply.sent, ReadyForQuery)]
    assert server.status == (statuses[-1] if statuses else b"I")[0]
    assert server.at_rest() == (server.status == ord("I"))
    told = {reply.sent.name: reply.sent.value for reply in replies if isinstance(reply.sent, ParameterStatus)}
    assert server.reported == told


@given(exchanges=EXCHANGES, cuts=CUTS, hold=HOLDS, watch=st.booleans(), messages=st.integers(0, 40))
def test_splitting_changes_nothing(
    exchanges: list[Exchange], cuts: list[int], hold: int, watch: bool, messages: int
) -> None:
    replies = [reply for exchange in exchanges for reply in exchange.replies][:messages]
    whole, split = asked(exchanges), asked(exchanges)
    for server in (whole, split):
        server.hold = hold
        server.watch_deallocate = watch
    data = sent(replies)
    assert whole.feed(data) == b"".join(map(split.feed, cut(data, cuts))) == shown(replies)
    assert books(whole) == books(split)


@given(exchanges=EXCHANGES, cuts=CUTS, end=st.integers(0, 2000))
def test_cut_short_the_client_has_a_beginning(exchanges: list[Exchange], cuts: list[int], end: int) -> None:
    replies = [reply for exchange in exchanges for reply in exchange.replies]
    server = asked(exchanges)
    seen = b"".join(map(server.feed, cut(sent(replies)[:end], cuts)))
    assert shown(replies).startswith(seen)


@given(exchanges=EXCHANGES)
def test_statements_whose_parse_was_skipped_are_not_on_the_server(exchanges: list[Exchange]) -> None:
    server = asked(exchanges)
    server.feed(sent(reply for exchange in exchanges for reply in exchange.replies))
    entries = [entry for exchange in exchanges for entry in exchange.entries if entry.on_server]
    answered = {id(reply.entry) for exchange in exchanges for reply in exchange.replies}
    skipped = {entry.on_server.name for entry in entries if entry.on_server and id(entry) not in answered}
    parsed = {entry.on_server.name for entry in entries if entry.on_server} - skipped
    assert set(server.statements._names) == parsed


ENTRIES = st.lists(st.sampled_from([SYNC, SYNC_UNSEEN, HIDDEN, PASS, MARKER, UNNAMED, Expect(b""), Expect(b"x")]))


@given(
    chunks=st.lists(
        st.binary(max_size=40)
        | st.builds(
            lambda code, body: bytes([code]) + (len(body) + 4).to_bytes(4, "big") + body,
            st.sampled_from(list(b"Z13ESGCIsDN")),
            st.binary(max_size=6),
        ),
        max_size=20,
    ),
    entries=ENTRIES,
    hold=HOLDS,
    watch=st.booleans(),
)
@example(chunks=[b"Z\0\0\0\x04"], entries=[SYNC], hold=HOLD_NONE, watch=False)
@example(chunks=[b"Z\0\0\0\x04"], entries=[HIDDEN], hold=HOLD_NONE, watch=False)
@example(chunks=[b"Z\0\0\0\x03"], entries=[SYNC], hold=HOLD_NONE, watch=False)
def test_arbitrary_bytes_are_passed_or_refused(
    chunks: list[bytes], entries: list[Expect], hold: int, watch: bool
) -> None:
    server = session(entries)
    server.hold = hold
    server.watch_deallocate = watch
    total = 0
    for chunk in chunks:
        try:
            total += len(server.feed(chunk))
        except ValueError:
            return
    assert total <= len(b"".join(chunks)) + len(entries)


@pytest.mark.parametrize("code", [b"1", b"3"])
@pytest.mark.parametrize("entries", [[], [SYNC], [SYNC_UNSEEN]])
def test_a_completion_that_nothing_asked_for(code: bytes, entries: list[Expect]) -> None:
    with pytest.raises(ValueError):
        session(entries).feed(code + b"\0\0\0\x04")


def test_an_unasked_ready_for_query_makes_it_uncertain() -> None:
    server = session()
    assert server.feed(SYNC_REPLY) == SYNC_REPLY
    assert server.uncertain


@pytest.mark.parametrize("size", [READ_WHOLE_MAX, READ_WHOLE_MAX * 3])
@pytest.mark.parametrize("entries", [[SYNC], [HIDDEN]])
def test_large_messages_pass_in_pieces(size: int, entries: list[Expect]) -> None:
    large = DataRow((b"x" * size,)).encode() + NoticeResponse(((b"M", b"y" * size),)).encode()
    data = large + ErrorResponse(((b"V", b"ERROR"), (b"M", b"z" * size))).encode() + SYNC_REPLY
    for step in (1000, 65_536):
        server = session(entries)
        out = b"".join(server.feed(data[start : start + step]) for start in range(0, len(data), step))
        assert out == (data if entries == [SYNC] else b"")
        assert server.at_rest()


def test_the_rest_of_a_message_begun_is_all_that_may_follow() -> None:
    server = session([SYNC])
    row = DataRow((b"x" * 100,)).encode()
    assert server.feed(row[:50]) == row[:50]
    assert server.mid_message()
    assert not server.at_rest()
    assert server.feed(row[50:]) == row[50:]
    assert not server.mid_message()


@pytest.mark.parametrize(
    ("fields", "events"),
    [
        (((b"S", b"FEHLER"), (b"V", b"ERROR"), (b"C", b"42601")), FAILED),
        (((b"S", b"FATAL"), (b"V", b"FATAL"), (b"C", b"57P01")), FAILED | FATAL),
        (((b"S", b"PANIC"), (b"C", b"XX000")), FAILED | FATAL),
        (((b"V", b"ERROR"), (b"C", b"0A000"), (b"R", b"RevalidateCachedQuery")), FAILED | STALE_PLAN),
        (((b"V", b"ERROR"), (b"C", b"0A000"), (b"R", b"other")), FAILED),
    ],
)
def test_what_an_error_says(fields: tuple[tuple[bytes, bytes], ...], events: int) -> None:
    server = session([SYNC])
    server.feed(ErrorResponse(fields).encode())
    assert server.events == events


def test_a_hidden_error_is_kept_for_who_asked() -> None:
    server = session([HIDDEN])
    error = ErrorResponse(((b"V", b"ERROR"), (b"C", b"22023")))
    assert server.feed(error.encode() + SYNC_REPLY) == b""
    assert server.setup_error == error.body()
    assert server.events & SETUP_FAILED
    assert not server.events & FAILED


def _owner() -> ClientStatements:
    owner = ClientStatements()
    owner.named[b"mine"] = StatementRegistry().statement(session().parameters, b"select 1\0\0\0", EMPTY)
    return owner


@pytest.mark.parametrize(
    ("from_server", "to_client"),
    [
        (b'prepared statement "_pointsman_1" already exists', b'prepared statement "mine" already exists'),
        (b'prepared statement "_pointsman_?gone" does not exist', b'prepared statement "gone" does not exist'),
        (b'prepared statement "_pointsman_77" does not exist', b'prepared statement "_pointsman_77" does not exist'),
    ],
)
@given(cuts=CUTS)
def test_errors_tell_the_clients_names(from_server: bytes, to_client: bytes, cuts: list[int]) -> None:
    server = session([SYNC])
    server.owner = _owner()
    error = ErrorResponse(((b"V", b"ERROR"), (b"M", from_server))).encode()
    expected = ErrorResponse(((b"V", b"ERROR"), (b"M", to_client))).encode()
    assert b"".join(map(server.feed, cut(error + SYNC_REPLY, cuts))) == expected + SYNC_REPLY


def test_skipped_replies_are_undone_last_first() -> None:
    registry = StatementRegistry()
    old, new = (registry.statement(session().parameters, text, EMPTY) for text in (b"a\0\0\0", b"b\0\0\0"))
    owner = ClientStatements()
    owner.named[b"s"] = old
    # Close s, then Parse s anew, both behind a message that fails.
    del owner.named[b"s"]
    owner.named[b"s"] = new
    server = session([Expect(None, None, owner, b"s", old), Expect(None, new, owner, b"s"), SYNC])
    server.statements.add(new)
    server.feed(ErrorResponse(((b"V", b"ERROR"),)).encode() + SYNC_REPLY)
    assert owner.named == {b"s": old}
    assert new.name not in server.statements


def test_a_statement_that_was_one_too_many_is_there_still_if_its_close_was_skipped() -> None:
    old = StatementRegistry().statement(session().parameters, b"a\0\0\0", EMPTY)
    server = session([Expect(b"", closes=old), SYNC])
    server.feed(ErrorResponse(((b"V", b"ERROR"),)).encode() + SYNC_REPLY)
    assert old.name in server.statements
    assert not server.uncertain


@pytest.mark.parametrize("completion", [ParseComplete(), CloseComplete()])
def test_one_sync_undoes_nothing_of_the_next_batch(completion: ParseComplete | CloseComplete) -> None:
    server = session([PASS, SYNC, PASS, SYNC])
    error = ErrorResponse(((b"V", b"ERROR"),)).encode()
    assert server.feed(error + SYNC_REPLY) == error + SYNC_REPLY
    assert list(server.expected) == [PASS, SYNC]
    assert server.feed(completion.encode() + SYNC_REPLY) == completion.encode() + SYNC_REPLY


@pytest.mark.parametrize("first_parse_fails", [False, True])
def test_a_statement_that_was_to_be_closed_and_parsed_once_more_is_there_still(first_parse_fails: bool) -> None:
    """Parse s; Sync on one server. Then, at once on another: Sync; Parse s, which is refused; Bind s; Sync."""
    client = ClientSession(table_for(()), StatementRegistry(), 1 << 20, 1 << 20)

    def emitted(server: ServerSession, data: bytes) -> None:
        position = 0
        while position < len(data):
            batch = Batch(position)
            client.scan(batch, data)
            position = batch.end
            client.emit(batch, data, server)

    sync = Sync().encode()
    emitted(ServerSession(10, {}), Parse(b"s", b"select 1").encode() + sync)
    client.unsettled.clear()
    other = ServerSession(10, {})
    emitted(other, sync + Parse(b"s", b"select 2").encode() + Bind(b"", b"s").encode() + sync)
    refused, ready = ErrorResponse(((b"C", b"42P05"),)).encode(), ReadyForQuery(b"I").encode()
    parsed = b"" if first_parse_fails else ParseComplete().encode()
    other.feed(ready + parsed + refused + ready)
    assert len(other.statements) == (0 if first_parse_fails else 1)
    assert not other.expected


def test_a_query_that_has_not_even_a_text_goes_as_it_came() -> None:
    client, server = ClientSession(FactsTable(), StatementRegistry(), 100_000, 2**30 - 1), ServerSession(10, {})
    data, batch = b"Q\0\0\0\4", Batch(0)
    client.scan(batch, data)
    assert client.emit(batch, data, server) == data
    assert list(server.expected) == [SYNC]


def test_what_was_booked_for_a_lost_server_is_taken_back() -> None:
    client = ClientSession(FactsTable(), StatementRegistry(), 100_000, 2**30 - 1)
    server = ServerSession(10, {})
    server.owner = client.statements
    data = Parse(b"p", b"SELECT 1", ()).encode() + Sync().encode() + Query(b"SELECT 2").encode()
    position = 0
    while position < len(data):
        batch = Batch(position)
        client.scan(batch, data)
        client.emit(batch, data, server)
        position = batch.end
    assert b"p" in client.statements.named
    assert server.lose() == 2
    assert not server.expected
    assert b"p" not in client.statements.named


@pytest.mark.parametrize("sqlstate", [b"57P01", b"57P02", b"57P03"])
def test_its_last_words_are_not_shown(sqlstate: bytes) -> None:
    server = ServerSession(10, {})
    server.expected.append(SYNC)
    row = DataRow((b"1",)).encode()
    words = ErrorResponse(((b"S", b"FATAL"), (b"V", b"FATAL"), (b"C", sqlstate), (b"M", b"gone"))).encode()
    assert server.feed(row + words) == row
    assert server.events & FATAL
    assert server.last_words[b"C"] == sqlstate


def test_what_its_client_has_done_is_shown_as_it_is() -> None:
    server = ServerSession(10, {})
    words = ErrorResponse(((b"S", b"FATAL"), (b"V", b"FATAL"), (b"C", b"25P03"), (b"M", b"idle"))).encode()
    assert server.feed(words) == words
    assert server.events & FATAL
    assert not server.last_words
