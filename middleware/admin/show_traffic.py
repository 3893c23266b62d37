"""SHOW POOLS, CLIENTS, SERVERS and their kin: what workers report when they are asked.

PgBouncer's pools are told by database and user; ours also by node and rule, which NODE_POOLS shows. Moments are text,
and connections have numbers: see columns.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from middleware.admin.columns import COLUMNS
from middleware.admin.show_settings import CONSOLE, servers_of
from middleware.admin.table import Table, Value
from middleware.reports import ClientReport, PoolReport, PreparedReport, ServerReport

US_PER_S: Final = 1_000_000
Row = tuple[Value, ...]


class _Pair(msgspec.Struct):
    """The pools of one database and user, together."""

    cl_active: int = 0
    cl_waiting: int = 0
    cl_active_cancel_req: int = 0
    cl_waiting_cancel_req: int = 0
    sv_active: int = 0
    sv_active_cancel: int = 0
    sv_being_canceled: int = 0
    sv_idle: int = 0
    sv_used: int = 0
    sv_tested: int = 0
    sv_login: int = 0


COUNTED: Final = _Pair.__struct_fields__


def pools(reports: Iterable[PoolReport], consoles: int) -> Table:
    """One row for each database and user, and one for the console, which has `consoles` clients."""
    pairs: dict[tuple[str, str], _Pair] = {}
    waits: dict[tuple[str, str], float] = {}
    modes: dict[tuple[str, str], str] = {}
    for report in reports:
        whose = report.database, report.user
        pair = pairs.setdefault(whose, _Pair())
        for name in COUNTED:
            setattr(pair, name, getattr(pair, name) + getattr(report, name))
        waits[whose] = max(waits.get(whose, 0.0), report.maxwait_s)
        modes.setdefault(whose, report.mode)
    rows: list[Row] = [
        (*whose, *msgspec.structs.astuple(pair), *_parts(waits[whose]), modes[whose], None)
        for whose, pair in sorted(pairs.items())
    ]
    rows.append((CONSOLE, CONSOLE, *msgspec.structs.astuple(_Pair(cl_active=consoles)), 0, 0, "statement", None))
    return Table(COLUMNS["pools"], tuple(rows))


def sessions(reports: Iterable[ClientReport]) -> Table:
    """Each client by what PgBouncer has no word for: its rule, its node, and what keeps it there."""
    rows: list[Row] = [
        (
            *(one.process_id, one.database, one.user, one.application_name, one.state, one.route, one.mode),
            *(one.node or None, one.link or None, round(one.waited_s * 1000, 3)),
            *(one.connected_at, one.requested_at, one.pinned or None),
        )
        for one in _by_age(reports)
    ]
    return Table(COLUMNS["sessions"], tuple(rows))


def node_pools(reports: Iterable[PoolReport]) -> Table:
    """One row for each pool of a node, over all workers."""
    found: dict[tuple[str, str, str, str], list[PoolReport]] = {}
    for report in reports:
        found.setdefault((report.node, report.route, report.database, report.user), []).append(report)
    rows: list[Row] = []
    for whose, those in sorted(found.items()):
        first = those[0]
        worst = next((one.state for one in those if one.state != "active"), "active")
        counts = [sum(counts) for counts in zip(*map(_node_counts, those), strict=True)]
        longest_ms = max(one.maxwait_s for one in those) * 1000
        bounds = first.size, first.min_size, first.reserve_size
        rows.append((*whose, first.mode, worst, *bounds, *counts, round(longest_ms, 3)))
    return Table(COLUMNS["node_pools"], tuple(rows))


def _node_counts(one: PoolReport) -> tuple[int, ...]:
    clients, servers = (one.cl_active, one.cl_waiting), (one.sv_active, one.sv_idle, one.sv_used)
    return *clients, *servers, one.sv_tested, one.sv_login, one.sv_closing


def clients(reports: Iterable[ClientReport]) -> Table:
    """Each client, the one that has been there for longest first."""
    return Table(COLUMNS["clients"], tuple([_client(one, one.state) for one in _by_age(reports)]))


def servers(reports: Iterable[ServerReport]) -> Table:
    """Each connection to a node."""
    return Table(COLUMNS["servers"], tuple([_server(one, one.state) for one in _by_age(reports)]))


def sockets(of_clients: Iterable[ClientReport], of_servers: Iterable[ServerReport], *, active: bool) -> Table:
    """Both, by PgBouncer's other names of their states; of the `active` only those on which something is under way."""
    rows = [
        (*_client(one, f"cl_{'active' if one.state == 'idle' else one.state}"), *_buffers(one))
        for one in _by_age(of_clients)
        if not active or one.state != "idle"
    ]
    rows += [
        (*_server(one, "sv_login" if one.state == "new" else f"sv_{one.state}"), *_buffers(one))
        for one in _by_age(of_servers)
        if not active or one.state not in ("idle", "used")
    ]
    return Table(COLUMNS["sockets"], tuple(rows))


