"""``python -m middleware.sandbox``: a cluster to play with, until Ctrl-C or SIGTERM.

``python -m middleware.sandbox rejoin DOOR NODE PRIMARY [HOST PORT]``: asks a sandbox that runs elsewhere, at its door,
to make NODE a standby of PRIMARY. It is what ``follow_primary_command`` is set to where a sandbox has a door.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from middleware.sandbox.cluster import DEFAULT_VERSION, Sandbox
from middleware.sandbox.door import ask_to_rejoin
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import Address

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    if sys.argv[1:2] == ["rejoin"]:
        return _rejoin(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m middleware.sandbox", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--standbys", type=int, default=2, metavar="N", help="how many standbys (default 2)")
    parser.add_argument("--version", type=int, default=DEFAULT_VERSION, help="major version, 16 or 18 (default 18)")
    arguments = parser.parse_args()
    if arguments.standbys < 0:
        parser.error("--standbys must be 0 or more")
    _on_stop_signal(_give_up)
    try:
        with Sandbox(standbys=arguments.standbys, version=arguments.version) as sandbox:
            _tell(sandbox)
            _on_stop_signal(_finish)
            print("Ctrl-C stops and removes it", flush=True)
            while True:
                time.sleep(1)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


def _rejoin(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m middleware.sandbox rejoin")
    parser.add_argument("door", help="the path of the sandbox's door")
    parser.add_argument("node", help="who is to become a standby")
    parser.add_argument("primary", help="of whom")
    parser.add_argument("host", nargs="?", help="where it finds the primary, if not at the primary's own address")
    parser.add_argument("port", nargs="?", type=int)
    arguments = parser.parse_args(words)
    through = Address(arguments.host, arguments.port) if arguments.port else None
    try:
        how = ask_to_rejoin(arguments.door, arguments.node, arguments.primary, through)
    except (OSError, SandboxError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.node} was {how} and follows {arguments.primary}")
    return 0


def _on_stop_signal(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


def _give_up(number: int, _frame: FrameType | None) -> None:
    """Asked to stop while starting."""
    _on_stop_signal(signal.SIG_IGN)  # once is enough: a second one must not interrupt the removal
    raise SystemExit(128 + number)


def _finish(_number: int, _frame: FrameType | None) -> None:
    """Asked to stop while running, which is how it ends."""
    _on_stop_signal(signal.SIG_IGN)
    raise SystemExit(0)


def _tell(sandbox: Sandbox) -> None:
    print(f"PostgreSQL {sandbox.version}")
    for node in sandbox.nodes:
        role = "standby" if node.is_standby else "primary"
        print(f"{node.name}  {role}  {sandbox.url(node)}")
    print(f"{shlex.quote(str(sandbox.program('psql')))} {sandbox.url()}")


if __name__ == "__main__":
    sys.exit(main())
