"""What tests of session state share: few servers for many clients, and clients that keep these servers moving."""

import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.pristine import assert_pristine

POOL_SIZE: Final = 4
"""As many as pg_dump with two jobs needs at once, and one: the crowd holds one while it waits for another."""


class Shared(NamedTuple):
    """A cluster, the endpoint in front of it, and ways to either."""

    cluster: Sandbox
    endpoint: Endpoint

    def urls(self, database: str = "app") -> dict[str, str]:
        """Of the primary, and of the endpoint."""
        return {
            "direct": self.cluster.url(database=database),
            "pointsman": self.endpoint._replace(database=database).url(),
        }

    def make(self, ddl: str, database: str = "app") -> None:
        """Run DDL on the primary, as the user, and wait until the standbys have it."""
        self.cluster.query(ddl, user=self.cluster.user, database=database)
        self.cluster.wait_for_replay()

    def assert_pristine(self, database: str = "app") -> None:
        """Nothing is left on any server for the next client."""
        assert_pristine(self.cluster, self.endpoint._replace(database=database), POOL_SIZE)


@pytest.fixture(scope="session")
def shared_endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Pointsman with one worker and few servers per pool."""
    directory = tmp_path_factory.mktemp("shared")
    with pointsman(cluster, directory, workers=1, default_pool_size=POOL_SIZE) as running:
        yield running


@pytest.fixture
def shared(cluster: Sandbox, shared_endpoint: Endpoint) -> Iterator[Shared]:
    """The state of all its servers is looked at after the test. What the user owns is gone then, too."""
    both = Shared(cluster, shared_endpoint)
    yield both
    cluster.query(
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata; DROP OWNED BY app; GRANT ALL ON SCHEMA public TO app"
    )
    cluster.wait_for_replay()
    both.assert_pristine()


@pytest.fixture
def crowd(shared: Shared) -> Iterator[None]:
    """Other clients of the endpoint, with settings of their own, which see these and nothing else all the time.

    Their transactions overlap and end in turn, so that no client is given the same server again for long.
    """
    started, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def go_on() -> None:
        try:
            _be_a_crowd(shared.endpoint.conninfo(), started, stop)
        except BaseException as error:
            failures.append(error)
            started.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert started.wait(30)
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


STRANGE: Final = {
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "extra_float_digits": "-5",
    "intervalstyle": "sql_standard",
    "standard_conforming_strings": "off",
    "timezone": "Asia/Tokyo",
}
SHOWN: Final = "SELECT " + ", ".join(f"current_setting('{name}')" for name in STRANGE)


def _be_a_crowd(conninfo: str, started: threading.Event, stop: threading.Event) -> None:
    with _connect(conninfo) as plain, _connect(conninfo) as strange:
        expected = {plain: _shown(plain), strange: tuple(STRANGE.values())}
        for name, value in STRANGE.items():
            strange.execute("SELECT set_config(%s, %s, false)", (name, value))
        while not stop.is_set():
            for first, second in ((plain, strange), (strange, plain)):
                for client in (first, second):
                    client.execute("BEGIN")
                    assert _shown(client) == expected[client]
                first.execute("COMMIT")
                assert _shown(first) == expected[first]
                second.execute("COMMIT")
            started.set()


def _connect(conninfo: str) -> psycopg.Connection[Any]:
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def _shown(client: psycopg.Connection[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] = client.execute(SHOWN.encode()).fetchall()[0]
    return row
