"""What the servers say they ran: each statement has a number in a comment, and the logs of all nodes are read."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from middleware.sandbox import Sandbox
from middleware.sandbox.process_node import ProcessNode

_SETTINGS: Final = {"log_statement": "all", "statement_timeout": "5s", "lock_timeout": "2s"}
_ENTRY: Final = re.compile(rb"^(?=\d{4}-\d\d-\d\d )", re.M)
_RAN: Final = re.compile(rb"^[^\n]*? LOG:  (?:statement|execute [^\n]*?): ")
_REFUSED: Final = re.compile(rb"^[^\n]*? STATEMENT:  ")
_NUMBER: Final = re.compile(rb"/\* oracle (\d+) \*/")


class Entries(NamedTuple):
    """By a statement's number, the nodes that wrote of it, as often as they did."""

    ran: dict[int, list[str]]
    refused: dict[int, list[str]]
    """With an error, whether it ran or not."""


class Journal:
    """The logs, from where they were read to the last time. Nodes write them before they run a statement."""

    def __init__(self, cluster: Sandbox) -> None:
        self._logs = {node.name: node.log for node in cluster.nodes if isinstance(node, ProcessNode)}
        self._read = {name: log.stat().st_size for name, log in self._logs.items()}

    def news(self) -> Entries:
        """What was written since."""
        ran: defaultdict[int, list[str]] = defaultdict(list)
        refused: defaultdict[int, list[str]] = defaultdict(list)
        for name, log in self._logs.items():
            with log.open("rb") as file:
                file.seek(self._read[name])
                data = file.read()
            self._read[name] += len(data)
            for entry in _ENTRY.split(data):
                told = ran if _RAN.match(entry) else refused if _REFUSED.match(entry) else None
                if told is not None:
                    for number in _NUMBER.findall(entry):
                        told[int(number)].append(name)
        return Entries(ran, refused)


@contextmanager
def journal(cluster: Sandbox, database: str) -> Iterator[Journal]:
    """All that runs in `database` on connections opened from now on is logged, and may not take long."""
    if not all(isinstance(node, ProcessNode) for node in cluster.nodes):
        raise RuntimeError("the logs of these nodes cannot be read")
    changes = "".join(f"ALTER DATABASE {database} SET {name} = '{value}';\n" for name, value in _SETTINGS.items())
    cluster.query(changes, database="postgres")
    try:
        cluster.wait_for_replay()
        yield Journal(cluster)
    finally:
        cluster.query("".join(f"ALTER DATABASE {database} RESET {name};\n" for name in _SETTINGS), database="postgres")
