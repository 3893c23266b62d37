"""Rounds of runs: every contender in turn under the same load, so that what else the machine does strikes all alike.

Ratios are taken between runs of the same round, which are neighbours in time, and their median is shown.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tests.bench.contenders import BenchError, Contender
from tests.bench.cpu import cpu_seconds
from tests.bench.pgbench import Load, Mode, Outcome, run

LOGIN_FIRST_S: Final = 1.0
"""Time to log in that the first run of a contender gets; later runs get what was seen before, and some."""
LOGIN_MARGIN: Final = 1.5
ATTEMPTS_MAX: Final = 3


class Sample(msgspec.Struct, frozen=True):
    """One run of one contender."""

    contender: str
    mode: Mode
    clients: int
    round: int
    outcome: Outcome
    cpu_us: float | None
    """Microseconds of the proxy's processes per transaction."""
    servers_cpu_us: float | None = None
    """The same of PostgreSQL's, all nodes together, where it was asked for."""
    hit_ratio: float | None = None
    """How many of the statements the contender's query cache has answered, where it has one."""


class Spread(msgspec.Struct, frozen=True):
    """The median of some numbers, and how far they lie apart."""

    median: float
    low: float
    high: float


class Mark(NamedTuple):
    """CPU seconds used so far."""

    proxy_s: float
    servers_s: float


class Bench:
    """Runs pgbench against contenders that are started, and remembers how long each takes to log in."""

    def __init__(self, program: Path, servers: Sequence[int] = ()) -> None:
        """`servers`: the postmasters, where their CPU time is of interest, too."""
        self._program: Final = program
        self._servers: Final = servers
        self._login_s: Final[dict[tuple[str, int], float]] = {}

    def sample(self, contender: Contender, load: Load, number: int) -> Sample:
        """One run; repeated when the logins left less than half of the time for transactions."""
        key = (contender.key, load.clients)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            marks: list[Mark] = []
            hits = contender.hits() if contender.caches else 0
            login_s = self._login_s.get(key, LOGIN_FIRST_S)
            mark = partial(self._mark, contender, marks)
            outcome = run(self._program, contender.target(load.mode), load, login_s, mark)
            self._login_s[key] = max(outcome.login_s * LOGIN_MARGIN, login_s if attempt > 1 else 0.0)
            if outcome.seconds >= load.seconds / 2 or outcome.failed:
                break
        cpu_us = servers_cpu_us = hit_ratio = None
        if outcome.transactions and len(marks) == 2:
            first, last = marks
            if contender.pid is not None:
                cpu_us = (last.proxy_s - first.proxy_s) * 1e6 / outcome.transactions
            if self._servers:
                servers_cpu_us = (last.servers_s - first.servers_s) * 1e6 / outcome.transactions
        if contender.caches and outcome.processed:
            time.sleep(contender.told_after_s)
            hit_ratio = (contender.hits() - hits) / outcome.processed
        return Sample(contender.key, load.mode, load.clients, number, outcome, cpu_us, servers_cpu_us, hit_ratio)

    def _mark(self, contender: Contender, marks: list["Mark"]) -> None:
        proxy_s = 0.0 if contender.pid is None else cpu_seconds(contender.pid)
        marks.append(Mark(proxy_s, sum(cpu_seconds(server) for server in self._servers)))


@contextlib.contextmanager
def started(contenders: Sequence[Contender], say: Callable[[str], None]) -> Iterator[list[Contender]]:
    """Start all; those that cannot be are named through `say` and left out. All are stopped at the end."""
    with contextlib.ExitStack() as stack:
        running = []
        for contender in contenders:
            if contender.missing:
                say(contender.missing)
                continue
            try:
                running.append(stack.enter_context(contender))
            except BenchError as error:
                say(str(error))
        yield running


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def ratios(samples: Sequence[Sample], base: Sequence[Sample], value: Callable[[Sample], float | None]) -> list[float]:
    """`value` of each sample over that of the sample in `base` of the same round, where both have one."""
    divisors = {sample.round: value(sample) for sample in base}
    found = []
    for sample in samples:
        dividend, divisor = value(sample), divisors.get(sample.round)
        if dividend is not None and divisor:
            found.append(dividend / divisor)
    return found
