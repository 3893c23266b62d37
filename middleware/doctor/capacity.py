"""Checks: do all the connections that Pointsman may open fit?"""

from collections.abc import Iterator
from typing import Final

from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, advice, error, warning
from middleware.doctor.pools import Servers, servers
from middleware.supervisor.descriptors import BESIDE

CORES_OVER: Final = 4
"""Pools of so many times what the formula gives are worth a word: not all of their servers are busy at once."""

MAX_CONNECTIONS_MOST: Final = 2000
"""Each is a process of the node: nobody is told to have more."""


def reserved(node: NodeFacts) -> int:
    """Connections of a node that ordinary roles do not get."""
    return int((node.number("superuser_reserved_connections") or 0) + (node.number("reserved_connections") or 0))


def for_us(node: NodeFacts) -> int | None:
    """Connections of a node that ordinary roles get."""
    most = node.number("max_connections")
    return None if most is None else int(most) - reserved(node)


def formula(case: Case, node: NodeFacts) -> int | None:
    """cores x 2 + spindles: how many active connections a node is best at."""
    return None if node.cores is None else node.cores * 2 + case.spindles


def max_connections(case: Case) -> Iterator[Finding]:
    """All pools of all instances, and the supervisors' own connections, against `max_connections` less
    `superuser_reserved_connections` and `reserved_connections`. An error where one pool is enough to pass it, a
    warning where it takes all of them."""
    ours = servers(case)
    need = case.instances * ours.all
    for node in case.asked:
        room = for_us(node)
        if room is None or need <= room or not ours.pools:
            continue
        largest = max(ours.pools, key=lambda pool: pool.servers)
        one_is_enough = case.instances * (min(largest.servers, ours.most) + ours.own) > room
        yield (error if one_is_enough else warning)(
            f"{_sum(case, ours)}; the node lets in {_room(node)}",
            "At the node's limit no server can be opened: clients wait, and get ERROR 53300; health checks fail too.",
            _what_fits(case, ours, node, room),
            node.name,
        )


def _sum(case: Case, ours: Servers) -> str:
    pools = "1 pool" if len(ours.pools) == 1 else f"{len(ours.pools)} pools"
    each = f"{ours.most} servers in {pools} ({_largest(ours)}) and {ours.own} connections of its own"
    if case.instances == 1:
        return f"Pointsman may have {each}, {ours.all} in all"
    return f"each Pointsman may have {each}; {case.instances} of them, {case.instances * ours.all} in all"


def _largest(ours: Servers) -> str:
    by_size = sorted(ours.pools, key=lambda pool: -pool.servers)
    shown = ", ".join(f"{pool}: {pool.servers}" for pool in by_size[:4])
    return shown + (", .." if len(by_size) > 4 else "")


def _room(node: NodeFacts) -> str:
    superusers = f"{node.number('superuser_reserved_connections') or 0:g}"
    others = f" - {node.number('reserved_connections'):g}" if node.number("reserved_connections") else ""
    return f"{for_us(node)} ({node.number('max_connections'):g} - {superusers}{others})"


def _what_fits(case: Case, ours: Servers, node: NodeFacts, room: int) -> str:
    """Smaller pools, or less for a database; and more connections, as long as they are not out of all reason."""
    each = room // case.instances - ours.own
    size, databases = each // len(ours.pools), len({pool.database for pool in ours.pools})
    plain = not any(pool.policy.name or pool.policy.reserve_size for pool in ours.pools)
    if size >= 1:
        ways = [f"default_pool_size = {size}" if plain else f"pools of {size} servers each, reserves included"]
    elif each >= databases:
        ways = [f"max_db_connections = {each // databases}"]
    else:
        ways = ["fewer pools or instances"]
    most = case.instances * ours.all + reserved(node)
    if most <= MAX_CONNECTIONS_MOST:
        ways.append(f"max_connections = {most} on every node")
    if databases > 1 and not case.databases:
        ways.append("--database for those that clients use, if it is not all of them")
    return ", or ".join(ways)