def descriptors(
    listening: Mapping[int, tuple[str, int]],
    of_clients: Iterable[tuple[int, ClientReport]],
    of_servers: Iterable[tuple[int, ServerReport]],
) -> Table:
    """The supervisor's listening sockets, and each worker's connections, which are told by worker. Cancel keys and what
    a client is asked for are nobody's business."""
    clients, servers = list(of_clients), list(of_servers)
    client_at = {one.process_id: one.descriptor for _, one in clients}
    server_at = {(worker, one.node, one.process_id): one.descriptor for worker, one in servers}
    unknown: Row = (None,) * 7
    rows: list[Row] = [
        (descriptor, "pooler", None, None, address, port, None, None, *unknown)
        for descriptor, (address, port) in sorted(listening.items())
    ]
    for worker, task, one in sorted(
        [(worker, "client", one) for worker, one in clients] + [(worker, "server", one) for worker, one in servers],
        key=lambda row: (row[0], row[2].descriptor),
    ):
        if isinstance(one, ClientReport):
            where, link = (one.addr, one.port), server_at.get((worker, one.node, one.link)) if one.link else None
        else:
            where, link = (one.host, one.port), client_at.get(one.link) if one.link else None
        rows.append((one.descriptor, task, one.user, one.database, *where, None, link, *unknown))
    return Table(COLUMNS["fds"], tuple(rows))


def _buffers(one: ClientReport | ServerReport) -> Row:
    """As if what is held of it stood in one buffer: first what was sent on and not taken, then what was not read."""
    left_bytes = one.left_bytes if isinstance(one, ServerReport) else 0
    sent, unread = one.unsent_bytes, one.unread_bytes
    return (sent + unread, sent, left_bytes, 0, 0, unread, sent)


_Connection = TypeVar("_Connection", ClientReport, ServerReport)


def _by_age(reports: Iterable[_Connection]) -> list[_Connection]:
    return sorted(reports, key=lambda one: one.connected_at)


def _client(one: ClientReport, state: str) -> Row:
    link = server_name(one.node, one.link) if one.link else ""
    return (
        *("C", one.user, one.database, one.replication or "none", state),
        *(one.addr, one.port, one.local_addr, one.local_port),
        *(at(one.connected_at), at(one.requested_at), *_parts(one.waited_s), 0),
        *(client_name(one.process_id), link, 0, one.tls, one.application_name),
        *(one.prepared_statements, one.process_id),
    )


def _server(one: ServerReport, state: str) -> Row:
    link = client_name(one.link) if one.link else ""
    return (
        *("S", one.user, one.database, one.replication or "none", state),
        *(one.host, one.port, one.local_addr, one.local_port),
        *(at(one.connected_at), at(one.requested_at), 0, 0, int(one.close_needed)),
        *(server_name(one.node, one.process_id), link, one.process_id, one.tls, one.application_name),
        *(one.prepared_statements, one.process_id),
    )


def client_name(process_id: int) -> str:
    """What `ptr` and `link` call a client."""
    return f"client/{process_id}"


def server_name(node: str, process_id: int) -> str:
    """What they call a server."""
    return f"{node}/{process_id}"


def lists(
    of_pools: Sequence[PoolReport], of_clients: int, logging_in: int, databases: int, users: int, hosts: int
) -> Table:
    """How many there are of what."""
    pairs = {(one.database, one.user) for one in of_pools}
    rows: tuple[Row, ...] = (
        ("databases", databases),
        ("users", users),
        ("peers", 0),
        ("pools", len(pairs) + 1),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", of_clients),
        ("login_clients", logging_in),
        ("free_servers", 0),
        ("used_servers", sum(map(servers_of, of_pools))),
        ("dns_names", hosts),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    )
    return Table(COLUMNS["lists"], rows)


def prepared_statements(reports: Iterable[tuple[int, PreparedReport]]) -> Table:
    """Each statement once, over all workers, each of which has a name of its own for it: what most clients have comes
    first."""
    found: dict[tuple[str, int], list[tuple[int, PreparedReport]]] = {}
    for worker, one in reports:
        found.setdefault((one.shape, one.bytes), []).append((worker, one))
    rows = []
    for (shape, size), those in found.items():
        clients, servers = sum(one.clients for _, one in those), sum(one.servers for _, one in those)
        rows.append((-clients, shape, (shape, clients, servers, size, len({worker for worker, _ in those}))))
    return Table(COLUMNS["prepared_statements"], tuple([row for _, _, row in sorted(rows)]))


def at(moment_s: float) -> str:
    """A moment as PgBouncer prints it."""
    return f"{datetime.fromtimestamp(int(moment_s), UTC).isoformat(' ')[:19]} UTC" if moment_s else ""


def _parts(seconds: float) -> tuple[int, int]:
    """Whole seconds, and the microseconds beyond them."""
    return divmod(round(seconds * US_PER_S), US_PER_S)
