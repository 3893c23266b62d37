"""What health endpoints say: decided on values, and asked of a real Pointsman."""

import os
import signal
import time
from typing import Any

import httpx
import msgspec
import pytest

from healthcheck.topology import Condition, Node, Role
from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from middleware.service import running
from middleware.supervisor import Supervisor
from middleware.supervisor.workers import WorkerLife
from middleware.web import health
from middleware.web.health import HEARD_S, Mistake, live, parse_size, ready, replicas
from tests.supervisor import quick
from tests.supervisor.conftest import ask, settings, until
from tests.web.conftest import serving

NOW = 1000.0
WELL = WorkerLife(0, 11, True, 0, NOW - 1)
PRIMARY = Node("db1", "127.0.0.1", 1, Role.PRIMARY, True, condition=Condition.UP)
STANDBY = Node("db2", "127.0.0.1", 2, Role.STANDBY, True, 1000, condition=Condition.UP)
DOWN = Node("db1", "127.0.0.1", 1, Role.PRIMARY, False, None, "connection refused", Condition.DOWN)


def with_nodes(**changes: Any) -> Any:
    nodes = {name: {"host": "127.0.0.1", "port": 1} for name in ("db1", "db2")}
    return settings(nodes=nodes, **changes)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1048576), ("16kB", 16 * 1024), ("10MB", 10 * 1024**2), ("1gb", 1024**3), (" 2 TB", None),
     ("", None), ("10 apples", None), ("-1", None), ("1.5MB", None), ("9" * 19, None), ("٣MB", None)],
)  # fmt: skip
def test_sizes_are_postgresqls(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(Mistake):
            parse_size(text)
    else:
        assert parse_size(text) == size


def test_the_process_is_to_be_started_again_for_a_worker_that_is_gone_or_stands_still() -> None:
    def said(**changes: Any) -> str:
        return live("serving", [WELL, msgspec.structs.replace(WELL, worker=1, **changes)], NOW)

    assert said() == ""
    assert said(pid=None) == "worker 1 has no process"
    assert said(ready=False) == "worker 1 does not accept clients yet"
    assert said(heard_at=NOW - HEARD_S - 5) == "worker 1 has said nothing for 15 s"
    # They come and go then, and that is no reason to start all again.
    gone = [msgspec.structs.replace(WELL, pid=None, ready=False)]
    assert live("draining", gone, NOW) == live("starting", gone, NOW) == ""


def test_clients_are_sent_where_a_primary_is_or_a_standby_may_serve() -> None:
    by_standbys, alone = with_nodes(), with_nodes(consistency="primary")
    mixed = with_nodes(consistency="primary", routes=[{"user": "report", "consistency": "eventual"}])
    refused = with_nodes(consistency="primary", routes=[{"user": "a", "consistency": "eventual", "refuse": "on"}])
    assert ready("serving", [WELL], [PRIMARY, STANDBY], alone, NOW) == ""
    assert ready("serving", [WELL], [DOWN, STANDBY], by_standbys, NOW) == ""
    assert ready("serving", [WELL], [DOWN, STANDBY], mixed, NOW) == ""
    for none in (alone, refused):
        assert ready("serving", [WELL], [DOWN, STANDBY], none, NOW) == (
            "no primary is in use, and no rule lets standbys serve reads"
        )
    assert ready("serving", [WELL], [DOWN], by_standbys, NOW) == "neither a primary nor a standby is in use"
    assert ready("draining", [WELL], [PRIMARY], alone, NOW) == "draining: no new clients are taken"
    assert ready("starting", [WELL], [PRIMARY], alone, NOW) == "starting"
    # One that accepts is enough: the sockets are shared.
    dead = msgspec.structs.replace(WELL, worker=1, pid=None)
    assert ready("serving", [WELL, dead], [PRIMARY], alone, NOW) == ""
    assert ready("serving", [dead], [PRIMARY], alone, NOW) == "no worker accepts clients"


def test_a_replica_is_a_standby_that_is_given_reads_and_known_to_be_near_enough() -> None:
    chosen = with_nodes()
    unknown = msgspec.structs.replace(STANDBY, replay_lag_bytes=None)
    assert replicas([PRIMARY, STANDBY], chosen, None) == [STANDBY]
    assert replicas([PRIMARY, STANDBY], chosen, 1000) == [STANDBY]
    assert replicas([PRIMARY, STANDBY], chosen, 999) == []
    assert replicas([unknown], chosen, None) == [unknown]
    assert replicas([unknown], chosen, 10**9) == []
    assert replicas([msgspec.structs.replace(STANDBY, up=False)], chosen, None) == []
    weightless = settings(nodes={"db2": {"host": "127.0.0.1", "port": 1, "weight": 0}})
    assert replicas([STANDBY], weightless, None) == []


@pytest.mark.anyio
async def test_without_nodes_it_lives_and_is_not_ready() -> None:
    async with serving(workers=2) as (supervisor, client):
        assert (await client.get("/healthz")).json()["ok"] is True
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {
            "ok": False,
            "why": "neither a primary nor a standby is in use",
            "phase": "serving",
            "primary": None,
            "nodes": [
                {"name": "db1", "role": "unknown", "used": False, "condition": "down", "replay_lag_bytes": None,
                 "why": "connection refused"}
            ],
        }  # fmt: skip
        for path in ("/primary", "/read-write", "/replica", "/read-only", "/nodes/db1"):
            for method in ("GET", "HEAD", "OPTIONS"):
                assert (await client.request(method, path)).status_code == 503, (method, path)
            assert (await client.options(path)).content == b""
        assert supervisor.phase == "serving"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/replica?lag=ten", 400),
        ("/replica?lga=10", 400),
        ("/primary?lag=10", 400),
        ("/nodes/db9", 404),
        ("/nodes/db1?role=king", 400),
        ("/nodes/db1?lag=", 400),
        ("/nodes/%2e%2e%2fdb1", 404),
    ],
)
async def test_what_makes_no_sense_is_said(path: str, status: int) -> None:
    async with serving() as (_, client):
        answer = await client.get(path)
        assert answer.status_code == status
        assert len(answer.text.splitlines()) == 1


