"""Checks: settings of ours that contradict each other, or keep each other from ever counting."""

from collections.abc import Callable, Iterator
from typing import Final

from middleware.config import RoutePolicy
from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, advice, warning
from middleware.doctor.units import duration

IDLE_CLIENT_S: Final = 60.0
"""Pools of applications keep connections idle for minutes: HikariCP 10, and asyncpg 5."""

Values = tuple[float, ...]


def _of_rules(case: Case, values: Callable[[RoutePolicy], Values]) -> Iterator[tuple[str, Values]]:
    """The values of the top level, and those of rules that have others, with the words that name the rule."""
    *some, (_, everybody) = case.rules()
    common = values(everybody)
    yield "", common
    for where, policy in some:
        if values(policy) != common:
            yield where, values(policy)


def query_timeout(case: Case) -> Iterator[Finding]:
    """`query_timeout` that is not below `transaction_timeout`."""
    for where, (query_s, transaction_s) in _of_rules(case, lambda p: (p.client.query_s, p.client.transaction_s)):
        if query_s >= transaction_s > 0:
            yield warning(
                f"{where}query_timeout {duration(query_s)}, transaction_timeout {duration(transaction_s)}",
                "A statement is part of a transaction, which ends first, and its client with it: no statement is ever "
                "just canceled.",
                f"query_timeout below {transaction_s:g}, such as {transaction_s / 2:g}",
            )


def idle_transaction_timeout(case: Case) -> Iterator[Finding]:
    """`idle_transaction_timeout` that is not below `transaction_timeout`."""
    for where, (idle_s, all_s) in _of_rules(case, lambda p: (p.client.idle_transaction_s, p.client.transaction_s)):
        if idle_s >= all_s > 0:
            yield warning(
                f"{where}idle_transaction_timeout {duration(idle_s)}, transaction_timeout {duration(all_s)}",
                "The transaction ends before it can have been idle for so long: the timeout never counts.",
                f"idle_transaction_timeout below {all_s:g}, such as {all_s / 2:g}; or 0",
            )


def query_wait_notify(case: Case) -> Iterator[Finding]:
    """`query_wait_notify` that is not below `query_wait_timeout`."""
    for where, (notify_s, wait_s) in _of_rules(case, lambda p: (p.client.query_wait_notify_s, p.client.query_wait_s)):
        if notify_s >= wait_s:
            yield advice(
                f"{where}query_wait_notify {duration(notify_s)}, query_wait_timeout {duration(wait_s)}",
                "The wait is over before its client would be told of it.",
                f"query_wait_notify = {wait_s / 2:g}, or 0",
            )


def query_wait_timeout(case: Case) -> Iterator[Finding]:
    """`query_wait_timeout` below `server_connect_timeout`."""
    connect_s = case.settings.server_connect_timeout
    for where, (wait_s,) in _of_rules(case, lambda p: (p.client.query_wait_s,)):
        if wait_s < connect_s:
            yield warning(
                f"{where}query_wait_timeout {duration(wait_s)}, server_connect_timeout {duration(connect_s)}",
                "A client gives up while the server it waits for is still being opened, and the node's silence is not "
                "told of as such.",
                f"server_connect_timeout = {wait_s / 2:g}, or query_wait_timeout = {connect_s * 2:g}",
            )


def reserve_pool_timeout(case: Case) -> Iterator[Finding]:
    """`reserve_pool_timeout` that is not below `query_wait_timeout`, with a reserve."""
    after_s = case.settings.reserve_pool_timeout
    for where, (reserve, wait_s) in _of_rules(case, lambda p: (p.pool.reserve_size, p.client.query_wait_s)):
        if reserve and after_s >= wait_s:
            yield warning(
                f"{where}reserve_pool_timeout {duration(after_s)}, query_wait_timeout {duration(wait_s)}",
                f"Nobody waits for long enough to get one of the {reserve:g} servers in reserve.",
                f"reserve_pool_timeout below {wait_s:g}, such as {min(5.0, wait_s / 2):g}",
            )


def client_login_timeout(case: Case) -> Iterator[Finding]:
    """`client_login_timeout` that is not above `server_connect_timeout`."""
    login_s, connect_s = case.settings.client_login_timeout, case.settings.server_connect_timeout
    if login_s <= connect_s:
        yield warning(
            f"client_login_timeout {duration(login_s)}, server_connect_timeout {duration(connect_s)}",
            "A first login asks a server what the client's settings mean. If that server is slow to open, the client "
            "is sent away without the reason.",
            f"client_login_timeout = {connect_s * 2:g}",
        )


def client_idle_timeout(case: Case) -> Iterator[Finding]:
    """`client_idle_timeout` below a minute."""
    for where, (idle_s,) in _of_rules(case, lambda p: (p.client.idle_s,)):
        if 0 < idle_s < IDLE_CLIENT_S:
            yield advice(
                f"{where}client_idle_timeout {duration(idle_s)}",
                "Applications' pools keep connections idle for minutes, and find them closed when they need them. An "
                "idle client costs no server.",
                "client_idle_timeout = 0, or more than the idle timeout of the applications' pools",
            )