def others_connections(case: Case) -> Iterator[Finding]:
    """The same, with what others have open on the node now: backends of users that come through no pool."""
    ours = servers(case)
    need = case.instances * ours.all
    known = {pool.user for pool in ours.pools} | {case.settings.health_check.user}
    for node in case.asked:
        room = for_us(node)
        others = {user: count for user, count in node.backends.items() if user not in known}
        taken = sum(others.values())
        if room is not None and need <= room < need + taken:
            most = ", ".join(f"{user}: {count}" for user, count in sorted(others.items(), key=lambda one: -one[1])[:4])
            yield advice(
                f"{need} connections of ours would fit in {_room(node)}, but others have {taken} now ({most})",
                "Together they are more than the node lets in.",
                f"max_connections = {need + taken + reserved(node)}, or a connection limit for these roles",
                node.name,
            )


def database_limit(case: Case) -> Iterator[Finding]:
    """The pools of a database against its `CONNECTION LIMIT`."""
    ours = servers(case)
    node = case.catalog
    for database in node.databases if node else ():
        if database.connection_limit < 0:
            continue
        need = case.instances * ours.of_database(database.name)
        if database.connection_limit < need:
            yield warning(
                f'database "{database.name}" has CONNECTION LIMIT {database.connection_limit}, '
                f"its pools may have {need}",
                "What comes beyond is refused by the node with 53300.",
                f"max_db_connections = {max(1, database.connection_limit // case.instances)}, "
                f'or ALTER DATABASE "{database.name}" CONNECTION LIMIT {need}',
            )


def role_limit(case: Case) -> Iterator[Finding]:
    """The pools of a user against its `CONNECTION LIMIT`."""
    ours = servers(case)
    for role in case.catalog.roles if case.catalog else ():
        if role.connection_limit < 0:
            continue
        need = case.instances * ours.of_user(role.name)
        if role.connection_limit < need:
            yield warning(
                f'role "{role.name}" has CONNECTION LIMIT {role.connection_limit}, its pools may have {need}',
                "What comes beyond is refused by the node with 53300.",
                f"max_user_connections = {max(1, role.connection_limit // case.instances)}, "
                f'or ALTER ROLE "{role.name}" CONNECTION LIMIT {need}',
            )


def cores(case: Case) -> Iterator[Finding]:
    """What the pools of a node come to against cores x 2 + spindles (`--cores`, `--spindles`), where they are more
    than four times that."""
    need = case.instances * servers(case).most
    for node in case.asked:
        best = formula(case, node)
        if best is not None and need > CORES_OVER * best:
            yield advice(
                f"the pools come to {need} servers; {node.cores} cores x 2 + {case.spindles} = {best}",
                "A node does most with about so many active connections; more of them slow each other down, and the "
                "queue is better kept here than in its scheduler.",
                f"smaller pools, or max_db_connections near {max(1, best // case.instances)}",
                node.name,
            )
        elif best is None:
            yield advice(
                "its cores are not known: it is on another machine",
                "The pools' sizes cannot be held against cores x 2 + spindles.",
                "--cores N, and --spindles N",
                node.name,
            )


def file_descriptors(case: Case) -> Iterator[Finding]:
    """Clients and servers against RLIMIT_NOFILE's hard limit, to which serve raises the soft one, as if one worker had
    all of them; for a Pointsman that runs under the same limit as the command."""
    settings = case.settings
    clients = settings.max_client_conn + settings.admin_reserved_conn + settings.max_client_logins
    behind = servers(case).most * len(case.nodes)
    need = clients + behind + BESIDE
    if 0 < case.machine.descriptors_max < need:
        yield warning(
            f"a worker may need {need} file descriptors ({clients} clients and logins, {behind} servers, {BESIDE} "
            f"others); the limit is {case.machine.descriptors_max}",
            "Without a descriptor neither a client can be accepted nor a server be opened.",
            f"LimitNOFILE={need} in the unit file, or ulimit -Hn {need} before serve; or a smaller max_client_conn",
        )


def worker_processes(case: Case) -> Iterator[Finding]:
    """`workers` against this machine's cores."""
    if case.settings.workers > case.machine.cores:
        yield advice(
            f"workers = {case.settings.workers}, and this machine has {case.machine.cores} cores",
            "Workers beyond the cores only take each other's time.",
            f"workers = {case.machine.cores}",
        )


CHECKS: Final = (
    max_connections,
    others_connections,
    database_limit,
    role_limit,
    cores,
    file_descriptors,
    worker_processes,
)
