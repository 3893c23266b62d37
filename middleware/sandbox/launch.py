"""Becomes another program: gives up root, ties its life to the process that started it, then execs.

Run as a script, never imported: ``python -I -S launch.py UID GID PARENT_PID PROGRAM ARGUMENT ...``. It exists because
both steps must happen between fork and exec, in this order (a change of uid clears the parent-death signal), and
Python code between fork and exec in a process with threads may deadlock. As a program of its own it starts while it
still is root, so the interpreter may lie where the server's user cannot look.

UID and GID are ``-1`` when there is nothing to give up.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    uid, gid, parent_pid = (int(word) for word in sys.argv[1:4])
    if uid != -1:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if sys.platform == "linux":
        # SIGQUIT is PostgreSQL's immediate shutdown: the data goes away with its owner, and a fast shutdown would wait
        # for a standby that hangs.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the signal was asked for
            sys.exit(1)
    os.umask(0o077)
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    main()
