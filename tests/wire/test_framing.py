"""The framer: however the stream is split, the same messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.errors import ProtocolViolation
from middleware.wire.framing import Framer
from tests.chunks import CUTS, cut
from tests.wire.cases import BACKEND, FRONTEND

MESSAGE_BYTES_MAX = 1000
STREAM = b"".join(data for _, data in FRONTEND + BACKEND)
WHOLE = [(data[0], data[5:]) for _, data in FRONTEND + BACKEND]


def test_split_at_every_byte() -> None:
    for position in range(len(STREAM) + 1):
        framer = Framer(MESSAGE_BYTES_MAX)
        assert framer.feed(STREAM[:position]) + framer.feed(STREAM[position:]) == WHOLE
        assert framer.pending == b""


def test_byte_by_byte_with_a_tail() -> None:
    framer = Framer(MESSAGE_BYTES_MAX)
    found = [message for byte in STREAM + b"Q\0\0\0\x06s" for message in framer.feed(bytes([byte]))]
    assert found == WHOLE
    assert framer.pending == b"Q\0\0\0\x06s"


@given(st.lists(st.sampled_from(FRONTEND + BACKEND), max_size=20), CUTS)
def test_splitting_never_changes_the_messages(cases: list[tuple[object, bytes]], cuts: list[int]) -> None:
    framer = Framer(MESSAGE_BYTES_MAX)
    stream = b"".join(data for _, data in cases)
    found = [message for piece in cut(stream, cuts) for message in framer.feed(piece)]
    assert found == [(data[0], data[5:]) for _, data in cases]


@pytest.mark.parametrize("length", [0, 3, MESSAGE_BYTES_MAX + 1, 0xFFFFFFFF])
def test_invalid_length(length: int) -> None:
    framer = Framer(MESSAGE_BYTES_MAX)
    with pytest.raises(ProtocolViolation):
        framer.feed(b"Q" + length.to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation):
        framer.feed(b"S\0\0\0\x04")


@pytest.mark.parametrize("length", [4, MESSAGE_BYTES_MAX])
def test_lengths_at_the_bounds(length: int) -> None:
    body = b"x" * (length - 4)
    assert Framer(MESSAGE_BYTES_MAX).feed(b"d" + length.to_bytes(4, "big") + body) == [(ord("d"), body)]


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_arbitrary_bytes_are_messages_or_more_input_or_a_violation(chunks: list[bytes]) -> None:
    framer = Framer(MESSAGE_BYTES_MAX)
    out = b""
    for number, chunk in enumerate(chunks):
        try:
            found = framer.feed(chunk)
        except ProtocolViolation:
            return
        out += b"".join(bytes([code]) + (len(body) + 4).to_bytes(4, "big") + body for code, body in found)
        assert out + framer.pending == b"".join(chunks[: number + 1])
        assert len(framer.pending) <= MESSAGE_BYTES_MAX
