"""Which user the servers run as, what that user can read, and starting a program as that user.

PostgreSQL refuses to run as root. As root the servers run as ``postgres`` or ``nobody``; as anybody else they run as
that user. Nothing here changes the permissions of a file it did not create.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from middleware.sandbox.errors import SandboxError

LAUNCHER = Path(__file__).with_name("launch.py")
UNPRIVILEGED_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The user that owns the servers and their files."""

    uid: int
    gid: int
    name: str
    #: False when it is the user we already are.
    differs: bool


def server_account() -> Account:
    """The user to run servers as: ourselves, or as root the first unprivileged user that exists."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()), differs=False)
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid, name, differs=True)
    raise SandboxError("PostgreSQL does not run as root: run this as another user, or create a user named postgres")


def permits(path: Path, account: Account, wanted: int) -> bool:
    """Whether the mode of ``path`` itself grants ``wanted`` (an OR of 4 read, 2 write, 1 search or execute)."""
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid == account.uid:
        shift = 6
    elif status.st_gid == account.gid:
        shift = 3
    else:
        shift = 0
    return (stat.S_IMODE(status.st_mode) >> shift) & wanted == wanted


def can_reach(path: Path, account: Account) -> bool:
    """Whether ``account`` may search every directory above ``path``, along its name and along what it links to."""
    ways = {path.absolute(), path.resolve()}
    return all(permits(directory, account, 1) for way in ways for directory in way.parents)


def can_read_tree(directory: Path, account: Account) -> bool:
    """Whether ``account`` can list and read all that lies below ``directory``."""
    for name, _, files in os.walk(directory):
        here = Path(name)
        if not permits(here, account, 5):
            return False
        if not all(permits(here / file, account, 4) for file in files):
            return False
    return True


def start_as(
    account: Account,
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
) -> subprocess.Popen[bytes]:
    """Start ``command`` as ``account``, in a session of its own, to die with the thread that calls this.

    A session of its own keeps a terminal's Ctrl-C away from the servers: we stop them, in our order.
    """
    identity = (account.uid, account.gid) if account.differs else (-1, -1)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), *map(str, identity), str(os.getpid()), *command],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
