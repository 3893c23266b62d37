"""``python -m middleware.sandbox``: a cluster to play with, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from types import FrameType

from middleware.sandbox.cluster import DEFAULT_VERSION, Sandbox
from middleware.sandbox.errors import SandboxError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m middleware.sandbox", description=__doc__)
    parser.add_argument("--standbys", type=int, default=2, metavar="N", help="how many standbys (default 2)")
    parser.add_argument("--version", type=int, default=DEFAULT_VERSION, help="major version, 16 or 18 (default 18)")
    arguments = parser.parse_args()
    if arguments.standbys < 0:
        parser.error("--standbys must be 0 or more")
    # Held back while waiting, so that sigwait gets them; let through while starting, so that a start can be given up.
    for number in STOP_SIGNALS:
        signal.signal(number, _give_up)
    try:
        sandbox = Sandbox(standbys=arguments.standbys, version=arguments.version)
        sandbox.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            _tell(sandbox)
            signal.sigwait(STOP_SIGNALS)
        finally:
            sandbox.stop()
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _give_up(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second one must not interrupt the removal.
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _tell(sandbox: Sandbox) -> None:
    print(f"PostgreSQL {sandbox.version}")
    for node in sandbox.nodes:
        role = "standby" if node.is_standby else "primary"
        print(f"{node.name}  {role}  {sandbox.url(node)}")
    print(f"{shlex.quote(str(sandbox.program('psql')))} {sandbox.url()}")
    print("Ctrl-C stops and removes it", flush=True)


if __name__ == "__main__":
    sys.exit(main())
