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


def rows(column: str, lines: Sequence[str]) -> bytes:
    """SQL that returns `lines` as the rows of one column. Its bytes mean the same in every client_encoding."""
    values = ",".join(f"({_literal(line)})" for line in lines)
    return f'SELECT "{column}" FROM (VALUES {values}) AS answer("{column}")'.encode("ascii", "replace")  # noqa: S608


def _literal(text: str) -> str:
    # E'' reads the same under either standard_conforming_strings.
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'::text"
