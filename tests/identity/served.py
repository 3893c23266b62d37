"""Whether a server was asked: what PostgreSQL's own logs say of a statement.

The nodes log each statement that is parsed and each that is executed (LOGGING, their settings). A line is written
before the answer is sent, so nothing is to be waited for. A statement is known by a word in it that nothing else has.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Final

from middleware.sandbox import Sandbox
from middleware.sandbox.process_node import ProcessNode

LOGGING: Final = {"log_statement": "all", "log_min_messages": "debug2"}
"""debug2 tells of each Parse. With an error its statement is told, too."""
_NUMBERS: Final[Iterator[int]] = itertools.count(1)


def word() -> str:
    """One that no other statement has."""
    return f"asked_{next(_NUMBERS):06}_"


class Served:
    """What the nodes of a cluster were asked."""

    def __init__(self, cluster: Sandbox) -> None:
        self._logs: Final = [node.log for node in cluster.nodes if isinstance(node, ProcessNode)]
        assert len(self._logs) == len(cluster.nodes), "the logs of containers are not read"

    def times(self, marked: str) -> int:
        """How many lines of all nodes' logs tell of statements with this word."""
        return sum(log.read_bytes().count(marked.encode()) for log in self._logs)

    def executed(self, marked: str) -> int:
        """How many of them tell that one was executed, and not only prepared."""
        executed = re.compile(rb"LOG:  (?:statement|execute [^\n:]*): [^\n]*" + marked.encode())
        return sum(len(executed.findall(log.read_bytes())) for log in self._logs)
