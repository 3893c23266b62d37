"""The container backend: what it says without an engine, and a cluster where an engine has the image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from middleware.sandbox import Sandbox, SandboxError

IMAGE = os.environ.get("POINTSMAN_PG_IMAGE", "postgres:18")


def test_no_engine_is_one_line_that_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "middleware.sandbox"],
        env={**os.environ, "POINTSMAN_SANDBOX": "docker", "DOCKER_HOST": "unix:///nowhere/docker.sock"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("sandbox: no Docker engine answers (")
    assert line.endswith("): start one, or unset POINTSMAN_SANDBOX to run PostgreSQL without")


def test_an_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_SANDBOX", "clouds")
    with pytest.raises(SandboxError, match='POINTSMAN_SANDBOX is "clouds": allowed are "processes" and "docker"'):
        Sandbox().start()


def test_a_reaper_that_cannot_be_had_is_named() -> None:
    containers = pytest.importorskip("middleware.sandbox.containers")
    refused = containers.docker.errors.APIError(
        "500 Server Error for http+docker://localhost/v1.41/images/create?tag=0.8.1&fromImage=testcontainers%2Fryuk"
    )
    cluster = containers.Containers(["db1"], 18, "", {})
    with (
        pytest.raises(SandboxError, match=r"no image of testcontainers' reaper .*TESTCONTAINERS_RYUK_DISABLED=true"),
        cluster._engine_errors(),
    ):
        raise refused


def engine_has(kind: str, name: str) -> bool:
    program = shutil.which("docker")
    return (
        program is not None
        and not subprocess.run([program, kind, "inspect", name], capture_output=True, check=False).returncode
    )


@pytest.mark.integration
@pytest.mark.skipif(not engine_has("image", IMAGE), reason=f"no Docker engine here that has the image {IMAGE}")
@pytest.mark.skipif(not engine_has("network", "bridge"), reason="no Docker engine here that has networks of its own")
def test_a_cluster_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_SANDBOX", "docker")
    with Sandbox() as sandbox:
        sandbox.query("CREATE TABLE contained (n int); INSERT INTO contained VALUES (1)", user="app")
        sandbox.wait_for_replay()
        assert sandbox.query("SELECT n FROM contained", sandbox.nodes[2]) == [["1"]]
        port = sandbox.nodes[2].port
        sandbox.nodes[2].kill(signal.SIGKILL)
        sandbox.nodes[2].start()
        assert sandbox.nodes[2].port == port
        sandbox.nodes[1].pause()
        sandbox.nodes[1].resume()
        sandbox.nodes[0].stop("immediate")
        sandbox.promote("db2")
        sandbox.query("INSERT INTO contained VALUES (2)")
        sandbox.wait_for_replay()
        assert sandbox.query("SELECT count(*) FROM contained", sandbox.nodes[2]) == [["2"]]
