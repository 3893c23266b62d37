"""A server's meter: what its client has it do, timed and counted (tally.py has the rules, digests.py those of digests).

What is under way began at `began`, and the transaction that it is in at `xact_began`; both are 0 while nothing is.

    taken    a client has the server, which sends something at once
    asked    it sends something, and nothing else was under way
    answered, passed over    a ReadyForQuery has come that the client gets, or that it does not get
    left     the client has it no more

Moments are those of time.monotonic(), passed in; those of answers are `now`, when the bytes came that are being read.
"""

from typing import Final

from middleware.session.digests import Digest
from middleware.session.tally import NOBODY, Tally

ZERO: Final = 0x30


class Meter:
    """See above."""

    __slots__ = ("_failed", "_rows", "_sqlstate", "_taken_at", "_xact_began", "began", "calls", "now", "tally")

    def __init__(self) -> None:
        self.tally: Tally = NOBODY
        """Where it counts."""
        self.calls: list[Digest] = []
        """Those of the queries that are not answered yet: one for each ReadyForQuery due, or none at all."""
        self.now = 0.0
        self.began = 0.0
        self._xact_began = 0.0
        self._taken_at = 0.0
        self._rows = 0
        self._failed = False
        """What was told since the last ReadyForQuery."""
        self._sqlstate = b""

    def taken(self, tally: Tally, now: float, waited_s: float) -> None:
        """A client has the server, after so long; 0 where it was there at once."""
        self.tally = tally
        self._taken_at = self.began = self._xact_began = now
        tally.assigned(waited_s)

    def asked(self, now: float) -> None:
        """It sends something, and nothing else is under way."""
        self.began = now
        if not self._xact_began:
            self._xact_began = now

    def command(self, data: bytes, start: int, end: int) -> None:
        """A CommandComplete has come, whose body is at [start, end): its tag may end with a number of rows."""
        rows = 0
        scale = 1
        position = end - 2
        while position >= start:
            digit = data[position] - ZERO
            if digit < 0 or digit > 9:
                break
            rows += digit * scale
            scale *= 10
            position -= 1
        self._rows += rows

    def failed(self, told: bool, sqlstate: bytes) -> None:
        """An ErrorResponse has come. `told`: the client gets it."""
        self._failed = True
        self._sqlstate = sqlstate
        self.tally.errors += told

    def answered(self, idle: bool, due: bool) -> None:
        """The client gets a ReadyForQuery. `idle`: no transaction is open. `due`: more is to come behind it."""
        now, tally = self.now, self.tally
        took_s = now - self.began
        # What comes next begins now.
        self.began = now if due else 0.0
        tally.queried(took_s)
        if idle:
            tally.xacts += 1
            tally.xact_s += now - self._xact_began
            self._xact_began = self.began
        if self.calls:
            call = self.calls.pop(0)
            if self._failed:
                call.refused(self._sqlstate)
            call.answered(took_s, self._rows, self._failed)
        self._rows = 0
        self._failed = False

    def passed_over(self, idle: bool, due: bool) -> None:
        """It does not get that one: what it has sent goes on elsewhere, or was answered by us."""
        if not due:
            self.began = 0.0
            if idle:
                self._xact_began = 0.0

    def left(self, now: float, goes_on: bool, unanswered: int) -> None:
        """The client has it no more. `goes_on`: what was begun here goes on elsewhere. `unanswered`: how many
        ReadyForQuery it is owed."""
        tally = self.tally
        took_s = now - self.began if self.began else 0.0
        tally.timings.checkout.observe(now - self._taken_at)
        if self._xact_began:
            if self.began and (goes_on or not unanswered):
                tally.query_s += now - self.began
            if not goes_on:
                for _ in range(unanswered):
                    tally.queried(now - self.began)
                    self.began = now
                tally.xacts += 1
            tally.xact_s += now - self._xact_began
        self.began = self._xact_began = 0.0
        self._rows = 0
        self._failed = False
        self.tally = NOBODY
        if self.calls:
            for call in self.calls:
                call.lost(took_s, goes_on)
                # Those behind it had not begun.
                took_s = 0.0
            self.calls.clear()
