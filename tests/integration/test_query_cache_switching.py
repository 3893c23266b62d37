"""The query cache of a Pointsman that runs, turned on and off by `pointsman cache` beneath its clients."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.integration.test_query_cache import cached, value
from tests.waiting import eventually

pytestmark = pytest.mark.integration

STOCK = "SELECT n FROM stock WHERE id = 1"
RULES = [
    {"name": "web", "application_name": "web", "query_cache": "hint"},
    {"name": "report", "application_name": "report"},
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox(standbys=0) as sandbox:
        sandbox.query("CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL); GRANT ALL ON stock TO app")
        sandbox.query("INSERT INTO stock VALUES (1, 0)")
        yield sandbox


class Running:
    """A Pointsman with two workers, and its shell."""

    def __init__(self, endpoint: Endpoint, directory: Path) -> None:
        self.endpoint = endpoint
        self.directory = directory

    def cache(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "middleware", "cache", *arguments, "-c", str(self.directory / "pointsman.toml")],
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def stats(self) -> Any:
        return json.loads(self.cache("stats", "--json"))

    def connect(self, application: str = "other", **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.endpoint.conninfo(), autocommit=True, **{"application_name": application, **options}
        )


@pytest.fixture
def off(cluster: Sandbox, tmp_path: Path) -> Iterator[Running]:
    """All rules have it off."""
    settings = {"control_socket": str(tmp_path / "control"), "cache_watch": "off", "read_from_primary": "always"}
    with pointsman(cluster, tmp_path, workers=2, **settings) as endpoint:
        yield Running(endpoint, tmp_path)


@pytest.fixture
def ruled(cluster: Sandbox, tmp_path: Path) -> Iterator[Running]:
    """A rule has it on for what asks."""
    settings = {"control_socket": str(tmp_path / "control"), "cache_watch": "off", "read_from_primary": "always"}
    with pointsman(cluster, tmp_path, workers=2, routes=RULES, **settings) as endpoint:
        yield Running(endpoint, tmp_path)


def test_it_is_turned_on_and_off_beneath_clients(off: Running) -> None:
    with off.connect() as one, off.connect() as other:
        one.execute("SET pointsman.query_cache = on")
        # It is off as a whole.
        assert [cached(one, STOCK) for _ in range(3)] == [False] * 3
        off.cache("on")
        for connection in (one, other):
            eventually(lambda connection=connection: cached(connection, STOCK))  # type: ignore[misc]
        before = value(one, STOCK)
        other.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
        assert value(one, STOCK) == before + 1
        off.cache("off")
        assert [cached(one, STOCK) for _ in range(3)] == [False] * 3
        # Nobody tells of this one.
        other.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
        off.cache("on")
        assert value(one, STOCK) == before + 2
        eventually(lambda: cached(one, STOCK))
        assert value(one, STOCK) == before + 2


def test_what_was_written_before_it_was_turned_on_is_told_of_when_it_commits(off: Running) -> None:
    with off.connect() as writer, off.connect() as reader:
        before = value(reader, STOCK)
        writer.execute("BEGIN")
        writer.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
        off.cache("on")
        eventually(lambda: cached(reader, STOCK))
        assert value(reader, STOCK) == before
        writer.execute("COMMIT")
        assert value(reader, STOCK) == before + 1


def test_rules_have_it_by_the_settings_their_sessions_and_statements(ruled: Running) -> None:
    hinted = f"/* pointsman: cache */ {STOCK}"
    with ruled.connect("web") as web, ruled.connect("report") as report:
        eventually(lambda: cached(web, hinted))
        assert not cached(web, f"{STOCK} OR false")
        assert not cached(report, STOCK)
        report.execute("SET pointsman.query_cache = on")
        eventually(lambda: cached(report, STOCK))
        ruled.cache("off", "--route", "report")
        assert [cached(report, STOCK) for _ in range(2)] == [False] * 2
        assert cached(web, hinted)
        ruled.cache("off", "--route", "web")
        assert ruled.stats()["state"]["serving"] is False
        ruled.cache("default")
        eventually(lambda: cached(web, hinted))


def test_what_is_cleared_is_read_again_and_counted(ruled: Running) -> None:
    hinted = f"/* pointsman: cache */ {STOCK}"
    with ruled.connect("web") as web:
        eventually(lambda: cached(web, hinted))
        eventually(lambda: ruled.stats()["counters"]["entries"] >= 1)
        ruled.cache("clear")
        assert not cached(web, hinted)
        eventually(lambda: cached(web, hinted))

        def counted() -> bool:
            counters = ruled.stats()["counters"]
            (digest,) = counters["digests"]
            assert digest["shape"].endswith("SELECT n FROM stock WHERE id = $1")
            return bool(counters["invalidations"].get("clear") == 1 and digest["hits"] == counters["hits"] >= 2)

        eventually(counted)


def test_a_worker_that_is_killed_is_followed_by_one_that_serves(ruled: Running) -> None:
    hinted = f"/* pointsman: cache */ {STOCK}"
    ruled.cache("on")
    with ruled.connect() as one:
        eventually(lambda: cached(one, hinted))
    done = subprocess.run(
        [sys.executable, "-m", "middleware", "status", "--json", "-c", str(ruled.directory / "pointsman.toml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for worker in json.loads(done.stdout)["workers"]:
        os.kill(worker["pid"], 9)

    def served() -> bool:
        try:
            with ruled.connect() as again:
                return any(cached(again, STOCK) for _ in range(3))
        except psycopg.OperationalError:
            return False

    eventually(served, 20.0)
    assert ruled.stats()["state"]["routes"][0] == {"name": "web", "mode": "on", "by": "operator"}
