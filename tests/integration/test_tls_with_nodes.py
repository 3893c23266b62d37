"""TLS with the nodes, as libpq has it. The node is a Pointsman with TLS, and a PostgreSQL with it if there is one."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.sandbox.privileges import server_account
from tests.certificates import Certificates
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

DEBIAN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)), None)

Node = Any
"""A cluster of one node, as tests.conftest.settings_for() takes it."""


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    """Where the account that PostgreSQL runs as may read them, too."""
    directory = Path(tempfile.mkdtemp(prefix="pointsman-tls-"))
    directory.chmod(0o755)
    yield Certificates(directory)
    shutil.rmtree(directory)


def node_at(endpoint: Endpoint, cluster: Sandbox, host: str = "localhost") -> Node:
    names = {"user": cluster.user, "database": cluster.database, "passwords": cluster.passwords}
    # What PostgreSQL tells of encryption is about the inner one's connection to it.
    return SimpleNamespace(nodes=[SimpleNamespace(name="db1", host=host, port=endpoint.port)], tells=False, **names)


@pytest.fixture(scope="module", params=["pointsman", "postgresql"])
def node(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A primary that offers TLS and does not insist."""
    if request.param == "pointsman":
        cluster = request.getfixturevalue("cluster")
        settings = certificates.server_settings(client_tls_sslmode="prefer", consistency="primary")
        with pointsman(cluster, tmp_path_factory.mktemp("inner"), **settings) as endpoint:
            yield node_at(endpoint, cluster)
        return
    if DEBIAN is None:
        pytest.skip("no PostgreSQL that was built with TLS")
    account = server_account()
    certificates.issue("postgresql", "localhost", "127.0.0.1")
    for file in ("postgresql.key", "postgresql.pem"):
        os.chown(certificates.path(file), account.uid, account.gid)
    parameters = {
        "ssl": "on",
        "ssl_cert_file": certificates.path("postgresql.pem"),
        "ssl_key_file": certificates.path("postgresql.key"),
    }
    before = os.environ.get("POINTSMAN_PG_BIN")
    os.environ["POINTSMAN_PG_BIN"] = str(DEBIAN.parent)
    try:
        with Sandbox(standbys=0, parameters=parameters) as sandbox:
            yield SimpleNamespace(
                nodes=[SimpleNamespace(name="db1", host="localhost", port=sandbox.primary.port)],
                user=sandbox.user,
                database=sandbox.database,
                passwords=sandbox.passwords,
                tells=True,
            )
    finally:
        if before is None:
            del os.environ["POINTSMAN_PG_BIN"]
        else:
            os.environ["POINTSMAN_PG_BIN"] = before


@contextlib.contextmanager
def in_front(node: Node, directory: Path, **settings: str) -> Iterator[tuple[Endpoint, pointsman]]:
    own = pointsman(node, directory, consistency="primary", **settings)
    with own as endpoint:
        yield endpoint, own


def encrypted(endpoint: Endpoint) -> bool:
    """Whether PostgreSQL sees the worker's connection run over TLS."""
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
        row = client.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row is not None
        return bool(row[0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"server_tls_sslmode": "disable"}, False),
        ({"server_tls_sslmode": "allow"}, False),
        ({"server_tls_sslmode": "prefer"}, True),
        ({"server_tls_sslmode": "require"}, True),
        ({"server_tls_sslmode": "verify-ca", "server_tls_ca_file": "ca.pem"}, True),
        ({"server_tls_sslmode": "verify-full", "server_tls_ca_file": "ca.pem"}, True),
    ],
)
def test_sslmodes(
    node: Node, certificates: Certificates, tmp_path: Path, settings: Mapping[str, str], expected: bool
) -> None:
    settings = {key: certificates.path(value) if "file" in key else value for key, value in settings.items()}
    with in_front(node, tmp_path, **settings) as (endpoint, _):
        seen = encrypted(endpoint)
        assert seen == expected or not node.tells


