"""Statements that ask us rather than PostgreSQL: they are sent to a server as another statement that has our answer.

So the answer comes in its turn, in whatever form the client asks for, and fails where any statement would.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from parser.facts import StatementFacts


class Answerer(ABC):
    """Who knows the answers."""

    __slots__ = ()

    @abstractmethod
    def answer(self, facts: StatementFacts) -> bytes:
        """The SQL to send for a statement with `facts.asks`."""


def rows(columns: Sequence[str], lines: Sequence[Sequence[str | int]]) -> bytes:
    """SQL that returns `lines`, at least one, in `columns`. Its bytes mean the same in every client_encoding."""
    values = ",".join(f"({','.join(map(_literal, line))})" for line in lines)
    names = ",".join(f'"{column}"' for column in columns)
    return f"SELECT {names} FROM (VALUES {values}) AS answer({names})".encode("ascii", "replace")  # noqa: S608


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return f"{value}::bigint"
    return _text(value)


def _text(text: str) -> str:
    # E'' reads the same under either standard_conforming_strings.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'::text"
