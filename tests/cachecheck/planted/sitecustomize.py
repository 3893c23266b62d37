"""Bugs for the checker to find. Python imports this by itself at its start, where PYTHONPATH names this directory.

Each replaces a few functions of the query cache, in all processes of a Pointsman that is not compiled, by what a
programmer may have written in haste. tests/cachecheck/plant.py has their names, and what they do.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from middleware.cache.cache import QueryCache
from middleware.cache.fill import Fill
from middleware.cache.versions import EVERYTHING, Versions
from middleware.relay.writes import Writes

SAMPLED_S = 0.001
"""What is known of a standby is older than this, of the primary it is not."""


def store_unchecked() -> None:
    """What the primary said is stored as if it had been read now, though its tables changed while it was read."""
    original = QueryCache.stale

    def stale(self: QueryCache, fill: Fill) -> str:
        if fill.fresh < fill.sent - SAMPLED_S:
            return original(self, fill)
        fill.version = self.versions.version(fill.slots)
        return ""

    _replace(QueryCache, "stale", stale)


def find_unchecked() -> None:
    """An answer is given though its tables have changed since."""
    _replace(Versions, "version", lambda self, slots: 0)


def lag_rule() -> None:
    """What a standby said is stored, however far it lags."""
    original = QueryCache.stale

    def stale(self: QueryCache, fill: Fill) -> str:
        fresh, fill.fresh = fill.fresh, fill.sent
        try:
            return original(self, fill)
        finally:
            fill.fresh = fresh

    _replace(QueryCache, "stale", stale)


def under_way() -> None:
    """Answers are given while a commit is under way."""
    _replace(Versions, "settled", lambda self, slots, now: True)


def own_worker() -> None:
    """A worker sees no changes but those that it tells itself."""
    original: Callable[..., None] = Versions.__init__

    def init(self: Versions, descriptor: int, offset: int, workers: int, mine: int) -> None:
        original(self, descriptor, offset, workers, mine)
        object.__setattr__(self, "_columns", (self._base,))

    _replace(Versions, "__init__", init)


def failover() -> None:
    """Answers outlive the primary that they came from, and the catalog of its timeline."""
    original = Versions.change
    clear = QueryCache.clear
    find: Callable[..., Any] = QueryCache.find

    def change(self: Versions, slots: Iterable[int], now: float, lsn: int = 0) -> None:
        original(self, [slot for slot in slots if slot != EVERYTHING], now, lsn)

    def clear_unless(self: QueryCache, cause: str) -> None:
        if cause != "failover":
            clear(self, cause)

    def find_of_any_catalog(self: QueryCache, key: bytes, catalog: int, now: float, strict: bool) -> Any:
        entry = self._answers.get(key)
        return find(self, key, catalog if entry is None else entry.catalog, now, strict)

    _replace(Versions, "change", change)
    _replace(QueryCache, "clear", clear_unless)
    _replace(QueryCache, "find", find_of_any_catalog)


def told_late() -> None:
    """Others hear of a commit when its client has, and a moment later."""
    original = Writes.answered

    def answered(self: Writes, now: float, due: bool) -> bool:
        import asyncio

        asyncio.get_running_loop().call_later(0.05, lambda: original(self, now, False))
        return due

    _replace(Writes, "commit", lambda self: self._begun.update(self._slots))
    _replace(Writes, "answered", answered)
    _replace(Versions, "end", lambda self, slots: None)


def one_table() -> None:
    """A write changes the first of its tables, and none that it reaches by triggers, cascades and partitions."""
    original: Callable[..., Sequence[int]] = QueryCache.touches

    def touches(self: QueryCache, router: Any, database: str, facts: Any) -> Sequence[int]:
        return original(self, router, database, facts)[:1]

    _replace(QueryCache, "touches", touches)


def _replace(where: type, name: str, function: Callable[..., Any]) -> None:
    assert hasattr(where, name), f"{where.__name__} has no {name}: the planted bugs are to be brought up to date"
    setattr(where, name, function)


try:
    globals()[os.environ["CACHECHECK_PLANT"].replace("-", "_")]()
except BaseException:
    # Python would say so and go on without.
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(3)
