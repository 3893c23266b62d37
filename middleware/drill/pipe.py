"""``python -m middleware.drill.pipe SETTINGS``: a Pointsman's control socket on standard input and output.

For who can run a command where Pointsman runs, and cannot open its socket: `docker compose exec -T pointsman ..`.
"""

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Final

from middleware.config import ConfigError, load_settings

CHUNK_BYTES: Final = 65536


def main() -> int:
    """Until either side ends."""
    if len(sys.argv) != 2:
        print("usage: python -m middleware.drill.pipe SETTINGS", file=sys.stderr)
        return 2
    try:
        path = load_settings(Path(sys.argv[1])).control_socket_path()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if path is None:
        print("control_socket: there is none by these settings", file=sys.stderr)
        return 2
    with socket.socket(socket.AF_UNIX) as control:
        try:
            control.connect(os.fspath(path))
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
            return 1
        threading.Thread(target=_send, args=(control,), daemon=True).start()
        while chunk := control.recv(CHUNK_BYTES):
            os.write(1, chunk)
    return 0


def _send(control: socket.socket) -> None:
    """What comes in, to the socket; then its end, which gives up what is waited for."""
    while chunk := os.read(0, CHUNK_BYTES):
        control.sendall(chunk)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
