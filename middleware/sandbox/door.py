"""A door to a sandbox for other processes: a unix socket at which they ask for a node to rejoin.

Only the process that runs a sandbox can start a node that dies with it. A supervisor's ``follow_primary_command`` is a
process of its own, so it asks here: one line of JSON ``{"node", "primary", "through": [host, port] | null}``, answered
by ``{"how": ..}`` or ``{"error": ..}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Self

from middleware.sandbox.cluster import Sandbox
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import Address

ANSWER_TIMEOUT_S = 120.0
LINE_BYTES_MAX = 65536


class Door:
    """Open inside a ``with`` block. Who comes is served one after the other, in a thread of the door's own.

    ``lock`` is held while a node is being changed: whoever stops or starts nodes besides takes it as well.
    """

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._sandbox = sandbox
        self._server: socketserver.BaseServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        door = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                answer = door.serve(self.rfile.readline(LINE_BYTES_MAX))
                with contextlib.suppress(OSError):  # who asked has given up
                    self.wfile.write(json.dumps(answer).encode() + b"\n")

        before = os.umask(0o177)
        try:
            self._server = socketserver.UnixStreamServer(str(self.path), Handler)
        finally:
            os.umask(before)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox-door", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.path.unlink(missing_ok=True)

    def serve(self, line: bytes) -> dict[str, str]:
        """The answer to a line."""
        try:
            wanted = json.loads(line)
            node, primary, through = wanted["node"], wanted["primary"], wanted.get("through")
            with self.lock:
                return {"how": self._sandbox.rejoin(node, primary, Address(*through) if through else None)}
        except SandboxError as error:
            return {"error": str(error)}
        except (ValueError, TypeError, KeyError) as error:
            return {"error": f"not understood: {error}"}


def ask_to_rejoin(door: str, node: str, primary: str, through: Address | None) -> str:
    """Ask at a door; returns how the node has rejoined. Raises SandboxError for a refusal, OSError without a door."""
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(ANSWER_TIMEOUT_S)
        ours.connect(door)
        ours.sendall(json.dumps({"node": node, "primary": primary, "through": through}).encode() + b"\n")
        with ours.makefile("rb") as answers:
            line = answers.readline(LINE_BYTES_MAX)
    if not line:
        raise SandboxError("the sandbox has ended")
    answer = json.loads(line)
    if "error" in answer:
        raise SandboxError(answer["error"])
    return str(answer["how"])
