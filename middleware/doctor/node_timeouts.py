"""Checks: timeouts of ours beside those of the nodes, also where a role or a database has its own."""

from collections.abc import Iterator
from typing import Final

from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, advice, warning
from middleware.doctor.pools import servers
from middleware.doctor.units import duration

FORGOTTEN_S: Final = 300.0
"""Firewalls and load balancers forget an idle connection after about so long: 350 s in AWS, 240 s in Azure."""


def _on(case: Case, node: NodeFacts, name: str) -> Iterator[tuple[str, float]]:
    """A timeout as servers of ours have it, above 0: where it is set, and how long it is."""
    value = node.number(name)
    if value:
        yield name, value
    pools = servers(case).pools
    users, databases = {pool.user for pool in pools}, {pool.database for pool in pools}
    for own in node.overridden:
        ours = (not own.role or own.role in users) and (not own.database or own.database in databases)
        if own.setting == name and own.seconds > 0 and ours:
            whose = " in ".join(
                part
                for part in (
                    f'role "{own.role}"' if own.role else "",
                    f'database "{own.database}"' if own.database else "",
                )
                if part
            )
            yield f"{name} of {whose}", own.seconds


def _shortest(case: Case, node: NodeFacts, name: str) -> tuple[str, float] | None:
    return min(_on(case, node, name), key=lambda found: found[1], default=None)


def idle_session_timeout(case: Case) -> Iterator[Finding]:
    """`idle_session_timeout` of a node that is not above how long a server may be idle in its pool:
    `server_idle_timeout`, with `min_pool_size` even `server_lifetime`; `server_keepalive` shortens both."""
    settings = case.settings
    kept = any(policy.pool.min_size for policy in settings.policies())
    life_s = settings.server_lifetime
    idle_s = life_s if kept else min(settings.server_idle_timeout or life_s, life_s)
    idle_s = min(idle_s, settings.server_keepalive or idle_s)
    for node in case.asked:
        found = _shortest(case, node, "idle_session_timeout")
        if found is not None and found[1] <= idle_s:
            where, node_s = found
            yield warning(
                f"{where} {duration(node_s)}; a server may be idle in its pool for {duration(idle_s)}",
                "The node ends servers that wait in the pool: the next client may be given one that is gone.",
                f"idle_session_timeout = 0 on the node, or server_idle_timeout = {node_s / 2:g} without min_pool_size, "
                f"or server_keepalive = {node_s / 2:g}",
                node.name,
            )


def _node_first(case: Case, ours: str, theirs: str, value: str, why: str) -> Iterator[Finding]:
    """Findings where the node's timeout comes before ours."""
    longest = max(getattr(policy.client, value) for _, policy in case.rules())
    for node in case.asked:
        found = _shortest(case, node, theirs)
        if found is not None and longest >= found[1]:
            yield warning(
                f"{ours} {duration(longest)}, the node's {found[0]} {duration(found[1])}",
                why,
                f"{ours} below {found[1]:g}, or {theirs} above {longest:g} s on the node",
                node.name,
            )


def statement_timeout(case: Case) -> Iterator[Finding]:
    """`query_timeout` that is not below `statement_timeout` of a node."""
    why = "The node cancels the statement first: ours never counts, and its log and counters never tell."
    yield from _node_first(case, "query_timeout", "statement_timeout", "query_s", why)


def idle_in_transaction_session_timeout(case: Case) -> Iterator[Finding]:
    """`idle_transaction_timeout` that is not below `idle_in_transaction_session_timeout` of a node."""
    why = "The node ends the whole server, which has to be opened anew; ours rolls back and keeps it."
    yield from _node_first(
        case, "idle_transaction_timeout", "idle_in_transaction_session_timeout", "idle_transaction_s", why
    )


def node_transaction_timeout(case: Case) -> Iterator[Finding]:
    """`transaction_timeout` that is not below `transaction_timeout` of a node (PostgreSQL 17)."""
    why = "The node ends the whole server first, which has to be opened anew."
    yield from _node_first(case, "transaction_timeout", "transaction_timeout", "transaction_s", why)


def idle_transactions(case: Case) -> Iterator[Finding]:
    """Nothing ends a transaction that its client has forgotten: neither here nor on the primary."""
    node = case.primary
    if node is None:
        return
    there = [_shortest(case, node, name) for name in ("idle_in_transaction_session_timeout", "transaction_timeout")]
    for where, policy in case.rules():
        if not (policy.client.idle_transaction_s or policy.client.transaction_s or any(there)):
            yield advice(
                f"{where}idle_transaction_timeout 0, transaction_timeout 0, and 0 on the node too",
                "A client that forgets a transaction keeps its server, its locks, and the dead rows of all tables; as "
                "many of them as a pool has servers stop everybody.",
                "idle_transaction_timeout = 60",
                node.name,
            )
            return


def authentication_timeout(case: Case) -> Iterator[Finding]:
    """`server_connect_timeout` above `authentication_timeout` of a node."""
    ours_s = case.settings.server_connect_timeout
    for node in case.asked:
        theirs_s = node.number("authentication_timeout")
        if theirs_s is not None and ours_s > theirs_s:
            yield advice(
                f"server_connect_timeout {duration(ours_s)}, authentication_timeout {duration(theirs_s)}",
                "The node hangs up on a slow login first, without a word.",
                f"server_connect_timeout = {theirs_s / 2:g}",
                node.name,
            )


def idle_connections(case: Case) -> Iterator[Finding]:
    """Servers on another machine that may be idle for more than 5 minutes with no sign of life from either side."""
    settings = case.settings
    here_s = (settings.tcp_keepidle or 7200) if settings.tcp_keepalive == "on" else float("inf")
    idle_s = min(here_s, settings.server_keepalive or here_s, settings.server_idle_timeout or here_s)
    for node in case.asked:
        theirs_s = node.number("tcp_keepalives_idle") or 7200
        silent_s = min(idle_s, theirs_s)
        if not node.local and silent_s > FORGOTTEN_S:
            yield advice(
                f"a server may say nothing for {duration(silent_s)}: tcp_keepidle {settings.tcp_keepidle}, "
                f"server_keepalive {settings.server_keepalive:g}, the node's tcp_keepalives_idle {theirs_s:g}",
                "Firewalls, NAT and load balancers forget idle connections after 4 to 6 minutes; the next client waits "
                "for one that leads nowhere.",
                "tcp_keepidle = 60, tcp_keepintvl = 10, tcp_keepcnt = 3",
                node.name,
            )


def dead_pointsman(case: Case) -> Iterator[Finding]:
    """`tcp_keepalives_idle` of a primary on another machine above 5 minutes: how long it keeps the transactions of a
    Pointsman whose machine is lost."""
    for node in case.asked:
        idle_s = node.number("tcp_keepalives_idle")
        if not node.local and not node.in_recovery and idle_s is not None and idle_s > FORGOTTEN_S:
            yield advice(
                f"tcp_keepalives_idle {duration(idle_s)}",
                "If Pointsman's machine is lost, the node keeps its connections, transactions and locks for that long.",
                "tcp_keepalives_idle = 60, tcp_keepalives_interval = 10, tcp_keepalives_count = 3 on the node",
                node.name,
            )


CHECKS: Final = (
    idle_session_timeout,
    statement_timeout,
    idle_in_transaction_session_timeout,
    node_transaction_timeout,
    idle_transactions,
    authentication_timeout,
    idle_connections,
    dead_pointsman,
)
