"""Two `pointsman serve` before one cluster, with a real etcd: one promotes, also when it dies or stops half-way."""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import psycopg
import pytest

from middleware.sandbox import Sandbox, SandboxError, SandboxNode
from tests.conftest import Endpoint, pointsman
from tests.etcd import Etcd
from tests.waiting import eventually

pytestmark = pytest.mark.integration

DEADLINE_S = 40.0
TTL_S = 2


class Instance:
    """One of the two."""

    def __init__(self, command: pointsman, endpoint: Endpoint, settings: Path) -> None:
        self._command, self.endpoint = command, endpoint
        self.settings = settings

    def happened(self, what: str) -> int:
        """How often it has told of that."""
        return sum(f"event_kind={what} " in f"{line} " for line in self.log().splitlines())

    def log(self) -> str:
        return self._command.log()

    def signal(self, number: signal.Signals) -> None:
        """To the supervisor alone."""
        self.endpoint.process.send_signal(number)

    def write(self) -> bool:
        """Whether a write through it is carried out."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.endpoint.conninfo(), autocommit=True) as client:
            client.execute("CREATE TABLE IF NOT EXISTS written (a int)")
            return True
        return False


class Stage:
    """A cluster, etcd, and two instances of which `leader` leads."""

    def __init__(self, cluster: Sandbox, etcd: Etcd, instances: Sequence[Instance]) -> None:
        self.cluster, self.etcd, self.instances = cluster, etcd, instances

        def elected() -> bool:
            return sorted(one.happened("leads") for one in instances) == [0, 1]

        eventually(lambda: elected() and any(one.happened("led_by") for one in instances), DEADLINE_S)
        self.leader = next(one for one in instances if one.happened("leads"))
        self.other = next(one for one in instances if one is not self.leader)

    def promoted(self) -> int:
        return sum(one.happened("promoted") for one in self.instances)

    def primaries(self) -> list[SandboxNode]:
        """The nodes that run, and say that they are primary."""
        return [node for node in self.cluster.nodes if node.running and self._is_primary(node)]

    def _is_primary(self, node: SandboxNode) -> bool:
        with contextlib.suppress(SandboxError):
            return self.cluster.query("SELECT pg_is_in_recovery()", node, database="postgres") == [["f"]]
        return False

    def assert_one_primary(self, by: Instance) -> None:
        """It is on the next timeline, the other standby follows it, and writes go there."""
        eventually(by.write, DEADLINE_S)
        (primary,) = self.primaries()
        timeline = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        assert self.cluster.query(timeline, primary) == [["00000002"]]
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        eventually(lambda: self.cluster.query(streams, primary) == [["1"]], DEADLINE_S)
        eventually(lambda: self.cluster.query("TABLE written", primary) == [], DEADLINE_S)


@pytest.fixture
def orders(tmp_path: Path) -> dict[str, str]:
    """Commands that hang when they are run for the first time, and tell that they do."""

    def hangs_once(name: str) -> str:
        told = tmp_path / name
        waits = f"echo $$ > {told}/pid; until test -e {told}/go; do sleep 0.05; done"
        return f"sh -c 'if mkdir {told}; then {waits}; else touch {told}/again; fi'"

    return {name: hangs_once(name) for name in ("fence_command", "failover_command")}


@contextlib.contextmanager
def two(tmp_path: Path, **settings: object) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(Etcd())
        version = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
        cluster = stack.enter_context(Sandbox(standbys=2, version=version))
        instances = []
        for name in ("one", "two"):
            directory = tmp_path / name
            directory.mkdir()
            command = pointsman(
                cluster,
                directory,
                **{
                    "failover": "promote",
                    "failover_after": 0.3,
                    "failover_user": "postgres",
                    "query_wait_timeout": 5,
                    "instances": 2,
                    "instance_name": name,
                    "etcd_hosts": [etcd.url],
                    "etcd_ttl": TTL_S,
                    **settings,
                },
            )
            instances.append(Instance(command, stack.enter_context(command), directory / "pointsman.toml"))
        if settings.get("failover") == "follow":
            # They claim nothing, and a reload makes them.
            for one in instances:
                assert not one.happened("leads")
                one.settings.write_text(one.settings.read_text().replace('"follow"', '"promote"'))
                one.signal(signal.SIGHUP)
        stage = Stage(cluster, etcd, instances)
        assert all(one.write() for one in instances)
        try:
            yield stage
        except BaseException:
            for one in instances:
                print(one.log())
            raise


@pytest.fixture(autouse=True)
def _faster_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PERIOD", "0.2"), ("RETRY_DELAY", "0.1"), ("TIMEOUT", "1")):
        monkeypatch.setenv(f"POINTSMAN_HEALTH_CHECK__{name}", value)


def hangs(tmp_path: Path, command: str) -> int:
    """The process of the command that hangs by now."""
    file = tmp_path / command / "pid"
    eventually(lambda: file.exists() and file.read_text().endswith("\n"), DEADLINE_S)
    return int(file.read_text())


def test_one_promotes_and_both_follow(tmp_path: Path) -> None:
    with two(tmp_path) as stage:
        stage.cluster.primary.kill()
        for one in stage.instances:
            eventually(one.write, DEADLINE_S)
        stage.assert_one_primary(stage.other)
        assert (stage.leader.happened("promoted"), stage.other.happened("promoted")) == (1, 0)
        eventually(lambda: stage.leader.happened("failover_done") == 1, DEADLINE_S)
        # What the other did not do, and why.
        assert stage.other.happened("fenced") == 0
        assert stage.other.happened("failover_held") == 0 or "leads, and is to act" in stage.other.log()


def test_a_leader_that_is_killed_in_its_fence_command_has_promoted_nobody(
    tmp_path: Path, orders: dict[str, str]
) -> None:
    with two(tmp_path, fence_command=orders["fence_command"]) as stage:
        stage.cluster.primary.kill()
        pid = hangs(tmp_path, "fence_command")
        stage.leader.signal(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        stage.assert_one_primary(stage.other)
        # The other has fenced it once more, and promoted.
        assert (tmp_path / "fence_command" / "again").exists()
        assert (stage.leader.happened("promoted"), stage.other.happened("promoted")) == (0, 1)


def test_a_leader_that_is_killed_as_it_promotes(tmp_path: Path) -> None:
    with two(tmp_path) as stage:
        done = threading.Event()

        def kill() -> None:
            # As soon as it shows: before what comes after it, or not long after.
            while not done.is_set() and not stage.leader.happened("fenced"):
                time.sleep(0.001)
            while not done.is_set() and not stage.primaries():
                time.sleep(0.001)
            stage.leader.signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            stage.cluster.primary.kill()
            stage.assert_one_primary(stage.other)
        finally:
            done.set()
            killer.join()
        assert stage.other.happened("promoted") == 0
        eventually(lambda: stage.other.happened("leads") == 1, DEADLINE_S)


def test_what_a_killed_leader_has_left_undone_is_done_by_the_next(tmp_path: Path, orders: dict[str, str]) -> None:
    with two(tmp_path, failover_command=orders["failover_command"]) as stage:
        stage.cluster.primary.kill()
        pid = hangs(tmp_path, "failover_command")
        stage.leader.signal(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        stage.assert_one_primary(stage.other)
        eventually(lambda: (tmp_path / "failover_command" / "again").exists(), DEADLINE_S)
        assert stage.other.happened("failover_taken_over") == 1
        assert (stage.leader.happened("promoted"), stage.other.happened("promoted")) == (1, 0)


def test_a_leader_that_was_stopped_does_not_act_when_it_wakes_up(tmp_path: Path, orders: dict[str, str]) -> None:
    with two(tmp_path, fence_command=orders["fence_command"]) as stage:
        stage.cluster.primary.kill()
        pid = hangs(tmp_path, "fence_command")
        stage.leader.signal(signal.SIGSTOP)
        try:
            stage.assert_one_primary(stage.other)
            # Its command ends well, and what comes next would be the promotion.
            (tmp_path / "fence_command" / "go").touch()
            eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        finally:
            stage.leader.signal(signal.SIGCONT)
        eventually(lambda: stage.leader.happened("led_by") == 1, DEADLINE_S)
        eventually(lambda: stage.leader.happened("failover_abandoned") == 1, DEADLINE_S)
        assert stage.leader.happened("fenced") == 1
        # Between the loss of its lease and the answer to who leads it knows no more than that.
        reasons = ["its lease in etcd may have run out", "it has not been asked yet who leads"]
        reasons += ["two leads, and is to act", "one leads, and is to act", "a primary again"]
        assert re.search(f"promoting: .*({'|'.join(reasons)})", stage.leader.log())
        stage.assert_one_primary(stage.leader)
        assert (stage.leader.happened("promoted"), stage.other.happened("promoted")) == (0, 1)


def test_a_leader_that_loses_etcd_half_way_promotes_nobody(tmp_path: Path, orders: dict[str, str]) -> None:
    with two(tmp_path, fence_command=orders["fence_command"]) as stage:
        stage.cluster.primary.kill()
        hangs(tmp_path, "fence_command")
        stage.etcd.kill()
        # It still believes that it leads; etcd is to say so, too.
        (tmp_path / "fence_command" / "go").touch()
        eventually(lambda: stage.leader.happened("failover_abandoned") == 1, DEADLINE_S)
        assert re.search("promoting: (etcd: |etcd does not answer)", stage.leader.log())
        assert stage.primaries() == []
        stage.etcd.start()
        stage.assert_one_primary(stage.other)
        assert stage.promoted() == 1


def test_without_etcd_nobody_is_promoted_and_that_is_said(tmp_path: Path) -> None:
    with two(tmp_path) as stage:
        stage.etcd.kill()
        for one in stage.instances:
            eventually(lambda: one.happened("etcd_trouble") == 1, DEADLINE_S)  # noqa: B023 - it is awaited here
        eventually(lambda: stage.leader.happened("leads_no_more") == 1, DEADLINE_S)
        # Clients do not need it.
        assert all(one.write() for one in stage.instances)
        stage.cluster.primary.kill()
        why = "no failover: etcd does not answer, so that nobody knows who leads"
        eventually(lambda: all(why in one.log() for one in stage.instances), DEADLINE_S)
        assert stage.primaries() == []
        stage.etcd.start()
        for one in stage.instances:
            eventually(one.write, DEADLINE_S)
        stage.assert_one_primary(stage.other)
        assert stage.promoted() == 1


def test_two_that_are_told_to_promote_by_a_reload_agree_on_one(tmp_path: Path) -> None:
    with two(tmp_path, failover="follow") as stage:
        stage.cluster.primary.kill()
        stage.assert_one_primary(stage.other)
        assert (stage.leader.happened("promoted"), stage.other.happened("promoted")) == (1, 0)
        eventually(lambda: stage.leader.happened("failover_done") == 1, DEADLINE_S)
        # Who is told not to any more lets go, and the other may.
        leader = stage.leader
        leader.settings.write_text(leader.settings.read_text().replace('"promote"', '"follow"'))
        leader.signal(signal.SIGHUP)
        eventually(lambda: stage.other.happened("leads") == 1, DEADLINE_S)
