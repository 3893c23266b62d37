"""How often answers came from the cache, as a running Pointsman tells by `pointsman cache stats --json`."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 30.0


class Hits(NamedTuple):
    """Answers from the cache, and those that were looked for there and came from a server."""

    hits: int
    misses: int
    not_stored: Counter[str] = Counter()  # noqa: RUF012 - never written to
    invalidations: Counter[str] = Counter()  # noqa: RUF012

    @property
    def ratio(self) -> float:
        """Of hits; 0 where nothing was asked."""
        return self.hits / max(1, self.hits + self.misses)


def hits(config: Path) -> Hits:
    """What the caches of all workers of a running Pointsman have done."""
    command = [sys.executable, "-m", "middleware", "cache", "stats", "--json", "-c", str(config)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert told.returncode == 0, told.stderr
    counters = json.loads(told.stdout)["counters"]
    by_cause = Counter(counters["not_stored"]), Counter(counters["invalidations"])
    return Hits(counters["hits"], counters["misses"], *by_cause)


def added(counted: Iterable[Hits]) -> Hits:
    """Of several Pointsmans."""
    total = Hits(0, 0, Counter(), Counter())
    for one in counted:
        total = Hits(
            total.hits + one.hits,
            total.misses + one.misses,
            total.not_stored + one.not_stored,
            total.invalidations + one.invalidations,
        )
    return total
