"""The supervisor's deciding parts, on values: restarts, the outbox, totals, and listening sockets."""

import math
import os
import socket
import stat
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from healthcheck.line import Credentials
from healthcheck.topology import Node, Role, Topology
from middleware.control import Counters, Drain, ForwardCancel, NodeCounters, SetCatalog, SetTopology
from middleware.sandbox import Sandbox
from middleware.supervisor import ListenError, catalogs
from middleware.supervisor.catalogs import Catalogs
from middleware.supervisor.counters import Totals
from middleware.supervisor.listeners import open_listeners
from middleware.supervisor.outbox import PASSED_MAX, Outbox
from middleware.supervisor.workers import STEADY_S, RestartDelay
from routing.catalog import Catalog


def test_restarts_slow_down_while_a_worker_dies_young() -> None:
    delay = RestartDelay()
    assert [delay.after(0.1) for _ in range(9)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert delay.after(STEADY_S) == 0.0
    assert delay.after(0.1) == 0.1


def test_the_outbox_keeps_the_newest_of_each_snapshot() -> None:
    outbox = Outbox()
    for version in range(3):
        outbox.put(SetTopology(Topology(version)))
        outbox.put(SetCatalog(Catalog("a", version), 0.0, 0.0))
        outbox.put(SetCatalog(Catalog("b", version), 0.0, 0.0))
    assert outbox.take() == [
        SetTopology(Topology(2)),
        SetCatalog(Catalog("a", 2), 0.0, 0.0),
        SetCatalog(Catalog("b", 2), 0.0, 0.0),
    ]
    assert outbox.take() == []


def test_the_outbox_is_bounded_and_the_drain_is_not_lost_in_it() -> None:
    outbox = Outbox()
    outbox.put(Drain(1.0))
    for serial in range(PASSED_MAX + 5):
        outbox.put(ForwardCancel(serial, b""))
    taken = outbox.take()
    assert taken[0] == Drain(1.0)
    assert taken[1:] == [ForwardCancel(serial, b"") for serial in range(5, PASSED_MAX + 5)]


def test_totals_start_at_nothing_and_a_worker_that_never_reported_changes_nothing() -> None:
    totals = Totals()
    totals.ended(3)
    assert totals.snapshot().nodes == {}


def test_totals_keep_what_the_dead_counted_through_many_lives() -> None:
    totals = Totals()
    for _ in range(3):
        totals.reported(Counters(0, 1, 1, (NodeCounters("a", 5, 2, 1, 1),)))
        totals.ended(0)
    totals.reported(Counters(0, 4, 0, (NodeCounters("a", 1, 1, 2, 3), NodeCounters("b", 1, 0, 0, 0))))
    snapshot = totals.snapshot()
    assert snapshot.nodes == {"a": NodeCounters("a", 16, 7, 2, 3), "b": NodeCounters("b", 1, 0, 0, 0)}
    assert snapshot.clients == 4


def test_a_report_tells_who_has_answered_since_the_last() -> None:
    totals = Totals()

    def report(worker: int, **answers: int) -> list[str]:
        nodes = tuple(NodeCounters(name, 0, 0, 0, 0, count) for name, count in answers.items())
        return totals.reported(Counters(worker, 0, 0, nodes))

    assert report(0, a=3, b=0) == ["a"]
    assert report(0, a=3, b=1) == ["b"]
    assert report(1, a=1) == ["a"]
    assert report(0, a=3, b=1, c=2) == ["c"]
    assert totals.snapshot().nodes["a"].answers == 4


def test_a_unix_socket_has_its_mode_and_goes_with_the_listeners(tmp_path: Path) -> None:
    listeners = open_listeners((), 6432, tmp_path, 0o750)
    path = tmp_path / ".s.PGSQL.6432"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close()
    listeners.close()
    assert not path.exists()


def test_a_stale_socket_file_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / ".s.PGSQL.6432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listeners = open_listeners((), 6432, tmp_path, 0o777)
    with pytest.raises(ListenError, match="address already in use"):
        open_listeners((), 6432, tmp_path, 0o777)
    listeners.close()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".s.PGSQL.6432"
    path.write_text("mine")
    with pytest.raises(ListenError, match="not a socket"):
        open_listeners((), 6432, tmp_path, 0o777)
    assert path.read_text() == "mine"


def test_a_successors_socket_file_is_left_alone(tmp_path: Path) -> None:
    first = open_listeners((), 6432, tmp_path, 0o777)
    os.unlink(tmp_path / ".s.PGSQL.6432")
    second = open_listeners((), 6432, tmp_path, 0o777)
    first.close()
    assert (tmp_path / ".s.PGSQL.6432").is_socket()
    second.close()


def test_a_path_too_long_for_a_socket_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="longer than 107 bytes"):
        open_listeners((), 6432, tmp_path / ("x" * 100), 0o777)


