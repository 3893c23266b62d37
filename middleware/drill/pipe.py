"""A Pointsman's control socket on standard input and output, for who can run a command there and not open it.

    python -m middleware.drill.pipe PATH                the socket at PATH, until either side ends
    python -m middleware.drill.pipe --where SETTINGS    print where it is by a settings file

`docker exec -i` runs the first for each question, so it imports nothing that takes long.
"""

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 65536


def main(words: list[str]) -> int:
    """The exit status."""
    match words:
        case ["--where", settings]:
            return _where(settings)
        case [path]:
            return _pass_on(path)
        case _:
            print("usage: python -m middleware.drill.pipe PATH | --where SETTINGS", file=sys.stderr)
            return 2


def _where(settings: str) -> int:
    from middleware.config import ConfigError, load_settings

    try:
        path = load_settings(Path(settings)).control_socket_path()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if path is None:
        print("control_socket: there is none by these settings", file=sys.stderr)
        return 2
    print(path)
    return 0


def _pass_on(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as control:
        try:
            control.connect(path)
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
    sys.exit(main(sys.argv[1:]))
