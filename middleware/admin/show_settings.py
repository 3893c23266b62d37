"""SHOW CONFIG, DATABASES, USERS and ROUTES: what the settings say, and whom that holds for now."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from middleware.admin.columns import COLUMNS
from middleware.admin.table import Table, Value
from middleware.config import RoutePolicy, Settings
from middleware.config.shown import config_values
from middleware.reports import ClientReport, PoolReport

CONSOLE: Final = "pgbouncer"
"""What the console is called as a database and a user, in PgBouncer's tables."""
CONSOLES: Final = ("pointsman", CONSOLE)
"""The databases that are the console."""
_PLAIN: Final = re.compile(r"(?:\w|-|\\\W)+")
"""A rule's pattern that is a name: what could be anything else is escaped."""


def config(settings: Settings) -> Table:
    """Every setting; what is secret as asterisks."""
    rows = [(one.key, one.value, one.default, "yes" if one.changeable else "no") for one in config_values(settings)]
    return Table(COLUMNS["config"], tuple(rows))


def routes(policies: Sequence[RoutePolicy]) -> Table:
    """The rules in their order; the last one, without a name, is for whom no other is."""
    rows: list[tuple[Value, ...]] = [
        (
            at,
            one.name,
            one.database,
            one.user,
            one.application_name,
            ", ".join(one.client_addr) or None,
            one.refuse,
            one.mode,
            one.pool.size,
            one.consistency,
            one.balance,
            one.read_from_primary,
            ", ".join(one.prefer) or None,
            one.query_cache,
            one.server_database or None,
            one.server_user or None,
        )
        for at, one in enumerate(policies, 1)
    ]
    return Table(COLUMNS["routes"], tuple(rows))


def databases(
    settings: Settings,
    pools: Iterable[PoolReport],
    clients: Iterable[ClientReport],
    address: tuple[str, int] | None,
    paused: Mapping[str, bool],
    disabled: Mapping[str, bool],
) -> Table:
    """Those that rules name, and those in use. `address`: the primary's; `paused` and `disabled` by name."""
    policies = settings.policies()
    default = policies[-1]
    servers = Counter[str]()
    for pool in pools:
        servers[pool.database] += servers_of(pool)
    connected = Counter(client.database for client in clients)
    known = (named(policies) | servers.keys() | connected.keys() | paused.keys() | disabled.keys()).difference(CONSOLES)
    host, port = address or (None, None)
    rows: list[tuple[Value, ...]] = []
    for name in sorted(known):
        rule = rule_for(policies, name)
        rows.append(
            (
                name,
                host,
                port,
                rule.server_database or name,
                rule.server_user or None,
                rule.pool.size,
                rule.pool.min_size,
                rule.pool.reserve_size,
                int(settings.server_lifetime),
                None if rule.mode == default.mode else rule.mode,
                None,
                rule.pool.max_db_connections,
                servers[rule.server_database or name],
                rule.client.max_db_connections,
                connected[name],
                int(paused.get(name, False)),
                int(disabled.get(name, False)),
            )
        )
    rows.append(_console_database(settings, sum(connected[name] for name in CONSOLES)))
    return Table(COLUMNS["databases"], tuple(rows))


def named(policies: Sequence[RoutePolicy]) -> set[str]:
    """The databases that rules name, as clients call them; not those that a pattern may mean."""
    return {
        re.sub(r"\\(.)", r"\1", rule.database)
        for rule in policies
        if rule.database and _PLAIN.fullmatch(rule.database) and not rule.refuse
    }


def _console_database(settings: Settings, clients: int) -> tuple[Value, ...]:
    lifetime = int(settings.server_lifetime)
    return (
        *(CONSOLE, None, settings.listen_port, CONSOLE, CONSOLE, 0, 0, 0, lifetime, "statement", None),
        *(0, 0, 0, clients, 0, 0),
    )


def users(
    settings: Settings, names: Iterable[str], pools: Iterable[PoolReport], clients: Iterable[ClientReport]
) -> Table:
    """Those whose passwords are known (`names`), and those in use."""
    default = settings.policies()[-1]
    servers = Counter[str]()
    for pool in pools:
        servers[pool.user] += servers_of(pool)
    connected = Counter(client.user for client in clients)
    rows: list[tuple[Value, ...]] = [
        (
            name,
            "",
            "",
            None,
            default.pool.max_user_connections,
            servers[name],
            default.client.max_user_connections,
            connected[name],
        )
        for name in sorted({*names, *servers, *connected})
    ]
    return Table(COLUMNS["users"], tuple(rows))


def servers_of(pool: PoolReport) -> int:
    """The connections to a node that it has."""
    lent = pool.sv_active + pool.sv_being_canceled + pool.sv_closing
    return lent + pool.sv_idle + pool.sv_used + pool.sv_tested + pool.sv_login


def rule_for(policies: Sequence[RoutePolicy], database: str) -> RoutePolicy:
    """The first that is for all clients of a database."""
    for rule in policies:
        for_all = rule.user is None and rule.application_name is None and not rule.client_addr
        if for_all and (rule.database is None or re.fullmatch(rule.database, database)):
            return rule
    raise AssertionError("the last rule is for everybody")
