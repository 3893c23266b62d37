"""Asking all workers for something that they do not report by themselves.

In: a subject. Out: the reports of all workers, and who has not answered in time. An answer comes in parts, so
that a worker with ten thousand clients does not stand still over it, nor fill the channel.
"""

from collections.abc import Callable, Sequence
from typing import Final

import anyio
import msgspec

from middleware.control import Ask, Told
from middleware.reports import Report, Subject

ANSWER_S: Final = 3.0
"""A worker that has not said all by then is left out, and named."""


class Answers(msgspec.Struct, frozen=True):
    """What all have said."""

    reports: tuple[tuple[int, Report], ...]
    """Each with the worker whose it is."""
    silent: tuple[int, ...] = ()
    """Workers that have not answered."""


class _Question:
    def __init__(self, asked: set[int]) -> None:
        self.left = asked
        self.reports: list[tuple[int, Report]] = []
        self.changed = anyio.Event()

    def settle(self, worker: int) -> None:
        self.left.discard(worker)
        if not self.left:
            self.changed.set()


class Asking:
    """The questions that are open."""

    def __init__(self, send: Callable[[int, Ask], None], running: Callable[[], Sequence[int]]) -> None:
        """`running`: the workers that have a process."""
        self._send: Final = send
        self._running: Final = running
        self._serial = 0
        self._open: Final[dict[int, _Question]] = {}

    async def ask(self, subject: Subject, limit: int = 0) -> Answers:
        """The reports on `subject` of all workers that run; of each at most `limit`, the biggest first, 0 for all."""
        asked = set(self._running())
        question = _Question(set(asked))
        self._serial += 1
        serial = self._serial
        self._open[serial] = question
        try:
            for worker in asked:
                self._send(worker, Ask(serial, subject, limit))
            if asked:
                with anyio.move_on_after(ANSWER_S):
                    await question.changed.wait()
        finally:
            del self._open[serial]
        return Answers(tuple(question.reports), tuple(sorted(question.left)))

    def told(self, worker: int, message: Told) -> None:
        """A part of an answer. One that comes too late is passed over."""
        question = self._open.get(message.serial)
        if question is not None and worker in question.left:
            question.reports.extend((worker, report) for report in message.reports)
            if message.last:
                question.settle(worker)

    def ended(self, worker: int) -> None:
        """Its process is gone: what it had to say went with it."""
        for question in self._open.values():
            question.settle(worker)
