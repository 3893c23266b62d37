"""What is asked, twice over: the primary itself, and a Pointsman that caches, in front of a cluster that logs all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import pointsman
from tests.differential.raw_client import Address
from tests.identity.served import LOGGING, Served
from tests.identity.statements import SET_UP


class Asked(NamedTuple):
    """Whom to ask, and what was asked of the servers."""

    cluster: Sandbox
    direct: Address
    cached: Address
    served: Served
    config: Path

    def said_of_cache(self) -> str:
        """What the cache has done, for people."""
        command = [sys.executable, "-m", "middleware", "cache", "stats", "-c", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.fixture(scope="package")
def logging_cluster() -> Iterator[Sandbox]:
    """A primary and a standby whose logs tell of each statement."""
    version = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
    with Sandbox(standbys=1, version=version, parameters=LOGGING) as own:
        with psycopg.connect(own.url(), autocommit=True) as connection:
            connection.execute(SET_UP)
        own.wait_for_replay()
        yield own


@pytest.fixture(scope="package")
def peers(logging_cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One worker: what one client's read has left, the next one finds."""
    cluster, directory = logging_cluster, tmp_path_factory.mktemp("identity")
    settings = {"query_cache": "on", "cache_watch": "off", "query_cache_ttl": 0, "control_socket": str(directory / "c")}
    password, node = cluster.passwords[cluster.user], cluster.primary
    with pointsman(cluster, directory, workers=1, **settings) as endpoint:
        direct = Address(node.host, node.port, cluster.user, password, cluster.database)
        cached = Address(endpoint.host, endpoint.port, cluster.user, password, cluster.database)
        yield Asked(cluster, direct, cached, Served(cluster), directory / "pointsman.toml")
