"""Checks: can the query cache be used where the settings have it on, and is it told of others' writes?"""

from collections.abc import Iterator
from typing import Final

from middleware.config import RoutePolicy
from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, advice, warning
from middleware.doctor.units import duration


def _cached(case: Case) -> list[tuple[str, RoutePolicy]]:
    """The rules that have it on, under the words that name them."""
    return [(where, policy) for where, policy in case.rules() if policy.query_cache != "off"]


def query_cache_pool_mode(case: Case) -> Iterator[Finding]:
    """`query_cache` with `pool_mode = "session"`."""
    for where, policy in _cached(case):
        if policy.mode == "session":
            yield advice(
                f'{where}query_cache "{policy.query_cache}", pool_mode "session"',
                "A client that has a server of its own asks that: its reads are not answered from the cache.",
                'pool_mode = "transaction", or query_cache = "off"',
            )


def cache_watch(case: Case) -> Iterator[Finding]:
    """`query_cache` with `cache_watch = "off"`, or with "logical" where `wal_level` is less."""
    if not _cached(case):
        return
    watch = case.settings.cache_watch
    wal_level = case.primary.word("wal_level") if case.primary else None
    if watch == "off":
        ttl_s = case.settings.query_cache_ttl
        until = f"for up to {duration(ttl_s)}" if ttl_s else "without end"
        yield advice(
            'cache_watch is "off"',
            f"What others write, past this Pointsman, is not noticed: answers from before are given {until}.",
            'cache_watch = "auto", unless nobody else writes',
        )
    elif watch == "logical" and wal_level is not None and wal_level != "logical":
        yield warning(
            f'cache_watch is "logical", wal_level is {wal_level}',
            "The primary decodes no WAL: what others write is not told, and no answer is given for longer than "
            "max_replica_lag after it was read.",
            'wal_level = logical, or cache_watch = "auto"',
            case.primary.name if case.primary else "",
        )


def cache_watch_interval(case: Case) -> Iterator[Finding]:
    """`query_cache` with a `cache_watch_interval` that is not below `max_replica_lag`."""
    interval_s = case.settings.cache_watch_interval
    for where, policy in _cached(case):
        if case.settings.cache_watch != "off" and interval_s >= policy.max_replica_lag_s:
            yield warning(
                f"{where}cache_watch_interval {duration(interval_s)}, max_replica_lag "
                f"{duration(policy.max_replica_lag_s)}",
                "Between two looks at others' writes answers grow older than reads may be, and are not given.",
                f"cache_watch_interval = {policy.max_replica_lag_s / 5:g}, or a longer max_replica_lag",
            )


CHECKS: Final = (query_cache_pool_mode, cache_watch, cache_watch_interval)
