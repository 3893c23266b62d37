"""A way in at PostgreSQL and at Pointsman: the same parameters, or refused with the same SQLSTATE."""

import pytest

from middleware.wire.backend import BackendKeyData, ErrorResponse, ParameterStatus
from middleware.wire.fields import Message
from tests.differential.logins import LOGINS, Login
from tests.differential.raw_client import MESSAGE_BYTES_MAX, Address, Ending, RawClient

pytestmark = pytest.mark.integration


def attempt(login: Login, address: Address) -> tuple[object, ...]:
    """What comes of it, in an order that does not hang on the order of parameters."""
    with RawClient(address) as client:
        if login.difference:
            client.send(login.packet(address))
            client.read_bytes(MESSAGE_BYTES_MAX)
            return ("closed",)
        answers = []
        for request in login.encryption:
            client.send(request)
            answers.append(client.read_bytes(1))
        came, ending = client.log_in(login.packet(address), login.password)
    told = {message.name: message.value for message in came if isinstance(message, ParameterStatus)}
    rest = tuple(comparable(message) for message in came if not isinstance(message, ParameterStatus))
    return tuple(answers), rest, told, ending


def comparable(message: Message) -> object:
    if isinstance(message, BackendKeyData):
        return "a key", len(message.secret)
    if isinstance(message, ErrorResponse):
        return "an error", message.field(b"V"), message.field(b"C")
    return message


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.name.replace(" ", "-"))
def test_same_way_in(login: Login, direct: Address, proxied: Address) -> None:
    expected = attempt(login, direct)
    assert expected[-1] is not Ending.DEADLINE
    assert attempt(login, proxied) == expected
