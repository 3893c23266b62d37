"""SHOW STATS and its kin, and DIGESTS: what has gone between clients and nodes, counted and timed.

In: what workers have counted since the start, added up, and the same as it was at the beginning of the last
stats_period. Times are in microseconds and averages are whole numbers, as in PgBouncer: counts and bytes per second,
times per transaction, query and assignment.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from middleware.admin.columns import COLUMNS
from middleware.admin.grammar import DigestOrder
from middleware.admin.table import Table, Value
from middleware.reports import DigestReport, TrafficReport

US_PER_S: Final = 1_000_000
Row = tuple[Value, ...]

NAMES: Final = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
)
"""What SHOW TOTALS calls a Sum's numbers, in its order, with total_ and avg_ in front."""


class Sum(msgspec.Struct):
    """What has gone through; times in microseconds."""

    assignments: int = 0
    xacts: int = 0
    queries: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    xact_us: int = 0
    query_us: int = 0
    wait_us: int = 0
    client_parses: int = 0
    server_parses: int = 0
    binds: int = 0


def sums(traffic: Iterable[TrafficReport]) -> dict[str, Sum]:
    """By database."""
    found: dict[str, Sum] = {}
    for one in traffic:
        add(found.setdefault(one.database, Sum()), one)
    return found


def add(total: Sum, one: TrafficReport) -> None:
    total.assignments += one.assignments
    total.xacts += one.xacts
    total.queries += one.queries
    total.received_bytes += one.received_bytes
    total.sent_bytes += one.sent_bytes
    total.xact_us += round(one.xact_s * US_PER_S)
    total.query_us += round(one.query_s * US_PER_S)
    total.wait_us += round(one.wait_s * US_PER_S)
    total.client_parses += one.client_parses
    total.server_parses += one.server_parses
    total.binds += one.binds


def averages(now: Sum, before: Sum, elapsed_s: float) -> Sum:
    """What it was per second, and how long one took, between the two."""
    had = msgspec.structs.astuple(before)
    done = Sum(*(max(0, count - past) for count, past in zip(msgspec.structs.astuple(now), had, strict=True)))
    if elapsed_s <= 0:
        return Sum()

    def per_second(count: int) -> int:
        return int(count / elapsed_s)

    return Sum(
        per_second(done.assignments),
        per_second(done.xacts),
        per_second(done.queries),
        per_second(done.received_bytes),
        per_second(done.sent_bytes),
        done.xact_us // max(1, done.xacts),
        done.query_us // max(1, done.queries),
        done.wait_us // max(1, done.assignments),
        per_second(done.client_parses),
        per_second(done.server_parses),
        per_second(done.binds),
    )


class Period(msgspec.Struct, frozen=True):
    """What there is to make averages of."""

    now: tuple[TrafficReport, ...]
    before: tuple[TrafficReport, ...]
    elapsed_s: float


def stats(period: Period) -> Table:
    """Totals and averages of each database."""
    rows: list[Row] = []
    before = sums(period.before)
    for database, total in sorted(sums(period.now).items()):
        average = averages(total, before.get(database, Sum()), period.elapsed_s)
        rows.append((database, *msgspec.structs.astuple(total), *msgspec.structs.astuple(average)))
    return Table(COLUMNS["stats"], tuple(rows))


def stats_totals(period: Period) -> Table:
    """The totals alone."""
    rows = [(database, *msgspec.structs.astuple(total)) for database, total in sorted(sums(period.now).items())]
    return Table(COLUMNS["stats_totals"], tuple(rows))


def stats_averages(period: Period) -> Table:
    """The averages alone."""
    before = sums(period.before)
    rows = [
        (database, *msgspec.structs.astuple(averages(total, before.get(database, Sum()), period.elapsed_s)))
        for database, total in sorted(sums(period.now).items())
    ]
    return Table(COLUMNS["stats_averages"], tuple(rows))


def totals(period: Period) -> Table:
    """Over all databases."""
    now, before = Sum(), Sum()
    for one in period.now:
        add(now, one)
    for one in period.before:
        add(before, one)
    average = averages(now, before, period.elapsed_s)
    rows = [(f"total_{name}", value) for name, value in zip(NAMES, msgspec.structs.astuple(now), strict=True)]
    rows += [(f"avg_{name}", value) for name, value in zip(NAMES, msgspec.structs.astuple(average), strict=True)]
    return Table(COLUMNS["totals"], tuple(rows))


_ORDERS: Final[dict[DigestOrder, Callable[[DigestReport], float]]] = {
    "total": lambda one: one.total_s,
    "calls": lambda one: one.calls,
    "mean": lambda one: one.total_s / max(1, one.calls),
}


def digests(reports: Iterable[DigestReport], order: DigestOrder, limit: int) -> Table:
    """Each shape of a database once, over all workers; the most first."""
    found: dict[tuple[str, str], DigestReport] = {}
    for one in reports:
        have = found.get((one.database, one.shape))
        found[one.database, one.shape] = one if have is None else _together(have, one)
    those = sorted(found.values(), key=lambda one: (-_ORDERS[order](one), one.database, one.shape))
    rows = [
        (
            *(one.database, one.shape, one.calls, one.errors, one.rows),
            *(_ms(one.total_s), _ms(one.total_s / max(1, one.calls)), _ms(one.max_s)),
            *(one.on_primary, one.on_standbys, one.hits, one.reason),
        )
        for one in (those[:limit] if limit else those)
    ]
    return Table(COLUMNS["digests"], tuple(rows))


def _together(one: DigestReport, other: DigestReport) -> DigestReport:
    return DigestReport(
        one.database,
        one.shape,
        one.calls + other.calls,
        one.errors + other.errors,
        one.rows + other.rows,
        one.total_s + other.total_s,
        max(one.max_s, other.max_s),
        one.on_primary + other.on_primary,
        one.on_standbys + other.on_standbys,
        one.hits + other.hits,
        one.reason or other.reason,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
