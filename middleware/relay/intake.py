"""What a client sends, and what of it is kept until it may be looked at.

An unfinished message or batch is kept until there is enough of it to go on. A client that is *blocked* waits for
something else than its own bytes: what it sends meanwhile is kept, up to KEPT_BYTES_MAX and one chunk, and then it is
read from no more. Until then its end is noticed, too.
"""

import asyncio
from abc import abstractmethod
from typing import Final

from middleware.config import ClientPolicy
from middleware.errors import PointsmanError
from middleware.pool.server_connection import Borrower

BLOCKED: Final = 2
"""Why a client is not read from (with SERVER_FULL): its messages wait for a server or for an answer."""
SUSPENDED: Final = 4
"""The same: by an operator's SUSPEND."""

KEPT_BYTES_MAX: Final = 16 * 1024


class Intake(Borrower):
    """The side of a client's connection that reads."""

    __slots__ = ("_backlog", "_blocked", "_kept_bytes", "_need", "_pauses")

    def __init__(self, transport: asyncio.Transport, limits: ClientPolicy) -> None:
        self.transport = transport
        self.limits = limits
        self.waiting_since = 0.0
        self.again = b""
        self.fill = None
        self._backlog: list[bytes] = []
        """What came and was not looked at yet: an unfinished message or batch, or all that came while blocked."""
        self._kept_bytes = 0
        """How many bytes that is."""
        self._blocked = False
        self._need = 0
        """No use looking at the backlog before it has this many bytes."""
        self._pauses = 0

    @abstractmethod
    def serve(self, data: bytes) -> None:
        """Look at what the client has sent; what it calls back with is kept."""

    @abstractmethod
    def refuse(self, error: PointsmanError) -> None:
        """Say FATAL and close, unless the client is in the middle of a message."""

    def take_in(self, data: bytes) -> None:
        """The client has sent this."""
        if not self._backlog and not self._blocked:
            self.serve(data)
            return
        self._backlog.append(data)
        self._kept_bytes += len(data)
        if self._blocked:
            if self._kept_bytes > KEPT_BYTES_MAX:
                self.pause_reading(BLOCKED)
        elif len(self._backlog) > 1 and self._kept_bytes >= self._need:
            self._look()

    def keep(self, rest: bytes, need: int) -> None:
        """Look at `rest` again when there are `need` bytes of it and what follows."""
        self._need = need
        if rest:
            self._backlog = [rest]
            self._kept_bytes = len(rest)

    def block(self, rest: bytes) -> None:
        """Look at nothing more until unblocked; read no more, too, once there is something that was not looked at."""
        self._blocked = True
        self.forget()
        if rest:
            self.take_in(rest)

    def put_back(self, data: bytes) -> None:
        """Look at this again, in front of what was not looked at."""
        self._backlog.insert(0, data)
        self._kept_bytes += len(data)

    def hold_up(self) -> None:
        """The same, with nothing to put back: what is kept stays."""
        self._blocked = True

    def unblock(self) -> None:
        """Go on, if blocked."""
        if self._blocked:
            self._blocked = False
            self._look()

    def forget(self) -> None:
        """Nothing of it will be looked at."""
        self._backlog = []
        self._kept_bytes = 0

    def _look(self) -> None:
        data = self._backlog[0] if len(self._backlog) == 1 else b"".join(self._backlog)
        self.forget()
        self.resume_reading(BLOCKED)
        if not data:
            return
        try:
            self.serve(data)
        except PointsmanError as error:
            # Its own fault, found within a callback of a server's or a pool's: they must not hear of it.
            self.refuse(error)

    def pause_reading(self, reason: int) -> None:
        self._pauses |= reason
        self.transport.pause_reading()

    def suspend(self, suspended: bool) -> None:
        """Read nothing from it, whatever it waits for; or read again."""
        if suspended:
            self.pause_reading(SUSPENDED)
        else:
            self.resume_reading(SUSPENDED)

    def resume_reading(self, reason: int) -> None:
        if self._pauses & reason:
            self._pauses &= ~reason
            if not self._pauses:
                self.transport.resume_reading()
