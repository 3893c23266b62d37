"""pgbench's tables."""

import subprocess
from collections.abc import Iterator

import pytest

from middleware.sandbox import Sandbox
from tests.bench.contenders import Contender
from tests.bench.pgbench import Target


@pytest.fixture
def filled(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The primary, with pgbench's tables for one test, replayed by the standbys."""
    target = Contender(cluster, tmp_path_factory.mktemp("direct")).target("simple")

    def pgbench(steps: str) -> None:
        command = [str(cluster.program("pgbench")), "--initialize", "--quiet", f"--init-steps={steps}"]
        subprocess.run(command, env=target.environment(), check=True, capture_output=True)

    pgbench("dtgvp")
    cluster.wait_for_replay(60.0)
    yield target
    pgbench("d")
