"""The judge: a statement on a standby and on the primary, side by side, each inside BEGIN .. ROLLBACK.

A difference is worded for people: a failure that only recovery explains, other rows, or a trace on the primary that the
standby will not have left there. What it cannot see is left to the hand-written tables: a setting of another session's,
a file, a signal, a counter in shared memory.
"""

from collections import Counter
from types import TracebackType
from typing import Final, NamedTuple, Self

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from middleware.sandbox import Sandbox, SandboxNode
from tests.oracle.statement import Statement

READ_ONLY: Final = "25006"
TIMED_OUT: Final = "57014"
OPTIONS: Final = "-c statement_timeout=3000 -c lock_timeout=1000 -c client_min_messages=error"
SHOWN_MAX: Final = 90
DIFFERENT: Final = ("rows differ", "differs")
"""How a harm begins that a standby's delay may have caused."""

# What outlives a statement on its session is a trace, too. A lock on a row comes with a transaction id.
_TRACES: Final = """
SELECT pg_current_xact_id_if_assigned() IS NOT NULL,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
       (SELECT md5(string_agg(sequencename || coalesce(last_value, 0), ',' ORDER BY sequencename)) FROM pg_sequences),
       (SELECT md5(string_agg(name || coalesce(setting, ''), ',' ORDER BY name)) FROM pg_settings
         WHERE source = 'session'),
       current_setting('oracle.probe', true),
       (SELECT count(*) FROM pg_prepared_statements),
       (SELECT count(*) FROM pg_cursors),
       (SELECT count(*) FROM pg_listening_channels())
"""
_TRACE_NAMES: Final = (
    "a transaction id",
    "an advisory lock",
    "a sequence's value",
    "a setting",
    "a setting",
    "a prepared statement",
    "a cursor",
    "a LISTEN",
)

Traces = tuple[bytes | None, ...]


class Outcome(NamedTuple):
    """What a client would have seen."""

    sqlstate: str = ""
    message: str = ""
    columns: tuple[bytes | None, ...] = ()
    rows: tuple[tuple[bytes | None, ...], ...] = ()

    def failed_in_recovery(self) -> bool:
        return self.sqlstate == READ_ONLY or "during recovery" in self.message or "recovery is in pro" in self.message


class Verdict(NamedTuple):
    """What both nodes said."""

    harm: str
    """Why a standby is the wrong place, or nothing."""
    failure: str = ""
    """How it failed on the primary, too: it proves nothing about where it may run."""


