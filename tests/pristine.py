"""Whether a client finds anything that another one has left: every server of a pool against a connection of its own.

In: an endpoint with one worker and its `default_pool_size`. That many transactions at once, each on another server, see
all servers that the pool may have; what each of them shows of its session is compared with what a direct connection to
the same node shows. What cannot be asked for is not compared: setseed(), and the libraries that LOAD has brought in.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo

from middleware.sandbox import Sandbox
from middleware.sandbox.node import SandboxNode
from tests.conftest import Endpoint

WHO: Final = "SELECT pg_catalog.current_setting('cluster_name'), pg_catalog.pg_backend_pid()"

QUESTIONS: Final = {
    # A library that was loaded brings its settings with it, and stays.
    "settings": "SELECT name, setting, source = 'session', reset_val FROM pg_catalog.pg_settings"
    " WHERE source = 'session' OR pg_catalog.strpos(name, '.') = 0",
    "roles": "SELECT session_user, current_user, pg_catalog.current_setting('role')",
    # Without those it has by itself: a temporary schema stays, empty, once there was one.
    "search path": "SELECT pg_catalog.current_schemas(false)",
    "advisory locks": "SELECT classid, objid, objsubid, mode FROM pg_catalog.pg_locks"
    " WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()",
    "listening": "SELECT pg_catalog.pg_listening_channels()",
    "cursors": "SELECT name, statement FROM pg_catalog.pg_cursors WHERE name <> ''",
    # 2615 is pg_namespace: all that is in a schema depends on it.
    "temporary objects": "SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) FROM pg_catalog.pg_depend"
    " WHERE refclassid = 2615 AND refobjid = pg_catalog.pg_my_temp_schema()",
    # The servers keep those of Pointsman's own for all clients.
    "prepared statements": "SELECT name, statement FROM pg_catalog.pg_prepared_statements"
    " WHERE from_sql OR name NOT LIKE '\\_pointsman\\_%'",
}


class Session(NamedTuple):
    """What one server shows of its session."""

    node: str
    pid: int
    state: dict[str, list[str]]


def assert_pristine(
    cluster: Sandbox, endpoint: Endpoint, pool_size: int, *, custom: Sequence[str] = (), standbys: bool = True
) -> None:
    """Every server that the endpoint's user has in its database is as new, on the primary and on the standbys.

    `custom` names settings that are in no list, since nobody has declared them. The pool is filled up by it: no other
    client may be in a transaction, or keep its server.
    """
    differences = []
    for route, nodes in (("primary", (cluster.primary,)), ("standby", cluster.standbys if standbys else ())):
        fresh = {node.name: _direct(node, endpoint, custom) for node in nodes}
        seen = _served(endpoint, route, pool_size * len(nodes), custom)
        for node in nodes:
            count = len({one.pid for one in seen if one.node == node.name})
            assert count == pool_size, f"{count} of {pool_size} servers seen on {node.name}"
        differences += [line for one in seen for line in differences_of(fresh[one.node], one)]
    assert not differences, "\n".join(["what clients have left behind:", *differences])


def _served(endpoint: Endpoint, route: str, number: int, custom: Sequence[str]) -> list[Session]:
    """What so many clients see, all in transactions at the same time."""
    conninfo = make_conninfo(endpoint.conninfo(), options=f"-c pointsman.route={route}")
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(_transaction(conninfo)) for _ in range(number)]
        return [session_of(client, custom) for client in clients]


def _direct(node: SandboxNode, endpoint: Endpoint, custom: Sequence[str]) -> Session:
    with _transaction(endpoint._replace(host=node.host, port=node.port).conninfo()) as client:
        return session_of(client, custom)


@contextmanager
def _transaction(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as client:
        client.execute("BEGIN")
        yield client
        client.execute("ROLLBACK")


def session_of(client: psycopg.Connection[Any], custom: Sequence[str]) -> Session:
    """What a client in a transaction sees of the server's session; it ends with an error in that transaction."""
    node, pid = client.execute(WHO).fetchall()[0]
    state = {
        what: sorted(" | ".join(map(str, row)) for row in client.execute(question.encode()))
        for what, question in QUESTIONS.items()
    }
    for name in custom:
        value = client.execute("SELECT pg_catalog.current_setting(%s, true)", (name,)).fetchone()
        # Once there, a setting of this kind is never gone again: RESET leaves it empty.
        state[name] = [str(value[0] or "") if value else ""]
    try:
        state["last value of a sequence"] = [str(client.execute("SELECT pg_catalog.lastval()").fetchone())]
    except psycopg.errors.ObjectNotInPrerequisiteState:
        state["last value of a sequence"] = []
    return Session(node, pid, state)


def differences_of(fresh: Session, seen: Session) -> list[str]:
    """What was seen on a server and is not as on a new connection, a line for each kind."""
    return [
        f"{seen.node}, process {seen.pid}, {what}: {sorted(set(left) - set(fresh.state[what])) or 'nothing'},"
        f" where a new connection has {sorted(set(fresh.state[what]) - set(left)) or 'nothing'}"
        for what, left in seen.state.items()
        if left != fresh.state[what]
    ]
