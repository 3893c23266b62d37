"""One conversation with PostgreSQL, the same with Pointsman in front of it: the same answers, message by message."""

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.differential.conversation import hold
from tests.differential.raw_client import Address, Ending
from tests.differential.scenarios import SCENARIOS, SET_UP, Scenario

pytestmark = pytest.mark.integration


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


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_same_answers(scenario: Scenario, direct: Address, proxied: Address) -> None:
    expected = hold(scenario, direct)
    assert all(ending is not Ending.DEADLINE for _, ending in expected)
    assert hold(scenario, proxied) == expected
