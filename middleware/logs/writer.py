"""Lines to standard error, each in one write. A log that cannot be written to never stops who logs."""

import contextlib
import io
import os
import select
from typing import Final, TextIO

PATIENCE_S: Final = 0.1
"""How long a reader may be slow, where the stream does not block."""


class Writer:
    """Writes to a stream; what could not be written is counted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self.lost = 0
        """Lines that could not be written, and nobody was told of."""
        self.well = True
        """The last one could."""
        self._broken = False
        """A line was written in part."""
        self.fd: int | None = None
        with contextlib.suppress(OSError, io.UnsupportedOperation, ValueError):
            self.fd = stream.fileno()

    def write(self, line: str) -> None:
        """`line` and its end."""
        self.well = False
        try:
            if self.fd is None:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            else:
                start = "\n" if self._broken else ""
                self._write_all(self.fd, f"{start}{line}\n".encode(errors="backslashreplace"))
            self.well = True
        except (OSError, ValueError):
            self.lost += 1

    def _write_all(self, fd: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                written = os.write(fd, left)
            except BlockingIOError:
                if not select.select([], [fd], [], PATIENCE_S)[1]:
                    raise
                continue
            left = left[written:]
            self._broken = bool(left)

    # As structlog calls them.
    msg = debug = info = warning = error = write


def journal_reads(fd: int, named: str) -> bool:
    """Whether `fd` is the stream to systemd's journal that JOURNAL_STREAM names, as "device:inode"."""
    if not named:
        return False
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