class Nodes:
    """The primary and one standby, with a connection for each user. A context manager."""

    def __init__(self, cluster: Sandbox, database: str) -> None:
        self._cluster = cluster
        self._database = database
        self._connections: dict[tuple[str, str], psycopg.Connection] = {}
        self._at_rest: dict[str, Traces] = {}
        self.standby = cluster.standbys[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.forget()

    def forget(self) -> None:
        """Close all connections: what a role or a database was given since is for new ones."""
        for connection in self._connections.values():
            connection.close()
        self._connections = {}
        self._at_rest = {}

    def judge(self, statement: Statement) -> Verdict:
        """Run it on both. A difference that waiting for the standby dissolves is none."""
        verdict = self._judge_once(statement)
        if verdict.harm.startswith(DIFFERENT):
            self._cluster.wait_for_replay()
            verdict = self._judge_once(statement)
        return verdict

    def _judge_once(self, statement: Statement) -> Verdict:
        there = self._on_standby(statement)
        here, traces = self._on_primary(statement)
        return Verdict(difference(statement, there, here, traces), shown(here) if here.sqlstate else "")

    def _on_standby(self, statement: Statement) -> Outcome:
        connection = self._connection(self.standby, statement.user)
        execute(connection, "BEGIN")
        outcome = execute(connection, statement.sql, statement.arguments)
        self._tidy(connection)
        return outcome

    def _on_primary(self, statement: Statement) -> tuple[Outcome, list[str]]:
        connection = self._connection(self._cluster.primary, statement.user)
        before = self._at_rest.get(statement.user)
        if before is None:
            execute(connection, "BEGIN")
            before = self._traces(connection)
            execute(connection, "ROLLBACK")
        execute(connection, "BEGIN")
        outcome = execute(connection, statement.sql, statement.arguments)
        if connection.status != ConnStatus.OK:
            self._at_rest.clear()
            return outcome, []
        if outcome.sqlstate:
            # An aborted transaction answers nothing; locks of the session and sequences are seen after it, too.
            execute(connection, "ROLLBACK")
        after = self._traces(connection)
        found = sorted({name for name, one, two in zip(_TRACE_NAMES, before, after, strict=True) if one != two})
        self._tidy(connection)
        if found:
            # A sequence stays where it was moved to, for every user.
            self._at_rest.clear()
        else:
            self._at_rest[statement.user] = before
        return outcome, found

    def _connection(self, node: SandboxNode, user: str) -> PGconn:
        known = self._connections.get((node.name, user))
        if known is None or known.pgconn.status != ConnStatus.OK:
            url = self._cluster.url(node, user, self._database)
            known = psycopg.connect(url, options=OPTIONS, application_name="oracle", connect_timeout=10)
            self._connections[node.name, user] = known
        return known.pgconn

    def _traces(self, connection: PGconn) -> Traces:
        (row,) = execute(connection, _TRACES).rows
        return row

    def _tidy(self, connection: PGconn) -> None:
        execute(connection, "ROLLBACK")
        execute(connection, "DISCARD ALL")


def execute(connection: PGconn, sql: str, arguments: tuple[str, ...] = ()) -> Outcome:
    """Run `sql` to its end, a COPY included; the first error, or the rows of all its statements."""
    try:
        if arguments:
            connection.send_query_params(sql.encode(), [argument.encode() for argument in arguments])
        else:
            connection.send_query(sql.encode())
        return received(connection)
    except psycopg.OperationalError as error:
        return Outcome("08006", str(error))


def received(connection: PGconn) -> Outcome:
    """All results of what was sent."""
    failure: Outcome | None = None
    columns: tuple[bytes | None, ...] = ()
    rows: list[tuple[bytes | None, ...]] = []
    while (result := connection.get_result()) is not None:
        if result.status == ExecStatus.COPY_OUT:
            rows += copied(connection)
        elif result.status == ExecStatus.COPY_IN:
            connection.put_copy_end()
        elif result.status == ExecStatus.FATAL_ERROR:
            failure = failure or failed(result)
        else:
            columns = tuple(result.fname(column) for column in range(result.nfields))
            rows += [
                tuple(result.get_value(row, column) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
    return failure or Outcome(columns=columns, rows=tuple(rows))


def copied(connection: PGconn) -> list[tuple[bytes | None, ...]]:
    """The lines of a COPY TO STDOUT."""
    lines: list[tuple[bytes | None, ...]] = []
    while True:
        size, data = connection.get_copy_data(0)
        if size <= 0:
            return lines
        lines.append((bytes(data),))


def failed(result: PGresult) -> Outcome:
    """An ErrorResponse as an outcome."""
    state = result.error_field(DiagnosticField.SQLSTATE) or b"?"
    message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return Outcome(state.decode(), message.decode(errors="replace"))


def difference(statement: Statement, there: Outcome, here: Outcome, traces: list[str]) -> str:
    """Why the standby's outcome will not do for the primary's; empty when it does."""
    if there.sqlstate != here.sqlstate and there.failed_in_recovery():
        return f"fails on a standby: {there.message}"
    if there.sqlstate != here.sqlstate:
        return f"differs: {shown(there)} on the standby, {shown(here)} on the primary"
    if traces:
        return f"leaves {', '.join(traces)} on the primary"
    explains = statement.sql.lstrip().upper().startswith("EXPLAIN")
    if statement.varies or explains or here.sqlstate:
        return ""
    if Counter(there.rows) != Counter(here.rows) or there.columns != here.columns:
        ours, theirs = set(there.rows) - set(here.rows), set(here.rows) - set(there.rows)
        return f"rows differ: {some(ours)} on the standby, {some(theirs)} on the primary"
    return ""


def shown(outcome: Outcome) -> str:
    return f"{outcome.sqlstate} {outcome.message}" if outcome.sqlstate else f"{len(outcome.rows)} rows"


def some(rows: set[tuple[bytes | None, ...]]) -> str:
    """One of the rows, cut short."""
    row = min(rows, key=repr, default=None)
    if row is None:
        return "none that the other lacks"
    text = ", ".join("NULL" if value is None else value.decode(errors="replace") for value in row)
    return f"({text[:SHOWN_MAX]}{'..' if len(text) > SHOWN_MAX else ''})"
