"""Routes statements, lets the nodes judge, and keeps count."""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from tests.oracle.judge import Nodes
from tests.oracle.statement import Statement, Where

Decide = Callable[[str, str], tuple[bool, str]]


class Kind(Enum):
    """What became of a statement."""

    ROUTED = "routed to a standby, rightly"
    MISROUTED = "routed to a standby, wrongly"
    STAYED = "stayed on the primary, needlessly"
    KEPT = "stayed on the primary, rightly"
    FAILED = "failed alike on both nodes"
    DISPUTED = "said to be for a standby, and the nodes say otherwise"


class Finding(NamedTuple):
    """One statement, where it went, and what the nodes say to that."""

    kind: Kind
    statement: Statement
    reason: str
    """The router's."""
    harm: str = ""
    """The judge's."""


class Tally:
    """The findings about one part, and the two figures."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = list(findings)

    def of(self, kind: Kind) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind is kind]

    def count(self, kind: Kind) -> int:
        return len(self.of(kind))

    def share_stayed(self) -> float:
        """Of the statements that a standby could have had, the share that the primary kept."""
        stayed, routed = self.count(Kind.STAYED), self.count(Kind.ROUTED)
        return stayed / (stayed + routed) if stayed + routed else 0.0

    def passed(self) -> bool:
        return not self.of(Kind.MISROUTED) and not self.of(Kind.DISPUTED)


def try_all(decide: Decide, nodes: Nodes, statements: Iterable[Statement], tick: Callable[[], None]) -> Tally:
    """Judge every statement once; `tick` is called after each."""

    def findings() -> Iterable[Finding]:
        for statement in statements:
            yield try_one(decide, nodes, statement)
            tick()

    return Tally(findings())


def try_one(decide: Decide, nodes: Nodes, statement: Statement) -> Finding:
    """Route a statement and judge what was decided."""
    to_standby, reason = decide(statement.sql, statement.user)
    if to_standby:
        return _routed(nodes, statement, reason)
    if statement.where in (Where.PRIMARY, Where.EITHER) or not statement.callable:
        return Finding(Kind.KEPT, statement, reason)
    verdict = nodes.judge(statement)
    if statement.where is Where.STANDBY:
        doubt = verdict.harm or verdict.failure
        return Finding(Kind.DISPUTED if doubt else Kind.STAYED, statement, reason, doubt)
    if verdict.harm:
        return Finding(Kind.KEPT, statement, reason, verdict.harm)
    return Finding(Kind.FAILED if verdict.failure else Kind.STAYED, statement, reason, verdict.failure)


def _routed(nodes: Nodes, statement: Statement, reason: str) -> Finding:
    """What became of a statement that went to a standby."""
    if not statement.callable:
        return Finding(Kind.MISROUTED, statement, reason, "it is for the primary, and was not run")
    verdict = nodes.judge(statement)
    harm = verdict.harm
    if not harm and statement.where is Where.PRIMARY:
        harm = "it is for the primary, though nothing went wrong this time"
    if harm:
        return Finding(Kind.MISROUTED, statement, reason, harm)
    if verdict.failure:
        expected = statement.where is not Where.STANDBY
        return Finding(Kind.FAILED if expected else Kind.DISPUTED, statement, reason, verdict.failure)
    return Finding(Kind.ROUTED, statement, reason)


def doubts(nodes: Nodes, statements: Iterable[Statement], tick: Callable[[], None]) -> list[Finding]:
    """Statements said to be for the primary of which the nodes do not see why."""
    found = []
    for statement in statements:
        if statement.where is Where.PRIMARY and statement.callable:
            verdict = nodes.judge(statement)
            if not verdict.harm:
                found.append(Finding(Kind.KEPT, statement, statement.group, verdict.failure or "no difference"))
        tick()
    return found
