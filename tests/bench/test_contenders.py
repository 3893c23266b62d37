"""What a contender that is not there says, and that one that was started is gone afterwards."""

from pathlib import Path

import psutil
import pytest

from middleware.sandbox import Sandbox
from tests.bench.contenders import BenchError, Pointsman
from tests.bench.measure import started
from tests.bench.poolers import PgpoolII


class NotInstalled(PgpoolII):
    program = "no-such-program"


def test_one_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    said: list[str] = []
    with started([NotInstalled(Sandbox(), tmp_path / "none")], said.append) as running:
        assert running == []
    assert said == ["pgpool-II is not installed: apt-get install pgpool2 (or your system's package)"]


class Answering(Pointsman):
    """Takes the first answer as it is: pgbench's tables are not there in tests."""

    probe = "SELECT 1"


@pytest.mark.integration
def test_all_processes_of_a_contender_end_with_it(cluster: Sandbox, tmp_path: Path) -> None:
    with Answering(cluster, tmp_path / "pointsman", workers=2) as contender:
        assert contender.pid is not None
        root = psutil.Process(contender.pid)
        family = [root, *root.children(recursive=True)]
        assert len(family) == 3
    assert not [member for member in family if member.is_running()]


class Broken(Answering):
    probe = "SELECT no_such_column"


@pytest.mark.integration
def test_one_that_does_not_answer_is_stopped_and_told(
    cluster: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.contenders.START_TIMEOUT_S", 0.5)
    contender = Broken(cluster, tmp_path / "pointsman", workers=1)
    with pytest.raises(BenchError, match="does not answer"), contender:
        pass
    assert contender.pid is not None
    assert not psutil.pid_exists(contender.pid)
