"""The one directory a sandbox lives in, and the removal of those whose owner died.

::

    pointsman-sandbox-XXXX/   ours, others may only pass through
        owner                 locked by the sandbox for as long as its process lives; holds its pid for people to read
        nodes/                the server user's: data directories and logs
        installation/         a copy of PostgreSQL, where that user cannot read the original

The lock, not the pid in the file, says whether the owner lives: the kernel lets go of it however the process ends, and
a pid means nothing in another container that shares the temporary directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import psutil

from middleware.sandbox.errors import SandboxError
from middleware.sandbox.privileges import Account, can_reach

PREFIX = "pointsman-sandbox-"
MARKER = "owner"
KILL_TIMEOUT_S = 5.0
POLL_S = 0.005


class SandboxDirectory:
    """Made on construction, with the marker locked; ``remove`` leaves nothing."""

    def __init__(self, account: Account) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent_for(account)))
        self._marker = os.open(self.root / MARKER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # Locked before it has content: a marker without content is nobody's leftover.
        fcntl.flock(self._marker, fcntl.LOCK_EX)
        os.write(self._marker, f"{os.getpid()}\n".encode())
        self.nodes = self.root / "nodes"
        self.nodes.mkdir(mode=0o700)
        self.installation = self.root / "installation"
        if account.differs:
            self.root.chmod(0o711)
            os.chown(self.nodes, account.uid, account.gid)

    def remove(self) -> None:
        """Remove it all. The servers must have ended."""
        _remove_tree(self.root)
        os.close(self._marker)


def remove_leftovers(account: Account) -> None:
    """Remove what sandboxes of ours left behind when their process was killed, servers that still run included."""
    for directory in _parent_for(account).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another start may be removing it at this moment
            _remove_leftover(directory)


def _remove_leftover(directory: Path) -> None:
    # One look at the entry itself: between two looks somebody else could put a link to a directory of ours there.
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    marker = os.open(directory / MARKER, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(marker).st_size == 0:
            return
        for data in (directory / "nodes").glob("*/data"):
            _kill_orphan(data)
            forget_shared_memory(data)
        _remove_tree(directory)
    finally:
        os.close(marker)


def _kill_orphan(data: Path) -> None:
    """Kill the server that runs in ``data``: one that was stopped by a signal never saw its owner die."""
    lines = _pid_file(data)
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        process = psutil.Process(int(lines[0]))
        if str(data) in process.cmdline():
            kill_tree(process)


def kill_tree(postmaster: psutil.Process) -> None:
    """SIGKILL for a postmaster and all its children, and wait until they are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        postmaster.suspend()  # so that it forks no more while its children are listed
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while any(_alive(process) for process in family) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _alive(process: psutil.Process) -> bool:
    # An orphan that nobody collects, as in a container without an init, stays a zombie: it holds nothing any more.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def forget_shared_memory(data: Path) -> None:
    """Remove the System V segment that a server killed by SIGKILL left, found in its ``postmaster.pid``."""
    lines = _pid_file(data)
    if len(lines) < 7 or not (words := lines[6].split()):
        return
    key, segment = words
    with contextlib.suppress(OSError):
        for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            columns = row.split()
            # The number may have been given to somebody else since: the key, made from the data directory's inode,
            # and an attach count of zero say that it was not.
            if columns[1] == segment and int(columns[0]) == int(key) and columns[6] == "0":
                _remove_segment(int(segment))


def _remove_segment(segment: int) -> None:
    ipc_rmid = 0
    ctypes.CDLL(None).shmctl(segment, ipc_rmid, None)


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _remove_tree(directory: Path) -> None:
    # The marker goes last: a removal that is interrupted can be continued by the next start.
    for entry in directory.iterdir():
        if entry.name != MARKER:
            shutil.rmtree(entry)
    (directory / MARKER).unlink()
    directory.rmdir()


def _parent_for(account: Account) -> Path:
    """The temporary directory, or the system's where the server's user cannot reach ours."""
    for candidate in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108  (mkdtemp follows)
        if not account.differs or can_reach(candidate / "inside", account):
            return candidate
    raise SandboxError(f'user "{account.name}" reaches no temporary directory: set TMPDIR to one that it can search')
