"""What the log is told of statements: those that took long, and some by chance; by their shape, without literals.

What is timed is a query as tally.py has it: one Query, or all up to a Sync. It stands behind its digest in the meter's
line of what is under way (Watched), and hears from there how long it took. Off, this costs a look at a flag per query.
"""

from collections.abc import Callable
from typing import Final

import structlog

from middleware.config import RoutePolicy
from middleware.logs.wanted import WANTED
from middleware.relay.accounts import Account
from middleware.relay.peers import application_name
from middleware.relay.tracing import Span, Tracing
from middleware.session.client import ClientSession
from middleware.session.digests import Digest
from middleware.session.parameters import StartupParameters
from parser.facts import StatementFacts
from parser.shapes import FactsTable

log: Final = structlog.get_logger("statement")

SLOW: Final = "slow statement"
SAMPLED: Final = "sampled statement"
SHAPE_CHARS_MAX: Final = 1000
"""Of each statement's shape."""
STATEMENTS_MAX: Final = 10
"""Of one query whose shapes are told."""
TEXT_CHARS_MAX: Final = 1000
"""Of a statement's text, where that is asked for."""


class StatementLog:
    """One client's."""

    __slots__ = ("_account", "_draw", "_facts", "_facts_table", "_tracing", "_why", "process_id", "session", "waited_s")

    def __init__(
        self, account: Account, facts_table: FactsTable, draw: Callable[[], float], tracing: Tracing | None
    ) -> None:
        self._account = account
        self._facts_table = facts_table
        self._draw: Final = draw
        self._tracing: Final = tracing
        self._facts: list[StatementFacts] = []
        """What of the query that is being sent was sent."""
        self._why = ""
        self.process_id = 0
        self.session: ClientSession | None = None
        """Who has read what it sends."""
        self.waited_s = 0.0
        """How long that query has waited for its server."""

    def use(self, account: Account, facts_table: FactsTable) -> None:
        """By these from now on."""
        self._account, self._facts_table = account, facts_table

    def add(self, facts: StatementFacts, why: str) -> None:
        """A statement is about to be sent. `why`: it goes to the primary, if it does."""
        if len(self._facts) < STATEMENTS_MAX:
            self._facts.append(facts)
        if facts.transaction is None or not self._why:
            self._why = why

    def end(
        self, digest: Digest, node: str, on_primary: bool, policy: RoutePolicy, parameters: StartupParameters
    ) -> Digest:
        """All of a query is sent: who hears of its end, where `digest` alone would."""
        facts, why, waited_s = self._facts, self._why, self.waited_s
        self._facts, self._why, self.waited_s = [], "", 0.0
        slow_s = policy.client.log_min_duration_s
        span = None
        if self._tracing is not None and self.session is not None and facts:
            span = self._tracing.begin(self.session.text, waited_s)
        if not facts or (slow_s < 0.0 and not WANTED.sample_rate and span is None):
            return digest
        text = self.session.text if WANTED.statement_text and self.session is not None else b""
        watched = Watched(self, digest, facts, text, node, on_primary, why, waited_s, slow_s, parameters)
        watched.span = span
        return watched

    def hit(self, facts: StatementFacts, parameters: StartupParameters) -> None:
        """A statement was answered from the query cache."""
        if self._tracing is None or self.session is None:
            return
        span = self._tracing.begin(self.session.text, 0.0)
        if span is not None:
            span.cached = True
            self._end(self._tracing, span, [facts], parameters)

    def trace(self, one: "Watched", span: Span, rows: int, failed: bool) -> None:
        """It was answered, or will not be."""
        if self._tracing is None:
            return
        span.node, span.target, span.why, span.rows = one.node, one.target, one.why, rows
        span.failed, span.sqlstate = failed, one.sqlstate
        self._end(self._tracing, span, one.facts, one.parameters)

    def _end(self, tracing: Tracing, span: Span, facts: list[StatementFacts], parameters: StartupParameters) -> None:
        account = self._account
        span.database, span.user, span.rule = account.database, account.user, account.policy.name
        span.application_name = application_name(parameters)
        span.shapes = self._shapes(facts)
        tracing.end(span)

    def _shapes(self, facts: list[StatementFacts]) -> list[str]:
        return [self._facts_table.shape_with(one, SHAPE_CHARS_MAX) or one.kind for one in facts]

    def tell(self, one: "Watched", took_s: float, rows: int, failed: bool, unanswered: bool = False) -> None:
        """It was answered, or will not be."""
        slow = 0.0 <= one.slow_s <= took_s
        if not slow and (not WANTED.sample_rate or self._draw() >= WANTED.sample_rate):
            return
        account = self._account
        log.info(
            SLOW if slow else SAMPLED,
            duration_s=round(took_s, 6),
            wait_s=round(one.waited_s, 6),
            rows=rows,
            failed=failed,
            unanswered=True if unanswered else None,
            node=one.node,
            target=one.target,
            why=one.why or None,
            user=account.user,
            database=account.database,
            application_name=application_name(one.parameters) or None,
            rule=account.policy.name or None,
            process_id=self.process_id,
            statement=one.shape or "; ".join([shape.rstrip("; ") for shape in self._shapes(one.facts)]),
            text=one.text.decode(errors="replace")[:TEXT_CHARS_MAX] or None,
        )


class Watched(Digest):
    """A query under way whose time is looked at; it counts for `digest`."""

    __slots__ = (
        "_digest",
        "_log",
        "facts",
        "node",
        "parameters",
        "slow_s",
        "span",
        "sqlstate",
        "target",
        "text",
        "waited_s",
        "why",
    )

    def __init__(
        self,
        statement_log: StatementLog,
        digest: Digest,
        facts: list[StatementFacts],
        text: bytes,
        node: str,
        on_primary: bool,
        why: str,
        waited_s: float,
        slow_s: float,
        parameters: StartupParameters,
    ) -> None:
        # To find a shape takes longer than all else here: a digest of a statement alone has it.
        super().__init__("", digest.shape if len(facts) == 1 else "")
        self._log: Final = statement_log
        self._digest: Final = digest
        self.facts: Final = facts
        self.text: Final = text
        self.node: Final = node
        self.target: Final = "primary" if on_primary else "standby"
        self.why: Final = why
        self.waited_s: Final = waited_s
        self.slow_s: Final = slow_s
        self.parameters: Final = parameters
        self.span: Span | None = None
        self.sqlstate = ""

    def refused(self, sqlstate: bytes) -> None:
        self.sqlstate = sqlstate.decode(errors="replace")

    def lost(self, took_s: float, goes_on: bool) -> None:
        if not goes_on:
            self._log.tell(self, took_s, 0, True, True)
        if self.span is not None:
            self._log.trace(self, self.span, 0, True)

    def answered(self, took_s: float, rows: int, failed: bool) -> None:
        self._digest.answered(took_s, rows, failed)
        self._log.tell(self, took_s, rows, failed)
        if self.span is not None:
            self._log.trace(self, self.span, rows, failed)
