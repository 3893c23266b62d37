"""The typed messages against the table of cases, and against bytes that are no messages."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.errors import ProtocolViolation
from middleware.wire import backend, frontend
from middleware.wire.backend import decode_backend
from middleware.wire.fields import Message
from middleware.wire.frontend import StartupPacket, decode_frontend, decode_startup
from tests.wire.cases import BACKEND, FRONTEND, OPEN_ENDED, STARTUP

MESSAGES = FRONTEND + BACKEND
CONTEXT_TOLD = (frontend.PasswordMessage, frontend.SASLInitialResponse, frontend.SASLResponse)
"""Share type 'p' with GSSResponse."""


def _id(case: object) -> str:
    return type(case).__name__ if isinstance(case, Message | StartupPacket) else ""


@pytest.mark.parametrize(("message", "data"), MESSAGES, ids=_id)
def test_encodes_and_decodes(message: Message, data: bytes) -> None:
    assert message.encode() == data
    assert type(message).decode(data[5:]) == message


@pytest.mark.parametrize(("message", "data"), FRONTEND, ids=_id)
def test_frontend_type_code(message: Message, data: bytes) -> None:
    decoded = decode_frontend(data[0], data[5:])
    assert decoded == (frontend.GSSResponse(data[5:]) if isinstance(message, CONTEXT_TOLD) else message)


@pytest.mark.parametrize(("message", "data"), BACKEND, ids=_id)
def test_backend_type_code(message: Message, data: bytes) -> None:
    assert decode_backend(data[0], data[5:]) == message


@pytest.mark.parametrize(("packet", "data"), STARTUP, ids=_id)
def test_startup_packet(packet: StartupPacket, data: bytes) -> None:
    assert packet.encode() == data
    assert decode_startup(data[4:]) == packet


def test_every_class_is_in_the_table() -> None:
    def classes(module: object) -> set[type]:
        found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if hasattr(kind, "encode")}
        return {kind for kind in found if not kind.__name__.startswith("_")} - {Message, backend.Column}

    assert classes(frontend) == {type(case) for case, _ in [*FRONTEND, *STARTUP]}
    assert classes(backend) == {type(case) for case, _ in BACKEND}


@pytest.mark.parametrize(("message", "data"), MESSAGES, ids=_id)
def test_truncated_anywhere(message: Message, data: bytes) -> None:
    kind = type(message)
    for size in range(len(data) - 5):
        body = data[5 : 5 + size]
        try:
            shorter = kind.decode(body)
        except ProtocolViolation:
            continue
        assert kind in OPEN_ENDED
        assert shorter.body() == body


@pytest.mark.parametrize(("message", "data"), MESSAGES, ids=_id)
@pytest.mark.parametrize("junk", [b"\0", b"x", b"\0\0\0\0"])
def test_trailing_junk(message: Message, data: bytes, junk: bytes) -> None:
    if type(message) in OPEN_ENDED:
        assert type(message).decode(data[5:] + junk).body() == data[5:] + junk
    else:
        with pytest.raises(ProtocolViolation):
            type(message).decode(data[5:] + junk)


@pytest.mark.parametrize(("packet", "data"), STARTUP, ids=_id)
def test_startup_truncated_or_with_junk(packet: StartupPacket, data: bytes) -> None:
    for body in [data[4:size] for size in range(4, len(data))] + [data[4:] + b"x"]:
        try:
            other = decode_startup(body)
        except ProtocolViolation:
            continue
        assert type(packet) in OPEN_ENDED
        assert other.encode()[4:] == body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frontend.Describe, b"X\0"),
        (frontend.Close, b"\0\0"),
        (frontend.Parse, b"\0\0\xff\xff"),
        (frontend.Bind, b"\0\0\xff\xff\0\0\0\0"),
        (frontend.Bind, b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        (frontend.Bind, b"\0\0\0\0\0\x01\0\0\0\x05ab\0\0"),
        (frontend.Query, b"a\0b\0"),
        (backend.ReadyForQuery, b"X"),
        (backend.AuthenticationOk, b"\0\0\0\x03"),
        (backend.NegotiateProtocolVersion, b"\0\x03\0\0\xff\xff\xff\xff"),
        (backend.BackendKeyData, b"\0\0\0\x01abc"),
        (backend.BackendKeyData, b"\0\0\0\x01" + b"k" * 257),
        (backend.DataRow, b"\xff\xff"),
    ],
)
def test_malformed(kind: type[Message], body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        kind.decode(body)


@pytest.mark.parametrize("code", [0, ord("r"), ord("u"), 255])
def test_unknown_type(code: int) -> None:
    with pytest.raises(ProtocolViolation):
        decode_frontend(code, b"")
    with pytest.raises(ProtocolViolation):
        decode_backend(code, b"")


def test_unknown_authentication_request() -> None:
    with pytest.raises(ProtocolViolation):
        decode_backend(ord("R"), b"\0\0\0\x63")


@given(code=st.integers(0, 255), body=st.binary(max_size=200))
def test_arbitrary_bodies_decode_to_what_encodes_to_them_or_violate_the_protocol(code: int, body: bytes) -> None:
    for decode in (decode_frontend, decode_backend):
        try:
            decoded = decode(code, body)
        except ProtocolViolation:
            continue
        assert decoded.body() == body


@given(packet=st.binary(max_size=200))
def test_arbitrary_startup_packets(packet: bytes) -> None:
    try:
        decoded = decode_startup(packet)
    except ProtocolViolation:
        return
    assert decoded.encode()[4:] == packet


NAMES = st.binary(max_size=20).map(lambda name: name.replace(b"\0", b""))
VALUES = st.lists(st.none() | st.binary(max_size=50), max_size=8).map(tuple)
FORMATS = st.lists(st.integers(-(2**15), 2**15 - 1), max_size=8).map(tuple)
OIDS = st.lists(st.integers(0, 2**32 - 1), max_size=8).map(tuple)


@given(
    st.builds(frontend.Parse, NAMES, NAMES, OIDS)
    | st.builds(frontend.Bind, NAMES, NAMES, FORMATS, VALUES, FORMATS)
    | st.builds(frontend.Execute, NAMES, st.integers(-(2**31), 2**31 - 1))
    | st.builds(frontend.FunctionCall, st.integers(0, 2**32 - 1), FORMATS, VALUES, st.integers(0, 1))
    | st.builds(backend.DataRow, VALUES)
    | st.builds(backend.CopyInResponse, st.integers(0, 255), FORMATS)
)
def test_round_trip(message: Message) -> None:
    assert type(message).decode(message.encode()[5:]) == message


@pytest.mark.parametrize("number", [32767, 32768, 65535])
def test_counts_are_unsigned(number: int) -> None:
    """PostgreSQL takes 65535 parameters."""
    for message in (frontend.Parse(b"", b"", (0,) * number), frontend.Bind(b"", b"", (), (None,) * number, ())):
        assert type(message).decode(message.encode()[5:]) == message
