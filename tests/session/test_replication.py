"""What a replication connection asks for, and where its stream may be ended."""

import pytest
from hypothesis import given

from middleware.session.replication import (
    AT_REST,
    AT_WORK,
    LOGICAL,
    PHYSICAL,
    REPLICATION_OFF,
    STREAMING,
    ReplicationStream,
    replication_of,
)
from middleware.wire.build import READY_IDLE, message
from tests.chunks import CUTS, cut

COPY_BOTH = message(ord("W"), b"\0\0\0")
WAL = message(ord("d"), b"w" * 1000)
COPY_DONE = message(ord("c"), b"")
COMPLETE = message(ord("C"), b"START_REPLICATION\0")
ERROR = message(ord("E"), b"SFATAL\0\0")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((value, PHYSICAL) for value in (b"true", b"TRUE", b"t", b"on", b"yes", b"y", b"1")),
        *((value, REPLICATION_OFF) for value in (b"false", b"f", b"off", b"of", b"no", b"n", b"0")),
        (b"database", LOGICAL),
        (b"Database", LOGICAL),
        *((value, None) for value in (b"", b"o", b"2", b"data", b"truex", b"\xff")),
    ],
)
def test_what_is_asked_for(value: bytes, kind: int | None) -> None:
    assert replication_of(value) == kind


def test_a_session_that_streams_and_ends() -> None:
    stream = ReplicationStream()
    told = []
    for said in (b"", COPY_BOTH, WAL, WAL[:9], WAL[9:], COPY_DONE, COMPLETE, READY_IDLE):
        if said:
            stream.feed(said)
        else:
            stream.sent()
        told.append((stream.state, stream.whole(), stream.may_end()))
    assert told == [
        (AT_WORK, True, False),
        (STREAMING, True, True),
        (STREAMING, True, True),
        (STREAMING, False, False),
        (STREAMING, True, True),
        (AT_WORK, True, False),
        (AT_WORK, True, False),
        (AT_REST, True, True),
    ]


def test_what_the_client_says_while_it_streams_is_no_command() -> None:
    stream = ReplicationStream()
    stream.sent()
    stream.feed(COPY_BOTH)
    stream.sent()
    assert stream.state == STREAMING
    stream.feed(ERROR)
    assert (stream.state, stream.last) == (AT_WORK, ord("E"))


@given(cuts=CUTS)
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    whole = COPY_BOTH + WAL + WAL + COPY_DONE
    stream = ReplicationStream()
    for part in cut(whole, cuts):
        stream.feed(part)
    assert (stream.state, stream.last, stream.whole()) == (AT_WORK, ord("c"), True)
    stream.feed(b"Z\0\0")
    assert not stream.whole()


@pytest.mark.parametrize("length", [0, 3])
def test_no_message_is_so_short(length: int) -> None:
    with pytest.raises(ValueError, match="length"):
        ReplicationStream().feed(b"d" + length.to_bytes(4, "big"))
