"""A client that gives the answers as the very bytes that came."""

import struct
import time
from typing import Final

from middleware.wire.backend import ReadyForQuery
from middleware.wire.frontend import Query
from tests.differential.raw_client import DEADLINE_S, Address, Ending, RawClient

HEADER: Final = struct.Struct("!cI")


class ByteClient(RawClient):
    """Logged in. A context manager."""

    def __init__(self, address: Address, startup: bytes | None = None) -> None:
        super().__init__(address)
        _, ending = self.log_in(startup)
        assert ending is Ending.ENOUGH

    def settle(self, sql: str) -> None:
        """Run statements whose answers are of no interest."""
        for statement in filter(None, (part.strip() for part in sql.split(";"))):
            answer = self.exchange(Query(statement.encode()).encode())
            assert all(code != "E" for code, _ in told(answer)), answer

    def exchange(self, sent: bytes, number: int = 1) -> bytes:
        """Send, and return all up to and with so many ReadyForQuery."""
        self.send(sent)
        data = bytearray()
        at = 0
        until = time.monotonic() + DEADLINE_S
        while number:
            while len(data) - at >= HEADER.size:
                code, length = HEADER.unpack_from(data, at)
                if len(data) < at + 1 + length:
                    break
                at += 1 + length
                number -= code[0] == ReadyForQuery.code
            if number:
                self._socket.settimeout(max(0.01, until - time.monotonic()))
                came = self._socket.recv(1 << 18)
                assert came, f"closed after {bytes(data)[-200:]!r}"
                data += came
        assert at == len(data), f"more came than was asked for: {bytes(data[at:])!r}"
        return bytes(data)


def told(answer: bytes) -> list[tuple[str, bytes]]:
    """An answer's messages, for a comparison that can be read."""
    messages, at = [], 0
    while at < len(answer):
        code, length = HEADER.unpack_from(answer, at)
        messages.append((code.decode(), answer[at + HEADER.size : at + 1 + length]))
        at += 1 + length
    return messages