def test_a_free_port_is_the_same_on_every_address(tmp_path: Path) -> None:
    listeners = open_listeners(("*",), 0, tmp_path, 0o777)
    ports = {port for _, port in listeners.addresses}
    assert len(ports) == 1
    assert listeners.unix_path == tmp_path / f".s.PGSQL.{ports.pop()}"
    listeners.close()


def test_a_port_in_use_is_one_line_and_leaves_nothing_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"could not listen on 127.0.0.1:{port}: address already in use"):
            open_listeners(("127.0.0.1",), port, None, 0o777)


def test_a_name_that_does_not_resolve_is_one_line() -> None:
    with pytest.raises(ListenError, match=r'could not resolve listen_addr "no\.such\.invalid"'):
        open_listeners(("no.such.invalid",), 0, None, 0o777)


def test_what_was_asked_for_last_is_kept_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "DATABASES_MAX", 2)
    published: list[SetCatalog] = []
    node = Node("db1", "127.0.0.1", 1, Role.PRIMARY, True)
    credentials = Credentials("m", None, "postgres")
    known = Catalogs(credentials, lambda: Topology(1, (node,)), published.append, refresh_s=1.0, timeout_s=1.0)
    monkeypatch.setattr(catalogs, "KEPT_S", 1e9)
    for database in ("a", "b", "a", "c"):
        known.wanted(database, stale=False)
    # Whose catalogs were asked for a moment ago keep them: else all would be read over and over.
    assert list(known._entries) == ["b", "a"]
    monkeypatch.setattr(catalogs, "KEPT_S", 0.0)
    known.wanted("c", stale=False)
    assert list(known._entries) == ["a", "c"]
    # Nothing had been told of the forgotten one, so there is nothing to take back.
    assert published == []


@pytest.mark.integration
@pytest.mark.anyio
async def test_who_asks_is_told_when_a_catalog_was_read_last_and_what_that_has_found(cluster: Sandbox) -> None:
    """Also if it has found what was known: and a reading that was under way when one was suspected does not do."""
    found: list[tuple[str, int, float]] = []
    published: list[SetCatalog] = []
    primary = cluster.primary
    node = Node(primary.name, primary.host, primary.port, Role.PRIMARY, True)
    known = Catalogs(
        Credentials("pointsman", cluster.passwords["pointsman"], "postgres"),
        lambda: Topology(1, (node,)),
        published.append,
        refresh_s=600.0,
        timeout_s=10.0,
        found=lambda *what: found.append(what),
    )
    async with anyio.create_task_group() as tasks:
        known.wanted("app", stale=False)
        tasks.start_soon(known.run)
        with anyio.fail_after(30):
            while known._entries["app"].due != math.inf:
                await anyio.lowlevel.checkpoint()
            # It is being connected for.
            await anyio.wait_all_tasks_blocked()
            suspected_at = time.monotonic()
            known.suspected("app")
            while len(found) < 2:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    (_, version, first), (database, again, second) = found
    assert (database, version, again) == ("app", published[0].catalog.version, version)
    assert first < suspected_at < second
    assert len(published) == 1
