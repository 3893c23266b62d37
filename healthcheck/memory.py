"""What must be known of a cluster after a restart: which one it is, and the highest timeline a primary was seen on.

Without it, a Pointsman that starts while only a former primary can be reached would write to that: nothing shows that
it missed a promotion. StateFile keeps it for one Pointsman; leadership.py in etcd, for all of them.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from healthcheck.topology import Topology


class Remembered(msgspec.Struct, frozen=True):
    """Of a cluster."""

    system_identifier: int
    timeline: int

    @classmethod
    def of(cls, topology: Topology) -> "Remembered | None":
        """What a topology has to be remembered for; None before a primary was seen."""
        if topology.system_identifier is None or topology.timeline is None:
            return None
        return cls(topology.system_identifier, topology.timeline)

    def beyond(self, other: "Remembered | None") -> bool:
        """Whether it says more than another."""
        return other is None or (self.system_identifier == other.system_identifier and self.timeline > other.timeline)


class StateFile:
    """A file with a Remembered in it. It is whole at any time, and on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def read(self) -> Remembered | None:
        """None where there is no file yet. Raises OSError, and ValueError for one that nobody of ours has written."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(text, type=Remembered)
        except msgspec.DecodeError:
            raise ValueError("it is not a state file of Pointsman's") from None

    def write(self, remembered: Remembered) -> None:
        """Keep it, unless the file says more. Raises OSError."""
        with contextlib.suppress(ValueError):
            known = self.read()
            if known is not None and (known == remembered or known.beyond(remembered)):
                return
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(remembered) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
