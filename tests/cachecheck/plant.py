"""Bugs that a Pointsman can be started with, to see that the checker finds them: see planted/sitecustomize.py."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VARIABLE: Final = "CACHECHECK_PLANT"
DIRECTORY: Final = Path(__file__).parent / "planted"


PLANTS: Final = {
    "store-unchecked": "an answer is stored though its tables changed while it was read",
    "find-unchecked": "an answer is given though its tables have changed since",
    "lag-rule": "what a lagging standby said is stored",
    "under-way": "answers are given, and stored, while a commit is under way",
    "own-worker": "a worker does not see what others tell of changes",
    "told-late": "others hear of a commit a moment after its client has",
    "one-table": "a write changes one of its tables, and none that it reaches by triggers, cascades and partitions",
    "failover": "answers outlive the primary they came from",
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Processes that start meanwhile have this bug; none where there is no name."""
    if not name:
        yield
        return
    before = {variable: os.environ.get(variable) for variable in (VARIABLE, "PYTHONPATH")}
    os.environ[VARIABLE] = name
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(DIRECTORY), before["PYTHONPATH"])))
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable)
            else:
                os.environ[variable] = value
