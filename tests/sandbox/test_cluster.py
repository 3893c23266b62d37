"""A sandbox that runs: what it is made of, and what can be done to it."""

from __future__ import annotations

import socket
import subprocess

import pytest

from middleware.sandbox import Sandbox, SandboxError, process_node
from middleware.sandbox.node import HOST
from middleware.sandbox.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_standbys_stream_through_slots(cluster: Sandbox) -> None:
    streaming = (
        "SELECT application_name, state, slot_name FROM pg_stat_replication"
        " JOIN pg_replication_slots ON pid = active_pid ORDER BY 1"
    )
    # Another test may just have had one of them restarted.
    eventually(lambda: cluster.query(streaming) == [["db2", "streaming", "db2"], ["db3", "streaming", "db3"]])
    assert [node.name for node in cluster.standbys] == ["db2", "db3"]
    assert [cluster.query("SELECT pg_is_in_recovery()", node) for node in cluster.nodes] == [[["f"]], [["t"]], [["t"]]]


def test_replay_reaches_all_standbys(cluster: Sandbox) -> None:
    cluster.query("CREATE TABLE replayed (n int); INSERT INTO replayed SELECT generate_series(1, 1000)", user="app")
    try:
        cluster.wait_for_replay()
        for node in cluster.standbys:
            assert cluster.query("SELECT count(*) FROM replayed", node, user="app") == [["1000"]]
    finally:
        cluster.query("DROP TABLE replayed", user="app")


def test_replay_that_does_not_come_is_an_error(cluster: Sandbox) -> None:
    cluster.query("SELECT pg_wal_replay_pause()", cluster.nodes[1])
    try:
        with pytest.raises(SandboxError, match=r'node "db2" did not replay up to \w+/\w+ within 0.3 s'):
            cluster.wait_for_replay(timeout_s=0.3)
    finally:
        cluster.query("SELECT pg_wal_replay_resume()", cluster.nodes[1])
    cluster.wait_for_replay()


def test_a_value_keeps_its_separators(cluster: Sandbox) -> None:
    assert cluster.query("""VALUES ('a,b|"c"', E'line\\nline', NULL), ('', ' ', 'é')""") == [
        ['a,b|"c"', "line\nline", ""],
        ["", " ", "é"],
    ]


def test_a_failed_query_says_where_and_why(cluster: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r'node "db2".*read-only transaction'):
        cluster.query("CREATE TABLE nowhere ()", cluster.nodes[1])


