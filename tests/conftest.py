"""What tests share: one real cluster and one Pointsman in front of it for the whole run."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from middleware.sandbox import Sandbox

START_TIMEOUT_S = 20.0


class Endpoint(NamedTuple):
    """Where a running Pointsman is, and how to get in."""

    host: str
    port: int
    user: str
    password: str
    database: str
    process: subprocess.Popen[bytes]

    def url(self, scheme: str = "postgresql") -> str:
        return f"{scheme}://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def conninfo(self) -> str:
        return (
            f"host={self.host} port={self.port} user={self.user} password={self.password} dbname={self.database} "
            "connect_timeout=10"
        )

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.process.pid).children()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Sandbox]:
    """A primary and two standbys; its version is POINTSMAN_TEST_PG_VERSION, 18 by default."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A primary `db1` and a standby `db2` for one test, which may break them."""
    with Sandbox(standbys=1, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@pytest.fixture(scope="session")
def endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Pointsman with two workers in front of `cluster`, ten servers per pool."""
    directory = tmp_path_factory.mktemp("pointsman")
    with pointsman(cluster, directory, workers=2, default_pool_size=10) as running:
        yield running


class pointsman:  # noqa: N801 - reads as the command it runs
    """`pointsman serve` in front of a cluster, with settings of its own. A context manager that yields an Endpoint."""

    build: Path | None = None
    """A directory with what `make compiled` has made, to run that."""
    command: tuple[str, ...] = (sys.executable, "-m", "middleware")

    def __init__(self, cluster: Sandbox, directory: Path, **settings: Any) -> None:
        self._cluster = cluster
        self._directory = directory
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Endpoint:
        cluster = self._cluster
        config = self._directory / "pointsman.toml"
        config.write_text(settings_for(cluster, **self._settings))
        log = (self._directory / "log").open("wb")
        # Python looks for modules where it is started, and then where PYTHONPATH says.
        environment = None if self.build is None else {**os.environ, "PYTHONPATH": str(self.build)}
        self._process = subprocess.Popen(
            [*self.command, "serve", "-c", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.build,
            env=environment,
        )
        log.close()
        try:
            port = self._wait_until_ready()
        except BaseException:
            # No __exit__ follows: a signal or a start that takes too long would leave the process behind.
            self.__exit__()
            raise
        return Endpoint(
            "127.0.0.1", port, cluster.user, cluster.passwords[cluster.user], cluster.database, self._process
        )

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self._directory / "log").read_text()

    def _wait_until_ready(self) -> int:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            lines = self.log().splitlines()
            if any(" service: ready " in line or '"id": "ready"' in line for line in lines):
                found = re.search(r'listening.*port(?:=|": )(\d+)', self.log())
                assert found is not None
                return int(found[1])
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"pointsman did not start:\n{self.log()}")


def settings_for(
    cluster: Sandbox,
    *,
    nodes: Mapping[str, Mapping[str, object]] | None = None,
    routes: Sequence[Mapping[str, object]] = (),
    log: Mapping[str, object] | None = None,
    **settings: object,
) -> str:
    """A settings file for a cluster: TOML, with top-level settings from the keywords.

    `nodes` has keys for [nodes.NAME] beyond host and port, `routes` the tables [[routes]], `log` the keys of [log].
    """
    lines = ['listen_addr = "127.0.0.1"', "listen_port = 0", *_toml(settings)]
    lines += ["[health_check]", 'user = "pointsman"', f'password = "{cluster.passwords["pointsman"]}"', "period = 0.3"]
    if log:
        lines += ["[log]", *_toml(log)]
    for node in cluster.nodes:
        lines += [f"[nodes.{node.name}]", f'host = "{node.host}"', f"port = {node.port}"]
        lines += _toml((nodes or {}).get(node.name, {}))
    for user, password in cluster.passwords.items():
        lines += [f"[users.{user}]", f'password = "{password}"']
    for rule in routes:
        lines += ["[[routes]]", *_toml(rule)]
    return "\n".join(lines) + "\n"


def _toml(keys: Mapping[str, object]) -> list[str]:
    # Booleans, numbers, strings and lists of them are written alike in JSON and TOML.
    return [f"{name} = {json.dumps(value)}" for name, value in keys.items()]
