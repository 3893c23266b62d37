"""A replication slot's stream cut into messages ("Streaming Replication Protocol"), of which only beginnings count.

In: bytes as they come. Out: each message's code and the first BODY_BYTES_MAX bytes of its body. The rest of a longer
one is passed over and never gathered: rows may be as long as a gigabyte. Nothing here does I/O.
"""

from typing import Final

from middleware.errors import ProtocolViolation
from middleware.wire.build import message
from middleware.wire.codes import COPY_DATA

BODY_BYTES_MAX: Final = 64 * 1024
"""Of a message's body is kept."""
POSTGRES_EPOCH_S: Final = 946_684_800
"""2000-01-01, where PostgreSQL's clock begins."""

XLOG_DATA: Final = 0x77
KEEPALIVE: Final = 0x6B
XLOG_DATA_HEADER_BYTES: Final = 25
"""The kind, the position, the server's position, its clock."""
KEEPALIVE_BYTES: Final = 18


class CopyFrames:
    """Feed it what came."""

    def __init__(self) -> None:
        self._pending = b""
        self._skip = 0
        """Bytes of a long message that have not come yet."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The (code, body) of each message that is known by now, as far as it is kept. Raises ProtocolViolation."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        pending = self._pending + data if self._pending else data
        end = len(pending)
        found: list[tuple[int, bytes]] = []
        position = 0
        while end - position >= 5:
            length = int.from_bytes(pending[position + 1 : position + 5], "big")
            if length < 4:
                raise ProtocolViolation("invalid message length")
            body = position + 5
            following = position + 1 + length
            kept = min(following, body + BODY_BYTES_MAX)
            if kept > end:
                break
            found.append((pending[position], pending[body:kept]))
            position = min(following, end)
            self._skip = following - position
        self._pending = pending[position:]
        return found


def status_update(lsn: int, now: float, *, reply: bool) -> bytes:
    """What the client of a slot says: all up to `lsn` is done with. `now`: time.time(); `reply`: answer at once."""
    clock = int((now - POSTGRES_EPOCH_S) * 1_000_000)
    body = b"r" + lsn.to_bytes(8, "big") * 3 + clock.to_bytes(8, "big", signed=True) + bytes((reply,))
    return message(COPY_DATA, body)