def leak_warning(case: Case) -> Iterator[Finding]:
    """`leak_warning` that is not below `transaction_timeout`, in transaction and statement pooling."""
    values = _of_rules(case, lambda p: (p.client.leak_warning_s, p.client.transaction_s, p.mode == "session"))
    for where, (leak_s, transaction_s, session) in values:
        if leak_s >= transaction_s > 0 and not session:
            yield advice(
                f"{where}leak_warning {duration(leak_s)}, transaction_timeout {duration(transaction_s)}",
                "No transaction holds a server for so long: nobody is named.",
                f"leak_warning = {transaction_s / 2:g}",
            )


def shutdown_timeout(case: Case) -> Iterator[Finding]:
    """`shutdown_timeout` below `transaction_timeout`."""
    shutdown_s = case.settings.shutdown_timeout
    for where, (transaction_s,) in _of_rules(case, lambda p: (p.client.transaction_s,)):
        if shutdown_s < transaction_s:
            yield advice(
                f"{where}shutdown_timeout {duration(shutdown_s)}, transaction_timeout {duration(transaction_s)}",
                "A restart ends transactions that are allowed to last longer.",
                f"shutdown_timeout = {transaction_s:g}, and the service manager's own stop timeout above it",
            )


def server_idle_timeout(case: Case) -> Iterator[Finding]:
    """`server_idle_timeout` that is not below `server_lifetime`."""
    idle_s, life_s = case.settings.server_idle_timeout, case.settings.server_lifetime
    if idle_s >= life_s:
        yield advice(
            f"server_idle_timeout {duration(idle_s)}, server_lifetime {duration(life_s)}",
            "A server that is idle is closed for its age first: the pool never shrinks after a rush before that.",
            f"server_idle_timeout below {life_s:g}, such as {life_s / 6:g}",
        )


def server_keepalive(case: Case) -> Iterator[Finding]:
    """`server_keepalive` that is not below `server_idle_timeout`, and no `min_pool_size`."""
    settings = case.settings
    keepalive_s, idle_s = settings.server_keepalive, settings.server_idle_timeout
    if keepalive_s >= idle_s > 0 and not any(policy.pool.min_size for policy in settings.policies()):
        yield warning(
            f"server_keepalive {duration(keepalive_s)}, server_idle_timeout {duration(idle_s)}",
            "A server is closed before it would be asked for a sign of life.",
            f"server_keepalive = {min(60.0, idle_s / 2):g}, or a longer server_idle_timeout",
        )


def server_check_delay(case: Case) -> Iterator[Finding]:
    """`server_check_delay` that is not below `server_idle_timeout`."""
    delay_s, idle_s = case.settings.server_check_delay, case.settings.server_idle_timeout
    if delay_s >= idle_s > 0:
        yield advice(
            f"server_check_delay {duration(delay_s)}, server_idle_timeout {duration(idle_s)}",
            "No server is ever checked before use: one that a firewall has forgotten costs its client an error.",
            f"server_check_delay = {min(30.0, idle_s / 2):g}",
        )


def failure_detection(case: Case) -> Iterator[Finding]:
    """How long a silent node counts as up, against `query_wait_timeout`."""
    checks = case.settings.health_check
    tries = checks.max_retries + 1
    down_s = checks.period + tries * checks.timeout + checks.max_retries * checks.retry_delay
    for where, (wait_s,) in _of_rules(case, lambda p: (p.client.query_wait_s,)):
        if down_s >= wait_s:
            yield advice(
                f"{where}a silent node is down after {checks.period:g} + {tries} x {checks.timeout:g} + "
                f"{checks.max_retries} x {checks.retry_delay:g} = {duration(down_s)}; "
                f"query_wait_timeout {duration(wait_s)}",
                "Clients that wait for it get errors before it is known that others should be asked.",
                "a shorter timeout or fewer max_retries in [health_check], or a longer query_wait_timeout",
            )


def freshness_period(case: Case) -> Iterator[Finding]:
    """`max_replica_lag` that is not above `freshness_period`."""
    period_s = case.settings.freshness_period
    for where, (lag_s,) in _of_rules(case, lambda p: (p.max_replica_lag_s,)):
        if lag_s <= period_s:
            yield warning(
                f"{where}max_replica_lag {duration(lag_s)}, freshness_period {duration(period_s)}",
                "Between two looks at a standby, what is known of it is older than it may be: reads go to the primary.",
                f"freshness_period = {lag_s / 4:g}, or max_replica_lag = {period_s * 4:g}",
            )


CHECKS: Final = (
    query_timeout,
    idle_transaction_timeout,
    query_wait_notify,
    query_wait_timeout,
    reserve_pool_timeout,
    client_login_timeout,
    client_idle_timeout,
    leak_warning,
    shutdown_timeout,
    server_idle_timeout,
    server_keepalive,
    server_check_delay,
    failure_detection,
    freshness_period,
)