@pytest.mark.anyio
async def test_a_worker_that_died_or_stands_still_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(workers=2) as (supervisor, client):

        async def status(path: str) -> int:
            return (await client.get(path)).status_code

        async def well() -> bool:
            return await status("/healthz") == 200

        async def not_well() -> bool:
            return await status("/healthz") == 503

        before = supervisor.worker_pids
        await ask(supervisor, 1, "exit 1")
        await until(lambda: _differs(supervisor, before), "another process")
        await until(well, "the next worker")
        assert [one.restarts for one in supervisor.lives()] == [0, 1]
        # An echo worker speaks once, and then when it is told to: it is not heard of again.
        monkeypatch.setattr(health, "HEARD_S", 0.5)
        await until(not_well, "its silence to be noticed")
        assert "has said nothing" in (await client.get("/healthz")).json()["why"]


async def _differs(supervisor: Supervisor, before: tuple[int | None, ...]) -> bool:
    return None not in supervisor.worker_pids and supervisor.worker_pids != before


@pytest.mark.anyio
@pytest.mark.integration
async def test_real_nodes_and_the_loss_of_each(sandbox: Sandbox) -> None:
    port = free_port()
    chosen = quick.quick_settings(sandbox, http_port=port, workers=2)
    async with (
        running(chosen) as supervisor,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client,
    ):

        async def statuses() -> dict[str, int]:
            paths = ("/healthz", "/readyz", "/primary", "/replica", "/replica?lag=100MB", "/read-only", "/read-write")
            nodes = ("/nodes/db1", "/nodes/db2?role=standby", "/nodes/db2?role=primary", "/nodes/db2?lag=100MB")
            return {path: (await client.get(path)).status_code for path in (*paths, *nodes)}

        async def all_up() -> bool:
            found = await statuses()
            return found.pop("/nodes/db2?role=primary") == 503 and set(found.values()) == {200}

        await until(all_up, "both nodes")
        answer = (await client.get("/replica")).json()
        assert answer["primary"] == "db1"
        assert [(one["name"], one["role"]) for one in answer["nodes"]] == [("db1", "primary"), ("db2", "standby")]

        sandbox.nodes[1].stop("immediate")
        await quick.until(lambda: not supervisor.topology.standbys(), supervisor)
        found = await statuses()
        assert {path for path, status in found.items() if status != 200} == {
            "/replica", "/replica?lag=100MB", "/nodes/db2?role=standby", "/nodes/db2?role=primary",
            "/nodes/db2?lag=100MB",
        }  # fmt: skip
        sandbox.nodes[1].start()
        await until(all_up, "the standby again")

        sandbox.nodes[0].stop("immediate")
        await quick.until(lambda: supervisor.topology.primary() is None, supervisor)
        found = await statuses()
        # Standbys go on to serve reads, so clients may still come.
        assert {path for path, status in found.items() if status == 200} >= {
            "/healthz",
            "/readyz",
            "/replica",
            "/read-only",
        }
        assert {found[path] for path in ("/primary", "/read-write", "/nodes/db1")} == {503}


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_real_worker_that_is_stopped_is_noticed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "HEARD_S", 3.0)
    port = free_port()
    async with (
        running(quick.quick_settings(sandbox, http_port=port)) as supervisor,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client,
    ):
        pid = supervisor.worker_pids[0]
        assert pid is not None

        async def says(path: str, status: int) -> bool:
            return (await client.get(path)).status_code == status

        begun = time.monotonic()
        # A worker that is well is heard of all the time.
        while time.monotonic() < begun + 5:
            assert await says("/healthz", 200)
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: says("/healthz", 503), "its silence to be noticed")
            assert await says("/readyz", 503)
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: says("/healthz", 200), "it to go on")