@pytest.mark.parametrize("user", ["postgres", "app", "pointsman"])
def test_passwords_are_checked(cluster: Sandbox, user: str) -> None:
    psql = cluster.program("psql")
    right = cluster.url(cluster.nodes[2], user=user)
    wrong = right.replace(cluster.passwords[user], "wrong")
    assert subprocess.run([psql, "-Xc", "SELECT 1", right], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([psql, "-Xc", "SELECT 1", wrong], capture_output=True, text=True, check=False)
    assert "password authentication failed" in refused.stderr


def test_roles(cluster: Sandbox) -> None:
    assert cluster.query("SELECT pg_has_role('pointsman', 'pg_monitor', 'member')") == [["t"]]
    [[secret]] = cluster.query("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    assert secret.startswith("SCRAM-SHA-256$")
    assert cluster.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'", user="app") == [["f"]]


def test_version_16_with_settings_of_ones_own() -> None:
    with Sandbox(standbys=1, version=16, parameters={"work_mem": "7MB", "log_line_prefix": "it's "}) as sandbox:
        assert sandbox.version == 16
        for node in sandbox.nodes:
            assert sandbox.query("SELECT current_setting('server_version_num')::int / 10000", node) == [["16"]]
            assert sandbox.query("SHOW work_mem", node) == [["7MB"]]
            assert sandbox.query("SHOW log_line_prefix", node) == [["it's "]]
            assert sandbox.query("SHOW cluster_name", node) == [[node.name]]
            assert sandbox.query("SHOW data_directory", node) == [[str(node.data_directory)]]
            assert sandbox.query("SHOW fsync", node) == [["off"]]


def test_promotion_leaves_the_other_standby_following() -> None:
    with Sandbox() as cluster:
        # As on a node that has been primary before.
        cluster.query("SELECT pg_create_physical_replication_slot('db3')", cluster.nodes[1])
        cluster.nodes[0].kill()
        cluster.promote("db2")
        assert cluster.primary.name == "db2"
        assert [node.name for node in cluster.standbys] == ["db3"]
        cluster.query("CREATE TABLE after_promotion ()", user="app")
        cluster.wait_for_replay()
        assert cluster.query("SELECT to_regclass('after_promotion')", cluster.nodes[2]) == [["after_promotion"]]
        with pytest.raises(SandboxError, match='node "db2" is no standby'):
            cluster.promote("db2")


def test_settings_change_while_a_node_runs(cluster: Sandbox) -> None:
    primary, standby = cluster.nodes[:2]
    try:
        cluster.configure({"work_mem": "6MB", "log_line_prefix": "it's "})
        cluster.configure({"max_standby_streaming_delay": "5s"}, standby)
        assert cluster.query("SHOW work_mem; SHOW log_line_prefix") == [["6MB"], ["it's "]]
        assert cluster.query("SHOW work_mem; SHOW max_standby_streaming_delay", standby) == [["4MB"], ["5s"]]
        with pytest.raises(SandboxError, match='invalid value for parameter "work_mem"'):
            cluster.configure({"work_mem": "plenty"})
    finally:
        for node in (primary, standby):
            for name in ("work_mem", "log_line_prefix", "max_standby_streaming_delay"):
                cluster.query(f"ALTER SYSTEM RESET {name}", node)
            cluster.query("SELECT pg_reload_conf()", node)


def test_a_killed_node_comes_back_on_its_port(cluster: Sandbox) -> None:
    for node in cluster.nodes[:2]:
        port = node.port
        node.kill()
        assert node.pid is None
        with pytest.raises(SandboxError, match="Connection refused"):
            cluster.query("SELECT 1", node)
        node.start()
        assert node.port == port
        assert cluster.query("SELECT 1", node) == [["1"]]
    cluster.wait_for_replay()


def test_stop_and_restart(cluster: Sandbox) -> None:
    node = cluster.nodes[1]
    pids = [node.pid]
    node.stop("immediate")
    pids.append(node.pid)
    node.stop()
    node.start()
    node.restart("smart")
    pids.append(node.pid)
    assert pids[1] is None
    assert pids[2] not in pids[:2]
    with pytest.raises(SandboxError, match='node "db2" runs already'):
        node.start()


def test_a_paused_node_keeps_silent(cluster: Sandbox) -> None:
    node = cluster.nodes[1]
    node.pause()
    assert node.running
    with pytest.raises(SandboxError, match=r'node "db2" did not answer within 0.5 s'):
        cluster.query("SELECT 1", node, timeout_s=0.5)
    node.resume()
    assert cluster.query("SELECT 1", node) == [["1"]]


def test_a_port_that_somebody_took_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as somebody:
        ports = [somebody.getsockname()[1], free_port(), somebody.getsockname()[1], free_port()]
        monkeypatch.setattr(process_node, "free_port", iter(list(ports)).__next__)
        with Sandbox(standbys=1) as cluster:
            assert [node.port for node in cluster.nodes] == [ports[1], ports[3]]
            assert cluster.query("SELECT 1", cluster.nodes[1]) == [["1"]]


def test_a_port_that_somebody_took_while_the_node_was_down_is_an_error(cluster: Sandbox) -> None:
    node = cluster.nodes[1]
    node.stop()
    with (
        socket.create_server((HOST, node.port)),
        pytest.raises(SandboxError, match=r'(?s)node "db2" did not start:.*could not bind'),
    ):
        node.start()
    node.start()
    cluster.wait_for_replay()