@pytest.mark.parametrize(
    "settings",
    [
        {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": "other-ca.pem"},
        {"server_tls_sslmode": "require", "server_tls_ca_file": "other-ca.pem"},
        {"server_tls_sslmode": "verify-full"},
    ],
)
def test_a_node_that_cannot_be_trusted_is_not_used(
    node: Node, certificates: Certificates, tmp_path: Path, settings: Mapping[str, str]
) -> None:
    settings = {key: certificates.path(value) if "file" in key else value for key, value in settings.items()}
    with in_front(node, tmp_path, **settings) as (endpoint, own):
        with pytest.raises(psycopg.OperationalError, match="no primary is available"):
            psycopg.connect(endpoint.conninfo())
        assert "certificate verification failed" in own.log()


def test_a_name_that_is_not_the_nodes(node: Node, certificates: Certificates, tmp_path: Path) -> None:
    elsewhere = SimpleNamespace(**vars(node))
    elsewhere.nodes = [SimpleNamespace(name="db1", host="127.0.0.2", port=node.nodes[0].port)]
    settings = {"server_tls_sslmode": "verify-full", "server_tls_ca_file": certificates.path("ca.pem")}
    with (
        in_front(elsewhere, tmp_path, **settings) as (endpoint, _),
        pytest.raises(psycopg.OperationalError, match="no primary is available"),
    ):
        psycopg.connect(endpoint.conninfo())


def test_a_node_without_tls_where_it_is_required(cluster: Sandbox, tmp_path: Path) -> None:
    with in_front(cluster, tmp_path, server_tls_sslmode="require") as (endpoint, own):
        with pytest.raises(psycopg.OperationalError, match="no primary is available"):
            psycopg.connect(endpoint.conninfo())
        assert "node not used" in own.log()


def test_direct_negotiation_and_a_certificate_of_our_own(
    cluster: Sandbox, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    strict = certificates.server_settings(
        client_tls_sslmode="verify-full", client_tls_ca_file=certificates.path("ca.pem"), consistency="primary"
    )
    ours = {
        "server_tls_sslmode": "verify-full",
        "server_tls_negotiation": "direct",
        "server_tls_ca_file": certificates.path("ca.pem"),
        "server_tls_cert_file": certificates.path("app.pem"),
        "server_tls_key_file": certificates.path("app.key"),
    }
    with (
        pointsman(cluster, tmp_path_factory.mktemp("inner"), **strict) as inner,
        in_front(node_at(inner, cluster), tmp_path_factory.mktemp("outer"), **ours) as (endpoint, _),
        psycopg.connect(endpoint.conninfo(), autocommit=True) as client,
    ):
        rows = client.execute("SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i").fetchall()
        assert len(rows) == 20_000
        began = time.monotonic()
        client.pgconn.send_query(b"SELECT pg_sleep(60)")
        eventually(
            lambda: (
                cluster.query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'")
                == [["1"]]
            )
        )
        client.cancel_safe()
        while client.pgconn.get_result() is not None:
            continue
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(("sslmode", "kind"), [("prefer", "hostnossl"), ("allow", "hostssl")])
def test_a_login_that_is_refused_is_tried_on_the_other_kind_of_connection(
    cluster: Sandbox, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory, sslmode: str, kind: str
) -> None:
    """As libpq does it: pg_hba.conf may let in without TLS whom it does not let in with it, and the other way round."""
    directory = tmp_path_factory.mktemp("inner")
    hba = directory / "hba.conf"
    hba.write_text(f"host all pointsman all scram-sha-256\n{kind} all all all scram-sha-256\n")
    choosy = certificates.server_settings(client_tls_sslmode="allow", auth_type="hba", auth_hba_file=str(hba))
    outer = tmp_path_factory.mktemp("outer")
    superuser = {"user": "postgres", "password": cluster.passwords["postgres"], "replication": "database"}
    with (
        pointsman(cluster, directory, consistency="primary", **choosy) as inner,
        in_front(node_at(inner, cluster), outer, server_tls_sslmode=sslmode) as (endpoint, own),
    ):
        for place in (inner, endpoint):
            # libpq is asked for the same, to see that it does the same.
            mode = sslmode if place is inner else "disable"
            conninfo = psycopg.conninfo.make_conninfo(place.conninfo(), sslmode=mode)
            with psycopg.connect(conninfo, autocommit=True) as one, psycopg.connect(conninfo, autocommit=True) as two:
                one.execute("BEGIN")
                assert one.execute("SELECT 1").fetchone() == two.execute("SELECT 1").fetchone() == (1,)
            conninfo = psycopg.conninfo.make_conninfo(conninfo, **superuser)
            with psycopg.connect(conninfo, autocommit=True) as sender:
                assert sender.pgconn.exec_(b"IDENTIFY_SYSTEM").ntuples == 1
        assert "could be opened" not in own.log()
        wrong = psycopg.conninfo.make_conninfo(endpoint.conninfo(), dbname="nowhere")
        with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
            psycopg.connect(wrong)
