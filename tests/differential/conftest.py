"""The two peers of every conversation: the primary itself, and Pointsman in front of its cluster."""

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.differential.raw_client import Address
from tests.differential.scenarios import SET_UP


@pytest.fixture(scope="module")
def direct(cluster: Sandbox) -> Address:
    """The primary, with what the scenarios use there and on the standbys."""
    node, password = cluster.primary, cluster.passwords[cluster.user]
    conninfo = f"host={node.host} port={node.port} user={cluster.user} password={password} dbname={cluster.database}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SET_UP)
    cluster.wait_for_replay()
    return Address(node.host, node.port, cluster.user, password, cluster.database)


@pytest.fixture(scope="module")
def proxied(endpoint: Endpoint) -> Address:
    return Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
