"""CancelRequest at PostgreSQL and at Pointsman: the right key ends the statement, a wrong one does nothing."""

from collections.abc import Callable

import pytest

from middleware.wire.backend import BackendKeyData, DataRow, ErrorResponse, ReadyForQuery
from middleware.wire.codes import PROTOCOL_3_0, PROTOCOL_3_2
from middleware.wire.frontend import CancelRequest, Query, StartupMessage
from tests.differential.raw_client import Address, Ending, RawClient

pytestmark = pytest.mark.integration


@pytest.fixture(params=["direct", "proxied"])
def address(request: pytest.FixtureRequest) -> Address:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Address)
    return found


def send(address: Address, request: CancelRequest) -> None:
    """Ask on a connection of its own, which is closed without an answer."""
    with RawClient(address) as asking:
        asking.send(request.encode())
        assert asking.read(1) == ([], Ending.EOF)


def logged_in(client: RawClient, address: Address, protocol: int) -> BackendKeyData:
    who = ((b"user", address.user.encode()), (b"database", address.database.encode()))
    client.log_in(StartupMessage(who, protocol).encode())
    assert client.key is not None
    return client.key


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("begin", [b"", b"begin; "])
def test_the_right_key(address: Address, protocol: int, begin: bytes) -> None:
    with RawClient(address) as client:
        key = logged_in(client, address, protocol)
        # Rows too large to wait in the backend's buffer tell that the string is being run.
        rows = b"select repeat('x', 100000) from generate_series(1, 2); "
        client.send(Query(begin + rows + b"select pg_sleep(60)").encode())
        assert client.read(1, DataRow)[1] is Ending.ENOUGH
        send(address, CancelRequest(key.process_id, key.secret))
        came, ending = client.read(1)
        errors = [message.field(b"C") for message in came if isinstance(message, ErrorResponse)]
        assert errors == [b"57014"]
        assert ending is Ending.ENOUGH
        assert came[-1] == ReadyForQuery(b"E" if begin else b"I")
        client.send(Query(b"rollback; select 1").encode())
        assert client.read(1)[0][-1] == ReadyForQuery(b"I")


def _other_secret(key: BackendKeyData) -> CancelRequest:
    return CancelRequest(key.process_id, bytes(byte ^ 1 for byte in key.secret))


def _shorter_secret(key: BackendKeyData) -> CancelRequest:
    return CancelRequest(key.process_id, key.secret[:4] + b"\0" if len(key.secret) == 4 else key.secret[:4])


def _other_process(key: BackendKeyData) -> CancelRequest:
    return CancelRequest(key.process_id ^ 0x40000000, key.secret)


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("wrong", [_other_secret, _shorter_secret, _other_process])
def test_a_wrong_key(address: Address, protocol: int, wrong: Callable[[BackendKeyData], CancelRequest]) -> None:
    with RawClient(address) as client:
        key = logged_in(client, address, protocol)
        client.send(Query(b"select 0; select pg_sleep(0.3)").encode())
        send(address, wrong(key))
        came, ending = client.read(1)
        assert ending is Ending.ENOUGH
        assert not any(isinstance(message, ErrorResponse) for message in came)


def test_nothing_to_cancel(address: Address) -> None:
    with RawClient(address) as client:
        key = logged_in(client, address, PROTOCOL_3_0)
        send(address, CancelRequest(key.process_id, key.secret))
        client.send(Query(b"select 1").encode())
        came, _ = client.read(1)
        assert came[-1] == ReadyForQuery(b"I")
