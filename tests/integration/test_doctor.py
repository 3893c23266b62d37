"""`pointsman doctor` against real clusters, as a person runs it."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from middleware.sandbox import Sandbox
from tests.conftest import pointsman, settings_for
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def doctor(settings: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "middleware", "doctor", "-c", str(settings), *arguments],
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """The findings by check."""
    assert done.stderr == ""
    by_check = defaultdict(list)
    for finding in json.loads(done.stdout)["findings"]:
        by_check[finding["check"]].append(finding)
    return by_check


def severities(findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(finding["node"], finding["severity"]) for finding in findings]


SICK = {
    "max_connections": "30",
    "hot_standby_feedback": "off",
    "wal_log_hints": "off",
    "idle_session_timeout": "5min",
    "work_mem": "1GB",
    "max_replication_slots": "1",
}


def test_a_cluster_with_much_to_find(tmp_path: Path) -> None:
    with Sandbox(standbys=1, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18")), parameters=SICK) as sick:
        sick.query(
            "CREATE ROLE limited LOGIN CONNECTION LIMIT 2; ALTER ROLE limited SET statement_timeout = '3s';"
            "CREATE ROLE old LOGIN VALID UNTIL '2020-01-01'; CREATE DATABASE closed; ALTER DATABASE closed CONNECTION "
            "LIMIT 4; REVOKE CONNECT ON DATABASE closed FROM PUBLIC"
        )
        for node in sick.nodes:
            # Not from the beginning: the sandbox's own pg_hba.conf wants SCRAM.
            sick.configure({"password_encryption": "md5"}, node)
        sick.configure({"synchronous_standby_names": "nobody"})
        settings = tmp_path / "p.toml"
        text = settings_for(sick, default_pool_size=25, query_timeout=10, transaction_timeout=10)
        for user in ("limited", "old", "unknown"):
            text += f'[users.{user}]\npassword = "s3cret-word"\n'
        settings.write_text(text + '[[routes]]\ndatabase = "shop"\n')
        done = doctor(settings, "--json", "--memory", "2GB", "--cores", "2")
        people = doctor(settings, "--memory", "2GB", "--cores", "2")
    findings = found(done)
    assert "unasked" not in findings
    both = [("db1", "error"), ("db2", "error")]
    # 25 and 6 of our own are more than 30 - 3.
    assert severities(findings["max_connections"]) == both
    assert "the node lets in 27 (30 - 3)" in findings["max_connections"][0]["what"]
    assert severities(findings["work_mem"]) == both
    assert severities(findings["fsync"]) == both
    assert severities(findings["hot_standby_feedback"]) == [("db2", "warning")]
    assert severities(findings["password_encryption"]) == [("db1", "warning"), ("db2", "warning")]
    assert "streaming: db2; 0 of them are named" in findings["synchronous_standbys"][0]["what"]
    assert "300 s; a server may be idle in its pool for 600 s" in findings["idle_session_timeout"][0]["what"]
    assert 'statement_timeout of role "limited" 3 s' in findings["statement_timeout"][0]["what"]
    assert severities(findings["replication_slots"]) == [("db1", "warning")]
    assert {finding["what"].partition(" expired")[0] for finding in findings["users"]} == {
        'role "unknown" does not exist',
        'the password of role "old"',
    }
    assert findings["role_limit"][0]["what"].startswith('role "limited" has CONNECTION LIMIT 2, its pools may have 25')
    assert findings["databases"][0]["what"] == 'rule routes[0]: database "shop" does not exist'
    assert 'has no CONNECT to database "closed"' in findings["health_database"][0]["what"]
    assert findings["query_timeout"][0]["severity"] == "warning"
    assert done.returncode == people.returncode == 1
    assert "Errors (" in people.stdout
    assert "  db1, db2: fsync is off\n" in people.stdout
    for secret in (*sick.passwords.values(), "s3cret-word"):
        assert secret not in people.stdout + people.stderr + done.stdout


def test_a_cluster_that_is_well(tmp_path: Path) -> None:
    fine = {"max_standby_streaming_delay": "5s", "reserved_connections": "5", "shared_buffers": "64MB"}
    with Sandbox(standbys=1, version=16, parameters=fine, fsync=True) as well:
        well.query("GRANT pg_use_reserved_connections TO pointsman")
        well.wait_for_replay()
        settings = tmp_path / "p.toml"
        settings.write_text(settings_for(well, idle_transaction_timeout=60, max_client_conn=100, max_client_logins=50))
        sized = ("--memory", "8GB", "--cores", "8")
        done = doctor(settings, "--json", *sized)
        assert json.loads(done.stdout)["findings"] == []
        assert [node["role"] for node in json.loads(done.stdout)["nodes"]] == ["primary", "standby"]
        people = doctor(settings, *sized)
        assert (done.returncode, people.returncode) == (0, 0)
        assert people.stdout.endswith("\nNothing to change was found.\n")
        # Five Pointsmans: 5 * (3 * 20 + 6) > 300 - 3 - 5
        assert list(found(doctor(settings, "--json", "--instances", "5", *sized))) == ["max_connections", "cores"]


def test_what_becomes_of_a_standby(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = tmp_path / "p.toml"
    settings.write_text(settings_for(sandbox))
    standby = sandbox.standbys[0]
    # The age of what it has replayed last is its lag: it must have replayed something.
    sandbox.query("CREATE TABLE one ()")
    sandbox.wait_for_replay()
    with sandbox.replay_paused():
        sandbox.query("CREATE TABLE two ()")
        settings.write_text(settings_for(sandbox, max_replica_lag=0.02, freshness_period=0.01))
        findings = found(doctor(settings, "--json"))
    assert severities(findings["replay"]) == [("db2", "error"), ("db2", "warning")]
    assert "max_replica_lag 0.02 s" in findings["replay"][1]["what"]
    settings.write_text(settings_for(sandbox))
    assert "replay" not in found(doctor(settings, "--json"))
    # The primary gets more than the standby has: its replay pauses.
    sandbox.configure({"max_connections": "310"})
    sandbox.primary.restart()
    paused = "SELECT pg_is_wal_replay_paused()"
    eventually(lambda: sandbox.query(paused, standby, database="postgres") == [["t"]])
    findings = found(doctor(settings, "--json"))
    assert findings["standby_parameters"][0]["what"] == "max_connections 300, 310 on the primary"
    assert severities(findings["replay"])[0] == ("db2", "error")
    sandbox.configure({"max_connections": "310"}, standby)
    standby.restart()
    # A second primary: promoted behind our back.
    sandbox.query("SELECT pg_promote()", standby, database="postgres")
    findings = found(doctor(settings, "--json"))
    assert findings["primaries"][0]["what"] == "2 primaries: db1 (timeline 1), db2 (timeline 2)"
    # One that is silent holds up no other.
    sandbox.primary.pause()
    try:
        settings.write_text(settings_for(sandbox).replace("period = 0.3", "period = 0.3\ntimeout = 2"))
        done = doctor(settings, "--json")
    finally:
        sandbox.primary.resume()
    assert found(done)["unasked"][0]["what"] == "it could not be asked: no answer within 2 s"
    assert [node["role"] for node in json.loads(done.stdout)["nodes"]] == [None, "primary"]


def test_a_pooler_behind_a_pooler(cluster: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "behind").mkdir()
    with pointsman(cluster, tmp_path / "behind") as behind:
        settings = tmp_path / "p.toml"
        settings.write_text(settings_for(cluster).replace(f"port = {cluster.primary.port}", f"port = {behind.port}"))
        findings = found(doctor(settings, "--json"))
    assert severities(findings["poolers"]) == [("db1", "error")]


def test_two_names_for_one_server_and_a_stranger(cluster: Sandbox, sandbox: Sandbox, tmp_path: Path) -> None:
    settings = tmp_path / "p.toml"
    text = settings_for(cluster)
    for name, node in (("again", cluster.primary), ("stranger", sandbox.primary)):
        text += f'[nodes.{name}]\nhost = "127.0.0.1"\nport = {node.port}\n'
    settings.write_text(text)
    # The stranger has the same roles, with other passwords.
    password = cluster.passwords["pointsman"]
    sandbox.query(f"ALTER ROLE pointsman PASSWORD '{password}'; REVOKE pg_monitor FROM pointsman")
    findings = found(doctor(settings, "--json"))
    assert findings["same_server"][0]["what"].startswith("db1 and again are the same server")
    assert severities(findings["system_identifiers"]) == [("stranger", "error")]
    assert severities(findings["health_role"]) == [("stranger", "warning")]


@pytest.mark.parametrize(
    ("access", "users"),
    [
        ({"auth_type": "trust"}, "app, postgres"),
        ({"auth_type": "hba", "auth_file": "users"}, "listed"),
        ({"auth_type": "hba", "auth_file": "users", "auth_user": "listed"}, "app, listed, postgres"),
    ],
)
def test_who_may_come(cluster: Sandbox, tmp_path: Path, access: dict[str, Any], users: str) -> None:
    (tmp_path / "users").write_text('"listed" "s3cret-word"\n')
    # Whoever is refused does not make it open to all.
    (tmp_path / "hba").write_text("host all evil all reject\nhost all all all scram-sha-256\n")
    if access["auth_type"] == "hba":
        access = access | {"auth_hba_file": str(tmp_path / "hba"), "auth_file": str(tmp_path / "users")}
    settings = tmp_path / "p.toml"
    settings.write_text(settings_for(cluster, **access).partition("[users.")[0])
    done = doctor(settings, "--json", "--database", "app")
    assert f"users {users}; databases app;" in json.loads(done.stdout)["assumption"]


def test_what_cannot_be_used(tmp_path: Path) -> None:
    settings = tmp_path / "p.toml"
    settings.write_text("workers = 0\n")
    done = doctor(settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert "workers: 0 is not allowed" in done.stderr
    for arguments in (("--memory", "much"), ("--memory", "-1GB"), ("--instances", "0")):
        assert doctor(settings, *arguments).returncode == 2


def test_the_page_lists_what_the_command_lists(tmp_path: Path) -> None:
    done = doctor(tmp_path / "none.toml", "--checks")
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    assert (done.returncode, done.stderr) == (0, "")
    assert page.read_text().endswith(done.stdout), "end the page with what `pointsman doctor --checks` prints"
